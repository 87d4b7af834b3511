"""Axes by content: a drawn trunk with spine, lungs and abdomen."""

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.measurement.body_axes import exchanged_axes

SPACING = (4.0, 4.0, 6.0)


def trunk(heart_hu: float = 45.0, lungs: bool = True, bone_hu: float = 700.0) -> NDArray[np.float32]:
    """Return HU (X, Y, Z) in RAS+ of a trunk: abdomen below, lungs with a heart above, spine at the back."""
    x, y = np.meshgrid(np.arange(100) - 50, np.arange(80) - 40, indexing="ij")
    body = np.hypot(x / 42.0, y / 28.0) < 1.0
    hu = np.full((100, 80, 50), -1000.0, dtype=np.float32)
    hu[body] = 40.0
    hu[np.hypot(x, y + 17.0) < 6.0] = bone_hu
    chest = np.arange(50) >= 25
    if lungs:
        lung = (np.hypot((np.abs(x) - 20.0) / 13.0, y / 20.0) < 1.0)[:, :, None] & chest
        hu[lung] = -850.0
    hu[(np.hypot(x, y - 10.0) < 9.0)[:, :, None] & chest] = heart_hu
    return hu + np.random.default_rng(0).normal(0.0, 10.0, hu.shape).astype(np.float32)


@pytest.mark.parametrize("hu", [trunk(), trunk(heart_hu=330.0), trunk(lungs=False)], ids=["native", "heart", "abdomen"])
def test_a_right_trunk_has_no_exchanged_axes(hu: NDArray[np.float32]) -> None:
    assert exchanged_axes(hu, SPACING) == ()


def test_each_reversed_axis_is_named() -> None:
    hu = trunk()
    assert exchanged_axes(hu[:, ::-1], SPACING) == ("front and back",)
    assert exchanged_axes(hu[:, :, ::-1], SPACING) == ("head and feet",)
    assert exchanged_axes(hu[:, ::-1, ::-1], SPACING) == ("front and back", "head and feet")


def test_without_lungs_head_and_feet_are_not_known() -> None:
    assert exchanged_axes(trunk(lungs=False)[:, :, ::-1], SPACING) == ()


def test_left_and_right_are_not_compared() -> None:
    assert exchanged_axes(trunk()[::-1], SPACING) == ()


def test_without_air_nothing_is_known() -> None:
    assert exchanged_axes(np.full((60, 60, 30), 40.0, dtype=np.float32), SPACING) == ()
