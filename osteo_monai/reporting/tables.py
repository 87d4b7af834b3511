"""One table in three formats: CSV, Markdown and LaTeX (booktabs)."""

import math
import numbers
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from osteo_monai.utils.files import write_text
from osteo_monai.utils.text import escape_formula

__all__ = ["write_table"]

_DASH, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "\N{DAGGER}": r"$^\dagger$",
    "<": "$<$",
    ">": "$>$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{GREEK SMALL LETTER CHI}": r"$\chi$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
    "\N{SUPERSCRIPT THREE}": "$^3$",
    _MINUS: "$-$",
    _DASH: "--",
}


def write_table(
    frame: pd.DataFrame,
    stem: Path,
    caption: str,
    notes: Sequence[str] = (),
    digits: int = 3,
    exact: pd.DataFrame | None = None,
) -> tuple[Path, Path, Path]:
    """Write ``stem``.csv, ``stem``.md and ``stem``.tex, and return their paths.

    Cells may be text, numbers or missing. The CSV keeps numbers at eight significant digits and leaves missing ones
    empty; the others print floats with ``digits`` decimals and missing ones as a dash. The index is not written.

    Args:
        frame: the table; its column names are the printed head.
        stem: path without suffix; its folder is made if missing. Its name is the LaTeX label (``tab:name``).
        caption: what the table shows, one sentence; not in the CSV.
        notes: sentences below the table; not in the CSV.
        digits: decimals of floats in Markdown and LaTeX.
        exact: other columns and cells for the CSV.

    Raises:
        OSError: if a file cannot be written.
    """
    paths = tuple(stem.with_name(f"{stem.name}.{ending}") for ending in ("csv", "md", "tex"))
    cells = (frame if exact is None else exact).map(_exact)
    write_text(paths[0], cells.to_csv(index=False, lineterminator="\n"))
    head = [str(column) for column in frame.columns]
    rows = [[_printed(cell, digits) for cell in row] for row in frame.itertuples(index=False, name=None)]
    right = [_is_numeric(row[i] for row in rows) for i in range(len(head))]
    write_text(paths[1], _markdown(head, rows, right, caption, notes))
    write_text(paths[2], _latex(head, rows, right, caption, notes, stem.name))
    return paths[0], paths[1], paths[2]


def _missing(cell: Any) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, numbers.Real) and math.isnan(cell))


def _exact(cell: Any) -> str:
    if _missing(cell):
        return ""
    return f"{float(cell):.8g}" if isinstance(cell, numbers.Real) and not _whole(cell) else escape_formula(str(cell))


def _whole(cell: Any) -> bool:
    return isinstance(cell, numbers.Integral)


def _printed(cell: Any, digits: int) -> str:
    if _missing(cell):
        return _DASH
    if isinstance(cell, numbers.Real) and not _whole(cell):
        return f"{float(cell):.{digits}f}".replace("-", _MINUS)
    return str(cell)


def _is_numeric(column: Any) -> bool:
    """Return whether every cell starts like a number or is a dash; such columns are aligned to the right."""
    return all(cell in {"", _DASH} or re.match(rf"^[<>]?\s?[-+{_MINUS}]?\d", cell) for cell in column)


def _markdown(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], caption: str, notes: Sequence[str]
) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rule = "|" + "|".join("---:" if r else "---" for r in right) + "|"
    below = [part for note in notes for part in ("", note)]
    return "\n".join([caption, "", line(head), rule, *map(line, rows), *below]) + "\n"


def _latex(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    caption: str,
    notes: Sequence[str],
    name: str,
) -> str:
    def escaped(text: str) -> str:
        return "".join(_LATEX.get(c, c) for c in text)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(escaped, cells)) + r" \\"

    columns = "".join("r" if r else "l" for r in right)
    below = [rf"\par\smallskip\footnotesize {escaped(note)}" for note in notes]
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        line(head),
        r"\midrule",
        *map(line, rows),
        r"\bottomrule",
        r"\end{tabular}",
        *below,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
