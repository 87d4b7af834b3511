"""Axial CT slice through a vertebral body, with the contours of body and trabecular region."""

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.reporting.drawing import (
    Picture,
    label,
    svg,
)
from osteo_monai.reporting.figures.panel import (
    BODY_COLOUR,
    REGION_COLOUR,
    Panel,
    along,
    directions,
    level_centre,
    outline,
    plane_image,
    scale_bar,
    window_text,
)
from osteo_monai.screening.images import ReportImages

__all__ = ["axial_picture", "axial_slice"]

_HALF_WIDTH = 352
_AXIAL_WINDOW = (400.0, 40.0)
"""Mediastinal window: width and level in HU."""


def axial_picture(images: ReportImages, level: VertebraLevel, slice_index: int, number: str = "") -> Picture:
    """Draw the axial slice ``slice_index`` around the body of ``level`` with the contours of body and region.

    Args:
        images: volume, masks and levels.
        level: its body is in the middle.
        slice_index: axial slice, counted from the lowest.
        number: number of the slice in its source, e.g. ``instance 54``; printed in the corner.

    Raises:
        ValueError: if the slice is outside the volume or the level has neither a body nor a centre.
    """
    nx, ny, nz = images.hu.shape
    if not 0 <= slice_index < nz:
        raise ValueError(f"slice_index must be within 0-{nz - 1}, got {slice_index}")
    sx, sy, _ = images.spacing
    body, region = _outlines_of(images, level, slice_index)
    if body is not None and body.any():
        centre = np.argwhere(body).mean(axis=0)
    elif (level_position := level_centre(images, level)) is not None:
        centre = level_position[:2]
    else:
        raise ValueError(f"{level} has neither a body in the label map nor a centre among the levels")
    width, height, scale = _HALF_WIDTH, 276, _HALF_WIDTH / 125  # 125 x 98 mm: body, posterior elements, psoas, aorta
    # 14 mm behind the centre of the body is the middle of body and posterior elements
    panel = Panel.around(0, 0, width, height, along(nx, sx, centre[0]), along(ny, sy, centre[1]) + 14, scale)
    parts = [plane_image(images.hu[::-1, ::-1, slice_index].T, sx, sy, panel, _AXIAL_WINDOW)]
    shown = []
    for mask, colour, dash, name in (
        (body, BODY_COLOUR, "", "vertebral body"),
        (region, REGION_COLOUR, "5 3", "trabecular region"),
    ):
        if mask is not None and mask.any():
            parts.append(outline(mask[::-1, ::-1].T, sx, sy, panel, colour, dash))
            shown.append(name)
    parts += directions(panel, "R", "L", "A", "P")
    parts += scale_bar(panel, 20)
    parts.append(label(8, 19, f"{level}", size=15, weight="bold"))
    parts.append(label(8, 34, f"slice {slice_index}" + (f", {number}" if number else ""), size=11))
    parts.append(label(8, height - 9, window_text(_AXIAL_WINDOW), size=11))
    contours = f" Outlined: {' and '.join(shown)}." if shown else " Nothing is outlined."
    return Picture(
        svg(width, height, parts),
        f"Axial CT slice {slice_index} through {level}, patient right at image left, anterior up.{contours}",
        f"{level}, axial slice through the centre.",
    )


def axial_slice(images: ReportImages, level: VertebraLevel) -> int | None:
    """Return the index of the axial slice through the centre of ``level``, or ``None`` if it is not in the volume."""
    centre = level_centre(images, level)
    if centre is None:
        return None
    k = round(float(centre[2]))
    return k if 0 <= k < images.hu.shape[2] else None


def _outlines_of(
    images: ReportImages, level: VertebraLevel, k: int
) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Masks (X, Y) of the body of this level and of the region inside it on axial slice ``k``."""
    body = None if images.bodies is None else images.bodies[:, :, k] == level.label
    if images.regions is None:
        return body, None
    labels = images.regions[:, :, k]
    if labels.dtype != np.bool_:
        return body, labels == level.label
    region = labels.astype(np.bool_)
    # an unlabelled region belongs to the body that contains it
    return body, region if body is None else region & body
