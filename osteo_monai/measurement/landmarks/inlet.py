"""The upper end of the thorax: highest ribs and apexes of the lungs.

T1 is the highest vertebra that carries a rib; C7 has transverse processes only. The first rib is short, strongly curved
and often in contact with the second one, so that only its root and its reach to the side are used here. Independently,
the apexes of the lungs do not rise above the neck of the first rib (Gray's Anatomy), which is about level with T1.

Limits are "project custom" unless a source is named. On the one real scan with T1 in view (``ct_chest_above_l1``) the
ribs of T1 start 0.28 to 0.36 pitches above its centre and reach 74 to 80 mm beside the axis, and the apexes of the
lungs end 0.2 pitches below its centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.measurement.landmarks.column import Bodies, BodyPlace

LUNG_HU = -600.0
GAS_HU = -950.0
"""A component with a median HU below this is gas in bowel or outside of the body: -953 to -976 in three real scans with
30 cm3 and more of it. Lungs have -935 to -737 in seven; severe emphysema may be left out."""
GRID_MM = 3.0
"""Voxels are skipped to about this distance."""
BESIDE_MM, BEFORE_MM = (22.0, 80.0), (-45.0, 45.0)
"""Place of the apex beside the axis (either side) and in front of it: excludes the trachea."""
MIN_AREA_MM2 = 60.0
"""Smallest section of an apex in one slice."""
MIN_LENGTH_MM = 140.0
"""A lung is aerated along the column for this length below its apex, for a person of scale 1. It ends beside T12 or L1:
if only its lower part is aerated, the last ribs are farther than ``NEAR_BODIES`` below that end, so that their own
signs count. With 70 mm, a real scan with opaque lungs above T10 had L2 named L1."""
TOP_MARGIN_MM = 5.0
"""The apex is in view if slices with content continue above it by this."""
NEAR_BODIES = 3.5
"""Bodies up to this number of pitches below the apex have signs of the inlet; all bodies above it have."""
ROOT_HEIGHT = 0.2
"""Height in pitches above the centre of its body at which a rib starts: -0.3 to 0.5."""
RIB_REACH_MM, RIB_LENGTH_MM, RIB_THICKNESS_MM = 52.0, 40.0, 18.0
"""A rib reaches farther than a process of C7 (28 to 40 mm), is as long, and not thicker than two ribs in contact."""


@dataclass(frozen=True)
class InletSigns:
    """Signs at a body near the upper end of the thorax.

    Attributes:
        right_rib, left_rib: whether it carries a rib; ``None`` if the side is not visible.
        apex_above: height of the highest apex of the lungs above its centre, in pitches.
    """

    right_rib: bool | None
    left_rib: bool | None
    apex_above: float

    @property
    def ribs(self) -> tuple[bool | None, bool | None]:
        """Right and left."""
        return self.right_rib, self.left_rib


def lung_apex(
    hu: NDArray[np.float32], affine: NDArray[np.float64], bodies: Sequence[BodyPlace], scale: float
) -> float | None:
    """Return z in RAS+ mm of the highest apex of the lungs; ``None`` if the scan does not show one.

    Args:
        hu: (X, Y, Z) in HU, RAS+ or nearly.
        affine: (4, 4) voxel index to RAS+ mm.
        bodies: from the lowest up.
        scale: size of the person.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    steps = np.maximum(1, np.round(GRID_MM / spacing)).astype(int)
    part = hu[:: steps[0], :: steps[1], :: steps[2]]
    labels, count = ndimage.label(part < LUNG_HU)
    if not count:
        return None
    outside = np.unique(np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()]))
    kept = np.setdiff1d(np.flatnonzero(np.bincount(labels.ravel()) * np.prod(spacing * steps) > 1e5), [0, *outside])
    kept = np.array([k for k in kept if np.median(part[labels == k]) > GAS_HU], dtype=int)
    centres = np.array([b.centre_mm for b in bodies])
    x, y, z, axis = _about(affine @ np.diag([*steps, 1.0]), part.shape, centres)
    beside, before = (x - axis[0]) / scale, (y - axis[1]) / scale
    lung = np.isin(labels, kept) & (before >= BEFORE_MM[0]) & (before <= BEFORE_MM[1])
    heights = []
    for sign in (-1.0, 1.0):
        side = (sign * beside >= BESIDE_MM[0]) & (sign * beside <= BESIDE_MM[1])
        area = (lung & side).sum(axis=(0, 1)) * float(np.prod((spacing * steps)[:2]))
        heights.append(_highest(area >= MIN_AREA_MM2, z, MIN_LENGTH_MM * scale))
    seen = [h for h in heights if h is not None]
    if not seen:
        return None
    end = float(z[part.min(axis=(0, 1)) < part.max(axis=(0, 1))].max())  # empty slices are no part of the scan
    return max(seen) if max(seen) < end - TOP_MARGIN_MM else None


def _about(
    affine: NDArray[np.float64], shape: tuple[int, ...], centres: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of the voxels in RAS+ mm, z of each slice where it meets the column, and x and y of that place.

    Grids of up to 3 degrees to the patient are not resampled: at the corner of a slice, z is 10 mm off.
    """
    i, j, k = np.ogrid[tuple(map(slice, shape))]
    x, y = (affine[a, 0] * i + affine[a, 1] * j + affine[a, 2] * k + affine[a, 3] for a in (0, 1))
    slices = np.arange(shape[2])
    at = np.repeat(centres.mean(axis=0)[:2, None], shape[2], axis=1)
    for _ in range(2):
        inner = np.linalg.solve(affine[:2, :2], at - affine[:2, 2:3] * slices - affine[:2, 3:4])
        z = affine[2, :2] @ inner + affine[2, 2] * slices + affine[2, 3]
        at = np.stack([np.interp(z, centres[:, 2], centres[:, a]) for a in (0, 1)])
    return x, y, z, at


def _highest(covered: NDArray[np.bool_], z: NDArray[np.float64], least: float) -> float | None:
    """Return the height of the upper end of the longest run of covered slices; ``None`` if it is too short."""
    runs, count = ndimage.label(covered)
    if not count:
        return None
    longest = np.flatnonzero(runs == 1 + int(np.argmax(np.bincount(runs)[1:])))
    ends = z[longest[[0, -1]]]
    return float(ends.max()) if abs(float(ends[1] - ends[0])) >= least else None


def apex_heights(apex: float | None, places: Bodies) -> list[float | None]:
    """Return the height of the apex above each body in pitches; ``None`` for bodies far below it."""
    count = len(places.centre)
    if apex is None:
        return [None] * count
    upright = np.clip(places.up[:, 2], 0.5, 1.0)
    heights = (apex - places.centre[:, 2]) / (places.pitch[:count] * upright)
    return [float(h) if h <= NEAR_BODIES else None for h in heights]
