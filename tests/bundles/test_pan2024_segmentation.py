"""The recipe of Pan 2024 for segmentation: centre slices, each once an epoch, 800 test images."""

import csv
import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from osteo_monai.bundle import run_bundle
from osteo_monai.data.slice_files import write_slice
from osteo_monai.errors import ConfigError
from osteo_monai.imaging.cortex import inside_cortex
from osteo_monai.networks import ChannelAttentionUNet
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
    with (tmp_path / "eval" / "subjects.csv").open() as file:
        subjects = {row["subject_id"]: row["centre_slices"] for row in csv.DictReader(file)}
    assert subjects == {"virtual_pan2024_0649": "2", "virtual_pan2024_0650": "2"}


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices of 11 subjects to train, one to validate and two to test, with one body of 24 x 24 mm each."""
    folder = tmp_path_factory.mktemp("slices")
    splits: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    rng = np.random.default_rng(2)
    for number in range(14):
        split = "training" if number < 11 else "validation" if number == 11 else "test"
        for level, label in (("L1", 20), ("L2", 21)):
            hu = rng.normal(20, 20, (100, 90)).round().astype(np.float32)
            mask = np.zeros((100, 90), np.uint8)
            mask[38:62, 33:57] = label
            hu[mask > 0] += 180
            hu[0, 0] = 10 * number + (label == 21)  # its own number
            stem = f"{number}_{level}"
            write_slice(folder / f"{stem}.nii", folder / f"{stem}_label.nii", hu, mask, np.diag([1.0, 1.0, 2.0, 1.0]))
            record = {"image": f"{stem}.nii", "label": f"{stem}_label.nii", "subject_id": str(number), "level": level}
            splits[split].append(record)
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "slices", "description": "Squares.", "virtual": True, **splits}))
    return path


@pytest.mark.parametrize(("overlays", "batches"), [(["pan2024"], [8, 8, 6]), ([], [8, 8, 6])])
def test_an_epoch_of_a_manifest_has_each_slice_once(
    overlays: Sequence[str], batches: Sequence[int], slices: Path
) -> None:
    parser = _parser(["train", *overlays], data_source=str(slices), **SMALL | {"batch_size": 8, "pixel_mm": 1.0})
    loader = parser.get_parsed_content("train#dataloader")
    seen: list[str] = []
    sizes: list[int] = []
    for batch in loader:
        assert batch["image"].shape == batch["label"].shape == (len(batch["image"]), 1, 64, 64)
        assert set(batch["label"].unique().tolist()) == {0.0, 1.0}
        sizes.append(len(batch["image"]))
        seen += batch["subject_id"]
    assert sizes == list(batches)
    assert sorted(seen) == sorted([str(n) for n in range(11)] * 2)
    assert parser.get_parsed_content("epoch_length") == len(batches)


def test_slices_of_a_manifest_train_and_are_evaluated(slices: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "batch_size": 8, "pixel_mm": 1.0, "epochs": 1, "data_source": str(slices)}
    run_bundle(BUNDLE, ["train"], {**settings, "output_dir": str(tmp_path)})
    checkpoint = {"checkpoint": str(tmp_path / "checkpoints" / "model.pt"), "output_dir": str(tmp_path / "eval")}
    run_bundle(BUNDLE, ["evaluate"], {**settings, **checkpoint})
    with (tmp_path / "eval" / "val_mean_dice_raw.csv").open() as file:
        assert len(list(csv.reader(file))) == 5  # two slices of each of two subjects


def _volumes(folder: Path, **facts: Any) -> Path:
    labels = np.zeros((64, 64, 12), np.uint8)
    labels[20:44, 20:44, 2:10] = 20
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(np.where(labels > 0, 200, 20).astype(np.int16), affine), folder / "ct.nii.gz")
    nib.save(nib.Nifti1Image(labels, affine), folder / "label.nii.gz")
    splits = {
        split: [{"image": "ct.nii.gz", "label": "label.nii.gz", "subject_id": split, **facts}] for split in ("test",)
    }
    path = folder / "volumes.json"
    path.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, **splits}))
    return path


@pytest.mark.parametrize("boundary", ["periosteal", "endosteal"])
@pytest.mark.parametrize("stored", ["periosteal", "endosteal"])
def test_masks_of_a_manifest_end_at_the_boundary(boundary: str, stored: str, tmp_path: Path) -> None:
    path = _volumes(tmp_path, boundary=stored)
    own = {"data_source": str(path), "boundary": boundary, "pixel_mm": 1.0}
    parser = _parser(["evaluate"], **SMALL | own)
    if (boundary, stored) == ("periosteal", "endosteal"):
        with pytest.raises(RuntimeError) as caught:
            parser.get_parsed_content("validate#dataset")
        assert isinstance(caught.value.__cause__, ConfigError)
        return
    label = parser.get_parsed_content("validate#dataset")[0]["label"]
    expected = np.zeros((64, 64, 12), np.uint8)
    expected[20:44, 20:44, 2:10] = 1
    if boundary == "endosteal" and stored == "periosteal":
        expected = inside_cortex(expected, (1.0, 1.0)).astype(np.uint8)
        assert 0 < expected.sum() < 24 * 24 * 8
    assert torch.equal(label[0], torch.from_numpy(expected).float())


def test_inference_with_weights_of_pan_s_recipe(tmp_path: Path) -> None:
    """Networks that differ in the weighted features only have tensors of equal shapes."""
    widths = SMALL["network_def#widths"]
    network = ChannelAttentionUNet(widths=widths, weighted="upsampled")
    torch.save({"model": network.state_dict()}, tmp_path / "pan.pt")
    hu = np.full((40, 44, 3), -1000, np.int16)
    hu[5:35, 5:39] = np.random.default_rng(0).normal(40, 20, (30, 34, 3))
    nib.save(nib.Nifti1Image(hu, np.diag([1.5, 1.5, 2.0, 1.0])), tmp_path / "ct.nii.gz")
    settings = {
        "checkpoint": str(tmp_path / "pan.pt"),
        "image": str(tmp_path / "ct.nii.gz"),
        "output_dir": str(tmp_path / "out"),
        "network_def#widths": widths,
        "amp": False,
        "device": "cpu",
    }
    run_bundle(BUNDLE, ["inference", "pan2024_inference"], settings)
    assert nib.Nifti1Image.from_filename(tmp_path / "out" / "ct_body.nii.gz").shape == (40, 44, 3)
    with pytest.raises(ConfigError, match=r"weights of this network, got 'pan\.pt', which differs in 1 of"):
        run_bundle(BUNDLE, ["inference"], settings)
