"""Clinical and combined model on simulated people: training, refused tables, saved models."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.data import read_predictions
from osteo_monai.domain import Sex
from osteo_monai.errors import UnusableInputError
from osteo_monai.risk import FEATURES, Cohort, Person, RiskModel, load_risk_model, read_people, train_and_predict
from osteo_monai.statistics.roc import auc

Splits = dict[str, list[dict[str, Any]]]
Table = list[dict[str, Any]]
Study = tuple[Path, Cohort, list[RiskModel]]


def _person(number: int, rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a person with a T-score that decreases with age, and a risk from the T-score with an error."""
    age = rng.uniform(50, 90)
    t_score = -2.4 - (age - 70) / 20 + rng.gauss(0, 1)
    record: dict[str, Any] = {
        "subject_id": f"p{number}",
        "image": f"{number}.png",
        "t_score": round(t_score, 2),
        "age": round(age, 1),
        "sex": rng.choice("FM"),
        "height_cm": round(rng.gauss(165, 8), 1),
        "weight_kg": round(rng.gauss(68, 10), 1),
    }
    risk = 1 / (1 + np.exp(3 * (record["t_score"] + 2.5 + rng.gauss(0, 0.3))))
    row = {"subject_id": f"p{number}", "osteoporosis": int(record["t_score"] <= -2.5)}
    return record, row | {"probability_osteoporosis": round(float(risk), 6)}


def _study(
    folder: Path,
    change: Callable[[Splits, Table], None] | None = None,
    sizes: tuple[int, ...] = (150, 40, 60, 40),
) -> tuple[Path, Path]:
    """Write a manifest and a table as ``cross_validate`` does; return both paths, records by split and rows."""
    rng = random.Random(5)
    splits: Splits = {}
    table: Table = []
    number = 0
    for split, size in zip(("training", "validation", "test", "external_a"), sizes, strict=True):
        splits[split] = []
        for _ in range(size):
            record, row = _person(number, rng)
            number += 1
            splits[split].append(record)
            out_of_fold = split in ("training", "validation")
            row["cohort"] = "validation" if out_of_fold else split
            table.append(row | {"fold": number % 5 if out_of_fold else ""})
    if change:
        change(splits, table)
    manifest, scores = folder / "manifest.json", folder / "scores.csv"
    manifest.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, **splits}))
    with scores.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, ["subject_id", "cohort", "fold", "osteoporosis", "probability_osteoporosis"])
        writer.writeheader()
        writer.writerows(table)
    return manifest, scores


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    manifest, scores = _study(folder)
    cohort, models = train_and_predict(manifest, scores, folder / "out")
    return folder, cohort, models


def test_the_combined_model_is_better_than_the_clinical_one(study: Study) -> None:
    folder, _, _ = study
    predictions = {(p.model, p.cohort): p for p in read_predictions([folder / "out" / f"{m}.csv" for m in FEATURES])}
    assert set(predictions) == {(m, c) for m in FEATURES for c in ("validation", "test", "external_a")}
    assert all(model.virtual for model in predictions.values())
    area = {key: auc(p.is_class("osteoporosis"), p.scores["osteoporosis"]) for key, p in predictions.items()}
    for cohort in ("validation", "test", "external_a"):
        clinical, combined = (area[model, cohort].value for model in ("clinical", "combined"))
        assert 0.6 < clinical < 0.9 < combined
        assert combined > clinical + 0.05


def test_training_subjects_are_out_of_fold_in_the_table(study: Study) -> None:
    folder, cohort, models = study
    with (folder / "out" / "combined.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    held_out = {row["subject_id"]: float(row["probability_osteoporosis"]) for row in rows if row["fold"]}
    training = cohort.of("training")
    assert set(held_out) == {person.subject_id for person in training}
    assert {row["cohort"] for row in rows if row["fold"]} == {"validation"}
    assert {row["fold"] for row in rows} == {"", "0", "1", "2", "3", "4"}
    inside = models[1].probabilities(training)  # by a model trained on them
    assert not np.allclose(inside, [held_out[person.subject_id] for person in training], atol=0.01)


def test_a_saved_model_gives_the_same_probabilities(study: Study) -> None:
    folder, cohort, models = study
    for trained, name in zip(models, FEATURES, strict=True):
        loaded = load_risk_model(folder / "out", name)
        assert loaded.facts == trained.facts
        assert hash(loaded.facts) == hash(trained.facts)
        np.testing.assert_array_equal(loaded.probabilities(cohort.people), trained.probabilities(cohort.people))
    assert loaded.facts.features == ("female", "age", "height_cm", "weight_kg", "bmi", "risk")
    assert loaded.facts.training_people == 150
    assert loaded.facts.virtual
    facts = json.loads((folder / "out" / "clinical.json").read_text())
    assert facts["manifest_sha256"] == cohort.manifest_sha256


def test_results_do_not_depend_on_the_order_of_people(study: Study, tmp_path: Path) -> None:
    folder, cohort, _ = study

    def reverse(splits: Splits, table: Table) -> None:
        for records in splits.values():
            records.reverse()
        table.reverse()

    manifest, scores = _study(tmp_path, change=reverse)
    train_and_predict(manifest, scores, tmp_path / "out")
    for name in ("clinical.csv", "combined.csv", "clinical.ubj", "combined.ubj"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "out" / name).read_bytes()
    assert read_people(manifest, scores).people == cohort.people


def test_the_probability_of_one_person(study: Study) -> None:
    folder, cohort, models = study
    person = next(p for p in cohort.of("test") if p.sex is Sex.FEMALE)
    clinical, combined = (load_risk_model(folder / "out", name) for name in FEATURES)
    facts: dict[str, Any] = {
        "age": person.age,
        "sex": person.sex,
        "height_cm": person.height_cm,
        "weight_kg": person.weight_kg,
    }
    assert clinical.probability(**facts) == models[0].probabilities([person])[0]
    assert combined.probability(**facts, risk=person.risk) == models[1].probabilities([person])[0]
    assert combined.probability(**facts, risk=0.95) > combined.probability(**facts, risk=0.05) + 0.3
    with pytest.raises(ValueError, match="the combined model needs .*; missing: height_cm, risk$"):
        combined.probability(**{**facts, "height_cm": None})
    with pytest.raises(ValueError, match="the clinical model needs .*; missing: age, sex, height_cm, weight_kg$"):
        clinical.probability(risk=0.5)
    with pytest.raises(ValueError, match="height_cm: .*expected centimetres.*; risk must be a probability"):
        combined.probability(**{**facts, "height_cm": 1.65}, risk=1.5)
    with pytest.raises(ValueError, match="age: "):
        clinical.probability(**{**facts, "age": float("nan")})


def test_features_complete_in_training_are_required(study: Study, tmp_path: Path) -> None:
    _, _, (clinical, _) = study
    whole = Person("a", "test", True, 70.0, Sex.FEMALE, 160.0, 60.0, 0.5)
    tall = Person("a", "test", True, 70.0, Sex.FEMALE, None, 60.0, 0.5)
    answers = clinical.probabilities([whole, tall])
    assert np.isfinite(answers[0])
    assert np.isnan(answers[1])

    def lose(splits: Splits, table: Table) -> None:
        for record in [*splits["training"][::4], splits["test"][0]]:
            del record["weight_kg"]
        del splits["test"][1]["age"]

    manifest, scores = _study(tmp_path, change=lose)
    _, models = train_and_predict(manifest, scores, tmp_path / "out")
    missing = models[0].facts.training_lacking
    assert missing == {"female": 0, "age": 0, "height_cm": 0, "weight_kg": 38, "bmi": 38}  # 0, 4, ..., 148
    with (tmp_path / "out" / "clinical.csv").open() as lines:
        rows = {row["subject_id"]: row for row in csv.DictReader(lines)}
    assert rows["p190"]["weight_kg"] == ""  # the trees were trained with missing weights
    assert rows["p190"]["probability_osteoporosis"]
    assert rows["p191"]["probability_osteoporosis"] == ""  # all training subjects had an age
    assert len(read_predictions([tmp_path / "out" / "clinical.csv"])) == 3


def test_risks_with_leakage_are_refused(tmp_path: Path) -> None:
    def in_sample(splits: Splits, table: Table) -> None:
        for row in table[:150]:
            row.update(cohort="training", fold="")

    def no_fold(splits: Splits, table: Table) -> None:
        table[3]["fold"] = ""

    def one_fold(splits: Splits, table: Table) -> None:
        for row in table[:150]:
            row["fold"] = 0

    def twice(splits: Splits, table: Table) -> None:
        table.append(table[3] | {"fold": 0})

    def test_in_training(splits: Splits, table: Table) -> None:
        table[195]["cohort"] = "training"

    for change, sentence in (
        (in_sample, "the risks of 150 of 150 training subjects are not out of fold"),
        (no_fold, "the risks of 1 of 150 training subjects are not out of fold"),
        (twice, "the risks of 1 of 150 training subjects are not out of fold"),
        (one_fold, "the risks of all training subjects are of one fold"),
        (test_in_training, "1 of 60 people of test are not in the cohort test of the table"),
    ):
        manifest, scores = _study(tmp_path, change=change)
        with pytest.raises(UnusableInputError, match=sentence) as caught:
            train_and_predict(manifest, scores, tmp_path / "out")
        assert "has 1 problem:" in str(caught.value)
        assert "p3" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_other_invalid_tables_are_refused(tmp_path: Path) -> None:
    def wrong(splits: Splits, table: Table) -> None:
        table[0]["probability_osteoporosis"] = 7
        table[1]["subject_id"] = ""

    manifest, scores = _study(tmp_path, change=wrong)
    with pytest.raises(UnusableInputError) as caught:
        train_and_predict(manifest, scores, tmp_path / "out")
    assert "line 2: probability_osteoporosis must be a number between 0 and 1" in str(caught.value)
    assert "line 3: subject_id is empty" in str(caught.value)

    def other_truth(splits: Splits, table: Table) -> None:
        table[0]["osteoporosis"] = 1 - table[0]["osteoporosis"]

    with pytest.raises(UnusableInputError, match="different truths of 1 people"):
        read_people(*_study(tmp_path, change=other_truth))

    def others(splits: Splits, table: Table) -> None:
        for row in table:
            row["subject_id"] += "x"

    with pytest.raises(UnusableInputError, match="none of the 290 people of manifest.json has a row"):
        read_people(*_study(tmp_path, change=others))
    with pytest.raises(UnusableInputError, match="at least 5 people with osteoporosis"):
        train_and_predict(*_study(tmp_path, sizes=(6, 1, 1, 1)), tmp_path / "out")


def test_people_without_truth_or_risk_are_counted(tmp_path: Path) -> None:
    def lose(splits: Splits, table: Table) -> None:
        del splits["training"][0]["t_score"]
        del table[10:12]

    cohort = read_people(*_study(tmp_path, change=lose))
    assert cohort.left_out == {"without a T-score": 1, "without a risk": 2}
    assert cohort.summary()[1] == "2 virtual patients without a risk are left out"
    assert hash(cohort)
    assert len(cohort.of("training")) == 147


def test_radiographs_of_a_person_are_averaged(tmp_path: Path) -> None:
    def again(splits: Splits, table: Table) -> None:
        first = splits["test"][0] | {"image": "again.png", "t_score": -3.0, "age": 70.0}
        splits["test"][0] |= {"t_score": -2.0, "age": 60.0}
        splits["test"].append(first)
        table[190] |= {"osteoporosis": 0, "probability_osteoporosis": 0.5}
        table.append(table[190] | {"osteoporosis": 1, "probability_osteoporosis": 0.9})

    person = next(p for p in read_people(*_study(tmp_path, change=again)).people if p.subject_id == "p190")
    assert person.osteoporosis  # by the lower T-score
    assert person.age == 65
    assert person.risk == pytest.approx(0.75)  # odds: sqrt(1 x 9) = 3


def test_a_failed_save_keeps_the_old_model(study: Study, tmp_path: Path) -> None:
    _, _, (clinical, _) = study
    (tmp_path / "clinical.ubj").write_bytes(b"old")
    (tmp_path / "clinical.json").mkdir()
    with pytest.raises(OSError, match="clinical.json"):
        clinical.save(tmp_path)
    assert (tmp_path / "clinical.ubj").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clinical.json", "clinical.ubj"]


def test_a_model_that_differs_from_its_description_is_refused(study: Study, tmp_path: Path) -> None:
    _, _, (clinical, _) = study
    with pytest.raises(UnusableInputError, match="missing: clinical.ubj, clinical.json"):
        load_risk_model(tmp_path, "clinical")
    clinical.save(tmp_path)
    (tmp_path / "clinical.ubj").write_bytes((tmp_path / "clinical.ubj").read_bytes()[:-1])
    with pytest.raises(UnusableInputError, match="another sha256"):
        load_risk_model(tmp_path, "clinical")
    (tmp_path / "clinical.json").write_text("{}")
    with pytest.raises(UnusableInputError, match=r"'clinical.json' has \d+ problems"):
        load_risk_model(tmp_path, "clinical")
