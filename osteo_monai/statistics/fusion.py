"""Late fusion of the predictions of several views."""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.data import HEAT_COLUMNS, read_prediction_rows, write_predictions
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.probability import logit

__all__ = ["fuse_views", "mean_of_logits"]

logger = logging.getLogger(__name__)

Row = Mapping[str, str]
Subject = tuple[str, str]
"""Cohort and subject_id."""


def fuse_views(files: Sequence[Path], output: Path, model: str = "fused views") -> int:
    """Write one predictions table from those of several views, by the mean of the logits.

    The radiographs of one view of a subject are averaged first, then the views with equal weights. Subjects without a
    prediction in every table are left out, so that results of the fusion and of one view can be compared.

    Args:
        files: predictions tables, one a view.
        output: table to write.
        model: name of the fused model in the table.

    Returns:
        Number of subjects written.

    Raises:
        ConfigError: when there are fewer than 2 tables.
        UnusableInputError: with all problems of the tables.
    """
    if len(files) < 2:
        raise ConfigError(f"files must be tables of at least 2 views, got {len(files)}")
    problems: list[str] = []
    tables: list[dict[Subject, list[Row]]] = []
    for file in files:
        try:
            tables.append(_by_subject(read_prediction_rows(file)))
        except UnusableInputError as error:
            problems.append(str(error))
    subjects = list(dict.fromkeys(subject for table in tables for subject in table))
    complete = [subject for subject in subjects if all(subject in table for table in tables)]
    problems += _contradictions(tables, complete)
    if not problems and not complete:
        problems.append("at least one subject must have a prediction in every table, got none")
    if problems:
        raise UnusableInputError("\n".join(dict.fromkeys(problems)))
    fused = []
    for subject in complete:
        views = [float(logit([_risk(row) for row in table[subject]]).mean()) for table in tables]
        row = _with_logit(tables[0][subject][0], sum(views) / len(views)) | {"model": model}
        row.pop("image_id", None)
        fused.append(row)
    if len(complete) < len(subjects):
        count = len(subjects) - len(complete)
        logger.warning("%d of %d subjects have no prediction of some view and are left out", count, len(subjects))
    write_predictions(output, fused)
    return len(fused)


def mean_of_logits(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the first row with the mean logit of all rows, without the columns of one network only."""
    return _with_logit(rows[0], float(logit([_risk(row) for row in rows]).mean()))


def _by_subject(rows: Sequence[Row]) -> dict[Subject, list[Row]]:
    subjects: dict[Subject, list[Row]] = defaultdict(list)
    for row in rows:
        subjects[row["cohort"], row["subject_id"]].append(row)
    return dict(subjects)


def _contradictions(tables: Sequence[Mapping[Subject, Sequence[Row]]], subjects: Sequence[Subject]) -> list[str]:
    """List the cohorts with a subject whose true class differs between rows."""
    problems = []
    for subject in subjects:
        truths = {row.get("osteoporosis", "") for table in tables for row in table[subject]} - {""}
        if len(truths) > 1:
            problems.append(f"osteoporosis of a subject of the cohort {subject[0]} must be the same in all tables")
    return problems


def _risk(row: Row) -> float:
    return float(row["probability_osteoporosis"])


def _with_logit(row: Row, value: float) -> dict[str, Any]:
    kept = {key: text for key, text in row.items() if key not in (*HEAT_COLUMNS, "predicted")}
    return kept | {"probability_osteoporosis": round(1 / (1 + math.exp(-value)), 6)}
