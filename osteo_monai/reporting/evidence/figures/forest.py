"""Paired forest plots of sensitivity and specificity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from osteo_monai.reporting.evidence.figures.shared import Array, interval_text, shortened
from osteo_monai.reporting.publishing import BLUE, ORANGE, PURPLE, RULE, SOFT, STYLE, new_figure
from osteo_monai.statistics.meta_analysis import BivariateFit
from osteo_monai.statistics.proportions import Interval, wilson

__all__ = ["forest_figure"]

_COUNT_PLACES = (0.66, 0.77, 0.88, 0.99)
"""Right edges of the four count columns, as shares of the width of the labels."""
_SIZE = 7.5


@dataclass(frozen=True)
class _Margin:
    """What is drawn of sensitivity or of specificity."""

    title: str
    studies: list[Interval]
    marker_sizes: Array
    summary: Interval | None
    prediction: Interval | None
    references: list[Interval]


@mpl.rc_context(STYLE)
def forest_figure(
    labels: Sequence[str],
    tables: ArrayLike,
    fit: BivariateFit | None = None,
    references: Sequence[tuple[str, Interval, Interval]] = (),
) -> Figure:
    """Draw paired forest plots of sensitivity and specificity with Wilson intervals.

    Args:
        labels: (k,) names of the rows.
        tables: (k, 4) TP, FP, FN, TN.
        fit: adds the summary as a diamond and the prediction interval as a line.
        references: name, sensitivity and specificity of published pooled values, drawn as open diamonds.
    """
    cells = np.asarray(tables, dtype=np.float64)
    rows = len(cells) + (2 if fit is not None else 0) + len(references)
    height = 0.9 + 0.235 * (rows + 1)
    figure = new_figure(9.4, height)
    label_axis = figure.add_axes((0.0, 0.55 / height, 0.33, 1 - 0.8 / height))
    sides = [figure.add_axes((x, 0.55 / height, 0.185, 1 - 0.8 / height)) for x in (0.335, 0.675)]
    for axis in (label_axis, *sides):
        axis.set_ylim(rows - 0.4, -1.4)
    _draw_studies(label_axis, labels, cells)
    margins = _margins(cells, fit, references)
    start = min(_start(margin) for margin in margins)
    for axis, margin in zip(sides, margins, strict=True):
        _draw_margin(axis, margin, start)
    _draw_names(label_axis, len(cells), fit is not None, [name for name, *_ in references])
    if rows > len(cells):
        for axis in (label_axis, *sides):
            axis.axhline(len(cells) - 0.5, color=RULE, lw=0.8)
    return figure


def _margins(
    cells: Array, fit: BivariateFit | None, references: Sequence[tuple[str, Interval, Interval]]
) -> tuple[_Margin, _Margin]:
    tp, fp, fn, tn = cells.T
    margins = []
    for i, (title, events, totals) in enumerate((("Sensitivity", tp, tp + fn), ("Specificity", tn, fp + tn))):
        summary = None if fit is None else (fit.summary().sensitivity, fit.summary().specificity)[i]
        margins.append(
            _Margin(
                title,
                [wilson(x, n) for x, n in zip(events, totals, strict=True)],
                np.maximum(80 * totals / totals.max(), 7.0),
                summary,
                None if fit is None else fit.prediction_intervals[i],
                [(sensitivity, specificity)[i] for _, sensitivity, specificity in references],
            )
        )
    return margins[0], margins[1]


def _draw_studies(axis: Axes, labels: Sequence[str], cells: Array) -> None:
    axis.axis("off")
    axis.set_xlim(0, 1)
    for x, heading in zip(_COUNT_PLACES, ("TP", "FP", "FN", "TN"), strict=True):
        axis.text(x, -0.9, heading, ha="right", va="center", fontsize=_SIZE, color=SOFT)
    axis.text(0, -0.9, "Study", va="center", fontsize=_SIZE, color=SOFT)
    for i, (name, counts) in enumerate(zip(labels, cells, strict=True)):
        axis.text(0, i, shortened(name, 36), va="center", fontsize=_SIZE)
        for x, count in zip(_COUNT_PLACES, counts, strict=True):
            axis.text(x, i, f"{count:.0f}", ha="right", va="center", fontsize=_SIZE)


def _draw_names(axis: Axes, y: int, with_summary: bool, references: Sequence[str]) -> None:
    if with_summary:
        axis.text(0, y, "Summary", va="center", fontsize=_SIZE, fontweight="bold", color=ORANGE)
        axis.text(0, y + 1, "95 % prediction interval of a new study", va="center", fontsize=_SIZE, color=ORANGE)
        y += 2
    for i, name in enumerate(references):
        axis.text(0, y + i, shortened(name, 60), va="center", fontsize=_SIZE, color=PURPLE)


def _start(margin: _Margin) -> float:
    """Return the lower end of an axis that shows every interval."""
    shown = [*margin.studies, *margin.references, *([margin.prediction] if margin.prediction is not None else [])]
    return max(0.0, math.floor(10 * min(interval.low for interval in shown) - 0.2) / 10)


def _draw_margin(axis: Axes, margin: _Margin, start: float) -> None:
    for i, interval in enumerate(margin.studies):
        axis.plot([interval.low, interval.high], [i, i], color=SOFT, lw=1)
        size = margin.marker_sizes[i]
        axis.scatter(interval.value, i, s=size, marker="s", color=BLUE, zorder=3, lw=0, clip_on=False)
    texts = [interval_text(interval) for interval in margin.studies]
    if margin.summary is not None and margin.prediction is not None:
        y, low, high = len(texts), margin.prediction.low, margin.prediction.high
        _diamond(axis, margin.summary, y, ORANGE, filled=True)
        axis.plot([low, high], [y + 1, y + 1], color=ORANGE, lw=2.2)
        axis.axvline(margin.summary.value, color=ORANGE, lw=0.8, ls=(0, (4, 3)), zorder=0)
        texts += [interval_text(margin.summary), f"       ({low:.2f}\N{EN DASH}{high:.2f})"]
    for interval in margin.references:
        _diamond(axis, interval, len(texts), PURPLE, filled=False)
        texts.append(interval_text(interval))
    beside: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": _SIZE}
    for i, text in enumerate(texts):
        axis.text(1.07, i, text, **beside)
    axis.set_xlim(start, 1.0)
    axis.set_title(margin.title, fontsize=9, fontweight="bold", loc="left", pad=2)
    axis.text(1.07, -0.9, "estimate (95 % CI)", color=SOFT, **beside)
    axis.spines["left"].set_visible(False)
    axis.yaxis.set_major_locator(NullLocator())
    axis.tick_params(labelsize=_SIZE)


def _diamond(axis: Axes, i: Interval, y: float, colour: str, filled: bool) -> None:
    axis.fill(
        [i.low, i.value, i.high, i.value],
        [y, y - 0.33, y, y + 0.33],
        facecolor=colour if filled else "white",
        edgecolor=colour,
        lw=1.1,
        zorder=3,
    )
