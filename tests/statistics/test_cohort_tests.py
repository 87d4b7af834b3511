"""Tests of cohort differences: printed statistics of Pan 2024 follow from its printed means, or are misprints.

Numbers of Pan et al. 2024, Tables 1 and 2 (doi 10.1186/s12891-024-07297-1).
"""

from typing import TypeVar

import numpy as np
import pytest
from scipy import stats

from osteo_monai.statistics.cohort import Group, TTestKind, anova, chi_square, t_test

# age: all, men, women (n, mean, SD), t and P as printed
TABLE_1: dict[str, tuple[Group, Group, Group, float | None]] = {
    "< 30": (Group(60, 175.96, 28.27), Group(40, 173.85, 31.38), Group(20, 180.18, 20.80), 0.814),
    "30-39": (Group(165, 168.42, 28.26), Group(85, 160.27, 28.37), Group(80, 177.08, 23.22), 4.174),
    "40-49": (Group(256, 148.27, 27.58), Group(157, 139.14, 25.06), Group(99, 162.76, 25.18), 6.899),
    "50-59": (Group(322, 121.83, 32.53), Group(207, 120.48, 33.20), Group(115, 124.25, 31.30), 0.470),
    "60-69": (Group(117, 94.46, 28.42), Group(57, 96.66, 29.52), Group(60, 92.36, 27.41), -0.704),
    "70-79": (Group(86, 83.83, 33.16), Group(41, 102.64, 31.91), Group(45, 66.70, 23.85), -6.141),
    "80-89": (Group(40, 66.49, 31.20), Group(17, 71.88, 33.45), Group(23, 62.51, 29.54), -1.018),
    ">= 90": (Group(2, 38.78, 20.80), Group(1, 38.85, float("nan")), Group(1, 38.70, float("nan")), None),
}


T = TypeVar("T")


def existing(result: T | None) -> T:
    """Return a test result that must not be ``None``."""
    assert result is not None
    return result


def joined(a: Group, b: Group) -> Group:
    """Mean and SD of two groups together, by the sums of squares."""
    n = a.n + b.n
    mean = (a.n * a.mean + b.n * b.mean) / n
    squares = sum((g.n - 1) * g.sd**2 + g.n * (g.mean - mean) ** 2 for g in (a, b))
    return Group(n, mean, (squares / (n - 1)) ** 0.5)


@pytest.mark.parametrize(("age", "kind"), [("< 30", "student"), ("30-39", "welch")])
def test_two_printed_t_follow_one_from_each_test(age: str, kind: TTestKind) -> None:
    _, men, women, printed = TABLE_1[age]
    assert printed is not None
    result = t_test(women, men, kind)
    assert result is not None
    assert result.t == pytest.approx(printed, abs=0.0015)
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
    assert printed is not None
    kinds: tuple[TTestKind, ...] = ("welch", "student")
    result = {kind: existing(t_test(women, men, kind)) for kind in kinds}
    assert result["welch"].t == pytest.approx(welch, abs=5e-4)
    assert result["student"].t == pytest.approx(student, abs=5e-4)
    assert all(abs(f.t - printed) > 0.05 and np.sign(f.t) == np.sign(printed) for f in result.values())
    verdict = printed in (6.899, -6.141)
    assert all((f.p < 0.05) == verdict for f in result.values())


def test_one_printed_sd_is_wrong() -> None:
    # 30-39 years: 28.26 is printed for all, the two sexes give 27.26. The other ages agree to the last digit or one,
    # but for the two people of 90: 38.85 and 38.70 have an SD of 0.11, not 20.80.
    assert Group.of([38.85, 38.70]).sd == pytest.approx(0.106, abs=0.001)
    for age, (all_sexes, men, women, _) in TABLE_1.items():
        if age == ">= 90":
            continue
        sexes = joined(men, women)
        assert sexes.n == all_sexes.n
        assert sexes.mean == pytest.approx(all_sexes.mean, abs=0.0151)
        assert sexes.sd == pytest.approx(27.26 if age == "30-39" else all_sexes.sd, abs=0.0151)


def test_f_over_the_ages() -> None:
    all_sexes = [row[0] for row in TABLE_1.values()]
    men, women = [row[1] for row in TABLE_1.values()], [row[2] for row in TABLE_1.values()]
    assert round(existing(anova(men)).f, 2) == 54.85
    assert round(existing(anova(women)).f, 2) == 141.94
    assert (existing(anova(men)).df_between, existing(anova(men)).df_within) == (7, 605 - 8)
    # 157.79 is printed for all. The printed SDs give 156.32; with 27.26 for 30-39 years, 157.79 follows within rounding
    assert existing(anova(all_sexes)).f == pytest.approx(156.32, abs=0.01)
    all_sexes[1] = Group(165, 168.42, 27.26)
    assert existing(anova(all_sexes)).f == pytest.approx(157.79, abs=0.1)
    # The printed P (0.002, 0.002, < 0.001, 0.038) belong to none of these
    assert all(existing(anova(g)).p < 1e-50 for g in (all_sexes, men, women))


def test_chi_square_of_table_1_and_2() -> None:
    men, women = [row[1].n for row in TABLE_1.values()], [row[2].n for row in TABLE_1.values()]
    sexes = existing(chi_square([men, women]))
    assert (round(sexes.value, 2), sexes.df, round(sexes.p, 3)) == (22.91, 7, 0.002)
    assert sexes.smallest_expected < 5
    table_2 = existing(chi_square([[305, 62, 238], [225, 38, 180]]))
    assert (round(table_2.value, 3), table_2.df, round(table_2.p, 3)) == (0.862, 2, 0.650)
    classes = existing(chi_square([[310, 60, 251], [150, 30, 116], [70, 10, 51]]))
    assert (round(classes.value, 3), classes.df, round(classes.p, 3)) == (0.994, 4, 0.911)


def test_anova_of_table_2() -> None:
    # Means are printed to 0.01, F to 0.001: the printed F lies within what rounding allows
    age = existing(anova([Group(530, 51.04, 14.4), Group(100, 51.11, 12.73), Group(418, 51.70, 14.97)]))
    assert age.f == pytest.approx(0.255, abs=0.004)
    assert age.p == pytest.approx(0.775, abs=0.003)
    bmd = existing(anova([Group(530, 129.92, 42.78), Group(100, 131.30, 39.29), Group(418, 130.90, 42.96)]))
    assert bmd.f == pytest.approx(0.084, abs=0.002)
    assert bmd.p == pytest.approx(0.919, abs=0.001)


def test_summaries_give_what_the_values_give() -> None:
    rng = np.random.default_rng(1)
    a, b, c = (rng.normal(m, s, n) for m, s, n in ((100, 10, 12), (108, 25, 7), (95, 15, 20)))
    kinds: tuple[tuple[TTestKind, bool], ...] = (("welch", False), ("student", True))
    for kind, equal in kinds:
        expected = stats.ttest_ind(a, b, equal_var=equal)
        result = existing(t_test(Group.of(a), Group.of(b), kind))
        assert (result.t, result.p, result.df) == pytest.approx((expected.statistic, expected.pvalue, expected.df))
    expected = stats.f_oneway(a, b, c)
    variance = existing(anova([Group.of(x) for x in (a, b, c)]))
    assert (variance.f, variance.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_what_cannot_be_tested_is_not() -> None:
    one, empty, flat = Group.of([5.0]), Group.of([]), Group.of([5.0, 5.0])
    assert t_test(one, Group(10, 1, 1)) is None
    assert t_test(flat, flat) is None
    assert anova([empty, Group(10, 1, 1)]) is None
    assert anova([one, one, empty]) is None
    assert chi_square([[5, 0], [7, 0]]) is None
    assert existing(chi_square([[5, 3, 0], [7, 2, 0]])).df == 1
    assert Group.of([1.0, np.nan, 3.0]) == Group(2, 2.0, float(np.sqrt(2)))
    with pytest.raises(ValueError, match="'welch' or 'student'"):
        t_test(Group(3, 1, 1), Group(3, 1, 2), "mann")  # type: ignore[arg-type]
