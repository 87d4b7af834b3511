"""Read mutated files and count the outcomes: DICOM CT, radiographs, NIfTI, tables, JSON and phantom files.

Each reader runs in a process of its own with limits of memory and time; a crash, a hang or an error that is not of this
package is a failure. Each file that is mutated must be read before. Checksums of PNG files are computed again, JSON
values and cells of tables are replaced, so that mutations reach the code behind the parser.

    python benchmarks/fuzz_readers.py --cases 20000 --seed 1

Writes the counts to ``benchmarks/results/fuzz_readers_DATE.json``.
"""

import argparse
import gzip
import json
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, RLELossless

from osteo_monai.utils.files import write_json

RESULTS = Path(__file__).parent / "results"
SECONDS, WALL_SECONDS, MEMORY = 20, 300, 4 * 2**30
"""Limits of one case: processor time, time on a machine that may be busy, and address space, of which the imported
libraries take about half."""
SIZE, SLICES = 24, 4
ODD_JSON: tuple[Any, ...] = (None, [], {}, -1, 0, 1e308, 10**400, True, "", "x" * 70, [[[]]], {"a": []}, "\0", "\ud800")
ODD_VALUES = ("", "0", "-1", "1e30", "nan", "99999999999", "x" * 70, "a\\b", "1\\2\\3\\4", "\x1b[31m", "65535")


def ct_slice(k: int) -> Dataset:
    """Return a slice of a made-up cylinder of soft tissue with a bone."""
    y, x = np.mgrid[:SIZE, :SIZE]
    hu = np.where((x - 12) ** 2 + (y - 12) ** 2 < 90, 40 + k, -1000) + np.where(
        (x - 12) ** 2 + (y - 16) ** 2 < 9, 200, 0
    )
    hu[10:12, 4:9] = -100
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"1.2.3.{k + 1}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID, ds.Modality = "1.2", "1.2.4", "1.2.5", "CT"
    ds.ImageType, ds.PatientName, ds.PatientID, ds.PatientAge = ["ORIGINAL", "PRIMARY", "AXIAL"], "A^B", "1", "060Y"
    ds.KVP, ds.SliceThickness, ds.ConvolutionKernel, ds.InstanceNumber = 120, 2, "B30f", k + 1
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * k]
    ds.PixelSpacing, ds.Rows, ds.Columns = [0.9, 0.9], SIZE, SIZE
    _pixels(ds, (hu.clip(-1000) + 1024).astype("<u2"))
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    return ds


def _pixels(ds: Dataset, values: np.ndarray[Any, Any]) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored = 1, "MONOCHROME2", 16, 12
    ds.HighBit, ds.PixelRepresentation, ds.PixelData = 11, 0, values.tobytes()


def _film() -> np.ndarray[Any, Any]:
    """Return two dark lungs in a brighter chest, with texture: recognised as a frontal chest."""
    y, x = np.mgrid[:300, :280] / 300
    side = np.abs(x - 0.47)
    top = 0.12 + 0.3 * np.clip(side - 0.15, 0, 1)
    chest = np.where((side < 0.33) & (y > top), 800, 1600)
    film = np.where((y > 0.75) | ((side < 0.08) & (y < 0.8)), 3400, np.where(y < top, 2000, chest))
    return np.asarray(film + (x * 2100 + y * 3900) % 400, "<u2")


def write_seeds(folder: Path) -> dict[str, Path]:
    """Write one sound input of each kind; return its path."""
    seeds = {}
    for name in ("ct", "ct_rle"):
        seeds[name] = folder / name
        seeds[name].mkdir()
        for k in range(SLICES):
            ds = ct_slice(k)
            if name == "ct_rle":
                ds.compress(RLELossless)
            ds.save_as(seeds[name] / f"IM_{k}.dcm", enforce_file_format=True)
    film = ct_slice(0)
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.Modality, film.Rows, film.Columns, film.ViewPosition, film.BodyPartExamined = "DX", 300, 280, "PA", "CHEST"
    _pixels(film, _film())
    seeds["film_dicom"] = folder / "film.dcm"
    film.save_as(seeds["film_dicom"], enforce_file_format=True)
    seeds["film_png"] = folder / "film.png"
    Image.fromarray((_film() // 16).astype(np.uint8)).save(seeds["film_png"])
    seeds["film_jpeg"] = folder / "film.jpg"
    Image.fromarray((_film() // 16).astype(np.uint8)).save(seeds["film_jpeg"])
    volume = np.stack([ct_slice(k).pixel_array.astype(np.int16) - 1024 for k in range(SLICES)], axis=2)
    for name, ending in (("nifti", "nii"), ("nifti_gz", "nii.gz")):
        seeds[name] = folder / f"scan.{ending}"
        nib.save(nib.Nifti1Image(volume, np.diag([0.9, 0.9, 2.0, 1.0])), seeds[name])
    seeds["table"] = folder / "model.csv"
    rows = [f"S{n},{60 + 3 * n},{62 + 3 * n},{50 + n}" for n in range(20)]
    seeds["table"].write_text("\n".join(["subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,age", *rows]) + "\n")
    seeds["manifest"] = folder / "manifest.json"
    record = {
        "image": "scan.nii",
        "subject_id": "S1",
        "age": 60,
        "sex": "F",
        "bmd_mg_cm3": 90,
        "bmd_standard": "K2HPO4",
    }
    header = {"name": "n", "description": "d", "virtual": False}
    seeds["manifest"].write_text(json.dumps({**header, "training": [record], "validation": [], "test": []}))
    seeds["phantom"] = folder / "phantom.json"
    rods = [{"density_mg_cm3": 50.0 * n, "centre_mm": [10.0 * n, 0, 0], "radius_mm": 5} for n in range(4)]
    seeds["phantom"].write_text(json.dumps({"name": "p", "standard": "K2HPO4", "rods": rods}))
    return seeds


def readers() -> dict[str, Callable[[Path], object]]:
    """Return the reader of each kind of seed."""
    from osteo_monai.data import read_manifest
    from osteo_monai.data.predictions_table import read_predictions
    from osteo_monai.imaging import read_ct
    from osteo_monai.imaging.radiograph import read_radiograph
    from osteo_monai.measurement.calibration.phantom import read_phantom

    return {
        **dict.fromkeys(("ct", "ct_rle", "nifti", "nifti_gz"), read_ct),
        **dict.fromkeys(("film_dicom", "film_png", "film_jpeg"), read_radiograph),
        "table": lambda path: read_predictions([path]),
        "manifest": read_manifest,
        "phantom": read_phantom,
    }


def mutate_bytes(content: bytes, dice: random.Random) -> bytes:
    """Flip, cut, insert, copy or overwrite bytes at random places."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 5))):
        at, kind = dice.randrange(max(1, len(data))), dice.randrange(5)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = dice.randbytes(dice.choice((1, 2, 100)))
        elif kind == 3:
            data[at : at + 4] = dice.choice((b"\xff\xff\xff\xff", bytes(4), b"\xff\xff\xff\x7f", b"\0\x80\0\0"))
        else:
            data[at:at] = data[at : at + dice.randrange(1, 400)]
    return bytes(data)


def mutate_header(content: bytes, dice: random.Random) -> bytes:
    """Change, delete or replace an element of a DICOM file."""
    source = pydicom.filebase.DicomBytesIO(content)
    ds = pydicom.dcmread(source)
    element = dice.choice([e for e in ds if e.keyword and e.keyword != "PixelData"])
    if dice.random() < 0.3:
        del ds[element.tag]
    else:
        value = dice.choice(ODD_VALUES)
        ds.add(pydicom.DataElement(element.tag, "UT" if dice.random() < 0.3 else "LO", value))
    target = pydicom.filebase.DicomBytesIO()
    ds.save_as(target)
    return bytes(target.getvalue())


def mutate_png(content: bytes, dice: random.Random) -> bytes:
    """Change the decompressed pixels or the bytes of one chunk of a PNG, with length and checksum computed again."""
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += size + 12
    number = dice.randrange(len(chunks))
    name, data = chunks[number]
    if name == b"IDAT" and dice.random() < 0.7:
        data = zlib.compress(mutate_bytes(zlib.decompress(data), dice), 1)
    else:
        data = mutate_bytes(data, dice)
    if dice.random() < 0.1:
        name = dice.choice((b"PLTE", b"tRNS", b"gAMA", b"eXIf", b"iCCP", b"zTXt", b"IDAT", b"IEND"))
    chunks[number] = name, data
    parts = [len(d).to_bytes(4, "big") + n + d + zlib.crc32(n + d).to_bytes(4, "big") for n, d in chunks]
    return content[:8] + b"".join(parts)


def mutate_json(content: bytes, dice: random.Random) -> bytes:
    """Replace, delete or repeat a value at any depth of a JSON document."""
    document = json.loads(content)
    places: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        parent = stack.pop()
        for key in list(parent) if isinstance(parent, dict) else range(len(parent)):
            places.append((parent, key))
            if isinstance(parent[key], (dict, list)):
                stack.append(parent[key])
    for parent, key in dice.sample(places, dice.choice((1, 1, 2))):
        kind = dice.random()
        if kind < 0.2 and isinstance(parent, dict):
            parent.pop(key, None)
        elif kind < 0.3 and isinstance(parent, list):
            parent.extend(parent[:])
        elif isinstance(parent, dict) or key < len(parent):
            parent[key] = dice.choice(ODD_JSON)
    return json.dumps(document).encode()


def mutate_table(content: bytes, dice: random.Random) -> bytes:
    """Replace cells of a CSV table, its header included, or repeat or delete a line."""
    lines = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(dice.choice((1, 1, 3))):
        line = dice.randrange(len(lines))
        if dice.random() < 0.2:
            lines.insert(line, lines[dice.randrange(len(lines))][:])
        else:
            lines[line][dice.randrange(len(lines[line]))] = dice.choice((*ODD_VALUES, "1,5", '"', "#", "=1+1", "Total"))
    return "\n".join(",".join(line) for line in lines).encode()


STRUCTURED: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "film_png": mutate_png,
    "manifest": mutate_json,
    "phantom": mutate_json,
    "table": mutate_table,
}
"""Mutations that keep the format of a kind sound, used for most of its cases."""


def mutate(kind: str, path: Path, dice: random.Random) -> None:
    """Replace one file at ``path`` by a mutated one."""
    victim = dice.choice(sorted(path.iterdir())) if path.is_dir() else path
    content = victim.read_bytes()
    if victim.suffix == ".dcm" and dice.random() < 0.5:
        try:
            victim.write_bytes(mutate_header(content, dice))
            return
        except (ValueError, TypeError, AttributeError):
            pass  # the value cannot be encoded: bytes are changed instead
    if kind in STRUCTURED and dice.random() < 0.7:
        victim.write_bytes(STRUCTURED[kind](content, dice))
    elif kind == "nifti_gz" and dice.random() < 0.7:
        victim.write_bytes(gzip.compress(mutate_bytes(gzip.decompress(content), dice), 1))
    else:
        victim.write_bytes(mutate_bytes(content, dice))


def run_case(read: Callable[[Path], object], path: Path) -> str:
    """Return the outcome of one read: a word, or ``FAILED`` and the class of an error that is not of this package."""
    from osteo_monai.errors import OsteoError

    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
    signal.alarm(WALL_SECONDS)
    try:
        read(path)
    except OsteoError as error:
        return type(error).__name__ if "\0" not in str(error) else "FAILED message"
    except BaseException as error:  # noqa: BLE001  # any other class is what this script looks for
        return f"FAILED {type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return "read"


def check_seeds() -> None:
    """Read each seed: one that is refused would hide all code behind the refusal."""
    of_kind = readers()
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in write_seeds(Path(folder)).items():
            of_kind[kind](path)


def work(connection: Any, seed: int, cases: range) -> None:
    """Run cases and send the kind before and the outcome after each."""
    import shutil

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    of_kind = readers()
    with tempfile.TemporaryDirectory() as folder, pydicom.config.disable_value_validation():
        seeds = write_seeds(Path(folder))
        kinds = sorted(seeds)
        for case in cases:
            dice = random.Random(f"{seed}/{case}")
            kind = kinds[case % len(kinds)]
            path = Path(folder, "mutated", seeds[kind].name)
            path.parent.mkdir()
            (shutil.copytree if seeds[kind].is_dir() else shutil.copy)(seeds[kind], path)
            if kind == "manifest":
                shutil.copy(seeds["nifti"], path.parent)  # its image
            mutate(kind, path, dice)
            connection.send((case, kind))
            begin = time.monotonic()
            outcome = run_case(of_kind[kind], path)
            users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
            peak = max(resource.getrusage(user).ru_maxrss for user in users) // 1024
            connection.send((outcome, time.monotonic() - begin, peak))
            shutil.rmtree(path.parent)


def run_cases(log: Path, seed: int, cases: int, seconds: float) -> None:
    """Run the cases that the log does not have yet, one line each; start a new process after a crash.

    Args:
        log: JSON lines with case, kind, outcome, s and peak_mib, the peak memory so far.
        seed: of all cases.
        cases: number of the last case plus one.
        seconds: stop after this time.
    """
    begin = time.monotonic()
    first = sum(1 for _ in log.open()) if log.exists() else 0
    context = multiprocessing.get_context("spawn")
    with log.open("a", buffering=1) as lines:
        while first < cases and time.monotonic() - begin < seconds:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, seed, range(first, cases)), daemon=False)
            process.start()
            theirs.close()
            case, kind = first, "start"
            try:
                while first < cases and time.monotonic() - begin < seconds:
                    case, kind = ours.recv()
                    outcome, taken, peak = ours.recv()
                    _add(lines, case=case, kind=kind, outcome=outcome, s=round(taken, 2), peak_mib=peak)
                    first = case + 1
            except EOFError:
                process.join()
                hang = f"hang: {-signal.SIGPROF} or {-signal.SIGALRM}"
                outcome = f"FAILED process: ended with {process.exitcode} ({hang})"
                _add(lines, case=case, kind=kind, outcome=outcome, s=None, peak_mib=None)
                first = case + 1
            process.terminate()
            process.join()


def _add(lines: TextIO, **facts: object) -> None:
    lines.write(json.dumps(facts) + "\n")


def summary(log: Path, seed: int) -> dict[str, Any]:
    """Return the counts by outcome, the slowest case, the peak memory and the failures of a log."""
    cases = [json.loads(line) for line in log.open()]
    slowest = max((c for c in cases if c["s"] is not None), key=lambda c: c["s"])
    counts = Counter((c["kind"], c["outcome"]) for c in cases)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seed": seed,
        "cases": len(cases),
        "seconds": round(sum(c["s"] or 0 for c in cases)),
        "slowest": slowest,
        "peak_mib": max(c["peak_mib"] or 0 for c in cases),
        "limits": {"processor_seconds": SECONDS, "seconds": WALL_SECONDS, "address_space_mib": MEMORY // 2**20},
        "failures": [f"case {c['case']} ({c['kind']}): {c['outcome']}" for c in cases if "FAILED" in c["outcome"]],
        "outcomes": {
            kind: {outcome: n for (k, outcome), n in sorted(counts.items()) if k == kind}
            for kind in sorted({k for k, _ in counts})
        },
    }


def main() -> None:
    """Run all cases; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600, help="stop after this time")
    parser.add_argument("--log", type=Path, help="one line per case; a log that exists is continued")
    given = parser.parse_args()
    check_seeds()
    with tempfile.TemporaryDirectory() as folder:
        log = given.log or Path(folder, "log")
        run_cases(log, given.seed, given.cases, given.seconds)
        record = summary(log, given.seed)
    for kind, outcomes in record["outcomes"].items():
        for outcome, count in outcomes.items():
            print(f"{kind:12} {outcome:24} {count}")
    print(f"{record['cases']} cases, {record['seconds']} s in the readers, peak {record['peak_mib']} MiB")
    print(f"slowest {record['slowest']}", *record["failures"][:40], sep="\n")
    write_json(RESULTS / f"fuzz_readers_{record['date']}.json", record, indent=1)
    sys.exit(bool(record["failures"]))


if __name__ == "__main__":
    main()
