"""From one study to one honest result: the pipeline of CT with its quality gates, that of radiographs, the result, and
many studies at once.

``screen``, ``screen_radiographs`` and the others are imported on first use, so that the result model stays light.
"""

from typing import Any

_HOMES = {
    "ScreeningOptions": "pipeline",
    "ScreeningModels": "pipeline",
    "load_models": "pipeline",
    "screen": "pipeline",
    "screen_volume": "pipeline",
    "RadiographModels": "radiograph",
    "RadiographOptions": "radiograph",
    "screen_radiographs": "radiograph",
    "Study": "batch",
    "find_screenable": "batch",
    "screen_folder": "batch",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
