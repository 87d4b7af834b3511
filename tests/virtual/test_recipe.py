"""Cohort recipes: the shipped ones are right, wrong ones are refused, and a plan is the same on every machine."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.domain import Sex
from osteo_monai.virtual.person import Variant
from osteo_monai.virtual.recipe import CohortRecipe, Population, plan_cohort, read_recipe

RECIPES = Path(__file__).parents[2] / "data_manifests" / "recipes"


def recipe(**fields: Any) -> CohortRecipe:
    return CohortRecipe.model_validate(
        {"name": "r", "description": "d", "seed": 5, "subjects": 20, "acquisitions": [{"name": "a"}], **fields}
    )


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.json")), ids=lambda p: p.stem)
def test_shipped_recipes(path: Path) -> None:
    shipped = read_recipe(path)
    assert shipped.name == path.stem
    plans = plan_cohort(shipped)
    assert len(plans) == shipped.subjects
    assert plans == plan_cohort(read_recipe(path))


def test_shipped_recipes_have_different_seeds() -> None:
    seeds = [read_recipe(path).seed for path in RECIPES.glob("*.json")]
    assert len(set(seeds)) == len(seeds) >= 2


def test_the_test_cohort_has_a_hundred_people_and_every_variant() -> None:
    plans = plan_cohort(read_recipe(RECIPES / "virtual_segmentation_test.json"))
    assert len(plans) >= 100
    assert {v for p in plans for v in p.variants} == set(Variant)
    assert {p.split for p in plans} == {"test"}


def test_sex_age_and_splits_are_those_of_the_recipe() -> None:
    plans = plan_cohort(
        recipe(subjects=1048, splits={"training": 530 / 1048, "validation": 100 / 1048, "test": 418 / 1048})
    )
    assert Counter(p.split for p in plans) == {"training": 530, "validation": 100, "test": 418}
    assert Counter(p.sex for p in plans) == {Sex.FEMALE: 443, Sex.MALE: 605}
    ages = np.array([p.age_years for p in plans])
    # Standard error 0.44 years; the cut at 18 and 90 moves the mean of the normal distribution by 0.3
    assert abs(ages.mean() - 51.19) < 1.7
    assert abs(ages.std() - 14.35) < 1.0
    assert ages.min() >= 18
    assert ages.max() < 90


def test_even_ages() -> None:
    population = {"age_distribution": "uniform", "age_min": 40, "age_max": 60}
    ages = np.array([p.age_years for p in plan_cohort(recipe(subjects=400, population=population))])
    assert np.histogram(ages, bins=[40, 45, 50, 55, 60.1])[0].min() > 70
    assert (ages.min() >= 40) & (ages.max() <= 60)


def test_one_age() -> None:
    plans = plan_cohort(recipe(population={"age_mean": 70, "age_min": 70, "age_max": 70}))
    assert {p.age_years for p in plans} == {70.0}


def test_variants_have_exactly_their_share_and_exclude_one_another() -> None:
    plans = plan_cohort(recipe(subjects=50, variants={"eleven_ribs": 0.5, "thirteen_ribs": 0.5, "screws": 0.1}))
    assert Counter(v for p in plans for v in p.variants) == {"eleven_ribs": 25, "thirteen_ribs": 25, "screws": 5}
    assert not any({Variant.ELEVEN_RIBS, Variant.THIRTEEN_RIBS} <= p.variants for p in plans)


def test_seeds_and_names_differ() -> None:
    plans = plan_cohort(recipe(subjects=1000)) + plan_cohort(recipe(subjects=1000, seed=6))
    assert len({p.seed for p in plans}) == 2000
    assert [p.subject_id for p in plans[:2]] == ["r_0001", "r_0002"]
    assert all(0 <= p.seed < 2**48 for p in plans)


def test_a_known_plan() -> None:
    # Written down once: another one would mean that a published cohort cannot be made again.
    plans = plan_cohort(recipe(subjects=4, variants={"scoliosis": 0.5}, splits={"training": 0.5, "test": 0.5}))
    assert [(p.seed, str(p.sex), p.age_years, p.split, len(p.variants)) for p in plans] == [
        (62365483888770, "M", 29.3, "training", 0),
        (38159198742736, "M", 47.1, "test", 0),
        (248747081256173, "F", 48.0, "test", 1),
        (69324850745975, "F", 28.3, "training", 1),
    ]


def test_scans_of_one_person_differ_as_long_as_there_are_enough() -> None:
    three = [{"name": n} for n in "abc"]
    plans = plan_cohort(recipe(acquisitions=three, scans_per_subject=4))
    for plan in plans:
        names = [s.acquisition for s in plan.scans]
        assert sorted(names[:3]) == ["a", "b", "c"]
        assert len(names) == 4


def test_what_is_drawn_for_a_scan_stays_within_its_limits() -> None:
    acquisition = {
        "name": "a",
        "pixel": [0.7, 0.8],
        "noise_hu": [10, 30],
        "matrix": 256,
        "kvp": 80,
        "phase": "arterial",
    }
    scans = [p.scans[0] for p in plan_cohort(recipe(subjects=200, acquisitions=[acquisition]))]
    assert all(0.7 <= s.pixel <= 0.8 and 10 <= s.noise_hu <= 30 for s in scans)
    assert len({s.pixel for s in scans}) > 150
    assert {(s.matrix, s.kvp, s.phase) for s in scans} == {((256, 256), 80, "arterial")}
    assert len({s.seed for s in scans}) == 200


def test_weights_of_acquisitions() -> None:
    plans = plan_cohort(recipe(subjects=1000, acquisitions=[{"name": "a", "weight": 9}, {"name": "b", "weight": 1}]))
    # Binomial, SD 9.5
    assert abs(Counter(p.scans[0].acquisition for p in plans)["a"] - 900) < 40


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"splits": {"training": 0.5}}, "splits must add up to 1, got 0.5"),
        ({"splits": {"tests": 1.0}}, "training, validation, test or external_<centre>, got 'tests'"),
        ({"variants": {"eleven_ribs": 0.6, "thirteen_ribs": 0.6}}, "must not exceed 1 in all, got 1.2"),
        ({"variants": {"hump": 0.6}}, "variants"),
        ({"acquisitions": []}, "acquisitions"),
        ({"acquisitions": [{"name": "a"}, {"name": "a"}]}, "different names"),
        ({"acquisitions": [{"name": "a", "kvp": 110}]}, "kvp"),
        ({"acquisitions": [{"name": "a", "noise_hu": [30, 10]}]}, "noise_hu must satisfy"),
        ({"population": {"age_min": 60, "age_max": 50}}, "age_min must not exceed age_max, got 60.0 and 50.0"),
        ({"subjects": 0}, "subjects"),
        ({"color": "red"}, "color"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    content = {"name": "r", "description": "d", "seed": 5, "subjects": 20, "acquisitions": [{"name": "a"}], **fields}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"recipe\.json is not a cohort recipe") as caught:
        read_recipe(path)
    assert message in str(caught.value)


def test_the_population_is_pans_by_default() -> None:
    assert Population().female_fraction == pytest.approx(0.4227, abs=1e-4)
