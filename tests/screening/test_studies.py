"""Find studies, screen many of them, and write a row for each."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from osteo_monai.domain import BoneStatus, Finding, MineralStandard, Severity
from osteo_monai.errors import UnusableInputError
from osteo_monai.screening import (
    ScreeningResult,
    Study,
    find_screenable,
    screen_folder,
    screen_volume,
    summary,
)
from osteo_monai.screening.many import failed_result
from osteo_monai.screening.names import output_names
from osteo_monai.screening.result import Density, Opinion
from osteo_monai.screening.summary import SUMMARY_COLUMNS, summary_row
from osteo_monai.utils.files import write_json, write_text

from .conftest import MakeModels, MakeVolume


def result(verdict: str, study: str = "a") -> ScreeningResult:
    findings: tuple[Finding, ...] = ()
    if verdict in ("refused", "unusable"):
        findings = (Finding(code=f"why_{verdict}", severity=Severity.REFUSAL, message="Why."),)
    return ScreeningResult(study=study, verdict=verdict, findings=findings, seconds={"reading": 1.0, "measuring": 0.5})


def cts(root: Path, *names: str) -> list[Study]:
    return [Study("ct", root / name) for name in names]


def test_output_names_are_unique_and_follow_the_path(tmp_path: Path) -> None:
    studies = [tmp_path / "a" / "ct", tmp_path / "b" / "ct", tmp_path / "b__ct", tmp_path / "x.nii.gz", tmp_path]
    assert output_names(studies, tmp_path) == ["a__ct", "b__ct", "b__ct_2", "x.nii.gz", tmp_path.name]


def test_names_of_studies_elsewhere_hold_no_path(tmp_path: Path) -> None:
    assert output_names([tmp_path / "y"], tmp_path / "other") == ["y"]


def test_row_of_a_measured_study(make_volume: MakeVolume, make_models: MakeModels) -> None:
    measured, _ = screen_volume(make_volume(), make_models(), study="phantom")
    row = summary_row(measured, "folder")
    assert tuple(row) == SUMMARY_COLUMNS
    assert measured.density is not None
    assert row["density_mg_cm3"] == round(measured.density.mg_cm3, 1)
    assert (row["levels"], row["standard"], row["calibration"], row["kvp"]) == ("L1 L2", "K2HPO4", "physics", 120.0)
    assert row["L1_hu_median"] == pytest.approx(160, abs=1.5)
    assert row["L2_hu_median"] == pytest.approx(150, abs=1.5)
    assert (row["status"], row["verdict"], row["folder"]) == (measured.status, "accepted", "folder")


def test_row_holds_the_opinions(make_volume: MakeVolume, make_models: MakeModels) -> None:
    measured, _ = screen_volume(make_volume(), make_models())
    row = summary_row(measured)
    rule = next(o for o in measured.opinions if o.name == "hu_rule")
    assert (row["hu_rule_status"], row["opinions"]) == (rule.status, None)  # one opinion cannot differ
    assert row["regression_mg_cm3"] is None
    density = Density(mg_cm3=101.26, interval_low=90.0, interval_high=112.0, standard=MineralStandard.K2HPO4)
    chances = dict(zip(BoneStatus, (0.1, 0.85, 0.05), strict=True))
    more = (
        Opinion(name="density_regression", status=BoneStatus.OSTEOPENIA, density=density),
        Opinion(name="classifier", status=BoneStatus.OSTEOPENIA, probabilities=chances),
    )
    reported = Finding(code="opinions_agree", severity=Severity.INFO, message="They agree.")
    row = summary_row(measured.model_copy(update={"opinions": measured.opinions + more, "findings": (reported,)}))
    assert tuple(row) == SUMMARY_COLUMNS
    assert (row["opinions"], row["warnings"]) == ("agree", "")
    assert (row["regression_status"], row["regression_mg_cm3"], row["regression_interval_low"]) == (
        "osteopenia",
        101.3,
        90.0,
    )
    assert (row["classifier_status"], row["probability_normal"], row["probability_osteopenia"]) == (
        "osteopenia",
        0.1,
        0.85,
    )


def test_row_of_a_refused_study_has_no_measurements() -> None:
    row = summary_row(result("refused"))
    assert row["refusals"] == "why_refused"
    assert row["seconds"] == 1.5
    for column in ("density_mg_cm3", "status", "L1_mg_cm3", "calibration", "kvp", "interval_low"):
        assert row[column] is None


def test_a_radiograph_that_breaks_stays_one(tmp_path: Path) -> None:
    def screen_one(study: Study, folder: Path) -> ScreeningResult:
        raise RuntimeError("broken")

    studies = [Study("ct", tmp_path / "ct"), Study("radiograph", tmp_path / "chest.png")]
    screen_folder(studies, tmp_path, tmp_path / "out", lambda: screen_one)
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [(row["study"], row["modality"], row["verdict"]) for row in rows] == [
        ("ct", "ct", "unusable"),
        ("chest.png", "radiograph", "unusable"),
    ]


def test_a_failing_study_keeps_its_row_and_never_stops_the_rest(tmp_path: Path) -> None:
    studies = cts(tmp_path / "in", "good", "bad", "refused")
    output = tmp_path / "out"
    reported = []

    def screen_one(study: Study, folder: Path) -> ScreeningResult:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "labels.nii.gz").write_bytes(b"x")
        if study.path.name == "bad":
            raise RuntimeError("DOE^JOHN broke it")
        return result("refused" if study.path.name == "refused" else "accepted", folder.name)

    results = screen_folder(
        studies, tmp_path / "in", output, lambda: screen_one, lambda name, r: reported.append((name, r and r.verdict))
    )
    assert [row["verdict"] for row in results] == ["accepted", "unusable", "refused"]
    with (output / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["study"], r["verdict"]) for r in rows] == [
        ("good", "accepted"), ("bad", "unusable"), ("refused", "refused"),
    ]  # fmt: skip
    assert rows[1]["refusals"] == "internal_error"
    assert rows[1]["density_mg_cm3"] == ""
    assert json.loads((output / "summary.json").read_text())[1]["study"] == "bad"
    assert (output / "bad" / "labels.nii.gz").exists()
    broken = ScreeningResult.model_validate_json((output / "bad" / "result.json").read_text())
    assert "RuntimeError" in broken.findings[0].message
    assert reported == [
        ("good", None), ("good", "accepted"), ("bad", None), ("bad", "unusable"), ("refused", None),
        ("refused", "refused"),
    ]  # fmt: skip


def test_message_of_a_foreign_error_is_not_quoted(tmp_path: Path) -> None:
    failed = failed_result("case", ValueError("PatientName DOE^JOHN is not valid"), 2.0)
    assert "DOE" not in failed.model_dump_json()
    assert "ValueError" in failed.findings[0].message


def test_run_that_is_cut_short_leaves_its_rows(tmp_path: Path) -> None:
    def screen_one(study: Study, folder: Path) -> ScreeningResult:
        if study.path.name == "second":
            raise KeyboardInterrupt
        return result("accepted", folder.name)

    with pytest.raises(KeyboardInterrupt):
        screen_folder(cts(tmp_path, "first", "second"), tmp_path, tmp_path / "out", lambda: screen_one)
    with (tmp_path / "out" / "summary.csv").open() as file:
        assert [r["study"] for r in csv.DictReader(file)] == ["first"]


def _slices(
    folder: Any, study: Any, names: Any, modality: Any = "CT", sop_class: Any = "1.2.840.10008.5.1.4.1.1.2"
) -> None:
    """Headers of DICOM files, which are all that finding studies looks at."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop_class
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.PatientID = study, f"{study}.1", modality, "A"
        ds.Rows = ds.Columns = 4
        ds.save_as(folder / name, enforce_file_format=True)


def _found(root: Any) -> Any:
    return [(s.kind, s.path.relative_to(root).as_posix(), len(s.files)) for s in find_screenable(root)]


def test_flat_folder_of_two_studies_gives_two_rows_and_two_output_folders(tmp_path: Path) -> None:
    root = tmp_path / "in"
    _slices(root / "flat", "1.2.3", ["b1", "b2", "b3"])
    _slices(root / "flat", "1.2.4", ["a1", "a2", "a3"])
    _slices(root / "flat", "1.2.4", ["0"], "RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3")
    _slices(root / "flat", "1.2.5", ["00"], "SR", "1.2.840.10008.5.1.4.1.1.88.33")
    _slices(root / "own", "1.2.6", ["c1", "c2"])
    assert _found(root) == [("ct", "flat/a1", 0), ("ct", "flat/b1", 0), ("ct", "own", 0)]
    assert _found(root / "flat") == [("ct", "a1", 0), ("ct", "b1", 0)]
    studies = find_screenable(root)
    results = screen_folder(
        studies, root, tmp_path / "out", lambda: lambda study, folder: result("accepted", folder.name)
    )
    with (tmp_path / "out" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["study"] for row in results] == ["flat__a1", "flat__b1", "own"]
    assert len({row["folder"] for row in rows}) == 3


def test_flat_folder_of_a_ct_and_the_radiographs_of_another_study(tmp_path: Path) -> None:
    _slices(tmp_path, "1.2.3", ["b1", "b2", "b3"])
    _slices(tmp_path, "1.2.3", ["b4"], "DX", "1.2.840.10008.5.1.4.1.1.1.1")
    _slices(tmp_path, "1.2.4", ["x1", "x2"], "DX", "1.2.840.10008.5.1.4.1.1.1.1")
    (tmp_path / "preview.png").write_bytes(b"\x89PNG")
    assert _found(tmp_path) == [("ct", "b1", 0), ("radiograph", "x1", 2)]


def test_a_single_study_is_its_folder_with_any_other_files(tmp_path: Path) -> None:
    _slices(tmp_path, "1.2.3", ["b1", "b2", "b3"])
    _slices(tmp_path, "1.2.4", ["a"], "SEG", "1.2.840.10008.5.1.4.1.1.66.4")
    assert find_screenable(tmp_path) == [Study("ct", tmp_path)]


def test_nothing_to_screen(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="no file or folder"):
        find_screenable(tmp_path / "absent")
    with pytest.raises(UnusableInputError, match="no DICOM, NIfTI"):
        find_screenable(tmp_path)


# --- the summary --------------------------------------------------------------------------------------------------


def test_rows_are_appended_and_the_table_is_written_once_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B27: rewriting the table after each of n studies writes n * n rows."""
    written: list[str] = []

    def counted(write: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
        def both(path: Path, content: Any) -> None:
            written.append(path.name)
            write(path, content)

        return both

    monkeypatch.setattr(summary, "write_text", counted(write_text))
    monkeypatch.setattr(summary, "write_json", counted(write_json))
    lines: list[int] = []

    def screen_one(study: Study, folder: Path) -> ScreeningResult:
        lines.append(len((tmp_path / "out" / "summary.csv").read_text().splitlines()))
        return result("accepted", folder.name)

    screen_folder(cts(tmp_path, *"01234"), tmp_path, tmp_path / "out", lambda: screen_one)
    assert lines == [1, 2, 3, 4, 5]  # header, and one more row before each study
    assert written == ["summary.csv", "summary.csv", "summary.json"]
    with (tmp_path / "out" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["study"] for row in rows] == [row["study"] for row in stored] == ["0", "1", "2", "3", "4"]
    assert list(stored[0]) == list(SUMMARY_COLUMNS)


def test_no_studies_give_an_empty_table(tmp_path: Path) -> None:
    assert screen_folder([], tmp_path, tmp_path / "out", lambda: lambda study, folder: result("accepted")) == []
    assert (tmp_path / "out" / "summary.csv").read_text().splitlines() == [",".join(SUMMARY_COLUMNS)]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == []


def test_an_unexpected_error_is_logged_without_name_and_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """B23: without a log at warning level it stays unknown; name and text may contain identifiers."""

    def screen_one(study: Study, folder: Path) -> ScreeningResult:
        raise RuntimeError("PatientName DOE^JOHN")

    with caplog.at_level("WARNING"):
        screen_folder(cts(tmp_path, "DOE_JOHN"), tmp_path, tmp_path / "out", lambda: screen_one)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "RuntimeError" in record.getMessage()
    assert "DOE" not in caplog.text
