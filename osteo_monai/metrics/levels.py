"""Pairs of true and located vertebral bodies."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.transforms.vertebra_decoding import LocatedVertebra

__all__ = ["match_levels", "true_centres"]

_CENTRE_HEAT = 0.8
"""Least heat of a centre in the volume: the next voxel is at most 3.5 mm away at 4 mm sampling, the SD is 6 mm."""


def true_centres(
    target: NDArray[np.floating], affine: NDArray[np.floating]
) -> dict[VertebraLevel, NDArray[np.floating]]:
    """Return the centre (3,) in RAS+ mm of each labelled body T9 to L6 whose centre is in the volume.

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
        if weight.max(initial=0.0) < _CENTRE_HEAT:
            continue
        weight = np.where(weight > 0.5, weight, 0.0)
        index = np.array(
            [(weight.sum(tuple({0, 1, 2} - {axis})) * np.arange(n)).sum() for axis, n in enumerate(weight.shape)]
        )
        centres[level] = affine[:3, :3] @ (index / weight.sum()) + affine[:3, 3]
    return centres


def match_levels(
    truth: Mapping[VertebraLevel, NDArray[np.floating]], located: Sequence[LocatedVertebra], reach_mm: float = 15.0
) -> list[tuple[VertebraLevel, LocatedVertebra | None, float]]:
    """Pair each true body with the nearest located body.

    Args:
        truth: centres (3,) in RAS+ mm.
        located: vertebrae of ``DecodeVertebraed``.
        reach_mm: largest distance of a pair; the default is half the height of a lumbar body.

    Returns:
        (true level, located vertebra or ``None``, distance in mm or NaN) for each true body.
    """
    pairs: list[tuple[VertebraLevel, LocatedVertebra | None, float]] = []
    for level, centre in truth.items():
        distances = [float(np.linalg.norm(np.subtract(v.centre_mm, centre))) for v in located]
        nearest = int(np.argmin(distances)) if distances else -1
        if nearest >= 0 and distances[nearest] <= reach_mm:
            pairs.append((level, located[nearest], distances[nearest]))
        else:
            pairs.append((level, None, float("nan")))
    return pairs
