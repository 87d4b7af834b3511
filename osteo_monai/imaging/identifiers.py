"""UIDs and date of the DICOM images of a study: the way back to the archive, without any fact about the patient."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pydicom

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.acquisition import clean_text, real_day
from osteo_monai.imaging.dicom_headers import COMPANION_MODALITIES, Instance, looks_like_dicom, read_instance

__all__ = ["Identifiers", "image_instances", "read_identifiers", "valid_uid"]

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
OWN_MODALITIES = COMPANION_MODALITIES | {"OT"}
"""Modalities of objects that are no images of a scanner; our own secondary captures are OT."""


@dataclass(frozen=True)
class Identifiers:
    """UIDs of images; ``None`` where they state none, several, or an invalid one."""

    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    frame_of_reference_uid: str | None = None
    sop_instance_uid: str | None = None
    study_date: date | None = None


def valid_uid(text: str | None) -> str | None:
    """Return a UID if it is valid (DICOM PS3.5 section 9.1), else ``None``."""
    text = text or ""
    return text if len(text) <= 64 and _UID.fullmatch(text) else None


def image_instances(files: Sequence[Path]) -> Iterator[Instance]:
    """Yield the headers of the images among DICOM files; damaged files and other objects are left out."""
    with pydicom.config.disable_value_validation():
        for file in files:
            if not looks_like_dicom(file):
                continue
            try:
                instance = read_instance(file)
            except UnusableInputError:
                continue
            if instance.modality not in OWN_MODALITIES:
                yield instance


def read_identifiers(files: Sequence[Path]) -> Identifiers:
    """Return the identifiers that all images among ``files`` share."""
    instances = list(image_instances(files))
    days = {real_day(clean_text(i.header.get("StudyDate"))) for i in instances}
    return Identifiers(
        study_instance_uid=_shared({i.study for i in instances}),
        series_instance_uid=_shared({i.series for i in instances}),
        frame_of_reference_uid=_shared({clean_text(i.header.get("FrameOfReferenceUID")) for i in instances}),
        sop_instance_uid=_shared({i.sop_instance for i in instances}),
        study_date=days.pop() if len(days) == 1 else None,
    )


def _shared(values: set[str]) -> str | None:
    return valid_uid(values.pop()) if len(values) == 1 else None
