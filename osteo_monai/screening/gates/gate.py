"""What a gate is, and how the gates of a stage are run.

A gate is a pure function of the facts known at its stage, a frozen dataclass. It returns a finding or ``None``. It
never changes a number and never replaces a missing fact by a default. Severity: refusal where the density could be
wrong without a sign of it in the result, warning where the density is usable with care, info otherwise.

To add a gate, write the function and its ``Limit`` in the file of its stage, and add it to that stage's tuple.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from osteo_monai.domain import Finding, Severity
from osteo_monai.screening.gates.limits import DEFAULT_LIMITS, Limits

F = TypeVar("F")
Gate: TypeAlias = Callable[[F, Limits], Finding | None]


def run_gates(gates: Sequence[Gate[F]], facts: F, limits: Limits = DEFAULT_LIMITS) -> list[Finding]:
    """Return the findings of all gates of a stage, in the order of the gates."""
    findings = (gate(facts, limits) for gate in gates)
    return [finding for finding in findings if finding is not None]


def info(code: str, message: str) -> Finding:
    """Return a finding that changes nothing."""
    return Finding(code=code, severity=Severity.INFO, message=message)


def warning(code: str, message: str) -> Finding:
    """Return a finding to consider before the density is used."""
    return Finding(code=code, severity=Severity.WARNING, message=message)


def refusal(code: str, message: str) -> Finding:
    """Return a finding that excludes a density."""
    return Finding(code=code, severity=Severity.REFUSAL, message=message)
