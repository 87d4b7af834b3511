"""A Ray cluster of several nodes: ``auto`` joins it, a node is lost, shares of a GPU place the workers."""

import importlib.util
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.batch import LEDGER, Entry, read_ledger
from osteo_monai.errors import UnusableInputError

from .test_kill import STUDIES, check_end, results, start, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

MakeCluster = Callable[..., Any]


@pytest.fixture
def make_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeCluster]:
    """Return a function that starts a head, by processes of its own, and makes it ``auto``."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started: list[Any] = []

    def make(**resources: float) -> Any:
        cluster = Cluster(initialize_head=True, head_node_args={**resources, "include_dashboard": False})
        started.append(cluster)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        return cluster

    yield make
    for cluster in started:
        cluster.shutdown()


def entries(output: Path) -> tuple[Entry, ...]:
    try:
        return read_ledger(output / LEDGER).entries
    except UnusableInputError:  # not begun
        return ()


def most_running(output: Path, process: "subprocess.Popen[bytes]") -> int:
    """Return the largest number of studies that run at the same time, until the batch ends."""
    most = 0
    while process.poll() is None:
        most = max(most, sum(entry.state == "running" for entry in entries(output)))
        time.sleep(0.05)
    return most


@pytest.mark.parametrize("replaced", [True, False])
def test_a_lost_node_loses_no_study(tmp_path: Path, make_cluster: MakeCluster, replaced: bool) -> None:
    """Without another node the studies of the lost one go to the node that is left, at once."""
    cluster = make_cluster(num_cpus=1)
    node = cluster.add_node(num_cpus=1)
    output = tmp_path / "out"
    process = start(output, 2, "auto", 1.5)  # the batch outlasts the start of the second worker
    wait_for(output, 6, process)
    until = time.monotonic() + 60
    while sum(entry.state == "running" for entry in entries(output)) < 2 and time.monotonic() < until:
        time.sleep(0.02)  # both nodes work
    kept = results(output)
    cluster.remove_node(node, allow_graceful=False)
    assert len(kept) < STUDIES
    wait_for(output, len(kept) + 4, process)
    if replaced:
        cluster.add_node(num_cpus=1)
    assert process.wait(150) == 0
    check_end(output)
    now = results(output)
    assert {name: now[name] for name in kept} == kept
    assert {entry.state for entry in entries(output)} == {"measured"}
    assert STUDIES <= sum(entry.attempts for entry in entries(output)) <= STUDIES + 1


@pytest.mark.parametrize(("share", "together"), [("0.25", 4), ("0.5", 2)])
def test_shares_of_a_gpu_place_workers(tmp_path: Path, make_cluster: MakeCluster, share: str, together: int) -> None:
    make_cluster(num_cpus=8, num_gpus=1)
    output = tmp_path / "out"
    process = start(output, 4, "auto", 1.5, share)
    assert most_running(output, process) == together
    assert process.wait() == 0
    check_end(output)
    visible = {path.read_text() for path in output.glob("*/visible.txt")}
    assert visible == {"0"}  # not hidden, since each worker has reserved a share


def test_workers_without_a_share_see_no_gpu(tmp_path: Path, make_cluster: MakeCluster) -> None:
    make_cluster(num_cpus=4, num_gpus=1)
    output = tmp_path / "out"
    assert start(output, 2, "auto", 0.01).wait(240) == 0
    assert {path.read_text() for path in output.glob("*/visible.txt")} == {""}
