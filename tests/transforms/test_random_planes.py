"""Batches on planes of random size: content, cover of the label, distribution and errors."""

from collections import Counter
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset
from torch import Tensor

from osteo_monai.errors import ConfigError
from osteo_monai.transforms import RandomPlanes

BODY = (slice(40, 70), slice(50, 85))


def item(size: int = 150) -> dict[str, Any]:
    """Return a slice whose pixels have their own values, and a body."""
    image = 0.1 + torch.arange(float(size * size)).reshape(1, size, size)
    label = torch.zeros(1, size, size)
    label[0, *BODY] = 1.0
    return {"image": image, "label": label, "name": "a"}


def place_of(plane: Tensor, slice_: Tensor) -> tuple[slice, slice]:
    """Return the rectangle of the plane that has a part of the slice, after a check of its values."""
    inside = plane[0] > 0
    rows, columns = (inside.any(axis).nonzero().flatten() for axis in (1, 0))
    x, y = (slice(int(line[0]), int(line[-1]) + 1) for line in (rows, columns))
    assert inside[x, y].all()
    first = int(torch.round(plane[0, x.start, y.start] - 0.1))
    a, b = divmod(first, slice_.shape[-1])
    part = slice_[0, a : a + x.stop - x.start, b : b + y.stop - y.start]
    assert torch.equal(plane[0, x, y], part)
    return x, y


def test_a_batch_has_one_size_and_each_size_is_drawn() -> None:
    torch.manual_seed(1)
    collate = RandomPlanes([64, 128, 192])
    sizes: Counter[int] = Counter()
    for _ in range(90):
        batch = collate([item(), item()])
        assert batch["image"].shape == batch["label"].shape
        assert batch["image"].shape[0] == len(batch["name"]) == 2
        sizes[batch["image"].shape[-1]] += 1
    assert set(sizes) == {64, 128, 192}
    assert min(sizes.values()) >= 15


def test_the_plane_is_air_with_one_rectangle_of_the_slice_and_its_label() -> None:
    torch.manual_seed(2)
    one = item()
    starts, sides = set(), set()
    for _ in range(60):
        batch = RandomPlanes([192])([one])
        plane, label = batch["image"][0], batch["label"][0]
        x, y = place_of(plane, one["image"])
        starts.add((x.start, y.start))
        sides.add(x.stop - x.start)
        # the label follows its pixels
        values = plane[label > 0]
        assert torch.isin(values, one["image"][one["label"] > 0]).all()
        assert torch.isin(one["image"][one["label"] > 0], plane).sum() == len(values)
    assert (0, 0) in starts
    assert len(starts) > 20
    assert min(sides) >= 72
    assert max(sides) == 150


def test_the_field_of_view_contains_the_body_as_often_as_stated() -> None:
    torch.manual_seed(3)
    one = item(288)
    for covered, low, high in ((1.0, 1.0, 1.0), (0.0, 0.05, 0.6)):
        collate = RandomPlanes([96], covered=covered)
        whole = [bool(collate([one])["label"].sum() == 30 * 35) for _ in range(80)]
        assert low <= sum(whole) / 80 <= high


def test_a_slice_without_a_body_and_one_with_a_larger_body_are_placed() -> None:
    empty, large = item(), item()
    empty["label"] = torch.zeros(1, 150, 150)
    large["label"] = torch.ones(1, 150, 150)
    batch = RandomPlanes([96], covered=1.0)([empty, large])
    assert batch["label"][0].sum() == 0
    assert torch.equal(batch["label"][1] > 0, batch["image"][1] > 0)


def test_corner_and_whole_give_the_input_of_inference() -> None:
    batch = RandomPlanes([192], whole=1.0, corner=1.0)([item()])
    assert torch.equal(batch["image"][0, 0, :150, :150], item()["image"][0])
    assert batch["image"][0].count_nonzero() == 150 * 150


def test_views_are_single_items_of_the_batch_and_differ_in_place() -> None:
    torch.manual_seed(4)
    views = [item(), item()]
    loader = DataLoader(Dataset([views, views]), batch_size=2, collate_fn=RandomPlanes([128]))
    (batch,) = list(loader)
    assert batch["image"].shape == (4, 1, 128, 128)
    assert not torch.equal(batch["image"][0], batch["image"][1])
    assert torch.equal(views[0]["image"], item()["image"])  # not changed in place


def test_a_seed_gives_the_same_batch() -> None:
    batches = []
    for _ in range(2):
        torch.manual_seed(5)
        batches.append(RandomPlanes([64, 128])([item(), item()])["image"])
    assert torch.equal(*batches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": []}, r"sizes and smallest_field must be positive, got \[\] and 72"),
        ({"sizes": [64, 0]}, r"sizes and smallest_field must be positive, got \[64, 0\] and 72"),
        ({"sizes": [64], "smallest_field": 0}, r"sizes and smallest_field must be positive, got \[64\] and 0"),
        ({"sizes": [64], "corner": 1.5}, r"whole, corner and covered must be from 0 to 1, got 0.7, 1.5, 0.85"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RandomPlanes(**arguments)
