"""Export radiographs of a manifest without identifiers, as 16-bit PNG."""

import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image

from osteo_monai.data.csv_tables import write_table
from osteo_monai.data.manifest import Header, Manifest, read_manifest
from osteo_monai.data.record import Record
from osteo_monai.data.slice_files import file_word
from osteo_monai.errors import ConfigError, ManifestError, ScanRefusedError, UnusableInputError
from osteo_monai.imaging.dicom_headers import looks_like_dicom
from osteo_monai.imaging.radiograph import Radiograph, read_mask, read_radiograph
from osteo_monai.utils.files import writing

__all__ = ["OLDEST_AGE", "Export", "export_radiographs"]

OLDEST_AGE = 90.0
"""Ages above are written as this one: they are identifiers in 45 CFR 164.514(b)(2)."""

OnRecord = Callable[[int, int], None]


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes:
        manifest: of the exported radiographs, with paths relative to the folder of the export.
        refused: place of each record that was not exported (such as ``test[3]``), and the reason.
    """

    manifest: Manifest
    refused: Mapping[str, str]


def export_radiographs(
    manifest_path: Path,
    folder: Path,
    key: Path | None = None,
    keep_days: bool = False,
    on_record: OnRecord = lambda number, count: None,
) -> Export:
    """Write each radiograph of a manifest as ``images/SUBJECT_VIEW_N.png`` below ``folder``.

    The PNG has 16 bits and no text entries: upright, bone bright, without borders, in the full resolution. The record
    keeps age (at most 90), sex, height, weight, T-score, view and acquisition; its paths, user fields other than side
    and days to the DXA, and (by default) its day are left out. Radiographs that the reader refuses, and those whose
    header states text in the pixels, are not exported.

    Args:
        manifest_path: data manifest of radiographs.
        folder: to write to.
        key: table to write with the old and the new subject ids, which are random; ``None`` keeps the ids.
        keep_days: keep the day of the acquisition.
        on_record: called before a record, with its number from 1 and the number of all.

    Raises:
        ManifestError: the manifest is not valid.
        ConfigError: a subject id is the patient id of the DICOM header, and ``key`` is ``None``.
    """
    manifest = read_manifest(manifest_path)
    base = manifest_path.parent
    ids = _new_ids(manifest) if key is not None else {}
    numbers: dict[str, int] = defaultdict(int)
    splits: dict[str, list[Record]] = defaultdict(list)
    refused: dict[str, str] = {}
    entries = list(manifest.records())
    for number, (split, position, record) in enumerate(entries, 1):
        on_record(number, len(entries))
        source = record.absolute(base)
        if key is None:
            _check_pseudonym(source)
        subject = ids.get(record.subject_id, record.subject_id)
        try:
            radiograph = _read(source)
        except (UnusableInputError, ScanRefusedError) as error:
            refused[f"{split}[{position}]"] = str(error)
            continue
        stem = f"{file_word(subject)}_{radiograph.view}"
        numbers[stem] += 1
        name = f"{stem}_{numbers[stem]}"
        _write_png(folder / "images" / f"{name}.png", np.round(radiograph.pixels * 65535).astype(np.uint16))
        changes = {"image": f"images/{name}.png", "subject_id": subject, "bone_mask": None}
        if source.bone_mask is not None:
            mask = radiograph.layout.apply(read_mask(Path(source.bone_mask)))
            changes["bone_mask"] = f"images/{name}_bone.png"
            _write_png(folder / "images" / f"{name}_bone.png", mask.astype(np.uint8) * 255)
        splits[split].append(_record(record, changes, keep_days))
    if not splits:
        raise ManifestError(manifest_path.name, [f"{place}: {reason}" for place, reason in refused.items()])
    if key is not None:
        write_table(key, ("subject_id", "exported_id"), sorted(ids.items()))
    header = Header(
        name=manifest.header.name,
        description="Radiographs exported without identifiers as 16-bit PNG.",
        virtual=manifest.header.virtual,
    )
    return Export(Manifest(header=header, splits={s: tuple(r) for s, r in splits.items()}), refused)


def _read(record: Record) -> Radiograph:
    radiograph = read_radiograph(Path(record.images[0]), record.view)
    if any(finding.code == "burned_in_annotation" for finding in radiograph.findings):
        raise UnusableInputError("The header states that text is burned into the pixels: it may be a name.")
    return radiograph


def _record(record: Record, changes: Mapping[str, str | None], keep_days: bool) -> Record:
    kept = {name: value for name, value in (record.extra or {}).items() if name in ("laterality", "days_to_dxa")}
    facts = record.model_dump(exclude_none=True) | {"extra": kept or None}
    if not keep_days:
        facts["acquired"] = None
    if facts.get("age") is not None:
        facts["age"] = min(facts["age"], OLDEST_AGE)
    for name in ("label", "label_kind", "boundary", "segmentation", "centroids", "truth"):
        facts[name] = None
    return Record.model_validate({**facts, **changes})


def _new_ids(manifest: Manifest) -> dict[str, str]:
    """Return a random new id for each subject."""
    subjects = list(dict.fromkeys(record.subject_id for _, _, record in manifest.records()))
    width = len(str(len(subjects)))
    numbers = list(range(1, len(subjects) + 1))
    secrets.SystemRandom().shuffle(numbers)
    return {subject: f"subject_{number:0{width}d}" for subject, number in zip(subjects, numbers, strict=True)}


def _check_pseudonym(record: Record) -> None:
    """Refuse a subject id that is the PatientID of its header."""
    path = Path(record.images[0])
    if not path.is_file() or not looks_like_dicom(path):
        return
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"], force=True)
    stated = str(header.get("PatientID") or "").strip().casefold()
    if stated and stated == record.subject_id.strip().casefold():
        raise ConfigError("subject_id must be a pseudonym, got the patient id of a DICOM header; use --key FILE")


def _write_png(path: Path, values: NDArray[np.uint16] | NDArray[np.uint8]) -> None:
    with writing(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")
