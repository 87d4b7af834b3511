"""The summary page of a batch, and the table of all fields, from the result files of its studies."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from osteo_monai.data.csv_tables import read_table
from osteo_monai.domain import MineralStandard
from osteo_monai.reporting.batch.rows import (
    OUTCOMES,
    StudyRow,
    age_groups,
    median_seconds,
    outcome_counts,
    reasons,
    row,
)
from osteo_monai.reporting.batch.table import results_table
from osteo_monai.reporting.environment import render
from osteo_monai.reporting.figures import DensityPoint, densities_picture
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.utils.files import write_text
from osteo_monai.utils.inputs import read_input

__all__ = ["PAGE", "TABLE", "write_batch_page"]

PAGE, TABLE = "index.html", "results.parquet"
_LISTS = ("batch.json", "summary.csv", "not_read.csv")
"""Files that the batch writes: the folders of its studies, one row a study, and what no study contains."""


def write_batch_page(folder: Path, studies: Sequence[str] | None = None) -> Path:
    """Write ``index.html`` and ``results.parquet`` of a batch and return the path of the page.

    The page has the number of studies by outcome, the reasons, densities by age and sex, and a row with a link to its
    report for each study. Studies are named by their folder; facts that identify a person are not in a result. The
    table has all fields of all results.

    Args:
        folder: output of ``osteo-monai screen`` with many studies, whole or stopped.
        studies: folders of the studies below ``folder``, such as ``part_1_of_3/a``; those of ``batch.json`` if
            ``None``.

    Raises:
        OSError: if ``batch.json`` cannot be read, or a file cannot be written.
        ValueError: if ``batch.json`` is damaged.
    """
    rows = []
    with results_table(folder / TABLE) as table:
        for name in _studies_of(folder) if studies is None else studies:
            result = _result(folder / name / "result.json")
            if result is not None:
                table.add(name, result)
            rows.append(row(name, result, (folder / name / "report.html").is_file()))
    write_text(folder / PAGE, render("batch.html.j2", _values(folder, rows)))
    return folder / PAGE


def _studies_of(folder: Path) -> Sequence[str]:
    content: Mapping[str, Sequence[str]] = json.loads(read_input(folder / _LISTS[0]))
    return content.get("studies", content["folders"])  # not those of earlier runs with other studies


def _result(path: Path) -> ScreeningResult | None:
    with suppress(OSError, ValueError):
        return ScreeningResult.model_validate_json(read_input(path))
    return None


def _values(folder: Path, rows: Sequence[StudyRow]) -> Mapping[str, object]:
    return {
        "count": len(rows),
        "counts": outcome_counts(rows),
        "refusals": reasons(study.refusals for study in rows),
        "warnings": reasons(study.warnings for study in rows if study.outcome == "accepted_with_warnings"),
        "standards": _by_standard(rows),
        "studies": rows,
        "outcomes": OUTCOMES,
        "quote": quote,
        "not_read": _not_read(folder),
        "files": [name for name in (_LISTS[1], TABLE) if (folder / name).is_file()],
        "seconds": median_seconds(rows),
    }


def _by_standard(rows: Sequence[StudyRow]) -> list[Mapping[str, object]]:
    """Return figure and table of the densities in each standard, which are not comparable."""
    parts: dict[MineralStandard, list[StudyRow]] = defaultdict(list)
    for study in rows:
        if study.standard is not None:
            parts[study.standard].append(study)
    found: list[Mapping[str, object]] = []
    for standard, part in sorted(parts.items()):
        thresholds = {study.thresholds for study in part}
        points = [
            DensityPoint(study.age, study.sex, study.density)
            for study in part
            if study.age is not None and study.density is not None
        ]
        common = thresholds.pop() if len(thresholds) == 1 else None
        found.append(
            {
                "name": str(standard),
                "count": len(part),
                "without_age": len(part) - len(points),
                "picture": densities_picture(points, standard, common) if points else None,
                "groups": age_groups(part),
            }
        )
    return found


def _not_read(folder: Path) -> int:
    """Return the number of entries of the input that no study contains."""
    path = folder / _LISTS[2]
    return len(read_table(path).rows) if path.is_file() else 0
