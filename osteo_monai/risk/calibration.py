"""What a model's answer means as a risk: calibrated on people it was not trained on, with an interval and a cut-off.

``python -m osteo_monai.risk.calibration OUTPUT/risk.json chest_frontal=FOLDS combined=combined.csv`` writes the file that stands
beside a bundle's weights, and with ``--tables DIR`` each table again with calibrated probabilities. A folder is one
that ``osteo_monai.radiographs.cross_validate`` wrote, a CSV a table of predictions (docs/predictions.md) whose cohort
``validation`` the model was not trained on.
"""

import argparse
import csv
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from scipy.special import expit, logit
from scipy.stats import norm

from osteo_monai.errors import UnusableInputError
from osteo_monai.statistics.calibration import calibration
from osteo_monai.statistics.thresholds import choose_threshold
from osteo_monai.utils.files import file_sha256

__all__ = [
    "LEVEL",
    "RISK_FILE",
    "RiskCalibration",
    "RiskEstimate",
    "calibrate_table",
    "fit_risk",
    "read_risk",
    "write_risk",
]

Array = NDArray[np.float64]

RISK_FILE = "risk.json"
LEVEL = 0.90
"""Of the intervals of a risk, as of a density's."""
CUTOFF = "sensitivity_90"
REQUIRED_SENSITIVITY = 0.9
"""A screening test should miss few: what the cut-off is chosen for, at the best specificity that goes with it."""
_SURE = 1e-6
"""Tables hold six decimals; 0 and 1 have no logit."""


@dataclass(frozen=True)
class RiskEstimate:
    """Probability of osteoporosis at the prevalence of the people it was calibrated on, with its 90 % interval."""

    probability: float
    low: float
    high: float


class RiskCalibration(BaseModel):
    """How to read one model's answers.

    The interval is that of the mean risk of people with the same picture: it knows how well the calibration is known
    and how much networks differ that were trained on other people. It does not know another centre, nor chance in the
    single person.

    Attributes:
        model: its name in the table it was calibrated on.
        virtual: whether the people were simulated.
        people, with_osteoporosis: those it was calibrated on; none was seen by the network that judged them.
        intercept, slope: of the logistic recalibration.
        covariance: of these two.
        network_sd: SD of the logit of one person's answer between networks trained on other people; ``None`` where one
            network alone was trained.
        thresholds: cut-offs of the calibrated probability, at or above which a risk counts as raised.
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
    thresholds: dict[str, float]
    source_sha256: str

    @property
    def prevalence(self) -> float:
        """Share of osteoporosis among the people it was calibrated on."""
        return self.with_osteoporosis / self.people

    def estimate(self, p: float, spread: float | None = None) -> RiskEstimate:
        """Return the risk of a person whom the model gives the probability ``p``.

        Args:
            p: the model's own probability, 0 to 1.
            spread: SD of its logit; ``network_sd`` where not given.

        Raises:
            ValueError: ``p`` is no probability or ``spread`` is negative.
        """
        if not 0 <= p <= 1:
            raise ValueError(f"p must be a probability between 0 and 1, got {p}")
        if spread is not None and spread < 0:
            raise ValueError(f"spread must be 0 or positive, got {spread}")
        x = float(logit(min(max(p, _SURE), 1 - _SURE)))
        (a, b), (_, d) = self.covariance
        own = (self.network_sd or 0.0) if spread is None else spread
        sd = math.sqrt(max(a + 2 * b * x + d * x * x, 0.0) + (self.slope * own) ** 2)
        middle, half = self.intercept + self.slope * x, float(norm.ppf(0.5 + LEVEL / 2)) * sd
        return RiskEstimate(*(float(expit(middle + step)) for step in (0.0, -half, half)))


def fit_risk(source: Path) -> RiskCalibration:
    """Calibrate a model on the cohort ``validation`` of its table of predictions.

    Args:
        source: the table, or a folder of ``cross_validate`` with a table and one of each fold.

    Raises:
        UnusableInputError: naming what is wrong: no table, people of training in it, answers that do not order people.
    """
    table = source / "predictions.csv" if source.is_dir() else source
    rows = [row for row in _rows(table) if row.get("cohort") == "validation"]
    lacking = "it needs people of the cohort validation, with an answer and the truth in the column osteoporosis"
    if not rows:
        raise UnusableInputError(f"{table.name}: {lacking}")
    truth = np.array([float(row["osteoporosis"]) for row in rows])
    answers = np.array([float(row["probability_osteoporosis"]) for row in rows])
    x = logit(answers.clip(_SURE, 1 - _SURE))
    fit = calibration(truth, answers, groups=[row["subject_id"] for row in rows])
    intercept, slope = fit.intercept.value, fit.slope.value
    if not slope > 0:
        why = "; ".join(fit.warnings) or f"the slope of the calibration is {slope:.3g}"
        raise UnusableInputError(f"{table.name} cannot be calibrated: {why}")
    mean = expit(intercept + slope * x)
    design = np.column_stack([np.ones_like(x), x])
    covariance = np.linalg.inv(design.T @ (design * (mean * (1 - mean))[:, None]))
    cutoff = choose_threshold(truth, mean, "sensitivity", REQUIRED_SENSITIVITY, chosen_on="validation")
    return RiskCalibration(
        model=rows[0].get("model", table.stem),
        virtual=any(row.get("virtual") == "1" for row in rows),
        people=len(rows),
        with_osteoporosis=int(truth.sum()),
        intercept=intercept,
        slope=slope,
        covariance=tuple(map(tuple, covariance.tolist())),  # type: ignore[arg-type]
        network_sd=_network_sd(source) if source.is_dir() else None,
        thresholds={CUTOFF: round(cutoff.value, 6)},
        source_sha256=file_sha256(table),
    )


def _network_sd(folder: Path) -> float | None:
    """Root mean square, over the people that no network was trained on, of the SD of their logits between networks."""
    logits: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    folds = sorted(folder.glob("fold_*/predictions.csv"))
    for file in folds:
        for row in _rows(file):
            if not row.get("fold"):
                key = row.get("cohort", ""), row["subject_id"], row.get("image_id", "")
                logits[key].append(_logit(float(row["probability_osteoporosis"])))
    same = [values for values in logits.values() if len(values) == len(folds)]
    if len(folds) < 2 or not same:
        return None
    return float(np.sqrt(np.var(np.array(same), axis=1, ddof=1).mean()))


def _logit(p: float) -> float:
    return float(logit(min(max(p, _SURE), 1 - _SURE)))


def _rows(file: Path) -> list[dict[str, str]]:
    """Rows of a table that hold an answer; every one of them must hold the truth."""
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if row.get("probability_osteoporosis")]
    except (OSError, UnicodeDecodeError):
        raise UnusableInputError(f"{file.name} cannot be read as a table of predictions") from None
    for row in rows:
        try:
            good = 0 <= float(row["probability_osteoporosis"]) <= 1 and row["osteoporosis"] in ("0", "1")
        except (KeyError, ValueError):
            good = False
        if not good or not row.get("subject_id"):
            raise UnusableInputError(
                f"{file.name} must have a subject_id, osteoporosis (0 or 1) and a probability_osteoporosis between 0 "
                "and 1 in each row"
            )
    return rows


def calibrate_table(calibration: RiskCalibration, source: Path, output: Path) -> None:
    """Write a table of predictions again with calibrated probabilities; what else a row says is kept.

    Args:
        calibration: of the model.
        source: the table, or a folder of ``cross_validate``.
        output: the table to write.

    Raises:
        UnusableInputError: as ``fit_risk``.
    """
    rows = _rows(source / "predictions.csv" if source.is_dir() else source)
    for row in rows:
        risk = calibration.estimate(float(row["probability_osteoporosis"])).probability
        row["probability_osteoporosis"] = f"{risk:.6f}"
        row.pop("predicted", None)
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, list(rows[0]), restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


_FILE = TypeAdapter(dict[str, RiskCalibration])


def write_risk(calibrations: Mapping[str, RiskCalibration], file: Path) -> None:
    """Write calibrations by name: a view (``chest_frontal``), ``fused``, ``clinical`` or ``combined``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {name: one.model_dump(mode="json") for name, one in calibrations.items()}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_risk(folder: Path) -> dict[str, RiskCalibration]:
    """Return the calibrations of ``risk.json`` in the folder of a bundle's weights.

    Raises:
        UnusableInputError: there is none, or it is damaged.
    """
    file = folder / RISK_FILE
    try:
        return _FILE.validate_json(file.read_bytes())
    except OSError:
        raise UnusableInputError(f"{RISK_FILE} is missing beside the weights: the risk is not calibrated") from None
    except ValidationError as error:
        raise UnusableInputError(f"{RISK_FILE} is damaged: {error.error_count()} entries are wrong") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m osteo_monai.risk.calibration", description=__doc__)
    parser.add_argument("output", type=Path, help="file to write, such as models/risk.json")
    parser.add_argument("sources", nargs="+", help="NAME=FOLDER or NAME=TABLE.csv")
    parser.add_argument("--tables", type=Path, help="folder for NAME.csv, the tables with calibrated probabilities")
    a = parser.parse_args(arguments)
    found = {}
    try:
        for source in a.sources:
            name, _, path = source.partition("=")
            if not path:
                raise UnusableInputError(f"a source must be NAME=FOLDER or NAME=TABLE.csv, got '{source}'")
            found[name] = fit_risk(Path(path))
            if a.tables:
                calibrate_table(found[name], Path(path), a.tables / f"{name}.csv")
    except UnusableInputError as error:
        parser.exit(2, f"error: {error}\n")
    write_risk(found, a.output)
    for name, one in found.items():
        spread = "" if one.network_sd is None else f", networks differ by {one.network_sd:.2f} (SD of the logit)"
        print(
            f"{name}: {one.people} people, {one.with_osteoporosis} with osteoporosis; intercept {one.intercept:.2f}, "
            f"slope {one.slope:.2f}{spread}; cut-off {one.thresholds[CUTOFF]:.3f} for 90 % sensitivity"
        )


if __name__ == "__main__":
    main()
