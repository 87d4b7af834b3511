"""Whether a scan shows the trunk upright and with its back at the back, by bone and lungs and not by the header."""

import numpy as np
from numpy.typing import NDArray

from osteo_monai.measurement.scan_blocks import person_in, sampled_slices, scan_blocks, split_air

BONE_HU = 250.0
MIN_BONE = 8
"""Least number of blocks of bone in the middle third of a slice."""
FRONT_ABOVE = 0.62
"""Usual place of this bone from the back (0) to the front (1) of the person, from which on it lies in front. Project
custom: 0.26 to 0.52 in 17 real scans, the highest in crops and with an enhanced heart."""
LUNG_DEPTH_MM = 12.0
LUNG_FREE, LUNG = 0.02, 0.10
"""Shares of lung in a slice of the abdomen at most, and of the thorax at least. Project custom; 0.00 to 0.04 and 0.1 to
0.4 in real scans."""
FREE_MM = 60.0
"""Least length of abdomen above lungs; the neck has half the section and is not counted."""
MIN_SECTION = 0.7
"""Least section of the abdomen by that of the thorax."""


def exchanged_axes(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], valid: NDArray[np.bool_] | None = None
) -> tuple[str, ...]:
    """Return the axes along which the content of a scan contradicts its header.

    Args:
        hu: (X, Y, Z) in RAS+, axial slices.
        spacing_mm: of the voxels.
        valid: (X, Y, Z), False where padded.

    Returns:
        Of ``front and back``, ``head and feet``; empty where nothing contradicts it, or where it is not known. Left and
        right are not compared: organs of one side differ too much between people.
    """
    index = sampled_slices(hu.shape[2])
    blocks, good, size = scan_blocks(hu, spacing_mm, valid, index)
    split = split_air(blocks[good]) if min(blocks.shape[:2]) >= 8 else None
    if split is None:
        return ()
    person, depth, _ = person_in(blocks > split[0], size)
    lung = person & (blocks < split[0]) & (depth > LUNG_DEPTH_MM)
    found = []
    places = [_bone_place(blocks[:, :, k], person[:, :, k]) for k in range(len(index))]
    seen = [p for p in places if p is not None]
    if len(seen) >= 5 and float(np.median(seen)) > FRONT_ABOVE:
        found.append("front and back")
    if _abdomen_above(
        person.sum(axis=(0, 1)), lung.sum(axis=(0, 1)), np.asarray(index * spacing_mm[2], dtype=np.float64)
    ):
        found.append("head and feet")
    return tuple(found)


def _bone_place(plane: NDArray[np.float32], person: NDArray[np.bool_]) -> float | None:
    """Return the mean place of bone in the middle third, 0 at the back and 1 at the front; ``None`` without bone."""
    across, along = np.flatnonzero(person.any(axis=1)), np.flatnonzero(person.any(axis=0))
    if not across.size:
        return None
    middle, width = 0.5 * (across[0] + across[-1]), across[-1] - across[0] + 1
    bone = person & (plane > BONE_HU)
    bone[np.abs(np.arange(len(bone)) - middle) >= width / 6.0] = False
    rows = np.nonzero(bone)[1]
    if rows.size < MIN_BONE:
        return None
    return float(rows.mean() - along[0]) / float(along[-1] - along[0] + 1)


def _abdomen_above(section: NDArray[np.int64], lung: NDArray[np.int64], z_mm: NDArray[np.float64]) -> bool:
    """Whether abdomen lies above lungs that reach the lower end of the scan."""
    share = lung / np.maximum(section, 1)
    thorax = share >= LUNG
    if not thorax.any() or not thorax[: max(1, len(share) // 20)].all():
        return False
    above = share[int(np.flatnonzero(thorax)[-1]) :]
    rest = z_mm[-len(above) :][above <= LUNG_FREE]
    sections = section[-len(above) :][above <= LUNG_FREE]
    if rest.size < 3 or float(np.median(sections)) < MIN_SECTION * float(np.median(section[thorax])):
        return False
    return float(rest[-1] - rest[0]) >= FREE_MM
