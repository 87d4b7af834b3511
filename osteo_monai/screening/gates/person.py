"""Gates of the patient: age and sex."""

from dataclasses import dataclass

from osteo_monai.domain import Finding, Sex
from osteo_monai.screening.gates.gate import Gate, info, refusal, warning
from osteo_monai.screening.gates.limits import DEFAULT_LIMITS, Limit, Limits


@dataclass(frozen=True)
class PatientFacts:
    """Age and sex of the patient; ``None`` is unknown and is never replaced by a default."""

    age_years: float | None = None
    sex: Sex | None = None


AGE_MINIMUM = Limit("age_minimum", 18.0, "years", "youngest age of the norms (Pan 2024, Table 1)")
AGE_MAXIMUM = Limit("age_maximum", 90.0, "years", "oldest age of the norms (Pan 2024, Table 1: 80-89)")


def minor(facts: PatientFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Refuse a minor."""
    if facts.age_years is None or facts.age_years >= limits[AGE_MINIMUM]:
        return None
    message = f"Age must be at least {limits[AGE_MINIMUM]:g} years, got {facts.age_years:g} years."
    return refusal("age_below_18", message)


def age_of_norms(facts: PatientFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Warn of an age above the norms, report an unknown age."""
    if facts.age_years is None:
        return info("age_unknown", "The age is unknown: no comparison with norms, and a minor cannot be excluded.")
    if facts.age_years > limits[AGE_MAXIMUM]:
        message = f"The age is {facts.age_years:g} years: norms end at {limits[AGE_MAXIMUM]:g} years."
        return warning("age_outside_norms", message)
    return None


def age_of_radiograph(facts: PatientFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Report an unknown age; radiographs are not compared with norms."""
    if facts.age_years is not None:
        return None
    return info("age_unknown", "The age is unknown: a minor cannot be excluded.")


def sex(facts: PatientFacts, limits: Limits = DEFAULT_LIMITS) -> Finding | None:
    """Report an unknown sex."""
    if facts.sex is not None:
        return None
    return info("sex_unknown", "The sex is unknown: no comparison with norms.")


PATIENT_GATES: tuple[Gate[PatientFacts], ...] = (minor, age_of_norms, sex)
"""Run before any network on a CT."""

RADIOGRAPH_PATIENT_GATES: tuple[Gate[PatientFacts], ...] = (minor, age_of_radiograph)
"""Run before any network on radiographs."""
