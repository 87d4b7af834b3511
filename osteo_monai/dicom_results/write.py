"""Write the DICOM objects of one screening."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydicom import Dataset

from osteo_monai.dicom_results.capture import capture
from osteo_monai.dicom_results.ct_report import ct_report
from osteo_monai.dicom_results.document import document
from osteo_monai.dicom_results.objects import finish, quiet, store
from osteo_monai.dicom_results.options import DicomOptions
from osteo_monai.dicom_results.radiograph_report import radiograph_report
from osteo_monai.dicom_results.report import refusal_report
from osteo_monai.dicom_results.segmentation import segmentation
from osteo_monai.dicom_results.segments import Segments, find_segments
from osteo_monai.dicom_results.source import Source, read_source
from osteo_monai.dicom_results.written import WrittenObject
from osteo_monai.imaging.volume import SourceFrame
from osteo_monai.screening.images import ReportImages, Screening
from osteo_monai.screening.names import DICOM_FILES
from osteo_monai.screening.result import ScreeningResult

__all__ = ["write_dicom_results"]

_SEG, _REGIONS, _REPORT, _CAPTURE, _DOCUMENT = DICOM_FILES


def write_dicom_results(
    screening: Screening, files: Sequence[Path], folder: Path, options: DicomOptions | None = None
) -> list[WrittenObject]:
    """Write the results of a screening as DICOM objects of the study that was screened.

    A measured CT gets a segmentation, a structured report, a secondary capture and an encapsulated PDF; radiographs
    the last three. A refused or unusable study gets the same, with the reasons in place of values, so that the refusal
    is seen where the result is expected.

    Args:
        screening: result and images.
        files: DICOM files of the study, from which identity and references are read now.
        folder: for the objects; made if missing.
        options: defaults if ``None``.

    Returns:
        The objects in the order in which they are to be sent.

    Raises:
        UnusableInputError: the files have no image, or no identity of one study and one patient.
        OSError: a file cannot be written.
    """
    options = options or DicomOptions()
    created = options.created or datetime.now()
    with quiet():
        return [store(ds, folder / name) for name, ds in _objects(screening, files, options, created)]


def _objects(
    screening: Screening, files: Sequence[Path], options: DicomOptions, created: datetime
) -> list[tuple[str, Dataset]]:
    result, images = screening
    volume = images.source if isinstance(images, ReportImages) else None
    segments = find_segments(images, result) if isinstance(images, ReportImages) else None
    if segments is not None and not segments.frames:
        segments = None
    source = read_source(files, _frames(segments, () if volume is None else volume.frames), _wanted(result))
    objects: list[tuple[str, Dataset]] = []
    segmentations: list[Dataset] = []
    if segments is not None:
        segmentations = segmentation(segments, result, source, options.label_map)
        finish(segmentations, source, created)
        objects += list(zip((_SEG, _REGIONS), segmentations, strict=False))
    others = [(_REPORT, _report(result, source, segments, segmentations))]
    if options.secondary_capture:
        others.append((_CAPTURE, capture(result, images, source)))
    others.append((_DOCUMENT, document(result, images, source)))
    for _, ds in others:
        finish([ds], source, created)
    return objects + others


def _frames(segments: Segments | None, frames: Sequence[SourceFrame]) -> Sequence[SourceFrame]:
    """Return the images that results refer to: those of the segments, else the middle one."""
    if segments is not None:
        return segments.frames
    return frames[len(frames) // 2 : len(frames) // 2 + 1]


def _wanted(result: ScreeningResult) -> set[str]:
    """Return the UIDs of the evaluated radiographs."""
    images = () if result.radiograph is None else result.radiograph.radiographs
    return {image.sop_instance_uid for image in images if image.sop_instance_uid}


def _report(
    result: ScreeningResult, source: Source, segments: Segments | None, segmentations: Sequence[Dataset]
) -> Dataset:
    measured = result.verdict in ("accepted", "accepted_with_warnings")
    if measured and result.density is not None:
        return ct_report(result, source, segments, segmentations)
    if measured and result.radiograph is not None:
        return radiograph_report(result, result.radiograph, source)
    return refusal_report(result, source, segmentations)
