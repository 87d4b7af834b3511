"""Density of a region from its HU and a calibration, with a 90 % interval."""

import math
from collections.abc import Sequence

import numpy as np

from osteo_monai.measurement.values import CalibrationUsed, Density

Z_90 = 1.6449
"""Two-sided 90 % quantile of the normal distribution."""


def density(hu: float, calibration: CalibrationUsed) -> Density:
    """Return the density of ``hu`` (HU, of the trabecular region) with its 90 % interval.

    The interval is +-1.645 times the root sum of squares of ``relative_sd`` times the density, ``absolute_sd``, and
    ``slope_sd`` times the distance from ``centre_hu``.
    Raises ``ValueError`` if ``hu`` is not finite.
    """
    if not math.isfinite(hu):
        raise ValueError(f"hu must be a finite number, got {hu}")
    value = calibration.slope * hu + calibration.intercept
    of_slope = calibration.slope_sd * (hu - calibration.centre_hu)
    half = Z_90 * math.hypot(calibration.relative_sd * value, calibration.absolute_sd, of_slope)
    return Density(mg_cm3=value, interval_low=value - half, interval_high=value + half, standard=calibration.standard)


def mean_density(densities: Sequence[Density]) -> Density:
    """Return the mean over vertebrae. Their errors share one calibration, so that the bounds of the interval are
    averaged.

    Raises ``ValueError`` for an empty sequence or mixed standards.
    """
    if not densities:
        raise ValueError("densities must hold at least one density, got none")
    standards = {d.standard for d in densities}
    if len(standards) > 1:
        raise ValueError(f"densities must share one mineral standard, got {', '.join(sorted(standards))}")
    return Density(
        mg_cm3=float(np.mean([d.mg_cm3 for d in densities])),
        interval_low=float(np.mean([d.interval_low for d in densities])),
        interval_high=float(np.mean([d.interval_high for d in densities])),
        standard=densities[0].standard,
    )


def widened(density: Density, sd_mg_cm3: float) -> Density:
    """Return a density whose 90 % interval includes an additional independent error of ``sd_mg_cm3``."""
    low, high = (
        math.hypot(abs(bound - density.mg_cm3), Z_90 * sd_mg_cm3)
        for bound in (density.interval_low, density.interval_high)
    )
    return density.model_copy(update={"interval_low": density.mg_cm3 - low, "interval_high": density.mg_cm3 + high})
