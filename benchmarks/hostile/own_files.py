"""Further cases of the kinds L, C, I and T: other names, links, pipes, archives, arguments and tables."""

import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from benchmarks.hostile.bug_reports import read_rows
from benchmarks.hostile.case import (
    NAMED,
    NO_RIGHTS,
    REFUSED,
    RIGHT,
    Outcome,
    Register,
    Work,
    change,
    expect,
    rows_of,
    small,
)
from benchmarks.hostile.folders import NAME, SECONDS, batch, bomb_header, finding_of, last_line, rows, searched
from benchmarks.hostile.tables import built, cohort, evaluated, people, refused
from benchmarks.hostile.values import ORDER

OWN_FILES = Register("own")

NAMES = {
    "newline": "a\nb",
    "escape": "a\x1b[31mb",
    "dash": "-a",
    "emoji": "a\U0001f9b4",
    "formula": "=1+1",
    "comma": 'a,"b"',
    "dot": ".hidden",
    "trailing": "a ",
    "percent": "a%s",
    "batch.json": "batch.json",
    "not_read.csv": "not_read.csv",
    "surrogate": "a\udce9",
    "right-to-left": "a\u202eb",
    "Summary.CSV": "Summary.CSV",
}


def named(text: str) -> Callable[[Work], Outcome]:
    """Return a case with a study folder of this name between two others."""

    def run(work: Work) -> Outcome:
        import csv

        for number, name in enumerate(("0", text, "z")):
            small(work.folder / "in" / name, number)
        ran = batch(work, 3)
        table = work.folder / "out" / "summary.csv"
        found = [r["study"] for r in csv.DictReader(table.open(newline=""))] if table.exists() else []
        hidden = text.startswith(".")
        ok = (
            len(found) == (2 if hidden else 3)
            and "\x1b[31m" not in ran.text
            and not any(f.startswith("=") for f in found)
        )
        ok &= not hidden or "hidden" in read_rows(work)
        return expect(ok and ran.code in (2, 3), RIGHT, f"rows {found!a}, exit {ran.code}")

    return run


OWN_FILES.many("L1", {name: named(text) for name, text in NAMES.items()}, "a study folder whose name has: {}")


@OWN_FILES.case("L3 equal", "studies a/b and a__b, and A/b")
def equal_names(work: Work) -> Outcome:
    """The joined names are equal."""
    for number, name in enumerate(("a/b", "a__b", "A/b")):
        small(work.folder / "in" / name, number)
    return rows(work, batch(work, 3), 3)


@OWN_FILES.case("L4 full", "stdout and stderr are a full device")
def full_device(work: Work) -> Outcome:
    """Printing fails."""
    for number in range(3):
        small(work.folder / "in" / f"s{number}", number)
    ran = work.shell("$OSTEO screen in -o out >/dev/full 2>/dev/full; echo $?")
    return expect(
        len(rows_of(work.folder / "out")) == 3,
        RIGHT,
        f"{len(rows_of(work.folder / 'out'))} of 3 rows, exit {ran.text.strip()}",
    )


@OWN_FILES.case("L4 closed", "stdout and stderr are closed")
def closed(work: Work) -> Outcome:
    """There are no streams."""
    for number in range(3):
        small(work.folder / "in" / f"s{number}", number)
    ran = work.shell("$OSTEO screen in -o out >&- 2>&-; code=$?; echo $code")
    return expect(
        len(rows_of(work.folder / "out")) == 3,
        RIGHT,
        f"{len(rows_of(work.folder / 'out'))} of 3 rows, exit {ran.text.strip()}",
    )


@OWN_FILES.case("L4 ascii", "a terminal without the characters of a name")
def ascii_terminal(work: Work) -> Outcome:
    """PYTHONIOENCODING is ascii."""
    for number, name in enumerate(("a", "Müller", "z")):
        small(work.folder / "in" / name, number)
    ran = work.shell("PYTHONIOENCODING=ascii LC_ALL=C $OSTEO screen in -o out; echo $?")
    return expect(
        len(rows_of(work.folder / "out")) == 3,
        RIGHT,
        f"{len(rows_of(work.folder / 'out'))} of 3 rows; {last_line(ran)}",
    )


@OWN_FILES.case("L output", "the output is a file")
def output_is_file(work: Work) -> Outcome:
    """One sentence before the work."""
    small(work.folder / "in")
    (work.folder / "out").write_text("x")
    return refused(work.command("screen", work.folder / "in", "-o", work.folder / "out"), "--output")


@OWN_FILES.case("L unwritable", "the output folder cannot be written")
def unwritable(work: Work) -> Outcome:
    """Run without the right of an administrator to write everywhere."""
    for number in (0, 1):
        small(work.folder / "in" / f"s{number}", number)
    (work.folder / "out").mkdir(mode=0o500)
    ran = work.shell(f"{NO_RIGHTS} $OSTEO screen in -o out")
    return expect(ran.code == 2 and "--output must be in a writable folder" in ran.text, REFUSED, last_line(ran))


@OWN_FILES.case("L twice", "one study in two folders")
def twice(work: Work) -> Outcome:
    """One row; the copies are ignored, and that is said."""
    small(work.folder / "in" / "a", 0)
    small(work.folder / "in" / "b" / "copy", 0)
    small(work.folder / "in" / "z", 1)
    ran = batch(work, 2)
    return expect(
        len(rows_of(work.folder / "out")) == 2, NAMED, f"rows {rows_of(work.folder / 'out')}; {last_line(ran)}"
    )


@OWN_FILES.case("L other", "MR, a report and a picture beside CT studies")
def other_kinds(work: Work) -> Outcome:
    """Each has a row, or is counted and named."""
    small(work.folder / "in" / "a", 0)
    small(work.folder / "in" / "b", 1)
    small(work.folder / "in" / "mr", 2, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    small(work.folder / "in" / "sr", 3, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    (work.folder / "in" / "a" / "figure.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    batch(work, 2)
    text = read_rows(work) + ",".join(rows_of(work.folder / "out"))
    return expect(all(word in text for word in ("mr", "sr", "figure.png")), NAMED, " ".join(text.split()))


@OWN_FILES.case("L links", "linked slices, a hard link, a broken link")
def linked_files(work: Work) -> Outcome:
    """A folder of links to the slices of a study elsewhere."""
    small(work.folder / "elsewhere", 0)
    small(work.folder / "in" / "z", 1)
    (work.folder / "in" / "a").mkdir()
    for file in sorted((work.folder / "elsewhere").iterdir()):
        (work.folder / "in" / "a" / file.name).symlink_to(file)
    (work.folder / "in" / "broken").symlink_to("nowhere")
    ran = batch(work, 2)
    return expect(len(rows_of(work.folder / "out")) == 2 and "broken" in read_rows(work), RIGHT, last_line(ran))


for place in ("study", "ct.nii.gz", "film.png", "slice.dcm", "study.zip"):

    @OWN_FILES.case(f"C1 {place}", f"STUDY is a FIFO called {place}")
    def pipe(work: Work, place: str = place) -> Outcome:
        """It is not opened."""
        os.mkfifo(work.folder / place)
        ran = work.command("screen", work.folder / place, "-o", work.folder / "out", seconds=SECONDS)
        return expect(ran.code == 2, REFUSED, f"{finding_of(work)} {last_line(ran)}")


@OWN_FILES.case("C1 sidecar", "the JSON file beside a NIfTI is a FIFO")
def sidecar_pipe(work: Work) -> Outcome:
    """It is not opened."""
    path = work.nifti(np.zeros((8, 8, 8), np.int16), np.eye(4))
    os.mkfifo(path.with_suffix(".json"))
    ran = work.command("screen", path, "-o", work.folder / "out", seconds=SECONDS)
    return expect(ran.code in (2, 3), REFUSED, finding_of(work))


for verb in (
    "evaluate TABLE -o out",
    "evidence TABLE -o out",
    "manifest validate TABLE",
    "manifest build TABLE --images in -o x.json",
    "screen in -o out --calibration phantom:TABLE",
    "screen in -o out --calibration site:TABLE",
    "measure TABLE -o out",
):

    @OWN_FILES.case(f"C1 {verb.split(' TABLE')[0]}", f"{verb}: a FIFO")
    def argument_pipe(work: Work, verb: str = verb) -> Outcome:
        """It is not opened."""
        small(work.folder / "in")
        os.mkfifo(work.folder / "TABLE")
        ran = work.shell(f"$OSTEO {verb}; echo code $?", 60)
        return expect(
            ran.code is not None and "code 2" in ran.text and "Traceback" not in ran.text,
            REFUSED,
            " ".join(ran.text.split())[-250:],
        )


def nifti_claim(**fields: Any) -> Callable[[Work], Outcome]:
    """Return a case with a NIfTI header of odd values."""

    def run(work: Work) -> Outcome:
        header = bytearray(bomb_header((64, 64, 20)))
        for place, value in fields.items():
            kind, at = place.split("_")
            struct.pack_into("<" + kind, header, int(at), value)
        path = work.folder / "odd.nii"
        path.write_bytes(header + np.zeros(64 * 64 * 20, "<i2").tobytes())
        ran = work.command("screen", path, "-o", work.folder / "out", seconds=SECONDS)
        return expect(ran.code in (2, 3) and "unexpected" not in finding_of(work), REFUSED, finding_of(work))

    return run


OWN_FILES.many(
    "C4",
    {
        "negative size": nifti_claim(h_42=-5),
        "seven axes": nifti_claim(h_40=7),
        "offset 1e30": nifti_claim(f_108=1e30),
        "offset NaN": nifti_claim(f_108=float("nan")),
        "slope NaN": nifti_claim(f_112=float("nan")),
        "slope 1e38": nifti_claim(f_112=1e38),
        "complex": nifti_claim(h_70=32, h_72=64),
        "RGB": nifti_claim(h_70=128, h_72=24),
        "float128": nifti_claim(h_70=1536, h_72=128),
        "no magic": nifti_claim(i_344=0),
        "affine NaN": nifti_claim(f_280=float("nan")),
    },
    "NIfTI header with {}",
)


def header_claim(**elements: Any) -> Callable[[Work], Outcome]:
    """Return a case with odd sizes in one slice."""

    def run(work: Work) -> Outcome:
        slices = work.study[:12]
        change(slices[4:5], **elements)
        return work.header(
            work.save(slices),
            refused=(
                "bad_size",
                "mixed_sizes",
                "missing_slice",
                "too_large",
                "damaged_files",
                "unusable_input",
                "unusual_bits",
                "several_frames",
                "duplicate_positions",
                "not_greyscale",
                "missing_geometry",
                *ORDER,
            ),
        )

    return run


OWN_FILES.many(
    "C2",
    {
        "65535 x 65535": header_claim(Rows=65535, Columns=65535),
        "-1 frames": header_claim(NumberOfFrames="-1"),
        "2e9 frames": header_claim(NumberOfFrames="2000000000"),
        "no rows": header_claim(Rows=None),
        "BitsAllocated 1": header_claim(BitsAllocated=1, BitsStored=1, HighBit=0),
        "BitsAllocated 64": header_claim(BitsAllocated=64),
        "3 samples": header_claim(SamplesPerPixel=3),
        "empty pixels": header_claim(PixelData=b""),
    },
    "one of twelve slices has {}",
)


def png(width: int, height: int) -> bytes:
    """Return a PNG of one grey value in few bytes."""
    packer = zlib.compressobj(9)
    row = bytes(width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@OWN_FILES.case("C picture", "PNG of 100 megapixels in 100 kB")
def large_picture(work: Work) -> Outcome:
    """Refused before decoding."""
    path = work.folder / "film.png"
    path.write_bytes(png(10_000, 10_000))
    ran = work.command("screen", path, "-o", work.folder / "out", seconds=SECONDS)
    return expect(
        ran.code in (2, 3) and ran.seconds < 5,
        REFUSED,
        f"{path.stat().st_size} bytes, {ran.seconds:.1f} s; {finding_of(work)}",
    )


@OWN_FILES.case("C text", "PNG with a text chunk of 200 MB in 200 kB")
def text_chunk(work: Work) -> Outcome:
    """Compressed text must not be inflated."""
    content = png(64, 64)
    text = b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    (work.folder / "film.png").write_bytes(content[:33] + chunk + content[33:])
    ran = work.command("screen", work.folder / "film.png", "-o", work.folder / "out", seconds=SECONDS)
    return expect(
        ran.code in (2, 3) and ran.seconds < 10,
        REFUSED,
        f"{ran.seconds:.1f} s, {ran.peak_mib:.0f} MiB; {finding_of(work)}",
    )


@OWN_FILES.case("C deflated", "DICOM in the deflated syntax that inflates to 300 MB")
def deflated(work: Work) -> Outcome:
    """Refused by its syntax."""
    ds = work.study[0]
    ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    ds.PixelData = bytes(300_000_000)
    (work.folder / "in").mkdir()
    ds.save_as(work.folder / "in" / "a.dcm", enforce_file_format=True)
    ran = work.command("screen", work.folder / "in", "-o", work.folder / "out", seconds=SECONDS)
    return expect(ran.code in (2, 3) and ran.seconds < 10, REFUSED, f"{ran.seconds:.1f} s; {finding_of(work)}")


def packed(write: Callable[[zipfile.ZipFile, Work], object], said: str) -> Callable[[Work], Outcome]:
    """Return a case with an archive beside a study, which must be named as not read."""

    def run(work: Work) -> Outcome:
        small(work.folder / "in" / "a", 0)
        small(work.folder / "in" / "z", 1)
        with zipfile.ZipFile(work.folder / "in" / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            write(archive, work)
        ran = work.command("screen", work.folder / "in", "-o", work.folder / "out", seconds=60)
        escaped = list(work.folder.rglob("escaped*")) + list(Path("/tmp").glob("escaped*"))
        listed = " ".join(read_rows(work).split())
        ok = len(rows_of(work.folder / "out")) == 2 and said in listed and not escaped
        return expect(ok, NAMED, f"rows {rows_of(work.folder / 'out')}, exit {ran.code}; {listed[-150:]}")

    return run


def nested(archive: zipfile.ZipFile, work: Work) -> None:
    """Put an archive into the archive."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as other:
        other.writestr("x.dcm", bytes(300))
    archive.writestr("inner.zip", inner.getvalue())


OWN_FILES.many(
    "L zip",
    {
        "of paths outside": packed(lambda z, w: z.writestr("../../escaped.dcm", b"x"), "paths out of the archive"),
        "of an absolute path": packed(lambda z, w: z.writestr("/escaped.dcm", b"x"), "paths out of the archive"),
        "of 2 GB of zeros": packed(
            lambda z, w: [z.writestr(f"{n}.dcm", bytes(200_000_000)) for n in range(10)] and None, "bomb"
        ),
        "in a zip": packed(nested, "archive in an archive"),
        "of text": packed(lambda z, w: z.writestr("a.txt", b"x"), "a.txt"),
        "that is empty": packed(lambda z, w: None, "archive without studies"),
    },
    "a zip {}",
)


@OWN_FILES.case("L zip cut", "a zip cut in half beside a study")
def cut_archive(work: Work) -> Outcome:
    """Named as damaged."""
    small(work.folder / "in" / "a", 0)
    small(work.folder / "in" / "z", 2)
    small(work.folder / "packed", 1)
    made = Path(shutil.make_archive(str(work.folder / "in" / "b"), "zip", work.folder / "packed"))
    made.write_bytes(made.read_bytes()[: made.stat().st_size // 2])
    ran = batch(work, 2)
    return expect(
        "damaged" in read_rows(work) and len(rows_of(work.folder / "out")) == 2,
        NAMED,
        f"exit {ran.code}; {' '.join(read_rows(work).split())}",
    )


PLANTED = (
    "PatientComments",
    "StudyDescription",
    "ProtocolName",
    "ImageComments",
    "DerivationDescription",
    "AcquisitionDeviceProcessingDescription",
    "ContrastBolusRoute",
    "ConvolutionKernel",
    "ManufacturerModelName",
    "StationName",
    "BodyPartExamined",
    "ScanOptions",
    "FilterType",
    "InstitutionName",
)
OWN_FILES.many(
    "I",
    {
        k: lambda w, k=k: searched(w, lambda ds: setattr(ds, k, f"{NAME} 1"[:16]))
        for k in PLANTED
        if k not in ("ConvolutionKernel", "ManufacturerModelName")
    },
    "a name in {}",
)


@OWN_FILES.case("I file", "names of the files of a study")
def file_names(work: Work) -> Outcome:
    """One file is damaged, so that a message is about it."""
    path = work.save(work.study[:20])
    for file in sorted(path.iterdir()):
        file.rename(path / f"{NAME}_{file.name}")
    (path / f"{NAME}_cut.dcm").write_bytes((path / f"{NAME}_IM0000.dcm").read_bytes()[:500])
    ran = work.command("screen", path, "-o", work.folder / "out", "--debug")
    where = [p.name for p in (work.folder / "out").rglob("*") if p.is_file() and NAME.encode() in p.read_bytes()]
    return expect(
        not where and NAME not in ran.text, RIGHT, f"exit {ran.code}; found in: {', '.join(where) or 'nothing'}"
    )


def table_case(
    number: str,
    words: str,
    change_rows: Callable[[list[str]], list[str]],
    *said: str,
    right: bool = False,
    head: str | None = None,
) -> None:
    """Register a case of ``evaluate``."""

    def run(work: Work) -> Outcome:
        ran = evaluated(work, change_rows(people()), *([head] if head else []))
        if right and ran.code == 0:
            return Outcome(RIGHT, last_line(ran))
        return refused(ran, *said)

    OWN_FILES.case(number, words)(run)


def cells(at: int, of_cell: Callable[[str], str], only: slice = slice(None)) -> Callable[[list[str]], list[str]]:
    """Return a change of one column."""

    def run(lines: list[str]) -> list[str]:
        wanted = set(range(*only.indices(len(lines))))
        split = [line.split(",") for line in lines]
        return [
            ",".join([*c[:at], of_cell(c[at]), *c[at + 1 :]]) if n in wanted else lines[n] for n, c in enumerate(split)
        ]

    return run


ONE = slice(3, 4)
table_case(
    "T1 predicted",
    "evaluate, predicted density in g/cm3",
    cells(2, lambda v: str(float(v) / 1000)),
    "predicted_bmd_mg_cm3 must be in mg/cm3",
)
table_case(
    "T1 areal", "evaluate, truth as areal density in g/cm2", cells(1, lambda v: str(0.4 + float(v) / 200)), "bmd_mg_cm3"
)
table_case(
    "T1 percent",
    "evaluate, probability in percent",
    cells(3, lambda v: str(100 * float(v))),
    "probability_osteoporosis must",
)
table_case("T1 some", "evaluate, five truths in g/cm3", cells(1, lambda v: str(float(v) / 1000), slice(0, 5)), "g/cm3")
table_case("T1 negative", "evaluate, a density of -5 (fatty marrow)", cells(1, lambda v: "-5", ONE), right=True)
table_case("T1 zero", "evaluate, a density of 0", cells(1, lambda v: "0", ONE), "bmd_mg_cm3")
table_case("T1 inf", "evaluate, a predicted density inf", cells(2, lambda v: "inf", ONE), "predicted_bmd_mg_cm3")
table_case("T1 thousands", "evaluate, 1.095,5", cells(1, lambda v: '"1.095,5"', ONE), "bmd_mg_cm3")
table_case("T2 spaces", "evaluate, identifiers with no-break spaces", cells(0, lambda v: v + "\xa0"), right=True)
table_case(
    "T3 other",
    "evaluate, two images of one subject with a truth of their own (allowed)",
    lambda rows: [*rows, "S003,150,49,0.9,77"],
    right=True,
)
table_case(
    "T3 header",
    "evaluate, the header twice",
    lambda rows: [*rows[:9], "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,probability_osteoporosis,age", *rows[9:]],
    "names of columns again",
)
table_case("T4 mean", "evaluate, a row 'Mean (SD)'", lambda rows: [*rows, "Mean (SD),98,97,0.4,70"], "summary")
table_case("T5 quote", "evaluate, a stray quotation mark", cells(0, lambda v: '"' + v, ONE), "line")
table_case("T class", "evaluate, only one class", lambda rows: rows[30:], "osteoporosis", right=True)
table_case("T empty", "evaluate, no row", lambda rows: [], "row")
table_case(
    "T column",
    "evaluate, a column twice",
    lambda rows: [r + ",60" for r in rows],
    "age",
    head="subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,probability_osteoporosis,age,age",
)
table_case("T age", "evaluate, an age of 1955", cells(4, lambda v: "1955", ONE), "age")


def evidence(lines: list[str], *said: str, head: str = "study,model,target,TP,FP,FN,TN") -> Callable[[Work], Outcome]:
    """Return a case of ``evidence``."""

    def run(work: Work) -> Outcome:
        sound = [f"Study {n},m,osteoporosis,{30 + n},{5 + n},{4 + n},{60 - n}" for n in range(6)]
        (work.folder / "s.csv").write_text("\n".join([head, *sound, *lines]) + "\n", encoding="utf-8")
        return refused(work.command("evidence", work.folder / "s.csv", "-o", work.folder / "out", "--no-track"), *said)

    return run


OWN_FILES.many(
    "T4 evidence",
    {
        "a fraction": evidence(["X,m,osteoporosis,3.5,1,2,9"], "TP"),
        "a negative count": evidence(["X,m,osteoporosis,-3,1,2,9"], "TP"),
        "a thousands separator": evidence(['X,m,osteoporosis,"1,200",1,2,9'], "TP"),
        "a study twice": evidence(["Study 0,m,osteoporosis,30,5,4,60"], "line"),
        "no diseased": evidence(["X,m,osteoporosis,0,1,0,9"], "no diseased"),
        "a comment as a study": evidence(["#Y,m,osteoporosis,30,1,2,9"], "#"),
        "a mean": evidence(["Pooled,,,188,68,31,508"], "total"),
    },
    "evidence, {}",
)


def build(
    lines: Callable[[list[str]], list[str]],
    *said: str,
    head: str = "subject_id,age,sex,bmd_mg_cm3,bmd_standard",
    code: int = 2,
) -> Callable[[Work], Outcome]:
    """Return a case of ``manifest build``."""

    def run(work: Work) -> Outcome:
        ran = built(work, lines(cohort()), head)
        text = " ".join(ran.text.split())
        return expect(ran.code == code and all(word in text for word in said), REFUSED if code else NAMED, text[:300])

    return run


OWN_FILES.many(
    "T7",
    {
        "age 1955": build(cells(1, lambda v: "1955", ONE), "age"),
        "age -3": build(cells(1, lambda v: "-3", ONE), "age"),
        "age 999": build(cells(1, lambda v: "999", ONE), "age"),
        "sex 1": build(cells(2, lambda v: "1", ONE), "sex"),
        "a density of 0": build(cells(3, lambda v: "0", ONE), "bmd_mg_cm3"),
        "densities in g/cm3": build(cells(3, lambda v: str(float(v) / 1000)), "g/cm"),
        "an identifier twice": build(lambda r: [*r, r[3].replace("50", "51")], "S003"),
        "a mean": build(lambda r: [*r, "Mean,61,,110,K2HPO4"], "summary"),
        "an identifier ../S003": build(cells(0, lambda v: "../" + v, ONE), "names must be equal", code=0),
    },
    "manifest build, {}",
)


def argument(*arguments: str, said: str, seconds: float = SECONDS) -> Callable[[Work], Outcome]:
    """Return a case of wrong words of the command line."""

    def run(work: Work) -> Outcome:
        small(work.folder / "in")
        given = [w.replace("IN", str(work.folder / "in")).replace("OUT", str(work.folder / "out")) for w in arguments]
        ran = work.command(*given, seconds=seconds)
        text = " ".join(ran.text.split())
        return expect(ran.code == 2 and said in text and ran.seconds < 12, REFUSED, text[:300])

    return run


SCREEN = ("screen", "IN", "-o", "OUT")
OWN_FILES.many(
    "T11",
    {
        "user:nan,0": argument(*SCREEN, "--calibration", "user:nan,0", said="--calibration"),
        "user:inf,0": argument(*SCREEN, "--calibration", "user:inf,0", said="--calibration"),
        "user:-0.8,0": argument(*SCREEN, "--calibration", "user:-0.8,0", said="--calibration"),
        "user:0.8": argument(*SCREEN, "--calibration", "user:0.8", said="--calibration"),
        "user:80,0": argument(*SCREEN, "--calibration", "user:80,0", said="--calibration"),
        "user:0.8,9000": argument(*SCREEN, "--calibration", "user:0.8,9000", said="--calibration"),
        "phantom of nothing": argument(*SCREEN, "--calibration", "phantom:nosuch.json", said="nosuch.json"),
        "thresholds 120,80": argument(*SCREEN, "--thresholds", "120,80", said="--thresholds"),
        "thresholds nan,80": argument(*SCREEN, "--thresholds", "nan,80", said="--thresholds"),
        "kvp nan": argument(*SCREEN, "--kvp", "nan", said="--kvp"),
        "kvp 12": argument(*SCREEN, "--kvp", "12", said="--kvp"),
        "age -5": argument(*SCREEN, "--age", "-5", said="--age"),
        "device tpu": argument(*SCREEN, "--device", "tpu", said="--device"),
        "level L9": argument(*SCREEN, "--levels", "L9", said="--levels"),
        "matrix 1e9": argument("virtual", "ct", "-o", "OUT", "--matrix", "1000000000", said="--matrix"),
        "density nan": argument("virtual", "ct", "-o", "OUT", "--density", "nan", said="--density"),
        "store not there": argument("virtual", "ct", "-o", "OUT", "--seed", "-1", said="--seed"),
    },
    "argument {}",
)


@OWN_FILES.case("store", "evaluate with a tracking server that cannot be reached")
def no_server(work: Work) -> Outcome:
    """One sentence before the work, within 10 s."""
    (work.folder / "model.csv").write_text(
        "\n".join(["subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,probability_osteoporosis,age", *people()])
    )
    ran = work.command(
        "evaluate", work.folder / "model.csv", "-o", work.folder / "out", "--tracking-uri", "http://127.0.0.1:9"
    )
    ok = ran.code in (1, 2) and ran.seconds < 10 and "Traceback" not in ran.text and not (work.folder / "out").exists()
    return expect(ok, REFUSED, f"{ran.seconds:.1f} s; {last_line(ran)}")


@OWN_FILES.case("mask only", "a label map as the only input")
def mask_only(work: Work) -> Outcome:
    """Refused as values that are no HU."""
    path = work.nifti(np.tile(np.arange(40, dtype=np.int16) // 20, (30, 30, 1)), np.eye(4))
    ran = work.command("screen", path, "-o", work.folder / "out")
    return expect(ran.code == 3, REFUSED, finding_of(work))


@OWN_FILES.case("json deep", "a sidecar of 100,000 nested lists")
def deep_json(work: Work) -> Outcome:
    """The parser's recursion ends; the facts are unknown."""
    path = work.nifti()
    path.with_suffix(".json").write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    return work.header(path, named=("sidecar_unreadable",))


@OWN_FILES.case("resume changed", "--resume after a slice of one study was replaced")
def resume_changed(work: Work) -> Outcome:
    """Only the changed study is made again."""
    for number in range(3):
        small(work.folder / "in" / f"s{number}", number)
    batch(work, 3)
    before = {p.parent.name: p.stat().st_mtime_ns for p in (work.folder / "out").glob("*/result.json")}
    small(work.folder / "in" / "s1", 5)
    ran = batch(work, 3, "--resume")
    after = {p.parent.name: p.stat().st_mtime_ns for p in (work.folder / "out").glob("*/result.json")}
    changed = sorted(name for name in after if after[name] != before.get(name))
    return expect(
        changed == ["s1"] and len(rows_of(work.folder / "out")) == 3, RIGHT, f"made again: {changed}, exit {ran.code}"
    )


@OWN_FILES.case("result damaged", "--resume over a result.json of zeros")
def result_damaged(work: Work) -> Outcome:
    """As after a power failure."""
    for number in range(3):
        small(work.folder / "in" / f"s{number}", number)
    batch(work, 3)
    (work.folder / "out" / "s1" / "result.json").write_bytes(bytes(4096))
    ran = batch(work, 3, "--resume")
    whole = json.loads((work.folder / "out" / "s1" / "result.json").read_text())["study"]
    return expect(whole == "s1" and len(rows_of(work.folder / "out")) == 3, RIGHT, last_line(ran))
