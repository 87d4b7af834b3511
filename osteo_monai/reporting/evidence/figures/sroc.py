"""SROC space with studies, summary, regions and curve."""

from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from osteo_monai.reporting.evidence.figures.shared import OwnPoint, handle, interval_text, shortened
from osteo_monai.reporting.publishing import BLUE, GREEN, INK, ORANGE, PURPLE, RULE, STYLE, new_figure
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit
from osteo_monai.statistics.meta_analysis.reference import PooledReference
from osteo_monai.statistics.proportions import Interval, wilson

__all__ = ["sroc_figure"]


@mpl.rc_context(STYLE)
def sroc_figure(
    tables: ArrayLike | None = None,
    fit: BivariateFit | None = None,
    auc: Interval | None = None,
    reference: PooledReference | None = None,
    own: OwnPoint | None = None,
    reference_name: str = "Wang 2025",
) -> Figure:
    """Draw the SROC space: studies, summary point with regions and curve, pooled point of a review, the user's model.

    The curve is drawn over the false positive rates of the studies only, without extrapolation.

    Args:
        tables: (k, 4) TP, FP, FN, TN of the studies.
        fit: adds summary point, regions and curve.
        auc: area with interval, for the legend.
        reference: pooled values of a review.
        own: the user's model.
        reference_name: name of the review.
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
        handles.append(handle("o", BLUE, "studies (area: subjects)", filled=False))
    if fit is not None:
        handles += _draw_fit(axis, fit, auc)
    if reference is not None:
        se, fpr = reference.sensitivity, 1 - reference.specificity.value
        axis.plot([1 - reference.specificity.high, 1 - reference.specificity.low], [se.value] * 2, color=PURPLE, lw=1.3)
        axis.plot([fpr] * 2, [se.low, se.high], color=PURPLE, lw=1.3)
        axis.scatter(fpr, se.value, marker="D", s=42, facecolor="white", edgecolor=PURPLE, lw=1.4, zorder=5)
        handles.append(
            handle("D", PURPLE, f"{reference_name}, {reference.models} models pooled, 95 % CI", filled=False)
        )
    if own is not None:
        tp, fp, fn, tn = own.counts
        se, one_minus = wilson(tp, tp + fn), wilson(fp, fp + tn)
        axis.add_patch(
            Rectangle(
                (one_minus.low, se.low),
                one_minus.high - one_minus.low,
                se.high - se.low,
                facecolor="#2c704822",
                edgecolor=GREEN,
                lw=0.9,
                zorder=4,
            )
        )
        axis.scatter(one_minus.value, se.value, marker="*", s=150, color=GREEN, zorder=6, lw=0)
        handles.append(handle("*", GREEN, f"{shortened(own.name, 34)}, 95 % CI", filled=True))
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
    """Return whether anything is outside the upper left quarter, to which the figure is otherwise limited."""
    rows = [np.asarray(tables, dtype=np.float64).reshape(-1, 4)] if tables is not None else []
    cells = np.vstack([*rows, *([own.counts[None]] if own is not None else [])])
    tp, fp, fn, tn = cells.T
    outside = (fp / (fp + tn) > 0.45).any() or (tp / (tp + fn) < 0.55).any()
    if fit is not None:
        x, y = fit.region("prediction").T
        outside = outside or x.max() > 0.5 or y.min() < 0.5
    return bool(outside)


def _draw_fit(axis: Axes, fit: BivariateFit, auc: Interval | None) -> list[Line2D | Rectangle]:
    handles: list[Line2D | Rectangle] = []
    if np.isfinite(fit.auc):
        _, fp, _, tn = fit.tables.T
        rates = (fp + 0.5) / (fp + tn + 1)
        grid = expit(np.linspace(logit(rates.min()), logit(rates.max()), 300))
        axis.plot(grid, fit.sroc(grid), color=INK, lw=1.5, zorder=4)
        label = f"SROC curve, AUC {fit.auc:.2f}"
        if auc is not None and np.isfinite(auc.low):
            label = f"SROC curve, AUC {interval_text(auc)}"
        handles.append(Line2D([], [], color=INK, lw=1.5, label=label))
    kinds: tuple[tuple[Literal["confidence", "prediction"], Any, float], ...] = (
        ("confidence", "-", 1.3),
        ("prediction", (0, (4, 3)), 1.1),
    )
    for kind, style, width in kinds:
        x, y = fit.region(kind).T
        axis.plot(x, y, color=ORANGE, lw=width, ls=style, zorder=4)
        handles.append(Line2D([], [], color=ORANGE, lw=width, ls=style, label=f"95 % {kind} region"))
    s = fit.summary()
    axis.scatter(1 - s.specificity.value, s.sensitivity.value, marker="s", s=48, color=ORANGE, zorder=5, lw=0)
    handles.insert(0, handle("s", ORANGE, f"summary: Se {s.sensitivity.value:.2f}, Sp {s.specificity.value:.2f}", True))
    return handles
