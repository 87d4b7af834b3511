"""Mistakes between the rows of a predictions table: another unit, and rows that were pasted twice."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from osteo_monai.data.checks import DENSITY_IN_G_CM3_BELOW
from osteo_monai.data.predictions_schema import NUMBERS
from osteo_monai.utils.text import counted

__all__ = ["doubled_rows", "unit_problems"]

_HIGHEST_OF_OTHER_UNITS, _FEWEST_FOR_UNIT = 5.0, 3
"""No g/cm3, g/cm2 or T-score is above the first, and no column of densities in mg/cm3 is within it: the lowest of Pan's
1,048 subjects is 5.7 (project custom)."""


def unit_problems(name: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Report columns of density that are all as small as in g/cm3, and single such values of the truth."""
    problems = []
    small = []
    for column in ("bmd_mg_cm3", "predicted_bmd_mg_cm3"):
        values = []
        for row in rows:
            with suppress(ValueError):
                values.append(float(row.get(column) or math.nan))
        known = [abs(value) for value in values if math.isfinite(value)]
        if len(known) >= _FEWEST_FOR_UNIT and max(known) <= _HIGHEST_OF_OTHER_UNITS:
            problems.append(
                f"{name}: {column} must be in mg/cm3, got values up to {max(known):g}, as in g/cm3, g/cm2 or T-scores"
            )
        elif column == "bmd_mg_cm3":
            small = [value for value in values if 0 <= value < DENSITY_IN_G_CM3_BELOW]
    if small:
        problems.append(
            f"{name}: bmd_mg_cm3 must be in mg/cm3, or empty if unknown, got {small[0]:g} "
            f"({counted(len(small), 'value')} from 0 to {DENSITY_IN_G_CM3_BELOW:g}, as in g/cm3 or g/cm2)"
        )
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
