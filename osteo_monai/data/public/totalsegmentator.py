"""TotalSegmentator (Wasserthal 2023): one folder a scan, one binary mask a structure, 1.5 mm."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osteo_monai.data.public.case import BinaryMasks, Case, Found, LeftOut, PublicSet, Source, label_of_structure
from osteo_monai.data.public.files import find_below, nifti_below, number_of, read_rows, stem
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.acquisition import sex_of

KNOWN_BAD = ("s0016", "s0071", "s0128", "s0350", "s0513", "s0603", "s0676", "s0941")
"""Scans whose vertebrae are named wrongly in the published masks (issues 268 and 394 of wasserth/TotalSegmentator)."""

_SPLITS = {"train": "training", "val": "validation", "test": "test"}
_USED = re.compile(r"vertebrae_|sacrum|rib_")


def _recognises(folder: Path) -> bool:
    return bool(_metadata(folder)) and bool(_scan_folders(folder))


def _metadata(folder: Path) -> Path | None:
    return next(iter(find_below(folder, "meta.csv")), None)


def _scan_folders(folder: Path) -> list[Path]:
    return sorted({path.parent for path in find_below(folder, "segmentations") if re.match(r"s\d+$", path.parent.name)})


def _find(source: Source) -> Found:
    table = _metadata(source.folder)
    if table is None:
        raise UnusableInputError(f"'{source.folder.name}' must have the table meta.csv of TotalSegmentator.")
    rows = {row["image_id"]: row for row in read_rows(table, ("image_id", "split"))}
    cases, left_out = [], []
    folders = {path.name: path for path in _scan_folders(table.parent)}
    for name in sorted(rows.keys() | folders.keys()):
        reason = _reason(name, rows, folders)
        if reason is not None:
            left_out.append(LeftOut(name, name, reason))
            continue
        folder, row = folders[name], rows[name]
        label = BinaryMasks(_masks(folder / "segmentations"))
        cases.append(Case(name, name, _SPLITS[row["split"]], folder / "ct.nii.gz", label, facts=_facts(row)))
    return Found("sNNNN/ct.nii.gz and segmentations", tuple(cases), tuple(left_out))


def _reason(name: str, rows: Mapping[str, Mapping[str, str]], folders: Mapping[str, Path]) -> str | None:
    if name not in folders:
        return "no folder with segmentations"
    if not (folders[name] / "ct.nii.gz").is_file():
        return "no image ct.nii.gz"
    if name not in rows:
        return "not in meta.csv"
    if rows[name]["split"] not in _SPLITS:
        return "no split train, val or test in meta.csv"
    return "vertebrae are named wrongly (issues 268 and 394 of TotalSegmentator)" if name in KNOWN_BAD else None


def _masks(folder: Path) -> dict[int, tuple[Path, ...]]:
    masks: dict[int, list[Path]] = defaultdict(list)
    for path in nifti_below(folder):
        if _USED.match(stem(path)):
            masks[label_of_structure(stem(path))].append(path)
    # vertebrae first: where a rib overlaps with a vertebra by a few voxels, these are of the vertebra
    return {number: tuple(masks[number]) for number in sorted(masks) if number}


def _facts(row: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of a row; the columns differ between versions of the set."""
    facts: dict[str, Any] = {
        "age": number_of(row.get("age")),
        "sex": sex_of(row.get("gender") or row.get("sex") or ""),
        "manufacturer": row.get("manufacturer"),
        "scanner": row.get("scanner_model"),
        "kvp": number_of(row.get("kvp")),
        "centre": row.get("institute"),
    }
    extra = {name: row[name] for name in ("study_type", "pathology") if row.get(name)}
    return {name: value for name, value in facts.items() if value} | ({"extra": extra} if extra else {})


TOTALSEGMENTATOR = PublicSet(
    title="TotalSegmentator",
    licence="CC BY 4.0",
    source="https://doi.org/10.5281/zenodo.6802613",
    label_kind="vertebra",
    layout="meta.csv and sNNNN/ct.nii.gz with sNNNN/segmentations/vertebrae_L1.nii.gz",
    recognises=_recognises,
    find=_find,
)
