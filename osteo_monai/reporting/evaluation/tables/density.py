"""Agreement of predicted with reference densities."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import EvaluationOptions, label
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import WHO_COLUMNS, by_value, factors, who
from osteo_monai.statistics.agreement import Agreement, agreement, agreement_by
from osteo_monai.statistics.proportions import Interval

__all__ = ["agreements", "density_table", "with_density"]


def with_density(predictions: Predictions) -> np.ndarray:
    """Return the indices of rows with both a reference and a predicted density."""
    if predictions.predicted_density is None:
        return np.array([], dtype=np.intp)
    return np.flatnonzero(np.isfinite(predictions.density))


def agreements(predictions: Predictions, options: EvaluationOptions) -> dict[tuple[str, str], Agreement]:
    """Return the agreement of all rows, and by value of each factor that has several values."""
    rows = with_density(predictions)
    if not len(rows) or predictions.predicted_density is None:
        return {}
    columns = [None if c is None else c[rows] for c in (predictions.lower, predictions.upper)]
    reference, predicted, groups = (
        predictions.density[rows],
        predictions.predicted_density[rows],
        predictions.subjects[rows],
    )
    repeated = groups if len(np.unique(groups)) < len(groups) else None
    settings: dict[str, Any] = {"level": options.level, "resamples": options.resamples, "seed": options.seed}
    results = {("all", ""): agreement(reference, predicted, *columns, groups=repeated, **settings)}
    by_factor = agreement_by(factors(predictions, rows), reference, predicted, *columns, groups=repeated, **settings)
    return results | {
        (name, value): values[value] for name, values in by_factor.items() for value in sorted(values, key=by_value)
    }


def density_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return the agreement of predicted with reference densities, overall and by subgroup."""
    table = ResultTable(
        "density",
        f"Predicted against reference density, mg/cm3, predicted minus reference; estimate ({100 * options.level:g} % "
        "confidence interval)",
        (
            *WHO_COLUMNS,
            Column("subgroup", "Subgroup"),
            Column("n", "n"),
            Column("bias", "Bias", 1),
            Column("sd", "SD of the differences", 1),
            Column("mae", "MAE", 1),
            Column("rmse", "RMSE", 1),
            Column("lower_limit", "Lower limit of agreement", 1),
            Column("upper_limit", "Upper limit of agreement", 1),
            Column("pearson", "Pearson r"),
            Column("ccc", "Lin's CCC"),
            Column("slope", "Slope of difference on mean"),
            Column("coverage", "Coverage of the 90 % interval"),
            Column("interval_width", "Its mean width", 1),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    undefined = Missing("too few cases, or constant densities")
    for predictions in sets:
        for (factor, value), a in agreements(predictions, options).items():
            row: dict[str, Cell] = {
                **who(predictions),
                "subgroup": "all" if factor == "all" else f"{label(factor)} {value}",
                "n": a.n,
            }
            for name in ("bias", "mae", "rmse", "lower_limit", "upper_limit", "pearson", "ccc", "slope"):
                number: Interval = getattr(a, name)
                row[name] = number if math.isfinite(number.value) else undefined
            row["sd"] = a.sd if math.isfinite(a.sd) else undefined
            if a.coverage is not None and a.interval_width is not None:
                row |= {"coverage": a.coverage, "interval_width": a.interval_width}
            else:
                row["coverage"] = Missing("the predictions have no interval")
            rows.append(row)
        excluded = len(predictions) - len(with_density(predictions))
        if excluded and predictions.predicted_density is not None:
            notes.append(
                f"{predictions.model}, {label(predictions.cohort)}: {excluded} of {len(predictions)} images without a "
                "reference density are excluded."
            )
    return table.filled(rows, notes)
