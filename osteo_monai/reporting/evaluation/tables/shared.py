"""Columns and subgroups that several tables share."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import label
from osteo_monai.reporting.evaluation.results import Cell, Column
from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.roc import AUC

__all__ = ["RATES", "SUBGROUPS", "WHO_COLUMNS", "as_interval", "factors", "who"]

SUBGROUPS = ("kvp", "contrast_phase", "acquisition", "scanner")
"""Facts whose values are subgroups."""

WHO_COLUMNS = (Column("cohort", "Cohort"), Column("model", "Model"))
"""First columns of all tables."""


def who(predictions: Predictions) -> dict[str, Cell]:
    """Return the cells of ``WHO_COLUMNS``."""
    return {"cohort": label(predictions.cohort), "model": predictions.model}


RATES = (
    ("sensitivity", "Se", "there is no case of the class"),
    ("specificity", "Sp", "all cases are of the class"),
    ("ppv", "PPV", "no case was predicted as the class"),
    ("npv", "NPV", "every case was predicted as the class"),
    ("accuracy", "Ac", ""),
    ("f1", "F1", "there is no case of the class, and none was predicted"),
)
"""Rates of a 2 x 2 table: name, heading, and why there is none."""


def factors(predictions: Predictions, rows: NDArray[np.intp]) -> dict[str, list[str]]:
    """Return the values of ``rows`` of each fact of ``SUBGROUPS`` that has several."""
    found = {name: _same_numbers(predictions.facts[name][rows]) for name in SUBGROUPS if name in predictions.facts}
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _same_numbers(texts: Iterable[str]) -> list[str]:
    """Return the texts with equal numbers written equally (120 and 120.0)."""
    unified = []
    for text in texts:
        try:
            unified.append(f"{float(text):g}")
        except ValueError:
            unified.append(str(text))
    return unified


def as_interval(result: AUC) -> Interval:
    """Return an area with its bounds, ``nan`` if it has none."""
    low, high = (math.nan if bound is None else bound for bound in (result.low, result.high))
    return Interval(result.value, low, high)
