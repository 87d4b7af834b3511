"""Likelihood ratios and the Fagan nomogram."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike
from scipy.special import logit

from osteo_monai.reporting.evidence.figures.shared import handle, shortened
from osteo_monai.reporting.publishing import BLUE, INK, ORANGE, SOFT, STYLE, new_figure
from osteo_monai.statistics.meta_analysis.estimates import SummaryPoint
from osteo_monai.statistics.proportions import Interval

__all__ = ["fagan_figure", "likelihood_figure"]


@mpl.rc_context(STYLE)
def likelihood_figure(tables: ArrayLike, points: Sequence[tuple[str, str, str, Interval, Interval]] = ()) -> Figure:
    """Draw the scatter of likelihood ratios with its four quadrants (LR+ 10, LR- 0.1).

    Args:
        tables: (k, 4); tables with an empty cell get 0.5 in each cell.
        points: name, marker, colour, LR+ and LR- of summaries, drawn with their intervals.
    """
    cells = np.asarray(tables, dtype=np.float64).reshape(-1, 4)
    cells = cells + 0.5 * (cells == 0).any(axis=1, keepdims=True)
    tp, fp, fn, tn = cells.T
    se, sp = tp / (tp + fn), tn / (tn + fp)
    positive, negative = se / (1 - sp), (1 - se) / sp
    figure = new_figure(5.6, 5.0)
    axis = figure.add_subplot()
    axis.set(xscale="log", yscale="log")
    axis.scatter(negative, positive, s=26, facecolor="#1d5f9733", edgecolor=BLUE, lw=0.9, zorder=3)
    handles = [handle("o", BLUE, "studies", filled=False)] if len(cells) else []
    for name, marker, colour, up, down in points:
        axis.plot([down.low, down.high], [up.value] * 2, color=colour, lw=1.2, zorder=4)
        axis.plot([down.value] * 2, [up.low, up.high], color=colour, lw=1.2, zorder=4)
        axis.scatter(down.value, up.value, marker=marker, s=120 if marker == "*" else 45, color=colour, zorder=5, lw=0)
        handles.append(handle(marker, colour, shortened(name, 40), filled=True))
    xs = [*negative, *(p[4].low for p in points), *(p[4].high for p in points)]
    ys = [*positive, *(p[3].low for p in points), *(p[3].high for p in points)]
    axis.set_xlim(min(0.02, 0.7 * min(xs)), max(1.0, 1.3 * max(xs)))
    axis.set_ylim(min(1.0, 0.8 * min(ys)), max(100.0, 1.4 * max(ys)))
    axis.axvline(0.1, color=SOFT, lw=0.9, ls=(0, (4, 3)))
    axis.axhline(10, color=SOFT, lw=0.9, ls=(0, (4, 3)))
    for x, y, ha, va, meaning in (
        (0.02, 0.985, "left", "top", "confirms and excludes"),
        (0.98, 0.985, "right", "top", "confirms"),
        (0.02, 0.015, "left", "bottom", "excludes"),
        (0.98, 0.015, "right", "bottom", "neither"),
    ):
        axis.text(x, y, meaning, transform=axis.transAxes, ha=ha, va=va, color=SOFT, fontsize=8.5, style="italic")
    axis.set(xlabel="Negative likelihood ratio", ylabel="Positive likelihood ratio")
    for which in (axis.xaxis, axis.yaxis):
        which.set_major_formatter(lambda v, _: f"{v:g}")
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=2, frameon=False, fontsize=8)
    return figure


_PROBABILITIES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)

_RATIOS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000)


@mpl.rc_context(STYLE)
def fagan_figure(prevalence: float, summary: SummaryPoint, title: str = "") -> Figure:
    """Draw Fagan's nomogram: pre-test probability, likelihood ratio, post-test probability on three straight scales.

    With the left scale at -logit(pre), the right one at logit(post) and the middle one at half the log ratio, the three
    values of one test are on a straight line: logit(post) = logit(pre) + ln LR.
    """
    figure = new_figure(4.6, 5.8)
    axis = figure.add_subplot()
    axis.axis("off")
    limit = float(logit(0.9992))
    axis.set(xlim=(-0.5, 1.5), ylim=(-limit - 0.35, limit + 1.9))
    for x in (0.0, 0.5, 1.0):
        axis.plot([x, x], [-limit, limit] if x != 0.5 else [math.log(r) / 2 for r in (0.001, 1000)], color=INK, lw=1)
    for percent in _PROBABILITIES:
        y = float(logit(percent / 100))
        for x, side, height in ((0.0, -1, -y), (1.0, 1, y)):
            axis.plot([x, x + side * 0.02], [height] * 2, color=INK, lw=0.8)
            axis.text(
                x + side * 0.035, height, f"{percent:g}", ha="right" if side < 0 else "left", va="center", fontsize=7
            )
    for ratio in _RATIOS:
        y = math.log(ratio) / 2
        axis.plot([0.49, 0.51], [y] * 2, color=INK, lw=0.8)
        number = axis.text(0.525, y, f"{ratio:g}", ha="left", va="center", fontsize=7, zorder=4)
        number.set_path_effects([withStroke(linewidth=2.5, foreground="white")])  # the lines cross the scale
    start = -float(logit(prevalence))
    ratios = summary.positive_lr.value, summary.negative_lr.value
    outcomes = zip(
        summary.post_test(prevalence),
        (ORANGE, BLUE),
        ("positive, LR+", "negative, LR\N{MINUS SIGN}"),
        ratios,
        strict=True,
    )
    for post, colour, name, ratio in outcomes:
        y, low, high = (float(logit(p)) for p in (post.value, post.low, post.high))
        axis.fill([0, 1, 1], [start, low, high], color=colour, alpha=0.13, lw=0)
        axis.plot([0, 1], [start, y], color=colour, lw=1.8)
        text = f"{name} {ratio:.2g}\n{_percent(post.value)} ({_percent(post.low)} to {_percent(post.high)})"
        axis.text(1.17, np.clip(y, -limit + 0.3, limit - 0.3), text, color=colour, va="center", fontsize=8)
    axis.scatter([0], [start], color=INK, s=22, zorder=5)
    text = f"prevalence\n{_percent(prevalence)}"
    axis.text(-0.17, start, text, ha="right", va="center", fontsize=8, fontweight="bold")
    for x, heading in (
        (0.0, "Pre-test\nprobability (%)"),
        (0.5, "Likelihood\nratio"),
        (1.0, "Post-test\nprobability (%)"),
    ):
        axis.text(x, limit + 0.25, heading, ha="center", va="bottom", fontsize=8.5)
    if title:
        axis.text(0.5, limit + 1.35, title, ha="center", va="bottom", fontsize=9, fontweight="bold")
    return figure


def _percent(p: float) -> str:
    return f"{100 * p:.1f} %" if p < 0.1 or p > 0.9 else f"{100 * p:.0f} %"
