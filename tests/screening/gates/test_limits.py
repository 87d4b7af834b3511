"""Limits: unit and source, overriding; the registry of gates."""

from dataclasses import dataclass

from osteo_monai.domain import Finding, Severity
from osteo_monai.screening.gates import DEFAULT_LIMITS, Gate, Limit, Limits, all_limits, run_gates
from osteo_monai.screening.gates.gate import info, refusal
from osteo_monai.screening.gates.limits import CUSTOM

SHORTEST = Limit("shortest", 3.0, "mm", CUSTOM)


@dataclass(frozen=True)
class Facts:
    length_mm: float


def too_short(facts: Facts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    return refusal("too_short", "Too short.") if facts.length_mm < limits[SHORTEST] else None


def length(facts: Facts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    return info("length", f"{facts.length_mm:g} mm.")


GATES: tuple[Gate[Facts], ...] = (length, too_short)


def test_every_limit_has_a_unit_and_a_source() -> None:
    limits = all_limits()
    assert len(limits) > 40
    assert len({limit.name for limit in limits}) == len(limits)
    assert all(len(limit.source) > 10 and limit.unit for limit in limits)


def test_an_override_changes_one_limit_only() -> None:
    changed = Limits().override({SHORTEST: 5.0})
    other = all_limits()[0]
    assert (changed[SHORTEST], changed[other]) == (5.0, other.value)
    assert changed.override({SHORTEST: 6.0})[SHORTEST] == 6.0
    assert DEFAULT_LIMITS[SHORTEST] == 3.0
    assert hash(changed) != hash(DEFAULT_LIMITS)


def test_gates_run_in_order_with_the_limits_in_force() -> None:
    assert [f.code for f in run_gates(GATES, Facts(2.0))] == ["length", "too_short"]
    assert [f.severity for f in run_gates(GATES, Facts(2.0))] == [Severity.INFO, Severity.REFUSAL]
    assert [f.code for f in run_gates(GATES, Facts(4.0))] == ["length"]
    assert len(run_gates(GATES, Facts(4.0), Limits().override({SHORTEST: 5.0}))) == 2
