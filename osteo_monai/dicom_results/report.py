"""Structured reports: TID 1500 as Comprehensive 3D SR, of CT, radiographs and refused studies."""

from collections.abc import Iterable, Sequence
from typing import Any

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from osteo_monai.dicom_results.codes import (
    CHEST,
    CODING_SCHEMES,
    ESTIMATE,
    LUMBAR_SPINE,
    MEASUREMENT,
    NOTE,
    REASON,
    WARNING,
    private,
)
from osteo_monai.dicom_results.content import FOLDER_FINDINGS
from osteo_monai.dicom_results.objects import PRODUCT, REPORT, common
from osteo_monai.dicom_results.source import Source
from osteo_monai.dicom_results.uids import derived_uid
from osteo_monai.dicom_results.version import software_version
from osteo_monai.domain import Severity
from osteo_monai.screening.result import ScreeningResult

__all__ = [
    "Group",
    "add_derived",
    "add_evaluations",
    "content",
    "image_reference",
    "refusal_report",
    "report",
    "tracking_of",
    "with_interval",
]

Group = (
    sr.MeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.VolumetricROIMeasurementsAndQualitativeEvaluations
)


def content(groups: Sequence[Group], result: ScreeningResult, parameters: Iterable[str] = ()) -> Dataset:
    """Return the root of a report: the identity of the software and the measurement groups, at least one."""
    root: Dataset = sr.MeasurementReport(
        observation_context=_observer(),
        procedure_reported=_procedure(result),
        imaging_measurements=list(groups),
        title=codes.DCM.ImagingMeasurementReport,
    )[0]
    # before the groups of all measurements (TID 1500, row 6), since one software made all of them
    measurements = root.ContentSequence[-1]
    measurements.ContentSequence = sr.ContentSequence([*algorithm(result, parameters), *measurements.ContentSequence])
    return root


def add_derived(root: Dataset, measurements: Sequence[sr.Measurement]) -> None:
    """Add measurements that follow from those of several regions (TID 1420).

    They do not refer to the latter by content item: the readers of highdicom reject such references.
    """
    container = sr.ContainerContentItem(
        name=codes.DCM.DerivedImagingMeasurements, relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = sr.ContentSequence([item for measured in measurements for item in measured])
    root.ContentSequence.append(container)


def add_evaluations(
    root: Dataset,
    result: ScreeningResult,
    evaluations: Iterable[tuple[sr.CodedConcept, sr.CodedConcept | Code]],
    notes: Iterable[str] = (),
) -> None:
    """Add coded evaluations, findings, ``notes`` and the notice on research use."""
    names = {Severity.REFUSAL: REASON, Severity.WARNING: WARNING, Severity.INFO: NOTE}
    texts = [(NOTE, note) for note in notes]
    texts += [(names[f.severity], f.message) for f in result.findings if f.code not in FOLDER_FINDINGS]
    texts.append((codes.DCM.Comment, result.research_use_notice))
    contains = sr.RelationshipTypeValues.CONTAINS
    container = sr.ContainerContentItem(
        name=sr.CodedConcept("C0034375", "UMLS", "Qualitative Evaluations"), relationship_type=contains
    )
    container.ContentSequence = sr.ContentSequence(
        [
            *(sr.CodeContentItem(name=name, value=value, relationship_type=contains) for name, value in evaluations),
            *(sr.TextContentItem(name=name, value=text, relationship_type=contains) for name, text in texts),
        ]
    )
    root.ContentSequence.append(container)


def report(root: Dataset, source: Source, evidence: Sequence[Dataset] = ()) -> Dataset:
    """Return the structured report.

    Args:
        root: of the content.
        source: with the images that results refer to.
        evidence: further objects that the content refers to, such as a segmentation.
    """
    return sr.Comprehensive3DSR(
        evidence=[*(image.header for image in source.images), *evidence],
        content=root,
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=CODING_SCHEMES,
        **common(REPORT),
    )


def _observer() -> sr.ObservationContext:
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", software_version()),
            name=PRODUCT,
            manufacturer_name=PRODUCT,
            model_name=PRODUCT,
            serial_number=software_version(),
        ),
    )
    return sr.ObservationContext(observer_device_context=device)


def _procedure(result: ScreeningResult) -> Code:
    code: Code = codes.LN.CTUnspecifiedBodyRegion if result.modality == "ct" else codes.SCT.ImagingProcedure
    return code


def algorithm(result: ScreeningResult, parameters: Iterable[str] = ()) -> sr.AlgorithmIdentification:
    """Return the identity of the software, with the weights of each model that was run."""
    models = [f"{m.bundle} {m.version}, weights SHA-256 {m.weights_sha256}" for m in result.models]
    return sr.AlgorithmIdentification(
        name=PRODUCT,
        version=software_version(),
        manufacturer="osteo_monai contributors",
        family=codes.DCM.ArtificialIntelligence,
        parameters=[*parameters, *models],
    )


def tracking_of(source: Source, name: str) -> sr.TrackingIdentifier:
    """Return identifier and UID of what is measured, equal in all reports of a study and series."""
    return sr.TrackingIdentifier(derived_uid("tracking", source.study_uid, source.series_uid, name), name)


def image_reference(header: Dataset, frame_number: int | None = None) -> sr.SourceImageForMeasurement:
    """Return a reference to an image, or to one frame of it."""
    return sr.SourceImageForMeasurement(
        str(header.SOPClassUID), str(header.SOPInstanceUID), [frame_number] if frame_number else None
    )


def with_interval(
    name: sr.CodedConcept,
    value: float,
    interval: tuple[float, float] | None,
    unit: sr.CodedConcept | Code,
    decimals: int,
    **more: Any,
) -> list[sr.Measurement]:
    """Return a measurement and the ends of its 90 % interval.

    The ends are measurements of their own: the ranges of uncertainty of TID 310 are differences, and the validator of
    PixelMed rejects them in a measurement group.
    """
    measured = [sr.Measurement(name=name, value=value, unit=unit, **more)]
    for end, limit in zip(interval or (), ("LOW", "HIGH"), strict=False):
        words = {"LOW": "Lower limit", "HIGH": "Upper limit"}[limit]
        meaning = f"{words} of the 90 % interval, {_SHORT[name.value]}"
        measured.append(
            sr.Measurement(name=private(f"{name.value}_{limit}", meaning), value=round(end, decimals), unit=unit)
        )
    return measured


_SHORT = {
    "VBMD_K2HPO4": "density (K2HPO4)",
    "VBMD_HA": "density (HA)",
    "VBMD_C_K2HPO4": "corrected (K2HPO4)",
    "VBMD_C_HA": "corrected (HA)",
    "RISK": "probability",
}


def refusal_report(result: ScreeningResult, source: Source, evidence: Sequence[Dataset] = ()) -> Dataset:
    """Return the report of a study that was not measured: the statement, and each reason as text."""
    of_ct = result.modality == "ct"
    chest = not of_ct and source.body_part.upper() == "CHEST"
    statement = (MEASUREMENT if of_ct else ESTIMATE, codes.SCT.NotPerformed)
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking_of(source, "Screening"),
        finding_sites=[sr.FindingSite(CHEST if chest else LUMBAR_SPINE)],
        qualitative_evaluations=[sr.QualitativeEvaluation(*statement)],
    )
    root = content([group], result)
    add_evaluations(root, result, [statement])
    return report(root, source, evidence)
