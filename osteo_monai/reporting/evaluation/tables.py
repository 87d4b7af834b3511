"""The tables of an evaluation: what was measured for each model, cohort and class."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from osteo_monai.data.predictions_schema import STATUS_CLASSES
from osteo_monai.data.predictions_table import Predictions
from osteo_monai.domain import DensityThresholds
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, PValue, ResultTable
from osteo_monai.statistics.agreement import Agreement, agreement, agreement_by
from osteo_monai.statistics.calibration import Calibration, calibration, recalibrate
from osteo_monai.statistics.classification import ClassPerformance, class_performance
from osteo_monai.statistics.decision import DecisionCurve, decision_curve
from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.roc import (
    AUC,
    DegenerateWarning,
    RocBand,
    RocCurve,
    auc,
    roc_band,
    roc_curve,
)
from osteo_monai.statistics.samples import RESAMPLES
from osteo_monai.statistics.thresholds import Threshold, choose_threshold

TARGET = "osteoporosis"
"""The class that screening looks for: cut-offs and net benefit are about it."""

_NO_SCORE = "the predictions hold no score of this class, and an area under the curve needs one"

T = TypeVar("T")


@dataclass(frozen=True)
class EvaluationOptions:
    """What is asked of an evaluation.

    Attributes:
        predictions: CSV files, see ``docs/predictions.md``.
        baseline: name of the model that the others must beat, or ``None``.
        interval: of proportions.
        holm: whether p values of a pair of models are adjusted over its classes.
        sensitivity: that a cut-off chosen on the validation cohort must reach there.
        resamples, seed: of the bootstrap.
        level: confidence level.
        virtual: whether to mark everything as measured on virtual patients; a column ``virtual`` does so too.
        thresholds: of the classes by density.

    Raises:
        ValueError: with every option that cannot be used.
    """

    predictions: tuple[Path, ...]
    baseline: str | None = None
    interval: Literal["wilson", "exact"] = "wilson"
    holm: bool = False
    sensitivity: float = 0.9
    resamples: int = RESAMPLES
    seed: int = 1
    level: float = 0.95
    virtual: bool = False
    thresholds: DensityThresholds = field(default_factory=DensityThresholds)

    def __post_init__(self) -> None:
        problems = []
        if not self.predictions:
            problems.append("at least one file of predictions must be given")
        if len(set(self.predictions)) < len(self.predictions):
            problems.append("a file of predictions is given twice")
        if self.interval not in ("wilson", "exact"):
            problems.append(f"interval must be wilson or exact, got '{self.interval}'")
        if not 0 < self.sensitivity <= 1:
            problems.append(f"sensitivity must lie above 0 and be at most 1, got {self.sensitivity:g}")
        if self.resamples < 100:
            problems.append(f"resamples must be at least 100, got {self.resamples}")
        if self.seed < 0:
            problems.append(f"seed must be 0 or more, got {self.seed}")
        if not 0.5 <= self.level < 1:
            problems.append(f"level must be at least 0.5 and below 1, got {self.level:g}")
        if problems:
            raise ValueError("; ".join(problems))


def label(name: str) -> str:
    """Return a class or cohort as it is printed."""
    return name.replace("_", " ")


def quietly(function: Callable[[], T]) -> T:
    """Call ``function`` without its ``DegenerateWarning``: the same sentence stands in its result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateWarning)
        return function()


def groups_of(one: Predictions) -> np.ndarray | None:
    """The subject of each row where subjects repeat."""
    return one.subjects if one.repeats else None


_WHO = (Column("cohort", "Cohort"), Column("model", "Model"))


def _who(one: Predictions) -> dict[str, Cell]:
    return {"cohort": label(one.cohort), "model": one.model}


# --- who ----------------------------------------------------------------------------------------------------------


def subjects_table(sets: Sequence[Predictions]) -> ResultTable:
    """Return who was evaluated: subjects, images, classes, rows without a prediction, how the class was decided."""
    table = ResultTable(
        "subjects",
        "Subjects of each cohort, true classes of their images, and how a model decides on a class",
        (
            *_WHO,
            Column("subjects", "Subjects"),
            Column("images", "Images"),
            *(Column(name, label(name).capitalize()) for name in (*STATUS_CLASSES[:2], "no_osteoporosis", TARGET)),
            Column("unanswered", "Without a prediction"),
            Column("decided_by", "Class is"),
        ),
    )
    for one in sets:
        counts: dict[str, Cell] = {name: int(one.is_class(name).sum()) for name in one.classes}
        table.rows.append(
            {
                **_who(one),
                "subjects": len(np.unique(one.subjects)),
                "images": len(one),
                **counts,
                "unanswered": one.unanswered,
                "decided_by": one.decided_by if one.predicted is not None else Missing(one.decided_by),
            }
        )
    table.notes += _notes_on_subjects(sets)
    return table


def _notes_on_subjects(sets: Sequence[Predictions]) -> Iterator[str]:
    repeated = [one for one in sets if one.repeats]
    if repeated:
        names = ", ".join(f"{one.model} ({label(one.cohort)})" for one in repeated)
        yield (
            f"Subjects have several images in {names}: tables count images, intervals and tests treat the images of "
            "one subject together (clustered variance, bootstrap of subjects)."
        )
    if any(one.ordered_images for one in repeated):
        yield "Images of one subject that no column tells apart are paired between models in the order of the files."
    if any(one.unanswered for one in sets):
        yield (
            "Rows without any prediction are counted and enter no figure: a model that answers the easy cases alone "
            "looks better than it is."
        )
    cohorts: dict[str, list[Predictions]] = {}
    for one in sets:
        cohorts.setdefault(one.cohort, []).append(one)
    for cohort, several in cohorts.items():
        if len({tuple(np.unique(one.subjects)) for one in several}) > 1:
            yield f"The models cover different subjects in {label(cohort)}: they are compared on the common ones alone."
    if "training" in cohorts:
        yield "Figures of the cohort training are those of data that the model was fitted to."


# --- performance --------------------------------------------------------------------------------------------------


def class_performances(sets: Sequence[Predictions], options: EvaluationOptions) -> list[ClassPerformance | None]:
    """Return what follows from the decisions of each model and cohort, ``None`` where nothing was decided."""
    return [
        None
        if one.predicted is None
        else class_performance(
            np.array(one.classes)[one.truth],
            np.array(one.classes)[one.predicted],
            one.classes,
            groups=groups_of(one),
            method="wilson" if options.interval == "wilson" else "clopper-pearson",
            level=options.level,
            resamples=options.resamples,
            seed=options.seed,
        )
        for one in sets
    ]


_RATES = (
    ("sensitivity", "Se", "there is no case of the class"),
    ("specificity", "Sp", "there is no case beside those of the class"),
    ("ppv", "PPV", "nobody was given the class"),
    ("npv", "NPV", "everybody was given the class"),
    ("accuracy", "Ac", ""),
    ("f1", "F1", "there is no case of the class, and nobody was given it"),
)


def area(one: Predictions, name: str, level: float) -> AUC | None:
    """The area of one class against the rest, ``None`` where the model has no score for it."""
    if name not in one.scores:
        return None
    return quietly(lambda: auc(one.is_class(name), one.scores[name], level, groups=groups_of(one)))


def as_interval(found: AUC) -> Interval:
    """An area with its bounds, ``nan`` where it has none."""
    low, high = (math.nan if bound is None else bound for bound in (found.low, found.high))
    return Interval(found.value, low, high)


def performance_table(
    sets: Sequence[Predictions], decided: Sequence[ClassPerformance | None], options: EvaluationOptions
) -> ResultTable:
    """Return area, sensitivity, specificity, predictive values, accuracy and F1 of each class against the rest."""
    table = ResultTable(
        "performance",
        f"Performance of each class against the rest; estimate ({100 * options.level:g} % confidence interval)",
        (
            *_WHO,
            Column("class", "Class"),
            Column("cases", "Cases"),
            Column("n", "of n"),
            Column("auc", "AUC"),
            *(Column(name, heading) for name, heading, _ in _RATES),
        ),
    )
    for one, performance in zip(sets, decided, strict=True):
        for name in one.reported_classes:
            row: dict[str, Cell] = {**_who(one), "class": label(name)}
            row |= {"cases": int(one.is_class(name).sum()), "n": len(one)}
            found = area(one, name, options.level)
            row["auc"] = Missing(_NO_SCORE)
            if found is not None:
                row["auc"] = as_interval(found) if math.isfinite(found.value) else Missing(str(found.warning))
                if found.warning and math.isfinite(found.value):
                    table.notes.append(f"AUC, {one.model}, {label(one.cohort)}, {label(name)}: {found.warning}.")
            for rate, _, reason in _RATES:
                if performance is None:
                    row[rate] = Missing(one.decided_by)
                else:
                    value: Interval = getattr(performance.rates[name], rate)
                    row[rate] = value if math.isfinite(value.value) else Missing(reason)
            table.rows.append(row)
    return table


def overall_table(
    sets: Sequence[Predictions], decided: Sequence[ClassPerformance | None], options: EvaluationOptions
) -> ResultTable:
    """Return accuracy over all classes, macro F1 and kappa of each model and cohort that decides."""
    table = ResultTable(
        "overall",
        f"All classes together; estimate ({100 * options.level:g} % confidence interval)",
        (
            *_WHO,
            Column("n", "n"),
            Column("accuracy", "Accuracy"),
            Column("macro_f1", "Macro F1"),
            Column("kappa", "Cohen's kappa"),
            Column("quadratic_kappa", "Quadratically weighted kappa"),
        ),
    )
    for one, performance in zip(sets, decided, strict=True):
        if performance is None:
            continue
        row: dict[str, Cell] = {**_who(one), "n": len(one)}
        for name, reason in (
            ("accuracy", ""),
            ("macro_f1", "a class is neither true nor predicted"),
            ("kappa", "chance alone agrees fully"),
            ("quadratic_kappa", "chance alone agrees fully"),
        ):
            value: Interval = getattr(performance, name)
            row[name] = value if math.isfinite(value.value) else Missing(reason)
        table.rows.append(row)
    return table


def confusion_table(sets: Sequence[Predictions], decided: Sequence[ClassPerformance | None]) -> ResultTable:
    """Return the confusion matrices, one row per true class."""
    names = [name for name in (*STATUS_CLASSES[:2], "no_osteoporosis", TARGET) if any(name in s.classes for s in sets)]
    table = ResultTable(
        "confusion",
        "Confusion matrices: images of a true class (rows) by predicted class (columns)",
        (*_WHO, Column("true", "True class"), *(Column(f"predicted_{n}", f"Predicted {label(n)}") for n in names)),
    )
    for one, performance in zip(sets, decided, strict=True):
        if performance is not None:
            for name, counts in zip(one.classes, performance.matrix, strict=True):
                cells: dict[str, Cell] = {f"predicted_{n}": int(c) for n, c in zip(one.classes, counts, strict=True)}
                table.rows.append({**_who(one), "true": label(name), **cells})
    return table


@dataclass(frozen=True)
class RocLine:
    """One model's curve for one class: the curve, its area with interval, and its band where there is one."""

    model: str
    curve: RocCurve
    area: Interval
    band: RocBand | None


def roc_lines(sets: Sequence[Predictions], options: EvaluationOptions) -> dict[str, list[RocLine]]:
    """Return class to the ROC curves of the models of one cohort; a class without a curve is missing."""
    found: dict[str, list[RocLine]] = {}
    for one in sets:
        for name in one.reported_classes:
            size = area(one, name, options.level)
            if size is None or not math.isfinite(size.value):
                continue
            truth, score = one.is_class(name), one.scores[name]
            band = None
            if size.variance is not None:
                band = roc_band(truth, score, groups_of(one), options.resamples, options.seed, level=options.level)
            line = RocLine(one.model, roc_curve(truth, score), as_interval(size), band)
            found.setdefault(name, []).append(line)
    return {name: found[name] for name in STATUS_CLASSES if name in found}


# --- calibration and decision -------------------------------------------------------------------------------------


def calibrations(sets: Sequence[Predictions], options: EvaluationOptions) -> list[tuple[Predictions, str, Calibration]]:
    """Return the calibration of each class of each model and cohort that gives probabilities."""
    return [
        (one, name, calibration(
            one.is_class(name),
            one.probabilities[:, one.classes.index(name)],
            groups=groups_of(one),
            level=options.level,
            # the model was fitted to nothing but the training cohort
            estimated=2 if one.cohort == "training" else 0,
        ))
        for one in sets
        if one.probabilities is not None
        for name in one.reported_classes
    ]  # fmt: skip


def calibration_table(found: Sequence[tuple[Predictions, str, Calibration]]) -> ResultTable:
    """Return how well probabilities agree with what was observed."""
    table = ResultTable(
        "calibration",
        "Calibration of the probability of each class: ideal are intercepts of 0, a slope of 1 and O/E of 1",
        (
            *_WHO,
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
    for one, name, c in found:
        said = "; ".join(c.warnings) or "not defined"
        few = Missing("fewer cases than groups of the test")
        row: dict[str, Cell] = {**_who(one), "class": label(name), "n": c.n}
        for key in ("events", "mean_predicted", "observed", "observed_expected", "in_the_large", "intercept", "slope",
                    "brier", "brier_reference", "ece"):  # fmt: skip
            value: Cell = getattr(c, key)
            undefined = isinstance(value, Interval) and not math.isfinite(value.value)
            row[key] = Missing(said) if undefined else value
        row["hosmer_lemeshow_p"] = few if c.hosmer_lemeshow is None else PValue(c.hosmer_lemeshow.p)
        table.rows.append(row)
    cut = dict.fromkeys(
        f"{one.model}, {label(one.cohort)}, {label(name)}: {said}."
        for one, name, c in found
        for said in c.warnings
        if not said.startswith("no ")
    )
    table.notes += cut
    return table


def recalibration_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return what a logistic recalibration at each external centre changes there.

    Half of its people correct the probabilities of the other half, and the other way round, so that nobody's
    probability is corrected by a fit that knows them. The order of people hardly changes, and so no area does.
    """
    table = ResultTable(
        "recalibration",
        "Probability of osteoporosis at external centres, as it comes and recalibrated there (each half of the people "
        "by the other half)",
        (
            *_WHO,
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
    for one in sets:
        if not one.cohort.startswith("external") or one.probabilities is None or TARGET not in one.classes:
            continue
        positive, p = one.is_class(TARGET), one.probabilities[:, one.classes.index(TARGET)]
        halves = _halves(one, options.seed)
        if any(len(set(positive[halves == half])) < 2 for half in (0, 1)):
            table.notes.append(f"{one.model}, {label(one.cohort)}: too few people of each class to divide them.")
            continue
        corrected, fits = np.empty_like(p), []
        for half in (0, 1):
            fitted = recalibrate(positive[halves != half], p[halves != half], one.cohort)
            corrected[halves == half] = fitted.apply(p[halves == half])
            fits.append(f"{fitted.intercept:.2f}, {fitted.slope:.2f}")
            if fitted.warning:
                table.notes.append(f"{one.model}, {label(one.cohort)}: {fitted.warning}.")
        for name, values, fit in (("as it comes", p, ""), ("recalibrated", corrected, "; ".join(fits))):
            c = calibration(positive, values, groups=groups_of(one), level=options.level, estimated=0)
            said = Missing("; ".join(c.warnings) or "not defined")
            row: dict[str, Cell] = {**_who(one), "probability": name, "n": c.n, "fit": fit}
            for key in ("mean_predicted", "observed", "observed_expected", "slope", "brier", "ece"):
                value: Cell = getattr(c, key)
                row[key] = said if isinstance(value, Interval) and not math.isfinite(value.value) else value
            table.rows.append(row)
    return table


def _halves(one: Predictions, seed: int) -> np.ndarray:
    """0 or 1 of each row: subjects in halves, alike in class; a subject's rows stay together."""
    ill = dict.fromkeys(one.subjects.tolist(), False)
    for subject, has in zip(one.subjects.tolist(), one.is_class(TARGET).tolist(), strict=True):
        ill[subject] |= has
    ordered = sorted(ill, key=lambda s: (ill[s], hashlib.sha256(f"{seed}/{s}".encode()).digest()))
    half = {subject: place % 2 for place, subject in enumerate(ordered)}
    return np.array([half[subject] for subject in one.subjects.tolist()])


NET_BENEFIT_AT = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Threshold probabilities of the table; the figure shows all of them."""


def decision_curves(
    sets: Sequence[Predictions], options: EvaluationOptions, thresholds: Sequence[float] | None = None
) -> dict[str, DecisionCurve]:
    """Return model to its decision curve for osteoporosis, of the models of one cohort that give its probability."""
    return {
        one.model: decision_curve(
            one.is_class(TARGET),
            one.probabilities[:, one.classes.index(TARGET)],
            thresholds,
            groups=groups_of(one),
            resamples=options.resamples,
            seed=options.seed,
            level=options.level,
        )
        for one in sets
        if one.probabilities is not None
    }


def decision_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return the net benefit of acting on the probability of osteoporosis, at a few threshold probabilities."""
    table = ResultTable(
        "decision",
        "Net benefit of acting on the probability of osteoporosis, in true positives per 100 images",
        (
            *_WHO,
            Column("threshold", "Threshold probability", 2),
            Column("net_benefit", "Net benefit", 1),
            Column("treat_all", "Act on all", 1),
            Column("avoided", "Net interventions avoided per 100", 1),
            Column("verdict", "Most benefit"),
        ),
    )
    for one in sets:
        curve = decision_curves([one], options, NET_BENEFIT_AT).get(one.model)
        if curve is None:
            continue
        for i, threshold in enumerate(NET_BENEFIT_AT):
            value, everyone = 100 * float(curve.net_benefit[i]), 100 * float(curve.treat_all[i])
            best = {"the model": value, "acting on all": everyone, "acting on nobody": 0.0}
            table.rows.append({
                **_who(one),
                "threshold": threshold,
                "net_benefit": Interval(value, 100 * float(curve.low[i]), 100 * float(curve.high[i])),
                "treat_all": everyone,
                "avoided": 100 * float(curve.interventions_avoided[i]),
                "verdict": max(best, key=lambda name: best[name]),
            })  # fmt: skip
    table.notes.append(
        "Net benefit counts a false positive as t / (1 - t) of a true positive, t the threshold probability; "
        "probabilities that are badly calibrated lose benefit."
    )
    return table


# --- density ------------------------------------------------------------------------------------------------------

SUBGROUPS = ("kvp", "contrast_phase", "acquisition")


def with_density(one: Predictions) -> np.ndarray:
    """Return the rows that have both a true and a predicted density."""
    if one.predicted_density is None:
        return np.array([], dtype=np.intp)
    return np.flatnonzero(np.isfinite(one.density))


def agreements(one: Predictions, options: EvaluationOptions) -> dict[tuple[str, str], Agreement]:
    """Return the agreement of density of all rows and by factor and value, where a factor has several values."""
    rows = with_density(one)
    if not len(rows) or one.predicted_density is None:
        return {}
    columns = [None if c is None else c[rows] for c in (one.lower, one.upper)]
    reference, predicted, groups = one.density[rows], one.predicted_density[rows], one.subjects[rows]
    repeated = groups if len(np.unique(groups)) < len(groups) else None
    settings: dict[str, Any] = {"level": options.level, "resamples": options.resamples, "seed": options.seed}
    found = {("all", ""): agreement(reference, predicted, *columns, groups=repeated, **settings)}
    factors = {name: _same_numbers(one.facts[name][rows]) for name in SUBGROUPS if name in one.facts}
    factors = {name: values for name, values in factors.items() if len(set(values)) > 1}
    by_factor = agreement_by(factors, reference, predicted, *columns, groups=repeated, **settings)
    return found | {(name, value): a for name, values in by_factor.items() for value, a in values.items()}


def _same_numbers(texts: Iterable[str]) -> list[str]:
    """Write 120 and 120.0 alike."""
    alike = []
    for text in texts:
        try:
            alike.append(f"{float(text):g}")
        except ValueError:
            alike.append(str(text))
    return alike


def density_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return how predicted densities agree with the reference, in all and by subgroup."""
    table = ResultTable(
        "density",
        f"Predicted against reference density, mg/cm3, predicted minus reference; estimate ({100 * options.level:g} % "
        "confidence interval)",
        (
            *_WHO,
            Column("subgroup", "Subgroup"),
            Column("n", "n"),
            Column("bias", "Bias", 1),
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
    few = Missing("too few cases, or densities that do not vary")
    for one in sets:
        for (factor, value), a in agreements(one, options).items():
            row: dict[str, Cell] = {
                **_who(one),
                "subgroup": "all" if factor == "all" else f"{label(factor)} {value}",
                "n": a.n,
            }
            for name in ("bias", "mae", "rmse", "lower_limit", "upper_limit", "pearson", "ccc", "slope"):
                number: Interval = getattr(a, name)
                row[name] = number if math.isfinite(number.value) else few
            if a.coverage is not None and a.interval_width is not None:
                row |= {"coverage": a.coverage, "interval_width": a.interval_width}
            else:
                row["coverage"] = Missing("the predictions hold no interval")
            table.rows.append(row)
        left = len(one) - len(with_density(one))
        if left and one.predicted_density is not None:
            table.notes.append(
                f"{one.model}, {label(one.cohort)}: {left} of {len(one)} images have no reference density: left out."
            )
    return table


# --- cut-offs -----------------------------------------------------------------------------------------------------


def thresholds_table(sets: Sequence[Predictions], options: EvaluationOptions) -> ResultTable:
    """Return what a cut-off that reaches the sensitivity on the validation cohort gives on the others."""
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
    for model in dict.fromkeys(one.model for one in sets):
        own = [one for one in sets if one.model == model]
        chosen = _chosen(own, options)
        if isinstance(chosen, str):
            table.rows.append({"model": model, "cut_off": Missing(chosen)})
            continue
        threshold, kind = chosen
        table.notes += [f"{model}: {said}." for said in threshold.warnings]
        for one in own:
            if one.cohort == "training" or TARGET not in one.scores:
                continue
            if one.score_kinds[TARGET] != kind:
                table.notes.append(
                    f"{model}, {label(one.cohort)}: another kind of score than in the validation cohort."
                )
                continue
            here = one.cohort == "validation"
            rates = threshold.apply(
                one.is_class(TARGET),
                one.scores[TARGET],
                groups=groups_of(one),
                method="wilson" if options.interval == "wilson" else "clopper-pearson",
                level=options.level,
                resamples=options.resamples,
                seed=options.seed,
            )
            row: dict[str, Cell] = {
                "model": model,
                "cut_off": _cut_off(threshold.value, kind),
                "cohort": f"{label(one.cohort)} (chosen here)" if here else label(one.cohort),
                "cases": int(one.is_class(TARGET).sum()),
                "n": len(one),
            }
            for name, _, reason in _RATES[:4]:
                value: Interval = getattr(rates, name)
                row[name] = value if math.isfinite(value.value) else Missing(reason)
            reached = rates.sensitivity.value >= options.sensitivity - 1e-9
            row["reached"] = "by choice" if here else ("yes" if reached else "no")
            table.rows.append(row)
    return table


def _chosen(own: Sequence[Predictions], options: EvaluationOptions) -> tuple[Threshold, str] | str:
    """The cut-off of one model and what its score is, or why there is none."""
    validation = next((one for one in own if one.cohort == "validation"), None)
    if validation is None:
        return (
            "no cut-off: this model has no validation cohort, and a cut-off chosen on the data that it is reported on "
            "would flatter it"
        )
    if TARGET not in validation.scores:
        return "no cut-off: the predictions hold classes only"
    positive = validation.is_class(TARGET)
    if positive.all() or not positive.any():
        return "no cut-off: the validation cohort holds one class only"
    score = validation.scores[TARGET]
    chosen = choose_threshold(
        positive, score, "sensitivity", options.sensitivity, chosen_on="validation", groups=groups_of(validation)
    )
    return chosen, validation.score_kinds[TARGET]


def _cut_off(value: float, kind: str) -> str:
    if kind == "density":
        return f"density at most {-value:.1f} mg/cm3"
    return f"{kind} at least {value:.4g}".replace("-", "\N{MINUS SIGN}")
