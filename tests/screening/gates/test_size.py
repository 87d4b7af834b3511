"""The gate of pixel size and slice distance by the bodies."""

import math

import numpy as np
import pytest

from osteo_monai.domain import Severity, VertebraLevel
from osteo_monai.screening.gates.size import MEAN_MM, SizeFacts, body_size

LEVELS = (VertebraLevel.L1, VertebraLevel.L2)


def facts(pitch: float, width: float, depth: float = 1.0, pedicles: float | None = 1.0, pairs: int = 5) -> SizeFacts:
    """Facts of a person by the ratios to the mean person."""
    ratios = {"width": width, "depth": depth} | ({} if pedicles is None else {"pedicles": pedicles})
    return SizeFacts(pitch, pairs, {n: {v: r * MEAN_MM[n][v] for v in LEVELS} for n, r in ratios.items()})


def severity(found: SizeFacts) -> Severity | None:
    finding = body_size(found)
    return None if finding is None else finding.severity


REAL = [
    (0.953, 0.854, 0.850, 0.880), (0.993, 1.046, 1.025, 1.095), (1.038, 1.099, 1.210, 0.985),
    (0.915, 0.959, 0.952, 0.965),
    (0.987, 0.956, 0.987, 0.935), (0.941, 1.025, 1.047, 0.992),
    (0.976, 0.963, 0.875, 0.950), (0.891, 0.873, 0.839, 0.935),
]  # fmt: skip
"""Pitch, width, depth and pedicle distance of 8 real scans."""


@pytest.mark.parametrize("ratios", REAL)
def test_real_people_pass(ratios: tuple[float, float, float, float]) -> None:
    assert severity(facts(*ratios)) is None


@pytest.mark.parametrize("size", [0.85, 1.17])
def test_small_and_large_people_pass(size: float) -> None:
    assert severity(facts(size, size, size, size)) is None


@pytest.mark.parametrize("factor", [0.75, 1.28])
def test_a_wrong_pixel_size_of_the_mean_person_is_refused_and_estimated(factor: float) -> None:
    finding = body_size(facts(1.0, factor, factor, factor))
    assert finding is not None
    assert (finding.code, finding.severity) == ("size_off_range", Severity.REFUSAL)
    assert f"the pixel size in the header may be {factor:.2f} times the true one" in finding.message


@pytest.mark.parametrize("factor", [0.75, 1.28])
def test_a_wrong_slice_distance_of_the_mean_person_is_refused_and_estimated(factor: float) -> None:
    finding = body_size(facts(factor, 1.0))
    assert finding is not None
    assert finding.severity is Severity.REFUSAL
    assert f"the slice distance in the header may be {factor:.2f} times the true one" in finding.message


def test_a_wrong_scale_of_both_is_named() -> None:
    finding = body_size(facts(1.28, 1.28, 1.28, 1.28))
    assert finding is not None
    assert "the scale of pixel size and slice distance" in finding.message


def test_more_lengths_show_a_smaller_error() -> None:
    """One length does not refuse a pixel size that all lengths together do."""
    assert severity(facts(1.0, 0.79, 0.79, 0.79)) is Severity.REFUSAL
    by_width = SizeFacts(1.0, 5, {"width": {v: 0.79 * MEAN_MM["width"][v] for v in LEVELS}})
    assert severity(by_width) is not Severity.REFUSAL


def test_one_unusual_length_is_no_error_of_the_header() -> None:
    assert severity(facts(1.0, 1.0, 1.22)) is None
    assert severity(facts(1.0, 1.0, pedicles=0.85)) is None


def test_unseen_pedicles_are_left_out() -> None:
    assert severity(facts(1.0, 1.0, pedicles=None)) is None
    assert severity(facts(1.0, 0.68, 0.68, pedicles=None)) is Severity.REFUSAL


def test_few_distances_are_not_compared() -> None:
    assert body_size(facts(1.4, 1.0, pairs=2)) is None


def test_one_person_in_a_hundred_is_found_by_chance() -> None:
    """The stated rates hold for people of the stated spreads."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(4000):
        pitch = 0.066 * rng.normal()
        common, own = rng.normal(), rng.normal(size=3)
        # rests that correlate by a half
        rest = np.array([0.080, 0.105, 0.078]) * (math.sqrt(0.45) * common + math.sqrt(0.55) * own)
        across = np.exp(np.array([0.7, 0.7, 0.58]) * pitch + rest)
        found += severity(facts(math.exp(pitch), *across)) is not None
    assert 0.002 < found / 4000 < 0.02
