"""Commands that log to MLflow where requested."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import mlflow
import pytest

from osteo_monai.cli import run
from osteo_monai.tracking import prepare_store

NAME = "Zyxwvut"
"""A patient's name, planted in paths."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store; MLflow takes seconds to make its tables."""
    file = tmp_path_factory.mktemp("tables") / "mlflow.db"
    prepare_store(f"sqlite:///{file}")
    return file


@pytest.fixture
def store(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "store").mkdir()
    shutil.copyfile(tables, tmp_path / "store" / "mlflow.db")
    return f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}"


def only_run(store: str, experiment: str) -> Any:
    client = mlflow.MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (record,) = client.search_runs([found.experiment_id])
    return client, record


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command for two damaged files, which need no network; a name is in their paths."""
    monkeypatch.setattr("osteo_monai.screening.models.load_models", lambda device, trust: None)
    (tmp_path / NAME).mkdir()
    for number in range(2):
        (tmp_path / NAME / f"{NAME}_{number}.nii").write_bytes(b"damaged")
    return ["screen", str(tmp_path / NAME), "-o", str(tmp_path / "out")]


def test_a_screening_batch(batch: list[str], store: str, tmp_path: Path) -> None:
    assert run([*batch, "--levels", "L1", "--tracking-uri", store]) == 2
    _, record = only_run(store, "screening")
    assert record.info.status == "FINISHED"
    metrics = record.data.metrics
    assert (metrics["studies"], metrics["verdict_unusable"]) == (2, 2)
    assert metrics["seconds_a_study"] >= 0
    assert {key: record.data.params[key] for key in ("levels", "calibration", "thresholds_mg_cm3")} == {
        "levels": "L1",
        "calibration": "PhysicsCalibration",
        "thresholds_mg_cm3": "80, 120",
    }
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert [path.name for path in files if NAME.lower().encode() in path.read_bytes().lower()] == []


def test_the_variable_requests_tracking(batch: list[str], store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert run(batch) == 2
    _, record = only_run(store, "screening")
    assert record.data.tags["mlflow.source.name"] == "osteo-monai screen"


def test_without_a_request_nothing_is_logged(batch: list[str], store: str, tmp_path: Path) -> None:
    assert run(batch) == 2
    assert mlflow.MlflowClient(store).get_experiment_by_name("screening") is None
    assert list((tmp_path / "out").rglob("*.db")) == []


def test_a_store_that_cannot_be_reached_is_reported_before_the_work(
    batch: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert run([*batch, "--tracking-uri", f"http://127.0.0.1:{port}"]) == 2
    assert f"The tracking store must be reachable, got 'http://127.0.0.1:{port}'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.csv").exists()


def people(path: Path, splits: dict[str, int]) -> Path:
    """Write a manifest of records with facts of the persons, and return it; every third person has osteoporosis."""
    content: dict[str, Any] = {"name": "a cohort", "description": "people", "virtual": True}
    for split, count in splits.items():
        content[split] = [
            {
                "image": f"{split}{n}.png",
                "view": "chest_frontal",
                "subject_id": f"{split}{n}",
                "age": 50 + n % 40,
                "sex": "FM"[n % 2],
                "height_cm": 160 + n % 20,
                "weight_kg": 60 + n % 30,
                "t_score": -3.0 if n % 3 == 0 else -1.0,
            }
            for n in range(count)
        ]
    path.write_text(json.dumps(content))
    for split, count in splits.items():
        for n in range(count):
            (path.parent / f"{split}{n}.png").write_bytes(f"{split}{n}".encode())
    return path


def scores(path: Path, count: int) -> Path:
    lines = ["subject_id,model,cohort,fold,osteoporosis,probability_osteoporosis,virtual"]
    for split, cohort, fold in (("training", "validation", "0"), ("test", "test", "")):
        for n in range(count):
            truth = int(n % 3 == 0)
            lines.append(f"{split}{n},net,{cohort},{fold and n % 2},{truth},{0.3 + 0.3 * truth + 0.01 * (n % 7):.2f},1")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_clinical_and_risk_models(store: str, tmp_path: Path) -> None:
    manifest = people(tmp_path / "manifest.json", {"training": 60, "test": 60})
    table = scores(tmp_path / "scores.csv", 60)
    output = tmp_path / "models"
    words = ["risk", "train", str(manifest), "--scores", str(table), "-o", str(output), "--tracking-uri", store]
    assert run(words) == 0
    client, record = only_run(store, "risk")
    assert record.data.metrics["clinical/people"] == 60
    assert record.data.metrics["combined/log_loss"] > 0
    assert record.data.metrics["clinical/max_depth"] in (1, 2, 3)
    artifacts = {artifact.path for artifact in client.list_artifacts(record.info.run_id)}
    assert artifacts >= {"clinical.ubj", "clinical.json", "combined.ubj", "combined.json"}
    (used,) = record.inputs.dataset_inputs
    assert used.dataset.name == "a cohort, training"
    assert record.data.params["manifest_sha256"].startswith(used.dataset.digest)
