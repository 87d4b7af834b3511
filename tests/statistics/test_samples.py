"""Resampling by subject: what is kept together, what is kept constant, what is reproducible."""

import math
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from osteo_monai.statistics import (
    class_performance,
    decision_curve,
    flexible_calibration,
    net_benefit_difference,
    precision_recall,
    roc_band,
    samples,
)
from osteo_monai.statistics.agreement import agreement
from osteo_monai.statistics.flexible_calibration import FlexibleCalibration
from osteo_monai.statistics.samples import Resampler, checked_columns, percentile_interval, subject_codes

SUBJECTS = subject_codes(["b", "a", "b", "c", "d"], 5)


def drawn(**options: Any) -> Any:
    return np.concatenate(list(Resampler(SUBJECTS, resamples=500, **options).weights()))


def test_all_cases_of_a_subject_come_together() -> None:
    weights = drawn()
    assert weights.shape == (500, 5)
    assert (weights[:, 0] == weights[:, 2]).all()
    # four subjects are drawn each time, each once on average
    assert (weights[:, [0, 1, 3, 4]].sum(1) == 4).all()
    assert weights[:, [0, 1, 3, 4]].mean(0) == pytest.approx([1] * 4, abs=0.15)


def test_classes_keep_their_subjects() -> None:
    weights = drawn(classes=np.array([1, 1, 1, 0, 0]))
    assert (weights[:, [0, 1]].sum(1) == 2).all()
    assert (weights[:, [3, 4]].sum(1) == 2).all()
    # the only subject of both classes is drawn once in each sample
    mixed = drawn(classes=np.array([1, 1, 0, 0, 0]))
    assert (mixed[:, 0] == 1).all()


def test_seeds_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (drawn(seed=3) == drawn(seed=3)).all()
    assert (drawn(seed=3) != drawn(seed=4)).any()
    monkeypatch.setattr(samples, "_WEIGHTS_AT_ONCE", 35)
    blocks = list(Resampler(SUBJECTS, resamples=16).weights())
    assert [len(block) for block in blocks] == [7, 7, 2]


def test_draws_follow_the_names_of_subjects_in_any_order_of_cases() -> None:
    rng = np.random.default_rng(1)
    names = np.array([f"p{n}" for n in rng.permutation(80) // 2])
    x, y = rng.random(80).round(2), rng.random(80) < 0.5
    kinds, called = np.where(y, "a", "b"), np.where(x > 0.5, "a", "b")
    measures: dict[str, Callable[[Any], Any]] = {
        "rates": lambda i: astuple(class_performance(kinds[i], called[i], "ab", groups=names[i]).kappa),
        "ROC band": lambda i: roc_band(y[i], x[i], names[i], 50).low,
        "decision curve": lambda i: decision_curve(y[i], x[i], groups=names[i], resamples=50).low,
        "net benefit": lambda i: astuple(net_benefit_difference(y[i], x[i], None, [0.3], groups=names[i])[0]),
        "calibration": lambda i: astuple(curve_of(flexible_calibration(y[i], x[i], groups=names[i], resamples=50)).ici),
        "average precision": lambda i: astuple(precision_recall(y[i], x[i], groups=names[i], resamples=50).average),
        "agreement": lambda i: astuple(agreement(x[i], (x**2)[i], groups=names[i], resamples=50).ccc),
    }
    order = rng.permutation(80)
    for name, measure in measures.items():
        first, second = measure(np.arange(80)), measure(order)
        assert np.asarray(second, dtype=float) == pytest.approx(np.asarray(first, dtype=float), abs=1e-9), name


def curve_of(found: FlexibleCalibration | str) -> FlexibleCalibration:
    assert isinstance(found, FlexibleCalibration)
    return found


def test_percentiles_of_what_is_defined() -> None:
    found = percentile_interval(0.5, [*np.linspace(0, 1, 101), math.nan])
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.025, 0.975))
    assert math.isnan(percentile_interval(0.5, [0.4, math.nan, math.nan]).low)
    assert math.isnan(percentile_interval(math.nan, [0.4, 0.5]).high)
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        percentile_interval(0.5, [0.4], 95)


def test_every_case_needs_a_subject() -> None:
    assert subject_codes(np.array([7, "a", 7], dtype=object), 3).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="groups must have a subject for every case, 3 of 4 are missing"):
        checked_columns([0, 1, 1, 0], {}, groups=np.array(["a", None, math.nan, ""], dtype=object))


def test_a_truth_that_is_none() -> None:
    for truth, said in (
        ([], "at least one case"),
        ([[0, 1]], r"shape \(1, 2\)"),
        ([0, math.nan], "must be 0 or 1, got nan"),
    ):
        with pytest.raises(ValueError, match=said):
            checked_columns(truth, {})
