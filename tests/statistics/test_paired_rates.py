"""Rates of two classifiers on the same images: exact tests, differences with intervals, margins."""

import math

import numpy as np
import pytest

from osteo_monai.statistics import compare_rates


def test_paired_rates_by_hand() -> None:
    truth = [1] * 8 + [0] * 4
    first = [1, 1, 1, 1, 1, 1, 0, 0] + [0, 0, 1, 0]
    second = [1, 0, 0, 0, 1, 0, 1, 0] + [0, 0, 1, 0]
    found = compare_rates(truth, first, second)
    assert (found.sensitivity.first, found.sensitivity.second) == (6 / 8, 3 / 8)
    assert (found.sensitivity.test.first_only, found.sensitivity.test.second_only) == (4, 1)
    assert found.sensitivity.p == pytest.approx(2 * 6 / 32)
    assert (found.specificity.difference.value, found.specificity.p) == (0, 1)


def test_paired_rates_by_subject() -> None:
    truth, first, second = [1] * 6, [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]
    single = compare_rates(truth, first, second, groups=list("abcdef"))
    assert single.sensitivity.p == compare_rates(truth, first, second).sensitivity.p
    # subjects of two cases each: sums 2, 2, 0, so 2 of the 4 patterns of signs are as extreme
    pairs = compare_rates(truth, first, second, groups=list("aabbcc"))
    assert pairs.sensitivity.clustered
    assert pairs.sensitivity.p == pytest.approx(0.5)
    assert compare_rates(truth, first, first, groups=list("aabbcc")).sensitivity.p == 1


def test_copies_of_images_do_not_make_a_paired_p_smaller() -> None:
    # 30 people, the second model misses 5 that the first detects: 0.0625 with any number of equal images
    truth, first = np.ones(30), np.ones(30)
    second = np.where(np.arange(30) < 5, 0, 1)
    assert compare_rates(truth, first, second).sensitivity.p == pytest.approx(0.0625)
    rows = np.repeat(np.arange(30), 10)
    copied = compare_rates(truth[rows], first[rows], second[rows], groups=rows)
    assert copied.sensitivity.p == pytest.approx(0.0625)
    rng = np.random.default_rng(2)
    a, b, people = rng.integers(0, 2, 60), rng.integers(0, 2, 60), np.repeat(np.arange(20), 3)
    found = compare_rates(np.ones(60), a, b, groups=people).sensitivity.p
    sums = np.bincount(people, a - b)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 20)).reshape(20, -1)
    assert found == pytest.approx(np.mean(np.abs(sums @ signs) >= abs(sums.sum())))


def test_paired_rates_of_no_case() -> None:
    found = compare_rates([0, 0], [0, 1], [0, 0])
    assert math.isnan(found.sensitivity.first)
    assert found.sensitivity.p == 1
    with pytest.raises(ValueError, match="second must be 0 or 1"):
        compare_rates([0, 1], [0, 1], [0, 0.4])


def table(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the results of two tests with these counts of pairs."""
    counts = (both, first, second, neither)
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


def test_difference_of_pairs_is_that_of_the_literature() -> None:
    # 21 children before and after a transplantation (Bentur 2009, as in Fagerland 2014): 1, 1, 7 and 12 pairs
    first, second = table(1, 1, 7, 12)
    found = compare_rates(np.ones(21), first, second).sensitivity
    assert found.difference.value == pytest.approx(-6 / 21)
    assert (found.difference.low, found.difference.high) == pytest.approx((-0.507, -0.026), abs=5e-4)
    assert found.p == pytest.approx(0.0703, abs=5e-5)


def test_difference_of_perfect_rates_keeps_a_width() -> None:
    found = compare_rates([1] * 10 + [0] * 10, [1] * 10 + [0] * 10, [1] * 10 + [0] * 10)
    for interval in (found.sensitivity.difference, found.specificity.difference, found.ppv, found.npv):
        assert interval.value == 0
        assert interval.low < -0.2 < 0.2 < interval.high
    assert math.isnan(compare_rates([1, 0], [0, 0], [1, 0]).ppv.value)


def test_copies_of_images_change_no_difference() -> None:
    rng = np.random.default_rng(5)
    truth = rng.random(120) < 0.4
    first, second = truth ^ (rng.random(120) < 0.2), truth ^ (rng.random(120) < 0.25)
    people, rows = np.arange(120) // 2, np.repeat(np.arange(120), 10)
    once = compare_rates(truth, first, second, groups=people)
    copied = compare_rates(truth[rows], first[rows], second[rows], groups=people[rows])
    for a, b in (
        (once.sensitivity.difference, copied.sensitivity.difference),
        (once.specificity.difference, copied.specificity.difference),
        (once.ppv, copied.ppv),
        (once.npv, copied.npv),
    ):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))
    assert once.sensitivity.p == pytest.approx(copied.sensitivity.p)


def test_difference_of_predictive_values_has_its_coverage() -> None:
    rng = np.random.default_rng(6)
    covered = []
    for _ in range(300):
        truth = rng.random(200) < 0.3
        shared = rng.random(200) < 0.1
        first, second = truth ^ shared ^ (rng.random(200) < 0.05), truth ^ shared ^ (rng.random(200) < 0.15)
        errors = [e + 0.1 - 2 * e * 0.1 for e in (0.05, 0.15)]
        ppv = [0.3 * (1 - e) / (0.3 * (1 - e) + 0.7 * e) for e in errors]
        covered.append(ppv[0] - ppv[1] in compare_rates(truth, first, second).ppv)
    assert 0.92 <= np.mean(covered) <= 0.985  # 95 %, three standard errors
