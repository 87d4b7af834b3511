"""Figures of an evaluation report with their captions, one set for each cohort."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.drawing import Picture
from osteo_monai.reporting.evaluation import figures, tables
from osteo_monai.reporting.evaluation.options import EvaluationOptions, label
from osteo_monai.reporting.publishing import publish_figure
from osteo_monai.statistics.calibration import Calibration
from osteo_monai.statistics.classification import ClassPerformance
from osteo_monai.statistics.precision_recall import PrecisionRecall

__all__ = ["draw_cohort"]

_Add = Callable[[str, Figure, str, str, int], None]


def draw_cohort(
    sets: Sequence[tuple[Predictions, ClassPerformance | None]],
    calibrations: Sequence[tuple[Predictions, str, Calibration]],
    curves: tables.Curves,
    precisions: tables.Precisions,
    models: Sequence[str],
    options: EvaluationOptions,
    notice: str,
    folder: Path,
) -> dict[str, Picture]:
    """Draw and save the figures of one cohort.

    Args:
        sets: predictions of each model in this cohort, with the performance of its predicted classes.
        calibrations: of all cohorts.
        curves: flexible calibration curves of all cohorts.
        precisions: precision-recall curves of all cohorts.
        models: all models, which fixes their colours.
        options: of the evaluation.
        notice: printed on the figures and before their captions, such as "Virtual patients"; may be empty.
        folder: for the files.

    Returns:
        Figures by name, in the order of the report.
    """
    pictures: dict[str, Picture] = {}
    cohort = sets[0][0].cohort
    prefix = f"{notice}. " if notice else ""

    def add(name: str, figure: Figure, alt: str, caption: str, width: int) -> None:
        pictures[name] = publish_figure(figure, folder, name, alt, prefix + caption, width)

    cohort_sets = [predictions for predictions, _ in sets]
    _draw_roc(cohort_sets, models, options, notice, add)
    _draw_precision(cohort, {m: c for (m, of), c in precisions.items() if of == cohort}, models, options, notice, add)
    _draw_confusion(sets, notice, add)
    _draw_reliability([c for c in calibrations if c[0].cohort == cohort], curves, models, options, notice, add)
    _draw_decision(cohort_sets, models, options, notice, add)
    for predictions in cohort_sets:
        _draw_agreement(predictions, models, options, notice, add)
    return pictures


def _draw_roc(
    sets: Sequence[Predictions], models: Sequence[str], options: EvaluationOptions, notice: str, add: _Add
) -> None:
    lines = tables.roc_lines(sets, options)
    if lines:
        cohort = label(sets[0].cohort)
        add(
            f"roc_{sets[0].cohort}",
            figures.roc_figure(lines, models, notice.lower()),
            f"ROC curves of each class against the rest, cohort {cohort}",
            f"ROC curves, {cohort}. Bands: pointwise {100 * options.level:g} % from bootstrap samples of subjects.",
            360 * len(lines),
        )


def _draw_precision(
    cohort: str,
    curves: Mapping[str, PrecisionRecall],
    models: Sequence[str],
    options: EvaluationOptions,
    notice: str,
    add: _Add,
) -> None:
    if curves:
        add(
            f"precision_{cohort}",
            figures.precision_figure(curves, models, notice.lower()),
            f"Precision-recall curves for osteoporosis, cohort {label(cohort)}",
            f"Precision (PPV) against recall (sensitivity) for osteoporosis, {label(cohort)}, with the average "
            f"precision (AP) and its {100 * options.level:g} % interval. Dotted: share of osteoporosis, the precision "
            "of a score without information. The curve depends on this share.",
            380,
        )


def _draw_confusion(sets: Sequence[tuple[Predictions, ClassPerformance | None]], notice: str, add: _Add) -> None:
    matrices = {p.model: (decided.classes, decided.matrix) for p, decided in sets if decided is not None}
    if matrices:
        cohort = label(sets[0][0].cohort)
        add(
            f"confusion_{sets[0][0].cohort}",
            figures.confusion_figure(matrices, notice.lower()),
            f"Confusion matrices, cohort {cohort}",
            f"Confusion matrices, {cohort}: images, and share of the true class.",
            960 if len(matrices) not in (1, 2, 4) else 330 * min(2, len(matrices)),
        )


def _draw_reliability(
    calibrations: Sequence[tuple[Predictions, str, Calibration]],
    curves: tables.Curves,
    models: Sequence[str],
    options: EvaluationOptions,
    notice: str,
    add: _Add,
) -> None:
    by_class: dict[str, list[figures.Reliability]] = {}
    for predictions, name, calibration in calibrations:
        curve = curves[predictions.model, predictions.cohort, name]
        assert predictions.probabilities is not None  # the calibration is theirs
        chance = predictions.probabilities[:, predictions.classes.index(name)]
        by_class.setdefault(name, []).append(
            (predictions.model, calibration, None if isinstance(curve, str) else curve, chance)
        )
    if by_class:
        cohort = label(calibrations[0][0].cohort)
        add(
            f"reliability_{calibrations[0][0].cohort}",
            figures.reliability_figure(by_class, models, notice.lower()),
            f"Reliability diagrams, cohort {cohort}",
            f"Reliability, {cohort}: mean predicted probability against the observed share in bins between quantiles, "
            f"with {100 * options.level:g} % intervals, and flexible calibration curve with its band; the diagonal is "
            "ideal. Below: distribution of the probabilities.",
            360 * len(by_class),
        )


def _draw_decision(
    sets: Sequence[Predictions], models: Sequence[str], options: EvaluationOptions, notice: str, add: _Add
) -> None:
    curves = tables.decision_curves(sets, options)
    if curves:
        cohort = label(sets[0].cohort)
        add(
            f"decision_{sets[0].cohort}",
            figures.decision_figure(curves, models, notice.lower()),
            f"Decision curves for osteoporosis, cohort {cohort}",
            f"Decision curves for osteoporosis, {cohort}. Bands: {100 * options.level:g} % from bootstrap samples of "
            "subjects.",
            560,
        )


def _draw_agreement(
    predictions: Predictions, models: Sequence[str], options: EvaluationOptions, notice: str, add: _Add
) -> None:
    agreement = tables.agreements(predictions, options).get(("all", ""))
    if agreement is None or predictions.predicted_density is None:
        return
    rows, index, cohort = tables.with_density(predictions), models.index(predictions.model), label(predictions.cohort)
    figure = figures.agreement_figure(
        predictions.density[rows],
        predictions.predicted_density[rows],
        agreement,
        options.thresholds,
        figures.line_of(index)["color"],
        notice.lower(),
    )
    add(
        f"agreement_{predictions.cohort}_{index + 1}",
        figure,
        f"Predicted against reference density and Bland-Altman plot of {predictions.model}, cohort {cohort}",
        f"Density by {predictions.model}, {cohort}. Left: identity line, and the cut-offs of the classes. Right: bias "
        f"and 95 % limits of agreement, shaded their {100 * options.level:g} % intervals.",
        820,
    )
