"""Codes that DICOM, FHIR and NRRD share, without a DICOM library."""

from osteo_monai.domain import BoneStatus, VertebraLevel

__all__ = ["SCHEME", "STATUS_CODES", "VERTEBRA_CODES"]

SCHEME = "99OSTEO"
"""Coding scheme of this project."""

_LUMBAR = ("66794005", "14293000", "36470004", "11994002", "49668003")
_THORACIC = (
    "64864005", "53733008", "1626008", "73071006", "56401006", "45296009", "62487009", "11068009", "82687006",
    "7610001", "12989004", "23215003",
)  # fmt: skip

VERTEBRA_CODES: dict[VertebraLevel, tuple[str, str]] = {
    **{VertebraLevel(f"T{n}"): (code, f"T{n} vertebra") for n, code in enumerate(_THORACIC, start=1)},
    **{VertebraLevel(f"L{n}"): (code, f"L{n} vertebra") for n, code in enumerate(_LUMBAR, start=1)},
    # no code is known for supernumerary levels
    VertebraLevel.T13: ("51282000", "Vertebra"),
    VertebraLevel.L6: ("51282000", "Vertebra"),
    VertebraLevel.SACRUM: ("51282000", "Vertebra"),
}
"""SNOMED CT code and meaning (code dictionary of pydicom)."""

STATUS_CODES: dict[BoneStatus, tuple[str, str]] = {
    BoneStatus.OSTEOPOROSIS: ("64859006", "Osteoporosis"),
    BoneStatus.OSTEOPENIA: ("312894000", "Osteopenia"),
    BoneStatus.NORMAL: ("17621005", "Normal"),
}
"""SNOMED CT code and meaning of each class."""
