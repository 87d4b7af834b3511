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
GAS_HU = -975.0
"""A component with a median HU below this is gas in bowel or outside of the body; emphysema has more."""
GRID_MM = 3.0
"""Voxels are skipped to about this distance."""
BESIDE_MM, BEFORE_MM = (22.0, 80.0), (-45.0, 45.0)
"""Place of the apex beside the axis (either side) and in front of it: excludes the trachea."""
MIN_AREA_MM2 = 60.0
"""Smallest section of an apex in one slice."""
MIN_LENGTH_MM = 70.0
"""A lung extends along the column for more than this below its apex."""
TOP_MARGIN_MM = 5.0
"""The apex is in view if the scan continues above it by this."""
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
    x, y, z = (affine[a, a] * steps[a] * np.arange(part.shape[a]) + affine[a, 3] for a in range(3))
    centres = np.array([b.centre_mm for b in bodies])
    axis = [np.interp(z, centres[:, 2], centres[:, a]) for a in (0, 1)]
    beside, before = (x[:, None] - axis[0]) / scale, (y[:, None] - axis[1]) / scale
    front = (before >= BEFORE_MM[0]) & (before <= BEFORE_MM[1])
    lung = np.isin(labels, kept)
    heights = []
    for sign in (-1.0, 1.0):
        side = (sign * beside >= BESIDE_MM[0]) & (sign * beside <= BESIDE_MM[1])
        area = (lung & side[:, None] & front[None]).sum(axis=(0, 1)) * float(np.prod((spacing * steps)[:2]))
        heights.append(_highest(area >= MIN_AREA_MM2, z))
    seen = [h for h in heights if h is not None]
    return max(seen) if seen and max(seen) < z.max() - TOP_MARGIN_MM else None


def _highest(covered: NDArray[np.bool_], z: NDArray[np.float64]) -> float | None:
    """Return the height of the upper end of the longest run of covered slices; ``None`` if it is too short."""
    runs, count = ndimage.label(covered)
    if not count:
        return None
    longest = np.flatnonzero(runs == 1 + int(np.argmax(np.bincount(runs)[1:])))
    ends = z[longest[[0, -1]]]
    return float(ends.max()) if abs(float(ends[1] - ends[0])) >= MIN_LENGTH_MM else None


def apex_heights(apex: float | None, places: Bodies) -> list[float | None]:
    """Return the height of the apex above each body in pitches; ``None`` for bodies far below it."""
    count = len(places.centre)
    if apex is None:
        return [None] * count
    upright = np.clip(places.up[:, 2], 0.5, 1.0)
    heights = (apex - places.centre[:, 2]) / (places.pitch[:count] * upright)
    return [float(h) if h <= NEAR_BODIES else None for h in heights]
