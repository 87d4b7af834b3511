"""Who is drawn: the same person from the same seed, and groups of people as the norms have them."""

from dataclasses import replace

import numpy as np
import pytest

from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.norms import density_norm
from osteo_monai.virtual.person import VARIANT_FREQUENCY, Variant, draw_person
from osteo_monai.virtual.recipe import EXCLUSIVE_VARIANTS

L = VertebraLevel


def test_a_seed_is_a_person() -> None:
    assert draw_person(7) == draw_person(7)
    people = [draw_person(seed) for seed in range(50)]
    assert len({p.weight_kg for p in people}) == 50
    # given values are kept and do not change the others
    given = draw_person(7, sex=draw_person(7).sex, age_years=70.0, variants=frozenset())
    assert (given.age_years, given.variants) == (70.0, frozenset())
    assert given.height_cm == draw_person(7).height_cm


@pytest.mark.parametrize(("sex", "age"), [(Sex.FEMALE, 75.0), (Sex.MALE, 45.0), (Sex.FEMALE, 25.0)])
def test_densities_follow_the_norm_of_their_group(sex: Sex, age: float) -> None:
    norm = density_norm(age, sex)
    assert norm is not None
    n = 600
    drawn = np.array([draw_person(seed, sex=sex, age_years=age).mean_density for seed in range(n)])
    # four standard errors; few are drawn beyond the limits of the table and put back on them
    assert abs(drawn.mean() - norm.mean) < 4 * norm.sd / np.sqrt(n)
    assert abs(drawn.std() - norm.sd) < 4 * norm.sd / np.sqrt(2 * n)


def test_sexes_ages_and_sizes() -> None:
    people = [draw_person(seed) for seed in range(1000)]
    # Pan 2024, Table 2: 605 of 1048 are men, 51.19 +- 14.35 years
    assert abs(np.mean([p.sex is Sex.MALE for p in people]) - 0.577) < 4 * 0.0156
    assert abs(np.mean([p.age_years for p in people]) - 51.2) < 4 * 0.454
    assert all(20 <= p.age_years < 90 for p in people)
    men = np.array([p.height_cm for p in people if p.sex is Sex.MALE])
    women = np.array([p.height_cm for p in people if p.sex is Sex.FEMALE])
    assert abs(men.mean() - 171) < 1.5
    assert abs(women.mean() - 159) < 1.5
    assert all(16 <= p.weight_kg / (p.height_cm / 100) ** 2 <= 42 for p in people)


@pytest.mark.parametrize("mean", [5.0, 5.4, 30.0, 119.99, 240.0, 297.0, 300.0])
def test_the_mean_of_l1_and_l2_is_the_one_asked_for(mean: float) -> None:
    for seed in range(40):
        person = draw_person(seed, mean_density=mean)
        assert 0.5 * (person.density[L.L1] + person.density[L.L2]) == pytest.approx(mean, abs=1e-9)
        assert person.mean_density == pytest.approx(mean, abs=1e-9)
        assert all(5 <= d <= 300 for d in person.density.values())


def test_density_varies_along_the_column_as_in_people() -> None:
    people = [draw_person(seed, mean_density=120.0) for seed in range(300)]
    by_level = {level: np.array([p.density[level] for p in people]) for level in (L.T8, L.L1, L.L2, L.L4)}
    # denser upwards: T8 is 5.5 levels above the middle of L1 and L2, 2.2 % each (T13 counts as a level)
    assert by_level[L.T8].mean() > by_level[L.L1].mean() > by_level[L.L4].mean()
    step = by_level[L.L1] - by_level[L.L2]
    # neighbours: SD of the difference is 0.16 * 120 * sqrt(2 (1 - 0.95)) = 6.1
    assert step.std() == pytest.approx(6.07, rel=0.2)
    assert set(people[0].density) == set(VertebraLevel) - {L.SACRUM}


def test_variants_are_drawn_as_often_as_told_and_exclude_one_another() -> None:
    n = 1500
    people = [draw_person(seed).variants for seed in range(n)]
    for variant, share in VARIANT_FREQUENCY.items():
        count = sum(variant in v for v in people)
        assert abs(count - n * share) < 4 * np.sqrt(n * share * (1 - share)) + n * 0.005, variant
    always = draw_person(3, variants=dict.fromkeys(Variant, 1.0)).variants
    assert len(always & EXCLUSIVE_VARIANTS) == 1
    assert always >= set(Variant) - EXCLUSIVE_VARIANTS
    assert draw_person(3, variants={}).variants == frozenset()


def test_two_numbers_of_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"variants must contain at most one of .*, got lumbarised, thirteen_ribs"):
        draw_person(1, variants=frozenset({Variant.THIRTEEN_RIBS, Variant.LUMBARISED, Variant.SCREWS}))


@pytest.mark.parametrize("age", [17.9, 90.0, float("nan")])
def test_ages_without_norms_are_refused(age: float) -> None:
    with pytest.raises(
        ValueError, match=r"age_years must be from 18 to 90 \(90 excluded\), the range of the norms, got"
    ):
        draw_person(1, age_years=age)


@pytest.mark.parametrize("density", [-20.0, 4.9, 301.0, float("nan")])
def test_impossible_densities_are_refused(density: float) -> None:
    with pytest.raises(ValueError, match=r"mean_density must be from 5 to 300 mg/cm3, got"):
        draw_person(1, mean_density=density)


def test_a_person_is_not_changed_by_mistake() -> None:
    person = draw_person(1)
    with pytest.raises(AttributeError):
        person.age_years = 20.0  # type: ignore[misc]
    assert replace(person, age_years=20.0).seed == person.seed
