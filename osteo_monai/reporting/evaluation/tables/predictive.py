"""Likelihood ratios, and predictive values at stated prevalences."""

import math
from collections.abc import Sequence

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import EvaluationOptions, label
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import WHO_COLUMNS, who
from osteo_monai.reporting.numbers import printed_number
from osteo_monai.statistics.classification import ClassPerformance
from osteo_monai.statistics.likelihood_ratios import likelihood_ratios
from osteo_monai.statistics.proportions import Interval

__all__ = ["predictive_table"]


def predictive_table(
    sets: Sequence[Predictions], decided: Sequence[ClassPerformance | None], options: EvaluationOptions
) -> ResultTable:
    """Return likelihood ratios of each class against the rest, and predictive values at ``options.prevalences``."""
    table = ResultTable(
        "predictive",
        f"Likelihood ratios of each class against the rest; estimate ({100 * options.level:g} % confidence interval)",
        (
            *WHO_COLUMNS,
            Column("class", "Class"),
            Column("prevalence", "Share in these images"),
            Column("lr_positive", "LR+", 2),
            Column("lr_negative", "LR\N{MINUS SIGN}", 2),
            *(
                Column(f"{name}_at_{prevalence:g}", f"{name.upper()} at {100 * prevalence:g} %")
                for prevalence in options.prevalences
                for name in ("ppv", "npv")
            ),
        ),
    )
    rows: list[Row] = []
    for predictions, performance in zip(sets, decided, strict=True):
        if performance is None:
            continue
        for name in predictions.reported_classes:
            rates = performance.rates[name]
            found = likelihood_ratios(rates.sensitivity, rates.specificity)
            undefined = Missing("sensitivity or specificity is not defined")
            row: dict[str, Cell] = {
                **who(predictions),
                "class": label(name),
                "prevalence": float(predictions.is_class(name).mean()),
                "lr_positive": _ratio(found.positive, undefined),
                "lr_negative": _ratio(found.negative, undefined),
            }
            for prevalence in options.prevalences:
                for key, value in (("ppv", found.ppv(prevalence)), ("npv", found.npv(prevalence))):
                    row[f"{key}_at_{prevalence:g}"] = value if math.isfinite(value.value) else undefined
            rows.append(row)
    notes = [
        "Bounds of ratios from those of Se and Sp (Donner and Zou 2012). PPV and NPV of the table of performance are "
        "those at the share of the class in these images."
    ]
    if options.prevalences:
        notes.append("A stated prevalence is taken as known, and Se and Sp as those of the other population.")
    return table.filled(rows, notes if rows else ())


def _ratio(ratio: Interval, undefined: Missing) -> Cell:
    """Return the cell of a ratio; one that may be infinite is text."""
    if math.isnan(ratio.value):
        return undefined
    if math.isinf(ratio.value):
        return f"above {printed_number(ratio.low, 2)}"
    if math.isinf(ratio.high):
        return f"{printed_number(ratio.value, 2)} (above {printed_number(ratio.low, 2)})"
    return ratio
