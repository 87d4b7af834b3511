"""Handler that writes a predictions table."""

import csv
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from osteo_monai.data.radiograph_items import HEAT_COLUMNS
from osteo_monai.data.subject_items import CLASSES

__all__ = ["PredictionsSaver", "class_columns", "density_columns", "risk_columns"]

logger = logging.getLogger(__name__)


def class_columns(item: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the columns that tell an answer ``pred`` (3,), probabilities by class, in a table of predictions."""
    probabilities = item["pred"].double()
    columns: dict[str, float | str] = {
        f"probability_{status}": round(float(p), 6) for status, p in zip(CLASSES, probabilities, strict=True)
    }
    return columns | {"predicted": str(CLASSES[int(probabilities.argmax())])}


def density_columns(item: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the columns that tell a study's ``density`` (see ``EstimateDensityd``) in a table of predictions."""
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


def risk_columns(item: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the columns that tell an answer ``pred`` (1 + P,), the risk first, in a table of predictions."""
    columns: dict[str, float | str] = {"probability_osteoporosis": round(float(item["pred"][0]), 6)}
    for name in HEAT_COLUMNS:
        if name in item:
            value = float(item[name])
            columns[name] = "" if math.isnan(value) else round(value, 4)
    return columns


class PredictionsSaver:
    """Write what an evaluator answers as a table of predictions (docs/predictions.md), a row an item.

    Args:
        file: CSV file; its folder is made if missing.
        items: what the evaluator's data set was made of, each with ``facts``, columns that are known beforehand
            (``subject_items``). Items of the batch carry ``row``, their place in it.
        model: name of the model in the table.
        columns: makes the predicted columns from a decollated item of the output.
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
        self._answers: dict[int, Mapping[str, Any]] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._answers = {}

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        for known, answer in zip(batch, output, strict=True):
            self._answers[int(known["row"])] = self.columns(answer)

    def _write(self, engine: Engine) -> None:
        rows = [
            {**self.items[row]["facts"], "model": self.model, **answer} for row, answer in sorted(self._answers.items())
        ]
        first = ["subject_id", "model", "cohort", "virtual", "bone_status"]
        columns = dict.fromkeys(key for row in rows for key in row)
        header = [key for key in first if key in columns] + [key for key in columns if key not in first]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, header, restval="")
            table.writeheader()
            table.writerows(rows)
        logger.info("%d predictions: %s", len(rows), self.file)
