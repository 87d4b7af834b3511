"""Calibration by the patient's own tissues: effective energy, then physics at that energy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import attenuation
from osteo_monai.measurement.calibration.accuracy import ABSOLUTE_SD_MG_CM3, INTERNAL_RELATIVE_SD
from osteo_monai.measurement.values import CalibrationUsed


@dataclass(frozen=True)
class TissueSample:
    """Mean HU of one reference tissue and the area (mm2) that it was taken from."""

    hu: float
    area_mm2: float


TISSUE_WINDOWS: Mapping[str, tuple[float, float]] = {
    "air": (-1030.0, -980.0),
    "adipose": (-130.0, -70.0),
    "blood": (-20.0, 60.0),
    "muscle": (-5.0, 65.0),
    "cortical_bone": (950.0, 1450.0),
}
"""Valid HU of a sample: fat -100 +- 30, air -1000 (-30/+20), blood 20 +- 40, muscle 30 +- 35, cortical bone
1200 +- 250 (the windows of the open implementation of Michalski 2020)."""
MIN_TISSUES = 3
MIN_TISSUE_AREA_MM2 = 10.0
TISSUE_HU_SD = 2.0
"""SD of the mean HU of a tissue against its tabulated composition; widens the reported interval."""
EFFECTIVE_ENERGY_RANGE_KEV = (40.0, 110.0)
"""Effective energies of CT at 70 to 150 kVp; outside, the samples are wrong."""


@dataclass(frozen=True)
class EnergyFit:
    """The effective energy at which the measured HU of the tissues fit a line of their attenuation best."""

    kev: float
    r2: float
    gradient: float
    """HU per 1/cm of linear attenuation."""
    offset: float
    """HU at no attenuation; about -1000."""
    tissues: tuple[str, ...]


@lru_cache(maxsize=1)
def _attenuation_by_energy() -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Return energies from 1 to 200 keV in 0.5 keV steps, and linear attenuation (1/cm) of tissues, water and
    minerals.
    """
    import xraydb

    kev = np.arange(1.0, 200.0 + 0.25, 0.5)
    tables = {
        name: attenuation.MATERIALS[name].density * attenuation.mass_attenuation(name, kev)
        for name in (*TISSUE_WINDOWS, "water")
    }
    tables[MineralStandard.K2HPO4.value] = np.asarray(xraydb.material_mu("K2HPO4", 1e3 * kev, density=1.0))
    tables[MineralStandard.HYDROXYAPATITE.value] = np.asarray(xraydb.material_mu("Ca10P6O26H2", 1e3 * kev, density=1.0))
    return kev, tables


def effective_energy(tissues: Mapping[str, TissueSample]) -> EnergyFit:
    """Find the effective energy of a scan from its own tissues (the idea of Michalski 2020).

    For every energy from 1 to 200 keV in steps of 0.5 keV the measured HU are regressed on the tissues' attenuation
    there, and the energy of the largest R2 is taken. The regressor is *linear* attenuation, density times the
    mass attenuation that the paper names: HU are linear in that, so that a scan at one energy is recovered exactly.

    Args:
        tissues: keys of :data:`TISSUE_WINDOWS`; samples below 10 mm2 or outside their window are ignored.

    Raises:
        ValueError: an unknown tissue, fewer than three usable ones, or an effective energy that is not one of CT.
    """
    unknown = set(tissues) - set(TISSUE_WINDOWS)
    if unknown:
        raise ValueError(f"tissues must be among {', '.join(TISSUE_WINDOWS)}, got {', '.join(sorted(unknown))}")
    usable = tuple(
        name
        for name, (low, high) in TISSUE_WINDOWS.items()
        if name in tissues and tissues[name].area_mm2 >= MIN_TISSUE_AREA_MM2 and low <= tissues[name].hu <= high
    )
    if len(usable) < MIN_TISSUES:
        raise ValueError(
            f"tissues must hold at least {MIN_TISSUES} samples of {MIN_TISSUE_AREA_MM2:g} mm2 within their HU window, "
            f"got {len(usable)} ({', '.join(usable) or 'none'})"
        )
    fit = _fit_energy(usable, np.array([tissues[name].hu for name in usable]))
    low, high = EFFECTIVE_ENERGY_RANGE_KEV
    if not low <= fit.kev <= high:
        raise ValueError(f"tissues must give an effective energy of {low:g} to {high:g} keV, got {fit.kev:g} keV")
    return fit


def _fit_energy(names: tuple[str, ...], hu: NDArray[np.float64]) -> EnergyFit:
    kev, tables = _attenuation_by_energy()
    mu = np.stack([tables[name] for name in names])  # (tissues, energies)
    d_mu, d_hu = mu - mu.mean(axis=0), hu - hu.mean()
    covariance = d_hu @ d_mu
    r2 = covariance**2 / (np.sum(d_mu**2, axis=0) * np.sum(d_hu**2))
    best = int(np.argmax(r2))
    gradient = float(covariance[best] / np.sum(d_mu[:, best] ** 2))
    offset = float(hu.mean() - gradient * mu[:, best].mean())
    return EnergyFit(float(kev[best]), float(r2[best]), gradient, offset, names)


def _line_from_energy(fit: EnergyFit, standard: MineralStandard) -> tuple[float, float]:
    kev, tables = _attenuation_by_energy()
    at = int(np.argmin(np.abs(kev - fit.kev)))
    water, mineral = float(tables["water"][at]), float(tables[standard.value][at])
    displaced = (
        attenuation.K2HPO4_DISPLACEMENT_CM3_PER_G
        if standard is MineralStandard.K2HPO4
        else 1.0 / attenuation.HYDROXYAPATITE_DENSITY
    )
    hu_per_mg = fit.gradient * 1e-3 * (mineral - displaced * water)
    return 1.0 / hu_per_mg, -(fit.offset + fit.gradient * water) / hu_per_mg


def internal(
    tissues: Mapping[str, TissueSample], standard: MineralStandard = MineralStandard.K2HPO4
) -> CalibrationUsed:
    """Calibrate by the patient's own tissues: :func:`effective_energy`, then physics at that energy.

    The relative SD combines the published 7.8 % and the effect of an error of 2 HU in each tissue on the slope; without
    cortical bone the energy depends on the few HU between fat, blood and muscle, and this term is large.

    Raises ``ValueError`` as :func:`effective_energy` does.
    """
    standard = MineralStandard(standard)
    fit = effective_energy(tissues)
    slope, intercept = _line_from_energy(fit, standard)
    hu = np.array([tissues[name].hu for name in fit.tissues])
    spread = 0.0
    for index in range(len(hu)):
        moved = []
        for sign in (-1.0, 1.0):
            shifted = hu.copy()
            shifted[index] += sign * TISSUE_HU_SD
            moved.append(_line_from_energy(_fit_energy(fit.tissues, shifted), standard)[0])
        spread += ((moved[1] - moved[0]) / 2.0) ** 2
    return CalibrationUsed(
        method="internal",
        slope=slope,
        intercept=intercept,
        standard=standard,
        relative_sd=math.hypot(INTERNAL_RELATIVE_SD, math.sqrt(spread) / slope),
        absolute_sd=ABSOLUTE_SD_MG_CM3,
        note=(
            f"Calibrated by the patient's own {', '.join(name.replace('_', ' ') for name in fit.tissues)}: "
            f"effective energy {fit.kev:g} keV, R2 {fit.r2:.5f}."
        ),
    )
