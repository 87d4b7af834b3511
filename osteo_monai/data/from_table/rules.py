"""Inclusion and exclusion criteria of studies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from osteo_monai.domain import KVP_TOLERANCE

__all__ = ["RULE_SETS", "Rule"]


@dataclass(frozen=True)
class Rule:
    """A reason to exclude a subject.

    Attributes:
        reason: text in the flow diagram.
        needs: name of the fact that the rule uses.
        excludes: True if the subject is excluded, None if the fact is unknown.
        stage: ``inclusion`` or ``exclusion``; all rules of the first come before those of the second.
    """

    reason: str
    needs: str
    excludes: Callable[[Mapping[str, Any]], bool | None]
    stage: Literal["inclusion", "exclusion"]


def _under_age(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["age"] is None else facts["age"] < 18


def _other_voltage(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["kvp"] is None else abs(facts["kvp"] - 120) > KVP_TOLERANCE


def _out_of_view(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["l2_in_view"] is None else not facts["l2_in_view"]


def _deformed(facts: Mapping[str, Any]) -> bool | None:
    answers = (facts["severe_degeneration"], facts["fracture"])
    return True if True in answers else None if None in answers else False


RULE_SETS: Mapping[str, tuple[Rule, ...]] = {
    "none": (),
    "pan2024": (
        Rule("younger than 18 years", "age", _under_age, "inclusion"),
        Rule("tube voltage other than 120 kVp", "tube voltage", _other_voltage, "inclusion"),
        Rule("no QCT density", "QCT density", lambda facts: facts["bmd_mg_cm3"] is None, "inclusion"),
        Rule("field of view without the whole L2", "field of view", _out_of_view, "exclusion"),
        Rule("implant or foreign material in L1 or L2", "implants", lambda facts: facts["implant"], "exclusion"),
        Rule("severe degeneration or fracture deformity", "degeneration and fracture", _deformed, "exclusion"),
    ),
}
"""Named rule sets in the order of application. ``pan2024``: Methods of doi 10.1186/s12891-024-07297-1, Fig. 1."""
