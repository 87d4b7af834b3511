"""The cut-out slices of both classifiers, on volumes small enough to work out by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from osteo_monai.transforms import RandomisedSlices, VertebralSlicesd

L1, L2 = 20, 21


def volume(shape: Any = (20, 24, 12), spacing: Any = (1.0, 1.0, 2.0)) -> Any:
    """HU = 100 x + y + 1000 z, so that each value gives the position of the pixel; L1 above L2, both boxes."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    labels = np.zeros(shape)
    labels[6:11, 8:13, 7:10] = L1  # centre x 8, y 10, z 8
    labels[8:13, 8:13, 1:6] = L2  # centre x 10, y 10, z 3
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    hu = MetaTensor(torch.from_numpy(100.0 * x + y + 1000.0 * z)[None].float(), affine=affine)
    return {"image": hu, "label": MetaTensor(torch.from_numpy(labels)[None].float(), affine=affine)}


def test_levels_stand_in_order_about_their_own_centroid() -> None:
    result = VertebralSlicesd(pixel_mm=1.0, size=7, fill_hu=-1.0)(volume())
    image, mask = result["image"], result["mask"]
    assert image.shape == mask.shape == (2, 7, 7)
    assert image.dtype == mask.dtype == torch.float32
    assert (image[0, 3, 3], image[1, 3, 3]) == (800 + 10 + 8000, 1000 + 10 + 3000)
    assert (image[0, 1, 3], image[0, 3, 5]) == (600 + 10 + 8000, 800 + 12 + 8000)  # X, then Y
    assert mask[0].sum() == 25
    assert (image[mask == 0] == -1).all()
    assert "label" not in result


def test_unmasked_slices_keep_their_surroundings() -> None:
    result = VertebralSlicesd(pixel_mm=1.0, size=7, masked=False)(volume())
    assert result["image"][0, 0, 0] == 500 + 7 + 8000
    assert result["mask"][0, 0, 0] == 0


def test_offsets_go_upwards_in_mm_and_stop_at_the_end_of_the_volume() -> None:
    result = VertebralSlicesd(levels=["L1"], offsets_mm=(-4.0, 0.0, 2.0, 50.0), pixel_mm=1.0, size=3)(volume())
    masked_out = VertebralSlicesd(levels=["L1"], offsets_mm=(-4.0, 50.0), pixel_mm=1.0, size=3, masked=False)(volume())
    assert result["mask"].sum((1, 2)).tolist() == [0, 9, 9, 0]
    assert result["image"][1:3, 1, 1].tolist() == [8810, 9810]
    assert masked_out["image"][:, 1, 1].tolist() == [6810, 11810]


@pytest.mark.parametrize(
    ("plane", "across", "steps"),
    # HU a mm across the plane, and along the first and the second axis of the slice
    [("axial", 1000.0, (100.0, 1.0)), ("sagittal", 100.0, (1.0, 1000.0)), ("coronal", 1.0, (100.0, 1000.0))],
)
def test_planes_through_the_middle_of_the_body(plane: Any, across: Any, steps: Any) -> None:
    cut = VertebralSlicesd(
        levels=["L1"], pixel_mm=1.0, size=5, offsets_mm=(0.0, 2.0), plane=plane, masked=False, fill_hu=0.0
    )
    result = cut(volume(spacing=(1.0, 1.0, 1.0)))
    image = result["image"]
    assert image[0, 2, 2] == 800 + 10 + 8000
    assert (image[0, 3, 2] - image[0, 2, 2], image[0, 2, 3] - image[0, 2, 2]) == steps
    assert image[1, 2, 2] - image[0, 2, 2] == 2 * across
    body = result["mask"][0]
    assert (body.any(1).sum(), body.any(0).sum()) == (5, 5 if plane == "axial" else 3)


def test_planes_across_thick_slices_are_in_mm() -> None:
    image = VertebralSlicesd(levels=["L1"], pixel_mm=1.0, size=3, plane="sagittal", masked=False)(volume())["image"]
    # slices of 2 mm: half a slice a pixel
    torch.testing.assert_close(image[0, 1] - 8810, torch.tensor([-500.0, 0.0, 500.0]))


def test_centre_slice_is_the_area_weighted_middle() -> None:
    data = volume()
    data["label"][data["label"] == L1] = 0
    data["label"][0, 6:11, 8:13, 7] = L1  # 25 pixels in slice 7 and one in each of three more: middle 7.21
    data["label"][0, 8, 10, 8:11] = L1
    assert VertebralSlicesd(levels=["L1"], pixel_mm=1.0, size=1)(data)["image"].item() == 8000 - 1000 + 810
    data["label"][0, :, :, 8] = 0  # a hole where the middle falls: 25 pixels in 7 and in 9, one in 10
    data["label"][0, 6:11, 8:13, 9] = L1
    assert VertebralSlicesd(levels=["L1"], pixel_mm=1.0, size=1)(data)["image"].item() == 9000 + 810


def test_finer_pixels_are_interpolated_linearly() -> None:
    image = VertebralSlicesd(levels=["L1"], pixel_mm=0.5, size=5)(volume())["image"][0]
    torch.testing.assert_close(image[:, 2] - 8010, torch.tensor([700.0, 750, 800, 850, 900]))
    torch.testing.assert_close(image[2] - 8800, torch.tensor([9.0, 9.5, 10, 10.5, 11]))


def test_coarser_pixels_are_averaged() -> None:
    data = volume()
    data["image"][0, ::2] = 0.0
    data["image"][0, 1::2] = 100.0  # finer than the frame: half and half
    image = VertebralSlicesd(levels=["L1"], pixel_mm=2.0, size=3, masked=False)(data)["image"]
    torch.testing.assert_close(image, torch.full_like(image, 50.0))


def test_anisotropic_pixels_give_a_frame_in_mm() -> None:
    mask = VertebralSlicesd(levels=["L1"], pixel_mm=1.0, size=16)(volume(spacing=(2.0, 1.0, 2.0)))["mask"][0]
    # 5 pixels of 2 mm and of 1 mm; the edge of a linear mask at 0.5 lies half a pixel outside the outer centres
    assert abs(mask.any(1).sum() - 10) <= 1
    assert abs(mask.any(0).sum() - 5) <= 1


def test_outside_of_the_volume_is_filled() -> None:
    image = VertebralSlicesd(levels=["L1"], pixel_mm=1.0, size=41, masked=False, fill_hu=-7.0)(volume())["image"][0]
    assert (image[:12] == -7).all()  # x from -12 on
    assert image[12, 20] == 8010


def test_original_pixels_in_a_frame_about_the_volume() -> None:
    data = volume()
    same = VertebralSlicesd(levels=["L1"], pixel_mm=None, size=24, masked=False, fill_hu=-7.0)(data)["image"][0]
    torch.testing.assert_close(same[2:22], data["image"].as_tensor()[0, :, :, 8])
    assert (same[:2] == -7).all()
    assert (same[22:] == -7).all()
    odd = VertebralSlicesd(levels=["L1"], pixel_mm=None, size=15, masked=False)(data)["image"][0]
    assert set(odd.flatten().tolist()) <= set(data["image"].flatten().tolist())
    with pytest.raises(ValueError, match="size must be large enough for L1"):
        VertebralSlicesd(levels=["L1"], pixel_mm=None, size=6)(data)


@pytest.mark.parametrize(("margin", "width"), [(0.0, 5), (1.0, 7), (-1.0, 3)])
def test_margin_grows_and_shrinks_the_mask(margin: Any, width: Any) -> None:
    mask = VertebralSlicesd(levels=["L1"], pixel_mm=1.0, size=11, margin_mm=margin)(volume())["mask"][0]
    assert mask[5].sum() == width


def test_missing_levels_are_all_named() -> None:
    data = volume()
    data["label"][:] = 0
    with pytest.raises(ValueError, match=r"got no L1 \(label 20\), no L2 \(label 21\)"):
        VertebralSlicesd()(data)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"levels": ["L9"]}, "levels must be different vertebral levels"),
        ({"levels": ["L1", "L1"]}, "levels must be different"),
        ({"offsets_mm": []}, "offsets_mm must have at least one"),
        ({"size": 0, "levels": []}, "levels must .*; size and pixel_mm must be positive"),
        ({"pixel_mm": 0.0}, "pixel_mm must be positive"),
        ({"plane": "oblique"}, "plane must be one of axial, sagittal, coronal, .*, got 'oblique'"),
        ({"plane": "sagittal", "pixel_mm": None}, "others than axial with pixel_mm, got 'sagittal'"),
        ({"keys": "image"}, "keys must name the image and the label map"),
    ],
)
def test_impossible_arguments_are_refused(arguments: Any, sentence: Any) -> None:
    with pytest.raises(ValueError, match=sentence):
        VertebralSlicesd(**arguments)


def test_image_and_label_map_must_fit() -> None:
    data = volume()
    data["label"] = data["label"][..., :-1]
    with pytest.raises(ValueError, match="a label map of its shape"):
        VertebralSlicesd()(data)


STILL: dict[str, Any] = {
    "flip": 0.0,
    "rotation_deg": 0.0,
    "scale": 0.0,
    "shift": 0.0,
    "mask_cut": (0.5, 0.5),
    "noise_hu": 0.0,
    "gain_sd": 0.0,
    "offset_hu": 0.0,
}


def masked(data: Any) -> Any:
    return {"image": data["image"] * data["mask"]}


def batch(n: Any = 2) -> Any:
    image, mask = torch.zeros(n, 2, 9, 9), torch.zeros(n, 2, 9, 9, dtype=torch.uint8)
    image[:] = torch.arange(81.0).view(9, 9)
    mask[:, :, 2:7, 3:6] = 1
    return {"image": image.half(), "mask": mask, "label": torch.arange(n)}


def test_without_variation_nothing_changes() -> None:
    image, label = RandomisedSlices(masked, **STILL)(batch(), "cpu")
    assert image.dtype == torch.float32
    assert label.tolist() == [0, 1]
    inner = image[:, :, 3:6, 3:6]  # the smoothed mask rounds the corners off
    torch.testing.assert_close(inner, batch()["image"][:, :, 3:6, 3:6].float())
    assert (image[:, :, :2] == 0).all()


def test_mirror_is_left_for_right() -> None:
    image, _ = RandomisedSlices(masked, **STILL | {"flip": 1.0})(batch(), "cpu")
    expected = batch()["image"].float().flip(2)  # X is the first axis of a slice
    torch.testing.assert_close(image[:, :, 3:6, 3:6], expected[:, :, 3:6, 3:6])


def test_mask_grows_and_shrinks() -> None:
    areas = [
        (RandomisedSlices(masked, **STILL | {"mask_cut": (cut, cut)})(batch(), "cpu")[0][0, 0] > 0).sum().item()
        for cut in (0.3, 0.5, 0.7)
    ]
    assert areas[0] > areas[1] > areas[2]


def test_gain_offset_and_noise_are_in_hu_and_differ_between_people() -> None:
    torch.manual_seed(0)
    flat = batch(400)
    flat["image"][:] = 100.0
    varied = RandomisedSlices(masked, **STILL | {"offset_hu": 5.0})(flat, "cpu")[0][:, 0, 4, 4]
    assert abs(varied.std() - 5) < 0.6
    varied = RandomisedSlices(masked, **STILL | {"gain_sd": 0.02})(flat, "cpu")[0][:, 0, 4, 4]
    assert abs(varied.std() - 2) < 0.3
    varied = RandomisedSlices(masked, **STILL | {"noise_hu": 12.0})(flat, "cpu")[0][:, 0, 4, 4]
    assert abs(varied.std() - 12 / 3**0.5) < 1  # SD even between 0 and 12
    assert (RandomisedSlices(masked)(flat, "cpu")[0][:, :, 0, 0] == 0).all()


def test_rotation_scale_and_shift_move_the_body_within_their_limits() -> None:
    torch.manual_seed(0)
    many = batch(200)
    many["image"][:] = 1.0
    many["mask"][:] = 0
    many["mask"][:, :, 4, 4] = 1
    near = STILL | {"mask_cut": (0.05, 0.05)}
    for change, moved in (({"rotation_deg": 90.0}, False), ({"scale": 0.5}, False), ({"shift": 0.2}, True)):
        image = RandomisedSlices(masked, **near | change)(many, "cpu")[0][:, 0]
        centre = torch.stack([i.nonzero().float().mean(0) for i in image])
        assert ((centre - 4).abs().max() > 1) == moved
        assert (centre - 4).abs().max() < 0.2 * 9 + 0.6


def test_covariates_reach_the_last_steps_unchanged() -> None:
    def joined(data: Any) -> Any:
        return {"image": torch.cat([data["image"], data["covariates"][..., None, None].expand(-1, -1, 9, 9)], 1)}

    facts = torch.tensor([[63.0, 1.0], [0.0, 0.0]])
    image, _ = RandomisedSlices(joined)({**batch(), "covariates": facts}, "cpu")
    torch.testing.assert_close(image[:, 2:, 4, 4], facts)


def test_impossible_mask_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_cut must satisfy"):
        RandomisedSlices(masked, mask_cut=(0.7, 0.3))
