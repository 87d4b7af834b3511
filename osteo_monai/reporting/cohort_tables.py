"""Who is in a cohort: baseline table by split, density by age and sex, and the flow of subjects into a study.

The forms are those of Pan 2024 (doi 10.1186/s12891-024-07297-1): its Table 2, Table 1, Fig. 4 and Fig. 1. The tests
take means and standard deviations, so that a published table can be checked as well as one's own made. What Pan prints
and what follows from its own numbers differ in places; docs/manifests.md names them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike
from scipy import stats

from osteo_monai.domain import OSTEOPOROSIS_T_SCORE, BoneStatus, Sex
from osteo_monai.reporting.publishing import (
    BLUE,
    INK,
    ORANGE,
    SOFT,
    STYLE,
    new_figure,
    printed_p,
    save_figure,
)
from osteo_monai.reporting.tables import write_table
from osteo_monai.statistics.proportions import wilson

__all__ = [
    "AGE_BANDS",
    "ChiSquare",
    "CohortTable",
    "FTest",
    "FlowStage",
    "Group",
    "TTest",
    "anova",
    "baseline_table",
    "chi_square",
    "density_by_age",
    "density_by_age_figure",
    "flow_figure",
    "osteoporosis_table",
    "t_test",
    "write_cohort",
    "write_flow",
]

TTestKind = Literal["welch", "student"]

AGE_BANDS: tuple[tuple[str, float, float], ...] = (
    ("< 30", -math.inf, 30),
    *((f"{low}\N{EN DASH}{low + 9}", low, low + 10) for low in range(30, 90, 10)),
    ("\N{GREATER-THAN OR EQUAL TO} 90", 90, math.inf),
)
"""Name, lower bound (included) and upper bound (excluded) in years: the bands of Pan's Table 1."""

SMALL_EXPECTED = 5
"""A chi-square test with an expected count below this is told to be approximate (Cochran's rule)."""

_SEXES = ((Sex.MALE, "Male"), (Sex.FEMALE, "Female"))
_PM, _EN_DASH, _NBSP = "\N{PLUS-MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"


# --- tests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Number of values, their mean and standard deviation (n - 1 in the denominator; ``nan`` for one value)."""

    n: int
    mean: float
    sd: float

    @classmethod
    def of(cls, values: ArrayLike) -> "Group":
        """Summarise the values that are known."""
        x = np.asarray(values, dtype=np.float64)
        x = x[np.isfinite(x)]
        return cls(x.size, float(x.mean()) if x.size else math.nan, float(x.std(ddof=1)) if x.size > 1 else math.nan)

    def __str__(self) -> str:
        if self.n == 0:
            return _EN_DASH
        return f"{self.mean:.2f}" if self.n == 1 else f"{self.mean:.2f} {_PM} {self.sd:.2f}"


@dataclass(frozen=True)
class TTest:
    """Statistic of the first group minus the second, degrees of freedom, two-sided p."""

    t: float
    df: float
    p: float


@dataclass(frozen=True)
class FTest:
    """F with its degrees of freedom between and within groups, and p."""

    f: float
    df_between: int
    df_within: int
    p: float


@dataclass(frozen=True)
class ChiSquare:
    """Pearson's statistic without continuity correction, degrees of freedom, p, and the smallest expected count."""

    value: float
    df: int
    p: float
    smallest_expected: float


def t_test(first: Group, second: Group, kind: TTestKind = "welch") -> TTest | None:
    """Compare two means; ``None`` where a group has fewer than two values or neither varies.

    Args:
        first: minus ``second`` is the sign of the statistic.
        second: the other group.
        kind: ``welch`` (unequal variances, Welch 1947) or ``student`` (pooled variance).
    """
    if min(first.n, second.n) < 2 or first.sd == second.sd == 0:
        return None
    variances = first.sd**2 / first.n, second.sd**2 / second.n
    if kind == "welch":
        se = math.sqrt(sum(variances))
        df = sum(variances) ** 2 / (variances[0] ** 2 / (first.n - 1) + variances[1] ** 2 / (second.n - 1))
    elif kind == "student":
        df = first.n + second.n - 2
        pooled = ((first.n - 1) * first.sd**2 + (second.n - 1) * second.sd**2) / df
        se = math.sqrt(pooled * (1 / first.n + 1 / second.n))
    else:
        raise ValueError(f"the t-test must be 'welch' or 'student', got {kind!r}")
    t = (first.mean - second.mean) / se
    return TTest(t, float(df), float(2 * stats.t.sf(abs(t), df)))


def anova(groups: Sequence[Group]) -> FTest | None:
    """Compare means of groups (one-way analysis of variance); empty groups are passed over.

    ``None`` where fewer than two groups have values, or nothing varies within them.
    """
    known = [g for g in groups if g.n > 0]
    n = np.array([g.n for g in known], dtype=np.float64)
    between, within = len(known) - 1, int(n.sum()) - len(known)
    if between < 1 or within < 1:
        return None
    means = np.array([g.mean for g in known])
    # one value has no spread, but it has a mean and counts for the degrees of freedom
    squares = np.array([0.0 if g.n == 1 else (g.n - 1) * g.sd**2 for g in known]).sum()
    if squares <= 0:
        return None
    f = float((n * (means - np.average(means, weights=n)) ** 2).sum() / between / (squares / within))
    return FTest(f, between, within, float(stats.f.sf(f, between, within)))


def chi_square(counts: ArrayLike) -> ChiSquare | None:
    """Test a table of counts for independence; rows and columns without anybody are passed over.

    Args:
        counts: (rows, columns).

    Returns:
        ``None`` where fewer than two rows or columns remain.
    """
    table = np.asarray(counts, dtype=np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return None
    found = stats.chi2_contingency(table, correction=False)
    return ChiSquare(float(found.statistic), int(found.dof), float(found.pvalue), float(found.expected_freq.min()))


# --- tables -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CohortTable:
    """A table as it is printed, with its caption and the sentences below it."""

    frame: pd.DataFrame
    caption: str
    notes: tuple[str, ...]

    def write(self, stem: Path) -> None:
        """Write it as CSV, Markdown and LaTeX."""
        write_table(self.frame, stem, self.caption, self.notes)


_COLUMNS = ("subject_id", "split", "age", "sex", "bmd_mg_cm3", "bone_status")


def _checked(people: pd.DataFrame) -> pd.DataFrame:
    lacking = [c for c in _COLUMNS if c not in people.columns]
    if lacking:
        raise ValueError(f"the table of people must have the columns {', '.join(_COLUMNS)}, it lacks {lacking}")
    if people["subject_id"].duplicated().any():
        raise ValueError("the table of people must have one row per subject, one stands in several")
    return people


def baseline_table(people: pd.DataFrame) -> CohortTable:
    """Return the baseline characteristics by split, in the form of Pan's Table 2.

    Sex and class are compared by Pearson's chi-square, age and density by analysis of variance, between training,
    validation and test; external cohorts are shown but not compared, for they are meant to differ. Percentages are of
    those in whom the characteristic is known.

    Args:
        people: one row per subject with ``subject_id``, ``split``, ``age`` (years), ``sex`` (``F``, ``M``),
            ``bmd_mg_cm3`` (mg/cm3) and ``bone_status``; unknown is missing.
    """
    people = _checked(people)
    splits = list(dict.fromkeys(people["split"]))
    internal = [s for s in splits if not str(s).startswith("external_")]
    columns = {s: people[people["split"] == s] for s in splits}
    if len(splits) > 1:
        columns = {"overall": people, **columns}
    heads = {s: f"{s} (n = {len(part)})" for s, part in columns.items()}
    notes: list[str] = []
    rows: list[dict[str, str]] = []

    def add(name: str, cells: dict[str, str], test: str = "", p: str = "") -> None:
        rows.append(
            {
                "Characteristic": name,
                **{heads[s]: cells[s] for s in columns},
                "F or \N{GREEK SMALL LETTER CHI}²": test,
                "P": p,
            }
        )

    def add_categories(name: str, field: str, categories: Sequence[tuple[str, str]]) -> None:
        known = {s: part[field].dropna() for s, part in columns.items()}
        counts = {s: [int((known[s] == value).sum()) for value, _ in categories] for s in columns}
        found = chi_square([counts[s] for s in internal]) if len(internal) > 1 else None
        for i, (_, label) in enumerate(categories):
            cells = {s: _share(counts[s][i], len(known[s])) for s in columns}
            first = found is not None and i == 0
            add(
                f"{name}: {label}",
                cells,
                f"{found.value:.3f}\N{DAGGER}" if first and found else "",
                printed_p(found.p) if first and found else "",
            )
        if any(len(known[s]) < len(columns[s]) for s in columns):
            add(f"{name}: unknown", {s: str(len(columns[s]) - len(known[s])) for s in columns})
        if found is not None and found.smallest_expected < SMALL_EXPECTED:
            notes.append(
                f"{name}: the chi-square test is approximate, an expected count is {found.smallest_expected:.1f}."
            )

    def add_measure(name: str, field: str) -> None:
        groups = {s: Group.of(part[field].astype(float)) for s, part in columns.items()}
        found = anova([groups[s] for s in internal])
        cells = {s: str(g) + (f" (n = {g.n})" if 0 < g.n < len(columns[s]) else "") for s, g in groups.items()}
        add(name, cells, f"{found.f:.3f}" if found else "", printed_p(found.p) if found else "")

    add_categories("Sex", "sex", [(s.value, label.lower()) for s, label in _SEXES])
    add_measure(f"Age (years), mean {_PM} SD", "age")
    add_measure(f"BMD (mg/cm³), mean {_PM} SD", "bmd_mg_cm3")
    add_categories("Class", "bone_status", [(s.value, s.value) for s in BoneStatus])
    if len(internal) > 1:
        notes.insert(
            0, f"\N{DAGGER} chi-square test; otherwise analysis of variance; both between {', '.join(internal)}."
        )
    if len(internal) < len(splits):
        notes.append("External cohorts are not part of the tests.")
    return CohortTable(pd.DataFrame(rows), "Subjects and baseline characteristics by split.", tuple(notes))


def _share(count: int, of: int) -> str:
    return f"{count} ({count / of:.2%})".replace("%)", " %)") if of else _EN_DASH


def _bands(people: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """People with known age by band, without the empty bands at either end."""
    parts = [(name, people[(people["age"] >= low) & (people["age"] < high)]) for name, low, high in AGE_BANDS]
    filled = [i for i, (_, part) in enumerate(parts) if len(part)]
    return parts[filled[0] : filled[-1] + 1] if filled else []


def density_by_age(people: pd.DataFrame, kind: TTestKind = "welch") -> CohortTable:
    """Return density by decade of age and sex, in the form of Pan's Table 1.

    The t-test compares women with men in each band (positive: women are denser), analysis of variance the bands within
    each column; the chi-square test says whether the share of the sexes differs between the bands.

    Args:
        people: as for :func:`baseline_table`; those without age or density are left out and counted.
        kind: of the t-test.
    """
    people = _checked(people)
    measured = people.dropna(subset=["age", "bmd_mg_cm3"])
    bands = _bands(measured)
    rows: list[dict[str, str | int]] = []
    groups: dict[str, list[Group]] = {"Average": [], "Male": [], "Female": []}
    counts: list[list[int]] = []
    for name, part in bands:
        by_sex = {label: part.loc[part["sex"] == sex.value, "bmd_mg_cm3"] for sex, label in _SEXES}
        found = {"Average": Group.of(part["bmd_mg_cm3"]), **{label: Group.of(v) for label, v in by_sex.items()}}
        for column, group in found.items():
            groups[column].append(group)
        counts.append([found["Male"].n, found["Female"].n])
        test = t_test(found["Female"], found["Male"], kind)
        rows.append(
            {
                "Age (years)": name,
                "n": len(part),
                "Men": found["Male"].n,
                "Women": found["Female"].n,
                **{f"BMD (mg/cm³), {word}": str(found[c]) for c, word in _COLUMN_WORDS.items()},
                "t": f"{test.t:.3f}" if test else "",
                "P": printed_p(test.p) if test else "",
            }
        )
    tests = {c: anova(groups[c]) for c in groups}
    sexes = chi_square(counts) if counts else None
    for name, of_sexes, of_densities in (
        (
            "F between ages",
            f"{sexes.value:.2f}\N{DAGGER}" if sexes else "",
            {c: f"{f.f:.2f}" for c, f in tests.items() if f},
        ),
        ("P", printed_p(sexes.p) if sexes else "", {c: printed_p(f.p) for c, f in tests.items() if f}),
    ):
        cells = {f"BMD (mg/cm³), {word}": of_densities.get(c, "") for c, word in _COLUMN_WORDS.items()}
        rows.append({"Age (years)": name, "n": of_sexes, "Men": "", "Women": "", **cells, "t": "", "P": ""})
    notes = [
        f"Mean {_PM} SD. t: {kind.capitalize()}'s t-test, women minus men of the same age. F: analysis of variance "
        "between the ages. \N{DAGGER} Chi-square test of the sexes between the ages."
    ]
    if sexes is not None and sexes.smallest_expected < SMALL_EXPECTED:
        notes.append(f"The chi-square test is approximate, an expected count is {sexes.smallest_expected:.1f}.")
    if len(measured) < len(people):
        notes.append(f"{len(people) - len(measured)} of {len(people)} subjects lack age or density and are left out.")
    if unknown := int(measured["sex"].isna().sum()):
        notes.append(f"The sex of {unknown} subjects is unknown; they count in n and in the column of all.")
    return CohortTable(pd.DataFrame(rows), "Bone density by age and sex.", tuple(notes))


def osteoporosis_table(people: pd.DataFrame, kind: TTestKind = "welch") -> CohortTable | None:
    """Return who has osteoporosis by DXA and who has not, set by set, in the form of Li's Table 1.

    Training, validation and test are one set, the internal one; each external cohort is another. Means are compared by
    a t-test, with osteoporosis minus without, sexes by Pearson's chi-square.

    Args:
        people: as for :func:`baseline_table`, with ``t_score``, ``areal_bmd_g_cm2``, ``height_cm`` and ``weight_kg``;
            those without a T-score are left out and counted.
        kind: of the t-test.

    Returns:
        ``None`` where nobody has a T-score.
    """
    people = _checked(people)
    if "t_score" not in people.columns or people["t_score"].isna().all():
        return None
    known = people.dropna(subset=["t_score"])
    index = known["weight_kg"] / (known["height_cm"] / 100) ** 2
    known = known.assign(ill=known["t_score"] <= OSTEOPOROSIS_T_SCORE, body_mass_index=index)
    internal = known["split"].astype(str).where(known["split"].astype(str).str.startswith("external_"), "internal")
    rows: list[dict[str, str | int]] = []
    notes = [
        f"Mean {_PM} SD. t: {kind.capitalize()}'s t-test, with osteoporosis (T-score of -2.5 or less) minus without. "
        "\N{DAGGER} Chi-square test of the sexes."
    ]
    for name in dict.fromkeys(internal):
        part = known[internal == name]
        groups = [part[part["ill"]], part[~part["ill"]]]
        sexes = [[int((g["sex"] == sex.value).sum()) for sex, _ in _SEXES] for g in groups]
        for label, group, counts in zip(("osteoporosis", "no osteoporosis"), groups, sexes, strict=True):
            rows.append(
                {
                    "Set": f"{name} (n = {len(part)})",
                    "Group": f"{label} (n = {len(group)})",
                    **{heading: str(Group.of(group[field].astype(float))) for heading, field in _LI_MEASURES},
                    "Men": counts[0],
                    "Women": counts[1],
                }
            )
        ill, well = groups
        tests = {
            heading: t_test(Group.of(ill[field].astype(float)), Group.of(well[field].astype(float)), kind)
            for heading, field in _LI_MEASURES
        }
        of_sexes = chi_square(sexes)
        chi, chi_p = (f"{of_sexes.value:.3f}\N{DAGGER}", printed_p(of_sexes.p)) if of_sexes else ("", "")
        for label, values, sex in (
            ("t or \N{GREEK SMALL LETTER CHI}²", {h: f"{t.t:.3f}" for h, t in tests.items() if t}, chi),
            ("P", {h: printed_p(t.p) for h, t in tests.items() if t}, chi_p),
        ):
            cells = {heading: values.get(heading, "") for heading, _ in _LI_MEASURES}
            rows.append({"Set": "", "Group": label, **cells, "Men": sex, "Women": ""})
        if of_sexes is not None and of_sexes.smallest_expected < SMALL_EXPECTED:
            few = f"an expected count is {of_sexes.smallest_expected:.1f}"
            notes.append(f"{name}: the chi-square test is approximate, {few}.")
    if len(known) < len(people):
        notes.append(f"{len(people) - len(known)} of {len(people)} subjects have no T-score and are left out.")
    return CohortTable(pd.DataFrame(rows), "Subjects with and without osteoporosis by DXA.", tuple(notes))


_LI_MEASURES = (
    ("Age (years)", "age"),
    ("BMI (kg/m²)", "body_mass_index"),
    ("Areal BMD (g/cm²)", "areal_bmd_g_cm2"),
)

_COLUMN_WORDS = {"Average": "all", "Male": "men", "Female": "women"}


# --- figures ------------------------------------------------------------------------------------------------------

_SEX_COLOURS = {Sex.MALE: BLUE, Sex.FEMALE: ORANGE}


@mpl.rc_context(STYLE)
def density_by_age_figure(people: pd.DataFrame, virtual: bool = False) -> Figure:
    """Return Pan's Fig. 4: (a) share with osteopenia and osteoporosis, (b) mean and SD of density, by age and sex.

    Shares carry Wilson's 95 % interval and the number of people they are of.

    Args:
        people: as for :func:`baseline_table`.
        virtual: say on the figure that the people are simulated.
    """
    people = _checked(people)
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
    bands = _bands(people)
    # men left, women right of the tick; the two classes side by side, told apart by hatching as well as tone
    bars = [
        (sex, label, status) for sex, label in _SEXES for status in (BoneStatus.OSTEOPENIA, BoneStatus.OSTEOPOROSIS)
    ]
    width = 0.2
    for i, (sex, label, status) in enumerate(bars):
        severe = status is BoneStatus.OSTEOPOROSIS
        colour = _SEX_COLOURS[sex]
        drawn = False
        for x, (_, part) in enumerate(bands):
            of = part[part["sex"] == sex.value]
            if not len(of):
                continue
            found = wilson(int((of["bone_status"] == status.value).sum()), len(of))
            place = x + (i - 1.5) * width
            axis.bar(
                place, 100 * found.value, 0.9 * width, facecolor=colour if severe else "white", edgecolor=colour,
                hatch=None if severe else "//////", lw=0.8,
                label=None if drawn else f"{label}, {status.value}",
            )  # fmt: skip
            errors = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
            axis.errorbar(place, 100 * found.value, errors, fmt="none", ecolor=INK, elinewidth=0.7, capsize=1.5)
            drawn = True
    axis.set(ylabel="Share of subjects (%)", ylim=(0, 105), yticks=range(0, 101, 20))
    _age_ticks(axis, bands)


def _draw_means(axis: Axes, people: pd.DataFrame) -> None:
    bands = _bands(people)
    width = 0.36
    for i, (sex, label) in enumerate(_SEXES):
        groups = [Group.of(part.loc[part["sex"] == sex.value, "bmd_mg_cm3"]) for _, part in bands]
        known = [x for x, g in enumerate(groups) if g.n]
        axis.bar(
            [x + (i - 0.5) * width for x in known], [groups[x].mean for x in known], 0.92 * width,
            yerr=[0 if math.isnan(groups[x].sd) else groups[x].sd for x in known],
            facecolor=_SEX_COLOURS[sex], edgecolor=_SEX_COLOURS[sex], hatch=None, alpha=0.85, label=label,
            error_kw={"ecolor": INK, "elinewidth": 0.8, "capsize": 2.5},
        )  # fmt: skip
    axis.axhline(0, color=SOFT, lw=0.8)
    axis.set_ylabel(f"BMD (mg/cm³), mean {_PM} SD")
    _age_ticks(axis, bands)


def _age_ticks(axis: Axes, bands: Sequence[tuple[str, pd.DataFrame]]) -> None:
    names = []
    for name, part in bands:
        men, women = (int((part["sex"] == sex.value).sum()) for sex, _ in _SEXES)
        names.append(f"{name}\n{men} M, {women} F")
    axis.set_xticks(range(len(bands)), names, fontsize=7.5)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))


# --- flow of subjects ---------------------------------------------------------------------------------------------


class FlowStage(Protocol):
    """One box of the flow diagram, as :class:`osteo_monai.data.build.Stage` has it."""

    @property
    def label(self) -> str:
        """What those who come here are."""

    @property
    def count(self) -> int:
        """How many come here."""

    @property
    def excluded(self) -> Sequence[tuple[str, int]]:
        """Reason and number of those who leave here."""

    @property
    def unchecked(self) -> Sequence[tuple[str, int]]:
        """What could not be checked, and in how many of those who stay."""


@mpl.rc_context(STYLE)
def flow_figure(stages: Sequence[FlowStage]) -> Figure:
    """Return the flow of subjects into the study as boxes from top to bottom (Pan's Fig. 1).

    Args:
        stages: in order; those who leave a stage are drawn to its right, the count of the next is what stays.

    Raises:
        ValueError: where the counts do not add up.
    """
    for stage, following in pairwise(stages):
        if (stays := stage.count - _left(stage)) != following.count:
            raise ValueError(f"of {stage.count} subjects {stays} stay, the next stage must not have {following.count}")
    line, pad, gap, width = 0.19, 0.2, 0.3, 3.1
    left = [_wrapped(f"{s.label} {_n(s.count)}", 46) for s in stages]
    right = [
        [
            *([f"Excluded {_n(_left(s))}"] if s.excluded else []),
            *(t for reason, n in s.excluded for t in _wrapped(f"{reason} {_n(n)}", 48)),
            *(t for what, n in s.unchecked for t in _wrapped(f"not known and kept: {what} {_n(n)}", 48)),
        ]
        for s in stages
    ]
    heights = [line * len(lines) + pad for lines in left]
    sides = [line * len(lines) + pad if lines else 0.0 for lines in right]
    steps = [h + max(gap, side + gap - 0.05) for h, side in zip(heights, sides, strict=True)]
    total = sum(steps[:-1]) + heights[-1]
    figure = new_figure(2 * width + 0.5, total + 0.1)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 2 * width + 0.5), ylim=(0, total + 0.1))
    axis.axis("off")
    arrow = {"arrowstyle": "-|>", "color": SOFT, "lw": 1, "shrinkA": 0, "shrinkB": 0}
    top = total + 0.05
    for i in range(len(stages)):
        bottom = top - heights[i]
        _box(axis, 0.05, top, width, heights[i], left[i], line, bold=True)
        if i + 1 < len(stages):
            axis.annotate("", (0.05 + width / 2, top - steps[i]), (0.05 + width / 2, bottom), arrowprops=arrow)
        if right[i]:
            side_top = bottom - (steps[i] - heights[i] - sides[i]) / 2
            _box(axis, width + 0.4, side_top, width, sides[i], right[i], line, bold=bool(stages[i].excluded))
            middle = side_top - sides[i] / 2
            axis.annotate("", (width + 0.4, middle), (0.05 + width / 2, middle), arrowprops=arrow)
        top -= steps[i]
    return figure


def _n(count: int) -> str:
    return f"(n = {count})".replace(" ", _NBSP)


def _left(stage: FlowStage) -> int:
    return sum(n for _, n in stage.excluded)


def _wrapped(text: str, length: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > length:
            lines.append("   " + word)
        else:
            lines[-1] += (" " if lines[-1] else "") + word
    return lines


def _box(
    axis: Axes, x: float, top: float, width: float, height: float, lines: Sequence[str], line: float, bold: bool
) -> None:
    axis.add_patch(
        FancyBboxPatch((x, top - height), width, height, boxstyle="round,pad=0,rounding_size=0.05",
                       facecolor="white", edgecolor=SOFT, lw=0.9)
    )  # fmt: skip
    for i, text in enumerate(lines):
        y = top - height / 2 + (len(lines) / 2 - i - 0.5) * line
        axis.text(x + 0.1, y, text, va="center", fontsize=8, fontweight="bold" if bold and i == 0 else None)


# --- writing ------------------------------------------------------------------------------------------------------


def write_cohort(people: pd.DataFrame, output: Path, virtual: bool, kind: TTestKind = "welch") -> list[Path]:
    """Write ``baseline``, and where it is known ``density_by_age`` and ``osteoporosis``; list the files.

    Tables are CSV, Markdown and LaTeX; density by age has a figure as PNG and SVG.

    Args:
        people: as for :func:`baseline_table`; with T-scores also as for :func:`osteoporosis_table`.
        output: folder, made if missing.
        virtual: the people are simulated; every table and figure then says so.
        kind: of the t-tests.
    """
    output.mkdir(parents=True, exist_ok=True)
    tables = {
        "baseline": baseline_table(people),
        "density_by_age": density_by_age(people, kind),
        "osteoporosis": osteoporosis_table(people, kind),
    }
    written = []
    for name, table in tables.items():
        if table is None:
            continue
        caption = f"{table.caption} Virtual patients." if virtual else table.caption
        CohortTable(table.frame, caption, table.notes).write(output / name)
        written.append(name)
    save_figure(density_by_age_figure(people, virtual), output / "density_by_age")
    return [file for name in written for file in sorted(output.glob(f"{name}.*"))]


def write_flow(stages: Sequence[FlowStage], output: Path, virtual: bool = False) -> None:
    """Write the flow diagram as ``flow.png`` and ``flow.svg`` into the folder ``output``.

    Args:
        stages: as for :func:`flow_figure`.
        output: folder, made if missing.
        virtual: say on the figure that the people are simulated.
    """
    output.mkdir(parents=True, exist_ok=True)
    figure = flow_figure(stages)
    if virtual:
        figure.text(0.99, 0.99, "virtual patients", ha="right", va="top", fontsize=9, color=SOFT, style="italic")
    save_figure(figure, output / "flow")
