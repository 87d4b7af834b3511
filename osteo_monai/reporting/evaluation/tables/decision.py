"""Net benefit at threshold probabilities."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.predictions_table import Predictions, common_rows
from osteo_monai.reporting.evaluation.options import TARGET, EvaluationOptions, band_samples, groups_of, label
from osteo_monai.reporting.evaluation.results import Cell, Column, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import WHO_COLUMNS, who
from osteo_monai.statistics.decision import DecisionCurve, decision_curve, net_benefit_difference
from osteo_monai.statistics.proportions import Interval

__all__ = ["NET_BENEFIT_AT", "benefit_table", "decision_curves", "decision_table"]

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
            resamples=band_samples(options, len(predictions)),
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
            Column("against_all", "Difference to acting on all", 1),
            Column("avoided", "Net interventions avoided per 100", 1),
            Column("verdict", "Shown to be best"),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for predictions in sets:
        curve = decision_curves([predictions], options, NET_BENEFIT_AT).get(predictions.model)
        if curve is None:
            continue
        against_all = _differences(predictions, None, options)
        for i, threshold in enumerate(NET_BENEFIT_AT):
            value, treat_all = 100 * float(curve.net_benefit[i]), 100 * float(curve.treat_all[i])
            benefit = Interval(value, 100 * float(curve.low[i]), 100 * float(curve.high[i]))
            rows.append(
                {
                    **who(predictions),
                    "threshold": threshold,
                    "net_benefit": benefit,
                    "treat_all": treat_all,
                    "against_all": against_all[i],
                    "avoided": 100 * float(curve.interventions_avoided[i]),
                    "verdict": _best(benefit, against_all[i]),
                }
            )
    notes.append(
        "Net benefit counts a false positive as t / (1 - t) of a true positive, t the threshold probability; "
        "poorly calibrated probabilities reduce it. The model is shown to be best if the intervals of its net benefit "
        "and of its difference to acting on all are above 0."
    )
    return table.filled(rows, notes)


def _best(benefit: Interval, against_all: Interval) -> str:
    """Return the strategy that is shown to be the best, with the intervals of both differences of the model."""
    if benefit.low > 0 and against_all.low > 0:
        return "the model"
    if against_all.high < 0 and benefit.value - against_all.value > 0:
        return "acting on all, not the model"
    if benefit.high < 0:
        return "acting on none, not the model"
    return "not shown"


def benefit_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return the difference of net benefit of each pair of models of a cohort on their common images."""
    table = ResultTable(
        "benefit",
        "Difference of net benefit, model 1 \N{MINUS SIGN} model 2, in true positives per 100 common images",
        (
            Column("cohort", "Cohort"),
            Column("first", "Model 1"),
            Column("second", "Model 2"),
            Column("images", "n"),
            *(Column(f"at_{t:g}", f"At {100 * t:g} %", 1) for t in NET_BENEFIT_AT),
        ),
    )
    rows: list[Row] = []
    for cohort in dict.fromkeys(predictions.cohort for predictions in sets):
        several = [p for p in sets if p.cohort == cohort and p.probabilities is not None]
        several.sort(key=lambda p: p.model == options.baseline)
        for first, second in combinations(several, 2):
            images = len(common_rows(first, second)[0])
            row: dict[str, Cell] = {
                "cohort": label(cohort), "first": first.model, "second": second.model, "images": images
            }  # fmt: skip
            if images:
                found = _differences(first, second, options)
                row |= {f"at_{t:g}": value for t, value in zip(NET_BENEFIT_AT, found, strict=True)}
                rows.append(row)
    notes = ["Paired bootstrap of subjects; intervals are for each threshold separately."]
    return table.filled(rows, notes if rows else ())


def _differences(first: Predictions, second: Predictions | None, options: EvaluationOptions) -> list[Interval]:
    """Return differences of net benefit per 100 images, to acting on all without ``second``."""
    a, b = (np.arange(len(first)), None) if second is None else common_rows(first, second)
    subjects = first.subjects[a]
    found = net_benefit_difference(
        first.is_class(TARGET)[a],
        _chance(first)[a],
        None if second is None or b is None else _chance(second)[b],
        NET_BENEFIT_AT,
        groups=subjects if len(np.unique(subjects)) < len(subjects) else None,
        resamples=options.resamples,
        seed=options.seed,
        level=options.level,
    )
    return [Interval(100 * x.value, 100 * x.low, 100 * x.high) for x in found]


def _chance(predictions: Predictions) -> NDArray[np.float64]:
    if predictions.probabilities is None:
        raise ValueError("predictions must have probabilities, got none")
    chance: NDArray[np.float64] = predictions.probabilities[:, predictions.classes.index(TARGET)]
    return chance
