"""Levels of the phantom, and checks of a result."""

from typing import Any

from osteo_monai.domain import Severity
from osteo_monai.screening import (
    ScreeningOptions,
    ScreeningResult,
)

from ..conftest import (
    LEVELS,
    vertebra,
)

T12, L1, L2, L3 = LEVELS
BOTH = ScreeningOptions(levels=(L1, L2))
"""Both levels are requested, so that none may be left out."""
WITNESS = "T12 carries the last ribs: right 98 mm, left 105 mm"


def codes(result: ScreeningResult, severity: Severity) -> set[str]:
    return {f.code for f in result.findings if f.severity is severity}


def message(result: ScreeningResult, code: str) -> str:
    return next(f.message for f in result.findings if f.code == code)


def assert_only_l1(result: ScreeningResult, reason: str) -> None:
    """L1 was measured and L2 left out, which is reported with the reason."""
    assert result.verdict == "accepted_with_warnings"
    assert [m.level for m in result.levels] == [L1]
    assert result.density is not None
    assert result.density.mg_cm3 == result.levels[0].density.mg_cm3
    assert {"level_left_out", "single_level"} <= codes(result, Severity.WARNING)
    reported = message(result, "level_left_out")
    assert reported.startswith("L2 was left out: ")
    assert reason in reported


def assert_refused(result: ScreeningResult, code: str) -> None:
    assert result.verdict == "refused"
    assert code in codes(result, Severity.REFUSAL)
    assert result.density is None
    assert result.status is None
    assert result.levels == ()


def located(**changes: Any) -> Any:
    """Return the true column with changes to some levels, by name; ``None`` takes a level out."""
    column = []
    for level in LEVELS:
        change = changes.get(level.value, {})
        if change is not None:
            column.append(vertebra(level, **change))
    return column
