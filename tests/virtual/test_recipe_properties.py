"""Properties of recipes and plans that hold for any valid recipe, and of validation for any invalid one."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osteo_monai.domain import Sex
from osteo_monai.virtual.person import Variant
from osteo_monai.virtual.plan import ScanPlan, plan_cohort
from osteo_monai.virtual.recipe import EXCLUSIVE_VARIANTS, CohortRecipe

SPLITS = ("training", "validation", "test", "external_far")


@st.composite
def limits(draw: st.DrawFn, low: float, high: float) -> list[float]:
    values = st.floats(low, high, allow_nan=False)
    return sorted([draw(values), draw(values)])


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    subjects = draw(st.integers(1, 40))
    counts = [0] * len(SPLITS)
    for place in draw(st.lists(st.integers(0, len(SPLITS) - 1), min_size=subjects, max_size=subjects)):
        counts[place] += 1
    age_low, age_high = draw(limits(18.0, 89.0))
    acquisitions = [
        {
            "name": f"a{i}",
            "weight": draw(st.floats(0.1, 10)),
            "pixel": draw(limits(0.2, 4.0)),
            "noise_hu": draw(limits(0.0, 200.0)),
            "gain": draw(limits(0.5, 1.5)),
            "kvp": draw(st.sampled_from([80, 120, [80, 100], [100, 120, 140]])),
        }
        for i in range(draw(st.integers(1, 3)))
    ]
    return {
        "name": "r",
        "description": "d",
        "seed": draw(st.integers(0, 2**32 - 1)),
        "subjects": subjects,
        "population": {"female_fraction": draw(st.floats(0, 1)), "age_min": age_low, "age_max": age_high},
        "splits": {name: n for name, n in zip(SPLITS, counts, strict=True) if n},
        "variants": {str(v): draw(st.floats(0, 0.25)) for v in draw(st.sets(st.sampled_from(list(Variant))))},
        "acquisitions": acquisitions,
        "scans_per_subject": draw(st.integers(1, 4)),
    }


@given(recipes())
@settings(max_examples=40, deadline=None)
def test_plans_are_deterministic_and_as_the_recipe(fields: dict[str, Any]) -> None:
    recipe = CohortRecipe.model_validate(fields)
    plans = plan_cohort(recipe)
    assert plans == plan_cohort(CohortRecipe.model_validate_json(recipe.model_dump_json()))
    assert Counter(p.split for p in plans) == fields["splits"]
    assert len({p.seed for p in plans}) == len({p.subject_id for p in plans}) == fields["subjects"]
    population = recipe.population
    assert all(round(population.age_min, 1) <= p.age_years <= round(population.age_max, 1) for p in plans)
    women = sum(p.sex is Sex.FEMALE for p in plans)
    assert women == round(fields["subjects"] * population.female_fraction)
    assert all(len(p.variants & EXCLUSIVE_VARIANTS) <= 1 for p in plans)
    limits_of = {a["name"]: a for a in fields["acquisitions"]}
    for plan in plans:
        names = [s.acquisition for s in plan.scans]
        assert len(names) == fields["scans_per_subject"]
        assert len(set(names[: len(limits_of)])) == min(len(names), len(limits_of))
        for planned in plan.scans:
            assert isinstance(planned, ScanPlan)
            low, high = limits_of[planned.acquisition]["pixel"]
            assert low - 1e-4 <= planned.pixel <= high + 1e-4


@given(recipes())
@settings(max_examples=25, deadline=None)
def test_other_acquisitions_do_not_change_the_people(fields: dict[str, Any]) -> None:
    plans = plan_cohort(CohortRecipe.model_validate(fields))
    again = plan_cohort(
        CohortRecipe.model_validate({**fields, "name": "s", "people": "r", "acquisitions": [{"name": "other"}]})
    )
    for first, second in zip(plans, again, strict=True):
        assert (first.subject_id, first.seed, first.sex, first.age_years, first.split) == (
            second.subject_id,
            second.seed,
            second.sex,
            second.age_years,
            second.split,
        )


@given(recipes(), st.data())
@settings(max_examples=40, deadline=None)
def test_invalid_recipes_are_refused(fields: dict[str, Any], data: st.DataObject) -> None:
    high = data.draw(st.floats(0.01, 1.0))
    wrong: dict[str, Any] = data.draw(
        st.sampled_from(
            [
                {"splits": {**fields["splits"], "test": fields["subjects"] + 1}},
                {"splits": {"holdout": 1.0}},
                {"subjects": 0},
                {"seed": 2**32},
                {"variants": {"scoliosis": 1 + high}},
                {"acquisitions": [{"name": "a", "gain": [0.5 + high, 0.5]}]},
                {"acquisitions": [fields["acquisitions"][0]] * 2},
                {"population": {"age_min": 18 + high, "age_max": 18}},
                {"unknown": high},
            ]
        )
    )
    with pytest.raises(ValueError, match="validation error"):
        CohortRecipe.model_validate({**fields, **wrong})
