"""Checks of a tracking store before the work, and two runs that begin in one new store at once."""

import multiprocessing
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from osteo_monai.errors import ConfigError
from osteo_monai.tracking import log_finished_run, prepare_store, sqlite_uri


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def refused(uri: str) -> str:
    begin = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        prepare_store(uri)
    assert time.monotonic() - begin < 10
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    message = refused(f"http://user:secret@127.0.0.1:{port}")
    assert f"must be reachable, got 'http://127.0.0.1:{port}'" in message
    assert "secret" not in message


def test_a_server_that_does_not_answer(silent_server: int) -> None:
    assert "timed out" in refused(f"http://127.0.0.1:{silent_server}")


def test_a_damaged_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    assert "not a database" in refused(sqlite_uri(tmp_path / "mlflow.db"))


def test_a_cut_store(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    with sqlite3.connect(store) as database:
        database.execute("CREATE TABLE a (x)")
        database.executemany("INSERT INTO a VALUES (?)", [("y" * 500,)] * 200)
    database.close()
    store.write_bytes(store.read_bytes()[: store.stat().st_size // 2])
    assert "must be an SQLite file that can be written" in refused(sqlite_uri(store))


def test_a_locked_store(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    database.execute("CREATE TABLE a (x)")
    database.execute("BEGIN EXCLUSIVE")
    assert "database is locked" in refused(sqlite_uri(tmp_path / "mlflow.db"))
    database.close()


def test_a_folder_in_place_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    assert "not a regular file" in refused(sqlite_uri(tmp_path / "mlflow.db"))


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its artifacts ended with "relative path can't be expressed as a file URI"."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "a.csv").write_text("a")
    run_id = log_finished_run("sqlite:///runs/mlflow.db", "tests", "run", {}, {"m": 1.0}, ["a.csv"])
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    assert [artifact.path for artifact in client.list_artifacts(run_id)] == ["a.csv"]
    assert list((tmp_path / "runs" / "mlartifacts").rglob("a.csv"))


def log_one(uri: str, name: str, barrier: Any) -> None:
    barrier.wait(60)
    log_finished_run(uri, "tests", name, {}, {"m": 1.0})


def test_two_runs_that_begin_in_one_new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the two ended with "duplicate column name"."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = sqlite_uri(tmp_path / "mlflow.db")
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    runs = [spawn.Process(target=log_one, args=(uri, name, barrier)) for name in ("a", "b")]
    for run in runs:
        run.start()
    for run in runs:
        run.join(180)
    assert [run.exitcode for run in runs] == [0, 0]
    client = mlflow.MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "tests"]
    logged = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in logged) == ["a", "b"]
    assert {run.info.status for run in logged} == {"FINISHED"}
