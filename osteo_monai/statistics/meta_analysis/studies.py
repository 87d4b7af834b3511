"""What comes in: tables of studies, predictions of one's own model, QUADAS-2 judgements, PRISMA counts.

Every reader looks at the whole file first and then names everything that is wrong with it in one message.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.csv_tables import read_rows, refuse
from osteo_monai.data.predictions_table import Predictions, read_predictions
from osteo_monai.domain import BoneStatus
from osteo_monai.errors import UnusableInputError

Array = NDArray[np.float64]

COUNT_COLUMNS = ("TP", "FP", "FN", "TN")
NOTE_COLUMNS = ("year", "doi", "source", "note", "derivation")
"""Columns that document a row and are never taken for covariates."""

QUADAS_DOMAINS = ("patient_selection", "index_test", "reference_standard", "flow_and_timing")
QUADAS_CONCERNS = ("patient_selection", "index_test", "reference_standard")
JUDGEMENTS = ("low", "unclear", "high", "not stated")

__all__ = [
    "COUNT_COLUMNS",
    "JUDGEMENTS",
    "QUADAS_CONCERNS",
    "QUADAS_DOMAINS",
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
    header, rows, problems = read_rows(path, ("study", *COUNT_COLUMNS))
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
    refuse(path, problems)
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


@dataclass(frozen=True)
class OwnTest:
    """One's own test set, counted.

    Attributes:
        name: of the model.
        counts: target to (4,) TP, FP, FN, TN.
        remarks: sentences that must stand beside the numbers.
    """

    name: str
    counts: dict[str, Array]
    remarks: tuple[str, ...] = ()


def count_predictions(
    path: Path, name: str = "", cohort: str = "", target: str | None = None, threshold: float | None = None
) -> OwnTest:
    """Count the 2 x 2 tables of one's own model from its predictions, one row per subject.

    Args:
        path: CSV as ``docs/predictions.md`` tells; of three classes each against the two others becomes a table.
        name: of the model; where the file holds several, which of them.
        cohort: which of the file's cohorts; ``test``, or the only one, where empty.
        target: restricts the tables to one class.
        threshold: a score of the target (osteoporosis where that is ``None``) of at least this is a positive test; the
            only table then. Without it the predicted classes count.

    Raises:
        UnusableInputError: with everything that is wrong; no subject identifier is quoted.
    """
    one = _chosen(path, read_predictions([path]), name, cohort)
    if one.repeats:
        several = len(one) - len(np.unique(one.subjects))
        raise UnusableInputError(
            f"'{path.name}' has {several} rows of subjects that have one already in cohort '{one.cohort}'; "
            "a 2 x 2 table counts every subject once"
        )
    called: dict[str, NDArray[np.bool_] | None] = {c: one.is_predicted(c) for c in one.reported_classes}
    decided = one.decided_by
    if threshold is not None:
        wanted = target or BoneStatus.OSTEOPOROSIS.value
        if wanted not in one.scores:
            raise UnusableInputError(f"'{path.name}' has no score of '{wanted}' that a threshold could cut")
        called = {wanted: one.scores[wanted] >= threshold}
        decided = f"score of {wanted} at least {threshold:g}"
    elif one.predicted is None:
        raise UnusableInputError(f"'{path.name}' has scores and no classes: an own threshold must be given")
    if target is not None and target not in called:
        raise UnusableInputError(f"'{path.name}' has no class '{target}', but {', '.join(called)}")
    remarks = [f"Cohort '{one.cohort}', {len(one)} subjects. Classes: {decided}."]
    if one.unanswered:
        remarks.append(f"{one.unanswered} rows without a prediction are not counted.")
    if one.virtual:
        remarks.append("These are virtual patients: the comparison tells nothing about real ones.")
    counts = {}
    for label in [target] if target is not None else called:
        truth, positive = one.is_class(label), called[label]
        if positive is None or not 0 < truth.sum() < len(truth):
            remarks.append(f"No table for '{label}': all subjects are alike in it.")
            continue
        cells = [(truth & positive).sum(), (~truth & positive).sum(), (truth & ~positive).sum()]
        counts[label] = np.array([*cells, (~truth & ~positive).sum()], dtype=np.float64)
    if not counts:
        raise UnusableInputError(f"'{path.name}' has subjects of one class only: nothing can be compared")
    return OwnTest((name or one.model) + (" (virtual patients)" if one.virtual else ""), counts, tuple(remarks))


def _chosen(path: Path, held: Sequence[Predictions], name: str, cohort: str) -> Predictions:
    """Return the predictions of one model in one cohort."""
    models = list(dict.fromkeys(one.model for one in held))
    model = name if name in models else models[0]
    problems = []
    if len(models) > 1 and name not in models:
        problems.append(f"'{path.name}' holds several models, and the own name must be one of {', '.join(models)}")
    cohorts = [one.cohort for one in held if one.model == model]
    wanted = cohort or ("test" if "test" in cohorts or len(cohorts) > 1 else cohorts[0])
    if wanted not in cohorts:
        problems.append(f"'{path.name}' has no cohort '{wanted}'; the own cohort must be one of {', '.join(cohorts)}")
    if problems:
        raise UnusableInputError("\n".join(problems))
    return next(one for one in held if one.model == model and one.cohort == wanted)


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
    _, rows, problems = read_rows(path, ("study", *QUADAS_DOMAINS, *concerns))
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
    refuse(path, problems)

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
    refuse(path, problems)
    return flow
