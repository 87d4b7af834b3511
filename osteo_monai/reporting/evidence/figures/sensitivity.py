"""Funnel plot of Deeks and leave-one-out summaries."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from osteo_monai.reporting.evidence.figures.shared import shortened
from osteo_monai.reporting.publishing import BLUE, INK, ORANGE, SOFT, STYLE, new_figure
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit
from osteo_monai.statistics.meta_analysis.inference import Deeks, Omission

__all__ = ["deeks_figure", "leave_one_out_figure"]


@mpl.rc_context(STYLE)
def deeks_figure(test: Deeks) -> Figure:
    """Draw Deeks' funnel: diagnostic odds ratio against 1 / sqrt(effective sample size), with the regression."""
    figure = new_figure(4.8, 4.2)
    axis = figure.add_subplot()
    inverse = 1 / np.sqrt(test.ess)
    axis.scatter(np.exp(test.log_dor), inverse, s=28, facecolor="#1d5f9733", edgecolor=BLUE, lw=0.9, zorder=3)
    ends = np.array([inverse.min(), inverse.max()])
    axis.plot(np.exp(test.intercept + test.slope * ends), ends, color=ORANGE, lw=1.5)
    axis.set_xscale("log")
    axis.invert_yaxis()
    decades = float(np.ptp(test.log_dor)) / np.log(10)
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2.5 else (1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set(xlabel="Diagnostic odds ratio", ylabel="1 / \N{SQUARE ROOT}(effective sample size)")
    axis.set_title(
        f"Deeks' test: p = {test.p:.3f}" if test.p >= 0.001 else "Deeks' test: p < 0.001", fontsize=9, loc="left"
    )
    return figure


@mpl.rc_context(STYLE)
def leave_one_out_figure(omissions: Sequence[Omission], fit: BivariateFit) -> Figure:
    """Draw the summary sensitivity and specificity without each study, against the summary of all (line and band)."""
    rows = len(omissions)
    height = 1.0 + 0.2 * rows
    figure = new_figure(7.2, height)
    axes = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.34, right=0.99, wspace=0.08, top=1 - 0.3 / height, bottom=0.42 / height)
    for which, (axis, title) in enumerate(zip(axes, ("Sensitivity", "Specificity"), strict=True)):
        whole = (fit.summary().sensitivity, fit.summary().specificity)[which]
        axis.axvspan(whole.low, whole.high, color=ORANGE, alpha=0.12, lw=0)
        axis.axvline(whole.value, color=ORANGE, lw=1)
        for i, omission in enumerate(omissions):
            if omission.summary is None:
                axis.text(whole.value, i, "no estimate", fontsize=7, va="center", ha="center", color=SOFT)
                continue
            interval = (omission.summary.sensitivity, omission.summary.specificity)[which]
            axis.plot([interval.low, interval.high], [i, i], color=SOFT, lw=1)
            axis.scatter(interval.value, i, s=18, color=BLUE, zorder=3, lw=0)
        axis.set_title(title, fontsize=9, fontweight="bold", loc="left")
        axis.tick_params(labelsize=7.5)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(rows), [shortened(f"without {o.omitted}", 44) for o in omissions], color=INK)
    axes[0].set_ylim(rows - 0.4, -0.6)
    return figure
