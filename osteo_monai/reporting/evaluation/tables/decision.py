"""Net benefit at threshold probabilities."""

from collections.abc import Sequence

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import TARGET, EvaluationOptions, groups_of
from osteo_monai.reporting.evaluation.results import Column, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import WHO_COLUMNS, who
from osteo_monai.statistics.decision import DecisionCurve, decision_curve
from osteo_monai.statistics.proportions import Interval

__all__ = ["NET_BENEFIT_AT", "decision_curves", "decision_table"]

NET_BENEFIT_AT = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Threshold probabilities of the table; the figure covers the whole range."""


def decision_curves(
    sets: Sequence[Predictions], options: EvaluationOptions, thresholds: Sequence[float] | None = None
) -> dict[str, DecisionCurve]:
    """Return the decision curve for osteoporosis of each model of one cohort that has its probability."""
    return {
        predictions.model: decision_curve(
            predictions.is_class(TARGET),
            predictions.probabilities[:, predictions.classes.index(TARGET)],
            thresholds,
            groups=groups_of(predictions),
            resamples=options.resamples,
            seed=options.seed,
            level=options.level,
        )
        for predictions in sets
        if predictions.probabilities is not None
    }


def decision_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return the net benefit of acting on the probability of osteoporosis at ``NET_BENEFIT_AT``."""
    table = ResultTable(
        "decision",
        "Net benefit of acting on the probability of osteoporosis, in true positives per 100 images",
        (
            *WHO_COLUMNS,
            Column("threshold", "Threshold probability", 2),
            Column("net_benefit", "Net benefit", 1),
            Column("treat_all", "Act on all", 1),
            Column("avoided", "Net interventions avoided per 100", 1),
            Column("verdict", "Most benefit"),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for predictions in sets:
        curve = decision_curves([predictions], options, NET_BENEFIT_AT).get(predictions.model)
        if curve is None:
            continue
        for i, threshold in enumerate(NET_BENEFIT_AT):
            value, treat_all = 100 * float(curve.net_benefit[i]), 100 * float(curve.treat_all[i])
            best = {"the model": value, "acting on all": treat_all, "acting on none": 0.0}
            rows.append(
                {
                    **who(predictions),
                    "threshold": threshold,
                    "net_benefit": Interval(value, 100 * float(curve.low[i]), 100 * float(curve.high[i])),
                    "treat_all": treat_all,
                    "avoided": 100 * float(curve.interventions_avoided[i]),
                    "verdict": max(best, key=lambda name: best[name]),
                }
            )
    notes.append(
        "Net benefit counts a false positive as t / (1 - t) of a true positive, t the threshold probability; "
        "poorly calibrated probabilities reduce it."
    )
    return table.filled(rows, notes)
