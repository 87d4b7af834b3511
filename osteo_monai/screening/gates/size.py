"""Gate of pixel size and slice distance by the body: distance of the bodies along the column, and their width."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats

from osteo_monai.domain import Finding, VertebraLevel
from osteo_monai.screening.gates.gate import Gate, refusal, warning
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits

PITCH_SD = 0.066
"""SD of the logarithm of a person's pitch by the mean one: 1,194 people of the VID data (mean 1.001, range 0.78 to
1.25)."""
WIDTH_MM: Mapping[VertebraLevel, float] = {VertebraLevel.L1: 39.5, VertebraLevel.L2: 40.3}
"""Mean width of the outlined body. Project custom: 7 real scans, 33 to 45 mm."""
WIDTH_SD = 0.10
"""SD of the logarithm of the width by the pitch of a person; 0.08 in these scans, and their small number."""
MIN_PAIRS = 3


@dataclass(frozen=True)
class SizeFacts:
    """Size of the bodies by the header.

    Attributes:
        pitch: mean distance of neighbouring complete bodies, by that of the mean person.
        pairs: number of distances.
        width_mm: of the measured bodies.
    """

    pitch: float
    pairs: int
    width_mm: Mapping[VertebraLevel, float]


SIZE_P_REFUSED = Limit("size_p_refused", 0.002, "1", f"{CUSTOM}: one person in 500 is as unusual; docs/value_checks.md")
SIZE_P_WARNED = Limit("size_p_warned", 0.01, "1", f"{CUSTOM}: one person in 100 is as unusual")


def body_size(facts: SizeFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Compare pitch and width of the bodies with those of people; a wrong spacing changes one of them or both."""
    ratios = [mm / WIDTH_MM[level] for level, mm in facts.width_mm.items() if level in WIDTH_MM]
    if facts.pairs < MIN_PAIRS or not ratios:
        return None
    width = sum(ratios) / len(ratios)
    along, across = math.log(facts.pitch), math.log(width)
    p_value = float(stats.chi2.sf((along / PITCH_SD) ** 2 + ((across - along) / WIDTH_SD) ** 2, 2))
    if p_value >= limits[SIZE_P_WARNED]:
        return None
    message = (
        f"The bodies are {facts.pitch:.2f} times as far apart and {width:.2f} times as wide as in the mean person "
        f"(p = {p_value:.1g}): pixel size or slice distance in the header may be wrong."
    )
    return (
        refusal("size_off_range", message) if p_value < limits[SIZE_P_REFUSED] else warning("size_off_range", message)
    )


SIZE_GATES: tuple[Gate[SizeFacts], ...] = (body_size,)
"""Run once on the outlined bodies."""
