"""Calibration against R (400 predictions), by hand, and where nothing can be estimated."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from osteo_monai.statistics.calibration import (
    calibration,
    expected_calibration_error,
    hosmer_lemeshow,
    recalibrate,
    reliability_curve,
)
from osteo_monai.statistics.proportions import wilson

ORACLE = json.loads((Path(__file__).parent / "oracle" / "proportions.json").read_text())["calibration"]
Y, P = ORACLE["y"], ORACLE["p"]


def se(interval: Any) -> Any:
    return (interval.high - interval.low) / 2 / norm.ppf(0.975)


def test_calibration_equals_that_of_r() -> None:
    found = calibration(Y, P)
    assert found.intercept.value == pytest.approx(ORACLE["calibration_intercept_logistic_recal"], abs=1e-6)
    assert (found.slope.value, se(found.slope)) == pytest.approx(
        (ORACLE["calibration_slope"], ORACLE["slope_se"]), abs=1e-6
    )
    assert (found.in_the_large.value, se(found.in_the_large)) == pytest.approx(
        (ORACLE["calibration_in_the_large"], ORACLE["citl_se"]), abs=1e-6
    )
    assert found.brier == pytest.approx(ORACLE["brier"], abs=1e-6)
    assert found.mean_predicted == pytest.approx(ORACLE["mean_p"], abs=1e-6)
    assert found.observed.value == pytest.approx(ORACLE["mean_y"], abs=1e-6)
    assert found.observed_expected.value == pytest.approx(ORACLE["O_E"], abs=1e-6)
    assert found.ece == pytest.approx(ORACLE["ECE_10_equal_width"], abs=1e-6)
    test, target = found.hosmer_lemeshow, ORACLE["hosmer_lemeshow_10_deciles"]
    assert test is not None
    assert (test.chi2, test.df, test.p) == pytest.approx((target["chi2"], target["df"], target["p"]), abs=1e-6)
    assert found.warnings == ()


def test_what_follows_by_hand() -> None:
    # two values: 1 of 4 events at 0.2 and 3 of 4 at 0.6; the recalibrated logits are logit(1/4) and logit(3/4)
    y, p = [1, 0, 0, 0, 1, 1, 1, 0], [0.2] * 4 + [0.6] * 4
    found = calibration(y, p, bins=2, estimated=0)
    slope = (logit(0.75) - logit(0.25)) / (logit(0.6) - logit(0.2))
    assert found.slope.value == pytest.approx(slope)
    assert found.intercept.value == pytest.approx(logit(0.75) - slope * logit(0.6))
    assert found.brier == pytest.approx((0.64 + 3 * 0.04 + 3 * 0.16 + 0.36) / 8)
    assert found.brier_reference == 0.25
    assert found.ece == pytest.approx(0.1)
    assert found.observed_expected.value == pytest.approx(4 / 3.2)
    half = norm.ppf(0.975) * math.sqrt(0.5 / 4)  # variance (1 - 4/8) / 4 on the log scale
    assert found.observed_expected.high == pytest.approx(1.25 * math.exp(half))
    # (1 - 0.8)^2 / (4 * 0.2 * 0.8) + (3 - 2.4)^2 / (4 * 0.6 * 0.4)
    assert found.hosmer_lemeshow is not None
    assert found.hosmer_lemeshow.chi2 == pytest.approx(0.0625 + 0.375)
    assert found.hosmer_lemeshow.df == 2
    assert found.curve.predicted.tolist() == pytest.approx([0.2, 0.6])
    assert (found.curve.observed[1].low, found.curve.observed[1].high) == (wilson(3, 4).low, wilson(3, 4).high)


def test_equal_predictions_share_a_bin() -> None:
    curve = reliability_curve([0, 1, 0, 1, 1], [0.1, 0.5, 0.5, 0.5, 0.9], bins=5)
    assert curve.predicted.tolist() == pytest.approx([0.1, 0.5, 0.9])
    assert [b.total for b in curve.observed] == [1, 3, 1]
    assert len(reliability_curve([0, 1], [0.5, 0.5]).observed) == 1


def test_boundaries_of_the_calibration_error() -> None:
    # 1 is in the last bin, with 0.95: |1 - 0.975| * 2 of 3; 0.1 is in the second: |0 - 0.1| * 1 of 3
    assert expected_calibration_error([1, 1, 0], [1.0, 0.95, 0.1]) == pytest.approx((0.05 + 0.1) / 3)


@pytest.mark.parametrize(
    ("y", "p", "reason"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], "separate the classes perfectly"),
        ([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9], "separate the classes perfectly"),  # they touch
        ([1, 1, 0, 0], [0.1, 0.2, 0.7, 0.9], "in the wrong direction"),
        ([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3], "the same prediction"),
    ],
)
def test_separation_is_said_and_the_rest_stands(y: list[Any], p: list[Any], reason: str) -> None:
    found = calibration(y, p, bins=2)
    assert math.isnan(found.slope.value)
    assert math.isnan(found.intercept.low)
    assert any(reason in w for w in found.warnings)
    assert math.isfinite(found.in_the_large.value)
    assert math.isfinite(found.brier)


def test_one_class_has_no_calibration_in_the_large() -> None:
    found = calibration([0, 0, 0], [0.1, 0.2, 0.3])
    assert math.isnan(found.in_the_large.value)
    assert len(found.warnings) == 2
    assert found.observed_expected.value == 0
    assert found.hosmer_lemeshow is None  # fewer cases than groups
    assert math.isnan(calibration([0, 0], [0.0, 0.0]).observed_expected.value)


def test_certain_predictions_are_clipped_and_counted() -> None:
    found = calibration([0, 1, 1, 0, 1, 0], [0.0, 1.0, 0.3, 0.6, 0.8, 0.2])
    assert found.warnings[0].startswith("2 of 6 probabilities were moved to at least 0.000001 from 0 and 1")
    assert math.isfinite(found.slope.value)
    wrong = hosmer_lemeshow([1, 0, 1, 1], [0.0, 0.0, 1.0, 1.0], groups=2, estimated=0)
    assert (wrong.chi2, wrong.p) == (math.inf, 0)
    right = hosmer_lemeshow([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0], groups=2, estimated=0)
    assert (right.chi2, right.p) == (0, 1)


def test_extreme_predictions_still_converge() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 6, 2000)
    found = calibration(rng.random(2000) < expit(0.2 * x - 1), expit(x))
    assert found.slope.value == pytest.approx(0.2, abs=0.05)
    assert found.intercept.value == pytest.approx(-1, abs=0.2)


INTERVALS = ("observed", "observed_expected", "in_the_large", "intercept", "slope")


@pytest.mark.parametrize("images", [1, 4])
def test_copies_of_images_change_no_interval(images: int) -> None:
    people, rows = np.arange(400) // images, np.repeat(np.arange(400), 10)
    once = calibration(Y, P, groups=people)
    copied = calibration(np.array(Y)[rows], np.array(P)[rows], groups=people[rows])
    assert (copied.subjects, copied.clustered) == (400 // images, True)
    for name in INTERVALS:
        before, after = getattr(once, name), getattr(copied, name)
        assert (after.value, after.low, after.high) == pytest.approx((before.value, before.low, before.high), rel=1e-6)
    assert copied.curve.predicted == pytest.approx(once.curve.predicted)
    for bar, wanted in zip(copied.curve.observed, once.curve.observed, strict=True):
        assert (bar.low, bar.high) == pytest.approx((wanted.low, wanted.high))
    assert copied.hosmer_lemeshow is None  # the test is of independent cases
    assert se(calibration(np.array(Y)[rows], np.array(P)[rows]).slope) < 0.4 * se(once.slope)


def test_clustered_slope_is_near_the_sandwich() -> None:
    # correct model, two images a person with a common risk: the plain sandwich of subjects, computed here
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(-1, 1.5, 3000), 2) + rng.normal(0, 0.4, 6000)
    y = rng.random(6000) < expit(x)
    people = np.repeat(np.arange(3000), 2)
    found = calibration(y, expit(x), groups=people)
    design = np.column_stack([np.ones(6000), x])
    mu = expit(design @ [found.intercept.value, found.slope.value])
    bread = np.linalg.inv(design.T @ (design * (mu * (1 - mu))[:, None]))
    scores = design * (y - mu)[:, None]
    sums = np.stack([np.bincount(people, column) for column in scores.T], 1)
    assert found.covariance is not None
    assert np.array(found.covariance) == pytest.approx(bread @ sums.T @ sums @ bread, rel=0.08)


def test_order_of_rows_does_not_change_hosmer_lemeshow() -> None:
    rng = np.random.default_rng(3)
    p = rng.choice([0.1, 0.2, 0.35, 0.6, 0.8], 200)
    y = rng.random(200) < p * 0.8
    tests = [hosmer_lemeshow(y[rows], p[rows]) for rows in (rng.permutation(200) for _ in range(50))]
    assert len({round(test.p, 12) for test in tests}) == 1
    assert tests[0].groups == 5
    assert tests[0].df == 3
    by_value = [(y[p == v].sum() - v * (p == v).sum()) ** 2 / ((p == v).sum() * v * (1 - v)) for v in np.unique(p)]
    assert tests[0].chi2 == pytest.approx(sum(by_value))
    with pytest.raises(ValueError, match="enough different values for 3 groups"):
        hosmer_lemeshow([0, 1, 0, 1], [0.3, 0.3, 0.6, 0.6], groups=4)


def test_ratio_of_observed_to_expected_keeps_a_width_at_the_ends() -> None:
    all_events = calibration([1] * 20, [0.9] * 20).observed_expected
    assert (all_events.value, all_events.low, all_events.high) == pytest.approx(
        (1 / 0.9, wilson(20, 20).low / 0.9, 1 / 0.9)
    )
    none = calibration([0] * 20, [0.1] * 20).observed_expected
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, wilson(0, 20).high / 0.1))


def test_recalibration_makes_it_right_where_it_was_fitted() -> None:
    fitted = recalibrate(Y, P, "external_a")
    assert (fitted.fitted, fitted.fitted_on, fitted.n) == ("intercept and slope", "external_a", 400)
    after = calibration(Y, fitted.apply(P))
    assert (after.intercept.value, after.slope.value) == pytest.approx((0, 1), abs=1e-8)
    assert after.observed_expected.value == pytest.approx(1)
    assert after.brier < calibration(Y, P).brier
    intercept_only = recalibrate(Y, P, "external_a", slope=False)
    assert (intercept_only.intercept, intercept_only.slope) == pytest.approx(
        (ORACLE["calibration_in_the_large"], 1), abs=1e-6
    )
    assert intercept_only.warning is None


def test_recalibration_says_what_it_could_not_fit() -> None:
    separated = recalibrate([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], "b")
    assert (separated.fitted, separated.slope) == ("intercept", 1)
    assert "separate the classes perfectly" in str(separated.warning)
    reversed_ranking = recalibrate([1, 0, 1, 0, 1], [0.1, 0.2, 0.3, 0.8, 0.4], "b")
    assert "would reverse the ranking" in str(reversed_ranking.warning)
    nothing = recalibrate([0, 0], [0.1, 0.4], "b")
    assert nothing.fitted == "nothing"
    assert nothing.apply([0.1, 1.0]).tolist() == [0.1, 1.0]
    with pytest.raises(ValueError, match="probabilities must be between 0 and 1"):
        separated.apply([1.5])


def test_everything_wrong_is_said() -> None:
    with pytest.raises(ValueError, match="probability must be between 0 and 1, got -0.1"):
        calibration([0, 1], [-0.1, 0.5])
    with pytest.raises(ValueError, match="groups must be 3 to 2"):
        hosmer_lemeshow([0, 1], [0.1, 0.5])
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        reliability_curve([0, 1], [0.1, 0.5], bins=0)
