"""One study from a folder of DICOM files to the objects to send."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from osteo_monai import make_ct
from osteo_monai.cli import run
from osteo_monai.dicom_results import StudyModels, StudyOptions, screen_study
from osteo_monai.dicom_results.study import ScreenedStudy
from osteo_monai.screening import ScreeningModels
from osteo_monai.screening.inventory import list_inputs

from .conftest import CREATED, GRIDS, NAME, PATIENT_ID, ct_slice

FIXED = StudyOptions(device="cpu", created=CREATED)


@pytest.fixture
def no_models() -> StudyModels:
    """Models that are not reached, since reading refuses."""
    return StudyModels(ct=object.__new__(ScreeningModels))


def study_with_a_gap(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for k in range(44):
        if k != 20:
            ct_slice(GRIDS["axial"], k).save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder


def files(output: Path) -> set[str]:
    return {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}


def test_a_refused_study_is_done_and_has_objects(tmp_path: Path, no_models: StudyModels) -> None:
    folder = study_with_a_gap(tmp_path / "in")
    screened = screen_study(folder, tmp_path / "out", FIXED, no_models)
    assert screened.outcome == "refused"
    assert [o.path.name for o in screened.objects] == ["sr.dcm", "sc.dcm", "report.dcm"]
    assert all(o.path.is_file() and o.path.parent == tmp_path / "out" / "dicom" for o in screened.objects)
    assert screened.summary.startswith("Not measured.")
    stored = (tmp_path / "out" / "result.json").read_text()
    assert json.loads(stored)["source"]["study_instance_uid"] == ct_slice(GRIDS["axial"], 0).StudyInstanceUID
    for secret in (NAME.split("^")[0], PATIENT_ID):
        assert secret not in stored + screened.summary + (tmp_path / "out" / "report.html").read_text()


def test_the_same_study_again_gives_the_same_bytes(tmp_path: Path, no_models: StudyModels) -> None:
    folder = study_with_a_gap(tmp_path / "in")

    def contents(output: str) -> list[bytes]:
        return [o.path.read_bytes() for o in screen_study(folder, tmp_path / output, FIXED, no_models).objects]

    first = contents("a")
    assert contents("b") == first
    for path in (tmp_path / "a" / "dicom").iterdir():  # results that came back from the archive
        (folder / path.name).write_bytes(path.read_bytes())
    assert contents("c") == first


def test_files_that_cannot_be_read(tmp_path: Path, no_models: StudyModels) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(b"no DICOM")
    screened = screen_study(folder, tmp_path / "out", FIXED, no_models)
    assert (screened.outcome, screened.objects) == ("failed", ())
    assert files(tmp_path / "out") == {"result.json", "report.html"}


def test_an_empty_folder_fails(tmp_path: Path, no_models: StudyModels) -> None:
    (tmp_path / "in").mkdir()
    assert screen_study(tmp_path / "in", tmp_path / "out", FIXED, no_models).outcome == "failed"


def test_an_error_of_writing_reaches_the_caller(
    tmp_path: Path, no_models: StudyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("osteo_monai.dicom_results.write.store", full)
    with pytest.raises(OSError, match="No space"):
        screen_study(study_with_a_gap(tmp_path / "in"), tmp_path / "out", FIXED, no_models)
    assert (tmp_path / "out" / "result.json").is_file()


@pytest.mark.slow
def test_a_virtual_ct_is_measured_twice_alike(tmp_path: Path) -> None:
    study = make_ct(tmp_path / "ct", seed=1, mean_density=75.0, matrix=128)
    models = StudyModels()

    def once(name: str) -> ScreenedStudy:
        return screen_study(study, tmp_path / name, FIXED, models)

    one, two = once("a"), once("b")
    assert one.outcome == "measured"
    assert "osteoporosis" in one.summary
    assert [o.path.name for o in one.objects] == ["seg.dcm", "sr.dcm", "sc.dcm", "report.dcm"]
    assert [o.path.read_bytes() for o in one.objects] == [o.path.read_bytes() for o in two.objects]
    assert one.result.source is not None
    centre = one.result.levels[0]
    source = {d.SOPInstanceUID: d for d in (pydicom.dcmread(f) for f in study.rglob("*.dcm"))}
    assert source[centre.sop_instance_uid].InstanceNumber == centre.instance_number


def test_the_command_writes_the_objects_of_a_refused_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osteo_monai.screening.models.load_models", lambda device: object.__new__(ScreeningModels))
    monkeypatch.setattr("osteo_monai.screening.ct.pipeline.check_installed", lambda: None)
    folder, output = study_with_a_gap(tmp_path / "in"), tmp_path / "out"
    command = ["screen", str(folder), "--output", str(output), "--dicom", "--fhir", "R5"]
    assert run(command) == 3
    written = {"result.json", "report.html", "fhir.json", "dicom/sr.dcm", "dicom/sc.dcm", "dicom/report.dcm"}
    assert files(output) == written
    # objects of an earlier run are replaced or removed
    assert run([*command[:-3], "--overwrite"]) == 3
    assert files(output) == {"result.json", "report.html"}


def test_the_command_refuses_dicom_for_nifti(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
    assert run(["screen", str(path), "--output", str(tmp_path / "out"), "--dicom"]) == 2
    assert "--dicom must be left out for NIfTI, PNG and JPEG" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_details_without_dicom_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = study_with_a_gap(tmp_path / "in")
    assert run(["screen", str(folder), "--output", str(tmp_path / "out"), "--label-map"]) == 2
    assert "--label-map must be given with --dicom" in " ".join(capsys.readouterr().err.split())


def test_objects_of_an_earlier_run_are_no_study(tmp_path: Path, no_models: StudyModels) -> None:
    folder = study_with_a_gap(tmp_path / "tree" / "ct")
    screen_study(folder, tmp_path / "tree" / "results", FIXED, no_models)
    with list_inputs(tmp_path / "tree") as inputs:
        assert [study.path for study in inputs.studies] == [folder]
        reasons = {entry.name: entry.reason for entry in inputs.not_read}
    assert reasons["results/dicom/sc.dcm"] == "output of an earlier screening"
