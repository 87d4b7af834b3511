"""Sample sizes against formulas by hand and simulation."""

import math

import numpy as np
import pytest

from osteo_monai.statistics import delong_test, mcnemar, wilson
from osteo_monai.statistics.calibration import calibration
from osteo_monai.statistics.sample_size import (
    size_for_area,
    size_for_area_difference,
    size_for_calibration,
    size_for_paired_rates,
    size_for_rate,
    with_prevalence,
)


def test_size_for_a_rate_is_the_smallest() -> None:
    n = size_for_rate(0.9, 0.1)
    widths = [wilson(0.9 * k, k).high - wilson(0.9 * k, k).low for k in (n - 1, n)]
    assert widths[1] <= 0.1 < widths[0]


def test_size_for_an_area_is_that_of_its_variance() -> None:
    m, n = size_for_area(0.85, 0.1, ratio=2)
    assert n == 2 * m

    def width(k: int) -> float:
        q1, q2 = 0.85 / 1.15, 2 * 0.85**2 / 1.85
        variance = 0.85 * 0.15 + (k - 1) * (q1 - 0.85**2) + (2 * k - 1) * (q2 - 0.85**2)
        return 2 * 1.959964 * math.sqrt(variance / (2 * k * k))

    assert width(m) <= 0.1 < width(m - 1)


def test_size_for_two_areas_has_the_power_of_the_test() -> None:
    m, n = size_for_area_difference(0.8, 0.9)
    rng = np.random.default_rng(3)
    shifts = [math.sqrt(2) * z for z in (0.8416212, 1.2815516)]  # of binormal scores with these areas
    y = np.repeat([1, 0], [m, n])
    significant = []
    for _ in range(400):
        first, second = (rng.normal(size=m + n) + shift * y for shift in shifts)
        significant.append(float(delong_test(y, first, second).p or 1) < 0.05)
    assert np.mean(significant) == pytest.approx(0.8, abs=0.07)
    paired = size_for_area_difference(0.8, 0.9, 0.5)[0]
    assert 0.4 * m < paired < 0.6 * m


def test_size_for_paired_rates_has_the_power_of_the_exact_test() -> None:
    n = size_for_paired_rates(0.15, 0.05)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, [0.15, 0.05, 0.8], 4000)
    power = np.mean([mcnemar(int(b), int(c)).p_exact < 0.05 for b, c, _ in draws])
    assert power == pytest.approx(0.8, abs=0.025)
    large = size_for_paired_rates(0.101, 0.09)
    assert 11_000 < large < 14_000


def test_size_for_non_inferiority_has_its_power() -> None:
    n = size_for_paired_rates(0.05, 0.05, margin=0.05)
    rng = np.random.default_rng(1)
    b, c, _ = rng.multinomial(n, [0.05, 0.05, 0.9], 20_000).T
    gap = (b - c) / n
    lower = gap - 1.959964 * np.sqrt((b + c) / n - gap**2) / math.sqrt(n)
    assert np.mean(lower > -0.05) == pytest.approx(0.8, abs=0.02)


def test_size_for_calibration_gives_the_widths() -> None:
    n = size_for_calibration(0.2, 0.3, 5.0, area=0.8)
    rng = np.random.default_rng(2)
    distance = math.sqrt(2) * 0.8416212
    widths = []
    for _ in range(20):
        y = rng.random(n) < 0.2
        x = math.log(0.25) + np.where(y, 0.5, -0.5) * distance**2 + distance * rng.normal(size=n)
        slope = calibration(y, 1 / (1 + np.exp(-x))).slope
        widths.append(slope.high - slope.low)
    assert np.mean(widths) == pytest.approx(0.3, rel=0.05)
    by_ratio = size_for_calibration(0.2, 5.0, 0.2)
    assert by_ratio == pytest.approx(0.8 / 0.2 * (1.959964 / math.asinh(0.1)) ** 2, abs=1)


def test_cohort_has_enough_of_both() -> None:
    assert with_prevalence(50, 100, 0.2) == 250
    assert with_prevalence(50, 900, 0.1) == 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: size_for_rate(1.0, 0.1), "rate must be above 0 and below 1, got 1"),
        (lambda: size_for_area(0.4, 0.1), "area must be above 0.5, got 0.4"),
        (lambda: size_for_area_difference(0.8, 0.8), "the areas must differ, got 0.8 twice"),
        (lambda: size_for_paired_rates(0.1, 0.1), "the difference 0 must be above -margin and not 0"),
        (lambda: size_for_paired_rates(0.6, 0.6), "must add up to more than 0 and at most 1, got 0.6 and 0.6"),
        (lambda: size_for_calibration(0.2, 0.0, 0.2), "widths must be above 0, got 0 and 0.2"),
    ],
)
def test_wrong_values(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
