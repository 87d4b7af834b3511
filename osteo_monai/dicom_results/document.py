"""Encapsulated PDF of the report."""

from highdicom.base import SOPClass
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from osteo_monai.dicom_results.objects import DOCUMENT, LABEL, common
from osteo_monai.dicom_results.pages import print_report
from osteo_monai.dicom_results.source import Source
from osteo_monai.screening.images import RadiographImages, ReportImages
from osteo_monai.screening.result import ScreeningResult

__all__ = ["document"]


def document(result: ScreeningResult, images: ReportImages | RadiographImages | None, source: Source) -> Dataset:
    """Return the report as Encapsulated PDF; no name is added to the pixels of the images."""
    pdf = print_report(result, images)
    ds = SOPClass(
        study_instance_uid=source.study_uid,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **common(DOCUMENT),
    )
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "YES" if source.burned_in else "NO"
    ds.DocumentTitle = f"{LABEL}: osteoporosis screening"
    ds.AcquisitionDateTime = None
    ds.ConceptNameCodeSequence = [_code(codes.LN.DiagnosticImagingReport)]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.SourceInstanceSequence = [_reference(image.header) for image in source.images[:1]]
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    ds.EncapsulatedDocumentLength = len(pdf)
    return ds


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item
