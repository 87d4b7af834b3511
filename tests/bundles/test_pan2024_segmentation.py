"""The recipe of Pan 2024 for segmentation: centre slices, each once an epoch, 800 test images."""

import csv
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from osteo_monai.bundle import run_bundle
from osteo_monai.errors import ConfigError
from osteo_monai.virtual.centre_slices import VirtualCentreSlices

BUNDLE = Path(__file__).parents[2] / "bundles" / "vertebral_body_segmentation_ct"
SMALL: dict[str, Any] = {
    "image_size": 64,
    "pixel_mm": 1.5,
    "network_def#widths": [2, 2, 2, 2, 2, 2, 2],
    "num_workers": 0,
    "amp": False,
    "track": False,
    "device": "cpu",
}


def _parser(configs: Sequence[str], **settings: Any) -> ConfigParser:
    parser = ConfigParser(ConfigParser.load_config_files([str(BUNDLE / "configs" / f"{n}.json") for n in configs]))
    parser.update({"bundle_root": str(BUNDLE), **settings})
    return parser


OVERLAYS = ("pan2024", "classical_unet", "multi_gpu_train")


@pytest.mark.parametrize("overlays", list(permutations(OVERLAYS)), ids="-".join)
def test_pan_s_evaluation_has_800_images_in_each_order_of_overlays(overlays: Sequence[str]) -> None:
    for configs in (["evaluate"], ["train", "evaluate"]):
        data = _parser([*configs, *overlays]).get_parsed_content("validate#virtual")
        assert isinstance(data, VirtualCentreSlices)
        assert (len(data), data.people) == (800, (648, 1048))


@pytest.mark.parametrize("configs", [["pan2024", "evaluate"], ["train", "pan2024", "evaluate"]])
def test_a_complete_config_after_pan_s_is_refused(configs: Sequence[str], tmp_path: Path) -> None:
    """It would restore window, pixel size and network besides the number of images."""
    with pytest.raises(ConfigError, match=r"evaluate\.json must precede overlays in config_file"):
        run_bundle(BUNDLE, configs, {"output_dir": str(tmp_path)})


def test_training_and_validation_have_pan_s_numbers_and_no_person_in_common() -> None:
    parser = _parser(["train", "pan2024"])
    train, validation = (parser.get_parsed_content(f"{part}#virtual") for part in ("train", "validate"))
    assert (len(train), train.people) == (1096, (0, 548))
    assert (len(validation), validation.people) == (200, (548, 648))
    loader = parser.get_parsed_content("train#dataloader")
    assert (loader.batch_size, len(loader), loader.drop_last) == (64, 18, False)  # 17 x 64 + 8
    assert parser.get_parsed_content("epoch_length") == 18


def test_an_epoch_reads_each_image_once_and_the_second_draws_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, str]] = []
    drawn: list[str] = []
    item, draw = VirtualCentreSlices.__getitem__, VirtualCentreSlices._draw

    def counted_item(self: VirtualCentreSlices, index: int) -> dict[str, Any]:
        one = item(self, index)
        read.append((one["subject_id"], one["level"]))
        return one

    def counted_draw(self: VirtualCentreSlices, plan: Any) -> None:
        drawn.append(plan.subject_id)
        draw(self, plan)

    monkeypatch.setattr(VirtualCentreSlices, "__getitem__", counted_item)
    monkeypatch.setattr(VirtualCentreSlices, "_draw", counted_draw)
    settings = {**SMALL, "batch_size": 4, "train#virtual#length": 6, "validation_items": 2, "epochs": 2}
    run_bundle(BUNDLE, ["train", "pan2024"], {**settings, "output_dir": str(tmp_path)})
    assert len(drawn) == len(set(drawn)) == 4  # three people to train, one to validate
    training = [one for one in read if one[0] < "virtual_pan2024_0549"]
    assert len(training) == 12
    assert sorted(training[:6]) == sorted(training[6:]) == sorted(set(training))
    evaluation = {**SMALL, "test_items": 4, "slices_dir": str(tmp_path / "slices")}
    evaluation |= {"checkpoint": str(tmp_path / "checkpoints" / "model.pt"), "output_dir": str(tmp_path / "eval")}
    run_bundle(BUNDLE, ["evaluate", "pan2024"], evaluation)
    with (tmp_path / "eval" / "val_mean_dice_raw.csv").open() as file:
        assert len(list(csv.reader(file))) == 5  # header and four slices
