"""Resampling of an oblique grid upright (axes along right-left, back-front and feet-head), and of labels back."""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.errors import ScanRefusedError
from osteo_monai.imaging.findings import info, refusal
from osteo_monai.imaging.limits import input_limits
from osteo_monai.imaging.orientation import (
    MAX_OBLIQUITY_DEG,
    MAX_RESAMPLED_OBLIQUITY_DEG,
    canonical_affine,
    obliquity_deg,
)
from osteo_monai.imaging.plausibility import PADDING_HU
from osteo_monai.imaging.volume import CTVolume

T = TypeVar("T", bound=np.generic)
Shape = tuple[int, int, int]

_WHOLLY_VALID = 0.999
"""Share of valid neighbours from which on an interpolated value is valid, below 1 for rounding."""

SPLINE_ORDER = 3
"""Cubic: the median of deep trabecular bone on VerSe's verse014 and on LIDC-IDRI-0001 turned by 9 degrees moves by at
most 2.6 HU, where linear interpolation, which smooths noise and draws the cortex in, moves it by up to 8 HU (measured
2026-11-28 on 14 vertebrae)."""

TISSUE_ABOVE_HU = -300.0
"""Air and lung below it are interpolated linearly, which is four times as fast."""

_SLICES_AT_ONCE = 16


@dataclass(frozen=True)
class Upright:
    """The upright grid of an oblique canonical one; both in RAS+ mm."""

    source_affine: NDArray[np.float64]
    affine: NDArray[np.float64]
    shape: Shape


def upright_grid(affine: NDArray[np.float64], shape: Shape) -> Upright | None:
    """Return the upright grid that covers a canonical one, with about its spacing along each axis.

    Args:
        affine: (4, 4) of the canonical array.
        shape: of the canonical array.

    Returns:
        The grid, centred on the old one; ``None`` if the old one needs no resampling or is too oblique.
    """
    if not MAX_OBLIQUITY_DEG < obliquity_deg(affine) <= MAX_RESAMPLED_OBLIQUITY_DEG:
        return None
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    last = np.array(shape) - 1.0
    corners = np.array([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    placed = corners @ affine[:3, :3].T + affine[:3, 3]
    low, high = placed.min(axis=0), placed.max(axis=0)
    steps = np.round((high - low) / spacing).astype(int)
    upright = np.diag([*spacing, 1.0])
    upright[:3, 3] = (low + high - steps * spacing) / 2
    return Upright(affine, upright, (int(steps[0]) + 1, int(steps[1]) + 1, int(steps[2]) + 1))


def upright_volume(volume: CTVolume) -> CTVolume:
    """Resample a volume upright if its canonical grid is oblique by up to 30 degrees; return others unchanged.

    HU are interpolated by cubic splines; voxels outside the old grid or beside an invalid voxel become padding.

    Raises:
        ScanRefusedError: the upright grid would exceed the limit of voxels.
    """
    grid = upright_grid(volume.affine, volume.hu.shape)
    if grid is None:
        return volume
    most = input_limits().voxels
    if int(np.prod(grid.shape, dtype=np.int64)) > most:
        message = f"The upright grid of the oblique image would have shape {grid.shape}, above {most} voxels."
        raise ScanRefusedError(refusal("too_large", message))
    hu, valid = _resample_hu(volume.hu, volume.valid, grid)
    message = (
        f"The grid was oblique to the body by {obliquity_deg(volume.affine):.1f} degrees and was resampled upright; "
        "results are written on the original grid."
    )
    return replace(
        volume,
        hu=hu,
        affine=grid.affine,
        valid=valid,
        findings=(*volume.findings, info("oblique_grid_resampled", message)),
        instance_numbers=None,
    )


def _resample_hu(
    hu: NDArray[np.float32], valid: NDArray[np.bool_] | None, grid: Upright
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    weight = np.broadcast_to(np.float32(1), hu.shape) if valid is None else valid.astype(np.float32)
    low, high = float(hu.min()), float(hu.max())
    coefficients = ndimage.spline_filter(hu, SPLINE_ORDER, output=np.float32)
    out = np.empty(grid.shape, dtype=np.float32, order="F")
    covered = np.empty(grid.shape, dtype=bool, order="F")
    for first in range(0, grid.shape[2], _SLICES_AT_ONCE):
        part = slice(first, min(first + _SLICES_AT_ONCE, grid.shape[2]))
        affine = grid.affine.copy()
        affine[:3, 3] += affine[:3, 2] * first
        shape = (grid.shape[0], grid.shape[1], part.stop - part.start)
        covered[:, :, part] = _sample(weight, grid.source_affine, affine, shape, 1, 0.0) >= _WHOLLY_VALID
        slab = _sample(hu, grid.source_affine, affine, shape, 1, PADDING_HU)
        tissue = np.nonzero(covered[:, :, part] & (slab > TISSUE_ABOVE_HU))
        to_source = np.linalg.inv(grid.source_affine) @ affine
        places = to_source[:3, :3] @ np.array(tissue, dtype=np.float64) + to_source[:3, 3:]
        slab[tissue] = ndimage.map_coordinates(
            coefficients, places, order=SPLINE_ORDER, output=np.float32, prefilter=False
        ).clip(low, high)  # a spline overshoots beside metal
        out[:, :, part] = slab
    out[~covered] = PADDING_HU
    return out, covered


def resample_labels(
    labels: NDArray[T], affine: NDArray[np.float64], to_affine: NDArray[np.float64], shape: Shape
) -> NDArray[T]:
    """Return a label map (X, Y, Z) on another grid by nearest neighbour; 0 outside the old one."""
    return _sample(labels, affine, to_affine, shape, 0, 0.0)


def is_resampled(affine: NDArray[np.float64], original_affine: NDArray[np.float64], original_shape: Shape) -> bool:
    """Whether the grid of a volume differs from its original grid with axes permuted and flipped."""
    return not np.allclose(canonical_affine(original_affine, original_shape), affine, atol=1e-6)


def _sample(
    array: NDArray[T],
    affine: NDArray[np.float64],
    to_affine: NDArray[np.float64],
    shape: Shape,
    order: int,
    fill: float,
) -> NDArray[T]:
    to_source = np.linalg.inv(affine) @ to_affine
    sampled = ndimage.affine_transform(
        array, to_source[:3, :3], to_source[:3, 3], output_shape=shape, order=order, mode="constant", cval=fill
    )
    return np.asarray(sampled, dtype=array.dtype)
