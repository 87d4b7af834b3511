"""Sagittal and coronal CT views along the vertebral column, with level names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.reporting.drawing import (
    FULL_WIDTH,
    Picture,
    label,
    line,
    rect,
    svg,
    text,
)
from osteo_monai.reporting.figures.panel import (
    BODY_COLOUR,
    REGION_COLOUR,
    Panel,
    along,
    clamped,
    directions,
    outline,
    plane_image,
    scale_bar,
    window_text,
)
from osteo_monai.reporting.wording import HIGHEST_NAMED, bodies_above_words
from osteo_monai.screening.images import ReportImages
from osteo_monai.screening.result import LocatedLevel
from osteo_monai.utils.text import percent_words

__all__ = ["column_picture"]

_COLUMN_WINDOW = (700.0, 150.0)
"""Width and level in HU; wider than for axial slices, since a slab mean holds bone, disc and canal."""
_SLAB_MM = 9.0
"""Well inside a body (40-50 mm wide, 30-35 mm deep) and thick enough to reduce noise."""
_MARGIN_MM = 32.0
"""Height of one vertebra, shown beyond the outermost centres."""
_CERTAIN = 0.95
"""Below this certainty the runner-up is printed as well."""
_GUTTER = 112.0
"""Width between the two views, in drawing units."""


@dataclass(frozen=True)
class _View:
    """One of the two views: image axis that runs across it, its panel, and the curve that it follows."""

    name: str
    axis: int
    step: float
    count: int
    panel: Panel
    curve: NDArray[np.float64]
    signs: tuple[str, str, str, str]


@dataclass(frozen=True)
class _Column:
    """Levels from the top down with their voxel centres (n, 3), and the position of the views on the page."""

    levels: tuple[LocatedLevel, ...]
    centres: NDArray[np.float64]
    views: tuple[_View, _View]
    gutter_left: float
    height: float


def column_picture(
    images: ReportImages, measured: Sequence[VertebraLevel], slices: Sequence[int] = (), above: int = 0
) -> Picture:
    """Draw a sagittal and a coronal view along the column, with name and certainty of every level found.

    Each row of a view is the mean of a slab about the curve through the centres, so that curved columns stay in view;
    nothing is straightened along the height. Without levels both views are straight, through the middle.

    Args:
        images: volume, masks and levels.
        measured: levels to highlight.
        slices: axial slices (indices) to draw as reference lines.
        above: number of bodies above the named levels; printed once, at the top.
    """
    column = _layout(images)
    parts: list[str] = []
    for view in column.views:
        parts += _view(images, column, view, measured, slices)
    parts += _level_names(images, column, measured, above)
    return Picture(svg(FULL_WIDTH, column.height, parts), *_texts(images, column, bool(slices), above))


def _layout(images: ReportImages) -> _Column:
    nx, ny, nz = images.hu.shape
    sx, sy, sz = images.spacing
    levels = sorted(images.levels, key=lambda located: -float(images.index(located.centre_mm)[2]))
    centres = np.array([images.index(located.centre_mm) for located in levels]).reshape(-1, 3)
    curve_x, curve_y = _curve(centres, nz, (nx - 1) / 2, (ny - 1) / 2)
    v_low, v_high = _height_shown([along(nz, sz, c[2]) for c in centres], nz * sz)
    span = v_high - v_low
    scale = min(470 / span, 3.2)
    across = min((FULL_WIDTH - _GUTTER) / 2 / scale, 170.0)
    height, width = span * scale, across * scale
    left = (FULL_WIDTH - _GUTTER - 2 * width) / 2
    middle_y = float(centres[:, 1].mean()) if len(centres) else (ny - 1) / 2
    middle_x = float(centres[:, 0].mean()) if len(centres) else (nx - 1) / 2

    def panel(count: int, step: float, middle: float, shift: float, start: float) -> Panel:
        u = clamped(along(count, step, middle) + shift, across / 2, count * step - across / 2)
        return Panel(start, 0, width, height, u - across / 2, v_low, scale)

    # the sagittal view is shifted backwards, which keeps the spinous processes in view
    sagittal = panel(ny, sy, middle_y, 12.0, left)
    coronal = panel(nx, sx, middle_x, 0.0, left + width + _GUTTER)
    views = (
        _View("sagittal", 1, sy, ny, sagittal, curve_x, ("A", "P", "S", "I")),
        _View("coronal", 0, sx, nx, coronal, curve_y, ("R", "L", "S", "I")),
    )
    return _Column(tuple(levels), centres, views, left + width, height)


def _view(
    images: ReportImages, column: _Column, view: _View, measured: Sequence[VertebraLevel], slices: Sequence[int]
) -> list[str]:
    nz, (sx, sy, sz), panel = images.hu.shape[2], images.spacing, view.panel
    plane = _slab_mean(images.hu, 1 - view.axis, view.curve, _SLAB_MM / (sx if view.axis == 1 else sy))
    parts = [plane_image(plane[::-1, ::-1].T, view.step, sz, panel, _COLUMN_WINDOW)]
    for k in slices:
        y = panel.y(along(nz, sz, k))
        parts.append(line(panel.left, y, panel.left + panel.width, y, REGION_COLOUR, 0.8, "2 4"))
    if images.bodies is not None:
        labels = _slab_middle(images.bodies, 1 - view.axis, view.curve)
        for number in np.unique(labels[labels > 0]):
            parts.append(outline((labels == number)[::-1, ::-1].T, view.step, sz, panel, BODY_COLOUR, ""))
    for located, centre in zip(column.levels, column.centres, strict=True):
        x, y = panel.x(along(view.count, view.step, centre[view.axis])), panel.y(along(nz, sz, centre[2]))
        if not panel.left < x < panel.left + panel.width:
            continue
        colour = REGION_COLOUR if located.level in measured else "#ffffff"
        parts.append(line(x - 4, y, x + 4, y, colour, 1.4) + line(x, y - 4, x, y + 4, colour, 1.4))
    parts += directions(panel, *view.signs)
    parts += scale_bar(panel, 50)
    parts.append(label(panel.left + 8, column.height - 9, view.name, size=11))
    return parts


def _texts(images: ReportImages, column: _Column, with_slices: bool, above: int) -> tuple[str, str]:
    """Alternative text and caption."""
    levels = column.levels
    outlined = images.bodies is not None and bool(images.bodies.any())
    names = ", ".join(f"{located.level} {percent_words(located.certainty)}" for located in levels)
    sentences = [f"Levels found with their certainty: {names}."] if names else []
    sentences += [bodies_above_words(above, bool(levels))] if above else []
    where = "along the curve through the centres of the bodies" if len(levels) > 1 else "through the column"
    if not levels:
        where = "through the middle of the volume"
    alt = f"Sagittal (anterior at image left) and coronal (patient right at image left) CT views {where}. "
    caption = (
        f"Sagittal and coronal views {where}, each row the mean of a {_SLAB_MM:.0f} mm slab; "
        f"{window_text(_COLUMN_WINDOW)} HU."
    )
    if levels:
        caption += " Crosses: centres found; percentages: certainty of the name."
    if outlined:
        caption += " Outlined: the levels to measure and their neighbours, for comparison."
    if with_slices:
        caption += " Dotted lines: the axial slices shown above."
    return alt + (" ".join(sentences) or "No vertebral level was found."), caption


def _curve(
    centres: NDArray[np.float64], nz: int, middle_x: float, middle_y: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of the column at every slice: linear between the centres, constant beyond the outermost."""
    z = np.arange(nz, dtype=np.float64)
    if not len(centres):
        return np.full(nz, middle_x), np.full(nz, middle_y)
    order = np.argsort(centres[:, 2])
    return (
        np.interp(z, centres[order, 2], centres[order, 0]),
        np.interp(z, centres[order, 2], centres[order, 1]),
    )


def _slab_mean(hu: NDArray[np.float32], axis: int, curve: NDArray[np.float64], voxels: float) -> NDArray[np.float32]:
    """Return the mean over ``voxels`` voxels of ``axis`` (0 or 1) about ``curve``, per slice: shape (other axis, Z)."""
    count, nz = hu.shape[axis], hu.shape[2]
    half = max(voxels, 1.0) / 2
    plane = np.empty((hu.shape[1 - axis], nz), dtype=np.float32)
    for k in range(nz):
        low = int(clamped(round(curve[k] + 0.5 - half), 0, count - 1))
        high = int(clamped(round(curve[k] + 0.5 + half), low + 1, count))
        block = hu[low:high, :, k] if axis == 0 else hu[:, low:high, k]
        plane[:, k] = block.mean(axis=axis, dtype=np.float32)
    return plane


def _slab_middle(labels: NDArray[np.integer], axis: int, curve: NDArray[np.float64]) -> NDArray[np.integer]:
    """Return the labels on the curve itself: shape (other axis, Z)."""
    nz = labels.shape[2]
    positions = np.clip(np.rint(curve).astype(int), 0, labels.shape[axis] - 1)
    slices = np.arange(nz)
    return labels[positions, :, slices].T if axis == 0 else labels[:, positions, slices]


def _height_shown(centres_v: Sequence[float], extent: float) -> tuple[float, float]:
    """Return the upper and lower end in mm of the column views: all levels and a margin, at least 160 mm."""
    if not centres_v:
        return (0.0, extent) if extent <= 450 else (extent / 2 - 225, extent / 2 + 225)
    low, high = min(centres_v) - _MARGIN_MM, max(centres_v) + _MARGIN_MM
    if high - low < 160:
        middle = (low + high) / 2
        low, high = middle - 80, middle + 80
    low, high = max(low, 0.0), min(high, extent)
    return (low, high) if high > low else (0.0, extent)  # centres outside the volume: show it whole


def _level_names(images: ReportImages, column: _Column, measured: Sequence[VertebraLevel], above: int) -> list[str]:
    """Names between the two views, each at the height of its centre and below its upper neighbour."""
    nz, sz = images.hu.shape[2], images.spacing[2]
    panel, left, right = column.views[0].panel, column.gutter_left, column.gutter_left + _GUTTER
    parts = [rect(left, 0, _GUTTER, panel.height, "#101418")]
    if not column.levels:
        message = "no level named" if above else "no level found"
        return [*parts, label(left + _GUTTER / 2, panel.height / 2, message, 11, anchor="middle")]
    last = 2.0
    if above:
        last = 16.0
        parts.append(text(left + 14, last, f"above {HIGHEST_NAMED}: {above}", 11, "#d5dbe1"))
    for located, centre in zip(column.levels, column.centres, strict=True):
        y = panel.y(along(nz, sz, centre[2]))
        last = max(y + 5, last + 15)
        is_measured = located.level in measured
        colour = REGION_COLOUR if is_measured else "#ffffff"
        parts += [line(left, y, left + 7, y, colour, 1.2), line(right - 7, y, right, y, colour, 1.2)]
        parts.append(text(left + 14, last, str(located.level), 14, colour, weight="bold" if is_measured else "normal"))
        parts.append(text(right - 14, last, percent_words(located.certainty), 11, "#d5dbe1", "end"))
        if located.certainty < _CERTAIN and located.runner_up is not None:
            last += 12
            parts.append(text(right - 14, last, f"or {located.runner_up}", 11, "#d5dbe1", "end"))
    return parts
