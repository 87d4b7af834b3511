"""Centre slices of L1 and L2 of virtual people: drawn once, the same for the same arguments, and apart by person."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from osteo_monai.domain import VertebraLevel
from osteo_monai.errors import ConfigError
from osteo_monai.virtual.centre_slices import VirtualCentreSlices
from osteo_monai.virtual.cohort import grow
from osteo_monai.virtual.plan import plan_cohort
from osteo_monai.virtual.recipe import RECIPES, read_recipe

SMALL: dict[str, Any] = {"size": 48, "spacing_mm": 1.5, "boundary": "periosteal"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    data = VirtualCentreSlices(6, (0, 548), folder, **SMALL)
    assert [data[i]["level"] for i in range(6)] == ["L1", "L2"] * 3
    return folder


def test_items_are_the_centre_slices_of_both_levels_of_each_person(kept: Path) -> None:
    data = VirtualCentreSlices(6, (0, 548), kept, **SMALL)
    plans = plan_cohort(read_recipe(RECIPES / "virtual_pan2024.json"))
    for index in range(6):
        item = data[index]
        assert item["subject_id"] == plans[index // 2].subject_id
        assert item["image"].shape == item["label"].shape == (1, 48, 48)
        assert item["image"].dtype == item["label"].dtype == torch.float32
        assert torch.equal(item["image"], item["image"].round())
        assert 600 < float(item["label"].sum()) * 1.5**2 < 1800  # mm2 of one body
    anatomy, _ = grow(plans[1], dxa=False)
    file: Any = nib.load(data.folder / f"{plans[1].subject_id}_L2.nii")
    centre = anatomy.vertebra(VertebraLevel.L2).centre
    assert file.affine[2, 3] == pytest.approx(centre[2])
    x, y = (float(a.mean()) for a in np.nonzero(data[3]["label"][0].numpy()))
    assert np.allclose(file.affine[:2, 3] + 1.5 * np.array([x, y]), centre[:2], atol=6)


def test_a_slice_is_drawn_once_and_then_read(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw = VirtualCentreSlices._draw

    def counted(self: VirtualCentreSlices, plan: Any) -> None:
        drawn.append(plan.subject_id)
        draw(self, plan)

    monkeypatch.setattr(VirtualCentreSlices, "_draw", counted)
    longer = VirtualCentreSlices(8, (0, 548), kept, **SMALL)
    first = [longer[i]["image"] for i in range(8)]
    assert drawn == ["virtual_pan2024_0004"]  # three people were kept by an earlier data set
    second = [longer[i]["image"] for i in range(8)]
    assert drawn == ["virtual_pan2024_0004"]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_same_arguments_give_the_same_bytes(kept: Path, tmp_path: Path) -> None:
    again = VirtualCentreSlices(2, (0, 548), tmp_path, **SMALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert again[0]["label"].any()
    finally:
        torch.set_num_threads(threads)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.nii"))
    assert len(files) == 4
    assert all((tmp_path / file).read_bytes() == (kept / file).read_bytes() for file in files)


def test_other_arguments_use_other_files(kept: Path) -> None:
    data = VirtualCentreSlices(2, (0, 548), kept, **SMALL)
    inner = VirtualCentreSlices(2, (0, 548), kept, **{**SMALL, "boundary": "endosteal"})
    assert torch.equal(data[0]["image"], inner[0]["image"])
    outside, inside = data[0]["label"], inner[0]["label"]
    assert (inside <= outside).all()
    assert 0.8 * outside.sum() < inside.sum() < outside.sum()
    finer = VirtualCentreSlices(2, (0, 548), kept, **{**SMALL, "spacing_mm": 1.25})
    assert not torch.equal(finer[0]["image"], data[0]["image"])


def test_sets_of_different_people_have_no_person_in_common(kept: Path) -> None:
    other = VirtualCentreSlices(2, (548, 648), kept, **SMALL)
    assert other[0]["subject_id"] == other[1]["subject_id"] == "virtual_pan2024_0549"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"length": 1097}, "length must be 1 to 1096, 2 slices of each of 548 people, got 1097"),
        ({"length": 0}, "length must be 1 to 1096"),
        ({"people": (0, 1049)}, "people must be two numbers from 0 to 1048"),
        ({"boundary": "cortical"}, "boundary must be 'periosteal' or 'endosteal', got 'cortical'"),
        ({"size": 2}, "size must be at least 8"),
        ({"recipe": "none"}, "recipe must be an existing file or a recipe of this release, got 'none'"),
        ({"recipe": "virtual_li2026_chest", "people": (0, 2), "length": 2}, "recipe must have a CT"),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        VirtualCentreSlices(**{"length": 2, "people": (0, 548), "folder": tmp_path, **arguments})
