"""Comparison of contrast agent between CT series of one frame of reference, by pixels and not by words.

Twelve positions that both series show are compared on a grid of 3 mm. The share of soft tissue that is denser than
native blood and organs is the measure: aorta, kidneys, spleen and liver with contrast agent. Bone and its surroundings
are left out, so that tube voltage and kernel do not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.decoding import PixelDecoder
from osteo_monai.imaging.dicom_frames import decode_frames, rescaled
from osteo_monai.imaging.dicom_headers import Frame
from osteo_monai.imaging.dicom_series import Grid, Series

POSITIONS = 12
"""Positions compared."""
MIN_SHARED_MM = 40.0
"""Least length that both series show; project custom."""
GRID_MM = 3.0
SOFT_HU = (-20.0, 700.0)
"""Soft tissue with and without contrast agent."""
DENSE_HU = 90.0
"""Native muscle, blood and organs are below it. Project custom, near the usual limit of an enhanced aorta, 100 HU."""
BONE_HU, BONE_REACH_MM = 200.0, 15.0
"""Blocks denser than this in both series are bone; with its surroundings it is left out."""
MIN_BLOCKS = 2000
"""Least number of soft blocks, 180 cm2."""
LESS_SHARE, LESS_RATIO = 0.04, 1.7
"""Least difference and ratio of the shares. Project custom: native real scans have 0.02 to 0.07 (the highest
with oral agent), enhanced ones 0.11 and more; the same scan with noise, another place or tube voltage differs by 0.025
and 1.55 at most (docs/value_checks.md)."""


@dataclass(frozen=True)
class Enhancement:
    """Share of dense soft tissue in two series at the same positions."""

    first: float
    second: float

    @property
    def first_is_less(self) -> bool:
        """Whether the second series has contrast agent and the first has clearly less."""
        return Enhancement(self.second, self.first).second_is_less

    @property
    def second_is_less(self) -> bool:
        """Whether the first series has contrast agent and the second has clearly less."""
        return self.first - self.second > LESS_SHARE and self.first > LESS_RATIO * self.second


def compare_enhancement(first: Series, second: Series) -> Enhancement | None:
    """Compare the soft tissue of two axial series.

    Returns:
        ``None`` if they have not the same frame of reference, share too little, or cannot be decoded.
    """
    frames = {s.agreed("FrameOfReferenceUID") for s in (first, second)}
    if len(frames) > 1 or "" in frames or first.grid is None or second.grid is None:
        return None
    spans = [_span(grid) for grid in (first.grid, second.grid)]
    low, high = max(s[0] for s in spans), min(s[1] for s in spans)
    if high - low < MIN_SHARED_MM:
        return None
    heights = np.linspace(low, high, POSITIONS)
    area = _shared_area(first.grid, second.grid)
    if area is None:
        return None
    try:
        one, other = (_blocks(grid, heights, area) for grid in (first.grid, second.grid))
    except UnusableInputError:  # damaged: reading the chosen series reports it
        return None
    soft = _soft(one, other)
    count = np.count_nonzero(soft)
    if count < MIN_BLOCKS:
        return None
    return Enhancement(*(float(np.count_nonzero(soft & (blocks > DENSE_HU)) / count) for blocks in (one, other)))


def _span(grid: Grid) -> tuple[float, float]:
    ends = [float((grid.affine @ [0, 0, k, 1])[2]) for k in (0, len(grid.frames) - 1)]
    return min(ends), max(ends)


def _shared_area(one: Grid, other: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the x and y of the blocks, RAS+ mm, in the area that both grids show."""
    corners = []
    for grid in (one, other):
        header = grid.frames[0].instance.header
        at = np.array([[c, r, 0, 1] for c in (0, int(header.Columns) - 1) for r in (0, int(header.Rows) - 1)])
        corners.append((at @ grid.affine.T)[:, :2])
    low = np.max([c.min(axis=0) for c in corners], axis=0)
    high = np.min([c.max(axis=0) for c in corners], axis=0)
    if min(high - low) < MIN_SHARED_MM:
        return None
    x, y = (np.arange(a, b, GRID_MM) for a, b in zip(low, high, strict=True))
    return x, y


def _blocks(
    grid: Grid, heights: NDArray[np.float64], area: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> NDArray[np.float32]:
    """Return HU of blocks (heights, x, y)."""
    x, y = area
    inverse = np.linalg.inv(grid.affine)
    middle = [0.5 * (x[0] + x[-1]), 0.5 * (y[0] + y[-1])]
    nearest = [round(float((inverse @ [*middle, z, 1])[2])) for z in heights]
    wanted = [min(max(k, 0), len(grid.frames) - 1) for k in nearest]
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    pixel = np.linalg.norm(grid.affine[:3, :2], axis=0)
    size = tuple(max(1, round(GRID_MM / float(p))) for p in pixel[::-1])
    planes: dict[int, NDArray[np.float32]] = {}
    for k, plane in _planes(grid.frames, wanted):
        z = float((grid.affine @ [0, 0, k, 1])[2])
        world = np.column_stack([points, np.full(len(points), z), np.ones(len(points))])
        column, row = np.rint((world @ inverse.T)[:, :2]).astype(int).T
        smooth = ndimage.uniform_filter(plane, size, mode="nearest")
        inside = smooth[row.clip(0, plane.shape[0] - 1), column.clip(0, plane.shape[1] - 1)]
        planes[k] = ndimage.median_filter(inside.reshape(len(x), len(y)), 3)  # noise of sharp kernels
    return np.stack([planes[k] for k in wanted])


def _planes(frames: Sequence[Frame], wanted: Sequence[int]) -> list[tuple[int, NDArray[np.float32]]]:
    """Return wanted slices in HU with their index."""
    index = sorted(set(wanted))
    with PixelDecoder() as decoder:
        decoded = decode_frames([frames[k] for k in index], decoder)
        return [(index[n], rescaled(stored, frames[index[n]])) for n, stored in decoded]


def _soft(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return blocks of soft tissue in both series, away from bone."""
    low, high = SOFT_HU
    soft = (one > low) & (one < high) & (other > low) & (other < high)
    bone = (one > BONE_HU) & (other > BONE_HU)
    for k in range(len(bone)):
        if bone[k].any():
            soft[k] &= ndimage.distance_transform_edt(~bone[k], sampling=GRID_MM) > BONE_REACH_MM
    return np.asarray(soft)
