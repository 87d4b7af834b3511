"""Columns that several tables share."""

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import label
from osteo_monai.reporting.evaluation.results import Cell, Column

__all__ = ["RATES", "WHO_COLUMNS", "who"]

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
