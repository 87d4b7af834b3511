from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd

from osteo_monai.transforms import AxisAlignedSpacing, AxisAlignedSpacingd
from osteo_monai.transforms.spacing import resize_volume


def _image(shape: Any = (8, 6, 4), spacing: Any = (1.0, 2.0, 3.0)) -> Any:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [10, 20, 30]
    return MetaTensor(torch.rand(1, *shape), affine=torch.as_tensor(affine))


def test_halving_the_resolution_moves_the_first_centre_by_half_a_voxel() -> None:
    result = AxisAlignedSpacing((2.0, 2.0, 3.0))(_image())
    assert result.shape == (1, 4, 6, 4)
    # voxels of 2 mm whose first covers the old voxels 0 and 1: its centre lies between theirs, at 10.5 mm
    expected = np.array([[2, 0, 0, 10.5], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    np.testing.assert_allclose(result.affine, expected)


def test_extent_is_kept_where_the_spacing_does_not_divide_it() -> None:
    result = AxisAlignedSpacing((3.0, 0.0, 0.0))(_image())  # 8 mm: 3 voxels of 8/3 mm
    assert result.shape == (1, 3, 6, 4)
    assert float(result.affine[0, 0]) == pytest.approx(8 / 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_linear_ramp_stays_where_it_is(axis: Any) -> None:
    """The value at each new voxel's centre in mm is the ramp there, off the borders (where there is no neighbour)."""
    shape = [24, 24, 24]
    ramp = torch.arange(24.0).reshape([-1 if a == axis else 1 for a in range(3)]).expand(shape)[None]
    image = MetaTensor(ramp.clone(), affine=torch.eye(4, dtype=torch.float64))
    for pixdim in (2.2, 0.6):
        result = AxisAlignedSpacing((pixdim,) * 3)(image)
        line = result.as_tensor()[0].movedim(axis, 0)[:, 5, 5]
        centres = result.affine[axis, axis] * torch.arange(len(line)) + result.affine[axis, 3]
        inner = slice(2, -2) if pixdim > 1 else slice(4, -4)
        torch.testing.assert_close(line[inner].double(), centres[inner], atol=0.05, rtol=0)


def test_thinning_out_averages_noise() -> None:
    torch.manual_seed(0)
    noise = MetaTensor(torch.randn(1, 64, 64, 64), affine=torch.eye(4))
    result = AxisAlignedSpacing((4.0, 4.0, 4.0))(noise)
    # a triangle of half-width 4 has weights whose squares sum to 1/6 or so, a axis: SD 1 -> about 0.07
    assert float(result.std()) == pytest.approx((1 / 6) ** 1.5, rel=0.15)


def test_nearest_keeps_labels_and_dtype() -> None:
    label = torch.tensor([0, 7, 7, 3], dtype=torch.uint8).reshape(1, 4, 1, 1)
    result = resize_volume(label, (2, 1, 1), "nearest")
    assert result.dtype is torch.uint8
    assert result.flatten().tolist() == [7, 3]
    assert resize_volume(label, (8, 1, 1), "nearest").flatten().tolist() == [0, 0, 7, 7, 7, 7, 3, 3]


@pytest.mark.parametrize("shape", [(31, 17, 9), (8, 6, 4)])
def test_inverse_gives_the_same_grid(shape: Any) -> None:
    image = _image(shape, (0.7, 0.9, 2.5))
    spacing = AxisAlignedSpacing((1.5, 1.5, 0))
    back = spacing.inverse(spacing(image))
    assert back.shape == image.shape
    torch.testing.assert_close(back.affine, image.affine)
    assert back.applied_operations == []
    assert image.applied_operations == []


def test_invertd_brings_a_mask_back_to_a_turned_scan() -> None:
    """A box drawn in the resampled canonical image lies over the same box of the scan as it came."""
    affine = torch.tensor([[0, 0, -1.0, 40], [-1.0, 0, 0, 60], [0, 2.0, 0, 5], [0, 0, 0, 1]], dtype=torch.float64)
    scan = torch.zeros(1, 40, 20, 30)
    scan[:, 8:24, 4:12, 6:20] = 1.0
    pre = Compose([Orientationd("image", axcodes="RAS", labels=None), AxisAlignedSpacingd("image", (2.0, 2.0, 0))])
    data = pre({"image": MetaTensor(scan, affine=affine)})
    assert data["image"].shape == (1, 15, 20, 20)
    data["pred"] = MetaTensor((data["image"].as_tensor() > 0.5).float(), meta=data["image"].meta)
    back = Invertd("pred", transform=pre, orig_keys="image", nearest_interp=True)(data)["pred"]
    torch.testing.assert_close(back.affine, affine)
    assert torch.equal(back.as_tensor() > 0.5, scan > 0.5)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="three axes"):
        AxisAlignedSpacing((1.0, 1.0))
    with pytest.raises(ValueError, match="mode must be one of"):
        AxisAlignedSpacingd("image", (1.0, 1.0, 1.0), mode="cubic")
    with pytest.raises(ValueError, match=r"\(C, X, Y, Z\)"):
        AxisAlignedSpacing((1.0, 1.0, 1.0))(torch.zeros(1, 4, 4))
