"""Reads a NIfTI CT into a checked volume.

A NIfTI carries no acquisition facts; a BIDS-like JSON beside it (``scan.json`` for ``scan.nii.gz``) may state them
under their DICOM keywords: Modality, KVP, ConvolutionKernel, SliceThickness, Manufacturer, ManufacturersModelName,
ContrastBolusAgent, SeriesDescription, PatientAge (years or a DICOM age string), PatientBirthDate, PatientSex,
AcquisitionDate.
"""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from osteo_monai.domain import Finding
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging.acquisition import (
    OLDEST_YEARS,
    clean_text,
    contrast_note,
    judge_age,
    kernel_is_sharp,
    known_day,
    number,
    sex_of,
)
from osteo_monai.imaging.dicom_headers import one_sentence
from osteo_monai.imaging.dicom_series import MAX_SLICE_MM, MIN_SLICES
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.imaging.orientation import (
    MAX_RESAMPLED_OBLIQUITY_DEG,
    MAX_SHEAR_DEG,
    axis_codes,
    axis_map,
    canonical_affine,
    canonical_grid,
    obliquity_deg,
    shear_deg,
    to_canonical,
)
from osteo_monai.imaging.plausibility import (
    MAX_VOXELS,
    PADDING_HU,
    UNDECLARED_PADDING_BELOW_HU,
    blank_slices,
    check_values,
)
from osteo_monai.imaging.resampling import resample_labels, upright_grid, upright_volume
from osteo_monai.imaging.volume import Acquisition, CTVolume

NIFTI_SUFFIXES = (".nii", ".nii.gz")

VOXEL_MM = (0.1, 10.0)
"""Plausible voxel sizes in mm along any axis."""


def is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI (``.nii`` or ``.nii.gz``)."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def stem(path: Path) -> str:
    """Return the name of a NIfTI file without ``.nii`` or ``.nii.gz``."""
    name = path.name
    for suffix in sorted(NIFTI_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def read_nifti(path: Path, source: str, declared_ct: bool = False) -> CTVolume:
    """Read one NIfTI file.

    Args:
        path: ``.nii`` or ``.nii.gz``, three-dimensional (or four-dimensional with a single volume), values in HU.
        source: what the caller calls the input, kept in the volume.
        declared_ct: see :func:`osteo_monai.imaging.read_ct`.

    Raises:
        UnusableInputError: the file is damaged or no NIfTI.
        ScanRefusedError: the image is not one regular, upright volume in HU.
    """
    with one_sentence("The NIfTI file is damaged or no NIfTI file"):
        image = nib.load(path)
        if not isinstance(image, Nifti1Image):
            raise UnusableInputError("The file is not NIfTI, whatever its name says.")
    shape = _check_array(image)
    affine, refused, notes = _check_geometry(image, shape)
    acquisition, more = read_sidecar(path)
    notes += more
    with one_sentence("The voxel data of the NIfTI file are damaged or cut short"):
        stored = np.asarray(image.dataobj, dtype=np.float32)  # scl_slope and scl_inter applied
    hu = to_canonical(stored.reshape(shape), np.eye(4) if refused else affine)
    if not hu.flags.writeable:
        hu = hu.copy(order="F")
    del stored
    valid = _mask_padding(hu, notes)
    refusals, others = check_values(hu, valid, declared_ct)
    blank_refusals, blank_notes = blank_slices(hu.min(axis=(0, 1)), hu.max(axis=(0, 1)))
    # what the values are comes first: a mask on an oblique grid is refused for being a mask
    if refused := [*(refusals or blank_refusals), *refused]:
        raise ScanRefusedError(*refused)
    volume = CTVolume(
        hu=hu,
        affine=canonical_affine(affine, shape),
        original_affine=affine,
        original_shape=shape,
        valid=valid,
        acquisition=acquisition,
        findings=(*notes, *others, *blank_notes),
        source=source,
    )
    return upright_volume(volume)


def read_label_map(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read a label map (X, Y, Z) with its affine (4, 4) in canonical orientation, as :func:`read_nifti` has the scan.

    An oblique one is resampled upright like a scan on the same grid, each voxel by its nearest neighbour.

    Raises:
        UnusableInputError: the file is damaged or no NIfTI file.
        ValueError: it does not hold whole numbers from 0 to 255 in three dimensions.
    """
    with one_sentence("The label map is damaged or no NIfTI file"):
        image = nib.load(path)
        if not isinstance(image, Nifti1Image):
            raise UnusableInputError("The label map is not NIfTI, whatever its name says.")
        stored = np.asarray(image.dataobj)
    shape = stored.shape[:3]
    if stored.ndim < 3 or stored.size != np.prod(shape):
        raise ValueError(f"a label map must be three-dimensional, got shape {stored.shape}")
    labels = stored.reshape(shape)
    if labels.dtype != np.uint8:
        with np.errstate(invalid="ignore"):
            whole = labels.astype(np.uint8)
        if not np.array_equal(whole, labels):
            raise ValueError("a label map must hold whole numbers from 0 to 255, got others")
        labels = whole
    affine = np.asarray(image.affine, dtype=np.float64)
    turned = to_canonical(labels, affine)
    affine, extent = canonical_grid(affine, (shape[0], shape[1], shape[2]))
    grid = upright_grid(affine, extent)
    if grid is None:
        return turned, affine
    return resample_labels(turned, affine, grid.affine, grid.shape), grid.affine


def _check_array(image: Nifti1Image) -> tuple[int, int, int]:
    """Refuse what is not one three-dimensional array of numbers within the size cap; return its shape."""
    shape, kind = image.shape, image.get_data_dtype()
    if kind.fields is not None or kind.kind not in "iuf":
        raise ScanRefusedError(refusal("not_greyscale", f"The voxels are of type {kind}, not plain numbers."))
    if len(shape) > 3 and any(n != 1 for n in shape[3:]):
        volumes = int(np.prod(shape[3:]))
        raise ScanRefusedError(refusal("several_volumes", f"The file holds {volumes} volumes; give one volume a file."))
    if len(shape) < 3 or min(shape[:3]) < 1:
        raise ScanRefusedError(refusal("single_slice", f"The image is not three-dimensional (shape {shape})."))
    if int(np.prod(shape[:3], dtype=np.int64)) > MAX_VOXELS:
        raise ScanRefusedError(refusal("too_large", f"The image of shape {shape} exceeds {MAX_VOXELS} voxels."))
    return int(shape[0]), int(shape[1]), int(shape[2])


def _check_geometry(
    image: Nifti1Image, shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], list[Finding], list[Finding]]:
    """Judge whether the grid is regular and upright; return the affine, refusals and other findings."""
    affine = np.asarray(image.affine, dtype=np.float64)
    units = image.header.get_xyzt_units()[0]
    if units not in ("mm", "unknown"):
        return affine, [refusal("units_not_mm", f"The voxel sizes are in {units}, not in mm.")], []
    qform, qcode = image.get_qform(coded=True)
    sform, scode = image.get_sform(coded=True)
    if not qcode and not scode:
        message = "The file does not say how the image lies in the body (neither sform nor qform is set)."
        return affine, [refusal("orientation_unknown", message)], []
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 1e-3 * sizes.prod():
        return affine, [refusal("missing_geometry", "The affine of the image is not invertible.")], []
    if sizes.min() < VOXEL_MM[0] or sizes.max() > VOXEL_MM[1]:
        message = f"Voxels of {sizes.min():.3g} to {sizes.max():.3g} mm are not those of a CT."
        return affine, [refusal("implausible_spacing", message)], []
    if shear_deg(affine) > MAX_SHEAR_DEG:
        message = f"The grid is sheared by {shear_deg(affine):.1f} degrees, as a tilted gantry leaves it."
        return affine, [refusal("gantry_tilt", message)], []
    if obliquity_deg(affine) > MAX_RESAMPLED_OBLIQUITY_DEG:
        most = f"at most {MAX_RESAMPLED_OBLIQUITY_DEG:g} can be read"
        message = f"The grid lies {obliquity_deg(affine):.1f} degrees oblique; {most}."
        return affine, [refusal("oblique", message)], []
    z_axis = int(np.flatnonzero(axis_map(affine)[:, 0] == 2)[0])
    if shape[z_axis] < MIN_SLICES:
        return affine, [refusal("single_slice", f"The image has only {shape[z_axis]} axial slices.")], []
    notes = []
    if qcode and scode:
        if axis_codes(qform) != axis_codes(sform):
            message = (
                f"The two orientations in the file contradict each other ({axis_codes(sform)}, {axis_codes(qform)})."
            )
            return affine, [refusal("orientation_contradiction", message)], []
        corner = np.append(np.array(shape) - 1.0, 1.0)
        apart = max(np.abs((qform - sform)[:3, 3]).max(), np.abs((qform - sform) @ corner).max())
        if apart > 1.0:
            message = f"The two positions in the file (sform and qform) differ by {apart:.1f} mm; sform was used."
            notes.append(warning("sform_qform_differ", message))
    if sizes[z_axis] > MAX_SLICE_MM + 1e-3:
        message = f"The slices are {sizes[z_axis]:.2g} mm apart, above {MAX_SLICE_MM:g} mm."
        notes.append(warning("slice_too_thick", message))
    return affine, [], notes


def _mask_padding(hu: NDArray[np.float32], notes: list[Finding]) -> NDArray[np.bool_] | None:
    """Set padding (far below air, or not a number) to air in place and return the voxels that are not padding."""
    flagged = ~(hu >= UNDECLARED_PADDING_BELOW_HU) | np.isinf(hu)
    if not flagged.any():
        return None
    hu[flagged] = PADDING_HU
    message = f"{flagged.mean():.1%} of the voxels are padding (below -1500 HU or not a number) and are left out."
    notes.append(info("undeclared_padding", message))
    return ~flagged


def read_sidecar(path: Path) -> tuple[Acquisition, list[Finding]]:
    """Read the acquisition facts beside an image, and what is to be said of them; unknown facts stay unknown."""
    beside = path.with_name(stem(path) + ".json")
    unknown = warning(
        "acquisition_unknown",
        "The file states no acquisition facts (tube voltage, kernel, contrast agent): none was assumed.",
    )
    if not beside.is_file():
        return Acquisition(), [unknown]
    try:
        facts: Any = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        return Acquisition(), [warning("sidecar_unreadable", "The JSON file beside the image cannot be read."), unknown]
    modality = clean_text(facts.get("Modality")).upper()
    if modality not in ("", "CT"):
        raise ScanRefusedError(refusal("not_ct", f"The JSON file beside the image says modality {modality}, not CT."))

    def text(keyword: str) -> str:
        return clean_text(facts.get(keyword))

    kernel = text("ConvolutionKernel") or None
    kvp, thickness, age = (number(facts.get(k)) for k in ("KVP", "SliceThickness", "PatientAge"))
    day = text("AcquisitionDate") or text("StudyDate")
    notes: list[Finding] = []
    if age is None or not 0 < age <= OLDEST_YEARS:
        age, notes = judge_age(text("PatientAge"), text("PatientBirthDate"), day)
    agent = "" if facts.get("ContrastBolusAgent") is False else text("ContrastBolusAgent")
    descriptions = [text(k) for k in ("SeriesDescription", "ProtocolName", "StudyDescription", "BodyPartExamined")]
    contrast = contrast_note(agent, text("ContrastBolusRoute"), number(facts.get("ContrastBolusVolume")), descriptions)
    acquisition = Acquisition(
        kvp=kvp if kvp and kvp > 0 else None,
        kernel=kernel,
        slice_thickness_mm=thickness if thickness and thickness > 0 else None,
        manufacturer=text("Manufacturer") or None,
        model=text("ManufacturersModelName") or text("ManufacturerModelName") or None,
        contrast=contrast,
        series_description=text("SeriesDescription") or None,
        age_years=age,
        sex=sex_of(text("PatientSex")),
        acquired=known_day(day),
    )
    if acquisition.kvp is None and acquisition.kernel is None:
        notes.append(unknown)
    if kernel_is_sharp(kernel):
        notes.append(warning("sharp_kernel", f"The kernel '{kernel}' is sharp: more noise, and edges are exaggerated."))
    return acquisition, notes
