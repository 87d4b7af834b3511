"""Two processes of batch b update the weights of each bundle as one process of batch 2 b does.

Optimizer: SGD, since a first step of AdamW has the size of the learning rate for any gradient, however small, so that
rounding becomes a difference of weights. Without random augmentation and dropout, whose draws belong to a process.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from monai.bundle import run
from torch import Tensor

from .conftest import BUNDLES, CHEST, CLASSIFICATION, COLUMN, DENSITY, LOCALIZATION, LUMBAR, NAMES, SEGMENTATION
from .processes import ROOT, train_in_processes

PER_PROCESS = 3
"""Batch of each of two processes."""
TOLERANCE = 2e-4
"""Largest difference of a weight relative to the largest change of any weight: sums in float32 in another order."""

SETTINGS: dict[str, dict[str, Any]] = {
    SEGMENTATION: {
        "image_size": 64,
        "network_def#widths": [2] * 7,
        "epoch_length": 2,
        "validation_items": 2,
        "augmentation": [],
    },
    LOCALIZATION: {
        "volume_size": [32, 32, 32],
        "network_def#channels": [4] * 5,
        "epoch_length": 2,
        "views": 1,
        "validation_items": 2,
        "augmentation": [],
    },
    COLUMN: {
        "network_def#channels": [8, 8, 8],
        "network_def#features": 8,
        "network_def#dilations": [1],
        "network_def#dropout": 0.0,
        "people": 12,
        "validation_items": 2,
        "train#preprocessing#transforms#1#seed": 3,
    },
    DENSITY: {
        "size": 32,
        "pixel_mm": 2.0,
        "network_def#init_features": 8,
        "network_def#growth_rate": 8,
        "network_def#block_config": [1, 1],
        "train#preprocessing#transforms": "$@cached_transforms + [@network_input]",
    },
    CLASSIFICATION: {
        "size": 32,
        "pixel_mm": 2.0,
        "network_def#depth": "resnet10",
        "network_def#widths": [8, 8, 16, 16],
        "network_def#dropout": 0.0,
        "train#trainer#prepare_batch": "$lambda batch, device, non_blocking, **rest: "
        "(lambda done: (done['image'], batch['label']))"
        "(@finish({'image': batch['image'].float(), 'mask': batch['mask'].float()}))",
        "cache_workers": 1,
    },
    CHEST: {"network_def#width": 64, "network_def#heads": 2, "network_def#layers": 1, "network_def#dropout": 0.0},
    LUMBAR: {"patch_size": [64, 32], "network_def#width": 0.125, "network_def#dropout": 0.0},
}
"""Small networks, no augmentation."""
for _name in (CHEST, LUMBAR):
    SETTINGS[_name] |= {
        "train#trainer#prepare_batch": "$lambda batch, device, non_blocking, **rest: "
        "(batch['image'].float(), batch['target'].float())",
        "check_images": False,
        "cache_workers": 1,
    }


def plan(name: str, manifests: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """Return the settings of both runs."""
    own: dict[str, Any] = {**SETTINGS[name], "epochs": 2, "amp": False, "track": True, "channels_last": False}
    own |= {"learning_rate": 0.05, "val_interval": 2, "average_decay": 0.5}
    if name in manifests:
        own["data_source"] = str(manifests[name])
    if name == COLUMN:
        own["cache_dir"] = str(folder / "columns")
    if name in (SEGMENTATION, LOCALIZATION, COLUMN, DENSITY):
        own["num_workers"] = 0
    own["optimizer"] = {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": "@learning_rate"}
    # the same weights at the start in both runs
    own["+initialize"] = ["$torch.manual_seed(5)", "$@network_def"]
    # one of the classification's samplers draws with weights within the share of a process: not in the same order
    own["train#sampler"] = {
        "_target_": "DistributedSampler",
        "dataset": "@train#dataset",
        "shuffle": True,
        "seed": "@seed",
    }
    return own


def settings_of_one_process(halved: bool) -> dict[str, Any]:
    """Return what a run in one process has more: the items of both processes in one batch."""
    more: dict[str, Any] = {"train#sampler#num_replicas": 1, "train#sampler#rank": 0}
    more |= {"train#dataloader#sampler": "@train#sampler", "train#dataloader#shuffle": False}
    if halved:
        place = "tests.bundles.processes"
        more["train#trainer#network"] = {"_target_": f"{place}.Halves", "network": "@network"}
        more["train#trainer#loss_function"] = {"_target_": f"{place}.MeanOfHalves", "loss": "@loss"}
    return more


def train_in_one_process(name: str, overlay: Path, output: Path) -> dict[str, Any]:
    """Train in this process; return the checkpoint."""
    configs = BUNDLES / name / "configs"
    run(
        config_file=[str(configs / "train.json"), str(overlay)],
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        bundle_root=str(configs.parent),
        output_dir=str(output),
        batch_size=2 * PER_PROCESS,
    )
    return checkpoint(output)


def checkpoint(output: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(output / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=False)
    return state


def largest(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return the largest difference of two states; running statistics and counters are no weights."""
    names = [key for key in one if "running_" not in key and one[key].is_floating_point()]
    return max(float((one[key] - other[key]).abs().max()) for key in names)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one_of_the_same_global_batch(
    name: str, cohorts: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    settings = plan(name, cohorts, tmp_path)
    shared, halves = tmp_path / "shared.json", tmp_path / "halves.json"
    shared.write_text(json.dumps(settings))
    halves.write_text(json.dumps(settings | settings_of_one_process(halved=True)))

    one = train_in_one_process(name, halves, tmp_path / "one")
    own = {"output_dir": tmp_path / "two", "batch_size": PER_PROCESS}
    text = train_in_processes(BUNDLES / name, own, [shared])
    two = checkpoint(tmp_path / "two")

    # rank 0 only writes and tracks
    assert text.count("osteo_monai.handlers.progress INFO: epoch 2/2") == 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/two/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == name])
    assert len(client.get_metric_history(record.info.run_id, "train_loss")) == 4
    assert one["trainer"]["iteration"] == two["trainer"]["iteration"] == 4
    assert one["lr_scheduler"]["last_epoch"] == two["lr_scheduler"]["last_epoch"] == 4
    assert one["optimizer"]["param_groups"][0]["lr"] == two["optimizer"]["param_groups"][0]["lr"]
    start = initial(name, halves)
    moved = largest(start, one["network"])
    assert moved > 1e-3  # the steps have changed something
    difference = {part: largest(one[part], two[part]) / moved for part in ("network", "average")}
    print(f"{name}: weights moved by up to {moved:.2g}, differ by {difference}")
    assert max(difference.values()) < TOLERANCE


def initial(name: str, overlay: Path) -> dict[str, Tensor]:
    """Return the weights before the first step."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    configs = BUNDLES / name / "configs"
    parser.read_config([str(configs / "train.json"), str(overlay)])
    torch.manual_seed(5)
    state: dict[str, Tensor] = parser.get_parsed_content("network_def").state_dict()
    return state
