"""The whole node in one process: from C-STORE to the result in the PACS, and every way in which that may fail."""

import io
import json
import logging
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.batch import StartError
from osteo_monai.errors import ConfigError
from osteo_monai.node import Node, Queue, read_config
from osteo_monai.node.logs import JsonFormatter
from osteo_monai.node.uids import hashed

from .bench import PLANTED, Pacs, ct_image, ct_images, free_port, send, uid, write_settings

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


class Running:
    """A node in a thread, and the PACS that it sends to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.status_port = free_port(), free_port()
        self.pacs = Pacs(node_port=lambda: self.port)
        self.node: Node
        self.thread: threading.Thread
        self.error: BaseException | None = None

    def start(self, **changes: Any) -> None:
        path = write_settings(self.folder, self.pacs.port, self.port, self.status_port, **changes)
        self.node = Node(read_config(path), "bench:load")
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.node.started.wait(30)

    def _run(self) -> None:
        try:
            self.node.run()
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.error = error

    def stop(self) -> None:
        self.node.stopping.set()
        self.thread.join(20)
        assert not self.thread.is_alive()

    @property
    def queue(self) -> Queue:
        return self.node._queue

    def wait(self, condition: Callable[[], object], seconds: float = 20) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return True
            time.sleep(0.05)
        return bool(condition())

    def results(self, study: object) -> list[str]:
        return [str(o.ImageComments) for o in self.pacs.objects.values() if o.StudyInstanceUID == uid("study", study)]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    place = Running(tmp_path)
    yield place
    if hasattr(place, "thread") and place.thread.is_alive():
        place.stop()
    place.pacs.stop()


def test_study_arrives_and_its_result_returns_once(running: Running) -> None:
    running.start()
    for _ in range(2):
        assert send(running.port, ct_images(1)) == [0] * 6
    assert running.wait(lambda: running.queue.counts()["deliveries"] == {"done": 1})
    assert send(running.port, ct_images(1)) == [0] * 6
    time.sleep(2.5)
    assert running.pacs.received.total() == 1
    assert running.results(1)[0].startswith("6 images")
    assert running.queue.counts()["jobs"] == {"done": 1}


def test_studies_sent_in_turns_are_kept_apart(running: Running) -> None:
    running.start()
    mixed = [image for pair in zip(ct_images("a", 4), ct_images("b", 4), strict=True) for image in pair]
    assert set(send(running.port, mixed)) == {0}
    assert running.wait(lambda: running.pacs.received.total() == 2)
    assert [running.results(name)[0][:8] for name in ("a", "b")] == ["4 images"] * 2


def test_late_image_makes_a_second_version(running: Running) -> None:
    running.start()
    send(running.port, ct_images(1, 3))
    assert running.wait(lambda: len(running.results(1)) == 1)
    send(running.port, [ct_image(1, 3)])
    assert running.wait(lambda: len(running.results(1)) == 2)
    assert sorted(text[:8] for text in running.results(1)) == ["3 images", "4 images"]
    assert {row["version"] for row in running.queue.results()} == {1, 2}


def test_study_that_never_pauses_is_completed_by_force(running: Running) -> None:
    running.start(studies={"complete_after_seconds": 2, "force_after_seconds": 3})
    for index in range(10):
        send(running.port, [ct_image(1, index)])
        time.sleep(0.5)
        if running.results(1):
            break
    assert running.results(1)


def test_pacs_that_is_down_gets_the_result_later(running: Running) -> None:
    running.pacs.stop()
    running.start()
    send(running.port, ct_images(1))
    assert running.wait(lambda: any(d.attempts > 1 for d in running.queue.due_deliveries("pacs", 1e12)))
    running.pacs = Pacs(running.pacs.port)
    assert running.wait(lambda: running.results(1))


def test_pacs_that_refuses_leaves_a_dead_letter_that_can_be_revived(running: Running) -> None:
    running.pacs.status = 0xA700
    running.start(retry={"attempts": 2})
    send(running.port, ct_images(1))
    assert running.wait(running.queue.failures)
    (failure,) = running.queue.failures()
    assert (failure["kind"], failure["reason"]) == ("delivery to pacs", "C-STORE status A700")
    running.pacs.status = 0
    assert running.queue.revive([failure["item"]], time.time()) == [failure["item"]]
    assert running.wait(lambda: running.results(1))


def test_commitment_is_requested_and_awaited(running: Running) -> None:
    running.start(commitment=True)
    send(running.port, ct_images(1))
    assert running.wait(lambda: running.queue.counts()["deliveries"] == {"done": 1})
    assert running.pacs.committed == [str(o.SOPInstanceUID) for o in running.pacs.objects.values()]


def test_commitment_on_the_same_association(running: Running) -> None:
    running.pacs.same_association = True
    running.start(commitment=True)
    send(running.port, ct_images(1))
    assert running.wait(lambda: running.queue.counts()["deliveries"] == {"done": 1})
    assert running.pacs.received.total() == 1


def test_result_without_commitment_is_sent_again(running: Running) -> None:
    running.pacs.answers = False
    running.start(commitment=True)
    send(running.port, ct_images(1))
    assert running.wait(lambda: running.pacs.committed)
    assert running.queue.counts()["deliveries"] == {"sent": 1}
    running.pacs.answers = True
    assert running.wait(lambda: running.queue.counts()["deliveries"] == {"done": 1}, 30)
    assert running.pacs.received.total() == 2
    assert len(running.pacs.objects) == 1, "the same object"


def test_commitment_of_an_unknown_transaction_changes_nothing(running: Running) -> None:
    running.pacs.answers = False
    running.start(commitment=True)
    send(running.port, ct_images(1))
    assert running.wait(lambda: running.queue.counts()["deliveries"] == {"sent": 1})
    instance = hashed(next(iter(running.pacs.objects)))
    for transaction in ("1.2.3", "2.25.7", "", f"2.25.{10**40}"):
        running.node._committed(transaction, [instance], [])
    assert running.queue.counts()["deliveries"] == {"sent": 1}


def test_refused_study_is_finished(running: Running) -> None:
    running.start()
    send(running.port, ct_images(1, comment="refuse"))
    assert running.wait(lambda: running.queue.outcomes() == {"refused": 1})
    assert running.wait(lambda: running.results(1))


@pytest.mark.parametrize("order", ["die", "error", "sleep"])
def test_study_that_fails_does_not_stop_others(running: Running, order: str) -> None:
    running.start(screening={"seconds": 2, "retry": {"attempts": 2, "first_seconds": 0.2}})
    send(running.port, [*ct_images("bad", 2, comment=order), *ct_images("good", 2)])
    assert running.wait(lambda: running.results("good") and running.queue.failures(), 40)
    (failure,) = running.queue.failures()
    assert (failure["kind"], failure["attempts"]) == ("screening", 2)
    assert not [word for word in PLANTED if word in json.dumps(failure)]


def test_stop_during_a_screening_is_quick_and_loses_nothing(running: Running) -> None:
    running.start()
    send(running.port, ct_images(1, comment="sleep"))
    assert running.wait(lambda: running.queue.counts()["jobs"] == {"running": 1})
    begin = time.monotonic()
    running.stop()
    assert time.monotonic() - begin < 10
    queue = Queue(running.folder / "node" / "queue.sqlite3")
    assert queue.counts()["jobs"] == {"waiting": 1}
    assert running.error is None


def test_images_are_removed_after_their_time(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osteo_monai.node.service._SWEEP_SECONDS", 0.2)
    running.start(studies={"keep_images_hours": 2 / 3600, "keep_results_days": 5 / 86400})
    changed = ct_image(1, 0)
    changed.KVP = 80
    send(running.port, [*ct_images(1), changed])
    folder = running.folder / "node"
    assert len(list((folder / "quarantine").iterdir())) == 1
    assert running.wait(lambda: running.results(1))
    assert running.wait(lambda: not list((folder / "images").iterdir()))
    assert running.wait(lambda: not list((folder / "results").iterdir()))
    assert running.wait(lambda: not list((folder / "quarantine").iterdir()))
    assert send(running.port, ct_images(1)) == [0] * 6, "sent again: the same images"
    time.sleep(2)
    assert running.queue.counts()["jobs"] == {"done": 1}


def test_object_that_was_damaged_on_the_disk_is_reported(running: Running) -> None:
    running.pacs.status = 0xA700
    running.start(retry={"attempts": 3, "first_seconds": 1})
    send(running.port, ct_images(1))
    assert running.wait(lambda: running.queue.due_deliveries("pacs", 1e12))
    for file in (running.folder / "node" / "results").rglob("*.dcm"):
        file.write_bytes(b"damaged")
    assert running.wait(running.queue.failures)
    assert running.queue.failures()[0]["reason"] == "the result cannot be read (InvalidDicomError)"


def test_folder_is_used_by_one_node_only(running: Running) -> None:
    running.start()
    settings = running.folder / "node.yaml"
    with pytest.raises(ConfigError, match="folder must be used by one node only"):
        Node(read_config(settings), "bench:load").run()


def test_missing_models_stop_the_start(tmp_path: Path) -> None:
    path = write_settings(tmp_path, 1, free_port(), free_port())
    with pytest.raises(StartError, match="Models are not installed"):
        Node(read_config(path), "bench:load_nothing").run()


def test_thread_that_ends_with_an_error_stops_the_node(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.start()

    def fail(*arguments: Any) -> Any:
        raise KeyError(PLANTED[0])

    monkeypatch.setattr(running.queue, "complete", fail)
    running.thread.join(20)
    assert str(running.error) == "The node stopped: its scheduler ended with KeyError."


def test_no_identifier_is_in_logs_queue_and_folder_names(running: Running) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    logging.getLogger("osteo_monai").setLevel(logging.DEBUG)
    try:
        running.start(retry={"attempts": 2})
        changed = ct_image(1, 0)
        changed.KVP = 80
        send(running.port, [*ct_images(1), changed, *ct_images("bad", 2, comment="error")])
        assert running.wait(lambda: running.results(1))
        assert running.wait(lambda: "screening failed" in stream.getvalue())
        running.stop()
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("osteo_monai").setLevel(logging.NOTSET)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {"object received", "study screened", "objects delivered", "screening failed"} <= {e["event"] for e in lines}
    folder = running.folder / "node"
    texts = {
        "log": stream.getvalue().encode(),
        "names": "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*")).encode(),
        **{path.name: path.read_bytes() for path in folder.glob("queue.sqlite3*")},
    }
    secrets = [word.encode() for word in PLANTED]
    secrets += [str(image.StudyInstanceUID).encode() for image in ct_images(1, 1)]
    found = [(name, word) for name, text in texts.items() for word in secrets if word in text]
    assert found == []
    assert any(secrets[0] in path.read_bytes() for path in folder.rglob("*.dcm")), "the images hold them"


def test_images_are_readable_by_the_user_of_the_node_only(running: Running) -> None:
    running.start()
    send(running.port, ct_images(1))
    folder = running.folder / "node"
    assert re.fullmatch("drwx------", mode(folder))
    assert {mode(path) for path in folder.glob("images/*")} == {"drwx------"}


def mode(path: Path) -> str:
    return stat.filemode(path.stat().st_mode)
