"""From HU to volumetric density in mg/cm3: five methods to get the line, and the interval that belongs to each.

Every method gives density = slope * HU + intercept in a named mineral standard. :func:`calibrate` is the entry point
for methods without a phantom, :func:`phantom_calibration` that for a phantom in the scan.
"""

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

__all__ = [
    "MINDWAYS_MODEL_3",
    "TISSUES",
    "Phantom",
    "PhantomFile",
    "RegistryLine",
    "TissueFit",
    "TissueSample",
    "calibrate",
    "density",
    "fit_tissues",
    "internal",
    "line_from_registry",
    "mean_density",
    "phantom_calibration",
    "phantom_fit",
    "physics",
    "read_phantom",
    "registry",
    "registry_lines",
    "rod_medians",
    "user_line",
    "widened",
]
