import math

import numpy as np
import pytest
from scipy import stats

from osteo_monai.statistics.paired_means import compare_means


def test_means_tests_and_interval_of_paired_values() -> None:
    rng = np.random.default_rng(5)
    second = rng.normal(0.9, 0.03, 60)
    first = second + rng.normal(0.01, 0.02, 60)
    result = compare_means(first, second)
    differences = first - second
    assert result.people == 60
    assert [result.first, result.second] == pytest.approx([first.mean(), second.mean()])
    assert result.wilcoxon_p == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert result.t_p == pytest.approx(stats.ttest_rel(first, second).pvalue)
    half = 1.96 * differences.std(ddof=1) / math.sqrt(60)
    assert result.difference.value == pytest.approx(differences.mean())
    assert result.difference.low == pytest.approx(differences.mean() - half, abs=0.0008)
    assert result.difference.high == pytest.approx(differences.mean() + half, abs=0.0008)
    assert (result.first_higher, result.second_higher) == ((differences > 0).sum(), (differences < 0).sum())


def test_the_difference_changes_its_sign_with_the_order() -> None:
    first, second = [0.9, 0.8, 0.95, 0.7], [0.8, 0.85, 0.9, 0.6]
    forward, backward = compare_means(first, second), compare_means(second, first)
    assert forward.difference.value == pytest.approx(-backward.difference.value)
    assert forward.difference.low == pytest.approx(-backward.difference.high, abs=0.01)
    assert (forward.first_higher, forward.second_higher) == (3, 1)


def test_people_without_one_of_both_values_are_left_out() -> None:
    result = compare_means([1.0, math.nan, 3.0], [0.0, 1.0, math.nan])
    assert (result.people, result.first, result.second) == (1, 1.0, 0.0)
    assert math.isnan(result.wilcoxon_p)


def test_equal_methods_have_no_difference() -> None:
    result = compare_means([0.9, 0.8, 0.7], [0.9, 0.8, 0.7])
    assert (result.difference.low, result.difference.high, result.wilcoxon_p, result.t_p) == (0, 0, 1, 1)


def test_no_people() -> None:
    result = compare_means([], [])
    assert result.people == 0
    assert math.isnan(result.difference.value)


def test_values_of_other_people_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of one shape, got \(2,\) and \(3,\)"):
        compare_means([1, 2], [1, 2, 3])
