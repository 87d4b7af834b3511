"""Reading tables that people wrote: CSV with line numbers, and every problem of a file in one message."""

import csv
from collections.abc import Sequence
from pathlib import Path

from osteo_monai.errors import UnusableInputError

_SHOWN_PROBLEMS = 50

__all__ = ["read_rows", "refuse"]


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise ``UnusableInputError`` with every problem of the file at ``path``, or return where there is none."""
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        lines = [*problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        head = f"'{path.name}' has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"
        raise UnusableInputError("\n  - ".join([head, *lines]))


def read_rows(path: Path, required: Sequence[str]) -> tuple[list[str], list[tuple[int, dict[str, str]]], list[str]]:
    """Read a CSV with commas; empty lines and those that begin with # are comments.

    Args:
        path: of the file, UTF-8.
        required: columns that must be there; names are compared without regard to case.

    Returns:
        The header (other names in lower case), the rows with their line numbers, and the problems of single lines.

    Raises:
        UnusableInputError: where no row can be told from another: no such file, no text, a column missing or twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UnusableInputError(f"there is no file '{path}'") from None
    except (OSError, UnicodeDecodeError):
        raise UnusableInputError(f"'{path.name}' cannot be read as text (UTF-8)") from None
    records, problems = _split_records(text)
    if not records:
        raise UnusableInputError(f"'{path.name}' is empty; it needs the columns {', '.join(required)}")
    known = {name.lower(): name for name in required}
    header = [known.get(name.strip().lower(), name.strip().lower()) for name in records[0][1]]
    wrong = [f"no column {name}" for name in required if name not in header]
    if wrong and len(header) == 1:
        wrong.insert(0, "the first line has one column only (are the columns separated by commas?)")
    twice = sorted({name for name in header if header.count(name) > 1})
    refuse(path, wrong + [f"column {name or '(no name)'} stands twice" for name in twice])
    rows = []
    for line, cells in records[1:]:
        if len(cells) > len(header):
            problems.append(f"line {line}: {len(cells)} fields for {len(header)} columns")
            continue
        padded = [*cells, *[""] * (len(header) - len(cells))]
        rows.append((line, {name: cell.strip() for name, cell in zip(header, padded, strict=True)}))
    return header, rows, problems


def _split_records(text: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Return the records of a CSV, each with the line it stands on, and which lines are no record."""
    kept = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip(" ,;\t") and line[0] != "#"]
    reader = csv.reader([line for _, line in kept], skipinitialspace=True)
    records: list[tuple[int, list[str]]] = []
    problems = []
    used = 0
    for cells in reader:
        line, last = kept[used][0], kept[reader.line_num - 1][0]
        if last > line:
            problems.append(f"line {line}: a quoted field runs on to line {last}")
        else:
            records.append((line, cells))
        used = reader.line_num
    return records, problems
