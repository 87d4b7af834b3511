"""Texture of a cohort, and the radiomics baseline, through the command line."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.batch import read_ledger
from osteo_monai.cli import run
from osteo_monai.cohort import measure_texture, predict_from_texture
from osteo_monai.data import Header, Manifest, Record, read_predictions, write_manifest
from osteo_monai.data.csv_tables import write_table
from osteo_monai.domain import VertebraLevel
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement import UNITS

from .conftest import read_csv, save

Capture = pytest.CaptureFixture[str]
COLUMNS = ("subject_id", "cohort", "image", "level", "feature", "value", "unit", "note")


def fine_cohort(folder: Path) -> Path:
    """Write a cohort of one scan: two bodies of 44 x 34 x 26 mm with noise of 20 HU in voxels of 1 mm."""
    x, y, z = np.ogrid[-30:30, -25:25, 0:90]
    hu = np.random.default_rng(0).normal(40.0, 20.0, (60, 50, 90))
    hu[np.broadcast_to(np.abs(x) >= 26, hu.shape)] -= 1040.0  # air
    labels = np.zeros(hu.shape, dtype=np.uint8)
    for level, centre in ((VertebraLevel.L1, 64), (VertebraLevel.L2, 26)):
        body = ((x / 22) ** 2 + (y / 17) ** 2 <= 1) & (np.abs(z - centre) <= 13)
        inside = ((x / 20) ** 2 + (y / 15) ** 2 <= 1) & (np.abs(z - centre) <= 11)
        hu[body & ~inside] += 400.0
        hu[inside] += 110.0
        labels[body] = level.label
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    save(hu.astype(np.int16), folder / "ct.nii.gz", affine)
    save(labels, folder / "labels.nii.gz", affine)
    record = Record(image="ct.nii.gz", label="labels.nii.gz", subject_id="p0", kvp=120.0)
    return manifest(folder / "manifest.json", [record])


def manifest(path: Path, training: list[Record], test: list[Record] | None = None) -> Path:
    header = Header(name="texture", description="Texture", virtual=True, source="a test")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(Manifest(header=header, splits={"training": training, "test": test or []}), path)
    return path


def test_measure_writes_the_texture_beside_the_other_tables(tmp_path: Path, capsys: Capture) -> None:
    path, output = fine_cohort(tmp_path / "data"), tmp_path / "out"
    words = ["measure", str(path), "--source", "label", "--output", str(output)]
    assert run([*words, "--texture"]) == 0
    assert f"Texture: {output / 'texture.csv'}" in capsys.readouterr().out
    names = {"hu_l1_pickhardt.csv", "hu_line_bmd.csv", "excluded.csv", "ledger.sqlite", "texture.csv", "texture"}
    assert {file.name for file in output.iterdir()} == names
    before = (output / "texture.csv").read_bytes()
    (output / "texture.csv").unlink()
    assert run([*words, "--texture", "--resume"]) == 0
    (entry,) = read_ledger(output / "texture" / "ledger.sqlite").entries
    assert (entry.state, entry.attempts) == ("measured", 1)
    assert (output / "texture.csv").read_bytes() == before
    rows = read_csv(output / "texture.csv")
    assert tuple(rows[0]) == COLUMNS
    by_feature = {(row["level"], row["feature"]): row for row in rows}
    for level in ("L1", "L2"):
        mean, sd = by_feature[level, "first_order_mean"], by_feature[level, "first_order_sd"]
        assert float(mean["value"]) == pytest.approx(150.0, abs=2.0)
        assert float(sd["value"]) == pytest.approx(20.0, rel=0.15)
        assert (mean["subject_id"], mean["cohort"], mean["image"], mean["unit"]) == (
            "p0",
            "training",
            "ct.nii.gz",
            "HU",
        )
        assert float(by_feature[level, "glcm_entropy"]["value"]) > 0
        coarse = by_feature[level, "microarchitecture"]
        assert (coarse["value"], coarse["note"].split(",")[0]) == (
            "",
            "Voxels must be at most 0.25 mm in plane and 0.5 mm between slices",
        )
    assert run([*words, "--overwrite"]) == 0
    assert run([*words, "--texture"]) == 2  # the tables exist


def test_the_default_measures_no_texture(
    tmp_path: Path, make_cohort: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    assert run(["measure", str(make_cohort()), "--source", "label", "-o", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "texture.csv").exists()


def test_a_missing_extra_is_one_sentence_before_work_starts(
    tmp_path: Path, make_cohort: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "itk", None)
    words = ["measure", str(make_cohort()), "--source", "label", "-o", str(tmp_path / "out"), "--texture"]
    assert run(words) == 2
    assert capsys.readouterr().err == "osteo-monai: Texture analysis needs itk: pip install 'osteo-monai[texture]'\n"
    assert not (tmp_path / "out").exists()


def test_reasons_stand_in_place_of_values(
    tmp_path: Path, make_cohort: Callable[..., Path], truth_labels: NDArray[np.uint8]
) -> None:
    path = make_cohort({}, {})
    l2_only = np.where(truth_labels == VertebraLevel.L1.label, 0, truth_labels).astype(np.uint8)
    save(l2_only, path.parent / "p0" / "labels.nii.gz")
    save(truth_labels[:, :, :40], path.parent / "p1" / "labels.nii.gz")
    rows = read_csv(measure_texture(path, tmp_path / "out", source="label"))
    notes: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        assert row["value"] == ""
        notes.setdefault((row["subject_id"], row["level"]), set()).add(row["note"])
    assert notes["p0", "L1"] == {"L1 is not in the label map."}
    assert notes["p0", "L2"] == {
        "Voxels must be at most 1 mm in plane and 3 mm between slices, got 2 and 2 mm.",
        "Voxels must be at most 0.25 mm in plane and 0.5 mm between slices, got 2 and 2 mm.",
    }
    assert all(note.startswith("Shape of the label") for note in notes["p1", "L1"] | notes["p1", "L2"])


# --- radiomics baseline -------------------------------------------------------------------------------------------


def texture_table(path: Path, values: dict[str, tuple[str, float]], repeats: int = 1) -> Path:
    """Write two levels for each subject (cohort, mean HU), each image with its own noise."""
    noise = np.random.default_rng(1).normal(0, 5, (len(values) * repeats * 2, 2))
    rows: list[tuple[object, ...]] = []
    bodies = [(s, c, hu, k, level) for s, (c, hu) in values.items() for k in range(repeats) for level in ("L1", "L2")]
    for (subject, cohort, hu, k, level), (first, second) in zip(bodies, noise, strict=True):
        start = (subject, cohort, f"{subject}_{k}.nii.gz", level)
        rows.append((*start, "first_order_mean", hu + first, "HU", ""))
        rows.append((*start, "first_order_sd", 20 + second, "HU", ""))
        rows.append((*start, "microarchitecture", "", "", "Voxels are too coarse."))
    write_table(path, COLUMNS, rows)
    return path


def people(count: int) -> dict[str, tuple[str, float]]:
    """Return alternating subjects with low and high HU; a third of them are in the test cohort."""
    return {f"p{n}": ("test" if n % 3 == 0 else "training", 60.0 if n % 2 else 180.0) for n in range(count)}


def outcomes(path: Path, values: dict[str, tuple[str, float]], repeats: int = 1, **changes: Any) -> Path:
    splits: dict[str, list[Record]] = {"training": [], "test": []}
    for subject, (cohort, hu) in values.items():
        for k in range(repeats):
            facts = {"bmd_mg_cm3": hu * 0.8, "bmd_standard": "K2HPO4", "age": 60.0, "kvp": 100.0 + 20 * k} | changes
            splits[cohort].append(Record(image=f"{subject}_{k}.nii.gz", subject_id=subject, **facts))
    return manifest(path, splits["training"], splits["test"])


def test_evaluate_takes_the_radiomics_baseline_as_a_model(tmp_path: Path, capsys: Capture) -> None:
    values = people(24)
    table = texture_table(tmp_path / "texture.csv", values)
    path = outcomes(tmp_path / "manifest.json", values | {"p99": ("test", 60.0)})
    output = tmp_path / "radiomics.csv"
    assert run(["risk", "radiomics", str(table), str(path), "-o", str(output), "--folds", "4"]) == 0
    assert "Left out: 1 subjects without texture" in capsys.readouterr().out
    rows = {row["subject_id"]: row for row in read_csv(output)}
    assert set(rows) == set(values)
    assert {row["fold"] for row in rows.values()} == {"0", "1", "2", "3"}
    assert {row["model"] for row in rows.values()} == {"Radiomics"}
    assert all(row["cohort"] == values[subject][0] and row["virtual"] == "1" for subject, row in rows.items())
    training, test = sorted(read_predictions([output]), key=lambda p: p.cohort, reverse=True)
    assert (training.cohort, test.cohort) == ("training", "test")
    for cohort in (training, test):
        right = (cohort.scores["osteoporosis"] > 0.5) == cohort.is_class("osteoporosis")
        assert right.all()
    words = ["evaluate", str(output), "--output", str(tmp_path / "evaluation")]
    assert run(words) == 0
    assert "Radiomics" in "".join(p.read_text("utf-8") for p in (tmp_path / "evaluation").rglob("*.csv"))


def test_semicolons_and_decimal_commas_give_the_same_predictions(tmp_path: Path) -> None:
    values = people(8)
    path = outcomes(tmp_path / "manifest.json", values)
    table = texture_table(tmp_path / "texture.csv", values)
    predict_from_texture(table, path, tmp_path / "a.csv", folds=2)
    text = table.read_text(encoding="utf-8").replace(",", ";")
    table.write_text(re.sub(r"(?<=;)(-?\d+)\.(\d+)(?=;)", r"\1,\2", text), encoding="utf-8")
    predict_from_texture(table, path, tmp_path / "b.csv", folds=2)
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_all_images_of_a_subject_are_in_one_fold(tmp_path: Path) -> None:
    values = people(12)
    table = texture_table(tmp_path / "texture.csv", values, repeats=3)
    path = outcomes(tmp_path / "manifest.json", values, repeats=3)
    output = tmp_path / "out.csv"
    assert sum(predict_from_texture(table, path, output, folds=3).values()) == 0
    rows = read_csv(output)
    assert sorted(row["subject_id"] for row in rows) == sorted(values)
    assert {row["age"] for row in rows} == {"60.0"}
    assert "kvp" not in rows[0]  # it differs between the images of a subject


def test_outcomes_in_another_standard_are_left_out(tmp_path: Path) -> None:
    values = people(8)
    table = texture_table(tmp_path / "texture.csv", values)
    path = outcomes(tmp_path / "manifest.json", values, bmd_standard="hydroxyapatite")
    with pytest.raises(UnusableInputError, match="each outcome must have at least 2 subjects, one per fold, got 0"):
        predict_from_texture(table, path, tmp_path / "out.csv", folds=2)
    assert not (tmp_path / "out.csv").exists()


def test_problems_of_a_table_are_listed_together(tmp_path: Path, capsys: Capture) -> None:
    values = people(8)
    path = outcomes(tmp_path / "manifest.json", values)
    table = tmp_path / "texture.csv"
    cells = [
        ("p0", "test", "a", "L1", "colour", 1, "HU", ""),
        ("p0", "test", "a", "Q1", next(iter(UNITS)), 1, "HU", ""),
        ("p0", "test", "a", "L1", next(iter(UNITS)), "inf", "HU", ""),
    ]
    write_table(table, COLUMNS, cells)
    assert run(["risk", "radiomics", str(table), str(path), "-o", str(tmp_path / "out.csv")]) == 2
    message = capsys.readouterr().err
    assert "line 2: feature must be one of docs/texture.md, got 'colour'" in message
    assert "line 3: level must be a vertebral level, got 'Q1'" in message
    assert "line 4: value must be a number, got 'inf'" in message
    texture_table(table, values | {"p77": ("test", 60.0)})
    with pytest.raises(UnusableInputError, match="1 subjects are not in 'manifest.json'"):
        predict_from_texture(table, path, tmp_path / "out.csv")
