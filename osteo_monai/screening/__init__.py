"""Screen CT and radiographs: options, models, results. Files are written by ``osteo_monai.screening_files``.

Names are imported on first use, so that the result model loads without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osteo_monai.screening.ct.pipeline import screen, screen_volume
    from osteo_monai.screening.gates.limits import Limit, Limits
    from osteo_monai.screening.images import RadiographImages, ReportImages, Screening
    from osteo_monai.screening.many import screen_folder
    from osteo_monai.screening.models import RadiographModels, ScreeningModels, load_models
    from osteo_monai.screening.options import (
        InternalCalibration,
        PhantomCalibration,
        PhysicsCalibration,
        RadiographOptions,
        RegistryCalibration,
        ScreeningOptions,
        SiteCalibration,
        UserCalibration,
    )
    from osteo_monai.screening.radiographs.pipeline import screen_radiographs
    from osteo_monai.screening.result import ScreeningResult
    from osteo_monai.screening.studies import Study, find_screenable

_MODULES = {
    "InternalCalibration": "options",
    "PhantomCalibration": "options",
    "Limit": "gates.limits",
    "Limits": "gates.limits",
    "PhysicsCalibration": "options",
    "RadiographImages": "images",
    "RadiographModels": "models",
    "RadiographOptions": "options",
    "RegistryCalibration": "options",
    "ReportImages": "images",
    "Screening": "images",
    "ScreeningModels": "models",
    "ScreeningOptions": "options",
    "ScreeningResult": "result",
    "SiteCalibration": "options",
    "Study": "studies",
    "UserCalibration": "options",
    "find_screenable": "studies",
    "load_models": "models",
    "screen": "ct.pipeline",
    "screen_folder": "many",
    "screen_radiographs": "radiographs.pipeline",
    "screen_volume": "ct.pipeline",
}

__all__ = [
    "InternalCalibration",
    "Limit",
    "Limits",
    "PhantomCalibration",
    "PhysicsCalibration",
    "RadiographImages",
    "RadiographModels",
    "RadiographOptions",
    "RegistryCalibration",
    "ReportImages",
    "Screening",
    "ScreeningModels",
    "ScreeningOptions",
    "ScreeningResult",
    "SiteCalibration",
    "Study",
    "UserCalibration",
    "find_screenable",
    "load_models",
    "screen",
    "screen_folder",
    "screen_radiographs",
    "screen_volume",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
