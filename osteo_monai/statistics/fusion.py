"""Late fusion of the predictions of several views."""

import csv
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.data.radiograph_items import HEAT_COLUMNS
from osteo_monai.utils.files import writing
from osteo_monai.utils.probability import logit

__all__ = ["fuse_views", "mean_of_logits", "read_risks", "write_rows"]

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
        ValueError: with all problems of the tables.
    """
    problems = [] if len(files) > 1 else [f"files must be tables of at least 2 views, got {len(files)}"]
    tables: list[dict[Subject, list[Row]]] = []
    for file in files:
        try:
            tables.append(_by_subject(read_risks(file)))
        except ValueError as error:
            problems.append(str(error))
    subjects = list(dict.fromkeys(subject for table in tables for subject in table))
    complete = [subject for subject in subjects if all(subject in table for table in tables)]
    problems += _contradictions(tables, complete)
    if not problems and not complete:
        problems.append("at least one subject must have a prediction in every table, got none")
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    fused = []
    for subject in complete:
        views = [float(logit([_risk(row) for row in table[subject]]).mean()) for table in tables]
        row = _with_logit(tables[0][subject][0], sum(views) / len(views)) | {"model": model}
        row.pop("image_id", None)
        fused.append(row)
    if len(complete) < len(subjects):
        count = len(subjects) - len(complete)
        logger.warning("%d of %d subjects have no prediction of some view and are left out", count, len(subjects))
    write_rows(output, fused)
    return len(fused)


def mean_of_logits(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the first row with the mean logit of all rows, without the columns of one network only."""
    return _with_logit(rows[0], float(logit([_risk(row) for row in rows]).mean()))


def read_risks(file: Path) -> list[dict[str, str]]:
    """Read a predictions table of radiographs.

    Raises:
        ValueError: when it cannot be read, or a row has no ``subject_id`` or no ``probability_osteoporosis`` in [0, 1].
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    except OSError:
        raise ValueError(f"{file.name} cannot be read") from None
    for row in rows:
        try:
            is_valid = 0 <= _risk(row) <= 1 and bool(row["subject_id"])
        except (KeyError, TypeError, ValueError):
            is_valid = False
        if not is_valid:
            raise ValueError(f"{file.name} must have a subject_id and a probability_osteoporosis in each row")
    return rows


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a predictions table; its columns are those of all rows, in the order of first appearance."""
    with writing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as lines:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _by_subject(rows: Sequence[Row]) -> dict[Subject, list[Row]]:
    subjects: dict[Subject, list[Row]] = defaultdict(list)
    for row in rows:
        subjects[row.get("cohort", "test"), row["subject_id"]].append(row)
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
