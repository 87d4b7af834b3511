"""Gates of the measured study, the verdict and the order of findings."""

from typing import Any

import pytest

from osteo_monai.domain import DensityThresholds, Finding, MineralStandard, Severity, VertebraLevel
from osteo_monai.measurement.values import CalibrationUsed
from osteo_monai.screening.gates.study import (
    CalibrationFacts,
    PairFacts,
    StudyFacts,
    calibration_not_possible,
    calibration_verified,
    level_spread,
    levels_measured,
    order_findings,
    sclerosis,
    standard_of_thresholds,
    verdict,
)

from .helpers import check

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


def line(**changes: Any) -> CalibrationFacts:
    used = CalibrationUsed(
        method="physics", slope=0.7, intercept=0.0, standard=MineralStandard.K2HPO4, relative_sd=0.1, note=""
    )
    return CalibrationFacts(used.model_copy(update=changes), DensityThresholds())


def test_unverified_calibration_line_warns() -> None:
    unverified = line(method="registry", note="Registry line x.", verified=False)
    check(calibration_verified(unverified), "calibration_unverified", Severity.WARNING)
    assert calibration_verified(line(method="registry", note="Not among the unverified lines.")) is None
    assert calibration_verified(line()) is None


def test_calibration_that_cannot_be_applied_is_refused() -> None:
    check(calibration_not_possible("slope must be between 1 and 2"), "calibration_not_possible", Severity.REFUSAL)


def test_another_standard_than_the_thresholds_warns() -> None:
    other = line(standard=MineralStandard.HYDROXYAPATITE)
    check(standard_of_thresholds(other), "standard_differs", Severity.WARNING)
    assert standard_of_thresholds(line()) is None


@pytest.mark.parametrize(("above", "fires"), [(59.9, False), (60.1, True)])
def test_level_far_denser_than_its_neighbour_is_left_out(above: float, fires: bool) -> None:
    finding = sclerosis(PairFacts(L1, above))
    assert (finding is not None) is fires
    if finding is not None:
        assert "60 mg/cm3 denser" in check(finding, "level_left_out", Severity.WARNING)


def study(*measured: VertebraLevel, densities: tuple[float, ...] = ()) -> StudyFacts:
    return StudyFacts((L1, L2), measured, densities)


def test_implausible_spread_warns() -> None:
    check(level_spread(study(L1, L2, densities=(80.0, 130.0))), "level_spread", Severity.WARNING)
    assert level_spread(study(L1, L2, densities=(110.0, 120.0))) is None
    assert level_spread(study(L1, densities=(110.0,))) is None


def test_levels_left() -> None:
    check(levels_measured(study()), "no_level_left", Severity.REFUSAL)
    check(levels_measured(study(L2)), "single_level", Severity.WARNING)
    assert levels_measured(study(L1, L2)) is None


def of(severity: Severity, code: str = "x") -> Finding:
    return Finding(code=code, severity=severity, message=f"{code}.")


def test_verdict_is_that_of_the_most_severe_finding() -> None:
    assert verdict([]) == "accepted"
    assert verdict([of(Severity.INFO)]) == "accepted"
    assert verdict([of(Severity.INFO), of(Severity.WARNING)]) == "accepted_with_warnings"
    assert verdict([of(Severity.WARNING), of(Severity.REFUSAL)]) == "refused"


def test_refusals_of_the_field_of_view_come_first() -> None:
    findings = [
        of(Severity.INFO, "kernel_unknown"),
        of(Severity.WARNING, "level_cut"),  # not a refusal, so it keeps its place
        of(Severity.REFUSAL, "age_below_18"),
        of(Severity.REFUSAL, "kvp_out_of_range"),
        of(Severity.REFUSAL, "contrast_strong"),
        of(Severity.REFUSAL, "level_uncertain"),
        of(Severity.REFUSAL, "levels_not_covered"),
    ]
    assert [f.code for f in order_findings(findings)] == [
        "levels_not_covered",
        "level_uncertain",
        "contrast_strong",
        "age_below_18",
        "kvp_out_of_range",
        "kernel_unknown",
        "level_cut",
    ]
