"""Load, hostile peers and kills of the DICOM node; figures of docs/pacs.md.

Usage:
    python benchmarks/node.py kills   [--output RESULTS.json]
    python benchmarks/node.py load    [--studies 50] [--associations 4] [--slices 40] [--matrix 512] [--output ...]
    python benchmarks/node.py hostile [--connections 1000] [--output ...]
    python benchmarks/node.py screen FOLDER [FOLDER ...] [--output ...]

``kills``, ``load`` and ``hostile`` use a processor without models, so that they measure the node; ``screen`` sends the
DICOM files of real or virtual studies and screens them as the command does. A PACS in this process counts the results.
"""

import argparse
import json
import os
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pydicom
from pydicom.dataset import Dataset

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "node")]

from osteo_monai.utils.files import write_json  # noqa: E402
from tests.node.bench import (  # noqa: E402
    PLANTED,
    POINTS,
    NodeProcess,
    Pacs,
    ct_image,
    ct_images,
    free_port,
    send,
    survive,
    write_settings,
)

MIB = 2**20
Facts = dict[str, Any]


class Bench:
    """A node, its PACS, and a sample of its memory every 0.2 s."""

    def __init__(self, folder: Path, processor: str = "bench:load", **changes: Any) -> None:
        self.port = free_port()
        self.pacs = Pacs(node_port=lambda: self.port)
        settings = write_settings(folder, self.pacs.port, self.port, free_port(), **changes)
        self.node = NodeProcess(settings, processor=processor)
        assert self.node.wait_until(self.node.healthy, 120), self.node.log.read_text()
        self._process = psutil.Process(self.node.process.pid)
        self.memory: list[float] = []
        self._done = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while not self._done.wait(0.2):
            try:
                self.memory.append(self._process.memory_info().rss / MIB)
            except psutil.NoSuchProcess:
                return

    def resources(self) -> Facts:
        return {"threads": self._process.num_threads(), "open_files": self._process.num_fds()}

    def end(self) -> Facts:
        """Stop the node and return memory and a search for planted identifiers."""
        pages = [self.node.get(page) for page in ("/", "/health", "/metrics")]
        self._done.set()
        code = self.node.stop()
        self.pacs.stop()
        texts = [*pages, self.node.log.read_text()]
        texts += [p.read_bytes().decode("latin-1") for p in self.node.settings.parent.glob("node/queue.sqlite3*")]
        quarter = max(1, len(self.memory) // 4)
        return {
            "exit_code": code,
            "memory_mib": {
                "first_quarter": round(max(self.memory[:quarter]), 1),
                "last_quarter": round(max(self.memory[-quarter:]), 1),
                "most": round(max(self.memory), 1),
            },
            "identifiers_found": sorted({word for word in PLANTED for text in texts if word in text}),
        }


def in_parallel(calls: Iterable[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def load_run(folder: Path, options: argparse.Namespace) -> Facts:
    """Send many studies over some associations at the same time."""
    bench = Bench(folder, studies={"complete_after_seconds": 3})
    waiting = list(range(options.studies))
    failures: list[int] = []
    lock = threading.Lock()

    def sender() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                number = waiting.pop(0)
            images = (ct_image(number, index, options.matrix) for index in range(options.slices))
            failures.extend(status for status in send(bench.port, images) if status != 0)

    begin = time.monotonic()
    in_parallel([sender] * options.associations)
    received = time.monotonic() - begin
    done = bench.node.wait_until(lambda: bench.node.has_finished(options.studies), 300)
    total = time.monotonic() - begin
    images = options.studies * options.slices
    complete = sum(str(o.ImageComments).startswith(f"{options.slices} images") for o in bench.pacs.objects.values())
    return {
        "studies": options.studies,
        "associations": options.associations,
        "images": images,
        "mib": round(images * 2 * options.matrix**2 / MIB),
        "failed_images": len(failures),
        "all_done": done,
        "results_in_pacs": len(bench.pacs.objects),
        "results_with_all_images": complete,
        "deliveries": bench.pacs.received.total(),
        "seconds_to_receive": round(received, 1),
        "images_per_second": round(images / received, 1),
        "seconds_to_last_result": round(total, 1),
        **bench.resources(),
        **bench.end(),
    }


# --- hostile peers ------------------------------------------------------------------------------------------------


def garbage(peer: socket.socket, dice: random.Random) -> None:
    peer.sendall(dice.randbytes(dice.randrange(1, 5000)))


def huge_length(peer: socket.socket, dice: random.Random) -> None:
    peer.sendall(struct.pack(">BBL", dice.choice([1, 4, 5, 7]), 0, dice.randrange(2**25, 2**32)) + bytes(MIB))


def half_header(peer: socket.socket, dice: random.Random) -> None:
    peer.sendall(b"\x01\x00\x00"[: dice.randrange(1, 4)])


def half_pdu(peer: socket.socket, dice: random.Random) -> None:
    peer.sendall(struct.pack(">BBL", 1, 0, 400) + dice.randbytes(dice.randrange(0, 399)))


def silent(peer: socket.socket, dice: random.Random) -> None:
    """Connect and send nothing."""


def wrong_items(peer: socket.socket, dice: random.Random) -> None:
    """An A-ASSOCIATE-RQ whose items state wrong lengths."""
    items = b"".join(
        struct.pack(">BBH", dice.choice([0x10, 0x20, 0x50]), 0, dice.randrange(65536)) + dice.randbytes(20)
        for _ in range(5)
    )
    body = struct.pack(">HH", 1, 0) + b"OSTEO".ljust(16) + b"CT1".ljust(16) + bytes(32) + items
    peer.sendall(struct.pack(">BBL", 1, 0, len(body)) + body)


def early_data(peer: socket.socket, dice: random.Random) -> None:
    peer.sendall(struct.pack(">BBL", 4, 0, 1000) + dice.randbytes(1000))


ATTACKS = (garbage, huge_length, half_header, half_pdu, silent, wrong_items, early_data)


def hostile_run(folder: Path, options: argparse.Namespace) -> Facts:
    """Open many connections that behave badly, 20 at a time, while a modality sends studies."""
    receiver = {"idle_seconds": 2, "max_connections": 32}
    bench = Bench(folder, receiver=receiver)
    before = bench.resources()
    dice = random.Random(0)
    most: Facts = {"threads": 0, "open_files": 0}
    left = list(range(options.connections))
    lock = threading.Lock()
    refused = 0

    def attacker() -> None:
        nonlocal refused
        while True:
            with lock:
                if not left:
                    return
                number = left.pop()
                own = random.Random(dice.random())
            try:
                with socket.create_connection(("127.0.0.1", bench.port), 5) as peer:
                    peer.settimeout(4)
                    ATTACKS[number % len(ATTACKS)](peer, own)
                    while peer.recv(4096):
                        pass
            except OSError:
                refused += 1

    done: list[int] = []

    def modality() -> None:
        number = 0
        while left:
            images = ct_images(number, 3)
            # a modality tries again when all connections are taken
            while set(send(bench.port, images)) != {0}:
                time.sleep(0.2)
            for name, value in bench.resources().items():
                most[name] = max(most[name], value)
            done.append(number)
            number += 1
            time.sleep(0.2)

    begin = time.monotonic()
    in_parallel([attacker] * 20 + [modality])
    seconds = time.monotonic() - begin
    time.sleep(4)
    after = bench.resources()
    served = send(bench.port, ct_images("after", 3))
    finished = bench.node.wait_until(lambda: bench.node.has_finished(len(done) + 1), 60)
    return {
        "connections": options.connections,
        "kinds": [attack.__name__ for attack in ATTACKS],
        "seconds": round(seconds, 1),
        "closed_with_an_error": refused,
        "studies_sent_meanwhile": len(done),
        "served_afterwards": served == [0, 0, 0],
        "all_results_delivered": finished,
        "before": before,
        "most": most,
        "after": after,
        **bench.end(),
    }


def kills_run(folder: Path, options: argparse.Namespace) -> Facts:
    """Kill the node at each point of its life."""
    begin = time.monotonic()
    end = survive(folder, [(point, 2 if point.startswith("Spool._write") else 1) for point in POINTS])
    return {"points": list(POINTS), "sound": end.sound, **vars(end), "seconds": round(time.monotonic() - begin, 1)}


def screen_run(folder: Path, options: argparse.Namespace) -> Facts:
    """Send real files and screen them with the shipped models."""
    screening = {"seconds": 600, "memory_mib": 6144}
    bench = Bench(folder, "osteo_monai.cli.node_screening:load", screening=screening)
    begin = time.monotonic()
    sent = 0
    for source in options.folders:
        statuses = send(bench.port, _images(source))
        sent += len(statuses)
        assert set(statuses) == {0}, statuses
    received = time.monotonic() - begin
    studies = len(options.folders)
    done = bench.node.wait_until(lambda: bench.node.has_finished(studies), 600 * studies)
    total = time.monotonic() - begin
    log = [json.loads(line) for line in bench.node.log.read_text().splitlines()]
    results = [{k: e[k] for k in ("outcome", "seconds", "objects")} for e in log if e["event"] == "study screened"]
    return {
        "images": sent,
        "seconds_to_receive": round(received, 1),
        "seconds_to_last_result": round(total, 1),
        "all_done": done,
        "results": results,
        "objects_in_pacs": len(bench.pacs.objects),
        **bench.end(),
    }


def _images(source: Path) -> Iterable[Dataset]:
    for file in sorted(source.rglob("*.dcm")):
        yield pydicom.dcmread(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "load", "hostile", "screen"])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--associations", type=int, default=4)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--matrix", type=int, default=512)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    runs = {"kills": kills_run, "load": load_run, "hostile": hostile_run, "screen": screen_run}
    with tempfile.TemporaryDirectory() as folder:
        facts = {"what": options.what, "cores": os.cpu_count(), **runs[options.what](Path(folder), options)}
    print(json.dumps(facts, indent=2))
    if options.output:
        write_json(options.output, facts)


if __name__ == "__main__":
    main()
