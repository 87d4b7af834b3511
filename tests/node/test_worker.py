"""The screening process: loads once, is ended at its limits, ends with its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from osteo_monai.batch import StartError, StoppedError, WorkerError, WorkerProcess
from osteo_monai.node.config import NodeConfig
from osteo_monai.node.service import screening_process

from .bench import ct_images

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def make() -> Iterator[Any]:
    made: list[WorkerProcess] = []

    def _make(processor: str = "bench:load", stop: threading.Event | None = None, **settings: Any) -> WorkerProcess:
        config = NodeConfig.model_validate({"folder": "a", "screening": settings})
        made.append(screening_process(config, processor, stop or threading.Event()))
        return made[-1]

    yield _make
    for process in made:
        process.end()


def study(folder: Path, order: str = "") -> tuple[Path, Path]:
    """Write a study with an order for the processor; return its folder and an empty one for the output."""
    images, output = folder / f"in_{order}", folder / f"out_{order}"
    images.mkdir()
    output.mkdir()
    for number, image in enumerate(ct_images(order, 2, comment=order)):
        image.save_as(images / f"{number}.dcm", enforce_file_format=True)
    return images, output


def test_models_are_loaded_once(make: Any, tmp_path: Path) -> None:
    worker = make()
    comments = []
    for order in ("", "a", "b"):
        images, output = study(tmp_path, order)
        assert worker.process((images, output))["files"] == ["dicom/sc.dcm"]
        import pydicom

        comments.append(pydicom.dcmread(output / "dicom" / "sc.dcm").ImageComments)
    assert len(set(comments)) == 1, "one process"


@pytest.mark.parametrize(
    ("order", "settings", "reason"),
    [
        ("die", {}, r"its process ended \(signal 9\)"),
        ("sleep", {"seconds": 1}, "it took longer than 1 s"),
        ("memory", {"memory_mib": 900}, "it needed more memory than 900 MiB"),
        ("error", {}, "it stopped with ValueError$"),
    ],
)
def test_failures_of_one_study_do_not_end_the_node(
    make: Any, tmp_path: Path, order: str, settings: dict[str, Any], reason: str
) -> None:
    worker = make(**settings)
    with pytest.raises(WorkerError, match=reason):
        worker.process(study(tmp_path, order))
    assert worker.process(study(tmp_path, ""))["outcome"] == "measured"


def test_missing_models_are_reported_at_the_start(make: Any) -> None:
    with pytest.raises(StartError, match="did not start: Models are not installed: vertebra_localization_ct") as caught:
        make("bench:load_nothing").start()
    assert caught.value.error == "ModelMissingError"


def test_process_has_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_SECRET", "x")
    web = {"kind": "stow", "name": "a", "url": "https://x", "user_variable": "U", "password_variable": "BENCH_SECRET"}
    config = NodeConfig.model_validate({"folder": "a", "destinations": [web]})
    worker = screening_process(config, "bench:load", threading.Event())
    with pytest.raises(WorkerError, match="KeyError"):
        worker.process(study(tmp_path, "secret"))
    worker.end()


def test_unknown_processor_is_reported(make: Any) -> None:
    with pytest.raises(StartError, match="it stopped with ModuleNotFoundError"):
        make("missing:load").start()


def test_stop_ends_a_running_screening(make: Any, tmp_path: Path) -> None:
    stop = threading.Event()
    worker = make(stop=stop)
    worker.start()
    threading.Timer(0.5, stop.set).start()
    begin = time.monotonic()
    with pytest.raises(StoppedError):
        worker.process(study(tmp_path, "sleep"))
    assert time.monotonic() - begin < 5
    assert not worker.running


PARENT = """
import sys, threading
from pathlib import Path
from osteo_monai.node.config import NodeConfig
from osteo_monai.node.service import screening_process
worker = screening_process(NodeConfig(folder=Path("a")), "bench:load", threading.Event())
worker.start()
print(worker.pid, flush=True)
worker.process((Path(sys.argv[1]), Path(sys.argv[2])))
"""


def test_process_ends_when_its_parent_is_killed_in_the_middle_of_a_study(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PARENT, *map(str, study(tmp_path, "sleep"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.5)
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive
