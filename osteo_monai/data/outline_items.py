"""Items of the segmentation bundle: volumes or single slices with outlines of vertebral bodies."""

import os
from pathlib import Path
from typing import Any

from osteo_monai.data.manifest import datalist, read_manifest
from osteo_monai.domain import Boundary
from osteo_monai.errors import ConfigError

__all__ = ["outline_items", "shows_slices"]


def outline_items(
    data_source: str | os.PathLike[str], split: str, boundary: Boundary | str = Boundary.PERIOSTEAL
) -> list[dict[str, Any]]:
    """Return the records of a split for MONAI's data sets.

    Args:
        data_source: path of a data manifest.
        split: one of its splits.
        boundary: edge of the cortex that the network learns; ``InsideCortexd`` makes an endosteal mask of a periosteal
            one.

    Returns:
        ``image`` and ``label``, absolute paths; ``boundary``, the edge that the label follows; ``subject_id``;
        ``level`` of a single slice, empty for a volume.

    Raises:
        ManifestError, ConfigError: see ``datalist``.
        ConfigError: ``boundary`` is unknown, or periosteal for a label that is endosteal: bone outside it is unknown.
    """
    if boundary not in tuple(Boundary):
        raise ConfigError(f"boundary must be 'periosteal' or 'endosteal', got {boundary!r}")
    path = Path(data_source)
    items = datalist(path, split, ("image", "label", "subject_id"))
    records = read_manifest(path, check_files=False).splits[split]
    for position, (item, record) in enumerate(zip(items, records, strict=True)):
        item["boundary"] = str(record.boundary or Boundary.PERIOSTEAL)
        item["level"] = str(record.level or "")
        if item["boundary"] == Boundary.ENDOSTEAL and boundary == Boundary.PERIOSTEAL:
            raise ConfigError(
                f"boundary must be endosteal for endosteal labels, got periosteal ({path.name}: {split}[{position}]); "
                "set --boundary endosteal"
            )
    return items


def shows_slices(data_source: str | os.PathLike[str]) -> bool:
    """Whether the records of a manifest are single slices, each with its ``level``, and not volumes.

    Raises:
        ManifestError: the manifest is not valid.
        ConfigError: it has both.
    """
    path = Path(data_source)
    levels = [record.level is not None for _, _, record in read_manifest(path, check_files=False).records()]
    if any(levels) and not all(levels):
        raise ConfigError(f"{path.name} must have slices or volumes, got {sum(levels)} slices of {len(levels)} records")
    return any(levels)
