"""Gate of pixel size and slice distance by the body: pitch of the column, and lengths across its bodies.

A person's pitch, body width, body depth and pedicle distance are jointly normal in their logarithms. A wrong pixel size
shifts all lengths across, a wrong slice distance the pitch, a wrong scale of both all four. Each of the three is tested
by its likelihood ratio (one degree of freedom), with Bonferroni's correction.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from osteo_monai.domain import Finding, VertebraLevel
from osteo_monai.screening.gates.gate import Gate, refusal, warning
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits
from osteo_monai.utils.text import share_words

PITCH_SD = 0.066
"""SD of the logarithm of a person's pitch by the mean one: 1,194 people of the VID data (mean 1.001, range 0.78 to
1.25)."""
MEAN_MM: Mapping[str, Mapping[VertebraLevel, float]] = {
    "width": {VertebraLevel.L1: 39.5, VertebraLevel.L2: 40.3},
    "depth": {VertebraLevel.L1: 29.5, VertebraLevel.L2: 30.5},
    "pedicles": {VertebraLevel.L1: 30.0, VertebraLevel.L2: 30.5},
}
"""Mean lengths. Width and depth of the outlined body: project custom, 8 real scans. Distance of the pedicles: 1,189
people of the VID data (Buergin et al.; SD 2.6 mm); the mean of the 8 scans agrees within 1 %."""
SLOPE = {"width": 0.7, "depth": 0.7, "pedicles": 0.58}
"""Change of the logarithm of a length with that of the pitch. Pedicles: 1,184 people of the VID data; the others
project custom, between it and 0.84, that of the distance from body to pedicles in the same data."""
REST_SD = {"width": 0.080, "depth": 0.105, "pedicles": 0.078}
"""SD of the rest. Pedicles: 0.070 in the VID data, widened because of its tails; width and depth: 0.063 and 0.099 in 8
real scans, and their small number."""
REST_R = {("width", "depth"): 0.5, ("width", "pedicles"): 0.5, ("depth", "pedicles"): 0.3}
"""Correlations of the rests: 0.78, 0.55 and 0.21 in 8 real scans; 0.41 of pedicle distance and distance from body to
pedicles in the VID data."""
MIN_PAIRS = 3


@dataclass(frozen=True)
class SizeFacts:
    """Size of the bodies by the header.

    Attributes:
        pitch: mean distance of neighbouring complete bodies, by that of the mean person.
        pairs: number of distances.
        across_mm: lengths across the bodies, by the names and levels of ``MEAN_MM``; those not measured are left out.
    """

    pitch: float
    pairs: int
    across_mm: Mapping[str, Mapping[VertebraLevel, float]]


@dataclass(frozen=True)
class _Change:
    """A header that is wrong by ``factor``; ``spread`` is the SD of its logarithm."""

    words: str
    factor: float
    spread: float

    @property
    def z(self) -> float:
        return math.log(self.factor) / self.spread


SIZE_P_REFUSED = Limit("size_p_refused", 0.002, "1", f"{CUSTOM}: one person in 500 is as unusual; docs/value_checks.md")
SIZE_P_WARNED = Limit("size_p_warned", 0.01, "1", f"{CUSTOM}: one person in 100 is as unusual")


def body_size(facts: SizeFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Compare pitch, width, depth and pedicle distance with those of people."""
    across = {name: ratio for name in MEAN_MM if (ratio := _ratio(name, facts)) is not None}
    if facts.pairs < MIN_PAIRS or "width" not in across:
        return None
    changes = _changes(facts.pitch, across)
    worst = max(changes, key=lambda change: abs(change.z))
    p_value = min(1.0, len(changes) * 2.0 * float(ndtr(-abs(worst.z))))
    if p_value >= limits[SIZE_P_WARNED]:
        return None
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in {"pitch": facts.pitch, **across}.items())
    message = (
        f"The sizes of the bodies by those of the mean person are {shown} (p = {p_value:.1g}): {worst.words} in the "
        f"header may be {worst.factor:.2f} times the true one (+- {share_words(worst.spread)})."
    )
    return (
        refusal("size_off_range", message) if p_value < limits[SIZE_P_REFUSED] else warning("size_off_range", message)
    )


def _ratio(name: str, facts: SizeFacts) -> float | None:
    """Return the geometric mean of a length by that of the mean person; ``None`` if not measured."""
    ratios = [
        mm / MEAN_MM[name][level] for level, mm in facts.across_mm.get(name, {}).items() if level in MEAN_MM[name]
    ]
    return math.exp(sum(math.log(r) for r in ratios) / len(ratios)) if ratios else None


def _changes(pitch: float, across: Mapping[str, float]) -> list[_Change]:
    """Return the best factor of each kind of wrong header."""
    x = np.log([pitch, *across.values()])
    precision = np.linalg.inv(_covariance(tuple(across)))
    along, sideways = np.zeros(len(x)), np.ones(len(x))
    along[0], sideways[0] = 1.0, 0.0
    kinds = (
        ("the pixel size", sideways),
        ("the slice distance", along),
        ("the scale of pixel size and slice distance", along + sideways),
    )
    changes = []
    for words, shift in kinds:
        weight = float(shift @ precision @ shift)
        changes.append(_Change(words, math.exp(float(shift @ precision @ x) / weight), weight**-0.5))
    return changes


def _covariance(names: Sequence[str]) -> NDArray[np.float64]:
    """Return the covariance of the logarithms of pitch and of the lengths ``names`` in people."""
    slope = np.array([1.0, *(SLOPE[name] for name in names)])
    covariance = PITCH_SD**2 * np.outer(slope, slope)
    for i, one in enumerate(names, 1):
        for j, other in enumerate(names, 1):
            r = 1.0 if i == j else REST_R.get((one, other), REST_R.get((other, one), 0.0))
            covariance[i, j] += r * REST_SD[one] * REST_SD[other]
    return covariance


SIZE_GATES: tuple[Gate[SizeFacts], ...] = (body_size,)
"""Run once on the outlined bodies."""
