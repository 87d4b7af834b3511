"""Read-ahead of a batch on a slow disk: the same studies with and without it, on one and two workers.

Usage:
    python -m benchmarks.slow_disk [--studies 10] [--workers 1 2] [--operations 40] [--output FILE.json]

The disk is made slow by a limit of read operations per second in a control group of its own (version 1, ``blkio``),
which needs root; the page cache works as always. The listing of the input reads the start of each file: when the ledger
is written, the files are taken out of the page cache, as they are in a batch that is larger than the memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.batch import make_studies
from osteo_monai.batch import LEDGER, read_ledger
from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.files import write_json, write_text

_GROUPS = Path("/sys/fs/cgroup/blkio")
_WITHOUT = "from osteo_monai.batch import ahead\nahead.ReadAhead.start = lambda self, paths: None\n"
"""Module ``sitecustomize`` of the command and its workers, which turns the read-ahead off."""


@dataclass(frozen=True)
class SlowRun:
    """One batch.

    Attributes:
        ahead: whether the next study is read ahead.
        workers: number of workers.
        operations: read operations per second of the disk; 0 without limit.
        studies_s: wall time from the begin of the first study to the end of the last.
        reading_s: wall time that each study spent reading.
        cpu_s: CPU time of the command and its workers.
        load: load average at the end.
    """

    ahead: bool
    workers: int
    operations: int
    studies_s: float
    reading_s: tuple[float, ...]
    cpu_s: float
    load: float


def evict(folder: Path) -> None:
    """Take all files below a folder out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


@contextmanager
def slow_group(folder: Path) -> Iterator[tuple[Path, str]]:
    """Make a control group and remove it at the end; give its folder and the name of the device of ``folder``."""
    group = _GROUPS / f"slow_disk_{os.getpid()}"
    group.mkdir()
    device = folder.stat().st_dev
    try:
        yield group, f"{os.major(device)}:{os.minor(device)}"
    finally:
        group.rmdir()


def run_slow(root: Path, output: Path, ahead: bool, workers: int, operations: int) -> SlowRun:
    """Screen a folder on a slow disk.

    Args:
        root: folder of the studies.
        output: new folder for the results.
        ahead: read the next study ahead.
        workers: number of workers.
        operations: read operations per second; 0 without limit.
    """
    path = [str(Path(__file__).parents[1]), *sys.path]
    if not ahead:
        write_text(output.parent / "without" / "sitecustomize.py", _WITHOUT)
        path.insert(0, str(output.parent / "without"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    words = [sys.executable, "-m", "osteo_monai", "screen", str(root), "-o", str(output), "--workers", str(workers)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with slow_group(root) as (group, device):
        join = f'echo $$ > {group}/cgroup.procs; exec "$@"'
        with subprocess.Popen(["sh", "-c", join, "sh", *words], env=environment, stdout=subprocess.DEVNULL) as process:
            while not _begun(output) and process.poll() is None:
                time.sleep(0.02)
            evict(root)
            (group / "blkio.throttle.read_iops_device").write_text(f"{device} {operations}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    entries = read_ledger(output / LEDGER).entries
    seconds = [json.loads((output / entry.study / "result.json").read_text())["seconds"] for entry in entries]
    begin, end = min(entry.started or 0.0 for entry in entries), max(entry.ended or 0.0 for entry in entries)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    reading = tuple(round(float(of_study.get("reading", 0.0)), 2) for of_study in seconds)
    load = round(os.getloadavg()[0], 1)
    return SlowRun(ahead, workers, operations, round(end - begin, 1), reading, round(cpu, 1), load)


def _begun(output: Path) -> bool:
    try:
        return bool(read_ledger(output / LEDGER).entries)
    except UnusableInputError:
        return False


def main() -> None:
    """Run the benchmark and print one line for each batch."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--studies", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--operations", type=int, nargs="+", default=[40, 0], help="reads per second; 0: no limit")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    runs: list[SlowRun] = []
    with tempfile.TemporaryDirectory() as folder:
        root = make_studies(Path(folder), options.studies, small=False)
        for operations in options.operations:
            for workers in options.workers:
                for ahead in (False, True):
                    output = Path(folder) / f"out{len(runs)}"
                    runs.append(run_slow(root, output, ahead, workers, operations))
                    print(json.dumps(asdict(runs[-1])), flush=True)
    if options.output is not None:
        write_json(options.output, [asdict(run) for run in runs])


if __name__ == "__main__":
    main()
