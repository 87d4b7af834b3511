"""Areal density: mineral over area, by hand for a known slab and by trend for people."""

import numpy as np
import pytest

from osteo_monai.domain import Sex
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.dxa import READING_SD, YOUNG_ADULT, areal_density, projected_density, reading_error
from osteo_monai.virtual.person import draw_person


def _projected(density: float, sex: Sex = Sex.FEMALE) -> float:
    return projected_density(Anatomy(draw_person(5, sex=sex, age_years=55, mean_density=density, variants=frozenset())))


def test_grows_with_trabecular_density() -> None:
    low, middle, high = (_projected(d) for d in (60.0, 120.0, 180.0))
    assert low < middle < high
    # 60 mg/cm3 more over a depth of about 3 cm of spongy bone is about 0.18 g/cm2, and the cortex thickens too
    assert middle - low == pytest.approx(0.24, abs=0.10)


def test_young_adult_is_near_the_young_adult_mean() -> None:
    person = draw_person(7, sex=Sex.MALE, age_years=27, mean_density=174.0, variants=frozenset())
    result = areal_density(Anatomy(person))
    mean, sd = YOUNG_ADULT[Sex.MALE]
    assert abs(result.t_score) < 2.5
    assert result.t_score == pytest.approx((result.g_cm2 - mean) / sd)
    assert [str(level) for level in result.levels] == ["L4", "L3", "L2", "L1"]


def test_a_reading_is_the_population_mean_and_a_share_of_the_difference_and_its_own_error() -> None:
    anatomy = Anatomy(draw_person(5, sex=Sex.FEMALE, age_years=70, mean_density=70.0, variants=frozenset()))
    result = areal_density(anatomy)
    expected = 1.064 + 0.6 * (projected_density(anatomy) - 1.119) + reading_error(anatomy.person)
    assert result.g_cm2 == pytest.approx(expected)
    assert areal_density(anatomy) == result


def test_errors_of_readings_have_their_spread_and_no_bias() -> None:
    errors = [reading_error(draw_person(seed)) for seed in range(1000)]
    assert np.mean(errors) == pytest.approx(0.0, abs=3 * READING_SD / 1000**0.5)
    assert np.std(errors) == pytest.approx(READING_SD, rel=0.08)


@pytest.mark.parametrize(("density", "osteoporosis"), [(25.0, True), (150.0, False)])
def test_osteoporosis_lies_near_the_volumetric_limit(density: float, osteoporosis: bool) -> None:
    """T = -2.5 falls at about 70 mg/cm3, not far below QCT's 80; far from it no one is on the other side."""
    for seed in (5, 6, 7):
        person = draw_person(seed, sex=Sex.FEMALE, age_years=70, mean_density=density, variants=frozenset())
        assert areal_density(Anatomy(person)).osteoporosis == osteoporosis
