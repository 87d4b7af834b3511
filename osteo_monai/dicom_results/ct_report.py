"""Structured report of a measured CT."""

from collections.abc import Sequence

import contourpy
import numpy as np
from highdicom import sr
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from osteo_monai.dicom_results.codes import (
    CALIBRATION,
    CLASS,
    CORRECTED,
    DENSITY,
    DENSITY_UNIT,
    OPINION,
    STATUS,
    VERTEBRA,
)
from osteo_monai.dicom_results.report import (
    Group,
    add_derived,
    add_evaluations,
    content,
    report,
    tracking_of,
    with_interval,
)
from osteo_monai.dicom_results.segments import Segment, Segments
from osteo_monai.dicom_results.source import Source
from osteo_monai.domain import DensityThresholds
from osteo_monai.reporting.wording import density_words
from osteo_monai.screening.result import CalibrationUsed, Density, LevelMeasurement, ScreeningResult

__all__ = ["ct_report"]

_HU_STATISTICS = (
    ("mean", codes.SCT.Mean),
    ("median", codes.SCT.Median),
    ("sd", codes.SCT.StandardDeviation),
    ("p10", codes.SCT.TenthPercentile),
    ("p90", codes.SCT.NinetiethPercentile),
)
_CM3 = codes.UCUM.CubicCentimeter


def ct_report(
    result: ScreeningResult, source: Source, segments: Segments | None, segmentations: Sequence[Dataset]
) -> Dataset:
    """Return the report of a measured CT.

    Each level has a group of the segmented region with HU and density, one of the contour on the centre slice, which
    repeats the density, because some viewers list only groups with a contour (both have one tracking UID), and one of
    the body. The mean of the levels is a derived measurement, the class a qualitative evaluation.
    """
    groups = [g for level in result.levels for g in _level_groups(level, result, source, segments, segmentations)]
    root = content(groups, result, _parameters(result))
    if result.density is not None:
        name = DENSITY[result.density.standard]
        measurements = _density(result.density, name, result, codes.SCT.Mean)
        if result.contrast is not None:
            corrected = result.contrast.density
            measurements += _density(corrected, CORRECTED[corrected.standard], result, codes.SCT.Mean)
        add_derived(root, measurements)
    classes = [] if result.status is None else [(CLASS, STATUS[result.status])]
    classes += [
        (OPINION[opinion.name], STATUS[opinion.status])
        for opinion in result.opinions
        if opinion.status is not None and opinion.name != "hu_line"
    ]
    add_evaluations(root, result, classes, _notes(result))
    return report(root, source, segmentations)


def _parameters(result: ScreeningResult) -> list[str]:
    used = result.calibration
    texts = [] if used is None else [_line(used)]
    texts += [f"trabecular region by rule {name}" for name in dict.fromkeys(m.region_name for m in result.levels)]
    return texts


def _line(used: CalibrationUsed) -> str:
    checked = "" if used.verified else ", not verified"
    return (
        f"calibration {used.method}{checked}: density = {used.slope:.5g} * HU {used.intercept:+.5g} mg/cm3 "
        f"{used.standard}, from the median HU of the region"
    )


def _notes(result: ScreeningResult) -> list[str]:
    notes = []
    if result.calibration is not None and result.calibration.note:
        notes.append(f"Calibration: {result.calibration.note}")
    if (cuts := result.thresholds) is not None and result.status is not None:
        notes.append(
            f"Classes: osteoporosis below {cuts.osteoporosis_below:g}, normal above {cuts.normal_above:g} mg/cm3 "
            f"{cuts.standard} ({cuts.source})."
        )
    if result.contrast is not None:
        used = "corrected" if result.contrast.classified else "raw"
        notes.append(f"The class is that of the {used} density. Correction: {result.contrast.source}.")
    return notes


def _density(
    value: Density, name: sr.CodedConcept, result: ScreeningResult, derivation: Code | None = None
) -> list[sr.Measurement]:
    return with_interval(
        name,
        float(density_words(value.mg_cm3, result.thresholds or DensityThresholds())),
        (value.interval_low, value.interval_high),
        DENSITY_UNIT,
        decimals=1,
        derivation=derivation,
        method=None if result.calibration is None else CALIBRATION[result.calibration.method],
    )


def _level_groups(
    level: LevelMeasurement,
    result: ScreeningResult,
    source: Source,
    segments: Segments | None,
    segmentations: Sequence[Dataset],
) -> list[Group]:
    density = _density(level.density, DENSITY[level.density.standard], result)
    values = [
        sr.Measurement(
            name=codes.DCM.AttenuationCoefficient,
            value=round(float(getattr(level.hu, name)), 1),
            unit=codes.UCUM.HounsfieldUnit,
            derivation=derivation,
        )
        for name, derivation in _HU_STATISTICS
    ]
    volume = _size(codes.SCT.Volume, level.region_volume_cm3, _CM3, 3)
    region = _referenced(Segment(level.level, "region"), source, segmentations)
    body = _referenced(Segment(level.level, "body"), source, segmentations)
    common = {
        "tracking_identifier": tracking_of(source, f"{level.level} region"),
        "finding_category": codes.SCT.AnatomicalStructure,
        "finding_type": VERTEBRA[level.level],
        "finding_sites": [sr.FindingSite(VERTEBRA[level.level])],
    }
    if region is None:
        return [sr.MeasurementsAndQualitativeEvaluations(measurements=[*density, *values, volume], **common)]
    groups: list[Group] = [
        sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=region, measurements=[*density, *values, volume], **common
        )
    ]
    if segments is not None and (planar := _planar(level, segments, source)) is not None:
        contour, area_mm2 = planar
        area = _size(codes.SCT.Area, area_mm2, codes.UCUM.SquareMillimeter, 1)
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                referenced_region=contour, measurements=[*density, area], **common
            )
        )
    if body is not None:
        sizes = [
            _size(codes.SCT.Volume, level.body_volume_cm3, _CM3, 2),
            _size(codes.DCM.Height, level.height_mm, codes.UCUM.Millimeter, 1),
        ]
        common["tracking_identifier"] = tracking_of(source, f"{level.level} body")
        groups.append(
            sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=body, measurements=sizes, **common)
        )
    return groups


def _size(name: Code, value: float, unit: Code, decimals: int) -> sr.Measurement:
    return sr.Measurement(name=name, value=round(value, decimals), unit=unit)


def _referenced(segment: Segment, source: Source, segmentations: Sequence[Dataset]) -> sr.ReferencedSegment | None:
    for ds in segmentations:
        for item in ds.SegmentSequence:
            if item.SegmentLabel == segment.label:
                return sr.ReferencedSegment(
                    sop_class_uid=str(ds.SOPClassUID),
                    sop_instance_uid=str(ds.SOPInstanceUID),
                    segment_number=int(item.SegmentNumber),
                    source_series=sr.SourceSeriesForSegmentation(source.series_uid),
                )
    return None


def _planar(level: LevelMeasurement, segments: Segments, source: Source) -> tuple[sr.ImageRegion, float] | None:
    """Return the largest contour of the region on one image, and the area of the region there in mm2.

    The image is that of the centre slice, or, if the scan was resampled or not axial, the one with the largest area.
    """
    mask = segments.mask(level.level, "region")
    if mask is None:
        return None
    wanted = (level.sop_instance_uid, level.frame_number or 0)
    centre = [n for n, f in enumerate(segments.frames) if (f.sop_instance_uid, f.frame_number) == wanted]
    position = centre[0] if centre and mask[centre[0]].any() else int(mask.sum(axis=(1, 2)).argmax())
    frame = segments.frames[position]
    image = source.find(frame.sop_instance_uid)
    if image is None:
        return None
    region = sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.POLYLINE,
        graphic_data=largest_contour(mask[position]),
        source_image=sr.SourceImageForRegion(
            str(image.header.SOPClassUID),
            image.sop_instance_uid,
            [frame.frame_number] if frame.frame_number else None,
        ),
    )
    return region, float(mask[position].sum()) * segments.pixel_mm2


def largest_contour(plane: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the longest closed contour of a mask (rows, columns) as (n, 2) of column and row.

    Image coordinates of DICOM: the upper left corner of the upper left pixel is (0, 0), its centre (0.5, 0.5).
    """
    padded = np.pad(plane.astype(np.float32), 1)
    curves = [np.asarray(c, dtype=np.float64) for c in contourpy.contour_generator(z=padded).lines(0.5)]
    points = max(curves, key=len) - 0.5
    points[-1] = points[0]
    return np.clip(points, 0.0, (plane.shape[1], plane.shape[0]))
