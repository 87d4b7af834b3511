"""Files of a downloaded tree: NIfTI files by folder, JSON, and tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.data.from_table.table import read_cells
from osteo_monai.errors import ManifestError, UnusableInputError
from osteo_monai.imaging.nifti import is_nifti, stem
from osteo_monai.utils.inputs import read_input

__all__ = ["find_below", "nifti_below", "number_of", "read_json", "read_rows", "stem"]

_DEPTH = 3
"""Folders between the folder that the user names and the one that belongs to the set: archives are unpacked at several
depths."""


def find_below(folder: Path, name: str) -> list[Path]:
    """Return files and folders called ``name`` in a folder and up to three folders below it, sorted."""
    patterns = ("*/" * depth + name for depth in range(_DEPTH))
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def nifti_below(folder: Path) -> Iterator[Path]:
    """Yield the NIfTI files below a folder, sorted; hidden ones (``._scan.nii.gz`` of some archives) are skipped."""
    for path in sorted(folder.rglob("*.nii*")):
        if is_nifti(path) and path.is_file() and not path.name.startswith("."):
            yield path


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UnusableInputError: it cannot be read.
    """
    try:
        return json.loads(read_input(path))
    except (OSError, ValueError) as error:
        raise UnusableInputError(f"'{path.name}' cannot be read as JSON.") from error


def read_rows(path: Path, required: Sequence[str]) -> list[Mapping[str, str]]:
    """Read a CSV (comma, semicolon or tab) or XLSX table; column names are in lower case.

    Raises:
        UnusableInputError: the table cannot be read, or lacks one of the columns ``required``.
    """
    try:
        cells = read_cells(path)
    except ManifestError as error:
        raise UnusableInputError(str(error)) from None
    missing = [name for name in required if name.lower() not in cells.header]
    if missing:
        raise UnusableInputError(f"'{path.name}' must have the column {missing[0]}, got {', '.join(cells.header[:6])}.")
    return [row for _, row in cells.rows]


def number_of(text: str | None) -> float | None:
    """Return the finite number in a cell, ``None`` if there is none."""
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        return None
    return value if value - value == 0 else None
