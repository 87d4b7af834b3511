"""What all pictures of the reports are drawn with: SVG as vectors and words, grey and heat as embedded PNG."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

FULL_WIDTH = 720
"""Width in drawing units of a picture that spans the page; one unit is about one CSS pixel."""

PIXELS_PER_UNIT = 1.6
"""Sharp on A4 at about 170 dpi while the file stays small."""

_FONT = "font-family=\"'Helvetica Neue',Helvetica,Arial,'DejaVu Sans',sans-serif\""
_HEAT = np.array([(0, 32, 76), (66, 77, 107), (124, 123, 120), (188, 175, 111), (255, 233, 69)], dtype=np.float32)
"""Dark blue to yellow, evenly brighter, the same to colour-blind eyes: five colours of cividis (Nunez 2018)."""


@dataclass(frozen=True)
class Picture:
    """A drawing with its words: ``svg`` the document, ``alt`` what it shows, ``caption`` how to read it."""

    svg: str
    alt: str
    caption: str

    @property
    def data_uri(self) -> str:
        """The drawing as a data URI for an ``img`` element."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def heat_colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours (..., 3), 0 to 255, of values from 0 to 1."""
    at = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(values, at, channel) for channel in _HEAT.T], axis=-1).astype(np.float32)


def heated(
    grey: NDArray[np.float32], heat: NDArray[np.float32], floor: float = 0.15, strength: float = 0.5
) -> NDArray[np.float32]:
    """Lay the map over a grey picture (X, Y, 3), the thicker the warmer, so that the bone stays visible.

    Args:
        grey, heat: 0 to 1.
        floor: how thick the map lies wherever it is not 0.
        strength: how much thicker where it is 1.
    """
    heat = np.clip(heat, 0, 1)
    cover = (floor * (heat > 0) + strength * heat)[..., None]
    return np.asarray((1 - cover) * grey + cover * heat_colours(heat) / 255, dtype=np.float32)


def embedded_picture(
    rgb: NDArray[np.float32], left: float, top: float, width: float, height: float | None = None
) -> str:
    """A picture (rows, columns, 3) from 0 to 1 in a rectangle, a square where no height is given, as SVG."""
    from PIL import Image

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
    extra = (f' stroke="{stroke}"' if stroke else "") + (f' fill-opacity="{opacity}"' if opacity is not None else "")
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}"{extra}/>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"{dashes}/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    size: float,
    colour: str,
    anchor: str = "start",
    weight: str = "normal",
    halo: str = "",
) -> str:
    common = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    under = f'<text {common} fill="{halo}" stroke="{halo}" stroke-width="3">{escape(words)}</text>' if halo else ""
    return f'{under}<text {common} fill="{colour}">{escape(words)}</text>'


def label(x: float, y: float, words: str, size: float = 12, weight: str = "normal", anchor: str = "start") -> str:
    """White words with a dark halo, readable over bone and air."""
    return text(x, y, words, size, "#ffffff", anchor, weight, "#000000")


def svg(width: float, height: float, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" {_FONT}>{"".join(parts)}</svg>'
    )
