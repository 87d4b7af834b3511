"""Tables (T) of ``break.md``: evaluate, evidence, manifest build, and arguments."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.hostile.case import NAMED, REFUSED, RIGHT, Outcome, Ran, Register, Work, expect, small
from benchmarks.hostile.folders import last_line
from osteo_monai.domain import Sex
from osteo_monai.norms import density_norm

TABLES = Register("break")
HEAD = "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,probability_osteoporosis,age"


def people(count: int = 40) -> list[str]:
    """Return rows of a predictions table with densities of 40 to 160 mg/cm3."""
    draw = np.random.default_rng(3)
    lines = []
    for n in range(count):
        true = 40 + 3 * n
        made = true + draw.normal(0, 12)
        lines.append(f"S{n:03d},{true},{made:.1f},{1 / (1 + np.exp((made - 80) / 15)):.3f},{80 - n % 30}")
    return lines


def evaluated(work: Work, lines: list[str], head: str = HEAD) -> Ran:
    """Run ``evaluate`` on a table."""
    table = work.folder / "model.csv"
    table.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return work.command("evaluate", table, "-o", work.folder / "out", "--resamples", "100", "--no-track")


def refused(ran: Ran, *said: str) -> Outcome:
    """Return whether the command was refused (exit 2) with all these words."""
    text = " ".join(ran.text.split())
    return expect(ran.code == 2 and all(word in text for word in said), REFUSED, text[:300])


@TABLES.case("T0", "the sound table", "AUC given")
def sound(work: Work) -> Outcome:
    """The table that the others are made from."""
    ran = evaluated(work, people())
    return expect(ran.code == 0, RIGHT, last_line(ran))


@TABLES.case("T1", "evaluate, truth in g/cm3", "all 40 people are osteoporosis")
def unit(work: Work) -> Outcome:
    """0.12 is written for 120."""
    lines = [",".join([c[0], str(float(c[1]) / 1000), *c[2:]]) for c in (row.split(",") for row in people())]
    return refused(evaluated(work, lines), "bmd_mg_cm3 must be in mg/cm3")


@TABLES.case("T2", "evaluate, three identifiers that begin with #", "37 of 40 people")
def hashes(work: Work) -> Outcome:
    """They were read as comments."""
    lines = people()
    return refused(evaluated(work, [*(f"#{row}" for row in lines[:3]), *lines[3:]]), "must not begin with #")


@TABLES.case("T3", "evaluate, five rows pasted twice", "45 images of 40 subjects")
def doubled(work: Work) -> Outcome:
    """Copies are no images."""
    return refused(evaluated(work, [*people(), *people()[10:15]]), "got all cells of line")


@TABLES.case("T4", "evidence, a row of totals", "read as a ninth study")
def totals(work: Work) -> Outcome:
    """The sum weighs as much as all others."""
    draw = np.random.default_rng(5)
    counts = draw.integers(5, 60, (8, 4))
    table = work.folder / "studies.csv"
    lines = [f"Study {n},model,osteoporosis,{','.join(map(str, row))}" for n, row in enumerate(counts)]
    lines.append("Total,,," + ",".join(map(str, counts.sum(0))))
    table.write_text("\n".join(["study,model,target,TP,FP,FN,TN", *lines]) + "\n")
    return refused(work.command("evidence", table, "-o", work.folder / "out", "--no-track"), "got a summary")


def built(
    work: Work, lines: list[str], head: str = "subject_id,age,sex,bmd_mg_cm3,bmd_standard", count: int = 24
) -> Ran:
    """Run ``manifest build`` on a table and ``count`` images."""
    folder = work.folder / "scans"
    folder.mkdir(exist_ok=True)
    for n in range(count):
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), folder / f"S{n:03d}.nii.gz")
    table = work.folder / "table.csv"
    table.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return work.command("manifest", "build", table, "--images", folder, "-o", work.folder / "cohort.json")


def cohort(factor: float = 1.0, only: int = 24) -> list[str]:
    """Return rows of a cohort at the norm of age and sex, the densities of the first ``only`` times a factor."""
    draw = np.random.default_rng(2).normal(0, 1, 24)
    lines = []
    for n in range(24):
        age, sex = 50 + n, (Sex.FEMALE, Sex.MALE)[n % 2]
        norm = density_norm(age, sex)
        assert norm is not None
        density = (norm.mean + norm.sd * draw[n] * 0.8) * (factor if n < only else 1)
        lines.append(f"S{n:03d},{age},{sex},{density:.1f},K2HPO4")
    return lines


def subjects(work: Work) -> int:
    """Return the number of records of the manifest that was built."""
    path = work.folder / "cohort.json"
    return len(json.loads(path.read_text())["training"]) if path.exists() else 0


@TABLES.case("T5", "manifest build, a stray quotation mark before an identifier", "5 of 24 subjects")
def stray_quote(work: Work) -> Outcome:
    """It swallowed the rest of the table."""
    lines = cohort()
    lines[5] = '"' + lines[5]
    return refused(built(work, lines), "line")


@TABLES.case("T6 1.2", "manifest build, 24 densities x 1.2", "accepted, nothing said")
def scaled(work: Work) -> Outcome:
    """24 people: about 0.8 SD above the norm."""
    ran = built(work, cohort(1.2))
    return expect(
        "norm" in ran.text or ran.code == 2,
        NAMED,
        next((x.strip() for x in ran.text.splitlines() if "norm" in x), last_line(ran)),
    )


@TABLES.case("T6 HU", "manifest build, 10 of 24 in HU", "accepted, nothing said")
def in_hu(work: Work) -> Outcome:
    """Densities of some people are HU (x 1.4)."""
    ran = built(work, cohort(1.4, 10))
    return expect(
        "norm" in ran.text or ran.code == 2,
        NAMED,
        next((x.strip() for x in ran.text.splitlines() if "norm" in x), last_line(ran)),
    )


@TABLES.case("T7", "manifest build, age 0 for unknown", "age 0 kept")
def age_zero(work: Work) -> Outcome:
    """0 is no age of a screened person."""
    lines = cohort()
    cells = lines[3].split(",")
    lines[3] = ",".join([cells[0], "0", *cells[2:]])
    ran = built(work, lines)
    return refused(ran, "age")


@TABLES.case("T8", "manifest build, last row Total", "one subject too many in the flow diagram")
def total_row(work: Work) -> Outcome:
    """A summary is no subject."""
    return refused(built(work, [*cohort(), "Total,61,,110,K2HPO4"]), "got a summary")


@TABLES.case("T9", "disk full, single study", "\"File too large: 'None'\", a cut report")
def disk_full(work: Work) -> Outcome:
    """The path and the reason are named; the result is kept."""
    path = small(work.folder / "in")
    ran = work.command("screen", path, "-o", work.folder / "out", file_bytes=2000)
    left = sorted(p.name for p in (work.folder / "out").glob("*")) if (work.folder / "out").exists() else []
    ok = "result.json" in ran.text or "output_failed" in ran.text or "could not be written" in ran.text
    return expect(
        ok and "None" not in ran.text and left in ([], ["result.json"]), NAMED, f"{last_line(ran)} Left: {left}"
    )


@TABLES.case("T10", "evaluate, semicolons", "refused though manifest build reads them")
def semicolons(work: Work) -> Outcome:
    """One dialect for all tables."""
    ran = evaluated(work, [row.replace(",", ";").replace(".", ",") for row in people()], HEAD.replace(",", ";"))
    return expect(ran.code == 0, RIGHT, last_line(ran))


@TABLES.case("T11 user", "screen --calibration user:0,0", "every person would get 0 mg/cm3")
def no_slope(work: Work) -> Outcome:
    """A slope of 0."""
    path = small(work.folder / "in")
    return refused(
        work.command("screen", path, "-o", work.folder / "out", "--calibration", "user:0,0"), "--calibration"
    )


@TABLES.case("T11 registry", "screen --calibration registry:nosuch", "10 s before it is refused")
def no_such(work: Work) -> Outcome:
    """An unknown name is refused before the work."""
    path = small(work.folder / "in")
    ran = work.command("screen", path, "-o", work.folder / "out", "--calibration", "registry:nosuch")
    return refused(ran, "--calibration", "nosuch")


@TABLES.case("T12", "a zip of a study beside studies", "skipped silently")
def zipped(work: Work) -> Outcome:
    """It is read."""
    small(work.folder / "in" / "a", 0)
    small(work.folder / "packed", 1)
    shutil.make_archive(str(work.folder / "in" / "b"), "zip", work.folder / "packed")
    ran = work.command("screen", work.folder / "in", "-o", work.folder / "out")
    table = Path(work.folder / "out" / "summary.csv")
    names = [row["study"] for row in csv.DictReader(table.open())] if table.exists() else []
    return expect(len(names) == 2, RIGHT, f"rows {names}, exit {ran.code}")
