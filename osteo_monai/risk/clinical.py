"""Li 2026's clinical and combined models: XGBoost on sex, age, height, weight, BMI, without and with a network's risk.

``python -m osteo_monai.risk.clinical MANIFEST --scores CSV --output DIR``, the scores being the table that
``osteo_monai.radiographs.cross_validate`` writes.

A network knows the people it was trained on by heart. A combined model that is trained on such risks trusts them more
than they deserve, so the risk of everybody it is trained on must come from a network that was *not* trained on them.
The paper does not say how it was done; here anything else is refused.
"""

import argparse
import csv
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import xgboost
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedKFold

from osteo_monai import __version__
from osteo_monai.data import Record, manifest_sha256, read_manifest
from osteo_monai.data.csv_tables import read_rows, refuse
from osteo_monai.data.manifest import sentences
from osteo_monai.domain import OSTEOPOROSIS_T_SCORE, Sex
from osteo_monai.errors import ManifestError, UnusableInputError

__all__ = [
    "FEATURES",
    "Cohort",
    "ModelFacts",
    "Person",
    "RiskModel",
    "load_risk_model",
    "read_people",
    "train_and_predict",
    "train_risk_model",
]

Array = NDArray[np.float64]
ModelName = Literal["clinical", "combined"]

_CLINICAL = ("female", "age", "height_cm", "weight_kg", "bmi")
FEATURES: Mapping[ModelName, tuple[str, ...]] = {"clinical": _CLINICAL, "combined": (*_CLINICAL, "risk")}
"""What each model looks at, in the order of its columns (Li 2026, section 1.4): 1 for women and 0 for men, years, cm,
kg, kg/m2, and the probability of osteoporosis that the network gives."""

FOLDS = 5
"""Of the cross-validation inside the training people that chooses the hyper-parameters; Li's number for the network."""

GRID: tuple[Mapping[str, int | float], ...] = tuple(
    {"max_depth": depth, "min_child_weight": weight} for depth in (1, 2, 3) for weight in (10, 1)
)
"""Hyper-parameters to choose from, the simpler ones first. The paper gives none: the project's own choice. Six columns
and some thousand people bear no deep trees."""

ROUNDS, PATIENCE = 300, 20
"""Most trees of a model, and how many without a better log loss end the search."""

_FIXED: Mapping[str, Any] = {
    "objective": "binary:logistic",
    "eta": 0.1,
    "tree_method": "hist",
    "nthread": 1,  # sums in one order: the same people give the same trees
}

_LEAST_CHANCE = 1e-6
"""Risks are written with six decimals; 0 and 1 have no logit."""
_WHOSE_ROWS = {"training": "validation"}
"""In a table of out-of-fold risks the people of training stand in the cohort ``validation``."""


@dataclass(frozen=True)
class Person:
    """A person of a cohort; what is not known is ``None``.

    Attributes:
        subject_id, split: from the manifest.
        osteoporosis: whether the lowest T-score is -2.5 or less.
        age, height_cm, weight_kg: years, cm, kg; the mean over the person's records.
        sex: of the person.
        risk: probability of osteoporosis that the network gives.
    """

    subject_id: str
    split: str
    osteoporosis: bool
    age: float | None = None
    sex: Sex | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    risk: float | None = None


@dataclass(frozen=True)
class Cohort:
    """The people of a manifest that have a truth and a risk, ordered by split and name.

    Attributes:
        people: one entry a person.
        left_out: why people are not among them, to how many.
        virtual: whether they are simulated.
        manifest_sha256, scores_sha256: of the files they come from.
    """

    people: tuple[Person, ...]
    left_out: Mapping[str, int]
    virtual: bool
    manifest_sha256: str
    scores_sha256: str

    def of(self, split: str) -> list[Person]:
        return [person for person in self.people if person.split == split]


class ModelFacts(BaseModel):
    """What is written beside a model: what it looks at, how it was made, and from whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    model: ModelName
    features: tuple[str, ...]
    osteoporosis: str = f"T-score of {OSTEOPOROSIS_T_SCORE} or less (DXA)"
    virtual: bool
    """Whether the model was trained on simulated people."""
    training_people: int
    training_with_osteoporosis: int
    training_lacking: dict[str, int]
    """How many training people lack each feature; a person who lacks another one gets no answer."""
    parameters: dict[str, int | float]
    """Chosen by cross-validation inside the training people."""
    log_loss: float
    """Of that cross-validation; the best of those tried, so slightly too good."""
    seed: int
    manifest_sha256: str
    scores_sha256: str
    model_sha256: str = ""
    xgboost: str = xgboost.__version__
    osteo_monai: str = __version__


# --- people -------------------------------------------------------------------------------------------------------


def read_people(manifest: Path, scores: Path) -> Cohort:
    """Join the people of a manifest with the risks of a table of predictions, by ``subject_id``.

    People without a T-score or without a row in the table are left out and counted, so that both models are trained
    and judged on the same ones. Several radiographs of a person count as one, by the mean of the logits.

    Args:
        manifest: data manifest; its records' files need not be there.
        scores: table of predictions (docs/predictions.md) of one model. The rows of training people must be out of
            fold: cohort ``validation`` and the number of the fold in the column ``fold``.

    Raises:
        ManifestError: listing what is wrong with the manifest.
        UnusableInputError: listing what is wrong with the table, or why the risks must not be used.
    """
    content = read_manifest(manifest, check_files=False)
    records: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for split, _, record in content.records():
        records[split, record.subject_id].append(record)
    rows = _read_scores(scores)
    joined = {key: rows[key[1]] for key in records if key[1] in rows}
    truths = {key: _truth(records[key]) for key in records}
    problems = _leaks(joined)
    told = {key: _told(own) for key, own in joined.items()}
    differ = sum(None not in (told[key], truths[key]) and told[key] != truths[key] for key in joined)
    if differ:
        problems.append(f"the table and {manifest.name} hold different truths of {differ} people")
    if not joined:
        problems.append(f"none of the {len(records)} people of {manifest.name} has a row in it")
    refuse(scores, problems)

    people = []
    left_out = {"without a T-score": 0, "without a risk": 0}
    for (split, subject), own in sorted(records.items()):
        truth = truths[split, subject]
        if truth is None:
            left_out["without a T-score"] += 1
        elif (split, subject) not in joined:
            left_out["without a risk"] += 1
        else:
            risks = [float(row["probability_osteoporosis"]) for row in joined[split, subject]]
            people.append(
                Person(
                    subject_id=subject,
                    split=split,
                    osteoporosis=truth,
                    age=_mean([r.age for r in own]),
                    sex=next((r.sex for r in own if r.sex is not None), None),
                    height_cm=_mean([r.height_cm for r in own]),
                    weight_kg=_mean([r.weight_kg for r in own]),
                    risk=float(expit(np.mean(logit(np.clip(risks, _LEAST_CHANCE, 1 - _LEAST_CHANCE))))),
                )
            )
    return Cohort(
        people=tuple(people),
        left_out=left_out,
        virtual=content.header.virtual,
        manifest_sha256=manifest_sha256(manifest),
        scores_sha256=_sha256(scores),
    )


def _truth(records: Sequence[Record]) -> bool | None:
    t_scores = [record.t_score for record in records if record.t_score is not None]
    return min(t_scores) <= OSTEOPOROSIS_T_SCORE if t_scores else None


def _told(rows: Sequence[Mapping[str, str]]) -> bool | None:
    """The truth as the table has it, which may lack it."""
    flags = {row.get("osteoporosis", "").lower() for row in rows}
    return None if "" in flags else bool(flags & {"1", "true", "yes"})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _read_scores(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the rows of each subject, checked one by one."""
    _, rows, problems = read_rows(path, ("subject_id", "probability_osteoporosis"))
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for line, row in rows:
        try:
            good = 0 <= float(row["probability_osteoporosis"]) <= 1
        except ValueError:
            good = False
        if not row["subject_id"]:
            problems.append(f"line {line}: subject_id is empty")
        elif not good:
            problems.append(f"line {line}: probability_osteoporosis must be a number between 0 and 1")
        else:
            found[row["subject_id"]].append(row)
    models = sorted({row.get("model", "") for _, row in rows})
    if len(models) > 1:
        problems.append(f"it must hold the risks of one model, got those of {len(models)}: {', '.join(models)}")
    refuse(path, problems)
    return found


def _leaks(joined: Mapping[tuple[str, str], Sequence[Mapping[str, str]]]) -> list[str]:
    """Say why risks are of networks that know the people, a sentence a split."""
    problems = []
    for split in dict.fromkeys(split for split, _ in joined):
        due = _WHOSE_ROWS.get(split, split)
        people = [own for (one, _), own in joined.items() if one == split]
        elsewhere = sum(any((row.get("cohort") or "test") != due for row in own) for own in people)
        folds = [{row.get("fold", "") for row in own} for own in people]
        if split == "training":
            known = sum(
                any(row.get("cohort") != due for row in own) or "" in names or len(names) > 1
                for own, names in zip(people, folds, strict=True)
            )
            if known:
                problems.append(
                    f"the risks of {known} of {len(people)} training people are not out of fold (expected the cohort "
                    "validation and one fold in the column fold, as radiographs.cross_validate writes them): a "
                    "combined model trained on them would trust a network that knows these people"
                )
            elif len(set().union(*folds)) < 2:
                problems.append(
                    "the risks of all training people are of one fold, but a network must have been trained on the "
                    "people of the others: expected two folds or more"
                )
        elif elsewhere:
            problems.append(
                f"{elsewhere} of {len(people)} people of {split} do not stand in the cohort {due} of the table: the "
                "network may have been trained on them"
            )
    return problems


# --- models -------------------------------------------------------------------------------------------------------


class RiskModel:
    """A trained model: XGBoost's trees and what is known about them.

    Args:
        booster: the trees.
        facts: features, hyper-parameters and origin.
    """

    def __init__(self, booster: xgboost.Booster, facts: ModelFacts) -> None:
        self.booster = booster
        self.facts = facts

    def probabilities(self, people: Sequence[Person]) -> Array:
        """Return (n,) probabilities of osteoporosis, at the prevalence of the training people.

        It is ``nan`` where a person lacks what every training person had: the trees would still answer, but in a
        direction that nothing taught them.
        """
        values = _matrix(people, self.facts.features)
        if not len(values):
            return np.zeros(0)
        answers = self.booster.predict(_data(values, self.facts.features)).astype(np.float64)
        untaught = [not self.facts.training_lacking.get(name) for name in self.facts.features]
        answers[np.isnan(values[:, untaught]).any(axis=1)] = np.nan
        return answers

    def probability(
        self,
        age: float | None = None,
        sex: Sex | None = None,
        height_cm: float | None = None,
        weight_kg: float | None = None,
        risk: float | None = None,
    ) -> float:
        """Return the probability of osteoporosis of one person, at the prevalence of the training people.

        Args:
            age, sex, height_cm, weight_kg: of the person, in years, cm and kg; all of them are needed.
            risk: probability that the network gives; needed by the combined model, ignored by the clinical one.

        Raises:
            ValueError: naming everything that is missing, or not possible in its unit.
        """
        given = {"age": age, "sex": sex, "height_cm": height_cm, "weight_kg": weight_kg}
        if "risk" in self.facts.features:
            given["risk"] = risk
        if missing := [name for name, value in given.items() if value is None]:
            raise ValueError(f"the {self.facts.model} model needs {', '.join(given)}; missing: {', '.join(missing)}")
        given.pop("risk", None)
        problems = []
        try:  # a record of a manifest knows the limits of each value
            Record.model_validate({"image": "-", "subject_id": "-", **given})
        except ValidationError as error:
            problems += sentences("", error)
        if risk is not None and not 0 <= risk <= 1:
            problems.append("risk must be a probability between 0 and 1")
        if problems:
            raise ValueError("; ".join(problems))
        person = Person("-", "test", False, age, None if sex is None else Sex(sex), height_cm, weight_kg, risk)
        return float(self.probabilities([person])[0])

    def save(self, folder: Path) -> Self:
        """Write ``<model>.ubj`` (XGBoost's own format) and ``<model>.json`` (its facts); return what was written."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.facts.model}.ubj"
        self.booster.save_model(file)
        facts = self.facts.model_copy(update={"model_sha256": _sha256(file)})
        file.with_suffix(".json").write_text(json.dumps(facts.model_dump(mode="json"), indent=1) + "\n", "utf-8")
        return type(self)(self.booster, facts)


def load_risk_model(folder: Path, model: ModelName) -> RiskModel:
    """Return a model that ``RiskModel.save`` wrote into a folder.

    Raises:
        UnusableInputError: where a file is missing or damaged, or the two do not belong together.
    """
    file = folder / f"{model}.ubj"
    beside = file.with_suffix(".json")
    if missing := [one.name for one in (file, beside) if not one.is_file()]:
        raise UnusableInputError(
            f"the {model} model needs {file.name} and {beside.name}; missing: {', '.join(missing)}"
        )
    try:
        facts = ModelFacts.model_validate_json(beside.read_bytes())
    except ValidationError as error:
        refuse(beside, sentences("", error))
        raise
    if facts.model != model or facts.features != FEATURES[model]:
        raise UnusableInputError(f"'{beside.name}' must describe the {model} model on {', '.join(FEATURES[model])}")
    if _sha256(file) != facts.model_sha256:
        raise UnusableInputError(f"'{file.name}' is not the file that '{beside.name}' describes (another sha256)")
    booster = xgboost.Booster(dict(_FIXED))
    try:
        booster.load_model(file)
    except xgboost.core.XGBoostError:
        raise UnusableInputError(f"'{file.name}' cannot be read by XGBoost {xgboost.__version__}") from None
    return RiskModel(booster, facts)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _matrix(people: Sequence[Person], features: Sequence[str]) -> Array:
    """Return (people, features); what is not known is ``nan``, as XGBoost wants it."""
    columns: dict[str, list[float]] = defaultdict(list)
    for person in people:
        columns["female"].append(math.nan if person.sex is None else float(person.sex == Sex.FEMALE))
        for name in ("age", "height_cm", "weight_kg", "risk"):
            value = getattr(person, name)
            columns[name].append(math.nan if value is None else value)
        columns["bmi"].append(columns["weight_kg"][-1] / (columns["height_cm"][-1] / 100) ** 2)
    return np.array([columns[name] for name in features], dtype=np.float64).T


def _data(values: Array, features: Sequence[str], truth: Array | None = None) -> xgboost.DMatrix:
    return xgboost.DMatrix(values, label=truth, feature_names=list(features), missing=math.nan, nthread=1)


# --- training -----------------------------------------------------------------------------------------------------


def train_risk_model(name: ModelName, cohort: Cohort, seed: int = 0) -> tuple[RiskModel, Array, NDArray[np.intp]]:
    """Train a model on the people of ``training``.

    Depth, least weight of a leaf and number of trees are those with the least log loss in a cross-validation of five
    folds of these people alike in class; nobody else is looked at.

    Args:
        name: of the model.
        cohort: its people; those of ``training`` are used.
        seed: of the folds.

    Returns:
        The model; (n,) the probabilities of the training people, in their order in the cohort, by models with the
        same hyper-parameters that were not trained on them; and (n,) their folds, from 0.

    Raises:
        UnusableInputError: where there are fewer than five training people with, or without, osteoporosis.
    """
    people, features = cohort.of("training"), FEATURES[name]
    values = _matrix(people, features)
    truth = np.array([person.osteoporosis for person in people], dtype=np.float64)
    positive = int(truth.sum())
    if min(positive, len(people) - positive) < FOLDS:
        raise UnusableInputError(
            f"training needs at least {FOLDS} people with osteoporosis and {FOLDS} without, who have a T-score and a "
            f"risk, got {positive} and {len(people) - positive}"
        )
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    folds = [(inside, out) for inside, out in splitter.split(values, truth)]
    data = _data(values, features, truth)
    best: tuple[float, dict[str, int | float]] = (math.inf, {})
    for choice in GRID:
        history: Any = xgboost.cv(
            {**_FIXED, **choice},
            data,
            ROUNDS,
            folds=folds,
            metrics="logloss",
            early_stopping_rounds=PATIENCE,
            seed=seed,
            as_pandas=False,
        )
        curve = history["test-logloss-mean"]
        rounds = int(np.argmin(curve)) + 1
        if curve[rounds - 1] < best[0]:
            best = (float(curve[rounds - 1]), {"eta": _FIXED["eta"], **choice, "rounds": rounds})
    loss, parameters = best
    settings = {**_FIXED, **parameters, "seed": seed}
    rounds = int(settings.pop("rounds"))
    held_out, fold_of = np.zeros(len(people)), np.zeros(len(people), dtype=np.intp)
    for fold, (inside, out) in enumerate(folds):
        booster = xgboost.train(settings, _data(values[inside], features, truth[inside]), rounds)
        held_out[out], fold_of[out] = booster.predict(_data(values[out], features)), fold
    facts = ModelFacts(
        model=name,
        features=features,
        virtual=cohort.virtual,
        training_people=len(people),
        training_with_osteoporosis=positive,
        training_lacking=dict(zip(features, np.isnan(values).sum(axis=0).tolist(), strict=True)),
        parameters=parameters,
        log_loss=round(loss, 6),
        seed=seed,
        manifest_sha256=cohort.manifest_sha256,
        scores_sha256=cohort.scores_sha256,
    )
    return RiskModel(xgboost.train(settings, data, rounds), facts), held_out, fold_of


def train_and_predict(manifest: Path, scores: Path, output: Path, seed: int = 0) -> tuple[Cohort, list[RiskModel]]:
    """Train the clinical and the combined model, and write them and their tables of predictions.

    ``output`` receives ``clinical.ubj``, ``clinical.json`` and ``clinical.csv``, and the same of ``combined``. In the
    tables (docs/predictions.md) the people of training have the probability that a model *not* trained on them gives
    (cohort ``validation``, column ``fold``), everybody else that of the model that is saved; it is empty where they
    lack what every training person had.

    Args:
        manifest: data manifest with a split ``training`` and others.
        scores: table of predictions of the network, see ``read_people``.
        output: folder, made if missing.
        seed: of the folds.

    Returns:
        The people, and the models in the order clinical, combined.

    Raises:
        ManifestError, UnusableInputError: as ``read_people`` and ``train_risk_model``; nothing is written then.
    """
    cohort = read_people(manifest, scores)
    trained = [train_risk_model(name, cohort, seed) for name in FEATURES]
    others = [person for person in cohort.people if person.split != "training"]
    models = []
    for model, held_out, folds in trained:
        models.append(model.save(output))
        name = model.facts.model
        rows = [
            _row(person, name, p, cohort.virtual, fold)
            for person, p, fold in zip(cohort.of("training"), held_out, folds.tolist(), strict=True)
        ]
        rows += [
            _row(person, name, p, cohort.virtual) for person, p in zip(others, model.probabilities(others), strict=True)
        ]
        with (output / f"{name}.csv").open("w", newline="", encoding="utf-8") as lines:
            table = csv.DictWriter(lines, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    return cohort, models


def _row(person: Person, model: str, p: float, virtual: bool, fold: int | None = None) -> dict[str, Any]:
    return {
        "subject_id": person.subject_id,
        "model": model,
        "cohort": _WHOSE_ROWS.get(person.split, person.split),
        "fold": "" if fold is None else fold,
        "osteoporosis": int(person.osteoporosis),
        "probability_osteoporosis": "" if math.isnan(p) else round(float(p), 6),
        **{name: getattr(person, name) for name in ("age", "sex", "height_cm", "weight_kg")},
        "virtual": int(virtual),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m osteo_monai.risk.clinical", description=__doc__)
    parser.add_argument("manifest", type=Path, help="data manifest")
    parser.add_argument("--scores", type=Path, required=True, help="out-of-fold predictions of the network, CSV")
    parser.add_argument("--output", type=Path, required=True, help="folder for models and predictions")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    a = parser.parse_args(arguments)
    try:
        cohort, models = train_and_predict(a.manifest, a.scores, a.output, a.seed)
    except (ManifestError, UnusableInputError) as error:
        parser.exit(2, f"error: {error}\n")
    kind = "virtual patients" if cohort.virtual else "people"
    for reason, count in cohort.left_out.items():
        if count:
            print(f"{count} {kind} {reason} are left out")
    for model in models:
        facts = model.facts
        chosen = ", ".join(f"{name} {value:g}" for name, value in facts.parameters.items())
        print(
            f"{facts.model}: trained on {facts.training_people} {kind}, {facts.training_with_osteoporosis} with "
            f"osteoporosis; {chosen}; log loss in cross-validation {facts.log_loss:.4f}; {a.output / facts.model}.csv"
        )


if __name__ == "__main__":
    main()
