"""Gates of the values by content: scale and offset by the tissues, clipping, steps, changes between slices.

The header may say HU and be wrong. Limits were set on 16 real scans and on virtual ones (docs/value_checks.md).
"""

from dataclasses import dataclass

import numpy as np

from osteo_monai.domain import Finding
from osteo_monai.measurement.calibration import ScaleFit
from osteo_monai.measurement.scan_tissues import ScanTissues
from osteo_monai.measurement.value_pattern import ValuePattern
from osteo_monai.screening.gates.gate import Gate, refusal, warning
from osteo_monai.screening.gates.image import AIR_HIGH, AIR_LOW
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits
from osteo_monai.utils.text import share_words

MEASURED = f"{CUSTOM}; measured, docs/value_checks.md"
_SHOWN = {"air": "air", "adipose": "fat", "muscle": "soft tissue", "blood": "blood"}


@dataclass(frozen=True, eq=False)
class ValueFacts:
    """The values of a scan.

    Attributes:
        pattern: ``None`` if too few voxels count.
        tissues: of the whole scan.
        scale: fitted to them; ``None`` if fewer than two tissues were found.
        hu_per_mg: HU per mg/cm3 at the tube voltage, to state effects.
    """

    pattern: ValuePattern | None
    tissues: ScanTissues
    scale: ScaleFit | None
    hu_per_mg: float = 1.3


SCALE_P_WARNED = Limit("scale_p_warned", 0.004, "1", f"{MEASURED}: lowest of 16 real scans 0.2")
SCALE_P_REFUSED = Limit("scale_p_refused", 1e-5, "1", MEASURED)
TISSUES_P_MINIMUM = Limit("tissues_p_minimum", 1e-3, "1", f"{CUSTOM}: one false finding in 1000 scans")


def tissue_scale(facts: ValueFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Compare offset and gain of the values, fitted to the tissues, with those of a usual scanner."""
    fit = facts.scale
    if fit is None:
        return None
    if fit.p_free < limits[TISSUES_P_MINIMUM]:
        return _disagreement(facts, fit)
    if not (fit.p_value < limits[SCALE_P_WARNED] or _air_off(facts, limits)):
        return None
    shown = _tissues(facts)
    effect = (
        f"{shown} fit values of {fit.gain:.2f} x HU {fit.offset:+.0f}, which changes a density of 100 mg/cm3 by "
        f"{fit.effect_mg_cm3:+.0f} +- {fit.effect_sd:.0f} mg/cm3"
    )
    if fit.p_value < limits[SCALE_P_REFUSED]:
        return refusal("hu_scale_wrong", f"The HU scale is wrong: {effect}.")
    return warning("hu_scale_off", f"The HU scale seems off: {effect}.")


def _air_off(facts: ValueFacts, limits: Limits) -> bool:
    air = facts.tissues.air
    return air is not None and not limits[AIR_LOW] <= air.hu <= limits[AIR_HIGH]


def _disagreement(facts: ValueFacts, fit: ScaleFit) -> Finding:
    worst = max(fit.residuals, key=lambda name: abs(fit.residuals[name]))
    message = (
        f"The tissues do not fit one HU scale: {_tissues(facts)}; {_SHOWN[worst]} is "
        f"{abs(fit.residuals[worst]):.0f} HU {'above' if fit.residuals[worst] > 0 else 'below'} its usual value."
    )
    # muscle with much fat inside is one reason: the density may be right
    return warning("tissues_disagree", message)


def _tissues(facts: ValueFacts) -> str:
    return ", ".join(f"{_SHOWN[name]} {sample.hu:.0f} HU" for name, sample in facts.tissues.samples().items())


ABOVE_ZERO_MINIMUM = Limit(
    "above_zero_minimum", 0.04, "1", "distinct values above and below 0 HU are equally many on any scanner"
)
ABOVE_ZERO_FREQUENCY = Limit("above_zero_frequency", 0.3, "1", f"{MEASURED}: 0.89 to 1.08 in real scans of whole HU")
ABOVE_ZERO_CONTINUOUS = Limit("above_zero_continuous", 0.08, "1", f"{MEASURED}: 1.00 in resampled real scans")


def above_zero(facts: ValueFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse values above 0 HU that have another scale than those below, which no scanner makes."""
    pattern = facts.pattern
    if pattern is None:
        return None
    change = abs(float(np.log(pattern.above_zero)))
    counted = pattern.above_zero_sd == 0.0
    least = ABOVE_ZERO_MINIMUM if counted else ABOVE_ZERO_FREQUENCY if pattern.step > 0 else ABOVE_ZERO_CONTINUOUS
    if change <= limits[least] or change * pattern.above_zero < 4.0 * pattern.above_zero_sd:
        return None
    effect = 100.0 * (pattern.above_zero - 1.0)
    accuracy = "" if counted else ", estimated from frequencies within a quarter of the scale"
    message = (
        f"Values above 0 HU have {pattern.above_zero:.2f} times the scale of those below: they were changed after "
        f"reconstruction, which changes the density by about {effect:+.0f} %{accuracy}."
    )
    return refusal("hu_scale_broken", message)


CLIP_LOW_MAXIMUM = Limit("clip_low_maximum", -800.0, "HU", f"{CUSTOM}: below it are air and lung only")
CLIP_HIGH_REFUSED = Limit("clip_high_refused", 600.0, "HU", f"{CUSTOM}: end plates and cortex of a body reach 520 HU")
CLIP_HIGH_WARNED = Limit("clip_high_warned", 2000.0, "HU", f"{CUSTOM}: dense cortex at 120 kVp; metal is above it")


def clipping(facts: ValueFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Check for values cut by a window."""
    pattern = facts.pattern
    if pattern is None:
        return None
    if pattern.clipped_high > 0 and pattern.high < limits[CLIP_HIGH_REFUSED]:
        return _clipped(pattern.high, pattern.clipped_high, "above", "bone is cut off, so no density can be measured")
    if pattern.clipped_low > 0 and pattern.low > limits[CLIP_LOW_MAXIMUM]:
        return _clipped(pattern.low, pattern.clipped_low, "below", "air is cut off, so the HU scale cannot be checked")
    if pattern.clipped_high > 0 and pattern.high < limits[CLIP_HIGH_WARNED]:
        message = (
            f"The values are clipped above {pattern.high:.0f} HU: metal and dense cortex cannot be seen; cancellous "
            "bone is not changed."
        )
        return warning("values_clipped", message)
    return None


def _clipped(end: float, share: float, side: str, consequence: str) -> Finding:
    clipped = f"The values are clipped {side} {end:.0f} HU ({share_words(share, 2)} of them)"
    return refusal("values_clipped", f"{clipped}: {consequence}.")


STEP_WARNED = Limit("step_warned", 2.5, "HU", f"{CUSTOM}: a density changes by up to half a step, 1 mg/cm3")
STEP_REFUSED = Limit("step_refused", 8.0, "HU", f"{CUSTOM}: half a step is 3 mg/cm3, the SD of an offset between scans")


def quantisation(facts: ValueFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Check the step between neighbouring values: 1 HU in a CT, 8 to 16 HU in eight bits."""
    if facts.pattern is None or facts.pattern.step < limits[STEP_WARNED]:
        return None
    step = facts.pattern.step
    message = (
        f"The values have steps of {step:.0f} HU, as in an image of few bits: the density changes by up to "
        f"{0.5 * step / facts.hu_per_mg:.0f} mg/cm3."
    )
    return refusal("coarse_values", message) if step >= limits[STEP_REFUSED] else warning("coarse_values", message)


SLICE_CHANGE_MAXIMUM = Limit("slice_change_maximum", 14.0, "HU", f"{MEASURED}: soft tissue of real scans at most 11 HU")
SLICE_AIR_MAXIMUM = Limit("slice_air_maximum", 25.0, "HU", f"{MEASURED}: air of real scans at most 4 HU")


def slice_scale(facts: ValueFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a scan in which fat and soft tissue, or air, change abruptly from one slice to the next."""
    changes = facts.tissues.changes
    if not changes.size:
        return None
    air, fat, lean = changes.T
    limit = limits[SLICE_CHANGE_MAXIMUM]
    same = np.sign(fat) == np.sign(lean)
    # anatomy changes one tissue at a time; a scale that changes moves both
    jump = same & (np.minimum(np.abs(fat), np.abs(lean)) > limit)
    jump |= np.isnan(fat) & (np.abs(lean) > 2 * limit)
    jump |= np.abs(air) > limits[SLICE_AIR_MAXIMUM]
    if not jump.any():
        return None
    k = int(np.nanargmax(np.where(jump, np.nanmax(np.abs(changes), axis=1, initial=0.0), -1.0)))
    shown = ", ".join(
        f"{name} by {value:+.0f} HU"
        for name, value in zip(("air", "fat", "soft tissue"), changes[k], strict=True)
        if np.isfinite(value)
    )
    message = (
        f"The HU scale changes between slices ({int(jump.sum())} times; between slices {facts.tissues.slices[k, 0]} "
        f"and {facts.tissues.slices[k, 1]}: {shown}): a part of the density is wrong."
    )
    return refusal("hu_scale_mixed", message)


VALUE_GATES: tuple[Gate[ValueFacts], ...] = (clipping, quantisation, slice_scale, above_zero, tissue_scale)
"""Run before any network; the first refusal names the cause."""
WRONG_VALUES = frozenset({"hu_scale_wrong", "hu_scale_broken", "values_clipped", "coarse_values", "hu_scale_mixed"})
"""Refusals by which findings about contrast agent are void."""
