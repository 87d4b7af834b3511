"""Files of a screening: the result first, all of one run, and kept if the report fails."""

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from osteo_monai.domain import Finding, Severity
from osteo_monai.screening import ReportImages, Screening, ScreeningResult, Study, screen
from osteo_monai.screening.names import OUTPUT_FILES
from osteo_monai.screening_files import screen_to_folder, write_screening

from .conftest import LEVELS, MakeModels, inside_body, vertebra

T12, L1, L2, L3 = LEVELS


def codes(result: ScreeningResult, severity: Severity) -> set[str]:
    return {f.code for f in result.findings if f.severity is severity}


def stored(output: Path) -> ScreeningResult:
    return ScreeningResult.model_validate_json((output / "result.json").read_text())


def names(output: Path) -> set[str]:
    return {path.name for path in output.iterdir()}


def explode(*arguments: object, **named: object) -> None:
    raise RuntimeError("PatientName DOE^JANE")


def test_screening_writes_result_labels_and_report(nifti: Path, tmp_path: Path, make_models: MakeModels) -> None:
    output = tmp_path / "out"
    stages: list[str] = []
    result = screen_to_folder(Study("ct", nifti), output, models=make_models(), on_stage=stages.append)
    assert result.verdict == "accepted_with_warnings"
    assert result.study == "ct.nii.gz"
    assert stored(output) == result
    assert names(output) == {"result.json", "labels.nii.gz", "report.html"}
    assert "mg/cm" in (output / "report.html").read_text()
    labels, scan = nib.load(output / "labels.nii.gz"), nib.load(nifti)
    assert isinstance(labels, nib.Nifti1Image)
    assert isinstance(scan, nib.Nifti1Image)
    np.testing.assert_allclose(labels.affine, scan.affine)
    bodies = np.asarray(labels.dataobj)[::-1, ::-1]
    np.testing.assert_array_equal(bodies == L1.label, inside_body(L1))
    assert stages[0] == "reading"
    assert stages[-1] == "reporting"
    assert {"reading", "localising", "segmenting", "measuring", "writing labels", "reporting"} <= set(result.seconds)


def test_refused_study_replaces_all_files_of_an_earlier_run(
    nifti: Path, tmp_path: Path, make_models: MakeModels
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    for name in OUTPUT_FILES:
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_bytes(b"of an earlier run")
    (output / "notes.txt").write_text("kept")
    result = screen_to_folder(Study("ct", nifti), output, name="case 7", models=make_models([vertebra(T12)]))
    assert "levels_not_covered" in codes(result, Severity.REFUSAL)
    assert stored(output).study == "case 7"
    assert "does not show L1 and L2" in (output / "report.html").read_text()
    assert names(output) == {"result.json", "report.html", "notes.txt"}


def test_unusable_input_has_a_result_and_a_report(tmp_path: Path, make_models: MakeModels) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("not an image")
    result = screen_to_folder(Study("ct", path), tmp_path / "out", models=make_models())
    assert result.verdict == "unusable"
    assert list(result.seconds) == ["reading", "reporting"]
    assert names(tmp_path / "out") == {"result.json", "report.html"}


def test_times_are_stored_alike_for_measured_and_refused_studies(
    nifti: Path, tmp_path: Path, make_models: MakeModels
) -> None:
    """B7: the time of reporting was in the file of one kind of study and missing from the other."""
    screen_to_folder(Study("ct", nifti), tmp_path / "measured", models=make_models())
    screen_to_folder(Study("ct", tmp_path / "missing"), tmp_path / "refused", models=make_models())
    (tmp_path / "x.png").write_bytes(b"damaged")
    screen_to_folder(Study("radiograph", tmp_path / "x.png", (tmp_path / "x.png",)), tmp_path / "radiograph")
    for name in ("measured", "refused", "radiograph"):
        times = stored(tmp_path / name).seconds
        assert {"reading", "reporting"} <= set(times), name


def test_a_report_that_fails_keeps_the_result(
    nifti: Path,
    tmp_path: Path,
    make_models: MakeModels,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """B4: the report was written first, so that its error lost all measured values."""
    monkeypatch.setattr("osteo_monai.reporting.write_report", explode)
    result = screen_to_folder(Study("ct", nifti), tmp_path / "out", models=make_models())
    assert result.density is not None
    assert stored(tmp_path / "out") == result
    assert names(tmp_path / "out") == {"result.json", "labels.nii.gz"}
    (finding,) = [f for f in result.findings if f.code == "output_failed"]
    assert (finding.severity, finding.message) == (
        Severity.WARNING,
        "The file report.html could not be written (RuntimeError).",
    )
    assert "report.html was not written: RuntimeError" in caplog.text
    assert "DOE" not in finding.message


def test_labels_that_fail_keep_the_result_and_no_half_file(
    nifti: Path, tmp_path: Path, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(labels: Any, volume: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("osteo_monai.screening_files.write_label_map", half)
    result = screen_to_folder(Study("ct", nifti), tmp_path / "out", models=make_models())
    assert result.density is not None
    assert "output_failed" in codes(result, Severity.WARNING)
    assert names(tmp_path / "out") == {"result.json", "report.html"}


def test_a_run_stopped_at_the_report_keeps_its_result_and_no_old_files(
    nifti: Path, tmp_path: Path, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "out"
    output.mkdir()
    (output / "report.html").write_text("of an earlier run")
    monkeypatch.setattr("osteo_monai.reporting.write_report", stop)
    with pytest.raises(KeyboardInterrupt):
        screen_to_folder(Study("ct", nifti), output, models=make_models())
    assert stored(output).density is not None
    assert names(output) == {"result.json", "labels.nii.gz"}


def test_a_run_that_fails_before_its_result_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "result.json").write_text("old")
    monkeypatch.setattr(ScreeningResult, "write", explode)
    finding = Finding(code="x", severity=Severity.REFUSAL, message="X.")
    result = ScreeningResult(study="a", verdict="refused", findings=(finding,))
    with pytest.raises(RuntimeError):
        write_screening(Screening(result, None), output)
    assert (output / "result.json").read_text() == "old"
    assert names(output) == {"result.json"}


def test_images_without_source_give_no_label_map(nifti: Path, tmp_path: Path, make_models: MakeModels) -> None:
    result, images = screen(nifti, make_models())
    assert isinstance(images, ReportImages)
    without = ReportImages(images.hu, images.affine, images.bodies)
    write_screening(Screening(result, without), tmp_path / "out")
    assert names(tmp_path / "out") == {"result.json", "report.html"}


def test_a_warning_changes_an_accepted_verdict_only() -> None:
    accepted = ScreeningResult(study="a", verdict="accepted", findings=())
    assert accepted.warned("x", "X.").verdict == "accepted_with_warnings"
    refused = accepted.model_copy(update={"verdict": "refused"})
    assert refused.warned("x", "X.").verdict == "refused"


def test_files_are_on_the_disk_before_they_replace_others(
    nifti: Path, tmp_path: Path, make_models: MakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is renamed before may be empty after a power failure."""
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        done.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        done.append(("move", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    output = tmp_path / "out"
    screen_to_folder(Study("ct", nifti), output, models=make_models())
    moved = [place for place, (kind, path) in enumerate(done) if kind == "move" and Path(path).parent == output]
    before = [Path(path).name for kind, path in done[: moved[0]] if kind == "sync"]
    assert set(before) >= {"result.json", "labels.nii.gz", "report.html"}
    assert done[-1] == ("sync", str(output))
