"""Cohort tables: baseline by split, density by age and sex, osteoporosis by DXA."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from scipy import stats

from osteo_monai.reporting.cohort import (
    AGE_BANDS,
    baseline_table,
    density_by_age,
    density_by_age_figure,
    osteoporosis_table,
    prevalence_table,
    write_cohort,
)

DASH = "\N{EN DASH}"


def person(
    name: str, split: str, age: float, sex: str | None, bmd: float | None, status: str | None
) -> tuple[object, ...]:
    return name, split, age, sex, bmd, status


@pytest.fixture
def people() -> pd.DataFrame:
    rows = [
        person("a", "training", 25, "F", 170, "normal"),
        person("b", "training", 30, "M", 150, "normal"),
        person("c", "training", 39.9, "F", 110, "osteopenia"),
        person("d", "test", 35, "F", 130, "normal"),
        person("e", "test", 61, "M", 70, "osteoporosis"),
        person("f", "test", 90, None, None, None),
        person("g", "external_riga", 33, "M", 160, "normal"),
    ]
    columns = ["subject_id", "split", "age", "sex", "bmd_mg_cm3", "bone_status"]
    return pd.DataFrame(rows, columns=columns).astype({"age": float, "bmd_mg_cm3": float})


def test_baseline_table(people: pd.DataFrame) -> None:
    table = baseline_table(people)
    assert baseline_table(people.iloc[::-1]).frame.equals(table.frame)
    frame = table.frame.set_index("Characteristic")
    assert list(frame.columns[:4]) == ["overall (n = 7)", "training (n = 3)", "test (n = 3)", "external_riga (n = 1)"]
    assert frame.loc["Sex: female", "training (n = 3)"] == "2 (66.67 %)"
    assert frame.loc["Sex: female", "test (n = 3)"] == "1 (50.00 %)"  # of the two whose sex is known
    assert frame.loc["Sex: unknown", "test (n = 3)"] == "1"
    assert frame.loc["BMD (mg/cm³), mean ± SD", "training (n = 3)"] == "143.33 ± 30.55"
    assert frame.loc["BMD (mg/cm³), mean ± SD", "test (n = 3)"] == "100.00 ± 42.43 (n = 2)"
    assert frame.loc["Class: osteoporosis", "overall (n = 7)"] == "1 (16.67 %)"
    # F of 170, 150, 110 against 130, 70 by hand: between 2253.33 / 1, within (1866.67 + 1800) / 3
    assert frame.loc["BMD (mg/cm³), mean ± SD", "F or χ²"] == f"{2253.3333 / (3666.6667 / 3):.3f}"
    # men and women 1, 2 against 1, 1: 5 * (1 * 1 - 2 * 1)^2 / (3 * 2 * 2 * 3)
    assert frame.loc["Sex: male", "F or χ²"] == f"{5 / 36:.3f}\N{DAGGER}"
    assert any("External cohorts" in note for note in table.notes)
    assert any("approximate" in note for note in table.notes)


def test_density_by_age(people: pd.DataFrame) -> None:
    table = density_by_age(people)
    frame = table.frame.set_index("Age (years)")
    assert list(frame.index) == [name for name, _, _ in AGE_BANDS[:5]] + ["F between ages", "P"]
    thirties = frame.loc[f"30{DASH}39"]
    assert (thirties["n"], thirties["Men"], thirties["Women"]) == (4, 2, 2)
    assert thirties["BMD (mg/cm³), men"] == "155.00 ± 7.07"
    # women 110, 130 minus men 150, 160: -35 / sqrt(200 / 2 + 50 / 2)
    assert thirties["t"] == f"{-35 / np.sqrt(125):.3f}"
    assert frame.loc[f"40{DASH}49", "BMD (mg/cm³), all"] == DASH
    assert any("1 of 7 subjects without age or density are excluded" in note for note in table.notes)
    assert "Student" in density_by_age(people, "student").notes[0]


def test_no_measured_subject_is_an_empty_table(people: pd.DataFrame) -> None:
    table = density_by_age(people.assign(bmd_mg_cm3=np.nan))
    assert len(table.frame) == 2
    assert density_by_age_figure(people.assign(bmd_mg_cm3=np.nan, bone_status=None))


def test_one_row_per_subject_is_required(people: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="one row per subject"):
        baseline_table(pd.concat([people, people]))
    with pytest.raises(ValueError, match="missing: age"):
        density_by_age(people.drop(columns="age"))


def bar_heights(axis: Axes) -> list[float]:
    return [round(patch.get_height(), 1) for patch in axis.patches if isinstance(patch, Rectangle)]


def test_figure_shows_shares_and_means(people: pd.DataFrame) -> None:
    shares, means = density_by_age_figure(people, virtual=True).axes
    heights = sorted(height for height in bar_heights(shares) if height > 0)
    assert heights == [50.0, 100.0]  # one of two women in their thirties, the only man in his sixties
    assert sorted(bar_heights(means)) == [70.0, 120.0, 155.0, 170.0]
    assert shares.get_title(loc="right") == "virtual patients"
    assert means.get_xticklabels()[1].get_text() == f"30{DASH}39\n2 M, 2 F"


# Li et al. 2026, Table 1: men and women with and without osteoporosis, chi-square as printed
LI = {
    "internal": ((206, 1312), (840, 1920), 150.784),
    "external_1": ((20, 99), (31, 38), 17.471),  # the paper prints -17.471, which no chi-square can be
    "external_2": ((11, 52), (4, 9), 1.205),
}


def _li(name: str) -> pd.DataFrame:
    rows = []
    for ill, (men, women) in zip((True, False), LI[name][:2], strict=True):
        for sex, count in (("M", men), ("F", women)):
            rows += [
                {
                    "subject_id": f"{name}{ill}{sex}{i}",
                    "split": name if name != "internal" else ("training", "test")[i % 2],
                    "sex": sex,
                    "age": 70.0 + ill + i % 3,
                    "t_score": -2.5 if ill else -2.49,
                    "areal_bmd_g_cm2": 0.6 if ill else 0.9,
                    "height_cm": 160.0,
                    "weight_kg": 51.2 + i % 2,
                }
                for i in range(count)
            ]
    return pd.DataFrame(rows)


def test_lis_baseline_has_his_chi_squares_and_one_internal_set() -> None:
    people = pd.concat([_li(name) for name in LI], ignore_index=True)
    people = people.assign(bmd_mg_cm3=np.nan, bone_status=None)
    table = osteoporosis_table(people)
    assert table is not None
    frame = table.frame
    assert [s for s in frame["Set"] if s][::2] == ["internal (n = 4278)", "external_1 (n = 188)", "external_2 (n = 76)"]
    assert list(frame["Group"][:3]) == [
        "osteoporosis (n = 1518)",
        "no osteoporosis (n = 2760)",
        "t or \N{GREEK SMALL LETTER CHI}²",
    ]
    assert [m.rstrip("\N{DAGGER}") for m in frame["Men"][2::4]] == [f"{chi:.3f}" for _, _, chi in LI.values()]
    ill, well = (people[people["split"].isin(["training", "test"]) & (people["t_score"] <= t)] for t in (-2.5, 0))
    well = well[well["t_score"] > -2.5]
    expected = stats.ttest_ind(ill["age"], well["age"], equal_var=False).statistic
    assert frame["Age (years)"][2] == f"{expected:.3f}"
    assert frame["BMI (kg/m²)"][0].startswith("20.")
    assert "external_2: the chi-square test is approximate, an expected count is 2.6." in table.notes


def test_a_table_with_t_scores_must_have_the_other_columns(people: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="missing: areal_bmd_g_cm2, height_cm, weight_kg"):
        osteoporosis_table(people.assign(t_score=-1.0))


def test_without_t_scores_there_is_no_such_table(people: pd.DataFrame) -> None:
    assert osteoporosis_table(people) is None
    some = people.assign(t_score=[-3.0, *[np.nan] * (len(people) - 1)])
    some = some.assign(areal_bmd_g_cm2=0.7, height_cm=160.0, weight_kg=50.0)
    table = osteoporosis_table(some)
    assert table is not None
    assert table.notes[-1] == f"{len(people) - 1} of {len(people)} subjects without a T-score are excluded."


def test_everything_is_written(people: pd.DataFrame, tmp_path: Path) -> None:
    files = write_cohort(people, tmp_path / "out", virtual=True)
    assert [f.name for f in files] == [
        *(f"baseline.{e}" for e in ("csv", "md", "tex")),
        *(f"density_by_age.{e}" for e in ("csv", "md", "png", "svg", "tex")),
        *(f"prevalence.{e}" for e in ("csv", "md", "tex")),
    ]
    assert "Virtual patients" in (tmp_path / "out" / "baseline.md").read_text()
    assert "Virtual patients" in (tmp_path / "out" / "density_by_age.tex").read_text()


# --- classes in people of 50 years and older ---------------------------------------------------------------------


def test_prevalence_counts_people_of_50_and_older_by_sex() -> None:
    rows = [person(f"m{n}", "test", 50 + n, "M", 130, "osteoporosis" if n < 2 else "normal") for n in range(13)]
    rows += [person("young", "test", 49.9, "M", 70, "osteoporosis"), person("f", "test", 80, "F", 70, "osteopenia")]
    rows += [person("unknown", "test", 70, None, 100, "osteopenia"), person("no class", "test", 70, "F", None, None)]
    columns = ["subject_id", "split", "age", "sex", "bmd_mg_cm3", "bone_status"]
    table = prevalence_table(pd.DataFrame(rows, columns=columns))
    assert table is not None
    men, women = (row for _, row in table.frame.iterrows())
    assert (men["n"], women["n"]) == (13, 1)
    low, high = stats.binomtest(2, 13).proportion_ci(method="wilson")
    assert men["Osteoporosis"] == f"2 (15.4\N{NO-BREAK SPACE}%, {100 * low:.1f}{DASH}{100 * high:.1f})"
    assert women["Osteopenia"].startswith("1 (100.0")
    assert any("2 subjects without age, sex or class" in note for note in table.notes)


def test_there_is_no_prevalence_without_old_people(people: pd.DataFrame) -> None:
    assert prevalence_table(people[people["age"] < 50]) is None
