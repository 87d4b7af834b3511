"""Areas under the curve against pROC (aSAH), by hand, and at the edges."""

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from osteo_monai.statistics import roc
from osteo_monai.statistics.roc import (
    DegenerateWarning,
    auc,
    delong_test,
    holm,
    roc_band,
    roc_curve,
)

ORACLE = json.loads((Path(__file__).parent / "oracle" / "delong_asah.json").read_text())
STUDY = json.loads((Path(__file__).parent / "oracle" / "study_statistics.json").read_text())
Y, MARKERS = ORACLE["y"], ORACLE["scores"]

# 2 positive, 2 negative cases, one tie between them: area (1 + 1 + 0.5 + 1) / 4
HAND_Y, HAND_SCORE = [1, 1, 0, 0], [0.8, 0.4, 0.4, 0.2]


@pytest.mark.parametrize("row", ORACLE["single"], ids=lambda r: r["name"])
def test_area_variance_and_interval_equal_those_of_proc(row: Any) -> None:
    found = auc(Y, MARKERS[row["name"]])
    assert found.value == pytest.approx(row["auc"], abs=1e-10)
    assert found.variance == pytest.approx(row["var_delong"], abs=1e-10)
    assert found.se == pytest.approx(row["se_delong"], abs=1e-10)
    assert (found.low, found.high) == pytest.approx(row["ci95"], abs=1e-10)
    assert (found.positives, found.positives + found.negatives) == (row["n_pos"], row["n"])
    assert found.warning is None


@pytest.mark.parametrize("row", ORACLE["paired"], ids=lambda r: r["pair"])
def test_paired_tests_equal_those_of_proc(row: Any) -> None:
    first, second = row["pair"].split(" ")[0].split("-")
    found = delong_test(Y, MARKERS[first], MARKERS[second])
    assert (found.first, found.second) == pytest.approx((row["auc1"], row["auc2"]), abs=1e-10)
    assert found.covariance == pytest.approx(row["cov"], abs=1e-10)
    assert (found.z, found.p) == pytest.approx((row["Z"], row["p"]), abs=1e-10)
    assert (found.low, found.high) == pytest.approx(row["diff_ci95"], abs=1e-10)
    assert found.difference == pytest.approx(row["auc1"] - row["auc2"], abs=1e-12)


def test_area_and_variance_by_hand() -> None:
    # components 1 and 3/4 of the positives, 3/4 and 1 of the negatives: variance 1/32 of each, over 2 cases each
    found = auc(HAND_Y, HAND_SCORE)
    assert found.value == 0.875
    assert found.variance == pytest.approx(1 / 32, abs=1e-15)
    assert found.low == pytest.approx(0.875 - 1.959963984540054 * math.sqrt(1 / 32), abs=1e-12)
    assert found.high == 1.0  # cut


def test_area_equals_the_share_of_pairs_that_are_ranked_rightly() -> None:
    rng = np.random.default_rng(0)
    y, score = rng.integers(0, 2, 200), rng.integers(0, 12, 200)  # many ties
    pairs = score[y == 1][:, None] - score[y == 0][None]
    assert auc(y, score).value == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean(), abs=1e-13)
    assert auc(y, -score).value == pytest.approx(1 - auc(y, score).value, abs=1e-13)
    assert auc(y, -score).variance == pytest.approx(auc(y, score).variance, abs=1e-15)


def test_interval_covers_the_true_area_as_often_as_it_says() -> None:
    # two normals one standard deviation apart: area Phi(1 / sqrt 2) = 0.760250
    rng = np.random.default_rng(1)
    y = np.repeat([1, 0], 40)
    hits = 0
    for _ in range(1000):
        found = auc(y, rng.normal(size=80) + y)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.7602499389 <= found.high
    assert 0.92 < hits / 1000 < 0.97


def test_the_area_ranks_each_case_twice_and_compares_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """O(n log n): three rankings of 2 n values in all, and no memory for the pairs of 20,000 cases (400 MB)."""
    n = 20_000
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, n)
    score = rng.normal(size=n) + y
    sizes: list[int] = []

    def counted(values: np.ndarray) -> np.ndarray:
        sizes.append(values.size)
        return np.asarray(rankdata(values))

    monkeypatch.setattr(roc, "rankdata", counted)
    tracemalloc.start()
    try:
        auc(y, score)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(sizes) == 3
    assert sum(sizes) == 2 * n
    assert peak < 200 * n


@pytest.mark.parametrize(
    ("score", "value", "message"),
    [([4, 3, 2, 1], 1.0, "separated perfectly"), ([1, 2, 3, 4], 0.0, "in the wrong direction")],
)
def test_separated_classes_have_an_interval_by_their_numbers(score: list[Any], value: float, message: str) -> None:
    with pytest.warns(DegenerateWarning, match=message):
        found = auc(HAND_Y, score)
    assert (found.value, found.variance) == (value, 0.0)
    bound = found.low if value else 1 - float(found.high or 0)
    # 1 - A = z SE(A), variance of Hanley and McNeil with the mean number of cases (Newcombe 2006)
    m, n, a = 2, 2, float(bound or 0)
    variance = a * (1 - a) / (m * n) * (1 + ((m + n) / 2 - 1) * ((1 - a) / (2 - a) + a / (1 + a)))
    assert 1 - a == pytest.approx(1.959964 * variance**0.5, abs=1e-6)
    assert (found.high if value else found.low) == value


def test_the_interval_of_separated_classes_counts_subjects() -> None:
    y, score = np.repeat([1, 0], [10, 30]), np.repeat([2.0, 1.0], [10, 30])
    rows = np.repeat(np.arange(40), 10)
    with pytest.warns(DegenerateWarning):
        once, copied = auc(y, score), auc(y[rows], score[rows], groups=rows)
    assert (once.low, once.high) == (copied.low, copied.high)
    assert 0.8 < float(once.low or 0) < 0.95


def test_a_constant_score_has_no_width_and_the_warning_tells() -> None:
    with pytest.warns(DegenerateWarning, match="does not vary"):
        found = auc(HAND_Y, [7, 7, 7, 7])
    assert (found.value, found.variance, found.low, found.high) == (0.5, 0.0, 0.5, 0.5)


def test_interval_on_the_logit_equals_that_of_r() -> None:
    found = auc(STUDY["y"], STUDY["score"], scale="logit")
    assert (found.value, found.variance) == pytest.approx((STUDY["auc"], STUDY["variance"]))
    assert (found.low, found.high) == pytest.approx(STUDY["logit"])


def test_one_case_of_a_class_gives_an_area_without_an_interval() -> None:
    with pytest.warns(DegenerateWarning, match="got 1 positive and 3 negative"):
        found = auc([1, 0, 0, 0], [2, 1, 3, 0])
    assert found.value == pytest.approx(2 / 3)
    assert (found.variance, found.se, found.low, found.high) == (None, None, None, None)


def test_no_case_of_a_class_gives_no_area() -> None:
    with pytest.warns(DegenerateWarning, match="no positive case"):
        found = auc([0, 0, 0], [2, 1, 3])
    assert math.isnan(found.value)
    assert found.low is None
    with pytest.raises(ValueError, match="both classes must have cases, got 0 positive and 3 negative"):
        delong_test([0, 0, 0], [2, 1, 3], [2, 1, 3])


def test_everything_wrong_with_the_columns_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"got 2; score .* 1 of 3 are not; groups must have shape"):
        auc([0, 1, 2], [0.1, math.nan, 0.3], groups=["a"])
    with pytest.raises(ValueError, match=r"second must have shape \(4,\), got \(3,\)"):
        delong_test(HAND_Y, HAND_SCORE, [1, 2, 3])
    with pytest.raises(ValueError, match="score must be numbers"):
        auc([0, 1], ["low", "high"])
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        auc(HAND_Y, HAND_SCORE, 95)


# --- subjects with several cases -------------------------------------------------------------------------------------


def test_doubled_cases_of_the_same_subjects_add_no_certainty() -> None:
    once = auc(Y, MARKERS["s100b"])
    twice = auc(np.repeat(Y, 2), np.repeat(MARKERS["s100b"], 2), groups=np.repeat(np.arange(113), 2))
    assert twice.clustered
    assert (twice.value, twice.variance) == pytest.approx((once.value, once.variance), abs=1e-13)
    naive = auc(np.repeat(Y, 2), np.repeat(MARKERS["s100b"], 2))
    assert naive.variance is not None
    assert once.variance is not None
    assert naive.variance < 0.55 * once.variance
    one, two = np.repeat(MARKERS["wfns"], 2), np.repeat(MARKERS["ndka"], 2)
    test = delong_test(np.repeat(Y, 2), one, two, groups=np.repeat(np.arange(113), 2))
    assert test.z == pytest.approx(ORACLE["paired"][1]["Z"], abs=1e-10)


def test_clustered_variance_is_that_of_areas_over_many_samples() -> None:
    # a subject's three cases share half of their variance and may be of both classes
    rng = np.random.default_rng(3)
    subjects = np.repeat(np.arange(60), 3)
    y = (np.arange(180) % 4 == 0).astype(int)
    areas, variances = [], []
    for _ in range(400):
        score = rng.normal(size=60)[subjects] + rng.normal(size=180) + y
        found = auc(y, score, groups=subjects)
        areas.append(found.value)
        variances.append(found.variance)
    assert np.mean([v for v in variances if v is not None]) == pytest.approx(np.var(areas, ddof=1), rel=0.15)


def test_too_few_subjects_of_a_class_give_no_interval() -> None:
    with pytest.warns(DegenerateWarning, match="each class must have two subjects, got 1 positive and 2 negative"):
        assert auc([1, 1, 0, 0], HAND_SCORE, groups=["a", "a", "b", "c"]).low is None


def test_groups_that_never_repeat_change_nothing() -> None:
    ungrouped_equivalent = auc(HAND_Y, HAND_SCORE, groups=["d", "c", "b", "a"])
    assert ungrouped_equivalent == auc(HAND_Y, HAND_SCORE)


# --- the paired test's edges ----------------------------------------------------------------------------------------


def test_identical_curves_do_not_differ() -> None:
    for second in (HAND_SCORE, [80, 40, 40, 20]):  # the same ranks
        found = delong_test(HAND_Y, HAND_SCORE, second)
        assert (found.difference, found.z, found.p, found.low, found.high) == (0, 0, 1, 0, 0)


def test_areas_that_differ_but_do_not_vary_give_no_test() -> None:
    with pytest.warns(DegenerateWarning, match="neither varies"):
        found = delong_test(HAND_Y, [4, 3, 2, 1], [5, 5, 5, 5])
    assert found.difference == 0.5
    assert (found.z, found.p) == (None, None)


def test_one_case_of_a_class_gives_a_difference_without_a_test() -> None:
    with pytest.warns(DegenerateWarning, match="no confidence interval"):
        found = delong_test([1, 0, 0], [3, 2, 1], [1, 2, 0])
    assert found.difference == 0.5
    assert (found.se, found.z, found.p) == (None, None, None)


# --- curve, band -------- ---------------------------------------------------------------------------------------------


def test_curve_by_hand() -> None:
    curve = roc_curve(HAND_Y, HAND_SCORE)
    assert curve.thresholds.tolist() == [math.inf, 0.8, 0.4, 0.2]
    assert curve.tpr.tolist() == [0, 0.5, 1, 1]
    assert curve.fpr.tolist() == [0, 0, 0.5, 1]


@pytest.mark.parametrize("name", MARKERS)
def test_area_under_the_curve_is_the_area(name: Any) -> None:
    curve = roc_curve(Y, MARKERS[name])
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(auc(Y, MARKERS[name]).value, abs=1e-13)
    assert (np.diff(curve.thresholds) < 0).all()


def test_curve_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="2 positive and 0 negative"):
        roc_curve([1, 1], [0.2, 0.3])


def test_band_agrees_with_delong_and_holds_the_curve() -> None:
    score = MARKERS["s100b"]
    band = roc_band(Y, score, seed=5)
    target = auc(Y, score)
    assert band.auc.value == pytest.approx(target.value, abs=1e-13)
    assert (band.auc.low, band.auc.high) == pytest.approx((target.low, target.high), abs=0.02)
    assert ((band.low <= band.tpr) & (band.tpr <= band.high)).all()
    assert band.subjects == 113
    curve = roc_curve(Y, score)
    assert band.tpr[0] == curve.tpr[curve.fpr == 0].max()
    again = roc_band(Y, score, seed=5)
    assert (again.low == band.low).all()
    assert (roc_band(Y, score, seed=6).low != band.low).any()


def test_band_is_resampled_by_subject() -> None:
    doubled: dict[str, Any] = {"y": np.repeat(Y, 2), "score": np.repeat(MARKERS["s100b"], 2)}
    once = roc_band(Y, MARKERS["s100b"], resamples=500)
    grouped = roc_band(**doubled, groups=np.repeat(np.arange(113), 2), resamples=500)
    loose = roc_band(**doubled, resamples=500)
    width = [(b.auc.high - b.auc.low) for b in (once, grouped, loose)]
    assert width[1] == pytest.approx(width[0], rel=0.1)
    assert width[2] < 0.8 * width[0]
    assert grouped.subjects == 113


def test_band_needs_two_of_each_class() -> None:
    with pytest.raises(ValueError, match="got 1 positive and 2 negative"):
        roc_band([1, 0, 0], [3, 2, 1])
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        roc_band(HAND_Y, HAND_SCORE, resamples=0)


def test_holm_by_hand() -> None:
    # sorted 0.01 x 3, 0.02 x 2 raised to 0.03, then 0.04 x 1
    assert holm([0.04, 0.01, 0.02]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    missing = holm([0.02, math.nan, 0.03])
    assert missing[[0, 2]].tolist() == pytest.approx([0.04, 0.04])
    assert math.isnan(missing[1])
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="p values must be"):
        holm([0.1, 1.2])
