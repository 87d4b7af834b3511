"""Handlers of trainers and evaluators that MONAI does not have."""

from osteo_monai.handlers.classification_figures import ClassificationFigures
from osteo_monai.handlers.column_figures import ColumnFigures
from osteo_monai.handlers.column_report import ColumnReport
from osteo_monai.handlers.density_report import DensityReport
from osteo_monai.handlers.gradient_clipping import GradientClipping
from osteo_monai.handlers.heat_map_figures import HeatMapFigures
from osteo_monai.handlers.level_report import LevelReport
from osteo_monai.handlers.mlflow_tracker import RunTracker
from osteo_monai.handlers.outline_scores import OutlineScores
from osteo_monai.handlers.overlays import OverlayFigures
from osteo_monai.handlers.predictions import (
    CalibratedRiskColumns,
    PredictionsSaver,
    class_columns,
    density_columns,
    risk_columns,
)
from osteo_monai.handlers.progress import Progress
from osteo_monai.handlers.weight_averaging import WeightAveraging, averaged_copy

__all__ = [
    "CalibratedRiskColumns",
    "ClassificationFigures",
    "ColumnFigures",
    "ColumnReport",
    "DensityReport",
    "GradientClipping",
    "HeatMapFigures",
    "LevelReport",
    "OutlineScores",
    "OverlayFigures",
    "PredictionsSaver",
    "Progress",
    "RunTracker",
    "WeightAveraging",
    "averaged_copy",
    "class_columns",
    "density_columns",
    "risk_columns",
]
