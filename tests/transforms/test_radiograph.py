"""The grid of patches and the variation of whole batches of radiographs."""

from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from osteo_monai.transforms import PatchGridd, RandomisedRadiographs
from osteo_monai.transforms.radiograph import join_patches, split_patches

STILL: dict[str, Any] = {
    "flip": 0,
    "rotation_deg": 0,
    "scale": 0,
    "shift": 0,
    "gamma": (1, 1),
    "detail": (0, 0),
    "noise": 0,
}


def test_join_and_split_by_hand() -> None:
    patches = torch.tensor([[[0, 1]], [[2, 3]], [[4, 5]], [[6, 7]], [[8, 9]], [[10, 11]]])  # 6 patches of 1 x 2
    image = join_patches(patches, (3, 2))
    assert image.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert torch.equal(split_patches(image, (3, 2)), patches)
    batch = torch.randn(2, 6, 3, 4)
    assert torch.equal(split_patches(join_patches(batch, (2, 3)), (2, 3)), batch)


def test_patches_are_rectangles_in_reading_order() -> None:
    image = torch.arange(12 * 18, dtype=torch.float32).reshape(1, 12, 18)
    out = PatchGridd(size=(2, 3))({"image": MetaTensor(image)})["image"]
    assert type(out) is torch.Tensor
    assert out.shape == (36, 2, 3)
    assert torch.equal(out[0], image[0, :2, :3])
    assert torch.equal(out[7], image[0, 2:4, 3:6])  # second row, second column
    assert torch.equal(join_patches(out, (6, 6)), image[0])


def test_rectangles_cover_what_does_not_divide_and_do_not_mix() -> None:
    image = torch.zeros(1, 13, 7)
    image[0, :, 3:] = 100.0
    out = PatchGridd(grid=(2, 2), size=8)({"image": image})["image"]
    # 7 columns are cut at round(3.5) = 4: the first rectangle holds one bright column, the second nothing else
    assert out.shape == (4, 8, 8)
    assert torch.equal(out[1], torch.full((8, 8), 100.0))
    assert float(out[0, 0, 0]) == 0
    assert float(out[0, 0, -1]) == 100


def test_resizing_is_bilinear_and_averages_where_pixels_grow() -> None:
    image = torch.tensor([[[0.0, 4.0]]])
    out = PatchGridd(grid=(1, 1), size=(1, 4))({"image": image})["image"]
    assert out[0, 0].tolist() == [0, 1, 3, 4]
    fine = torch.tensor([0.0, 8.0]).repeat(16)[None, None]  # stripes of a pixel
    even = PatchGridd(grid=(1, 1), size=(1, 4))({"image": fine})["image"]
    skipping = PatchGridd(grid=(1, 1), size=(1, 5), antialias=False)({"image": fine})["image"]
    torch.testing.assert_close(even, torch.full((1, 1, 4), 4.0), atol=0.5, rtol=0)
    assert float(skipping.max() - skipping.min()) > 4


def test_masks_go_the_same_way_and_may_miss() -> None:
    transform = PatchGridd(keys=["image", "bone"], grid=(1, 1), size=2, allow_missing_keys=True)
    out = transform({"image": torch.rand(1, 8, 8), "bone": (torch.arange(64).reshape(1, 8, 8) % 8 < 4).float()})
    assert out["bone"].shape == (1, 2, 2)
    assert float(out["bone"].mean()) == pytest.approx(0.5)
    assert set(transform({"image": torch.rand(1, 8, 8)})) == {"image"}


def test_what_is_no_radiograph_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grid must .*; size must"):
        PatchGridd(grid=(6,), size=0)
    with pytest.raises(ValueError, match=r"\(1, rows, columns\) with at least 6 x 6 pixels, got \(1, 5, 90\)"):
        PatchGridd()({"image": torch.zeros(1, 5, 90)})
    with pytest.raises(ValueError, match=r"got \(3, 64, 64\)"):
        PatchGridd()({"image": torch.zeros(3, 64, 64)})


def _batch(image: Any) -> Any:
    return {"image": split_patches(image, (2, 2)).half(), "target": torch.linspace(0, 1, len(image))}


def test_no_variation_leaves_the_z_scored_radiograph() -> None:
    torch.manual_seed(0)
    image = torch.rand(3, 16, 24)
    varied, target = RandomisedRadiographs((2, 2), **STILL)(_batch(image), "cpu")
    assert varied.dtype is torch.float32
    flat = image.flatten(1)
    expected = (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)
    torch.testing.assert_close(join_patches(varied, (2, 2)).flatten(1), expected, atol=5e-3, rtol=0)
    assert target.tolist() == [0, 0.5, 1]


def test_flip_swaps_left_and_right() -> None:
    image = torch.zeros(1, 8, 8)
    image[0, 1, 0] = 1
    varied, _ = RandomisedRadiographs((2, 2), **{**STILL, "flip": 1})(_batch(image), "cpu")
    assert int(join_patches(varied, (2, 2))[0].argmax()) == 8 + 7


def test_rotation_keeps_distances_in_frames_that_are_not_square() -> None:
    torch.manual_seed(1)
    image = torch.zeros(8, 64, 32)
    image[:, 31:33, 23:25] = 1  # 8 pixels to the right of the middle
    varied, _ = RandomisedRadiographs((2, 2), **{**STILL, "rotation_deg": 90})(_batch(image), "cpu")
    for one in join_patches(varied, (2, 2)):
        weight = (one - one.min()) ** 2
        weight = weight / weight.sum()
        y = float((weight.sum(1) * torch.arange(64)).sum()) - 31.5
        x = float((weight.sum(0) * torch.arange(32)).sum()) - 15.5
        assert (x * x + y * y) ** 0.5 == pytest.approx(8, abs=0.3)


def test_each_radiograph_is_varied_by_itself_and_stays_z_scored() -> None:
    torch.manual_seed(0)
    varied, _ = RandomisedRadiographs((2, 2))(_batch(torch.rand(1, 32, 32).expand(4, -1, -1)), "cpu")
    flat = varied.flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(flat.std(1), torch.ones(4), atol=1e-3, rtol=0)
    assert not torch.equal(varied[0], varied[1])
    blank, _ = RandomisedRadiographs((2, 2))(_batch(torch.ones(1, 8, 8)), "cpu")
    assert bool(blank.isfinite().all())


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="gamma must satisfy 0 < low <= high"):
        RandomisedRadiographs(gamma=(2, 1))
    with pytest.raises(ValueError, match="detail must satisfy -1 <= low <= high"):
        RandomisedRadiographs(detail=(-2, 1))
