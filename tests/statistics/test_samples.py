"""Resampling by subject: what is kept together, what is kept constant, what is reproducible."""

import math
from typing import Any

import numpy as np
import pytest

from osteo_monai.statistics import samples
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
