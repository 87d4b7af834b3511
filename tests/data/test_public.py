"""Import of public data sets: layouts, numberings, splits, tables, and trees that cannot be used."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from osteo_monai.cli import run
from osteo_monai.data import Record, datalist, read_manifest
from osteo_monai.data.public import PUBLIC_SETS, PublicOptions, import_public
from osteo_monai.domain import BoneStatus, ContrastPhase, MineralStandard, Sex
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.imaging import read_ct, read_label_map

from . import public_trees as trees

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "set.json"


def imported(name: str, folder: Path, out: Path, **changes: Any) -> dict[str, list[Record]]:
    """Import a set and return the records of each split as they are read from the file, with absolute paths."""
    import_public(PublicOptions(name, folder, out, **changes))
    manifest = read_manifest(out, check_content=True)
    return {split: [r.absolute(out.parent) for r in records] for split, records in manifest.splits.items()}


def left_out(out: Path) -> dict[str, str]:
    with out.with_name("set.exclusions.csv").open(encoding="utf-8", newline="") as file:
        return {row["scan"]: row["reason"] for row in csv.DictReader(file)}


def images_of(name: str, root: Path) -> dict[str, Any]:
    if name != "vertebral-bodies":
        return {}
    return {"images": (trees.totalsegmentator(root / "ts"), trees.verse(root / "vs"))}


# --- every layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", trees.TREES)
def test_labels_are_in_the_numbering_of_this_project_on_the_grid_of_the_image(
    layout: str, tmp_path: Path, out: Path
) -> None:
    name, make = trees.TREES[layout]
    folder = make(tmp_path / "tree")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    splits = imported(name, folder, out, **images_of(name, tmp_path))
    wanted = trees.labels()
    records = [record for of_split in splits.values() for record in of_split]
    assert records
    for record in records:
        assert isinstance(record.image, str)
        assert isinstance(record.label, str)
        assert record.label_kind == PUBLIC_SETS[name].label_kind
        found, affine = read_label_map(Path(record.label))
        bodies = np.isin(found, [trees.VERSE[level] for level in trees.LEVELS])
        np.testing.assert_array_equal(np.where(bodies, found, 0), wanted)
        volume = read_ct(Path(record.image), declared_ct=True)
        np.testing.assert_allclose(affine, volume.affine, atol=1e-4)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("layout", trees.TREES)
def test_every_tree_runs_through_the_command_line(layout: str, tmp_path: Path, out: Path, capsys: Capture) -> None:
    name, make = trees.TREES[layout]
    words = ["manifest", "import", name, str(make(tmp_path / "tree")), "--output", str(out)]
    for folder in images_of(name, tmp_path).get("images", ()):
        words += ["--images", str(folder)]
    assert run(words) == 0
    assert "Licence: CC BY" in capsys.readouterr().out
    assert run(["manifest", "validate", str(out)]) == 0
    assert run(["manifest", "describe", str(out)]) == 0
    kind = {"vertebra": "of whole vertebrae", "body": "of vertebral bodies"}[PUBLIC_SETS[name].label_kind]
    assert kind in capsys.readouterr().out
    assert run(words) == 2
    assert "--overwrite must be given" in capsys.readouterr().err
    assert run([*words, "--overwrite"]) == 0


@pytest.mark.parametrize("layout", ["verse", "verse challenge"])
def test_centroids_are_in_ras_mm(layout: str, tmp_path: Path, out: Path) -> None:
    _, make = trees.TREES[layout]
    for records in imported("verse", make(tmp_path / "tree"), out).values():
        for record in records:
            points = json.loads(Path(str(record.centroids)).read_text())
            assert list(points) == list(trees.LEVELS)
            for level, point in points.items():
                assert point == pytest.approx(trees.centre_mm(level), abs=0.02)


def test_a_real_scan_of_verse_agrees_with_its_centroids(tmp_path: Path, out: Path, real_data: Path) -> None:
    from osteo_monai.cohort.overlap import bodies_of_vertebrae
    from osteo_monai.domain import LEVEL_LABELS, VertebraLevel

    tree = tmp_path / "dataset-verse19training"
    source = real_data / "ct_verse_mask"
    below = tree / "derivatives" / "sub-verse004"
    below.mkdir(parents=True)
    for path in source.iterdir():
        shutil.copy(path, below / path.name)
    mask = nib.nifti1.load(below / "sub-verse004_seg-vert_msk.nii.gz")
    image = tree / "rawdata" / "sub-verse004" / "sub-verse004_ct.nii.gz"
    image.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj).astype(np.int16), mask.affine), image)
    labels, affine = read_label_map(below / "sub-verse004_seg-vert_msk.nii.gz")
    (record,) = imported("verse", tree, out)["training"]
    points = json.loads(Path(str(record.centroids)).read_text())
    bodies = bodies_of_vertebrae(labels, np.linalg.norm(affine[:3, :3], axis=0).tolist())
    for level, point in points.items():
        if level == "L1":
            continue  # a fracture: nearly half of the vertebra is no body
        centre = affine @ np.append(np.argwhere(bodies == LEVEL_LABELS[VertebraLevel(level)]).mean(axis=0), 1.0)
        assert np.linalg.norm(centre[:3] - point) < 8.0, level


# --- VerSe --------------------------------------------------------------------------------------------------------


def test_verse_series_of_one_person_are_in_one_split(tmp_path: Path, out: Path) -> None:
    splits = imported("verse", trees.verse(tmp_path / "tree"), out)
    assert {split: [r.subject_id for r in records] for split, records in splits.items()} == {
        "training": ["verse004"],
        "validation": ["verse404", "verse404"],
        "test": ["gl003", "verse012"],
    }
    assert splits["test"][0].extra == {"licence": "CC BY-NC-ND 4.0"}
    assert left_out(out) == {}


def test_series_of_one_person_under_two_numbers_do_not_leak(tmp_path: Path, out: Path) -> None:
    splits = imported("verse", trees.verse_challenge(tmp_path / "tree"), out)
    assert [r.subject_id for r in splits["test"]] == ["verse414"]  # series 273
    assert [r.subject_id for r in splits["training"]] == ["verse004"]
    assert left_out(out) == {"verse241": "another scan of this person is in test"}


def test_facts_of_people_are_from_the_published_tables(tmp_path: Path, out: Path) -> None:
    tables = trees.verse_tables(tmp_path / "tables")
    splits = imported("verse", trees.verse(tmp_path / "tree"), out, tables=tables)
    (record,) = splits["training"]
    assert (record.age, record.sex, record.t_score) == (61.5, Sex.FEMALE, -2.6)
    assert (record.bmd_mg_cm3, record.bmd_standard) == (90.25, MineralStandard.K2HPO4)
    assert record.bone_status is BoneStatus.OSTEOPENIA
    assert (record.contrast_phase, record.scanner) == (ContrastPhase.NATIVE, "CT_device 2")
    extra = dict(record.extra or {})
    assert extra["bmd_phantomless_mg_cm3"] == 71.5
    assert extra["bmd_published_mg_cm3"] == 70.5
    test = splits["test"][1]
    # no phantom, and a published density of 0 is an unknown one
    assert test.bmd_mg_cm3 is None
    assert "bmd_published_mg_cm3" not in dict(test.extra or {})
    assert dict(test.extra or {})["foreign_material"] is True
    # the density of T1 and T2 of series 209 is not that of the person
    assert {r.bmd_mg_cm3 for r in splits["validation"]} == {130.0}


def test_the_density_is_of_the_method_that_is_named(tmp_path: Path, out: Path) -> None:
    folder, tables = trees.verse(tmp_path / "tree"), trees.verse_tables(tmp_path / "tables")
    (record,) = imported("verse", folder, out, tables=tables, density="phantomless")["training"]
    assert record.bmd_mg_cm3 == 71.5
    hydroxyapatite = MineralStandard.HYDROXYAPATITE
    (record,) = imported("verse", folder, out, tables=tables, density="published", standard=hydroxyapatite)["training"]
    assert (record.bmd_mg_cm3, record.bmd_standard, record.bone_status) == (70.5, hydroxyapatite, None)
    with pytest.raises(UnusableInputError, match="--standard must be given with --density published"):
        import_public(PublicOptions("verse", folder, out, tables=tables, density="published"))


# --- the other sets -----------------------------------------------------------------------------------------------


def test_totalsegmentator(tmp_path: Path, out: Path) -> None:
    splits = imported("totalsegmentator", trees.totalsegmentator(tmp_path / "tree"), out)
    assert {split: [r.subject_id for r in records] for split, records in splits.items()} == {
        "training": ["s0001"],
        "validation": ["s0002"],
        "test": ["s0003"],
    }
    assert "named wrongly" in left_out(out)["s0016"]
    record = splits["test"][0]
    assert (record.age, record.sex, record.kvp, record.scanner) == (61.0, Sex.MALE, 120.0, "Device X")
    labels, _ = read_label_map(Path(str(record.label)))
    assert (labels == 50).sum() == 16  # the rib; the liver is no label


def test_ctspine1k(tmp_path: Path, out: Path) -> None:
    splits = imported("ctspine1k", trees.ctspine1k(tmp_path / "tree"), out)
    assert {split: [r.subject_id for r in records] for split, records in splits.items()} == {
        "training": ["1.3.6.1.4.1.9328.50.4.0001"],
        "validation": ["liver_110"],
        "test": ["volume-covid19-A-0319"],  # two names in one line of the published file
    }
    assert splits["training"][0].kernel == "B30f"
    assert dict(splits["training"][0].extra or {}) == {"position": "prone"}


def test_vertebral_bodies_find_their_images_in_other_sets(tmp_path: Path, out: Path) -> None:
    name, make = trees.TREES["vertebral bodies"]
    splits = imported(name, make(tmp_path / "tree"), out, **images_of(name, tmp_path))
    assert Path(str(splits["training"][0].image)).parts[-2:] == ("s0001", "ct.nii.gz")
    assert Path(str(splits["test"][0].image)).name == "sub-verse012_ct.nii.gz"
    assert left_out(out) == {"s0999": "its image is not in --images"}
    assert len(datalist(out, "test")) == 1


def test_spinopelvic_reads_the_scheme_of_the_release(tmp_path: Path, out: Path) -> None:
    splits = imported("spinopelvic", trees.spinopelvic(tmp_path / "tree"), out)
    assert [r.subject_id for r in splits["training"]] == ["0007"]
    record = splits["test"][0]
    assert (record.kvp, record.weight_kg, record.kernel) == (120.0, 70.5, "B30f")
    assert dict(record.extra or {})["position"] == "prone"
    assert left_out(out) == {"0009": "the spine is not annotated"}


# --- trees that cannot be used ------------------------------------------------------------------------------------


def test_a_tree_of_another_set_is_named(tmp_path: Path, out: Path, capsys: Capture) -> None:
    folder = trees.totalsegmentator(tmp_path / "tree")
    assert run(["manifest", "import", "verse", str(folder), "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert "must be a tree of VerSe, got one of TotalSegmentator" in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


def test_a_tree_of_no_set_is_refused(tmp_path: Path, out: Path, capsys: Capture) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in PUBLIC_SETS:
        assert run(["manifest", "import", name, str(folder), "-o", str(out)]) == 2
        error = capsys.readouterr().err
        assert f"must be a tree of {PUBLIC_SETS[name].title}, got another folder; expected " in error
    assert run(["manifest", "import", "lidc", str(folder), "-o", str(out)]) == 2
    assert "SET must be verse, totalsegmentator" in capsys.readouterr().err


def test_output_in_the_tree_is_refused(tmp_path: Path) -> None:
    folder = trees.verse(tmp_path / "tree")
    with pytest.raises(ConfigError, match="--output must be outside the folder of the set"):
        import_public(PublicOptions("verse", folder, folder / "new" / "set.json"))


def test_options_of_other_sets_are_refused(tmp_path: Path, out: Path) -> None:
    folder, tables = trees.totalsegmentator(tmp_path / "tree"), trees.verse_tables(tmp_path / "tables")
    with pytest.raises(ConfigError, match="--table must be given with verse or ctspine1k only"):
        import_public(PublicOptions("totalsegmentator", folder, out, tables=tables))
    with pytest.raises(ConfigError, match="--images must be given with vertebral-bodies only"):
        import_public(PublicOptions("totalsegmentator", folder, out, images=(folder,)))


def test_a_table_of_another_kind_is_refused(tmp_path: Path, out: Path) -> None:
    folder = trees.verse(tmp_path / "tree")
    table = tmp_path / "other.csv"
    table.write_text("subject;age\n1;50\n", encoding="utf-8")
    with pytest.raises(UnusableInputError, match="must have the column verse_ID, got subject, age"):
        import_public(PublicOptions("verse", folder, out, tables=(table,)))
    table.write_text("verse_ID;age\nx;50\n", encoding="utf-8")
    with pytest.raises(UnusableInputError, match="must have rows with a number in verse_ID"):
        import_public(PublicOptions("verse", folder, out, tables=(table,)))


@pytest.mark.parametrize(
    ("layout", "missing", "message"),
    [
        ("spinopelvic", "dataset_labels.json", "must have dataset_labels.json: versions .* number the vertebrae"),
        ("totalsegmentator", "meta.csv", "must be a tree of TotalSegmentator"),
        ("ctspine1k", "data_split.txt", "must be a tree of CTSpine1K"),
    ],
)
def test_missing_tables_are_named(layout: str, missing: str, message: str, tmp_path: Path, out: Path) -> None:
    name, make = trees.TREES[layout]
    folder = make(tmp_path / "tree")
    (folder / missing).unlink()
    with pytest.raises(UnusableInputError, match=message):
        import_public(PublicOptions(name, folder, out))


def test_the_split_file_of_ctspine1k_can_be_elsewhere(tmp_path: Path, out: Path) -> None:
    folder = trees.ctspine1k(tmp_path / "tree")
    moved = shutil.move(folder / "data_split.txt", tmp_path / "data_split.txt")
    assert set(imported("ctspine1k", folder, out, tables=(Path(moved),))) == {"training", "validation", "test"}


def test_vertebral_bodies_need_images(tmp_path: Path, out: Path) -> None:
    folder = trees.vertebral_bodies(tmp_path / "tree")
    with pytest.raises(UnusableInputError, match="--images must be given with vertebral-bodies"):
        import_public(PublicOptions("vertebral-bodies", folder, out))


def test_a_half_written_tree_is_imported_as_far_as_it_is_there(tmp_path: Path, out: Path) -> None:
    folder = trees.verse(tmp_path / "tree")
    for split in ("training", "validation", "test"):
        trees.verse_scan(folder, split, {"training": "verse021", "validation": "verse022", "test": "verse023"}[split])
    mask = folder / "dataset-verse19training/derivatives/sub-verse021/sub-verse021_seg-vert_msk.nii.gz"
    mask.write_bytes(mask.read_bytes()[:-200])
    (folder / "dataset-verse19validation/rawdata/sub-verse022/sub-verse022_ct.nii.gz").write_bytes(b"")
    (folder / "dataset-verse19test/derivatives/sub-verse023/sub-verse023_seg-vert_msk.nii.gz").unlink()
    imported("verse", folder, out)
    reasons = left_out(out)
    assert "damaged" in reasons["sub-verse021"]
    assert "damaged or not NIfTI" in reasons["sub-verse022"]
    assert reasons["sub-verse023"] == "no mask"
    assert not list(out.parent.rglob(".*"))


def change_labels(folder: Path, labels: np.ndarray[Any, Any]) -> None:
    trees.save(
        labels, folder / "dataset-verse19training/derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz", "PIR"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: np.where(a == 20, 41, a), "the numbers 41, which are not in the numbering of the set"),
        (lambda a: np.where(a == 20, 19.5, a), "must hold whole numbers"),
        (lambda a: a[:, :, ::-1], "is below"),  # from the feet to the head
        (lambda a: a[:-1], "The label map has shape"),
        (lambda a: np.where(a == 20, 300, a), "must be from 0 to 255, got 300"),
        (lambda a: a * 0, "No vertebra is labelled"),
    ],
)
def test_unusable_labels_are_left_out_with_the_reason(change: Any, reason: str, tmp_path: Path, out: Path) -> None:
    folder = trees.verse(tmp_path / "tree")
    change_labels(folder, np.ascontiguousarray(change(trees.labels().astype(np.float64))))
    splits = imported("verse", folder, out)
    assert "training" not in splits
    assert reason in left_out(out)["sub-verse004"]


def test_the_process_of_a_cut_vertebra_may_be_beside_a_lower_body(tmp_path: Path, out: Path) -> None:
    folder = trees.ctspine1k(tmp_path / "tree")
    cut = trees.labels()
    cut[3:5, 0, 5:] = trees.VERSE["T10"]  # only the spinous process is in view, down to L3
    trees.save(cut, folder / "labels" / "liver_110_seg.nii.gz")
    assert "validation" in imported("ctspine1k", folder, out)


def test_a_label_map_on_another_grid_is_left_out(tmp_path: Path, out: Path) -> None:
    folder = trees.verse(tmp_path / "tree")
    moved = trees.AFFINE.copy()
    moved[2, 3] = 6.0  # two slices
    below = folder / "dataset-verse19training" / "derivatives" / "sub-verse004"
    trees.save(trees.labels(), below / "sub-verse004_seg-vert_msk.nii.gz", "PIR", moved)
    imported("verse", folder, out)
    assert left_out(out)["sub-verse004"] == "The label map is 2.0 voxels from its image."


def test_values_of_a_resampled_mask_are_rounded(tmp_path: Path, out: Path) -> None:
    folder = trees.verse(tmp_path / "tree")
    values = trees.labels().astype(np.float64) * (1 - 1e-5)
    values[0, 0] = np.nan
    change_labels(folder, values)
    (record,) = imported("verse", folder, out)["training"]
    assert Path(str(record.label)) == out.parent / "set.labels" / "sub-verse004.nii.gz"
    np.testing.assert_array_equal(read_label_map(Path(str(record.label)))[0], trees.labels())


def test_a_set_without_a_usable_scan_is_refused(tmp_path: Path, out: Path) -> None:
    trees.verse_scan(tmp_path / "tree", "training", "verse004")
    change_labels(tmp_path / "tree", np.full(trees.SHAPE, 77, np.uint8))
    with pytest.raises(UnusableInputError, match="has no scan of VerSe that can be used, such as 'sub-verse004': The"):
        import_public(PublicOptions("verse", tmp_path / "tree", out))


def test_label_maps_of_the_other_numbering_are_refused(tmp_path: Path, out: Path) -> None:
    name, make = trees.TREES["vertebral bodies"]
    folder = make(tmp_path / "tree")
    trees.write_json(folder / "train" / "dataset.json", {"labels": dict(trees.VERSE)})
    with pytest.raises(UnusableInputError, match="must number T1 as the release of 2024, got 8"):
        import_public(PublicOptions(name, folder, out, **images_of(name, tmp_path)))


def test_two_scans_of_one_identifier_are_refused(tmp_path: Path, out: Path) -> None:
    folder = trees.verse(tmp_path / "tree")
    trees.verse_scan(folder, "test", "verse004")
    with pytest.raises(UnusableInputError, match="'sub-verse004' must be in one folder, got two"):
        import_public(PublicOptions("verse", folder, out))
    folder = trees.ctspine1k(tmp_path / "spine")
    shutil.copytree(folder / "volumes", folder / "more")
    with pytest.raises(UnusableInputError, match="must have one file of images, got two in different folders"):
        import_public(PublicOptions("ctspine1k", folder, out))


def test_masks_that_overlap_are_left_out(tmp_path: Path, out: Path) -> None:
    folder = trees.totalsegmentator(tmp_path / "tree")
    masks = folder / "s0001" / "segmentations"
    shutil.copy(masks / "vertebrae_L1.nii.gz", masks / "vertebrae_L5.nii.gz")
    imported("totalsegmentator", folder, out)
    assert left_out(out)["s0001"] == "The mask 'vertebrae_L5.nii.gz' overlaps with another structure."


def test_centroids_outside_the_image_leave_the_scan_out(tmp_path: Path, out: Path) -> None:
    folder = trees.verse(tmp_path / "tree")
    path = folder / "dataset-verse19training/derivatives/sub-verse004/sub-verse004_seg-subreg_ctd.json"
    trees.write_json(path, [{"direction": ["P", "I", "R"]}, {"label": 20, "X": 500, "Y": 1, "Z": 1}])
    imported("verse", folder, out)
    assert left_out(out)["sub-verse004"] == "The centroid of L1 is outside the image."


# --- the record ---------------------------------------------------------------------------------------------------


def test_a_label_of_whole_vertebrae_is_no_training_label_of_bodies(tmp_path: Path, out: Path) -> None:
    imported("verse", trees.verse(tmp_path / "tree"), out)
    assert datalist(out, "training", ("image",))
    with pytest.raises(ValueError, match=r"training\[0\] must have a label of bodies, got whole vertebrae"):
        datalist(out, "training")


def test_a_label_kind_needs_a_label() -> None:
    with pytest.raises(ValueError, match="label_kind must be given with a label"):
        Record(image="a.nii", subject_id="a", label_kind="body")
