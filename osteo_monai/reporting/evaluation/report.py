"""An evaluation from files of predictions to tables, figures, one self-contained HTML report and ``results.json``."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from osteo_monai.data.predictions_table import Predictions, read_predictions
from osteo_monai.errors import UnusableInputError
from osteo_monai.reporting.evaluation import figures, tables
from osteo_monai.reporting.evaluation.comparison import Comparison, compare, comparison_table
from osteo_monai.reporting.evaluation.comparison import verdicts as say_verdicts
from osteo_monai.reporting.evaluation.results import ResultTable
from osteo_monai.reporting.evaluation.tables import EvaluationOptions, label
from osteo_monai.reporting.publishing import Picture, json_ready, printed_interval, publish_figure, report_template
from osteo_monai.statistics.calibration import Calibration
from osteo_monai.statistics.classification import ClassPerformance
from osteo_monai.statistics.proportions import Interval

VIRTUAL = "Virtual patients"
_VIRTUAL_WORDS = (
    "Every figure here was measured on simulated scans of virtual patients. It shows how the software does on them, "
    "and says nothing about its accuracy in people."
)

__all__ = ["Evaluation", "evaluate", "evaluation_facts", "write_evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found.

    Attributes:
        options: what was asked.
        sets: predictions by model and cohort.
        decided: what follows from the decisions of each of ``sets``, ``None`` where nothing was decided.
        comparisons: of each pair of models.
        calibrations: of each class that a model gives probabilities of.
        verdicts: in words, whether each model beats the baseline.
        tables: by name; only those that have rows.
        virtual: whether the subjects are virtual patients.
    """

    options: EvaluationOptions
    sets: tuple[Predictions, ...]
    decided: tuple[ClassPerformance | None, ...]
    comparisons: tuple[Comparison, ...]
    calibrations: tuple[tuple[Predictions, str, Calibration], ...]
    verdicts: tuple[str, ...]
    tables: dict[str, ResultTable]
    virtual: bool

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models in the order of their files."""
        return tuple(dict.fromkeys(one.model for one in self.sets))

    def summary(self) -> list[str]:
        """Return the areas of each model and cohort in one line each, and the verdicts."""
        lines: dict[str, list[str]] = {}
        for row in self.tables["performance"].rows:
            area = row["auc"]
            text = printed_interval(area) if isinstance(area, Interval) else "no score"
            lines.setdefault(f"{row['model']}, {row['cohort']}", []).append(f"{row['class']} {text}")
        return [f"{who}: AUC {'; '.join(parts)}" for who, parts in lines.items()] + list(self.verdicts)


def evaluate(options: EvaluationOptions) -> Evaluation:
    """Read the predictions and compute every table.

    Raises:
        UnusableInputError: where a file cannot be used, or the baseline is none of the models.
    """
    sets = read_predictions(options.predictions, options.thresholds)
    models = list(dict.fromkeys(one.model for one in sets))
    if options.baseline is not None and options.baseline not in models:
        raise UnusableInputError(f"there is no model '{options.baseline}'; the predictions hold {', '.join(models)}")
    decided = tables.class_performances(sets, options)
    comparisons = compare(sets, options)
    verdicts = say_verdicts(comparisons, options)
    calibrations = tables.calibrations(sets, options)
    found = [
        tables.subjects_table(sets),
        tables.performance_table(sets, decided, options),
        tables.overall_table(sets, decided, options),
        tables.confusion_table(sets, decided),
        comparison_table(comparisons, options),
        tables.calibration_table(calibrations),
        tables.recalibration_table(sets, options),
        tables.decision_table(sets, options),
        tables.density_table(sets, options),
        tables.thresholds_table(sets, options),
    ]
    virtual = options.virtual or any(one.virtual for one in sets)
    for table in found:
        if virtual:
            table.caption = f"{VIRTUAL}. {table.caption}"
            table.notes.insert(0, _VIRTUAL_WORDS)
        table.notes += verdicts
    return Evaluation(
        options, tuple(sets), tuple(decided), tuple(comparisons), tuple(calibrations), tuple(verdicts),
        {t.name: t for t in found if t.rows}, virtual,
    )  # fmt: skip


def write_evaluation(
    options: EvaluationOptions, output: Path, version: str = "", on_stage: Callable[[str], None] = lambda _: None
) -> Evaluation:
    """Evaluate, and write ``report.html``, ``results.json``, ``tables/`` and ``figures/``.

    Args:
        options: what is asked.
        output: folder, made if missing; files of the same names are replaced.
        version: of the program, printed in the report.
        on_stage: called with the name of each stage.

    Raises:
        UnusableInputError: where an input file cannot be used; nothing is written then.
        OSError: where ``output`` cannot be written.
    """
    on_stage("reading and computing")
    evaluation = evaluate(options)
    (output / "figures").mkdir(parents=True, exist_ok=True)
    on_stage("tables")
    for table in evaluation.tables.values():
        table.write(output / "tables")
    text = json.dumps(_as_json(evaluation), indent=2, allow_nan=False)
    (output / "results.json").write_text(text + "\n", encoding="utf-8")
    on_stage("figures")
    pictures = _pictures(evaluation, output / "figures")
    on_stage("report")
    template = report_template("evaluation.html.j2")
    html = template.render(
        models=evaluation.models,
        sources=[path.name for path in options.predictions],
        options=options,
        version=version,
        virtual=VIRTUAL if evaluation.virtual else "",
        virtual_words=_VIRTUAL_WORDS,
        tables=evaluation.tables,
        verdicts=evaluation.verdicts,
        # what stands in every table's file stands in the report once
        said={_VIRTUAL_WORDS, *evaluation.verdicts},
        pictures=pictures,
        thresholds=options.thresholds,
    )
    (output / "report.html").write_text(html, encoding="utf-8")
    return evaluation


def evaluation_facts(evaluation: Evaluation) -> dict[str, float]:
    """Return the numbers worth tracking, finite ones only, by ``<model>/<cohort>/<class>/<what>``."""
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


def _as_json(evaluation: Evaluation) -> dict[str, Any]:
    o = evaluation.options
    asked = {
        "baseline": o.baseline,
        "interval": o.interval,
        "holm": o.holm,
        "sensitivity": o.sensitivity,
        "resamples": o.resamples,
        "seed": o.seed,
        "level": o.level,
        "thresholds_mg_cm3": [o.thresholds.osteoporosis_below, o.thresholds.normal_above],
    }
    return json_ready(
        {
            "schema": "osteo_monai evaluation 1",
            "virtual_patients": evaluation.virtual,
            "files": [path.name for path in o.predictions],
            "options": asked,
            "models": list(evaluation.models),
            "against_the_baseline": list(evaluation.verdicts),
            "tables": {name: table.as_json() for name, table in evaluation.tables.items()},
        }
    )


# --- pictures -----------------------------------------------------------------------------------------------------


def _pictures(evaluation: Evaluation, folder: Path) -> dict[str, Picture]:
    drawn: dict[str, Picture] = {}
    before = f"{VIRTUAL}. " if evaluation.virtual else ""

    def add(name: str, figure: Figure, alt: str, caption: str, width: int) -> None:
        drawn[name] = publish_figure(figure, folder, name, alt, before + caption, width)

    for cohort in dict.fromkeys(one.cohort for one in evaluation.sets):
        _draw_cohort(evaluation, cohort, add)
    return drawn


def _draw_cohort(evaluation: Evaluation, cohort: str, add: Callable[[str, Figure, str, str, int], None]) -> None:
    options, models = evaluation.options, evaluation.models
    notice = f"{VIRTUAL.lower()}" if evaluation.virtual else ""
    pairs = [(s, d) for s, d in zip(evaluation.sets, evaluation.decided, strict=True) if s.cohort == cohort]
    sets = [one for one, _ in pairs]
    where = label(cohort)
    lines = tables.roc_lines(sets, options)
    if lines:
        add(f"roc_{cohort}", figures.roc_figure(lines, models, notice),
            f"ROC curves of each class against the rest, cohort {where}",
            f"ROC curves, {where}. Bands: pointwise {100 * options.level:g} % from bootstrap samples of subjects.",
            360 * len(lines))  # fmt: skip
    matrices = {one.model: (d.classes, d.matrix) for one, d in pairs if d is not None}
    if matrices:
        add(f"confusion_{cohort}", figures.confusion_figure(matrices, notice),
            f"Confusion matrices, cohort {where}",
            f"Confusion matrices, {where}: images, and share of the true class.",
            960 if len(matrices) not in (1, 2, 4) else 330 * min(2, len(matrices)))  # fmt: skip
    reliability: dict[str, list[tuple[str, Calibration]]] = {}
    for one, name, c in evaluation.calibrations:
        if one.cohort == cohort:
            reliability.setdefault(name, []).append((one.model, c))
    if reliability:
        add(f"reliability_{cohort}", figures.reliability_figure(reliability, models, notice),
            f"Reliability diagrams, cohort {where}",
            f"Reliability, {where}: mean predicted probability against the observed share in bins between quantiles, "
            f"with {100 * options.level:g} % intervals; the diagonal is ideal.", 360 * len(reliability))  # fmt: skip
    curves = tables.decision_curves(sets, options)
    if curves:
        add(f"decision_{cohort}", figures.decision_figure(curves, models, notice),
            f"Decision curves for osteoporosis, cohort {where}",
            f"Decision curves for osteoporosis, {where}. Bands: {100 * options.level:g} % from bootstrap samples of "
            "subjects.", 560)  # fmt: skip
    for one in sets:
        rows = tables.with_density(one)
        found = tables.agreements(one, options).get(("all", ""))
        if found is None or one.predicted_density is None:
            continue
        index = models.index(one.model)
        figure = figures.agreement_figure(
            one.density[rows], one.predicted_density[rows], found, options.thresholds, figures.line_of(index)["color"],
            notice,
        )  # fmt: skip
        add(f"agreement_{cohort}_{index + 1}", figure,
            f"Predicted against reference density and Bland-Altman plot of {one.model}, cohort {where}",
            f"Density by {one.model}, {where}. Left: identity line, and the cut-offs of the classes. Right: bias and "
            f"95 % limits of agreement, shaded their {100 * options.level:g} % intervals.", 820)  # fmt: skip
