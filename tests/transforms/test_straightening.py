"""The centre line through found points, and the transform that cuts windows about it."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from osteo_monai.imaging.straightening import straighten, window_offsets
from osteo_monai.transforms.straightening import StraightenColumnd, centre_line

POINTS = np.column_stack([np.linspace(-3, 6, 7), np.linspace(10, 40, 7), np.arange(-60.0, 121.0, 30.0)])
HEIGHTS = np.arange(-200.0, 260.0, 2.5)


def test_points_may_come_in_any_order() -> None:
    shuffled = POINTS[[3, 0, 6, 2, 5, 1, 4]]
    np.testing.assert_array_equal(centre_line(shuffled, HEIGHTS), centre_line(POINTS, HEIGHTS))


def test_a_straight_column_stays_where_it_is() -> None:
    inner = np.arange(-30.0, 91.0, 5.0)  # farther than two SD of the smoothing from the ends
    expected = np.stack([np.interp(inner, POINTS[:, 2], POINTS[:, axis]) for axis in (0, 1)], 1)
    np.testing.assert_allclose(centre_line(POINTS, inner), expected, atol=0.2)


def test_the_line_goes_on_for_40_mm_and_then_stays() -> None:
    slope = 30.0 / 180.0  # of y
    at = np.array([120.0, 140.0, 160.0, 200.0, 500.0])
    y = centre_line(POINTS, at)[:, 1]
    # the slope is that of the smoothed line, which the end pulls down
    assert 0.5 * slope * 20 < y[1] - y[0] <= slope * 20
    assert y[2] - y[0] == pytest.approx(2 * (y[1] - y[0]))
    np.testing.assert_allclose(y[3:], y[2])
    below = centre_line(POINTS, np.array([-400.0, -100.0, -80.0, -60.0]))[:, 1]
    assert below[0] == pytest.approx(below[1])
    assert below[1] < below[2] < below[3]


def test_a_steep_end_is_limited() -> None:
    steep = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 30.0], [0.0, 90.0, 60.0]])
    line = centre_line(steep, np.array([60.0, 100.0, 300.0]))[:, 1]
    assert line[1] - line[0] == pytest.approx(0.5 * 40.0)  # at most one in two
    assert line[2] == line[1]


def test_the_line_is_smooth_though_the_points_are_not() -> None:
    zigzag = POINTS.copy()
    zigzag[::2, 0] += 4.0
    before = np.interp(np.arange(-60.0, 121.0), zigzag[:, 2], zigzag[:, 0])
    after = centre_line(zigzag, np.arange(-60.0, 121.0))[:, 0]
    assert abs(np.diff(after, 2)).max() < 0.2 * abs(np.diff(before, 2)).max()
    assert np.ptp(after - np.linspace(-3, 6, 181)) < 0.8 * 4.0


@pytest.mark.parametrize("z", [0.0, 33.0])
def test_one_point_gives_an_upright_line(z: float) -> None:
    line = centre_line(np.array([[5.0, -7.0, z]]), HEIGHTS)
    np.testing.assert_allclose(line, np.full((len(HEIGHTS), 2), [5.0, -7.0]), rtol=1e-12)


def test_no_point_is_refused() -> None:
    with pytest.raises(ValueError, match="points must have at least one point of the column, got none"):
        centre_line(np.empty((0, 3)), HEIGHTS)


def ct(width: int = 110, origin: tuple[float, float, float] = (-130.0, -90.0, -50.0)) -> MetaTensor:
    """Return a CT (1, X, Y, Z) of 2.5 mm whose HU name the place: x + 1000 for its right end, in mm."""
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = origin
    x = origin[0] + 2.5 * np.arange(width)
    values = torch.from_numpy(np.broadcast_to(x[:, None, None], (width, 70, 40)).copy()).float()[None]
    return MetaTensor(values, affine=torch.from_numpy(affine), meta={"filename_or_obj": "scan.nii.gz"})


def item(image: MetaTensor) -> dict[Hashable, Any]:
    return {"image": image, "line": POINTS.tolist(), "other": 3}


def test_positions_of_the_axis_and_of_the_windows() -> None:
    image = ct()
    result = StraightenColumnd(margin=2)(item(image))
    axis = result["axis_mm"]
    assert axis.shape == (40, 3)
    np.testing.assert_allclose(axis[:, 2], -50.0 + 2.5 * np.arange(40))
    np.testing.assert_allclose(axis[:, :2], centre_line(POINTS, axis[:, 2]))
    assert result["image"].shape == (1, 60, 44, 40)
    # HU of this scan are x in mm: each voxel of a window says where it came from
    x, _ = window_offsets(2)
    expected = axis[None, :, 0] + x[:, None]
    inside = (expected > -129) & (expected < 140)
    assert inside.mean() > 0.9
    np.testing.assert_allclose(result["image"][0, :, 20][inside], expected[inside], atol=1e-3)
    assert result["other"] == 3
    assert result["image"].meta["filename_or_obj"] == "scan.nii.gz"


def test_the_windows_are_those_of_straighten() -> None:
    image = ct()
    result = StraightenColumnd()(item(image))
    voxels = (result["axis_mm"] - np.array([-130.0, -90.0, -50.0])) / 2.5
    torch.testing.assert_close(result["image"].as_tensor()[0], straighten(image.as_tensor()[0], voxels[:, :2]))


@pytest.mark.parametrize(("width", "outside"), [(110, -1000.0), (40, 0.0)])
def test_a_crop_lies_in_water_and_a_trunk_in_air(width: int, outside: float) -> None:
    image = ct(width)
    result = StraightenColumnd()({"image": image, "line": [[-120.0, 20.0, 0.0]]})
    assert float(result["image"][0, 0, 20, 20]) == outside


@pytest.mark.parametrize("shape", [(2, 4, 4, 4), (4, 4, 4)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be a MetaTensor of shape \(1, X, Y, Z\)"):
        StraightenColumnd()({"image": MetaTensor(torch.zeros(shape)), "line": POINTS})
    with pytest.raises(ValueError, match="image must be a MetaTensor"):
        StraightenColumnd()({"image": torch.zeros(1, 4, 4, 4), "line": POINTS})
