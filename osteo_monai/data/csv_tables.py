"""Read CSV tables with line numbers and report all problems of a file in one message; write CSV tables atomically."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.limits import check_file_size, input_limits
from osteo_monai.utils.files import write_text
from osteo_monai.utils.inputs import read_input
from osteo_monai.utils.text import escape_formula, unescape_formula

__all__ = [
    "MISSING_WORDS",
    "CSVTable",
    "optional_number",
    "plain_cell",
    "read_table",
    "refuse",
    "summary_problem",
    "write_table",
]

MISSING_WORDS = frozenset({"na", "n/a", "<na>", "nan", "null"})
"""What R, pandas and NumPy write for a missing value, in lower case."""
_SHOWN_PROBLEMS = 50
_WIDE_BLANKS = re.compile(
    r"[\x00-\x08\v\f\x0e-\x1f\x7f-\x9f\xa0\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]"
)
"""Control characters, and blanks of spreadsheets and web pages: with them one identifier would become two."""
_IDENTITIES = frozenset({"subject_id", "study"})
_SUMMARY = re.compile(
    r"(?:(?:grand |sub-?)?totals?|sum|mean|average|median|sd|standard deviation|overall|range|iqr"
    r"|(?:all|total|number of|mean of|sum of)(?: the)? (?:subjects|patients|people|participants|studies|rows|cases)"
    r"|gesamt|summe|insgesamt|mittelwert|moyenne|somme|media|promedio|suma|totale)"
    r"(?: ?(?:±|\+/-) ?sd)?(?: ?\(.*\)| ?\[.*\])?(?:,? n ?= ?\d+)?[\s:.]*",
    re.IGNORECASE,
)
"""First cell of a row that summarises other rows, in English, German, French, Spanish and Italian."""
_SEPARATORS = ",;\t"


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


def optional_number(name: str, text: str, separator: str) -> float | None:
    """Return the finite number of a cell, ``None`` if it is missing.

    Args:
        name: of the column, for the message.
        text: the cell.
        separator: that of its table, see ``plain_cell``.

    Raises:
        ValueError: naming the column.
    """
    plain = plain_cell(text, separator)
    if not plain:
        return None
    try:
        value = float(plain)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got '{text}'")
    return value


def plain_cell(text: str, separator: str) -> str:
    """Return a cell with a decimal point for a decimal comma, empty for a word of ``MISSING_WORDS``.

    Commas are decimal only if they do not separate the columns of the table.
    """
    if text.lower() in MISSING_WORDS:
        return ""
    return text.replace(",", ".") if separator != "," and re.fullmatch(r"[+-]?\d*,\d+%?", text) else text


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise ``UnusableInputError`` with all problems of the file at ``path``; return if there are none."""
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        lines = [*problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        head = f"'{path.name}' has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"
        raise UnusableInputError("\n  - ".join([head, *lines]))


def read_table(path: Path, required: Sequence[str] = (), quoted_line_breaks: bool = False) -> CSVTable:
    """Read a CSV file: UTF-8 with or without byte order mark, header first, lines that begin with ``#`` are comments.

    Columns are separated by commas, semicolons or tabs, whichever is most frequent in the header; beside semicolons and
    tabs numbers may have decimal commas (``plain_cell``). Lines without any cell are skipped. Column names are compared
    without regard to case; cells missing at the end of a row are empty.

    Args:
        path: the file.
        required: columns that must be present.
        quoted_line_breaks: accept line breaks in a quoted cell; they are read as blanks.

    Raises:
        UnusableInputError: no such file, not UTF-8, no header, a column missing or repeated.
    """
    try:
        check_file_size(path, input_limits().table_bytes)
        text = read_input(path, "utf-8-sig")
    except FileNotFoundError:
        raise UnusableInputError(f"there is no file '{path}'") from None
    except (OSError, UnicodeDecodeError):
        raise UnusableInputError(f"'{path.name}' cannot be read as text (UTF-8)") from None
    # str.splitlines would also end a line at a vertical tab or form feed inside a cell
    lines = list(enumerate(_WIDE_BLANKS.sub(" ", re.sub(r"\r\n?", "\n", text)).split("\n"), 1))
    content = [(number, line) for number, line in lines if not line.startswith("#")]
    first = next((line for _, line in content if line.strip(" ,;\t")), "")
    separator = max(_SEPARATORS, key=first.count)
    content = [(number, line) for number, line in content if line.strip(f" {separator}")]
    records, problems = _records(content, separator, quoted_line_breaks)
    if not records:
        wanted = f"; it needs the columns {', '.join(required)}" if required else "; the first line must name columns"
        raise UnusableInputError(f"'{path.name}' is empty{wanted}")
    header = _header(path, records[0][1], required)
    problems += _hidden_rows(lines, records[0][0], separator, len(header))
    rows = []
    for line_number, cells in records[1:]:
        if len(cells) > len(header):
            problems.append(f"line {line_number}: {len(cells)} fields for {len(header)} columns")
            continue
        texts = [unescape_formula(cell.strip()) for cell in (*cells, *[""] * (len(header) - len(cells)))]
        if problem := _no_row_of_data(header, texts):
            problems.append(f"line {line_number}: {problem}")
            continue
        rows.append((line_number, dict(zip(header, texts, strict=True))))
    return CSVTable(header, tuple(rows), tuple(problems), separator, comments=sum(x[1].startswith("#") for x in lines))


def _hidden_rows(lines: Sequence[tuple[int, str]], first: int, separator: str, columns: int) -> list[str]:
    """Report comment lines below the header that look like rows whose first cell begins with ``#``."""
    return [
        f"line {number}: a row must not begin with #, which marks a comment; put its first cell in quotes"
        for number, line in lines
        if number > first and columns > 1 and re.match(r"#\S", line) and line.count(separator) == columns - 1
    ]


def _no_row_of_data(header: Sequence[str], cells: Sequence[str]) -> str | None:
    """Return why a row is no data: a summary of other rows, or the header again."""
    names = {name.lower() for name in header}
    filled = [(name, cell) for name, cell in zip(header, cells, strict=True) if cell]
    if len(filled) > 1 and all(cell.lower() in names for _, cell in filled):
        return "a row must hold data, got the names of columns again"
    for name, cell in (*filled[:1], *((n, c) for n, c in filled if n.lower() in _IDENTITIES)):
        if name.lower() in _IDENTITIES or name == header[0]:
            problem = summary_problem(cell)
            if problem:
                return problem
    return None


def summary_problem(cell: str) -> str | None:
    """Return a sentence if the name of a row is that of a summary, such as ``Total`` or ``Mean (SD)``."""
    return f"a row must be one subject or study, got a summary ('{cell}')" if _SUMMARY.fullmatch(cell) else None


def _header(path: Path, cells: Sequence[str], required: Sequence[str]) -> tuple[str, ...]:
    """Return the column names; refuse a header with missing or repeated columns."""
    spelling = {name.lower(): name for name in required}
    names = [cell.strip().lower() for cell in cells]
    header = tuple(spelling.get(name, name) for name in names)
    problems = [f"no column {name}" for name in required if name not in header]
    if problems and len(header) == 1:
        problems.insert(0, "columns must be separated by commas, semicolons or tabs, got one column only")
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
        elif last > first and _swallows_rows(cells, separator, records):
            problems.append(f"line {first}: a quoted field continues over other rows to line {last}")
        else:
            records.append((first, [cell.replace("\n", " ") for cell in cells]))
        used = reader.line_num
    return records, problems


def _swallows_rows(cells: Sequence[str], separator: str, records: Sequence[tuple[int, list[str]]]) -> bool:
    """Return whether a quoted cell contains lines with as many separators as rows have: a quote is missing."""
    separators = len(records[0][1]) - 1 if records else 0
    return separators > 0 and any(
        line.count(separator) >= separators for cell in cells if "\n" in cell for line in cell.split("\n")
    )


def _closes_quotes(lines: Sequence[str], options: Mapping[str, Any]) -> bool:
    try:
        return bool(list(csv.reader(lines, strict=True, **options)))
    except csv.Error:
        return False


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically: UTF-8, commas, ``\\n``.

    ``None`` and NaN give an empty cell, booleans 1 and 0; formulas get an apostrophe, which ``read_table`` removes. A
    first cell that begins with ``#`` is quoted, since
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
    return escape_formula(text)
