"""Metrics that MONAI does not have."""

from osteo_monai.metrics.auc import OneVersusRestAUC, class_outputs, risk_outputs
from osteo_monai.metrics.levels import match_levels, true_centres
from osteo_monai.metrics.surface_distance import SurfaceDistanceMM, slicewise

__all__ = [
    "OneVersusRestAUC",
    "SurfaceDistanceMM",
    "class_outputs",
    "match_levels",
    "risk_outputs",
    "slicewise",
    "true_centres",
]
