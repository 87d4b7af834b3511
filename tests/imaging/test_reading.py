"""Reading of CT: paths, studies of folders, facts without voxels, and errors that are no damage."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)

from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import find_studies, read_acquisition, read_ct
from osteo_monai.imaging.dicom_headers import unusable_if_damaged
from osteo_monai.imaging.findings import refusal

COMPANIONS = (
    ("RTSTRUCT", RTStructureSetStorage),
    ("RTDOSE", RTDoseStorage),
    ("RTPLAN", RTPlanStorage),
    ("SEG", SegmentationStorage),
    ("SR", ComprehensiveSRStorage),
)


def study(uid: str) -> Callable[[Dataset, int], None]:
    return lambda ds, k: setattr(ds, "StudyInstanceUID", uid)


def companion(path: Path, modality: str, sop_class: UID, uid: str = "1.2.3") -> None:
    """Write an object that goes with images, with no more than its identity."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"1.2.9.{len(modality)}.{ord(modality[-1])}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.PatientID = uid, "1.2.8", modality, "patient"
    if modality in ("SEG", "RTDOSE"):
        ds.Rows, ds.Columns, ds.NumberOfFrames, ds.BitsAllocated = 40, 32, 12, 8
    ds.save_as(path, enforce_file_format=True)


def test_one_study_is_its_own_path(
    make_series: Callable[..., Path], make_nifti: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_series()
    assert find_studies(folder) == [folder]
    assert find_studies(tmp_path) == [tmp_path]
    one = next(iter(folder.iterdir()))
    assert find_studies(one) == [one]


def test_series_of_one_study_in_several_folders_are_one_entry(make_series: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("a/1", "a/2"):
        (tmp_path / name).mkdir(parents=True)
        make_series(study("1.2.3"), name=name)
    (tmp_path / "b").mkdir()
    make_series(study("1.2.4"), name="b")
    assert find_studies(tmp_path) == [tmp_path / "a", tmp_path / "b"]


def test_a_study_that_lies_around_another_is_not_given_by_a_folder_that_holds_both(
    make_series: Callable[..., Path], tmp_path: Path
) -> None:
    make_series(study("1.2.3"), name="outer")
    (tmp_path / "outer" / "inner").mkdir()
    make_series(study("1.2.4"), name="outer/inner")
    assert find_studies(tmp_path) == [tmp_path / "outer", tmp_path / "outer" / "inner"]


def test_nifti_files_are_studies(
    make_series: Callable[..., Path], make_nifti: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = make_nifti(name="x.nii.gz"), make_nifti(name="y.nii")
    (tmp_path / "x.json").write_text("{}")
    assert find_studies(tmp_path) == [first, second]
    folder = make_series()
    assert find_studies(tmp_path) == [folder, first, second]


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="no file or folder"):
        find_studies(tmp_path / "absent")
    with pytest.raises(UnusableInputError, match="Nothing"):
        find_studies(tmp_path)


def test_folder_with_nifti(
    make_nifti: Callable[..., Path], make_series: Callable[..., Path], tmp_path: Path, canonical_hu: NDArray[np.int16]
) -> None:
    make_nifti(name="x.nii.gz")
    assert read_ct(tmp_path).original_shape == canonical_hu.shape
    make_nifti(name="y.nii.gz")
    with pytest.raises(UnusableInputError, match="one NIfTI file, got 2"):
        read_ct(tmp_path)
    folder = make_series()
    shutil.copy(tmp_path / "x.nii.gz", folder)
    assert [f.code for f in read_ct(folder).findings] == ["nifti_ignored"]


# --- what lies beside a CT ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.77"], ids=["of-its-study", "of-another-study"])
def test_objects_beside_a_ct_are_reported_and_ignored(
    make_series: Callable[..., Path], canonical_hu: NDArray[np.int16], uid: str
) -> None:
    folder = make_series()
    for modality, sop_class in COMPANIONS:
        companion(folder / f"{modality}.dcm", modality, sop_class, uid)
    assert find_studies(folder) == [folder]
    scan = read_ct(folder)
    np.testing.assert_array_equal(scan.hu, canonical_hu)
    assert [f.code for f in scan.findings] == ["other_objects"]
    for words in ("1 x RT Structure Set Storage, modality RTSTRUCT", "modality RTDOSE", "and 1 more kinds"):
        assert words in scan.findings[0].message


def test_a_folder_of_companions_alone_is_refused_by_name(tmp_path: Path) -> None:
    companion(tmp_path / "plan.dcm", "RTPLAN", RTPlanStorage)
    assert find_studies(tmp_path) == [tmp_path]
    with pytest.raises(ScanRefusedError, match="RT Plan Storage") as caught:
        read_ct(tmp_path)
    assert caught.value.findings[0].code == "not_ct"


def flat_pair(make_series: Callable[..., Path]) -> Any:
    """Two studies in one folder, the second with other values, its files named before those of the first."""
    make_series(study("1.2.3"), uid="1.2.826.0.1.9", name="flat")

    def other(ds: Dataset, k: int) -> None:
        ds.StudyInstanceUID, ds.SeriesDescription = "1.2.4", "the other"
        ds.RescaleIntercept = -1034

    return make_series(other, uid="1.2.826.0.1.8", name="flat")


def test_a_flat_folder_of_two_studies_gives_two(
    make_series: Callable[..., Path], canonical_hu: NDArray[np.int16]
) -> None:
    folder = flat_pair(make_series)
    companion(folder / "0_plan.dcm", "RTPLAN", RTPlanStorage, "1.2.5")
    found = find_studies(folder)
    assert [path.name for path in found] == ["8_000", "9_000"]
    second, first = (read_ct(path) for path in found)
    np.testing.assert_array_equal(first.hu, canonical_hu)
    np.testing.assert_array_equal(second.hu, canonical_hu - 10)
    assert second.acquisition.series_description == "the other"
    assert [f.code for f in first.findings] == ["study_of_slice", "other_studies"]
    assert "12 files" in first.findings[0].message
    assert "12 images of other studies" in first.findings[1].message
    assert read_acquisition(found[0]).series_description == "the other"
    with pytest.raises(ScanRefusedError, match="belong to one study, got 2"):
        read_ct(folder)


def test_a_study_of_its_own_beside_a_flat_folder(make_series: Callable[..., Path], tmp_path: Path) -> None:
    folder = flat_pair(make_series)
    (folder / "deep").mkdir()
    make_series(study("1.2.6"), name="flat/deep")
    assert find_studies(tmp_path) == [folder / "8_000", folder / "9_000", folder / "deep"]


def test_two_people_with_one_study_identifier_are_two_studies(make_series: Callable[..., Path], tmp_path: Path) -> None:
    make_series(lambda ds, k: setattr(ds, "PatientID", "A"), name="a")
    make_series(lambda ds, k: setattr(ds, "PatientID", "B"), name="b")
    assert find_studies(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(ScanRefusedError) as caught:
        read_ct(tmp_path)
    assert [f.code for f in caught.value.findings] == ["several_patients"]


def test_identifiers_made_anew_for_each_file_make_no_studies(make_series: Callable[..., Path]) -> None:
    folder = make_series(lambda ds, k: setattr(ds, "StudyInstanceUID", f"1.2.3.{k}"))
    assert find_studies(folder) == [folder]
    with pytest.raises(ScanRefusedError, match="belong to one study, got 12"):
        read_ct(folder)


def test_one_slice_stands_for_its_study_and_a_damaged_neighbour_is_told(
    make_series: Callable[..., Path], canonical_hu: NDArray[np.int16]
) -> None:
    folder = make_series()
    files = sorted(folder.iterdir())
    last = next(p for p in files if pydicom.dcmread(p).InstanceNumber == 100)
    last.write_bytes(last.read_bytes()[:400])
    scan = read_ct(next(p for p in files if p != last))
    np.testing.assert_array_equal(scan.hu, canonical_hu[:, :, 1:])
    assert [f.code for f in scan.findings] == ["damaged_files", "study_of_slice"]


def test_slices_without_a_study_identifier_are_one_study(
    make_series: Callable[..., Path], canonical_hu: NDArray[np.int16]
) -> None:
    """In a folder that they share with another study, as well."""
    make_series(study("1.2.4"), uid="1.2.826.0.1.9", name="flat")
    folder = make_series(study(""), uid="1.2.826.0.1.8", name="flat")
    found = find_studies(folder)
    assert [path.name for path in found] == ["8_000", "9_000"]
    np.testing.assert_array_equal(read_ct(found[0]).hu, canonical_hu)


def test_a_multi_frame_file_stands_for_itself(
    make_series: Callable[..., Path], tmp_path: Path, canonical_hu: NDArray[np.int16]
) -> None:
    singles = [pydicom.dcmread(p) for p in sorted(make_series().iterdir())]
    singles.sort(key=lambda ds: ds.InstanceNumber)
    (tmp_path / "multi").mkdir()
    for name, offset in (("a.dcm", 0), ("b.dcm", 50)):
        for ds in singles:
            ds.RescaleIntercept = offset - 1024
        LegacyConvertedEnhancedCTImage(singles, f"1.2.9.{offset}", 7, f"1.2.9.{offset}.1", 1).save_as(
            tmp_path / "multi" / name
        )
    scan = read_ct(tmp_path / "multi" / "b.dcm")
    np.testing.assert_array_equal(scan.hu, canonical_hu + 50)
    assert scan.findings == ()


def test_a_pipe_in_the_folder_is_passed_over(make_series: Callable[..., Path], canonical_hu: NDArray[np.int16]) -> None:
    folder = make_series()
    os.mkfifo(folder / "pipe")
    assert find_studies(folder) == [folder]
    np.testing.assert_array_equal(read_ct(folder).hu, canonical_hu)


def test_memory_error_is_not_reported_as_damage(
    make_nifti: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound file that exceeds the memory is not damaged."""

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(nibabel, "load", exhausted)
    with pytest.raises(UnusableInputError, match="^Reading the input needs more memory than is available"):
        read_ct(make_nifti())


def test_interrupts_pass_and_panics_of_codecs_count_as_damage() -> None:
    panic = type("PanicException", (BaseException,), {})  # as pyo3 defines it
    expected = r"^The data are damaged \(PanicException\)\.$"
    with pytest.raises(UnusableInputError, match=expected), unusable_if_damaged("The data are damaged"):
        raise panic
    for error in (KeyboardInterrupt, SystemExit):
        with pytest.raises(error), unusable_if_damaged("The data are damaged"):
            raise error
    refused = ScanRefusedError(refusal("a", "b"))
    with pytest.raises(ScanRefusedError) as caught, unusable_if_damaged("The data are damaged"):
        raise refused
    assert caught.value is refused
