"""Gates of the direction of the axes."""

import pytest

from osteo_monai.domain import Severity
from osteo_monai.screening.gates.axes import AxesFacts, PedicleFacts, exchanged_axes, pedicles_below


def test_exchanged_axes_are_refused_by_name() -> None:
    finding = exchanged_axes(AxesFacts(("front and back", "head and feet")))
    assert finding is not None
    assert (finding.code, finding.severity) == ("axes_exchanged", Severity.REFUSAL)
    assert "front and back, head and feet are exchanged" in finding.message
    assert exchanged_axes(AxesFacts(())) is None


@pytest.mark.parametrize("above", [(86.0, 174.0), (-1.0, 136.0), (-32.0, 25.0), (102.0, 129.0)])
def test_pedicles_of_real_scans_pass(above: tuple[float, float]) -> None:
    assert pedicles_below(PedicleFacts(above)) is None


def test_pedicles_in_the_lower_half_are_refused() -> None:
    finding = pedicles_below(PedicleFacts((-165.0, -149.0)))
    assert finding is not None
    assert (finding.code, finding.severity) == ("axes_exchanged", Severity.REFUSAL)
    assert pedicles_below(PedicleFacts((-70.0, -70.0))) is None


def test_one_body_is_not_enough() -> None:
    assert pedicles_below(PedicleFacts((-165.0,))) is None
