"""Figures of an evaluation; each function returns a matplotlib figure of one cohort."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter
from numpy.typing import NDArray

from osteo_monai.domain import DensityThresholds
from osteo_monai.reporting.evaluation.tables.performance import RocLine
from osteo_monai.reporting.numbers import printed_interval
from osteo_monai.reporting.publishing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RULE,
    SOFT,
    STYLE,
    new_figure,
)
from osteo_monai.statistics.agreement import Agreement
from osteo_monai.statistics.calibration import Calibration
from osteo_monai.statistics.decision import DecisionCurve
from osteo_monai.statistics.flexible_calibration import FlexibleCalibration
from osteo_monai.statistics.precision_recall import PrecisionRecall

Array = NDArray[np.float64]
Reliability = tuple[str, Calibration, FlexibleCalibration | None, NDArray[np.float64]]
"""Model, its calibration, its flexible curve, and the predicted probabilities."""
"""Name of a model, its calibration, and its flexible curve, if there is one."""

# lightness, hue and dashes differ, for grey print and colour-blind readers
LINES = (
    (BLUE, "-"),
    (ORANGE, (0, (5, 2))),
    (GREEN, (0, (1.5, 1.5))),
    (PURPLE, (0, (6, 2, 1.5, 2))),
    ("#8a6d00", (0, (3, 1))),
    ("#4d4d4d", (0, (8, 3))),
)
"""Colour and dashes of each model, in their order."""

MARKERS = ("o", "s", "^", "D", "v", "P")

__all__ = [
    "Reliability",
    "agreement_figure",
    "confusion_figure",
    "decision_figure",
    "line_of",
    "precision_figure",
    "reliability_figure",
    "roc_figure",
]


def line_of(index: int) -> dict[str, Any]:
    """Return the colour and dashes of the model at ``index``."""
    colour, dashes = LINES[index % len(LINES)]
    return {"color": colour, "ls": dashes}


def _short(text: str, length: int = 30) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _name(name: str) -> str:
    return name.replace("_", " ")


def _notice(figure: Figure, notice: str) -> None:
    if notice:
        figure.text(0.01, 0.95, notice, ha="left", va="bottom", fontsize=8, color=ORANGE, fontweight="bold")


def _legend_below(axis: Axes) -> None:
    axis.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.19), frameon=False, fontsize=7.5, handlelength=3.2)


# --- ROC ----------------------------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def roc_figure(by_class: Mapping[str, Sequence[RocLine]], models: Sequence[str], notice: str = "") -> Figure:
    """Return one ROC panel per class with all models, each with its pointwise band.

    Args:
        by_class: class to the curves of the models that have a score for it.
        models: all models, which fixes their colours.
        notice: printed above, such as "virtual patients".
    """
    figure = new_figure(3.25 * len(by_class) + 0.4, 3.6)
    axes = figure.subplots(1, len(by_class), squeeze=False)[0]
    for axis, (name, lines) in zip(axes, by_class.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=RULE, lw=0.8, zorder=0)
        for line in lines:
            look = line_of(models.index(line.model))
            if line.band is not None:
                axis.fill_between(line.band.fpr, line.band.low, line.band.high, color=look["color"], alpha=0.13, lw=0)
            label = f"{_short(line.model)}\nAUC {printed_interval(line.area)}"
            axis.plot(line.curve.fpr, line.curve.tpr, lw=1.5, label=label, **look)
        axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 \N{MINUS SIGN} specificity")
        axis.set_title(f"{_name(name).capitalize()} against the rest", fontsize=9, fontweight="bold", loc="left")
        axis.set_aspect("equal")
        axis.xaxis.set_major_locator(MultipleLocator(0.25))
        axis.yaxis.set_major_locator(MultipleLocator(0.25))
        _legend_below(axis)
    axes[0].set_ylabel("Sensitivity")
    figure.subplots_adjust(wspace=0.28, left=0.08, right=0.98)
    _notice(figure, notice)
    return figure


@mpl.rc_context(STYLE)
def precision_figure(curves: Mapping[str, PrecisionRecall], models: Sequence[str], notice: str = "") -> Figure:
    """Return the precision-recall curves of the models of one cohort, with the share of positive cases.

    Args:
        curves: model to its curve.
        models: all models, which fixes their colours.
        notice: printed above.
    """
    figure = new_figure(3.65, 3.6)
    axis = figure.add_subplot()
    for share in sorted({round(curve.prevalence, 9) for curve in curves.values()}):
        axis.axhline(share, color=SOFT, lw=1, ls=(0, (2, 2)), zorder=0)
    for model, curve in curves.items():
        # a step holds between two recalls; the last point, recall 0 with precision 1, is of no case
        axis.step(
            curve.recall[:-1],
            curve.precision[:-1],
            where="post",
            lw=1.5,
            label=f"{_short(model)}\nAP {printed_interval(curve.average)}",
            **line_of(models.index(model)),
        )
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="Recall (sensitivity)", ylabel="Precision (PPV)")
    axis.set_title("Osteoporosis against the rest", fontsize=9, fontweight="bold", loc="left")
    axis.set_aspect("equal")
    axis.xaxis.set_major_locator(MultipleLocator(0.25))
    axis.yaxis.set_major_locator(MultipleLocator(0.25))
    _legend_below(axis)
    figure.subplots_adjust(left=0.15, right=0.98)
    _notice(figure, notice)
    return figure


# --- confusion matrices -------------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def confusion_figure(matrices: Mapping[str, tuple[Sequence[str], NDArray[np.int64]]], notice: str = "") -> Figure:
    """Return one confusion matrix per model: counts, and the share of the row in shades and brackets.

    Args:
        matrices: model to its classes and its (classes, classes) counts, rows true, columns predicted.
        notice: printed above.
    """
    columns = 2 if len(matrices) in (2, 4) else min(3, len(matrices))
    rows = -(-len(matrices) // columns)
    figure = new_figure(3.3 * columns + 0.3, 3.0 * rows + 0.2)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(matrices) :]:
        axis.axis("off")
    for axis, (model, (classes, counts)) in zip(axes, matrices.items(), strict=False):
        totals = counts.sum(axis=1, keepdims=True)
        share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1.25)
        for i, j in np.ndindex(*counts.shape):
            colour = "white" if share[i, j] > 0.62 else INK
            text = f"{counts[i, j]:.0f}\n({100 * share[i, j]:.1f} %)" if totals[i] > 0 else "0"
            axis.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
        names = [_name(name).replace("no osteoporosis", "no\nosteoporosis") for name in classes]
        axis.set_xticks(range(len(classes)), names, fontsize=6.5)
        axis.set_yticks(range(len(classes)), names, fontsize=6.5, rotation=90, va="center")
        axis.set(xlabel="Predicted", ylabel="True")
        axis.set_title(_short(model, 40), fontsize=9, fontweight="bold")
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    figure.subplots_adjust(wspace=0.4, hspace=0.5)
    _notice(figure, notice)
    return figure


# --- calibration --------------------------------------------------------------------------------------------------


_FLOOR = -0.18
"""Ordinate of the base of the distributions below a reliability diagram."""


@mpl.rc_context(STYLE)
def reliability_figure(
    by_class: Mapping[str, Sequence[Reliability]], models: Sequence[str], notice: str = ""
) -> Figure:
    """Return one reliability diagram per class: bins with intervals, the flexible curve with its band, and below
    the zero line the distribution of the predicted probabilities of each model.

    Args:
        by_class: class to the models, their calibrations, curves and probabilities.
        models: all models, which fixes their colours.
        notice: printed above.
    """
    figure = new_figure(3.25 * len(by_class) + 0.4, 3.9)
    axes = figure.subplots(1, len(by_class), squeeze=False)[0]
    for axis, (name, results) in zip(axes, by_class.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=RULE, lw=1, zorder=0)
        axis.axhline(0, color=RULE, lw=0.8, zorder=0)
        for model, c, smooth, probabilities in results:
            index = models.index(model)
            look = line_of(index)
            shares = c.curve.observed
            y = np.array([share.value for share in shares])
            bars = np.array([[share.value - share.low, share.high - share.value] for share in shares]).T
            axis.errorbar(c.curve.predicted, y, yerr=np.clip(bars, 0, None), fmt="none", ecolor=look["color"], lw=0.8)
            text = f"{_short(model)}\nslope {printed_interval(c.slope, 2)}, ECE {c.ece:.3f}"
            marker = MARKERS[index % len(MARKERS)]
            plain = smooth is None
            axis.plot(
                c.curve.predicted, y, marker=marker, ms=4.5, lw=1.2, label=text, **look | ({} if plain else {"ls": ""})
            )
            if smooth is not None:
                axis.fill_between(smooth.predicted, smooth.low, smooth.high, color=look["color"], alpha=0.13, lw=0)
                axis.plot(smooth.predicted, smooth.observed, lw=1.4, **look)
            counts, edges = np.histogram(probabilities, 50, (0.0, 1.0))
            heights = _FLOOR + (-0.03 - _FLOOR) * counts / counts.max()
            axis.stairs(heights, edges, baseline=_FLOOR, color=look["color"], lw=0.9)
        axis.set(xlim=(-0.02, 1.02), ylim=(_FLOOR - 0.01, 1.02), xlabel="Predicted probability")
        axis.set_title(_name(name).capitalize(), fontsize=9, fontweight="bold", loc="left")
        axis.set_aspect("equal")
        axis.xaxis.set_major_locator(MultipleLocator(0.25))
        axis.set_yticks(np.linspace(0, 1, 5))
        _legend_below(axis)
    axes[0].set_ylabel("Observed share")
    figure.subplots_adjust(wspace=0.28, left=0.08, right=0.98)
    _notice(figure, notice)
    return figure


# --- decision curve -----------------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def decision_figure(curves: Mapping[str, DecisionCurve], models: Sequence[str], notice: str = "") -> Figure:
    """Return the decision curves of the models of one cohort, with acting on all and on none.

    Args:
        curves: model to its curve.
        models: all models, which fixes their colours.
        notice: printed above.
    """
    figure = new_figure(5.4, 3.7)
    axis = figure.add_subplot()
    several = list(curves.values())
    prevalences = {round(curve.prevalence, 9) for curve in several}
    for i, curve in enumerate(several if len(prevalences) > 1 else several[:1]):
        axis.plot(
            curve.thresholds, curve.treat_all, color=SOFT, lw=1, ls=(0, (2, 2)), label="act on all" if i == 0 else None
        )
    axis.axhline(0, color=INK, lw=1, label="act on none")
    for model, curve in curves.items():
        look = line_of(models.index(model))
        axis.fill_between(curve.thresholds, curve.low, curve.high, color=look["color"], alpha=0.13, lw=0)
        axis.plot(curve.thresholds, curve.net_benefit, lw=1.5, label=_short(model), **look)
    top = max(float(np.nanmax([curve.prevalence, *curve.high])) for curve in several)
    top = top if top > 0 else 0.1  # a cohort without osteoporosis has no benefit at any threshold
    axis.set(
        xlim=(0, _last_threshold(several)),
        ylim=(-0.25 * top, 1.05 * top),
        xlabel="Threshold probability of osteoporosis",
        ylabel="Net benefit (true positives per image)",
    )
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(
        loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2, frameon=False, fontsize=8, handlelength=3.2
    )  # below the axes, where no curve is covered
    _notice(figure, notice)
    return figure


_HIGHEST_THRESHOLD = 0.5
"""Last threshold of the figure, as of the table, unless osteoporosis is more frequent."""


def _last_threshold(curves: Sequence[DecisionCurve]) -> float:
    """Return the threshold at which the figure ends, rounded up to a tenth.

    Above it no curve acts on a case, or acting requires a larger risk than a half and the share of osteoporosis.
    """
    acting = [float(c.thresholds[(c.tp_rate + c.fp_rate) > 0].max(initial=0.1)) for c in curves]
    frequent = max(_HIGHEST_THRESHOLD, *(c.prevalence for c in curves))
    return float(np.ceil(10 * min(max(acting), frequent, 1.0) - 1e-9)) / 10


# --- density ------------------------------------------------------------------------------------------------------


@mpl.rc_context(STYLE)
def agreement_figure(
    reference: Array,
    predicted: Array,
    agreement: Agreement,
    thresholds: DensityThresholds | None,
    colour: str,
    notice: str = "",
) -> Figure:
    """Return predicted against reference density with the identity line, and the Bland-Altman plot.

    Args:
        reference, predicted: (n,) mg/cm3.
        agreement: of the two.
        thresholds: drawn into the scatter plot; ``None`` for another mineral standard.
        colour: of the model.
        notice: printed above.
    """
    figure = new_figure(8.4, 3.9)
    left, right = figure.subplots(1, 2)
    dots: dict[str, Any] = {"s": 13, "facecolor": f"{colour}55", "edgecolor": colour, "lw": 0.5, "zorder": 3}
    low, high = (f(np.concatenate([reference, predicted])) for f in (np.min, np.max))
    margin = 0.04 * max(high - low, 1)
    ends = (low - margin, high + margin)
    for cut in () if thresholds is None else (thresholds.osteoporosis_below, thresholds.normal_above):
        left.axvline(cut, color=RULE, lw=0.8, zorder=0)
        left.axhline(cut, color=RULE, lw=0.8, zorder=0)
    left.plot(ends, ends, color=INK, lw=1, label="identity", zorder=1)
    left.scatter(reference, predicted, **dots)
    left.set(
        xlim=ends,
        ylim=ends,
        xlabel="Reference density (mg/cm\N{SUPERSCRIPT THREE})",
        ylabel="Predicted density (mg/cm\N{SUPERSCRIPT THREE})",
    )
    left.set_aspect("equal")
    left.set_title(
        f"r {printed_interval(agreement.pearson)}\nCCC {printed_interval(agreement.ccc)}, n = {agreement.n}",
        fontsize=8,
        loc="left",
    )
    left.legend(frameon=False, fontsize=8, loc="lower right")
    difference, mean = predicted - reference, (predicted + reference) / 2
    right.scatter(mean, difference, **dots)
    right.axhline(0, color=RULE, lw=0.8, zorder=0)
    for name, line, style in (
        ("bias", agreement.bias, "-"),
        ("upper limit", agreement.upper_limit, (0, (5, 3))),
        ("lower limit", agreement.lower_limit, (0, (5, 3))),
    ):
        if not np.isfinite(line.value):
            continue
        right.axhline(line.value, color=INK, lw=1.1, ls=style)
        if np.isfinite(line.low):
            right.axhspan(line.low, line.high, color=SOFT, alpha=0.15, lw=0)
        text = f"{name} {line.value:.1f}".replace("-", "\N{MINUS SIGN}")
        right.text(1.01, line.value, text, transform=right.get_yaxis_transform(), va="center", fontsize=7.5)
    right.set(
        xlabel="Mean of both (mg/cm\N{SUPERSCRIPT THREE})",
        ylabel="Predicted \N{MINUS SIGN} reference (mg/cm\N{SUPERSCRIPT THREE})",
    )
    right.set_title(f"Bland-Altman\nMAE {printed_interval(agreement.mae, 1)}", fontsize=8, loc="left")
    figure.subplots_adjust(wspace=0.33, right=0.88)
    _notice(figure, notice)
    return figure
