"""Speed, memory and safety of a batch: 1, 10 and 100 studies on 1 and 2 workers and on local Ray.

Usage:
    python -m benchmarks.batch [--studies 1 10 100] [--workers 1 2] [--cluster] [--apart] [--price 0.05] [--small]
        [--output FILE.json] [--table FILE.md]

Each study is a virtual CT of 128 x 128 pixels that passes the whole pipeline; with ``--small`` it is a series with a
missing slice, refused while reading, which shows the cost of the engine itself. Each batch is one run of
``osteo-monai screen`` in a process of its own, as a user starts it; its wall time includes the start and the loading
of the models. Other work on the machine is in the wall time and not in the CPU time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pydicom
from pydicom.uid import generate_uid

from benchmarks.kill_batch import write_measured_study, write_study
from osteo_monai.utils.files import write_json, write_text

_SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class BatchRun:
    """One batch.

    Attributes:
        place: ``processes`` or ``ray``.
        studies: number of studies.
        workers: number of workers.
        wall_s: from the start of the command to its end.
        cpu_s: user and system time of the command and all its processes.
        studies_per_hour: by wall time, start included.
        cpu_s_a_study: CPU time of a study, start included.
        peak_mib: largest sum of the resident memory of the command and all its processes.
        tenths_mib: largest sum while each tenth of the studies was screened, from 10 studies on; loading of the models
            is in the first.
        command_mib: the same, of the command only.
        cost_per_1000: price of the CPU time of 1,000 studies.
        load: load average of the machine at the end; above the number of cores, wall times hold other work.
    """

    place: str
    studies: int
    workers: int
    wall_s: float
    cpu_s: float
    studies_per_hour: float
    cpu_s_a_study: float
    peak_mib: float
    tenths_mib: tuple[int | None, ...]
    command_mib: tuple[int | None, ...]
    cost_per_1000: float
    load: float


def make_studies(folder: Path, count: int, small: bool) -> Path:
    """Write studies; those that are measured are copies of five virtual CTs, which are slow to make.

    Args:
        folder: to write below.
        count: number of studies.
        small: series that are refused while reading.
    """
    root = folder / f"in{count}"
    if small:
        for number in range(count):
            write_study(root / f"s{number:04}", number)
        return root
    root.mkdir(parents=True)
    for number in range(count):
        made = folder / "made" / f"s{number % 5}"
        if not made.exists():
            write_measured_study(made, number % 5)
        _copy_study(made, root / f"s{number:04}", number)
    return root


def _copy_study(made: Path, folder: Path, number: int) -> None:
    """Copy a study under identifiers of its own: copies of one study would be one study."""
    folder.mkdir()
    study, series, frame = (generate_uid(entropy_srcs=[kind, str(number)]) for kind in ("study", "series", "frame"))
    for file in made.iterdir():
        ds = pydicom.dcmread(file)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[str(ds.SOPInstanceUID), str(number)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / file.name)


def run_batch(root: Path, output: Path, workers: int, price: float, cluster: str = "", apart: bool = False) -> BatchRun:
    """Screen a folder by the command and measure it.

    Args:
        root: folder of the studies.
        output: new folder for the results.
        workers: number of workers.
        price: of one hour of one core.
        cluster: address for ``--cluster``; processes if empty.
        apart: also one worker is a process of its own.

    Raises:
        RuntimeError: the command ended with an error, or has not each study once.
    """
    count = len(list(root.iterdir()))
    words = [sys.executable, "-m", "osteo_monai", "screen", str(root), "-o", str(output), "--workers", str(workers)]
    words += ["--cluster", cluster] if cluster else []
    words += ["--time-limit", "3600"] if apart else []
    begin = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        samples, cpu = _watch(psutil.Process(process.pid), output)
    wall = time.monotonic() - begin
    if process.returncode not in (0, 3):
        raise RuntimeError(f"the batch ended with exit code {process.returncode}")
    rows = len(json.loads((output / "summary.json").read_text()))
    if rows != count:
        raise RuntimeError(f"the summary must have {count} studies, got {rows}")
    return BatchRun(
        place="ray" if cluster else "processes",
        studies=count,
        workers=workers,
        wall_s=round(wall, 1),
        cpu_s=round(cpu, 1),
        studies_per_hour=round(3600 * count / wall, 1),
        cpu_s_a_study=round(cpu / count, 3),
        peak_mib=round(max((sample.mib for sample in samples), default=0.0)),
        tenths_mib=_tenths([(sample.done, sample.mib) for sample in samples], count),
        command_mib=_tenths([(sample.done, sample.command_mib) for sample in samples], count),
        cost_per_1000=round(price * cpu / count * 1000 / 3600, 3),
        load=round(os.getloadavg()[0], 1),
    )


@dataclass(frozen=True)
class _Sample:
    """Studies that have a result, and memory of all processes and of the command."""

    done: int
    mib: float
    command_mib: float


def _tenths(samples: Sequence[tuple[int, float]], count: int) -> tuple[int | None, ...]:
    """Return the largest value while each tenth of the studies was screened; ``None`` where no sample was taken."""
    if count < 10:
        return ()
    tenths = [[mib for done, mib in samples if min(10 * done // count, 9) == tenth] for tenth in range(10)]
    return tuple(round(max(values)) if values else None for values in tenths)


def _watch(command: psutil.Process, output: Path) -> tuple[list[_Sample], float]:
    """Return samples of progress and memory, and the CPU seconds of all processes, until the command ends."""
    samples: list[_Sample] = []
    seconds: dict[tuple[int, float], float] = {}
    while True:
        resident = own = 0
        try:
            family = [command, *command.children(recursive=True)]
            ended = command.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            break
        for process in family:
            try:
                times = process.cpu_times()
                seconds[(process.pid, process.create_time())] = times.user + times.system
                used = process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            resident += used
            own += used if process == command else 0
        if ended:
            break
        done = sum(1 for _ in output.glob("*/result.json")) if output.exists() else 0
        samples.append(_Sample(done, resident / 2**20, own / 2**20))
        time.sleep(_SAMPLE_SECONDS)
    return samples, sum(seconds.values())


def compare(
    folder: Path,
    studies: list[int],
    workers: list[int],
    cluster: bool,
    price: float,
    small: bool,
    apart: bool = False,
    on_run: Callable[[list[BatchRun]], None] = lambda runs: None,
) -> list[BatchRun]:
    """Run batches of each size on each number of workers, by processes and, if requested, on local Ray.

    Args:
        folder: for input and output.
        studies: numbers of studies.
        workers: numbers of workers.
        cluster: also run on local Ray.
        price: of one hour of one core.
        small: series that are refused while reading, in place of measured ones.
        apart: also one worker is a process of its own.
        on_run: called with all runs after each of them.
    """
    runs: list[BatchRun] = []
    for count in studies:
        root = make_studies(folder, count, small)
        for place in ("", "local") if cluster else ("",):
            for number in workers:
                run = run_batch(root, folder / f"out{count}_{number}{place}", number, price, place, apart)
                print(json.dumps(asdict(run)), flush=True)
                runs.append(run)
                on_run(runs)
    return runs


def table_of(runs: Sequence[BatchRun]) -> str:
    """Return the runs as a table in Markdown; ``times one`` is the ratio of studies per hour to one worker."""
    lines = [
        "| studies | workers | wall s | CPU s | CPU s a study | studies per hour | times one | peak MiB | per 1,000 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    single = {(run.place, run.studies): run.studies_per_hour for run in runs if run.workers == 1}
    for run in runs:
        name = f"{run.workers} on local Ray" if run.place == "ray" else f"{run.workers} by process"
        one = single.get((run.place, run.studies))
        ratio = "" if one is None else f"{run.studies_per_hour / one:.2f}"
        cells = (run.studies, name, run.wall_s, run.cpu_s, f"{run.cpu_s_a_study:.1f}", f"{run.studies_per_hour:.0f}")
        lines.append(f"| {' | '.join(map(str, (*cells, ratio, round(run.peak_mib), run.cost_per_1000)))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark and print one line for each batch."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--studies", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cluster", action="store_true", help="also on local Ray")
    parser.add_argument(
        "--price", type=float, default=0.05, help="of one hour of one core, in the currency of the user"
    )
    parser.add_argument("--small", action="store_true", help="studies that are refused while reading")
    parser.add_argument("--apart", action="store_true", help="also one worker is a process of its own")
    parser.add_argument("--output", type=Path, help="JSON, written after each batch")
    parser.add_argument("--table", type=Path, help="Markdown table for the documentation")
    options = parser.parse_args()

    def write(runs: list[BatchRun]) -> None:
        facts: dict[str, Any] = {
            "cores": psutil.cpu_count(), "threads_of_a_worker": os.environ.get("OMP_NUM_THREADS", "cores / workers"),
            "small": options.small, "price_of_a_core_hour": options.price,
        }  # fmt: skip
        if options.output is not None:
            write_json(options.output, facts | {"runs": [asdict(run) for run in runs]})
        if options.table is not None:
            write_text(options.table, table_of(runs))

    with tempfile.TemporaryDirectory() as folder:
        compare(
            Path(folder), options.studies, options.workers, options.cluster, options.price, options.small,
            options.apart, write,
        )  # fmt: skip


if __name__ == "__main__":
    main()
