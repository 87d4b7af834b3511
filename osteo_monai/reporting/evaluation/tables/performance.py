"""Performance of each class against the rest, over all classes, and confusion matrices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from osteo_monai.data.predictions_schema import STATUS_CLASSES
from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import TARGET, EvaluationOptions, band_samples, groups_of, label, quietly
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import RATES, WHO_COLUMNS, as_interval, who
from osteo_monai.statistics.classification import ClassPerformance, class_performance
from osteo_monai.statistics.ordinal import ordinal_concordance
from osteo_monai.statistics.precision_recall import PrecisionRecall, partial_auc, precision_recall
from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.roc import (
    AUC,
    RocBand,
    RocCurve,
    auc,
    roc_band,
    roc_curve,
)

__all__ = [
    "Precisions",
    "RocLine",
    "class_performances",
    "confusion_table",
    "overall_table",
    "performance_table",
    "precision_curves",
    "precision_table",
    "roc_lines",
]

_NO_SCORE = "the predictions have no score of this class, which an area under the curve requires"


def class_performances(sets: Sequence[Predictions], options: EvaluationOptions) -> list[ClassPerformance | None]:
    """Return the performance of the predicted classes of each model and cohort, ``None`` without such classes."""
    return [
        None
        if predictions.predicted is None
        else class_performance(
            np.array(predictions.classes)[predictions.truth],
            np.array(predictions.classes)[predictions.predicted],
            predictions.classes,
            groups=groups_of(predictions),
            method="wilson" if options.interval == "wilson" else "clopper-pearson",
            level=options.level,
            resamples=options.resamples,
            seed=options.seed,
        )
        for predictions in sets
    ]


def area(predictions: Predictions, name: str, options: EvaluationOptions) -> AUC | None:
    """Return the area of one class against the rest, ``None`` if the model has no score for it."""
    if name not in predictions.scores:
        return None
    return quietly(
        lambda: auc(
            predictions.is_class(name),
            predictions.scores[name],
            options.level,
            groups=groups_of(predictions),
            scale=options.auc_scale,
        )
    )


def performance_table(
    sets: Sequence[Predictions], decided: Sequence[ClassPerformance | None], options: EvaluationOptions
) -> ResultTable:
    """Return area, sensitivity, specificity, predictive values, accuracy and F1 of each class against the rest."""
    table = ResultTable(
        "performance",
        f"Performance of each class against the rest; estimate ({100 * options.level:g} % confidence interval)",
        (
            *WHO_COLUMNS,
            Column("class", "Class"),
            Column("cases", "Cases"),
            Column("n", "of n"),
            Column("auc", "AUC"),
            *(Column(name, heading) for name, heading, _ in RATES),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for predictions, performance in zip(sets, decided, strict=True):
        for name in predictions.reported_classes:
            row: dict[str, Cell] = {**who(predictions), "class": label(name)}
            row |= {"cases": int(predictions.is_class(name).sum()), "n": len(predictions)}
            result = area(predictions, name, options)
            row["auc"] = Missing(_NO_SCORE)
            if result is not None:
                row["auc"] = as_interval(result) if math.isfinite(result.value) else Missing(str(result.warning))
                if result.warning and math.isfinite(result.value):
                    notes.append(
                        f"AUC, {predictions.model}, {label(predictions.cohort)}, {label(name)}: {result.warning}."
                    )
            for rate, _, reason in RATES:
                if performance is None:
                    row[rate] = Missing(predictions.decided_by)
                else:
                    value: Interval = getattr(performance.rates[name], rate)
                    row[rate] = value if math.isfinite(value.value) else Missing(reason)
            rows.append(row)
    return table.filled(rows, notes)


def overall_table(
    sets: Sequence[Predictions], decided: Sequence[ClassPerformance | None], options: EvaluationOptions
) -> ResultTable:
    """Return accuracy over all classes, macro F1 and kappa of each model and cohort with predicted classes."""
    table = ResultTable(
        "overall",
        f"All classes together; estimate ({100 * options.level:g} % confidence interval)",
        (
            *WHO_COLUMNS,
            Column("n", "n"),
            Column("accuracy", "Accuracy"),
            Column("macro_f1", "Macro F1"),
            Column("kappa", "Cohen's kappa"),
            Column("quadratic_kappa", "Quadratically weighted kappa"),
            Column("ordinal", "Ordinal concordance"),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for predictions, performance in zip(sets, decided, strict=True):
        if performance is None:
            continue
        row: dict[str, Cell] = {**who(predictions), "n": len(predictions)}
        ordered = predictions.classes == STATUS_CLASSES
        for name, reason in (
            ("accuracy", ""),
            ("macro_f1", "a class is neither true nor predicted"),
            ("kappa", "chance agreement is complete"),
            # of two classes it is kappa
            *([("quadratic_kappa", "chance agreement is complete")] if ordered else []),
        ):
            value: Interval = getattr(performance, name)
            row[name] = value if math.isfinite(value.value) else Missing(reason)
        if ordered:
            row["ordinal"] = _ordinal(predictions, options)
        rows.append(row)
    if any("ordinal" in row for row in rows):
        notes.append(
            "Ordinal concordance: share of pairs of images of different classes that the expected class (or the "
            "predicted density) ranks correctly; 0.5 is chance."
        )
    return table.filled(rows, notes)


def _ordinal(predictions: Predictions, options: EvaluationOptions) -> Interval | Missing:
    """Return the ordinal concordance of the expected class or the predicted density."""
    if predictions.probabilities is not None:
        score = predictions.probabilities @ np.arange(len(predictions.classes))
    elif predictions.predicted_density is not None:
        score = -predictions.predicted_density
    else:
        return Missing("the predictions have neither three probabilities nor a density")
    found = ordinal_concordance(predictions.truth, score, groups=groups_of(predictions), level=options.level)
    return found if math.isfinite(found.value) else Missing("all cases are of one class")


Precisions = dict[tuple[str, str], PrecisionRecall]
"""Precision-recall curve of osteoporosis of each model (first) and cohort."""


def precision_curves(sets: Sequence[Predictions], options: EvaluationOptions) -> Precisions:
    """Return the curves of the models and cohorts that have scores of osteoporosis and both classes."""
    return {
        (predictions.model, predictions.cohort): precision_recall(
            predictions.is_class(TARGET), predictions.scores[TARGET], **_measured(predictions, options)
        )
        for predictions in sets
        if TARGET in predictions.scores and len(np.unique(predictions.is_class(TARGET))) > 1
    }


def _measured(predictions: Predictions, options: EvaluationOptions) -> dict[str, Any]:
    return {
        "groups": groups_of(predictions),
        "resamples": min(options.resamples, _MEASURED_SAMPLES),
        "seed": options.seed,
        "level": options.level,
    }


def precision_table(sets: Sequence[Predictions], curves: Precisions, options: EvaluationOptions) -> ResultTable:
    """Return average precision and partial area of osteoporosis."""
    table = ResultTable(
        "precision",
        f"Precision and recall, and area at specificities of {PARTIAL_FROM:g} or more, for osteoporosis",
        (
            *WHO_COLUMNS,
            Column("prevalence", "Share of osteoporosis"),
            Column("average_precision", "Average precision"),
            Column("partial_auc", "Partial AUC"),
        ),
    )
    rows: list[Row] = []
    for predictions in sets:
        found = curves.get((predictions.model, predictions.cohort))
        if found is None:
            continue
        truth, score = predictions.is_class(TARGET), predictions.scores[TARGET]
        partial = partial_auc(truth, score, PARTIAL_FROM, **_measured(predictions, options))
        rows.append(
            {
                **who(predictions),
                "prevalence": found.prevalence,
                "average_precision": found.average,
                "partial_auc": partial,
            }
        )
    notes = [
        "A score without information has an average precision of the share of osteoporosis. Partial area standardised "
        f"to 0.5 (chance) to 1 (McClish 1989). Intervals from up to {_MEASURED_SAMPLES} bootstrap samples of subjects, "
        "none where no sample differs."
    ]
    return table.filled(rows, notes if rows else ())


PARTIAL_FROM = 0.8
"""Specificities of the partial area, as of a screening test that may not send many people to DXA; project custom."""
_MEASURED_SAMPLES = 500


def confusion_table(sets: Sequence[Predictions], decided: Sequence[ClassPerformance | None]) -> ResultTable:
    """Return the confusion matrices, one row per true class."""
    names = [name for name in (*STATUS_CLASSES[:2], "no_osteoporosis", TARGET) if any(name in s.classes for s in sets)]
    table = ResultTable(
        "confusion",
        "Confusion matrices: images of a true class (rows) by predicted class (columns)",
        (
            *WHO_COLUMNS,
            Column("true", "True class"),
            *(Column(f"predicted_{n}", f"Predicted {label(n)}") for n in names),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for predictions, performance in zip(sets, decided, strict=True):
        if performance is not None:
            for name, counts in zip(predictions.classes, performance.matrix, strict=True):
                cells: dict[str, Cell] = {
                    f"predicted_{n}": int(c) for n, c in zip(predictions.classes, counts, strict=True)
                }
                rows.append({**who(predictions), "true": label(name), **cells})
    return table.filled(rows, notes)


@dataclass(frozen=True)
class RocLine:
    """ROC curve of one model for one class, with its area, interval and band, if there is one."""

    model: str
    curve: RocCurve
    area: Interval
    band: RocBand | None


def roc_lines(sets: Sequence[Predictions], options: EvaluationOptions) -> dict[str, list[RocLine]]:
    """Return the ROC curves of the models of one cohort by class; classes without a curve are missing."""
    by_class: dict[str, list[RocLine]] = {}
    for predictions in sets:
        for name in predictions.reported_classes:
            size = area(predictions, name, options)
            if size is None or not math.isfinite(size.value):
                continue
            truth, score = predictions.is_class(name), predictions.scores[name]
            band = None
            if size.variance is not None:
                samples = band_samples(options, len(predictions))
                band = roc_band(truth, score, groups_of(predictions), samples, options.seed, level=options.level)
            line = RocLine(predictions.model, roc_curve(truth, score), as_interval(size), band)
            by_class.setdefault(name, []).append(line)
    return {name: by_class[name] for name in STATUS_CLASSES if name in by_class}
