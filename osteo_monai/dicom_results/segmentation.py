"""Segmentation objects: vertebral bodies and trabecular regions on the geometry of the source images."""

import copy
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.color import CIELabColor
from pydicom import Dataset
from pydicom.sr.codedict import codes

from osteo_monai.dicom_results.codes import VERTEBRA
from osteo_monai.dicom_results.objects import PRODUCT, SEG, common
from osteo_monai.dicom_results.segments import COLOURS, Part, Segment, Segments
from osteo_monai.dicom_results.source import Source
from osteo_monai.dicom_results.uids import derived_uid
from osteo_monai.dicom_results.version import software_version
from osteo_monai.screening.result import ModelUsed, ScreeningResult

__all__ = ["segmentation", "tracking"]


def tracking(source: Source, segment: Segment) -> tuple[str, str]:
    """Return identifier and UID by which a segment is the same one in all objects of a study."""
    return segment.label, derived_uid("tracking", source.study_uid, source.series_uid, segment.label)


def segmentation(segments: Segments, result: ScreeningResult, source: Source, label_map: bool = False) -> list[Dataset]:
    """Return the segmentation objects: one BINARY, or one LABELMAP each of bodies and regions, which overlap.

    Args:
        segments: at least one, of a DICOM source.
        result: for the algorithms.
        source: with the images of the slices of ``segments``, or the multi-frame image.
        label_map: write LABELMAP.
    """
    parts: list[tuple[Part, ...]] = [("body",), ("region",)] if label_map else [("body", "region")]
    chosen = [[n for n, s in enumerate(segments.segments) if s.part in part] for part in parts]
    return [
        hd.seg.Segmentation(
            pixel_array=np.stack([segments.masks[n] for n in numbers], axis=-1).astype(np.uint8),
            segmentation_type="LABELMAP" if label_map else "BINARY",
            segment_descriptions=[
                _description(number, segments.segments[n], result, source) for number, n in enumerate(numbers, start=1)
            ],
            content_label="VERTEBRAE",
            content_description=SEG.series_description,
            content_creator_name=f"{PRODUCT}^AI",
            **_geometry(segments, source),
            **common(SEG, instance),
        )
        for instance, numbers in enumerate(filter(None, chosen), start=1)
    ]


def _geometry(segments: Segments, source: Source) -> dict[str, Any]:
    """Return the source images of the slices, and the positions of those in a multi-frame image."""
    affine = segments.affine
    headers = []
    for image in source.images:
        header = copy.copy(image.header)
        spacing = f"{float(np.linalg.norm(affine[:3, 2])):.10g}"
        header.SpacingBetweenSlices = spacing
        if "SliceThickness" not in header:
            header.SliceThickness = spacing
        headers.append(header)
    if not any(frame.frame_number for frame in segments.frames):
        return {"source_images": headers}
    places = [affine[:3, 3] + affine[:3, 2] * k for k in range(segments.first, segments.first + segments.count)]
    lps = [place * (-1.0, -1.0, 1.0) for place in places]
    return {
        "source_images": headers,
        "plane_positions": [hd.PlanePositionSequence("PATIENT", place.tolist()) for place in lps],
    }


def _description(number: int, segment: Segment, result: ScreeningResult, source: Source) -> hd.seg.SegmentDescription:
    identifier, uid = tracking(source, segment)
    red, green, blue = COLOURS[segment.part]
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=VERTEBRA[segment.level],
        algorithm_type="AUTOMATIC",
        algorithm_identification=_algorithm(segment, result),
        tracking_id=identifier,
        tracking_uid=uid,
        display_color=CIELabColor.from_rgb(red, green, blue),
    )


def _algorithm(segment: Segment, result: ScreeningResult) -> hd.AlgorithmIdentificationSequence:
    model = next((m for m in result.models if "segmentation" in m.bundle), None)
    rule = next((level.region_name for level in result.levels if level.level is segment.level), "")
    if model is None:
        model = ModelUsed(bundle=PRODUCT, version=software_version(), weights_sha256="")
    parameters = {"weights_sha256": model.weights_sha256, "software": f"{PRODUCT} {software_version()}"}
    if segment.part == "region" and rule:
        parameters["region"] = rule
    return hd.AlgorithmIdentificationSequence(
        name=model.bundle, family=codes.DCM.ArtificialIntelligence, version=model.version, parameters=parameters
    )
