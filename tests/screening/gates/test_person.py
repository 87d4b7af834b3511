"""Gates of the patient."""

import pytest

from osteo_monai.domain import Severity, Sex
from osteo_monai.screening.gates import run_gates
from osteo_monai.screening.gates.person import (
    PATIENT_GATES,
    RADIOGRAPH_PATIENT_GATES,
    PatientFacts,
    age_of_norms,
    minor,
    sex,
)

from .helpers import check


@pytest.mark.parametrize("years", [17.0, 17.99, 0.5])
def test_minor_is_refused(years: float) -> None:
    assert "at least 18 years, got" in check(minor(PatientFacts(years)), "age_below_18", Severity.REFUSAL)


def test_unknown_age_is_reported_and_not_replaced() -> None:
    check(age_of_norms(PatientFacts()), "age_unknown", Severity.INFO)
    assert minor(PatientFacts()) is None


def test_age_above_the_norms_warns() -> None:
    check(age_of_norms(PatientFacts(91.0)), "age_outside_norms", Severity.WARNING)


@pytest.mark.parametrize("years", [18.0, 55.0, 90.0])
def test_ages_of_the_norms_pass(years: float) -> None:
    assert run_gates(PATIENT_GATES, PatientFacts(years, Sex.MALE)) == []


def test_unknown_sex_is_reported() -> None:
    check(sex(PatientFacts()), "sex_unknown", Severity.INFO)
    assert sex(PatientFacts(sex=Sex.FEMALE)) is None


@pytest.mark.parametrize(("years", "codes"), [(None, ["age_unknown"]), (17.0, ["age_below_18"]), (95.0, [])])
def test_radiographs_are_not_compared_with_norms(years: float | None, codes: list[str]) -> None:
    assert [f.code for f in run_gates(RADIOGRAPH_PATIENT_GATES, PatientFacts(years))] == codes
