"""Columns of a predictions table and the check of one row; ``docs/predictions.md`` repeats ``COLUMNS``."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from osteo_monai.data.csv_tables import MISSING_WORDS, plain_cell
from osteo_monai.data.record import Record
from osteo_monai.domain import SPLIT_PATTERN, BoneStatus, DensityThresholds

__all__ = [
    "BINARY_CLASSES",
    "COLUMNS",
    "DENSITIES",
    "FACTS",
    "FALSE_WORDS",
    "HEAT_COLUMNS",
    "NUMBERS",
    "PREDICTIONS",
    "PROBABILITIES",
    "SCORES",
    "STATUS_CLASSES",
    "TRUE_WORDS",
    "TRUTHS",
    "Column",
    "ColumnKind",
    "ColumnRole",
    "columns_of",
    "has_binary_truth",
    "plain_cells",
    "record_columns",
    "schema_table",
    "truth_problems",
    "value_problems",
]

STATUS_CLASSES = tuple(status.value for status in BoneStatus)
BINARY_CLASSES = ("no_osteoporosis", "osteoporosis")
"""Classes of a problem with two classes, such as the radiographs of Li 2026 and Boonrod 2025."""

FALSE_WORDS, TRUE_WORDS = frozenset({"0", "false", "no"}), frozenset({"1", "true", "yes"})
"""Accepted values of a flag, in lower case."""

_SUM_TOLERANCE = 0.005
"""Largest distance from 1 of the sum of three probabilities, each rounded to two decimals."""
_DENSITY_LIMITS = (-300.0, 1000.0)
"""mg/cm3: fatty marrow is below 0, cortical bone about 1000; values beyond are in another unit."""


_FACT_LIMITS: Mapping[str, tuple[float, float]] = {
    "age": (0.0, 120.0),
    "height_cm": (30.0, 250.0),
    "weight_kg": (1.0, 400.0),
    "kvp": (40.0, 200.0),
    "t_score": (-10.0, 10.0),
}
"""Lowest and highest value of a fact, as of a record of a manifest: a year of birth is no age."""


class ColumnKind(StrEnum):
    """Type of the values of a column."""

    TEXT = "text"
    NUMBER = "number"
    PROBABILITY = "probability, 0 to 1"
    DENSITY = "density, mg/cm3"
    FLAG = "0 or 1"
    CLASS = "class"
    SPLIT = "split"


class ColumnRole(StrEnum):
    """Use of a column."""

    IDENTITY = "identity"
    TRUTH = "truth"
    PREDICTION = "prediction"
    FACT = "fact"
    DETAIL = "detail"
    """Written for other programs; evaluation does not read it."""


@dataclass(frozen=True)
class Column:
    """A column of a predictions table.

    Attributes:
        name: as in the header; ``<level>`` represents one of L1 to L5.
        role: what it is used for.
        kind: type of its values.
        meaning: description, as in ``docs/predictions.md``.
    """

    name: str
    role: ColumnRole
    kind: ColumnKind
    meaning: str


_I, _T, _P, _F, _D = ColumnRole.IDENTITY, ColumnRole.TRUTH, ColumnRole.PREDICTION, ColumnRole.FACT, ColumnRole.DETAIL
_TEXT, _NUMBER, _CHANCE, _DENSITY = ColumnKind.TEXT, ColumnKind.NUMBER, ColumnKind.PROBABILITY, ColumnKind.DENSITY
_FLAG, _CLASS = ColumnKind.FLAG, ColumnKind.CLASS
_ALL_THREE = "all three must add up to 1; with two classes only `probability_osteoporosis`"
_ANY_SCORE = "any monotone score, larger = more likely"

COLUMNS: tuple[Column, ...] = (
    Column("subject_id", _I, _TEXT, "required; pseudonym, never quoted in a message. A subject may have several rows, "
           "but only in one of training, validation and test"),
    Column("model", _I, _TEXT, "name of the model (default: file name without suffix)"),
    Column("cohort", _I, ColumnKind.SPLIT, "`training`, `validation`, `test` (default) or `external_<centre>`"),
    Column("fold", _I, _TEXT, "cross-validation fold that the subject was held out of training in; empty for others"),
    Column("image_id", _I, _TEXT, "identifies an image of a subject if the facts do not"),
    Column("image", _I, _TEXT, "path of the image, relative to the manifest"),
    Column("virtual", _I, _FLAG, "1 for a virtual patient; one such row marks all tables and figures, as `--virtual`"),
    Column("bone_status", _T, _CLASS, "`normal`, `osteopenia` or `osteoporosis`"),
    Column("bmd_mg_cm3", _T, _DENSITY, "density; determines the class (osteoporosis below 80, normal above 120, see "
           "`--thresholds`), and a contradicting `bone_status` is an error"),
    Column("osteoporosis", _T, _FLAG, "truth with two classes. A density in the same row may disagree, since DXA and "
           "QCT may differ"),
    Column("probability_normal", _P, _CHANCE, _ALL_THREE),
    Column("probability_osteopenia", _P, _CHANCE, _ALL_THREE),
    Column("probability_osteoporosis", _P, _CHANCE, _ALL_THREE),
    Column("score_normal", _P, _NUMBER, _ANY_SCORE),
    Column("score_osteopenia", _P, _NUMBER, _ANY_SCORE),
    Column("score_osteoporosis", _P, _NUMBER, _ANY_SCORE),
    Column("predicted", _P, _CLASS, "predicted class; 0 and 1 are accepted with two classes"),
    Column("predicted_bmd_mg_cm3", _P, _DENSITY, "predicted density"),
    Column("predicted_bmd_lower", _P, _DENSITY, "lower limit of its 90 % interval"),
    Column("predicted_bmd_upper", _P, _DENSITY, "upper limit of its 90 % interval"),
    Column("level", _F, _TEXT, "vertebral level that the image shows"),
    Column("age", _F, _NUMBER, "years"),
    Column("sex", _F, _TEXT, "F or M"),
    Column("height_cm", _F, _NUMBER, "cm"),
    Column("weight_kg", _F, _NUMBER, "kg"),
    Column("t_score", _F, _NUMBER, "T-score by DXA"),
    Column("centre", _F, _TEXT, "centre of the acquisition"),
    Column("kvp", _F, _NUMBER, "tube voltage in kV; a factor of subgroups"),
    Column("contrast_phase", _F, _TEXT, "phase of the contrast agent; a factor of subgroups"),
    Column("acquisition", _F, _TEXT, "name of the acquisition; a factor of subgroups"),
    Column("scanner", _F, _TEXT, "scanner; a factor of subgroups"),
    Column("acquired", _F, _TEXT, "day of the acquisition, as 2021-07-31; for repeated scans (repeatability.md)"),
    Column("calibration", _D, _TEXT, "calibration method of the predicted density"),
    Column("standard", _D, _TEXT, "mineral standard of the predicted density"),
    Column("hu_l1", _D, _NUMBER, "mean trabecular HU of L1"),
    Column("hu_l2", _D, _NUMBER, "mean trabecular HU of L2"),
    Column("heat_on_bone", _D, _NUMBER, "share of the Grad-CAM map on bone, 0 to 1"),
    Column("attention_on_bone", _D, _NUMBER, "share of the attention map on bone, 0 to 1"),
    Column("bone_area", _D, _NUMBER, "share of the image that shows bone, 0 to 1"),
    Column("predicted_bmd_<level>_mg_cm3", _D, _DENSITY, "predicted density of a level, such as L1"),
    Column("predicted_bmd_<level>_lower", _D, _DENSITY, "lower limit of its 90 % interval"),
    Column("predicted_bmd_<level>_upper", _D, _DENSITY, "upper limit of its 90 % interval"),
)  # fmt: skip
"""All columns, each once, in the order in which tables are written."""


def columns_of(role: ColumnRole) -> tuple[str, ...]:
    """Return the names of the columns of a role, in the order of ``COLUMNS``."""
    return tuple(column.name for column in COLUMNS if column.role is role)


def schema_table() -> str:
    """Return the columns as a Markdown table, for ``docs/predictions.md``."""
    lines = [f"| `{column.name}` | {column.role} | {column.kind} | {column.meaning} |" for column in COLUMNS]
    return "\n".join(["| column | use | values | meaning |", "|---|---|---|---|", *lines])


FACTS = columns_of(ColumnRole.FACT)
"""Columns that a table repeats of a record; subgroups use them."""
TRUTHS = columns_of(ColumnRole.TRUTH)
PREDICTIONS = columns_of(ColumnRole.PREDICTION)
PROBABILITIES = tuple(f"probability_{name}" for name in STATUS_CLASSES)
SCORES = tuple(f"score_{name}" for name in STATUS_CLASSES)
HEAT_COLUMNS = ("heat_on_bone", "attention_on_bone", "bone_area")
"""Columns about heat maps: shares of two maps on bone, and of bone in the image."""
DENSITIES = ("predicted_bmd_mg_cm3", "predicted_bmd_lower", "predicted_bmd_upper")
NUMBERS = (*PROBABILITIES, *SCORES, "bmd_mg_cm3", *DENSITIES)
"""Columns of truth and prediction whose values are numbers."""

_KIND_OF = {column.name: column.kind for column in COLUMNS}
_NUMERIC_FACTS = tuple(name for name in FACTS if _KIND_OF[name] is ColumnKind.NUMBER)


def record_columns(record: Record, cohort: str, virtual: bool) -> dict[str, str | float]:
    """Return the columns that a predictions table repeats of a record: identity and ``FACTS``, known values only.

    The truth depends on the task: the caller adds columns of ``TRUTHS``.

    Args:
        record: of a manifest.
        cohort: split of the record.
        virtual: whether the record is of a virtual patient.
    """
    facts: dict[str, str | float] = record.model_dump(mode="json", include=set(FACTS), exclude_none=True)
    columns: dict[str, str | float] = {"subject_id": record.subject_id, "cohort": cohort, "virtual": int(virtual)}
    return columns | {name: facts[name] for name in FACTS if name in facts}


def plain_cells(row: Mapping[str, str], separator: str) -> dict[str, str]:
    """Return a row with empty cells for words of missing values, and with decimal points; texts stay as they are.

    Decimal commas are replaced in the columns of numbers, if commas do not separate the columns.
    """
    kinds = (ColumnKind.NUMBER, ColumnKind.PROBABILITY, ColumnKind.DENSITY)
    cells = {}
    for name, text in row.items():
        if _KIND_OF.get(name, ColumnKind.TEXT) is not ColumnKind.TEXT and text.lower() in MISSING_WORDS:
            cells[name] = ""
        else:
            cells[name] = plain_cell(text, separator) if _KIND_OF.get(name) in kinds else text
    return cells


# --- check of one row ---------------------------------------------------------------------------------------------


def has_binary_truth(row: Mapping[str, str]) -> bool:
    """Return whether the truth of a row has two classes: DXA determines it, a QCT density in the row may disagree."""
    return bool(row.get("osteoporosis")) and not row.get("bone_status")


def value_problems(row: Mapping[str, str]) -> list[str]:
    """Return one sentence for each value of a row that its column does not allow; empty cells are unknown values."""
    problems = [] if row["subject_id"] else ["subject_id is empty"]
    if row.get("cohort") and not re.match(SPLIT_PATTERN, row["cohort"]):
        wanted = "training, validation, test or external_<centre>"
        if row["cohort"].startswith("external_"):
            wanted = "external_<centre> with a centre of a-z, 0-9 and _"
        problems.append(f"cohort must be {wanted}, got '{row['cohort'][:40]}'")
    for name in (*NUMBERS, *_NUMERIC_FACTS):
        problems += [problem] if (problem := _number_problem(name, row.get(name, ""))) else []
    problems += _group_problems(row)
    for name in ("virtual", "osteoporosis"):
        if row.get(name) and row[name].lower() not in FALSE_WORDS | TRUE_WORDS:
            problems.append(f"{name} must be 0 or 1, got '{row[name][:40]}'")
    status = row.get("bone_status", "").lower()
    if status and status not in STATUS_CLASSES:
        problems.append(f"bone_status must be one of {', '.join(STATUS_CLASSES)}, got '{status[:40]}'")
    predicted = row.get("predicted", "").lower()
    classes = {*STATUS_CLASSES, *({"0", "1", *BINARY_CLASSES} if has_binary_truth(row) else ())}
    if predicted and predicted not in classes:
        problems.append(f"predicted must be one of {', '.join(sorted(classes))}, got '{predicted[:40]}'")
    return problems


def _number_problem(name: str, text: str) -> str | None:
    if not text:
        return None
    kind = _KIND_OF[name]
    low, high = {ColumnKind.PROBABILITY: (0.0, 1.0), ColumnKind.DENSITY: _DENSITY_LIMITS}.get(
        kind, _FACT_LIMITS.get(name, (-math.inf, math.inf))
    )
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and low <= number <= high:
        return None
    if re.fullmatch(r"[+-]?\d+(\.\d{3})*,\d+", text):
        return f"{name} must have a decimal point and no separator of thousands, got '{text[:40]}'"
    if found := re.fullmatch(r"[+-]?[\d.]+ ?(%|(?![eE][+-]?\d)[a-zA-Z][\w/%^.]*)", text):
        return f"{name} must be a number without a unit, got '{text[:40]}' (unit '{found[1]}')"
    bounded = f"a number from {low:g} to {high:g}" if name in _FACT_LIMITS else "a finite number"
    wanted = {
        ColumnKind.PROBABILITY: "a number between 0 and 1",
        ColumnKind.DENSITY: "a density in mg/cm3",
    }.get(kind, bounded)
    return f"{name} must be {wanted}, got '{text[:40]}'"


def _group_problems(row: Mapping[str, str]) -> list[str]:
    """Return what is wrong between the numbers of a row; numbers that are invalid by themselves are left out."""
    numbers = {name: float(row[name]) for name in NUMBERS if row.get(name) and _number_problem(name, row[name]) is None}
    problems = []
    probabilities = [numbers[name] for name in PROBABILITIES if name in numbers]
    if len(probabilities) == len(PROBABILITIES) and abs(sum(probabilities) - 1) > _SUM_TOLERANCE:
        problems.append(f"the three probabilities must add up to 1, got {sum(probabilities):.4g}")
    middle, low, high = (numbers.get(name) for name in DENSITIES)
    if low is not None and high is not None and not low <= (low if middle is None else middle) <= high:
        problems.append("predicted_bmd_mg_cm3 must be between predicted_bmd_lower and predicted_bmd_upper")
    return problems


def truth_problems(row: Mapping[str, str], limits: DensityThresholds) -> list[str]:
    """Return what is wrong with the truth of a row: missing, or contradictory; invalid values are left out."""
    status, flag = row.get("bone_status", "").lower(), row.get("osteoporosis", "").lower()
    density = row.get("bmd_mg_cm3", "")
    if not (status or flag or density):
        return ["there is no truth: bone_status, bmd_mg_cm3 and osteoporosis are empty"]
    if status not in STATUS_CLASSES:
        return []
    problems = []
    if density and _number_problem("bmd_mg_cm3", density) is None:
        expected = limits.status(float(density), limits.standard).value
        if expected != status:
            problems.append(f"bone_status is {status}, but {float(density):g} mg/cm3 means {expected}")
    if flag in FALSE_WORDS | TRUE_WORDS and (flag in TRUE_WORDS) != (status == BoneStatus.OSTEOPOROSIS):
        problems.append(f"osteoporosis is {flag}, but bone_status is {status}")
    return problems
