"""SVG primitives of the report figures; grey-scale images and heat maps are embedded PNG."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "FULL_WIDTH",
    "PIXELS_PER_UNIT",
    "Picture",
    "embedded_picture",
    "heat_colours",
    "heat_legend",
    "heated",
    "label",
    "line",
    "rect",
    "svg",
    "text",
]

FULL_WIDTH = 720
"""Width in drawing units of a picture that spans the page; one unit is about one CSS pixel."""

PIXELS_PER_UNIT = 1.6
"""Pixels of embedded images; sharp on A4 at about 170 dpi while the file stays small."""

_FONT = "font-family=\"'Helvetica Neue',Helvetica,Arial,'DejaVu Sans',sans-serif\""
_HEAT = np.array([(0, 32, 76), (66, 77, 107), (124, 123, 120), (188, 175, 111), (255, 233, 69)], dtype=np.float32)
"""Five colours of cividis (Nunez 2018): dark blue to yellow, even in lightness, safe for colour-blind readers."""


@dataclass(frozen=True)
class Picture:
    """A figure of a report.

    Attributes:
        svg: the SVG document.
        alt: alternative text, what the figure shows.
        caption: how to read it.
        width: in CSS pixels; ``None`` for the width of the page.
    """

    svg: str
    alt: str
    caption: str
    width: int | None = None

    @property
    def data_uri(self) -> str:
        """The SVG as a data URI for an ``img`` element."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def heat_colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colours (..., 3), 0 to 255, of values from 0 to 1."""
    positions = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(values, positions, channel) for channel in _HEAT.T], axis=-1).astype(np.float32)


def heated(
    grey: NDArray[np.float32], heat: NDArray[np.float32], floor: float = 0.15, strength: float = 0.5
) -> NDArray[np.float32]:
    """Blend a heat map over a grey image (X, Y, 3); opacity grows with the heat, so that the bone stays visible.

    Args:
        grey: image, 0 to 1.
        heat: map (X, Y), 0 to 1.
        floor: opacity where the map is just above 0.
        strength: opacity added where it is 1.
    """
    heat = np.clip(heat, 0, 1)
    opacity = (floor * (heat > 0) + strength * heat)[..., None]
    return np.asarray((1 - opacity) * grey + opacity * heat_colours(heat) / 255, dtype=np.float32)


def embedded_picture(
    rgb: NDArray[np.float32], left: float, top: float, width: float, height: float | None = None
) -> str:
    """Return an image (rows, columns, 3) from 0 to 1 as an SVG element; square without a height."""
    height = width if height is None else height
    pixels = Image.fromarray((np.clip(rgb, 0, 1) * 255).round().astype(np.uint8))
    size = (max(1, round(width * PIXELS_PER_UNIT)), max(1, round(height * PIXELS_PER_UNIT)))
    stream = io.BytesIO()
    pixels.resize(size, Image.Resampling.BICUBIC).save(stream, format="PNG", compress_level=6)
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<image x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    )


def rect(
    x: float, y: float, width: float, height: float, fill: str, stroke: str = "", opacity: float | None = None
) -> str:
    """Return a rectangle."""
    extra = (f' stroke="{stroke}"' if stroke else "") + (f' fill-opacity="{opacity}"' if opacity is not None else "")
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}"{extra}/>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dash: str = "") -> str:
    """Return a straight line."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"{dashes}/>'
    )


def text(
    x: float,
    y: float,
    content: str,
    size: float,
    colour: str,
    anchor: str = "start",
    weight: str = "normal",
    halo: str = "",
) -> str:
    """Return escaped text; ``halo`` is the colour of an outline behind it."""
    common = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    under = f'<text {common} fill="{halo}" stroke="{halo}" stroke-width="3">{escape(content)}</text>' if halo else ""
    return f'{under}<text {common} fill="{colour}">{escape(content)}</text>'


def label(x: float, y: float, content: str, size: float = 12, weight: str = "normal", anchor: str = "start") -> str:
    """Return white text with a dark halo, readable over bone and air."""
    return text(x, y, content, size, "#ffffff", anchor, weight, "#000000")


def heat_legend(x: float, height: float) -> list[str]:
    """Return a vertical colour bar from "most" to "none" beside an image of ``height``."""
    colours = heat_colours(np.linspace(1, 0, 40, dtype=np.float32))
    top, step = 22.0, (height - 44) / len(colours)
    parts = [
        rect(x, top + k * step, 12, step + 0.3, f"#{r:02x}{g:02x}{b:02x}")
        for k, (r, g, b) in enumerate(colours.astype(int))
    ]
    return [*parts, text(x, top - 7, "most", 11, "#333333"), text(x, height - 8, "none", 11, "#333333")]


def svg(width: float, height: float, parts: Iterable[str]) -> str:
    """Return an SVG document of ``parts``."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" {_FONT}>{"".join(parts)}</svg>'
    )
