"""Names of output files and folders: printable, short enough, unique, and never that of a file of the batch."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from osteo_monai.batch import LEDGER

__all__ = [
    "BATCH",
    "DICOM_FILES",
    "DICOM_FOLDER",
    "FHIR_FILE",
    "NOT_READ",
    "OUTPUT_FILES",
    "SLICER_FILES",
    "SUMMARY_FILES",
    "output_names",
    "printable",
]

DICOM_FOLDER = "dicom"
DICOM_FILES = ("seg.dcm", "seg_regions.dcm", "sr.dcm", "sc.dcm", "report.dcm")
"""Files in the folder of DICOM results."""

SLICER_FILES = ("bodies.seg.nrrd", "regions.seg.nrrd")
FHIR_FILE = "fhir.json"

OUTPUT_FILES = (
    "result.json",
    "report.html",
    "labels.nii.gz",
    "heat_map.png",
    *SLICER_FILES,
    FHIR_FILE,
    *(f"{DICOM_FOLDER}/{name}" for name in DICOM_FILES),
)
"""Names of all files that a screening may write; those of an earlier run are removed when new ones are ready."""
BATCH, NOT_READ = "batch.json", "not_read.csv"
SUMMARY_FILES = (
    "summary.csv",
    "summary.json",
    NOT_READ,
    f"{LEDGER}-journal",
    LEDGER,
    BATCH,
    "index.html",
    "results.parquet",
)
"""Names of all files that a batch writes beside the folders of its studies."""

LONGEST_NAME = 200
"""Bytes of a folder name; file systems accept 255, and temporary names are longer."""


def printable(path: object) -> str:
    """Return a path as text of printable characters: others, and bytes that are not UTF-8, as escapes."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
    escaped = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped)


def output_names(studies: Sequence[Path], *roots: Path) -> list[str]:
    """Return one folder name per study, unique and readable: its path below a root with ``__`` for ``/``.

    A name that is not UTF-8, not printable, too long, or reserved gets a hash of the path, which stays the same in
    later runs.

    Args:
        studies: paths.
        *roots: folders that the names are relative to; the name of a study elsewhere is that of its file or folder.
    """
    names: list[str] = []
    taken = {name.casefold() for name in (*OUTPUT_FILES, *SUMMARY_FILES)}
    for study in studies:
        root = next((root for root in roots if study.is_relative_to(root)), study.parent)
        base = _safe("__".join(study.relative_to(root).parts) or root.resolve().name)
        name, n = base, 2
        while name.casefold() in taken:
            name, n = f"{base}_{n}", n + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe(name: str) -> str:
    clean = "".join(c if c.isprintable() else "_" for c in name)
    encoded = clean.encode("utf-8", "replace")
    if clean == name and len(encoded) <= LONGEST_NAME and not name.startswith("."):
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    short = encoded[: LONGEST_NAME - 9].decode("utf-8", "ignore").lstrip(".")
    return f"{short}_{digest}"
