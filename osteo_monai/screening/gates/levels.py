"""Gates of the located vertebrae: are the requested levels in view, complete and named with certainty."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from osteo_monai.domain import Finding, VertebraLevel
from osteo_monai.screening.ct.levels import Vertebra
from osteo_monai.screening.ct.naming import MissedBody, Naming
from osteo_monai.screening.ct.spines import PITCH_MM
from osteo_monai.screening.gates.gate import Gate, info, refusal, warning
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits
from osteo_monai.utils.text import percent_words

CERTAINTY_MINIMUM = Limit(
    "certainty_minimum", 0.85, "1", f"{CUSTOM}: posterior of the level's name; benchmarks/naming_vid_spines.py"
)
CERTAINTY_REPORTED = Limit("certainty_reported", 0.95, "1", f"{CUSTOM}: one wrong name in twenty")
MISSED_PROBABILITY = Limit(
    "missed_probability", 0.5, "1", f"{CUSTOM}: a body is more likely missed by the detector than not"
)


@dataclass(frozen=True)
class ColumnFacts:
    """The vertebral column of a scan.

    Attributes:
        certainty: posterior probability of each named level, from the top down.
        requested: levels to measure.
        unnamed: number of detected bodies without a name.
        naming: the joint decision behind the names; ``None`` if no body was detected.
        last_rib: sentence on the ribs of the last thoracic vertebra; ``None`` if it is not in view.
    """

    certainty: Mapping[VertebraLevel, float]
    requested: tuple[VertebraLevel, ...]
    unnamed: int = 0
    naming: Naming | None = None
    last_rib: str | None = None


def levels_present(facts: ColumnFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse if a requested level is not in view."""
    missing = [level for level in facts.requested if level not in facts.certainty]
    if not missing:
        return None
    minimum = limits[CERTAINTY_MINIMUM]
    names = [str(v) if p >= minimum else f"{v} ({percent_words(p)} certain)" for v, p in facts.certainty.items()]
    bodies = "1 body was" if facts.unnamed == 1 else f"{facts.unnamed} bodies were"
    no_name = f"{bodies} found, and none can be named" if facts.unnamed else "no vertebra was found"
    seen = f"found: {', '.join(names)}" if names else no_name
    return refusal("levels_not_covered", f"The scan does not show {' and '.join(missing)} ({seen}).")


def transitional_spine(facts: ColumnFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn of a spine with another number of ribs or lumbar bodies than twelve pairs and five."""
    odd = [level for level in facts.certainty if level in (VertebraLevel.T13, VertebraLevel.L6)]
    if odd:
        message = f"A supernumerary vertebra ({', '.join(odd)}) was found: check the naming of the levels."
        return warning("transitional_spine", message)
    if facts.naming is None:
        return None
    by_ribs, by_lumbar = facts.naming.ribbed_count, facts.naming.lumbar_count
    ribs, lumbar = (max(counts, key=lambda n: counts[n]) for counts in (by_ribs, by_lumbar))
    if (ribs, lumbar) == (12, 5) or min(by_ribs[ribs], by_lumbar[lumbar]) < limits[MISSED_PROBABILITY]:
        return None
    message = (
        f"The spine seems to have {ribs} pairs of ribs and {lumbar} lumbar bodies: check the naming of the levels."
    )
    return warning("transitional_spine", message)


def last_rib(facts: ColumnFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Report the ribs that the names of the requested levels are based on."""
    in_view = any(level in facts.certainty for level in facts.requested)
    return info("last_rib", facts.last_rib) if in_view and facts.last_rib is not None else None


COLUMN_GATES: tuple[Gate[ColumnFacts], ...] = (levels_present, transitional_spine)
"""Run once for the column of a scan."""

NAMING_GATES: tuple[Gate[ColumnFacts], ...] = (last_rib,)
"""Run once, after the gates of each level."""


@dataclass(frozen=True)
class LevelFacts:
    """A requested level in view.

    Attributes:
        certainty: posterior probability of ``level``; ``runner_up`` is the next probable name.
        complete: the body is not cut by the end of the scan.
        transitional: the spine seems to have another number of ribs or lumbar bodies: names must be more certain.
    """

    level: VertebraLevel
    certainty: float
    runner_up: VertebraLevel | None = None
    complete: bool = True
    transitional: bool = False


def level_certainty(facts: LevelFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a level whose name is too uncertain, report one with moderate certainty."""
    if facts.certainty >= limits[CERTAINTY_REPORTED]:
        return None
    other = f"; it may be {facts.runner_up}" if facts.runner_up is not None else ""
    if facts.certainty >= limits[CERTAINTY_MINIMUM] and not facts.transitional:
        message = f"{facts.level} is named with a certainty of {percent_words(facts.certainty)}{other}."
        return info("level_certainty", message)
    message = f"The vertebra named {facts.level} has a certainty of only {percent_words(facts.certainty)}{other}."
    return refusal("level_uncertain", message)


def level_complete(facts: LevelFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a body cut by the end of the scan."""
    return None if facts.complete else refusal("level_cut", f"{facts.level} is cut by the end of the scan.")


LEVEL_GATES: tuple[Gate[LevelFacts], ...] = (level_certainty, level_complete)
"""Run for each requested level in view."""


@dataclass(frozen=True)
class GapFacts:
    """A body that the detector may have missed, and the requested levels in view."""

    missed: MissedBody
    requested: tuple[VertebraLevel, ...]


def body_missed(facts: GapFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse if a body next to a requested one was probably missed."""
    order = list(VertebraLevel)
    missed = facts.missed
    if missed.probability < limits[MISSED_PROBABILITY] or missed.level is None:
        return None
    near = [v for v in facts.requested if abs(order.index(v) - order.index(missed.level)) <= 1]
    if not near:
        return None
    message = f"A body was probably missed at z = {missed.position_mm[2]:.0f} mm, next to {' and '.join(near)}."
    return refusal("body_missed", message)


GAP_GATES: tuple[Gate[GapFacts], ...] = (body_missed,)
"""Run for each body that may have been missed."""


@dataclass(frozen=True)
class NeighbourFacts:
    """Two complete neighbours, at least one of them requested.

    Attributes:
        scale: distances of this patient relative to the mean patient.
    """

    upper: Vertebra
    lower: Vertebra
    scale: float = 1.0


PITCH_ERROR_MAXIMUM = Limit(
    "pitch_error_maximum", 9.0, "mm", "4.5 SD of 2 mm about a patient's own pitch (VID, 1,245 patients)"
)


def pitch(facts: NeighbourFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse neighbours that are closer or farther apart than this patient's other vertebrae allow."""
    upper, lower = facts.upper, facts.lower
    usual = PITCH_MM.get((upper.level.value, lower.level.value))
    if usual is None:
        message = f"{upper.level} and {lower.level} are not neighbours, but no body was found between them."
        return refusal("levels_not_consecutive", message)
    distance, expected = math.dist(upper.centre_mm, lower.centre_mm), facts.scale * usual[0]
    if abs(distance - expected) <= limits[PITCH_ERROR_MAXIMUM]:
        return None
    message = (
        f"The centres of {upper.level} and {lower.level} are {distance:.0f} mm apart, {expected:.0f} mm are expected "
        "in this patient: a body was missed or misplaced."
    )
    return refusal("pitch_off_range", message)


NEIGHBOUR_GATES: tuple[Gate[NeighbourFacts], ...] = (pitch,)
"""Run for each pair of complete neighbours with a requested level."""


def level_left_out(level: VertebraLevel, reason: str) -> Finding:
    """Warn that a level is not measured, so that the density is based on the others."""
    return warning("level_left_out", f"{level} was left out: {reason.rstrip('.')}.")
