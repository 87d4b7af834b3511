"""Images of the subjects of a table, and facts from headers, label maps and screening results."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.data.from_table.table import TableRow
from osteo_monai.domain import KVP_TOLERANCE, VertebraLevel
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import find_studies, read_acquisition, read_label_map
from osteo_monai.imaging.nifti import is_nifti, stem
from osteo_monai.utils.inputs import read_input, walk_tree
from osteo_monai.utils.text import counted

__all__ = [
    "AGE_TOLERANCE_YEARS",
    "HeaderFacts",
    "fill_from_headers",
    "fill_from_label_maps",
    "fill_from_screening",
    "find_images",
    "named_paths",
    "read_ct_header",
]

_LABEL_ENDINGS, _SEGMENTATION_ENDINGS = ("_label", "_labels"), ("_segmentation", "_seg")
"""Endings of the stem of a NIfTI label map in the folder of its image: the truth, and the predicted one."""

AGE_TOLERANCE_YEARS = 1.5
"""Largest difference of the ages in table and header, which may refer to different days."""

_SHOWN = 5


_DIGITS_OR_LETTERS = re.compile(r"\d+|[^\W\d_]+")


def _alike(name: str) -> str:
    """Return a name without what spreadsheets and people change: zeros in front, ``.0``, capitals, separators."""
    bare = re.sub(r"^sub-|\.0+$", "", name.casefold())
    return " ".join(part.lstrip("0") or "0" if part.isdigit() else part for part in _DIGITS_OR_LETTERS.findall(bare))


class _Tree:
    """NIfTI files and folders below a folder, by name.

    Links are followed, also to what the tree contains under another name: a link may give the name of a subject.
    """

    def __init__(self, root: Path) -> None:
        self.images: list[Path] = []
        self.unopened = 0
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for folder, folders, names in os.walk(root, followlinks=True, onerror=self._count):
            real = Path(os.path.realpath(folder))
            below = sorted(f for f in folders if not f.startswith("."))
            folders[:] = [f for f in below if not real.is_relative_to(os.path.realpath(os.path.join(folder, f)))]
            for name in folders:
                self._by_name[name].append(Path(folder, name))
            for name in sorted(names):
                path = Path(folder, name)
                if is_nifti(path) and path.is_file() and not _is_label_map(path):
                    self._by_name[stem(path)].append(path)
                    self.images.append(path)

    def _count(self, error: OSError) -> None:
        self.unopened += 1

    def similar(self, subjects: Sequence[str], taken: Collection[str]) -> list[tuple[str, str]]:
        """Return subject and name of each file or folder that differs from it by zeros, capitals or separators only.

        Args:
            subjects: without an image.
            taken: all subjects of the table: a name that is one of them belongs to that one.
        """
        names: dict[str, str] = {}
        for name in sorted(self._by_name):
            if name not in taken and name.removeprefix("sub-") not in taken:
                names.setdefault(_alike(name), name)
        return [(subject, names[_alike(subject)]) for subject in subjects if _alike(subject) in names]

    def candidates(self, subject: str) -> list[Path]:
        """Return NIfTI files and DICOM studies with the name of the subject, or in a folder with it."""
        for name in (subject, f"sub-{subject}"):
            paths = self._by_name.get(name, [])
            outer = [p for p in paths if not any(q != p and p.is_relative_to(q) for q in paths)]
            if outer:
                return [image for path in outer for image in _images_at(path)]
        return []


def named_paths(root: Path) -> Callable[[str], list[Path]]:
    """Return a function that lists folders and radiographs with the name of a subject below ``root``."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for folder, files in walk_tree(root):
        if folder != root:
            by_name[folder.name].append(folder)
        for file in files:
            by_name[file.stem].append(file)

    def paths(subject: str) -> list[Path]:
        names = (subject, f"sub-{subject}")
        return next((by_name[name] for name in names if name in by_name), [])

    return paths


def _is_label_map(path: Path) -> bool:
    return stem(path).lower().endswith((*_LABEL_ENDINGS, *_SEGMENTATION_ENDINGS))


def _images_at(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    files = sorted(file for _, files in walk_tree(path) for file in files)
    volumes = [file for file in files if is_nifti(file) and not _is_label_map(file)]
    if volumes:
        yield from volumes
        return
    try:
        yield from find_studies(path)
    except UnusableInputError:
        return


def find_images(rows: Sequence[TableRow], root: Path) -> tuple[list[str], list[str]]:
    """Set the image of each row, or the reason why there is none; return problems and notes.

    Args:
        rows: of the table; an image that a row names is relative to ``root``.
        root: folder of the images.
    """
    tree = _Tree(root)
    problems = []
    for row in rows:
        if (name := row.facts["image"]) is not None:
            if (root / name).exists():
                row.image = root / name
            else:
                problems.append(f"{row.place}: there is no file {name}")
            continue
        candidates = tree.candidates(row.subject)
        if len(candidates) > 1:
            problems.append(
                f"{row.place}: {len(candidates)} images have the name of the subject; name one in a column 'image'"
            )
        elif candidates:
            row.image = candidates[0]
        else:
            row.lost = "no CT image found"
    used = {row.image for row in rows}
    unused = sum(image not in used for image in tree.images)
    notes = [f"{unused} NIfTI images in the folder belong to no row of the table."] if unused else []
    lost = list(dict.fromkeys(row.subject for row in rows if row.lost is not None))
    if near := tree.similar(lost, {row.subject for row in rows}):
        subject, name = near[0]
        notes.append(
            f"{counted(len(near), 'subject')} without an image differ from the name of a file or folder by zeros, "
            f"capitals or separators only, such as '{subject}' from '{name}': the names must be equal."
        )
    if tree.unopened:
        notes.append(f"{tree.unopened} folders cannot be opened, and images in them were not found.")
    return problems, notes


# --- headers ------------------------------------------------------------------------------------------------------

HeaderFacts = Mapping[str, Any]
"""Value by column of the table, ``None`` if the header does not state it."""

_ATTRIBUTES: Mapping[str, str] = {
    "age": "age_years", "sex": "sex", "acquired": "acquired", "manufacturer": "manufacturer", "scanner": "model",
    "kvp": "kvp", "kernel": "kernel", "slice_thickness_mm": "slice_thickness_mm",
}  # fmt: skip
_USED_VALUE = {"sex": "the table's value is used", "age": "the table's value is used",
               "kvp": "the header's value is used"}  # fmt: skip
"""The header states the acquisition, the table states the person."""


def fill_from_headers(rows: Sequence[TableRow], read: Callable[[TableRow], HeaderFacts | None]) -> list[str]:
    """Set facts that the table does not have from the image headers; return notes about disagreement.

    Args:
        rows: of the table.
        read: returns the facts of a row's image; without a usable image it sets ``lost`` and returns ``None``.
    """
    different: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for fact, measured in (read(row) or {}).items():
            stated = row.facts[fact]
            if stated is None:
                row.facts[fact] = measured
            elif measured is not None and _differs(fact, stated, measured):
                different[fact].append(row.subject)
                if fact == "kvp":
                    row.facts[fact] = measured
    return [
        f"{fact} in the table differs from the image header for {len(set(subjects))} subjects "
        f"({_first(list(dict.fromkeys(subjects)))}); {_USED_VALUE[fact]}, check that the images belong to these rows."
        for fact, subjects in different.items()
    ]


def read_ct_header(row: TableRow) -> HeaderFacts | None:
    """Return the facts of a CT for :func:`fill_from_headers`."""
    try:
        if row.image is None:
            return None
        header = read_acquisition(row.image)
        return {fact: getattr(header, attribute) for fact, attribute in _ATTRIBUTES.items()}
    except UnusableInputError:
        row.lost = "CT cannot be read"
    except ScanRefusedError as refused:
        row.lost = f"CT cannot be measured ({refused.findings[0].code.replace('_', ' ')})"
    return None


def _differs(fact: str, stated: Any, measured: Any) -> bool:
    """Return whether table and header disagree about the person or the tube voltage."""
    if fact == "sex":
        return bool(stated != measured)
    tolerance = {"age": AGE_TOLERANCE_YEARS, "kvp": KVP_TOLERANCE}.get(fact)
    return tolerance is not None and abs(stated - measured) > tolerance


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


# --- screening results --------------------------------------------------------------------------------------------


def fill_from_screening(rows: Sequence[TableRow], folder: Path) -> list[str]:
    """Set field of view, implants and fractures from results of ``osteo-monai screen``; return notes.

    Args:
        rows: of the table; its own values are kept.
        folder: output of the screening, with ``STUDY/result.json``.

    Raises:
        UnusableInputError: the folder has no readable result.
    """
    results, damaged = _read_results(folder)
    used = 0
    for row in rows:
        names = {row.subject, f"sub-{row.subject}"}
        matches = [r for name, r in results.items() if names & {part.split(".nii")[0] for part in name.split("__")}]
        if len(matches) != 1:
            continue
        used += 1
        for fact, value in _screening_facts(matches[0]).items():
            if row.facts[fact] is None:
                row.facts[fact] = value
    notes = [f"Field of view, implants and fractures are from the screening of {used} of {len(rows)} images."]
    if damaged:
        notes.append(
            f"{len(damaged)} of {len(damaged) + len(results)} screening results cannot be read and were not used: "
            f"{_first(damaged)}."
        )
    return notes


def _read_results(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the readable results by study, and the studies with a damaged one."""
    results: dict[str, dict[str, Any]] = {}
    damaged = []
    for path in sorted(folder.glob("*/result.json")):
        try:
            content = json.loads(read_input(path))
        except (OSError, ValueError):
            content = None
        if isinstance(content, dict):
            results[path.parent.name] = content
        else:
            damaged.append(path.parent.name)
    if not results:
        reason = f"; {len(damaged)} cannot be read" if damaged else ""
        raise UnusableInputError(f"'{folder.name}' has no results of osteo-monai screen (STUDY/result.json){reason}.")
    return results, damaged


def _screening_facts(result: Mapping[str, Any]) -> dict[str, bool | None]:
    """Return field of view, implant and fracture of a result, ``None`` if it does not determine them."""
    findings = {finding["code"]: finding["message"] for finding in result.get("findings", ())}
    measured = result.get("verdict", "").startswith("accepted")
    absent = False if measured else None
    out_of_view = any("L2" in findings.get(code, "") for code in ("levels_not_covered", "level_cut"))
    return {
        "l2_in_view": False if out_of_view else True if measured else None,
        "implant": True if "metal" in findings else absent,
        "fracture": True if "fracture" in findings else absent,
    }


# --- label maps ---------------------------------------------------------------------------------------------------


def fill_from_label_maps(rows: Sequence[TableRow]) -> list[str]:
    """Find the label maps of the images, and whether L2 is completely in view by them; return notes."""
    unreadable = []
    for row in rows:
        if row.image is None or row.lost is not None:
            continue
        for fact, endings in (("label", _LABEL_ENDINGS), ("segmentation", _SEGMENTATION_ENDINGS)):
            if row.facts[fact] is None and is_nifti(row.image):
                row.facts[fact] = _label_map(row.image, endings)
        path = row.facts["label"] or row.facts["segmentation"]
        if row.facts["l2_in_view"] is not None or not isinstance(path, Path):
            continue
        try:
            row.facts["l2_in_view"] = _is_l2_complete(path)
        except (UnusableInputError, ValueError):
            unreadable.append(row.subject)
    if not unreadable:
        return []
    return [
        f"{len(unreadable)} label maps cannot be read; whether L2 is completely in view is unknown "
        f"({_first(unreadable)})."
    ]


def _label_map(image: Path, endings: Sequence[str]) -> Path | None:
    folder = image.parent if image.is_file() else image
    places = [folder / f"{stem(image)}{ending}{suffix}" for ending in endings for suffix in (".nii.gz", ".nii")]
    return next((place for place in places if place.is_file()), None)


def _is_l2_complete(path: Path) -> bool:
    """Return whether the label map has L2 and slices below and above it."""
    labels, _ = read_label_map(path)
    slices = (labels == VertebraLevel.L2.label).any(axis=(0, 1)).nonzero()[0]
    return bool(slices.size and slices[0] > 0 and slices[-1] < labels.shape[2] - 1)
