"""Predictions of one or several models, read from CSV files and checked; ``docs/predictions.md`` tells the columns."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.csv_tables import read_rows, refuse
from osteo_monai.domain import SPLIT_PATTERN, BoneStatus, DensityThresholds
from osteo_monai.errors import UnusableInputError

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Texts = NDArray[np.str_]

STATUS_CLASSES = tuple(status.value for status in BoneStatus)
BINARY_CLASSES = ("no_osteoporosis", "osteoporosis")
"""Classes of a problem with two answers, such as the radiographs of Li 2026 and Boonrod 2025."""

FACTS = ("level", "age", "sex", "kvp", "contrast_phase", "acquisition")
"""Columns that describe a row; no statistic needs them, subgroups use them."""

_NAMES_AN_IMAGE = ("image_id", "level", "acquisition", "kvp", "contrast_phase")
_PROBABILITIES = tuple(f"probability_{name}" for name in STATUS_CLASSES)
_SCORES = tuple(f"score_{name}" for name in STATUS_CLASSES)
_DENSITIES = ("predicted_bmd_mg_cm3", "predicted_bmd_lower", "predicted_bmd_upper")
_PREDICTED = (*_PROBABILITIES, *_SCORES, "predicted", *_DENSITIES)
_NUMBERS = (*_PROBABILITIES, *_SCORES, "bmd_mg_cm3", *_DENSITIES)
_SUM_TOLERANCE = 0.005
"""Three probabilities of two decimals each may miss 1 by so much."""
_DENSITY_LIMITS = (-300.0, 1000.0)
"""mg/cm3: fatty marrow goes below 0, cortical bone to about 1000; beyond is another unit."""
_FALSE, _TRUE = {"0", "false", "no"}, {"1", "true", "yes"}

__all__ = ["BINARY_CLASSES", "FACTS", "STATUS_CLASSES", "Predictions", "common_rows", "read_predictions"]


@dataclass(frozen=True)
class Predictions:
    """What one model said of one cohort, one row per image that it answered.

    Attributes:
        model, cohort: their names.
        classes: the three of ``BoneStatus``, or ``BINARY_CLASSES``.
        subjects: (n,) who the row is of; a subject may have several rows.
        images: (n,) a name of each row, made of the subject and what tells its images apart; no two rows share one.
        truth: (n,) index into ``classes``.
        scores: class to (n,) score, larger = more likely; classes without a score are missing.
        score_kinds: class to what its score is: "score" (as given), "probability" or "density" (derived from it).
        probabilities: (n, classes), or ``None``.
        predicted: (n,) index into ``classes``, or ``None``.
        decided_by: where ``predicted`` comes from, or why there is none.
        density: (n,) true density in mg/cm3, ``nan`` where unknown.
        predicted_density, lower, upper: (n,) predicted density with its 90 % interval, mg/cm3, or ``None``.
        facts: column to (n,) text, empty where unknown; only columns that have a value.
        unanswered: subjects' rows without any prediction, which stand in no array.
        virtual: whether any row says that its subject is a virtual patient.
        ordered_images: whether rows of one subject are told apart by their order in the file alone.
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
        """The classes that tables speak of: of two, the positive one alone."""
        return self.classes if self.classes == STATUS_CLASSES else self.classes[1:]

    @property
    def repeats(self) -> bool:
        """Whether a subject has several rows."""
        return len(np.unique(self.subjects)) < len(self)

    def is_class(self, name: str) -> NDArray[np.bool_]:
        """Return (n,) whether the truth is this class."""
        return self.truth == self.classes.index(name)

    def is_predicted(self, name: str) -> NDArray[np.bool_] | None:
        """Return (n,) whether this class was predicted, or ``None`` where nothing was decided."""
        return None if self.predicted is None else self.predicted == self.classes.index(name)


def common_rows(first: Predictions, second: Predictions) -> tuple[Codes, Codes]:
    """Return the rows of either that show the same image, in the same order.

    Where every subject has one row in both, the subject says which; else what names an image must agree as well.
    """
    one_each = not first.repeats and not second.repeats
    a, b = (one.subjects if one_each else one.images for one in (first, second))
    _, rows, others = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return rows, others


_Row = tuple[str, dict[str, str]]
"""Where a row stands, for messages, and its cells."""


def read_predictions(paths: Sequence[Path], thresholds: DensityThresholds | None = None) -> list[Predictions]:
    """Read files of predictions; one entry per model and cohort, cohorts in the order of their use.

    Args:
        paths: CSV files. A file without the column ``model`` is one model, called as the file without its ending.
        thresholds: of the classes by density, those of ``DensityThresholds`` where ``None``.

    Raises:
        UnusableInputError: with everything that is wrong in all files; no subject identifier is quoted.
    """
    limits = thresholds or DensityThresholds()
    groups: dict[tuple[str, str], list[_Row]] = {}
    problems: list[str] = []
    origin: dict[tuple[str, str, str], Path] = {}
    for path in paths:
        header, rows, wrong = _read_file(path, problems)
        before = f"'{path.name}', " if len(paths) > 1 else ""
        problems += [f"{before}{problem}" for problem in wrong]
        if header and not any(name in header for name in _PREDICTED):
            problems.append(f"'{path.name}' predicts nothing: it needs one of {', '.join(_PREDICTED[:-2])}")
        given = [name for name in _PROBABILITIES if name in header]
        if given and len(given) < 3 and given != [_PROBABILITIES[-1]]:
            wanted = ", ".join(_PROBABILITIES)
            problems.append(f"'{path.name}' has {' and '.join(given)} alone; give all of {wanted} or only the last")
        if header and not {"bone_status", "bmd_mg_cm3", "osteoporosis"} & set(header):
            problems.append(f"'{path.name}' has no truth: it needs bone_status, bmd_mg_cm3 or osteoporosis")
        for line, row in rows:
            where = f"{before}line {line}"
            problems += [f"{where}: {problem}" for problem in _wrong_in(row, limits)]
            model = row.get("model") or path.stem
            cohort = row.get("cohort") or "test"
            key = (model, cohort, row["subject_id"])
            if origin.setdefault(key, path) != path:
                problems.append(f"{where}: model '{model}' has this subject of '{cohort}' in another file already")
            groups.setdefault((model, cohort), []).append((where, row))
    if not groups and not problems:
        problems.append("no row below the header")
    groups = dict(sorted(groups.items(), key=lambda item: _order(item[0][1])))
    problems += _subjects_in_two_splits(groups)
    for (model, cohort), held in groups.items():
        problems += _wrong_between(f"model '{model}', cohort '{cohort}'", held)
    _refuse_all(paths, problems)
    found = [_assemble(model, cohort, held, limits) for (model, cohort), held in groups.items()]
    _refuse_all(paths, _contradictions(found))
    return found


def _read_file(path: Path, problems: list[str]) -> tuple[list[str], list[tuple[int, dict[str, str]]], list[str]]:
    try:
        return read_rows(path, ("subject_id",))
    except UnusableInputError as error:
        problems.append(str(error))
        return [], [], []


def _refuse_all(paths: Sequence[Path], problems: Sequence[str]) -> None:
    if problems and len(paths) == 1 and not problems[0].startswith(("'", "there is no file")):
        refuse(paths[0], problems)
    if problems:
        shown, more = problems[:50], len(problems) - 50
        raise UnusableInputError("\n".join([*shown, *([f"and {more} more problems"] if more > 0 else [])]))


def _order(cohort: str) -> tuple[int, str]:
    known = ("training", "validation", "test")
    return (known.index(cohort), "") if cohort in known else (len(known), cohort)


# --- one row ------------------------------------------------------------------------------------------------------


def _wrong_in(row: Mapping[str, str], limits: DensityThresholds) -> list[str]:
    """Everything that is wrong with one row, each in a sentence."""
    wrong = []
    if not row["subject_id"]:
        wrong.append("subject_id is empty")
    if row.get("cohort") and not re.match(SPLIT_PATTERN, row["cohort"]):
        wrong.append(f"cohort must be training, validation, test or external_<centre>, got '{row['cohort'][:40]}'")
    numbers: dict[str, float] = {}
    for name in _NUMBERS:
        problem = _wrong_number(name, row.get(name, ""))
        if problem:
            wrong.append(problem)
        elif row.get(name):
            numbers[name] = float(row[name])
    probabilities = [numbers[name] for name in _PROBABILITIES if name in numbers]
    if len(probabilities) == 3 and abs(sum(probabilities) - 1) > _SUM_TOLERANCE:
        wrong.append(f"the three probabilities must add up to 1, got {sum(probabilities):.4g}")
    low, middle, high = (numbers.get(name) for name in ("predicted_bmd_lower", *_DENSITIES[::2]))
    if low is not None and high is not None and not low <= (middle if middle is not None else low) <= high:
        wrong.append("predicted_bmd_mg_cm3 must lie between predicted_bmd_lower and predicted_bmd_upper")
    if row.get("virtual", "").lower() not in _FALSE | _TRUE | {""}:
        wrong.append(f"virtual must be 0 or 1, got '{row['virtual'][:40]}'")
    return wrong + _wrong_truth(row, numbers.get("bmd_mg_cm3"), limits) + _wrong_class(row)


def _wrong_number(name: str, text: str) -> str | None:
    if not text:
        return None
    wanted = "a number between 0 and 1" if name in _PROBABILITIES else "a finite number"
    if name in ("bmd_mg_cm3", *_DENSITIES):
        wanted = "a density in mg/cm3"
    try:
        number = float(text)
    except ValueError:
        return f"{name} must be {wanted}, got '{text[:40]}'"
    good = math.isfinite(number)
    if name in _PROBABILITIES:
        good = 0 <= number <= 1
    elif wanted == "a density in mg/cm3":
        good = _DENSITY_LIMITS[0] <= number <= _DENSITY_LIMITS[1]
    return None if good else f"{name} must be {wanted}, got '{text[:40]}'"


def _wrong_truth(row: Mapping[str, str], density: float | None, limits: DensityThresholds) -> list[str]:
    status, flag = row.get("bone_status", "").lower(), row.get("osteoporosis", "").lower()
    wrong = []
    if not status and not flag and not row.get("bmd_mg_cm3"):
        return ["there is no truth: bone_status, bmd_mg_cm3 and osteoporosis are empty"]
    if status and status not in STATUS_CLASSES:
        return [f"bone_status must be one of {', '.join(STATUS_CLASSES)}, got '{status[:40]}'"]
    if flag and flag not in _FALSE | _TRUE:
        wrong.append(f"osteoporosis must be 0 or 1, got '{flag[:40]}'")
    if status and density is not None and limits.status(density, limits.standard) != status:
        due = limits.status(density, limits.standard).value
        wrong.append(f"bone_status is {status}, but {density:g} mg/cm3 means {due}")
    if status and flag and (flag in _TRUE) != (status == BoneStatus.OSTEOPOROSIS):
        wrong.append(f"osteoporosis is {flag}, but bone_status is {status}")
    return wrong


def _wrong_class(row: Mapping[str, str]) -> list[str]:
    text = row.get("predicted", "").lower()
    allowed = set(STATUS_CLASSES) | ({"0", "1", *BINARY_CLASSES} if _binary_truth(row) else set())
    if text and text not in allowed:
        return [f"predicted must be one of {', '.join(sorted(allowed))}, got '{text[:40]}'"]
    return []


def _binary_truth(row: Mapping[str, str]) -> bool:
    """A radiograph's truth comes from DXA: its yes or no stands beside a QCT density without contradicting it."""
    return bool(row.get("osteoporosis")) and not row.get("bone_status")


# --- one model in one cohort --------------------------------------------------------------------------------------


def _subjects_in_two_splits(groups: Mapping[tuple[str, str], Sequence[_Row]]) -> list[str]:
    """Subjects of one model that stand in two of training, validation and test; centres may number alike."""
    seen: dict[tuple[str, str], str] = {}
    problems = []
    for (model, cohort), rows in groups.items():
        if cohort.startswith("external_"):
            continue
        for subject in dict.fromkeys(row["subject_id"] for _, row in rows):
            other = seen.setdefault((model, subject), cohort)
            if other != cohort:
                where = next(where for where, row in rows if row["subject_id"] == subject)
                problems.append(f"{where}: model '{model}' has this subject in '{other}' and in '{cohort}'")
    return problems


def _split_answered(rows: Sequence[_Row]) -> tuple[list[str], list[_Row]]:
    """Return the prediction columns that this model fills, and the rows that have anything in them."""
    used = [column for column in _PREDICTED if any(row.get(column) for _, row in rows)]
    return used, [(where, row) for where, row in rows if any(row.get(column) for column in used)]


def _wrong_between(name: str, rows: Sequence[_Row]) -> list[str]:
    """What is wrong between the rows of one model in one cohort, called ``name``."""
    used, answered = _split_answered(rows)
    problems = []
    for where, row in answered:
        gaps = [column for column in used if not row.get(column)]
        if gaps:
            problems.append(f"{where}: {', '.join(gaps)} empty, but other rows of {name} have it")
    if not answered:
        problems.append(f"{name} predicts nothing: every row is empty")
    if len({_binary_truth(row) for _, row in rows}) > 1:
        problems.append(
            f"{name}: the truth must be osteoporosis in every row or bone_status or bmd_mg_cm3 in every row"
        )
    if ("predicted_bmd_lower" in used) != ("predicted_bmd_upper" in used):
        problems.append(f"{name}: predicted_bmd_lower and predicted_bmd_upper need one another")
    return problems


def _assemble(model: str, cohort: str, rows: Sequence[_Row], limits: DensityThresholds) -> Predictions:
    used, answered = _split_answered(rows)
    kinds = {_binary_truth(row) for _, row in answered}
    columns = {column: [row.get(column, "") for _, row in answered] for column in (*_NUMBERS, *FACTS)}
    numbers = {c: _as_numbers(columns[c]) for c in (*used, "bmd_mg_cm3") if c in _NUMBERS}
    partial = {p for p in (*_PROBABILITIES, *_SCORES, "predicted") if p in used}
    only_osteoporosis = bool(partial) and partial <= {"probability_osteoporosis", "score_osteoporosis"}
    with_density = "predicted_bmd_mg_cm3" in used
    binary = kinds == {True} or (only_osteoporosis and not with_density)
    classes = BINARY_CLASSES if binary else STATUS_CLASSES
    images, ordered = _image_names([row for _, row in answered])
    predicted, decided_by = _decisions([row for _, row in answered], numbers, used, binary, limits)
    truth = [_truth(row, binary, limits) for _, row in answered]
    scores = _scores(numbers, classes, limits)
    return Predictions(
        model=model,
        cohort=cohort,
        classes=classes,
        subjects=np.array([row["subject_id"] for _, row in answered], dtype=np.str_),
        images=np.array(images, dtype=np.str_),
        truth=np.array([classes.index(t) for t in truth], dtype=np.intp),
        scores={c: score for c, (score, _) in scores.items()},
        score_kinds={c: kind for c, (_, kind) in scores.items()},
        probabilities=_probabilities(numbers, binary),
        predicted=None if predicted is None else np.array([classes.index(p) for p in predicted], dtype=np.intp),
        decided_by=decided_by,
        density=numbers["bmd_mg_cm3"],
        predicted_density=numbers.get("predicted_bmd_mg_cm3"),
        lower=numbers.get("predicted_bmd_lower"),
        upper=numbers.get("predicted_bmd_upper"),
        facts={f: np.array(columns[f], dtype=np.str_) for f in FACTS if any(columns[f])},
        unanswered=len(rows) - len(answered),
        virtual=any(row.get("virtual", "").lower() in _TRUE for _, row in rows),
        ordered_images=ordered,
    )


def _as_numbers(texts: Sequence[str]) -> Array:
    return np.array([float(text) if text else math.nan for text in texts], dtype=np.float64)


def _image_names(rows: Sequence[Mapping[str, str]]) -> tuple[list[str], bool]:
    """Name each row by its subject and what tells its images apart, then by its order among those named alike."""
    times: dict[str, int] = defaultdict(int)
    names = []
    for row in rows:
        name = "\t".join(row.get(column, "") for column in ("subject_id", *_NAMES_AN_IMAGE))
        times[name] += 1
        names.append(f"{name}\t{times[name]}")
    return names, any(count > 1 for count in times.values())


def _truth(row: Mapping[str, str], binary: bool, limits: DensityThresholds) -> str:
    if _binary_truth(row):
        return BINARY_CLASSES[row["osteoporosis"].lower() in _TRUE]
    status = row.get("bone_status", "").lower()
    if not status:
        status = limits.status(float(row["bmd_mg_cm3"]), limits.standard).value
    return BINARY_CLASSES[status == BoneStatus.OSTEOPOROSIS] if binary else status


def _probabilities(numbers: Mapping[str, Array], binary: bool) -> Array | None:
    held = [numbers[name] for name in _PROBABILITIES if name in numbers]
    if binary:
        p = numbers.get("probability_osteoporosis")
        return None if p is None else np.column_stack([1 - p, p])
    return np.column_stack(held) if len(held) == 3 else None


def _scores(
    numbers: Mapping[str, Array], classes: Sequence[str], limits: DensityThresholds
) -> dict[str, tuple[Array, str]]:
    """Return the score of each class and what it is."""
    found = {}
    density = numbers.get("predicted_bmd_mg_cm3")
    middle = (limits.osteoporosis_below + limits.normal_above) / 2
    for name in (c for c in classes if c in STATUS_CLASSES):
        given = [kind for kind in ("score", "probability") if f"{kind}_{name}" in numbers]
        if given:
            found[name] = numbers[f"{given[0]}_{name}"], given[0]
        elif density is not None:
            by_status = {"normal": density, "osteoporosis": -density, "osteopenia": -np.abs(density - middle)}
            found[name] = by_status[name], "density"
    return found


def _decisions(
    rows: Sequence[Mapping[str, str]],
    numbers: Mapping[str, Array],
    used: Sequence[str],
    binary: bool,
    limits: DensityThresholds,
) -> tuple[list[str] | None, str]:
    """Return the class of each row and where it comes from, or ``None`` and why there is none."""

    def folded(name: str) -> str:
        return BINARY_CLASSES[name in ("1", "osteoporosis")] if binary else name

    if "predicted" in used:
        return [folded(row["predicted"].lower()) for row in rows], "as given"
    held = [numbers[name] for name in _PROBABILITIES if name in numbers]
    if len(held) == 3:
        best = np.argmax(np.column_stack(held), axis=1)
        return [folded(STATUS_CLASSES[k]) for k in best], "the most probable class"
    if binary and "probability_osteoporosis" in numbers:
        called = numbers["probability_osteoporosis"] >= 0.5
        return [BINARY_CLASSES[int(c)] for c in called], "probability of osteoporosis at least 0.5"
    if "predicted_bmd_mg_cm3" in numbers:
        words = [limits.status(float(d), limits.standard).value for d in numbers["predicted_bmd_mg_cm3"]]
        said = f"predicted density, cut-offs {limits.osteoporosis_below:g} and {limits.normal_above:g} mg/cm3"
        return [folded(word) for word in words], said
    return None, "the model gives scores only, and a score decides nothing without a cut-off"


def _contradictions(found: Sequence[Predictions]) -> list[str]:
    """Models of one cohort that hold different truths of the same image."""
    problems = []
    by_cohort: dict[str, list[Predictions]] = defaultdict(list)
    for one in found:
        by_cohort[one.cohort].append(one)
    for cohort, several in by_cohort.items():
        first = several[0]
        for other in several[1:]:
            a, b = common_rows(first, other)
            differ = first.is_class("osteoporosis")[a] != other.is_class("osteoporosis")[b]
            if first.classes == other.classes:
                differ |= first.truth[a] != other.truth[b]
            if differ.any():
                problems.append(
                    f"cohort '{cohort}': models '{first.model}' and '{other.model}' hold different truths of "
                    f"{int(differ.sum())} of {len(a)} images"
                )
    return problems
