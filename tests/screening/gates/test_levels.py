"""Gates of the located vertebrae."""

import pytest

from osteo_monai.domain import Finding, Severity, VertebraLevel
from osteo_monai.measurement.landmarks import BodyLandmarks
from osteo_monai.screening.ct.levels import Vertebra
from osteo_monai.screening.ct.naming import MissedBody, Naming
from osteo_monai.screening.gates import Limits
from osteo_monai.screening.gates.levels import (
    CERTAINTY_MINIMUM,
    ColumnFacts,
    GapFacts,
    LevelFacts,
    NeighbourFacts,
    body_missed,
    last_rib,
    level_certainty,
    level_complete,
    level_left_out,
    levels_present,
    pitch,
    transitional_spine,
)

from .helpers import check

L1, L2, L3 = VertebraLevel.L1, VertebraLevel.L2, VertebraLevel.L3
T11, T12 = VertebraLevel.T11, VertebraLevel.T12


def column(*levels: VertebraLevel, naming: Naming | None = None, **certainty: float) -> ColumnFacts:
    return ColumnFacts(
        dict.fromkeys(levels, 0.97) | {VertebraLevel(name): p for name, p in certainty.items()}, (L1, L2), naming=naming
    )


def test_absent_levels_are_refused_by_name() -> None:
    message = check(levels_present(column(T11, T12, L1)), "levels_not_covered", Severity.REFUSAL)
    assert message == "The scan does not show L2 (found: T11, T12, L1)."
    assert levels_present(column(L2, L3, L1=0.5)) is None


@pytest.mark.parametrize(
    ("unnamed", "text"),
    [
        (0, "no vertebra was found"),
        (8, "8 bodies were found, and none can be named"),
        (1, "1 body was found, and none can be named"),
    ],
)
def test_bodies_without_a_name_are_counted(unnamed: int, text: str) -> None:
    message = check(levels_present(ColumnFacts({}, (L1, L2), unnamed)), "levels_not_covered", Severity.REFUSAL)
    assert message == f"The scan does not show L1 and L2 ({text})."


def test_uncertain_names_are_reported_with_their_certainty() -> None:
    finding = levels_present(column(T12=0.85, L4=0.17))
    assert finding is not None
    assert "(found: T12, L4 (17 % certain))" in finding.message


def certainty(value: float, runner_up: VertebraLevel | None = None, transitional: bool = False) -> Finding | None:
    return level_certainty(LevelFacts(L1, value, runner_up, transitional=transitional))


def test_uncertain_level_is_refused_with_its_runner_up() -> None:
    message = check(certainty(0.6, L2), "level_uncertain", Severity.REFUSAL)
    assert "60 %" in message
    assert "may be L2" in message
    lower = Limits().override({CERTAINTY_MINIMUM: 0.5})
    check(level_certainty(LevelFacts(L1, 0.6, L2), lower), "level_certainty", Severity.INFO)


@pytest.mark.parametrize(
    ("value", "transitional", "severity"),
    [
        (0.849, False, Severity.REFUSAL),
        (0.85, False, Severity.INFO),
        (0.949, False, Severity.INFO),
        (0.95, False, None),
        (0.94, True, Severity.REFUSAL),
        (0.96, True, None),
    ],
)
def test_names_at_the_limits_of_certainty(value: float, transitional: bool, severity: Severity | None) -> None:
    finding = certainty(value, T12, transitional)
    assert (finding and finding.severity) == severity


def test_ribs_behind_the_names_are_reported() -> None:
    sentence = "T12 carries the last ribs: right 98 mm, left 105 mm"
    finding = last_rib(ColumnFacts({L1: 0.9}, (L1, L2), last_rib=sentence))
    assert finding is not None
    assert (finding.code, finding.severity, finding.message) == ("last_rib", Severity.INFO, sentence)
    assert last_rib(ColumnFacts({L1: 0.9}, (L1, L2))) is None
    assert last_rib(ColumnFacts({T12: 0.9}, (L1, L2), last_rib=sentence)) is None


@pytest.mark.parametrize(
    ("level", "probability", "fires"),
    [
        (L1, 0.5, True),
        (L1, 0.49, False),
        (L3, 0.9, True),  # next to L2
        (VertebraLevel.L4, 0.9, False),
        (VertebraLevel.T13, 0.9, True),
        (T12, 0.9, False),  # T13 is between: the missed body would be next to T12, not L1
        (None, 0.9, False),
    ],
)
def test_missed_body(level: VertebraLevel | None, probability: float, fires: bool) -> None:
    finding = body_missed(GapFacts(MissedBody((0.0, 0.0, -43.6), 2, level, probability), (L1, L2)))
    assert (finding is not None) is fires
    if finding is not None:
        assert "z = -44 mm" in check(finding, "body_missed", Severity.REFUSAL)


def located(level: VertebraLevel, z: float) -> Vertebra:
    centre, superior, inferior = (0.0, 0.0, z), (0.0, 0.0, z + 16.0), (0.0, 0.0, z - 16.0)
    landmarks = BodyLandmarks(None, None, True, True, None)
    return Vertebra(level, centre, superior, inferior, 0.99, None, 0.9, 0.9, complete=True, landmarks=landmarks)


@pytest.mark.parametrize(
    ("distance", "scale", "fires"),
    [
        (34.5, 1.0, False),
        (43.4, 1.0, False),  # 34.5 mm and 9 mm more
        (43.6, 1.0, True),
        (25.6, 1.0, False),
        (25.4, 1.0, True),
        (43.4, 0.9, True),  # in a patient whose bodies are 31 mm apart
        (69.0, 1.0, True),  # a body is missing between
        (2.0, 1.0, True),  # the same body twice
    ],
)
def test_distance_of_neighbours(distance: float, scale: float, fires: bool) -> None:
    finding = pitch(NeighbourFacts(located(L1, 0.0), located(L2, -distance), scale))
    assert (finding is not None) is fires
    if finding is not None:
        message = check(finding, "pitch_off_range", Severity.REFUSAL)
        assert f"{distance:.0f} mm apart, {34.5 * scale:.0f} mm are expected" in message


@pytest.mark.parametrize(("upper", "lower"), [(L1, L3), (L2, L1), (L1, L1), (T11, VertebraLevel.L2)])
def test_levels_that_are_not_neighbours_are_refused(upper: VertebraLevel, lower: VertebraLevel) -> None:
    finding = pitch(NeighbourFacts(located(upper, 0.0), located(lower, -35.0)))
    check(finding, "levels_not_consecutive", Severity.REFUSAL)


USUAL_RIBS = {11: 0.02, 12: 0.96, 13: 0.02}


@pytest.mark.parametrize(
    ("ribs", "lumbar", "fires"),
    [
        (USUAL_RIBS, {4: 0.6, 5: 0.4}, True),
        ({11: 0.5, 12: 0.5}, {5: 1.0}, True),
        (USUAL_RIBS, {5: 0.1, 6: 0.9}, True),
        (USUAL_RIBS, {4: 0.1, 5: 0.9}, False),
        (USUAL_RIBS, {4: 0.45, 5: 0.35, 6: 0.2}, False),  # the most likely of all, but less likely than not
    ],
)
def test_spine_of_another_number_of_bodies_warns(ribs: dict[int, float], lumbar: dict[int, float], fires: bool) -> None:
    finding = transitional_spine(column(T12, L1, naming=Naming((), lumbar, ribs, (), (), 1.0)))
    assert (finding is not None) is fires
    if finding is not None:
        assert "pairs of ribs and" in check(finding, "transitional_spine", Severity.WARNING)


@pytest.mark.parametrize("odd", [VertebraLevel.T13, VertebraLevel.L6])
def test_supernumerary_level_warns_once_by_its_name(odd: VertebraLevel) -> None:
    six = Naming((), {5: 0.1, 6: 0.9}, USUAL_RIBS, (), (), 1.0)
    message = check(transitional_spine(column(T12, L1, L2, odd, naming=six)), "transitional_spine", Severity.WARNING)
    assert f"supernumerary vertebra ({odd})" in message
    assert transitional_spine(column(T12, L1, L2)) is None


def test_incomplete_level_is_refused() -> None:
    check(level_complete(LevelFacts(L2, 0.99, complete=False)), "level_cut", Severity.REFUSAL)
    assert level_complete(LevelFacts(L2, 0.99)) is None


def test_level_left_out_has_its_reason_in_one_sentence() -> None:
    finding = level_left_out(L2, "Metal is beside it.")
    check(finding, "level_left_out", Severity.WARNING)
    assert finding.message == "L2 was left out: Metal is beside it."
    assert level_left_out(L2, "it is not in view").message == "L2 was left out: it is not in view."
