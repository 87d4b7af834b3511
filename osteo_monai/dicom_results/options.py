"""Which further files a screening writes, and how."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

__all__ = ["DicomOptions", "FhirRelease", "Outputs"]

FhirRelease: TypeAlias = Literal["R4", "R5"]


@dataclass(frozen=True)
class DicomOptions:
    """How DICOM objects are written.

    Attributes:
        label_map: write segmentations as LABELMAP, one of bodies and one of regions, instead of one BINARY object.
        secondary_capture: write the secondary capture.
        created: date and time of the objects; now if ``None``. With the same value, the same input and the same
            software, the files are equal byte by byte.
    """

    label_map: bool = False
    secondary_capture: bool = True
    created: datetime | None = None


@dataclass(frozen=True)
class Outputs:
    """Further files of a screening.

    Attributes:
        dicom: write DICOM objects; ``None`` for none.
        slicer: write the segmentation as ``labels.seg.nrrd``.
        fhir: write ``fhir.json`` of this release; ``None`` for none.
    """

    dicom: DicomOptions | None = None
    slicer: bool = False
    fhir: FhirRelease | None = None

    @property
    def any(self) -> bool:
        """Whether a further file is requested."""
        return self.dicom is not None or self.slicer or self.fhir is not None
