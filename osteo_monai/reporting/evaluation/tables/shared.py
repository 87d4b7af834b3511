"""Columns and subgroups that several tables share."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.csv_tables import MISSING_WORDS
from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import label
from osteo_monai.reporting.evaluation.results import Cell, Column
from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.roc import AUC

__all__ = ["RATES", "SUBGROUPS", "WHO_COLUMNS", "as_interval", "by_value", "factors", "who"]

SUBGROUPS = ("kvp", "contrast_phase", "acquisition", "scanner", "sex", "age", "centre")
"""Facts whose values are subgroups, age by bands of ten years."""
AGE_BANDS = (50, 60, 70, 80)
"""Ages at which a band starts, in years; those below the first are one band, as are those of the last or more."""

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
    found = {
        name: (_age_bands if name == "age" else _same_numbers)(predictions.facts[name][rows])
        for name in SUBGROUPS
        if name in predictions.facts
    }
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def by_value(name: str) -> tuple[bool, float, str]:
    """Return the sort key of the name of a subgroup: numbers and bands by their size, then texts, then no name."""
    words = name.split()
    below = words[:1] == ["below"]
    try:
        number = float(words[1 if below else 0]) - 0.5 * below
    except (IndexError, ValueError):
        number = math.inf
    return name == "", number, name


def _same_numbers(texts: Iterable[str]) -> list[str]:
    """Return the texts with equal numbers written equally (120 and 120.0), empty for a word of a missing value."""
    unified = []
    for text in texts:
        if text.lower() in MISSING_WORDS:
            unified.append("")
            continue
        try:
            unified.append(f"{float(text):g}")
        except ValueError:
            unified.append(str(text))
    return unified


def _age_bands(texts: Iterable[str]) -> list[str]:
    """Return the band of each age, empty for an age that is missing or no number."""
    names = [
        f"below {AGE_BANDS[0]}",
        *(f"{start} to {start + 9}" for start in AGE_BANDS[:-1]),
        f"{AGE_BANDS[-1]} or more",
    ]
    bands = []
    for text in texts:
        try:
            age = float(text)
        except ValueError:
            age = math.nan
        bands.append("" if math.isnan(age) else names[int(np.searchsorted(AGE_BANDS, age, side="right"))])
    return bands


def as_interval(result: AUC) -> Interval:
    """Return an area with its bounds, ``nan`` if it has none or, for a score that does not vary, no width."""
    low, high = (math.nan if bound is None else bound for bound in (result.low, result.high))
    if low == high:
        return Interval(result.value, math.nan, math.nan)
    return Interval(result.value, low, high)
