"""Metrics that MONAI does not have."""

from osteo_monai.metrics.auc import OneVersusRestAUC, class_outputs, risk_outputs
from osteo_monai.metrics.identification import Identification, NamedBody, identify_bodies, pooled_identification
from osteo_monai.metrics.levels import match_levels, true_centres
from osteo_monai.metrics.surface_distance import SurfaceDistanceMM, slicewise

__all__ = [
    "Identification",
    "NamedBody",
    "OneVersusRestAUC",
    "SurfaceDistanceMM",
    "class_outputs",
    "identify_bodies",
    "match_levels",
    "pooled_identification",
    "risk_outputs",
    "slicewise",
    "true_centres",
]
