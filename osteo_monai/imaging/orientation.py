"""Conversion between the original grid of an image and the canonical one (RAS+), and measures of its regularity.

A canonical array is the original one with its axes permuted and flipped, so that the inverse is exact; only an oblique
grid is resampled.
"""

from typing import TypeVar

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

MAX_OBLIQUITY_DEG = 3.0
"""Largest angle between a voxel axis and a patient axis without resampling; 3 degrees move an axis by 1.3 mm over
25 mm of vertebra. A grid that is more oblique is resampled."""

MAX_RESAMPLED_OBLIQUITY_DEG = 30.0
"""Largest angle up to which an oblique grid is resampled (project custom): beyond it the corners that are not covered
reach far into the body, and the assignment of axes becomes ambiguous (45 degrees)."""

MAX_SHEAR_DEG = 0.5
"""Largest departure of two voxel axes from a right angle; a tilted gantry shears by its tilt, 1 degree and more."""


GRID_TOLERANCE = 0.1
"""Largest distance in voxels of the corners of a label map from those of its image: rounding of headers."""


def grid_distance(affine: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Return the largest distance of the corners of two grids of one ``shape``, in voxels of the first.

    Affines (4, 4) are voxel index to RAS+ mm. A grid whose affine has no inverse gives NaN.
    """
    corners = np.array([[i, j, k, 1.0] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])])
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine)) > 0:
        return float("nan")
    return float(np.abs(corners @ (np.linalg.inv(affine) @ other - np.eye(4)).T).max())


def axis_map(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each original axis its canonical axis and direction, 1 or -1, as nibabel does; shape (3, 2)."""
    return np.asarray(io_orientation(affine), dtype=float)


def canonical_affine(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the affine (4, 4) of the canonical array of an image of ``shape`` with ``affine`` (RAS+ mm)."""
    return np.asarray(affine @ inv_ornt_aff(axis_map(affine), shape), dtype=np.float64)


def canonical_grid(
    affine: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Return affine (4, 4) and shape of the canonical array of an image of ``shape`` with ``affine`` (RAS+ mm)."""
    order = np.argsort(axis_map(affine)[:, 0])
    return canonical_affine(affine, shape), (shape[order[0]], shape[order[1]], shape[order[2]])


def to_canonical(array: NDArray[T], affine: NDArray[np.float64]) -> NDArray[T]:
    """Return the three-dimensional ``array`` with axes permuted and flipped to RAS+; axial slices are contiguous."""
    return np.asfortranarray(apply_orientation(array, axis_map(affine)))


def from_canonical(array: NDArray[T], original_affine: NDArray[np.float64]) -> NDArray[T]:
    """Return a canonical ``array`` (X, Y, Z) on the original grid: the exact inverse of :func:`to_canonical`."""
    mapping = axis_map(original_affine)
    inverse = np.empty_like(mapping)
    for original, (canonical, direction) in enumerate(mapping):
        inverse[int(canonical)] = original, direction
    return np.asarray(apply_orientation(array, inverse))


def obliquity_deg(affine: NDArray[np.float64]) -> float:
    """Return the largest angle in degrees between a voxel axis and the patient axis nearest to it."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.abs(axes).max(axis=0), 0.0, 1.0))).max())


def shear_deg(affine: NDArray[np.float64]) -> float:
    """Return the largest departure in degrees of two voxel axes from a right angle."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs((axes.T @ axes)[np.triu_indices(3, 1)])
    return float(np.degrees(np.arcsin(np.clip(cosines, 0.0, 1.0))).max())


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Return the direction in which each voxel axis grows, such as ``RAS`` or ``PIR``."""
    return "".join(str(code) for code in nib.aff2axcodes(affine))
