"""Calibration by the patient's own tissues: effective energy and HU scale, each with a prior.

Model: a tissue of ``h`` HU on an ideal scanner of effective energy E has ``water + gain * h``. People differ in ``h``,
scanners in E, water and gain, each with an SD. The posterior is exact in water and gain and a sum over a grid of
energies. Tissues move the HU scale; the energy, on which the slope depends, stays near its prior: 9 keV are 10 HU of
fat.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import effective_energy as energy
from osteo_monai.measurement.calibration.accuracy import (
    HU_GAIN_SD,
    INTERNAL_RELATIVE_SD,
    OTHER_KVP_ABSOLUTE_SD,
    OTHER_KVP_SD,
    OTHER_SCANNER_SD,
    REFERENCE_KVP,
    UNKNOWN_KVP_RELATIVE_SD,
    WATER_SD_HU,
)
from osteo_monai.measurement.values import CalibrationUsed

Tissue = Literal["air", "adipose", "muscle", "blood", "cortical_bone"]


@dataclass(frozen=True)
class TissueSample:
    """HU of one tissue of a scan.

    Attributes:
        hu: median of the sample.
        area_mm2: area sampled, summed over slices.
        sd: standard deviation inside the sample, HU.
        centre_mm: RAS+ mm, of the sample; ``None`` if unknown.
        enhanced: whether the scan shows contrast agent, which muscle takes up.
    """

    hu: float
    area_mm2: float
    sd: float = 0.0
    centre_mm: tuple[float, float, float] | None = None
    enhanced: bool = False

    @property
    def standard_error(self) -> float:
        """Standard error of ``hu`` from noise and texture."""
        return self.sd * math.sqrt(min(1.0, CORRELATED_AREA_MM2 / self.area_mm2)) if self.area_mm2 > 0 else self.sd


CORRELATED_AREA_MM2 = 25.0
"""Area of one independent value: noise and texture are correlated over about 5 mm (project custom)."""


@dataclass(frozen=True)
class TissueReference:
    """HU of a tissue of living people at 120 kVp, and how much people differ.

    Attributes:
        hu, sd: mean and SD between people, HU at 120 kVp.
        window: HU of anything that can be this tissue at 70 to 150 kVp; a value outside is not this tissue.
        proportional: the tissue differs from its ICRU composition by a factor (porosity), else by an offset.
    """

    hu: float
    sd: float
    window: tuple[float, float]
    source: str
    proportional: bool = False


TISSUES: Mapping[str, TissueReference] = {
    "air": TissueReference(
        -1000.0, 15.0, (-1100.0, -850.0), "window -1030 to -980 HU of Michalski 2020, taken as 2 SD"
    ),
    "adipose": TissueReference(
        -102.0,
        10.0,
        (-190.0, -30.0),
        "reference interval -123 to -89 HU (PubMed 37296765, abstract); visceral -96.7 +- 8.6 HU in 45 men (CT body "
        "fat indices of a young Midwestern population, abstract); adipose tissue 3 of Woodard and White 1986: -100 HU",
    ),
    "muscle": TissueReference(
        46.0,
        10.0,
        (-10.0, 120.0),
        "psoas 48.4 +- 5.5 HU in 193 young adults (doi 10.22540/JFSF-07-038, abstract); psoas 42 +- 8.4, paravertebral "
        "34.5 +- 10.8 HU with its fat in 150 patients (Rollins, abstract)",
    ),
    "blood": TissueReference(
        41.0,
        9.0,
        (-10.0, 75.0),
        "abdominal aorta mean 37.7 HU in 151 patients (abstract of anemia by CT of aorta and cava); descending aorta, "
        "quartiles 39 and 50 HU without and 25 and 37 HU with anaemia (researchsquare rs-1420003, excerpt)",
    ),
    "cortical_bone": TissueReference(
        1200.0, 150.0, (500.0, 2600.0), "window 1200 +- 250 HU of Michalski 2020, and partial volume", proportional=True
    ),
}
"""Reference tissues. The SDs contain the spread of the scanners of these studies and are thus on the large side."""
MUSCLE_IODINE_MG_ML = (0.45, 0.25)
"""Mean and SD of the iodine in muscle where the aorta is enhanced; project custom, 12 +- 6 HU at 120 kVp."""
MIN_TISSUES = 2
MIN_TISSUE_AREA_MM2 = 10.0
DISAGREEMENT_LEVEL = 0.001
"""Level of the chi-square test by which tissues disagree: one false refusal in 1000 scans."""
_FREE_WATER_SD_HU = 100.0
"""Prior of an HU scale that is off, if three or more tissues agree on it ..."""
_FREE_LEVEL = 0.05
"""... at this level: one false tissue must not pass for a scale that is off."""


@dataclass(frozen=True)
class TissueFit:
    """Posterior of the scanner from the tissues of one scan.

    Attributes:
        kev, kev_sd: effective energy.
        water_hu, water_sd: HU of water.
        gain, gain_sd: of the HU scale between water and air.
        p_value: of the chi-square test of tissues and prior.
        residuals: HU of each tissue minus what prior and other tissues predict, in SD.
        left_out: tissues that were not used, with the reason.
        scale_off: whether the water of the tissues does not fit its prior, which was then not used.
    """

    kev: float
    kev_sd: float
    water_hu: float
    water_sd: float
    gain: float
    gain_sd: float
    p_value: float
    residuals: Mapping[str, float]
    left_out: Mapping[str, str] = field(default_factory=dict)
    scale_off: bool = False


@dataclass(frozen=True)
class _Posterior:
    """Weights of the energies, and mean and covariance of (water, gain) at each of them."""

    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True)
class _Model:
    """Tissues of a scan and the priors."""

    names: tuple[str, ...]
    hu: NDArray[np.float64]
    sd: NDArray[np.float64]
    expected: NDArray[np.float64]
    """(energies, tissues), on an ideal scanner."""
    log_contrast: NDArray[np.float64]
    """Logarithm of the HU per mg/cm3 at each energy, relative to the model of the tube voltage."""
    contrast_sd: float
    water_sd: float = WATER_SD_HU
    gain_sd: float = HU_GAIN_SD

    def freed(self) -> "_Model":
        return replace(self, water_sd=_FREE_WATER_SD_HU)

    def design(self) -> NDArray[np.float64]:
        return np.stack([np.ones_like(self.expected), self.expected], axis=-1)  # (energies, tissues, 2)

    def prior(self) -> NDArray[np.float64]:
        return np.diag([self.water_sd**2, self.gain_sd**2])


def fit_tissues(tissues: Mapping[str, TissueSample], kvp: float | None) -> TissueFit:
    """Estimate effective energy and HU scale of a scan from its tissues.

    Args:
        tissues: keys of :data:`TISSUES`; samples below 10 mm2 or outside their window are left out, with the reason.
        kvp: tube voltage, 70 to 150; if ``None``, 120 kVp with a wider prior.

    Raises:
        ValueError: an unknown tissue, fewer than two usable ones, or tissues that disagree (chi-square, p < 0.001).
    """
    return _fit(tissues, kvp)[1]


def internal(
    tissues: Mapping[str, TissueSample],
    standard: MineralStandard = MineralStandard.K2HPO4,
    kvp: float | None = None,
) -> CalibrationUsed:
    """Calibrate by the patient's own tissues; the line of :func:`fit_tissues` at the posterior of energy and HU scale.

    The interval contains the posterior, 7.8 % that tissues do not show, and away from 120 kVp the marrow fat.
    Arguments and errors as :func:`fit_tissues`.
    """
    standard = MineralStandard(standard)
    posterior, fit = _fit(tissues, kvp)
    slope, intercept, relative, absolute = _line(posterior, standard)
    used = ", ".join(name.replace("_", " ") for name in fit.residuals)
    note = (
        f"Calibrated by the patient's own {used}: effective energy {fit.kev:.1f} +- {fit.kev_sd:.1f} keV "
        f"(prior {energy.effective_energy(kvp or REFERENCE_KVP):.1f} keV), water {fit.water_hu:.1f} +- "
        f"{fit.water_sd:.1f} HU, agreement p = {fit.p_value:.2g}."
    )
    if fit.scale_off:
        note += " The HU scale is off by more than scanners differ and was corrected by the tissues."
    if fit.left_out:
        reasons = "; ".join(f"{name.replace('_', ' ')} ({why})" for name, why in fit.left_out.items())
        note += f" Left out: {reasons}."
    if kvp is None:
        note += f" The tube voltage is unknown and {REFERENCE_KVP:g} kVp was assumed."
    return CalibrationUsed(
        method="internal",
        slope=slope,
        intercept=intercept,
        standard=standard,
        relative_sd=math.hypot(INTERNAL_RELATIVE_SD, relative),
        absolute_sd=absolute if kvp == REFERENCE_KVP else math.hypot(absolute, OTHER_KVP_ABSOLUTE_SD),
        note=note,
    )


def _fit(tissues: Mapping[str, TissueSample], kvp: float | None) -> tuple[_Posterior, TissueFit]:
    names, left_out = _usable(tissues)
    model = _model(names, [tissues[name] for name in names], kvp)
    p_value, residuals = _agreement(model)
    scale_off = False
    if p_value < DISAGREEMENT_LEVEL:
        freed = model.freed()
        p_free, residuals_free = _agreement(freed)
        if p_free < _FREE_LEVEL or len(names) <= MIN_TISSUES:
            worst = max(residuals, key=lambda name: abs(residuals[name]))
            raise ValueError(
                f"tissues must agree with one HU scale{'' if kvp is None else f' at {kvp:g} kVp'}, got "
                f"{worst.replace('_', ' ')} of {tissues[worst].hu:.0f} HU, {abs(residuals[worst]):.1f} SD "
                f"{'above' if residuals[worst] > 0 else 'below'} what the other tissues predict (p = {p_value:.1g})"
            )
        model, p_value, residuals, scale_off = freed, p_free, residuals_free, True
    posterior = _posterior(model)
    w = posterior.weights
    mean = w @ posterior.mean
    variance = w @ (np.diagonal(posterior.covariance, axis1=1, axis2=2) + (posterior.mean - mean) ** 2)
    kev = float(w @ energy.ENERGIES_KEV)
    fit = TissueFit(
        kev=kev,
        kev_sd=math.sqrt(float(w @ (energy.ENERGIES_KEV - kev) ** 2)),
        water_hu=float(mean[0]),
        water_sd=math.sqrt(float(variance[0])),
        gain=float(mean[1]),
        gain_sd=math.sqrt(float(variance[1])),
        p_value=p_value,
        residuals=residuals,
        left_out=left_out,
        scale_off=scale_off,
    )
    return posterior, fit


def _usable(tissues: Mapping[str, TissueSample]) -> tuple[tuple[str, ...], dict[str, str]]:
    unknown = set(tissues) - set(TISSUES)
    if unknown:
        raise ValueError(f"tissues must be among {', '.join(TISSUES)}, got {', '.join(sorted(unknown))}")
    left_out: dict[str, str] = {}
    for name, reference in TISSUES.items():
        if name not in tissues:
            continue
        low, high = reference.window
        if tissues[name].area_mm2 < MIN_TISSUE_AREA_MM2:
            left_out[name] = f"{tissues[name].area_mm2:.0f} mm2, less than {MIN_TISSUE_AREA_MM2:g}"
        elif not low <= tissues[name].hu <= high:
            left_out[name] = f"{tissues[name].hu:.0f} HU, outside {low:g} to {high:g}"
    names = tuple(name for name in TISSUES if name in tissues and name not in left_out)
    if len(names) < MIN_TISSUES:
        reasons = "".join(f"; {name} has {why}" for name, why in left_out.items())
        raise ValueError(
            f"tissues must hold at least {MIN_TISSUES} samples of {MIN_TISSUE_AREA_MM2:g} mm2 within their HU window, "
            f"got {len(names)} ({', '.join(names) or 'none'}{reasons})"
        )
    return names, left_out


def _model(names: Sequence[str], samples: Sequence[TissueSample], kvp: float | None) -> _Model:
    expected, sds = [], []
    kev = energy.effective_energy(kvp or REFERENCE_KVP)
    for name, sample in zip(names, samples, strict=True):
        reference = TISSUES[name]
        by_energy = energy.tissue_hu_by_energy(name)
        icru = float(np.interp(energy.effective_energy(REFERENCE_KVP), energy.ENERGIES_KEV, by_energy))
        between = reference.sd
        living = by_energy * (reference.hu / icru) if reference.proportional else by_energy + reference.hu - icru
        if name == "muscle" and sample.enhanced:
            mean, sd = MUSCLE_IODINE_MG_ML
            per_mg = energy.hu_per_mg_iodine_by_energy()
            living = living + mean * per_mg
            between = math.hypot(between, sd * float(np.interp(kev, energy.ENERGIES_KEV, per_mg)))
        expected.append(living)
        sds.append(math.hypot(between, sample.standard_error))
    mineral = energy.hu_per_mg_by_energy(MineralStandard.K2HPO4)
    at = float(np.interp(kev, energy.ENERGIES_KEV, mineral))
    doubt = UNKNOWN_KVP_RELATIVE_SD if kvp is None else 0.0 if kvp == REFERENCE_KVP else OTHER_KVP_SD
    return _Model(
        names=tuple(names),
        hu=np.array([sample.hu for sample in samples]),
        sd=np.array(sds),
        expected=np.stack(expected, axis=1),
        log_contrast=np.log(mineral / at),
        contrast_sd=math.hypot(OTHER_SCANNER_SD, doubt),
    )


def _agreement(model: _Model) -> tuple[float, dict[str, float]]:
    """Return the p value of tissues and prior, and the residual of each tissue given the others, in SD."""
    at = int(np.argmin(np.abs(model.log_contrast)))
    h = model.design()[at]
    step = np.gradient(model.expected, model.log_contrast, axis=0)[at] * model.contrast_sd
    covariance = h @ model.prior() @ h.T + np.diag(model.sd**2) + np.outer(step, step)
    precision = np.linalg.inv(covariance)
    residual = model.hu - model.expected[at]
    weighted = precision @ residual
    p_value = float(chdtrc(len(model.names), residual @ weighted))
    residuals = weighted / np.sqrt(np.diagonal(precision))
    return p_value, dict(zip(model.names, residuals.tolist(), strict=True))


def _posterior(model: _Model) -> _Posterior:
    h = model.design()
    prior = model.prior()
    covariance = h @ prior @ h.transpose(0, 2, 1) + np.diag(model.sd**2)
    residual = model.hu - model.expected  # the prior has water 0 and gain 1
    gain = np.linalg.solve(covariance, h @ prior).transpose(0, 2, 1)  # (energies, 2, tissues)
    mean = np.array([0.0, 1.0]) + np.einsum("ekt,et->ek", gain, residual)
    after = prior - gain @ h @ prior
    deviance = np.einsum("et,et->e", residual, np.linalg.solve(covariance, residual[..., None])[..., 0])
    deviance += np.linalg.slogdet(covariance)[1] + (model.log_contrast / model.contrast_sd) ** 2
    # the prior is normal in the logarithm of the contrast, the grid is even in energy
    weights = np.exp(-0.5 * (deviance - deviance.min())) * np.abs(np.gradient(model.log_contrast))
    return _Posterior(weights / weights.sum(), mean, after)


def _line(posterior: _Posterior, standard: MineralStandard) -> tuple[float, float, float, float]:
    """Return slope, intercept, and relative and absolute SD (mg/cm3) of the posterior."""
    w = posterior.weights
    water, gain = posterior.mean[:, 0], posterior.mean[:, 1]
    slopes = 1.0 / (gain * energy.hu_per_mg_by_energy(standard))
    slope = math.exp(float(w @ np.log(slopes)))
    intercept = -slope * float(w @ water)

    def variance(density: float) -> float:
        above = (density - intercept) / slope - water  # HU above water at each energy
        values = above * slopes
        relative = above / gain
        c = posterior.covariance
        within = slopes**2 * (c[:, 0, 0] + 2 * relative * c[:, 0, 1] + relative**2 * c[:, 1, 1])
        return float(w @ (within + (values - density) ** 2))

    low, high = 50.0, 150.0  # mg/cm3, on both sides of the thresholds
    relative2 = max(variance(high) - variance(low), 0.0) / (high**2 - low**2)
    absolute2 = max(variance(low) - relative2 * low**2, 0.0)
    return slope, intercept, math.sqrt(relative2), math.sqrt(absolute2)
