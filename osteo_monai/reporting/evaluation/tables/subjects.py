"""Subjects, images and classes of each cohort."""

from collections.abc import Iterator, Sequence

import numpy as np

from osteo_monai.data.predictions_schema import STATUS_CLASSES
from osteo_monai.data.predictions_table import Predictions
from osteo_monai.reporting.evaluation.options import TARGET, label
from osteo_monai.reporting.evaluation.results import Cell, Column, Missing, ResultTable, Row
from osteo_monai.reporting.evaluation.tables.shared import WHO_COLUMNS, who

__all__ = ["subjects_table"]


def subjects_table(sets: Sequence[Predictions]) -> ResultTable:
    """Return subjects, images, true classes, rows without a prediction, and the rule of the predicted class."""
    table = ResultTable(
        "subjects",
        "Subjects of each cohort, true classes of their images, and the rule of the predicted class",
        (
            *WHO_COLUMNS,
            Column("subjects", "Subjects"),
            Column("images", "Images"),
            *(Column(name, label(name).capitalize()) for name in (*STATUS_CLASSES[:2], "no_osteoporosis", TARGET)),
            Column("unanswered", "Without a prediction"),
            Column("decided_by", "Predicted class"),
        ),
    )
    rows: list[Row] = []
    notes: list[str] = []
    for predictions in sets:
        counts: dict[str, Cell] = {name: int(predictions.is_class(name).sum()) for name in predictions.classes}
        rows.append(
            {
                **who(predictions),
                "subjects": len(np.unique(predictions.subjects)),
                "images": len(predictions),
                **counts,
                "unanswered": predictions.unanswered,
                "decided_by": predictions.decided_by
                if predictions.predicted is not None
                else Missing(predictions.decided_by),
            }
        )
    notes += _notes_on_subjects(sets)
    return table.filled(rows, notes)


def _notes_on_subjects(sets: Sequence[Predictions]) -> Iterator[str]:
    repeated = [predictions for predictions in sets if predictions.repeats]
    if repeated:
        names = ", ".join(f"{predictions.model} ({label(predictions.cohort)})" for predictions in repeated)
        yield (
            f"Subjects have several images in {names}: tables count images; intervals and tests treat images of one "
            "subject as a cluster (clustered variance, bootstrap of subjects)."
        )
    if any(predictions.ordered_images for predictions in repeated):
        yield "Images of one subject without own identifiers are paired between models in the order of the files."
    if any(predictions.unanswered for predictions in sets):
        yield (
            "Rows without any prediction are counted and excluded from all statistics: a model without predictions "
            "for difficult cases appears better than it is."
        )
    cohorts: dict[str, list[Predictions]] = {}
    for predictions in sets:
        cohorts.setdefault(predictions.cohort, []).append(predictions)
    for cohort, several in cohorts.items():
        if len({tuple(np.unique(predictions.subjects)) for predictions in several}) > 1:
            yield f"The models cover different subjects in {label(cohort)}: they are compared on the common ones only."
    if "training" in cohorts:
        yield "Results of the training cohort are those of data that the model was fitted to."
