"""Radiographs of the subjects of a table: one row for each radiograph and DXA, with facts of the reader."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from osteo_monai.data.from_table.images import HeaderFacts, fill_from_headers, named_paths
from osteo_monai.data.from_table.table import TableRow
from osteo_monai.domain import View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.dicom_headers import looks_like_dicom
from osteo_monai.imaging.radiograph import Radiograph, is_picture, read_radiograph
from osteo_monai.utils.inputs import walk_tree

__all__ = ["OnRadiograph", "choose_radiographs", "fill_from_radiographs", "find_radiograph_rows"]

OnRadiograph = Callable[[int, int], None]
"""Called before a radiograph is read, with its number from 1 and the number of all."""

_EXPOSURE_CODES = frozenset({"underexposed", "overexposed"})


def find_radiograph_rows(rows: Sequence[TableRow], root: Path) -> tuple[list[TableRow], list[str], list[str]]:
    """Return one row for each radiograph of each row, problems and notes.

    A row without an image is one DXA of its subject and is repeated for each radiograph in the file or folder
    with the name of the subject.

    Args:
        rows: of the table; an image that a row names, a file or a folder, is relative to ``root``.
        root: folder of the images.
    """
    problems: list[str] = []
    found: list[TableRow] = []
    used: set[Path] = set()
    names = named_paths(root)
    for row in rows:
        paths = _stated(row, root, problems) if row.facts["image"] is not None else names(row.subject)
        images = sorted({image for path in paths for image in _radiographs_at(path)})
        used.update(images)
        if not images:
            row.lost = "no radiograph found"
            found.append(row)
        found += [replace(row, image=image, facts=dict(row.facts)) for image in images]
    unused = sum(image not in used for image in _radiographs_at(root))
    notes = [f"{unused} radiographs or DICOM files in the folder belong to no row of the table."] if unused else []
    return found, problems, notes


def _stated(row: TableRow, root: Path, problems: list[str]) -> list[Path]:
    path = root / row.facts["image"]
    if path.exists():
        return [path]
    problems.append(f"{row.place}: there is no file {row.facts['image']}")
    return []


def _radiographs_at(path: Path) -> list[Path]:
    """List the pictures and DICOM files at a path, each for itself: a study may have several views."""
    files = [path] if path.is_file() else [file for _, names in walk_tree(path) for file in names]
    return [file for file in files if is_picture(file) or looks_like_dicom(file)]


def fill_from_radiographs(rows: Sequence[TableRow], on_radiograph: OnRadiograph) -> list[str]:
    """Read each radiograph once and set the facts that the table does not have; return notes.

    A radiograph that the reader refuses gets the reason in ``lost``.
    """
    images = list(dict.fromkeys(row.image for row in rows if row.image is not None))
    order = {image: number for number, image in enumerate(images, 1)}
    known: dict[tuple[Path, View | None], HeaderFacts | str] = {}
    burned: set[Path] = set()

    def read(row: TableRow) -> HeaderFacts | None:
        if row.image is None:
            return None
        key = row.image, row.facts["view"]
        if key not in known:
            on_radiograph(order[row.image], len(images))
            known[key] = _read(*key, burned)
        facts = known[key]
        if isinstance(facts, str):
            row.lost = facts
            return None
        row.facts["misexposed"] = facts["misexposed"]
        return {name: value for name, value in facts.items() if name != "misexposed"}

    notes = fill_from_headers(rows, read)
    for row in rows:
        row.facts.setdefault("misexposed", None)
        row.facts["extra"] = _extra(row)
    if burned:
        notes.append(f"{len(burned)} radiographs have text burned into their pixels by their header: it may be a name.")
    return notes


def _read(image: Path, view: View | None, burned: set[Path]) -> HeaderFacts | str:
    """Return the facts of a radiograph, or the reason why it cannot be used."""
    try:
        radiograph = read_radiograph(image, view)
    except UnusableInputError:
        return "radiograph cannot be read"
    except ScanRefusedError as refused:
        codes = [finding.code for finding in refused.findings if finding.severity == "refusal"]
        return f"radiograph cannot be used ({(codes or ['refused'])[0].replace('_', ' ')})"
    codes = [finding.code for finding in radiograph.findings]
    if "burned_in_annotation" in codes:
        burned.add(image)
    return _facts(radiograph) | {"misexposed": bool(_EXPOSURE_CODES.intersection(codes))}


def _facts(radiograph: Radiograph) -> dict[str, object]:
    facts = radiograph.facts
    return {
        "view": None if radiograph.view is View.UNKNOWN else radiograph.view,
        "laterality": facts.laterality,
        "acquired": facts.acquired,
        "age": facts.age_years,
        "sex": facts.sex,
        "height_cm": facts.height_cm,
        "weight_kg": facts.weight_kg,
        "manufacturer": facts.manufacturer,
        "scanner": facts.model,
        "kvp": facts.kvp,
    }


def _extra(row: TableRow) -> dict[str, str | int] | None:
    """Return user fields of the record: side, and days from the radiograph to the DXA."""
    extra: dict[str, str | int] = {}
    if row.facts["laterality"] is not None:
        extra["laterality"] = row.facts["laterality"]
    if (days := _days_to_dxa(row)) is not None:
        extra["days_to_dxa"] = days
    return extra or None


def _days_to_dxa(row: TableRow) -> int | None:
    dxa, acquired = row.facts["dxa_date"], row.facts["acquired"]
    return None if dxa is None or acquired is None else (dxa - acquired).days


def choose_radiographs(rows: Iterable[TableRow], first_only: bool) -> list[TableRow]:
    """Return one row for each radiograph, that with the nearest DXA.

    Args:
        rows: that meet all rules; several of a radiograph if its subject has several DXA.
        first_only: keep the first radiograph of each subject and view; one of unknown day only if there is no other.
    """
    pairs: dict[Path | None, list[TableRow]] = defaultdict(list)
    for row in rows:
        pairs[row.image].append(row)
    chosen = [min(group, key=_distance) for group in pairs.values()]
    if not first_only:
        return chosen
    views: dict[tuple[str, View | None], list[TableRow]] = defaultdict(list)
    for row in chosen:
        views[row.subject, row.facts["view"]].append(row)
    return [min(group, key=lambda row: row.facts["acquired"] or date.max) for group in views.values()]


def _distance(row: TableRow) -> float:
    days = _days_to_dxa(row)
    return math.inf if days is None else abs(days)
