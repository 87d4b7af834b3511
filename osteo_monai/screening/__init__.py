"""Screen one study or many: options, models, results.

The names are imported on first use, so that the result model loads without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osteo_monai.screening.ct.pipeline import (
        ScreeningModels,
        ScreeningOptions,
        load_models,
        screen,
        screen_volume,
    )
    from osteo_monai.screening.radiographs.pipeline import RadiographModels, RadiographOptions, screen_radiographs
    from osteo_monai.screening.result import ScreeningResult
    from osteo_monai.screening.studies import Study, find_screenable, screen_folder

_MODULES = {
    "RadiographModels": "radiographs.pipeline",
    "RadiographOptions": "radiographs.pipeline",
    "ScreeningModels": "ct.pipeline",
    "ScreeningOptions": "ct.pipeline",
    "ScreeningResult": "result",
    "Study": "studies",
    "find_screenable": "studies",
    "load_models": "ct.pipeline",
    "screen": "ct.pipeline",
    "screen_folder": "studies",
    "screen_radiographs": "radiographs.pipeline",
    "screen_volume": "ct.pipeline",
}

__all__ = [
    "RadiographModels",
    "RadiographOptions",
    "ScreeningModels",
    "ScreeningOptions",
    "ScreeningResult",
    "Study",
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
