import hashlib
import json

import mlflow
import pytest
import torch
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from torch import nn

from osteo_monai import bundle as bundles
from osteo_monai import tracking
from osteo_monai.handlers import RunTracker


@pytest.fixture
def bundle(tmp_path):
    configs = tmp_path / "some_bundle" / "configs"
    configs.mkdir(parents=True)
    (configs / "common.json").write_text(json.dumps({"seed": 1, "device": "cpu"}))
    (configs / "train.json").write_text(json.dumps({"epochs": 3, "+imports": []}))
    return tmp_path / "some_bundle"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tracking.sqlite_uri(tmp_path / "new folder" / "mlflow.db")


def _trainer(store, loss=None, **arguments):
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


def _only_run(store):
    client = mlflow.MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    return client, run


def test_a_run_records_what_was_run(store, tmp_path):
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
        "version_torch": torch.__version__,
        "max_epochs": "2",
    }
    assert {key: run.data.params.get(key) for key in expected} == expected
    assert {"git_commit", "cuda", "device_name", "python", "version_monai"} <= set(run.data.params)
    assert run.data.tags["bundle"] == "some_bundle"
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 6
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["config.json"]


def test_a_crash_marks_the_run_failed_and_is_still_raised(store):
    def broken(prediction, label):
        raise ArithmeticError("at some/path/of a patient")

    with pytest.raises(ArithmeticError):
        _trainer(store, loss=broken).run()
    _, run = _only_run(store)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "ArithmeticError"


def test_names_of_runs_are_unique():
    names = {tracking.unique_run_name("train") for _ in range(20)}
    assert len(names) == 20


def test_unknown_settings_are_refused_with_a_guess(bundle):
    bundles.refuse_unknown_settings({"seed": 1, "epochs": 2, "imports": [], "_meta_": {}}, bundle)
    with pytest.raises(ValueError, match="unknown setting 'epochz'.*did you mean 'epochs'?"):
        bundles.refuse_unknown_settings({"seed": 1, "epochz": 2}, bundle)


def _parse(bundle, config):
    parser = ConfigParser(
        {"imports": ["$import osteo_monai.bundle as bundle"], "go": "$bundle.prepare_run(@root, @out)", **config}
    )
    parser["root"], parser["out"] = str(bundle), str(bundle / "eval")
    (bundle / "configs" / "test.json").write_text(json.dumps({"go": 0, "root": 0, "out": 0}))
    return parser


def test_prepare_run_writes_the_merged_config(bundle):
    _parse(bundle, {"seed": 5, "epochs": 9}).get_parsed_content("go")
    written = json.loads((bundle / "eval" / "config.json").read_text())
    assert (written["seed"], written["epochs"]) == (5, 9)


def test_prepare_run_ends_with_one_sentence_on_a_misspelt_setting(bundle):
    with pytest.raises(SystemExit, match="^error: unknown setting 'epochz': no config of this bundle has it; did"):
        _parse(bundle, {"epochz": 9}).get_parsed_content("go")


def test_prepare_run_belongs_in_a_config():
    with pytest.raises(RuntimeError, match="bundle's config only"):
        bundles.prepare_run(".", ".")
