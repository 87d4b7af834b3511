"""The beam: Beer-Lambert summed over a spectrum, and its limits."""

import math

import numpy as np
import pytest
import torch

from osteo_monai.virtual.radiograph.beam import absorbance, spectrum, titanium_as_mineral


@pytest.mark.parametrize("filtration", ["light", "copper"])
def test_spectrum_is_a_distribution_that_ends_at_the_tube_voltage(filtration: str) -> None:
    for kvp in (60.0, 78.0, 120.0, 150.0):
        weights = spectrum(kvp, filtration)
        assert weights.sum() == pytest.approx(1.0, abs=1e-5)
        assert (weights >= 0).all()
    low, high = spectrum(70.0, filtration), spectrum(120.0, filtration)
    energies = 16.5 + 3.0 * np.arange(len(low))
    assert low[energies > 72].sum() == 0
    assert (high * energies).sum() > (low * energies).sum() + 10


def test_table_agrees_with_the_sum_over_energies() -> None:
    from osteo_monai.virtual.radiograph.beam import _table

    table = _table()
    mu_water, mu_mineral = (np.array(table[k]) for k in ("water_cm2_g", "mineral_cm2_g"))
    water, mineral = [0.0, 3.0, 11.7, 24.0, 38.0], [0.0, 0.1, 0.9, 2.2, 3.6]
    got = absorbance(torch.tensor(water), torch.tensor(mineral), 92.0)
    for value, w, m in zip(got.tolist(), water, mineral, strict=True):
        exact = -math.log((spectrum(92.0) * np.exp(-w * mu_water - m * mu_mineral)).sum())
        assert value == pytest.approx(exact, abs=0.004)


def test_beam_hardens_and_mineral_counts_more_at_low_voltage() -> None:
    water, none = torch.tensor([5.0, 10.0, 15.0]), torch.zeros(3)
    first, second, third = absorbance(water, none, 80.0).tolist()
    assert second - first > third - second > 0
    one = torch.ones(1)
    soft, hard = (float(absorbance(15 * one, one, k) - absorbance(15 * one, 0 * one, k)) for k in (70.0, 130.0))
    assert soft > 1.5 * hard
    # 15 cm of water, monochromatic at an effective 55-65 keV: 0.20-0.22 per cm
    assert 0.19 < float(absorbance(15 * one, 0 * one, 120.0)) / 15 < 0.25


def test_titanium_attenuates_more_than_mineral_by_weight() -> None:
    assert 1.5 < titanium_as_mineral(80.0) < 3.5


@pytest.mark.parametrize(("kvp", "filtration", "word"), [(40.0, "light", "kvp"), (80.0, "lead", "filtration")])
def test_what_there_is_no_beam_for_is_refused(kvp: float, filtration: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        spectrum(kvp, filtration)
