"""Measurement of vertebral bodies: trabecular region, HU statistics, density in mg/cm3, shape, tissues, texture."""

from osteo_monai.measurement.calibration import calibrate, density, mean_density, phantom_calibration
from osteo_monai.measurement.frame import BodyFrame, body_frame
from osteo_monai.measurement.hu_statistics import hu_statistics
from osteo_monai.measurement.radiomics import cross_validated_predictions, feature_table
from osteo_monai.measurement.region import Region, trabecular_region
from osteo_monai.measurement.texture import UNITS, LevelTexture, check_texture_installed, level_texture, texture_rows
from osteo_monai.measurement.values import CalibrationUsed, Density, HUStatistics

__all__ = [
    "UNITS",
    "BodyFrame",
    "CalibrationUsed",
    "Density",
    "HUStatistics",
    "LevelTexture",
    "Region",
    "body_frame",
    "calibrate",
    "check_texture_installed",
    "cross_validated_predictions",
    "density",
    "feature_table",
    "hu_statistics",
    "level_texture",
    "mean_density",
    "phantom_calibration",
    "texture_rows",
    "trabecular_region",
]
