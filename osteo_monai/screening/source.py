"""The DICOM study of a result."""

from collections.abc import Sequence
from pathlib import Path

from osteo_monai.imaging.dicom_headers import looks_like_dicom
from osteo_monai.imaging.identifiers import Identifiers, read_identifiers
from osteo_monai.screening.result import SourceStudy
from osteo_monai.screening.studies import Study
from osteo_monai.utils.inputs import walk_tree

__all__ = ["files_at", "has_dicom", "source_of", "study_files"]


def files_at(path: Path) -> tuple[Path, ...]:
    """Return the files at a path: those of a folder with its sub-folders, or the file; empty if there is none."""
    if path.is_dir():
        return tuple(file for _, files in walk_tree(path) for file in files)
    return (path,) if path.is_file() else ()


def study_files(study: Study) -> tuple[Path, ...]:
    """Return the files of a study."""
    return study.files or files_at(study.path)


def has_dicom(study: Study) -> bool:
    """Whether a study has a DICOM file."""
    return any(looks_like_dicom(file) for file in study_files(study))


def source_of(files: Sequence[Path]) -> SourceStudy | None:
    """Return the study of DICOM images; ``None`` if there is no image, or no UID."""
    found = read_identifiers(files)
    if found == Identifiers():
        return None
    return SourceStudy(
        study_instance_uid=found.study_instance_uid,
        series_instance_uid=found.series_instance_uid,
        frame_of_reference_uid=found.frame_of_reference_uid,
        study_date=found.study_date,
    )
