"""Readers of study tables, predictions of a model, QUADAS-2 judgements and PRISMA counts.

Each reader checks the whole file and lists everything wrong in one message.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.csv_tables import plain_cell, read_table, refuse
from osteo_monai.data.predictions_table import Predictions, read_predictions
from osteo_monai.domain import BoneStatus
from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.inputs import read_input

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

COUNT_COLUMNS = ("TP", "FP", "FN", "TN")
NOTE_COLUMNS = ("year", "doi", "source", "note", "derivation")
"""Columns that document a row and are not covariates."""

REBUILT = "rebuilt"
"""First word of ``derivation`` where the counts are not printed but follow from printed proportions."""

_TOTALS = ("total", "totals", "sum", "pooled", "overall", "summary", "all studies")

QUADAS_DOMAINS = ("patient_selection", "index_test", "reference_standard", "flow_and_timing")
QUADAS_CONCERNS = ("patient_selection", "index_test", "reference_standard")
JUDGEMENTS = ("low", "unclear", "high", "not stated")

__all__ = [
    "COUNT_COLUMNS",
    "JUDGEMENTS",
    "QUADAS_CONCERNS",
    "QUADAS_DOMAINS",
    "REBUILT",
    "OwnTest",
    "PrismaFlow",
    "QuadasTable",
    "StudyTable",
    "count_predictions",
    "parse_counts",
    "read_prisma",
    "read_quadas",
    "read_studies",
]


@dataclass(frozen=True)
class StudyTable:
    """One 2 x 2 table per row.

    Attributes:
        studies: (k,) names; tables of one study share subjects or investigators.
        models: (k,) names, empty if there is none.
        targets: (k,) what the test is positive for.
        tables: (k, 4) TP, FP, FN, TN.
        covariates: name to (k,) values, empty if the row has none.
        rebuilt: (k,) whether the counts were rebuilt from printed proportions.
    """

    studies: tuple[str, ...]
    models: tuple[str, ...]
    targets: tuple[str, ...]
    tables: Array
    covariates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rebuilt: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.studies)

    @property
    def labels(self) -> tuple[str, ...]:
        """(k,) study and model as one text."""
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
        rebuilt = tuple(self.rebuilt[i] for i in rows) if self.rebuilt else ()
        return StudyTable(
            pick(self.studies), pick(self.models), pick(self.targets), self.tables[rows], covariates, rebuilt
        )


def _count(text: str) -> int | str:
    """Return the count, or a description of the error."""
    if text == "":
        return "is empty"
    if re.fullmatch(r"[+-]?\d+(\.0+)?", text) is None:
        return f"is not a whole number: '{text[:40]}'"
    value = int(float(text))
    return value if value >= 0 else f"is negative: {value}"


def _table_problems(counts: dict[str, int | str]) -> list[str]:
    """Return everything wrong with the four cells of a table."""
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

    Required are ``study``, ``TP``, ``FP``, ``FN``, ``TN``; ``model`` and ``target`` are optional (default target:
    osteoporosis); ``year``, ``doi``, ``source``, ``note`` and ``derivation`` document a row; every other column is a
    covariate.

    Raises:
        UnusableInputError: lists everything wrong, line by line.
    """
    table = read_table(path, ("study", *COUNT_COLUMNS))
    header, problems = table.header, list(table.problems)
    rows = [(line, _plain(cells, table.separator)) for line, cells in table.rows]
    first_lines: dict[tuple[str, str, str], int] = {}
    keys, tables = [], []
    for line, row in rows:
        counts = {name: _count(row[name]) for name in COUNT_COLUMNS}
        wrong = _table_problems(counts)
        if not row["study"]:
            wrong.append("study has no name")
        key = (row["study"], row.get("model", ""), row.get("target", "").lower() or BoneStatus.OSTEOPOROSIS.value)
        folded = (key[0].casefold(), key[1].casefold(), key[2])
        if folded in first_lines:
            wrong.append(f"the same study, model and target as line {first_lines[folded]}")
        first_lines.setdefault(folded, line)
        problems += [f"line {line}: {problem}" for problem in wrong]
        keys.append(key)
        tables.append([counts[name] for name in COUNT_COLUMNS])
    if not rows and not problems:
        problems.append("no study after the header")
    refuse(path, problems)
    reserved = {"study", "model", "target", *COUNT_COLUMNS, *NOTE_COLUMNS, ""}
    covariates = {name: tuple(row[name] for _, row in rows) for name in header if name not in reserved}
    studies, models, targets = zip(*keys, strict=True)
    rebuilt = tuple(row.get("derivation", "").startswith(REBUILT) for _, row in rows)
    found = StudyTable(studies, models, targets, np.array(tables, dtype=np.float64), covariates, rebuilt)
    refuse(path, _total_rows(found, [line for line, _ in rows]))
    return found


def _plain(cells: Mapping[str, str], separator: str) -> dict[str, str]:
    """Return the cells with decimal points, empty where a word means a missing value; names stay."""
    return {name: text if name in ("study", "model") else plain_cell(text, separator) for name, text in cells.items()}


def _total_rows(found: StudyTable, lines: Sequence[int]) -> list[str]:
    """Return a problem for each row that is the sum of the others of its target, or is called so."""
    problems = []
    for i, (study, target, line) in enumerate(zip(found.studies, found.targets, lines, strict=True)):
        others = [j for j, name in enumerate(found.targets) if name == target and j != i]
        is_sum = len(others) > 1 and bool((found.tables[others].sum(axis=0) == found.tables[i]).all())
        if is_sum or study.casefold() in _TOTALS:
            reason = "is the sum of the other rows" if is_sum else "is named as a total"
            problems.append(f"line {line}: '{study[:40]}' {reason}; every row must be a study")
    return problems


def parse_counts(text: str) -> Array:
    """Return (4,) TP, FP, FN, TN from ``"48,19,3,348"``; raise ``ValueError`` with everything wrong."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4:
        raise ValueError(f"counts must be four whole numbers TP,FP,FN,TN, got '{text}'")
    counts = {name: _count(part) for name, part in zip(COUNT_COLUMNS, parts, strict=True)}
    problems = _table_problems(counts)
    if problems:
        raise ValueError(f"counts '{text}': " + "; ".join(problems))
    return np.array([int(value) for value in counts.values()], dtype=np.float64)


@dataclass(frozen=True)
class OwnTest:
    """2 x 2 tables of a test set.

    Attributes:
        name: of the model.
        counts: target to (4,) TP, FP, FN, TN.
        remarks: sentences to print with the numbers.
    """

    name: str
    counts: dict[str, Array]
    remarks: tuple[str, ...] = ()


def count_predictions(
    path: Path, name: str = "", cohort: str = "", target: str | None = None, threshold: float | None = None
) -> OwnTest:
    """Count the 2 x 2 tables of a model from its predictions, one row per subject.

    Args:
        path: CSV, see ``docs/predictions.md``; three classes give one table each, against the two others.
        name: of the model; selects one if the file contains several.
        cohort: cohort of the file (default: ``test``, or the only one).
        target: restricts the tables to one class.
        threshold: a score of the target (default: osteoporosis) of at least this is a positive test, which gives the
            only table; without it the predicted classes are counted.

    Raises:
        UnusableInputError: lists everything wrong, without subject identifiers.
    """
    predictions = _chosen(path, read_predictions([path]), name, cohort)
    if predictions.repeats:
        extra = len(predictions) - len(np.unique(predictions.subjects))
        raise UnusableInputError(
            f"'{path.name}' must have one row per subject in cohort '{predictions.cohort}', got {extra} more"
        )
    called, decided = _positive_tests(path, predictions, target, threshold)
    if target is not None and target not in called:
        raise UnusableInputError(f"target must be one of {', '.join(called)} in '{path.name}', got '{target}'")
    counts, remarks = {}, _remarks(predictions, decided)
    for label in [target] if target is not None else called:
        cells = _cells(predictions.is_class(label), called[label])
        if cells is None:
            remarks.append(f"No table for '{label}': it applies to all subjects or to none.")
        else:
            counts[label] = cells
    if not counts:
        raise UnusableInputError(f"'{path.name}' has subjects of one class only: no comparison is possible")
    suffix = " (virtual patients)" if predictions.virtual else ""
    return OwnTest((name or predictions.model) + suffix, counts, tuple(remarks))


def _positive_tests(
    path: Path, predictions: Predictions, target: str | None, threshold: float | None
) -> tuple[dict[str, Flags | None], str]:
    """Return whether each subject tests positive for each class, and the rule."""
    if threshold is None:
        if predictions.predicted is None:
            raise UnusableInputError(f"'{path.name}' has scores and no classes: an own threshold must be given")
        return {c: predictions.is_predicted(c) for c in predictions.reported_classes}, predictions.decided_by
    label = target or BoneStatus.OSTEOPOROSIS.value
    if label not in predictions.scores:
        raise UnusableInputError(f"'{path.name}' has no score of '{label}' for the threshold")
    return {label: predictions.scores[label] >= threshold}, f"score of {label} at least {threshold:g}"


def _remarks(predictions: Predictions, decided: str) -> list[str]:
    remarks = [f"Cohort '{predictions.cohort}', {len(predictions)} subjects. Classes: {decided}."]
    if predictions.unanswered:
        remarks.append(f"{predictions.unanswered} rows without a prediction are not counted.")
    if predictions.virtual:
        remarks.append("These are virtual patients: the comparison does not show accuracy in real patients.")
    return remarks


def _cells(truth: Flags, positive: Flags | None) -> Array | None:
    """Return TP, FP, FN, TN, or ``None`` if all subjects are of one class."""
    if positive is None or not 0 < truth.sum() < len(truth):
        return None
    cells = (truth & positive, ~truth & positive, truth & ~positive, ~truth & ~positive)
    return np.array([cell.sum() for cell in cells], dtype=np.float64)


def _chosen(path: Path, sets: Sequence[Predictions], name: str, cohort: str) -> Predictions:
    """Return the predictions of one model in one cohort."""
    models = list(dict.fromkeys(predictions.model for predictions in sets))
    model = name if name in models else models[0]
    problems = []
    if len(models) > 1 and name not in models:
        problems.append(f"own name must be one of {', '.join(models)} in '{path.name}', got '{name}'")
    cohorts = [predictions.cohort for predictions in sets if predictions.model == model]
    chosen = cohort or ("test" if "test" in cohorts or len(cohorts) > 1 else cohorts[0])
    if chosen not in cohorts:
        problems.append(f"own cohort must be one of {', '.join(cohorts)} in '{path.name}', got '{chosen}'")
    if problems:
        raise UnusableInputError("\n".join(problems))
    return next(p for p in sets if p.model == model and p.cohort == chosen)


# --- quality and flow ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QuadasTable:
    """QUADAS-2 judgements of each study: risk of bias in 4 domains, applicability concerns in 3."""

    studies: tuple[str, ...]
    risk: tuple[tuple[str, ...], ...]
    concern: tuple[tuple[str, ...], ...]


def read_quadas(path: Path) -> QuadasTable:
    """Read QUADAS-2 judgements: ``study``, the four domains, and the three domains with the prefix ``applicability_``.

    Values are low, unclear, high, or empty if not stated.

    Raises:
        UnusableInputError: lists everything wrong, line by line.
    """
    concerns = tuple(f"applicability_{name}" for name in QUADAS_CONCERNS)
    table = read_table(path, ("study", *QUADAS_DOMAINS, *concerns))
    rows, problems = [(line, _plain(cells, table.separator)) for line, cells in table.rows], list(table.problems)
    for line, row in rows:
        problems += [
            f"line {line}: {name} must be low, unclear, high or empty, got '{row[name][:40]}'"
            for name in (*QUADAS_DOMAINS, *concerns)
            if row[name].lower() not in (*JUDGEMENTS, "")
        ]
    names = [row["study"] for _, row in rows]
    problems += [f"study '{name}' appears twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if not rows and not problems:
        problems.append("no study after the header")
    refuse(path, problems)

    def values(columns: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(row[c].lower() or "not stated" for c in columns) for _, row in rows)

    return QuadasTable(tuple(names), values(QUADAS_DOMAINS), values(concerns))


@dataclass(frozen=True)
class PrismaFlow:
    """Counts of a PRISMA 2020 flow diagram; each mapping gives the number of records by reason or source."""

    identified: dict[str, int]
    removed: dict[str, int]
    screened: int
    excluded: dict[str, int]
    assessed: int
    excluded_full_text: dict[str, int]
    included: int
    in_meta_analysis: int


_PRISMA_MAPS = ("identified", "removed", "excluded", "excluded_full_text")
_PRISMA_NUMBERS = ("screened", "assessed", "included", "in_meta_analysis")


def read_prisma(path: Path) -> PrismaFlow:
    """Read the counts of a flow diagram from JSON and check their sums.

    Raises:
        UnusableInputError: lists everything wrong.
    """
    try:
        content = json.loads(read_input(path))
    except FileNotFoundError:
        raise UnusableInputError(f"there is no file '{path}'") from None
    except (OSError, ValueError):
        raise UnusableInputError(f"'{path.name}' is not JSON") from None
    names = (*_PRISMA_MAPS, *_PRISMA_NUMBERS)
    if not isinstance(content, dict):
        raise UnusableInputError(f"'{path.name}' must be an object with {', '.join(names)}")
    refuse(path, [f"no field {name}" for name in names if name not in content] + _wrong_values(content))
    flow = PrismaFlow(**{name: content[name] for name in names})
    refuse(path, _wrong_sums(flow))
    return flow


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _wrong_values(content: dict[str, object]) -> list[str]:
    problems = []
    for name in _PRISMA_MAPS:
        counts = content.get(name, {})
        if not (isinstance(counts, dict) and all(_is_count(v) for v in counts.values())):
            problems.append(f"{name} must give each reason a whole number of 0 or more")
    return problems + [
        f"{name} must be a whole number of 0 or more" for name in _PRISMA_NUMBERS if not _is_count(content.get(name, 0))
    ]


def _wrong_sums(flow: PrismaFlow) -> list[str]:
    sums = (
        ("screened", "identified minus removed", sum(flow.identified.values()) - sum(flow.removed.values())),
        ("assessed", "screened minus excluded", flow.screened - sum(flow.excluded.values())),
        ("included", "assessed minus excluded_full_text", flow.assessed - sum(flow.excluded_full_text.values())),
    )
    problems = [
        f"{name} must be {rule} = {expected}, got {getattr(flow, name)}"
        for name, rule, expected in sums
        if getattr(flow, name) != expected
    ]
    if flow.in_meta_analysis > flow.included:
        problems.append(f"in_meta_analysis must be at most the {flow.included} included, got {flow.in_meta_analysis}")
    return problems
