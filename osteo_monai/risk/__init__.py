"""Risk of osteoporosis: clinical and combined models, and calibration of network scores."""

from osteo_monai.risk.calibration import RiskCalibration

__all__ = ["RiskCalibration"]
