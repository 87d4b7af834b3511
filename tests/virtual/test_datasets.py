"""Endless training data: the same item for the same index, and labels that fit the image."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Randomizable
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, VertebraLevel
from osteo_monai.errors import ConfigError
from osteo_monai.virtual.datasets import SmoothWarp, VirtualSliceDataset, VirtualVolumeDataset, start_worker

L = VertebraLevel
BODIES = {level.label for level in L if level is not L.SACRUM} - {level.label for level in list(L)[:7]}
SLICES, VOLUMES = 16, 6


@pytest.fixture(scope="module")
def slices() -> list[dict[str, Tensor]]:
    data = VirtualSliceDataset(1000, seed=3, size=96, spacing_mm=2.4)
    return [data[i] for i in range(SLICES)]


@pytest.fixture(scope="module")
def volumes() -> list[dict[str, Tensor]]:
    data = VirtualVolumeDataset(1000, seed=3, size=(56, 48, 64), spacing_mm=5.0)
    return [data[i] for i in range(VOLUMES)]


# --- slices ---------------------------------------------------------------------------------------------------------


def test_slices_have_shape_type_and_range(slices: list[dict[str, Tensor]]) -> None:
    for item in slices:
        image, label = item["image"], item["label"]
        assert image.shape == label.shape == (1, 96, 96)
        assert image.dtype == label.dtype == torch.float32
        assert -1024 <= image.min() < -300
        assert 0 < image.max() <= 3071
        assert set(label.unique().tolist()) <= {0.0, 1.0}


def test_most_slices_cut_one_body(slices: list[dict[str, Tensor]]) -> None:
    area = torch.tensor([item["label"].sum() * 2.4**2 / 100 for item in slices])  # cm2
    assert (area > 0).float().mean() >= 0.6  # the others pass through discs
    full = area[area > 6]
    assert len(full) >= SLICES // 2
    assert 8 < full.median() < 18


def test_the_body_is_no_air(slices: list[dict[str, Tensor]]) -> None:
    inside = torch.cat([item["image"][item["label"] > 0] for item in slices])
    assert inside.median() > 20
    assert (inside < -300).float().mean() < 0.02


def test_a_slice_follows_from_seed_and_index(slices: list[dict[str, Tensor]]) -> None:
    same: Any = VirtualSliceDataset(5, seed=3, size=96, spacing_mm=2.4)
    assert torch.equal(same[4]["image"], slices[4]["image"])
    assert torch.equal(same[4]["label"], slices[4]["label"])
    assert not torch.equal(slices[4]["image"], slices[5]["image"])
    other: Any = VirtualSliceDataset(5, seed=4, size=96, spacing_mm=2.4)
    assert not torch.equal(other[4]["image"], slices[4]["image"])
    # the global generators play no part
    torch.manual_seed(0)
    before = torch.get_rng_state()
    again = same[4]["image"]
    assert torch.equal(again, slices[4]["image"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_endosteal_label_lies_within_the_periosteal(slices: list[dict[str, Tensor]]) -> None:
    inner: Any = VirtualSliceDataset(1000, seed=3, size=96, spacing_mm=2.4, boundary="endosteal")
    checked = 0
    for i in range(6):
        item = inner[i]
        assert torch.equal(item["image"], slices[i]["image"])
        outer = slices[i]["label"]
        assert (item["label"] <= outer).all()
        if outer.sum() > 100:
            checked += 1
            assert 0.6 * outer.sum() < item["label"].sum() < outer.sum()
    assert checked


def test_views_of_a_slice_share_the_label_and_differ_in_the_scan(slices: list[dict[str, Tensor]]) -> None:
    views = VirtualSliceDataset(1000, seed=3, size=96, spacing_mm=2.4, views=3)[2]
    assert isinstance(views, list)
    assert len(views) == 3
    assert torch.equal(views[0]["image"], slices[2]["image"])
    for view in views:
        assert torch.equal(view["label"], slices[2]["label"])
    assert not torch.equal(views[0]["image"], views[1]["image"])
    assert not torch.equal(views[1]["image"], views[2]["image"])
    views[0]["label"].zero_()  # a transform may change a view in place
    assert torch.equal(views[1]["label"], slices[2]["label"])


def test_loops_are_bright_beside_the_column_and_change_no_bone_or_label(slices: list[dict[str, Tensor]]) -> None:
    data = VirtualSliceDataset(1000, seed=3, size=96, spacing_mm=2.4, loops=1.0)
    brighter = 0
    for i in range(8):
        item: Any = data[i]
        assert torch.equal(item["label"], slices[i]["label"])
        change = (item["image"] - slices[i]["image"])[0]
        body = item["label"][0] > 0
        # blur and edge enhancement mix neighbours, the scan of a body far from a loop is the same
        assert body.sum() == 0 or float(change[body].abs().median()) < 12
        brighter += int(((change > 100) & ~body).sum() * 2.4**2 > 100)  # 1 cm2
    assert brighter >= 6


def test_the_share_of_subjects_with_loops_is_that_of_the_setting(slices: list[dict[str, Tensor]]) -> None:
    data = VirtualSliceDataset(1000, seed=3, size=96, spacing_mm=2.4, loops=0.4)
    same = sum(torch.equal(item["image"], data[i]["image"]) for i, item in enumerate(slices))
    assert 4 <= same <= 14


# --- volumes --------------------------------------------------------------------------------------------------------


def test_volumes_have_shape_type_and_range(volumes: list[dict[str, Tensor]]) -> None:
    seen: set[int] = set()
    for item in volumes:
        image, label = item["image"], item["label"]
        assert (image.shape, label.shape) == ((1, 56, 48, 64), (2, 56, 48, 64))
        assert image.dtype == label.dtype == torch.float32
        assert image.min() >= -1024
        assert image.max() <= 3071
        assert label[1].min() >= 0
        assert label[1].max() <= 1
        seen |= {int(v) for v in label[0].unique()}
    # T1 to T7 count as T8
    assert seen <= BODIES | {0, L.SACRUM.label, RIB_LABEL}
    assert {L.L1.label, L.T12.label, RIB_LABEL, L.SACRUM.label} <= seen


def test_heat_peaks_at_the_labelled_bodies(volumes: list[dict[str, Tensor]]) -> None:
    checked = 0
    for item in volumes:
        classes, heat = item["label"]
        for level in (L.T12, L.L1, L.L2, L.L3):
            body = classes == level.label
            if body.sum() < 0.9 * 25000 / 125:  # cut: less than most of 25 ml
                continue
            checked += 1
            middle = torch.nonzero(body).float().mean(0)
            where = torch.where(body, heat, 0.0)
            peak = torch.tensor(np.unravel_index(int(where.argmax()), where.shape)).float()
            # a voxel of 5 mm: the centre is at most half a diagonal (4.3 mm) off, which costs a quarter
            assert where.max() > 0.75
            assert (peak - middle).norm() * 5 < 8
        assert heat[classes == 0].max() < 0.75
    assert checked >= 4


def test_outside_the_scan_is_air_without_labels(volumes: list[dict[str, Tensor]]) -> None:
    cut = 0
    for item in volumes:
        outside = (item["image"][0] == -1000).all(0).all(0)
        inside = torch.nonzero(~outside).flatten()
        assert inside.max() - inside.min() + 1 == len(inside) > 10  # one range
        cut += int(outside.any())
        assert (item["label"][:, :, :, outside] == 0).all()
    assert cut >= VOLUMES // 2


def test_a_volume_follows_from_seed_and_index(volumes: list[dict[str, Tensor]]) -> None:
    again = VirtualVolumeDataset(3, seed=3, size=(56, 48, 64), spacing_mm=5.0)[2]
    assert isinstance(again, dict)
    assert torch.equal(again["image"], volumes[2]["image"])
    assert torch.equal(again["label"], volumes[2]["label"])


def test_views_are_scans_of_one_person(volumes: list[dict[str, Tensor]]) -> None:
    views = VirtualVolumeDataset(3, seed=3, size=(56, 48, 64), spacing_mm=5.0, views=3)[2]
    assert isinstance(views, list)
    assert len(views) == 3
    assert torch.equal(views[0]["image"], volumes[2]["image"])
    assert not torch.equal(views[0]["image"], views[1]["image"])
    both = [(v["image"][0] != -1000).any(0).any(0) for v in views]
    common = both[0] & both[1] & both[2]
    assert common.any()
    for view in views[1:]:
        assert torch.equal(view["label"][..., common], views[0]["label"][..., common])


def test_kept_people_are_those_of_the_first_items_in_other_scans(
    volumes: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    kept = VirtualVolumeDataset(1000, seed=3, size=(56, 48, 64), spacing_mm=5.0, people=2, folder=tmp_path)
    for index in (0, 1, 2, 3, 0, 998):
        item, own = kept[index], volumes[index % 2]
        assert (item["image"].shape, item["label"].shape) == ((1, 56, 48, 64), (2, 56, 48, 64))
        assert not torch.equal(item["image"], own["image"])
        common = ((item["image"][0] != -1000) & (own["image"][0] != -1000)).any(0).any(0)
        assert common.any()
        # the same person in the same place: classes are equal, the heat but for its rounding
        assert torch.equal(item["label"][0][..., common], own["label"][0][..., common])
        assert (item["label"][1] - own["label"][1])[..., common].abs().max() <= 0.5 / 255 + 1e-6
        inside = [volume["image"][0][..., common] for volume in (item, own)]
        assert float(torch.corrcoef(torch.stack([values.flatten() for values in inside]))[0, 1]) > 0.95
        outside = (item["image"][0] == -1000).all(0).all(0)
        assert (item["label"][..., outside] == 0).all()
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_a_scan_of_a_kept_person_follows_from_seed_and_index(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"seed": 3, "size": (16, 16, 24), "spacing_mm": 12.0, "people": 2}
    one = VirtualVolumeDataset(1000, **settings, folder=tmp_path / "one")
    fresh = {index: one[index] for index in (0, 2, 5)}
    other = VirtualVolumeDataset(500, **settings, folder=tmp_path / "other")
    for index in (5, 2, 0):  # in another order, from files that are painted or read
        again = other[index]
        assert torch.equal(again["image"], fresh[index]["image"])
        assert torch.equal(again["label"], fresh[index]["label"])
        assert torch.equal(one[index]["image"], fresh[index]["image"])
    assert not torch.equal(fresh[0]["image"], fresh[2]["image"])
    views = VirtualVolumeDataset(1000, **settings, views=2, folder=tmp_path / "one")[2]
    assert torch.equal(views[0]["image"], fresh[2]["image"])
    assert not torch.equal(views[1]["image"], fresh[2]["image"])
    with pytest.raises(IndexError):
        other[500]


@pytest.mark.parametrize(("people", "folder"), [(-1, "volumes"), (0, "volumes"), (3, None)])
def test_kept_people_and_their_folder_depend_on_each_other(people: int, folder: str | None) -> None:
    with pytest.raises(ConfigError, match="people must be positive with a folder and 0 without, got"):
        VirtualVolumeDataset(3, seed=1, people=people, folder=folder)


# --- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [-1, 2, 10**6])
def test_indices_end_where_the_set_does(index: int) -> None:
    for data in (VirtualSliceDataset(2, seed=0, size=16), VirtualVolumeDataset(2, seed=0)):
        assert len(data) == 2
        with pytest.raises(IndexError):
            data[index]


@pytest.mark.parametrize(
    "arguments",
    [{"length": 0}, {"length": 3, "size": 4}, {"length": 3, "spacing_mm": 0.0}, {"length": -1}, {"views": 0}],
)
def test_wrong_arguments_of_slices(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="length, size, spacing_mm and views must be positive, got"):
        VirtualSliceDataset(**{"length": 3, "seed": 1, **arguments})


@pytest.mark.parametrize("loops", [-0.1, 1.5, "many"])
def test_a_share_of_loops_that_is_none(loops: Any) -> None:
    with pytest.raises(ConfigError, match=f"loops must be from 0 to 1, got {loops!r}"):
        VirtualSliceDataset(1, seed=1, loops=loops)


def test_an_unknown_boundary() -> None:
    with pytest.raises(ConfigError, match="boundary must be 'periosteal' or 'endosteal', got 'cortical'"):
        VirtualSliceDataset(1, seed=1, boundary="cortical")


@pytest.mark.parametrize(
    "arguments",
    [{"length": 0}, {"length": 3, "size": (64, 4, 64)}, {"length": 3, "spacing_mm": -1}, {"length": 3, "views": 0}],
)
def test_wrong_arguments_of_volumes(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="length, size, spacing_mm and views must be positive, got"):
        VirtualVolumeDataset(**{"seed": 1, **arguments})


def test_a_warp_stays_within_its_reach_and_is_smooth() -> None:
    warp = SmoothWarp(np.random.default_rng(1), 6.0)
    axes = torch.arange(0.0, 200.0, 4.0)
    p = torch.stack(torch.meshgrid(axes, axes, axes, indexing="ij"))
    shift = warp(p) - p
    assert 2 < shift.abs().max() <= 6.0 + 1e-4
    # waves of at least 45 mm bend by at most 2 pi / 45 of their height a mm
    assert (shift[:, 1:] - shift[:, :-1]).abs().max() <= 4 * 6 * 2 * np.pi / 45
    assert torch.equal(SmoothWarp(np.random.default_rng(1), 0.0)(p), p)


class Drawn(torch.utils.data.Dataset[dict[str, Any]], Randomizable):
    """Items with a random number of MONAI and the number of objects that the garbage collection skips."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"drawn": float(self.R.uniform()), "skipped": gc.get_freeze_count()}


def test_a_worker_has_the_seeds_of_monai_and_skips_old_objects_in_garbage_collection() -> None:
    items = []
    for arguments in ({}, {"worker_init_fn": start_worker}):
        torch.manual_seed(8)
        loader = DataLoader(Drawn(), batch_size=1, num_workers=2, **arguments)
        items.append([(float(batch["drawn"]), int(batch["skipped"])) for batch in loader])
    plain, started = items
    assert [drawn for drawn, _ in plain] == [drawn for drawn, _ in started]
    assert len({drawn for drawn, _ in plain}) == 6
    assert all(skipped == 0 for _, skipped in plain)
    assert all(skipped > 10_000 for _, skipped in started)
    assert gc.get_freeze_count() == 0  # of this process
