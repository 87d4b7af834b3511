"""Calibrate network scores as risks, with interval and cut-off, on subjects outside of the training."""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from scipy.special import expit, ndtri

from osteo_monai.data import read_prediction_rows, write_predictions
from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.files import file_sha256, write_json
from osteo_monai.utils.frozen import FrozenDict
from osteo_monai.utils.inputs import open_input
from osteo_monai.utils.probability import logit

__all__ = [
    "CUTOFF",
    "LEVEL",
    "RISK_FILE",
    "RiskCalibration",
    "RiskEstimate",
    "calibrate_risks",
    "calibrate_table",
    "fit_risk",
    "read_risk",
    "write_risk",
]

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

RISK_FILE = "risk.json"
LEVEL = 0.90
"""Level of the intervals of a risk, as of a density."""
CUTOFF = "sensitivity_90"
"""Name of the cut-off in ``RiskCalibration.thresholds``."""
REQUIRED_SENSITIVITY = 0.9
"""The cut-off has at least this sensitivity, since a screening test should miss few, at the best specificity."""


@dataclass(frozen=True)
class RiskEstimate:
    """Probability of osteoporosis at the prevalence of the calibration subjects, with its 90 % interval."""

    probability: float
    low: float
    high: float


class RiskCalibration(BaseModel):
    """Calibration of the probabilities of one model.

    The interval is that of the mean risk of people with the same image. It includes the uncertainty of the calibration
    and the variation between networks that were trained on other people, but not the difference of another centre.

    Attributes:
        model: its name in the calibration table.
        virtual: whether the people were simulated.
        people, with_osteoporosis: numbers of calibration subjects (not of their images); none was in the training of
            the network.
        intercept, slope: of the logistic recalibration.
        covariance: of these two.
        network_sd: SD of the logit of one person between networks trained on other people; ``None`` with one network.
        thresholds: cut-offs of the calibrated probability, at or above which a risk is raised.
        source_sha256: of the table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    virtual: bool
    people: int = Field(gt=0)
    with_osteoporosis: int = Field(gt=0)
    intercept: float
    slope: float = Field(gt=0)
    covariance: tuple[tuple[float, float], tuple[float, float]]
    network_sd: float | None = Field(default=None, ge=0)
    thresholds: Annotated[Mapping[str, float], AfterValidator(FrozenDict)]
    source_sha256: str

    @property
    def prevalence(self) -> float:
        """Share of osteoporosis among the calibration subjects."""
        return self.with_osteoporosis / self.people

    def estimate(self, p: float, spread: float | None = None) -> RiskEstimate:
        """Return the risk of a person from the probability ``p`` by the model.

        Args:
            p: uncalibrated probability, 0 to 1.
            spread: SD of its logit (default: ``network_sd``).

        Raises:
            ValueError: ``p`` is not a probability or ``spread`` is negative.

        Example:
            >>> calibration = RiskCalibration(
            ...     model="network", virtual=True, people=200, with_osteoporosis=60, intercept=-0.5, slope=1.0,
            ...     covariance=((0.02, 0.0), (0.0, 0.01)), thresholds={"sensitivity_90": 0.2}, source_sha256="",
            ... )
            >>> risk = calibration.estimate(0.5)
            >>> f"{risk.probability:.2f} ({risk.low:.2f} to {risk.high:.2f})"
            '0.38 (0.32 to 0.43)'
        """
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a probability between 0 and 1, got {p}")
        if spread is not None and spread < 0:
            raise ValueError(f"spread must be 0 or positive, got {spread}")
        x = float(logit(p))
        (a, b), (_, d) = self.covariance
        network_sd = (self.network_sd or 0.0) if spread is None else spread
        sd = math.sqrt(max(a + 2 * b * x + d * x * x, 0.0) + (self.slope * network_sd) ** 2)
        middle, half = self.intercept + self.slope * x, float(ndtri(0.5 + LEVEL / 2)) * sd
        return RiskEstimate(*(float(expit(middle + step)) for step in (0.0, -half, half)))

    def summary(self) -> str:
        """Return one sentence about the calibration, for a command."""
        spread = "" if self.network_sd is None else f", networks differ by {self.network_sd:.2f} (SD of the logit)"
        return (
            f"{self.people} people, {self.with_osteoporosis} with osteoporosis; intercept {self.intercept:.2f}, "
            f"slope {self.slope:.2f}{spread}; cut-off {self.thresholds[CUTOFF]:.3f} for 90 % sensitivity"
        )


def fit_risk(source: Path) -> RiskCalibration:
    """Calibrate a model on the cohort ``validation`` of its predictions table.

    Args:
        source: the table, or a folder of a cross-validation with ``predictions.csv`` and one in each ``fold_N``.

    Raises:
        UnusableInputError: the table is missing or invalid, has no people of the cohort ``validation``, or its
            probabilities do not increase with the risk.
    """
    # late: a screening reads calibrations and fits none
    from osteo_monai.statistics.calibration import calibration
    from osteo_monai.statistics.thresholds import choose_threshold

    table = _table_of(source)
    rows = [row for row in _answered_rows(table) if row["cohort"] == "validation"]
    # sums then do not depend on the order of the table
    rows.sort(key=lambda row: (row["subject_id"], row.get("image_id", ""), row["probability_osteoporosis"]))
    if not rows:
        raise UnusableInputError(
            f"{table.name} must have people of the cohort validation with a prediction and the truth in the column "
            "osteoporosis, got none"
        )
    truth = np.array([float(row["osteoporosis"]) for row in rows])
    probabilities = _probabilities(rows)
    x = logit(probabilities)
    names, subjects = np.unique([row["subject_id"] for row in rows], return_inverse=True)
    fit = calibration(truth, probabilities, groups=subjects)
    intercept, slope = fit.intercept.value, fit.slope.value
    if fit.covariance is None or not slope > 0:
        reason = "; ".join(fit.warnings) or f"the slope of the calibration is {slope:.3g}"
        raise UnusableInputError(f"{table.name} cannot be calibrated: {reason}")
    # one value for each subject and truth, the mean logit, so that no person counts more than others
    _, first, members = np.unique(2 * subjects + truth, return_index=True, return_inverse=True)
    means = np.asarray(expit(intercept + slope * np.bincount(members, x) / np.bincount(members)))
    cutoff = choose_threshold(truth[first], means, "sensitivity", REQUIRED_SENSITIVITY, chosen_on="validation")
    return RiskCalibration(
        model=rows[0]["model"],
        virtual=any(row.get("virtual") == "1" for row in rows),
        people=len(names),
        with_osteoporosis=int(np.unique(subjects[truth == 1]).size),
        intercept=intercept,
        slope=slope,
        covariance=fit.covariance,
        network_sd=_network_sd(source) if source.is_dir() else None,
        thresholds={CUTOFF: round(cutoff.value, 6)},
        source_sha256=file_sha256(table),
    )


def _table_of(source: Path) -> Path:
    return source / "predictions.csv" if source.is_dir() else source


def _probabilities(rows: Sequence[Mapping[str, str]]) -> Array:
    return np.array([float(row["probability_osteoporosis"]) for row in rows])


def _answered_rows(table: Path) -> list[dict[str, str]]:
    """Return the rows with a prediction, which must have the truth; log the number of others."""
    rows = read_prediction_rows(table, ("probability_osteoporosis", "osteoporosis"), allow_empty=True)
    answered = [row for row in rows if row["probability_osteoporosis"]]
    if len(answered) < len(rows):
        logger.warning("%s: %d of %d rows have no prediction", table.name, len(rows) - len(answered), len(rows))
    without_truth = sum(not row["osteoporosis"] for row in answered)
    if without_truth:
        raise UnusableInputError(
            f"{table.name} must have osteoporosis (0 or 1) in each row with a prediction, missing in {without_truth} "
            f"of {len(answered)}"
        )
    return answered


def _network_sd(folder: Path) -> float | None:
    """Return the root mean square, over people outside of all folds, of the SD of their logits between networks."""
    logits: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    tables = sorted(folder.glob("fold_*/predictions.csv"))
    for table in tables:
        for row in _answered_rows(table):
            if not row.get("fold"):
                key = row["cohort"], row["subject_id"], row.get("image_id", "")
                logits[key].append(float(logit(float(row["probability_osteoporosis"]))))
    complete = [values for values in logits.values() if len(values) == len(tables)]
    if len(tables) < 2 or not complete:
        return None
    return float(np.sqrt(np.var(np.array(complete), axis=1, ddof=1).mean()))


def calibrate_table(calibration: RiskCalibration, source: Path, output: Path) -> None:
    """Write a predictions table with calibrated probabilities and without ``predicted``; other columns are kept.

    Args:
        calibration: of the model.
        source: as for ``fit_risk``.
        output: the table to write.

    Raises:
        UnusableInputError: as ``fit_risk``.
    """
    rows: list[dict[str, object]] = []
    for row in read_prediction_rows(_table_of(source), allow_empty=True):
        calibrated: dict[str, object] = {name: value for name, value in row.items() if name != "predicted"}
        if text := row["probability_osteoporosis"]:
            calibrated["probability_osteoporosis"] = f"{calibration.estimate(float(text)).probability:.6f}"
        rows.append(calibrated)
    write_predictions(output, rows)


def calibrate_risks(
    sources: Mapping[str, Path], output: Path, tables: Path | None = None
) -> dict[str, RiskCalibration]:
    """Calibrate models and write the calibrations, and their tables with calibrated probabilities.

    Args:
        sources: table or folder of a cross-validation by name, see ``fit_risk`` and ``write_risk``.
        output: file to write, such as ``models/risk.json`` of a bundle.
        tables: folder for ``NAME.csv``, the tables with calibrated probabilities.

    Returns:
        The calibrations by name.

    Raises:
        UnusableInputError: as ``fit_risk``; nothing is written then.
    """
    calibrations = {name: fit_risk(source) for name, source in sources.items()}
    if tables is not None:
        for name, source in sources.items():
            calibrate_table(calibrations[name], source, tables / f"{name}.csv")
    write_risk(calibrations, output)
    return calibrations


_FILE = TypeAdapter(dict[str, RiskCalibration])


def write_risk(calibrations: Mapping[str, RiskCalibration], file: Path) -> None:
    """Write calibrations by name: a view (``chest_frontal``), ``fused``, ``clinical`` or ``combined``."""
    write_json(file, {name: model.model_dump(mode="json") for name, model in calibrations.items()}, indent=1)


def read_risk(folder: Path) -> dict[str, RiskCalibration]:
    """Return the calibrations of ``risk.json`` in the folder of a bundle's weights.

    Raises:
        UnusableInputError: the file is missing or damaged.
    """
    file = folder / RISK_FILE
    try:
        with open_input(file) as stream:
            return _FILE.validate_json(stream.read())
    except OSError:
        raise UnusableInputError(f"{RISK_FILE} is missing beside the weights: the risk is not calibrated") from None
    except ValidationError as error:
        raise UnusableInputError(f"{RISK_FILE} is damaged: {error.error_count()} values are invalid") from None
