"""Alternatives of the CT classifier: values of the overlays; a small training, evaluation and inference of each."""

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.networks.nets import DenseNet, ResNet
from monai.transforms import LoadImage

from osteo_monai.bundle import export_weights, find_bundle, load_bundle, run_bundle, write_merged_configs
from osteo_monai.errors import ConfigError
from osteo_monai.networks import CovariateClassifier

CLASSIFICATION = "osteoporosis_classification_ct"
CONFIGS = find_bundle(CLASSIFICATION) / "configs"
CLASSES = ("normal", "osteopenia", "osteoporosis")
NAMES = ("densenet121", "slices_5", "volume_3d", "sagittal", "coronal", "with_covariates")
RESIDUAL: dict[str, Any] = {"network_def#depth": "resnet10", "network_def#widths": [8, 8, 16, 16]}
DENSE: dict[str, Any] = {"network_def#init_features": 8, "network_def#growth_rate": 8}
SMALL: dict[str, Any] = {"size": 32, "pixel_mm": 2.0, "amp": False}


def settings_of(*names: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in names])
    return parser


def small(name: str) -> dict[str, Any]:
    return SMALL | (DENSE if name == "densenet121" else RESIDUAL)


@pytest.fixture(scope="module")
def manifest(cohorts: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The boxes of ``cohorts`` with different ages, sexes and body sizes; one weight in training is unknown."""
    content = json.loads(cohorts[CLASSIFICATION].read_text())
    folder = cohorts[CLASSIFICATION].parent
    for split in ("training", "validation", "test"):
        for number, record in enumerate(content[split]):
            record |= {"age": 40 + number, "sex": "FM"[number % 2], "height_cm": 160.0, "weight_kg": 50.0 + 2 * number}
    del content["training"][3]["weight_kg"]
    target = folder / f"{tmp_path_factory.mktemp('with_facts').name}.json"
    target.write_text(json.dumps(content))
    return target


@pytest.fixture(scope="module", params=NAMES)
def trained(request: pytest.FixtureRequest, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    own = {"epochs": 2, "batch_size": 4, "cache_workers": 1, "track": False}
    run_bundle(
        find_bundle(CLASSIFICATION),
        ["train", request.param],
        {"output_dir": str(folder), "data_source": str(manifest)} | small(request.param) | own,
    )
    return request.param, folder


def predictions(file: Path) -> dict[str, list[float]]:
    with file.open() as rows:
        return {
            row["subject_id"]: [float(row[f"probability_{status}"]) for status in CLASSES]
            for row in csv.DictReader(rows)
        }


def test_values_of_the_overlays() -> None:
    base = settings_of("train")
    expected = [("plane", "axial"), ("offsets_mm", [0.0]), ("covariates", [])]
    assert [(key, base.get_parsed_content(key)) for key, _ in expected] == expected
    for name in NAMES:  # nothing else is different: same data, loss, steps and augmentation
        changed = set(json.loads((CONFIGS / f"{name}.json").read_text())) - {"_desc_", "model_name"}
        assert changed <= {"network_def", "offsets_mm", "plane", "size", "pixel_mm", "covariates"}, name
    dense = settings_of("inference", "densenet121").get_parsed_content("network_def")
    assert isinstance(dense, DenseNet)
    # torchvision's DenseNet-121 has 7,978,856 weights for 3 channels and 1000 classes
    assert sum(p.numel() for p in dense.parameters()) == 7_978_856 - 64 * 49 - 997 * 1025
    five = settings_of("inference", "slices_5")
    assert (
        five["offsets_mm"]
        == [-6, -3, 0, 3, 6]
        == settings_of("../../bone_density_regression_ct/configs/common")["offsets_mm"]
    )
    assert five.get_parsed_content("network_def").conv1.in_channels == 10
    volume = settings_of("inference", "volume_3d")
    assert volume.get_parsed_content("offsets_mm") == [-16.0 + 2 * step for step in range(17)]
    network = volume.get_parsed_content("network_def")[1]
    assert isinstance(network, ResNet)
    assert isinstance(network.conv1, torch.nn.Conv3d)
    assert network.conv1.in_channels == 2
    for plane in ("sagittal", "coronal"):
        parser = settings_of("train", plane)
        assert parser["plane"] == parser.get_parsed_content("slices").plane == plane
    # front and back are not alike, left and right are
    flips = [
        settings_of("train", *o).get_parsed_content("augmentation").flip for o in ((), ("sagittal",), ("coronal",))
    ]
    assert flips == [0.5, 0.0, 0.5]
    fused = settings_of("inference", "with_covariates")
    assert fused["covariates"] == ["age", "sex", "bmi"]
    assert isinstance(fused.get_parsed_content("network_def"), CovariateClassifier)
    levels = settings_of("inference", "slices_5", "l1_only").get_parsed_content("network_def")
    assert levels.conv1.in_channels == 5


def test_evaluation_and_inference_of_each_agree(trained: Any, manifest: Path, tmp_path: Path) -> None:
    name, folder = trained
    bundle = find_bundle(CLASSIFICATION)
    weights = {"checkpoint": str(folder / "checkpoints" / "model.pt")}
    where = {"output_dir": str(tmp_path), "data_source": str(manifest), "cache_workers": 1, "track": False}
    run_bundle(bundle, ["evaluate", name], small(name) | weights | where)
    evaluated = predictions(tmp_path / "predictions.csv")
    assert set(evaluated) == {"test_0", "test_1", "test_2"}
    assert len({tuple(row) for row in evaluated.values()}) == 3  # the network sees the scan
    scan = {"image": f"{manifest.parent}/test_1.nii.gz", "segmentation": f"{manifest.parent}/test_1_labels.nii.gz"}
    facts = {"age": 41, "sex": "M", "height_cm": 160.0, "weight_kg": 52.0} if name == "with_covariates" else {}
    one = {"output_dir": str(tmp_path / "one")}
    run_bundle(bundle, ["inference", name], small(name) | weights | scan | facts | one)
    np.testing.assert_allclose(
        predictions(tmp_path / "one" / "predictions.csv")["test_1"], evaluated["test_1"], atol=1e-5
    )


def test_a_bundle_with_another_network_screens_as_a_trusted_one(trained: Any, manifest: Path, tmp_path: Path) -> None:
    """As its card says: the settings of an overlay in common.json, `bundle merge`, and weights by `bundle export`."""
    name, folder = trained
    copy = tmp_path / CLASSIFICATION
    shutil.copytree(CONFIGS, copy / "configs")
    parser = settings_of("common", name)
    for key, value in small(name).items():
        parser[key] = value
    (copy / "configs" / "common.json").write_text(json.dumps(parser.config))
    write_merged_configs(copy)
    export_weights(folder / "checkpoints" / "model.pt", copy / "models" / "model.pt", half=False)
    with pytest.raises(ConfigError, match="trust"):
        load_bundle(copy)
    load = LoadImage(ensure_channel_first=True)
    scan = {"image": load(manifest.parent / "test_1.nii.gz"), "label": load(manifest.parent / "test_1_labels.nii.gz")}
    bundle = load_bundle(copy, trust=True)
    pred = bundle(scan)["pred"]
    assert pred.shape == (3,)
    assert float(pred.sum()) == pytest.approx(1.0, abs=1e-5)
    assert not torch.allclose(pred, bundle({**scan, "image": MetaTensor(scan["image"] - 100.0)})["pred"])


def test_covariates_are_standardised_by_the_training_split_only(manifest: Path, tmp_path: Path) -> None:
    own: dict[str, Any] = {
        "output_dir": str(tmp_path),
        "data_source": str(manifest),
        "cache_workers": 1,
        "track": False,
    }
    own |= small("with_covariates") | {"epochs": 1, "batch_size": 4, "levels": ["L1"]}
    run_bundle(find_bundle(CLASSIFICATION), ["train", "with_covariates"], own)
    state = torch.load(tmp_path / "checkpoints" / "model.pt", weights_only=True)
    index = [(50 + 2 * n) / 1.6**2 for n in range(12) if n != 3]  # the weight of one person is unknown
    known = (list(range(40, 52)), [1.0, 0.0] * 6, index)
    expected = torch.tensor([[float(np.mean(values)), float(np.std(values, ddof=1))] for values in known])
    torch.testing.assert_close(state["reference"], expected)


def test_covariates_that_nobody_has_stop_the_training(cohorts: Mapping[str, Path], tmp_path: Path) -> None:
    own = {"output_dir": str(tmp_path), "data_source": str(cohorts[CLASSIFICATION]), "cache_workers": 1, "track": False}
    with pytest.raises(ConfigError, match=r"sex must be known for two people .*, got 0; bmi must be known"):
        run_bundle(find_bundle(CLASSIFICATION), ["train", "with_covariates"], own | small("with_covariates"))
