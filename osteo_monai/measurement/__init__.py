"""Measuring a vertebral body: trabecular region, HU statistics, density in mg/cm3, shape, tissues around it."""

from osteo_monai.measurement.calibration import calibrate, density, mean_density
from osteo_monai.measurement.frame import BodyFrame, body_frame
from osteo_monai.measurement.hu_statistics import hu_statistics
from osteo_monai.measurement.region import Region, trabecular_region
from osteo_monai.measurement.values import CalibrationUsed, Density, HUStatistics

__all__ = [
    "BodyFrame",
    "CalibrationUsed",
    "Density",
    "HUStatistics",
    "Region",
    "body_frame",
    "calibrate",
    "density",
    "hu_statistics",
    "mean_density",
    "trabecular_region",
]
