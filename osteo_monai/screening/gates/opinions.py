"""Gate of the comparison models: do density, regression and classifier agree."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding
from osteo_monai.screening.gates.gate import Gate, info, warning
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits
from osteo_monai.screening.result import Opinion, OpinionName
from osteo_monai.utils.text import listed, percent_words

OPINION_LABELS: dict[OpinionName, str] = {
    "hu_line": "HU line",
    "hu_rule": "HU rule of L1",
    "density_regression": "density regression",
    "classifier": "classifier",
}

_POSSIBLE_REASONS = {
    "contrast_enhanced": "contrast agent, which raises the HU",
    "contrast_flagged": "contrast agent, which raises the HU",
    "kvp_unknown": "the unknown tube voltage",
    "kvp_contradicted": "the contradicted tube voltage",
    "kvp_not_120": "the tube voltage other than 120 kV",
    "calibration_unverified": "the unverified calibration line",
    "air_off_range": "a scale that may be off (air)",
    "fat_off_range": "a scale that may be off (fat)",
    "sharp_kernel": "the sharp kernel",
    "level_spread": "levels that differ from each other",
    "possible_fracture": "a possible fracture",
}
"""Findings that can make opinions differ, the most likely first."""

APART_MG_CM3 = Limit(
    "opinions_apart_mg_cm3", 20.0, "mg/cm3", f"{CUSTOM}: half the width of osteopenia, 80 to 120 mg/cm3 (Pan 2024)"
)
APART_RELATIVE = Limit(
    "opinions_apart", 0.2, "1", f"{CUSTOM}: twice the SD of 8-9 % of a line from HU (measurement.calibration)"
)
NEAR_THRESHOLD = Limit("near_threshold", 10.0, "mg/cm3", f"{CUSTOM}: 8 % of 120 mg/cm3, one SD of a line from HU")
RUNNER_UP_PROBABILITY = Limit(
    "runner_up_probability", 0.25, "1", f"{CUSTOM}: a class with a probability of one in four is not excluded"
)


@dataclass(frozen=True)
class OpinionFacts:
    """The opinions on one study, the findings that may explain a difference, and the thresholds of the classes."""

    opinions: Sequence[Opinion]
    findings: Sequence[Finding]
    thresholds: DensityThresholds


def opinions_agree(facts: OpinionFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Compare the HU line, the density regression and the classifier, and advise on the use of the class.

    - Two of them give normal and osteoporosis: warning, the class must not be used.
    - Neighbouring classes: info only if one of the two is near the threshold between them or does not exclude the
      other's class; else a warning.
    - The same class, but densities whose 90 % intervals do not overlap or that differ by more than the limits: warning.
    - Otherwise agreement is reported. Fewer than two opinions that can be compared give ``None``.

    The HU rule of L1 shares the HU with the line and was published against DXA: it is shown and not compared.
    """
    compared = [o for o in facts.opinions if o.name != "hu_rule"]
    classed = [o for o in compared if o.status is not None]
    apart = _densities_apart(compared, limits)
    pairs = [(a, b) for a, b in itertools.combinations(classed, 2) if a.status is not b.status]
    if not pairs and apart is None:
        if len(classed) < 2:
            return None
        names = listed(OPINION_LABELS[o.name] for o in classed)
        return info("opinions_agree", f"The methods agree: {names} give {classed[0].status}.")
    summary = f"The methods differ: {'; '.join(_summary(o) for o in compared)}."
    near = [_borderline_reason(a, b, facts.thresholds, limits) for a, b in pairs]
    if apart is None and all(near):
        classes = listed((s for s in BoneStatus if s in {o.status for o in classed}), "or")
        reasons = listed(dict.fromkeys(reason for reason in near if reason))
        return info("opinions_borderline", f"{summary} This is a borderline case ({reasons}): {classes}.")
    if apart is not None:
        summary += f" {apart}"
        near = []  # a density near a threshold explains another class, not a distance
    return warning("opinions_differ", f"{summary} {_reasons(facts.findings, near)} {_advice(pairs)}")


OPINION_GATES: tuple[Gate[OpinionFacts], ...] = (opinions_agree,)
"""Run once, after all opinions were collected."""


def _advice(pairs: Sequence[tuple[Opinion, Opinion]]) -> str:
    if any({a.status, b.status} == {BoneStatus.NORMAL, BoneStatus.OSTEOPOROSIS} for a, b in pairs):
        return "Do not use the class or the density: measure by QCT or DXA."
    if pairs:
        return "The class is uncertain: measure by QCT or DXA before any decision."
    return "The class is the same; do not use the density itself, for a percentile or for follow-up."


def _reasons(findings: Sequence[Finding], near: Sequence[str | None]) -> str:
    codes = {f.code for f in findings}
    reasons = [reason for code, reason in _POSSIBLE_REASONS.items() if code in codes]
    reasons = list(dict.fromkeys([*reasons, *(reason for reason in near if reason)]))
    if reasons:
        return f"Possible reasons in this scan: {listed(reasons)}."
    return "No finding of this scan explains it: the line from HU or a network is wrong here."


def _densities_apart(opinions: Sequence[Opinion], limits: Limits) -> str | None:
    """Say by how much two densities of one standard are too far apart, if they are."""
    for a, b in itertools.combinations([o.density for o in opinions if o.density is not None], 2):
        if a.standard is not b.standard:
            continue
        difference = abs(a.mg_cm3 - b.mg_cm3)
        limit = max(limits[APART_MG_CM3], limits[APART_RELATIVE] * (a.mg_cm3 + b.mg_cm3) / 2)
        if a.interval_high < b.interval_low or b.interval_high < a.interval_low:
            return f"The densities are {difference:.0f} mg/cm3 apart and their 90 % intervals do not overlap."
        if difference > limit:
            return f"The densities are {difference:.0f} mg/cm3 apart, more than the {limit:.0f} that are expected."
    return None


def _borderline_reason(a: Opinion, b: Opinion, thresholds: DensityThresholds, limits: Limits) -> str | None:
    """Say why two neighbouring classes may be one borderline case, if they may."""
    statuses = {a.status, b.status}
    if statuses == {BoneStatus.NORMAL, BoneStatus.OSTEOPOROSIS}:
        return None
    border = thresholds.normal_above if BoneStatus.NORMAL in statuses else thresholds.osteoporosis_below
    for opinion in (a, b):
        density = opinion.density
        if density is None or density.standard is not thresholds.standard:
            continue
        if abs(density.mg_cm3 - border) <= limits[NEAR_THRESHOLD]:
            return f"a density of the {OPINION_LABELS[opinion.name]} near the threshold of {border:g} mg/cm3"
    for opinion, other in ((a, b), (b, a)):
        if opinion.density is None and opinion.probabilities is not None and other.status is not None:
            probability = opinion.probabilities[other.status]
            if probability >= limits[RUNNER_UP_PROBABILITY]:
                return f"a {OPINION_LABELS[opinion.name]} that gives {other.status} {percent_words(probability)}"
    return None


def _summary(opinion: Opinion) -> str:
    text = f"{OPINION_LABELS[opinion.name]} {opinion.status or 'no class'}"
    if opinion.density is not None:
        return f"{text} ({opinion.density.mg_cm3:.1f} mg/cm3)"
    if opinion.probabilities is not None and opinion.status is not None:
        return f"{text} ({percent_words(opinion.probabilities[opinion.status])})"
    return text
