"""Identity of the study and headers of the images that results refer to, read from the source files."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import PersonName

from osteo_monai.dicom_results.uids import derived_uid
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.acquisition import date_of
from osteo_monai.imaging.dicom_agreement import check_patient
from osteo_monai.imaging.dicom_headers import Instance, unusable_if_damaged
from osteo_monai.imaging.identifiers import image_instances, valid_uid
from osteo_monai.imaging.volume import SourceFrame

__all__ = ["Image", "Source", "read_source"]

PERSON = ("PatientName", "ReferringPhysicianName")
TEXTS = (
    "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID", "StudyDescription", "PatientIdentityRemoved",
    "DeidentificationMethod",
)  # fmt: skip
IDENTITY = (
    *PERSON, *TEXTS, "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "StudyDate",
    "StudyTime",
)  # fmt: skip
"""Attributes of patient and study that all objects of a study share, and which are copied to each result."""

_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "StudyID", "ReferringPhysicianName",
)  # fmt: skip
"""Of type 2: present, empty if unknown."""

_LENGTHS = {"AccessionNumber": 16, "StudyID": 16, "PatientIdentityRemoved": 16}
_GEOMETRY = (
    "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness", "ImagerPixelSpacing", "FrameOfReferenceUID", "PositionReferenceIndicator",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod", "BodyPartExamined",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionOrganizationSequence",
    "DimensionIndexSequence", "PatientOrientation", "ImageType", "BurnedInAnnotation",
)  # fmt: skip


@dataclass(frozen=True)
class Image:
    """One image that results refer to.

    Attributes:
        header: identity of the study, UIDs and geometry, without pixels.
        sop_instance_uid: of the image.
    """

    header: Dataset
    sop_instance_uid: str


@dataclass(frozen=True)
class Source:
    """The study that results belong to.

    Attributes:
        identity: attributes of patient and study, in UTF-8.
        images: at least one; in the order of the files.
    """

    identity: Dataset
    images: tuple[Image, ...]

    @property
    def study_uid(self) -> str:
        return str(self.identity.StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        return str(self.images[0].header.SeriesInstanceUID)

    @property
    def body_part(self) -> str:
        """BodyPartExamined of the images, empty if they state none."""
        return str(self.images[0].header.get("BodyPartExamined") or "")

    @property
    def burned_in(self) -> bool:
        """Whether an image states that text is burned into its pixels, which may identify the patient."""
        return any(str(image.header.get("BurnedInAnnotation") or "").upper() == "YES" for image in self.images)

    def find(self, sop_instance_uid: str | None) -> Image | None:
        """Return the image of this UID, ``None`` if there is none."""
        return next((image for image in self.images if image.sop_instance_uid == sop_instance_uid), None)


def read_source(files: Sequence[Path], frames: Sequence[SourceFrame] = (), wanted: Collection[str] = ()) -> Source:
    """Read what results need from the images of one study.

    Args:
        files: DICOM files of the study; other files and objects among them are ignored.
        frames: the images that results refer to; if empty, ``wanted`` of ``files``.
        wanted: SOPInstanceUIDs; if empty, the middle image of each series.

    Raises:
        UnusableInputError: there is no image, they belong to several studies or patients, or they have no valid UIDs,
            so that results cannot be assigned to a study.
    """
    paths = list(dict.fromkeys(frame.path for frame in frames)) or list(files)
    instances = list(image_instances(paths))
    if not instances:
        raise UnusableInputError("DICOM results need a readable DICOM image, got none.")
    if len({i.study for i in instances}) > 1 or check_patient(instances):
        raise UnusableInputError("The images must belong to one study of one patient to write DICOM results.")
    if not valid_uid(instances[0].study):
        raise UnusableInputError("The images must have a valid StudyInstanceUID to write DICOM results, got none.")
    usable = [i for i in instances if valid_uid(i.series) and valid_uid(i.sop_instance) and valid_uid(i.sop_class)]
    if len(usable) < len(instances) if frames else not usable:
        raise UnusableInputError(
            "Each image must have valid UIDs of series, instance and class to write DICOM results."
        )
    with unusable_if_damaged("A DICOM header is damaged"):
        identity = _identity(_header(usable[0].path, IDENTITY), usable[0].study)
        chosen = usable if frames else [i for i in usable if i.sop_instance in wanted] or _middle(usable)
        return Source(identity, _images(chosen, identity))


def _middle(instances: Sequence[Instance]) -> list[Instance]:
    series: defaultdict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        series[instance.series].append(instance)
    return [members[len(members) // 2] for members in series.values()]


def _header(path: Path, keywords: Sequence[str]) -> Dataset:
    with pydicom.config.disable_value_validation():
        tags = [Tag(keyword) for keyword in ("SpecificCharacterSet", *keywords)]
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        header.decode()
        return header


def _identity(header: Dataset, study: str) -> Dataset:
    """Return the attributes of patient and study; an invalid value is left out, since viewers reject the object."""
    identity = Dataset()
    identity.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _REQUIRED:
        setattr(identity, keyword, "")
    for keyword in PERSON:
        if value := str(header.get(keyword) or ""):
            setattr(identity, keyword, PersonName(value[:200]))
    for keyword in TEXTS:
        if value := _line(header.get(keyword))[: _LENGTHS.get(keyword, 64)]:
            setattr(identity, keyword, value)
    for keyword, valid in _VALID.items():
        if valid(value := _line(header.get(keyword))):
            setattr(identity, keyword, value)
    identity.StudyInstanceUID = study
    return identity


def _line(value: object) -> str:
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() and c != "\\" else " " for c in text).strip()


def _is_date(text: str) -> bool:
    return bool(re.fullmatch(r"\d{8}", text)) and date_of(text) is not None


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\d{1,8}(\.\d{1,6})?", text))


_VALID: dict[str, Callable[[str], bool]] = {
    "PatientBirthDate": _is_date,
    "StudyDate": _is_date,
    "StudyTime": lambda text: bool(re.fullmatch(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", text)),
    "PatientSex": lambda text: text in ("M", "F", "O"),
    "PatientAge": lambda text: bool(re.fullmatch(r"\d{3}[DWMY]", text)),
    "PatientSize": _is_number,
    "PatientWeight": _is_number,
}
"""Check of each attribute whose value has a fixed form (DICOM PS3.5 section 6.2)."""


def _images(instances: Sequence[Instance], identity: Dataset) -> tuple[Image, ...]:
    headers = [_image(instance, identity) for instance in instances]
    references = {str(header.get("FrameOfReferenceUID") or "") for header in headers}
    for header in headers:  # one grid was made of them, so that they need one frame of reference
        if len(references) > 1 or not valid_uid(next(iter(references))):
            header.FrameOfReferenceUID = derived_uid("frame of reference", str(header.SeriesInstanceUID))
    return tuple(Image(header, str(header.SOPInstanceUID)) for header in headers)


def _image(instance: Instance, identity: Dataset) -> Dataset:
    header = Dataset()
    header.update(identity)
    stored = _header(instance.path, _GEOMETRY)
    for keyword in _GEOMETRY:
        if keyword in stored and stored[keyword].value not in (None, ""):
            header[keyword] = stored[keyword]
    header.SOPClassUID, header.SOPInstanceUID = instance.sop_class, instance.sop_instance
    header.SeriesInstanceUID = instance.series
    header.Modality = instance.modality
    if "PositionReferenceIndicator" not in header:
        header.PositionReferenceIndicator = ""
    if str(header.get("LossyImageCompression")) not in ("00", "01"):
        header.LossyImageCompression = "00"
    return header
