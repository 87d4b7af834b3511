"""Inferers that MONAI does not have."""

from osteo_monai.inferers.autocast import AutocastInferer, LocalizationInferer, autocast, bfloat16_is_fast
from osteo_monai.inferers.columns import ColumnInferer
from osteo_monai.inferers.slices import AxialSliceInferer

__all__ = [
    "AutocastInferer",
    "AxialSliceInferer",
    "ColumnInferer",
    "LocalizationInferer",
    "autocast",
    "bfloat16_is_fast",
]
