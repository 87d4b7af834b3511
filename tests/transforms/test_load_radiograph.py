"""Radiographs reach a bundle through the checked reader, their masks cropped and turned with them."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.transforms import LoadRadiographd


def save(path: Path, array: NDArray[Any]) -> str:
    Image.fromarray(array).save(path)
    return str(path)


@pytest.fixture
def record(tmp_path: Path) -> dict[Hashable, Any]:
    """A bright block in a textured field with a black frame, and the mask of the block."""
    field = np.random.default_rng(0).uniform(0.2, 0.7, (300, 280))
    field[100:200, 40:90] = 0.9
    framed = np.pad(field, ((30, 20), (40, 50)))
    image = save(tmp_path / "a.png", np.asarray(framed * 65535, np.uint16))
    mask = save(tmp_path / "m.png", np.asarray(framed > 0.8, np.uint8) * 255)
    return {"image": image, "bone_mask": mask, "age": 61}


def test_mask_follows_its_radiograph(record: dict[Hashable, Any]) -> None:
    loaded = LoadRadiographd("image", mask_keys="bone_mask")(record)
    image, mask = loaded["image"], loaded["bone_mask"]
    assert image.shape == mask.shape == (1, 300, 280)
    assert str(image.dtype) == str(mask.dtype) == "torch.float32"
    np.testing.assert_array_equal(mask.numpy() > 0, image.numpy() > 0.8)
    assert mask.sum() == 100 * 50
    assert "borders_removed" in image.meta["findings"]
    assert (image.meta["view"], image.meta["filename_or_obj"]) == ("unknown", record["image"])
    assert loaded["age"] == 61


def test_unchecked_keeps_the_stored_grid(record: dict[Hashable, Any]) -> None:
    assert LoadRadiographd("image", view="lumbar_ap", check=False)(record)["image"].shape == (1, 350, 370)


def test_the_view_of_the_record_is_required(record: dict[Hashable, Any]) -> None:
    with pytest.raises(ScanRefusedError, match="not recognised as a frontal chest"):
        LoadRadiographd("image")({**record, "view": "chest_frontal"})
    with pytest.raises(ValueError, match="view must be one of chest_frontal, .*, got 'chest'"):
        LoadRadiographd("image", view="chest")(record)


def test_wrong_masks(record: dict[Hashable, Any], tmp_path: Path) -> None:
    other = save(tmp_path / "o.png", np.zeros((10, 10), np.uint8))
    with pytest.raises(UnusableInputError, match="stored grid"):
        LoadRadiographd("image", mask_keys=("bone_mask",))({**record, "bone_mask": other})
