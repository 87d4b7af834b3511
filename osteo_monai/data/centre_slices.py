"""Centre slices of L1 and L2 from the volumes of a manifest, as images of their own (Pan 2024)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.csv_tables import write_table
from osteo_monai.data.manifest import Header, Manifest, read_manifest, write_manifest
from osteo_monai.data.record import Record
from osteo_monai.data.slice_files import slice_names, write_slice
from osteo_monai.domain import LEVEL_LABELS, SCREENED_LEVELS, Boundary, VertebraLevel
from osteo_monai.errors import ConfigError, ScanRefusedError, UnusableInputError
from osteo_monai.imaging import CTVolume, read_ct, read_label_map
from osteo_monai.imaging.cortex import inside_cortex
from osteo_monai.imaging.orientation import GRID_TOLERANCE, grid_distance

__all__ = ["EXCLUSIONS_FILE", "MANIFEST_FILE", "CentreSlices", "centre_of", "write_centre_slices"]

MANIFEST_FILE, EXCLUSIONS_FILE = "manifest.json", "exclusions.csv"

_BODIES = np.array(sorted(number for level, number in LEVEL_LABELS.items() if level is not VertebraLevel.SACRUM))

_DROPPED = ("segmentation", "centroids", "bone_mask", "truth")
"""Fields of a record that name files of the whole volume."""

OnRecord = Callable[[int, int], None]
"""Called before a volume is read, with its number from 1 and the number of all."""


@dataclass(frozen=True)
class CentreSlices:
    """Result of ``write_centre_slices``.

    Attributes:
        manifest: of the slices, with paths relative to their folder.
        sha256: of its file.
        left_out: subject, level, image and reason of each slice that could not be made.
    """

    manifest: Manifest
    sha256: str
    left_out: tuple[tuple[str, str, str, str], ...]


class _LeftOutError(Exception):
    """A volume does not show the centre of a level; the message is the reason."""


def write_centre_slices(
    manifest_path: Path,
    folder: Path,
    boundary: Boundary = Boundary.PERIOSTEAL,
    name: str | None = None,
    on_record: OnRecord = lambda number, count: None,
) -> CentreSlices:
    """Write the centre axial slice of L1 and of L2 of each subject, with the bodies in it.

    The centre slice is the one nearest to the centre of gravity of the body in the label map. A subject has one slice a
    level, of the first of its volumes whose label map shows the body completely; a body that is outlined in one slice
    only has its centre there. Volumes are read as for screening: any orientation, oblique ones resampled upright. Pixel
    size and HU are kept.

    Files: ``SUBJECT/L1.nii``, ``SUBJECT/L1_label.nii``, ``manifest.json`` in the splits of the volumes, and
    ``exclusions.csv``.

    Args:
        manifest_path: volumes with a ``label`` of vertebral bodies.
        folder: to write to.
        boundary: edge of the cortex that the masks follow; ``endosteal`` is made from a periosteal label by
            ``inside_cortex``.
        name: of the new manifest; default: that of the volumes and ``_slices``.
        on_record: called before each volume.

    Raises:
        ManifestError: the manifest is not valid.
        ConfigError: a label is endosteal and ``boundary`` is not; or the manifest has slices already.
        UnusableInputError: no slice could be made.
    """
    manifest = read_manifest(manifest_path)
    _check(manifest, manifest_path, boundary)
    entries = list(manifest.records())
    names = slice_names(record.subject_id for _, _, record in entries)
    splits: dict[str, dict[tuple[str, VertebraLevel], Record]] = {}
    reasons: dict[tuple[str, VertebraLevel], tuple[str, str]] = {}
    for number, (split, position, record) in enumerate(entries, 1):
        done = splits.setdefault(split, {})
        wanted = [level for level in SCREENED_LEVELS if (record.subject_id, level) not in done]
        if not wanted:
            continue
        on_record(number, len(entries))
        place = f"{split}[{position}]"
        try:
            volume, labels = _read(record.absolute(manifest_path.parent))
        except (UnusableInputError, ScanRefusedError, _LeftOutError) as error:
            reasons |= {(record.subject_id, level): (place, " ".join(str(error).split())) for level in wanted}
            continue
        for level in wanted:
            try:
                one = _write(volume, labels, level, record, folder / names[record.subject_id], boundary)
            except (UnusableInputError, _LeftOutError) as error:
                reasons[record.subject_id, level] = (place, str(error))
                continue
            done[record.subject_id, level] = one.moved(folder / names[record.subject_id], folder)
            reasons.pop((record.subject_id, level), None)
    rows = tuple((subject, str(level), *reason) for (subject, level), reason in sorted(reasons.items()))
    kept = {split: tuple(done.values()) for split, done in splits.items() if done}
    if not kept:
        first = f", such as {rows[0][2]}: {rows[0][3]}" if rows else ""
        raise UnusableInputError(f"{manifest_path.name} has no volume with a centre slice of L1 or L2{first}")
    header = Header(
        name=name or f"{manifest.header.name}_slices",
        description=f"Centre axial slices of L1 and L2, {boundary} outlines, of: {manifest.header.description}",
        virtual=manifest.header.virtual,
        licence=manifest.header.licence,
        source=manifest.header.source,
    )
    made = Manifest(header=header, splits=kept)
    write_table(folder / EXCLUSIONS_FILE, ("subject_id", "level", "record", "reason"), rows)
    return CentreSlices(made, write_manifest(made, folder / MANIFEST_FILE), rows)


def _check(manifest: Manifest, path: Path, boundary: Boundary) -> None:
    """Refuse manifests whose labels cannot give slices of this kind."""
    for split, position, record in manifest.records():
        place = f"{path.name}: {split}[{position}]"
        if record.level is not None:
            raise ConfigError(f"{place} must be a volume, got a slice of {record.level}")
        if record.label_kind == "vertebra":
            raise ConfigError(f"{place} must have a label of bodies, got whole vertebrae")
        if record.boundary is Boundary.ENDOSTEAL and boundary is Boundary.PERIOSTEAL:
            raise ConfigError(f"--boundary must be endosteal for endosteal labels, got {boundary} ({place})")


def _read(record: Record) -> tuple[CTVolume, NDArray[np.uint8]]:
    """Return a volume and its labels on one grid; ``record`` has absolute paths."""
    if not isinstance(record.label, str):
        raise _LeftOutError("The record must have one label map.")
    if not isinstance(record.image, str):
        raise _LeftOutError("The image must be one file or folder.")
    volume = read_ct(Path(record.image), declared_ct=True)
    try:
        labels, affine = read_label_map(Path(record.label))
    except ValueError as error:
        raise _LeftOutError(f"The label map cannot be used: {error}.") from error
    if labels.shape != volume.hu.shape:
        raise _LeftOutError(f"Shape of the label must be that of the image {volume.hu.shape}, got {labels.shape}.")
    distance = grid_distance(volume.affine, affine, labels.shape)
    if not distance <= GRID_TOLERANCE:
        raise _LeftOutError(f"The label is {distance:.1f} voxels from the image.")
    return volume, labels


def centre_of(body: NDArray[np.bool_]) -> int | None:
    """Return the axial slice nearest to the centre of gravity of a body (X, Y, Z); ``None`` without a body.

    A body that reaches the first or the last slice may continue beyond it, and has no centre then, unless the volume
    is one slice.
    """
    area = body.sum((0, 1))
    if not area.any() or (len(area) > 1 and (area[0] or area[-1])):
        return None
    occupied = np.flatnonzero(area)
    middle = float((area * np.arange(len(area))).sum() / area.sum())
    return int(occupied[np.abs(occupied - middle).argmin()])


def _write(
    volume: CTVolume,
    labels: NDArray[np.uint8],
    level: VertebraLevel,
    record: Record,
    folder: Path,
    boundary: Boundary,
) -> Record:
    """Write one slice; return its record, with paths relative to ``folder``."""
    body = labels == level.label
    k = centre_of(body)
    if k is None:
        raise _LeftOutError(
            f"The label map must show {level} completely, got {'a part' if body.any() else 'none of it'}."
        )
    plane = labels[:, :, k : k + 1]
    plane = np.where(np.isin(plane, _BODIES), plane, 0).astype(np.uint8)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * k
    if boundary is Boundary.ENDOSTEAL and record.boundary is not Boundary.ENDOSTEAL:
        pixel = np.linalg.norm(affine[:3, :2], axis=0).tolist()
        plane = inside_cortex(plane, (pixel[0], pixel[1])).astype(np.uint8)
        if not (plane == level.label).any():
            raise _LeftOutError(f"The body of {level} must be wider than its cortex.")
    image, label = f"{level}.nii", f"{level}_label.nii"
    write_slice(folder / image, folder / label, volume.hu[:, :, k], plane[:, :, 0], affine)
    facts = record.model_dump(exclude_none=True, exclude=set(_DROPPED))
    return Record.model_validate(
        {**facts, "image": image, "label": label, "label_kind": "body", "boundary": boundary, "level": level}
    )
