"""Read CSV tables with line numbers and report all problems of a file in one message; write CSV tables atomically."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.files import write_text

__all__ = ["CSVTable", "read_table", "refuse", "write_table"]

_SHOWN_PROBLEMS = 50
_SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class CSVTable:
    """Content of a CSV file.

    Attributes:
        header: column names, in lower case unless they were required in another form.
        rows: line number and cells by column name, without surrounding blanks.
        problems: one sentence for each line that is not a row; such lines are not in ``rows``.
        separator: character between the columns.
        comments: number of comment lines.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    problems: tuple[str, ...]
    separator: str
    comments: int


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise ``UnusableInputError`` with all problems of the file at ``path``; return if there are none."""
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        lines = [*problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        head = f"'{path.name}' has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"
        raise UnusableInputError("\n  - ".join([head, *lines]))


def read_table(
    path: Path, required: Sequence[str] = (), separators: str = ",", quoted_line_breaks: bool = False
) -> CSVTable:
    """Read a CSV file: UTF-8 with or without byte order mark, header first, lines that begin with ``#`` are comments.

    Lines without any cell are skipped. Column names are compared without regard to case; cells missing at the end of a
    row are empty.

    Args:
        path: the file.
        required: columns that must be present.
        separators: characters that may separate columns; the one most frequent in the header is used.
        quoted_line_breaks: accept line breaks in a quoted cell; they are read as blanks.

    Raises:
        UnusableInputError: no such file, not UTF-8, no header, a column missing or repeated, another separator.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UnusableInputError(f"there is no file '{path}'") from None
    except (OSError, UnicodeDecodeError):
        raise UnusableInputError(f"'{path.name}' cannot be read as text (UTF-8)") from None
    lines = list(enumerate(text.splitlines(), 1))
    content = [(number, line) for number, line in lines if not line.startswith("#")]
    first = next((line for _, line in content if line.strip(" ,;\t")), "")
    separator = max(separators, key=first.count)
    content = [(number, line) for number, line in content if line.strip(f" {separator}")]
    records, problems = _records(content, separator, quoted_line_breaks)
    if not records:
        wanted = f"; it needs the columns {', '.join(required)}" if required else "; the first line must name columns"
        raise UnusableInputError(f"'{path.name}' is empty{wanted}")
    header = _header(path, records[0][1], required, separator)
    problems += [
        f"line {number}: begins with # as a comment does, but has {len(header)} cells as a row; quote the first cell"
        for number, line in lines
        if number > records[0][0]
        and line.startswith("#")
        and len(header) > 1
        and line.count(separator) == len(header) - 1
    ]
    rows = []
    for line_number, cells in records[1:]:
        if len(cells) > len(header):
            problems.append(f"line {line_number}: {len(cells)} fields for {len(header)} columns")
            continue
        padded = [*cells, *[""] * (len(header) - len(cells))]
        rows.append((line_number, {name: cell.strip() for name, cell in zip(header, padded, strict=True)}))
    return CSVTable(header, tuple(rows), tuple(problems), separator, comments=sum(x[1].startswith("#") for x in lines))


def _header(path: Path, cells: Sequence[str], required: Sequence[str], separator: str) -> tuple[str, ...]:
    """Return the column names; refuse a header with missing or repeated columns."""
    spelling = {name.lower(): name for name in required}
    names = [cell.strip().lower() for cell in cells]
    header = tuple(spelling.get(name, name) for name in names)
    problems = [f"no column {name}" for name in required if name not in header]
    if problems and len(header) == 1:
        others = [name for char, name in _SEPARATOR_NAMES.items() if char != separator and char in cells[0]]
        received = f"{others[0]}s" if others else "one column only"
        problems.insert(0, f"columns must be separated by {_SEPARATOR_NAMES[separator]}s, got {received}")
    repeated = sorted({name for name in header if header.count(name) > 1})
    refuse(path, problems + [f"column {name or '(no name)'} is repeated" for name in repeated])
    return header


def _records(
    lines: Sequence[tuple[int, str]], separator: str, quoted_line_breaks: bool
) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Return the records, each with the number of its first line, and the problems of lines that are not records."""
    options: dict[str, Any] = {"delimiter": separator, "skipinitialspace": True}
    texts = [f"{line}\n" for _, line in lines]
    reader = csv.reader(texts, **options)
    records: list[tuple[int, list[str]]] = []
    problems = []
    used = 0
    for cells in reader:
        first, last = lines[used][0], lines[reader.line_num - 1][0]
        if last > first and not quoted_line_breaks:
            problems.append(f"line {first}: a quoted field continues to line {last}")
        elif reader.line_num == len(lines) and not _closes_quotes(texts[used:], options):
            problems.append(f"line {first}: a quote is not closed")
        else:
            records.append((first, [cell.replace("\n", " ") for cell in cells]))
        used = reader.line_num
    return records, problems


def _closes_quotes(lines: Sequence[str], options: Mapping[str, Any]) -> bool:
    try:
        return bool(list(csv.reader(lines, strict=True, **options)))
    except csv.Error:
        return False


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically: UTF-8, commas, ``\\n``.

    ``None`` and NaN give an empty cell, booleans 1 and 0. A first cell that begins with ``#`` is quoted, since
    ``read_table`` takes such lines for comments.

    Raises:
        ValueError: a row does not have one cell for each column, or a cell holds a line break.
    """
    text = io.StringIO()
    for cells in (columns, *rows):
        if len(cells) != len(columns):
            raise ValueError(f"a row must have {len(columns)} cells, got {len(cells)}")
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([_cell(value) for value in cells])
        written = line.getvalue()
        if written.startswith("#"):
            first, comma, others = written[:-1].partition(",")
            written = f'"{first}"{comma}{others}\n'
        text.write(written)
    write_text(path, text.getvalue())


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN of any library is unequal to itself
        return ""
    text = str(int(value)) if isinstance(value, bool) else str(value)
    lines = len(f"{text}.".splitlines())
    if lines > 1:
        raise ValueError(f"a cell must be one line of text, got {lines} lines")
    return text
