"""The verbs ``manifest ...`` and ``measure``."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osteo_monai.cli import run

Capture = pytest.CaptureFixture[str]

MANIFEST: dict[str, Any] = {
    "name": "two people",
    "description": "a test",
    "virtual": True,
    "training": [
        {"image": "a.nii.gz", "subject_id": "a", "age": 60, "sex": "F", "bmd_mg_cm3": 70, "bmd_standard": "K2HPO4",
         "bone_status": "osteoporosis"},
        {"image": "b.nii.gz", "subject_id": "b", "age": 50, "sex": "M", "bmd_mg_cm3": 130, "bmd_standard": "K2HPO4",
         "bone_status": "normal"},
    ],
    "test": [{"image": "c.nii.gz", "subject_id": "c"}],
}  # fmt: skip


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    return path


@pytest.fixture
def research(tmp_path: Path) -> list[str]:
    """Words that build a manifest of one subject from a table and a NIfTI."""
    import nibabel as nib

    (tmp_path / "scans").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "scans" / "a.nii.gz")
    (tmp_path / "table.csv").write_text("subject_id,age\na,50\n")
    return ["manifest", "build", str(tmp_path / "table.csv"), "--images", str(tmp_path / "scans")]


def test_describe(manifest: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["manifest", "describe", str(manifest)]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {c[0]: c[1:] for line in lines if len(c := [p.strip() for p in re.split("[│┃|]", line)[1:-1]]) == 3}
    assert cells[""] == ["training", "test"]
    # 70 and 130 mg/cm3: mean 100, SD 42.4; ages 60 and 50: mean 55, SD 7.1; nothing is known of the other person
    assert (cells["women"], cells["age (years)"], cells["mg/cm3"]) == (
        ["1 of 2", "-"],
        ["55.0 +- 7.1", "-"],
        ["100.0 +- 42.4", "-"],
    )
    assert (cells["osteoporosis"], cells["osteopenia"], cells["normal"]) == (["1", "-"], ["0", "-"], ["1", "-"])


def test_validate(manifest: Path, capsys: Capture) -> None:
    assert run(["manifest", "validate", "--no-files", str(manifest)]) == 0
    assert "3 records" in capsys.readouterr().out
    assert run(["manifest", "validate", str(manifest)]) == 2
    assert "there is no file a.nii.gz" in capsys.readouterr().err
    manifest.write_text(json.dumps({**MANIFEST, "test": [{"image": "c.nii.gz", "subject_id": "a"}]}))
    assert run(["manifest", "validate", "--no-files", str(manifest)]) == 2
    assert "more than one split" in capsys.readouterr().err


def test_build_writes_products_named_after_the_manifest(research: list[str], tmp_path: Path) -> None:
    output = tmp_path / "out" / "one.json"
    assert run([*research, "-o", str(output)]) == 0
    names = ["one.exclusions.csv", "one.flow.png", "one.flow.svg", "one.json"]
    assert sorted(path.name for path in output.parent.iterdir()) == names


@pytest.mark.parametrize("name", ["one.json", "one.exclusions.csv", "one.flow.png", "one.flow.svg"])
def test_build_keeps_every_existing_product(research: list[str], tmp_path: Path, capsys: Capture, name: str) -> None:
    (tmp_path / name).write_text("mine")
    words = [*research, "-o", str(tmp_path / "one.json")]
    assert run(words) == 2
    assert f"--overwrite must be given to replace '{tmp_path / name}'" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"
    assert run([*words, "--overwrite"]) == 0
    assert (tmp_path / name).read_bytes() != b"mine"


def test_build_leaves_other_files_alone(research: list[str], tmp_path: Path) -> None:
    for name in ("exclusions.csv", "flow.png", "flow.svg", "two.exclusions.csv"):
        (tmp_path / name).write_text("mine")
    assert run([*research, "-o", str(tmp_path / "one.json")]) == 0
    for name in ("exclusions.csv", "flow.png", "flow.svg", "two.exclusions.csv"):
        assert (tmp_path / name).read_text() == "mine"


def test_build_reports_all_wrong_options_together(research: list[str], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "one.json").touch()
    words = ["--columns", "age", "--columns", "sex=", "--split", "foo"]
    assert run([*research, "-o", str(tmp_path / "one.json"), *words]) == 2
    error = capsys.readouterr().err
    assert "4 arguments are wrong" in error
    for text in ("--overwrite must be given", "got 'age'", "got 'sex='", "--split must be"):
        assert text in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ratio", "5:1"], "--ratio must be training:validation:test, such as 5:1:4, got '5:1'"),
        (["--first", "2"], "first"),
        (["--temporal", "--first", "2"], "a temporal split needs 'acquired' in every record"),
        (["--temporal", "--first", "0"], "--first must be greater than or equal to 1, got '0'"),
    ],
)
def test_wrong_splits(manifest: Path, tmp_path: Path, capsys: Capture, words: list[str], message: str) -> None:
    assert run(["manifest", "split", str(manifest), "-o", str(tmp_path / "new.json"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["manifest", "describe", "--t-test", "mann"], "--t-test must be welch or student, got 'mann'"),
        (["manifest", "segment", "-o", "manifest.json"], "--output must be another file than MANIFEST"),
        (["manifest", "segment", "-o", "new.json", "--levels", "T3"], "--levels must be levels from L1 to L5"),
        (["manifest", "segment", "-o", "new.json", "--device", "gpu"], "--device must be auto, cpu, cuda or cuda:N"),
        (["measure", "-o", "out", "--source", "guess"], "--source must be segmentation or label, got 'guess'"),
        (["measure", "-o", "out", "--workers", "0"], "--workers must be greater than or equal to 1, got '0'"),
        (["measure", "-o", "manifest.json"], "--output must be a folder, got the file"),
    ],
)
def test_wrong_options(
    manifest: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(manifest.parent)
    assert run([*words, "manifest.json"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_value_error_of_the_computation_is_unexpected(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("cannot reshape array")

    monkeypatch.setattr("osteo_monai.cohort.segment.segment_cohort", fail)
    monkeypatch.setattr("osteo_monai.cohort.measure.measure_cohort", fail)
    for words in (["manifest", "segment"], ["measure"]):
        assert run([*words, str(manifest), "-o", str(tmp_path / "new")]) == 1
        assert "An unexpected error stopped the command (ValueError)" in capsys.readouterr().err
