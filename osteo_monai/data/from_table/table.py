"""The table of subjects that a manifest is built from: options, columns, cells."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from osteo_monai.data.csv_tables import MISSING_WORDS, read_table, summary_problem
from osteo_monai.data.from_table.rules import RULE_SETS, ImageKind
from osteo_monai.domain import SPLIT_PATTERN, DensityThresholds, MineralStandard, Sex, View
from osteo_monai.errors import ManifestError, UnusableInputError
from osteo_monai.imaging.acquisition import date_of, sex_of
from osteo_monai.utils.frozen import FrozenDict
from osteo_monai.utils.inputs import open_input
from osteo_monai.utils.optional import MissingExtraError, import_optional

__all__ = ["TABLE_COLUMNS", "BuildOptions", "Cells", "TableRow", "read_cells", "read_subjects"]

TABLE_COLUMNS: tuple[str, ...] = (
    "subject_id", "image", "label", "segmentation", "split", "acquired", "age", "sex", "height_cm", "weight_kg",
    "bmd_mg_cm3", "bmd_l1_mg_cm3", "bmd_l2_mg_cm3", "bmd_standard", "areal_bmd_g_cm2", "t_score", "bone_status",
    "centre", "manufacturer", "scanner", "kvp", "kernel", "slice_thickness_mm", "contrast_phase",
    "l2_in_view", "implant", "severe_degeneration", "fracture",
    "view", "laterality", "dxa_date", "t_score_spine", "t_score_total_hip", "t_score_femoral_neck",
    "secondary_osteoporosis", "foreign_body", "spinal_deformity", "bone_surgery", "poor_quality",
)  # fmt: skip
"""Columns that are read; only ``subject_id`` is required."""

_SITE_T_SCORES = ("t_score_spine", "t_score_total_hip", "t_score_femoral_neck")
_NUMBERS = frozenset(
    {"age", "height_cm", "weight_kg", "bmd_mg_cm3", "bmd_l1_mg_cm3", "bmd_l2_mg_cm3", "areal_bmd_g_cm2", "t_score",
     "kvp", "slice_thickness_mm", *_SITE_T_SCORES}
)  # fmt: skip
_FLAGS = frozenset(
    {"l2_in_view", "implant", "severe_degeneration", "fracture",
     "secondary_osteoporosis", "foreign_body", "spinal_deformity", "bone_surgery", "poor_quality"}
)  # fmt: skip
_UNKNOWN = MISSING_WORDS | {"", "none", "unknown", "-", "?"}
_FLAG_VALUES = {**dict.fromkeys(("yes", "y", "true", "1"), True), **dict.fromkeys(("no", "n", "false", "0"), False)}
_SPREADSHEETS = frozenset({".xlsx", ".xlsm"})
_OTHER_SPREADSHEETS = frozenset({".xls", ".ods"})


@dataclass(frozen=True)
class BuildOptions:
    """Input of ``build_manifest``.

    Attributes:
        table: CSV (comma, semicolon or tab) or XLSX file with one row per image, usually one per subject.
        images: folder of the images.
        folder: folder of the manifest; its paths are relative to it.
        columns: name in the table by column of ``TABLE_COLUMNS``, if it differs.
        rules: a key of ``RULE_SETS``.
        kind: of the images; ``None``: that of the rules, else radiographs if the table names a view, else CT.
        exclude_unknown: exclude a subject also if the fact of a rule is unknown.
        standard: of the densities, if the table has no column for it.
        split: of all records, if the table has no column for it; the default keeps them out of training.
        name: of the cohort (default: table name without suffix).
        virtual: the people are simulated.
        screening: output of ``osteo-monai screen`` of the same images; provides field of view, implants and fractures
            that the table does not have.
        thresholds: for ``bone_status`` if the table does not have it.
    """

    table: Path
    images: Path
    folder: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    rules: str = "none"
    kind: ImageKind | None = None
    exclude_unknown: bool = False
    standard: MineralStandard | None = None
    split: str = "test"
    name: str | None = None
    virtual: bool = False
    screening: Path | None = None
    thresholds: DensityThresholds = field(default_factory=DensityThresholds)

    def __post_init__(self) -> None:
        if self.rules not in RULE_SETS:
            raise ValueError(f"rules must be one of {', '.join(RULE_SETS)}, got {self.rules!r}")
        of_rules = RULE_SETS[self.rules].images
        if self.kind is not None and of_rules not in (None, self.kind):
            raise ValueError(f"kind must be {of_rules} for the rules {self.rules}, got {self.kind}")
        if not re.match(SPLIT_PATTERN, self.split):
            raise ValueError(f"split must be training, validation, test or external_<centre>, got {self.split!r}")
        object.__setattr__(self, "columns", FrozenDict(self.columns))

    def kind_of(self, rows: Sequence["TableRow"]) -> ImageKind:
        """Return the kind of the images of a table."""
        stated = self.kind or RULE_SETS[self.rules].images
        return stated or ("radiograph" if any(row.facts["view"] is not None for row in rows) else "ct")


@dataclass
class TableRow:
    """A row of the table, completed while the manifest is built.

    Attributes:
        place: row number and subject, for messages.
        subject: identifier.
        facts: value by column of ``TABLE_COLUMNS``, ``None`` if unknown.
        image: the image.
        lost: reason why there is no usable image.
    """

    place: str
    subject: str
    facts: dict[str, Any]
    image: Path | None = None
    lost: str | None = None


@dataclass(frozen=True)
class Cells:
    """Text of a table: column names in lower case, and line number and cells of each row."""

    header: Sequence[str]
    rows: Sequence[tuple[int, Mapping[str, str]]]
    decimal_comma: bool
    notes: tuple[str, ...] = ()


def read_subjects(options: BuildOptions) -> tuple[list[TableRow], list[str], list[str]]:
    """Read the table.

    Returns:
        The rows, the problems in them, and notes.

    Raises:
        ManifestError: there is no column of subjects, or the table is not rectangular.
        UnusableInputError: the file cannot be read.
    """
    cells = read_cells(options.table)
    names, problems = _column_names(options, cells.header)
    ignored = [name for name in cells.header if name not in names.values()]
    notes = list(cells.notes)
    if ignored:
        notes.append(f"Columns that are not read: {', '.join(ignored)}.")
    rows = []
    for number, row in cells.rows:
        values = {column: row[name] for column, name in names.items()}
        subject = values["subject_id"]
        if not any(values.values()):
            continue
        if not subject:
            problems.append(f"row {number}: subject_id is empty")
            continue
        if problem := summary_problem(subject):
            problems.append(f"row {number}: {problem}")
            continue
        place = f"row {number} (subject {subject!r})"
        facts, wrong = _facts(values, cells.decimal_comma)
        problems += [f"{place}: {problem}" for problem in wrong]
        _complete_density(facts, options)
        problems += [f"{place}: {problem}" for problem in _complete_t_score(facts)]
        rows.append(TableRow(place, subject, facts))
    if not rows and not problems:
        problems.append("the table has no rows")
    problems += _repeated(rows, options.kind_of(rows))
    return rows, problems, notes


def _repeated(rows: Sequence[TableRow], kind: ImageKind) -> list[str]:
    """Report subjects in several rows without an image; with radiographs a subject may have a row for each DXA."""
    days = [row.facts["dxa_date"] if kind == "radiograph" else None for row in rows]
    repeated = Counter((row.subject, day) for row, day in zip(rows, days, strict=True) if row.facts["image"] is None)
    return [
        f"subject {subject!r} is in {count} rows without an image"
        + ("" if day is None else f" and with the same dxa_date {day}")
        + "; name the image in a column 'image'"
        for (subject, day), count in repeated.items()
        if count > 1
    ]


def _column_names(options: BuildOptions, header: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the name in the table of each column that it has, and the problems of ``options.columns``."""
    names: dict[str, str] = {}
    problems = []
    for column, name in options.columns.items():
        if column not in TABLE_COLUMNS:
            problems.append(f"--columns: column must be one of {', '.join(TABLE_COLUMNS)}, got {column!r}")
        elif name.strip().lower() not in header:
            problems.append(f"--columns: the table has no column {name!r} for {column}")
        else:
            names[column] = name.strip().lower()
    names |= {column: column for column in TABLE_COLUMNS if column not in options.columns and column in header}
    if "subject_id" not in names:
        if "subject_id" not in options.columns:
            problems.append("the table needs a column subject_id; name another one with --columns subject_id=NAME")
        raise ManifestError(options.table.name, problems)
    return {column: names[column] for column in (*options.columns, *TABLE_COLUMNS) if column in names}, problems


# --- files --------------------------------------------------------------------------------------------------------


def read_cells(path: Path) -> Cells:
    """Read the text of a CSV (comma, semicolon or tab) or XLSX table.

    Raises:
        ManifestError: the table is not rectangular.
        UnusableInputError: the file cannot be read.
    """
    if not path.is_file():
        raise UnusableInputError(f"There is no file '{path.name}'.")
    suffix = path.suffix.lower()
    if suffix in _OTHER_SPREADSHEETS:
        raise UnusableInputError(f"'{path.name}' must be CSV or XLSX, got {suffix}; save the table as CSV.")
    if suffix in _SPREADSHEETS:
        return _read_spreadsheet(path)
    table = read_table(path, quoted_line_breaks=True)
    if table.problems:
        raise ManifestError(path.name, table.problems)
    notes = (f"{table.comments} lines that begin with # are comments and were not read.",) if table.comments else ()
    return Cells(table.header, table.rows, table.separator != ",", notes)


def _read_spreadsheet(path: Path) -> Cells:
    """Read the first sheet of an XLSX file; formulas give their stored values."""
    try:
        openpyxl = import_optional("openpyxl", "excel", f"reading '{path.name}'")
    except MissingExtraError as error:
        raise UnusableInputError(f"{error}, or save the table as CSV") from None
    try:
        with open_input(path) as stream:
            sheet = openpyxl.load_workbook(stream, data_only=True, keep_links=False).worksheets[0]
        lines: list[list[str]] = [[_cell_text(value) for value in row] for row in sheet.iter_rows(values_only=True)]
    except Exception as error:  # openpyxl documents no exceptions: damaged files raise those of ZIP and XML parsers
        raise UnusableInputError(f"'{path.name}' cannot be read as a spreadsheet.") from error
    header = [name.lower() for name in lines[0]] if lines else []
    while header and not header[-1]:
        header.pop()
    if not header:
        raise UnusableInputError(f"'{path.name}' is empty; the first row must name columns.")
    problems = [f"column {name or '(no name)'} is repeated" for name, n in Counter(header).items() if n > 1]
    problems += [
        f"line {number}: more fields than the {len(header)} columns"
        for number, line in enumerate(lines[1:], 2)
        if any(line[len(header) :])
    ]
    if problems:
        raise ManifestError(path.name, problems)
    rows = [(number, dict(zip(header, line, strict=False))) for number, line in enumerate(lines[1:], 2)]
    return Cells(header, rows, decimal_comma=True)


def _cell_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a spreadsheet stores all numbers as floating point
    return "" if value is None else " ".join(str(value).split())


# --- values -------------------------------------------------------------------------------------------------------


def _facts(values: Mapping[str, str], decimal_comma: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the value of each column of ``TABLE_COLUMNS``, ``None`` if unknown, and the problems."""
    facts: dict[str, Any] = dict.fromkeys(TABLE_COLUMNS)
    problems = []
    for column, text in values.items():
        if column == "subject_id":
            facts[column] = text
        elif text.lower() not in _UNKNOWN:
            try:
                facts[column] = _value(column, text, decimal_comma)
            except ValueError as error:
                problems.append(str(error))
    return facts, problems


def _value(column: str, text: str, decimal_comma: bool) -> object:
    """Return the value of a cell; raise ``ValueError`` with a sentence if the column does not allow it."""
    if column in _NUMBERS:
        return _number(column, text.replace(",", ".") if decimal_comma else text)
    if column in _FLAGS:
        return _choice(column, text, _FLAG_VALUES, "yes or no, or empty if unknown")
    parser = _PARSERS.get(column)
    return text if parser is None else parser(text)


def _number(column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number - number != 0:  # NaN or infinity
        raise ValueError(f"{column} must be a number without a unit, or empty if unknown")
    if column == "age" and number <= 0:
        raise ValueError(f"age must be above 0, or empty if unknown, got {number:g}")
    return number


def _choice(column: str, text: str, choices: Mapping[str, bool], wanted: str) -> bool:
    if text.lower() not in choices:
        raise ValueError(f"{column} must be {wanted}")
    return choices[text.lower()]


def _sex(text: str) -> Sex:
    sex = sex_of(text)
    if sex is None:
        raise ValueError("sex must be F or M, or empty if unknown")
    return sex


def _day(column: str) -> Callable[[str], date]:
    def parse(text: str) -> date:
        day = date_of(text) if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}([T ].*)?", text) else None
        if day is None:
            raise ValueError(f"{column} must be a day such as 2021-07-31")
        return day

    return parse


def _view(text: str) -> View:
    views = {view.value: view for view in View if view is not View.UNKNOWN}
    name = re.sub(r"[\s-]+", "_", text.lower())
    if name not in views:
        raise ValueError(f"view must be one of {', '.join(views)}, or empty if unknown")
    return views[name]


def _laterality(text: str) -> str:
    side = text.upper()[:1]
    if text.lower() not in ("l", "r", "left", "right"):
        raise ValueError("laterality must be L or R, or empty if unknown")
    return side


def _split(text: str) -> str:
    if not re.match(SPLIT_PATTERN, text):
        raise ValueError("split must be training, validation, test or external_<centre>")
    return text


def _standard(text: str) -> str:
    return {standard.lower(): standard.value for standard in MineralStandard}.get(text.lower(), text)


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "sex": _sex,
    "acquired": _day("acquired"),
    "dxa_date": _day("dxa_date"),
    "view": _view,
    "laterality": _laterality,
    "bone_status": str.lower,
    "bmd_standard": _standard,
    "split": _split,
}


def _complete_density(facts: dict[str, Any], options: BuildOptions) -> None:
    """Set the mean of the levels, the standard and the class if the table does not have them."""
    levels = [facts["bmd_l1_mg_cm3"], facts["bmd_l2_mg_cm3"]]
    if facts["bmd_mg_cm3"] is None and None not in levels:
        facts["bmd_mg_cm3"] = sum(levels) / len(levels)
    if any(value is not None for value in (facts["bmd_mg_cm3"], *levels)) and facts["bmd_standard"] is None:
        facts["bmd_standard"] = options.standard
    comparable = facts["bmd_mg_cm3"] is not None and facts["bmd_standard"] == options.thresholds.standard
    if facts["bone_status"] is None and comparable:
        facts["bone_status"] = options.thresholds.status(facts["bmd_mg_cm3"], options.thresholds.standard)


def _complete_t_score(facts: dict[str, Any]) -> list[str]:
    """Set the lowest T-score of the sites; return a problem if the table states a higher one."""
    sites = {name: facts[name] for name in _SITE_T_SCORES if facts[name] is not None}
    if not sites:
        return []
    lowest = min(sites, key=lambda name: float(sites[name]))
    if facts["t_score"] is None:
        facts["t_score"] = sites[lowest]
    elif facts["t_score"] > sites[lowest]:
        return [f"t_score is {facts['t_score']:g}, but {lowest} is {sites[lowest]:g}; t_score must be the lowest one"]
    return []
