"""Train the clinical and the combined model of Li 2026."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data import write_predictions
from osteo_monai.errors import UnusableInputError
from osteo_monai.risk.model import (
    BOOSTER_SETTINGS,
    FEATURES,
    ModelFacts,
    ModelName,
    RiskModel,
    data_matrix,
    features_of,
)
from osteo_monai.risk.people import Cohort, Person, read_people, table_cohort
from osteo_monai.utils.frozen import FrozenDict

__all__ = ["TrainedModel", "train_and_predict", "train_risk_model"]

Array = NDArray[np.float64]
_Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
"""Rows inside and outside of each fold."""

FOLDS = 5
"""Of the cross-validation of training subjects that selects the hyper-parameters; Li's number for the network."""

GRID: tuple[Mapping[str, int | float], ...] = tuple(
    {"max_depth": depth, "min_child_weight": weight} for depth in (1, 2, 3) for weight in (10, 1)
)
"""Hyper-parameters to select from, simpler ones first. The paper states none; choice of this project. Six columns and
about a thousand people do not support deep trees."""

ROUNDS, PATIENCE = 300, 20
"""Largest number of trees, and number of trees without a smaller log loss that ends the search."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model with its out-of-fold predictions.

    Attributes:
        model: trained on all training subjects.
        held_out: (n,) probabilities of the training subjects, in their order in the cohort, by models with the same
            hyper-parameters that were not trained on them.
        folds: (n,) their folds, from 0.
    """

    model: RiskModel
    held_out: Array
    folds: NDArray[np.intp]


def train_risk_model(name: ModelName, cohort: Cohort, seed: int = 0) -> TrainedModel:
    """Train a model on the people of ``training``.

    Depth, least weight of a leaf and number of trees are those with the least log loss in a stratified cross-validation
    of five folds of these people; other splits are not used. The folds are those of scikit-learn, drawn in the order
    of the cohort; the folds of the networks are drawn by a hash of the subject instead, so that they do not change
    with the order of the records.

    Args:
        name: of the model.
        cohort: its people; those of ``training`` are used.
        seed: of the folds.

    Raises:
        UnusableInputError: there are fewer than five training subjects with, or without, osteoporosis.
    """
    import xgboost
    from sklearn.model_selection import StratifiedKFold

    people, features = cohort.of("training"), FEATURES[name]
    values = features_of(people, features)
    truth = np.array([person.osteoporosis for person in people], dtype=np.float64)
    positive = int(truth.sum())
    if min(positive, len(people) - positive) < FOLDS:
        raise UnusableInputError(
            f"training needs at least {FOLDS} people with osteoporosis and {FOLDS} without, who have a T-score and a "
            f"risk, got {positive} and {len(people) - positive}"
        )
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    folds: _Folds = list(splitter.split(values, truth))
    data = data_matrix(values, features, truth)
    loss, parameters = _select_parameters(data, folds, seed)
    settings = {**BOOSTER_SETTINGS, **parameters, "seed": seed}
    rounds = int(settings.pop("rounds"))
    held_out, fold_of = np.zeros(len(people)), np.zeros(len(people), dtype=np.intp)
    for fold, (inside, outside) in enumerate(folds):
        booster = xgboost.train(settings, data_matrix(values[inside], features, truth[inside]), rounds)
        held_out[outside], fold_of[outside] = booster.predict(data_matrix(values[outside], features)), fold
    facts = ModelFacts(
        model=name,
        features=features,
        virtual=cohort.virtual,
        training_people=len(people),
        training_with_osteoporosis=positive,
        training_lacking=FrozenDict(zip(features, np.isnan(values).sum(axis=0).tolist(), strict=True)),
        parameters=FrozenDict(parameters),
        log_loss=round(loss, 6),
        seed=seed,
        manifest_sha256=cohort.manifest_sha256,
        scores_sha256=cohort.scores_sha256,
    )
    return TrainedModel(RiskModel(xgboost.train(settings, data, rounds), facts), held_out, fold_of)


def _select_parameters(data: Any, folds: _Folds, seed: int) -> tuple[float, dict[str, int | float]]:
    """Return the least log loss in cross-validation and its hyper-parameters."""
    import xgboost

    best: tuple[float, dict[str, int | float]] = (math.inf, {})
    for choice in GRID:
        history: Any = xgboost.cv(
            {**BOOSTER_SETTINGS, **choice},
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
            best = (float(curve[rounds - 1]), {"eta": BOOSTER_SETTINGS["eta"], **choice, "rounds": rounds})
    return best


def train_and_predict(manifest: Path, scores: Path, output: Path, seed: int = 0) -> tuple[Cohort, list[RiskModel]]:
    """Train the clinical and the combined model, and write them and their predictions tables.

    ``output`` receives ``clinical.ubj``, ``clinical.json`` and ``clinical.csv``, and the same of ``combined``. In the
    tables (docs/predictions.md) training subjects have the probability of a model that was *not* trained on them
    (cohort ``validation``, column ``fold``), others that of the saved model; it is empty for people without a value
    that all training subjects have.

    Args:
        manifest: data manifest with a split ``training`` and others.
        scores: predictions table of the network, see ``read_people``.
        output: folder, made if missing.
        seed: of the folds.

    Returns:
        The people, and the models in the order clinical, combined.

    Raises:
        ManifestError, UnusableInputError: as ``read_people`` and ``train_risk_model``; nothing is written then.
    """
    cohort = read_people(manifest, scores)
    training = cohort.of("training")
    others = [person for person in cohort.people if person.split != "training"]
    models = []
    for trained in [train_risk_model(name, cohort, seed) for name in FEATURES]:
        model = trained.model.save(output)
        models.append(model)
        name = model.facts.model
        held_out = zip(training, trained.held_out.tolist(), trained.folds.tolist(), strict=True)
        rows = [_row(person, name, p, cohort.virtual, fold) for person, p, fold in held_out]
        predicted = zip(others, model.probabilities(others).tolist(), strict=True)
        rows += [_row(person, name, p, cohort.virtual) for person, p in predicted]
        write_predictions(output / f"{name}.csv", rows)
    return cohort, models


def _row(person: Person, model: str, probability: float, virtual: bool, fold: int | None = None) -> dict[str, object]:
    return {
        "subject_id": person.subject_id,
        "model": model,
        "cohort": table_cohort(person.split),
        "fold": fold,
        "osteoporosis": person.osteoporosis,
        "probability_osteoporosis": None if math.isnan(probability) else round(probability, 6),
        "age": person.age,
        "sex": person.sex,
        "height_cm": person.height_cm,
        "weight_kg": person.weight_kg,
        "virtual": virtual,
    }
