"""Which files are one study: by identifier and person, not by folder."""

import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from osteo_monai.errors import ConfigError
from osteo_monai.screening import find_screenable
from osteo_monai.screening.inventory import list_inputs

STUDY = generate_uid()


def images(folder: Path, count: int = 3, study: str = STUDY, **person: str) -> None:
    """Write headers of CT images of one series; no pixels are needed to list studies."""
    folder.mkdir(parents=True)
    series = generate_uid()
    for number in range(count):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = study, series, "CT"
        ds.PatientID, ds.Rows, ds.Columns, ds.InstanceNumber = "P1", 4, 4, number + 1
        for keyword, value in person.items():
            setattr(ds, keyword, value)
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param({"PatientSex": "F"}, {"PatientSex": "M"}, id="sex"),
        pytest.param({"PatientBirthDate": "19500101"}, {"PatientBirthDate": "19610203"}, id="birth date"),
    ],
)
def test_one_identifier_with_two_people_is_two_studies(
    first: dict[str, Any], second: dict[str, Any], tmp_path: Path
) -> None:
    images(tmp_path / "a", **first)
    images(tmp_path / "b", **second)
    studies = find_screenable(tmp_path)
    assert sorted(study.path.name for study in studies) == ["a", "b"]


@pytest.mark.parametrize("second", [{"PatientSex": "F"}, {}])
def test_one_study_in_two_folders_is_one_row_with_all_files(second: dict[str, Any], tmp_path: Path) -> None:
    images(tmp_path / "a", PatientSex="F", PatientBirthDate="19500101")
    images(tmp_path / "b" / "c", **second)
    images(tmp_path / "d", study=generate_uid())
    studies = find_screenable(tmp_path)
    assert len(studies) == 2
    (joined,) = (study for study in studies if "d" not in study.path.parts)
    assert sorted(file.parent.name for file in joined.files) == ["a"] * 3 + ["c"] * 3


def volume(path: Path, kind: type[np.generic], slope: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = nib.Nifti1Image(np.zeros((4, 4, 4), kind), np.eye(4))
    image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


def test_masks_beside_a_scan_are_no_studies(tmp_path: Path) -> None:
    """A folder with the output of a segmentation had a row for each of its masks."""
    scan = volume(tmp_path / "ct.nii.gz", np.int16)
    coarse = volume(tmp_path / "eight_bits.nii", np.uint8, slope=16.0)  # can be HU
    volume(tmp_path / "segmentations" / "liver.nii.gz", np.uint8)
    volume(tmp_path / "segmentations" / "rib.nii", np.int8)
    (tmp_path / "segmentations" / "cut.nii").write_bytes(b"damaged")
    with list_inputs(tmp_path) as inputs:
        assert [study.path for study in inputs.studies] == [scan, coarse, tmp_path / "segmentations" / "cut.nii"]
        skipped = {entry.name: entry.reason for entry in inputs.not_read}
    assert set(skipped) == {"segmentations/liver.nii.gz", "segmentations/rib.nii"}
    assert set(skipped.values()) == {"NIfTI file of whole numbers of 8 bits (mask or label map)"}


def test_a_mask_alone_is_a_study_so_that_it_is_refused_with_the_reason(tmp_path: Path) -> None:
    mask = volume(tmp_path / "mask.nii.gz", np.uint8)
    assert [study.path for study in find_screenable(tmp_path)] == [tmp_path]
    volume(tmp_path / "other.nii.gz", np.uint8)
    assert [study.path for study in find_screenable(tmp_path)] == [mask, tmp_path / "other.nii.gz"]


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("OSTEO_MAX_ARCHIVE_FILES", "1", "archive with more than 1 files (OSTEO_MAX_ARCHIVE_FILES)"),
        ("OSTEO_MAX_ARCHIVE_MIB", "1", "archive with more than 1 MiB unpacked (OSTEO_MAX_ARCHIVE_MIB)"),
    ],
)
def test_limits_of_archives_are_set_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    volume(tmp_path / "ct.nii.gz", np.int16)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("a.nii", bytes(2 << 20))
        archive.writestr("b.nii", b"damaged")
    with list_inputs(tmp_path) as inputs:
        assert (len(inputs.studies), inputs.not_read) == (3, ())
    monkeypatch.setenv(variable, value)
    with list_inputs(tmp_path) as inputs:
        assert [(entry.name, entry.reason) for entry in inputs.not_read] == [("more.zip", reason)]
    monkeypatch.setenv(variable, "none")
    with pytest.raises(ConfigError, match=f"{variable} must be a positive whole number"), list_inputs(tmp_path):
        pass
