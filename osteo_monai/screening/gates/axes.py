"""Gates of the direction of the axes by content: a stack in reverse or mirrored under an unchanged header."""

from dataclasses import dataclass

from osteo_monai.domain import Finding
from osteo_monai.screening.gates.gate import Gate, refusal
from osteo_monai.screening.gates.limits import CUSTOM, DEFAULT_LIMITS, Limit, Limits


@dataclass(frozen=True)
class AxesFacts:
    """Axes along which the content contradicts the header, as ``measurement.body_axes.exchanged_axes`` names them."""

    exchanged: tuple[str, ...]


def exchanged_axes(facts: AxesFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Name the reason why no levels are found in an image whose axes are exchanged."""
    if not facts.exchanged:
        return None
    message = (
        f"By bone and lungs {', '.join(facts.exchanged)} are exchanged: the pixels or the slices are in reverse order "
        "against the header."
    )
    return refusal("axes_exchanged", message)


AXES_GATES: tuple[Gate[AxesFacts], ...] = (exchanged_axes,)
"""Run where the levels are refused."""


@dataclass(frozen=True)
class PedicleFacts:
    """The pedicles of the measured bodies.

    Attributes:
        above_hu: of each body, HU at the sides of the canal in the upper half minus those in the lower half.
    """

    above_hu: tuple[float, ...]


PEDICLES_LOW = Limit(
    "pedicles_low",
    -70.0,
    "HU",
    f"{CUSTOM}: mean of L1 and L2 -4 to 157 HU in 7 real scans (mean 91, SD 51); docs/value_checks.md",
)
MIN_BODIES = 2


def pedicles_below(facts: PedicleFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse bodies whose pedicles are in their lower half: the slices are in reverse order."""
    if len(facts.above_hu) < MIN_BODIES:
        return None
    mean = sum(facts.above_hu) / len(facts.above_hu)
    if mean >= limits[PEDICLES_LOW]:
        return None
    message = (
        f"The pedicles are at the lower half of the bodies ({-mean:.0f} HU denser than the upper half): head and feet "
        "are exchanged, and the levels are wrong."
    )
    return refusal("axes_exchanged", message)


PEDICLE_GATES: tuple[Gate[PedicleFacts], ...] = (pedicles_below,)
"""Run once on the outlined bodies."""
