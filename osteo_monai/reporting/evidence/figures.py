"""The figures of a diagnostic meta-analysis. Each function returns a matplotlib figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from osteo_monai.reporting.publishing import BLUE, GREEN, INK, ORANGE, PURPLE, RULE, SOFT, STYLE, new_figure
from osteo_monai.statistics.meta_analysis.bivariate import BivariateFit, SummaryPoint
from osteo_monai.statistics.meta_analysis.inference import Deeks, Omission
from osteo_monai.statistics.meta_analysis.reference import PooledReference
from osteo_monai.statistics.meta_analysis.studies import (
    JUDGEMENTS,
    QUADAS_CONCERNS,
    QUADAS_DOMAINS,
    PrismaFlow,
    QuadasTable,
)
from osteo_monai.statistics.proportions import Interval, wilson

Array = NDArray[np.float64]

# lightness differs as well as hue, so that the three are told apart in grey and by colour-blind readers
JUDGEMENT_COLOURS = {"low": "#3a9d5d", "unclear": "#f2c230", "high": "#b3271e", "not stated": "#d9dfe4"}
JUDGEMENT_SIGNS = {"low": "+", "unclear": "?", "high": "\N{MINUS SIGN}", "not stated": ""}

__all__ = [
    "OwnPoint",
    "deeks_figure",
    "fagan_figure",
    "forest_figure",
    "leave_one_out_figure",
    "likelihood_figure",
    "prisma_figure",
    "quadas_figure",
    "sroc_figure",
]


@dataclass(frozen=True)
class OwnPoint:
    """One's own model on a figure: its counts TP, FP, FN, TN and its name."""

    name: str
    counts: Array


def _text(i: Interval) -> str:
    return f"{i.value:.2f} ({i.low:.2f}\N{EN DASH}{i.high:.2f})"


# --- forest -------------------------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def forest_figure(
    labels: Sequence[str],
    tables: ArrayLike,
    fit: BivariateFit | None = None,
    references: Sequence[tuple[str, Interval, Interval]] = (),
) -> Figure:
    """Return paired forest plots of sensitivity and specificity with Wilson intervals.

    Args:
        labels: (k,) names of the rows.
        tables: (k, 4) TP, FP, FN, TN.
        fit: adds the summary as a diamond and the prediction interval as a line.
        references: name, sensitivity and specificity of published pooled values, drawn as open diamonds.
    """
    cells = np.asarray(tables, dtype=np.float64)
    extra = (2 if fit is not None else 0) + len(references)
    rows = len(cells) + extra
    height = 0.9 + 0.235 * (rows + 1)
    figure = new_figure(9.4, height)
    label_axis = figure.add_axes((0.0, 0.55 / height, 0.33, 1 - 0.8 / height))
    sides = [figure.add_axes((x, 0.55 / height, 0.185, 1 - 0.8 / height)) for x in (0.335, 0.675)]
    for axis in (label_axis, *sides):
        axis.set_ylim(rows - 0.4, -1.4)
    label_axis.axis("off")
    label_axis.set_xlim(0, 1)
    for x, word in zip((0.66, 0.77, 0.88, 0.99), ("TP", "FP", "FN", "TN"), strict=True):
        label_axis.text(x, -0.9, word, ha="right", va="center", fontsize=7.5, color=SOFT)
    label_axis.text(0, -0.9, "Study", va="center", fontsize=7.5, color=SOFT)
    for i, (name, row) in enumerate(zip(labels, cells, strict=True)):
        label_axis.text(0, i, _shortened(name, 36), va="center", fontsize=7.5)
        for place, count in zip((0.66, 0.77, 0.88, 0.99), row, strict=True):
            label_axis.text(place, i, f"{count:.0f}", ha="right", va="center", fontsize=7.5)
    pairs = ((cells[:, 0], cells[:, 0] + cells[:, 2]), (cells[:, 3], cells[:, 1] + cells[:, 3]))
    for which, (axis, (events, totals)) in enumerate(zip(sides, pairs, strict=True)):
        found = [wilson(x, n) for x, n in zip(events, totals, strict=True)]
        sizes = 14 + 40 * np.sqrt(totals / totals.max())
        for i, interval in enumerate(found):
            axis.plot([interval.low, interval.high], [i, i], color=SOFT, lw=1)
            axis.scatter(interval.value, i, s=sizes[i], marker="s", color=BLUE, zorder=3, lw=0, clip_on=False)
        texts = [_text(interval) for interval in found]
        y = len(cells)
        if fit is not None:
            pooled = (fit.summary().sensitivity, fit.summary().specificity)[which]
            predicted = fit.prediction_intervals[which]
            _diamond(axis, pooled, y, ORANGE, filled=True)
            axis.plot([predicted.low, predicted.high], [y + 1, y + 1], color=ORANGE, lw=2.2)
            axis.axvline(pooled.value, color=ORANGE, lw=0.8, ls=(0, (4, 3)), zorder=0)
            texts += [_text(pooled), f"       ({predicted.low:.2f}\N{EN DASH}{predicted.high:.2f})"]
            y += 2
        theirs = [(se, sp)[which] for _, se, sp in references]
        for j, reference in enumerate(theirs):
            _diamond(axis, reference, y + j, PURPLE, filled=False)
            texts.append(_text(reference))
        for i, text in enumerate(texts):
            axis.text(1.07, i, text, transform=axis.get_yaxis_transform(), va="center", fontsize=7.5)
        lows = [f.low for f in found] + [r.low for r in theirs]
        if fit is not None:
            lows.append(predicted.low)
        axis.set_xlim(max(0.0, math.floor(10 * min(lows) - 0.2) / 10), 1.0)
        axis.set_title(("Sensitivity", "Specificity")[which], fontsize=9, fontweight="bold", loc="left", pad=2)
        axis.text(1.07, -0.9, "estimate (95 % CI)", transform=axis.get_yaxis_transform(), fontsize=7.5, color=SOFT,
                  va="center")  # fmt: skip
        axis.spines["left"].set_visible(False)
        axis.yaxis.set_major_locator(NullLocator())
        axis.tick_params(labelsize=7.5)
    y = len(cells)
    if fit is not None:
        label_axis.text(0, y, "Summary", va="center", fontsize=7.5, fontweight="bold", color=ORANGE)
        label_axis.text(0, y + 1, "95 % prediction interval of a new study", va="center", fontsize=7.5, color=ORANGE)
        y += 2
    for j, (name, *_) in enumerate(references):
        label_axis.text(0, y + j, _shortened(name, 60), va="center", fontsize=7.5, color=PURPLE)
    if extra:
        for axis in (label_axis, *sides):
            axis.axhline(len(cells) - 0.5, color=RULE, lw=0.8)
    return figure


def _diamond(axis: Axes, i: Interval, y: float, colour: str, filled: bool) -> None:
    axis.fill([i.low, i.value, i.high, i.value], [y, y - 0.33, y, y + 0.33], facecolor=colour if filled else "white",
              edgecolor=colour, lw=1.1, zorder=3)  # fmt: skip


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


# --- SROC space ---------------------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def sroc_figure(
    tables: ArrayLike | None = None,
    fit: BivariateFit | None = None,
    auc: Interval | None = None,
    reference: PooledReference | None = None,
    own: OwnPoint | None = None,
    reference_name: str = "Wang 2025",
) -> Figure:
    """Return the SROC space: studies, summary point with regions and curve, a review's pooled point, one's own model.

    The curve is drawn over the false positive rates of the studies; beyond them it would be extrapolation.
    """
    figure = new_figure(5.6, 5.4)
    axis = figure.add_subplot()
    handles: list[Line2D | Rectangle] = []
    if tables is not None and len(np.asarray(tables)):
        tp, fp, fn, tn = np.asarray(tables, dtype=np.float64).T
        size = 16 + 110 * (tp + fp + fn + tn) / (tp + fp + fn + tn).max()
        axis.scatter(
            fp / (fp + tn),
            tp / (tp + fn),
            s=size,
            facecolor="#1d5f9733",
            edgecolor=BLUE,
            lw=0.8,
            zorder=3,
            clip_on=False,
        )
        handles.append(_handle("o", BLUE, "studies (area: subjects)", filled=False))
    if fit is not None:
        handles += _draw_fit(axis, fit, auc)
    if reference is not None:
        se, fpr = reference.sensitivity, 1 - reference.specificity.value
        axis.plot([1 - reference.specificity.high, 1 - reference.specificity.low], [se.value] * 2, color=PURPLE, lw=1.3)
        axis.plot([fpr] * 2, [se.low, se.high], color=PURPLE, lw=1.3)
        axis.scatter(fpr, se.value, marker="D", s=42, facecolor="white", edgecolor=PURPLE, lw=1.4, zorder=5)
        handles.append(
            _handle("D", PURPLE, f"{reference_name}, {reference.models} models pooled, 95 % CI", filled=False)
        )
    if own is not None:
        tp, fp, fn, tn = own.counts
        se, one_minus = wilson(tp, tp + fn), wilson(fp, fp + tn)
        axis.add_patch(Rectangle((one_minus.low, se.low), one_minus.high - one_minus.low, se.high - se.low,
                                 facecolor="#2c704822", edgecolor=GREEN, lw=0.9, zorder=4))  # fmt: skip
        axis.scatter(one_minus.value, se.value, marker="*", s=150, color=GREEN, zorder=6, lw=0)
        handles.append(_handle("*", GREEN, f"{_shortened(own.name, 34)}, 95 % CI", filled=True))
    axis.plot([0, 1], [0, 1], color=RULE, lw=0.8, zorder=0)
    wide = _leaves_the_corner(tables, fit, own)
    end, start = (1.0, 0.0) if wide else (0.5, 0.5)
    axis.set(
        xlim=(-0.01 * end, end),
        ylim=(start, 1 + 0.01 * end),
        xlabel="1 \N{MINUS SIGN} specificity",
        ylabel="Sensitivity",
    )
    axis.set_aspect("equal")
    axis.legend(handles=handles, loc="lower right", frameon=False, fontsize=8)
    return figure


def _leaves_the_corner(tables: ArrayLike | None, fit: BivariateFit | None, own: OwnPoint | None) -> bool:
    """Whether anything lies outside the upper left quarter, where good tests are and the figure looks closer."""
    rows = [np.asarray(tables, dtype=np.float64).reshape(-1, 4)] if tables is not None else []
    cells = np.vstack([*rows, *([own.counts[None]] if own is not None else [])])
    tp, fp, fn, tn = cells.T
    outside = (fp / (fp + tn) > 0.45).any() or (tp / (tp + fn) < 0.55).any()
    if fit is not None:
        x, y = fit.region("prediction").T
        outside = outside or x.max() > 0.5 or y.min() < 0.5
    return bool(outside)


def _handle(marker: str, colour: str, label: str, filled: bool) -> Line2D:
    return Line2D([], [], ls="", marker=marker, color=colour, label=label, ms=10 if marker == "*" else 7,
                  markerfacecolor=colour if filled else "white")  # fmt: skip


def _draw_fit(axis: Axes, fit: BivariateFit, auc: Interval | None) -> list[Line2D | Rectangle]:
    handles: list[Line2D | Rectangle] = []
    if np.isfinite(fit.auc):
        _, fp, _, tn = fit.tables.T
        rates = (fp + 0.5) / (fp + tn + 1)
        grid = expit(np.linspace(logit(rates.min()), logit(rates.max()), 300))
        axis.plot(grid, fit.sroc(grid), color=INK, lw=1.5, zorder=4)
        label = f"SROC curve, AUC {fit.auc:.2f}"
        if auc is not None and np.isfinite(auc.low):
            label = f"SROC curve, AUC {_text(auc)}"
        handles.append(Line2D([], [], color=INK, lw=1.5, label=label))
    for kind, style, width in (("confidence", "-", 1.3), ("prediction", (0, (4, 3)), 1.1)):
        x, y = fit.region(kind).T  # type: ignore[arg-type]
        axis.plot(x, y, color=ORANGE, lw=width, ls=style, zorder=4)
        handles.append(Line2D([], [], color=ORANGE, lw=width, ls=style, label=f"95 % {kind} region"))
    s = fit.summary()
    axis.scatter(1 - s.specificity.value, s.sensitivity.value, marker="s", s=48, color=ORANGE, zorder=5, lw=0)
    handles.insert(
        0, _handle("s", ORANGE, f"summary: Se {s.sensitivity.value:.2f}, Sp {s.specificity.value:.2f}", True)
    )
    return handles


# --- likelihood ratios --------------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def likelihood_figure(tables: ArrayLike, points: Sequence[tuple[str, str, str, Interval, Interval]] = ()) -> Figure:
    """Return the scatter of likelihood ratios with its four quadrants (LR+ 10, LR- 0.1).

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
    handles = [_handle("o", BLUE, "studies", filled=False)] if len(cells) else []
    for name, marker, colour, up, down in points:
        axis.plot([down.low, down.high], [up.value] * 2, color=colour, lw=1.2, zorder=4)
        axis.plot([down.value] * 2, [up.low, up.high], color=colour, lw=1.2, zorder=4)
        axis.scatter(down.value, up.value, marker=marker, s=120 if marker == "*" else 45, color=colour, zorder=5, lw=0)
        handles.append(_handle(marker, colour, _shortened(name, 40), filled=True))
    xs = [*negative, *(p[4].low for p in points), *(p[4].high for p in points)]
    ys = [*positive, *(p[3].low for p in points), *(p[3].high for p in points)]
    axis.set_xlim(min(0.02, 0.7 * min(xs)), max(1.0, 1.3 * max(xs)))
    axis.set_ylim(min(1.0, 0.8 * min(ys)), max(100.0, 1.4 * max(ys)))
    axis.axvline(0.1, color=SOFT, lw=0.9, ls=(0, (4, 3)))
    axis.axhline(10, color=SOFT, lw=0.9, ls=(0, (4, 3)))
    for x, y, ha, va, words in (
        (0.02, 0.985, "left", "top", "confirms and excludes"),
        (0.98, 0.985, "right", "top", "confirms"),
        (0.02, 0.015, "left", "bottom", "excludes"),
        (0.98, 0.015, "right", "bottom", "neither"),
    ):
        axis.text(x, y, words, transform=axis.transAxes, ha=ha, va=va, color=SOFT, fontsize=8.5, style="italic")
    axis.set(xlabel="Negative likelihood ratio", ylabel="Positive likelihood ratio")
    for which in (axis.xaxis, axis.yaxis):
        which.set_major_formatter(lambda v, _: f"{v:g}")
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=2, frameon=False, fontsize=8)
    return figure


_PROBABILITIES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)
_RATIOS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000)


@mpl.rc_context(STYLE)
def fagan_figure(prevalence: float, summary: SummaryPoint, title: str = "") -> Figure:
    """Return Fagan's nomogram: pre-test probability, likelihood ratio, post-test probability on three straight scales.

    With the left scale at -logit(pre), the right one at logit(post) and the middle one at half the log ratio, the three
    values of one test lie on a straight line: logit(post) = logit(pre) + ln LR.
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
            axis.text(x + side * 0.035, height, f"{percent:g}", ha="right" if side < 0 else "left", va="center",
                      fontsize=7)  # fmt: skip
    for ratio in _RATIOS:
        y = math.log(ratio) / 2
        axis.plot([0.49, 0.51], [y] * 2, color=INK, lw=0.8)
        number = axis.text(0.525, y, f"{ratio:g}", ha="left", va="center", fontsize=7, zorder=4)
        number.set_path_effects([withStroke(linewidth=2.5, foreground="white")])  # the lines run through the scale
    start = -float(logit(prevalence))
    ratios = summary.positive_lr.value, summary.negative_lr.value
    found = zip(summary.post_test(prevalence), (ORANGE, BLUE), ("positive, LR+", "negative, LR\N{MINUS SIGN}"), ratios,
                strict=True)  # fmt: skip
    for post, colour, word, ratio in found:
        y, low, high = (float(logit(p)) for p in (post.value, post.low, post.high))
        axis.fill([0, 1, 1], [start, low, high], color=colour, alpha=0.13, lw=0)
        axis.plot([0, 1], [start, y], color=colour, lw=1.8)
        text = f"{word} {ratio:.2g}\n{_percent(post.value)} ({_percent(post.low)} to {_percent(post.high)})"
        axis.text(1.17, np.clip(y, -limit + 0.3, limit - 0.3), text, color=colour, va="center", fontsize=8)
    axis.scatter([0], [start], color=INK, s=22, zorder=5)
    text = f"prevalence\n{_percent(prevalence)}"
    axis.text(-0.17, start, text, ha="right", va="center", fontsize=8, fontweight="bold")
    for x, words in (
        (0.0, "Pre-test\nprobability (%)"),
        (0.5, "Likelihood\nratio"),
        (1.0, "Post-test\nprobability (%)"),
    ):
        axis.text(x, limit + 0.25, words, ha="center", va="bottom", fontsize=8.5)
    if title:
        axis.text(0.5, limit + 1.35, title, ha="center", va="bottom", fontsize=9, fontweight="bold")
    return figure


def _percent(p: float) -> str:
    return f"{100 * p:.1f} %" if p < 0.1 or p > 0.9 else f"{100 * p:.0f} %"


# --- sensitivity analyses -----------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def deeks_figure(test: Deeks) -> Figure:
    """Return Deeks' funnel: diagnostic odds ratio against 1 / sqrt(effective sample size), with the regression."""
    figure = new_figure(4.8, 4.2)
    axis = figure.add_subplot()
    inverse = 1 / np.sqrt(test.ess)
    axis.scatter(np.exp(test.log_dor), inverse, s=28, facecolor="#1d5f9733", edgecolor=BLUE, lw=0.9, zorder=3)
    ends = np.array([inverse.min(), inverse.max()])
    axis.plot(np.exp(test.intercept + test.slope * ends), ends, color=ORANGE, lw=1.5)
    axis.set_xscale("log")
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axis.set(xlabel="Diagnostic odds ratio", ylabel="1 / \N{SQUARE ROOT}(effective sample size)")
    axis.set_title(f"Deeks' test: p = {test.p:.3f}" if test.p >= 0.001 else "Deeks' test: p < 0.001", fontsize=9,
                   loc="left")  # fmt: skip
    return figure


@mpl.rc_context(STYLE)
def leave_one_out_figure(omissions: Sequence[Omission], fit: BivariateFit) -> Figure:
    """Return the summary sensitivity and specificity without each study, against the summary of all (line and band)."""
    rows = len(omissions)
    height = 1.0 + 0.2 * rows
    figure = new_figure(7.2, height)
    axes = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.34, right=0.99, wspace=0.08, top=1 - 0.3 / height, bottom=0.42 / height)
    for which, (axis, word) in enumerate(zip(axes, ("Sensitivity", "Specificity"), strict=True)):
        whole = (fit.summary().sensitivity, fit.summary().specificity)[which]
        axis.axvspan(whole.low, whole.high, color=ORANGE, alpha=0.12, lw=0)
        axis.axvline(whole.value, color=ORANGE, lw=1)
        for i, one in enumerate(omissions):
            if one.summary is None:
                axis.text(whole.value, i, "no estimate", fontsize=7, va="center", ha="center", color=SOFT)
                continue
            found = (one.summary.sensitivity, one.summary.specificity)[which]
            axis.plot([found.low, found.high], [i, i], color=SOFT, lw=1)
            axis.scatter(found.value, i, s=18, color=BLUE, zorder=3, lw=0)
        axis.set_title(word, fontsize=9, fontweight="bold", loc="left")
        axis.tick_params(labelsize=7.5)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(rows), [_shortened(f"without {o.omitted}", 44) for o in omissions], color=INK)
    axes[0].set_ylim(rows - 0.4, -0.6)
    return figure


# --- quality and flow ---------------------------------------------------------------------------------------------

_DOMAIN_WORDS = {
    "patient_selection": "Patient selection",
    "index_test": "Index test",
    "reference_standard": "Reference standard",
    "flow_and_timing": "Flow and timing",
}


@mpl.rc_context(STYLE)
def quadas_figure(table: QuadasTable) -> Figure:
    """Return QUADAS-2 as a bar per domain (share of the studies) above a traffic light per study and domain."""
    k = len(table.studies)
    show_concern = any(value != "not stated" for row in table.concern for value in row)
    groups: list[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]] = [
        ("Risk of bias", QUADAS_DOMAINS, table.risk)
    ]
    if show_concern:
        groups.append(("Applicability concerns", QUADAS_CONCERNS, table.concern))
    columns = [
        (group, domain, [row[i] for row in rows]) for group, names, rows in groups for i, domain in enumerate(names)
    ]
    top, lights = 0.26 * len(columns) + 0.55, 0.235 * k + 0.9
    total = top + lights
    figure = new_figure(6.8, total)
    bars = figure.add_axes((0.36, 1 - (top - 0.45) / total, 0.62, (top - 0.55) / total))
    for y, (_, _, values) in enumerate(columns):
        left = 0.0
        for judgement in JUDGEMENTS:
            share = sum(v == judgement for v in values) / k
            bars.barh(y, share, left=left, color=JUDGEMENT_COLOURS[judgement], height=0.72, edgecolor="white", lw=0.8)
            if share >= 0.03:
                bars.text(left + share / 2, y, f"{round(share * k)}", ha="center", va="center", fontsize=7.5,
                          color="white" if judgement in ("low", "high") else INK)  # fmt: skip
            left += share
    words = [_DOMAIN_WORDS[d] + ("" if g == "Risk of bias" else " (applicability)") for g, d, _ in columns]
    bars.set_yticks(range(len(columns)), words, fontsize=8, color=INK)
    bars.set(xlim=(0, 1), ylim=(len(columns) - 0.45, -0.55))
    bars.xaxis.set_major_formatter(PercentFormatter(1.0))
    bars.tick_params(axis="y", length=0)
    bars.spines["left"].set_visible(False)
    grid = figure.add_axes((0.36, 0.3 / total, 0.62, (lights - 0.75) / total))
    for x, (_, _, values) in enumerate(columns):
        for y, value in enumerate(values):
            grid.scatter(x, y, s=92, color=JUDGEMENT_COLOURS[value], lw=0)
            grid.text(x, y, JUDGEMENT_SIGNS[value], ha="center", va="center", fontsize=8, fontweight="bold",
                      color="white" if value in ("low", "high") else INK)  # fmt: skip
    grid.set(xlim=(-0.6, len(columns) - 0.4), ylim=(k - 0.4, -0.6))
    grid.set_yticks(range(k), [_shortened(s, 40) for s in table.studies], fontsize=7.5, color=INK)
    grid.set_xticks(range(len(columns)), [_DOMAIN_WORDS[d].replace(" ", "\n", 1) for _, d, _ in columns], fontsize=7.5)
    grid.xaxis.tick_top()
    grid.tick_params(length=0, labelcolor=INK)
    for spine in grid.spines.values():
        spine.set_visible(False)
    if show_concern:
        grid.axvline(len(QUADAS_DOMAINS) - 0.5, color=RULE, lw=1)
    shown = [j for j in JUDGEMENTS if any(j in values for _, _, values in columns)]
    handles = [Line2D([], [], ls="", marker="o", ms=8, color=JUDGEMENT_COLOURS[j], label=j) for j in shown]
    figure.legend(handles=handles, loc="lower center", ncol=len(shown), frameon=False, fontsize=8,
                  bbox_to_anchor=(0.67, 0.0))  # fmt: skip
    return figure


@mpl.rc_context(STYLE)
def prisma_figure(flow: PrismaFlow) -> Figure:
    """Return the PRISMA 2020 flow diagram of database searches."""

    def listed(counts: Mapping[str, int]) -> list[str]:
        # a single reason needs no number of its own: it is the sum above it
        return [f"{reason}: {n}" if len(counts) > 1 else reason for reason, n in counts.items()]

    stages = [
        ("Identification", [f"Records identified: {sum(flow.identified.values())}", *listed(flow.identified)],
         [f"Removed before screening: {sum(flow.removed.values())}", *listed(flow.removed)]),
        ("Screening", [f"Records screened: {flow.screened}"],
         [f"Records excluded: {sum(flow.excluded.values())}", *listed(flow.excluded)]),
        ("Eligibility", [f"Full texts assessed: {flow.assessed}"],
         [f"Full texts excluded: {sum(flow.excluded_full_text.values())}", *listed(flow.excluded_full_text)]),
        ("Included", [f"Studies in the review: {flow.included}",
                      f"Studies in the meta-analysis: {flow.in_meta_analysis}"], []),
    ]  # fmt: skip
    line, pad, gap = 0.2, 0.2, 0.34
    heights = [max(len(left), len(right)) * line + pad for _, left, right in stages]
    total = sum(heights) + gap * (len(stages) - 1)
    figure = new_figure(6.6, total + 0.1)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 6.6), ylim=(0, total + 0.1))
    axis.axis("off")
    y = total + 0.05
    for i, ((stage, left, right), height) in enumerate(zip(stages, heights, strict=True)):
        axis.add_patch(Rectangle((0.02, y - height), 0.3, height, facecolor="#e3eaf1", lw=0))
        axis.text(0.17, y - height / 2, stage, rotation=90, ha="center", va="center", fontsize=6.5, color=SOFT)
        _box(axis, 0.5, y, 2.75, height, left)
        if right:
            _box(axis, 3.75, y, 2.75, height, right)
            axis.annotate("", (3.73, y - height / 2), (3.27, y - height / 2), arrowprops=_ARROW)
        if i + 1 < len(stages):
            axis.annotate("", (1.88, y - height - gap + 0.02), (1.88, y - height - 0.02), arrowprops=_ARROW)
        y -= height + gap
    return figure


_ARROW = {"arrowstyle": "-|>", "color": SOFT, "lw": 1, "shrinkA": 0, "shrinkB": 0}


def _box(axis: Axes, x: float, top: float, width: float, height: float, lines: Sequence[str]) -> None:
    axis.add_patch(FancyBboxPatch((x, top - height), width, height, boxstyle="round,pad=0,rounding_size=0.05",
                                  facecolor="white", edgecolor=SOFT, lw=0.9))  # fmt: skip
    for i, text in enumerate(lines):
        middle = top - height / 2 + (len(lines) / 2 - i - 0.5) * 0.2
        axis.text(
            x + 0.12, middle, _shortened(text, 46), va="center", fontsize=8, fontweight="bold" if i == 0 else None
        )
