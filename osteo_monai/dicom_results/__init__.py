"""Results of a screening as DICOM objects, for an archive and for other programs.

``screen_study`` screens the DICOM files of one study and returns the objects to send; ``write_dicom_results`` writes
the objects of a screening that was already made.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osteo_monai.dicom_results.fhir import fhir_bundle
    from osteo_monai.dicom_results.further import FurtherFiles
    from osteo_monai.dicom_results.options import DicomOptions, Outputs
    from osteo_monai.dicom_results.study import ScreenedStudy, StudyModels, StudyOptions, screen_study
    from osteo_monai.dicom_results.write import write_dicom_results
    from osteo_monai.dicom_results.written import WrittenObject

_MODULES = {
    "DicomOptions": "options",
    "FurtherFiles": "further",
    "Outputs": "options",
    "ScreenedStudy": "study",
    "StudyModels": "study",
    "StudyOptions": "study",
    "WrittenObject": "written",
    "fhir_bundle": "fhir",
    "screen_study": "study",
    "write_dicom_results": "write",
}

__all__ = [
    "DicomOptions",
    "FurtherFiles",
    "Outputs",
    "ScreenedStudy",
    "StudyModels",
    "StudyOptions",
    "WrittenObject",
    "fhir_bundle",
    "screen_study",
    "write_dicom_results",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
