"""Cohort recipes: shipped ones are valid, invalid ones are refused, and plans are equal on every machine."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.domain import BoneStatus, DensityThresholds, Sex
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.virtual.cohort import person_of
from osteo_monai.virtual.person import STANDARD, Variant
from osteo_monai.virtual.plan import ScanPlan, SubjectPlan, plan_cohort
from osteo_monai.virtual.recipe import CohortRecipe, Population, find_recipe, read_recipe

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


def ct_scans(plans: Iterable[SubjectPlan]) -> list[ScanPlan]:
    """Return all CT scans of a cohort."""
    return [s for p in plans for s in p.scans if isinstance(s, ScanPlan)]


def status(plan: SubjectPlan) -> BoneStatus:
    return DensityThresholds().status(person_of(plan).mean_density, STANDARD)


def test_no_person_is_in_two_shipped_cohorts() -> None:
    shipped = [read_recipe(path) for path in RECIPES.glob("*.json")]
    people = {r.name: {p.seed for p in plan_cohort(r)} for r in shipped}
    groups = {r.people or r.name for r in shipped}
    assert sum(len(people[name]) for name in groups) == len(set.union(*(people[name] for name in groups)))
    assert len({r.seed for r in shipped if r.name in groups}) == len(groups) >= 7
    names = [p.subject_id for r in shipped if r.name in groups for p in plan_cohort(r)]
    assert len(set(names)) == len(names)


def test_pans_cohort_is_that_of_the_paper() -> None:
    plans = plan_cohort(read_recipe(RECIPES / "virtual_pan2024.json"))
    # Table 1: age band, men, women; the two of 90 and above are in the last band
    table = {20: (40, 20), 30: (85, 80), 40: (157, 99), 50: (207, 115), 60: (57, 60), 70: (41, 45), 80: (18, 24)}
    bands = Counter((int(p.age_years // 10 * 10), p.sex) for p in plans)
    assert bands == {(band, sex): n for band, row in table.items() for sex, n in zip("MF", row, strict=True)}
    # Table 2
    assert Counter((p.split, str(status(p))) for p in plans) == {
        ("training", "normal"): 310, ("training", "osteopenia"): 150, ("training", "osteoporosis"): 70,
        ("validation", "normal"): 60, ("validation", "osteopenia"): 30, ("validation", "osteoporosis"): 10,
        ("test", "normal"): 251, ("test", "osteopenia"): 116, ("test", "osteoporosis"): 51,
    }  # fmt: skip
    ages = np.array([p.age_years for p in plans])
    assert abs(ages.mean() - 51.19) < 1.0
    assert abs(ages.std() - 14.35) < 1.0


def test_pans_people_are_the_same_in_a_small_field() -> None:
    whole, small = (plan_cohort(read_recipe(RECIPES / f"virtual_pan2024{end}.json")) for end in ("", "_small"))
    alike = {"matrix": (192, 192), "field": "spine"}
    scans = [tuple(scan.model_copy(update=alike) for scan in plan.scans) for plan in whole]
    assert [p.model_copy(update={"scans": s}) for p, s in zip(whole, scans, strict=True)] == list(small)
    # the bodies, at most 60 mm wide with their osteophytes, and 9 mm (three SD) of aiming beside
    assert min(s.pixel for s in ct_scans(small)) * 192 > 60 + 4 * 9


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


def test_strata_are_counted() -> None:
    strata = [
        {"age_min": 20, "age_max": 30, "men": 30, "women": 10},
        {"age_min": 80, "age_max": 90, "men": 0, "women": 60},
    ]
    plans = plan_cohort(recipe(subjects=100, population={"strata": strata}))
    assert Counter((p.sex, p.age_years >= 50) for p in plans) == {("M", False): 30, ("F", False): 10, ("F", True): 60}
    ages = np.array([p.age_years for p in plans])
    assert set(np.histogram(ages, bins=[0, 20, 30, 80, 90, 200])[0]) == {0, 40, 60}
    assert np.histogram(ages, bins=[80, 82.5, 85, 87.5, 90])[0].min() >= 7  # 15 expected, SD 3.4
    assert len({p.sex for p in plans[:20]}) == 2  # not in the order of the table


def test_classes_are_counted_and_few_people_drawn_again() -> None:
    population = {"age_distribution": "uniform", "age_min": 50, "age_max": 79}
    free = plan_cohort(recipe(subjects=60, population=population))
    before = Counter(str(status(p)) for p in free)
    wanted = {
        "normal": before["normal"] - 5,
        "osteopenia": before["osteopenia"] + 2,
        "osteoporosis": before["osteoporosis"] + 3,
    }
    plans = plan_cohort(recipe(subjects=60, population=population, class_counts=wanted))
    assert Counter(str(status(p)) for p in plans) == wanted
    changed = [(a, b) for a, b in zip(free, plans, strict=True) if a != b]
    assert len(changed) == 5
    for a, b in changed:
        assert status(a) == "normal"
        assert b.model_copy(update={"seed": a.seed}) == a  # age, sex, split, variants and scans stay
    assert len({p.seed for p in plans}) == 60


def test_classes_are_divided_as_in_the_recipe() -> None:
    classes = {"normal": 10, "osteopenia": 6, "osteoporosis": 4}
    split_classes = {
        "training": {"normal": 7, "osteopenia": 4, "osteoporosis": 1},
        "test": {"normal": 3, "osteopenia": 2, "osteoporosis": 3},
    }
    plans = plan_cohort(recipe(class_counts=classes, split_classes=split_classes, splits={"training": 12, "test": 8}))
    assert Counter((p.split, str(status(p))) for p in plans) == {
        (split, name): n for split, counts in split_classes.items() for name, n in counts.items()
    }


def test_impossible_classes_are_refused() -> None:
    young = {"age_distribution": "uniform", "age_min": 20, "age_max": 25, "female_fraction": 1}
    with pytest.raises(ConfigError, match="class_counts must be possible .* got 2 of status osteoporosis missing"):
        plan_cohort(recipe(subjects=2, population=young, class_counts={"osteoporosis": 2}))


def test_splits_as_numbers_are_splits_as_shares() -> None:
    shares = plan_cohort(recipe(splits={"training": 0.65, "external_far": 0.35}))
    assert plan_cohort(recipe(splits={"training": 13, "external_far": 7})) == shares
    assert plan_cohort(recipe(splits={"test": 20})) == plan_cohort(recipe(splits={"test": 1}))


def test_people_of_another_recipe() -> None:
    own = plan_cohort(recipe(variants={"scoliosis": 0.5}))
    other = plan_cohort(recipe(name="s", people="r", variants={"scoliosis": 0.5}, acquisitions=[{"name": "b"}]))
    assert [p.model_copy(update={"scans": ()}) for p in own] == [p.model_copy(update={"scans": ()}) for p in other]
    assert {s.acquisition for p in other for s in p.scans} == {"b"}


def test_the_scanners_error_and_choices_are_drawn_for_each_scan() -> None:
    acquisition = {
        "name": "a",
        "gain": [0.98, 1.02],
        "offset_hu": [-9, 3],
        "kvp": [80, 120],
        "phase": ["native", "arterial"],
    }
    plain, varied = plan_cohort(recipe(subjects=300)), plan_cohort(recipe(subjects=300, acquisitions=[acquisition]))
    scans = ct_scans(varied)
    assert all(0.98 <= s.gain <= 1.02 and -9 <= s.offset_hu <= 3 for s in scans)
    assert np.histogram([s.gain for s in scans], bins=4, range=(0.98, 1.02))[0].min() > 45  # 75 expected, SD 7.5
    assert np.histogram([s.offset_hu for s in scans], bins=4, range=(-9, 3))[0].min() > 45
    counts = Counter((s.kvp, s.phase) for s in scans)
    assert set(counts) == {(80, "native"), (80, "arterial"), (120, "native"), (120, "arterial")}
    assert min(counts.values()) > 45
    # what else a scan draws changes neither people nor the rest of the scan
    neutral = {"gain": 1.0, "offset_hu": 0.0, "kvp": 120, "phase": "native"}
    assert [p.model_copy(update={"scans": (p.scans[0].model_copy(update=neutral),)}) for p in varied] == list(plain)


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
    scans = ct_scans(plan_cohort(recipe(subjects=200, acquisitions=[acquisition])))
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
        ({"splits": {"training": 0.5}}, "splits must add up to 1 or, as numbers, to 20 subjects, got 0.5"),
        ({"splits": {"training": 12, "test": 7}}, "splits must add up to 1 or, as numbers, to 20 subjects, got 19"),
        ({"splits": {"training": 12.5, "test": 7.5}}, "splits['training'] must be a share from 0 to 1 or a number of"),
        ({"class_counts": {"normal": 19}}, "class_counts must add up to 20 subjects, got 19"),
        ({"class_counts": {"normal": 21, "osteopenia": -1}}, "must not be negative, got -1"),
        (
            {"class_counts": {"normal": 20}, "split_classes": {"test": {"normal": 19}}},
            "add up to 20 people of status normal",
        ),
        ({"class_counts": {"normal": 20}, "split_classes": {"training": {"normal": 20}}}, "must add up to splits['te"),
        (
            {"population": {"strata": [{"age_min": 20, "age_max": 30, "men": 1, "women": 1}]}},
            "add up to 20 people, got 2",
        ),
        (
            {"population": {"age_min": 30, "strata": [{"age_min": 20, "age_max": 30, "men": 9, "women": 11}]}},
            "combined with age",
        ),
        ({"population": {"strata": [{"age_min": 40, "age_max": 30, "men": 9, "women": 11}]}}, "must be below age_max"),
        ({"acquisitions": [{"name": "a", "gain": [1.1, 0.9]}]}, "gain must satisfy"),
        ({"acquisitions": [{"name": "a", "offset_hu": [-300, 0]}]}, "offset_hu must satisfy"),
        ({"acquisitions": [{"name": "a", "kvp": [120, 120]}]}, "kvp must be one value or a list of different ones"),
        ({"acquisitions": [{"name": "a", "phase": []}]}, "phase must be one value or a list of different ones"),
        ({"people": "No Name"}, "people"),
        ({"splits": {"tests": 1.0}}, "training, validation, test or external_<centre>, got 'tests'"),
        ({"variants": {"eleven_ribs": 0.6, "thirteen_ribs": 0.6}}, "must not exceed 1 in total, got 1.2"),
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
    with pytest.raises(ConfigError, match=r"recipe\.json' must be a valid cohort recipe") as caught:
        read_recipe(path)
    assert message in str(caught.value)


def test_the_population_is_pans_by_default() -> None:
    assert Population().female_fraction == pytest.approx(0.4227, abs=1e-4)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "not UTF-8"])
def test_a_file_that_is_no_text_is_unusable(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "recipe.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnusableInputError, match=r"'recipe\.json' cannot be read as text"):
        read_recipe(path)


def test_a_recipe_of_the_release_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = find_recipe("virtual_demo")
    assert shipped is not None
    assert read_recipe(shipped).name == "virtual_demo"
    assert find_recipe("no_such_recipe") is None
    assert find_recipe("folder/virtual_demo") is None
    (tmp_path / "virtual_demo").write_text("{}")
    assert find_recipe("virtual_demo") == Path("virtual_demo")
