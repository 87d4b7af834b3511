"""Inclusion and exclusion criteria of studies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from osteo_monai.domain import KVP_TOLERANCE, View

__all__ = ["MOST_DAYS_TO_DXA", "RULE_SETS", "ImageKind", "Rule", "RuleSet"]

ImageKind = Literal["ct", "radiograph"]

MOST_DAYS_TO_DXA = 183
"""Largest number of days between radiograph and DXA: the six months of Li 2026."""


@dataclass(frozen=True)
class Rule:
    """A reason to exclude a subject, or one of its radiographs.

    Attributes:
        reason: text in the flow diagram.
        needs: name of the fact that the rule uses.
        excludes: True if excluded, None if the fact is unknown.
        stage: ``inclusion`` or ``exclusion``; all rules of the first come before those of the second.
    """

    reason: str
    needs: str
    excludes: Callable[[Mapping[str, Any]], bool | None]
    stage: Literal["inclusion", "exclusion"]


@dataclass(frozen=True)
class RuleSet:
    """Rules of a study in the order of application.

    Attributes:
        rules: the rules.
        images: kind of its images; ``None`` for any.
        first_only: keep the first radiograph of each view that meets all rules.
    """

    rules: tuple[Rule, ...] = ()
    images: ImageKind | None = None
    first_only: bool = False


def _under_age(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["age"] is None else facts["age"] < 18


def _other_voltage(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["kvp"] is None else abs(facts["kvp"] - 120) > KVP_TOLERANCE


def _out_of_view(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["l2_in_view"] is None else not facts["l2_in_view"]


def _up_to_40(facts: Mapping[str, Any]) -> bool | None:
    return None if facts["age"] is None else facts["age"] <= 40


def _long_interval(facts: Mapping[str, Any]) -> bool | None:
    if facts["dxa_date"] is None or facts["acquired"] is None:
        return None
    return bool(abs((facts["dxa_date"] - facts["acquired"]).days) > MOST_DAYS_TO_DXA)


def _without(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Exclude where none of the facts is known."""
    return lambda facts: all(facts[name] is None for name in names)


def _any_of(*names: str) -> Callable[[Mapping[str, Any]], bool | None]:
    """Exclude if one of the facts is true; unknown if none is true and one is unknown."""

    def excludes(facts: Mapping[str, Any]) -> bool | None:
        answers = [facts[name] for name in names]
        return True if True in answers else None if None in answers else False

    return excludes


def _first_known(*names: str) -> Callable[[Mapping[str, Any]], bool | None]:
    """Exclude if one of the facts is true; unknown only if all are unknown."""

    def excludes(facts: Mapping[str, Any]) -> bool | None:
        answers = [facts[name] for name in names if facts[name] is not None]
        return any(answers) if answers else None

    return excludes


def _other_view(*views: View) -> Callable[[Mapping[str, Any]], bool | None]:
    return lambda facts: None if facts["view"] is None else facts["view"] not in views


RULE_SETS: Mapping[str, RuleSet] = {
    "none": RuleSet(),
    "pan2024": RuleSet(
        (
            Rule("younger than 18 years", "age", _under_age, "inclusion"),
            Rule("tube voltage other than 120 kVp", "tube voltage", _other_voltage, "inclusion"),
            Rule("no QCT density", "QCT density", _without("bmd_mg_cm3"), "inclusion"),
            Rule("field of view without the whole L2", "field of view", _out_of_view, "exclusion"),
            Rule("implant or foreign material in L1 or L2", "implants", _any_of("implant"), "exclusion"),
            Rule(
                "severe degeneration or fracture deformity",
                "degeneration and fracture",
                _any_of("severe_degeneration", "fracture"),
                "exclusion",
            ),
        ),
        "ct",
    ),
    "li2026": RuleSet(
        (
            Rule("no frontal chest radiograph", "view", _other_view(View.CHEST_FRONTAL), "inclusion"),
            Rule("40 years or younger", "age", _up_to_40, "inclusion"),
            Rule("no T-score by DXA", "T-score", _without("t_score"), "inclusion"),
            Rule(
                "radiograph and DXA more than 6 months apart",
                "day of radiograph or DXA",
                _long_interval,
                "inclusion",
            ),
            Rule("secondary osteoporosis", "secondary osteoporosis", _any_of("secondary_osteoporosis"), "exclusion"),
            Rule("high-density foreign body", "foreign bodies", _first_known("foreign_body", "implant"), "exclusion"),
            Rule(
                "spinal deformity (fracture or scoliosis)",
                "spinal deformity",
                _first_known("spinal_deformity", "fracture"),
                "exclusion",
            ),
            Rule("earlier bone surgery", "bone surgery", _any_of("bone_surgery"), "exclusion"),
            Rule("underexposed or overexposed", "exposure", _any_of("misexposed"), "exclusion"),
            Rule("poor image quality or artefacts", "image quality", _any_of("poor_quality"), "exclusion"),
        ),
        "radiograph",
        first_only=True,
    ),
    "boonrod2025": RuleSet(
        (
            Rule(
                "no AP or lateral lumbar radiograph",
                "view",
                _other_view(View.LUMBAR_AP, View.LUMBAR_LATERAL),
                "inclusion",
            ),
            Rule("no T-score by DXA", "T-score", _without("t_score"), "inclusion"),
        ),
        "radiograph",
    ),
}
"""Rule sets by name.

``pan2024``: Methods of doi 10.1186/s12891-024-07297-1, Fig. 1. ``li2026``: section 1.1 of doi
10.13929/j.issn.1003-3289.2026.03.017. ``boonrod2025``: abstract of doi 10.1007/s00774-025-01672-1, which states no
other criteria.
"""
