"""Segment and measure the records of a manifest."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osteo_monai.cohort.centres import labelled_centres
    from osteo_monai.cohort.levels import locate_labelled
    from osteo_monai.cohort.measure import CohortMeasured, measure_cohort
    from osteo_monai.cohort.segment import CohortSegmented, segment_cohort
    from osteo_monai.cohort.texture import measure_texture, predict_from_texture

_MODULES = {
    "CohortMeasured": "measure",
    "CohortSegmented": "segment",
    "labelled_centres": "centres",
    "locate_labelled": "levels",
    "measure_cohort": "measure",
    "measure_texture": "texture",
    "predict_from_texture": "texture",
    "segment_cohort": "segment",
}

__all__ = [
    "CohortMeasured",
    "CohortSegmented",
    "labelled_centres",
    "locate_labelled",
    "measure_cohort",
    "measure_texture",
    "predict_from_texture",
    "segment_cohort",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
