"""No name from a header, its free text or a file name is in an output, a log or on the console."""

import sqlite3
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from osteo_monai import make_ct, make_radiograph
from osteo_monai.cli import run

NAME = "Zyxwvut"
"""The name that is planted."""

TAGS = (
    "PatientName", "PatientID", "OtherPatientNames", "PatientAddress", "PatientComments", "IssuerOfPatientID",
    "PatientMotherBirthName", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician", "InstitutionName", "InstitutionAddress",
    "InstitutionalDepartmentName", "StationName", "AccessionNumber", "StudyID", "StudyDescription",
    "SeriesDescription", "ProtocolName", "ImageComments", "AdditionalPatientHistory",
    "AdmittingDiagnosesDescription", "RequestedProcedureDescription", "PerformedProcedureStepDescription",
    "DerivationDescription", "ContrastBolusAgent", "ContrastBolusRoute", "MedicalAlerts", "Allergies",
    "Occupation", "StudyComments", "DeviceSerialNumber", "CurrentPatientLocation",
    "AcquisitionDeviceProcessingDescription",
)  # fmt: skip


def plant(ds: Dataset) -> None:
    for keyword in TAGS:
        text = f"{NAME}^Hans" if dictionary_VR(keyword) == "PN" else f"{NAME} 1"
        setattr(ds, keyword, text[:16] if dictionary_VR(keyword) in ("SH", "CS") else text)
    ds.SeriesDescription = f"Abdomen {NAME} with contrast; {NAME}: route"


def planted_ct(folder: Path) -> Path:
    """A CT with names in tags and file names, and a second series with a damaged file."""
    study = make_ct(folder / "made", matrix=128)
    files = sorted(p for p in study.rglob("*") if p.is_file() and p.suffix == ".dcm")
    target = folder / "study"
    target.mkdir()
    for number, file in enumerate(files):
        ds = pydicom.dcmread(file)
        plant(ds)
        ds.BurnedInAnnotation = "YES"
        ds.save_as(target / f"{NAME}_{number:03d}.dcm")
    (target / f"{NAME}_cut.dcm").write_bytes((target / f"{NAME}_000.dcm").read_bytes()[:400])
    return target


def assert_no_name(output: Path, printed: str) -> None:
    assert NAME.lower() not in printed.lower()
    files = [p for p in output.rglob("*") if p.is_file()]
    assert files
    for file in files:
        assert NAME.lower().encode() not in file.read_bytes().lower(), file.name
        assert NAME.lower() not in file.name.lower()


@pytest.mark.parametrize("changed", ["nothing", "compressed", "cut"])
def test_a_ct(changed: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = planted_ct(tmp_path)
    for file in sorted(study.glob("*_0*.dcm"))[5:6] if changed != "nothing" else ():
        if changed == "cut":
            file.write_bytes(file.read_bytes()[:-500])
        else:
            ds = pydicom.dcmread(file)
            ds.compress(pydicom.uid.RLELossless)
            ds.PixelData = ds.PixelData[:-900] + bytes(900)
            ds.save_as(file)
    run(["screen", str(study), "--output", str(tmp_path / "out"), "--debug"])
    printed = "".join(capfd.readouterr())
    assert_no_name(tmp_path / "out", printed)
    if changed == "nothing":
        assert "burned_in_annotation" in (tmp_path / "out" / "result.json").read_text()


def test_a_radiograph(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = make_radiograph(tmp_path / "made", rows=512)
    file = next(p for p in sorted(made.rglob("*") if made.is_dir() else [made]) if p.suffix == ".dcm")
    ds = pydicom.dcmread(file)
    plant(ds)
    ds.BodyPartExamined = f"{NAME.upper()}"
    (tmp_path / "film").mkdir()
    ds.save_as(tmp_path / "film" / f"{NAME}.dcm")
    run(["screen", str(tmp_path / "film"), "--output", str(tmp_path / "out"), "--debug", "--allow-unvalidated"])
    assert_no_name(tmp_path / "out", "".join(capfd.readouterr()))


def test_control_characters_of_a_folder_name_are_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "scan\x1b[31mred"
    study.mkdir()
    (study / "a.dcm").write_bytes(bytes(200))
    run(["screen", str(study), "--output", str(tmp_path / "out")])
    assert "\x1b[31mred" not in "".join(capfd.readouterr())
    assert "\\u001b" not in (tmp_path / "out" / "result.json").read_text()
    assert "\x1b" not in (tmp_path / "out" / "report.html").read_text()


def test_an_evaluation_and_its_tracking_store(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Tags and parameters of MLflow are in the store, artifacts in the folder beside it; logs are on the console."""
    folder = tmp_path / NAME
    folder.mkdir()
    head = "subject_id,model,osteoporosis,probability_osteoporosis,image,scanner_note"
    rows = [f"{NAME}_{n},network,{n % 2},0.{3 + (n * 7 + n % 2) % 6},{NAME}/{n}.png,{NAME}" for n in range(20)]
    (folder / "model.csv").write_text("\n".join([head, *rows]) + "\n")
    (tmp_path / "tracking").mkdir()
    store = f"sqlite:///{tmp_path / 'tracking' / 'store.db'}"
    arguments = ["evaluate", str(folder / "model.csv"), "--output", str(tmp_path / "out"), "--resamples", "100"]
    assert run([*arguments, "--tracking-uri", store, "--debug"]) == 0
    assert_no_name(tmp_path / "out", "".join(capfd.readouterr()))
    assert_no_name(tmp_path / "tracking", "")
    kept = {path.name for path in (tmp_path / "tracking" / "mlartifacts").rglob("*") if path.is_file()}
    assert {"report.html", "subjects.csv"} <= kept
    with sqlite3.connect(tmp_path / "tracking" / "store.db") as database:  # text in pages is not always contiguous
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        stored = "".join(repr(row) for name in names for row in database.execute(f"SELECT * FROM {name}"))
    assert "evaluation" in stored
    assert NAME.lower() not in stored.lower()


def test_a_summary_of_screenings_and_the_log_of_failed_ones(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of third parties quote headers; names of files inside studies are no names of studies."""

    def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError(f"PatientName {NAME}")

    monkeypatch.setattr("osteo_monai.screening.models.load_models", lambda device, trust: None)
    monkeypatch.setattr("osteo_monai.screening_files.screen", fail)
    study = planted_ct(tmp_path)
    (tmp_path / "in").mkdir()
    study.rename(tmp_path / "in" / "s1")
    (tmp_path / "in" / "s2.nii").write_bytes(b"damaged")
    run(["screen", str(tmp_path / "in"), "--output", str(tmp_path / "out")])
    assert "RuntimeError" in (tmp_path / "out" / "s1" / "result.json").read_text()
    assert_no_name(tmp_path / "out", "".join(capfd.readouterr()))


def test_a_manifest_holds_no_name_of_headers_and_other_columns(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    planted_ct(tmp_path).rename(tmp_path / "S1")
    (tmp_path / "images").mkdir()
    (tmp_path / "S1").rename(tmp_path / "images" / "S1")
    (tmp_path / "table.csv").write_text(f"subject_id,age,surname\nS1,70,{NAME}\n")
    arguments = ["manifest", "build", str(tmp_path / "table.csv"), "--images", str(tmp_path / "images")]
    run([*arguments, "--output", str(tmp_path / "out" / "cohort.json")])
    assert_no_name(tmp_path / "out", "".join(capfd.readouterr()))
