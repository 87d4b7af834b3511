"""A made-up CT in any orientation whose bodies are known in patient coordinates, and the screening of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, MineralStandard, Severity, VertebraLevel, View
from osteo_monai.imaging import CTVolume, read_ct
from osteo_monai.imaging.original_grid import axial_frame
from osteo_monai.screening import RadiographImages, ReportImages, Screening, ScreeningResult
from osteo_monai.screening.images import RadiographImage
from osteo_monai.screening.result import (
    AcquisitionFacts,
    CalibrationUsed,
    Density,
    HUStatistics,
    LevelMeasurement,
    LocatedLevel,
    ModelUsed,
    RadiographAcquisition,
    RadiographRisk,
    RiskOpinion,
    SourceStudy,
)

L1, L2 = VertebraLevel.L1, VertebraLevel.L2
CENTRES = {L1: (6.0, 10.0, 20.0), L2: (2.0, 8.0, -14.0)}
"""RAS+ mm; different along each axis, so that a flip or an exchange of axes is seen."""
STUDY_UID, NAME, PATIENT_ID = "1.2.826.0.1.3680043.8.498.77", "Yamada^Tarou=山田^太郎", "P-4711"
CREATED = datetime(2026, 1, 2, 3, 4, 5)


def inside(level: VertebraLevel, part: str, x: Any, y: Any, z: Any) -> NDArray[np.bool_]:
    """Return whether points in RAS+ mm are in the body of a level, an ellipsoid, or in its region."""
    size = np.array((20.0, 15.0, 12.0)) - (0.0 if part == "body" else 5.0)
    cx, cy, cz = CENTRES[level]
    return np.asarray(((x - cx) / size[0]) ** 2 + ((y - cy) / size[1]) ** 2 + ((z - cz) / size[2]) ** 2 <= 1.0)


def hu_at(x: Any, y: Any, z: Any) -> NDArray[np.float64]:
    """Return HU at points in RAS+ mm: air, fat, soft tissue, two bodies."""
    radius = (x / 62.0) ** 2 + (y / 52.0) ** 2 + 0 * z
    hu = np.where(radius < 1, -100.0, -1000.0)
    hu = np.where(radius < 0.75, 50.0, hu)
    for level in CENTRES:
        hu = np.where(inside(level, "body", x, y, z), 300.0, hu)
        hu = np.where(inside(level, "region", x, y, z), 110.0, hu)
    return hu


@dataclass(frozen=True)
class Grid:
    """Directions of columns, rows and slices in LPS+, spacing and size along them."""

    row_direction: tuple[float, ...]
    column_direction: tuple[float, ...]
    sign: int = 1
    spacing: tuple[float, float, float] = (2.0, 2.0, 2.5)
    size: tuple[int, int, int] = (70, 64, 44)

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) from column, row and slice to LPS+ mm, centred on the bodies."""
        u, v = np.array(self.row_direction), np.array(self.column_direction)
        axes = np.stack([u, v, self.sign * np.cross(u, v)], axis=1) * self.spacing
        affine = np.eye(4)
        affine[:3, :3] = axes
        affine[:3, 3] = -axes @ ((np.array(self.size) - 1) / 2)
        return affine

    def slice_at(self, k: int) -> NDArray[np.float64]:
        """Return HU (rows, columns) of a slice."""
        columns, rows, _ = self.size
        c, r = np.meshgrid(np.arange(columns), np.arange(rows))
        x, y, z = (
            self.affine[a, 0] * c + self.affine[a, 1] * r + self.affine[a, 2] * k + self.affine[a, 3] for a in range(3)
        )
        noise = np.random.default_rng(k).normal(0, 6, c.shape)
        return np.asarray(hu_at(-x, -y, z) + noise)


def turned(degrees: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the directions of an axial grid turned about the left-right axis."""
    angle = np.radians(degrees)
    return (1.0, 0.0, 0.0), (0.0, float(np.cos(angle)), float(np.sin(angle)))


GRIDS = {
    "axial": Grid((1, 0, 0), (0, 1, 0)),
    "axial from the head": Grid((1, 0, 0), (0, 1, 0), sign=-1),
    "prone": Grid((-1, 0, 0), (0, -1, 0)),
    "feet first": Grid((-1, 0, 0), (0, 1, 0)),
    "coronal": Grid((1, 0, 0), (0, 0, -1), size=(70, 70, 44)),
    "sagittal": Grid((0, 1, 0), (0, 0, -1), sign=-1, size=(64, 70, 56)),
    "oblique": Grid(*turned(12.0)),
}


def ct_slice(grid: Grid, k: int) -> Dataset:
    """Return one CT image."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"{STUDY_UID}.1.{k + 1}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY_UID, f"{STUDY_UID}.1", f"{STUDY_UID}.9"
    ds.Modality, ds.ImageType, ds.Manufacturer = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "Philips"
    ds.ManufacturerModelName, ds.ConvolutionKernel, ds.KVP, ds.SliceThickness = "Brilliance 64", "B", 120, 2.5
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge = NAME, PATIENT_ID, "M", "069Y"
    ds.PatientBirthDate, ds.StudyDate, ds.StudyTime, ds.StudyID = "19520301", "20210301", "101112", "7"
    ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyDescription = "ACC1", "Doe^Jane", "CT Abdomen"
    ds.BodyPartExamined, ds.PatientPosition, ds.PositionReferenceIndicator = "ABDOMEN", "HFS", ""
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 2, k + 1, 1
    ds.ImageOrientationPatient = [*grid.row_direction, *grid.column_direction]
    ds.ImagePositionPatient = [float(f"{value:.6f}") for value in grid.affine[:3, 3] + grid.affine[:3, 2] * k]
    ds.PixelSpacing = [grid.spacing[1], grid.spacing[0]]
    ds.Columns, ds.Rows, ds.SamplesPerPixel = grid.size[0], grid.size[1], 1
    ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "MONOCHROME2", 16, 16, 15
    ds.PixelRepresentation, ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 1, 0, 1, "HU"
    ds.PixelData = grid.slice_at(k).round().astype("<i2").tobytes()
    return ds


@dataclass(frozen=True)
class Case:
    """A study on disk with its screening."""

    folder: Path
    screening: Screening

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


def masks(volume: CTVolume) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the bodies (labels) and regions on the canonical grid of a volume."""
    index = np.meshgrid(*(np.arange(n) for n in volume.hu.shape), indexing="ij")
    x, y, z = (sum(volume.affine[a, b] * index[b] for b in range(3)) + volume.affine[a, 3] for a in range(3))
    bodies = np.zeros(volume.hu.shape, np.uint8)
    regions = np.zeros(volume.hu.shape, np.bool_)
    for level in CENTRES:
        bodies[inside(level, "body", x, y, z)] = level.label
        regions |= inside(level, "region", x, y, z)
    return bodies, regions


def density(value: float, half: float = 16.0) -> Density:
    return Density(mg_cm3=value, interval_low=value - half, interval_high=value + half, standard=MineralStandard.K2HPO4)


def measured(level: VertebraLevel, volume: CTVolume, value: float) -> LevelMeasurement:
    """Return the measurement of a level whose centre slice is that of its body."""
    k = round(float((np.linalg.inv(volume.affine) @ [*CENTRES[level], 1.0])[2]))
    frame = axial_frame(volume, k)
    return LevelMeasurement(
        level=level,
        certainty=0.97,
        slice_index=k,
        instance_number=None,
        sop_instance_uid=None if frame is None else frame.sop_instance_uid,
        frame_number=(frame.frame_number or None) if frame is not None else None,
        centre_mm=CENTRES[level],
        body_volume_cm3=15.1,
        height_mm=24.0,
        region_name="central-trabecular 1.0",
        region_voxels=400,
        region_area_mm2=471.2,
        region_volume_cm3=4.4,
        hu=HUStatistics(mean=110.4, median=111.0, sd=17.0, p10=89.0, p90=132.0),
        density=density(value),
    )


def ct_result(volume: CTVolume, **changes: Any) -> ScreeningResult:
    """Return the result of a measured CT."""
    located = tuple(
        LocatedLevel(level=level, certainty=0.97, runner_up=None, centre_mm=CENTRES[level]) for level in CENTRES
    )
    scan = volume.acquisition
    fields: dict[str, Any] = {
        "study": "study",
        "verdict": "accepted_with_warnings",
        "findings": (Finding(code="thick", severity=Severity.WARNING, message="Slices are thick: 2.5 mm."),),
        "levels_found": located,
        "levels": (measured(L1, volume, 79.97), measured(L2, volume, 74.0)),
        "density": density(76.985),
        "status": BoneStatus.OSTEOPOROSIS,
        "thresholds": DensityThresholds(),
        "calibration": CalibrationUsed(
            method="physics", slope=0.72, intercept=0.0, standard=MineralStandard.K2HPO4, relative_sd=0.12,
            note="Estimate.",
        ),
        "acquisition": AcquisitionFacts(
            kvp=120.0, kernel="B", slice_thickness_mm=2.5, manufacturer="Philips", model="Brilliance", contrast=None,
            series_description=None, age_years=69.0, sex=scan.sex, shape=volume.original_shape,
            spacing_mm=volume.spacing,
        ),
        "source": SourceStudy(
            study_instance_uid=scan.study_instance_uid, series_instance_uid=scan.series_instance_uid,
            frame_of_reference_uid=scan.frame_of_reference_uid, study_date=scan.acquired,
        ),
        "models": (ModelUsed(bundle="vertebral_body_segmentation_ct", version="0.2.0", weights_sha256="ab" * 32),),
    }  # fmt: skip
    return ScreeningResult(**fields | changes)


MakeCase = Callable[..., Case]


@pytest.fixture
def make_case(tmp_path: Path) -> MakeCase:
    """Write a CT study and return it with its screening.

    ``change(dataset, k)`` alters slice k before it is written; further arguments are fields of the result.
    """

    def make(
        grid: Grid = GRIDS["axial"],
        change: Callable[[Dataset, int], object] | None = None,
        convert: Callable[[Sequence[Dataset]], Dataset] | None = None,
        **fields: Any,
    ) -> Case:
        folder = tmp_path / "study"
        folder.mkdir()
        slices = [ct_slice(grid, k) for k in range(grid.size[2])]
        for k, ds in enumerate(slices):
            if change is not None:
                change(ds, k)
        for k, ds in enumerate(slices if convert is None else [convert(slices)]):
            with pydicom.config.disable_value_validation():
                ds.save_as(folder / f"{(k * 5) % len(slices):03d}.dcm", enforce_file_format=True)
        volume = read_ct(folder)
        bodies, regions = masks(volume)
        result = ct_result(volume, **fields)
        images = ReportImages(volume.hu, volume.affine, bodies, regions, result.levels_found, source=volume)
        return Case(folder, Screening(result, images))

    return make


@pytest.fixture
def radiograph_case(tmp_path: Path) -> Case:
    """A radiograph study of two views in one series, with a risk."""
    folder = tmp_path / "films"
    folder.mkdir()
    rng = np.random.default_rng(3)
    acquisitions, images = [], []
    for number, view in enumerate((View.LUMBAR_AP, View.LUMBAR_LATERAL), start=1):
        ds = ct_slice(GRIDS["axial"], 0)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "FrameOfReferenceUID"):
            del ds[keyword]
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DigitalXRayImageStorageForPresentation
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"{STUDY_UID}.3.{number}")
        ds.SeriesInstanceUID, ds.Modality, ds.BodyPartExamined = f"{STUDY_UID}.3", "DX", "LSPINE"
        ds.InstanceNumber = number
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        acquisitions.append(
            RadiographAcquisition(
                view=view, source=f"{number}.dcm", source_format="DICOM", sop_instance_uid=ds.SOPInstanceUID,
                series_instance_uid=ds.SeriesInstanceUID, rows=90, columns=60,
            )
        )  # fmt: skip
        pixels = rng.random((90, 60)).astype(np.float32)
        images.append(RadiographImage(view, pixels, heat=np.clip(pixels - 0.5, 0, 1)))
    risk = RiskOpinion(
        name="fused", score=0.71, probability=0.62, low=0.51, high=0.72, cutoff=0.62, cutoff_rule="sensitivity_90",
        raised=True, prevalence=0.3, people=400, with_osteoporosis=120, virtual=True,
    )  # fmt: skip
    views = tuple(RiskOpinion(name=a.view.value, score=0.7) for a in acquisitions)
    result = ScreeningResult(
        study="films",
        modality="radiograph",
        verdict="accepted",
        findings=(),
        radiograph=RadiographRisk(radiographs=tuple(acquisitions), risk=risk, views=views, trained_on="virtual people"),
        source=SourceStudy(
            study_instance_uid=STUDY_UID, series_instance_uid=f"{STUDY_UID}.3", study_date=date(2021, 3, 1)
        ),
        models=(ModelUsed(bundle="osteoporosis_lumbar_ap", version="0.1.0", weights_sha256="cd" * 32),),
    )
    return Case(folder, Screening(result, RadiographImages(tuple(images))))


def refused(result: ScreeningResult, message: str = "L1 is not in the field of view.") -> ScreeningResult:
    """Return the result of a study that was refused, with a density that must not be shown."""
    finding = Finding(code="levels_not_covered", severity=Severity.REFUSAL, message=message)
    return result.model_copy(update={"verdict": "refused", "findings": (finding,)})
