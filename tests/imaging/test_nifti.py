import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from osteo_monai.domain import Severity, Sex
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import read_ct, read_label_map


def refusals(path: Path) -> set[str]:
    with pytest.raises(ScanRefusedError) as caught:
        read_ct(path)
    return {f.code for f in caught.value.findings if f.severity is Severity.REFUSAL}


def test_good_file(make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16]) -> None:
    scan = read_ct(make_nifti())
    np.testing.assert_array_equal(scan.hu, canonical_hu)
    assert scan.hu.dtype == np.float32
    np.testing.assert_allclose(scan.affine, np.diag([0.8, 0.9, 2.5, 1]))
    assert [(f.code, f.severity) for f in scan.findings] == [("acquisition_unknown", Severity.WARNING)]
    assert (scan.acquisition.kvp, scan.instance_numbers, scan.valid) == (None, None, None)


@pytest.mark.parametrize("codes", ["LPS", "PIR", "SAR", "LAI", "AIL"])
def test_any_orientation_becomes_ras(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16], codes: object
) -> None:
    wanted = nib.orientations.axcodes2ornt(codes)
    image = nib.Nifti1Image(canonical_hu, np.diag([0.8, 0.9, 2.5, 1])).as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted)
    )
    scan = read_ct(make_nifti(np.asarray(image.dataobj), image.affine))
    np.testing.assert_array_equal(scan.hu, canonical_hu)
    np.testing.assert_allclose(scan.affine, np.diag([0.8, 0.9, 2.5, 1]), atol=1e-5)
    assert all(stride > 0 for stride in scan.hu.strides)


def test_one_volume_in_four_dimensions(make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16]) -> None:
    path = make_nifti(canonical_hu[..., None])
    np.testing.assert_array_equal(read_ct(path).hu, canonical_hu)


def test_stored_slope_and_intercept_are_applied(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16], tmp_path: Path
) -> None:
    stored = (canonical_hu + 1024) * 2
    path = make_nifti(stored.astype(np.int16), name="plain.nii")
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([0.5, -1024], "<f4").tobytes()  # scl_slope, scl_inter of the NIfTI-1 header
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(read_ct(path).hu, canonical_hu)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        pytest.param("not_hounsfield_units", lambda hu: (hu > 100).astype(np.uint8), id="mask"),
        pytest.param("not_hounsfield_units", lambda hu: (hu > 100) * 21.0, id="float mask"),
        pytest.param("not_hounsfield_units", lambda hu: (hu + 1000) / 2000.0, id="0 to 1"),
        pytest.param("not_hounsfield_units", lambda hu: ((hu + 1000) / 6).astype(np.uint8), id="0 to 255"),
        pytest.param("not_hounsfield_units", lambda hu: hu + 1024, id="not rescaled, or MR"),
        pytest.param("not_hounsfield_units", lambda hu: (hu - hu.mean()) / hu.std(), id="normalised"),
        pytest.param("not_hounsfield_units", lambda hu: hu - 1400, id="shifted"),
        pytest.param("not_hounsfield_units", lambda hu: np.clip(hu, -150, 250), id="windowed"),
        pytest.param("not_hounsfield_units", lambda hu: hu * 40.0, id="scaled up"),
        pytest.param("constant_volume", lambda hu: np.full_like(hu, -1000), id="constant"),
        pytest.param("no_valid_voxels", lambda hu: np.full(hu.shape, np.nan), id="NaN only"),
        pytest.param("several_volumes", lambda hu: np.stack([hu, hu], -1), id="time series"),
        pytest.param("single_slice", lambda hu: hu[:, :, 0], id="two-dimensional"),
        pytest.param("single_slice", lambda hu: hu[:, :, :2], id="two slices"),
        pytest.param("not_greyscale", lambda hu: hu.astype(np.complex64), id="complex"),
    ],
)
def test_values_refused(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16], code: str, change: Callable[..., Any]
) -> None:
    assert refusals(make_nifti(change(canonical_hu.astype(np.float64)))) == {code}


def _affine(**entries: float) -> np.ndarray:
    affine = np.diag([0.8, 0.9, 2.5, 1.0])
    for name, value in entries.items():
        affine[int(name[1]), int(name[2])] = value
    return affine


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        pytest.param("orientation_unknown", {"codes": (0, 0)}, id="no form"),
        pytest.param("units_not_mm", {"units": "meter"}, id="metres"),
        pytest.param("implausible_spacing", {"affine": np.diag([0.0008, 0.0009, 0.0025, 1])}, id="metres unsaid"),
        pytest.param("implausible_spacing", {"affine": np.diag([0.8, 0.9, 25.0, 1])}, id="25 mm"),
        pytest.param("gantry_tilt", {"affine": _affine(a12=0.5)}, id="sheared by 11 degrees"),
        pytest.param("missing_geometry", {"affine": _affine(a11=0, a01=0.9)}, id="two axes alike"),
    ],
)
def test_geometry_refused(make_nifti: Callable[..., Path], code: str, arguments: dict[str, Any]) -> None:
    assert refusals(make_nifti(**arguments)) == {code}


@pytest.mark.parametrize(
    ("degrees", "outcome"), [(2.5, "kept"), (3.5, "resampled"), (29.5, "resampled"), (30.5, "refused")]
)
def test_oblique_grid_is_kept_resampled_or_refused(
    make_nifti: Callable[..., Path], degrees: float, outcome: str
) -> None:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turned = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ np.diag([0.8, 0.9, 2.5, 1])
    path = make_nifti(affine=turned)
    if outcome == "refused":
        assert refusals(path) == {"oblique"}
        return
    scan = read_ct(path)
    reported = [f for f in scan.findings if f.code == "oblique_grid_resampled"]
    assert bool(reported) is (outcome == "resampled")
    assert all(f"{degrees} degrees" in f.message for f in reported)


def test_a_mask_on_an_oblique_grid_is_refused_for_being_a_mask_first(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16]
) -> None:
    affine = np.diag([0.8, 0.9, 2.5, 1])
    affine[1, 0] = -0.7
    affine[0, 1] = 0.7
    with pytest.raises(ScanRefusedError) as caught:
        read_ct(make_nifti((canonical_hu > 0).astype(np.uint8), affine))
    assert caught.value.findings[0].code == "not_hounsfield_units"


def test_two_forms_that_differ(make_nifti: Callable[..., Path]) -> None:
    path = make_nifti(codes=(1, 1))
    image = nib.Nifti1Image.from_filename(path)
    image.set_qform(np.diag([-0.8, -0.9, 2.5, 1]), 1)
    image.set_sform(np.diag([0.8, 0.9, 2.5, 1]), 1)
    nib.save(image, path)
    assert refusals(path) == {"orientation_contradiction"}
    shifted = np.diag([0.8, 0.9, 2.5, 1])
    shifted[2, 3] = 40
    image.set_qform(shifted, 1)
    nib.save(image, path)
    scan = read_ct(path)
    assert "sform_qform_differ" in {f.code for f in scan.findings}
    assert scan.affine[2, 3] == 0


def test_padding_and_nan_are_masked(make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16]) -> None:
    hu = canonical_hu.astype(np.float32)
    hu[0] = -3024
    hu[1, 0, 0] = np.nan
    hu[1, 1, 0] = np.inf
    scan = read_ct(make_nifti(hu))
    assert scan.valid is not None
    assert np.count_nonzero(~scan.valid) == 40 * 12 + 2
    assert np.isfinite(scan.hu).all()
    assert (scan.hu[~scan.valid] == -1024).all()


def test_sidecar_states_the_facts(make_nifti: Callable[..., Path]) -> None:
    path = make_nifti()
    facts = {"Modality": "CT", "KVP": 100, "ConvolutionKernel": ["Br38f", "3"], "SliceThickness": 2.5}
    facts |= {"Manufacturer": "SIEMENS", "PatientAge": "061Y", "PatientSex": "M", "ContrastBolusAgent": "Ultravist"}
    path.with_name("scan.json").write_text(json.dumps(facts))
    scan = read_ct(path)
    known = scan.acquisition
    assert (known.kvp, known.kernel, known.slice_thickness_mm) == (100, "Br38f 3", 2.5)
    assert (known.age_years, known.sex, known.contrast) == (61, Sex.MALE, "agent: Ultravist")
    assert scan.findings == ()


@pytest.mark.parametrize(
    ("facts", "age", "codes"),
    [
        ({"PatientAge": 61.5}, 61.5, []),
        ({"PatientAge": 0}, None, ["age_implausible"]),
        ({"PatientAge": 999}, None, ["age_implausible"]),
        (
            {"PatientAge": "000Y", "PatientBirthDate": "19600601", "AcquisitionDate": "2020-06-01"},
            60,
            ["age_implausible"],
        ),
        ({"PatientBirthDate": "1960-06-01", "AcquisitionDate": "1960-06-01"}, None, ["age_implausible"]),
        ({"PatientAge": ""}, None, []),
    ],
)
def test_sidecar_ages_that_cannot_be_are_unknown(
    make_nifti: Callable[..., Path], facts: dict[str, Any], age: float | None, codes: list[str]
) -> None:
    path = make_nifti()
    path.with_name("scan.json").write_text(json.dumps({"KVP": 120, **facts}))
    scan = read_ct(path)
    assert scan.acquisition.age_years == age
    assert [f.code for f in scan.findings] == codes


@pytest.mark.parametrize("content", ["[1, 2]", "{broken", "[" * 5000])
def test_unreadable_sidecar_is_reported(make_nifti: Callable[..., Path], content: str) -> None:
    path = make_nifti()
    path.with_name("scan.json").write_text(content)
    assert [f.code for f in read_ct(path).findings] == ["sidecar_unreadable", "acquisition_unknown"]


def test_sidecar_of_another_modality_refuses(make_nifti: Callable[..., Path]) -> None:
    path = make_nifti()
    path.with_name("scan.json").write_text('{"Modality": "MR"}')
    assert refusals(path) == {"not_ct"}


@pytest.mark.parametrize("keep", [100, 400, 3000])
def test_cut_files(make_nifti: Callable[..., Path], keep: int) -> None:
    path = make_nifti()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnusableInputError, match="damaged"):
        read_ct(path)


def test_garbage_and_size_bombs(make_nifti: Callable[..., Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(gzip.compress(b"no nifti" * 100))
    with pytest.raises(UnusableInputError):
        read_ct(bad)
    path = make_nifti(name="big.nii")
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()  # dim[1..3]
    path.write_bytes(bytes(data))
    assert refusals(path) == {"too_large"}


def test_a_vouched_field_without_air_is_warned_of_and_a_mask_still_refused(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16]
) -> None:
    inside = make_nifti(canonical_hu.clip(-110), name="inside.nii.gz")
    assert refusals(inside) == {"not_hounsfield_units"}
    assert "no_air" in {f.code for f in read_ct(inside, declared_ct=True).findings}
    with pytest.raises(ScanRefusedError, match="label map"):
        read_ct(make_nifti((canonical_hu > 100).astype(np.uint8), name="mask.nii.gz"), declared_ct=True)


def test_label_map_is_read_in_the_orientation_of_its_scan(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16]
) -> None:
    labels = (canonical_hu > 0).astype(np.int16) * 20
    image = nib.Nifti1Image(labels, np.diag([0.8, 0.9, 2.5, 1])).as_reoriented([[1, -1], [2, 1], [0, -1]])
    read, affine = read_label_map(make_nifti(np.asarray(image.dataobj), image.affine))
    np.testing.assert_array_equal(read, labels)
    assert read.dtype == np.uint8
    np.testing.assert_allclose(affine, np.diag([0.8, 0.9, 2.5, 1]), atol=1e-5)


@pytest.mark.parametrize(
    "change", [lambda x: x * 0.5 + 0.25, lambda x: x.astype(np.int16) + 300], ids=["fractions", "too_large"]
)
def test_invalid_label_maps_are_refused(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16], change: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
        read_label_map(make_nifti(change((canonical_hu > 0).astype(np.float32))))


def test_label_map_of_several_volumes_or_damaged(
    make_nifti: Callable[..., Path], canonical_hu: NDArray[np.int16]
) -> None:
    path = make_nifti(np.stack([canonical_hu, canonical_hu], axis=3))
    with pytest.raises(ValueError, match="three-dimensional"):
        read_label_map(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnusableInputError, match="damaged"):
        read_label_map(path)
