"""Handler that writes a predictions table, and the columns of the different bundles."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ignite.engine import Engine

from osteo_monai.data import HEAT_COLUMNS, write_predictions
from osteo_monai.data.subject_items import CLASSES
from osteo_monai.errors import UnusableInputError
from osteo_monai.handlers.epoch import EpochHandler
from osteo_monai.risk.calibration import RiskCalibration, read_risk

__all__ = ["CalibratedRiskColumns", "PredictionsSaver", "class_columns", "density_columns", "risk_columns"]

logger = logging.getLogger(__name__)

Columns = dict[str, float | str]


def class_columns(item: Mapping[str, Any]) -> Columns:
    """Return the columns of a CT classifier's ``pred`` (3,), the probabilities of ``CLASSES``."""
    probabilities = item["pred"].double()
    columns: Columns = {
        f"probability_{status}": round(float(p), 6) for status, p in zip(CLASSES, probabilities, strict=True)
    }
    return columns | {"predicted": str(CLASSES[int(probabilities.argmax())])}


def density_columns(item: Mapping[str, Any]) -> Columns:
    """Return the columns of a density regressor's ``density``, see ``EstimateDensityd``."""
    study = item["density"]["study"]
    by_level = {
        f"predicted_bmd_{level}{suffix}": round(values[key], 3)
        for level, values in item["density"]["levels"].items()
        for suffix, key in (("_mg_cm3", "bmd_mg_cm3"), ("_lower", "lower"), ("_upper", "upper"))
    }
    return {
        "predicted_bmd_mg_cm3": round(study["bmd_mg_cm3"], 3),
        "predicted_bmd_lower": round(study["lower"], 3),
        "predicted_bmd_upper": round(study["upper"], 3),
        **{f"probability_{status}": round(study["probability"][status], 6) for status in CLASSES},
        "predicted": study["bone_status"],
        **by_level,
    }


def risk_columns(item: Mapping[str, Any]) -> Columns:
    """Return the columns of a radiograph classifier's ``pred`` (1 + P,), the risk first, and of its heat maps."""
    columns: Columns = {"probability_osteoporosis": round(float(item["pred"][0]), 6)}
    for name in HEAT_COLUMNS:
        if name in item:
            value = float(item[name])
            columns[name] = "" if math.isnan(value) else round(value, 4)
    return columns


class CalibratedRiskColumns:
    """The columns of ``risk_columns`` with the calibration that is stored with the weights.

    ``score_osteoporosis`` is the output of the network, ``probability_osteoporosis`` the risk that ``osteo-monai
    screen`` reports for it; empty, with a warning, when the weights have no calibration of the view.

    Args:
        folder: folder of the weights and of ``risk.json``.
        view: of the radiographs, such as ``chest_frontal``.
    """

    def __init__(self, folder: str, view: str) -> None:
        self.folder, self.view = Path(folder), view

    def __call__(self, item: Mapping[str, Any]) -> Columns:
        columns = risk_columns(item)
        score = float(item["pred"][0])
        risk: float | str = ""
        if self._calibration is not None:
            risk = round(self._calibration.estimate(score).probability, 6)
        return {"score_osteoporosis": round(score, 6), **columns, "probability_osteoporosis": risk}

    @cached_property
    def _calibration(self) -> RiskCalibration | None:
        """The calibration, read when the first output is there: before, the folder may be none of a bundle."""
        try:
            calibrations = read_risk(self.folder)
        except UnusableInputError as error:
            logger.warning("%s", error)
            return None
        if self.view not in calibrations:
            logger.warning("risk.json has no calibration of the view %s", self.view)
        return calibrations.get(self.view)


class PredictionsSaver(EpochHandler):
    """Write the output of an evaluator as a predictions table (docs/predictions.md), one row an item.

    Args:
        file: CSV file to write.
        items: items of the evaluator's data set, each with ``facts``, the columns known before (``subject_items``).
            The items of a batch have ``row``, their index in it.
        model: name of the model in the table.
        columns: function that returns the predicted columns of a decollated item of the output.
    """

    def __init__(
        self,
        file: str,
        items: Sequence[Mapping[str, Any]],
        model: str,
        columns: Callable[[Mapping[str, Any]], Mapping[str, Any]] = class_columns,
    ) -> None:
        self.file = Path(file)
        self.items = items
        self.model = model
        self.columns = columns
        self._predictions: dict[int, Mapping[str, Any]] = {}

    def start(self) -> None:
        self._predictions = {}

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for inputs, item in zip(batch, output, strict=True):
            self._predictions[int(inputs["row"])] = self.columns(item)

    def finish(self, engine: Engine) -> None:
        rows = [
            {**self.items[row]["facts"], "model": self.model, **prediction}
            for row, prediction in sorted(self._predictions.items())
        ]
        write_predictions(self.file, rows)
        logger.info("%d predictions: %s", len(rows), self.file)
