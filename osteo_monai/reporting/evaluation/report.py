"""Evaluation of files of predictions: tables, figures, one self-contained HTML report and ``results.json``."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osteo_monai.data.predictions_table import Predictions, read_predictions
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.drawing import Picture
from osteo_monai.reporting.environment import render
from osteo_monai.reporting.evaluation import tables
from osteo_monai.reporting.evaluation.checklists import checklist_tables
from osteo_monai.reporting.evaluation.comparison import (
    Comparison,
    Verdict,
    compare,
    comparison_table,
    differences_table,
    verdicts,
)
from osteo_monai.reporting.evaluation.options import EvaluationOptions
from osteo_monai.reporting.evaluation.pictures import draw_cohort
from osteo_monai.reporting.evaluation.results import Missing, ResultTable
from osteo_monai.reporting.numbers import printed_interval
from osteo_monai.reporting.publishing import json_ready
from osteo_monai.statistics.calibration import Calibration
from osteo_monai.statistics.classification import ClassPerformance
from osteo_monai.statistics.proportions import Interval
from osteo_monai.utils.files import write_json, write_text
from osteo_monai.utils.text import listed

VIRTUAL = "Virtual patients"
_VIRTUAL_NOTE = (
    "All results were measured on simulated scans of virtual patients. They show the performance of the software on "
    "these scans, not its accuracy in real patients."
)

__all__ = ["Evaluation", "evaluate", "evaluation_facts", "write_evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation.

    Attributes:
        options: settings.
        sets: predictions by model and cohort.
        decided: performance of the predicted classes of each of ``sets``, ``None`` without such classes.
        comparisons: of each pair of models.
        calibrations: of each class with probabilities.
        curves: flexible calibration curve of each.
        precisions: precision-recall curves of osteoporosis.
        verdicts: sentences, whether each model beats the baseline.
        tables: by name; only those that have rows.
        virtual: whether the subjects are virtual patients.
    """

    options: EvaluationOptions
    sets: tuple[Predictions, ...]
    decided: tuple[ClassPerformance | None, ...]
    comparisons: tuple[Comparison, ...]
    calibrations: tuple[tuple[Predictions, str, Calibration], ...]
    curves: tables.Curves
    precisions: tables.Precisions
    verdicts: tuple[Verdict, ...]
    tables: dict[str, ResultTable]
    virtual: bool

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models in the order of their files."""
        return tuple(dict.fromkeys(predictions.model for predictions in self.sets))

    def summary(self) -> list[str]:
        """Return one line with the areas of each model and cohort, and the verdicts."""
        lines: dict[str, list[str]] = {}
        for row in self.tables["performance"].rows:
            area = row["auc"]
            text = (
                printed_interval(area)
                if isinstance(area, Interval)
                else f"not computed ({area.reason})"
                if isinstance(area, Missing)
                else "not computed"
            )
            lines.setdefault(f"{row['model']}, {row['cohort']}", []).append(f"{row['class']} {text}")
        areas = [f"{who}: AUC {'; '.join(parts)}" for who, parts in lines.items()]
        return areas + self._absent_classes() + list(self.verdicts)

    def _absent_classes(self) -> list[str]:
        """Return a sentence for each cohort in which a class has no case: measures of this class do not exist there."""
        absent = {}
        for predictions in self.sets:
            names = [name for name in predictions.classes if not predictions.is_class(name).any()]
            if names:
                absent[predictions.cohort] = f"Cohort {predictions.cohort} has no case of {listed(names, 'or')}."
        return list(absent.values())


def evaluate(options: EvaluationOptions) -> Evaluation:
    """Read predictions and compute every table.

    Args:
        options: files and settings.

    Raises:
        UnusableInputError: if a file cannot be used, or the baseline is none of the models.
        ManifestError: the manifest of the checklists has problems.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "model.csv"
        >>> write_text(
        ...     file,
        ...     "subject_id,osteoporosis,probability_osteoporosis\\n"
        ...     "a,1,0.9\\nb,1,0.6\\nc,1,0.3\\nd,0,0.4\\ne,0,0.2\\nf,0,0.1\\n",
        ... )
        >>> evaluation = evaluate(EvaluationOptions((file,), resamples=100))
        >>> round(evaluation.tables["performance"].rows[0]["auc"].value, 3)
        0.889
    """
    sets = read_predictions(options.predictions, options.thresholds)
    models = list(dict.fromkeys(predictions.model for predictions in sets))
    if options.baseline is not None and options.baseline not in models:
        raise UnusableInputError(f"baseline must be one of {', '.join(models)}, got '{options.baseline}'")
    decided = tables.class_performances(sets, options)
    comparisons = compare(sets, options)
    sentences = verdicts(comparisons, options)
    calibrations = tables.calibrations(sets, options)
    curves = tables.flexible_curves(sets, options)
    precisions = tables.precision_curves(sets, options)
    results = [
        tables.subjects_table(sets),
        tables.performance_table(sets, decided, options),
        tables.overall_table(sets, decided, options),
        tables.confusion_table(sets, decided),
        tables.predictive_table(sets, decided, options),
        tables.precision_table(sets, precisions, options),
        comparison_table(comparisons, options),
        differences_table(comparisons, options),
        tables.calibration_table(calibrations),
        tables.flexible_table(curves),
        tables.recalibration_table(sets, options),
        tables.decision_table(sets, options),
        tables.benefit_table(sets, options),
        tables.density_table(sets, options),
        tables.subgroups_table(sets, options),
        tables.interactions_table(sets, options),
        tables.thresholds_table(sets, options),
    ]
    if options.checklist:
        results += checklist_tables(sets, {table.name: table for table in results if table.rows}, options)
    virtual = options.virtual or any(predictions.virtual for predictions in sets)
    prefix, first = (f"{VIRTUAL}. ", [_VIRTUAL_NOTE]) if virtual else ("", [])
    return Evaluation(
        options,
        tuple(sets),
        tuple(decided),
        tuple(comparisons),
        tuple(calibrations),
        curves,
        precisions,
        tuple(sentences),
        {table.name: table.annotated(prefix, first, sentences) for table in results if table.rows},
        virtual,
    )


def write_evaluation(
    options: EvaluationOptions, output: Path, version: str = "", on_stage: Callable[[str], None] = lambda _: None
) -> Evaluation:
    """Evaluate, and write ``report.html``, ``results.json``, ``tables/`` and ``figures/``.

    Args:
        options: files and settings.
        output: folder, made if missing; files of the same names are replaced.
        version: program version, printed in the report.
        on_stage: called with the name of each stage.

    Raises:
        UnusableInputError: if an input file cannot be used; nothing is written then.
        OSError: if ``output`` cannot be written.
    """
    on_stage("reading and computing")
    evaluation = evaluate(options)
    on_stage("tables")
    for table in evaluation.tables.values():
        table.write(output / "tables")
    write_json(output / "results.json", _as_json(evaluation))
    on_stage("figures")
    pictures = _pictures(evaluation, output / "figures")
    on_stage("report")
    html = render(
        "evaluation.html.j2",
        {
            "models": evaluation.models,
            "sources": [path.name for path in options.predictions],
            "options": options,
            "version": version,
            "clustered": any(predictions.repeats for predictions in evaluation.sets),
            "ordinal": any(len(predictions.classes) > 2 for predictions in evaluation.sets),
            "by_density": any(
                predictions.predicted_density is not None or np.isfinite(predictions.density).any()
                for predictions in evaluation.sets
            ),
            "virtual": VIRTUAL if evaluation.virtual else "",
            "virtual_note": _VIRTUAL_NOTE,
            "tables": evaluation.tables,
            "verdicts": evaluation.verdicts,
            # notes of every table, printed once in the report
            "common_notes": {_VIRTUAL_NOTE, *evaluation.verdicts},
            "pictures": pictures,
            "thresholds": options.thresholds,
        },
    )
    write_text(output / "report.html", html)
    return evaluation


def evaluation_facts(evaluation: Evaluation) -> dict[str, float]:
    """Return the finite numbers to track, by ``<model>/<cohort>/<class>/<quantity>``."""
    facts: dict[str, float] = {}
    for name, keys in (
        ("performance", ("auc", "sensitivity", "specificity")),
        ("overall", ("accuracy", "macro_f1", "quadratic_kappa")),
        ("density", ("bias", "mae", "rmse", "ccc", "coverage")),
    ):
        for row in evaluation.tables[name].rows if name in evaluation.tables else ():
            if row.get("subgroup", "all") != "all":
                continue
            for key in keys:
                cell = row.get(key)
                value = cell.value if isinstance(cell, Interval) else cell
                if isinstance(value, float) and math.isfinite(value):
                    parts = [row["model"], row["cohort"], row.get("class", ""), key]
                    facts["/".join(_allowed(str(part)) for part in parts if part)] = value
    return facts


def _allowed(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. ") else "_" for c in text).replace(" ", "_")


def _as_json(evaluation: Evaluation) -> object:
    o = evaluation.options
    options = {
        "baseline": o.baseline,
        "interval": o.interval,
        "holm": o.holm,
        "sensitivity": o.sensitivity,
        "resamples": o.resamples,
        "seed": o.seed,
        "level": o.level,
        "auc_scale": o.auc_scale,
        "margin": o.margin,
        "prevalences": list(o.prevalences),
        "thresholds_mg_cm3": [o.thresholds.osteoporosis_below, o.thresholds.normal_above],
    }
    return json_ready(
        {
            "schema": "osteo_monai evaluation 1",
            "virtual_patients": evaluation.virtual,
            "files": [path.name for path in o.predictions],
            "options": options,
            "models": list(evaluation.models),
            "against_the_baseline": list(evaluation.verdicts),
            "tables": {name: table.as_json() for name, table in evaluation.tables.items()},
        }
    )


def _pictures(evaluation: Evaluation, folder: Path) -> dict[str, Picture]:
    pictures: dict[str, Picture] = {}
    notice = VIRTUAL if evaluation.virtual else ""
    pairs = list(zip(evaluation.sets, evaluation.decided, strict=True))
    for cohort in dict.fromkeys(predictions.cohort for predictions in evaluation.sets):
        sets = [pair for pair in pairs if pair[0].cohort == cohort]
        pictures |= draw_cohort(
            sets,
            evaluation.calibrations,
            evaluation.curves,
            evaluation.precisions,
            evaluation.models,
            evaluation.options,
            notice,
            folder,
        )
    return pictures
