"""Cohort tables: Pan's printed statistics follow from Pan's printed means where they do, and are named where not.

Numbers of Pan et al. 2024, Tables 1 and 2 (doi 10.1186/s12891-024-07297-1).
"""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from osteo_monai.reporting.cohort import (
    AGE_BANDS,
    Group,
    anova,
    baseline_table,
    chi_square,
    density_by_age,
    density_by_age_figure,
    flow_figure,
    osteoporosis_table,
    t_test,
    write_cohort,
    write_flow,
)
from osteo_monai.reporting.tables import write_table

DASH = "\N{EN DASH}"

# age: all, men, women (n, mean, SD), t and P as printed
TABLE_1 = {
    "< 30": (Group(60, 175.96, 28.27), Group(40, 173.85, 31.38), Group(20, 180.18, 20.80), 0.814),
    "30-39": (Group(165, 168.42, 28.26), Group(85, 160.27, 28.37), Group(80, 177.08, 23.22), 4.174),
    "40-49": (Group(256, 148.27, 27.58), Group(157, 139.14, 25.06), Group(99, 162.76, 25.18), 6.899),
    "50-59": (Group(322, 121.83, 32.53), Group(207, 120.48, 33.20), Group(115, 124.25, 31.30), 0.470),
    "60-69": (Group(117, 94.46, 28.42), Group(57, 96.66, 29.52), Group(60, 92.36, 27.41), -0.704),
    "70-79": (Group(86, 83.83, 33.16), Group(41, 102.64, 31.91), Group(45, 66.70, 23.85), -6.141),
    "80-89": (Group(40, 66.49, 31.20), Group(17, 71.88, 33.45), Group(23, 62.51, 29.54), -1.018),
    ">= 90": (Group(2, 38.78, 20.80), Group(1, 38.85, float("nan")), Group(1, 38.70, float("nan")), None),
}


def joined(a: Group, b: Group) -> Group:
    """Mean and SD of two groups together, by the sums of squares."""
    n = a.n + b.n
    mean = (a.n * a.mean + b.n * b.mean) / n
    squares = sum((g.n - 1) * g.sd**2 + g.n * (g.mean - mean) ** 2 for g in (a, b))
    return Group(n, mean, (squares / (n - 1)) ** 0.5)


# --- what Pan prints and what follows ------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "kind"), [("< 30", "student"), ("30-39", "welch")])
def test_two_printed_t_follow_one_from_each_test(age: str, kind: str) -> None:
    _, men, women, printed = TABLE_1[age]
    found = t_test(women, men, kind)
    assert found is not None
    assert found.t == pytest.approx(printed, abs=0.0015)
    other = t_test(women, men, "welch" if kind == "student" else "student")
    assert other is not None
    assert abs(other.t - printed) > 0.02


@pytest.mark.parametrize(
    ("age", "welch", "student"),
    [
        ("40-49", 7.323, 7.331),
        ("50-59", 1.013, 0.996),
        ("60-69", -0.815, -0.817),
        ("70-79", -5.871, -5.950),
        ("80-89", -0.920, -0.938),
    ],
)
def test_five_printed_t_follow_from_neither(age: str, welch: float, student: float) -> None:
    # Misprints of Table 1: no rounding of the printed means and SDs gives the printed t; sign and verdict agree.
    _, men, women, printed = TABLE_1[age]
    found = {kind: t_test(women, men, kind) for kind in ("welch", "student")}
    assert found["welch"].t == pytest.approx(welch, abs=5e-4)
    assert found["student"].t == pytest.approx(student, abs=5e-4)
    assert all(abs(f.t - printed) > 0.05 and np.sign(f.t) == np.sign(printed) for f in found.values())
    verdict = printed in (6.899, -6.141)
    assert all((f.p < 0.05) == verdict for f in found.values())


def test_one_printed_sd_is_wrong() -> None:
    # 30-39 years: 28.26 is printed for all, the two sexes give 27.26. The other ages agree to the last digit or one,
    # but for the two people of 90: 38.85 and 38.70 have an SD of 0.11, not 20.80.
    assert Group.of([38.85, 38.70]).sd == pytest.approx(0.106, abs=0.001)
    for age, (everyone, men, women, _) in TABLE_1.items():
        if age == ">= 90":
            continue
        sexes = joined(men, women)
        assert sexes.n == everyone.n
        assert sexes.mean == pytest.approx(everyone.mean, abs=0.0151)
        assert sexes.sd == pytest.approx(27.26 if age == "30-39" else everyone.sd, abs=0.0151)


def test_f_over_the_ages() -> None:
    everyone, men, women = ([row[i] for row in TABLE_1.values()] for i in range(3))
    assert round(anova(men).f, 2) == 54.85
    assert round(anova(women).f, 2) == 141.94
    assert (anova(men).df_between, anova(men).df_within) == (7, 605 - 8)
    # 157.79 is printed for all. The printed SDs give 156.32; with 27.26 for 30-39 years, 157.79 follows within rounding
    assert anova(everyone).f == pytest.approx(156.32, abs=0.01)
    everyone[1] = Group(165, 168.42, 27.26)
    assert anova(everyone).f == pytest.approx(157.79, abs=0.1)
    # The printed P (0.002, 0.002, < 0.001, 0.038) belong to none of these
    assert all(anova(g).p < 1e-50 for g in (everyone, men, women))


def test_chi_square_of_table_1_and_2() -> None:
    men, women = ([row[i].n for row in TABLE_1.values()] for i in (1, 2))
    sexes = chi_square([men, women])
    assert (round(sexes.value, 2), sexes.df, round(sexes.p, 3)) == (22.91, 7, 0.002)
    assert sexes.smallest_expected < 5
    table_2 = chi_square([[305, 62, 238], [225, 38, 180]])
    assert (round(table_2.value, 3), table_2.df, round(table_2.p, 3)) == (0.862, 2, 0.650)
    classes = chi_square([[310, 60, 251], [150, 30, 116], [70, 10, 51]])
    assert (round(classes.value, 3), classes.df, round(classes.p, 3)) == (0.994, 4, 0.911)


def test_anova_of_table_2() -> None:
    # Means are printed to 0.01, F to 0.001: the printed F lies within what rounding allows
    age = anova([Group(530, 51.04, 14.4), Group(100, 51.11, 12.73), Group(418, 51.70, 14.97)])
    assert age.f == pytest.approx(0.255, abs=0.004)
    assert age.p == pytest.approx(0.775, abs=0.003)
    bmd = anova([Group(530, 129.92, 42.78), Group(100, 131.30, 39.29), Group(418, 130.90, 42.96)])
    assert bmd.f == pytest.approx(0.084, abs=0.002)
    assert bmd.p == pytest.approx(0.919, abs=0.001)


# --- the tests themselves ------------------------------------------------------------------------------------------


def test_summaries_give_what_the_values_give() -> None:
    rng = np.random.default_rng(1)
    a, b, c = (rng.normal(m, s, n) for m, s, n in ((100, 10, 12), (108, 25, 7), (95, 15, 20)))
    for kind, equal in (("welch", False), ("student", True)):
        expected = stats.ttest_ind(a, b, equal_var=equal)
        found = t_test(Group.of(a), Group.of(b), kind)
        assert (found.t, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, expected.df))
    expected = stats.f_oneway(a, b, c)
    found = anova([Group.of(x) for x in (a, b, c)])
    assert (found.f, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_what_cannot_be_tested_is_not() -> None:
    one, empty, flat = Group.of([5.0]), Group.of([]), Group.of([5.0, 5.0])
    assert t_test(one, Group(10, 1, 1)) is None
    assert t_test(flat, flat) is None
    assert anova([empty, Group(10, 1, 1)]) is None
    assert anova([one, one, empty]) is None
    assert chi_square([[5, 0], [7, 0]]) is None
    assert chi_square([[5, 3, 0], [7, 2, 0]]).df == 1
    assert Group.of([1.0, np.nan, 3.0]) == Group(2, 2.0, pytest.approx(np.sqrt(2)))
    with pytest.raises(ValueError, match="'welch' or 'student'"):
        t_test(Group(3, 1, 1), Group(3, 1, 2), "mann")  # type: ignore[arg-type]


# --- tables --------------------------------------------------------------------------------------------------------


def person(name: str, split: str, age: float, sex: str | None, bmd: float | None, status: str | None) -> tuple:
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
    assert any("1 of 7 subjects lack age or density" in note for note in table.notes)
    assert "Student" in density_by_age(people, "student").notes[0]


def test_nobody_measured_is_an_empty_table(people: pd.DataFrame) -> None:
    table = density_by_age(people.assign(bmd_mg_cm3=np.nan))
    assert len(table.frame) == 2
    assert density_by_age_figure(people.assign(bmd_mg_cm3=np.nan, bone_status=None))


def test_one_row_per_subject_is_asked_for(people: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="one row per subject"):
        baseline_table(pd.concat([people, people]))
    with pytest.raises(ValueError, match="lacks \\['age'\\]"):
        density_by_age(people.drop(columns="age"))


def test_figure_shows_shares_and_means(people: pd.DataFrame) -> None:
    shares, means = density_by_age_figure(people, virtual=True).axes
    heights = sorted(round(p.get_height(), 1) for p in shares.patches if p.get_height() > 0)
    assert heights == [50.0, 100.0]  # one of two women in their thirties, the only man in his sixties
    assert sorted(round(p.get_height(), 1) for p in means.patches) == [70.0, 120.0, 155.0, 170.0]
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


def test_without_t_scores_there_is_no_such_table(people: pd.DataFrame) -> None:
    assert osteoporosis_table(people) is None
    some = people.assign(t_score=[-3.0, *[np.nan] * (len(people) - 1)])
    some = some.assign(areal_bmd_g_cm2=0.7, height_cm=160.0, weight_kg=50.0)
    table = osteoporosis_table(some)
    assert table is not None
    assert table.notes[-1] == f"{len(people) - 1} of {len(people)} subjects have no T-score and are left out."


def test_everything_is_written(people: pd.DataFrame, tmp_path: Path) -> None:
    files = write_cohort(people, tmp_path / "out", virtual=True)
    assert [f.name for f in files] == [
        *(f"baseline.{e}" for e in ("csv", "md", "tex")),
        *(f"density_by_age.{e}" for e in ("csv", "md", "png", "svg", "tex")),
    ]
    assert "Virtual patients" in (tmp_path / "out" / "baseline.md").read_text()
    assert "Virtual patients" in (tmp_path / "out" / "density_by_age.tex").read_text()


# --- flow ----------------------------------------------------------------------------------------------------------


def stage(label: str, count: int, *excluded: tuple[str, int]) -> SimpleNamespace:
    return SimpleNamespace(label=label, count=count, excluded=excluded, unchecked=(("age", 3),) if excluded else ())


def test_flow_of_pans_subjects(tmp_path: Path) -> None:
    stages = [stage("Screened", 1913, ("left for one reason", 800), ("for another", 65)), stage("Included", 1048)]
    texts = [t.get_text().replace("\N{NO-BREAK SPACE}", " ") for t in flow_figure(stages).axes[0].texts]
    for text in ("Screened (n = 1913)", "Excluded (n = 865)", "for another (n = 65)", "Included (n = 1048)"):
        assert text in texts
    assert "not known and kept: age (n = 3)" in texts
    write_flow(stages, tmp_path)
    assert (tmp_path / "flow.png").stat().st_size > 1000
    assert "<svg" in (tmp_path / "flow.svg").read_text()


def test_a_flow_that_loses_people_is_refused() -> None:
    with pytest.raises(ValueError, match="of 10 subjects 8 stay, the next stage must not have 9"):
        flow_figure([stage("a", 10, ("x", 2)), stage("b", 9)])


# --- the writer ----------------------------------------------------------------------------------------------------


def test_one_table_in_three_forms(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model_1": ["a|b", "5 % & <"], "n": [3, 4], "AUC": [0.123456789012, np.nan]})
    paths = write_table(frame, tmp_path / "new" / "t.v1", "A caption_1.", ["Below ± 5."])
    assert [p.name for p in paths] == ["t.v1.csv", "t.v1.md", "t.v1.tex"]
    with paths[0].open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["model_1", "n", "AUC"], ["a|b", "3", "0.12345679"], ["5 % & <", "4", ""]]
    lines = paths[1].read_text().splitlines()
    assert lines[2:4] == ["| model_1 | n | AUC |", "|---|---:|---:|"]
    assert lines[4:6] == ["| a\\|b | 3 | 0.123 |", f"| 5 % & < | 4 | {DASH} |"]
    latex = paths[2].read_text()
    assert r"5 \% \& $<$ & 4 & -- \\" in latex
    assert r"\caption{A caption\_1.}" in latex
    assert r"\begin{tabular}{lrr}" in latex
    assert latex.index("toprule") < latex.index("midrule") < latex.index("bottomrule") < latex.index(r"Below $\pm$ 5.")
