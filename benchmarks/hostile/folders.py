"""Lost, doubled and stale studies (L), hangs and bombs (C) and identifiers (I) of ``break.md``."""

import gzip
import json
import os
import shutil
import signal
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from benchmarks.hostile.case import NAMED, REFUSED, RIGHT, Outcome, Ran, Register, Work, expect, rows_of, small

FOLDERS = Register("break")
SECONDS = 20.0
NAME = "Zyxwvut"


def last_line(ran: Ran) -> str:
    """Return the last line that a command printed which is no statement of purpose."""
    lines = [line.strip() for line in ran.text.splitlines() if line.strip() and "Research use only" not in line]
    return lines[-1] if lines else "no text"


def batch(work: Work, count: int, *others: str) -> Ran:
    """Screen the folder ``in`` and check that it has this number of rows, each with a result."""
    return work.command("screen", work.folder / "in", "-o", work.folder / "out", *others)


def rows(work: Work, ran: Ran, count: int, said: str = "") -> Outcome:
    """Return whether each of ``count`` studies has one row and a result, and ``said`` is printed."""
    found = rows_of(work.folder / "out")
    whole = all((work.folder / "out" / name / "result.json").is_file() for name in found)
    ok = len(found) == len(set(found)) == count and whole and ran.code in (2, 3) and said in ran.text
    return expect(ok, RIGHT if not said else NAMED, f"{len(found)} of {count} rows, exit {ran.code}; {last_line(ran)}")


@FOLDERS.case("L1", "a folder name that is not UTF-8 between two studies", "1 of 3 rows")
def not_utf8(work: Work) -> Outcome:
    """The name is Latin-1."""
    base = work.folder / "in"
    for number, name in enumerate((b"aaa", b"st\xe9", b"zzz")):
        small(Path(os.fsdecode(os.path.join(os.fsencode(base), name))), number)
    return rows(work, batch(work, 3), 3)


@FOLDERS.case("L2", "a study five folders deep with names of 61 characters", "1 of 3 rows")
def long_names(work: Work) -> Outcome:
    """The joined name is longer than the file system allows."""
    small(work.folder / "in" / "a", 0)
    small(work.folder.joinpath("in", *(str(n) * 61 for n in range(5))), 1)
    small(work.folder / "in" / "z", 2)
    return rows(work, batch(work, 3), 3)


@FOLDERS.case("L3", "studies called result.json, summary.csv, summary.json", "1 of 3 rows")
def taken_names(work: Work) -> Outcome:
    """Names of output files."""
    for number, name in enumerate(("result.json", "summary.csv", "summary.json")):
        small(work.folder / "in" / name, number)
    return rows(work, batch(work, 3), 3)


def six(work: Work, count: int = 6) -> Path:
    """Write six studies."""
    for number in range(count):
        small(work.folder / "in" / f"s{number}", number)
    return work.folder / "in"


@FOLDERS.case("L4", "the reader of stdout has gone", "1 of 6 rows")
def closed_pipe(work: Work) -> Outcome:
    """The output of six studies is piped to a program that ends at once."""
    six(work)
    work.shell("$OSTEO screen in -o out | head -0; true")
    return expect(len(rows_of(work.folder / "out")) == 6, RIGHT, f"{len(rows_of(work.folder / 'out'))} of 6 rows")


@FOLDERS.case("L5", "disk full (files of at most 6 kB)", "all rows 'unexpected error (OSError)'")
def disk_full(work: Work) -> Outcome:
    """Reports are larger than the limit, results are not."""
    work.command("screen", six(work), "-o", work.folder / "out", file_bytes=6_000)
    found = rows_of(work.folder / "out")
    results = list((work.folder / "out").glob("*/result.json"))
    codes = {f["code"] for path in results for f in json.loads(path.read_text())["findings"]}
    ok = len(found) == 6 and len(results) == 6 and {"missing_slice", "output_failed"} <= codes
    return expect(ok, NAMED, f"{len(found)} rows, {len(results)} results with {', '.join(sorted(codes))}")


@FOLDERS.case("L6", "six studies screened, one taken out, --overwrite", "5 rows, 6 result folders")
def stale(work: Work) -> Outcome:
    """The result of the removed study must go."""
    batch(work, 6) if six(work) else None
    shutil.rmtree(work.folder / "in" / "s3")
    ran = batch(work, 5, "--overwrite")
    left = len(list((work.folder / "out").glob("*/result.json")))
    return expect(left == 5 == len(rows_of(work.folder / "out")), RIGHT, f"5 rows, {left} results, exit {ran.code}")


@FOLDERS.case("L7", "two runs at once into one folder", "both end normally, six results gone")
def two_runs(work: Work) -> Outcome:
    """The second run starts while the first one writes."""
    six(work)
    shutil.copytree(work.folder / "in", work.folder / "in2")
    script = "$OSTEO screen in -o out >a 2>&1 & sleep 0.7; $OSTEO screen in2 -o out >b 2>&1; wait %1; cat a b"
    ran = work.shell(script)
    refusals = ran.text.count("no other run writes to") + ran.text.count("--overwrite must be given")
    whole = len(rows_of(work.folder / "out")) == 6
    return expect(
        refusals == 1 and whole, REFUSED, next(line for line in ran.text.splitlines() if "osteo-monai:" in line)
    )


@FOLDERS.case("L8", "output in input, again with labels and heat map", "4 rows for 2 studies")
def output_in_input(work: Work) -> Outcome:
    """Earlier output is no study."""
    root = six(work, 2)
    output = root / "results"
    work.command("screen", root, "-o", output)
    work.nifti(np.ones((4, 4, 4), np.int16), np.eye(4), "labels.nii.gz").rename(output / "s0" / "labels.nii.gz")
    (output / "s0" / "heat_map.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    again = work.command("screen", root, "-o", output, "--overwrite")
    other = work.command("screen", root, "-o", work.folder / "elsewhere")
    names = (rows_of(output), rows_of(work.folder / "elsewhere"))
    return expect(names == (["s0", "s1"],) * 2, RIGHT, f"rows {names}, exit {again.code} and {other.code}")


@FOLDERS.case("L9", "SIGKILL in the middle, then --resume", "refused, or all six again")
def killed(work: Work) -> Outcome:
    """What was done is kept. ``benchmarks/kill_batch.py`` does this at 100 places."""
    six(work)
    child = os.fork()
    if child == 0:
        work.command("screen", work.folder / "in", "-o", work.folder / "out")
        os._exit(0)
    until = time.monotonic() + SECONDS
    while not (work.folder / "out" / "s2" / "result.json").exists() and time.monotonic() < until:
        time.sleep(0.01)
    for line in Path(f"/proc/{child}/task/{child}/children").read_text().split():
        os.kill(int(line), signal.SIGKILL)
    os.waitpid(child, 0)
    before = {
        p: p.stat().st_mtime_ns for p in (work.folder / "out").glob("*/result.json") if json.loads(p.read_text())["run"]
    }
    ran = batch(work, 6, "--resume")
    kept = sum(p.stat().st_mtime_ns == t for p, t in before.items())
    ok = len(rows_of(work.folder / "out")) == 6 and 0 < kept == len(before) < 6
    return expect(ok, RIGHT, f"{kept} of {len(before)} kept, {len(rows_of(work.folder / 'out'))} rows, exit {ran.code}")


@FOLDERS.case("L10", "a flipped byte in the SOPClassUID of an end slice", "5 of 6 slices, no finding")
def lost_slice(work: Work) -> Outcome:
    """A slice that is no CT image any more, in the same series."""
    work.study[-1].SOPClassUID = "1.2.840.10008.5.1.4.1.1.8"
    work.study[-1].file_meta.MediaStorageSOPClassUID = pydicom.uid.UID("1.2.840.10008.5.1.4.1.1.8")
    return work.header(work.save(work.study), named=("slices_ignored", "damaged_files", "other_objects"))


@FOLDERS.case("L11", "files of two studies in one folder", "one row several_studies, both lost")
def flat(work: Work) -> Outcome:
    """A flat export."""
    for number in (0, 1):
        small(work.folder / f"made{number}", number)
        for file in sorted((work.folder / f"made{number}").iterdir()):
            (work.folder / "in" / "export").mkdir(parents=True, exist_ok=True)
            file.rename(work.folder / "in" / "export" / f"{number}_{file.name}")
    return rows(work, batch(work, 2), 2)


@FOLDERS.case("C1", "a FIFO in the study folder", "hangs for ever")
def fifo(work: Work) -> Outcome:
    """It is never opened for reading."""
    small(work.folder / "in" / "a", 0)
    small(work.folder / "in" / "b", 1)
    os.mkfifo(work.folder / "in" / "a" / "pipe")
    ran = work.command("screen", work.folder / "in", "-o", work.folder / "out", seconds=SECONDS)
    return rows(work, ran, 2, "named pipe")


@FOLDERS.case("C2", "one slice states 33554432 frames of 4 x 4 pixels", "no end at 15 s")
def many_frames(work: Work) -> Outcome:
    """The cost must not grow with what a header states."""
    slices = work.study[:6]
    slices[2].Rows = slices[2].Columns = 4
    slices[2].NumberOfFrames = "33554432"
    slices[2].PixelData = bytes(32)
    begin = time.monotonic()
    found = work.header(work.save(slices), refused=("bad_size", "mixed_sizes", "missing_slice"))
    taken = time.monotonic() - begin
    return found if taken < SECONDS / 4 else expect(False, REFUSED, f"{taken:.0f} s")


def bomb_header(shape: tuple[int, int, int]) -> bytes:
    """Return a NIfTI header that states this shape of int16."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 1, 1)
    for row in range(3):
        struct.pack_into("<4f", header, 280 + 16 * row, *(float(row == c) for c in range(4)))
    header[344:348] = b"n+1\0"
    return bytes(header)


@FOLDERS.case("C3", "NIfTI of 3 MB that inflates to 1 GB", "refused after 17 s with 3.3 GiB")
def inflated(work: Work) -> Outcome:
    """A gzip of zeros."""
    path = work.folder / "big.nii.gz"
    with gzip.open(path, "wb", 6) as file:
        file.write(bomb_header((800, 800, 800)))
        for _ in range(1024):
            file.write(bytes(1_000_000))
    ran = work.command("screen", path, "-o", work.folder / "out", seconds=SECONDS)
    ok = ran.code in (2, 3) and ran.peak_mib < 2048
    return expect(ok, REFUSED, f"{ran.seconds:.1f} s, {ran.peak_mib:.0f} MiB; {finding_of(work)}")


@FOLDERS.case("C4", "NIfTI of 1.3 kB that states 1024 x 1024 x 500", "1 GiB is taken first")
def claimed(work: Work) -> Outcome:
    """The file must hold what its header states."""
    path = work.folder / "claims.nii"
    path.write_bytes(bomb_header((1024, 1024, 500)) + bytes(1000))
    ran = work.command("screen", path, "-o", work.folder / "out", seconds=SECONDS)
    ok = ran.code == 2 and ran.peak_mib < base_mib() + 300
    return expect(ok, REFUSED, f"{ran.peak_mib:.0f} MiB; {finding_of(work)}")


def base_mib() -> float:
    """Return the memory of this process, which a forked one shares, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def finding_of(work: Work) -> str:
    """Return code and message of the first finding of the only result."""
    path = work.folder / "out" / "result.json"
    if not path.exists():
        return "no result"
    finding = json.loads(path.read_text())["findings"][0]
    return f"{finding['code']}: {finding['message']}"


@FOLDERS.case("C5", "folders nested 1,200 deep", "RecursionError, nothing written")
def deep(work: Work) -> Outcome:
    """The walk is not recursive, and paths longer than 4096 bytes are named."""
    small(work.folder / "in" / "a", 0)
    here = os.open(work.folder / "in", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("dddd", dir_fd=here)
        below = os.open("dddd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    small(work.folder / "in" / "z", 1)
    ran = batch(work, 2)
    work.shell("rm -rf in")
    return rows(work, ran, 2)


for size in ("0", "-4"):

    @FOLDERS.case(f"C6 {size}", f"virtual ct --matrix {size}", "ZeroDivisionError or RuntimeError")
    def matrix(work: Work, size: str = size) -> Outcome:
        """A size below the range."""
        ran = work.command("virtual", "ct", "-o", work.folder / "out", "--matrix", size)
        return expect(ran.code == 2 and "--matrix" in ran.text, REFUSED, last_line(ran))


def searched(work: Work, alter: Any, words: tuple[str, ...] = ()) -> Outcome:
    """Screen a study with a name in its header and search all output and text for it."""
    slices = work.study
    for ds in slices:
        alter(ds)
    path = work.save(slices)
    second = [pydicom.dcmread(file) for file in sorted(path.iterdir())[:20]]
    for ds in second:
        ds.SeriesInstanceUID = ds.SeriesInstanceUID + ".9"
        ds.SOPInstanceUID = ds.SOPInstanceUID[:50] + ".9"
    work.save(second)
    ran = work.command("screen", path, "-o", work.folder / "out", "--debug", *words)
    where = [p.name for p in (work.folder / "out").rglob("*") if p.is_file() and NAME.encode() in p.read_bytes()]
    where += ["console"] if NAME in ran.text else []
    ok = not where and ran.code in (0, 3) and (work.folder / "out" / "result.json").exists()
    return expect(ok, RIGHT, f"exit {ran.code}; found in: {', '.join(where) or 'nothing'}")


@FOLDERS.case("I1", "a name in the series description, two series", "in result, report and console")
def description(work: Work) -> Outcome:
    """Free text of the technologist."""
    return searched(work, lambda ds: setattr(ds, "SeriesDescription", f"Thorax {NAME}"))


@FOLDERS.case("I2", "a name in the contrast agent", "in result, report and console")
def agent(work: Work) -> Outcome:
    """The finding must not quote it."""
    return searched(work, lambda ds: setattr(ds, "ContrastBolusAgent", f"{NAME} 300"))


@FOLDERS.case("I3", "the name of the folder", "everywhere; no other name can be given")
def folder_name(work: Work) -> Outcome:
    """The name of a study is that of its folder: documented in docs/limits.md, since a result needs a name."""
    path = small(work.folder / "in" / "MUELLER^HANS")
    ran = work.command("screen", path, "-o", work.folder / "out")
    documented = "name of the study (folder or file" in (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    return expect(documented, NAMED, f"documented: rename the folder to a pseudonym; {last_line(ran)}")
