"""Real and odd files: what comes out is a volume or one of our two exceptions, for the right reason."""

import csv
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import UID

from osteo_monai.domain import Severity
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import CTVolume, read_ct


def outcome(path: Path) -> CTVolume | str:
    try:
        return read_ct(path)
    except ScanRefusedError as error:
        return next(f.code for f in error.findings if f.severity is Severity.REFUSAL)
    except UnusableInputError:
        return "unusable"


def codes(path: Path) -> set[str]:
    return {f.code for f in read_ct(path).findings}


def test_every_odd_file(real_data: Path) -> None:
    folder = real_data / "dicom_odd"
    with (folder / "index.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 109
    for row in rows:
        got = outcome(folder / row["file"])
        assert isinstance(got, str), row["file"]
        if row["expected"] == "unreadable":
            assert got == "unusable", row["file"]
        elif row["modality"] == "CT":
            assert got in {"single_slice", "duplicate_positions", "rescale_not_hu"}, row["file"]
        else:
            assert got in {"not_ct", "unusable"}, row["file"]


def test_wrong_modalities(real_data: Path) -> None:
    assert outcome(real_data / "not_ct" / "mr_brain") == "not_ct"
    assert outcome(real_data / "not_ct" / "seg_named_like_ct") == "not_ct"
    assert outcome(real_data / "cxr_frontal") == "unusable"


def test_every_nifti(real_data: Path) -> None:
    found = sorted(real_data.rglob("*.nii.gz"))
    assert len(found) >= 14
    for path in found:
        is_ct = "_ct" in path.name.replace("sub-ct_", "") or path.name.startswith("ct_")
        got = outcome(path)
        assert isinstance(got, CTVolume) if is_ct else got == "not_hounsfield_units", path.name


def test_jpeg2000_series_with_empty_identifiers(real_data: Path) -> None:
    scan = read_ct(real_data / "ct_totalsegmentator_example" / "dicom_jpeg2000_t11_t12")
    assert {f.code for f in scan.findings} == {"recovered_identifiers", "overlapping_slices"}
    assert scan.acquisition.contrast == "agent: APPLIED; description: FDG_TK_KM"
    assert (scan.hu.min(), scan.hu.max()) == (-1024, 1839)
    np.testing.assert_allclose(scan.spacing, (0.9766, 0.9766, 2), atol=1e-3)


def test_chest_series(real_data: Path) -> None:
    scan = read_ct(real_data / "ct_chest_above_l1")
    assert {f.code for f in scan.findings} == {"sharp_kernel", "padding"}
    assert scan.acquisition.contrast == "route: Oral & IV"
    assert scan.instance_numbers == tuple(range(100, 0, -1))


def test_thorax_series(real_data: Path) -> None:
    scan = read_ct(real_data / "ct_100kvp_thorax")
    assert {f.code for f in scan.findings} == {"missing_manufacturer", "overlapping_slices"}
    assert (scan.acquisition.kvp, scan.acquisition.contrast, scan.acquisition.age_years) == (100, None, 85)


@pytest.mark.parametrize("lossless", ["693_J2KR.dcm"])
def test_real_codec_pair_is_bit_exact(real_data: Path, lossless: str, tmp_path: Path) -> None:
    """The same head slice, JPEG 2000 lossless and uncompressed, three positions each so that a stack results."""
    import pydicom

    volumes = []
    for name in (lossless, "693_UNCR.dcm"):
        folder = tmp_path / name
        folder.mkdir()
        for k in range(3):
            ds = pydicom.dcmread(real_data / "dicom_odd" / "files" / name)
            ds.ImagePositionPatient = [0, 0, 5 * k]
            ds.RescaleIntercept += k  # equal slices are refused
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{k}")
            ds.ImageOrientationPatient, ds.GantryDetectorTilt = [1, 0, 0, 0, 1, 0], 0
            ds.save_as(folder / str(k))
        volumes.append(read_ct(folder).hu)
    np.testing.assert_array_equal(volumes[0], volumes[1])


@pytest.mark.parametrize(
    ("scan", "codes"),
    [
        ("abdomen_arterial", {"lossy_compression", "missing_manufacturer", "age_implausible"}),
        ("abdomen_portal_3mm", set()),
        ("lidc0001", {"undeclared_padding"}),
        ("lidc0002_short_rib", {"slices_apart", "padding"}),
        ("lung_bases_5mm", {"sharp_kernel", "padding"}),
        ("petct_abdomen_5mm", set()),
        ("petct_chest_5mm", {"lossy_compression", "derived_series", "overlapping_slices"}),
        ("verse014", {"acquisition_unknown", "oblique_grid_resampled"}),
    ],
)
def test_scans_as_published_are_read(real_data: Path, scan: str, codes: set[str]) -> None:
    volume = read_ct(real_data / "ct_real_dev" / scan)
    assert {f.code for f in volume.findings} == codes
    assert not any(f.severity is Severity.REFUSAL for f in volume.findings)


def test_lossy_marks_tell_the_ratio_where_one_is_known(real_data: Path) -> None:
    said = {}
    for scan in ("abdomen_arterial", "petct_chest_5mm"):
        findings = read_ct(real_data / "ct_real_dev" / scan).findings
        said[scan] = next(f for f in findings if f.code == "lossy_compression").message
    assert "(6.6:1)" in said["abdomen_arterial"]  # the highest of its 181 slices
    assert "at an unknown ratio" in said["petct_chest_5mm"]
