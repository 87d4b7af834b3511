"""Fit calibrations to scans of one scanner, and follow its HU over time."""

from osteo_monai.site_calibration.contrast import ContrastFit, fit_contrast
from osteo_monai.site_calibration.drift import Drift, check_drift, read_summaries
from osteo_monai.site_calibration.fitting import SiteFit, fit_site
from osteo_monai.site_calibration.runs import calibrate_contrast, calibrate_site, calibration_products, write_drift

__all__ = [
    "ContrastFit",
    "Drift",
    "SiteFit",
    "calibrate_contrast",
    "calibrate_site",
    "calibration_products",
    "check_drift",
    "fit_contrast",
    "fit_site",
    "read_summaries",
    "write_drift",
]
