"""Measures that need no bone label: rank correlation with age within each sex, agreement of repeats."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "real_radiographs.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_radiographs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_radiographs"] = module
    spec.loader.exec_module(module)
    setattr(module, "RESAMPLES", 200)  # noqa: B010
    return module


def test_correlation_within_sexes_is_free_of_their_difference(benchmark: ModuleType) -> None:
    """Old women with high and young men with low risk: all of the association is that of the sexes."""
    rng = np.random.default_rng(4)
    people = [(70 + rng.normal(), "F", 0.8 + 0.01 * rng.normal()) for _ in range(60)]
    people += [(30 + rng.normal(), "M", 0.2 + 0.01 * rng.normal()) for _ in range(60)]
    found = benchmark.associations(people)
    assert found["spearman_risk_age"] > 0.7
    assert abs(found["spearman_within_sexes"]) < 0.2
    low, high = found["spearman_within_sexes_95"]
    assert low < 0 < high
    assert found["woman_above_man"] == 1.0


def test_correlation_within_sexes_of_a_perfect_order(benchmark: ModuleType) -> None:
    people = [(30.0 + i, "FM"[i % 2], 0.1 + 0.01 * i - 0.2 * (i % 2)) for i in range(20)]
    found = benchmark.associations(people)
    assert found["spearman_women"] == found["spearman_men"] == found["spearman_within_sexes"] == 1.0
    assert found["spearman_risk_age"] < 1.0
    one = benchmark.associations([(30.0, "F", 0.1), (40.0, "F", 0.2), (50.0, "F", 0.4)])
    assert one["spearman_men"] is one["spearman_men_95"] is one["woman_above_man"] is None
    assert one["spearman_within_sexes"] == 1.0


def test_agreement_compares_spread_within_and_between_people(benchmark: ModuleType) -> None:
    rng = np.random.default_rng(5)
    persons = {str(i): rng.normal(0, 2.0) for i in range(40)}
    logits = {name: [mean + rng.normal(0, 0.5) for _ in range(3)] for name, mean in persons.items()}
    found = benchmark.agreement(logits | {"once": [1.0]})
    assert (found["repeated_subjects"], found["repeated_radiographs"]) == (40, 120)
    assert found["sd_within"] == pytest.approx(0.5, rel=0.2)
    assert found["sd_between"] == pytest.approx(2.0, rel=0.25)
    assert found["icc"] == pytest.approx(4 / 4.25, abs=0.04)
    low, high = found["icc_95"]
    assert low < found["icc"] < high
    same = {name: [rng.normal() for _ in range(2)] for name in persons}
    assert abs(benchmark.agreement(same)["icc"]) < 0.4
    assert benchmark.agreement({"a": [0.0, 1.0], "b": [0.5]}) == {"repeated_subjects": 1}


def test_differences_of_two_bundles_are_paired(benchmark: ModuleType) -> None:
    rng = np.random.default_rng(6)
    ages = rng.uniform(30, 80, 30)
    noise = rng.normal(0, 8, 30)
    people = [(age, "FM"[i % 2], age + noise[i]) for i, age in enumerate(ages)]
    none = [(age, sex, float(rng.normal())) for age, sex, _ in people]
    found = benchmark.differences(people, none)
    assert found["spearman_within_sexes"] > 0.5
    assert found["spearman_within_sexes_95"][0] > 0
    same = benchmark.differences(people, people)
    assert (same["spearman_risk_age"], same["spearman_risk_age_95"]) == (0.0, [0.0, 0.0])
