"""Calibration of probabilities, as predicted and after recalibration at external centres."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import TARGET, EvaluationOptions, groups_of, label
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, PValue, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import WHO_COLUMNS, who
from osteo_monai.reporting.numbers import printed_number
from osteo_monai.statistics.calibration import Calibration, calibration, recalibrate
from osteo_monai.statistics.flexible_calibration import FlexibleCalibration, flexible_calibration
from osteo_monai.statistics.proportions import Interval

__all__ = ["Curves", "calibration_table", "calibrations", "flexible_curves", "flexible_table", "recalibration_table"]


def calibrations(sets: Sequence[Predictions], options: EvaluationOptions) -> list[tuple[Predictions, str, Calibration]]:
    """Return the calibration of each class of each model and cohort with probabilities."""
    return [
        (
            predictions,
            name,
            calibration(
                predictions.is_class(name),
                predictions.probabilities[:, predictions.classes.index(name)],
                groups=groups_of(predictions),
                level=options.level,
                # the model was fitted to the training cohort only
                estimated=2 if predictions.cohort == "training" else 0,
            ),
        )
        for predictions in sets
        if predictions.probabilities is not None
        for name in predictions.reported_classes
    ]


def calibration_table(results: Sequence[tuple[Predictions, str, Calibration]]) -> ResultTable:
    """Return the agreement of probabilities with observed shares."""
    table = ResultTable(
        "calibration",
        "Calibration of the probability of each class: ideal are intercepts of 0, a slope of 1 and O/E of 1",
        (
            *WHO_COLUMNS,
            Column("class", "Class"),
            Column("events", "Cases"),
            Column("n", "of n"),
            Column("mean_predicted", "Mean probability"),
            Column("observed", "Observed"),
            Column("observed_expected", "O/E", 2),
            Column("in_the_large", "Calibration in the large", 2),
            Column("intercept", "Intercept", 2),
            Column("slope", "Slope", 2),
            Column("brier", "Brier"),
            Column("brier_reference", "Brier of the prevalence"),
            Column("ece", "ECE"),
            Column("hosmer_lemeshow_p", "P (Hosmer-Lemeshow)"),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for predictions, name, c in results:
        warning = "; ".join(c.warnings) or "not defined"
        row: dict[str, Cell] = {**who(predictions), "class": label(name), "n": c.n}
        for key in (
            "events",
            "mean_predicted",
            "observed",
            "observed_expected",
            "in_the_large",
            "intercept",
            "slope",
            "brier",
            "brier_reference",
            "ece",
        ):
            value: Cell = getattr(c, key)
            undefined = isinstance(value, Interval) and not math.isfinite(value.value)
            row[key] = Missing(warning) if undefined else value
        row["hosmer_lemeshow_p"] = _no_test(c) if c.hosmer_lemeshow is None else PValue(c.hosmer_lemeshow.p)
        rows.append(row)
    remarks: dict[str, list[str]] = {}
    for predictions, name, c in results:
        for warning in c.warnings:
            if not warning.startswith("no "):
                remarks.setdefault(warning, []).append(
                    f"{predictions.model}, {label(predictions.cohort)}, {label(name)}"
                )
    notes += [f"{'; '.join(places)}: {warning}." for warning, places in remarks.items()]
    return table.filled(rows, notes)


def _no_test(c: Calibration) -> Missing:
    """Return why there is no Hosmer-Lemeshow test."""
    if c.clustered:
        return Missing("the test is of independent images, and subjects have several")
    few = "fewer cases than groups of the test" if c.n < 10 else "too few different probabilities for the test"
    return Missing(few)


Curves = dict[tuple[str, str, str], FlexibleCalibration | str]
"""Flexible curve, or why there is none, by model, cohort and class."""


def flexible_curves(sets: Sequence[Predictions], options: EvaluationOptions) -> Curves:
    """Return the flexible calibration curve of each class with probabilities."""
    return {
        (predictions.model, predictions.cohort, name): flexible_calibration(
            predictions.is_class(name),
            predictions.probabilities[:, predictions.classes.index(name)],
            groups=groups_of(predictions),
            resamples=_curve_samples(options.resamples, len(predictions)),
            seed=options.seed,
            level=options.level,
        )
        for predictions in sets
        if predictions.probabilities is not None
        for name in predictions.reported_classes
    }


def _curve_samples(resamples: int, n: int) -> int:
    """Return the number of bootstrap samples of a curve: 500, fewer for many images, at least 100."""
    return min(resamples, max(100, min(500, 10_000_000 // n)))


def flexible_table(curves: Curves) -> ResultTable:
    """Return the distances of the probabilities from the flexible calibration curve."""
    table = ResultTable(
        "flexible",
        "Distance of probabilities from the flexible calibration curve: mean (ICI), median (E50), 90 % quantile (E90)",
        (
            *WHO_COLUMNS,
            Column("class", "Class"),
            Column("ici", "ICI"),
            Column("e50", "E50"),
            Column("e90", "E90"),
        ),
    )
    rows: list[Row] = []
    for (model, cohort, name), found in curves.items():
        row: dict[str, Cell] = {"cohort": label(cohort), "model": model, "class": label(name)}
        if isinstance(found, str):
            row |= dict.fromkeys(("ici", "e50", "e90"), Missing(found))
        else:
            row |= {"ici": found.ici, "e50": found.e50, "e90": found.e90}
        rows.append(row)
    notes = [
        "Logistic regression on a restricted cubic spline of the logit (Austin and Steyerberg 2019), intervals from "
        "up to 500 bootstrap samples of subjects. The distances are never negative: also perfect probabilities have "
        "intervals above 0."
    ]
    return table.filled(rows, notes if rows else ())


def recalibration_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return the effect of a logistic recalibration at each external centre.

    Each half of the people is corrected by a fit to the other half, so that no probability is corrected by a fit that
    includes it. The ranking hardly changes, and so the areas under the curve do not.
    """
    table = ResultTable(
        "recalibration",
        "Probability of osteoporosis at external centres, as predicted and recalibrated there (each half of the people "
        "by a fit to the other half)",
        (
            *WHO_COLUMNS,
            Column("probability", "Probability"),
            Column("n", "n"),
            Column("mean_predicted", "Mean probability"),
            Column("observed", "Observed"),
            Column("observed_expected", "O/E", 2),
            Column("slope", "Slope", 2),
            Column("brier", "Brier"),
            Column("ece", "ECE"),
            Column("fit", "Intercept and slope of the two fits"),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for predictions in sets:
        if (
            not predictions.cohort.startswith("external")
            or predictions.probabilities is None
            or TARGET not in predictions.classes
        ):
            continue
        positive, p = predictions.is_class(TARGET), predictions.probabilities[:, predictions.classes.index(TARGET)]
        halves = _halves(predictions, options.seed)
        if any(len(set(positive[halves == half])) < 2 for half in (0, 1)):
            notes.append(
                f"{predictions.model}, {label(predictions.cohort)}: too few people of each class for two halves."
            )
            continue
        corrected, fits = np.empty_like(p), []
        for half in (0, 1):
            fitted = recalibrate(positive[halves != half], p[halves != half], predictions.cohort)
            corrected[halves == half] = fitted.apply(p[halves == half])
            fits.append(f"{printed_number(fitted.intercept, 2)}, {printed_number(fitted.slope, 2)}")
            if fitted.warning:
                notes.append(f"{predictions.model}, {label(predictions.cohort)}: {fitted.warning}.")
        for name, values, fit in (("as predicted", p, ""), ("recalibrated", corrected, "; ".join(fits))):
            c = calibration(positive, values, groups=groups_of(predictions), level=options.level, estimated=0)
            warning = Missing("; ".join(c.warnings) or "not defined")
            row: dict[str, Cell] = {**who(predictions), "probability": name, "n": c.n, "fit": fit}
            for key in ("mean_predicted", "observed", "observed_expected", "slope", "brier", "ece"):
                value: Cell = getattr(c, key)
                row[key] = warning if isinstance(value, Interval) and not math.isfinite(value.value) else value
            rows.append(row)
    return table.filled(rows, notes)


def _halves(predictions: Predictions, seed: int) -> np.ndarray:
    """Return 0 or 1 for each row: halves of the subjects, balanced by class; rows of a subject stay together."""
    positive = dict.fromkeys(predictions.subjects.tolist(), False)
    for subject, is_case in zip(predictions.subjects.tolist(), predictions.is_class(TARGET).tolist(), strict=True):
        positive[subject] |= is_case
    ordered = sorted(positive, key=lambda s: (positive[s], hashlib.sha256(f"{seed}/{s}".encode()).digest()))
    half = {subject: rank % 2 for rank, subject in enumerate(ordered)}
    return np.array([half[subject] for subject in predictions.subjects.tolist()])
