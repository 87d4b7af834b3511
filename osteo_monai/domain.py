"""The words every other module speaks: vertebral levels, bone status and its thresholds, findings.

Nothing here imports from the rest of the package.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class VertebraLevel(StrEnum):
    """A vertebral level, in cranio-caudal order. T13 and L6 are the two supernumerary levels."""

    T1 = "T1"
    T2 = "T2"
    T3 = "T3"
    T4 = "T4"
    T5 = "T5"
    T6 = "T6"
    T7 = "T7"
    T8 = "T8"
    T9 = "T9"
    T10 = "T10"
    T11 = "T11"
    T12 = "T12"
    T13 = "T13"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"
    L4 = "L4"
    L5 = "L5"
    L6 = "L6"
    SACRUM = "sacrum"

    @property
    def label(self) -> int:
        """The integer that stands for this level in every label map we write (VerSe numbering)."""
        return LEVEL_LABELS[self]


LEVEL_LABELS: dict[VertebraLevel, int] = {
    **{VertebraLevel(f"T{n}"): 7 + n for n in range(1, 13)},
    VertebraLevel.T13: 28,
    **{VertebraLevel(f"L{n}"): 19 + n for n in range(1, 7)},
    VertebraLevel.SACRUM: 26,
}
"""VerSe numbering: T1-T12 = 8-19, L1-L6 = 20-25, sacrum 26, T13 28 (Sekuboyina 2021)."""

RIB_LABEL = 50
"""The integer that stands for all ribs in label maps; VerSe numbering has none."""

SPLIT_PATTERN = r"^(training|validation|test|external_[a-z0-9_]+)$"
"""What a split may be called, in data manifests and in cohort recipes."""

SCREENED_LEVELS: tuple[VertebraLevel, ...] = (VertebraLevel.L1, VertebraLevel.L2)
"""The two levels whose mean density is the individual's density (Pan 2024)."""


class View(StrEnum):
    """Anatomy and projection of a radiograph; ``RadiographFacts.view_position`` tells PA from AP."""

    CHEST_FRONTAL = "chest_frontal"
    CHEST_LATERAL = "chest_lateral"
    LUMBAR_AP = "lumbar_ap"
    LUMBAR_LATERAL = "lumbar_lateral"
    UNKNOWN = "unknown"


class ContrastPhase(StrEnum):
    """Phase of an intravenous contrast agent at a CT."""

    NATIVE = "native"
    ARTERIAL = "arterial"
    PORTAL_VENOUS = "portal_venous"
    DELAYED = "delayed"
    UNKNOWN = "unknown"


KVP_TOLERANCE = 0.5
"""Largest difference in kV of two statements of one tube voltage."""


class Sex(StrEnum):
    """Sex as the norms are stratified; ``None`` elsewhere means unknown and is never replaced by a default."""

    FEMALE = "F"
    MALE = "M"


class MineralStandard(StrEnum):
    """The reference material that a volumetric density in mg/cm3 is expressed in."""

    K2HPO4 = "K2HPO4"
    HYDROXYAPATITE = "hydroxyapatite"


OSTEOPOROSIS_T_SCORE = -2.5
"""A T-score of DXA of this or less is osteoporosis (WHO Technical Report Series 843, 1994)."""


class BoneStatus(StrEnum):
    """The three classes of volumetric QCT."""

    NORMAL = "normal"
    OSTEOPENIA = "osteopenia"
    OSTEOPOROSIS = "osteoporosis"


@dataclass(frozen=True)
class DensityThresholds:
    """Cut-offs of trabecular density (mean of L1 and L2) in mg/cm3; both boundaries belong to osteopenia."""

    osteoporosis_below: float = 80.0
    normal_above: float = 120.0
    standard: MineralStandard = MineralStandard.K2HPO4
    source: str = "Pan et al. 2024, doi 10.1186/s12891-024-07297-1"

    def __post_init__(self) -> None:
        if not 0 < self.osteoporosis_below < self.normal_above:
            raise ValueError(
                "thresholds must satisfy 0 < osteoporosis_below < normal_above, got "
                f"{self.osteoporosis_below} and {self.normal_above} mg/cm3"
            )

    def status(self, density: float, standard: MineralStandard) -> BoneStatus:
        """Return the class of ``density`` (mg/cm3); raise ``ValueError`` if its standard is another one."""
        if standard != self.standard:
            raise ValueError(f"thresholds are in mg/cm3 {self.standard}, the density is in mg/cm3 {standard}")
        if not density == density:  # NaN compares unequal to itself
            raise ValueError("density is not a number")
        if density < self.osteoporosis_below:
            return BoneStatus.OSTEOPOROSIS
        return BoneStatus.NORMAL if density > self.normal_above else BoneStatus.OSTEOPENIA


class Severity(StrEnum):
    """How much a finding weighs: told, to be considered, or no number is given because of it."""

    INFO = "info"
    WARNING = "warning"
    REFUSAL = "refusal"


class Finding(BaseModel):
    """Something a reader of the result must know, in a sentence that a radiologist understands.

    ``code`` is a stable lower_snake_case word (``missing_slice``); ``message`` holds no patient identifier.
    """

    model_config = ConfigDict(frozen=True)

    code: str
    severity: Severity
    message: str
