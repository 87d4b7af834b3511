"""Virtual scans as files: what is written is read again, to the last HU, and the truth goes with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from osteo_monai.domain import ContrastPhase, Severity, Sex, VertebraLevel
from osteo_monai.imaging import read_ct
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.ct import CTProtocol, VirtualCT, acquire
from osteo_monai.virtual.dxa import areal_density
from osteo_monai.virtual.files import truth, write_dicom_series, write_nifti, write_truth
from osteo_monai.virtual.person import Variant

L = VertebraLevel
PROTOCOL = CTProtocol(pixel=3.5, matrix=(112, 96), slice_step=2.5, slice_thickness=2.5, kvp=100.0, noise_hu=15.0)


@pytest.fixture(scope="module")
def ct(man: Anatomy) -> VirtualCT:
    """The trunk from below L2 to above L1."""
    low, high = man.vertebra(L.L2).centre[2] - 28, man.vertebra(L.L1).centre[2] + 28
    return acquire(man, PROTOCOL, z_range=(float(low), float(high)), seed=3)


@pytest.fixture(scope="module")
def series(ct: VirtualCT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    write_dicom_series(ct, folder, subject_id="v_001")
    return folder


def test_dicom_is_read_as_it_was_made(ct: VirtualCT, series: Path) -> None:
    scan = read_ct(series)
    np.testing.assert_array_equal(scan.hu, ct.hu)
    np.testing.assert_allclose(scan.affine, ct.affine, atol=2e-3)
    assert [f for f in scan.findings if f.severity is not Severity.INFO] == []
    facts = scan.acquisition
    assert (facts.kvp, facts.kernel, facts.slice_thickness_mm, facts.contrast) == (100.0, "B", 2.5, None)
    assert (facts.age_years, facts.sex, facts.manufacturer) == (55.0, Sex.MALE, "Virtual")
    assert scan.instance_numbers == tuple(range(ct.hu.shape[2], 0, -1))
    assert scan.valid is None


def test_facts_of_the_reader_are_those_of_the_scan(ct: VirtualCT, series: Path) -> None:
    read, made = read_ct(series).acquisition, ct.volume().acquisition
    for name in ("kvp", "kernel", "slice_thickness_mm", "manufacturer", "sex"):
        assert getattr(read, name) == getattr(made, name), name


def test_contrast_agent_stands_in_the_header(ct: VirtualCT, tmp_path: Path) -> None:
    portal = replace(ct, protocol=replace(PROTOCOL, phase=ContrastPhase.PORTAL_VENOUS))
    write_dicom_series(portal, tmp_path, subject_id="v_001")
    assert read_ct(tmp_path).acquisition.contrast


def test_identifiers_follow_from_the_scan(ct: VirtualCT, series: Path, tmp_path: Path) -> None:
    first = {p.name: p.read_bytes() for p in series.iterdir()}
    for path in write_dicom_series(ct, tmp_path / "again", subject_id="v_001"):
        assert path.read_bytes() == first[path.name]

    def uids(folder: Path) -> set[str]:
        sets = [pydicom.dcmread(p, stop_before_pixels=True) for p in folder.iterdir()]
        return (
            {d.SOPInstanceUID for d in sets} | {d.SeriesInstanceUID for d in sets} | {d.StudyInstanceUID for d in sets}
        )

    before = uids(series)
    assert len(before) == ct.hu.shape[2] + 2
    shifted = ct.affine.copy()
    shifted[2, 3] += 10
    others: dict[str, dict[str, Any]] = {
        "person": {"subject_id": "v_002"},
        "kvp": {"ct": replace(ct, protocol=replace(PROTOCOL, kvp=80.0))},
        "error": {"ct": replace(ct, protocol=replace(PROTOCOL, gain=1.01))},
        "noise": {"ct": replace(ct, seed=4)},
        "range": {"ct": replace(ct, hu=ct.hu[:, :, 1:])},
        "place": {"ct": replace(ct, affine=shifted)},
    }
    for name, change in others.items():
        write_dicom_series(**{"ct": ct, "subject_id": "v_001", **change}, folder=tmp_path / name)
        assert not before & uids(tmp_path / name), name


def test_no_real_persons_data(series: Path) -> None:
    ds = pydicom.dcmread(next(series.iterdir()))
    assert (ds.PatientName, ds.PatientID, ds.PatientBirthDate) == ("VIRTUAL", "v_001", "")
    assert "no real person" in ds.StudyDescription


def test_nifti_round_trip(ct: VirtualCT, tmp_path: Path) -> None:
    image, labels = tmp_path / "a" / "ct.nii.gz", tmp_path / "b" / "labels.nii.gz"
    write_nifti(ct, image, labels)
    scan = read_ct(image)
    np.testing.assert_array_equal(scan.hu, ct.hu)
    np.testing.assert_allclose(scan.affine, ct.affine, atol=1e-4)
    stored = nib.Nifti1Image.from_filename(labels)
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(stored.dataobj), ct.labels)
    np.testing.assert_allclose(np.asarray(stored.affine, float), ct.affine, atol=1e-4)
    assert stored.header.get_xyzt_units()[0] == "mm"


def test_truth_is_complete(ct: VirtualCT, tmp_path: Path) -> None:
    areal = areal_density(ct.anatomy)
    returned = write_truth(ct, tmp_path / "truth.json", areal)
    content = json.loads((tmp_path / "truth.json").read_text())
    assert content == returned == truth(ct, areal)
    assert [path.name for path in tmp_path.iterdir()] == ["truth.json"]
    assert content["t_score"] == pytest.approx(areal.t_score, abs=0.005)
    assert (content["sex"], content["age_years"], content["variants"]) == ("M", 55.0, [])
    assert (content["mean_density_mg_cm3"], content["density_standard"]) == (pytest.approx(120.0), "K2HPO4")
    assert content["bone_status"] == "osteopenia"
    assert content["protocol"]["kvp"] == 100.0
    assert list(content["levels"])[:3] == ["L5", "L4", "L3"]
    assert [name for name, level in content["levels"].items() if level["complete"]] == ["L2", "L1"]
    l1 = content["levels"]["L1"]
    assert l1["hu"] == pytest.approx(ct.true_hu(L.L1), abs=0.01)
    assert l1["centre_mm"] == pytest.approx(ct.anatomy.vertebra(L.L1).centre.tolist(), abs=1e-3)
    # the centre lies in the body that carries its label
    voxel = np.rint(np.linalg.inv(ct.affine) @ [*l1["centre_mm"], 1])[:3].astype(int)
    assert ct.labels[tuple(voxel)] == L.L1.label


def test_truth_of_a_broken_body_is_what_was_painted(grow: Callable[..., Anatomy]) -> None:
    anatomy = grow(3, Variant.WEDGE_FRACTURE)
    broken = next(v for v in anatomy.vertebrae if v.fracture)
    assert broken.level is L.L2
    scan = acquire(anatomy, replace(PROTOCOL, matrix=(8, 8)), z_range=(0, 10))
    known = truth(scan, None)
    level = known["levels"]["L2"]
    assert (known["areal_density_g_cm2"], known["t_score"]) == (None, None)
    assert level["height_loss"] == broken.fracture
    assert level["hu"] == pytest.approx(
        float(scan.palette.bone(broken.density * (1 + 0.5 * broken.fracture))), abs=0.01
    )
    assert not any(body["complete"] for body in known["levels"].values())


def test_the_scanners_error_stands_in_the_truth_and_leaves_the_bodys_hu_alone(ct: VirtualCT) -> None:
    off = replace(ct, protocol=replace(PROTOCOL, gain=0.99, offset_hu=-4.0))
    exact, known = truth(ct, None), truth(off, None)
    assert (exact["protocol"]["gain"], exact["protocol"]["offset_hu"]) == (1.0, 0.0)
    assert (known["protocol"]["gain"], known["protocol"]["offset_hu"]) == (0.99, -4.0)
    assert known["levels"] == exact["levels"]
