"""Where a mask or label map of a scan is not zero: a body fills a thousandth of the scan that holds it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["occupied_box", "occupied_voxels"]


def occupied_box(array: NDArray[Any]) -> tuple[slice, ...] | None:
    """Return the smallest box that holds all values other than 0; ``None`` if there are none."""
    box = [slice(None)] * array.ndim
    # planes that are together in memory are tested fastest, and the next axes in what is left of them
    for axis in sorted(range(array.ndim), key=lambda a: -abs(array.strides[a])):
        others = tuple(a for a in range(array.ndim) if a != axis)
        lines = np.flatnonzero(array[tuple(box)].any(axis=others))
        if lines.size == 0:
            return None
        box[axis] = slice(int(lines[0]), int(lines[-1]) + 1)
    return tuple(box)


def occupied_voxels(mask: NDArray[Any]) -> NDArray[np.intp]:
    """Return the indices (N, axes) of the values other than 0, in the order of ``numpy.argwhere``."""
    box = occupied_box(mask)
    if box is None:
        return np.zeros((0, mask.ndim), dtype=np.intp)
    return np.argwhere(mask[box]) + np.array([part.start for part in box], dtype=np.intp)
