"""Rebuild 2 x 2 tables from printed proportions: all whole-number tables that round to the printed values."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from osteo_monai.data.csv_tables import plain_cell, read_table, refuse, write_table
from osteo_monai.errors import NotEstimableError
from osteo_monai.statistics.meta_analysis.studies import COUNT_COLUMNS, REBUILT

__all__ = ["PRINTED_COLUMNS", "RebuiltTable", "rebuild_studies", "rebuild_table"]

PRINTED_COLUMNS = ("sensitivity", "specificity", "prevalence", "ppv", "npv", "accuracy")
"""Proportions that a table can be rebuilt from; the first two are required."""

_MOST_TABLES = 200_000
_Counts = tuple[int, int, int, int]
_Range = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class RebuiltTable:
    """A table that is not printed but follows from printed values.

    Attributes:
        counts: TP, FP, FN, TN nearest to the printed values.
        tables: number of all tables that round to them.
        ranges: smallest and largest TP, FP, FN and TN among these.
    """

    counts: _Counts
    tables: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def unique(self) -> bool:
        """Whether the printed values determine the table."""
        return self.tables == 1

    def __str__(self) -> str:
        if self.unique:
            return f"{REBUILT} from printed values: the only table"
        cells = ", ".join(
            f"{name} {low}" if low == high else f"{name} {low} to {high}"
            for name, (low, high) in zip(COUNT_COLUMNS, self.ranges, strict=True)
        )
        return f"{REBUILT} from printed values: nearest of {self.tables} tables ({cells})"


def rebuild_table(printed: Mapping[str, str], subjects: int, diseased: int | None = None) -> RebuiltTable:
    """Return the table nearest to printed proportions, and the range of all tables that round to them.

    A proportion is taken as rounded to its last printed digit, up or down at a half.

    Args:
        printed: some of ``PRINTED_COLUMNS`` as printed, such as ``"0.941"`` or ``"94.1%"``; sensitivity, specificity,
            and the prevalence unless ``diseased`` is given.
        subjects: number of all subjects.
        diseased: number of diseased subjects.

    Raises:
        NotEstimableError: if no table rounds to the printed values, or too many do.
        ValueError: on a value that is missing or out of range.

    Example:
        >>> print(rebuild_table({"sensitivity": "0.941", "specificity": "0.948"}, subjects=418, diseased=51))
        rebuilt from printed values: the only table
    """
    ranges = {name: _printed_range(name, text) for name, text in printed.items() if text}
    missing = [name for name in ("sensitivity", "specificity") if name not in ranges]
    if diseased is None and "prevalence" not in ranges:
        missing.append("prevalence or diseased")
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be given")
    if subjects < 2 or (diseased is not None and not 0 < diseased < subjects):
        raise ValueError(f"diseased must be between 1 and subjects - 1, got {diseased} of {subjects}")
    best: tuple[float, _Counts] | None = None
    count, low, high = 0, [subjects] * 4, [0] * 4
    for cells in _candidates(ranges, subjects, diseased):
        distance = _distance(cells, ranges)
        if distance is None:
            continue
        count += 1
        low, high = (
            [min(a, b) for a, b in zip(low, cells, strict=True)],
            [max(*x) for x in zip(high, cells, strict=True)],
        )
        if best is None or distance < best[0]:
            best = distance, cells
    if best is None:
        raise NotEstimableError("no table of whole numbers rounds to the printed values")
    return RebuiltTable(best[1], count, tuple(zip(low, high, strict=True)))


def _printed_range(name: str, text: str) -> _Range:
    """Return the smallest and largest proportion that is printed so."""
    match = re.fullmatch(r"(\d*)\.?(\d*)\s*(%?)", text.strip())
    if match is None or not (match[1] or match[2]):
        raise ValueError(f"{name} must be a proportion such as 0.941 or 94.1%, got '{text[:40]}'")
    unit = Fraction(1, 10 ** len(match[2])) / (100 if match[3] else 1)
    value = int((match[1] or "0") + match[2]) * unit
    if value > 1:
        raise ValueError(f"{name} must be at most 1 or have a percent sign, got '{text[:40]}'")
    return max(value - unit / 2, Fraction(0)), min(value + unit / 2, Fraction(1))


def _whole(bounds: _Range, total: int) -> range:
    """Return the counts of ``total`` whose share is within the bounds."""
    return range(math.ceil(bounds[0] * total), math.floor(bounds[1] * total) + 1)


def _candidates(ranges: Mapping[str, _Range], subjects: int, diseased: int | None) -> Iterator[_Counts]:
    if diseased is not None:
        sizes = range(diseased, diseased + 1)
    else:
        found = _whole(ranges["prevalence"], subjects)
        sizes = range(max(found.start, 1), min(found.stop, subjects))
    pairs = [(n, _whole(ranges["sensitivity"], n), _whole(ranges["specificity"], subjects - n)) for n in sizes]
    tables = sum(len(tps) * len(tns) for _, tps, tns in pairs)
    if tables > _MOST_TABLES:
        raise NotEstimableError(
            f"{tables} tables round to the printed values, more than {_MOST_TABLES}: give more digits or diseased"
        )
    for n, tps, tns in pairs:
        for tp in tps:
            yield from ((tp, subjects - n - tn, n - tp, tn) for tn in tns)


def _distance(cells: _Counts, ranges: Mapping[str, _Range]) -> float | None:
    """Return the sum of squared distances from the printed values in units of rounding; ``None`` outside of one."""
    tp, fp, fn, tn = cells
    parts = {
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "prevalence": (tp + fn, sum(cells)),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "accuracy": (tp + tn, sum(cells)),
    }
    distance = 0.0
    for name, (low, high) in ranges.items():
        events, total = parts[name]
        if total == 0 or not low <= Fraction(events, total) <= high:
            return None
        distance += float((Fraction(events, total) - (low + high) / 2) / (high - low)) ** 2
    return distance


def rebuild_studies(path: Path, output: Path) -> list[RebuiltTable]:
    """Rebuild the table of every row of a file, and write a table of studies for ``read_studies``.

    Args:
        path: CSV with ``study``, ``sensitivity``, ``specificity``, ``subjects`` and ``diseased`` or ``prevalence``;
            optional ``ppv``, ``npv`` and ``accuracy`` narrow the solutions. Other columns are copied.
        output: CSV to write; its column ``derivation`` marks each row as rebuilt, with printed values and ranges.

    Raises:
        UnusableInputError: lists everything wrong, line by line; nothing is written then.
    """
    table = read_table(path, ("study", "sensitivity", "specificity", "subjects"))
    read = {*PRINTED_COLUMNS, "subjects", "diseased", "derivation"}
    copied = [name for name in table.header if name and name not in read and name not in COUNT_COLUMNS]
    problems, rebuilt, rows = list(table.problems), [], []
    for line, cells in table.rows:
        row = cells | {name: plain_cell(cells[name], table.separator) for name in read & cells.keys()}
        try:
            found = rebuild_table(
                {name: row[name] for name in PRINTED_COLUMNS if row.get(name)},
                _whole_number("subjects", row["subjects"]),
                _whole_number("diseased", row["diseased"]) if row.get("diseased") else None,
            )
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        source = ", ".join(
            f"{name} {row[name]}" for name in (*PRINTED_COLUMNS, "subjects", "diseased") if row.get(name)
        )
        rebuilt.append(found)
        rows.append([*(row[name] for name in copied), *found.counts, f"{found}; {source}"])
    if not table.rows and not problems:
        problems.append("no study after the header")
    refuse(path, problems)
    write_table(output, [*copied, *COUNT_COLUMNS, "derivation"], rows)
    return rebuilt


def _whole_number(name: str, text: str) -> int:
    if re.fullmatch(r"\d+", text) is None:
        raise ValueError(f"{name} must be a whole number, got '{text[:40]}'")
    return int(text)
