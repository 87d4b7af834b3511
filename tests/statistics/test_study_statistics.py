"""Statistics of a study against R: flexible calibration, ordinal concordance, partial areas, subgroups, net benefit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import chi2, norm

from osteo_monai.statistics import (
    areas_differ,
    auc,
    decision_curve,
    flexible_calibration,
    net_benefit_difference,
    ordinal_concordance,
    partial_auc,
    precision_recall,
    rates_differ,
)

STUDY = json.loads((Path(__file__).parent / "oracle" / "study_statistics.json").read_text())
Y, P, CLASS, SCORE = (np.array(STUDY[name]) for name in ("y", "p", "class", "score"))
PEOPLE, ROWS = np.arange(300) // 2, np.repeat(np.arange(300), 10)


def same(first: Any, second: Any) -> bool:
    return bool(np.allclose([first.value, first.low, first.high], [second.value, second.low, second.high]))


def curve(y: Any, p: Any, **more: Any) -> Any:
    found = flexible_calibration(y, p, **{"resamples": 100, **more})
    assert not isinstance(found, str), found
    return found


def test_distances_of_the_flexible_curve_equal_those_of_r() -> None:
    found = curve(Y, P)
    assert (found.ici.value, found.e50.value, found.e90.value) == pytest.approx(
        (STUDY["ici"], STUDY["e50"], STUDY["e90"]), abs=1e-8
    )
    assert found.knots == 4
    assert (found.low <= found.observed).mean() > 0.95
    for interval in (found.ici, found.e50, found.e90):
        assert interval.low < interval.value < interval.high


def test_the_curve_follows_the_true_risk() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1.5, 8000)
    true = expit(0.3 + 0.5 * x)
    found = curve(rng.random(8000) < true, expit(x))
    assert found.ici.value == pytest.approx(np.abs(true - expit(x)).mean(), abs=0.012)
    inside = [np.interp(found.predicted, np.sort(expit(x)), np.sort(true))]
    assert np.abs(found.observed - inside[0]).max() < 0.05


def test_copies_of_images_do_not_change_the_curve() -> None:
    once = curve(Y, P, groups=PEOPLE)
    copied = curve(Y[ROWS], P[ROWS], groups=PEOPLE[ROWS])
    assert once.ici.value == pytest.approx(copied.ici.value, abs=2e-3)  # knots move between two predictions
    width, wanted = copied.ici.high - copied.ici.low, once.ici.high - once.ici.low
    assert width == pytest.approx(wanted, rel=0.05)
    loose = curve(Y[ROWS], P[ROWS])
    assert loose.ici.high - loose.ici.low < 0.5 * wanted


@pytest.mark.parametrize(
    ("y", "p", "reason"),
    [
        ([1] * 5 + [0] * 30, np.linspace(0.1, 0.9, 35), "requires 10 images"),
        ([1, 0] * 20, [0.2, 0.4] * 20, "too few different values"),
        ([0] * 20 + [1] * 20, np.linspace(0.1, 0.9, 40), "no finite estimate"),
    ],
)
def test_no_curve_has_a_reason(y: Any, p: Any, reason: str) -> None:
    assert reason in str(flexible_calibration(y, p, resamples=20))


def test_ordinal_concordance_equals_that_of_r() -> None:
    found = ordinal_concordance(CLASS, SCORE)
    assert found.value == pytest.approx(STUDY["ordinal"], abs=1e-10)
    assert same(ordinal_concordance(CLASS[ROWS], SCORE[ROWS], groups=ROWS), found)
    two = auc(Y, SCORE, scale="logit")
    assert ordinal_concordance(Y, SCORE).low == pytest.approx(two.low, abs=1e-9)
    assert np.isnan(ordinal_concordance([1, 1], [0.1, 0.2]).value)
    assert np.isnan(ordinal_concordance([0, 1, 2], [1, 2, 3]).low)


def test_ordinal_concordance_has_its_coverage() -> None:
    rng = np.random.default_rng(2)
    big = rng.normal(0, 1, (2, 100_000))
    cuts = (-0.5, 0.8)
    truth = ordinal_concordance(np.digitize(big[0], cuts), big.sum(0)).value
    covered = []
    for _ in range(400):
        x, noise = rng.normal(0, 1, (2, 120))
        covered.append(truth in ordinal_concordance(np.digitize(x, cuts), x + noise))
    assert 0.915 <= np.mean(covered) <= 0.98  # 95 %, three standard errors


def test_partial_area_equals_that_of_r() -> None:
    found = partial_auc(Y, SCORE, 0.8, resamples=100)
    assert found.value == pytest.approx(STUDY["partial"], abs=1e-9)
    assert found.low < found.value < found.high
    assert partial_auc(Y, SCORE, 0.0, resamples=20).value == pytest.approx(STUDY["auc"])
    with pytest.raises(ValueError, match="specificity must be at least 0 and below 1, got 1"):
        partial_auc(Y, SCORE, 1.0)


def test_average_precision_by_hand() -> None:
    # positives at ranks 1 and 3: (1 / 1 + 2 / 3) / 2
    found = precision_recall([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], resamples=50)
    assert found.average.value == pytest.approx(5 / 6)
    assert found.prevalence == 0.5
    once, copied = (
        precision_recall(Y[rows], SCORE[rows], groups=PEOPLE[rows], resamples=60).average
        for rows in (np.arange(300), ROWS)
    )
    assert same(once, copied)
    assert np.isnan(precision_recall([1, 1, 0, 0], [4, 3, 2, 1], resamples=20).average.low)
    with pytest.raises(ValueError, match="both classes must have cases, got 2 positive and 0 negative"):
        precision_recall([1, 1], [0.1, 0.2])


def test_areas_of_two_subgroups_are_compared_as_in_r() -> None:
    names = np.where(np.arange(300) < STUDY["subgroup_first"], "a", "b")
    found = areas_differ(Y, SCORE, names)
    assert found is not None
    assert found.chi2 == pytest.approx(STUDY["subgroup_chi2"], rel=1e-9)
    assert (found.df, found.compared) == (1, ("a", "b"))
    assert found.p == pytest.approx(chi2.sf(found.chi2, 1))
    assert areas_differ(Y, SCORE, ["a"] * 300) is None
    assert areas_differ(Y, SCORE, np.where(np.arange(300) < 4, "few", "")) is None


def test_equal_subgroups_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(3)
    rates, areas = [], []
    for _ in range(600):
        people = np.repeat(np.arange(60), 2)
        sick = np.repeat(rng.random(60) < 0.4, 2)
        score = sick * 1.0 + np.repeat(rng.normal(0, 0.7, 60), 2) + rng.normal(0, 0.7, 120)
        voltage = np.tile(["100", "120"], 60)  # the same people in both
        centre = np.repeat(rng.choice(["x", "y", "z"], 60), 2)
        for names in (voltage, centre):
            rate, area = rates_differ(score > 0.5, names, people), areas_differ(sick, score, names, people)
            rates += [] if rate is None else [rate.p < 0.05]
            areas += [] if area is None else [area.p < 0.05]
    assert 0.03 <= np.mean(rates) <= 0.075
    assert 0.03 <= np.mean(areas) <= 0.085


def test_a_perfect_subgroup_is_compared_by_its_rate() -> None:
    flags = [True] * 40 + [True] * 20 + [False] * 20
    found = rates_differ(flags, ["a"] * 40 + ["b"] * 40)
    assert found is not None
    assert found.p < 1e-5
    copied = rates_differ(np.repeat(flags, 10), np.repeat(["a", "b"], 400), np.repeat(np.arange(80), 10))
    assert copied is not None
    assert copied.chi2 == pytest.approx(found.chi2)
    assert rates_differ([True] * 20, ["a", "b"] * 10) is None


def test_net_benefit_differences_are_those_of_the_curves() -> None:
    thresholds = [0.2, 0.4, 0.6]
    other = np.clip(P + np.random.default_rng(4).normal(0, 0.2, 300), 0, 1)
    first, second = (decision_curve(Y, p, thresholds) for p in (P, other))
    found = net_benefit_difference(Y, P, other, thresholds, resamples=500)
    assert [x.value for x in found] == pytest.approx(first.net_benefit - second.net_benefit)
    against_all = net_benefit_difference(Y, P, None, thresholds, resamples=500)
    assert [x.value for x in against_all] == pytest.approx(first.net_benefit - first.treat_all)
    # a mean of independent differences: its normal interval
    gain = np.where(Y == 1, 1, -0.4 / 0.6) * ((P >= 0.4) * 1.0 - (other >= 0.4))
    half = norm.ppf(0.975) * gain.std() / np.sqrt(300)
    assert (found[1].low, found[1].high) == pytest.approx((gain.mean() - half, gain.mean() + half), abs=0.15 * half)
    copied = net_benefit_difference(Y[ROWS], P[ROWS], other[ROWS], thresholds, groups=ROWS, resamples=500)
    assert all(same(a, b) for a, b in zip(found, copied, strict=True))


def test_equal_decisions_have_no_difference() -> None:
    (found,) = net_benefit_difference(Y, P, P, [0.3], resamples=100)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="thresholds must be one-dimensional, above 0 and below 1"):
        net_benefit_difference(Y, P, None, [1.0])
