"""Cut-offs chosen on the validation cohort and applied to the others."""

import math
from collections.abc import Sequence

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import TARGET, EvaluationOptions, groups_of, label
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import RATES
from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.thresholds import Threshold, choose_threshold

__all__ = ["thresholds_table"]


def thresholds_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return the rates, in all cohorts, of the cut-off that has the required sensitivity on the validation cohort."""
    table = ResultTable(
        "thresholds",
        f"Cut-off for osteoporosis with a sensitivity of at least {options.sensitivity:g} in the validation cohort, "
        "frozen and applied to the other cohorts",
        (
            Column("model", "Model"),
            Column("cut_off", "Cut-off"),
            Column("cohort", "Cohort"),
            Column("cases", "Cases"),
            Column("n", "of n"),
            Column("sensitivity", "Se"),
            Column("specificity", "Sp"),
            Column("ppv", "PPV"),
            Column("npv", "NPV"),
            Column("reached", "Sensitivity kept"),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for model in dict.fromkeys(predictions.model for predictions in sets):
        of_model = [predictions for predictions in sets if predictions.model == model]
        chosen = _chosen(of_model, options)
        if isinstance(chosen, str):
            rows.append({"model": model, "cut_off": Missing(chosen)})
            continue
        threshold, kind = chosen
        notes += [f"{model}: {warning}." for warning in threshold.warnings]
        for predictions in of_model:
            if predictions.cohort == "training" or TARGET not in predictions.scores:
                continue
            if predictions.score_kinds[TARGET] != kind:
                notes.append(
                    f"{model}, {label(predictions.cohort)}: the score is of another kind than in the validation cohort."
                )
                continue
            is_validation = predictions.cohort == "validation"
            rates = threshold.apply(
                predictions.is_class(TARGET),
                predictions.scores[TARGET],
                groups=groups_of(predictions),
                method="wilson" if options.interval == "wilson" else "clopper-pearson",
                level=options.level,
                resamples=options.resamples,
                seed=options.seed,
            )
            row: dict[str, Cell] = {
                "model": model,
                "cut_off": _cut_off(threshold.value, kind),
                "cohort": f"{label(predictions.cohort)} (chosen here)" if is_validation else label(predictions.cohort),
                "cases": int(predictions.is_class(TARGET).sum()),
                "n": len(predictions),
            }
            for name, _, reason in RATES[:4]:
                value: Interval = getattr(rates, name)
                row[name] = value if math.isfinite(value.value) else Missing(reason)
            reached = rates.sensitivity.value >= options.sensitivity - 1e-9
            row["reached"] = "by choice" if is_validation else ("yes" if reached else "no")
            rows.append(row)
    return table.filled(rows, notes)


def _chosen(sets: Sequence[Predictions], options: EvaluationOptions) -> tuple[Threshold, str] | str:
    """Return the cut-off of one model and the kind of its score, or why there is none."""
    validation = next((predictions for predictions in sets if predictions.cohort == "validation"), None)
    if validation is None:
        return (
            "no cut-off: this model has no validation cohort, and a cut-off chosen on the reported data would be "
            "optimistic"
        )
    if TARGET not in validation.scores:
        return "no cut-off: the predictions have classes only"
    positive = validation.is_class(TARGET)
    if positive.all() or not positive.any():
        return "no cut-off: the validation cohort has one class only"
    score = validation.scores[TARGET]
    chosen = choose_threshold(
        positive, score, "sensitivity", options.sensitivity, chosen_on="validation", groups=groups_of(validation)
    )
    return chosen, validation.score_kinds[TARGET]


def _cut_off(value: float, kind: str) -> str:
    if kind == "density":
        return f"density at most {-value:.1f} mg/cm3"
    return f"{kind} at least {value:.4g}".replace("-", "\N{MINUS SIGN}")
