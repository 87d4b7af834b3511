"""Late fusion of the predictions of several views."""

import csv
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.data.radiograph_items import HEAT_COLUMNS

__all__ = ["fuse_views", "read_risks", "risk_logit", "with_logit", "write_rows"]

logger = logging.getLogger(__name__)


def fuse_views(files: Sequence[Path], output: Path, model: str = "fused views") -> int:
    """Write one table of predictions that joins those of several views: late fusion by the mean of the logits.

    A person's radiographs of one view are averaged first, then the views, each of the same weight. Who does not have
    every view is left out, so that the fused figures and those of a view are not of different people by accident.

    Args:
        files: tables of predictions, one a view.
        output: table to write.
        model: its name in the table.

    Returns:
        The number of people written.

    Raises:
        ValueError: listing all that is wrong with the tables.
    """
    problems = [] if len(files) > 1 else [f"files must be the tables of two or more views, got {len(files)}"]
    tables: list[dict[tuple[str, str], list[dict[str, str]]]] = []
    for file in files:
        people: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
        try:
            for row in read_risks(file):
                people[row.get("cohort", "test"), row["subject_id"]].append(row)
        except ValueError as error:
            problems.append(str(error))
        tables.append(people)
    everybody = list(dict.fromkeys(key for table in tables for key in table))
    both = [key for key in everybody if all(key in table for table in tables)]
    for key in both:
        truths = {row.get("osteoporosis", "") for table in tables for row in table[key]} - {""}
        if len(truths) > 1:
            problems.append(f"the tables disagree on whether a person of the cohort {key[0]} has osteoporosis")
    if not problems and not both:
        problems.append("no person has a prediction in every table")
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    fused = []
    for key in both:
        views = [sum(map(risk_logit, table[key])) / len(table[key]) for table in tables]
        answer = with_logit(tables[0][key][0], sum(views) / len(views)) | {"model": model}
        answer.pop("image_id", None)
        fused.append(answer)
    if len(both) < len(everybody):
        logger.warning("%d of %d people lack a view and are left out", len(everybody) - len(both), len(everybody))
    write_rows(output, fused)
    return len(fused)


def read_risks(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    except OSError:
        raise ValueError(f"{file.name} cannot be read") from None
    for row in rows:
        try:
            inside = 0 <= float(row["probability_osteoporosis"]) <= 1 and bool(row["subject_id"])
        except (KeyError, TypeError, ValueError):
            inside = False
        if not inside:
            raise ValueError(f"{file.name} must have a subject_id and a probability_osteoporosis in each row")
    return rows


def risk_logit(row: Mapping[str, str]) -> float:
    p = min(max(float(row["probability_osteoporosis"]), 1e-6), 1 - 1e-6)  # six decimals are written
    return math.log(p / (1 - p))


def with_logit(row: Mapping[str, str], logit: float) -> dict[str, Any]:
    """A row with another risk, and without what belongs to one network alone."""
    kept = {k: v for k, v in row.items() if k not in (*HEAT_COLUMNS, "predicted")}
    return kept | {"probability_osteoporosis": round(1 / (1 + math.exp(-logit)), 6)}


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        table.writeheader()
        table.writerows(rows)
