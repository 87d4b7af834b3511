"""Single axial slices as DICOM, NIfTI, PNG or TIFF, and 2D label images; arrays have the axes (columns, rows)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.decoding import PixelFile, decode_file
from osteo_monai.imaging.dicom_frames import rescaled
from osteo_monai.imaging.dicom_headers import Frame, looks_like_dicom, read_instance, unusable_if_damaged
from osteo_monai.imaging.nifti import is_nifti
from osteo_monai.imaging.orientation import GRID_TOLERANCE
from osteo_monai.utils.inputs import check_regular

__all__ = ["PICTURE_SUFFIXES", "Plane", "is_plane", "read_labels", "read_plane"]

PICTURE_SUFFIXES = (".png", ".tif", ".tiff")
_LARGEST = 4096
"""Rows and columns of a slice."""
_AXIAL_COSINE = 0.9
"""Least cosine between the slice normal and the body axis: an axial slice."""


@dataclass(frozen=True)
class Plane:
    """One slice.

    Attributes:
        hu: (columns, rows), float32.
        affine: (4, 4), from (column, row, 0) to RAS+ mm.
        patient: PatientID and PatientName of the header, for comparison only.
    """

    hu: NDArray[np.float32]
    affine: NDArray[np.float64]
    patient: tuple[str, ...] = ()


def is_plane(path: Path) -> bool:
    """Whether a file may be a slice, by its name or its first bytes."""
    return is_nifti(path) or path.suffix.lower() in PICTURE_SUFFIXES or looks_like_dicom(path)


def read_plane(path: Path, window: tuple[float, float] | None, pixel_mm: float | None) -> Plane:
    """Read one slice in HU.

    Args:
        path: DICOM with one frame, NIfTI with one slice along its third axis, PNG or TIFF. A picture is taken as
            displayed: columns to the left of the patient, rows to the back. Values of a floating-point TIFF are HU.
        window: HU of black and white of a picture of 8 or 16 bits.
        pixel_mm: pixel size of a picture.

    Raises:
        UnusableInputError: with the reason.
    """
    if is_nifti(path):
        return _nifti(path)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _picture(path, window, pixel_mm)
    return _dicom(path)


def read_labels(path: Path, size: tuple[int, int], affine: NDArray[np.float64] | None = None) -> NDArray[np.int64]:
    """Read a 2D label image (columns, rows) of whole numbers.

    Args:
        path: the file.
        size: columns and rows of its image.
        affine: of the image; ``None`` for a picture, which states no place.

    Raises:
        UnusableInputError: it has another size or place than its image, or holds other values.
    """
    with unusable_if_damaged("The label image is damaged or no image"):
        check_regular(path)
        if is_nifti(path):
            stored: Any = nib.load(path)
            values = _single(np.asarray(stored.dataobj))
        else:
            with Image.open(path) as picture:
                # the index of a palette is the label, not its colour
                values = _grey(np.asarray(picture)).T
    if values.shape != size:
        raise UnusableInputError(
            f"The label image must have the size of its image, {size[0]} x {size[1]} pixels, "
            f"got {values.shape[0]} x {values.shape[1]}."
        )
    if affine is not None and is_nifti(path) and (stored.get_qform(coded=True)[1] or stored.get_sform(coded=True)[1]):
        _check_place(affine, np.asarray(stored.affine, np.float64), size)
    whole = values.astype(np.int64)
    if not np.array_equal(whole, values) or whole.min() < 0:
        raise UnusableInputError("The label image must hold whole numbers from 0, got other values.")
    return whole


def _check_place(affine: NDArray[np.float64], other: NDArray[np.float64], size: tuple[int, int]) -> None:
    """Refuse a label image whose pixels are elsewhere than those of its image, such as one with reversed rows."""
    corners = np.array([[i, j, 0.0, 1.0] for i in (0, size[0] - 1) for j in (0, size[1] - 1)])
    distance = np.abs((corners @ (np.linalg.inv(affine) @ other).T - corners)[:, :2]).max()
    if not distance <= GRID_TOLERANCE:
        raise UnusableInputError(f"The label image is {distance:.1f} pixels from its image by their headers.")


def _nifti(path: Path) -> Plane:
    with unusable_if_damaged("The image is damaged or not NIfTI"):
        check_regular(path)
        image: Any = nib.load(path)
        values = _single(np.asarray(image.dataobj, np.float32))
        affine = np.asarray(image.affine, np.float64)
    if not image.get_qform(coded=True)[1] and not image.get_sform(coded=True)[1]:
        raise UnusableInputError("The image must state its orientation, got neither sform nor qform.")
    return Plane(values, _axial(affine))


def _dicom(path: Path) -> Plane:
    instance = read_instance(path)
    if not instance.is_ct or instance.frames != 1:
        raise UnusableInputError(f"The image must be one slice of a CT, got {instance.kind}.")
    frame = Frame(instance, 0)
    cosines, place = frame.numbers("ImageOrientationPatient", 6), frame.numbers("ImagePositionPatient", 3)
    spacing = frame.numbers("PixelSpacing", 2)
    if cosines is None or place is None or spacing is None or frame.number("RescaleIntercept") is None:
        raise UnusableInputError("The image must state orientation, position, pixel size and rescale to HU.")
    along_columns, along_rows = np.array(cosines[:3]), np.array(cosines[3:])
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = along_columns * spacing[1], along_rows * spacing[0]
    lps[:3, 2] = np.cross(along_columns, along_rows) * (frame.number("SliceThickness") or 1.0)
    lps[:3, 3] = place
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    hu = rescaled(decode_file(PixelFile.of(instance)), frame).T
    patient = tuple(frame.text(name).casefold() for name in ("PatientID", "PatientName"))
    return Plane(hu, _axial(affine), tuple(value for value in patient if value))


def _picture(path: Path, window: tuple[float, float] | None, pixel_mm: float | None) -> Plane:
    with unusable_if_damaged("The image is damaged or no image"):
        check_regular(path)
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) != 1:
                raise UnusableInputError(f"The image must be one picture, got {picture.n_frames}.")  # type: ignore[attr-defined]
            if max(picture.size) > _LARGEST:
                raise UnusableInputError(f"The image must have at most {_LARGEST} rows and columns.")
            values = _grey(np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)).T
    if pixel_mm is None:
        raise UnusableInputError(f"--pixel-mm must be given for {path.suffix} files, which have no pixel size.")
    if values.dtype.kind == "f":
        hu = values.astype(np.float32)
    elif window is None or values.dtype.kind != "u":
        raise UnusableInputError(f"--window must be given for {path.suffix} files, whose grey values are no HU.")
    else:
        low, high = window
        hu = (low + values.astype(np.float64) / np.iinfo(values.dtype).max * (high - low)).astype(np.float32)
    return Plane(hu, np.diag([-pixel_mm, -pixel_mm, 1.0, 1.0]))


def _grey(values: NDArray[Any]) -> NDArray[Any]:
    """Return the rows and columns of a grey picture, also of one stored with equal colours."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values = values[..., :-1]  # transparency
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise UnusableInputError("The image must be grey, got a picture in colour.")
    return values.astype(np.uint16) if values.dtype == np.int32 and _fits(values) else values


def _fits(values: NDArray[Any]) -> bool:
    """Whether 32-bit grey values are those of 16 bits, as some readers return them."""
    return bool(values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max)


def _single(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim < 2 or values.size != values.shape[0] * values.shape[1]:
        raise UnusableInputError(f"The image must have one slice along its third axis, got shape {values.shape}.")
    return values.reshape(values.shape[:2])


def _axial(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine of an axial slice; refuse others."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    length = float(np.linalg.norm(normal))
    if not np.isfinite(affine).all() or not length > 0 or abs(normal[2]) / length < _AXIAL_COSINE:
        raise UnusableInputError("The image must be an axial slice, got another plane.")
    return affine
