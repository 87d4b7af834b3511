"""How results are printed: numbers, the look of figures, figures inside a self-contained HTML report, JSON."""

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from osteo_monai.statistics.proportions import Interval

INK, SOFT, RULE = "#1b242c", "#51606d", "#c3ccd4"
BLUE, ORANGE, GREEN, PURPLE = "#1d5f97", "#c2570c", "#2c7048", "#6b3fa0"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "svg.hashsalt": "osteo_monai",
    "svg.fonttype": "path",
}
"""Settings of matplotlib; use them as ``mpl.rc_context(STYLE)`` around the drawing."""

_EN_DASH, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

__all__ = [
    "BLUE",
    "GREEN",
    "INK",
    "ORANGE",
    "PURPLE",
    "RULE",
    "SOFT",
    "STYLE",
    "Picture",
    "json_ready",
    "new_figure",
    "printed_interval",
    "printed_number",
    "printed_p",
    "publish_figure",
    "report_template",
    "save_figure",
]


# --- numbers ------------------------------------------------------------------------------------------------------


def printed_number(value: float, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` decimals (none from 100 on); what is not finite is "not defined"."""
    if not math.isfinite(value):
        return "not defined"
    text = f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.0f}"
    return text.replace("-", _MINUS)


def printed_interval(i: Interval, digits: int = 3) -> str:
    """Return the estimate and, where there are bounds, the bounds in brackets."""
    if not math.isfinite(i.value):
        return "not defined"
    if not math.isfinite(i.low):
        return printed_number(i.value, digits)
    separator = " to " if min(i.value, i.low) < 0 else _EN_DASH
    bounds = f"{printed_number(i.low, digits)}{separator}{printed_number(i.high, digits)}"
    return f"{printed_number(i.value, digits)} ({bounds})"


def printed_p(p: float) -> str:
    """Return a p value with three decimals, or that it is below the last of them."""
    if not math.isfinite(p):
        return "not defined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def json_ready(value: Any) -> Any:
    """Turn intervals, numpy and NaN into what JSON can hold."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, Interval):
        return json_ready({"value": value.value, "low": value.low, "high": value.high})
    if isinstance(value, np.ndarray):
        return json_ready(value.tolist())
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


# --- figures ------------------------------------------------------------------------------------------------------


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``stem``.svg and ``stem``.png (300 dpi); the same figure gives the same SVG again."""
    with mpl.rc_context(STYLE):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None}, bbox_inches="tight", pad_inches=0.06)
        figure.savefig(stem.with_suffix(".png"), dpi=300, bbox_inches="tight", pad_inches=0.06)


@dataclass(frozen=True)
class Picture:
    """A figure in a report: its file's stem, what it shows, how to read it, the drawing as a data URI, its width."""

    name: str
    alt: str
    caption: str
    data_uri: str
    width: int


def publish_figure(figure: Figure, folder: Path, name: str, alt: str, caption: str, width: int) -> Picture:
    """Save ``figure`` below ``folder`` and return it as it stands in a report, ``width`` pixels wide."""
    stem = folder / name
    save_figure(figure, stem)
    svg = base64.b64encode(stem.with_suffix(".svg").read_bytes()).decode()
    return Picture(name, alt, caption, f"data:image/svg+xml;base64,{svg}", width)


# --- report -------------------------------------------------------------------------------------------------------


def report_template(name: str, **filters: Any) -> Template:
    """Return a template; it may include ``style.css`` and ``macros.html.j2``.

    Args:
        name: file of the template.
        **filters: added to ``ci``, ``number`` and ``p``, which print intervals, numbers and p values.
    """
    environment = Environment(
        loader=PackageLoader("osteo_monai.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ci": printed_interval, "number": printed_number, "p": printed_p, **filters}
    return environment.get_template(name)
