"""MLflow client functions."""

from pathlib import Path

import mlflow
import pytest

from osteo_monai.tracking import log_finished_run, sqlite_uri, unique_run_name


def test_names_of_runs_are_unique() -> None:
    names = {unique_run_name("train") for _ in range(20)}
    assert len(names) == 20


def _runs(store: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(store)
    return list(client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == "tests"]))


def test_a_finished_run_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = sqlite_uri(tmp_path / "new" / "mlflow.db")
    (tmp_path / "table.csv").write_text("a\n1\n")
    for number in range(2):
        log_finished_run(store, "tests", f"run {number}", {"seed": 7}, {"auc": 0.5}, [tmp_path / "table.csv"])
    runs = _runs(store)
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert (runs[0].data.params["seed"], runs[0].data.metrics["auc"]) == ("7", 0.5)
    assert {"git_commit", "version_torch"} <= set(runs[0].data.params)
    artifacts = mlflow.MlflowClient(store).list_artifacts(runs[0].info.run_id)
    assert [artifact.path for artifact in artifacts] == ["table.csv"]
    assert (tmp_path / "new" / "mlartifacts").is_dir()


def test_a_run_that_cannot_be_logged_is_marked_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = sqlite_uri(tmp_path / "mlflow.db")
    with pytest.raises(OSError, match="missing"):
        log_finished_run(store, "tests", "run", {}, {}, [tmp_path / "missing.csv"])
    assert [run.info.status for run in _runs(store)] == ["FAILED"]
