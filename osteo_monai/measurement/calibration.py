"""From HU to volumetric density in mg/cm3: five ways to get the line, and the interval that goes with each.

All of them give density = slope * HU + intercept in a named mineral standard. :func:`calibrate` is the door; the
functions behind it can be called by themselves.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import attenuation
from osteo_monai.measurement.values import CalibrationUsed, Density

_T = TypeVar("_T")
Method = Literal["physics", "registry", "phantom", "internal", "user"]

USER_SLOPE_RANGE = (0.45, 0.95)
"""mg/cm3 per HU that a given line may have at 120 kVp: 0.66 to 0.80 by physics at 65 to 75 keV, with margin."""
REFERENCE_KVP = 120.0

ASYNCHRONOUS_RELATIVE_SD = 0.080
"""Asynchronous against simultaneous calibration, RMSD 8.0 % (Kaesmacher 2017)."""
INTERNAL_RELATIVE_SD = 0.078
"""Internal (tissue) calibration, RMSD 7.8 % (Kaesmacher 2017)."""
PHANTOM_RELATIVE_SD = 0.067
"""In-scan phantom, upper end of the accuracies of 1.4 to 6.7 % (Wang L 2017)."""
OTHER_SCANNER_SD = 0.092
"""A calibration carried to another scanner scatters by 9.2 % (Skornitzke 2022)."""
OTHER_KVP_SD = 0.054
"""Physics against the population HU at L1 (AAPM 2026, n = 16,747): at 100 kVp 1.128 against 1.051 times the HU at 120
kVp, at 140 kVp 0.912 against 0.932; root mean square of the two disagreements (7.3 and 2.2 %)."""
ABSOLUTE_SD_MG_CM3 = 3.0
"""Offset that no slope explains: phantomless bias of 3.0 mg/cm3 (PMC8844761), equal to 4 HU of water."""
Z_90 = 1.6449
"""Two-sided 90 % quantile of the normal distribution."""

R2_WARN, R2_ERROR = 0.98, 0.90
"""A phantom fit below the first is told in the note, below the second it is refused."""


@dataclass(frozen=True)
class Phantom:
    """Rods of known composition: mg/cm3 of K2HPO4 and of water in each, in the order of the rods."""

    name: str
    k2hpo4: tuple[float, ...]
    water: tuple[float, ...]


MINDWAYS_MODEL_3 = Phantom(
    "Mindways Model 3", (-51.83, -53.40, 58.88, 157.05, 375.83), (1012.25, 1056.95, 1103.57, 1119.52, 923.20)
)
"""Published rods of the Mindways Model 3 QCT phantom, mg/cm3."""

_WATER_OFFSET = 999.6  # Mindways: beta_ct = beta_ref + 999.6, which takes the HU of the rods' water out


class RegistryLine(BaseModel):
    """One scanner line of the registry file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    manufacturer: str | None
    model: str | None
    kvp: float
    slope: float
    intercept: float
    standard: MineralStandard | None
    """``None`` where the source does not state it; such a line is refused."""
    status: Literal["verified", "unverified"]
    source: str


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
"""HU that a sample must lie in: fat -100 +- 30, air -1000 (-30/+20), blood 20 +- 40, muscle 30 +- 35, cortical bone
1200 +- 250 (the windows of the open implementation of Michalski 2020)."""
MIN_TISSUES = 3
MIN_TISSUE_AREA_MM2 = 10.0
TISSUE_HU_SD = 2.0
"""How well a tissue's mean HU stands for its tabulated composition; spreads the slope in the reported interval."""
EFFECTIVE_ENERGY_RANGE_KEV = (40.0, 110.0)
"""Effective energies that a CT at 70 to 150 kVp can have; outside, the samples are wrong."""


def density(hu: float, calibration: CalibrationUsed) -> Density:
    """Return the density of ``hu`` (HU, of the trabecular region) with its 90 % interval.

    The interval is +-1.645 times the root sum of squares of ``relative_sd`` times the density and ``absolute_sd``.
    Raises ``ValueError`` if ``hu`` is not finite.
    """
    if not math.isfinite(hu):
        raise ValueError(f"hu must be a finite number, got {hu}")
    value = calibration.slope * hu + calibration.intercept
    half = Z_90 * math.hypot(calibration.relative_sd * value, calibration.absolute_sd)
    return Density(mg_cm3=value, interval_low=value - half, interval_high=value + half, standard=calibration.standard)


def mean_density(densities: Sequence[Density]) -> Density:
    """Mean over vertebrae. Their errors share one calibration, so the interval's bounds are averaged, not narrowed.

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
    """Return a density whose 90 % interval holds an independent error of ``sd_mg_cm3`` more."""
    low, high = (
        math.hypot(abs(bound - density.mg_cm3), Z_90 * sd_mg_cm3)
        for bound in (density.interval_low, density.interval_high)
    )
    return density.model_copy(update={"interval_low": density.mg_cm3 - low, "interval_high": density.mg_cm3 + high})


def calibrate(
    method: Method = "physics",
    *,
    kvp: float | None,
    standard: MineralStandard = MineralStandard.K2HPO4,
    slope: float | None = None,
    intercept: float | None = None,
    registry_name: str | None = None,
    allow_unverified: bool = False,
    rod_hu: Sequence[float] | None = None,
    tissues: Mapping[str, TissueSample] | None = None,
) -> CalibrationUsed:
    """Return the line from HU to mg/cm3 by the method named.

    Args:
        method: ``physics`` (needs ``kvp``), ``user`` (``slope``, ``intercept``), ``registry`` (``registry_name``),
            ``phantom`` (``rod_hu`` of the Mindways Model 3) or ``internal`` (``tissues``).
        kvp: tube voltage. ``None`` (unknown) is refused by ``physics`` and by ``registry``, which depend on it.
        standard: the mineral that the density is expressed in. ``phantom`` and a registry line have their own.
        allow_unverified: use a registry line whose source nobody has checked.

    Raises:
        ValueError: an argument is missing, or the line, the fit or the samples are not believable.
    """
    if method == "physics":
        return physics(_given("kvp", kvp, method), standard)
    if method == "user":
        return user_line(_given("slope", slope, method), _given("intercept", intercept, method), standard, kvp)
    if method == "registry":
        name = _given("registry_name", registry_name, method)
        return registry(name, _given("kvp", kvp, method), allow_unverified=allow_unverified)
    if method == "phantom":
        return phantom_fit(_given("rod_hu", rod_hu, method))
    if method == "internal":
        return internal(_given("tissues", tissues, method), standard)
    raise ValueError(f"method must be physics, registry, phantom, internal or user, got {method!r}")


def _given(name: str, value: _T | None, method: str) -> _T:
    if value is None:
        raise ValueError(f"calibration by {method} needs {name}, got none")
    return value


def physics(kvp: float, standard: MineralStandard = MineralStandard.K2HPO4) -> CalibrationUsed:
    """The line that physics gives at ``kvp`` (70 to 150): one over the HU that a mg/cm3 adds to water.

    The intercept is zero: a QCT density is by definition that of the mineral-in-water solution with the same HU,
    and water has 0 HU. Marrow fat therefore lowers it, as it lowers every single-energy QCT value.

    The relative SD is the root sum of squares of asynchronous calibration (8.0 %) and of a scanner that nobody
    calibrated (9.2 %), together 12.2 %; away from 120 kVp 5.4 % more in the same way, because physics and
    population means disagree there.
    """
    relative = math.hypot(ASYNCHRONOUS_RELATIVE_SD, OTHER_SCANNER_SD)
    if kvp != REFERENCE_KVP:
        relative = math.hypot(relative, OTHER_KVP_SD)
    displaced = (
        f"{attenuation.K2HPO4_DISPLACEMENT_CM3_PER_G} cm3 of water displaced per g"
        if MineralStandard(standard) is MineralStandard.K2HPO4
        else f"solid density {attenuation.HYDROXYAPATITE_DENSITY} g/cm3"
    )
    return CalibrationUsed(
        method="physics",
        slope=1.0 / attenuation.hu_per_mg_cm3(standard, kvp),
        intercept=0.0,
        standard=standard,
        relative_sd=relative,
        absolute_sd=ABSOLUTE_SD_MG_CM3,
        note=(
            f"Estimate from X-ray physics at {kvp:g} kVp for a model scanner ({displaced}); "
            "no phantom was in the scan and this scanner was not calibrated."
        ),
    )


def user_line(slope: float, intercept: float, standard: MineralStandard, kvp: float | None = None) -> CalibrationUsed:
    """A line that the user measured, mg/cm3 = slope * HU + intercept.

    Raises ``ValueError`` if the slope lies outside :data:`USER_SLOPE_RANGE`, scaled by physics where ``kvp`` is known
    and not 120, or if the intercept is not within 50 mg/cm3 of zero.
    """
    return CalibrationUsed(
        method="user",
        slope=_believable(slope, intercept, kvp),
        intercept=intercept,
        standard=standard,
        relative_sd=ASYNCHRONOUS_RELATIVE_SD,
        absolute_sd=ABSOLUTE_SD_MG_CM3,
        note=f"Line given by the user: {slope:g} x HU {intercept:+g} mg/cm3 {MineralStandard(standard)}.",
    )


MAX_INTERCEPT_MG_CM3 = 50.0
"""An intercept beyond this means another unit or an HU offset that is no calibration."""


def _believable(slope: float, intercept: float, kvp: float | None) -> float:
    low, high = USER_SLOPE_RANGE
    scale = 1.0
    if kvp is not None:
        reference = attenuation.hu_per_mg_cm3(MineralStandard.K2HPO4, REFERENCE_KVP)
        scale = reference / attenuation.hu_per_mg_cm3(MineralStandard.K2HPO4, kvp)
    if not low * scale <= slope <= high * scale:
        raise ValueError(
            f"slope must be between {low * scale:.2f} and {high * scale:.2f} mg/cm3 per HU"
            f"{'' if kvp is None else f' at {kvp:g} kVp'}, got {slope}"
        )
    if not abs(intercept) <= MAX_INTERCEPT_MG_CM3:
        raise ValueError(f"intercept must be within {MAX_INTERCEPT_MG_CM3:g} mg/cm3 of zero, got {intercept}")
    return slope


@lru_cache(maxsize=1)
def registry_lines() -> Mapping[str, RegistryLine]:
    """The shipped scanner lines by name. All of them are unverified: none was read in its primary source."""
    text = files("osteo_monai.measurement").joinpath("calibration_registry.json").read_text(encoding="utf-8")
    lines = [RegistryLine.model_validate(line) for line in json.loads(text)["lines"]]
    return {line.name: line for line in lines}


def registry(name: str, kvp: float, *, allow_unverified: bool = False) -> CalibrationUsed:
    """The registry's line ``name``.

    Raises ``ValueError`` for an unknown name, another tube voltage than the line's, an unverified line without
    ``allow_unverified``, a line of unstated mineral standard, or one that physics does not allow.
    """
    lines = registry_lines()
    if name not in lines:
        raise ValueError(f"registry_name must be one of {', '.join(sorted(lines))}, got {name!r}")
    return line_from_registry(lines[name], kvp, allow_unverified=allow_unverified)


def line_from_registry(line: RegistryLine, kvp: float, *, allow_unverified: bool = False) -> CalibrationUsed:
    """As :func:`registry`, for a line of the caller's own registry."""
    if line.status != "verified" and not allow_unverified:
        raise ValueError(f"calibration line {line.name!r} is unverified and off by default ({line.source})")
    if line.standard is None:
        raise ValueError(
            f"calibration line {line.name!r} does not state its mineral standard; give it as a user line with one"
        )
    if kvp != line.kvp:
        raise ValueError(f"calibration line {line.name!r} holds at {line.kvp:g} kVp, got kvp {kvp:g}")
    return CalibrationUsed(
        method="registry",
        slope=_believable(line.slope, line.intercept, kvp),
        intercept=line.intercept,
        standard=line.standard,
        relative_sd=ASYNCHRONOUS_RELATIVE_SD,
        absolute_sd=ABSOLUTE_SD_MG_CM3,
        note=f"Registry line {line.name} ({line.status}): {line.source}.",
    )


def rod_means(hu: NDArray[np.float32], rods: NDArray[np.integer]) -> tuple[float, ...]:
    """Median HU of each rod of a label map (labels 1, 2, ... in the phantom's order, both arrays of one shape).

    Raises ``ValueError`` if the shapes differ or a label between 1 and the largest is absent.
    """
    if hu.shape != rods.shape:
        raise ValueError(f"rods must have the shape of hu {hu.shape}, got {rods.shape}")
    count = int(rods.max(initial=0))
    missing = [label for label in range(1, count + 1) if not np.any(rods == label)]
    if count == 0 or missing:
        raise ValueError(f"rods must hold labels 1 to the number of rods, missing {missing or 'all'}")
    return tuple(float(np.median(hu[rods == label])) for label in range(1, count + 1))


def phantom_fit(rod_hu: Sequence[float], phantom: Phantom = MINDWAYS_MODEL_3) -> CalibrationUsed:
    """Fit the line to rods scanned with the patient (standard K2HPO4).

    Regress HU minus water on K2HPO4: the gradient is sigma_ref, the offset beta_ref. Then sigma_ct = sigma_ref -
    0.2174 and beta_ct = beta_ref + 999.6, and the density is (HU - beta_ct) / sigma_ct (Mindways).

    Raises ``ValueError`` for another number of rods, values that are not finite, a fit with R2 below 0.90, or a slope
    that no CT at 70 to 150 kVp has; R2 below 0.98 is told in the note and widens the interval.
    """
    values = np.asarray(rod_hu, dtype=np.float64)
    if values.shape != (len(phantom.k2hpo4),):
        raise ValueError(f"rod_hu must hold {len(phantom.k2hpo4)} values for {phantom.name}, got {values.size}")
    if not np.isfinite(values).all():
        raise ValueError(f"rod_hu must be finite, got {values.tolist()}")
    mineral = np.asarray(phantom.k2hpo4)
    gradient, offset, r2, gradient_se = _line_fit(mineral, values - np.asarray(phantom.water))
    if r2 < R2_ERROR:
        raise ValueError(f"rod_hu must lie on a line (R2 at least {R2_ERROR}), got R2 {r2:.3f}")
    sigma = gradient - attenuation.K2HPO4_DISPLACEMENT_CM3_PER_G
    softest = attenuation.hu_per_mg_cm3(MineralStandard.K2HPO4, attenuation.TABULATED_KVP[0])
    hardest = attenuation.hu_per_mg_cm3(MineralStandard.K2HPO4, attenuation.TABULATED_KVP[-1])
    if not 0.75 * hardest <= sigma <= 1.25 * softest:
        raise ValueError(
            f"rod_hu must give between {0.75 * hardest:.2f} and {1.25 * softest:.2f} HU per mg/cm3, got {sigma:.2f}"
        )
    doubt = f"; R2 below {R2_WARN}, look at the rods" if r2 < R2_WARN else ""
    return CalibrationUsed(
        method="phantom",
        slope=1.0 / sigma,
        intercept=-(offset + _WATER_OFFSET) / sigma,
        standard=MineralStandard.K2HPO4,
        relative_sd=math.hypot(PHANTOM_RELATIVE_SD, gradient_se / sigma),
        absolute_sd=ABSOLUTE_SD_MG_CM3,
        note=f"{phantom.name} rods in the scan, R2 {r2:.4f}{doubt}.",
    )


def _line_fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Gradient, offset, R2 and standard error of the gradient of the least-squares line y = gradient x + offset."""
    dx, dy = x - x.mean(), y - y.mean()
    gradient = float(dx @ dy / (dx @ dx))
    residual = float(np.sum((dy - gradient * dx) ** 2))
    total = float(dy @ dy)
    r2 = 1.0 - residual / total if total > 0 else 0.0
    error = math.sqrt(residual / max(len(x) - 2, 1) / float(dx @ dx))
    return gradient, float(y.mean() - gradient * x.mean()), r2, error


@dataclass(frozen=True)
class EnergyFit:
    """The effective energy at which the measured HU of the tissues lie best on a line of their attenuation."""

    kev: float
    r2: float
    gradient: float
    """HU per 1/cm of linear attenuation."""
    offset: float
    """HU at no attenuation; about -1000."""
    tissues: tuple[str, ...]


@lru_cache(maxsize=1)
def _attenuation_by_energy() -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Energies 1 to 200 keV in 0.5 keV steps and linear attenuation in 1/cm of the tissues, water and minerals."""
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
        tissues: keys of :data:`TISSUE_WINDOWS`; samples under 10 mm2 or outside their window are left out.

    Raises:
        ValueError: an unknown tissue, fewer than three usable ones, or an energy that no CT has.
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

    The relative SD joins the published 7.8 % with what an error of 2 HU in each tissue does to the slope; without
    cortical bone the energy hangs on the few HU between fat, blood and muscle, and that term is large.

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


@dataclass(frozen=True)
class StandardConversion:
    """hydroxyapatite = slope * K2HPO4 + intercept, mg/cm3, with its name and source."""

    name: str
    slope: float
    intercept: float
    source: str


FAULKNER_1993 = StandardConversion(
    "faulkner-1993", 1.15, -7.32, "Faulkner 1993, as quoted in a public discussion; primary source not read"
)


def physical_conversion(kvp: float) -> StandardConversion:
    """The conversion between two ideal solutions at ``kvp``: the ratio of the HU that each mineral adds."""
    ratio = attenuation.hu_per_mg_cm3(MineralStandard.K2HPO4, kvp) / attenuation.hu_per_mg_cm3(
        MineralStandard.HYDROXYAPATITE, kvp
    )
    return StandardConversion(f"physics-{kvp:g}kvp", ratio, 0.0, "xraydb and spekpy, water displacement as named")


def convert_standard(value: Density, to: MineralStandard, conversion: StandardConversion) -> Density:
    """Express a density in another mineral standard by a conversion that the caller names.

    There is no default: the two known conversions differ by 10 % at 100 mg/cm3.
    """
    if value.standard == to:
        return value
    if to is MineralStandard.HYDROXYAPATITE:
        numbers = [
            conversion.slope * x + conversion.intercept for x in (value.mg_cm3, value.interval_low, value.interval_high)
        ]
    else:
        numbers = [
            (x - conversion.intercept) / conversion.slope
            for x in (value.mg_cm3, value.interval_low, value.interval_high)
        ]
    return Density(mg_cm3=numbers[0], interval_low=numbers[1], interval_high=numbers[2], standard=to)
