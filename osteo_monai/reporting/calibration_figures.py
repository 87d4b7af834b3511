"""Figures of a site calibration, a contrast correction and the drift of a scanner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from osteo_monai.reporting.publishing import BLUE, GREEN, INK, ORANGE, RULE, SOFT, STYLE, new_figure

__all__ = ["TimeSeries", "drift_figure", "fitted_line_figure"]

Array = NDArray[np.float64]

UNIX_EPOCH = 719163
"""Ordinal of 1970-01-01, day 0 of matplotlib."""

COLOURS: Mapping[str, str] = {"stable": GREEN, "drift": ORANGE, "undecided": BLUE, "too few scans": SOFT}


@mpl.rc_context(STYLE)
def fitted_line_figure(
    x: Array, y: Array, line: tuple[Array, Array, Array, Array], names: tuple[str, str], title: str
) -> Figure:
    """Return a scatter plot with a fitted line and the 90 % prediction interval of a new case.

    Args:
        x, y: (n,) cases.
        line: (m,) positions, fitted values, lower and upper bounds.
        names: of the axes.
        title: printed above.
    """
    figure = new_figure(5.2, 3.9)
    axis = figure.subplots()
    at, fitted, lower, upper = line
    axis.fill_between(at, lower, upper, color=BLUE, alpha=0.12, lw=0, label="90 % prediction interval")
    axis.plot(at, fitted, color=INK, lw=1.1, label="fit")
    axis.scatter(x, y, s=15, facecolor=f"{BLUE}66", edgecolor=BLUE, lw=0.5, zorder=3)
    axis.set(xlabel=names[0], ylabel=names[1], xlim=(at[0], at[-1]))
    axis.set_title(title, fontsize=8, loc="left")
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


@dataclass(frozen=True)
class TimeSeries:
    """Values of one tissue of one scanner over time, as :func:`drift_figure` draws them.

    Attributes:
        days: (n,) ordinals.
        values: (n,) HU.
        baseline: number of first scans that gave centre and limits; 0 without them.
    """

    scanner: str
    tissue: str
    days: Array
    values: Array
    centre: float
    limits: tuple[float, float]
    baseline: int
    slope_per_year: float
    verdict: str


@mpl.rc_context(STYLE)
def drift_figure(series: Sequence[TimeSeries]) -> Figure:
    """Return one row of control charts for each scanner and one column for each tissue."""
    scanners = list(dict.fromkeys(s.scanner for s in series))
    tissues = list(dict.fromkeys(s.tissue for s in series))
    figure = new_figure(3.9 * len(tissues), 2.75 * len(scanners) + 0.3)
    axes = figure.subplots(len(scanners), len(tissues), squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for s in series:
        axis = axes[scanners.index(s.scanner), tissues.index(s.tissue)]
        axis.axis("on")
        days, colour = s.days - UNIX_EPOCH, COLOURS[s.verdict]
        if s.baseline:
            axis.axhspan(*s.limits, color=RULE, alpha=0.28, lw=0, zorder=0)
            axis.axhline(s.centre, color=SOFT, lw=0.8, zorder=1)
            for limit in s.limits:
                axis.axhline(limit, color=SOFT, lw=0.8, ls=(0, (4, 3)), zorder=1)
            ends = np.array([days[0], days[-1]])
            fitted = s.values.mean() + s.slope_per_year / 365.25 * (ends - days.mean())
            axis.plot(ends, fitted, color=colour, lw=1.6, zorder=4)
            outside = (s.values < s.limits[0]) | (s.values > s.limits[1])
            outside[: s.baseline] = False
            axis.scatter(days[outside], s.values[outside], s=26, facecolor="none", edgecolor=ORANGE, lw=1.1, zorder=5)
        axis.scatter(days, s.values, s=7, color=INK, alpha=0.55, lw=0, zorder=3)
        axis.xaxis.set_major_locator(AutoDateLocator(minticks=3, maxticks=6))
        axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))
        axis.tick_params(labelsize=7.5)
        axis.set_ylabel(f"{s.tissue.capitalize()} (HU)", fontsize=8)
        slope = f"{s.slope_per_year:+.2f} HU per year, " if s.baseline else ""
        axis.set_title(
            f"{s.scanner}\n{s.tissue}: {slope}{s.verdict}, n = {len(s.days)}".replace("-", "\N{MINUS SIGN}"),
            fontsize=7.5,
            loc="left",
            color=colour if s.verdict == "drift" else INK,
        )
    figure.subplots_adjust(wspace=0.32, hspace=0.62)
    axes[-1, 0].text(
        0.0,
        -0.32,
        "Band: centre and control limits of the first scans. Line: regression on time. Circle: outside the limits.",
        transform=axes[-1, 0].transAxes,
        fontsize=7,
        color=SOFT,
        va="top",
    )
    return figure
