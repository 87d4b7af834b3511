"""Time and peak memory of screening one 512 x 512 x 150 virtual study, DICOM in, report out, by stage.

    python benchmarks/screening.py [--study FOLDER] [--device cpu] [--threads 2] [--repeats 1]

Without ``--study`` a virtual one is made first, in a process of its own. The first run pays for imports and loading;
further ones show what each study of many costs. Prints a table and writes ``benchmarks/results/screening_DATE.json``.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from osteo_monai.utils.files import write_json

RESULTS = Path(__file__).parent / "results"
BAR_SECONDS, BAR_GIB = 10.0, 1.5
"""The project's bars for one study on two CPU cores."""


class StageMemory:
    """Samples this process's resident memory every 10 ms and keeps the highest value of each stage."""

    def __init__(self) -> None:
        self.peak: dict[str, int] = {}
        self.stage = "starting"
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "StageMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def begin(self, stage: str) -> None:
        """Count memory for ``stage`` from here on."""
        self.stage = stage

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            used = self._process.memory_info().rss
            self.peak[self.stage] = max(self.peak.get(self.stage, 0), used)


def make_study(folder: Path) -> tuple[Path, float]:
    """Write one virtual study in another process, and return its DICOM folder and the wall time in seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "osteo_monai", "virtual", "ct", "--output", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "dicom", time.perf_counter() - started


def run_once(study: Path, output: Path, device: str, models: Any) -> tuple[dict[str, Any], Any]:
    """Screen ``study`` and return its row and the models, for the next run."""
    started = time.perf_counter()
    with StageMemory() as memory:
        memory.begin("importing")
        from osteo_monai.screening import Study, load_models
        from osteo_monai.screening_files import screen_to_folder

        if models is None:
            import monai.bundle  # noqa: F401

            importing = time.perf_counter() - started
            memory.begin("loading the models")
            before = time.perf_counter()
            models = load_models(device)
            seconds = {"importing": importing, "loading the models": time.perf_counter() - before}
        else:
            seconds = {}
        result = screen_to_folder(Study("ct", study), output, models=models, on_stage=memory.begin)
    seconds |= result.seconds
    total = time.perf_counter() - started
    gib = {stage: round(peak / 2**30, 3) for stage, peak in memory.peak.items()}
    row = {
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "total_seconds": round(total, 3),
        "peak_gib": gib,
        "highest_peak_gib": max(gib.values()),
        "verdict": result.verdict,
        "shape": None if result.acquisition is None else result.acquisition.shape,
    }
    return row, models


def main() -> None:
    """Run the benchmark, print its table and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, help="DICOM folder or NIfTI file; a virtual one is made where not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = None
        study = arguments.study
        if study is None:
            study, made = make_study(Path(scratch) / "virtual")
        import torch

        torch.set_num_threads(arguments.threads)
        rows, models = [], None
        for n in range(arguments.repeats):
            row, models = run_once(study, Path(scratch) / f"out{n}", arguments.device, models)
            rows.append(row)

    table = Table("stage", *(f"run {n + 1}: s" for n in range(len(rows))), "peak GiB (run 1)")
    for stage in rows[0]["seconds"]:
        times = [f"{row['seconds'][stage]:.2f}" if stage in row["seconds"] else "" for row in rows]
        table.add_row(stage, *times, f"{rows[0]['peak_gib'].get(stage, float('nan')):.2f}")
    table.add_row("total", *(f"{row['total_seconds']:.2f}" for row in rows), f"{rows[0]['highest_peak_gib']:.2f}")
    table.add_row("bar", *[f"{BAR_SECONDS:.0f}"] * len(rows), f"{BAR_GIB:.0f}")
    Console().print(table)

    now = datetime.now(UTC)
    record = {
        "date": now.isoformat(timespec="seconds"),
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": psutil.cpu_count()},
        "load_average_1min": round(psutil.getloadavg()[0], 2),
        "threads": arguments.threads,
        "device": arguments.device,
        "torch": torch.__version__,
        "virtual_ct_seconds": None if made is None else round(made, 1),
        "bars": {"seconds": BAR_SECONDS, "gib": BAR_GIB},
        "runs": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"screening_{now:%Y-%m-%d_%H%M}.json"
    write_json(path, record, indent=1)
    print(f"Written: benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
