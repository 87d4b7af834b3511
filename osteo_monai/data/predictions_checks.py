"""Checks of the rows of predictions tables that are right one by one but not together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PredictionRow", "equal_rows", "wrong_unit"]

_LARGEST_OF_OTHER_UNITS = 5.0
"""No g/cm3, g/cm2 or T-score of a person is above this, and no column of densities in mg/cm3 is within it: the lowest
of Pan's 1,048 subjects is 5.7. Choice of this project."""
_DENSITIES_TO_JUDGE = 3


@dataclass(frozen=True)
class PredictionRow:
    """Cells of a row and its place in the files, for messages."""

    place: str
    path: Path
    cells: Mapping[str, str]


def equal_rows(rows: Sequence[PredictionRow]) -> list[str]:
    """Report rows that equal an earlier row of their file in every column: a copy, not a second image."""
    first: dict[tuple[Path, tuple[tuple[str, str], ...]], PredictionRow] = {}
    problems = []
    for row in rows:
        earlier = first.setdefault((row.path, tuple(row.cells.items())), row)
        if earlier is not row:
            problems.append(
                f"{row.place}: equals {earlier.place} in every column; image_id must distinguish images of a subject"
            )
    return problems


def wrong_unit(name: str, rows: Sequence[PredictionRow]) -> list[str]:
    """Report densities of ``name`` that all are of a size that mg/cm3 never has in a whole column."""
    problems = []
    for column in ("bmd_mg_cm3", "predicted_bmd_mg_cm3"):
        values = [float(row.cells[column]) for row in rows if _is_number(row.cells.get(column, ""))]
        if len(values) >= _DENSITIES_TO_JUDGE and max(map(abs, values)) <= _LARGEST_OF_OTHER_UNITS:
            problems.append(
                f"{name}: {column} must be in mg/cm3, got {min(values):g} to {max(values):g}, which is in g/cm3, g/cm2 "
                "or a T-score"
            )
    return problems


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
