"""Slices of the classifier under its Grad-CAM map."""

import numpy as np

from osteo_monai.domain import BoneStatus
from osteo_monai.reporting.drawing import (
    FULL_WIDTH,
    Picture,
    embedded_picture,
    heat_legend,
    heated,
    rect,
    svg,
    text,
)
from osteo_monai.screening.images import ClassActivation
from osteo_monai.utils.text import percent_words

__all__ = ["activation_picture"]

_GAP, _LEGEND = 8.0, 56.0
"""Between the images, and for the colour legend, in drawing units."""


def activation_picture(activation: ClassActivation) -> Picture:
    """Draw each slice as the classifier receives it, and again under its Grad-CAM map.

    The map is drawn on the bodies only, scaled by its maximum there: the input is empty elsewhere, and values of a map
    of a few pixels there come from interpolation. The caption gives the share of the map that is on the bodies.
    """
    shown = activation.slices > 0
    within = activation.heat * shown.any(axis=0)
    share = float(within.sum() / activation.heat.sum()) if within.any() else 0.0
    heat = within / within.max() if within.any() else within
    count = len(activation.levels)
    side = min((FULL_WIDTH - _LEGEND - _GAP * (2 * count)) / (2 * count), 158.0)
    height = side + 20
    parts = [rect(0, 0, FULL_WIDTH, height, "#ffffff")]
    start = (FULL_WIDTH - _LEGEND - 2 * count * (side + _GAP)) / 2
    for i, (level, plane) in enumerate(zip(activation.levels, activation.slices, strict=True)):
        grey = np.repeat(np.clip(plane, 0, 1)[..., None], 3, axis=2)
        images = ((grey, f"{level}, network input"), (heated(grey, heat * shown[i]), f"{level}, Grad-CAM"))
        for column, (rgb, title) in enumerate(images):
            left = start + (2 * i + column) * (side + _GAP)
            parts.append(embedded_picture(rgb[::-1, ::-1].transpose(1, 0, 2), left, 0, side))
            parts.append(text(left + side / 2, side + 14, title, 11, "#333333", "middle"))
    parts += heat_legend(start + 2 * count * (side + _GAP) + 4, side)
    return Picture(
        svg(FULL_WIDTH, height, parts),
        f"Slices of {' and '.join(activation.levels)} as input of the classifier, each also under its Grad-CAM map for "
        f"{activation.status}, patient right at image left, anterior up.",
        _caption(activation.status, count, share),
    )


def _caption(status: BoneStatus, count: int, share: float) -> str:
    resolution = "The map is coarse and one for all slices." if count > 1 else "The map is coarse."
    inside = (
        f"{percent_words(share)} of it is on the bodies; the rest, where the network input is empty, is not drawn."
        if share
        else "Nothing in the bodies supports this class."
    )
    return (
        f"Grad-CAM of the classifier for {status} (last residual stage): image areas that support this class, not "
        f"where the bone is diseased. {resolution} {inside}"
    )
