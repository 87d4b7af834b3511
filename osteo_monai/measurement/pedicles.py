"""Pedicles of a vertebra: their distance, a length across beside width and depth of the body, and their height."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.measurement.frame import ALIGNED_STEP_MM, BodyFrame, body_frame

SIDE = (0.30, 1.15)
"""Where the wall of a pedicle is looked for, in half widths of the body from the midline."""
BEHIND = (0.06, 0.45)
"""Where pedicles are, in depths of the body behind it ..."""
UPPER = 1.1
"""... from its middle to this times its half height."""
CANAL = 0.2
"""The canal is sampled within this half width of the midline."""
CANAL_HU = (-60.0, 180.0)
"""Fat, cord and enhanced epidural veins."""
WALL_HU, WALL_MOST_HU = 150.0, 500.0
"""Least rise from the canal to the densest bone of a pedicle, and the largest that is used: metal is above it."""
OUTER_HU = 100.0
"""A pedicle ends outwards where its values are less than this above the canal."""
MIN_LINES = 40
"""Lines across both pedicles; between 79 and 193 in real scans."""
STEPS = 121


HEIGHTS = (0.4, 1.3)
"""Range above and below the middle of a body, in half heights, in which pedicles and foramina are compared: the foramen
is below the pedicle."""
BESIDE = (0.45, 0.85)
"""The same to the sides, in half widths ..."""
NEAR = (0.08, 0.30)
"""... and behind the body, in its depths."""
BESIDE_HU = (-150.0, 500.0)


@dataclass(frozen=True)
class Pedicles:
    """Pedicles of one vertebra.

    Attributes:
        distance_mm: of their middles; ``None`` if too few lines show both.
        above_hu: HU at the sides of the canal in the upper half minus those in the lower half.
    """

    distance_mm: float | None
    above_hu: float


def find_pedicles(
    hu: NDArray[np.float32], affine: NDArray[np.float64], body: NDArray[np.bool_], frame: BodyFrame | None = None
) -> Pedicles:
    """Measure the pedicles of a vertebra.

    Lines run from the canal to both sides behind the upper half of the body. All places are relative to the size of the
    body, so that a wrong pixel size changes the distance by the same factor.

    Args:
        hu: HU, (X, Y, Z).
        affine: (4, 4) voxel index to RAS+ mm.
        body: bool (X, Y, Z), one vertebral body.
        frame: of the body, if built before.

    Raises:
        ValueError: the arrays do not fit, or the body is too small.
    """
    frame = frame or body_frame(body, affine)
    size = _size(frame)
    return Pedicles(_distance(hu, affine, frame, size), _above(hu, affine, frame, size))


def _distance(
    hu: NDArray[np.float32], affine: NDArray[np.float64], frame: BodyFrame, size: tuple[float, float, float, float]
) -> float | None:
    """Return the median distance over the lines in mm; ``None`` if too few show both pedicles."""
    half_width, back, depth, half_height = size
    u = np.linspace(-1.6, 1.6, STEPS) * half_width
    v = back - np.linspace(*BEHIND, 13) * depth
    w = np.linspace(0.0, UPPER, 14) * half_height
    lines = _sampled(hu, affine, frame, u, v, w).reshape(-1, STEPS)
    canal = np.median(lines[:, np.abs(u) <= CANAL * half_width], axis=1)
    soft = (canal > CANAL_HU[0]) & (canal < CANAL_HU[1])
    lines, canal = lines[soft], canal[soft]
    middle = STEPS // 2
    sides = [_pedicle(part, canal, u[middle:], half_width) for part in (lines[:, middle:], lines[:, middle::-1])]
    both = np.isfinite(sides[0]) & np.isfinite(sides[1])
    if np.count_nonzero(both) < MIN_LINES:
        return None
    return float(np.median((sides[0] + sides[1])[both]))


def _above(
    hu: NDArray[np.float32], affine: NDArray[np.float64], frame: BodyFrame, size: tuple[float, float, float, float]
) -> float:
    """Return the HU beside the canal above the middle of the body minus those below it."""
    half_width, back, depth, half_height = size
    side = np.linspace(*BESIDE, 7) * half_width
    v = back - np.linspace(*NEAR, 6) * depth
    w = np.linspace(*HEIGHTS, 10) * half_height
    upper, lower = (_sampled(hu, affine, frame, np.concatenate([-side, side]), v, part) for part in (w, -w))
    return float(upper.clip(*BESIDE_HU).mean() - lower.clip(*BESIDE_HU).mean())


def _sampled(
    hu: NDArray[np.float32],
    affine: NDArray[np.float64],
    frame: BodyFrame,
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    w: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return HU (v, w, u) at places in the axes of the body, mm; the end slices are repeated."""
    grid = np.stack(np.meshgrid(v, w, u, indexing="ij"), axis=-1)
    points = frame.to_world(grid[..., [2, 0, 1]].reshape(-1, 3))
    inverse = np.linalg.inv(np.asarray(affine, dtype=np.float64))
    index = points @ inverse[:3, :3].T + inverse[:3, 3]
    return np.asarray(ndimage.map_coordinates(hu, index.T, order=1, mode="nearest").reshape(grid.shape[:3]))


def _size(frame: BodyFrame) -> tuple[float, float, float, float]:
    """Return half width, back, depth and half height of a body through its centre, mm in its axes."""
    coordinates = [frame.aligned_origin[a] + ALIGNED_STEP_MM * np.arange(n) for a, n in enumerate(frame.aligned.shape)]
    at = [int(np.argmin(np.abs(c))) for c in coordinates]
    ends = []
    for axis in range(3):
        line: list[int | slice] = [*at]
        line[axis] = slice(None)
        inside = coordinates[axis][np.flatnonzero(frame.aligned[tuple(line)] > 0)]
        if inside.size < 2:
            raise ValueError("body must be solid through its centre")
        ends.append((float(inside[0]), float(inside[-1])))
    (left, right), (back, front), (low, high) = ends
    return 0.5 * (right - left), back, front - back, 0.5 * (high - low)


def _pedicle(
    lines: NDArray[np.float32], canal: NDArray[np.float32], away: NDArray[np.float64], half_width: float
) -> NDArray[np.float64]:
    """Return the middle of the pedicle on lines (n, m) from the midline outwards, mm; NaN where there is none."""
    searched = (away >= SIDE[0] * half_width) & (away <= SIDE[1] * half_width)
    rise = lines[:, searched].max(axis=1) - canal
    level = canal + 0.5 * np.minimum(rise, WALL_MOST_HU)
    wall = (lines > level[:, None]) & (away >= CANAL * half_width)
    first = np.where(wall.any(axis=1), wall.argmax(axis=1), 0)
    beyond = np.arange(lines.shape[1]) > first[:, None]
    ended = beyond & (lines <= canal[:, None] + OUTER_HU)
    last = np.where(ended.any(axis=1), ended.argmax(axis=1), lines.shape[1] - 1)
    # an edge lies between the two places of its step
    middle = 0.5 * (away[first] + away[last]) - 0.5 * (away[1] - away[0])
    return np.where((rise > WALL_HU) & (first > 0), middle, np.nan)
