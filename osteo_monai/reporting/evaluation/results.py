"""Tables of results: cells with intervals or a reason for their absence, as CSV, Markdown, LaTeX and JSON."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from osteo_monai.reporting.numbers import printed_interval, printed_number, printed_p
from osteo_monai.reporting.publishing import json_ready
from osteo_monai.reporting.tables import write_table
from osteo_monai.statistics.proportions import Interval

_DASH = "\N{EN DASH}"

__all__ = ["Cell", "Column", "Missing", "PValue", "ResultTable", "Row"]


@dataclass(frozen=True)
class Missing:
    """A cell without a number; printed as a dash with the reason below the table."""

    reason: str


class PValue(float):
    """A p value; printed with its own format."""


Cell = str | int | float | Interval | PValue | Missing
Row = Mapping[str, Cell]
"""Column name to cell; a missing name is an empty cell."""


@dataclass(frozen=True)
class Column:
    """A column: its name in CSV and JSON, its heading in print, and its decimals."""

    name: str
    heading: str
    digits: int = 3


@dataclass(frozen=True)
class ResultTable:
    """One table of an evaluation.

    Attributes:
        name: stem of its files.
        caption: what it shows.
        columns: its columns.
        rows: cells by column name.
        notes: sentences below it.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()

    def filled(self, rows: Iterable[Row], notes: Iterable[str] = ()) -> "ResultTable":
        """Return this table with rows and notes added."""
        return replace(self, rows=(*self.rows, *rows), notes=(*self.notes, *notes))

    def annotated(self, caption_prefix: str = "", first: Iterable[str] = (), last: Iterable[str] = ()) -> "ResultTable":
        """Return this table with a prefix of its caption, and notes before and after its own."""
        return replace(self, caption=caption_prefix + self.caption, notes=(*first, *self.notes, *last))

    @property
    def headings(self) -> list[str]:
        """Printed headings of the columns that are not empty."""
        return [column.heading for column in self._used()]

    def printed(self) -> list[list[str]]:
        """Return the rows in print; a dash is followed by the letter of its reason."""
        letters = self._reasons()
        return [[_printed(row.get(c.name, ""), c.digits, letters) for c in self._used()] for row in self.rows]

    def printed_notes(self) -> list[str]:
        """Return the notes, then the reasons of the dashes."""
        return [
            *self.notes,
            *(f"[{letter}] {reason[0].upper()}{reason[1:]}." for reason, letter in self._reasons().items()),
        ]

    def write(self, folder: Path) -> None:
        """Write CSV (an interval as three columns, reasons in ``remarks``), Markdown and LaTeX into ``folder``."""
        printed = pd.DataFrame(self.printed(), columns=self.headings)
        exact = pd.DataFrame(self._exact_rows())
        write_table(printed, folder / self.name, self.caption, self.printed_notes(), exact=exact)

    def as_json(self) -> dict[str, Any]:
        """Return caption, notes and rows; a missing number is ``{"missing": reason}``."""
        rows = [
            {c.name: _for_json(row[c.name]) for c in self._used() if c.name in row and row[c.name] != ""}
            for row in self.rows
        ]
        return {"caption": self.caption, "notes": self.notes, "rows": json_ready(rows)}

    def _used(self) -> list[Column]:
        return [c for c in self.columns if any(row.get(c.name, "") != "" for row in self.rows)]

    def _reasons(self) -> dict[str, str]:
        cells = [row[c.name] for row in self.rows for c in self.columns if c.name in row]
        reasons = dict.fromkeys(cell.reason for cell in cells if isinstance(cell, Missing))
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
