"""Gates of the measured study (calibration, levels left, spread), and the verdict over all findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from osteo_monai.domain import DensityThresholds, Finding, Severity, VertebraLevel
from osteo_monai.measurement.values import CalibrationUsed
from osteo_monai.screening.gates.gate import Gate, refusal, warning
from osteo_monai.screening.gates.levels import level_left_out
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits


@dataclass(frozen=True)
class CalibrationFacts:
    """The calibration in use and the thresholds of the classes."""

    calibration: CalibrationUsed
    thresholds: DensityThresholds


def calibration_verified(facts: CalibrationFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn of a scanner line whose source was not checked."""
    if facts.calibration.verified:
        return None
    message = "The calibration line of this scanner was not verified in its primary source."
    return warning("calibration_unverified", message)


def standard_of_thresholds(facts: CalibrationFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn that no class is given because density and thresholds have different mineral standards."""
    density, thresholds = facts.calibration.standard, facts.thresholds.standard
    if density == thresholds:
        return None
    message = f"The density is in mg/cm3 {density}, the thresholds are in mg/cm3 {thresholds}: no class is given."
    return warning("standard_differs", message)


CALIBRATION_GATES: tuple[Gate[CalibrationFacts], ...] = (calibration_verified, standard_of_thresholds)
"""Run on the calibration, before a density is computed."""


def calibration_not_possible(reason: str) -> Finding:
    """Refuse a study that the chosen calibration cannot be applied to."""
    return refusal("calibration_not_possible", f"The density cannot be calibrated: {reason}.")


@dataclass(frozen=True)
class PairFacts:
    """Two measured levels.

    Attributes:
        denser: the level of higher density.
        difference_mg_cm3: its density minus that of the other level.
    """

    denser: VertebraLevel
    difference_mg_cm3: float


SPREAD_SCLEROSIS = Limit(
    "spread_sclerosis",
    60.0,
    "mg/cm3",
    f"{CUSTOM}: two SD of adults (28 mg/cm3, Pan 2024); DXA excludes a vertebra one SD above the next",
)


def sclerosis(facts: PairFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Leave out a level whose density exceeds its neighbour's by more than bone loss explains."""
    if facts.difference_mg_cm3 <= limits[SPREAD_SCLEROSIS]:
        return None
    reason = (
        f"it is {facts.difference_mg_cm3:.0f} mg/cm3 denser than the neighbouring level; sclerosis or a fracture is "
        "likely"
    )
    return level_left_out(facts.denser, reason)


PAIR_GATES: tuple[Gate[PairFacts], ...] = (sclerosis,)
"""Run on two calibrated levels; a finding takes the denser one out."""


@dataclass(frozen=True)
class StudyFacts:
    """The measured study.

    Attributes:
        requested: levels to measure.
        measured: levels that are left.
        densities_mg_cm3: of the measured levels; empty if they could not be calibrated.
    """

    requested: tuple[VertebraLevel, ...]
    measured: tuple[VertebraLevel, ...]
    densities_mg_cm3: tuple[float, ...] = ()


def levels_measured(facts: StudyFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse if no level is left, warn if the density is based on one level instead of two."""
    if not facts.measured:
        return refusal("no_level_left", f"No level is left to measure of {' and '.join(facts.requested)}.")
    if len(facts.measured) > 1:
        return None
    message = f"The density is based on {facts.measured[0]} only; the classes were defined for the mean of two levels."
    return warning("single_level", message)


SPREAD_MAXIMUM = Limit(
    "spread_maximum", 40.0, "mg/cm3", f"{CUSTOM}: L1 110.5 and L2 113.3 mg/cm3 in 13 patients (ERAP)"
)


def level_spread(facts: StudyFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn if the measured levels differ by more than neighbours do."""
    if len(facts.densities_mg_cm3) < 2:
        return None
    spread = max(facts.densities_mg_cm3) - min(facts.densities_mg_cm3)
    if spread <= limits[SPREAD_MAXIMUM]:
        return None
    message = (
        f"The measured levels differ by {spread:.0f} mg/cm3: fracture, sclerosis or a wrong segmentation is possible."
    )
    return warning("level_spread", message)


STUDY_GATES: tuple[Gate[StudyFacts], ...] = (levels_measured, level_spread)
"""Run once on the measured study."""


_FIRST = (
    "axes_exchanged",
    "levels_not_covered",
    "level_cut",
    "level_uncertain",
    "body_missed",
    "pitch_off_range",
    "contrast_strong",
)
"""Refusals about axes, field of view and levels, which are listed before those about the header."""


def order_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Return refusals first, those of field of view and levels before all others, then the rest in order."""

    def rank(finding: Finding) -> tuple[int, int]:
        refused = finding.severity is Severity.REFUSAL
        first = _FIRST.index(finding.code) if refused and finding.code in _FIRST else len(_FIRST)
        return (0 if refused else 1, first)

    return sorted(findings, key=rank)


Verdict = Literal["accepted", "accepted_with_warnings", "refused"]


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Return the verdict that the most severe finding leads to."""
    severities = {f.severity for f in findings}
    if Severity.REFUSAL in severities:
        return "refused"
    return "accepted_with_warnings" if Severity.WARNING in severities else "accepted"
