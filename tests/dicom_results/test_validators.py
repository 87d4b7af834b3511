"""Independent validators find no error in any kind of object; skipped where they are not installed.

Warnings that are known are listed; each is a fact about the validator or about a private code.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from osteo_monai.dicom_results import DicomOptions, write_dicom_results
from osteo_monai.screening import Screening

from .conftest import CREATED, GRIDS, Case, MakeCase, refused

PIXELMED = Path("/usr/share/java/pixelmed.jar")
KINDS = ("measured", "oblique", "refused", "unread", "radiographs")

KNOWN_WARNINGS = (
    r"Unrecognized defined term = <99OSTEO>",  # a private coding scheme
    r"ISO_IR 192",  # dcmtk does not check texts in UTF-8
    r"Different information entities for attribute - Element=<AccessionNumber>",  # dcentvfy places it in two entities
)


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs the program {program}")


def output(*command: str | Path) -> list[str]:
    run = subprocess.run([str(c) for c in command], capture_output=True, timeout=300, check=False)
    return (run.stdout + run.stderr).decode("utf-8", "replace").splitlines()


def unknown(lines: list[str]) -> list[str]:
    """Return errors, and warnings that are not known."""
    problems = [line for line in lines if re.match(r"\s*(Error|Warning|E:|W:|F:)", line)]
    return [line for line in problems if not any(re.search(known, line) for known in KNOWN_WARNINGS)]


@pytest.fixture
def written(make_case: MakeCase, radiograph_case: Case, tmp_path: Path) -> Callable[[str], tuple[Case, list[Path]]]:
    """Write the objects of one kind of study.

    The name of the source is in ASCII: dcentvfy compares bytes, without regard to the character set.
    """

    def write(kind: str) -> tuple[Case, list[Path]]:
        case = (
            radiograph_case if kind == "radiographs" else make_case(GRIDS["oblique" if kind == "oblique" else "axial"])
        )
        for file in case.files:
            ds = pydicom.dcmread(file)
            ds.PatientName = "Doe^John"
            ds.save_as(file)
        screening = case.screening
        if kind in ("refused", "unread"):
            images = screening.images if kind == "refused" else None
            screening = Screening(refused(screening.result), images)
        objects = write_dicom_results(screening, case.files, tmp_path / "out", DicomOptions(created=CREATED))
        return case, [w.path for w in objects]

    return write


@needs("dciodvfy")
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy(written: Callable[[str], tuple[Case, list[Path]]], kind: str) -> None:
    for path in written(kind)[1]:
        assert unknown(output("dciodvfy", "-new", path)) == [], path.name


@needs("dcentvfy")
@pytest.mark.parametrize("kind", ["measured", "radiographs"])
def test_dcentvfy(written: Callable[[str], tuple[Case, list[Path]]], kind: str) -> None:
    case, paths = written(kind)
    assert unknown(output("dcentvfy", *case.files, *paths)) == []


@needs("dsrdump")
@pytest.mark.parametrize("kind", KINDS)
def test_dsrdump(written: Callable[[str], tuple[Case, list[Path]]], kind: str) -> None:
    (report,) = [p for p in written(kind)[1] if p.name == "sr.dcm"]
    lines = output("dsrdump", "-Er", report)
    assert unknown(lines) == []
    assert any("Comprehensive 3D SR" in line for line in lines)


@needs("dcm2pnm")
@pytest.mark.parametrize("kind", ["measured", "unread", "radiographs"])
def test_dcmtk_renders_the_secondary_capture(
    written: Callable[[str], tuple[Case, list[Path]]], kind: str, tmp_path: Path
) -> None:
    (capture,) = [p for p in written(kind)[1] if p.name == "sc.dcm"]
    assert unknown(output("dcm2pnm", capture, tmp_path / "sc.ppm")) == []
    assert (tmp_path / "sc.ppm").read_bytes().startswith(b"P6\n1024 768\n255\n")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None or not PIXELMED.is_file(), reason="needs java and PixelMed")
@pytest.mark.parametrize("kind", KINDS)
def test_pixelmed(written: Callable[[str], tuple[Case, list[Path]]], kind: str) -> None:
    (report,) = [p for p in written(kind)[1] if p.name == "sr.dcm"]
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]
    lines = output("java", *limits, "-cp", PIXELMED, "com.pixelmed.validate.DicomSRValidator", report)
    assert "Root Template Validation Complete" in lines
    assert [line for line in lines if line.startswith("Error")] == []
