"""Agreement of densities by hand, by simulation, and at the edges."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import linregress, pearsonr, t

from osteo_monai.statistics.agreement import agreement, agreement_by
from osteo_monai.statistics.proportions import wilson

REFERENCE, PREDICTED = [60.0, 90.0, 120.0, 150.0], [64.0, 88.0, 126.0, 152.0]  # differences 4, -2, 6, 2


def cohort(n: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    truth = rng.normal(110, 35, n)
    return truth, 5 + 0.95 * truth + rng.normal(0, 10, n)


def test_by_hand() -> None:
    found = agreement(REFERENCE, PREDICTED)
    assert found.bias.value == pytest.approx(2.5)
    assert found.sd == pytest.approx(math.sqrt((1.5**2 + 4.5**2 + 3.5**2 + 0.5**2) / 3))
    assert found.mae.value == pytest.approx(3.5)
    assert found.rmse.value == pytest.approx(math.sqrt(60 / 4))
    half = 3.182446305284263 * found.sd / 2  # t of 3 degrees of freedom
    assert (found.bias.low, found.bias.high) == pytest.approx((2.5 - half, 2.5 + half))
    assert found.upper_limit.value == pytest.approx(2.5 + 1.959963984540054 * found.sd)
    half = 3.182446305284263 * found.sd * math.sqrt(1 / 4 + 1.959963984540054**2 / 6)
    assert found.upper_limit.high - found.upper_limit.value == pytest.approx(half)
    # sums of squares about the means: reference 4500, predicted 4595, product 4530
    assert found.pearson.value == pytest.approx(4530 / math.sqrt(4500 * 4595))
    assert found.ccc.value == pytest.approx(2 * 4530 / (4500 + 4595 + 4 * 2.5**2))
    assert (found.n, found.subjects, found.clustered, found.coverage) == (4, 4, False, None)


def test_correlation_and_regression_equal_those_of_scipy() -> None:
    truth, predicted = cohort(80)
    found = agreement(truth, predicted)
    target = pearsonr(truth, predicted)
    assert found.pearson.value == pytest.approx(target.statistic)
    interval = target.confidence_interval()
    assert (found.pearson.low, found.pearson.high) == pytest.approx((interval.low, interval.high))
    line = linregress((truth + predicted) / 2, predicted - truth)
    assert (found.slope.value, found.intercept.value) == pytest.approx((line.slope, line.intercept))
    assert found.slope_p == pytest.approx(line.pvalue)
    quantile = t.ppf(0.975, 78)
    assert found.slope.high == pytest.approx(line.slope + quantile * line.stderr)
    assert found.intercept.low == pytest.approx(line.intercept - quantile * line.intercept_stderr)


def test_concordance_falls_with_bias_and_scale_where_correlation_does_not() -> None:
    truth, _ = cohort(50)
    shifted, stretched = agreement(truth, truth + 20), agreement(truth, 1.5 * truth)
    assert shifted.pearson.value == pytest.approx(1)
    assert stretched.pearson.value == pytest.approx(1)
    v = truth.var()
    assert shifted.ccc.value == pytest.approx(2 * v / (2 * v + 400))
    assert stretched.slope.value == pytest.approx(0.5 / 1.25)


def test_intervals_cover_as_often_as_they_say() -> None:
    # predicted = 5 + 0.95 truth + noise: concordance, bias and limits follow from the two distributions
    sd_d = math.hypot(0.05 * 35, 10)
    true = {"bias": -0.5, "upper_limit": -0.5 + 1.959964 * sd_d, "rmse": math.hypot(0.5, sd_d)}
    true["ccc"] = 2 * 0.95 * 35**2 / (35**2 + (0.95 * 35) ** 2 + 100 + 0.25)
    hits = dict.fromkeys(true, 0)
    for seed in range(400):
        found = agreement(*cohort(60, seed), resamples=200)
        for name, value in true.items():
            hits[name] += value in getattr(found, name)
    # percentile intervals of 60 cases are known to be a little narrow
    assert 0.87 < hits.pop("rmse") / 400 < 0.985
    assert all(0.92 < hit / 400 < 0.985 for hit in hits.values()), hits


def test_coverage_by_hand() -> None:
    # bounds belong to the interval; the last misses
    found = agreement(REFERENCE, PREDICTED, [60, 80, 110, 151], [70, 90, 130, 160], nominal=0.9)
    assert found.coverage is not None
    assert (found.coverage.events, found.coverage.total) == (3, 4)
    assert (found.coverage.low, found.coverage.high) == (wilson(3, 4).low, wilson(3, 4).high)
    assert found.interval_width == pytest.approx((10 + 10 + 20 + 9) / 4)
    assert found.nominal == 0.9


def test_levels_of_one_subject_add_no_certainty() -> None:
    truth, predicted = cohort(100)
    once = agreement(truth, predicted)
    twice: dict[str, Any] = {"reference": np.repeat(truth, 2), "predicted": np.repeat(predicted, 2)}
    grouped = agreement(**twice, groups=np.repeat(np.arange(100), 2))
    loose = agreement(**twice)
    assert grouped.clustered
    assert (grouped.n, grouped.subjects) == (200, 100)
    assert math.isnan(grouped.slope_p)
    for name in ("bias", "upper_limit", "ccc", "mae", "slope"):
        a, b, c = (getattr(f, name) for f in (once, grouped, loose))
        assert b.value == pytest.approx(c.value)
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.25)
        assert c.high - c.low < 0.85 * (a.high - a.low)


def test_clustered_coverage_keeps_a_width_and_few_subjects_have_no_bootstrap() -> None:
    truth, predicted = cohort(12)
    rows = np.repeat(np.arange(12), 3)
    bounds: Any = (predicted[rows] - 60, predicted[rows] + 60)
    found = agreement(truth[rows], predicted[rows], *bounds, groups=rows)
    assert found.coverage is not None
    assert found.coverage.value == 1  # an interval of (1, 1) says more than 12 people can
    assert (found.coverage.low, found.coverage.high) == pytest.approx((wilson(12, 12).low, 1))
    few = rows < 4
    of_four = agreement(truth[rows][few], predicted[rows][few], *(b[few] for b in bounds), groups=rows[few])
    assert math.isnan(of_four.pearson.low)
    assert math.isnan(of_four.mae.low)
    assert of_four.coverage is not None
    assert of_four.coverage.low == pytest.approx(wilson(4, 4).low)


def test_perfect_agreement() -> None:
    found = agreement(REFERENCE, REFERENCE)
    assert (found.bias.value, found.sd, found.rmse.value) == (0, 0, 0)
    assert (found.pearson.value, found.ccc.value) == pytest.approx((1, 1))
    assert found.slope.value == pytest.approx(0)


def test_constant_predictions_have_no_correlation() -> None:
    found = agreement(REFERENCE, [100.0] * 4)
    assert math.isnan(found.pearson.value)
    assert found.ccc.value == 0
    assert found.bias.value == pytest.approx(-5)
    both = agreement([100.0] * 3, [100.0] * 3)
    assert math.isnan(both.ccc.value)
    assert math.isnan(both.slope.value)


def test_too_few_cases_have_no_interval() -> None:
    one = agreement([100.0], [110.0])
    assert one.bias.value == 10
    assert math.isnan(one.sd)
    assert math.isnan(one.bias.low)
    assert math.isnan(one.mae.low)
    two = agreement([100.0, 120.0], [110.0, 128.0])
    assert math.isnan(two.bias.low)
    assert math.isnan(two.pearson.low)
    assert math.isnan(agreement(REFERENCE[:2], PREDICTED[:2], groups=["a", "a"]).bias.low)


def test_subgroups() -> None:
    found = agreement_by(
        {"kvp": [120.0, 100.0, 120.0, math.nan], "phase": np.array(["none", None, "none", "venous"])},
        REFERENCE,
        PREDICTED,
    )
    assert list(found["kvp"]) == ["100", "120", "unknown"]
    assert list(found["phase"]) == ["none", "venous", "unknown"]
    assert found["kvp"]["120"].bias.value == pytest.approx(5)
    assert found["phase"]["unknown"].n == 1
    bounded = agreement_by({"kvp": [80, 80, 100, 100]}, REFERENCE, PREDICTED, [0] * 4, [100] * 4, groups=list("aabc"))
    assert [g.coverage and g.coverage.value for g in bounded["kvp"].values()] == [1, 0]
    assert bounded["kvp"]["80"].clustered
    assert not bounded["kvp"]["100"].clustered


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"both be given, got lower only; level .* got 95; predicted must be finite"):
        agreement(REFERENCE, [1, 2, 3, math.nan], [0] * 4, level=95)
    with pytest.raises(ValueError, match="lower must not be above upper, got 4 such cases"):
        agreement(REFERENCE, PREDICTED, [2] * 4, [1] * 4)
    with pytest.raises(ValueError, match="kvp must have 4 values, got 2"):
        agreement_by({"kvp": [1, 2]}, REFERENCE, PREDICTED)
    with pytest.raises(ValueError, match=r"predicted must have shape \(4,\), got \(2,\)"):
        agreement_by({"kvp": [1] * 4}, REFERENCE, [1, 2])
    with pytest.raises(ValueError, match="at least one case"):
        agreement([], [])
