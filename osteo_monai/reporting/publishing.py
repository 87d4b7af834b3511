"""Style and files of matplotlib figures, and results as JSON."""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from osteo_monai.reporting.drawing import Picture
from osteo_monai.statistics.proportions import Interval
from osteo_monai.utils.files import writing
from osteo_monai.utils.inputs import read_input

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
"""Settings of matplotlib; draw inside ``mpl.rc_context(STYLE)``."""

__all__ = [
    "BLUE",
    "GREEN",
    "INK",
    "ORANGE",
    "PURPLE",
    "RULE",
    "SOFT",
    "STYLE",
    "json_ready",
    "new_figure",
    "publish_figure",
    "save_figure",
]


def json_ready(value: Any) -> Any:
    """Return a value as JSON types: intervals as objects, NumPy as lists and numbers, NaN and infinity as ``None``."""
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


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches; it needs no display."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``stem``.svg and ``stem``.png (300 dpi); the SVG is reproducible.

    Raises:
        OSError: if the folder cannot be written.
    """
    with mpl.rc_context(STYLE):
        with writing(stem.with_suffix(".svg")) as temporary:
            figure.savefig(temporary, metadata={"Date": None}, bbox_inches="tight", pad_inches=0.06)
        with writing(stem.with_suffix(".png")) as temporary:
            figure.savefig(temporary, dpi=300, bbox_inches="tight", pad_inches=0.06)


def publish_figure(figure: Figure, folder: Path, name: str, alt: str, caption: str, width: int) -> Picture:
    """Save ``figure`` as ``folder/name`` and return it for a report, ``width`` pixels wide."""
    stem = folder / name
    save_figure(figure, stem)
    return Picture(read_input(stem.with_suffix(".svg")), alt, caption, width)
