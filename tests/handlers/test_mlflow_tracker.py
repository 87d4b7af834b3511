"""Runs in MLflow."""

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from osteo_monai import tracking
from osteo_monai.handlers import RunTracker


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tracking.sqlite_uri(tmp_path / "new folder" / "mlflow.db")


def _trainer(store: Any, loss: Any = None, **arguments: Any) -> Any:
    network = nn.Linear(1, 1)
    tracker = RunTracker(store, "tests", "the run", "some_bundle", "1.2.3", **arguments)
    return SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=[{"image": torch.ones(2, 1), "label": torch.zeros(2, 1)}] * 3,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.01),
        loss_function=loss or nn.MSELoss(),
        train_handlers=[tracker],
        decollate=False,
    )


def _only_run(store: Any) -> Any:
    client = mlflow.MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == "tests"])
    return client, run


def test_a_run_records_what_was_run(store: Any, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    artifact = tmp_path / "config.json"
    artifact.write_text("{}")
    _trainer(
        store,
        parameters={"seed": 7, "learning_rate": 0.01},
        manifest=str(manifest),
        artifacts=[str(artifact), str(tmp_path / "not written")],
    ).run()
    client, run = _only_run(store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "the run"
    expected = {
        "bundle": "some_bundle",
        "bundle_version": "1.2.3",
        "seed": "7",
        "learning_rate": "0.01",
        "data_source": str(manifest),
        "manifest_sha256": hashlib.sha256(b"{}").hexdigest(),
        "version_torch": importlib.metadata.version("torch"),
        "max_epochs": "2",
    }
    assert {key: run.data.params.get(key) for key in expected} == expected
    assert {"git_commit", "cuda", "device_name", "python", "version_monai"} <= set(run.data.params)
    assert run.data.tags["bundle"] == "some_bundle"
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 6
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["config.json"]


def test_a_crash_marks_the_run_failed_and_is_still_raised(store: Any) -> None:
    def broken(prediction: Any, label: Any) -> None:
        raise ArithmeticError("at some/path/of a patient")

    with pytest.raises(ArithmeticError):
        _trainer(store, loss=broken).run()
    _, run = _only_run(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "ArithmeticError"
