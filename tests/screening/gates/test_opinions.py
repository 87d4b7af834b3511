"""Gate of the comparison models."""

from collections.abc import Sequence

import pytest

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, MineralStandard, Severity
from osteo_monai.screening.gates import Limits
from osteo_monai.screening.gates.opinions import APART_RELATIVE, OpinionFacts, opinions_agree
from osteo_monai.screening.result import Density, Opinion, OpinionName

from .helpers import check

THRESHOLDS = DensityThresholds()


def compare(
    opinions: Sequence[Opinion], findings: Sequence[Finding] = (), limits: Limits | None = None
) -> Finding | None:
    return opinions_agree(OpinionFacts(opinions, findings, THRESHOLDS), limits or Limits())


def by_density(
    name: OpinionName, value: float, half_width: float = 12.0, standard: MineralStandard = MineralStandard.K2HPO4
) -> Opinion:
    density = Density(
        mg_cm3=value, interval_low=value - half_width, interval_high=value + half_width, standard=standard
    )
    status = THRESHOLDS.status(value, standard) if standard is THRESHOLDS.standard else None
    return Opinion(name=name, status=status, density=density)


def by_probabilities(*probabilities: float) -> Opinion:
    by_class = dict(zip(BoneStatus, probabilities, strict=True))
    status = max(by_class, key=lambda name: by_class[name])
    return Opinion(name="classifier", status=status, probabilities=by_class)


CERTAIN = {"normal": (0.97, 0.02, 0.01), "osteopenia": (0.02, 0.96, 0.02), "osteoporosis": (0.01, 0.02, 0.97)}


@pytest.mark.parametrize(
    ("line", "regression", "probabilities", "code"),
    [
        # agreement
        (150, 155, CERTAIN["normal"], "opinions_agree"),
        (100, 104, CERTAIN["osteopenia"], "opinions_agree"),
        (60, 70, CERTAIN["osteoporosis"], "opinions_agree"),
        (200, 225, CERTAIN["normal"], "opinions_agree"),  # 25 is less than 20 % of 212
        # near a threshold, or the other class not excluded: info only
        (115, 123, CERTAIN["osteopenia"], "opinions_borderline"),
        (121, 121, CERTAIN["osteopenia"], "opinions_borderline"),
        (100, 104, (0.55, 0.43, 0.02), "opinions_borderline"),
        (82, 75, CERTAIN["osteoporosis"], "opinions_borderline"),
        # neighbouring classes away from the threshold between them
        (100, 104, CERTAIN["normal"], "opinions_differ"),
        (150, 150, CERTAIN["osteopenia"], "opinions_differ"),
        (105, 130.5, CERTAIN["osteopenia"], "opinions_differ"),  # 25.5 apart
        # opposite classes, by a network or by both
        (125, 121, CERTAIN["osteoporosis"], "opinions_differ"),
        (121, 79, CERTAIN["osteopenia"], "opinions_differ"),
        (75, 78, CERTAIN["normal"], "opinions_differ"),
        # one class, densities too far apart
        (160, 210, CERTAIN["normal"], "opinions_differ"),
        (82, 107, CERTAIN["osteopenia"], "opinions_differ"),
    ],
)
def test_opinions_rule(line: float, regression: float, probabilities: tuple[float, ...], code: str) -> None:
    opinions = [
        by_density("hu_line", line, 16),
        Opinion(name="hu_rule", status=BoneStatus.NORMAL, l1_hu=200.0),  # is not compared
        by_density("density_regression", regression, 16),
        by_probabilities(*probabilities),
    ]
    severity = Severity.WARNING if code == "opinions_differ" else Severity.INFO
    finding = compare(opinions)
    check(finding, code, severity)
    assert finding is not None
    again = compare(list(reversed(opinions)))
    assert again is not None
    assert (again.code, again.severity) == (code, severity)
    if "osteoporosis" in finding.message and "normal" in finding.message:
        assert "Do not use the class" in finding.message
        assert "QCT or DXA" in finding.message


def test_disjoint_intervals_warn_even_if_the_densities_are_close() -> None:
    narrow = [by_density("hu_line", 100, 2), by_density("density_regression", 106, 3)]
    finding = compare(narrow)
    check(finding, "opinions_differ", Severity.WARNING)
    assert finding is not None
    assert "6 mg/cm3 apart and their 90 % intervals do not overlap" in finding.message
    touching = [by_density("hu_line", 100, 3), by_density("density_regression", 106, 3)]
    check(compare(touching), "opinions_agree", Severity.INFO)


def test_reasons_are_findings_of_the_scan() -> None:
    opinions = [by_density("hu_line", 130), by_density("density_regression", 95)]
    finding = compare(opinions)
    assert finding is not None
    assert "No finding of this scan explains it" in finding.message
    reported = [
        Finding(code=code, severity=Severity.WARNING, message="Seen.")
        for code in ("sharp_kernel", "contrast_flagged", "contrast_enhanced", "kvp_not_120", "thick_slices")
    ]
    finding = compare(opinions, reported)
    assert finding is not None
    assert finding.message.count("contrast agent") == 1
    reasons = "contrast agent, which raises the HU, the tube voltage other than 120 kV and the sharp kernel."
    assert reasons in finding.message
    beside = [by_density("hu_line", 125), by_density("density_regression", 121), by_probabilities(0.01, 0.04, 0.95)]
    finding = compare([*beside, by_probabilities(0.01, 0.95, 0.04)])
    assert finding is not None
    assert "Possible reasons in this scan: a density of the HU line near the threshold of 120 mg/cm3" in finding.message


def test_fewer_than_two_comparable_opinions_give_no_finding() -> None:
    line, rule = by_density("hu_line", 60), Opinion(name="hu_rule", status=BoneStatus.NORMAL, l1_hu=200.0)
    for opinions in ([], [line], [line, rule]):
        assert compare(opinions) is None
    other = by_density("density_regression", 160, standard=MineralStandard.HYDROXYAPATITE)
    assert compare([line, other]) is None


def test_limits_can_be_overridden() -> None:
    opinions = [by_density("hu_line", 200, 16), by_density("density_regression", 225, 16)]
    check(compare(opinions), "opinions_agree", Severity.INFO)
    strict = Limits().override({APART_RELATIVE: 0.1})
    check(compare(opinions, limits=strict), "opinions_differ", Severity.WARNING)
