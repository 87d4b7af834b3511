"""Decision curves against dcurves, by hand, and at the edges."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.statistics.decision import decision_curve

ORACLE = json.loads((Path(__file__).parent / "oracle" / "dca.json").read_text())
Y, P, THRESHOLDS = ORACLE["y"], ORACLE["p"], ORACLE["thresholds"]


def column(strategy: Any, name: Any) -> Any:
    return [row[name] for row in ORACLE["reference"] if row["strategy"] == strategy]


def test_curve_equals_that_of_dcurves() -> None:
    curve = decision_curve(Y, P, THRESHOLDS)
    assert curve.net_benefit == pytest.approx(column("model", "net_benefit"), abs=1e-12)
    assert curve.tp_rate == pytest.approx(column("model", "tp_rate"), abs=1e-12)
    assert curve.fp_rate == pytest.approx(column("model", "fp_rate"), abs=1e-12)
    assert curve.interventions_avoided == pytest.approx(column("model", "net_interventions_avoided"), abs=1e-12)
    assert curve.treat_all == pytest.approx(column("treat_all", "net_benefit"), abs=1e-12)
    assert curve.treat_none == pytest.approx(column("treat_none", "net_benefit"), abs=1e-12)
    assert curve.n == ORACLE["n"]
    assert curve.prevalence == pytest.approx(ORACLE["prevalence"])


def test_net_benefit_by_hand_and_a_probability_at_the_threshold_is_acted_on() -> None:
    # at 0.5: 0.5 and 0.9 are acted on, one of them rightly: 1/4 - 1/4; at 0.2 all but one: 2/4 - 1/4 * 0.25
    curve = decision_curve([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.9], [0.5, 0.2])
    assert curve.net_benefit.tolist() == pytest.approx([0, 0.4375])
    assert curve.treat_all.tolist() == pytest.approx([0, 0.375])
    assert curve.interventions_avoided.tolist() == pytest.approx([0, 0.25])


def test_harm_lowers_the_model_alone() -> None:
    free, costly = decision_curve(Y, P), decision_curve(Y, P, harm=0.01)
    assert costly.net_benefit == pytest.approx(free.net_benefit - 0.01)
    assert (costly.treat_all == free.treat_all).all()
    assert free.thresholds.size == 99


def test_edges() -> None:
    none = decision_curve([0, 0], [0.2, 0.8], [0.5])
    assert none.net_benefit.tolist() == [-0.5]
    everyone = decision_curve([1, 1], [1.0, 0.0], [0.5])
    assert everyone.net_benefit.tolist() == [0.5]
    assert math.isnan(everyone.low[0])


def test_band_holds_the_curve_and_is_resampled_by_subject() -> None:
    once = decision_curve(Y, P, [0.1, 0.3], resamples=1000)
    # net benefit at t is a mean over cases: event - odds * (1 - event) where acted on
    for t, low, high in zip((0.1, 0.3), once.low, once.high, strict=True):
        gain = np.where(np.array(P) >= t, np.where(np.array(Y) == 1, 1, -t / (1 - t)), 0)
        half = 1.96 * gain.std() / math.sqrt(750)
        assert (low, high) == pytest.approx((gain.mean() - half, gain.mean() + half), abs=0.15 * half)
    doubled: dict[str, Any] = {"y": np.repeat(Y, 2), "p": np.repeat(P, 2), "thresholds": [0.1, 0.3], "resamples": 1000}
    grouped = decision_curve(**doubled, groups=np.repeat(np.arange(750), 2))
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.1)
    loose = decision_curve(**doubled)
    assert (loose.high - loose.low < 0.8 * (once.high - once.low)).all()


def test_everything_out_of_range_is_said() -> None:
    with pytest.raises(ValueError, match=r"thresholds must be .* \[0.0, 0.5\]; harm must be 0 or more, got -1; level"):
        decision_curve(Y, P, [0.0, 0.5], harm=-1, level=95)
    with pytest.raises(ValueError, match="probability must be between 0 and 1, got 1.2"):
        decision_curve([0, 1], [0.1, 1.2])
