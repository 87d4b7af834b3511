"""Read a NIfTI CT into a checked volume.

NIfTI has no acquisition facts; a BIDS-like JSON beside it (``scan.json`` for ``scan.nii.gz``) may give them under their
DICOM keywords: Modality, KVP, ConvolutionKernel, SliceThickness, Manufacturer, ManufacturersModelName,
ContrastBolusAgent, SeriesDescription, PatientAge (years or a DICOM age string), PatientBirthDate, PatientSex,
AcquisitionDate.
"""

import json
import math
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
    kernel_is_sharp,
    number,
    real_day,
    rescale_unit,
    resolve_age,
    sex_of,
    station_code,
)
from osteo_monai.imaging.dicom_headers import unusable_if_damaged
from osteo_monai.imaging.dicom_series import DESCRIPTION_KEYWORDS, MAX_SLICE_MM, MIN_SLICES
from osteo_monai.imaging.findings import info, refusal, warning
from osteo_monai.imaging.header_words import dual_energy_words, processed_words
from osteo_monai.imaging.limits import check_file_size, check_nifti_size, input_limits
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
    PADDING_HU,
    UNDECLARED_PADDING_BELOW_HU,
    blank_slices,
    check_values,
)
from osteo_monai.imaging.resampling import resample_labels, upright_grid, upright_volume
from osteo_monai.imaging.slice_content import SliceContent
from osteo_monai.imaging.volume import Acquisition, CTVolume
from osteo_monai.utils.inputs import check_regular, read_input
from osteo_monai.utils.text import share_words

NIFTI_SUFFIXES = (".nii", ".nii.gz")

VOXEL_MM = (0.1, 10.0)
"""Plausible voxel sizes in mm along any axis."""


def is_nifti(path: Path) -> bool:
    """Whether the name ends in ``.nii`` or ``.nii.gz``."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def stem(path: Path) -> str:
    """Return the name of a NIfTI file without ``.nii`` or ``.nii.gz``."""
    name = path.name
    for suffix in sorted(NIFTI_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def holds_bytes(path: Path) -> bool:
    """Whether a NIfTI file stores whole numbers of 8 bits without a scale, which cannot be HU; by its header."""
    try:
        check_regular(path)
        image: Any = nib.load(path)
        kind, slope, intercept = image.get_data_dtype(), image.dataobj.slope, image.dataobj.inter
    except Exception:  # noqa: BLE001  # a damaged file; reading it reports the reason
        return False
    return bool(kind.itemsize == 1 and kind.kind in "iu" and slope == 1 and intercept == 0)


def read_nifti(path: Path, source: str, declared_ct: bool = False) -> CTVolume:
    """Read one NIfTI file.

    Args:
        path: ``.nii`` or ``.nii.gz``, three-dimensional (or four-dimensional with a single volume), values in HU.
        source: name of the input, kept in the volume.
        declared_ct: see :func:`osteo_monai.imaging.read_ct`.

    Raises:
        UnusableInputError: the file is damaged or not NIfTI.
        ScanRefusedError: the image is not one regular, upright volume in HU.
    """
    with unusable_if_damaged("The NIfTI file is damaged or not NIfTI"):
        check_regular(path)
        image = nib.load(path)
        if not isinstance(image, Nifti1Image):
            raise UnusableInputError("The file is not NIfTI in spite of its name.")
    shape = _check_array(image, path)
    affine, refused, notes = _check_geometry(image, shape)
    acquisition, more = read_sidecar(path)
    notes += more
    with unusable_if_damaged("The voxel data of the NIfTI file are damaged or truncated"):
        stored = np.asarray(image.dataobj, dtype=np.float32)  # scl_slope and scl_inter applied
    hu = to_canonical(stored.reshape(shape), np.eye(4) if refused else affine)
    if not hu.flags.writeable:
        hu = hu.copy(order="F")
    del stored
    valid = _mask_padding(hu, notes)
    refusals, others = check_values(hu, valid, declared_ct)
    blank_refusals, blank_notes = blank_slices(hu.min(axis=(0, 1)), hu.max(axis=(0, 1)))
    # values first: an oblique mask is refused as a mask
    refused = [*(refusals or blank_refusals), *refused] or _check_slices(hu)
    if refused:
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
    """Read a label map (X, Y, Z) and its affine (4, 4) in the canonical orientation of :func:`read_nifti`.

    An oblique one is resampled upright like a scan on the same grid, by nearest neighbour.

    Raises:
        UnusableInputError: the file is damaged or not NIfTI.
        ValueError: it does not hold whole numbers from 0 to 255 in three dimensions.
    """
    with unusable_if_damaged("The label map is damaged or not NIfTI"):
        check_regular(path)
        image = nib.load(path)
        if not isinstance(image, Nifti1Image):
            raise UnusableInputError("The label map is not NIfTI in spite of its name.")
        if image.get_data_dtype().kind not in "iuf":
            raise UnusableInputError(f"The label map must hold numbers, got type {image.get_data_dtype()}.")
        count, most = math.prod(int(n) for n in image.shape), input_limits().voxels
        if count > most:
            raise UnusableInputError(f"The label map must have at most {most} voxels, got {count}.")
        stored = np.asarray(image.dataobj)
    shape = stored.shape[:3]
    if stored.ndim < 3 or stored.size != np.prod(shape):
        raise ValueError(f"the label map must be three-dimensional, got shape {stored.shape}")
    labels = stored.reshape(shape)
    if labels.dtype != np.uint8:
        with np.errstate(invalid="ignore"):
            whole = labels.astype(np.uint8)
        if not np.array_equal(whole, labels):
            raise ValueError("the label map must hold whole numbers from 0 to 255, got other values")
        labels = whole
    affine = np.asarray(image.affine, dtype=np.float64)
    turned = to_canonical(labels, affine)
    affine, extent = canonical_grid(affine, (shape[0], shape[1], shape[2]))
    grid = upright_grid(affine, extent)
    if grid is None:
        return turned, affine
    return resample_labels(turned, affine, grid.affine, grid.shape), grid.affine


def _check_array(image: Nifti1Image, path: Path) -> tuple[int, int, int]:
    """Refuse images that are not one three-dimensional array of numbers within the size limit; return the shape."""
    shape, kind = image.shape, image.get_data_dtype()
    if kind.fields is not None or kind.kind not in "iuf":
        raise ScanRefusedError(refusal("not_greyscale", f"The voxels are of type {kind}, not plain numbers."))
    if len(shape) > 3 and any(n != 1 for n in shape[3:]):
        volumes = int(np.prod(shape[3:]))
        raise ScanRefusedError(refusal("several_volumes", f"The file must hold one volume, got {volumes}."))
    if len(shape) < 3 or min(shape[:3]) < 1:
        raise ScanRefusedError(refusal("single_slice", f"The image is not three-dimensional (shape {shape})."))
    limits = input_limits()
    count = math.prod(int(n) for n in shape[:3])  # exact: a header may state more than 64 bits hold
    if count > limits.voxels:
        raise ScanRefusedError(refusal("too_large", f"The image of shape {shape} exceeds {limits.voxels} voxels."))
    check_nifti_size(path, int(getattr(image.dataobj, "offset", 0)) + count * kind.itemsize, limits)
    return int(shape[0]), int(shape[1]), int(shape[2])


def _check_geometry(
    image: Nifti1Image, shape: tuple[int, int, int]
) -> tuple[NDArray[np.float64], list[Finding], list[Finding]]:
    """Check that the grid is regular and upright; return the affine, refusals and other findings."""
    affine = np.asarray(image.affine, dtype=np.float64)
    refused = _check_header(image) or _check_affine(affine, shape)
    if refused:
        return affine, [refused], []
    refused, notes = _compare_forms(image, shape)
    if refused:
        return affine, [refused], []
    step = float(np.linalg.norm(affine[:3, _slice_axis(affine)]))
    if step > MAX_SLICE_MM + 1e-3:
        message = f"The slices are {step:.2g} mm apart, above {MAX_SLICE_MM:g} mm."
        notes.append(warning("slice_too_thick", message))
    return affine, [], notes


def _slice_axis(affine: NDArray[np.float64]) -> int:
    """Return the index of the voxel axis that runs along the body."""
    return int(np.flatnonzero(axis_map(affine)[:, 0] == 2)[0])


def _check_header(image: Nifti1Image) -> Finding | None:
    units = image.header.get_xyzt_units()[0]
    if units not in ("mm", "unknown"):
        return refusal("units_not_mm", f"The voxel sizes are in {units}, not in mm.")
    if not image.get_qform(coded=True)[1] and not image.get_sform(coded=True)[1]:
        message = "The file does not state the orientation of the image (neither sform nor qform is set)."
        return refusal("orientation_unknown", message)
    return None


def _check_affine(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> Finding | None:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 1e-3 * sizes.prod():
        return refusal("missing_geometry", "The affine of the image is not invertible.")
    if sizes.min() < VOXEL_MM[0] or sizes.max() > VOXEL_MM[1]:
        message = f"Voxels of {sizes.min():.3g} to {sizes.max():.3g} mm are not those of a CT."
        return refusal("implausible_spacing", message)
    if shear_deg(affine) > MAX_SHEAR_DEG:
        message = f"The grid is sheared by {shear_deg(affine):.1f} degrees, as by a tilted gantry."
        return refusal("gantry_tilt", message)
    if obliquity_deg(affine) > MAX_RESAMPLED_OBLIQUITY_DEG:
        message = (
            f"The grid is oblique by {obliquity_deg(affine):.1f} degrees; "
            f"at most {MAX_RESAMPLED_OBLIQUITY_DEG:g} are supported."
        )
        return refusal("oblique", message)
    slices = shape[_slice_axis(affine)]
    if slices < MIN_SLICES:
        return refusal("single_slice", f"The image has only {slices} axial slices.")
    return None


def _compare_forms(image: Nifti1Image, shape: tuple[int, int, int]) -> tuple[Finding | None, list[Finding]]:
    """Compare sform and qform, if both are set; return a refusal and other findings."""
    qform, qcode = image.get_qform(coded=True)
    sform, scode = image.get_sform(coded=True)
    if not (qcode and scode):
        return None, []
    if axis_codes(qform) != axis_codes(sform):
        message = f"The orientations of sform and qform differ ({axis_codes(sform)}, {axis_codes(qform)})."
        return refusal("orientation_contradiction", message), []
    corner = np.append(np.array(shape) - 1.0, 1.0)
    apart = max(np.abs((qform - sform)[:3, 3]).max(), np.abs((qform - sform) @ corner).max())
    if apart <= 1.0:
        return None, []
    message = f"The positions of sform and qform differ by {apart:.1f} mm; sform was used."
    return None, [warning("sform_qform_differ", message)]


def _check_slices(hu: NDArray[np.float32]) -> list[Finding]:
    """Refuse axial slices (hu[:, :, k]) that repeat others or do not fit between their neighbours."""
    planes = hu.transpose(2, 0, 1)
    content = SliceContent(planes.shape)
    for k, plane in enumerate(planes):
        content.add(k, plane)
    return content.findings(planes.__getitem__)


def _mask_padding(hu: NDArray[np.float32], notes: list[Finding]) -> NDArray[np.bool_] | None:
    """Set padding (far below air, or NaN) to air in place and return the valid voxels; ``None`` if all are."""
    flagged = ~(hu >= UNDECLARED_PADDING_BELOW_HU) | np.isinf(hu)
    if not flagged.any():
        return None
    hu[flagged] = PADDING_HU
    share = share_words(float(flagged.mean()), 1)
    message = f"{share} of the voxels are padding (below -1500 HU or not a number) and are ignored."
    notes.append(info("undeclared_padding", message))
    return ~flagged


def read_sidecar(path: Path) -> tuple[Acquisition, list[Finding]]:
    """Read the acquisition facts beside an image; return them with findings. Missing facts stay unknown."""
    beside = path.with_name(stem(path) + ".json")
    unknown = warning(
        "acquisition_unknown",
        "The file has no acquisition facts (tube voltage, kernel, contrast agent), and none were assumed.",
    )
    if not beside.is_file():
        return Acquisition(), [unknown]
    check_file_size(beside, input_limits().sidecar_bytes)
    try:
        facts: Any = json.loads(read_input(beside))
    except (OSError, ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        return Acquisition(), [warning("sidecar_unreadable", "The JSON file beside the image cannot be read."), unknown]
    modality = clean_text(facts.get("Modality")).upper()
    if modality not in ("", "CT"):
        raise ScanRefusedError(refusal("not_ct", f"The JSON file beside the image states modality {modality}, not CT."))

    def text(keyword: str) -> str:
        return clean_text(facts.get(keyword))

    kernel = text("ConvolutionKernel") or None
    kvp, thickness, age = (number(facts.get(k)) for k in ("KVP", "SliceThickness", "PatientAge"))
    day = text("AcquisitionDate") or text("StudyDate")
    notes: list[Finding] = []
    dual = _check_kind(facts)
    if age is None or not 0 < age <= OLDEST_YEARS:
        age, notes = resolve_age(text("PatientAge"), text("PatientBirthDate"), day)
    agent = "" if facts.get("ContrastBolusAgent") is False else text("ContrastBolusAgent")
    descriptions = [text(k) for k in DESCRIPTION_KEYWORDS]
    volume, dose, rate = (
        number(facts.get(k)) for k in ("ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastFlowRate")
    )
    contrast = contrast_note(agent, text("ContrastBolusRoute"), volume, descriptions, dose, rate)
    acquisition = Acquisition(
        kvp=kvp if kvp and kvp > 0 else None,
        kernel=kernel,
        slice_thickness_mm=thickness if thickness and thickness > 0 else None,
        manufacturer=text("Manufacturer") or None,
        model=text("ManufacturersModelName") or text("ManufacturerModelName") or None,
        station=station_code(text("StationName")),
        contrast=contrast,
        series_description=text("SeriesDescription") or None,
        age_years=age,
        sex=sex_of(text("PatientSex")),
        acquired=real_day(day),
    )
    notes += dual
    if acquisition.kvp is None and acquisition.kernel is None:
        notes.append(unknown)
    if kernel_is_sharp(kernel):
        notes.append(warning("sharp_kernel", f"The kernel '{kernel}' is sharp: more noise, and edges are exaggerated."))
    return acquisition, notes


def _check_kind(facts: dict[str, Any]) -> list[Finding]:
    """Refuse values that are no HU, or not the attenuation measured; note a dual-energy acquisition."""
    kind = clean_text(facts.get("RescaleType")).upper()
    if kind not in ("", "HU"):
        message = f"The JSON file beside the image states the rescale type {rescale_unit(kind)}, not HU."
        raise ScanRefusedError(refusal("rescale_not_hu", message))
    stated = facts.get("ImageType") or ()
    types = [clean_text(v).upper() for v in (stated if isinstance(stated, list) else str(stated).split("\\"))]
    texts = [clean_text(facts.get(k)) for k in ("SeriesDescription", "ProtocolName")]
    if marks := processed_words(types, texts, types[:1] == ["DERIVED"]):
        message = (
            f"By the JSON file beside it the image is processed ({', '.join(sorted(marks))}): its values are not the "
            "attenuation measured."
        )
        raise ScanRefusedError(refusal("not_plain_ct", message))
    if dual := dual_energy_words(types, texts):
        words = ", ".join(sorted(dual))
        message = f"The image is of a dual-energy acquisition ({words}): the tube voltage may not describe its HU."
        return [warning("dual_energy", message)]
    return []
