"""Clinical and combined models of Li 2026: XGBoost on clinical facts, without and with the risk by a network."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from osteo_monai import __version__
from osteo_monai.data import Record
from osteo_monai.data.csv_tables import refuse
from osteo_monai.data.manifest import sentences
from osteo_monai.domain import OSTEOPOROSIS_T_SCORE, Sex
from osteo_monai.errors import UnusableInputError
from osteo_monai.risk.people import Person
from osteo_monai.utils.files import file_sha256, write_json, writing
from osteo_monai.utils.frozen import FrozenDict
from osteo_monai.utils.inputs import open_input

if TYPE_CHECKING:
    import xgboost

__all__ = [
    "BOOSTER_SETTINGS",
    "FEATURES",
    "ModelFacts",
    "ModelName",
    "RiskModel",
    "data_matrix",
    "features_of",
    "load_risk_model",
]

Array = NDArray[np.float64]
ModelName = Literal["clinical", "combined"]

_CLINICAL = ("female", "age", "height_cm", "weight_kg", "bmi")
FEATURES: Mapping[ModelName, tuple[str, ...]] = FrozenDict(clinical=_CLINICAL, combined=(*_CLINICAL, "risk"))
"""Input of each model, in the order of its columns (Li 2026, section 1.4): 1 for women and 0 for men, years, cm, kg,
kg/m2, and the probability of osteoporosis by the network."""

BOOSTER_SETTINGS: Mapping[str, Any] = FrozenDict(
    {
        "objective": "binary:logistic",
        "eta": 0.1,
        "tree_method": "hist",
        "nthread": 1,  # a fixed order of summation: the same people give the same trees
    }
)
"""Settings of all models."""


def _xgboost_version() -> str:
    import xgboost

    return str(xgboost.__version__)


class ModelFacts(BaseModel):
    """Description of a model: input, training and origin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    model: ModelName
    features: tuple[str, ...]
    osteoporosis: str = f"T-score of {OSTEOPOROSIS_T_SCORE} or less (DXA)"
    virtual: bool
    """Whether the model was trained on simulated people."""
    training_people: int
    training_with_osteoporosis: int
    training_lacking: Annotated[Mapping[str, int], AfterValidator(FrozenDict)]
    """Number of training subjects without each feature; a feature that all had is required for a prediction."""
    parameters: Annotated[Mapping[str, int | float], AfterValidator(FrozenDict)]
    """Selected by cross-validation of the training subjects."""
    log_loss: float
    """Of that cross-validation; slightly optimistic, since it is the best of those tried."""
    seed: int
    manifest_sha256: str
    scores_sha256: str
    model_sha256: str = ""
    xgboost: str = Field(default_factory=_xgboost_version)
    osteo_monai: str = __version__


class RiskModel:
    """A trained model.

    Args:
        booster: trees of XGBoost.
        facts: features, hyper-parameters and origin.
    """

    def __init__(self, booster: "xgboost.Booster", facts: ModelFacts) -> None:
        self.booster = booster
        self.facts = facts

    def probabilities(self, people: Sequence[Person]) -> Array:
        """Return (n,) probabilities of osteoporosis, at the prevalence of the training subjects.

        The value is ``nan`` for a person without a feature that all training subjects had: the direction of the trees
        at such a missing value is arbitrary.
        """
        values = features_of(people, self.facts.features)
        if not len(values):
            return np.zeros(0)
        probabilities = np.asarray(self.booster.predict(data_matrix(values, self.facts.features)), dtype=np.float64)
        complete = [not self.facts.training_lacking.get(name) for name in self.facts.features]
        probabilities[np.isnan(values[:, complete]).any(axis=1)] = np.nan
        return probabilities

    def probability(
        self,
        age: float | None = None,
        sex: Sex | None = None,
        height_cm: float | None = None,
        weight_kg: float | None = None,
        risk: float | None = None,
    ) -> float:
        """Return the probability of osteoporosis of one person, at the prevalence of the training subjects.

        Args:
            age, sex, height_cm, weight_kg: of the person, in years, cm and kg; all are required.
            risk: probability by the network; required by the combined model, ignored by the clinical one.

        Raises:
            ValueError: listing all values that are missing or not possible in their unit.
        """
        given = {"age": age, "sex": sex, "height_cm": height_cm, "weight_kg": weight_kg}
        if "risk" in self.facts.features:
            given["risk"] = risk
        if missing := [name for name, value in given.items() if value is None]:
            raise ValueError(f"the {self.facts.model} model needs {', '.join(given)}; missing: {', '.join(missing)}")
        given.pop("risk", None)
        problems = []
        try:  # a record of a manifest has the limits of each value
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
        """Write ``<model>.ubj`` (format of XGBoost) and ``<model>.json`` (its facts); return what was written."""
        file = folder / f"{self.facts.model}.ubj"
        with writing(file) as temporary:
            self.booster.save_model(temporary)
            facts = self.facts.model_copy(update={"model_sha256": file_sha256(temporary)})
            write_json(file.with_suffix(".json"), facts.model_dump(mode="json"), indent=1)
        return type(self)(self.booster, facts)

    def summary(self) -> str:
        """Return one sentence about the training, for a command."""
        facts = self.facts
        kind = "virtual patients" if facts.virtual else "people"
        parameters = ", ".join(f"{name} {value:g}" for name, value in facts.parameters.items())
        return (
            f"{facts.model}: trained on {facts.training_people} {kind}, {facts.training_with_osteoporosis} with "
            f"osteoporosis; {parameters}; log loss in cross-validation {facts.log_loss:.4f}"
        )


def load_risk_model(folder: Path, model: ModelName) -> RiskModel:
    """Return a model from a folder that ``RiskModel.save`` wrote.

    Raises:
        UnusableInputError: a file is missing or damaged, or the two do not belong together.
    """
    import xgboost

    file = folder / f"{model}.ubj"
    description = file.with_suffix(".json")
    if missing := [path.name for path in (file, description) if not path.is_file()]:
        raise UnusableInputError(
            f"the {model} model needs {file.name} and {description.name}; missing: {', '.join(missing)}"
        )
    try:
        with open_input(description) as stream:
            facts = ModelFacts.model_validate_json(stream.read())
    except ValidationError as error:
        refuse(description, sentences("", error))
        raise
    if facts.model != model or facts.features != FEATURES[model]:
        raise UnusableInputError(
            f"'{description.name}' must describe the {model} model on {', '.join(FEATURES[model])}"
        )
    if file_sha256(file) != facts.model_sha256:
        raise UnusableInputError(f"'{file.name}' is not the file that '{description.name}' describes (another sha256)")
    booster = xgboost.Booster(dict(BOOSTER_SETTINGS))
    try:
        booster.load_model(file)
    except xgboost.core.XGBoostError:
        raise UnusableInputError(f"'{file.name}' cannot be read by XGBoost {xgboost.__version__}") from None
    return RiskModel(booster, facts)


def features_of(people: Sequence[Person], features: Sequence[str]) -> Array:
    """Return (people, features) values, ``nan`` if unknown."""
    columns: dict[str, list[float]] = defaultdict(list)
    for person in people:
        columns["female"].append(math.nan if person.sex is None else float(person.sex == Sex.FEMALE))
        for name in ("age", "height_cm", "weight_kg", "risk"):
            value = getattr(person, name)
            columns[name].append(math.nan if value is None else value)
        columns["bmi"].append(columns["weight_kg"][-1] / (columns["height_cm"][-1] / 100) ** 2)
    return np.array([columns[name] for name in features], dtype=np.float64).T


def data_matrix(values: Array, features: Sequence[str], truth: Array | None = None) -> "xgboost.DMatrix":
    """Return values (n, features) and labels (n,) as input of XGBoost."""
    import xgboost

    return xgboost.DMatrix(values, label=truth, feature_names=list(features), missing=math.nan, nthread=1)
