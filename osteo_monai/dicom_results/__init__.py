"""Results of a screening as DICOM objects, for an archive and for other programs.

``screen_study`` screens the DICOM files of one study and returns the objects to send; ``write_dicom_results`` writes
the objects of a screening that was already made.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osteo_monai.dicom_results.study import ScreenedStudy, StudyModels, StudyOptions, screen_study
    from osteo_monai.dicom_results.written import WrittenObject

_MODULES = {
    "ScreenedStudy": "study",
    "StudyModels": "study",
    "StudyOptions": "study",
    "WrittenObject": "written",
    "screen_study": "study",
}

__all__ = ["ScreenedStudy", "StudyModels", "StudyOptions", "WrittenObject", "screen_study"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
