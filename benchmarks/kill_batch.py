"""Kill a batch of ``osteo-monai screen`` many times and check that no study is lost, doubled or damaged.

Usage:
    python benchmarks/kill_batch.py [--kills 100] [--seed 0] [--studies 6] [--measured] [--output RESULTS.json]

The studies are small DICOM series with a missing slice, refused while reading, so that no model is loaded; listing,
reading, reports, results and the summary are those of a real batch. With ``--measured`` they are virtual CTs that pass
the whole pipeline with the shipped bundles. Each round stops a batch one to three times (of measured studies four to
six times), by SIGKILL or SIGINT, at a random moment or before or after a random file operation, checks what is on the
disk, and resumes. After the last stop the batch is resumed to its end.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from osteo_monai import make_ct
from osteo_monai.cli import run
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.screening.summary import SUMMARY_COLUMNS
from osteo_monai.utils.files import write_json

WRITES = {False: 16, True: 24}
"""File operations of a study that is refused while reading, and of one that is measured, about."""


def write_measured_study(folder: Path, number: int) -> None:
    """Write every second slice of a virtual CT."""
    made = make_ct(folder.parent.parent / f"made{number}", seed=number + 1, mean_density=60.0 + 25 * number, matrix=128)
    folder.mkdir(parents=True)
    slices = sorted(made.iterdir())
    for file in slices[::2]:
        ds = pydicom.dcmread(file)
        ds.SliceThickness = "4"
        ds.save_as(folder / file.name)


def write_study(folder: Path, number: int, slices: int = 8) -> None:
    """Write a CT series of 16 x 16 pixels without its fourth slice."""
    folder.mkdir(parents=True)
    study, series, frame = (
        generate_uid(entropy_srcs=[kind, str(number)])[:60] for kind in ("study", "series", "frame")
    )
    for index in (i for i in range(slices) if i != 3):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"{series}.{index}")
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.Modality, ds.PatientID, ds.ImageType = "CT", str(number), ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.Rows = ds.Columns = 16
        ds.PixelSpacing, ds.SliceThickness, ds.KVP, ds.InstanceNumber = [5, 5], 5, 120, index + 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 5 * index], [1, 0, 0, 0, 1, 0]
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 15, 1, -1024, "HU"
        ds.PixelData = np.random.default_rng(index).integers(0, 2000, (16, 16)).astype("<u2").tobytes()
        ds.save_as(folder / f"{index}.dcm", enforce_file_format=True)


def screen_in_child(study: Path, output: Path, resume: bool, prepare: Callable[[], None]) -> int:
    """Run the command in a forked process; return its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = 1
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in background processes
        try:
            prepare()
            code = run(["screen", str(study), "-o", str(output), *(["--resume"] if resume else [])])
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stop_after(seconds: float, kind: signal.Signals) -> Callable[[], None]:
    """Return a function that makes the process stop itself after a time."""

    def prepare() -> None:
        def stop() -> None:
            time.sleep(seconds)
            os.kill(os.getpid(), kind)

        threading.Thread(target=stop, daemon=True).start()

    return prepare


def stop_at_operation(number: int, after: bool, kind: signal.Signals) -> Callable[[], None]:
    """Return a function that makes the process stop itself before or after its n-th file operation."""

    def prepare() -> None:
        count = 0

        def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
            def both(*arguments: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == number and not after:
                    os.kill(os.getpid(), kind)
                value = operation(*arguments, **named)
                if count == number and after:
                    os.kill(os.getpid(), kind)
                return value

            return both

        for name in ("replace", "write", "mkdir", "unlink", "rmdir", "ftruncate"):
            setattr(os, name, counted(getattr(os, name)))
        Path.write_text = counted(Path.write_text)  # type: ignore[method-assign]

    return prepare


def faults(output: Path) -> list[str]:
    """Return what is damaged or doubled in the output of a stopped batch."""
    found = []
    for path in output.glob("*/result.json"):
        try:
            ScreeningResult.model_validate_json(path.read_bytes())
        except ValueError:
            found.append(f"{path.parent.name}/result.json is not whole")
    table = output / "summary.csv"
    if table.exists():
        text = table.read_text()
        rows = [line.split(",") for line in text.splitlines()]  # no cell of these studies is quoted
        if not text.endswith("\n") or rows[0] != list(SUMMARY_COLUMNS):
            found.append("summary.csv is not whole")
        if any(len(row) != len(SUMMARY_COLUMNS) for row in rows):
            found.append("summary.csv has an incomplete row")
        names = [row[0] for row in rows[1:]]
        if len(set(names)) < len(names):
            found.append("summary.csv has a study twice")
        found += [f"{n} has a row and no result" for n in names if not (output / n / "result.json").exists()]
    for path in output.glob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            found.append(f"{path.name} is not whole")
    return found


def final_faults(output: Path, names: list[str], before: dict[str, int]) -> list[str]:
    """Return what is wrong with a batch that was resumed to its end.

    Args:
        output: of the batch.
        names: of all studies.
        before: time of each whole result before the last run, which must have kept it.
    """
    found = faults(output)
    rows = [row["study"] for row in json.loads((output / "summary.json").read_text())]
    table = [line.split(",")[0] for line in (output / "summary.csv").read_text().splitlines()[1:]]
    if rows != names or table != names:
        found.append("the summary has not each study once")
    found += [f"left: {path.name}" for path in output.rglob(".*")]
    for name, changed in before.items():
        if (output / name / "result.json").stat().st_mtime_ns != changed:
            found.append(f"{name} was screened again")
    for name in names:
        files = {path.name for path in (output / name).iterdir()}
        measured = json.loads((output / name / "result.json").read_text())["levels"]
        if files != {"report.html", "result.json", *(["labels.nii.gz"] if measured else [])}:
            found.append(f"{name} has the files {sorted(files)}")
    return found


def whole_results(output: Path) -> dict[str, int]:
    """Return the time of each result that has all its files, by study."""
    return {
        path.parent.name: path.stat().st_mtime_ns
        for path in output.glob("*/result.json")
        if json.loads(path.read_text())["run"]
    }


def kill_many(folder: Path, kills: int, studies: int, seed: int, measured: bool = False) -> dict[str, Any]:
    """Stop batches until there were ``kills`` stops; return counts and all faults."""
    from osteo_monai.screening import models

    loaded = models.load_models("cpu") if measured else None  # others are refused before a model is used
    setattr(models, "load_models", lambda device, trust: loaded)  # noqa: B010
    draw = random.Random(seed)
    root = folder / "in"
    names = [f"s{number}" for number in range(studies)]
    for number, name in enumerate(names):
        (write_measured_study if measured else write_study)(root / name, number)
    started = time.perf_counter()
    code = screen_in_child(root, folder / "whole", False, lambda: None)
    duration = time.perf_counter() - started
    normal = code
    found = [] if code in (0, 3) else [f"the batch ended with {code}"]
    found += final_faults(folder / "whole", names, {})
    counts: Counter[str] = Counter()
    stops = 0
    while stops < kills:
        output = folder / f"out{stops}"
        for _ in range(draw.randint(4, 6) if measured else draw.randint(1, 3)):
            kind = draw.choice([signal.SIGKILL, signal.SIGINT])
            inside = draw.random() < 0.6
            if inside:
                prepare = stop_at_operation(draw.randint(1, WRITES[measured] * studies), draw.random() < 0.5, kind)
            else:
                prepare = stop_after(draw.uniform(0.0, 0.4 * duration if measured else duration), kind)
            ended = screen_in_child(root, output, output.exists(), prepare)
            hit = ended != normal
            stops += hit
            counts[f"{kind.name} {'inside a write' if inside else 'at a moment'}" if hit else "batch had ended"] += 1
            found += [f"stop {stops}: {fault}" for fault in faults(output)]
        before = whole_results(output)
        code = screen_in_child(root, output, True, lambda: None)
        counts["results kept"] += len(before)
        counts["results made after a stop"] += len(names) - len(before)
        found += [f"stop {stops}, resumed: {f}" for f in final_faults(output, names, before)]
        found += [f"stop {stops}: resumed run ended with {code}"] if code != normal else []
    facts = {"seed": seed, "studies": studies, "measured": measured, "exit_code": normal}
    return facts | {"stops": stops, "counts": dict(counts), "faults": found}


def main() -> None:
    """Run the benchmark; exit code 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--studies", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measured", action="store_true", help="virtual CTs that are measured")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = kill_many(Path(folder), options.kills, options.studies, options.seed, options.measured)
    print(json.dumps(report, indent=2))
    if options.output is not None:
        write_json(options.output, report)
    sys.exit(1 if report["faults"] else 0)


if __name__ == "__main__":
    main()
