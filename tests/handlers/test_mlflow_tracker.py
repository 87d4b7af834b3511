"""Runs in MLflow."""

import hashlib
import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointSaver, MeanDice, StatsHandler
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandRotated
from torch import nn

from osteo_monai import tracking
from osteo_monai.handlers import RunTracker

NAME = "Zyxwvut"
"""A patient's name, planted in paths."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store; MLflow takes seconds to make its tables."""
    file = tmp_path_factory.mktemp("tables") / "mlflow.db"
    tracking.prepare_store(f"sqlite:///{file}")
    return file


@pytest.fixture
def store(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = tracking.sqlite_uri(tmp_path / "new folder" / "mlflow.db")
    shutil.copyfile(tables, uri.removeprefix("sqlite:///"))
    return uri


def _tracker(store: Any, **arguments: Any) -> RunTracker:
    return RunTracker(store, "tests", arguments.pop("name", "the run"), "some_bundle", "1.2.3", **arguments)


def _trainer(store: Any, loss: Any = None, **arguments: Any) -> Any:
    network = nn.Linear(1, 1)
    return SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=[{"image": torch.ones(2, 1), "label": torch.zeros(2, 1)}] * 3,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.01),
        loss_function=loss or nn.MSELoss(),
        train_handlers=[_tracker(store, **arguments)],
        decollate=False,
    )


def _runs(store: Any) -> Any:
    client = mlflow.MlflowClient(tracking_uri=store)
    (experiment,) = (e for e in client.search_experiments() if e.name == "tests")
    return client, client.search_runs([experiment.experiment_id], order_by=["start_time"])


def _only_run(store: Any) -> Any:
    client, (run,) = _runs(store)
    return client, run


def test_a_run_records_what_was_run(store: Any, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"name": "a cohort"}')
    (tmp_path / "config.json").write_text("{}")
    _trainer(
        store,
        parameters={"seed": 7, "learning_rate": 0.01},
        manifest=str(manifest),
        config=str(tmp_path / "config.json"),
        artifacts=[str(tmp_path / "not written")],
    ).run()
    client, run = _only_run(store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "the run"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    expected = {
        "bundle": "some_bundle",
        "bundle_version": "1.2.3",
        "seed": "7",
        "learning_rate": "0.01",
        "data_source": "a cohort",
        "manifest_sha256": digest,
        "version_torch": importlib.metadata.version("torch"),
        "max_epochs": "2",
        "network": "Linear",
        "network_weights": "2",
        "loss": "MSELoss",
        "optimizer": "SGD",
        "optimizer.lr": "0.01",
        "optimizer.momentum": "0",
    }
    assert {key: run.data.params.get(key) for key in expected} == expected
    assert {"git_commit", "cuda", "device_name", "python", "version_monai"} <= set(run.data.params)
    assert run.data.tags["bundle"] == "some_bundle"
    assert run.data.tags["mlflow.source.name"] == "some_bundle train"
    assert run.data.tags["mlflow.user"]
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 6
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["config.json"]
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("a cohort, training", digest[:16])
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "training"}
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_crash_marks_the_run_failed_and_is_still_raised(store: Any, tmp_path: Path) -> None:
    """What was run is kept; files of an earlier run in the same folder are not."""
    (tmp_path / "config.json").write_text('{"epochs": 3}')
    (tmp_path / "old.csv").write_text("earlier")
    os.utime(tmp_path / "old.csv", (1e9, 1e9))

    def broken(prediction: Any, label: Any) -> None:
        (tmp_path / "new.csv").write_text("of this run")
        raise ArithmeticError("at some/path/of a patient")

    files = [str(tmp_path / "new.csv"), str(tmp_path / "old.csv")]
    with pytest.raises(ArithmeticError):
        _trainer(store, loss=broken, config=str(tmp_path / "config.json"), artifacts=files).run()
    client, run = _only_run(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "ArithmeticError"
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["config.json", "new.csv"]


class _Bad(nn.Module):
    def forward(self, x: Any) -> Any:
        raise ArithmeticError("at some/path/of a patient")


def test_a_failing_evaluation_is_marked_failed(store: Any) -> None:
    """It was KILLED: the handler of statistics raises the error before later handlers see it."""
    handlers: Any = [_tracker(store, iteration_log=False), StatsHandler(iteration_log=False)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": torch.ones(2, 1), "label": torch.zeros(2, 1)}],
        network=_Bad(),
        val_handlers=handlers,
    )
    with pytest.raises(ArithmeticError):
        evaluator.run()
    _, run = _only_run(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "ArithmeticError"
    assert "max_epochs" not in run.data.params


def _dice() -> Any:
    def masks(output: Any) -> Any:
        return [1.0 * (item["pred"] > 0) for item in output], [item["label"] for item in output]

    return {"val_mean_dice": MeanDice(output_transform=masks)}


def _config(folder: Path, features: list[int]) -> dict[str, Any]:
    network = {"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2, "in_channels": "@channels"}
    config = {"channels": 1, "network_def": {**network, "out_channels": 1, "features": features}}
    content = config | {"data_source": str(folder / "manifest.json"), "output": f"$'{folder}' + '/eval'"}
    (folder / "config.json").write_text(json.dumps(content))
    return content


def _segmentation(store: Any, folder: Path, features: list[int], name: str) -> SupervisedTrainer:
    """A training of one epoch of two steps with a validation, whose paths hold a name."""
    folder.mkdir(parents=True)
    _config(folder, features)
    (folder / "manifest.json").write_text('{"name": "squares"}')
    network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=features)
    items = [{"image": torch.rand(1, 32, 32), "label": (torch.rand(1, 32, 32) > 0.5).float()} for _ in range(4)]
    random = [RandFlipd(["image", "label"], prob=0.5), RandRotated(["image", "label"], range_x=0.26, prob=0.25)]
    steps = Compose([*random, EnsureTyped(["image", "label"], track_meta=False)])
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    common: dict[str, Any] = {"name": name, "manifest": str(folder / "manifest.json")}
    validator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=network,
        key_val_metric=_dice(),
        val_handlers=[
            CheckpointSaver(str(folder), {"model": network}, save_key_metric=True, key_metric_filename="model.pt"),
            _tracker(store, **common, ends_run=False, iteration_log=False),
        ],
    )
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(items, steps), batch_size=2),
        network=network,
        optimizer=optimizer,
        loss_function=DiceCELoss(sigmoid=True),
        decollate=False,
        train_handlers=[
            _tracker(
                store,
                **common,
                config=str(folder / "config.json"),
                weights=str(folder / "model.pt"),
                data_format={"num_channels": 1, "spatial_shape": ["16*n", "16*n"]},
                lr_scheduler=schedule,
                parameters={"initial_weights": str(folder / "manifest.json")},
            )
        ],
    )
    trainer.add_event_handler("EPOCH_COMPLETED", lambda engine: validator.run())
    return trainer


def test_hyper_parameters_tell_runs_apart_and_the_model_is_registered(store: Any, tmp_path: Path) -> None:
    """Two networks under equal settings had equal parameters."""
    torch.manual_seed(0)
    for name, features in (("wide", [4, 4, 8, 8, 8, 4]), ("narrow", [2, 2, 2, 2, 2, 2])):
        _segmentation(store, tmp_path / NAME / name, features, name).run()
    client, (wide, narrow) = _runs(store)
    different = {key for key in wide.data.params if wide.data.params[key] != narrow.data.params[key]}
    assert different == {"network.features", "network_channels", "network_weights"}
    expected = {
        "network.features": "4, 4, 8, 8, 8, 4",
        "network.in_channels": "1",
        "loss": "DiceCELoss",
        "loss.sigmoid": "True",
        "optimizer.momentum": "0.9",
        "lr_scheduler": "StepLR",
        "lr_scheduler.step_size": "5",
        "preprocessing": "RandFlipd, RandRotated, EnsureTyped",
    }
    assert {key: wide.data.params.get(key) for key in expected} == expected
    flip, rotation = wide.data.params["augmentation"].split("; ")
    assert flip == "RandFlipd(prob=0.5, spatial_axis=None)"
    assert rotation.startswith("RandRotated(range_x=[-0.26, 0.26], ")
    assert "prob=0.25" in rotation
    names = {used.dataset.name for used in wide.inputs.dataset_inputs}
    assert names == {"squares, training", "squares, validation"}
    versions = client.search_model_versions("name = 'some_bundle'")
    assert {version.run_id for version in versions} == {wide.info.run_id, narrow.info.run_id}
    (version,) = (version for version in versions if version.run_id == wide.info.run_id)
    (output,) = client.get_run(wide.info.run_id).outputs.model_outputs
    shown = client.get_logged_model(output.model_id).tags["mlflow.modelVersions"]
    assert json.loads(shown) == [{"name": "some_bundle", "version": version.version}]
    weights = tmp_path / NAME / "wide" / "model.pt"
    assert version.tags["bundle_version"] == "1.2.3"
    assert version.tags["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert wide.data.tags["weights_sha256"] == version.tags["weights_sha256"]
    # the model gives what the network gives, up to half precision, and has the weights once
    mlflow.set_tracking_uri(store)
    try:
        model: Any = mlflow.pyfunc.load_model(f"models:/some_bundle/{version.version}")
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/some_bundle/{version.version}"))
    finally:
        mlflow.set_tracking_uri("")
    network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=[4, 4, 8, 8, 8, 4]).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    image = np.random.default_rng(0).random((2, 1, 32, 48)).astype(np.float32)
    with torch.inference_mode():
        np.testing.assert_allclose(model.predict(image), network(torch.from_numpy(image)).numpy(), atol=0.02)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 1, -1, -1)
    assert model.metadata.saved_input_example_info["type"] == "ndarray"
    assert [path.name for path in folder.rglob("*") if path.suffix == ".pt"] == ["model.pt"]
    half = torch.load(folder / "artifacts" / "model.pt", weights_only=True)
    assert {value.dtype for value in half.values() if value.is_floating_point()} == {torch.float16}
    exported = hashlib.sha256((folder / "artifacts" / "model.pt").read_bytes()).hexdigest()
    assert version.tags["exported_sha256"] == exported
    _assert_no_name(Path(store.removeprefix("sqlite:///")).parent)
    _evaluate(store, tmp_path, weights, network)


def _assert_no_name(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path.name for path in files if NAME.lower().encode() in path.read_bytes().lower()] == []


def _evaluate(store: Any, tmp_path: Path, weights: Path, network: Any) -> None:
    """An evaluation has a link to the training of its weights, and metrics named ``test_``."""
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": torch.rand(1, 32, 32), "label": torch.ones(1, 32, 32)}])),
        network=network,
        key_val_metric=_dice(),
        val_handlers=[_tracker(store, name="evaluation", weights=str(weights), iteration_log=False)],
    )
    evaluator.run()
    client, (wide, _, evaluation) = _runs(store)
    assert evaluation.data.tags["training_run"] == wide.info.run_id
    assert wide.info.run_id in evaluation.data.tags["mlflow.note.content"]
    assert evaluation.data.params["weights_sha256"] == wide.data.tags["weights_sha256"]
    assert {name for name in evaluation.data.metrics if not name.startswith("system/")} == {"test_mean_dice"}
    (model,) = client.get_run(evaluation.info.run_id).inputs.model_inputs
    assert model.model_id == client.get_run(wide.info.run_id).outputs.model_outputs[0].model_id
    metrics = {metric.key: metric.value for metric in client.get_logged_model(model.model_id).metrics}
    assert metrics["test_mean_dice"] == evaluation.data.metrics["test_mean_dice"]


def test_a_config_of_another_network_is_not_that_of_the_run(store: Any, tmp_path: Path) -> None:
    """A process that does not write the config may find that of an earlier run."""
    trainer = _segmentation(store, tmp_path / "out", [2, 2, 2, 2, 2, 2], "run")
    _config(tmp_path / "out", [4, 2, 2, 2, 2, 2])
    trainer.run()
    client, run = _only_run(store)
    assert "network.features" not in run.data.params
    assert run.data.params["network_channels"].startswith("2")
    assert client.search_model_versions("name = 'some_bundle'") == []
    assert len(run.data.tags["weights_sha256"]) == 64


def test_load_of_the_machine_is_recorded(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")

    def slow(prediction: Any, label: Any) -> Any:
        import time

        time.sleep(0.2)
        return nn.functional.mse_loss(prediction, label)

    _trainer(store, loss=slow).run()
    _, run = _only_run(store)
    assert run.data.metrics["system/system_memory_usage_megabytes"] > 0
    assert {"system/cpu_utilization_percentage", "system/disk_usage_megabytes"} <= set(run.data.metrics)


def test_the_parent_of_a_run(store: Any) -> None:
    with tracking.tracked_run(store, "tests", "parent", "tests", {"folds": 2}, kind="cross_validation") as parent:
        for number in range(2):
            _trainer(store, name=f"fold {number}", parent_run=parent.run_id).run()
        parent.log_metrics(tracking.metrics_of_children(parent, "train"))
    client, (above, *folds) = _runs(store)
    assert {fold.data.tags["mlflow.parentRunId"] for fold in folds} == {above.info.run_id}
    losses = [client.get_run(fold.info.run_id).data.metrics["train_loss"] for fold in folds]
    assert above.data.metrics["train_loss_mean"] == pytest.approx(np.mean(losses))
    assert above.data.metrics["train_loss_sd"] == pytest.approx(np.std(losses, ddof=1))
