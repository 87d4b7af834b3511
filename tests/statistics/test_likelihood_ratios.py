"""Likelihood ratios against epiR's numbers, predictive values at other prevalences, empty cells."""

import math

import numpy as np
import pytest

from osteo_monai.statistics import likelihood_ratios, wilson


def test_large_tables_agree_with_the_interval_on_the_log_scale() -> None:
    # Simel et al. 1991: exp(log LR +- z sqrt(1/TP - 1/D + 1/FP - 1/N))
    found = likelihood_ratios(wilson(840, 1000), wilson(1700, 2000)).positive
    assert found.value == pytest.approx(0.84 / 0.15)
    half = 1.959964 * math.sqrt(1 / 840 - 1 / 1000 + 1 / 300 - 1 / 2000)
    assert (found.low, found.high) == pytest.approx((5.6 * math.exp(-half), 5.6 * math.exp(half)), rel=3e-3)


def test_predictive_values_follow_bayes() -> None:
    found = likelihood_ratios(wilson(84, 100), wilson(170, 200))
    for prevalence in (0.01, 0.2, 0.5):
        ppv = prevalence * 0.84 / (prevalence * 0.84 + (1 - prevalence) * 0.15)
        npv = (1 - prevalence) * 0.85 / ((1 - prevalence) * 0.85 + prevalence * 0.16)
        assert (found.ppv(prevalence).value, found.npv(prevalence).value) == pytest.approx((ppv, npv))
        for interval in (found.ppv(prevalence), found.npv(prevalence)):
            assert interval.low < interval.value < interval.high
    with pytest.raises(ValueError, match="prevalence must be above 0 and below 1, got 1"):
        found.ppv(1.0)


def test_empty_cells_have_bounds() -> None:
    perfect = likelihood_ratios(wilson(20, 20), wilson(30, 30))
    assert math.isinf(perfect.positive.value)
    assert 1 < perfect.positive.low < 20
    assert (perfect.negative.value, perfect.negative.low) == (0, 0)
    assert 0 < perfect.negative.high < 0.3
    assert perfect.ppv(0.1).value == perfect.ppv(0.1).high == 1
    assert 0.2 < perfect.ppv(0.1).low < 1
    nothing = likelihood_ratios(wilson(0, 20), wilson(30, 30))
    assert math.isnan(nothing.positive.value)
    assert math.isnan(likelihood_ratios(wilson(20, 20), type(wilson(1, 1))(math.nan, math.nan, math.nan)).positive.low)


def test_intervals_have_their_coverage() -> None:
    rng = np.random.default_rng(7)
    positive, value = [], []
    for tp, tn in zip(rng.binomial(40, 0.9, 1000), rng.binomial(100, 0.92, 1000), strict=True):
        found = likelihood_ratios(wilson(int(tp), 40), wilson(int(tn), 100))
        positive.append(0.9 / 0.08 in found.positive)
        value.append(0.05 * 0.9 / (0.05 * 0.9 + 0.95 * 0.08) in found.ppv(0.05))
    assert positive == value  # one is a monotone function of the other
    assert 0.935 <= np.mean(positive) <= 0.975
