"""Offset and gain of the HU of a scan, fitted to its tissues without any window that a wrong scale would leave.

The values of a scan are ``offset + gain * HU``. The usual scanner has an offset of 0 +- 4 HU and a gain of 1 +- 0.004;
the fit tests it against any offset, and against any offset and gain. Tissues of a whole scan scatter more than the
samples of internal calibration, so they have their own SDs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import effective_energy as energy
from osteo_monai.measurement.calibration.accuracy import REFERENCE_KVP, WATER_SD_HU
from osteo_monai.measurement.calibration.internal import TISSUES, TissueSample

SCAN_SD_HU: Mapping[str, float] = {"air": 8.0, "adipose": 13.0, "muscle": 15.0, "blood": 10.0}
"""SD of a tissue between scans. Project custom, from 14 real scans of 120 and 100 kVp: air outside the person -1008 to
-995 HU, fat -108 to -76 HU (thin layers are blurred), lean tissue of the back 23 to 73 HU with and without contrast
agent; blood as in ``TISSUES`` and 3 HU for its place."""
ORGAN_HU = (105.0, 30.0)
"""Mean and SD of enhanced liver, spleen or kidney, which are the lean tissue where little muscle is in view."""
USUAL_GAIN_SD = 0.004
"""SD of the gain of a usual scanner; the air of real scans scatters by 4 HU (project custom)."""
FREE_OFFSET_SD_HU, FREE_GAIN_SD = 300.0, 0.4
USUAL_DEVIANCE = 16.0
"""Largest chi-square of tissues of a usual scanner (p = 0.001 with three)."""
GAIN_DEVIANCE = 6.6
"""Chi-square by which a gain must fit better than an offset only: p = 0.01."""
REFERENCE_MG_CM3 = 100.0
"""Density at which the effect of a wrong scale is stated, between the thresholds."""


@dataclass(frozen=True)
class ScaleFit:
    """Offset and gain of the HU of a scan.

    Attributes:
        offset, gain: of the values; fitted.
        effect_mg_cm3, effect_sd: error that they cause at 100 mg/cm3 K2HPO4, with its SD.
        p_value: of a usual scanner (likelihood ratio) against any offset with one degree of freedom, or any offset and
            gain with two, whichever fits better.
        p_free: chi-square of the tissues about the fitted scale; 1 with two tissues.
        residuals: HU of each tissue minus what a usual scanner shows.
    """

    offset: float
    gain: float
    effect_mg_cm3: float
    effect_sd: float
    p_value: float
    p_free: float
    residuals: Mapping[str, float]


def fit_scale(tissues: Mapping[str, TissueSample], kvp: float | None) -> ScaleFit | None:
    """Fit offset and gain to the tissues of a scan; ``None`` with fewer than two tissues.

    Lean tissue may be muscle or an enhanced organ: the one that fits a usual scanner is used, else that which fits any.

    Args:
        tissues: keys of ``SCAN_SD_HU``.
        kvp: tube voltage; 120 kVp if ``None``.
    """
    names = [name for name in SCAN_SD_HU if name in tissues]
    if len(names) < 2:
        return None
    kev = energy.effective_energy(kvp or REFERENCE_KVP)
    plain = np.array([_expected(name, kev) for name in names])
    sd = np.array([SCAN_SD_HU[name] for name in names])
    readings = [(plain, sd)]
    if "muscle" in names:
        organ = np.array([name == "muscle" for name in names])
        readings.append((np.where(organ, ORGAN_HU[0], plain), np.where(organ, ORGAN_HU[1], sd)))
    hu = np.array([tissues[name].hu for name in names])
    fits = [_fit(hu, expected, spread, kev) for expected, spread in readings]
    usual = min(fit.deviance for fit in fits) < USUAL_DEVIANCE
    best = min(range(len(fits)), key=lambda n: fits[n].deviance if usual else fits[n].rest)
    chosen = fits[best]
    residuals = dict(zip(names, (hu - readings[best][0]).tolist(), strict=True))
    freedom = len(names) - chosen.parameters
    free = float(chdtrc(freedom, chosen.rest)) if freedom > 0 else 1.0
    return ScaleFit(chosen.offset, chosen.gain, chosen.effect, chosen.effect_sd, chosen.p_value, free, residuals)


def _expected(name: str, kev: float) -> float:
    """Return the HU of a tissue of living people at an effective energy."""
    by_energy = energy.tissue_hu_by_energy(name)
    at, reference = (
        float(np.interp(k, energy.ENERGIES_KEV, by_energy)) for k in (kev, energy.effective_energy(REFERENCE_KVP))
    )
    return TISSUES[name].hu + at - reference


@dataclass(frozen=True)
class _Fit:
    offset: float
    gain: float
    effect: float
    effect_sd: float
    deviance: float
    """Chi-square of a usual scanner ..."""
    rest: float
    """... and of the fitted scale, ..."""
    parameters: int
    """... which has an offset, or an offset and a gain."""

    @property
    def p_value(self) -> float:
        """Of the likelihood ratio."""
        return float(chdtrc(self.parameters, max(self.deviance - self.rest, 0.0)))


def _fit(hu: NDArray[np.float64], expected: NDArray[np.float64], sd: NDArray[np.float64], kev: float) -> _Fit:
    design = np.stack([np.ones_like(expected), expected], axis=1)
    residual = hu - expected
    noise = np.diag(sd**2)

    def deviance(offset_sd: float, gain_sd: float) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        prior = np.diag([offset_sd**2, gain_sd**2])
        covariance = design @ prior @ design.T + noise
        step = np.linalg.solve(covariance, design @ prior).T
        chi2 = float(residual @ np.linalg.solve(covariance, residual))
        return chi2, step @ residual, prior - step @ design @ prior

    usual, *_ = deviance(WATER_SD_HU, USUAL_GAIN_SD)
    per_mg = float(np.interp(kev, energy.ENERGIES_KEV, energy.hu_per_mg_by_energy(MineralStandard.K2HPO4)))
    at = np.array([1.0, REFERENCE_MG_CM3 * per_mg])

    def fit(gain_sd: float, parameters: int) -> _Fit:
        rest, mean, covariance = deviance(FREE_OFFSET_SD_HU, gain_sd)
        effect, spread = float(at @ mean) / per_mg, float(np.sqrt(at @ covariance @ at)) / per_mg
        return _Fit(float(mean[0]), 1.0 + float(mean[1]), effect, spread, usual, rest, parameters)

    offset, both = fit(USUAL_GAIN_SD, 1), fit(FREE_GAIN_SD, 2)
    return both if offset.rest - both.rest > GAIN_DEVIANCE else offset
