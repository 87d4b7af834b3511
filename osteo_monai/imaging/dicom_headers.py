"""DICOM headers of CT images, one record per frame, read without decoding pixels.

Damaged files raise errors of any type in pydicom and its codecs; :func:`unusable_if_damaged` converts them to
:class:`UnusableInputError`. No message contains a header value that could identify a person.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from osteo_monai.domain import Finding
from osteo_monai.errors import OsteoError, UnusableInputError
from osteo_monai.imaging.acquisition import clean_text, number
from osteo_monai.imaging.findings import warning
from osteo_monai.utils.inputs import open_input

CT_CLASSES = frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})

UNCOMPRESSED_SYNTAXES = frozenset(
    {
        "1.2.840.10008.1.2",  # implicit VR little endian
        "1.2.840.10008.1.2.1",  # explicit VR little endian
        "1.2.840.10008.1.2.2",  # explicit VR big endian
    }
)
LOSSLESS_SYNTAXES = UNCOMPRESSED_SYNTAXES | frozenset(
    {
        "1.2.840.10008.1.2.4.57",  # JPEG lossless
        "1.2.840.10008.1.2.4.70",  # JPEG lossless, selection value 1
        "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
        "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
        "1.2.840.10008.1.2.4.202",  # HTJ2K lossless, RPCL
        "1.2.840.10008.1.2.5",  # RLE
    }
)
MAYBE_LOSSY_SYNTAXES = frozenset({"1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"})
"""Near-lossless JPEG-LS, JPEG 2000 and HTJ2K: accepted where the header states that no loss occurred."""
LOSSY_SYNTAXES = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
DEFLATED_SYNTAX = "1.2.840.10008.1.2.1.99"
"""Inflates without limit as soon as the header is read, so it is refused before."""

_FRAME_GROUPS: dict[str, tuple[str, ...]] = {
    "ImagePositionPatient": ("PlanePositionSequence",),
    "ImageOrientationPatient": ("PlaneOrientationSequence",),
    "PixelSpacing": ("PixelMeasuresSequence",),
    "SliceThickness": ("PixelMeasuresSequence",),
    "RescaleSlope": ("PixelValueTransformationSequence",),
    "RescaleIntercept": ("PixelValueTransformationSequence",),
    "RescaleType": ("PixelValueTransformationSequence",),
    "FrameType": ("CTImageFrameTypeSequence",),
    "KVP": ("CTXRayDetailsSequence",),
    "ConvolutionKernel": ("CTReconstructionSequence",),
    "ReconstructionDiameter": ("CTReconstructionSequence",),
    "GantryDetectorTilt": ("CTAcquisitionDetailsSequence",),
    "PixelPaddingValue": (),
}
"""Functional groups of (enhanced or legacy-converted) multi-frame CT with the top-level entries of single frames."""
_CONVERTED = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")

_HEADER_KEYWORDS = (
    "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality ImageType "
    "Manufacturer ManufacturerModelName StationName SeriesDescription StudyDescription ProtocolName BodyPartExamined "
    "SeriesNumber AcquisitionNumber InstanceNumber KVP ConvolutionKernel SliceThickness GantryDetectorTilt "
    "ContrastBolusAgent ContrastBolusRoute ContrastBolusVolume ContrastBolusAgentSequence "
    "ContrastBolusTotalDose ContrastFlowRate PatientPosition ReconstructionDiameter "
    "PatientName PatientID PatientAge PatientSex PatientBirthDate StudyDate SeriesDate AcquisitionDate "
    "ImagePositionPatient ImageOrientationPatient PixelSpacing Rows Columns NumberOfFrames SamplesPerPixel "
    "PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue "
    "PixelPaddingRangeLimit RescaleSlope RescaleIntercept RescaleType ModalityLUTSequence "
    "LossyImageCompression LossyImageCompressionRatio BurnedInAnnotation "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
)
_HEADER_TAGS: list[Any] = [Tag(keyword) for keyword in _HEADER_KEYWORDS.split()]
COMPANION_MODALITIES = frozenset(
    {"RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SEG", "SR", "KO", "PR", "REG", "FID", "DOC", "PLAN", "AU", "SMR"}
)
"""Modalities of objects that accompany images; RT systems often assign them to another study."""

_RUST_PANIC = "PanicException"
"""Name of the class in pyo3, which every extension module defines anew."""


@contextmanager
def unusable_if_damaged(problem: str) -> Iterator[None]:
    """Convert errors of parsers and codecs to :class:`UnusableInputError` with the message ``problem``.

    Errors of this package and interrupts pass unchanged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom quotes header values in its warnings
            yield
    except OsteoError:
        raise
    except MemoryError:
        raise UnusableInputError("Reading the input needs more memory than is available.") from None  # not damage
    # parsers and codecs raise any type on damaged data, those in Rust a panic that is no Exception
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _RUST_PANIC:
            raise
        raise UnusableInputError(f"{problem} ({type(error).__name__}).") from None


@dataclass(frozen=True)
class Instance:
    """One DICOM file: its header (pixels excluded) and identifiers, recovered from the file meta header if empty."""

    path: Path
    header: Dataset
    sop_class: str
    sop_instance: str
    study: str
    series: str
    transfer_syntax: str
    recovered: bool

    @property
    def is_ct(self) -> bool:
        """Whether both the SOP class and the modality are CT; some segmentations have only one of them."""
        return self.sop_class in CT_CLASSES and self.modality == "CT"

    @property
    def study_key(self) -> str:
        """Key of study and patient, for comparison only (it contains an identifier); empty if unknown.

        The patient is included, because some archives use one StudyInstanceUID for several patients.
        """
        return f"{self.study} {self.patient}" if self.study else ""

    @property
    def patient(self) -> str:
        """PatientID for comparison only, empty if unknown."""
        return clean_text(self.header.get("PatientID")).casefold()

    @property
    def modality(self) -> str:
        return clean_text(self.header.get("Modality")).upper()

    @property
    def kind(self) -> str:
        """SOP class name and modality, for messages."""
        name = pydicom.uid.UID(self.sop_class).name if self.sop_class else "object without a class"
        name = name if name and not name[0].isdigit() else "unknown class"
        return f"{clean_text(name)}, modality {self.modality or 'not given'}"

    @property
    def frames(self) -> int:
        return int(number(self.header.get("NumberOfFrames")) or 1)


@dataclass(frozen=True)
class Frame:
    """One image plane of an :class:`Instance`; ``index`` counts frames in the file from 0."""

    instance: Instance
    index: int

    def get(self, keyword: str) -> Any:
        """Return a header entry, of multi-frame objects from the functional groups; ``None`` if absent or empty."""
        header = self.instance.header
        value = header.get(keyword)
        if not _empty(value) or self.instance.sop_class == CTImageStorage:
            return None if _empty(value) else value
        per_frame: Any = header.get("PerFrameFunctionalGroupsSequence") or ()
        shared: Any = header.get("SharedFunctionalGroupsSequence") or ()
        holders = [*per_frame[self.index : self.index + 1], *shared[:1]]
        for holder in holders:
            for group in (*_FRAME_GROUPS.get(keyword, ()), *_CONVERTED):
                items: Any = holder.get(group) or ()
                if len(items) > 0 and not _empty(items[0].get(keyword)):
                    return items[0].get(keyword)
        return None

    def number(self, keyword: str) -> float | None:
        """Return a header entry as a finite number, ``None`` if absent or not one number."""
        return number(self.get(keyword))

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Return a header entry of exactly ``count`` finite numbers, else ``None``."""
        value = self.get(keyword)
        if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != count:
            return None
        values = [number(v) for v in value]
        return None if any(v is None for v in values) else tuple(float(v) for v in values if v is not None)

    def text(self, keyword: str) -> str:
        """Return a header entry as one printable line, empty if absent."""
        return clean_text(self.get(keyword))


def burned_in(instances: Iterable[Instance]) -> list[Finding]:
    """Return a warning if an image states that text is burned into its pixels."""
    if not any(clean_text(i.header.get("BurnedInAnnotation")).upper() == "YES" for i in instances):
        return []
    message = "The header states that text is burned into the pixels: figures of the report may show a name."
    return [warning("burned_in_annotation", message)]


def _empty(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, (str, bytes)) and not value)
        or (hasattr(value, "__len__") and not len(value))
    )


def check_folder(path: Path) -> None:
    """Check that a path that is no regular file is a folder.

    Raises:
        UnusableInputError: it is a pipe, a socket or a device, which may never end.
    """
    if not path.is_dir():
        raise UnusableInputError("The input must be a regular file or a folder, got a pipe, socket or device.")


def looks_like_dicom(path: Path) -> bool:
    """Whether a regular file starts like a DICOM Part 10 file (128 bytes of preamble, then ``DICM``)."""
    try:
        with open_input(path) as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_instance(path: Path) -> Instance:
    """Read the header of one DICOM file.

    Raises:
        UnusableInputError: the file is damaged, deflated, or no DICOM.
    """
    with unusable_if_damaged("A DICOM header is damaged"):
        meta = read_file_meta_info(path)
        syntax = str(meta.get("TransferSyntaxUID") or "")
        if syntax == DEFLATED_SYNTAX:
            raise UnusableInputError("The file is in the deflated transfer syntax, which is not accepted.")
        if not syntax:
            raise UnusableInputError("The file does not name its transfer syntax.")
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
        for element in header:  # converts every value, so that nothing is left to fail later
            element.value  # noqa: B018
        uids = {k: str(header.get(k) or "") for k in ("SOPClassUID", "SOPInstanceUID")}
        from_meta = {
            "SOPClassUID": str(meta.get("MediaStorageSOPClassUID") or ""),
            "SOPInstanceUID": str(meta.get("MediaStorageSOPInstanceUID") or ""),
        }
        sop_class, sop_instance = (uids[k] or from_meta[k] for k in ("SOPClassUID", "SOPInstanceUID"))
        study, series = (str(header.get(k) or "") for k in ("StudyInstanceUID", "SeriesInstanceUID"))
        if not sop_class and not header.get("Modality"):
            raise UnusableInputError("The file has neither SOP class nor modality; it is damaged or truncated.")
        if sop_class in CT_CLASSES and not all(header.get(k) for k in ("Modality", "Rows", "Columns")):
            raise UnusableInputError(
                "The header of a CT image has no modality or image size; it is damaged or truncated."
            )
        recovered = not (all(uids.values()) and series)
        return Instance(path, header, sop_class, sop_instance, study, series, syntax, recovered)


def read_study_uid(path: Path) -> str:
    """Return the StudyInstanceUID of a DICOM file, empty if it has none.

    Raises:
        UnusableInputError: the header is damaged.
    """
    with unusable_if_damaged("A DICOM header is damaged"):
        if str(read_file_meta_info(path).get("TransferSyntaxUID") or "") == DEFLATED_SYNTAX:
            return ""
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[Tag("StudyInstanceUID")])
        return str(header.get("StudyInstanceUID") or "")
