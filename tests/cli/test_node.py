"""``osteo-monai node`` as a user calls it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from osteo_monai import cli
from osteo_monai.node import Queue
from osteo_monai.node.config import Retry
from osteo_monai.node.queue import Image


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text("folder: node\nreceiver: {port: 0}\nstatus: {port: 0}\n")
    return path


def test_example_is_written_once_and_has_no_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "node.yaml"
    assert cli.run(["node", "example", str(path)]) == 0
    assert cli.run(["node", "check", str(path)]) == 0
    assert "OSTEO at 127.0.0.1:11112, TLS: no" in capsys.readouterr().out
    assert cli.run(["node", "example", str(path)]) == 2
    assert "FILE must not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("screening: {options: {levels: T3}}", "screening.options.levels: must be levels from L1 to L5"),
        ("screening: {options: {calibration: magic}}", "screening.options.calibration: calibration must be physics"),
        ("screening: {device: tpu}", "screening.device must be auto, cpu, cuda or cuda:N"),
        ("receiver: {tls: {certificate: a, key: b, authorities: c}}", "readable PEM files"),
        ("follow: {url: 'https://x', token_variable: NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE must be set"),
    ],
)
def test_check_reports_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(f"folder: node\n{text}\n")
    assert cli.run(["node", "check", str(path)]) == 2
    assert sentence in capsys.readouterr().err


def test_list_and_retry(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = settings.parent / "node"
    folder.mkdir()
    queue = Queue(folder / "queue.sqlite3")
    queue.add_image(Image("1", "ab" * 16, "c", 100), 0)
    queue.complete(100, 10, 100)
    job = queue.take_job(100)
    assert job is not None
    queue.fail_job(job, "it took longer than 900 s", Retry(attempts=1), 100)
    assert cli.run(["node", "list", str(settings)]) == 0
    assert "job 1: study abababababab, screening: it took longer than 900 s" in capsys.readouterr().out
    assert cli.run(["node", "retry", str(settings), "job 7"]) == 2
    assert cli.run(["node", "retry", str(settings), "job 1"]) == 0
    assert queue.take_job(time.time()) is not None
    assert cli.run(["node", "retry", str(settings)]) == 0
    assert "There is no dead letter." in capsys.readouterr().out


def test_list_of_a_node_that_never_ran(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["node", "list", str(settings)]) == 2
    assert "folder must be that of a node that has run" in capsys.readouterr().err
    assert not (settings.parent / "node").exists()


@pytest.mark.slow
def test_run_starts_loads_the_models_and_stops_by_sigterm(settings: Path) -> None:
    words = [sys.executable, "-m", "osteo_monai", "node", "run", str(settings)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as node:
        assert node.stderr is not None
        lines = []
        for line in node.stderr:
            lines.append(line)
            if "node started" in line:
                node.terminate()
        assert node.wait(30) == 0, lines
    assert '"event": "node stopped"' in lines[-1]
