"""Blocks of about 3 mm of sampled slices of a scan, the threshold between air and tissue, and the person in them."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BLOCK_MM = 3.0
MAX_BLOCKS = 180
"""Along a side of a slice."""
MAX_PAIRS = 45
"""Pairs of neighbouring slices that are sampled."""
MIN_BLOCKS = 200
"""Least number of blocks of a tissue; 200 of 3 mm are 18 cm2."""
AIR_SEPARATION = 3.0
"""Least distance of air and tissue, in SD of the tissue: 5 or more where air is in view, 2.5 between fat and muscle."""


def sampled_slices(count: int) -> NDArray[np.int64]:
    """Return all slices, or pairs of neighbours at even distances."""
    if count <= 2 * MAX_PAIRS:
        return np.arange(count)
    first = np.linspace(0, count - 2, MAX_PAIRS).astype(np.int64)
    return np.unique(np.concatenate([first, first + 1]))


def scan_blocks(
    hu: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    valid: NDArray[np.bool_] | None,
    index: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, float]]:
    """Return means of four voxels of each block of the slices, whether they count, and the size of a block in mm."""
    step = [max(1, round(BLOCK_MM / s), -(-n // MAX_BLOCKS)) for s, n in zip(spacing_mm[:2], hu.shape[:2], strict=True)]
    shape = [n // s for n, s in zip(hu.shape[:2], step, strict=True)]
    total = np.zeros((*shape, len(index)), dtype=np.float32)
    good = np.ones(total.shape, dtype=bool)
    # one slice at a time: slices lie together in memory or are strided, and only few are needed
    offsets = [sorted({0, s // 2}) for s in step]
    for n, k in enumerate(index):
        for a in offsets[0]:
            for b in offsets[1]:
                cut = (slice(a, shape[0] * step[0], step[0]), slice(b, shape[1] * step[1], step[1]), int(k))
                total[:, :, n] += hu[cut]
                if valid is not None:
                    good[:, :, n] &= valid[cut]
    total /= len(offsets[0]) * len(offsets[1])
    good &= np.isfinite(total)
    return total, good, (step[0] * spacing_mm[0], step[1] * spacing_mm[1])


def split_air(values: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return the threshold between air and tissue (Otsu 1979) and their distance; ``None`` if no air is in view."""
    if values.size < MIN_BLOCKS:
        return None
    low, high = np.percentile(values, [0.5, 99.0])
    if not high > low:
        return None
    counts, edges = np.histogram(values.clip(low, high), bins=256)
    centres = 0.5 * (edges[:-1] + edges[1:])
    weight = np.cumsum(counts) / values.size
    mean = np.cumsum(counts * centres) / values.size
    between = (mean[-1] * weight - mean) ** 2 / np.maximum(weight * (1 - weight), 1e-9)
    threshold = float(centres[int(np.argmax(between[:-1]))])
    below, above = values[values <= threshold], values[values > threshold]
    if min(below.size, above.size) < max(MIN_BLOCKS, 0.01 * values.size):
        return None
    middle, spread = float(np.median(above)), _spread(above)
    contrast = middle - float(np.percentile(below, 25))
    return (threshold, contrast) if contrast > AIR_SEPARATION * spread else None


def _spread(values: NDArray[np.float32]) -> float:
    """Return the robust SD of values."""
    if values.size == 0:
        return 1.0
    quarter = np.percentile(values, [25, 75])
    return max(float(quarter[1] - quarter[0]) / 1.35, 1.0)


def person_in(
    solid: NDArray[np.bool_], size: tuple[float, float]
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """Return the largest solid part of each slice with its inner air, the depth inside it and the distance to it, mm.

    The distance is 0 in slices without air in three corners: in a crop the outside of the solid may be lung.
    """
    person = np.zeros(solid.shape, dtype=bool)
    depth = np.full(solid.shape, 1e3, dtype=np.float32)
    away = np.zeros(solid.shape, dtype=np.float32)
    for k in range(solid.shape[2]):
        # the person continues beyond the border of a crop
        core = ndimage.binary_erosion(solid[:, :, k], border_value=1)
        labels, count = ndimage.label(core)
        if not count:
            continue
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        part = ndimage.binary_dilation(labels == sizes.argmax()) & solid[:, :, k]
        person[:, :, k] = ndimage.binary_fill_holes(part)
        if person[:, :, k].all():
            continue
        depth[:, :, k] = ndimage.distance_transform_edt(person[:, :, k], sampling=size)
        if np.count_nonzero(~person[[0, 0, -1, -1], [0, -1, 0, -1], k]) >= 3:
            away[:, :, k] = ndimage.distance_transform_edt(~person[:, :, k], sampling=size)
    return person, depth, away
