"""What comes in: tables of studies, predictions of one's own model, QUADAS-2 judgements, PRISMA counts.

Every reader looks at the whole file first and then names everything that is wrong with it in one message.
"""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import BoneStatus, UnusableInputError

Array = NDArray[np.float64]

COUNT_COLUMNS = ("TP", "FP", "FN", "TN")
NOTE_COLUMNS = ("year", "doi", "source", "note", "derivation")
"""Columns that document a row and are never taken for covariates."""

QUADAS_DOMAINS = ("patient_selection", "index_test", "reference_standard", "flow_and_timing")
QUADAS_CONCERNS = ("patient_selection", "index_test", "reference_standard")
JUDGEMENTS = ("low", "unclear", "high", "not stated")

_SHOWN_PROBLEMS = 50

__all__ = [
    "COUNT_COLUMNS",
    "JUDGEMENTS",
    "QUADAS_CONCERNS",
    "QUADAS_DOMAINS",
    "PrismaFlow",
    "QuadasTable",
    "StudyTable",
    "parse_counts",
    "read_predictions",
    "read_prisma",
    "read_quadas",
    "read_studies",
]


@dataclass(frozen=True)
class StudyTable:
    """One 2 x 2 table per row.

    Attributes:
        studies, models, targets: (k,) labels; tables of one study share subjects or at least investigators.
        tables: (k, 4) TP, FP, FN, TN.
        covariates: name to (k,) values, empty where the row has none.
    """

    studies: tuple[str, ...]
    models: tuple[str, ...]
    targets: tuple[str, ...]
    tables: Array
    covariates: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.studies)

    @property
    def labels(self) -> tuple[str, ...]:
        """Study and model in one line each."""
        return tuple(f"{s}, {m}" if m else s for s, m in zip(self.studies, self.models, strict=True))

    @property
    def distinct_targets(self) -> tuple[str, ...]:
        """Targets in the order of their first row."""
        return tuple(dict.fromkeys(self.targets))

    def of_target(self, target: str) -> "StudyTable":
        """Return the rows of one target."""
        rows = [i for i, t in enumerate(self.targets) if t == target]

        def pick(values: Sequence[str]) -> tuple[str, ...]:
            return tuple(values[i] for i in rows)

        covariates = {name: pick(values) for name, values in self.covariates.items()}
        return StudyTable(pick(self.studies), pick(self.models), pick(self.targets), self.tables[rows], covariates)


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        lines = [*problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
        head = f"'{path.name}' has {len(problems)} problem{'s' if len(problems) > 1 else ''}:"
        raise UnusableInputError("\n  - ".join([head, *lines]))


def _read_rows(path: Path, required: Sequence[str]) -> tuple[list[str], list[tuple[int, dict[str, str]]], list[str]]:
    """Return the header, the rows with their line numbers, and problems; empty lines and those with # are comments."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UnusableInputError(f"there is no file '{path}'") from None
    except (OSError, UnicodeDecodeError):
        raise UnusableInputError(f"'{path.name}' cannot be read as text (UTF-8)") from None
    numbered = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip(" ,;\t") and line[0] != "#"]
    if not numbered:
        raise UnusableInputError(f"'{path.name}' is empty; it needs the columns {', '.join(required)}")
    parsed = list(csv.reader([line for _, line in numbered], skipinitialspace=True))
    if len(parsed) != len(numbered):
        raise UnusableInputError(f"'{path.name}' has a quoted field that runs over several lines")
    header = [name.strip() for name in parsed[0]]
    known = {name.lower(): name for name in required}
    header = [known.get(name.lower(), name.lower()) for name in header]
    missing = [name for name in required if name not in header]
    if missing:
        hint = " (are the columns separated by commas?)" if len(header) == 1 else ""
        _refuse(path, [f"no column {name}{hint}" for name in missing])
    twice = sorted({name for name in header if header.count(name) > 1})
    _refuse(path, [f"column {name or '(no name)'} stands twice" for name in twice])
    rows, problems = [], []
    for (line, _), cells in zip(numbered[1:], parsed[1:], strict=True):
        if len(cells) > len(header):
            problems.append(f"line {line}: {len(cells)} fields for {len(header)} columns")
            continue
        padded = [*cells, *[""] * (len(header) - len(cells))]
        rows.append((line, {name: cell.strip() for name, cell in zip(header, padded, strict=True)}))
    return header, rows, problems


def _count(text: str) -> int | str:
    """Return the count, or what is wrong with it."""
    if text == "":
        return "is empty"
    if re.fullmatch(r"[+-]?\d+(\.0+)?", text) is None:
        return f"is not a whole number: '{text[:40]}'"
    value = int(float(text))
    return value if value >= 0 else f"is negative: {value}"


def _table_problems(counts: dict[str, int | str]) -> list[str]:
    """What is wrong with the four cells of a table."""
    wrong = [f"{name} {value}" for name, value in counts.items() if isinstance(value, str)]
    if not wrong:
        numbers = {name: int(value) for name, value in counts.items()}
        if numbers["TP"] + numbers["FN"] == 0:
            wrong.append("no diseased subject (TP + FN = 0)")
        if numbers["FP"] + numbers["TN"] == 0:
            wrong.append("no healthy subject (FP + TN = 0)")
    return wrong


def read_studies(path: Path) -> StudyTable:
    """Read a table of studies; ``docs/evidence.md`` describes the columns.

    Needed are ``study``, ``TP``, ``FP``, ``FN``, ``TN``; ``model`` and ``target`` are known by name
    (``target`` is osteoporosis where there is no such column); ``year``, ``doi``, ``source``, ``note`` and
    ``derivation`` document; every other column is a covariate.

    Raises:
        UnusableInputError: with everything that is wrong, line by line.
    """
    header, rows, problems = _read_rows(path, ("study", *COUNT_COLUMNS))
    seen: dict[tuple[str, str, str], int] = {}
    keys, tables = [], []
    for line, row in rows:
        counts = {name: _count(row[name]) for name in COUNT_COLUMNS}
        wrong = _table_problems(counts)
        if not row["study"]:
            wrong.append("study has no name")
        key = (row["study"], row.get("model", ""), row.get("target", "").lower() or BoneStatus.OSTEOPOROSIS.value)
        folded = (key[0].casefold(), key[1].casefold(), key[2])
        if folded in seen:
            wrong.append(f"the same study, model and target as line {seen[folded]}")
        seen.setdefault(folded, line)
        problems += [f"line {line}: {what}" for what in wrong]
        keys.append(key)
        tables.append([counts[name] for name in COUNT_COLUMNS])
    if not rows and not problems:
        problems.append("no study below the header")
    _refuse(path, problems)
    known = {"study", "model", "target", *COUNT_COLUMNS, *NOTE_COLUMNS, ""}
    covariates = {name: tuple(row[name] for _, row in rows) for name in header if name not in known}
    studies, models, targets = zip(*keys, strict=True)
    return StudyTable(studies, models, targets, np.array(tables, dtype=np.float64), covariates)


def parse_counts(text: str) -> Array:
    """Return (4,) TP, FP, FN, TN from ``"48,19,3,348"``; raise ``ValueError`` with everything that is wrong."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4:
        raise ValueError(f"counts must be four whole numbers TP,FP,FN,TN, got '{text}'")
    counts = {name: _count(part) for name, part in zip(COUNT_COLUMNS, parts, strict=True)}
    problems = _table_problems(counts)
    if problems:
        raise ValueError(f"counts '{text}': " + "; ".join(problems))
    return np.array([int(value) for value in counts.values()], dtype=np.float64)


def read_predictions(path: Path, target: str = BoneStatus.OSTEOPOROSIS.value) -> dict[str, Array]:
    """Count the 2 x 2 tables of one's own model from a file with one row per subject.

    Columns ``truth`` and ``prediction`` (any others are ignored, but a ``subject_id`` must not repeat): either the
    class names normal, osteopenia, osteoporosis, which gives three one-versus-rest tables, or 0 and 1 for ``target``.

    Returns:
        Target to (4,) TP, FP, FN, TN. A class without cases, or with nothing else, is left out.

    Raises:
        UnusableInputError: with everything that is wrong, line by line; no subject identifier is quoted.
    """
    header, rows, problems = _read_rows(path, ("truth", "prediction"))
    classes, binary = {status.value for status in BoneStatus}, {"0", "1"}
    used = {row[name].lower() for _, row in rows for name in ("truth", "prediction")}
    allowed = classes if used & classes else binary
    seen: dict[str, int] = {}
    for line, row in rows:
        for name in ("truth", "prediction"):
            if row[name].lower() not in allowed:
                wanted = ", ".join(sorted(allowed))
                problems.append(f"line {line}: {name} must be one of {wanted}, got '{row[name][:40]}'")
        if "subject_id" in header:
            if row["subject_id"] in seen:
                problems.append(f"line {line}: the same subject as line {seen[row['subject_id']]}")
            seen.setdefault(row["subject_id"], line)
    if not rows and not problems:
        problems.append("no subject below the header")
    _refuse(path, problems)
    truth = np.array([row["truth"].lower() for _, row in rows])
    called = np.array([row["prediction"].lower() for _, row in rows])
    pairs = [(status.value, status.value) for status in BoneStatus] if allowed is classes else [(target, "1")]
    found = {}
    for name, positive in pairs:
        t, c = truth == positive, called == positive
        if 0 < t.sum() < len(t):
            cells = [(t & c).sum(), (~t & c).sum(), (t & ~c).sum(), (~t & ~c).sum()]
            found[name] = np.array(cells, dtype=np.float64)
    if not found:
        raise UnusableInputError(f"'{path.name}' has subjects of one class only: nothing can be compared")
    return found


# --- quality and flow ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QuadasTable:
    """QUADAS-2 judgements: per study the risk of bias in 4 domains and the applicability concerns in 3."""

    studies: tuple[str, ...]
    risk: tuple[tuple[str, ...], ...]
    concern: tuple[tuple[str, ...], ...]


def read_quadas(path: Path) -> QuadasTable:
    """Read QUADAS-2 judgements: ``study``, the four domains, and the three domains with the prefix ``applicability_``.

    Values are low, unclear, high, or empty for what was not stated.

    Raises:
        UnusableInputError: with everything that is wrong, line by line.
    """
    concerns = tuple(f"applicability_{name}" for name in QUADAS_CONCERNS)
    _, rows, problems = _read_rows(path, ("study", *QUADAS_DOMAINS, *concerns))
    for line, row in rows:
        problems += [
            f"line {line}: {name} must be low, unclear, high or empty, got '{row[name][:40]}'"
            for name in (*QUADAS_DOMAINS, *concerns)
            if row[name].lower() not in (*JUDGEMENTS, "")
        ]
    names = [row["study"] for _, row in rows]
    problems += [f"study '{name}' stands twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if not rows and not problems:
        problems.append("no study below the header")
    _refuse(path, problems)

    def judged(columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(row[c].lower() or "not stated" for c in columns) for _, row in rows)

    return QuadasTable(tuple(names), judged(QUADAS_DOMAINS), judged(concerns))


@dataclass(frozen=True)
class PrismaFlow:
    """Counts of a PRISMA 2020 flow diagram; each mapping gives a reason or a source its number of records."""

    identified: dict[str, int]
    removed: dict[str, int]
    screened: int
    excluded: dict[str, int]
    assessed: int
    excluded_full_text: dict[str, int]
    included: int
    in_meta_analysis: int


_PRISMA_SUMS = (
    ("screened", "identified minus removed"),
    ("assessed", "screened minus excluded"),
    ("included", "assessed minus excluded_full_text"),
)


def read_prisma(path: Path) -> PrismaFlow:
    """Read the counts of a flow diagram from JSON and check that each stage is the one before less what left it.

    Raises:
        UnusableInputError: with everything that is wrong.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnusableInputError(f"there is no file '{path}'") from None
    except (OSError, ValueError):
        raise UnusableInputError(f"'{path.name}' is not JSON") from None
    maps = ("identified", "removed", "excluded", "excluded_full_text")
    numbers = ("screened", "assessed", "included", "in_meta_analysis")
    if not isinstance(held, dict):
        raise UnusableInputError(f"'{path.name}' must hold an object with {', '.join((*maps, *numbers))}")
    problems = [f"no field {name}" for name in (*maps, *numbers) if name not in held]

    def whole(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    for name in maps:
        if name in held and not (isinstance(held[name], dict) and all(whole(v) for v in held[name].values())):
            problems.append(f"{name} must give each reason a whole number of 0 or more")
    problems += [
        f"{name} must be a whole number of 0 or more" for name in numbers if name in held and not whole(held[name])
    ]
    if not problems:
        flow = PrismaFlow(**{name: held[name] for name in (*maps, *numbers)})
        due = (
            sum(flow.identified.values()) - sum(flow.removed.values()),
            flow.screened - sum(flow.excluded.values()),
            flow.assessed - sum(flow.excluded_full_text.values()),
        )
        for (name, rule), number in zip(_PRISMA_SUMS, due, strict=True):
            if held[name] != number:
                problems.append(f"{name} is {held[name]}, but {rule} is {number}")
        if flow.in_meta_analysis > flow.included:
            problems.append(f"in_meta_analysis is {flow.in_meta_analysis}, more than the {flow.included} included")
    _refuse(path, problems)
    return flow
