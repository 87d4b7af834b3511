"""A table of results: cells that know their interval, or why there is none, and every form they are printed in."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from osteo_monai.reporting.publishing import json_ready, printed_interval, printed_number, printed_p
from osteo_monai.reporting.tables import write_table
from osteo_monai.statistics.proportions import Interval

_DASH = "\N{EN DASH}"

__all__ = ["Cell", "Column", "Missing", "PValue", "ResultTable"]


@dataclass(frozen=True)
class Missing:
    """A cell without a number, and why: printed as a dash with the reason below the table."""

    reason: str


class PValue(float):
    """A p value, printed as one."""


Cell = str | int | float | Interval | PValue | Missing


@dataclass(frozen=True)
class Column:
    """A column: its name in CSV and JSON, its heading in print, and its decimals."""

    name: str
    heading: str
    digits: int = 3


@dataclass
class ResultTable:
    """One table of an evaluation.

    Attributes:
        name: stem of its files.
        caption: what it shows.
        columns: its columns.
        rows: column name to cell; a missing name is an empty cell.
        notes: sentences below it.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: list[Mapping[str, Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def headings(self) -> list[str]:
        """Headings in print, of the columns that hold something."""
        return [column.heading for column in self._used()]

    def printed(self) -> list[list[str]]:
        """Rows as they stand in print; a dash carries the letter of its reason."""
        letters = self._reasons()
        return [[_printed(row.get(c.name, ""), c.digits, letters) for c in self._used()] for row in self.rows]

    def printed_notes(self) -> list[str]:
        """The notes, then the reasons of the dashes."""
        return [
            *self.notes,
            *(f"[{letter}] {reason[0].upper()}{reason[1:]}." for reason, letter in self._reasons().items()),
        ]

    def write(self, folder: Path) -> None:
        """Write CSV (an interval as three columns, reasons in ``remarks``), Markdown and LaTeX below ``folder``."""
        frame = pd.DataFrame(self.printed(), columns=self.headings)
        path = write_table(frame, folder / self.name, self.caption, self.printed_notes())[0]
        pd.DataFrame(self._exact_rows()).to_csv(path, index=False, lineterminator="\n", float_format="%.8g")

    def as_json(self) -> dict[str, Any]:
        """Return caption, notes and rows; reasons stand in the place of numbers as ``{"missing": reason}``."""
        rows = [
            {c.name: _for_json(row[c.name]) for c in self._used() if c.name in row and row[c.name] != ""}
            for row in self.rows
        ]
        return {"caption": self.caption, "notes": self.notes, "rows": json_ready(rows)}

    def _used(self) -> list[Column]:
        return [c for c in self.columns if any(row.get(c.name, "") != "" for row in self.rows)]

    def _reasons(self) -> dict[str, str]:
        found = [row[c.name] for row in self.rows for c in self.columns if c.name in row]
        reasons = dict.fromkeys(cell.reason for cell in found if isinstance(cell, Missing))
        return {reason: _letter(i) for i, reason in enumerate(reasons)}

    def _exact_rows(self) -> list[dict[str, Any]]:
        with_bounds = {c.name for c in self.columns if any(isinstance(row.get(c.name), Interval) for row in self.rows)}
        rows = []
        for row in self.rows:
            cells: dict[str, Any] = {}
            reasons = []
            for column in self._used():
                cell = row.get(column.name, "")
                low, high = math.nan, math.nan
                if isinstance(cell, Missing):
                    reasons.append(f"{column.name}: {cell.reason}")
                    cells[column.name] = None
                elif isinstance(cell, Interval):
                    cells[column.name], low, high = cell.value, cell.low, cell.high
                else:
                    cells[column.name] = cell
                if column.name in with_bounds:
                    cells |= {f"{column.name}_low": low, f"{column.name}_high": high}
            rows.append({**cells, "remarks": "; ".join(reasons)})
        return rows


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else f"a{i - 25}"


def _printed(cell: Cell, digits: int, letters: Mapping[str, str]) -> str:
    if isinstance(cell, Missing):
        return f"{_DASH} [{letters[cell.reason]}]"
    if isinstance(cell, Interval):
        return printed_interval(cell, digits)
    if isinstance(cell, PValue):
        return printed_p(cell)
    if isinstance(cell, float):
        return printed_number(cell, digits)
    return str(cell)


def _for_json(cell: Cell) -> Any:
    return {"missing": cell.reason} if isinstance(cell, Missing) else cell
