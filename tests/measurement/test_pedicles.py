"""The distance of the pedicles, on a block of bone with two bridges to an arch."""

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.measurement.pedicles import find_pedicles

Scan = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]


def scan(distance: float = 30.0, pixel: float = 0.8, step: float = 2.0, bridge_hu: float = 400.0) -> Scan:
    """A body of 42 x 30 x 26 mm with pedicles 8 mm wide behind its upper half, ``distance`` mm apart."""
    shape = tuple(int(n) for n in np.rint([100 / pixel, 90 / pixel, 50 / step]))
    affine = np.diag([pixel, pixel, step, 1.0])
    affine[:3, 3] = -50.0, -60.0, -25.0
    x, y, z = (affine[a, 3] + affine[a, a] * np.arange(n) for a, n in enumerate(shape))
    at = np.meshgrid(x, y, z, indexing="ij")
    body = ((at[0] / 21.0) ** 2 + (at[1] / 15.0) ** 2 <= 1.0) & (np.abs(at[2]) <= 13.0)
    upper = (at[2] >= 0.0) & (at[2] <= 12.0)
    bridge = (np.abs(np.abs(at[0]) - 0.5 * distance) <= 4.0) & (at[1] < 0.0) & (at[1] > -32.0) & upper & ~body
    lamina = (np.abs(at[0]) <= 24.0) & (at[1] <= -32.0) & (at[1] > -38.0)
    hu = np.full(shape, 50.0, dtype=np.float32)
    hu[body] = 150.0
    hu[bridge | lamina] = bridge_hu
    return hu, affine, body


@pytest.mark.parametrize("distance", [26.0, 30.0, 35.0])
@pytest.mark.parametrize(("pixel", "step"), [(0.7, 1.0), (1.0, 3.0)])
def test_the_distance_is_measured(distance: float, pixel: float, step: float) -> None:
    assert find_pedicles(*scan(distance, pixel, step)).distance_mm == pytest.approx(distance, abs=0.8)


@pytest.mark.parametrize("factor", [0.75, 1.3])
def test_a_wrong_pixel_size_changes_it_by_the_same_factor(factor: float) -> None:
    hu, affine, body = scan()
    right = find_pedicles(hu, affine, body).distance_mm
    affine[:2] *= factor
    wrong = find_pedicles(hu, affine, body).distance_mm
    assert right is not None
    assert wrong == pytest.approx(factor * right, rel=0.03)


def test_without_pedicles_there_is_no_distance() -> None:
    assert find_pedicles(*scan(bridge_hu=60.0)).distance_mm is None


def test_metal_in_the_pedicles_does_not_move_it() -> None:
    assert find_pedicles(*scan(bridge_hu=3000.0)).distance_mm == pytest.approx(30.0, abs=1.0)


def test_pedicles_are_above_and_in_a_reversed_stack_below() -> None:
    hu, affine, body = scan()
    right = find_pedicles(hu, affine, body).above_hu
    reversed_ = find_pedicles(hu[:, :, ::-1], affine, body[:, :, ::-1]).above_hu
    assert right > 100.0
    assert reversed_ == pytest.approx(-right, abs=30.0)
