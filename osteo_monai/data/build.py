"""A manifest from a table of subjects and a tree of images, with the rules of a study applied and every loss counted.

docs/manifests.md describes the columns. Nothing is guessed: a fact that is not known stays unknown, and where a rule
needs it, the number of subjects that could not be checked is told.
"""

import csv
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import ValidationError

from osteo_monai.data.checks import contradictions
from osteo_monai.data.manifest import Header, Manifest, sentences
from osteo_monai.data.record import Record
from osteo_monai.domain import (
    KVP_TOLERANCE,
    SCREENED_LEVELS,
    SPLIT_PATTERN,
    DensityThresholds,
    MineralStandard,
    VertebraLevel,
)
from osteo_monai.errors import ManifestError, ScanRefusedError, UnusableInputError
from osteo_monai.imaging import Acquisition, find_studies, read_acquisition, read_label_map
from osteo_monai.imaging.acquisition import date_of, sex_of
from osteo_monai.imaging.nifti import is_nifti, stem

__all__ = ["RULE_SETS", "TABLE_COLUMNS", "Build", "BuildOptions", "Exclusion", "Rule", "Stage", "build_manifest"]

TABLE_COLUMNS: tuple[str, ...] = (
    "subject_id", "image", "label", "segmentation", "split", "acquired", "age", "sex", "height_cm", "weight_kg",
    "bmd_mg_cm3", "bmd_l1_mg_cm3", "bmd_l2_mg_cm3", "bmd_standard", "areal_bmd_g_cm2", "t_score", "bone_status",
    "centre", "manufacturer", "scanner", "kvp", "kernel", "slice_thickness_mm", "contrast_phase",
    "l2_in_view", "implant", "severe_degeneration", "fracture",
)  # fmt: skip
"""Columns that are read; only ``subject_id`` must be there."""

_NUMBERS = frozenset(
    {"age", "height_cm", "weight_kg", "bmd_mg_cm3", "bmd_l1_mg_cm3", "bmd_l2_mg_cm3", "areal_bmd_g_cm2", "t_score",
     "kvp", "slice_thickness_mm"}
)  # fmt: skip
_YES_NO = frozenset({"l2_in_view", "implant", "severe_degeneration", "fracture"})
_UNKNOWN = frozenset({"", "na", "n/a", "nan", "none", "null", "unknown", "-", "?"})
_ANSWERS = {**dict.fromkeys(("yes", "y", "true", "1"), True), **dict.fromkeys(("no", "n", "false", "0"), False)}

LABEL_ENDINGS, SEGMENTATION_ENDINGS = ("_label", "_labels"), ("_segmentation", "_seg")
"""What the stem of a NIfTI file beside an image ends with if it is the true, or the predicted, label map."""

_NO_STANDARD = (
    "densities in mg/cm3 are given without their standard, expected K2HPO4 or hydroxyapatite in a column "
    "bmd_standard or by --standard"
)

AGE_TOLERANCE_YEARS = 1.5
"""Age in a header counts from another day than the one in a table; more than this is told."""

_SHOWN = 5


# --- rules --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """Why a subject leaves.

    Attributes:
        reason: as it stands in the flow diagram.
        needs: the fact that the rule asks for, in words.
        hits: True if the subject leaves, None if the fact is not known.
        stage: ``inclusion`` or ``exclusion``; all rules of the first come before those of the second.
    """

    reason: str
    needs: str
    hits: Callable[[Mapping[str, Any]], bool | None]
    stage: Literal["inclusion", "exclusion"]


def _age(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["age"] is None else facts["age"] < 18


def _kvp(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["kvp"] is None else abs(facts["kvp"] - 120) > KVP_TOLERANCE


def _not_in_view(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["l2_in_view"] is None else not facts["l2_in_view"]


def _deformed(facts: Mapping[str, Any]) -> bool | None:
    answers = (facts["severe_degeneration"], facts["fracture"])
    return True if True in answers else None if None in answers else False


RULE_SETS: dict[str, tuple[Rule, ...]] = {
    "none": (),
    "pan2024": (
        Rule("younger than 18 years", "age", _age, "inclusion"),
        Rule("tube voltage other than 120 kVp", "tube voltage", _kvp, "inclusion"),
        Rule("no QCT density", "QCT density", lambda f: f["bmd_mg_cm3"] is None, "inclusion"),
        Rule("field of view without the whole L2", "field of view", _not_in_view, "exclusion"),
        Rule("implant or foreign material in L1 or L2", "implants", lambda f: f["implant"], "exclusion"),
        Rule("severe degeneration or fracture deformity", "degeneration and fracture", _deformed, "exclusion"),
    ),
}
"""Named rule sets in the order they are applied. ``pan2024``: Methods of doi 10.1186/s12891-024-07297-1, Fig. 1."""


# --- what comes of it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exclusion:
    """A subject that left, where, and by the first rule that hit."""

    subject_id: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Stage:
    """A box of the flow diagram: who comes here, who leaves for which reason, and what could not be checked."""

    label: str
    count: int
    excluded: tuple[tuple[str, int], ...] = ()
    unchecked: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Build:
    """A manifest that was built, with its losses.

    Attributes:
        manifest: its paths are relative to the folder that was asked for.
        exclusions: one for each subject that left, in the order of the table.
        stages: of the flow diagram, from the table to the manifest; their counts add up.
        notes: sentences about what was found on the way and is no problem.
    """

    manifest: Manifest
    exclusions: tuple[Exclusion, ...]
    stages: tuple[Stage, ...]
    notes: tuple[str, ...]

    def write_exclusions(self, path: Path) -> None:
        """Write one row with ``subject_id``, ``stage`` and ``reason`` for each subject that left."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["subject_id", "stage", "reason"])
            writer.writerows([e.subject_id, e.stage, e.reason] for e in self.exclusions)


@dataclass(frozen=True)
class BuildOptions:
    """What a manifest is built from.

    Attributes:
        table: CSV (comma, semicolon or tab) or Excel file with one row per image, usually one per subject.
        images: folder with the images.
        folder: where the manifest will lie; its paths are relative to it.
        columns: names of the table's columns where they are not those of ``TABLE_COLUMNS``.
        rules: a key of ``RULE_SETS``.
        exclude_unknown: a subject also leaves where a rule's fact is not known.
        standard: of the densities, where the table has no column for it.
        split: the split of all records, where the table has no column for it; the default trains nobody by accident.
        name: of the cohort; the table's name without ending where ``None``.
        virtual: the people are simulated.
        screening: output of ``osteo-monai screen`` of the same images; tells field of view, implants and fractures
            where the table does not.
        thresholds: what ``bone_status`` follows from where the table does not state it.
    """

    table: Path
    images: Path
    folder: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    rules: str = "none"
    exclude_unknown: bool = False
    standard: MineralStandard | None = None
    split: str = "test"
    name: str | None = None
    virtual: bool = False
    screening: Path | None = None
    thresholds: DensityThresholds = field(default_factory=DensityThresholds)

    def __post_init__(self) -> None:
        if self.rules not in RULE_SETS:
            raise ValueError(f"the rules must be one of {', '.join(RULE_SETS)}, got {self.rules!r}")
        if not re.match(SPLIT_PATTERN, self.split):
            raise ValueError(f"the split must be training, validation, test or external_<centre>, got {self.split!r}")


@dataclass
class _Row:
    """One row of the table: where it stands, its facts, and what was found in the tree and the header."""

    where: str
    subject: str
    facts: dict[str, Any]
    image: Path | None = None
    lost: str | None = None
    """Why there is no image that can be used."""


def build_manifest(options: BuildOptions) -> Build:
    """Join a table of subjects with a tree of images and apply a rule set.

    An image belongs to a subject whose row names it, or else by name: a folder or a file in the tree called as the
    subject, with or without ``sub-`` before it. Facts that the table lacks are taken from the DICOM headers or the JSON
    beside a NIfTI. A subject leaves whole, by the first rule that hits one of its rows.

    Raises:
        ManifestError: listing every problem of the table and of what was made of it.
        UnusableInputError: the table or the tree cannot be read at all.
    """
    rows, problems, notes = _read_table(options)
    if not options.images.is_dir():
        raise UnusableInputError(f"There is no folder '{options.images.name}' with the images.")
    tree = _Tree(options.images)
    for row in rows:
        _find_image(row, tree, problems)
    notes += tree.unused_note({row.image for row in rows if row.image is not None})
    headers = {row.image: _header(row) for row in rows if row.image is not None}
    notes += _fill_from_headers(rows, headers)
    if options.screening is not None:
        notes += _fill_from_screening(rows, options.screening)
    _fill_from_label_maps(rows)

    exclusions, stages = _apply(rows, options)
    out = {e.subject_id for e in exclusions}
    splits: dict[str, list[Record]] = defaultdict(list)
    checked: dict[str, list[Record]] = defaultdict(list)  # those who leave as well: an error is an error
    places: dict[tuple[str, int], str] = {}
    for row in rows:
        try:
            record = _record(row, options)
        except ValidationError as error:
            problems += (_NO_STANDARD if "bmd_standard" in s else s for s in sentences(row.where, error))
            continue
        if record is None:
            continue
        split = row.facts["split"] or options.split
        places[split, len(checked[split])] = row.where
        checked[split].append(record)
        if row.subject not in out:
            splits[split].append(record)
    problems += contradictions(checked, options.thresholds, options.virtual, lambda place: places[place])
    if not problems and not splits:
        said = "; ".join(f"{reason}: {n}" for stage in stages for reason, n in stage.excluded)
        problems.append(f"no subject is left of {stages[0].count} ({said})")
    if problems:
        raise ManifestError(options.table.name, list(dict.fromkeys(problems)))
    rules = (
        f" Rules {options.rules}: {stages[-1].count} of {stages[0].count} subjects." if options.rules != "none" else ""
    )
    header = Header(
        name=options.name or options.table.stem,
        description=f"Built from the table {options.table.name}.{rules}",
        virtual=options.virtual,
    )
    manifest = Manifest(header=header, splits={split: tuple(records) for split, records in splits.items()})
    return Build(manifest, exclusions, stages, tuple(notes))


# --- the table ----------------------------------------------------------------------------------------------------


def _read_table(options: BuildOptions) -> tuple[list[_Row], list[str], list[str]]:
    """Return the rows, the problems in them, and notes."""
    table, comma = _read_cells(options.table)
    problems: list[str] = []
    names = {str(c).strip().lower(): c for c in table.columns}
    source: dict[str, Any] = {}
    for ours, theirs in options.columns.items():
        if ours not in TABLE_COLUMNS:
            problems.append(
                f"--columns: {ours!r} is no column that is read, expected one of {', '.join(TABLE_COLUMNS)}"
            )
        elif theirs.strip().lower() not in names:
            problems.append(f"--columns: the table has no column {theirs!r} for {ours}")
        else:
            source[ours] = names[theirs.strip().lower()]
    for ours in TABLE_COLUMNS:
        if ours not in options.columns and ours in names:
            source[ours] = names[ours]
    if "subject_id" not in source and "subject_id" not in options.columns:
        problems.append("the table needs a column subject_id; name another one with --columns subject_id=NAME")
    if "subject_id" not in source:
        raise ManifestError(options.table.name, problems)
    ignored = [str(c) for c in table.columns if c not in source.values()]
    notes = [f"Columns that are not read: {', '.join(ignored)}."] if ignored else []
    rows = []
    for position, cells in enumerate(table[list(source.values())].itertuples(index=False, name=None)):
        values = {ours: str(cell).strip() for ours, cell in zip(source, cells, strict=True)}
        if not any(values.values()):
            continue
        where = f"row {position + 2}"
        subject = values["subject_id"]
        if not subject:
            problems.append(f"{where}: subject_id is empty")
            continue
        where += f" (subject {subject!r})"
        facts: dict[str, Any] = dict.fromkeys(TABLE_COLUMNS)
        for ours, text in values.items():
            try:
                facts[ours] = subject if ours == "subject_id" else _value(ours, text, comma)
            except ValueError as error:
                problems.append(f"{where}: {error}")
        _complete_density(facts, options)
        rows.append(_Row(where, subject, facts))
    if not rows and not problems:
        problems.append("the table has no rows")
    repeated = Counter(row.subject for row in rows if row.facts["image"] is None)
    problems += [
        f"subject {s!r} stands in {n} rows that do not name an image; name each in a column 'image'"
        for s, n in repeated.items()
        if n > 1
    ]
    return rows, problems, notes


def _read_cells(path: Path) -> tuple[pd.DataFrame, bool]:
    """Return the cells as text, and whether the decimal sign may be a comma."""
    if not path.is_file():
        raise UnusableInputError(f"There is no file '{path.name}'.")
    if path.suffix.lower() in {".xlsx", ".xlsm", ".xls", ".ods"}:
        if path.suffix.lower() not in {".xlsx", ".xlsm"} or find_spec("openpyxl") is None:
            raise UnusableInputError(
                f"'{path.name}' is a spreadsheet; only .xlsx can be read, and only where the package openpyxl is "
                "installed: save the table as CSV."
            )
        try:
            return pd.read_excel(path, dtype=str, keep_default_na=False), True
        except Exception as error:  # a reader of foreign files raises whatever it likes
            raise UnusableInputError(f"'{path.name}' cannot be read as a spreadsheet.") from error
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableInputError(f"'{path.name}' is not UTF-8 text; save the table as CSV in UTF-8.") from None
    lines = text.splitlines()
    separator = max(",;\t", key=lines[0].count) if lines else ","
    rows = list(csv.reader(lines, delimiter=separator))
    if not rows or not any(cell.strip() for cell in rows[0]):
        raise UnusableInputError(f"'{path.name}' is empty; expected a first line with the names of the columns.")
    head = [name.strip() for name in rows[0]]
    twice = sorted(name for name, n in Counter(name.lower() for name in head).items() if n > 1)
    long = [i + 2 for i, row in enumerate(rows[1:]) if len(row) > len(head)]
    if twice or long:
        problems = [f"the column {name!r} stands twice" for name in twice]
        raise ManifestError(path.name, problems + [f"row {i}: more fields than the {len(head)} columns" for i in long])
    body = [[*row, *[""] * (len(head) - len(row))] for row in rows[1:]]
    return pd.DataFrame(body, columns=head, dtype=str), separator != ","


def _value(name: str, text: str, comma: bool) -> Any:
    """Return what a cell says, ``None`` where it says nothing; raise ``ValueError`` with a sentence."""
    if text.lower() in _UNKNOWN:
        return None
    if name in _NUMBERS:
        try:
            number = float(text.replace(",", ".") if comma else text)
        except ValueError:
            number = float("nan")
        if number - number != 0:  # neither NaN nor infinity
            raise ValueError(f"{name} must be a number, or empty where unknown")
        return number
    if name in _YES_NO:
        if text.lower() not in _ANSWERS:
            raise ValueError(f"{name} must be yes or no, or empty where unknown")
        return _ANSWERS[text.lower()]
    if name == "sex":
        sex = sex_of(text)
        if sex is None:
            raise ValueError("sex must be F or M, or empty where unknown")
        return sex
    if name == "acquired":
        day = date_of(text) if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}([T ].*)?", text) else None
        if day is None:
            raise ValueError("acquired must be a day as 2021-07-31")
        return day
    if name == "bone_status":
        return text.lower()
    if name == "bmd_standard":
        return {s.lower(): s.value for s in MineralStandard}.get(text.lower(), text)
    if name == "split" and not re.match(SPLIT_PATTERN, text):
        raise ValueError("split must be training, validation, test or external_<centre>")
    return text


def _complete_density(facts: dict[str, Any], options: BuildOptions) -> None:
    """Mean of the levels, standard and class where the table leaves them to be derived."""
    levels = [facts["bmd_l1_mg_cm3"], facts["bmd_l2_mg_cm3"]]
    if facts["bmd_mg_cm3"] is None and None not in levels:
        facts["bmd_mg_cm3"] = sum(levels) / len(levels)
    if any(value is not None for value in (facts["bmd_mg_cm3"], *levels)) and facts["bmd_standard"] is None:
        facts["bmd_standard"] = options.standard
    known = facts["bmd_mg_cm3"] is not None and facts["bmd_standard"] == options.thresholds.standard
    if facts["bone_status"] is None and known:
        facts["bone_status"] = options.thresholds.status(facts["bmd_mg_cm3"], options.thresholds.standard)


# --- images -------------------------------------------------------------------------------------------------------


class _Tree:
    """The images below a folder, found by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._images: list[Path] = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for name in folders:
                self._by_name[name].append(Path(folder, name))
            for name in sorted(names):
                path = Path(folder, name)
                if is_nifti(path) and not _is_companion(path):
                    self._by_name[stem(path)].append(path)
                    self._images.append(path)

    def candidates(self, subject: str) -> list[Path]:
        """NIfTI files and DICOM studies that are called as the subject, or lie in a folder that is."""
        for name in (subject, f"sub-{subject}"):
            found = self._by_name.get(name, [])
            outer = [p for p in found if not any(q != p and p.is_relative_to(q) for q in found)]
            if outer:
                return [image for path in outer for image in _images_at(path)]
        return []

    def unused_note(self, used: set[Path]) -> list[str]:
        """Say how many NIfTI images no row of the table asks for."""
        count = sum(image not in used for image in self._images)
        return [f"{count} NIfTI images in the tree belong to no row of the table."] if count else []


def _is_companion(path: Path) -> bool:
    return stem(path).lower().endswith((*LABEL_ENDINGS, *SEGMENTATION_ENDINGS))


def _images_at(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    volumes = [p for p in sorted(path.rglob("*")) if p.is_file() and is_nifti(p) and not _is_companion(p)]
    if volumes:
        yield from volumes
        return
    try:
        yield from find_studies(path)
    except UnusableInputError:
        return


def _find_image(row: _Row, tree: _Tree, problems: list[str]) -> None:
    """Set the row's image, or say why there is none."""
    named = row.facts["image"]
    if named is not None:
        path = tree.root / named
        if path.exists():
            row.image = path
        else:
            problems.append(f"{row.where}: there is no file {named}")
        return
    found = tree.candidates(row.subject)
    if len(found) > 1:
        problems.append(
            f"{row.where}: {len(found)} images are called as the subject; name the one to take in a column 'image'"
        )
    elif found:
        row.image = found[0]
    else:
        row.lost = "no CT image found"


def _header(row: _Row) -> Acquisition | None:
    try:
        return read_acquisition(row.image) if row.image is not None else None
    except UnusableInputError:
        row.lost = "CT cannot be read"
    except ScanRefusedError as refused:
        row.lost = f"CT cannot be measured ({refused.findings[0].code.replace('_', ' ')})"
    return None


_FROM_HEADER = {
    "age": "age_years", "sex": "sex", "acquired": "acquired", "manufacturer": "manufacturer", "scanner": "model",
    "kvp": "kvp", "kernel": "kernel", "slice_thickness_mm": "slice_thickness_mm",
}  # fmt: skip


def _fill_from_headers(rows: Sequence[_Row], headers: Mapping[Path, Acquisition | None]) -> list[str]:
    """Take what the table lacks from the header; tell where the two disagree, which may be a wrong join."""
    differ: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        header = headers[row.image] if row.image is not None else None
        if header is None:
            continue
        for ours, theirs in _FROM_HEADER.items():
            stated, seen = row.facts[ours], getattr(header, theirs)
            if stated is None:
                row.facts[ours] = seen
            elif seen is not None and (
                (ours == "sex" and stated != seen)
                or (ours == "age" and abs(stated - seen) > AGE_TOLERANCE_YEARS)
                or (ours == "kvp" and abs(stated - seen) > KVP_TOLERANCE)
            ):
                differ[ours].append(row.subject)
                if ours == "kvp":  # how a scan was made is the header's to say, who was scanned is the table's
                    row.facts[ours] = seen
    taken = {"sex": "the table's was taken", "age": "the table's was taken", "kvp": "the header's was taken"}
    return [
        f"{fact} in the table is not the one in the image's header for {len(subjects)} subjects "
        f"({', '.join(subjects[:_SHOWN])}{', ...' if len(subjects) > _SHOWN else ''}); {taken[fact]}, "
        "check that the images belong to these rows."
        for fact, subjects in differ.items()
    ]


def _fill_from_screening(rows: Sequence[_Row], folder: Path) -> list[str]:
    """Take field of view, implants and fractures from results of ``osteo-monai screen`` where the table is silent."""
    results: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/result.json")):
        try:
            results[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    if not results:
        raise UnusableInputError(f"'{folder.name}' holds no results of osteo-monai screen (STUDY/result.json).")
    used = 0
    for row in rows:
        names = {row.subject, f"sub-{row.subject}"}
        mine = [r for name, r in results.items() if names & {part.split(".nii")[0] for part in name.split("__")}]
        if len(mine) != 1:
            continue
        used += 1
        found = {f["code"]: f["message"] for f in mine[0].get("findings", ())}
        measured = mine[0].get("verdict", "").startswith("accepted")
        out_of_view = any("L2" in found.get(code, "") for code in ("levels_not_covered", "level_cut"))
        for fact, seen in (
            ("l2_in_view", False if out_of_view else True if measured else None),
            ("implant", True if "metal" in found else False if measured else None),
            ("fracture", True if "fracture" in found else False if measured else None),
        ):
            if row.facts[fact] is None:
                row.facts[fact] = seen
    return [f"Field of view, implants and fractures were taken from the screening of {used} of {len(rows)} images."]


def _fill_from_label_maps(rows: Sequence[_Row]) -> None:
    """Find the label maps beside the images; one that ends at L2 tells that L2 is not wholly in view."""
    for row in rows:
        if row.image is None or row.lost is not None:
            continue
        beside = row.image.parent if row.image.is_file() else row.image
        own = stem(row.image) if is_nifti(row.image) else None
        for fact, endings in (("label", LABEL_ENDINGS), ("segmentation", SEGMENTATION_ENDINGS)):
            if row.facts[fact] is None and own is not None:
                places = [beside / f"{own}{e}{s}" for e in endings for s in (".nii.gz", ".nii")]
                row.facts[fact] = next((p for p in places if p.is_file()), None)
        stated = row.facts["label"] or row.facts["segmentation"]
        if row.facts["l2_in_view"] is None and isinstance(stated, Path):
            row.facts["l2_in_view"] = _l2_whole(stated)


def _l2_whole(path: Path) -> bool | None:
    """Whether the label map holds L2 and has slices below and above it; ``None`` where it cannot be read."""
    try:
        labels, _ = read_label_map(path)
    except (UnusableInputError, ValueError):
        return None
    slices = (labels == VertebraLevel.L2.label).any(axis=(0, 1)).nonzero()[0]
    return bool(slices.size and slices[0] > 0 and slices[-1] < labels.shape[2] - 1)


# --- who stays ----------------------------------------------------------------------------------------------------


def _apply(rows: Sequence[_Row], options: BuildOptions) -> tuple[tuple[Exclusion, ...], tuple[Stage, ...]]:
    """Let each subject leave at the first rule that hits, and count."""
    by_subject: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        by_subject[row.subject].append(row)
    exclusions: dict[str, Exclusion] = {}
    staying = list(by_subject)
    stages: list[Stage] = []

    def close(label: str, before: int, reasons: Counter[str], unchecked: Counter[str]) -> None:
        stages.append(Stage(label, before, tuple(reasons.items()), tuple(unchecked.items())))

    lost: Counter[str] = Counter()
    for subject in list(staying):
        # a subject with several images stays as long as one of them can be used
        reasons = [row.lost for row in by_subject[subject]]
        by_subject[subject] = [row for row in by_subject[subject] if row.lost is None]
        if not by_subject[subject]:
            exclusions[subject] = Exclusion(subject, "image", reasons[0] or "")
            lost[exclusions[subject].reason] += 1
            staying.remove(subject)
    close("Subjects in the table", len(by_subject), lost, Counter())
    label = "Subjects with a CT image"
    rules = RULE_SETS[options.rules]
    for stage, following in (
        ("inclusion", "Subjects who meet the inclusion criteria"),
        ("exclusion", "Subjects included"),
    ):
        of_stage = [rule for rule in rules if rule.stage == stage]
        if not of_stage:
            continue
        before, left, unchecked = len(staying), Counter[str](), Counter[str]()
        unknown_of: dict[str, list[str]] = defaultdict(list)
        for rule in of_stage:
            for subject in list(staying):
                answers = [rule.hits(row.facts) for row in by_subject[subject]]
                unknown = True not in answers and None in answers
                if True in answers or (unknown and options.exclude_unknown):
                    reason = f"{rule.needs} not known" if unknown else rule.reason
                    exclusions[subject] = Exclusion(subject, stage, reason)
                    left[reason] += 1
                    staying.remove(subject)
                elif unknown:
                    unknown_of[rule.needs].append(subject)
        for needs, subjects in unknown_of.items():
            if kept := len(set(subjects) - exclusions.keys()):
                unchecked[needs] = kept
        close(label, before, left, unchecked)
        label = following
    close("Subjects included", len(staying), Counter(), Counter())
    return tuple(exclusions[s] for s in by_subject if s in exclusions), tuple(stages)


def _record(row: _Row, options: BuildOptions) -> Record | None:
    """Check the row's values as a record's; ``None`` where it has no image that can be used."""
    facts = row.facts

    def relative(value: str | Path | None) -> str | None:
        if value is None:
            return None
        path = value if isinstance(value, Path) else options.images / value
        return Path(os.path.relpath(path.absolute(), options.folder.absolute())).as_posix()

    levels = {
        str(level): facts[f"bmd_{level.lower()}_mg_cm3"]
        for level in SCREENED_LEVELS
        if facts[f"bmd_{level.lower()}_mg_cm3"] is not None
    }
    values = {name: facts[name] for name in Record.model_fields if facts.get(name) is not None}
    for name in ("label", "segmentation"):
        if name in values:
            values[name] = relative(values[name])
    values["image"] = relative(row.image) or "none"
    if levels:
        values["level_bmd_mg_cm3"] = levels
    record = Record.model_validate(values)
    return None if row.image is None or row.lost is not None else record
