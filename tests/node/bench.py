"""Parts of the tests of the node and of its benchmark: made-up studies, a PACS that counts, a node in a process."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, build_context, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from osteo_monai.node.processing import Process, Processed

PLANTED = ("ZYXNAME", "ZYXGIVEN", "ZYXID4711", "ZYXACCESSION", "ZYXINSTITUTION")
"""Identifiers of the made-up persons, which must be in no log, queue, page or metric."""

Kill = tuple[str, int]


def uid(*parts: object) -> UID:
    """Return a UID that follows from its parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:12]
    return UID(f"1.2.826.0.1.3680043.10.1.{int.from_bytes(digest)}")


def ct_images(study: object, slices: int = 6, size: int = 16, comment: str = "") -> list[Dataset]:
    """Return a CT series of a made-up person; ``comment`` is an order for :func:`load`."""
    return [ct_image(study, index, size, comment) for index in range(slices)]


def ct_image(study: object, index: int, size: int = 16, comment: str = "", series: object = "") -> Dataset:
    """Return one slice."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = uid("image", study, series, index)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study", study), uid("series", study, series)
    ds.FrameOfReferenceUID = uid("frame", study)
    ds.PatientName, ds.PatientID, ds.AccessionNumber = f"{PLANTED[0]}^{PLANTED[1]}", PLANTED[2], PLANTED[3]
    ds.InstitutionName, ds.StudyDescription = PLANTED[4], comment
    ds.StudyDate, ds.StudyTime, ds.Modality, ds.ImageType = "20260101", "120000", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge, ds.StudyID, ds.ReferringPhysicianName = "", "F", "070Y", "", ""
    ds.Rows = ds.Columns = size
    ds.PixelSpacing, ds.SliceThickness, ds.KVP, ds.InstanceNumber = [5, 5], 5, 120, index + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 5 * index], [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 15, 1, -1024, "HU"
    ds.PixelData = np.random.default_rng(index).integers(0, 2000, (size, size)).astype("<u2").tobytes()
    return ds


def load(settings: dict[str, Any]) -> Process:
    """Return a processor without models: one secondary capture that states the number of images."""
    started = os.getpid()

    def process(images: Path, output: Path) -> Processed:
        files = sorted(images.iterdir())
        headers = [dcmread(file, stop_before_pixels=True) for file in files]
        order = str(headers[0].get("StudyDescription", ""))
        _obey(order)
        instances = sorted(str(header.SOPInstanceUID) for header in headers)
        result = ct_image("result", 0)
        result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        result.StudyInstanceUID = headers[0].StudyInstanceUID
        result.SOPInstanceUID = result.file_meta.MediaStorageSOPInstanceUID = uid("result", *instances)
        result.SeriesInstanceUID = uid("results", *instances)
        result.PatientName, result.PatientID = headers[0].PatientName, headers[0].PatientID
        result.ImageComments = f"{len(files)} images, process {started}"
        (output / "dicom").mkdir()
        result.save_as(output / "dicom" / "sc.dcm", enforce_file_format=True)
        outcome = "refused" if order == "refuse" else "measured"
        return Processed(outcome, ("dicom/sc.dcm",), order or "done")  # type: ignore[arg-type]

    return process


def _obey(order: str) -> None:
    if order == "secret":
        raise RuntimeError if "BENCH_SECRET" in os.environ else KeyError
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif order == "sleep":
        time.sleep(600)
    elif order == "pause":
        time.sleep(1.5)
    elif order == "memory":
        block = np.ones(2**28)
        time.sleep(60)
        block[0] = 2
    elif order == "error":
        raise ValueError(f"quotes {PLANTED[0]}")


def load_nothing(settings: dict[str, Any]) -> Process:
    """Fail as if a model were missing."""
    from osteo_monai.errors import ModelMissingError

    raise ModelMissingError("Models are not installed: vertebra_localization_ct.")


class Pacs:
    """A PACS that keeps each object it receives, counts deliveries, and confirms storage commitment.

    Attributes:
        received: number of deliveries by SOPInstanceUID.
        objects: the objects by SOPInstanceUID.
        committed: SOPInstanceUIDs of requests of commitment.
    """

    def __init__(self, port: int = 0, node_port: Callable[[], int] | None = None, status: int = 0) -> None:
        self.received: Counter[str] = Counter()
        self.objects: dict[str, Dataset] = {}
        self.committed: list[str] = []
        self.status = status
        self.answers = True
        self.same_association = False
        self._node_port = node_port
        entity = AE("PACS")
        entity.supported_contexts = [*AllStoragePresentationContexts, build_context(Verification)]
        entity.add_supported_context(StorageCommitmentPushModel)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._commit)]
        server: Any = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        self._server = server
        self.port = int(server.server_address[1])

    def _store(self, event: evt.Event) -> int:
        ds = event.dataset
        if self.status == 0:
            self.received[str(ds.SOPInstanceUID)] += 1
            self.objects[str(ds.SOPInstanceUID)] = ds
        return self.status

    def _commit(self, event: evt.Event) -> tuple[int, None]:
        request = event.action_information
        self.committed += [str(item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence]
        if self.same_association:
            threading.Thread(target=self._report_to, args=(request, event.assoc), daemon=True).start()
        elif self.answers and self._node_port is not None:
            threading.Thread(target=self._report, args=(request,), daemon=True).start()
        return 0, None

    def _report(self, request: Dataset) -> None:
        time.sleep(0.3)
        assert self._node_port is not None
        entity = AE("PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = entity.associate("127.0.0.1", self._node_port(), ae_title="OSTEO", ext_neg=[role])
        if association.is_established:
            association.send_n_event_report(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
            association.release()

    @staticmethod
    def _report_to(request: Dataset, association: Any) -> None:
        time.sleep(0.3)
        association.send_n_event_report(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()


def send(port: int, images: Iterable[Dataset], ae_title: str = "CT1", called: str = "OSTEO") -> list[int]:
    """Send images over one association; return their statuses, -1 for those without an answer."""
    entity = AE(ae_title)
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 3
    association = entity.associate("127.0.0.1", port, ae_title=called)
    statuses = []
    for image in images:
        try:
            status = association.send_c_store(image) if association.is_established else Dataset()
        except (RuntimeError, ValueError):
            status = Dataset()
        statuses.append(int(status.get("Status", -1)))
    if association.is_established:
        association.release()
    return statuses


def write_settings(
    folder: Path, pacs_port: int, port: int, status_port: int, commitment: bool = False, **changes: Any
) -> Path:
    """Write the settings of a node for quick studies; return the file."""
    settings: dict[str, Any] = {
        "folder": "node",
        "receiver": {"port": port, "calling_ae_titles": ["CT1", "PACS"], "min_free_mib": 0, "idle_seconds": 10},
        "studies": {"complete_after_seconds": 1, "force_after_seconds": 60},
        "screening": {"retry": {"attempts": 20, "first_seconds": 0.2, "longest_seconds": 0.5}},
        "destinations": [
            {
                "kind": "c-store",
                "name": "pacs",
                "ae_title": "PACS",
                "host": "127.0.0.1",
                "port": pacs_port,
                "seconds": 10,
                "commitment": commitment,
                "commitment_seconds": 5,
            }
        ],
        "retry": {"attempts": 50, "first_seconds": 0.2, "longest_seconds": 1},
        "status": {"port": status_port},
    }
    for name, value in changes.items():
        settings[name] = settings[name] | value if isinstance(settings.get(name), dict) else value
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


class NodeProcess:
    """A node in a process of its own, whose log is appended to a file.

    Args:
        settings: YAML file.
        kill: name of a point of :data:`POINTS` and the number of its call at which the process kills itself.
        processor: what screens.
    """

    def __init__(self, settings: Path, kill: Kill | None = None, processor: str = "bench:load") -> None:
        self.settings = settings
        self._status = int(yaml.safe_load(settings.read_text())["status"]["port"])
        words = [sys.executable, __file__, str(settings), processor, *((kill[0], str(kill[1])) if kill else ())]
        self.log = settings.with_name("log.jsonl")
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(words, stderr=stream, stdout=stream)

    def get(self, page: str) -> str:
        """Return a page of the status server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._status}{page}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60) -> bool:
        """Wait for a condition while the node runs; return whether it came true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return True
            if self.ended():
                break
            time.sleep(0.05)
        return condition()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the states of the queue; empty while the node does not answer."""
        try:
            answer: dict[str, Any] = json.loads(self.get("/health"))
        except (OSError, ValueError):
            return {}
        return {name: answer[name] for name in ("studies", "jobs", "deliveries", "quarantine")}

    def ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def has_finished(self, studies: int) -> bool:
        """Return whether that many studies arrived, and all work on them is done."""
        states = self.counts()
        return bool(states) and not _unfinished(states) and sum(states["studies"].values()) == studies

    def healthy(self) -> bool:
        """Return whether the node has started and works."""
        try:
            return '"ok"' in self.get("/health")
        except OSError:
            return False

    def stop(self) -> int:
        """Stop the node as its supervisor does; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """Kill the node."""
        self.process.kill()
        self.process.wait()


# --- points at which a node kills itself --------------------------------------------------------------------------

POINTS = (
    "Spool._write before", "Spool._write after", "Queue.add_image before", "Queue.add_image after",
    "Queue._complete before", "Queue.complete after", "Queue.take_job after", "Spool.prepare after",
    "WorkerProcess._send after", "WorkerProcess.process after", "Spool.keep_result before",
    "Spool.keep_result after", "Queue.finish_job before", "Queue.finish_job after", "CStoreSender._store before",
    "CStoreSender._store after", "Queue.delivered before", "Queue.delivered after",
    "CStoreSender.request_commitment before", "CStoreSender.request_commitment after", "Queue.confirm before",
    "Queue.confirm after",
)  # fmt: skip
"""Class and method at whose call, before or after it, the node is killed."""


@dataclass
class Survival:
    """What a kill left: all lists must be empty, and the counts equal.

    Attributes:
        killed: number of lives that ended at their point.
        lost: studies without a result that has all their images.
        twice: studies with several results that have all their images; one that was killed while it received a study
            may have screened the images that it had, and supersedes that result.
        repeated: deliveries of an object that the PACS had; identical, so that it keeps one.
        left: files that belong to nothing.
        problems: states of the queue that are not final.
    """

    killed: int
    lost: list[str]
    twice: list[str]
    repeated: int
    left: list[str]
    problems: dict[str, dict[str, int]]

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, doubled, left over or unfinished."""
        return not (self.lost or self.twice or self.left or self.problems)


def survive(folder: Path, kills: Sequence[Kill]) -> Survival:
    """Run a node that is killed again and again; send one study to each life, again until it has success.

    Args:
        folder: for the node; empty.
        kills: point and number of the call, one for each life.
    """
    port, status_port = free_port(), free_port()
    pacs = Pacs(node_port=lambda: port)
    settings = write_settings(folder, pacs.port, port, status_port, commitment=True)
    sets: list[list[Dataset]] = []
    waiting: list[list[Dataset]] = []
    killed = 0
    for number, kill in enumerate(kills):
        node = NodeProcess(settings, kill)
        node.wait_until(node.healthy, 30)
        sets.append(ct_images(number, 4))
        waiting = [images for images in [*waiting, sets[-1]] if set(send(port, images)) != {0}]
        if node.wait_until(node.ended, 30):
            killed += 1
        node.kill()
    node = NodeProcess(settings)
    node.wait_until(node.healthy, 30)
    while waiting:
        waiting = [images for images in waiting if set(send(port, images)) != {0}]
    node.wait_until(partial(node.has_finished, len(sets)), 60)
    counts = node.counts()
    node.stop()
    pacs.stop()
    return _survival(folder / "node", killed, sets, pacs, counts)


def _survival(
    folder: Path, killed: int, sets: list[list[Dataset]], pacs: Pacs, counts: dict[str, dict[str, int]]
) -> Survival:
    lost, twice = [], []
    for images in sets:
        results = [o for o in pacs.objects.values() if o.StudyInstanceUID == images[0].StudyInstanceUID]
        complete = [o for o in results if str(o.ImageComments).startswith(f"{len(images)} images")]
        if not complete:
            lost.append(str(images[0].StudyInstanceUID))
        if len(complete) > 1:
            twice.append(str(images[0].StudyInstanceUID))
    expected = sum(len(images) for images in sets)
    files = [path for path in (folder / "images").rglob("*") if path.is_file()]
    left = [path.name for path in folder.rglob(".*.*") if path.is_file() and "lock" not in path.name]
    left += [path.name for path in (folder / "work").iterdir()]
    if len(files) != expected:
        left.append(f"{len(files)} images of {expected}")
    problems = _unfinished(counts)
    if counts["deliveries"].get("done") != len(pacs.objects) or sum(counts["studies"].values()) != len(sets):
        problems["counts"] = {"objects": len(pacs.objects), **counts["deliveries"]}
    repeated = sum(number - 1 for number in pacs.received.values())
    return Survival(killed, lost, twice, repeated, left, problems)


def _unfinished(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Return the parts of the queue that have other states than the final ones."""
    final = {
        "studies": {"complete"}, "jobs": {"done", "superseded"}, "deliveries": {"done", "superseded"},
        "quarantine": {"kept"},
    }  # fmt: skip
    return {name: states for name, states in counts.items() if set(states) - final[name]}


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def arm(point: str, number: int) -> None:
    """Kill this process at a call of a point."""
    from osteo_monai.batch import worker
    from osteo_monai.node import delivery, queue, spool

    place, _, when = point.partition(" ")
    owner, _, method = place.partition(".")
    found = next(getattr(module, owner) for module in (delivery, queue, spool, worker) if hasattr(module, owner))
    original = getattr(found, method)
    calls = Counter[str]()

    def replaced(*arguments: Any, **keywords: Any) -> Any:
        if when == "before":
            _count(calls, number)
        result = original(*arguments, **keywords)
        nothing_done = method in ("take_job", "complete") and not result
        if when == "after" and not nothing_done:
            _count(calls, number)
        return result

    setattr(found, method, replaced)


def _count(calls: Counter[str], number: int) -> None:
    calls["calls"] += 1
    if calls["calls"] == number:
        os.kill(os.getpid(), signal.SIGKILL)


def serve(words: Sequence[str]) -> None:
    """Run a node: settings, processor, and optionally the point at which it kills itself."""
    from osteo_monai.node import Node, read_config
    from osteo_monai.node.logs import log_to

    log_to()
    if len(words) > 2:
        arm(words[2], int(words[3]))
    node = Node(read_config(Path(words[0])), words[1])
    signal.signal(signal.SIGTERM, lambda *_: node.stopping.set())
    node.run()


if __name__ == "__main__":
    serve(sys.argv[1:])
