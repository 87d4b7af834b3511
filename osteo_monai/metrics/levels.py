"""Pairs of true and located vertebrae."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.transforms.vertebra_decoding import LocatedVertebra

__all__ = ["match_levels", "true_centres"]


def true_centres(
    target: NDArray[np.floating], affine: NDArray[np.floating]
) -> dict[VertebraLevel, NDArray[np.floating]]:
    """Return the centre in RAS+ mm of each body that is labelled T9 to L6 and has its centre in the volume.

    Args:
        target: (2, X, Y, Z), labels and centre heat map as in ``VirtualVolumeDataset``.
        affine: (4, 4), voxel index to RAS+ mm.
    """
    classes, heat = np.rint(target[0]).astype(int), target[1]
    centres: dict[VertebraLevel, NDArray[np.floating]] = {}
    for level in VertebraLevel:
        if level.label <= VertebraLevel.T8.label or level is VertebraLevel.SACRUM:
            continue
        weight = np.where(classes == level.label, heat, 0.0)
        # 0.8: the voxel next to a centre is at most 3.5 mm away at 4 mm sampling, and the map has an SD of 6 mm
        if weight.max(initial=0.0) < 0.8:
            continue
        weight = np.where(weight > 0.5, weight, 0.0)
        at = np.array(
            [(weight.sum(tuple({0, 1, 2} - {axis})) * np.arange(n)).sum() for axis, n in enumerate(weight.shape)]
        )
        centres[level] = affine[:3, :3] @ (at / weight.sum()) + affine[:3, 3]
    return centres


def match_levels(
    truth: Mapping[VertebraLevel, NDArray[np.floating]], found: Sequence[LocatedVertebra], reach_mm: float = 15.0
) -> list[tuple[VertebraLevel, LocatedVertebra | None, float]]:
    """Pair each true body with the nearest found one within ``reach_mm`` (half a lumbar body's height), or with none.

    Returns:
        (true level, found vertebra or ``None``, distance in mm or NaN) for each true body.
    """
    pairs: list[tuple[VertebraLevel, LocatedVertebra | None, float]] = []
    for level, centre in truth.items():
        distances = [float(np.linalg.norm(np.subtract(v.centre_mm, centre))) for v in found]
        best = int(np.argmin(distances)) if distances else -1
        if best >= 0 and distances[best] <= reach_mm:
            pairs.append((level, found[best], distances[best]))
        else:
            pairs.append((level, None, float("nan")))
    return pairs
