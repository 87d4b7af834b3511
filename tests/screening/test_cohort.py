"""Preparing cohorts: outlines for every record, the radiologist's baseline, and nobody lost."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from osteo_monai import cli
from osteo_monai.cohort import segment as cohort
from osteo_monai.cohort.segment import PICKHARDT_2013, mark_levels, measure_cohort, segment_cohort
from osteo_monai.data import Header, Manifest, Record, read_manifest, write_manifest
from osteo_monai.domain import BoneStatus, VertebraLevel
from osteo_monai.imaging import read_label_map
from osteo_monai.measurement import calibrate

from .conftest import LEVELS, PITCH_MM, TRABECULAR_HU, inside_body, phantom_affine

L1, L2 = VertebraLevel.L1, VertebraLevel.L2


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def save(array: np.ndarray, path: Path, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = phantom_affine() if affine is None else affine
    image = nib.Nifti1Image(array, matrix)
    image.set_sform(matrix, 1)
    nib.save(image, path)


@pytest.fixture(scope="session")
def truth_labels() -> np.ndarray:
    """Labels 2 mm smaller than the bodies, so that truth and outline differ."""
    return np.sum([inside_body(level, 2.0) * level.label for level in LEVELS], axis=0).astype(np.uint8)


@pytest.fixture
def make_cohort(tmp_path: Path, phantom_hu: np.ndarray, truth_labels: np.ndarray) -> Callable[..., Path]:
    """Return a function that writes records p0, p1, ... of the phantom, each with some fields changed."""

    def make(*changes: dict[str, Any], hu: np.ndarray | None = None, labels: np.ndarray | None = None) -> Path:
        base = tmp_path / "data"
        records = []
        for n, changed in enumerate(changes or ({},)):
            save((phantom_hu if hu is None else hu).astype(np.int16), base / f"p{n}" / "ct.nii.gz")
            save(truth_labels if labels is None else labels, base / f"p{n}" / "labels.nii.gz")
            known = {
                "image": f"p{n}/ct.nii.gz",
                "label": f"p{n}/labels.nii.gz",
                "subject_id": f"p{n}",
                "kvp": 120.0,
                "age": 61.0,
                "sex": "F",
                "bmd_mg_cm3": 100.0,
                "bmd_standard": "K2HPO4",
                "contrast_phase": "native",
                "acquisition": "slab",
            }
            records.append(Record(**(known | changed)))
        header = Header(name="phantoms", description="Four bodies", virtual=True, source="a test")
        path = base / "manifest.json"
        write_manifest(Manifest(header=header, splits={"training": records[:1], "test": records[1:]}), path)
        return path

    return make


# --- where the levels are -----------------------------------------------------------------------------------------


def test_levels_are_marked_half_way_between_end_plates(truth_labels):
    # 36 mm from centre to centre: the planes lie 18 mm from each
    upper, lower = mark_levels(truth_labels, phantom_affine(), (L1, L2))
    assert upper.level is L1
    z1 = 44.0 - PITCH_MM * LEVELS.index(L1)
    np.testing.assert_allclose(upper.centre_mm, (0, 0, z1), atol=1.6)
    np.testing.assert_allclose(upper.superior_mm, (0, 0, z1 + PITCH_MM / 2), atol=1.6)
    np.testing.assert_allclose(upper.inferior_mm, (0, 0, z1 - PITCH_MM / 2), atol=1.6)
    np.testing.assert_allclose(upper.inferior_mm, lower.superior_mm, atol=1e-6)


def test_a_lone_level_gets_planes_beyond_its_own_end_plates():
    labels = np.zeros((30, 30, 40), np.uint8)
    labels[5:25, 5:25, 10:31] = L1.label
    (alone,) = mark_levels(labels, np.eye(4), (L1,))
    # end plates at 10 and 30, planes 4 mm beyond
    assert alone.superior_mm == pytest.approx((14.5, 14.5, 34.0))
    assert alone.inferior_mm == pytest.approx((14.5, 14.5, 6.0))


def test_the_rim_of_a_neighbour_in_the_slab_sets_the_plane():
    labels = np.zeros((30, 30, 40), np.uint8)
    labels[5:25, 5:25, 10:31] = L1.label
    labels[5:25, 5:25, 36:40] = VertebraLevel.T12.label
    (marked,) = mark_levels(labels, np.eye(4), (L1,))
    assert marked.superior_mm == pytest.approx((14.5, 14.5, 33.0))  # half-way from 30 to 36
    labels[..., 36:] = 0
    labels[24:, 24:, 36:] = VertebraLevel.T12.label  # a splinter out of the line
    assert mark_levels(labels, np.eye(4), (L1,))[0].superior_mm == pytest.approx((14.5, 14.5, 34.0))


def test_planes_stand_across_a_tilted_body():
    labels = np.zeros((41, 41, 60), np.uint8)
    _, y, z = np.indices(labels.shape)
    tilt = np.tan(np.radians(20.0))
    labels[5:36, 5:36] = np.where(abs(z - 30 - tilt * (y - 20)) <= 10, L1.label, 0)[5:36, 5:36]
    (marked,) = mark_levels(labels, np.eye(4), (L1,))
    axis = np.subtract(marked.superior_mm, marked.inferior_mm)
    axis /= np.linalg.norm(axis)
    np.testing.assert_allclose(axis, (0, -np.sin(np.radians(20)), np.cos(np.radians(20))), atol=0.02)


def test_all_levels_that_cannot_be_marked_are_named():
    labels = np.zeros((30, 30, 40), np.uint8)
    labels[5:25, 5:25, 20:] = L1.label
    with pytest.raises(ValueError, match="L1 is cut .*; L2 is not labelled"):
        mark_levels(labels, np.eye(4), (L1, L2))


# --- segment ------------------------------------------------------------------------------------------------------


def test_the_outline_is_the_bundles_and_the_place_is_the_labels(tmp_path, make_cohort, make_models, phantom_mask):
    models = make_models()
    done = segment_cohort(make_cohort({}, {}), tmp_path / "new" / "prepared.json", models=models)
    assert (done.segmented, done.reused, done.excluded) == (2, 0, ())
    assert models.localisation.calls == 0
    new = read_manifest(done.manifest)
    assert new.splits["test"][0].segmentation == "segmentations/p1__ct.nii.gz"
    assert new.splits["test"][0].image == "../data/p1/ct.nii.gz"
    assert new.header.source == "a test; segmentation by fake_segmenter 0.0.1, weights 111111111111"
    labels, affine = read_label_map(done.manifest.parent / "segmentations" / "p0__ct.nii.gz")
    np.testing.assert_allclose(affine, phantom_affine())
    for level in (L1, L2):
        np.testing.assert_array_equal(labels == level.label, inside_body(level))
    assert set(np.unique(labels)) == {0, L1.label, L2.label}


def test_dice_is_told_by_level(tmp_path, make_cohort, make_models, truth_labels):
    done = segment_cohort(make_cohort({}, {}), tmp_path / "prepared.json", models=make_models())
    small, large = int((truth_labels == L1.label).sum()), int(inside_body(L1).sum())
    wanted = 2 * small / (small + large)  # the smaller one lies wholly within the larger one
    assert 0.5 < wanted < 0.95
    assert done.dice[L1] == (pytest.approx(wanted), 0.0, 2)
    summary = {(row["cohort"], row["level"]): row for row in read_csv(done.folder / cohort.DICE_FILE)}
    assert float(summary["all", "L1"]["mean"]) == pytest.approx(wanted, abs=1e-4)
    assert summary["all", "all"]["bodies"] == "4"
    assert summary["training", "L1"]["sd"] == ""  # one body has no spread
    assert len(read_csv(done.folder / cohort.DICE_BY_RECORD_FILE)) == 4


def test_excluded_records_keep_a_row(tmp_path, make_cohort, make_models, truth_labels):
    path = make_cohort({}, {}, {}, {})
    base = path.parent
    save(np.where(truth_labels == L2.label, 0, truth_labels).astype(np.uint8), base / "p1" / "labels.nii.gz")
    save(truth_labels[:-1], base / "p2" / "labels.nii.gz")
    (base / "p3" / "ct.nii.gz").write_bytes(b"damaged")
    done = segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    assert done.segmented == 1
    assert [r.subject_id for r in read_manifest(done.manifest).splits["training"]] == ["p0"]
    assert "test" not in read_manifest(done.manifest).splits
    reasons = {row["subject_id"]: row["reason"] for row in read_csv(done.folder / cohort.EXCLUDED_FILE)}
    assert reasons["p1"] == "L2 is not labelled."
    assert "voxels, the image" in reasons["p2"]
    assert "damaged" in reasons["p3"]


def test_what_is_no_ct_is_excluded_although_the_manifest_vouches(tmp_path, make_cohort, make_models, phantom_hu):
    path = make_cohort({}, {})
    save((phantom_hu + 1100).clip(0).astype(np.int16), path.parent / "p1" / "ct.nii.gz")
    done = segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    assert done.segmented == 1
    assert "no negative value" in done.excluded[0][3]


def test_a_targeted_field_without_air_is_read(tmp_path, make_cohort, make_models, phantom_hu):
    done = segment_cohort(make_cohort(hu=phantom_hu.clip(-105)), tmp_path / "prepared.json", models=make_models())
    assert done.segmented == 1


def test_a_body_that_the_bundle_does_not_find_is_excluded(tmp_path, make_cohort, make_models, phantom_mask):
    mask = phantom_mask & ~inside_body(L2)
    with pytest.raises(ValueError, match="none of the 1 records .* body of L2 could not be outlined"):
        segment_cohort(make_cohort(), tmp_path / "prepared.json", models=make_models(mask=mask))


def test_without_a_label_the_whole_chain_runs_with_its_refusals(tmp_path, make_cohort, make_models):
    path = make_cohort({"label": None})
    models = make_models()
    done = segment_cohort(path, tmp_path / "prepared.json", models=models)
    assert models.localisation.calls == 1
    assert done.segmented == 1
    assert done.dice == {}
    labels, _ = read_label_map(done.folder / "p0__ct.nii.gz")
    assert set(np.unique(labels)) == {0, L1.label, L2.label}  # neighbours were outlined to compare, and are not kept
    unsure = [replace(v, certainty=0.4) for v in models.column.vertebrae]
    with pytest.raises(ValueError, match="none of the 1 records"):
        segment_cohort(path, tmp_path / "again.json", folder=tmp_path / "other", models=make_models(unsure))
    assert "L1" in read_csv(tmp_path / "other" / cohort.EXCLUDED_FILE)[0]["reason"]


def test_a_run_goes_on_where_it_stopped(tmp_path, make_cohort, make_models):
    path = make_cohort({}, {})
    done = segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    (done.folder / "p1__ct.nii.gz").unlink()
    models = make_models()
    again = segment_cohort(path, tmp_path / "second.json", models=models)
    assert (again.segmented, again.reused) == (2, 1)
    assert len(models.segmentation.slices) == 1
    assert again.dice == done.dice
    assert not list(done.folder.glob("*.part*"))


def test_outlines_by_other_weights_are_not_mixed(tmp_path, make_cohort, make_models):
    path = make_cohort()
    segment_cohort(path, tmp_path / "prepared.json", models=make_models())
    other = make_models()
    other.segmentation.weights_sha256 = "2" * 64
    with pytest.raises(ValueError, match="by other weights"):
        segment_cohort(path, tmp_path / "second.json", models=other)
    assert segment_cohort(path, tmp_path / "second.json", models=other, overwrite=True).reused == 0


def test_wrong_arguments_of_segment(tmp_path, make_cohort, make_models):
    path = make_cohort()
    with pytest.raises(ValueError, match="another file"):
        segment_cohort(path, path, models=make_models())
    with pytest.raises(ValueError, match="at least one level"):
        segment_cohort(path, tmp_path / "x.json", models=make_models(), levels=())
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="already"):
        segment_cohort(path, tmp_path / "x.json", models=make_models())


def test_records_of_one_name_get_files_of_their_own(tmp_path):
    records = [
        Record(image=name, subject_id=str(n)) for n, name in enumerate(("a/ct.nii", "../a/ct.nii.gz", "A/dicom"))
    ]
    manifest = Manifest(header=Header(name="n", description="d", virtual=True), splits={"test": records})
    names = [path.name for path in cohort._target_paths(manifest, tmp_path)]
    assert names == ["a__ct.nii.gz", "a__ct__2.nii.gz", "A__dicom.nii.gz"]


# --- measure ------------------------------------------------------------------------------------------------------


def test_the_published_pair_makes_three_classes():
    status = {hu: PICKHARDT_2013.status(hu) for hu in (109.9, 110.0, 110.1, 160.0, 160.1)}
    assert [s.value for s in status.values()] == ["osteoporosis", "osteoporosis", "osteopenia", "osteopenia", "normal"]
    assert PICKHARDT_2013.scores(145.0) == {
        "score_normal": 145.0,
        "score_osteopenia": -10.0,
        "score_osteoporosis": -145.0,
    }
    assert "Pickhardt" in PICKHARDT_2013.source


def test_baseline_by_hu_and_by_line(tmp_path, make_cohort):
    done = measure_cohort(make_cohort({}, {}), tmp_path / "out", source="label")
    assert list(done.rows.values()) == [2, 2]
    assert done.excluded == ()
    row = read_csv(tmp_path / "out" / "hu_l1_pickhardt.csv")[1]
    wanted = {
        "subject_id": "p1",
        "model": "L1 HU, Pickhardt 2013",
        "cohort": "test",
        "bone_status": "",
        "bmd_mg_cm3": "100.0",
        "age": "61.0",
        "sex": "F",
        "kvp": "120.0",
        "contrast_phase": "native",
        "acquisition": "slab",
    }
    assert {key: row[key] for key in wanted} == wanted
    assert float(row["hu_l1"]) == pytest.approx(TRABECULAR_HU[L1], abs=1.0)
    assert float(row["hu_l2"]) == pytest.approx(TRABECULAR_HU[L2], abs=1.0)
    assert float(row["score_osteoporosis"]) == -float(row["hu_l1"])
    assert row["predicted"] == PICKHARDT_2013.status(float(row["hu_l1"]))
    line = read_csv(tmp_path / "out" / "hu_line_bmd.csv")[1]
    slope = calibrate("physics", kvp=120.0).slope
    assert float(line["predicted_bmd_mg_cm3"]) == pytest.approx(
        slope * (TRABECULAR_HU[L1] + TRABECULAR_HU[L2]) / 2, abs=1.0
    )
    assert float(line["predicted_bmd_lower"]) < float(line["predicted_bmd_mg_cm3"]) < float(line["predicted_bmd_upper"])


def test_a_record_may_be_missing_in_one_table_and_is_told(tmp_path, make_cohort, truth_labels):
    path = make_cohort({}, {"kvp": None}, {}, {"kvp": 70.0})
    base = path.parent
    save(np.where(truth_labels == L2.label, 0, truth_labels).astype(np.uint8), base / "p2" / "labels.nii.gz")
    (base / "p3" / "ct.json").write_text(json.dumps({"Modality": "CT", "KVP": 120}))
    done = measure_cohort(path, tmp_path / "out", source="label")
    assert list(done.rows.values()) == [4, 1]
    told = {(row["subject_id"], row["model"]): row["reason"] for row in read_csv(tmp_path / "out" / "excluded.csv")}
    assert told == {
        ("p1", "HU line"): "The tube voltage stands neither in the manifest nor in the file.",
        ("p2", "HU line"): "L2 is not in the label map.",
        ("p3", "HU line"): "The manifest says 70 kVp, the header 120 kVp.",
    }


def test_all_that_hinders_measuring_is_listed_at_once(tmp_path, make_cohort):
    path = make_cohort({}, {"bmd_standard": "hydroxyapatite"})
    with pytest.raises(ValueError, match="2 records have no segmentation.*; 1 records have densities .* K2HPO4"):
        measure_cohort(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_measuring_the_segmentation_reads_that_map(tmp_path, make_cohort, make_models):
    done = segment_cohort(make_cohort(), tmp_path / "prepared.json", models=make_models())
    measured = measure_cohort(done.manifest, tmp_path / "out")
    assert list(measured.rows.values()) == [1, 1]
    row = read_csv(tmp_path / "out" / "hu_l1_pickhardt.csv")[0]
    assert float(row["hu_l1"]) == pytest.approx(TRABECULAR_HU[L1], abs=2.0)
    assert BoneStatus(row["predicted"])


# --- the command --------------------------------------------------------------------------------------------------


def test_verbs_tell_what_was_done(tmp_path, make_cohort, make_models, monkeypatch, capsys):
    monkeypatch.setattr(cohort, "_models", lambda device: make_models())
    path = make_cohort({}, {})
    (path.parent / "p1" / "labels.nii.gz").write_bytes(b"damaged")
    new = tmp_path / "prepared.json"
    assert cli.run(["manifest", "segment", str(path), "--output", str(new)]) == 0
    said = capsys.readouterr().out
    assert "Dice of L1 against the label: 0." in said
    assert "1 records segmented, 1 excluded" in said
    assert cli.run(["measure", str(new), "--output", str(tmp_path / "out")]) == 0
    assert cli.run(["measure", str(new), "--output", str(tmp_path / "out")]) == 2
    assert cli.run(["measure", str(new), "--output", str(tmp_path / "out"), "--source", "guess"]) == 2
    assert cli.run(["manifest", "segment", str(path), "--output", str(tmp_path / "b.json"), "--levels", "T3"]) == 2
    errors = capsys.readouterr().err
    assert "--overwrite must be given" in errors
    assert "segmentation or label, got 'guess'" in errors
    assert "Traceback" not in errors
