"""Options of an evaluation."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.domain import DensityThresholds
from osteo_monai.statistics.roc import AUCScale, DegenerateWarning
from osteo_monai.statistics.samples import RESAMPLES

__all__ = ["TARGET", "EvaluationOptions", "band_samples", "groups_of", "label", "quietly"]

TARGET = "osteoporosis"
"""The class that screening detects: cut-offs and net benefit refer to it."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class EvaluationOptions:
    """Settings of an evaluation.

    Attributes:
        predictions: CSV files, see ``docs/predictions.md``.
        baseline: name of the model that the others are compared with, or ``None``.
        interval: method of the intervals of proportions.
        holm: whether p values of a pair of models are adjusted over its classes.
        sensitivity: minimum on the validation cohort of the cut-off that is chosen there.
        resamples: bootstrap samples.
        seed: bootstrap random seed.
        level: confidence level.
        auc_scale: scale of the intervals of areas: ``area`` (normal, as pROC) or ``logit``.
        margin: largest acceptable inferiority of AUC, sensitivity and specificity, stated beforehand; ``None`` for no
            test of non-inferiority.
        prevalences: of osteoporosis (or of each class), for predictive values at other prevalences.
        virtual: mark all results as measured on virtual patients; a column ``virtual`` of the predictions does too.
        thresholds: cut-offs of the classes by density.
        checklist: whether checklists of reporting guidelines are written.
        manifest: of the images, for what the checklists ask about them.

    Raises:
        ValueError: lists every option out of range.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import EvaluationOptions
        >>> EvaluationOptions((Path("predictions.csv"),)).interval
        'wilson'
    """

    predictions: tuple[Path, ...]
    baseline: str | None = None
    interval: Literal["wilson", "exact"] = "wilson"
    holm: bool = False
    sensitivity: float = 0.9
    resamples: int = RESAMPLES
    seed: int = 1
    level: float = 0.95
    auc_scale: AUCScale = "area"
    margin: float | None = None
    prevalences: tuple[float, ...] = ()
    virtual: bool = False
    thresholds: DensityThresholds = field(default_factory=DensityThresholds)
    checklist: bool = False
    manifest: Path | None = None

    def __post_init__(self) -> None:
        problems = []
        if not self.predictions:
            problems.append("predictions must be at least one file, got none")
        if len(set(self.predictions)) < len(self.predictions):
            problems.append("predictions must be different files, got one twice")
        if self.interval not in ("wilson", "exact"):
            problems.append(f"interval must be wilson or exact, got '{self.interval}'")
        if not 0 < self.sensitivity <= 1:
            problems.append(f"sensitivity must be above 0 and at most 1, got {self.sensitivity:g}")
        if self.resamples < 100:
            problems.append(f"resamples must be at least 100, got {self.resamples}")
        if self.seed < 0:
            problems.append(f"seed must be 0 or more, got {self.seed}")
        if not 0.5 <= self.level < 1:
            problems.append(f"level must be at least 0.5 and below 1, got {self.level:g}")
        problems += self._problems_of_shares()
        if problems:
            raise ValueError("; ".join(problems))

    def _problems_of_shares(self) -> list[str]:
        problems = []
        if self.auc_scale not in ("area", "logit"):
            problems.append(f"auc_scale must be area or logit, got '{self.auc_scale}'")
        if self.margin is not None and not 0 < self.margin < 1:
            problems.append(f"margin must be above 0 and below 1, got {self.margin:g}")
        if self.manifest is not None and not self.checklist:
            problems.append("manifest must be given with checklist only")
        for value in self.prevalences:
            if not 0 < value < 1:
                problems.append(f"prevalence must be above 0 and below 1, got {value:g}")
        return problems


def label(name: str) -> str:
    """Return the printed name of a class or cohort."""
    return name.replace("_", " ")


def quietly(function: Callable[[], Result]) -> Result:
    """Call ``function`` and suppress its ``DegenerateWarning``, whose sentence is in the result as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateWarning)
        return function()


def band_samples(options: EvaluationOptions, n: int) -> int:
    """Return the bootstrap samples of the band of a curve of ``n`` images: fewer above 50,000 images."""
    return min(options.resamples, max(200, 100_000_000 // n))


def groups_of(predictions: Predictions) -> np.ndarray | None:
    """Return the subject of each row if subjects repeat, else ``None``."""
    return predictions.subjects if predictions.repeats else None
