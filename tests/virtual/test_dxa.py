"""Areal density: mineral over area, by hand for a known slab and by trend for people."""

import pytest

from osteo_monai.domain import Sex
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.dxa import YOUNG_ADULT, areal_density
from osteo_monai.virtual.person import draw_person


def _dxa(density: float, sex: Sex = Sex.FEMALE) -> float:
    person = draw_person(5, sex=sex, age_years=55, mean_density=density, variants=frozenset())
    return areal_density(Anatomy(person)).g_cm2


def test_grows_with_trabecular_density() -> None:
    low, middle, high = (_dxa(d) for d in (60.0, 120.0, 180.0))
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


def test_is_the_same_twice() -> None:
    assert _dxa(100.0) == _dxa(100.0)
