"""A DICOM object that was written."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["WrittenObject"]


@dataclass(frozen=True)
class WrittenObject:
    """One DICOM file of results.

    Attributes:
        path: of the file, Explicit VR Little Endian.
        sop_class_uid, sop_instance_uid: as in the file; equal for equal content.
        series_instance_uid, study_instance_uid: the series is a new one, the study is that of the source.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
