"""Read and write predictions tables; ``predictions_schema`` defines the columns."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.csv_tables import CSVTable, read_table, refuse, write_table
from osteo_monai.data.predictions_mistakes import doubled_rows, unit_problems
from osteo_monai.data.predictions_schema import (
    BINARY_CLASSES,
    COLUMNS,
    FACTS,
    NUMBERS,
    PREDICTIONS,
    PROBABILITIES,
    SCORES,
    STATUS_CLASSES,
    TRUE_WORDS,
    TRUTHS,
    has_binary_truth,
    plain_cells,
    truth_problems,
    value_problems,
)
from osteo_monai.domain import BoneStatus, DensityThresholds
from osteo_monai.errors import UnusableInputError

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Texts = NDArray[np.str_]

_IMAGE_COLUMNS = ("image_id", "level", "acquisition", "kvp", "contrast_phase")
"""Columns that distinguish images of one subject."""
_COHORTS = ("training", "validation", "test")

__all__ = ["Predictions", "common_rows", "read_prediction_rows", "read_predictions", "write_predictions"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of one model in one cohort, one row for each image with a prediction, ordered by subject and image.

    The order of the file does not matter, so that bootstrap samples of the same rows are the same.

    Attributes:
        model, cohort: names.
        classes: the three of ``BoneStatus``, or ``BINARY_CLASSES``.
        subjects: (n,) subject of each row; a subject may have several rows.
        images: (n,) unique name of each row, from the subject and the columns that distinguish its images.
        truth: (n,) index into ``classes``.
        scores: class to (n,) score, larger = more likely; classes without a score are missing.
        score_kinds: class to origin of its score: "score" (as given), "probability" or "density" (derived from it).
        probabilities: (n, classes), or ``None``.
        predicted: (n,) index into ``classes``, or ``None``.
        decided_by: origin of ``predicted``, or the reason why it is ``None``.
        density: (n,) true density in mg/cm3, ``nan`` if unknown.
        predicted_density, lower, upper: (n,) predicted density with its 90 % interval, mg/cm3, or ``None``.
        facts: column of ``FACTS`` to (n,) text, empty if unknown; columns without any value are missing.
        unanswered: number of rows without any prediction; they are in no array.
        virtual: whether a row is of a virtual patient.
        ordered_images: whether only their order in the file distinguishes rows of a subject.
    """

    model: str
    cohort: str
    classes: tuple[str, ...]
    subjects: Texts
    images: Texts
    truth: Codes
    scores: Mapping[str, Array]
    score_kinds: Mapping[str, str]
    probabilities: Array | None
    predicted: Codes | None
    decided_by: str
    density: Array
    predicted_density: Array | None
    lower: Array | None
    upper: Array | None
    facts: Mapping[str, Texts]
    unanswered: int
    virtual: bool
    ordered_images: bool

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def reported_classes(self) -> tuple[str, ...]:
        """Classes that tables report: of two classes only the positive one."""
        return self.classes if self.classes == STATUS_CLASSES else self.classes[1:]

    @property
    def repeats(self) -> bool:
        """Whether a subject has several rows."""
        return len(np.unique(self.subjects)) < len(self)

    def is_class(self, name: str) -> NDArray[np.bool_]:
        """Return (n,) whether the truth is this class."""
        return np.asarray(self.truth == self.classes.index(name))

    def is_predicted(self, name: str) -> NDArray[np.bool_] | None:
        """Return (n,) whether this class was predicted, or ``None`` without predicted classes."""
        return None if self.predicted is None else self.predicted == self.classes.index(name)


def common_rows(first: Predictions, second: Predictions) -> tuple[Codes, Codes]:
    """Return the row indices of the images that both have, in the same order.

    Rows are paired by subject if every subject has one row in both, else by image.
    """
    single = not first.repeats and not second.repeats
    names, other_names = (first.subjects, second.subjects) if single else (first.images, second.images)
    _, first_rows, second_rows = np.intersect1d(names, other_names, assume_unique=True, return_indices=True)
    return first_rows, second_rows


# --- rows ---------------------------------------------------------------------------------------------------------


def write_predictions(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a predictions table atomically: UTF-8, commas, ``\\n``, columns in the order of the schema.

    Args:
        path: CSV file; its folder is made if missing.
        rows: value by column; ``None`` and NaN are empty cells. Columns outside the schema are appended in the order of
            their first row.

    Raises:
        ValueError: a row has no ``subject_id``, or a value holds a line break.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "network.csv"
        >>> write_predictions(path, [{"subject_id": "p1", "osteoporosis": True, "probability_osteoporosis": 0.9}])
        >>> read_predictions([path])[0].scores["osteoporosis"].tolist()
        [0.9]
    """
    table = list(rows)
    names = dict.fromkeys(name for row in table for name in row)
    if not all(row.get("subject_id") for row in table):
        raise ValueError("each row of a predictions table must have a subject_id")
    schema = [column.name for column in COLUMNS]
    columns = [name for name in schema if name in names or name == "subject_id"]
    columns += [name for name in names if name not in schema]
    write_table(path, columns, ([row.get(name) for name in columns] for row in table))


def read_prediction_rows(
    path: Path, required: Sequence[str] = ("probability_osteoporosis",), allow_empty: bool = False
) -> list[dict[str, str]]:
    """Read the rows of a predictions table as text, checked value by value.

    ``model`` and ``cohort`` have their defaults (file name without suffix, ``test``), ``osteoporosis`` and ``virtual``
    are "0", "1" or empty, classes are in lower case. All rows are returned, those without a prediction too.

    Args:
        path: CSV file.
        required: columns that must be present in addition to ``subject_id``.
        allow_empty: accept rows that have no value in a required column.

    Raises:
        UnusableInputError: listing all problems of the file; no subject identifier is quoted.
    """
    table = _read_cells(path, ("subject_id", *required))
    problems = list(table.problems)
    for line, row in table.rows:
        empty = [] if allow_empty else [f"{name} is empty" for name in required if not row[name]]
        problems += [f"line {line}: {problem}" for problem in (*value_problems(row), *empty)]
    if not table.rows and not problems:
        problems.append("there is no row below the header")
    refuse(path, problems)
    return [_normalised(path, row) for _, row in table.rows]


def _read_cells(path: Path, required: Sequence[str]) -> CSVTable:
    """Read a table with commas, semicolons or tabs; its cells as ``plain_cells`` makes them."""
    table = read_table(path, required)
    return replace(table, rows=tuple((line, plain_cells(cells, table.separator)) for line, cells in table.rows))


def _normalised(path: Path, row: Mapping[str, str]) -> dict[str, str]:
    cells = {**row, "model": row.get("model") or path.stem, "cohort": row.get("cohort") or "test"}
    for name in ("osteoporosis", "virtual"):
        word = cells.get(name, "").lower()
        if word:
            cells[name] = "1" if word in TRUE_WORDS else "0"
    for name in ("bone_status", "predicted"):
        if name in cells:
            cells[name] = cells[name].lower()
    return cells


# --- models and cohorts -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PredictionRow:
    """Cells of a row and its place in the files, for messages."""

    place: str
    path: Path
    cells: Mapping[str, str]


_Groups = dict[tuple[str, str], list[PredictionRow]]
"""Rows by model and cohort."""


def read_predictions(paths: Sequence[Path], thresholds: DensityThresholds | None = None) -> list[Predictions]:
    """Read predictions tables; return one entry for each model and cohort, training, validation and test first.

    Args:
        paths: CSV files. In a file without the column ``model`` the model has the file's name without suffix.
        thresholds: of the classes by density (default: ``DensityThresholds()``).

    Raises:
        UnusableInputError: listing all problems of all files; no subject identifier is quoted.
    """
    limits = thresholds or DensityThresholds()
    rows: list[PredictionRow] = []
    problems: list[str] = []
    for path in paths:
        prefix = f"'{path.name}', " if len(paths) > 1 else ""
        file_rows, file_problems = _read_file(path, prefix, limits)
        rows += file_rows
        problems += file_problems
    if not rows and not problems:
        problems.append("there is no row below the header")
    groups = _grouped(rows)
    problems += _repeated_in_files(rows)
    problems += _subjects_in_two_splits(groups)
    for (model, cohort), members in groups.items():
        name = f"model '{model}', cohort '{cohort}'"
        problems += _group_problems(name, members)
    _refuse_all(paths, problems)
    predictions = [_assemble(model, cohort, members, limits) for (model, cohort), members in groups.items()]
    _refuse_all(paths, _contradictions(predictions))
    return predictions


def _read_file(path: Path, prefix: str, limits: DensityThresholds) -> tuple[list[PredictionRow], list[str]]:
    """Return the rows of a file and all that is wrong with them one by one."""
    try:
        table = _read_cells(path, ("subject_id",))
    except UnusableInputError as error:
        return [], [str(error)]
    problems = [f"{prefix}{problem}" for problem in table.problems] + _header_problems(path, table.header)
    rows = []
    for line, cells in table.rows:
        place = f"{prefix}line {line}"
        problems += [f"{place}: {problem}" for problem in (*value_problems(cells), *truth_problems(cells, limits))]
        rows.append(PredictionRow(place, path, _normalised(path, cells)))
    return rows, problems


def _header_problems(path: Path, header: Sequence[str]) -> list[str]:
    problems = []
    if not set(PREDICTIONS) & set(header):
        problems.append(f"'{path.name}' has no prediction: it needs one of {', '.join(PREDICTIONS[:-2])}")
    given = [name for name in PROBABILITIES if name in header]
    if given and len(given) < len(PROBABILITIES) and given != [PROBABILITIES[-1]]:
        wanted = ", ".join(PROBABILITIES)
        problems.append(f"'{path.name}' has only {' and '.join(given)}; give all of {wanted}, or only the last")
    if not set(TRUTHS) & set(header):
        problems.append(f"'{path.name}' has no truth: it needs {', '.join(TRUTHS[:-1])} or {TRUTHS[-1]}")
    return problems


def _grouped(rows: Sequence[PredictionRow]) -> _Groups:
    groups: _Groups = defaultdict(list)
    for row in rows:
        groups[row.cells["model"], row.cells["cohort"]].append(row)

    def order(cohort: str) -> tuple[int, str]:
        return (_COHORTS.index(cohort), "") if cohort in _COHORTS else (len(_COHORTS), cohort)

    return dict(sorted(groups.items(), key=lambda item: order(item[0][1])))


def _repeated_in_files(rows: Sequence[PredictionRow]) -> list[str]:
    """Report subjects that one model has in one cohort of two files."""
    origin: dict[tuple[str, str, str], Path] = {}
    problems = []
    for row in rows:
        model, cohort = row.cells["model"], row.cells["cohort"]
        if origin.setdefault((model, cohort, row.cells["subject_id"]), row.path) != row.path:
            problems.append(f"{row.place}: model '{model}' has this subject of '{cohort}' in another file already")
    return problems


def _refuse_all(paths: Sequence[Path], problems: Sequence[str]) -> None:
    if problems and len(paths) == 1 and not problems[0].startswith(("'", "there is no file")):
        refuse(paths[0], problems)
    if problems:
        shown, more = problems[:50], len(problems) - 50
        raise UnusableInputError("\n".join([*shown, *([f"and {more} more problems"] if more > 0 else [])]))


def _subjects_in_two_splits(groups: _Groups) -> list[str]:
    """Report subjects that one model has in two of training, validation and test; centres may repeat identifiers."""
    cohort_of: dict[tuple[str, str], str] = {}
    problems = []
    for (model, cohort), rows in groups.items():
        if cohort.startswith("external_"):
            continue
        for subject in dict.fromkeys(row.cells["subject_id"] for row in rows):
            earlier = cohort_of.setdefault((model, subject), cohort)
            if earlier != cohort:
                place = next(row.place for row in rows if row.cells["subject_id"] == subject)
                problems.append(f"{place}: model '{model}' has this subject in '{earlier}' and in '{cohort}'")
    return problems


def _split_answered(rows: Sequence[PredictionRow]) -> tuple[list[str], list[PredictionRow]]:
    """Return the prediction columns that this model fills, and the rows with a value in one of them."""
    used = [column for column in PREDICTIONS if any(row.cells.get(column) for row in rows)]
    return used, [row for row in rows if any(row.cells.get(column) for column in used)]


def _group_problems(name: str, rows: Sequence[PredictionRow]) -> list[str]:
    """Report what is wrong between the rows of one model in one cohort, called ``name``."""
    used, answered = _split_answered(rows)
    problems = []
    for row in answered:
        gaps = [column for column in used if not row.cells.get(column)]
        if gaps:
            problems.append(f"{row.place}: {', '.join(gaps)} empty, but other rows of {name} have it")
    if not answered:
        problems.append(f"{name} has no prediction: every row is empty")
    if len({has_binary_truth(row.cells) for row in rows}) > 1:
        problems.append(
            f"{name}: the truth must be osteoporosis in every row or bone_status or bmd_mg_cm3 in every row"
        )
    problems += unit_problems(name, [row.cells for row in rows])
    problems += doubled_rows([(row.place, row.cells) for row in rows])
    if ("predicted_bmd_lower" in used) != ("predicted_bmd_upper" in used):
        problems.append(f"{name}: predicted_bmd_lower and predicted_bmd_upper must be given together")
    return problems


def _assemble(model: str, cohort: str, rows: Sequence[PredictionRow], limits: DensityThresholds) -> Predictions:
    used, answered = _split_answered(rows)
    cells = sorted((row.cells for row in answered), key=_image_key)
    columns = {column: [row.get(column, "") for row in cells] for column in (*NUMBERS, *FACTS)}
    numbers = {name: _as_numbers(columns[name]) for name in (*used, "bmd_mg_cm3") if name in NUMBERS}
    binary = _is_binary(cells, used)
    classes = BINARY_CLASSES if binary else STATUS_CLASSES
    images, ordered = _image_names(cells)
    predicted, decided_by = _decisions(cells, numbers, used, binary, limits)
    scores = _scores(numbers, classes, limits)
    return Predictions(
        model=model,
        cohort=cohort,
        classes=classes,
        subjects=np.array([row["subject_id"] for row in cells], dtype=np.str_),
        images=np.array(images, dtype=np.str_),
        truth=np.array([classes.index(_truth(row, binary, limits)) for row in cells], dtype=np.intp),
        scores={name: score for name, (score, _) in scores.items()},
        score_kinds={name: kind for name, (_, kind) in scores.items()},
        probabilities=_probabilities(numbers, binary),
        predicted=None if predicted is None else np.array([classes.index(name) for name in predicted], dtype=np.intp),
        decided_by=decided_by,
        density=numbers["bmd_mg_cm3"],
        predicted_density=numbers.get("predicted_bmd_mg_cm3"),
        lower=numbers.get("predicted_bmd_lower"),
        upper=numbers.get("predicted_bmd_upper"),
        facts={name: np.array(columns[name], dtype=np.str_) for name in FACTS if any(columns[name])},
        unanswered=len(rows) - len(answered),
        virtual=any(row.cells.get("virtual") == "1" for row in rows),
        ordered_images=ordered,
    )


def _is_binary(rows: Sequence[Mapping[str, str]], used: Sequence[str]) -> bool:
    """Return whether the problem has two classes: by its truth, or because only osteoporosis is predicted."""
    by_class = {name for name in (*PROBABILITIES, *SCORES, "predicted") if name in used}
    only_osteoporosis = bool(by_class) and by_class <= {"probability_osteoporosis", "score_osteoporosis"}
    binary_truth = all(has_binary_truth(row) for row in rows)
    return binary_truth or (only_osteoporosis and "predicted_bmd_mg_cm3" not in used)


def _as_numbers(texts: Sequence[str]) -> Array:
    return np.array([float(text) if text else math.nan for text in texts], dtype=np.float64)


def _image_key(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row.get(column, "") for column in ("subject_id", *_IMAGE_COLUMNS))


def _image_names(rows: Sequence[Mapping[str, str]]) -> tuple[list[str], bool]:
    """Return a unique name of each row, and whether some rows are distinguished only by their order."""
    counts: dict[str, int] = defaultdict(int)
    names = []
    for row in rows:
        name = "\t".join(_image_key(row))
        counts[name] += 1
        names.append(f"{name}\t{counts[name]}")
    return names, any(count > 1 for count in counts.values())


def _truth(row: Mapping[str, str], binary: bool, limits: DensityThresholds) -> str:
    if has_binary_truth(row):
        return BINARY_CLASSES[row["osteoporosis"] == "1"]
    status = row.get("bone_status", "")
    if not status:
        status = limits.status(float(row["bmd_mg_cm3"]), limits.standard).value
    return BINARY_CLASSES[status == BoneStatus.OSTEOPOROSIS] if binary else status


def _probabilities(numbers: Mapping[str, Array], binary: bool) -> Array | None:
    given = [numbers[name] for name in PROBABILITIES if name in numbers]
    if binary:
        osteoporosis = numbers.get("probability_osteoporosis")
        return None if osteoporosis is None else np.column_stack([1 - osteoporosis, osteoporosis])
    return np.column_stack(given) if len(given) == len(PROBABILITIES) else None


def _scores(
    numbers: Mapping[str, Array], classes: Sequence[str], limits: DensityThresholds
) -> dict[str, tuple[Array, str]]:
    """Return the score of each class and its origin."""
    scores = {}
    density = numbers.get("predicted_bmd_mg_cm3")
    middle = (limits.osteoporosis_below + limits.normal_above) / 2
    for name in (c for c in classes if c in STATUS_CLASSES):
        given = [kind for kind in ("score", "probability") if f"{kind}_{name}" in numbers]
        if given:
            scores[name] = numbers[f"{given[0]}_{name}"], given[0]
        elif density is not None:
            by_status = {"normal": density, "osteoporosis": -density, "osteopenia": -np.abs(density - middle)}
            scores[name] = by_status[name], "density"
    return scores


def _decisions(
    rows: Sequence[Mapping[str, str]],
    numbers: Mapping[str, Array],
    used: Sequence[str],
    binary: bool,
    limits: DensityThresholds,
) -> tuple[list[str] | None, str]:
    """Return the predicted class of each row and its origin, or ``None`` and the reason."""

    def merged(name: str) -> str:
        return BINARY_CLASSES[name in ("1", "osteoporosis")] if binary else name

    if "predicted" in used:
        return [merged(row["predicted"]) for row in rows], "as given"
    given = [numbers[name] for name in PROBABILITIES if name in numbers]
    if len(given) == len(PROBABILITIES):
        best = np.argmax(np.column_stack(given), axis=1)
        return [merged(STATUS_CLASSES[k]) for k in best], "the most probable class"
    if binary and "probability_osteoporosis" in numbers:
        positive = numbers["probability_osteoporosis"] >= 0.5
        return [BINARY_CLASSES[int(p)] for p in positive], "probability of osteoporosis at least 0.5"
    if "predicted_bmd_mg_cm3" in numbers:
        statuses = [limits.status(float(d), limits.standard).value for d in numbers["predicted_bmd_mg_cm3"]]
        origin = f"predicted density, cut-offs {limits.osteoporosis_below:g} and {limits.normal_above:g} mg/cm3"
        return [merged(status) for status in statuses], origin
    return None, "the model gives scores only, and a score gives no class without a cut-off"


def _contradictions(predictions: Sequence[Predictions]) -> list[str]:
    """Report models of one cohort that have different truths of the same image."""
    problems = []
    by_cohort: dict[str, list[Predictions]] = defaultdict(list)
    for model in predictions:
        by_cohort[model.cohort].append(model)
    for cohort, models in by_cohort.items():
        first = models[0]
        for other in models[1:]:
            first_rows, other_rows = common_rows(first, other)
            differ = first.is_class("osteoporosis")[first_rows] != other.is_class("osteoporosis")[other_rows]
            if first.classes == other.classes:
                differ |= first.truth[first_rows] != other.truth[other_rows]
            if differ.any():
                problems.append(
                    f"cohort '{cohort}': models '{first.model}' and '{other.model}' have different truths of "
                    f"{int(differ.sum())} of {len(first_rows)} images"
                )
    return problems
