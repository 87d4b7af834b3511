"""Centre slices of L1 and L2 from manifests: which slice, what is kept, and what is left out with a reason."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai import make_ct
from osteo_monai.data import outline_items, read_manifest, shows_slices, write_centre_slices
from osteo_monai.domain import Boundary, VertebraLevel
from osteo_monai.errors import ConfigError, UnusableInputError

L1, L2 = 20, 21
SPACING = (0.8, 0.7, 2.0)
HU = np.full((60, 64, 30), -1000, np.int16)
HU[6:54, 6:58] = np.random.default_rng(1).normal(60, 40, (48, 52, 30)).astype(np.int16)


def bodies(lowest: int = 3) -> NDArray[np.uint8]:
    """Two discs of 30 mm: L2 in 9 slices from ``lowest``, L1 in 7 slices above it; a rib beside each."""
    x, y = np.meshgrid(np.arange(60) - 28, np.arange(64) - 30, indexing="ij")
    disc = (x * SPACING[0]) ** 2 + (y * SPACING[1]) ** 2 < 15**2
    labels = np.zeros((60, 64, 30), np.uint8)
    labels[disc, lowest : lowest + 9] = L2
    labels[disc, lowest + 12 : lowest + 19] = L1
    labels[2:5, 2:5, :] = 50
    return labels


def save(folder: Path, name: str, labels: NDArray[np.uint8], axes: str = "RAS", tilt: float = 0.0) -> dict[str, str]:
    """Write scan and labels in an orientation."""
    hu = HU
    affine = np.diag([*SPACING, 1.0])
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    affine = turn @ affine
    to = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"),
        nib.orientations.axcodes2ornt(tuple(axes)),
    )
    for part, array in (("", hu), ("_label", labels)):
        image = nib.Nifti1Image(array, affine).as_reoriented(to)
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / f"{name}{part}.nii.gz")
    return {"image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz"}


def manifest(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    path = folder / "volumes.json"
    path.write_text(json.dumps({"name": "few", "description": "Discs.", "virtual": False, **splits}))
    return path


def values(path: Path) -> NDArray[Any]:
    image: Any = nib.load(path)
    return np.asarray(image.dataobj)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "ASL"])
def test_the_centre_slice_keeps_hu_pixels_and_place_in_any_orientation(axes: str, tmp_path: Path) -> None:
    source = manifest(tmp_path, test=[{"subject_id": "a", "age": 61, **save(tmp_path, "scan", bodies(), axes)}])
    done = write_centre_slices(source, tmp_path / "out")
    records = done.manifest.splits["test"]
    assert [(r.level, r.image, r.boundary, r.age) for r in records] == [
        (VertebraLevel.L1, "a/L1.nii", Boundary.PERIOSTEAL, 61),
        (VertebraLevel.L2, "a/L2.nii", Boundary.PERIOSTEAL, 61),
    ]
    for record, k, number in zip(records, (18, 7), (L1, L2), strict=True):
        image: Any = nib.load(tmp_path / "out" / record.images[0])
        assert image.shape == (60, 64, 1)
        assert image.get_data_dtype() == np.int16
        assert nib.orientations.aff2axcodes(image.affine) == ("R", "A", "S")
        assert np.allclose(image.header.get_zooms(), SPACING)
        assert image.affine[2, 3] == pytest.approx(2.0 * k)
        assert np.array_equal(values(tmp_path / "out" / record.images[0])[:, :, 0], HU[:, :, k])
        mask = values(tmp_path / "out" / str(record.label))[:, :, 0]
        assert np.array_equal(mask, np.where(bodies()[:, :, k] == number, number, 0))  # the rib is left out
    assert read_manifest(tmp_path / "out" / "manifest.json") == done.manifest
    assert shows_slices(tmp_path / "out" / "manifest.json")
    assert not shows_slices(source)


def test_dicom_and_nifti_of_one_scan_give_the_same_slices(tmp_path: Path) -> None:
    study = make_ct(tmp_path / "ct", seed=3, matrix=96)
    truth = study.parent / "truth"
    results = []
    for name, image in (("dicom", study), ("nifti", truth / "ct.nii.gz")):
        record = {"subject_id": "p", "image": str(image), "label": str(truth / "labels.nii.gz")}
        write_centre_slices(manifest(tmp_path, test=[record]), tmp_path / name)
        results.append([values(tmp_path / name / "p" / f"{part}.nii") for part in ("L1", "L1_label", "L2", "L2_label")])
    for dicom, nifti in zip(*results, strict=True):
        assert np.array_equal(dicom, nifti)
    facts = json.loads((truth / "truth.json").read_text())["levels"]
    affine: Any = nib.load(tmp_path / "dicom" / "p" / "L2.nii")
    assert affine.affine[2, 3] == pytest.approx(facts["L2"]["centre_mm"][2], abs=2.0)  # slices are 2 mm apart


def test_an_oblique_volume_is_resampled_upright(tmp_path: Path) -> None:
    source = manifest(tmp_path, test=[{"subject_id": "a", **save(tmp_path, "scan", bodies(), tilt=8.0)}])
    write_centre_slices(source, tmp_path / "out")
    for level, number, k in (("L1", L1, 18.0), ("L2", L2, 7.0)):
        image: Any = nib.load(tmp_path / "out" / "a" / f"{level}.nii")
        assert np.allclose(image.affine[:3, :3], np.diag(np.diag(image.affine[:3, :3])), atol=1e-6)
        tilt = np.deg2rad(8.0)
        middle = np.sin(tilt) * 30 * SPACING[1] + np.cos(tilt) * 2.0 * k
        assert image.affine[2, 3] == pytest.approx(middle, abs=1.1)
        mask = values(tmp_path / "out" / "a" / f"{level}_label.nii")
        area = (mask == number).sum() * np.prod(image.header.get_zooms()[:2])
        assert area == pytest.approx(np.pi * 15**2 / np.cos(tilt), rel=0.05)


def test_a_subject_has_one_slice_a_level_of_its_first_complete_volume(tmp_path: Path) -> None:
    cut = bodies(lowest=-3)  # L2 continues below the volume
    cut[:, :, 0:6] = np.where(bodies()[:, :, 5:6] == L2, L2, 0)
    records = [
        {"subject_id": "a", **save(tmp_path, "one", cut)},
        {"subject_id": "a", **save(tmp_path, "two", bodies())},
        {"subject_id": "b", **save(tmp_path, "three", cut)},
        {"subject_id": "c", **save(tmp_path, "four", np.where(bodies() == L2, 0, bodies()).astype(np.uint8))},
        {"subject_id": "d", "image": "one.nii.gz", "label": "small.nii.gz"},
    ]
    nib.save(nib.Nifti1Image(bodies()[:40], np.diag([*SPACING, 1.0])), tmp_path / "small.nii.gz")
    records[-1]["image"] = "five.nii.gz"
    save(tmp_path, "five", bodies())
    done = write_centre_slices(manifest(tmp_path, training=records), tmp_path / "out")
    found = [(r.subject_id, str(r.level)) for r in done.manifest.splits["training"]]
    assert found == [("a", "L1"), ("a", "L2"), ("b", "L1"), ("c", "L1")]
    with (tmp_path / "out" / "exclusions.csv").open() as file:
        rows = {(r["subject_id"], r["level"]): (r["record"], r["reason"]) for r in csv.DictReader(file)}
    assert rows[("b", "L2")] == ("training[2]", "The label map must show L2 completely, got a part.")
    assert rows[("c", "L2")] == ("training[3]", "The label map must show L2 completely, got none of it.")
    assert "Shape of the label must be that of the image (60, 64, 30), got (40, 64, 30)" in rows[("d", "L1")][1]
    assert len(rows) == 4
    for level, k in (("L1", 12), ("L2", 7)):  # L1 of the first volume, L2 of the second
        assert np.array_equal(values(tmp_path / "out" / "a" / f"{level}.nii")[:, :, 0], HU[:, :, k])


def test_an_outline_of_one_slice_is_the_centre(tmp_path: Path) -> None:
    labels = bodies()
    labels[:, :, [k for k in range(30) if k not in (5, 16)]] = 0
    source = manifest(tmp_path, test=[{"subject_id": "a", **save(tmp_path, "scan", labels)}])
    write_centre_slices(source, tmp_path / "out")
    for level, k in (("L1", 16), ("L2", 5)):
        assert np.array_equal(values(tmp_path / "out" / "a" / f"{level}.nii")[:, :, 0], HU[:, :, k])


def test_an_endosteal_mask_ends_at_the_inner_edge(tmp_path: Path) -> None:
    source = manifest(tmp_path, test=[{"subject_id": "a", **save(tmp_path, "scan", bodies())}])
    done = write_centre_slices(source, tmp_path / "out", Boundary.ENDOSTEAL)
    assert {r.boundary for _, _, r in done.manifest.records()} == {Boundary.ENDOSTEAL}
    mask = values(tmp_path / "out" / "a" / "L1_label.nii") == L1
    assert mask.sum() * SPACING[0] * SPACING[1] == pytest.approx(np.pi * (15 - 0.9) ** 2, rel=0.02)
    # its slices are not shrunk again, and never taken as periosteal
    out = tmp_path / "out" / "manifest.json"
    assert {item["boundary"] for item in outline_items(out, "test", "endosteal")} == {"endosteal"}
    with pytest.raises(ConfigError, match="boundary must be endosteal for endosteal labels, got periosteal"):
        outline_items(out, "test")


def test_pixels_that_do_not_resolve_the_cortex_give_no_endosteal_mask(tmp_path: Path) -> None:
    """The mask would equal the periosteal one."""
    record = {"subject_id": "a", **save(tmp_path, "scan", bodies())}
    for file in record["image"], record["label"]:
        image: Any = nib.load(tmp_path / file)
        data = np.asarray(image.dataobj)
        nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / file)
    source = manifest(tmp_path, test=[record])
    with pytest.raises(UnusableInputError, match=r"Pixels must be smaller than 1.8 mm for an endosteal mask"):
        write_centre_slices(source, tmp_path / "out", Boundary.ENDOSTEAL)
    assert write_centre_slices(source, tmp_path / "out").left_out == ()


def test_volumes_with_endosteal_labels_keep_them(tmp_path: Path) -> None:
    record = {"subject_id": "a", "boundary": "endosteal", **save(tmp_path, "scan", bodies())}
    source = manifest(tmp_path, test=[record])
    write_centre_slices(source, tmp_path / "out", Boundary.ENDOSTEAL)
    mask = values(tmp_path / "out" / "a" / "L1_label.nii")[:, :, 0]
    assert np.array_equal(mask == L1, bodies()[:, :, 18] == L1)
    with pytest.raises(ConfigError, match="--boundary must be endosteal for endosteal labels"):
        write_centre_slices(source, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label_kind": "vertebra"}, "must have a label of bodies, got whole vertebrae"),
        ({"level": "L1"}, "must be a volume, got a slice of L1"),
        (
            {"label": None},
            "has no volume with a centre slice of L1 or L2, such as test.0.: The record must have one label",
        ),
    ],
)
def test_unusable_manifests(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    record = {"subject_id": "a", **save(tmp_path, "scan", bodies()), **change}
    source = manifest(tmp_path, test=[{key: value for key, value in record.items() if value is not None}])
    with pytest.raises((ConfigError, UnusableInputError), match=sentence):
        write_centre_slices(source, tmp_path / "out")


def test_slices_and_volumes_are_not_mixed(tmp_path: Path) -> None:
    first = {"subject_id": "a", **save(tmp_path, "scan", bodies())}
    second = {"subject_id": "b", "level": "L1", **save(tmp_path, "other", bodies())}
    with pytest.raises(ConfigError, match="must have slices or volumes, got 1 slices of 2 records"):
        shows_slices(manifest(tmp_path, test=[first, second]))
