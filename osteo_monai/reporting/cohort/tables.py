"""Baseline characteristics by split, density by age and sex, and osteoporosis by DXA.

The forms are those of Pan 2024 (doi 10.1186/s12891-024-07297-1; Tables 2 and 1) and of Li 2026 (Table 1). Where printed
values of Pan 2024 do not follow from its own numbers, docs/manifests.md lists them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from osteo_monai.domain import OSTEOPOROSIS_T_SCORE, BoneStatus
from osteo_monai.reporting.cohort.people import SEXES, age_bands, checked, ordered_splits
from osteo_monai.reporting.numbers import printed_p
from osteo_monai.reporting.tables import write_table
from osteo_monai.statistics import wilson
from osteo_monai.statistics.cohort import ChiSquare, Group, TTestKind, anova, chi_square, t_test
from osteo_monai.utils.text import share_words

__all__ = ["CohortTable", "baseline_table", "density_by_age", "osteoporosis_table", "prevalence_table"]

PREVALENCE_AGE = 50
"""Least age in years of :func:`prevalence_table`."""

SMALL_EXPECTED = 5
"""Below this expected count a note calls the chi-square test approximate (Cochran's rule)."""

_PM, _EN_DASH, _NBSP = "\N{PLUS-MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class CohortTable:
    """A printed table with its caption and the notes below it."""

    frame: pd.DataFrame
    caption: str
    notes: tuple[str, ...]

    def write(self, stem: Path) -> None:
        """Write it as CSV, Markdown and LaTeX."""
        write_table(self.frame, stem, self.caption, self.notes)


def baseline_table(people: pd.DataFrame) -> CohortTable:
    """Return the baseline characteristics by split, in the form of Pan's Table 2.

    Sex and class are compared by Pearson's chi-square, age and density by analysis of variance, between training,
    validation and test; external cohorts are shown but not compared, since they differ by design. Percentages refer to
    the subjects with a known value.

    Args:
        people: one row per subject with ``subject_id``, ``split``, ``age`` (years), ``sex`` (``F``, ``M``),
            ``bmd_mg_cm3`` (mg/cm3) and ``bone_status``; unknown values are missing.

    Raises:
        ValueError: on missing columns or repeated subjects.
    """
    people = checked(people)
    splits = ordered_splits(people["split"])
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
        with_value = {s: part[field].dropna() for s, part in columns.items()}
        counts = {s: [int((with_value[s] == value).sum()) for value, _ in categories] for s in columns}
        test = chi_square([counts[s] for s in internal]) if len(internal) > 1 else None
        for i, (_, label) in enumerate(categories):
            cells = {s: _share(counts[s][i], len(with_value[s])) for s in columns}
            first = test is not None and i == 0
            add(
                f"{name}: {label}",
                cells,
                f"{test.value:.3f}\N{DAGGER}" if first and test else "",
                printed_p(test.p) if first and test else "",
            )
        if any(len(with_value[s]) < len(columns[s]) for s in columns):
            add(f"{name}: unknown", {s: str(len(columns[s]) - len(with_value[s])) for s in columns})
        if test is not None and test.smallest_expected < SMALL_EXPECTED:
            notes.append(_approximate(f"{name}: the", test))

    def add_measure(name: str, field: str) -> None:
        groups = {s: Group.of(part[field].astype(float)) for s, part in columns.items()}
        test = anova([groups[s] for s in internal])
        cells = {s: _mean_sd(g) + (f" (n = {g.n})" if 0 < g.n < len(columns[s]) else "") for s, g in groups.items()}
        add(name, cells, f"{test.f:.3f}" if test else "", printed_p(test.p) if test else "")

    add_categories("Sex", "sex", [(s.value, label.lower()) for s, label in SEXES])
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


def _approximate(start: str, test: ChiSquare) -> str:
    return f"{start} chi-square test is approximate, an expected count is {test.smallest_expected:.1f}."


def _mean_sd(group: Group) -> str:
    if group.n == 0:
        return _EN_DASH
    return f"{group.mean:.2f}" if group.n == 1 else f"{group.mean:.2f} {_PM} {group.sd:.2f}"


def _share(count: int, of: int) -> str:
    return f"{count} ({share_words(count / of, 2)})" if of else _EN_DASH


def density_by_age(people: pd.DataFrame, kind: TTestKind = "welch") -> CohortTable:
    """Return density by decade of age and sex, in the form of Pan's Table 1.

    The t-test compares women with men in each band (positive: women have the higher density), analysis of variance the
    bands within each column; the chi-square test compares the share of the sexes between the bands.

    Args:
        people: as for :func:`baseline_table`; those without age or density are excluded and counted.
        kind: t-test.
    """
    people = checked(people)
    measured = people.dropna(subset=["age", "bmd_mg_cm3"])
    bands = age_bands(measured)
    rows: list[dict[str, str | int]] = []
    groups: dict[str, list[Group]] = {"Average": [], "Male": [], "Female": []}
    counts: list[list[int]] = []
    for name, part in bands:
        by_sex = {label: part.loc[part["sex"] == sex.value, "bmd_mg_cm3"] for sex, label in SEXES}
        by_column = {"Average": Group.of(part["bmd_mg_cm3"]), **{label: Group.of(v) for label, v in by_sex.items()}}
        for column, group in by_column.items():
            groups[column].append(group)
        counts.append([by_column["Male"].n, by_column["Female"].n])
        test = t_test(by_column["Female"], by_column["Male"], kind)
        rows.append(
            {
                "Age (years)": name,
                "n": len(part),
                "Men": by_column["Male"].n,
                "Women": by_column["Female"].n,
                **{f"BMD (mg/cm³), {heading}": _mean_sd(by_column[c]) for c, heading in _COLUMN_NAMES.items()},
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
        cells = {f"BMD (mg/cm³), {heading}": of_densities.get(c, "") for c, heading in _COLUMN_NAMES.items()}
        rows.append({"Age (years)": name, "n": of_sexes, "Men": "", "Women": "", **cells, "t": "", "P": ""})
    notes = [
        f"Mean {_PM} SD. t: {kind.capitalize()}'s t-test, women minus men of the same age. F: analysis of variance "
        "between the ages. \N{DAGGER} Chi-square test of the sexes between the ages."
    ]
    if sexes is not None and sexes.smallest_expected < SMALL_EXPECTED:
        notes.append(_approximate("The", sexes))
    if len(measured) < len(people):
        notes.append(f"{len(people) - len(measured)} of {len(people)} subjects without age or density are excluded.")
    if unknown := int(measured["sex"].isna().sum()):
        notes.append(f"The sex of {unknown} subjects is unknown; they are included in n and in the column of all.")
    return CohortTable(pd.DataFrame(rows), "Bone density by age and sex.", tuple(notes))


def prevalence_table(people: pd.DataFrame) -> CohortTable | None:
    """Return the share of each class of density in people of 50 years and older, by sex (Pan 2024, Discussion).

    Args:
        people: as for :func:`baseline_table`; those without age, sex or class are excluded and counted.

    Returns:
        ``None`` when no subject remains.
    """
    people = checked(people)
    old = people[people["age"].isna() | (people["age"] >= PREVALENCE_AGE)]
    known = old.dropna(subset=["age", "sex", "bone_status"])
    if known.empty:
        return None
    rows: list[dict[str, str | int]] = []
    for sex, label in SEXES:
        classes = known.loc[known["sex"] == sex.value, "bone_status"]
        row: dict[str, str | int] = {"Sex": label, "n": len(classes)}
        for status in BoneStatus:
            count = int((classes == status.value).sum())
            ends = wilson(count, len(classes)) if len(classes) else None
            share = "" if ends is None else f"{count} ({_range(count / len(classes), ends.low, ends.high)})"
            row[status.value.capitalize()] = share
        rows.append(row)
    notes = ["Number (share, 95 % Wilson interval)."]
    if len(known) < len(old):
        notes.append(f"{len(old) - len(known)} subjects without age, sex or class are excluded.")
    caption = f"Classes of bone density in people of {PREVALENCE_AGE} years and older."
    return CohortTable(pd.DataFrame(rows), caption, tuple(notes))


def _range(share: float, low: float, high: float) -> str:
    return f"{100 * share:.1f}{_NBSP}%, {100 * low:.1f}{_EN_DASH}{100 * high:.1f}"


def osteoporosis_table(people: pd.DataFrame, kind: TTestKind = "welch") -> CohortTable | None:
    """Return the subjects with and without osteoporosis by DXA in each set, in the form of Li's Table 1.

    Training, validation and test form the internal set; each external cohort is a set of its own. Means are compared by
    a t-test, with osteoporosis minus without, sexes by Pearson's chi-square.

    Args:
        people: as for :func:`baseline_table`, with ``t_score``, ``areal_bmd_g_cm2``, ``height_cm`` and ``weight_kg``;
            those without a T-score are excluded and counted.
        kind: t-test.

    Returns:
        ``None`` when no subject has a T-score.

    Raises:
        ValueError: on missing columns or repeated subjects.
    """
    people = checked(people)
    if "t_score" not in people.columns or people["t_score"].isna().all():
        return None
    scored = checked(people, ("t_score", "areal_bmd_g_cm2", "height_cm", "weight_kg")).dropna(subset=["t_score"])
    index = scored["weight_kg"] / (scored["height_cm"] / 100) ** 2
    scored = scored.assign(with_osteoporosis=scored["t_score"] <= OSTEOPOROSIS_T_SCORE, body_mass_index=index)
    splits = scored["split"].astype(str)
    sets = splits.where(splits.str.startswith("external_"), "internal")
    rows: list[dict[str, str | int]] = []
    notes = [
        f"Mean {_PM} SD. t: {kind.capitalize()}'s t-test, with osteoporosis (T-score of -2.5 or less) minus without. "
        "\N{DAGGER} Chi-square test of the sexes."
    ]
    for name in ordered_splits(sets):
        part = scored[sets == name]
        groups = [part[part["with_osteoporosis"]], part[~part["with_osteoporosis"]]]
        sexes = [[int((g["sex"] == sex.value).sum()) for sex, _ in SEXES] for g in groups]
        for label, group, counts in zip(("osteoporosis", "no osteoporosis"), groups, sexes, strict=True):
            rows.append(
                {
                    "Set": f"{name} (n = {len(part)})",
                    "Group": f"{label} (n = {len(group)})",
                    **{heading: _mean_sd(Group.of(group[field].astype(float))) for heading, field in _LI_MEASURES},
                    "Men": counts[0],
                    "Women": counts[1],
                }
            )
        first, second = groups
        tests = {
            heading: t_test(Group.of(first[field].astype(float)), Group.of(second[field].astype(float)), kind)
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
            notes.append(_approximate(f"{name}: the", of_sexes))
    if len(scored) < len(people):
        notes.append(f"{len(people) - len(scored)} of {len(people)} subjects without a T-score are excluded.")
    return CohortTable(pd.DataFrame(rows), "Subjects with and without osteoporosis by DXA.", tuple(notes))


_LI_MEASURES = (
    ("Age (years)", "age"),
    ("BMI (kg/m²)", "body_mass_index"),
    ("Areal BMD (g/cm²)", "areal_bmd_g_cm2"),
)

_COLUMN_NAMES = {"Average": "all", "Male": "men", "Female": "women"}
