"""Windowed CT planes in a panel of a figure, with contours, directions and a scale bar.

Radiological display: patient right is at the left of axial and coronal figures, anterior at the left of sagittal ones;
superior and anterior are up. RAS+ arrays are therefore shown with every axis reversed.
"""

import base64
import io
from dataclasses import dataclass

import contourpy
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osteo_monai.domain import VertebraLevel
from osteo_monai.reporting.drawing import (
    PIXELS_PER_UNIT,
    label,
    line,
    rect,
)
from osteo_monai.screening.images import ReportImages
from osteo_monai.utils.occupied import occupied_voxels

__all__ = [
    "BODY_COLOUR",
    "REGION_COLOUR",
    "Panel",
    "along",
    "clamped",
    "directions",
    "level_centre",
    "outline",
    "plane_image",
    "scale_bar",
    "window_text",
]

BODY_COLOUR, REGION_COLOUR = "#4fd8ff", "#ffb628"
"""Contours of vertebral bodies and of trabecular regions."""


@dataclass(frozen=True)
class Panel:
    """Rectangle of the drawing that shows a part of a plane; (u, v) in mm from the upper left corner of the plane."""

    left: float
    top: float
    width: float
    height: float
    u0: float
    v0: float
    scale: float

    @classmethod
    def around(cls, left: float, top: float, width: float, height: float, u: float, v: float, scale: float) -> "Panel":
        """Return the panel whose middle shows (u, v)."""
        return cls(left, top, width, height, u - width / scale / 2, v - height / scale / 2, scale)

    def x(self, u: float) -> float:
        """Return the drawing coordinate of u."""
        return self.left + (u - self.u0) * self.scale

    def y(self, v: float) -> float:
        """Return the drawing coordinate of v."""
        return self.top + (v - self.v0) * self.scale


def along(count: int, step: float, index: float) -> float:
    """Return the distance in mm of a voxel's centre from the shown edge of a reversed axis."""
    return (count - 1 - float(index) + 0.5) * step


def level_centre(images: ReportImages, level: VertebraLevel) -> NDArray[np.float64] | None:
    """Return the voxel index (3,) of a level: its centre, or that of its body; ``None`` without either."""
    for located in images.levels:
        if located.level is level:
            return images.index(located.centre_mm)
    if images.bodies is None:
        return None
    voxels = occupied_voxels(images.bodies == level.label)
    return voxels.mean(axis=0) if len(voxels) else None


def clamped(value: float, low: float, high: float) -> float:
    """Return ``value`` clipped to low-high, or their mean if low is above high."""
    return (low + high) / 2 if low > high else min(max(value, low), high)


def plane_image(
    plane: NDArray[np.float32], u_step: float, v_step: float, panel: Panel, window: tuple[float, float]
) -> str:
    """Return background and the part of ``plane`` (rows, columns; HU) inside the panel, windowed, as SVG."""
    rows, columns = plane.shape
    background = rect(panel.left, panel.top, panel.width, panel.height, "#000000")
    u1, v1 = max(panel.u0, 0.0), max(panel.v0, 0.0)
    u2 = min(panel.u0 + panel.width / panel.scale, columns * u_step)
    v2 = min(panel.v0 + panel.height / panel.scale, rows * v_step)
    if u2 <= u1 or v2 <= v1:
        return background
    width, height = (u2 - u1) * panel.scale, (v2 - v1) * panel.scale
    box = (u1 / u_step, v1 / v_step, min(u2 / u_step, columns), min(v2 / v_step, rows))
    size = (max(1, round(width * PIXELS_PER_UNIT)), max(1, round(height * PIXELS_PER_UNIT)))
    ww, wl = window
    # clipped beforehand, so that interpolation does not ring at metal or padding
    wide = np.clip(np.nan_to_num(plane, nan=-1024.0), wl - 2 * ww, wl + 2 * ww).astype(np.float32)
    picture = np.asarray(Image.fromarray(wide).resize(size, Image.Resampling.BICUBIC, box=box))
    grey = np.clip((picture - (wl - ww / 2)) / ww * 255, 0, 255).round().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, format="PNG", compress_level=6)
    data = base64.b64encode(stream.getvalue()).decode()
    return background + (
        f'<image x="{panel.x(u1):.2f}" y="{panel.y(v1):.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    )


def outline(mask: NDArray[np.bool_], u_step: float, v_step: float, panel: Panel, colour: str, dash: str) -> str:
    """Return the contour of ``mask`` (rows, columns) midway between voxel centres, with a dark halo for contrast."""
    padded = np.pad(mask.astype(np.float32), 1)
    path = []
    for curve in contourpy.contour_generator(z=padded).lines(0.5):
        points = np.asarray(curve)
        xy = [(panel.x((c - 0.5) * u_step), panel.y((r - 0.5) * v_step)) for c, r in points]
        path.append("M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in xy) + "Z")
    if not path:
        return ""
    d = "".join(path)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<path d="{d}" fill="none" stroke="#000000" stroke-opacity="0.55" stroke-width="3.2"/>'
        f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
    )


def directions(panel: Panel, left: str, right: str, up: str, down: str) -> list[str]:
    """Return the letters of the anatomical directions at the four sides."""
    middle_x, middle_y = panel.left + panel.width / 2, panel.top + panel.height / 2 + 5
    return [
        label(panel.left + 8, middle_y, left, size=13, weight="bold"),
        label(panel.left + panel.width - 8, middle_y, right, size=13, weight="bold", anchor="end"),
        label(middle_x, panel.top + 17, up, size=13, weight="bold", anchor="middle"),
        label(middle_x, panel.top + panel.height - 8, down, size=13, weight="bold", anchor="middle"),
    ]


def scale_bar(panel: Panel, mm: int) -> list[str]:
    """Return a horizontal bar of a length in mm at the lower right."""
    x2, y = panel.left + panel.width - 10, panel.top + panel.height - 12
    x1 = x2 - mm * panel.scale
    ticks = "".join(line(x, y - 4, x, y + 4, "#ffffff", 1.4) for x in (x1, x2))
    return [line(x1, y, x2, y, "#ffffff", 1.4) + ticks, label((x1 + x2) / 2, y - 7, f"{mm} mm", 11, anchor="middle")]


def window_text(window: tuple[float, float]) -> str:
    """Return window width and level in HU as text."""
    return f"W {window[0]:.0f} L {window[1]:.0f}"
