"""Identification rate of VerSe by hand and at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osteo_monai.metrics import identify_bodies, pooled_identification

SPINE = {name: (0.0, 0.0, -35.0 * n) for n, name in enumerate(("T11", "T12", "L1", "L2", "L3"))}


def moved(dz: float, *names: str) -> dict[str, tuple[float, float, float]]:
    return {name: (0.0, 0.0, SPINE[name][2] + dz) for name in names or SPINE}


def test_perfect_and_missed_bodies() -> None:
    found = identify_bodies(SPINE, moved(0, "T12", "L1", "L2"))
    assert (found.identified, found.rate, found.mean_distance_mm) == (3, 0.6, 0.0)
    assert [body.level for body in found.bodies if not body.identified] == ["T11", "L3"]
    assert (found.spurious, found.beyond) == (0, 0)


def test_the_limit_is_20_mm() -> None:
    # neighbours 70 mm apart, so that only the distance decides
    truth = {"L1": (0, 0, 0), "L3": (0, 0, -70)}
    assert identify_bodies(truth, {"L1": (0, 0, 19.9), "L3": (12, 16, -70)}).identified == 1
    assert identify_bodies(truth, {"L1": (0, 20.1, 0)}).bodies[0].called is None


def test_the_nearest_true_body_must_be_the_own_one() -> None:
    # 18 mm from its own centre and 17 mm from the neighbour's: near enough, but not identified
    found = identify_bodies(SPINE, {"L1": (0, 0, -70 + 18)})
    assert not any(body.identified for body in found.bodies)
    assert found.mean_distance_mm == pytest.approx(18)
    assert [body.called for body in found.bodies] == [None, "L1", None, None, None]


def test_names_one_level_off_identify_nothing() -> None:
    shifted = {"T12": SPINE["T11"], "L1": SPINE["T12"], "L2": SPINE["L1"], "L3": SPINE["L2"]}
    found = identify_bodies(SPINE, shifted)
    assert (found.rate, found.spurious, found.mean_distance_mm) == (0.0, 0, 35.0)
    assert [body.called for body in found.bodies] == ["T12", "L1", "L2", "L3", None]


def test_spurious_bodies_lie_in_the_labelled_part() -> None:
    # a second body in the disc, one far to the side, one above the highest label, one without a name below the lowest
    extra = {"L6": (0, 0, -52), "T13": (60, 0, -70), "T10": (0, 0, 35)}
    found = identify_bodies(SPINE, {**moved(1), **extra}, [(0, 0, -170)])
    assert found.rate == 1.0
    assert (found.spurious, found.beyond) == (2, 2)


def test_nothing_found_and_nothing_labelled() -> None:
    assert identify_bodies(SPINE, {}).rate == 0.0
    assert math.isnan(identify_bodies(SPINE, {}).mean_distance_mm)
    empty = identify_bodies({}, moved(0))
    assert math.isnan(empty.rate)
    assert (empty.spurious, empty.beyond) == (5, 0)


def test_rates_are_over_the_whole_set() -> None:
    many, few = identify_bodies(SPINE, moved(0)), identify_bodies(moved(0, "L1"), {})
    both = pooled_identification([many, few])
    assert both.rate == pytest.approx(5 / 6)
    assert both.among(["L1", "L2"]).rate == pytest.approx(2 / 3)


def test_a_centre_has_three_coordinates() -> None:
    for wrong in ((0, 0), (0, 0, math.nan)):
        with pytest.raises(ValueError, match="three finite coordinates"):
            identify_bodies(SPINE, {"L1": wrong})


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 2 * math.pi), st.tuples(*[st.floats(-200, 200)] * 3), st.floats(-12, 12))
def test_rotation_about_z_and_shift_change_nothing(
    angle: float, shift: tuple[float, float, float], error: float
) -> None:
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    prediction = moved(error, "T12", "L1", "L2")
    before = identify_bodies(SPINE, prediction)
    truth, found = ({name: turn @ point + shift for name, point in of.items()} for of in (SPINE, prediction))
    after = identify_bodies(truth, found)
    assert after.rate == before.rate
    assert after.mean_distance_mm == pytest.approx(before.mean_distance_mm, abs=1e-6)
