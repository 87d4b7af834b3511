"""From HU to volumetric density in mg/cm3: six methods to get the line, and the interval that belongs to each.

Every method gives density = slope * HU + intercept in a named mineral standard. :func:`calibrate` is the entry point
for methods without a phantom, :func:`phantom_calibration` that for a phantom in the scan, :func:`site_line` that for
a calibration fitted to scans of known density.
"""

from osteo_monai.measurement.calibration.contrast import (
    PUBLISHED_CONTRAST,
    ContrastCorrection,
    contrast_shift,
    read_contrast_correction,
)
from osteo_monai.measurement.calibration.density import density, mean_density, widened
from osteo_monai.measurement.calibration.internal import TISSUES, TissueFit, TissueSample, fit_tissues, internal
from osteo_monai.measurement.calibration.lines import (
    RegistryLine,
    line_from_registry,
    physics,
    registry,
    registry_lines,
    user_line,
)
from osteo_monai.measurement.calibration.methods import calibrate
from osteo_monai.measurement.calibration.phantom import (
    MINDWAYS_MODEL_3,
    Phantom,
    PhantomFile,
    phantom_calibration,
    phantom_fit,
    read_phantom,
    rod_medians,
)
from osteo_monai.measurement.calibration.regression import AlongHU, Regression, fit_regression
from osteo_monai.measurement.calibration.scale import ScaleFit, fit_scale
from osteo_monai.measurement.calibration.site import (
    Scanner,
    SiteFile,
    SiteScan,
    read_site_file,
    regression_rows,
    site_findings,
    site_line,
)

__all__ = [
    "MINDWAYS_MODEL_3",
    "PUBLISHED_CONTRAST",
    "TISSUES",
    "AlongHU",
    "ContrastCorrection",
    "Phantom",
    "PhantomFile",
    "RegistryLine",
    "Regression",
    "ScaleFit",
    "Scanner",
    "SiteFile",
    "SiteScan",
    "TissueFit",
    "TissueSample",
    "calibrate",
    "contrast_shift",
    "density",
    "fit_regression",
    "fit_scale",
    "fit_tissues",
    "internal",
    "line_from_registry",
    "mean_density",
    "phantom_calibration",
    "phantom_fit",
    "physics",
    "read_contrast_correction",
    "read_phantom",
    "read_site_file",
    "registry",
    "registry_lines",
    "regression_rows",
    "rod_medians",
    "site_findings",
    "site_line",
    "user_line",
    "widened",
]
