"""The gate of pixel size and slice distance by the bodies."""

from osteo_monai.domain import Severity, VertebraLevel
from osteo_monai.screening.gates.size import SizeFacts, body_size


def facts(pitch: float, width: float, pairs: int = 5) -> SizeFacts:
    return SizeFacts(pitch, pairs, {VertebraLevel.L1: width, VertebraLevel.L2: 1.02 * width})


def test_usual_and_small_and_large_people_pass() -> None:
    # pitch and width of L1 of real scans, and of people at the ends of the range
    for pitch, width in [(0.953, 33.2), (1.038, 45.0), (0.915, 38.3), (0.891, 34.8), (0.84, 34.0), (1.16, 45.5)]:
        assert body_size(facts(pitch, width)) is None


def test_a_slice_distance_wrong_by_a_third_is_refused() -> None:
    for factor in (0.75, 1.33):
        found = body_size(facts(factor, 39.5))
        assert found is not None
        assert (found.code, found.severity) == ("size_off_range", Severity.REFUSAL)


def test_a_pixel_size_wrong_by_a_third_is_found() -> None:
    for factor in (0.7, 1.4):
        found = body_size(facts(1.0, factor * 39.5))
        assert found is not None
        assert f"{factor:.2f} times as wide" in found.message


def test_few_distances_are_not_judged() -> None:
    assert body_size(facts(1.4, 39.5, pairs=2)) is None
