"""A made-up CT series of a few kilobytes, written as DICOM or NIfTI, with one thing wrong at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

ROWS, COLUMNS, SLICES = 40, 32, 12
SPACING = (0.8, 0.9, 2.5)
"""mm along columns (x), rows (y) and slices."""

PATIENT_NAME, PATIENT_ID = "Verysecret^Nameofperson", "ID-987654321"

Change = Callable[[Dataset, int], None]
SeriesMaker = Callable[..., Path]


def phantom() -> NDArray[np.int16]:
    """HU of shape (slices, rows, columns), not symmetric along any axis: body, fat, one vertebra, one marker."""
    z, y, x = np.mgrid[:SLICES, :ROWS, :COLUMNS]
    radius = ((x - 15) / 13) ** 2 + ((y - 19) / 17) ** 2
    hu = np.full((SLICES, ROWS, COLUMNS), -1000, dtype=np.int16)
    hu[radius < 1] = -100
    hu[radius < 0.7] = 50
    hu[((x - 15) ** 2 + (y - 28) ** 2) < 20] = 180
    hu[:4, 5:9, 20:24] = 300  # a marker low, in front and to the patient's left
    return np.asarray(hu + (z + 2 * (x % 3)).astype(np.int16))


def ct_slice(k: int, hu: NDArray[np.int16], uid: str = "1.2.826.0.1.3680043.8.498.1") -> Dataset:
    """One axial CT image, head first supine, slice ``k`` at z = -100 + 2.5 k."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"{uid}.{k + 1}")
    ds.SOPClassUID = CTImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", uid, "1.2.3.4"
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer, ds.ManufacturerModelName, ds.ConvolutionKernel = "Philips", "Brilliance 64", "B"
    ds.StationName, ds.SeriesDescription, ds.KVP, ds.SliceThickness = "CT1", "Abdomen native", 120, 2.5
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge = PATIENT_NAME, PATIENT_ID, "F", "055Y"
    ds.StudyDate, ds.PatientBirthDate, ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "20200601", "", "1", 2, 100 - k
    ds.StudyTime = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-12.0, -17.0, -100 + 2.5 * k]
    ds.PixelSpacing = [SPACING[1], SPACING[0]]
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = *hu.shape, 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    ds.PixelData = (hu.astype("<i2") + 1024).tobytes()
    return ds


@pytest.fixture
def make_series(tmp_path: Path) -> SeriesMaker:
    """Write the phantom as shuffled DICOM files and return their folder.

    ``change(dataset, k)`` alters slice k before it is written; returning ``False`` leaves the slice out.
    """

    def make(
        change: Callable[[Dataset, int], Any] | None = None,
        name: str = "scan",
        hu: NDArray[np.int16] | None = None,
        uid: str = "1.2.826.0.1.3680043.8.498.1",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        volume = phantom() if hu is None else hu
        for k, plane in enumerate(volume):
            ds = ct_slice(k, plane, uid)
            with pydicom.config.disable_value_validation():  # some changes are wrong on purpose
                if change is not None and change(ds, k) is False:
                    continue
                shuffled = (k * 5 + 3) % len(volume)
                ds.save_as(folder / f"{uid[-1]}_{shuffled:03d}", enforce_file_format=True)
        return folder

    return make


@pytest.fixture
def make_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Write an array (default: the phantom as it lies, RAS+) as NIfTI and return the file."""

    def make(
        array: NDArray[Any] | None = None,
        affine: NDArray[np.float64] | None = None,
        name: str = "scan.nii.gz",
        codes: tuple[int, int] = (1, 0),
        units: str = "mm",
    ) -> Path:
        image = nib.Nifti1Image(canonical_phantom() if array is None else array, None)
        affine = np.diag([*SPACING, 1.0]) if affine is None else affine
        image.set_sform(affine, code=codes[0])
        if codes[1]:
            image.set_qform(affine, code=codes[1])
        image.header.set_xyzt_units(units)
        path = tmp_path / name
        nib.save(image, path)
        return path

    return make


@pytest.fixture
def canonical_hu() -> NDArray[np.int16]:
    """What any correct reading of the phantom gives: HU, shape (32, 40, 12), RAS+."""
    return canonical_phantom()


@pytest.fixture
def phantom_hu() -> NDArray[np.int16]:
    """The phantom as DICOM stores it: HU, shape (12 slices, 40 rows, 32 columns)."""
    return phantom()


def canonical_phantom() -> NDArray[np.int16]:
    """The phantom as a RAS+ array: DICOM columns run to the left and rows to the back, so both are flipped."""
    return np.ascontiguousarray(phantom().transpose(2, 1, 0)[::-1, ::-1, :])
