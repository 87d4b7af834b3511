"""Slices with outlines by QuPath or as label images: right pixels, HU, orientation; one sentence for each fault."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image

from osteo_monai import make_ct
from osteo_monai.data import OutlineOptions, import_outlines, read_manifest
from osteo_monai.domain import Boundary, VertebraLevel
from osteo_monai.errors import ConfigError, UnusableInputError

SQUARE = [[10, 20], [30, 20], [30, 36], [10, 36], [10, 20]]
HOLE = [[14, 24], [14, 30], [22, 30], [22, 24], [14, 24]]
COLUMNS, ROWS = 60, 50
GREY = np.random.default_rng(4).integers(0, 256, (ROWS, COLUMNS)).astype(np.uint8)


def feature(coordinates: Any, name: str | None = "L1", kind: str = "Polygon") -> dict[str, Any]:
    """Return an annotation as QuPath 0.5 exports it."""
    properties: dict[str, Any] = {"objectType": "annotation"}
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "id": "0a", "geometry": geometry, "properties": properties}


def picture(folder: Path, name: str, *features: dict[str, Any], grey: NDArray[Any] = GREY) -> None:
    """Write a PNG and its GeoJSON."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(folder / f"{name}.png")
    content = {"type": "FeatureCollection", "features": list(features)}
    (folder / f"{name}.geojson").write_text(json.dumps(content))


def run(folder: Path, tmp_path: Path, **options: Any) -> Any:
    given = {"boundary": Boundary.ENDOSTEAL, "classes": {}, "window": (-160, 240), "pixel_mm": 0.7, **options}
    return import_outlines(OutlineOptions(folder=folder, manifest=tmp_path / "one.json", **given))


def reasons(tmp_path: Path) -> dict[str, str]:
    with (tmp_path / "one.exclusions.csv").open() as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def load(path: Path) -> Any:
    image: Any = nib.load(path)
    return image


def mask_of(tmp_path: Path, subject: str = "p", level: str = "L1") -> NDArray[Any]:
    """Return the mask as displayed, (rows, columns): RAS+ turned to patient's left and back."""
    return np.asarray(load(tmp_path / "one.slices" / subject / f"{level}_label.nii").dataobj)[::-1, ::-1, 0].T


def test_a_polygon_with_a_hole_becomes_a_mask_and_grey_becomes_hu(tmp_path: Path) -> None:
    picture(tmp_path / "in", "p_L1", feature([SQUARE, HOLE]))
    done = run(tmp_path / "in", tmp_path)
    (record,) = done.manifest.splits["test"]
    assert (record.subject_id, record.level, record.boundary) == ("p", VertebraLevel.L1, Boundary.ENDOSTEAL)
    expected = np.zeros((ROWS, COLUMNS), np.uint8)
    expected[20:36, 10:30] = 20
    expected[24:30, 14:22] = 0
    assert np.array_equal(mask_of(tmp_path), expected)
    image = load(tmp_path / "one.slices" / "p" / "L1.nii")
    assert nib.orientations.aff2axcodes(image.affine) == ("R", "A", "S")
    assert np.allclose(image.header.get_zooms(), (0.7, 0.7, 1.0))
    hu = np.asarray(image.dataobj)[::-1, ::-1, 0].T
    assert np.allclose(hu, -160 + GREY / 255.0 * 400, atol=1e-3)
    assert read_manifest(tmp_path / "one.json") == done.manifest


def test_multipolygons_and_ignored_classes(tmp_path: Path) -> None:
    other = [[40, 4], [44, 4], [44, 8], [40, 8], [40, 4]]
    ignored = feature([[[0, 0], [9, 0], [9, 9]]], "Ignore*")
    picture(tmp_path / "in" / "subject 1", "slice", feature([[SQUARE], [other]], "Body", "MultiPolygon"), ignored)
    run(tmp_path / "in", tmp_path, classes={"body": "L2"})
    mask = mask_of(tmp_path, "subject-1", "L2")
    assert (mask == 21).sum() == 20 * 16 + 4 * 4
    assert mask[4:8, 40:44].all()


def test_classes_by_file_name_and_by_names(tmp_path: Path) -> None:
    two = feature([SQUARE])
    two["properties"]["classification"] = {"names": ["L2"], "color": [0, 0, 0]}
    picture(tmp_path / "in", "p_L1", feature([SQUARE], None))
    picture(tmp_path / "in", "p_L2", two)
    records = run(tmp_path / "in", tmp_path, split="training").manifest.splits["training"]
    assert [(r.subject_id, str(r.level)) for r in records] == [("p", "L1"), ("p", "L2")]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz"])
@pytest.mark.parametrize(("value", "classes"), [(20, {}), (255, {}), (1, {}), (3, {"3": "L1"})])
def test_label_images(suffix: str, value: int, classes: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    labels = np.zeros((ROWS, COLUMNS), np.uint8)
    labels[5:15, 30:50] = value
    if suffix == ".nii.gz":
        for name, array in (("p_L1", GREY.astype(np.int16)), ("p_L1_label", labels)):
            nib.save(nib.Nifti1Image(array.T[:, :, None], np.diag([-0.7, -0.7, 2, 1])), folder / f"{name}.nii.gz")
    else:
        Image.fromarray(GREY).save(folder / f"p_L1{suffix}")
        Image.fromarray(labels).save(folder / f"p_L1_label{suffix}")
    run(folder, tmp_path, classes=classes)
    assert np.array_equal(mask_of(tmp_path), np.where(labels > 0, 20, 0))


@pytest.mark.parametrize("stated", [True, False])
def test_a_label_image_elsewhere_than_its_image_is_left_out(stated: bool, tmp_path: Path) -> None:
    """Rows in reverse, as converters write them: the headers say so, or say nothing."""
    folder = tmp_path / "in"
    folder.mkdir()
    labels = np.zeros((COLUMNS, ROWS, 1), np.uint8)
    labels[5:15, 30:45] = 20
    place = np.diag([-0.7, -0.7, 2, 1])
    turned = place @ np.array([[1, 0, 0, 0], [0, -1, 0, ROWS - 1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(GREY.T[:, :, None].astype(np.int16), place), folder / "p_L1.nii.gz")
    label = nib.Nifti1Image(labels, turned)
    if not stated:
        label.set_sform(None, 0)
        label.set_qform(None, 0)
    nib.save(label, folder / "p_L1_label.nii.gz")
    picture(folder, "good_L2", feature([SQUARE], "L2"))
    done = run(folder, tmp_path)
    names = [r.subject_id for _, _, r in done.manifest.records()]
    if stated:
        assert names == ["good"]
        (reason,) = reasons(tmp_path).values()
        assert reason == "The label image is 49.0 pixels from its image by their headers."
    else:
        assert sorted(names) == ["good", "p"]


def test_an_image_of_several_pages_is_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "in", "good_L2", feature([SQUARE], "L2"))
    picture(tmp_path / "in", "p_L1", feature([SQUARE]))
    (tmp_path / "in" / "p_L1.png").unlink()
    pages = [Image.fromarray(GREY) for _ in range(3)]
    pages[0].save(tmp_path / "in" / "p_L1.tif", save_all=True, append_images=pages[1:])
    run(tmp_path / "in", tmp_path)
    assert list(reasons(tmp_path).values()) == ["The image must be one picture, got 3."]


def test_a_dicom_slice_keeps_its_hu_and_place(tmp_path: Path) -> None:
    study = make_ct(tmp_path / "ct", seed=3, matrix=96)
    truth = tmp_path / "ct" / "truth"
    volume, labels = load(truth / "ct.nii.gz"), np.asarray(load(truth / "labels.nii.gz").dataobj)
    k = int(np.median(np.nonzero((labels == 20).any((0, 1)))[0]))
    z = float(volume.affine[2, 3] + volume.affine[2, 2] * k)
    file = next(f for f in study.iterdir() if abs(float(pydicom.dcmread(f).ImagePositionPatient[2]) - z) < 0.1)
    folder = tmp_path / "in" / "p"
    folder.mkdir(parents=True)
    (folder / "L1.dcm").write_bytes(file.read_bytes())
    stored = (labels[::-1, ::-1, k] == 20).T.astype(np.uint8)  # rows and columns as displayed
    Image.fromarray(stored * 255).save(folder / "L1_mask.png")
    run(tmp_path / "in", tmp_path, window=None, pixel_mm=None)
    image = load(tmp_path / "one.slices" / "p" / "L1.nii")
    assert np.array_equal(np.asarray(image.dataobj)[:, :, 0], np.asarray(volume.dataobj)[:, :, k])
    assert np.allclose(image.affine[:3, 3], [*volume.affine[:2, 3], z], atol=0.01)
    mask = np.asarray(load(tmp_path / "one.slices" / "p" / "L1_label.nii").dataobj)[:, :, 0]
    assert np.array_equal(mask == 20, labels[:, :, k] == 20)
    header = pydicom.dcmread(file)
    (tmp_path / "in" / str(header.PatientID)).mkdir()
    for name in ("L1.dcm", "L1_mask.png"):
        (folder / name).rename(tmp_path / "in" / str(header.PatientID) / name)
    with pytest.raises(ConfigError, match="subject must be a pseudonym, got the patient id or name") as caught:
        run(tmp_path / "in", tmp_path)
    assert str(header.PatientID) not in str(caught.value)


BOW = [[10, 10], [30, 30], [30, 10], [10, 30], [10, 10]]
FAULTS: Sequence[tuple[Any, str]] = [
    (feature([[[50, 40], [61, 40], [61, 45]]]), "must be inside its image of 60 x 50 pixels, got the corner (61, 40)"),
    (feature([BOW]), "must not cross itself, got a crossing near (20, 20)"),
    (feature([[[10.6, 10.6], [10.9, 10.6], [10.9, 10.9]]]), "must enclose the centre of at least one pixel"),
    (feature([[[1, 1], [2, 2], [1, 1]]]), "must have at least 3 different corners, got 2"),
    (feature([]), "must have coordinates, got none"),
    (feature([SQUARE], "Tumor"), "must be L1, L2 or one of --classes, got 'Tumor'"),
    (feature([SQUARE], None), "An outline must have a class such as L1"),
    (feature([SQUARE], kind="LineString"), "must be a Polygon or MultiPolygon, got LineString"),
    (feature([[["a", 1], [2, 2], [3, 1]]]), "must be pairs of numbers"),
    (feature([[[10**400, 1], [2, 2], [3, 1]]]), "must be pairs of numbers, got other values"),
]


@pytest.mark.parametrize(("fault", "sentence"), FAULTS, ids=[s[:28] for _, s in FAULTS])
def test_a_faulty_outline_is_left_out_with_one_sentence(fault: Any, sentence: str, tmp_path: Path) -> None:
    picture(tmp_path / "in", "good_L2", feature([SQUARE], "L2"))
    picture(tmp_path / "in", "bad", fault)
    done = run(tmp_path / "in", tmp_path)
    assert [r.subject_id for _, _, r in done.manifest.records()] == ["good"]
    found = reasons(tmp_path)
    assert list(found) == ["bad.geojson"]
    assert sentence in found["bad.geojson"]
    assert found["bad.geojson"].count(".") <= sentence.count(".") + 1


def test_a_side_that_touches_another_does_not_cross_it(tmp_path: Path) -> None:
    eight = [[10, 10], [20, 10], [20, 20], [30, 20], [30, 30], [20, 30], [20, 20], [10, 20], [10, 10]]
    picture(tmp_path / "in", "p_L1", feature([eight]))
    run(tmp_path / "in", tmp_path)
    assert (mask_of(tmp_path) > 0).sum() == 200


def test_files_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    picture(folder, "p_L1", feature([SQUARE]))
    picture(folder, "q_L1", feature([SQUARE], "L2"))
    picture(folder, "r_L1")
    picture(folder, "s_L1", feature([SQUARE]), feature([HOLE], "L2"))
    (folder / "t_L1.geojson").write_text("{}")
    Image.fromarray(GREY).save(folder / "u_L1.png")
    Image.fromarray(GREY).save(folder / "v_L1.png")
    Image.fromarray(GREY[:30]).save(folder / "v_L1_label.png")
    Image.fromarray(np.stack([GREY, GREY, 255 - GREY], -1)).save(folder / "w_L1.png")
    (folder / "w_L1.json").write_text("[]")
    (folder / "notes.txt").write_text("x")
    run(folder, tmp_path)
    found = reasons(tmp_path)
    expected = {
        "q_L1.geojson": "The outlines must be of L1 by the name of the file, got L2.",
        "r_L1.geojson": "The GeoJSON file must have at least one polygon, got none.",
        "s_L1.geojson": "A slice must have outlines of one level, got L1, L2.",
        "t_L1.geojson": "The outlines must have an image with the same name, got none.",
        "u_L1.png": "The image must have one file of outlines, got 0.",
        "v_L1_label.png": "The label image must have the size of its image, 60 x 50 pixels, got 60 x 30.",
        "w_L1.json": "The image must be grey, got a picture in colour.",
        "notes.txt": "The file must be DICOM, NIfTI, PNG, TIFF or GeoJSON.",
    }
    assert found == expected


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"window": None}, UnusableInputError, "--window must be given for .png files"),
        ({"pixel_mm": None}, UnusableInputError, "--pixel-mm must be given for .png files"),
        ({"window": (240, -160)}, ConfigError, "--window must be two ascending HU, got 240 and -160"),
        ({"pixel_mm": 70.0}, ConfigError, "--pixel-mm must be from 0.1 to 10, got 70"),
        ({"classes": {"body": "Q1"}}, ConfigError, "--classes must be NAME=LEVEL with a level such as L1"),
        ({"split": "train"}, ConfigError, "--split must be training, validation, test"),
    ],
)
def test_impossible_options(options: dict[str, Any], error: type[Exception], sentence: str, tmp_path: Path) -> None:
    picture(tmp_path / "in", "p_L1", feature([SQUARE]))
    with pytest.raises(error, match=sentence) as caught:
        run(tmp_path / "in", tmp_path, **options)
    assert "p_L1" not in str(caught.value)  # the name of a file may be that of a patient
