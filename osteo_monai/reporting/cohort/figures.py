"""Density and share of the classes by age and sex (Fig. 4 of Pan 2024)."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from osteo_monai.domain import BoneStatus, Sex
from osteo_monai.reporting.cohort.people import SEXES, age_bands, checked
from osteo_monai.reporting.publishing import (
    BLUE,
    INK,
    ORANGE,
    SOFT,
    STYLE,
    new_figure,
)
from osteo_monai.statistics.cohort import Group
from osteo_monai.statistics.proportions import wilson

__all__ = ["density_by_age_figure"]

_PM, _EN_DASH, _NBSP = "\N{PLUS-MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"

_SEX_COLOURS = {Sex.MALE: BLUE, Sex.FEMALE: ORANGE}


@mpl.rc_context(STYLE)
def density_by_age_figure(people: pd.DataFrame, virtual: bool = False) -> Figure:
    """Draw (a) share with osteopenia and osteoporosis, (b) mean and SD of density, by age and sex.

    Shares have Wilson's 95 % interval; the number of people is below each band.

    Args:
        people: as for :func:`baseline_table`.
        virtual: mark the figure as one of simulated people.
    """
    people = checked(people)
    figure = new_figure(7.2, 6.6)
    shares, means = figure.subplots(2, 1, gridspec_kw={"hspace": 0.42})
    _draw_shares(shares, people.dropna(subset=["age", "sex", "bone_status"]))
    _draw_means(means, people.dropna(subset=["age", "sex", "bmd_mg_cm3"]))
    for axis, letter in ((shares, "a"), (means, "b")):
        axis.set_title(letter, loc="left", fontweight="bold", fontsize=11)
        axis.set_xlabel("Age (years)")
    if virtual:
        shares.set_title("virtual patients", loc="right", fontsize=9, color=SOFT, style="italic")
    return figure


def _draw_shares(axis: Axes, people: pd.DataFrame) -> None:
    bands = age_bands(people)
    # men left, women right of the tick; the two classes differ by hatching as well as tone
    bars = [(sex, label, status) for sex, label in SEXES for status in (BoneStatus.OSTEOPENIA, BoneStatus.OSTEOPOROSIS)]
    width = 0.2
    for i, (sex, label, status) in enumerate(bars):
        severe = status is BoneStatus.OSTEOPOROSIS
        colour = _SEX_COLOURS[sex]
        labelled = False
        for x, (_, part) in enumerate(bands):
            people_of_sex = part[part["sex"] == sex.value]
            if not len(people_of_sex):
                continue
            share = wilson(int((people_of_sex["bone_status"] == status.value).sum()), len(people_of_sex))
            position = x + (i - 1.5) * width
            axis.bar(
                position,
                100 * share.value,
                0.9 * width,
                facecolor=colour if severe else "white",
                edgecolor=colour,
                hatch=None if severe else "//////",
                lw=0.8,
                label=None if labelled else f"{label}, {status.value}",
            )
            errors = [[100 * (share.value - share.low)], [100 * (share.high - share.value)]]
            axis.errorbar(position, 100 * share.value, errors, fmt="none", ecolor=INK, elinewidth=0.7, capsize=1.5)
            labelled = True
    axis.set(ylabel="Share of subjects (%)", ylim=(0, 105), yticks=range(0, 101, 20))
    _age_ticks(axis, bands)


def _draw_means(axis: Axes, people: pd.DataFrame) -> None:
    bands = age_bands(people)
    width = 0.36
    for i, (sex, label) in enumerate(SEXES):
        groups = [Group.of(part.loc[part["sex"] == sex.value, "bmd_mg_cm3"]) for _, part in bands]
        filled = [x for x, g in enumerate(groups) if g.n]
        axis.bar(
            [x + (i - 0.5) * width for x in filled],
            [groups[x].mean for x in filled],
            0.92 * width,
            yerr=[0 if math.isnan(groups[x].sd) else groups[x].sd for x in filled],
            facecolor=_SEX_COLOURS[sex],
            edgecolor=_SEX_COLOURS[sex],
            hatch=None,
            alpha=0.85,
            label=label,
            error_kw={"ecolor": INK, "elinewidth": 0.8, "capsize": 2.5},
        )
    axis.axhline(0, color=SOFT, lw=0.8)
    axis.set_ylabel(f"BMD (mg/cm³), mean {_PM} SD")
    _age_ticks(axis, bands)


def _age_ticks(axis: Axes, bands: Sequence[tuple[str, pd.DataFrame]]) -> None:
    names = []
    for name, part in bands:
        men, women = (int((part["sex"] == sex.value).sum()) for sex, _ in SEXES)
        names.append(f"{name}\n{men} M, {women} F")
    axis.set_xticks(range(len(bands)), names, fontsize=7.5)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
