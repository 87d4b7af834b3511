"""Pictures of the printed report and of the overview, drawn on matplotlib axes in radiological display."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.reporting.ct.study import AxialSlice, CTStudy
from osteo_monai.reporting.figures import heat_map
from osteo_monai.reporting.figures.panel import BODY_COLOUR, REGION_COLOUR
from osteo_monai.screening.images import RadiographImages, ReportImages

__all__ = ["draw_axial", "draw_radiographs", "draw_sagittal", "slices_of"]

_AXIAL_MM, _BEHIND_MM = 110.0, 12.0
_SLAB_MM = 9.0
_MARGIN_MM = 45.0
AXIAL_WINDOW, SAGITTAL_WINDOW = (-160.0, 240.0), (-200.0, 500.0)
"""Lowest and highest HU."""


def slices_of(study: CTStudy) -> tuple[AxialSlice, ...]:
    """Return at most three axial slices to show."""
    return study.slices[:3]


def draw_axial(axes: Axes, images: ReportImages, shown: AxialSlice) -> None:
    """Draw an axial slice around a level, with the contours of body and region; patient right at image left."""
    sx, sy, _ = images.spacing
    k = min(max(shown.index, 0), images.hu.shape[2] - 1)
    extent = _show(axes, images.hu[:, :, k], (sx, sy), AXIAL_WINDOW)
    _outline(axes, images, (slice(None), slice(None), k), (sx, sy), shown.level)
    centre = _centre(images, shown.level)
    if centre is not None:
        x, y = (extent[0] - (centre[0] + 0.5) * sx, (centre[1] + 0.5) * sy)
        axes.set_xlim(x - _AXIAL_MM / 2, x + _AXIAL_MM / 2)
        axes.set_ylim(y - _AXIAL_MM / 2 - _BEHIND_MM, y + _AXIAL_MM / 2 - _BEHIND_MM)
    _letters(axes, "R", "L", "A", "P")
    number = f", {shown.number}" if shown.number else ""
    _caption(axes, f"{shown.level}", f"slice {shown.index}{number}")


def draw_sagittal(axes: Axes, images: ReportImages, study: CTStudy) -> None:
    """Draw a sagittal slab through the levels, with contours and level names; anterior at image left."""
    levels = [s.level for s in study.slices]
    centres = [c for c in (_centre(images, level) for level in levels) if c is not None]
    _, sy, sz = images.spacing
    x = float(np.mean([c[0] for c in centres])) if centres else images.hu.shape[0] / 2
    half = max(1, round(_SLAB_MM / 2 / images.spacing[0]))
    middle = min(max(round(x), 0), images.hu.shape[0] - 1)
    slab = images.hu[max(0, middle - half) : middle + half + 1]
    extent = _show(axes, slab.mean(axis=0), (sy, sz), SAGITTAL_WINDOW)
    _outline(axes, images, (middle, slice(None), slice(None)), (sy, sz), None)
    for located in images.levels:
        _, j, k = images.index(located.centre_mm)
        axes.text(
            extent[0] - (j + 0.5) * sy, (k + 0.5) * sz, str(located.level), color="white", fontsize=7, ha="center",
            va="center", clip_on=True,
        )  # fmt: skip
    if centres:
        y = extent[0] - (float(np.mean([c[1] for c in centres])) + 0.5) * sy
        z = [(c[2] + 0.5) * sz for c in centres]
        axes.set_ylim(min(z) - _MARGIN_MM, max(z) + _MARGIN_MM)
        wide = (max(z) - min(z) + 2 * _MARGIN_MM) * 0.75
        axes.set_xlim(y - wide * 0.55, y + wide * 0.45)
    _letters(axes, "A", "P", "S", "I")


def draw_radiographs(axes: Axes, images: RadiographImages) -> None:
    """Draw the radiographs beside their maps."""
    axes.imshow(heat_map(images), aspect="equal")
    axes.set_axis_off()


def _show(
    axes: Axes, plane: NDArray[np.float32], step: tuple[float, float], window: tuple[float, float]
) -> tuple[float, float]:
    """Show a plane (u, v) with u growing to the image's left; return its width and height in mm."""
    wide, high = plane.shape[0] * step[0], plane.shape[1] * step[1]
    axes.set_facecolor("black")
    axes.imshow(
        plane[::-1].T, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", extent=(0.0, wide, 0.0, high),
        interpolation="bilinear", aspect="equal",
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    return wide, high


def _outline(
    axes: Axes,
    images: ReportImages,
    cut: tuple[slice | int, ...],
    step: tuple[float, float],
    level: VertebraLevel | None,
) -> None:
    if images.bodies is None:
        return
    body = images.bodies[cut] > 0 if level is None else images.bodies[cut] == level.label
    masks = [(body, BODY_COLOUR)]
    if images.regions is not None:
        masks.append((body & (np.asarray(images.regions[cut]) > 0), REGION_COLOUR))
    for mask, colour in masks:
        if mask.any():
            shown = mask[::-1].T.astype(np.float32)
            u = (np.arange(shown.shape[1]) + 0.5) * step[0]
            v = (np.arange(shown.shape[0]) + 0.5) * step[1]
            axes.contour(u, v, shown, [0.5], colors=[colour], linewidths=1.1)


def _centre(images: ReportImages, level: VertebraLevel) -> NDArray[np.float64] | None:
    return next((images.index(located.centre_mm) for located in images.levels if located.level is level), None)


def _letters(axes: Axes, left: str, right: str, up: str, down: str) -> None:
    places = (
        (0.02, 0.5, left, "left"),
        (0.98, 0.5, right, "right"),
        (0.5, 0.96, up, "center"),
        (0.5, 0.04, down, "center"),
    )
    for x, y, letter, aligned in places:
        axes.text(x, y, letter, transform=axes.transAxes, color="white", fontsize=8, ha=aligned, va="center")


def _caption(axes: Axes, level: str, slice_text: str) -> None:
    axes.text(0.02, 0.97, level, transform=axes.transAxes, color="white", fontsize=10, weight="bold", va="top")
    axes.text(0.98, 0.97, slice_text, transform=axes.transAxes, color="white", fontsize=6.5, va="top", ha="right")
