"""Inferers that MONAI does not have."""

from osteo_monai.inferers.columns import ColumnInferer
from osteo_monai.inferers.slices import AutocastInferer, AxialSliceInferer, LocalizationInferer, bfloat16_is_fast

__all__ = [
    "AutocastInferer",
    "AxialSliceInferer",
    "ColumnInferer",
    "LocalizationInferer",
    "bfloat16_is_fast",
]
