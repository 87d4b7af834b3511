"""The driver or a worker is killed at a random moment: no study is lost, none is done twice."""

import csv
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from osteo_monai.batch import LEDGER, read_ledger
from osteo_monai.screening import ScreeningResult

ROOT = Path(__file__).parents[2]
STUDIES = 24

PLACES = [
    "",
    pytest.param(
        "local",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
        ],
    ),
]


def start(output: Path, workers: int, place: str, seconds: float = 0.15, gpus: str = "0") -> "subprocess.Popen[bytes]":
    program = "from tests.batch.fake_screening import main; main()"
    words = [sys.executable, "-c", program, str(output), str(STUDIES), str(workers), str(seconds)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    null = subprocess.DEVNULL
    return subprocess.Popen([*words, place, gpus], env=environment, stdout=null, stderr=null, start_new_session=True)


def results(output: Path) -> dict[str, int]:
    """Return the time of each result; every one is whole."""
    times = {}
    for path in output.glob("*/result.json"):
        ScreeningResult.model_validate_json(path.read_bytes())
        times[path.parent.name] = path.stat().st_mtime_ns
    return times


def wait_for(output: Path, count: int, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while len(list(output.glob("*/result.json"))) < count and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)


def _works(process: psutil.Process) -> bool:
    """Return whether a process holds models: Ray's own processes end later."""
    try:
        return "osteo_monai.batch.child" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def check_end(output: Path) -> None:
    names = [f"s{number:03}" for number in range(STUDIES)]
    rows = [row["study"] for row in json.loads((output / "summary.json").read_text())]
    with (output / "summary.csv").open() as file:
        table = [row["study"] for row in csv.DictReader(file)]
    entries = read_ledger(output / LEDGER).entries
    assert rows == table == [entry.study for entry in entries] == names == sorted(results(output))
    assert [path.name for path in output.rglob(".*")] == []


@pytest.mark.parametrize("place", PLACES)
def test_driver_is_killed(tmp_path: Path, place: str) -> None:
    output = tmp_path / "out"
    draw = random.Random(1)
    kept: dict[str, int] = {}
    for number in range(1, 4):
        process = start(output, 2, place)
        wait_for(output, number * 6, process)
        time.sleep(draw.uniform(0, 0.3))
        family = psutil.Process(process.pid).children(recursive=True)
        assert any(_works(child) for child in family)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        working = [child for child in family if _works(child)]
        assert psutil.wait_procs(working, timeout=20)[1] == []
        assert Counter(entry.state for entry in read_ledger(output / LEDGER).entries)["running"] <= 2
        now = results(output)
        assert {name: now[name] for name in kept} == kept
        kept = now
    assert len(kept) < STUDIES
    assert start(output, 2, place).wait(120) == 0
    check_end(output)
    now = results(output)
    assert {name: now[name] for name in kept} == kept
    assert {entry.state for entry in read_ledger(output / LEDGER).entries} == {"measured"}


@pytest.mark.parametrize("place", PLACES)
def test_workers_are_killed(tmp_path: Path, place: str) -> None:
    output = tmp_path / "out"
    draw = random.Random(2)
    process = start(output, 2, place)
    killed = 0
    while process.poll() is None and killed < 5:
        wait_for(output, 3 * killed + 2, process)
        time.sleep(draw.uniform(0, 0.3))
        family = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in family if _works(child)]
        if workers:
            draw.choice(workers).kill()
            killed += 1
    assert process.wait(120) == 0
    assert killed == 5
    check_end(output)
    entries = read_ledger(output / LEDGER).entries
    assert all(entry.state == "measured" or (entry.codes, entry.attempts) == ("worker_died", 2) for entry in entries)
    assert sum(entry.state == "measured" for entry in entries) >= STUDIES - 2
    assert STUDIES < sum(entry.attempts for entry in entries) <= STUDIES + 5


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_actors_are_killed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = start(output, 2, "local")
    for number in range(3):
        wait_for(output, 4 * number + 2, process)
        family = psutil.Process(process.pid).children(recursive=True)
        parents = [child.parent() for child in family if _works(child)]
        assert parents[0] is not None
        parents[0].kill()
    assert process.wait(120) == 0
    check_end(output)
    entries = read_ledger(output / LEDGER).entries
    assert {entry.state for entry in entries} == {"measured"}
    assert STUDIES < sum(entry.attempts for entry in entries) <= STUDIES + 3
