"""Repeatability by hand, by published figures, by simulation, and at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from osteo_monai.statistics.repeatability import LSC_FACTOR, SUFFICIENT_DF, Repeatability, repeatability


def pairs(people: int, sd: float, seed: int, times: int = 2) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return values and subjects of people with different densities and the same precision error."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(110, 30, people)
    return (truth[:, None] + rng.normal(0, sd, (people, times))).ravel(), np.repeat(np.arange(people), times)


def test_by_hand() -> None:
    # within-subject variances: 8 (100, 104), 2 (80, 78), 9 (90, 93, 87 -> mean 90, squares 9 + 9 over 2)
    found = repeatability([100, 104, 80, 78, 90, 93, 87, 55], list("aabbcccd"))
    assert (found.subjects, found.values, found.df) == (3, 7, 4)
    assert found.rms_sd.value == pytest.approx(math.sqrt((8 + 2 + 2 * 9) / 4))
    squares = 8 / 102**2 + 2 / 79**2 + 2 * 9 / 90**2
    assert found.rms_cv.value == pytest.approx(math.sqrt(squares / 4))
    assert found.lsc.value == pytest.approx(2.77181 * found.rms_sd.value, rel=1e-5)
    assert found.mean == pytest.approx((102 + 79 + 90) / 3)
    assert found.shift.value == pytest.approx((4 - 2 - 3) / 3)
    # chi-square of 4 degrees of freedom: 0.484419 and 11.143287
    assert found.rms_sd.low == pytest.approx(found.rms_sd.value * math.sqrt(4 / 11.143287), rel=1e-6)
    assert found.rms_sd.high == pytest.approx(found.rms_sd.value * math.sqrt(4 / 0.484419), rel=1e-5)


def test_the_factor_is_that_of_iscd() -> None:
    assert pytest.approx(2.77, abs=0.005) == LSC_FACTOR


def test_the_upper_limit_of_glueer_follows() -> None:
    # 27 degrees of freedom: the upper limit of the 90 % interval is 30 % above the precision error
    found = repeatability(*pairs(SUFFICIENT_DF, 3.0, 1), level=0.9)
    assert found.df == SUFFICIENT_DF
    assert found.sufficient
    assert found.rms_sd.high / found.rms_sd.value == pytest.approx(1.30, abs=0.02)


def test_intervals_cover_as_often_as_they_say() -> None:
    hits = {"rms_sd": 0, "lsc": 0, "shift": 0}
    true = {"rms_sd": 4.0, "lsc": LSC_FACTOR * 4.0, "shift": 0.0}
    for seed in range(1000):
        found = repeatability(*pairs(15, 4.0, seed, times=2 + seed % 2))
        for name, value in true.items():
            hits[name] += value in getattr(found, name)
    # 95 % of 1000, binomial SD 0.7 %
    assert all(0.93 < hit / 1000 < 0.97 for hit in hits.values()), hits


def test_five_percent_of_unchanged_people_exceed_the_least_significant_change() -> None:
    rng = np.random.default_rng(3)
    lsc = repeatability(*pairs(4000, 3.0, 8)).lsc.value
    changes = rng.normal(0, 3.0, 20_000) - rng.normal(0, 3.0, 20_000)
    assert np.mean(np.abs(changes) > lsc) == pytest.approx(0.05, abs=0.006)


def test_an_arithmetic_mean_of_the_deviations_would_be_too_small() -> None:
    # the error that Glueer 1995 warns of: 25 % too small for duplicates
    values, people = pairs(5000, 3.0, 2)
    spread = values.reshape(-1, 2).std(axis=1, ddof=1)
    found = repeatability(values, people)
    assert found.rms_sd.value == pytest.approx(3.0, rel=0.03)
    assert spread.mean() < 0.82 * found.rms_sd.value


def test_a_difference_between_first_and_second_scan_is_found() -> None:
    values, people = pairs(30, 2.0, 4)
    assert not repeatability(values, people).shifted
    assert repeatability(values + np.tile([0.0, 5.0], 30), people).shifted


def test_no_coefficient_of_variation_without_positive_means() -> None:
    found = repeatability([-2, 2, 100, 104], list("aabb"))
    assert math.isnan(found.rms_cv.value)
    assert math.isnan(found.lsc_percent.high)
    assert found.rms_sd.value == pytest.approx(math.sqrt(8))


def test_one_pair_has_a_wide_interval_and_no_shift_interval() -> None:
    found = repeatability([100, 104], ["a", "a"])
    assert found.df == 1
    assert not found.sufficient
    assert found.rms_sd.high > 30 * found.rms_sd.value
    assert math.isnan(found.shift.low)
    assert not found.shifted


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"level must .* got 95; values must be finite, 1 of 2 are not"):
        repeatability([1, math.nan], ["a", "a"], level=95)
    with pytest.raises(ValueError, match="subjects must have at least two values in one of them"):
        repeatability([1, 2], ["a", "b"])
    with pytest.raises(ValueError, match="subjects must have shape"):
        repeatability([1, 2], ["a"])
    with pytest.raises(ValueError, match="at least one case"):
        repeatability([], [])


REPEATS = st.lists(st.lists(st.floats(20, 300), min_size=2, max_size=4), min_size=1, max_size=8)


def flat(people: list[list[float]]) -> Repeatability:
    return repeatability([v for of in people for v in of], [n for n, of in enumerate(people) for _ in of])


@settings(deadline=None, max_examples=60)
@given(REPEATS, st.floats(0.5, 3), st.floats(-10, 10))
def test_scale_and_offset(people: list[list[float]], scale: float, offset: float) -> None:
    found = flat(people)
    moved = flat([[scale * v + offset for v in of] for of in people])
    assert moved.rms_sd.value == pytest.approx(scale * found.rms_sd.value, rel=1e-6, abs=1e-9)
    scaled = flat([[scale * v for v in of] for of in people])
    assert scaled.rms_cv.value == pytest.approx(found.rms_cv.value, rel=1e-6, abs=1e-9)
    assert found.rms_sd.low <= found.rms_sd.value <= found.rms_sd.high


@settings(deadline=None, max_examples=60)
@given(REPEATS, st.randoms(use_true_random=False))
def test_the_order_of_people_does_not_matter(people: list[list[float]], random: object) -> None:
    shuffled = people.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert flat(shuffled).rms_sd.value == pytest.approx(flat(people).rms_sd.value, rel=1e-9, abs=1e-9)


def test_intraclass_correlation_of_shrout_and_fleiss() -> None:
    """Their example of six targets with four ratings; bounds as R psych prints them (F 1.8, 5 and 18 df)."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = repeatability(np.ravel(ratings), np.repeat(np.arange(6), 4)).icc
    assert (found.value, found.low, found.high) == pytest.approx((0.166, -0.133, 0.723), abs=1e-3)


@pytest.mark.parametrize(("between", "within"), [(20.0, 5.0), (5.0, 5.0)])
def test_intraclass_correlation_has_its_coverage(between: float, within: float) -> None:
    rng = np.random.default_rng(1)
    truth, covered, replicates = between**2 / (between**2 + within**2), 0, 1000
    subjects = np.concatenate([np.repeat(np.arange(10), 2), np.repeat(np.arange(10, 15), 3)])
    for _ in range(replicates):
        values = 100 + rng.normal(0, between, 15)[subjects] + rng.normal(0, within, subjects.size)
        found = repeatability(values, subjects).icc
        covered += found.low <= truth <= found.high
    assert 0.93 < covered / replicates < 0.975


def test_no_intraclass_correlation_without_variance() -> None:
    assert np.isnan(repeatability([5.0, 5.0, 5.0, 5.0], ["a", "a", "b", "b"]).icc.value)
    assert np.isnan(repeatability([5.0, 6.0], ["a", "a"]).icc.value)
    same = repeatability([5.0, 5.0, 7.0, 7.0], ["a", "a", "b", "b"]).icc
    assert same.value == 1
    assert np.isnan(same.low)
