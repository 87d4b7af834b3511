"""Losses that MONAI does not have."""

from osteo_monai.losses.density import BetaGaussianNLLLoss
from osteo_monai.losses.localization import ColumnLoss, VertebraLocalizationLoss
from osteo_monai.losses.ordinal import OrdinalCrossEntropyLoss
from osteo_monai.losses.patches import GlobalLocalLoss

__all__ = [
    "BetaGaussianNLLLoss",
    "ColumnLoss",
    "GlobalLocalLoss",
    "OrdinalCrossEntropyLoss",
    "VertebraLocalizationLoss",
]
