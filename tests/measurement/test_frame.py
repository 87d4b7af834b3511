"""Distances and axes of solids whose answer is known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.measurement.frame import body_frame

GRIDS = [(1.0, 1.0, 1.0), (3.0, 3.0, 3.0), (0.7, 0.7, 2.0), (0.9, 0.9, 5.0)]
TILT_TOLERANCE = {1.0: 0.6, 2.0: 0.6, 3.0: 4.0, 5.0: 6.0}
"""Degrees, by the coarsest spacing: over 33 mm of depth one step of 5 mm is 9 degrees."""


def _angle(a: NDArray[np.float64], b: NDArray[Any]) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


@pytest.mark.parametrize("spacing", GRIDS[:3])
def test_distance_in_a_sphere_is_physical_on_every_grid(
    solids: SimpleNamespace, spacing: tuple[float, float, float]
) -> None:
    mask, affine, _ = solids.solid(spacing, lambda u, v, w: u**2 + v**2 + w**2 <= 20.0**2)
    frame = body_frame(mask, affine)
    assert frame.volume_cm3 == pytest.approx(33.51, rel=0.02)  # 4/3 pi 2^3
    assert frame.centre == pytest.approx([11.3, -7.1, 140.9], abs=0.1)
    directions = np.random.default_rng(1).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for radius in (5.0, 12.0, 16.0, 22.0):
        error = frame.distance_at(frame.centre + radius * directions) - (20.0 - radius)
        assert abs(error.mean()) < 0.1 + 0.16 * max(spacing)
        assert np.abs(error).max() < 0.3 + 0.35 * max(spacing)


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize(
    "angles", [{}, {"about_x": 20}, {"about_x": -30}, {"about_y": 12}, {"about_x": 15, "about_y": -10, "about_z": 12}]
)
def test_axis_of_a_tilted_body_is_found(
    solids: SimpleNamespace, spacing: tuple[float, float, float], angles: dict[str, Any]
) -> None:
    truth = solids.rotation(**angles)
    mask, affine, _ = solids.solid(spacing, solids.cylinder(46, 33, 27), truth)
    frame = body_frame(mask, affine)
    tolerance = TILT_TOLERANCE[max(spacing)]
    assert _angle(frame.axes[2], truth[2]) < tolerance
    assert _angle(frame.axes[1], truth[1]) < max(tolerance, 2.5)
    assert np.linalg.det(frame.axes) == pytest.approx(1.0)  # right, front, top is a right-handed system
    assert frame.axes @ frame.axes.T == pytest.approx(np.eye(3), abs=1e-9)


def test_axes_point_right_front_and_up(solids: SimpleNamespace) -> None:
    mask, affine, _ = solids.solid((1.0, 1.0, 1.0), solids.cylinder(46, 33, 27))
    assert body_frame(mask, affine).axes == pytest.approx(np.eye(3), abs=0.03)


def test_wedge_leaves_the_axis_upright(solids: SimpleNamespace) -> None:
    # 30 mm high behind, 18 mm in front: both end plates lean by 10 degrees, towards each other.
    mask, affine, _ = solids.solid(
        (1.0, 1.0, 1.0), lambda u, v, w: (abs(u) <= 22) & (abs(v) <= 17) & (abs(w) <= 12 - 6 * v / 34)
    )
    assert _angle(body_frame(mask, affine).axes[2], np.array([0, 0, 1])) < 1.0


def test_section_as_deep_as_wide_does_not_tell_its_rotation(solids: SimpleNamespace) -> None:
    mask, affine, _ = solids.solid((1.0, 1.0, 1.0), solids.box(34, 34, 26), solids.rotation(about_z=20))
    assert _angle(body_frame(mask, affine).axes[1], np.array([0, 1, 0])) < 1.0


def test_coordinates_go_there_and_back(solids: SimpleNamespace) -> None:
    mask, affine, _ = solids.solid((3.0, 3.0, 3.0), solids.cylinder(46, 33, 27), solids.rotation(about_x=20))
    frame = body_frame(mask, affine)
    points = np.random.default_rng(0).normal(size=(10, 3)) * 40
    assert frame.to_world(frame.to_body(points)) == pytest.approx(points)
    assert frame.to_body(frame.centre[None]) == pytest.approx(np.zeros((1, 3)))


def test_only_the_largest_part_counts(solids: SimpleNamespace) -> None:
    mask, affine, _ = solids.solid((1.0, 1.0, 1.0), solids.box(40, 30, 24))
    single = body_frame(mask, affine)
    with_speck = mask.copy()
    with_speck[:6, :6, :6] = True
    frame = body_frame(with_speck, affine)
    assert frame.centre == pytest.approx(single.centre)
    assert frame.volume_cm3 == pytest.approx(28.8, rel=0.05)
    assert frame.main_part == pytest.approx(mask.sum() / (mask.sum() + 216))


def test_what_is_no_body_is_refused() -> None:
    mask = np.zeros((20, 20, 20), dtype=bool)
    with pytest.raises(ValueError, match=r"body must hold at least 2 cm3, got 0\.00"):
        body_frame(mask, np.eye(4))
    mask[:10, :10, :10] = True
    with pytest.raises(ValueError, match=r"got 1\.00 cm3"):
        body_frame(mask, np.eye(4))
    line = np.zeros((30, 9, 9), dtype=bool)
    line[2:22, 4, 4] = True  # 20 voxels of 125 mm3
    with pytest.raises(ValueError, match="got a thin line"):
        body_frame(line, np.diag([5.0, 5.0, 5.0, 1.0]))
    with pytest.raises(ValueError, match="shape \\(X, Y, Z\\)"):
        body_frame(mask[0], np.eye(4))
    with pytest.raises(ValueError, match="affine must have shape"):
        body_frame(mask, np.eye(3))
