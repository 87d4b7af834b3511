"""Files of virtual scans: DICOM CT series or NIfTI, radiographs as DICOM or PNG, and their truth."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from osteo_monai.domain import ContrastPhase, DensityThresholds, View
from osteo_monai.imaging.radiograph import VIRTUAL_MANUFACTURER, VIRTUAL_SOURCE
from osteo_monai.utils.files import write_json, writing
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.ct import KERNEL_NAMES, MODEL, CTProtocol, VirtualCT
from osteo_monai.virtual.dxa import ArealDensity
from osteo_monai.virtual.person import STANDARD
from osteo_monai.virtual.radiograph import VirtualRadiograph

_INTERCEPT = -1024


def write_dicom_series(ct: VirtualCT, folder: Path, *, subject_id: str) -> list[Path]:
    """Write a scan as a DICOM CT series, one file a slice, head first supine, and return the files.

    The unique identifiers follow from ``subject_id``, the protocol, the grid and the seed of the noise, so that equal
    scans have equal files and different ones different identifiers.
    """
    person, protocol = ct.anatomy.person, ct.protocol
    grid = (ct.hu.shape, np.round(ct.affine, 3).tolist())
    error = (protocol.gain, protocol.offset_hu)
    key = f"osteo_monai/{subject_id}/{person.seed}/{protocol}/{grid}/{ct.seed}"
    key += f"/{error}" if error != (1.0, 0.0) else ""
    differs = (protocol.beam, protocol.hardening, ct.palette.tissues)
    key += f"/{differs}" if differs != (1.0, 1.0, None) else ""
    study, series, frame = (generate_uid(entropy_srcs=[key, part]) for part in ("study", "series", "frame"))
    nx, ny, nz = ct.hu.shape
    dx, dy, _ = (float(ct.affine[i, i]) for i in range(3))
    files = []
    for k in range(nz):
        instance = generate_uid(entropy_srcs=[key, f"slice {k}"])
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = instance
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = Dataset()
        ds.file_meta = meta
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "HELIX"]
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, instance
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20210301"
        ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "090000"
        ds.AccessionNumber, ds.ReferringPhysicianName = "", ""
        ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", VIRTUAL_MANUFACTURER, MODEL
        ds.StudyDescription = "Virtual patient, no real person"
        ds.SeriesDescription = f"Chest {protocol.slice_thickness:g} mm {protocol.kernel}"
        ds.PatientName, ds.PatientID = "VIRTUAL", subject_id
        ds.PatientBirthDate, ds.PatientSex = "", str(person.sex)
        ds.PatientAge = f"{int(person.age_years):03d}Y"
        ds.PatientSize, ds.PatientWeight = round(person.height_cm / 100, 3), round(person.weight_kg, 1)
        ds.BodyPartExamined, ds.ScanOptions, ds.PatientPosition = "CHEST", "HELIX", "HFS"
        if protocol.phase is not ContrastPhase.NATIVE:
            ds.ContrastBolusAgent, ds.ContrastBolusRoute = "IODINE", "IV"
        ds.SliceThickness, ds.KVP = protocol.slice_thickness, protocol.kvp
        ds.ConvolutionKernel, ds.GantryDetectorTilt = KERNEL_NAMES[protocol.kernel], 0.0
        ds.ReconstructionDiameter = round(nx * dx, 3)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 2, 1
        # files run from the head down, as scanners number them; patient coordinates grow to the left and back
        ds.InstanceNumber = nz - k
        ds.PositionReferenceIndicator = ""
        corner = ct.affine[:3, 3] + ct.affine[:3, :3] @ np.array([nx - 1, ny - 1, k])
        ds.ImagePositionPatient = [round(-float(corner[0]), 4), round(-float(corner[1]), 4), round(float(corner[2]), 4)]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.SliceLocation = round(float(corner[2]), 4)
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns, ds.PixelSpacing = ny, nx, [round(dy, 6), round(dx, 6)]
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.WindowCenter, ds.WindowWidth = 40, 400
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = _INTERCEPT, 1, "HU"
        stored = np.clip(ct.hu[::-1, ::-1, k].T - _INTERCEPT, 0, 4095).astype("<u2")
        ds.PixelData = np.ascontiguousarray(stored).tobytes()
        path = folder / f"IM{nz - k:04d}.dcm"
        with writing(path) as temporary:
            ds.save_as(temporary, enforce_file_format=True)
        files.append(path)
    return files


def write_nifti(ct: VirtualCT, image: Path, labels: Path) -> None:
    """Write a scan and its label map as NIfTI."""
    for path, array in ((image, ct.hu.astype(np.int16)), (labels, ct.labels)):
        nifti = nib.Nifti1Image(array, ct.affine)
        nifti.set_sform(ct.affine, 1)
        nifti.set_qform(ct.affine, 1)
        nifti.header.set_xyzt_units("mm")
        with writing(path) as temporary:
            nib.save(nifti, temporary)


def _person_truth(anatomy: Anatomy, areal: ArealDensity | None) -> dict[str, Any]:
    person = anatomy.person
    return {
        "seed": person.seed,
        "sex": str(person.sex),
        "age_years": person.age_years,
        "height_cm": round(person.height_cm, 1),
        "weight_kg": round(person.weight_kg, 1),
        "variants": sorted(person.variants),
        "density_standard": str(STANDARD),
        "mean_density_mg_cm3": person.mean_density,
        "bone_status": str(DensityThresholds().status(person.mean_density, STANDARD)),
        "areal_density_g_cm2": None if areal is None else round(areal.g_cm2, 4),
        "t_score": None if areal is None else round(areal.t_score, 2),
    }


def _scanner_truth(protocol: CTProtocol) -> dict[str, float]:
    """Return the scanner's effective energy and beam hardening, if it differs from the model."""
    own = {"beam": protocol.beam, "hardening": protocol.hardening}
    return {} if set(own.values()) == {1.0} else own


def truth(ct: VirtualCT, areal: ArealDensity | None) -> dict[str, Any]:
    """Return the truth of a virtual person in a scan, for JSON; ``areal`` is ``None`` without DXA."""
    complete = set(ct.complete_levels)
    return {
        **_person_truth(ct.anatomy, areal),
        "levels": {
            str(v.level): {
                "centre_mm": [round(float(c), 3) for c in v.centre],
                "density_mg_cm3": v.density,
                "hu": round(ct.true_hu(v.level), 2),
                "height_mm": round(v.height, 2),
                "height_loss": v.fracture,
                "complete": v.level in complete,
            }
            for v in ct.anatomy.vertebrae
        },
        "protocol": {
            "kvp": ct.protocol.kvp,
            "kernel": ct.protocol.kernel,
            "slice_thickness_mm": ct.protocol.slice_thickness,
            "slice_step_mm": ct.protocol.slice_step,
            "pixel_mm": ct.protocol.pixel,
            "noise_hu": ct.protocol.noise_hu,
            "phase": str(ct.protocol.phase),
            "gain": ct.protocol.gain,
            "offset_hu": ct.protocol.offset_hu,
            **_scanner_truth(ct.protocol),
        },
    }


_VIEWS: dict[View, tuple[str, list[str], str, str]] = {
    View.CHEST_FRONTAL: ("PA", ["L", "F"], "CHEST", "Chest PA"),
    View.LUMBAR_AP: ("AP", ["L", "F"], "LSPINE", "Lumbar spine AP"),
    View.LUMBAR_LATERAL: ("LL", ["P", "F"], "LSPINE", "Lumbar spine lateral"),
}
"""ViewPosition, PatientOrientation, BodyPartExamined and SeriesDescription of each view."""
_CR_RANGE = (0.1, 0.9)
"""Part of the grey levels that a CR image uses; its window states it."""


def write_radiograph_dicom(radiograph: VirtualRadiograph, path: Path, *, subject_id: str, centre: str = "") -> None:
    """Write a radiograph as DICOM: DX, or CR whose window must be applied; without name and birth date."""
    if radiograph.anatomy is None:
        raise ValueError("radiograph must be of a virtual person, got one of a CT volume")
    person, protocol = radiograph.anatomy.person, radiograph.protocol
    computed = protocol.modality == "CR"
    position, orientation, part, description = _VIEWS[protocol.view]
    key = f"osteo_monai/{subject_id}/{person.seed}/{protocol}/{radiograph.seed}"
    most = 2**protocol.bits - 1
    picture = radiograph.pixels
    low, high = 0, most
    if computed:
        picture = _CR_RANGE[0] + (_CR_RANGE[1] - _CR_RANGE[0]) * picture
        low, high = round(_CR_RANGE[0] * most), round(_CR_RANGE[1] * most)
    stored = np.clip(np.rint(picture * most), 0, most)
    inverse = protocol.photometric == "MONOCHROME1"
    if inverse:
        stored, low, high = most - stored, most - high, most - low
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""] if computed else ["DERIVED", "PRIMARY", ""]
    ds.SOPClassUID = ComputedRadiographyImageStorage if computed else DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[key, "image"])
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[f"osteo_monai/{subject_id}/{person.seed}/radiographs"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[key, "series"])
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20210301"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "090000"
    ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = "", "", "1"
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = protocol.modality, VIRTUAL_MANUFACTURER, protocol.device
    ds.InstitutionName = centre
    ds.StudyDescription, ds.SeriesDescription = "Virtual patient, no real person", description
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "VIRTUAL", subject_id, "", str(person.sex)
    ds.PatientAge = f"{int(person.age_years):03d}Y"
    ds.PatientSize, ds.PatientWeight = round(person.height_cm / 100, 3), round(person.weight_kg, 1)
    ds.BodyPartExamined, ds.ViewPosition, ds.PatientOrientation = part, position, orientation
    ds.ImageLaterality, ds.Laterality = "U", ""
    ds.KVP, ds.DistanceSourceToDetector = round(protocol.kvp, 1), protocol.source_distance
    ds.ImagerPixelSpacing = [round(radiograph.spacing[0], 5), round(radiograph.spacing[1], 5)]
    ds.BurnedInAnnotation = "YES" if protocol.marker else "NO"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, protocol.photometric
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, protocol.bits, protocol.bits - 1, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.WindowCenter, ds.WindowWidth = 0.5 * (low + high + 1), high - low + 1
    if not computed:
        ds.PresentationIntentType, ds.PixelIntensityRelationship = "FOR PRESENTATION", "LOG"
        ds.PixelIntensityRelationshipSign = -1 if inverse else 1
        ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
        ds.LossyImageCompression = "00"
    ds.PixelData = np.ascontiguousarray(stored.astype("<u2")).tobytes()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    with writing(path) as temporary:
        ds.save_as(temporary, enforce_file_format=True)


def write_radiograph_png(radiograph: VirtualRadiograph, path: Path) -> None:
    """Write a radiograph as a 16-bit PNG, bone bright, in the steps of the protocol's bits."""
    most = 2**radiograph.protocol.bits - 1
    levels = np.rint(radiograph.stored.astype(np.float64) * (65535.0 / most)).astype(np.uint16)
    entries = PngInfo()
    entries.add_text("Source", VIRTUAL_SOURCE)
    with writing(path) as temporary:
        Image.fromarray(levels).save(temporary, pnginfo=entries)


def write_bone_mask(radiograph: VirtualRadiograph, path: Path) -> None:
    """Write the bone mask as an 8-bit PNG, 255 in bone and 0 elsewhere."""
    with writing(path) as temporary:
        Image.fromarray(radiograph.bone_mask.astype(np.uint8) * 255).save(temporary)


def radiograph_truth(radiograph: VirtualRadiograph, areal: ArealDensity | None) -> dict[str, Any]:
    """Return the truth of a virtual person in a radiograph, for JSON."""
    if radiograph.anatomy is None:
        raise ValueError("radiograph must be of a virtual person, got one of a CT volume")
    protocol = radiograph.protocol
    bodies = {str(v.level): v for v in radiograph.anatomy.vertebrae}
    return {
        **_person_truth(radiograph.anatomy, areal),
        "osteoporosis": None if areal is None else areal.osteoporosis,
        "levels": {
            str(level): {
                "row_column": list(at),
                "density_mg_cm3": bodies[level].density,
                "height_loss": bodies[level].fracture,
            }
            for level, at in radiograph.landmarks.items()
        },
        "protocol": {**asdict(protocol), "view": str(protocol.view)},
    }


def write_truth(ct: VirtualCT, path: Path, areal: ArealDensity | None) -> dict[str, Any]:
    """Write ``truth`` as JSON and return it."""
    content = truth(ct, areal)
    write_json(path, content, indent=1)
    return content
