"""What all objects have in common: series, equipment, dates, UIDs by content, and the writing of the file."""

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset

from osteo_monai.dicom_results.source import Source
from osteo_monai.dicom_results.uids import derived_uid
from osteo_monai.dicom_results.version import software_version
from osteo_monai.dicom_results.written import WrittenObject
from osteo_monai.utils.files import writing

__all__ = ["LABEL", "SEG", "Kind", "common", "finish", "quiet", "store"]

LABEL = "AI, unverified, research use"
"""Begins every description, so that no reader takes an object for the work of a person."""

PRODUCT = "osteo_monai"
_PLACEHOLDER = "2.25.0"


@dataclass(frozen=True)
class Kind:
    """A kind of object, which is a series of its own."""

    number: int
    description: str

    @property
    def series_description(self) -> str:
        return f"{LABEL}: {self.description}"


SEG = Kind(9101, "vertebral segmentation")
REPORT = Kind(9102, "measurements")
CAPTURE = Kind(9103, "overview")
DOCUMENT = Kind(9104, "report")


def common(kind: Kind, instance: int = 1) -> dict[str, Any]:
    """Return the arguments that every constructor of highdicom takes; the UIDs are set by :func:`finish`."""
    return {
        "series_instance_uid": _PLACEHOLDER,
        "series_number": kind.number,
        "sop_instance_uid": _PLACEHOLDER,
        "instance_number": instance,
        "manufacturer": PRODUCT,
        "manufacturer_model_name": PRODUCT,
        "software_versions": software_version(),
        "device_serial_number": software_version(),
        "series_description": kind.series_description,
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress logs and warnings of the DICOM libraries, which quote header values such as names."""
    loggers = [logging.getLogger(name) for name in ("highdicom", "pydicom")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def finish(objects: Sequence[Dataset], source: Source, created: datetime) -> None:
    """Set identity, dates and UIDs of the objects of one series.

    The UIDs follow from the content without dates: identical work gives identical UIDs, other content gives others.
    """
    for ds in objects:
        for element in source.identity:
            if element.value not in (None, "") or element.keyword not in ds:
                ds[element.tag] = element
        ds.walk(_settle)
        _date(ds, None)
    digest = hashlib.sha256(b"".join(_bytes(ds) for ds in objects)).hexdigest()
    for number, ds in enumerate(objects):
        ds.SeriesInstanceUID = derived_uid(digest, "series")
        ds.SOPInstanceUID = derived_uid(digest, "instance", str(number))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        _date(ds, created)


def _settle(ds: Dataset, element: DataElement) -> None:
    """Replace the random UID of the dimension organization."""
    if element.keyword == "DimensionOrganizationUID":
        element.value = derived_uid("dimension organization")


def _date(ds: Dataset, created: datetime | None) -> None:
    day, time = ("", "") if created is None else (f"{created:%Y%m%d}", f"{created:%H%M%S}")
    for prefix in ("InstanceCreation{}", "Content{}", "{}OfSecondaryCapture"):
        for kind, value in (("Date", day), ("Time", time)):
            if prefix.format(kind) in ds:
                setattr(ds, prefix.format(kind), value)
    for item in ds.get("ContributingEquipmentSequence") or ():
        item.ContributionDateTime = day + time


def _bytes(ds: Dataset) -> bytes:
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def store(ds: Dataset, path: Path) -> WrittenObject:
    """Write one object."""
    with writing(path) as temporary:
        ds.save_as(temporary, enforce_file_format=True)
    return WrittenObject(
        path, str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), str(ds.StudyInstanceUID)
    )
