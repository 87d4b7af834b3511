"""Mistakes between the rows of a predictions table: another unit, and rows that were pasted twice."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from osteo_monai.data.predictions_schema import NUMBERS

__all__ = ["doubled_rows", "unit_problems"]

_HIGHEST_G_CM3, _FEWEST_FOR_UNIT = 3.0, 3
"""Of a few densities in mg/cm3 one is above the first; in g/cm3 none is (project custom)."""


def unit_problems(name: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Report columns of density whose values are all as small as densities in g/cm3."""
    problems = []
    for column in ("bmd_mg_cm3", "predicted_bmd_mg_cm3"):
        values = []
        for row in rows:
            with suppress(ValueError):
                values.append(abs(float(row.get(column) or math.nan)))
        known = [value for value in values if math.isfinite(value)]
        if len(known) >= _FEWEST_FOR_UNIT and max(known) < _HIGHEST_G_CM3:
            problems.append(f"{name}: {column} must be in mg/cm3, got values up to {max(known):g}, as in g/cm3")
    return problems


def doubled_rows(rows: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """Report rows that repeat another one with a score in every cell, as after pasting twice."""
    first: dict[tuple[tuple[str, str], ...], str] = {}
    problems = []
    for place, cells in rows:
        if not any(cells.get(column) for column in NUMBERS if column != "bmd_mg_cm3"):
            continue
        earlier = first.setdefault(tuple(sorted(cells.items())), place)
        if earlier != place:
            problems.append(f"{place}: a row must differ from the others, got all cells of {earlier} again")
    return problems
