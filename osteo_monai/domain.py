"""Domain types of all modules: vertebral levels, views, sex, bone status with its thresholds, findings.

This module imports nothing from the rest of the package.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class VertebraLevel(StrEnum):
    """A vertebral level, in cranio-caudal order. T13 and L6 are the two supernumerary levels.

    Example:
        >>> from osteo_monai import VertebraLevel
        >>> VertebraLevel("L1").label
        20
    """

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
        """Integer of this level in label maps (VerSe numbering)."""
        return LEVEL_LABELS[self]


LEVEL_LABELS: dict[VertebraLevel, int] = {
    **{VertebraLevel(f"T{n}"): 7 + n for n in range(1, 13)},
    VertebraLevel.T13: 28,
    **{VertebraLevel(f"L{n}"): 19 + n for n in range(1, 7)},
    VertebraLevel.SACRUM: 26,
}
"""VerSe numbering: T1-T12 = 8-19, L1-L6 = 20-25, sacrum 26, T13 28 (Sekuboyina 2021)."""

RIB_LABEL = 50
"""Integer of all ribs in label maps; VerSe numbering has none."""

SPLIT_PATTERN = r"^(training|validation|test|external_[a-z0-9_]+)$"
"""Valid names of splits in data manifests and cohort recipes."""

SCREENED_LEVELS: tuple[VertebraLevel, ...] = (VertebraLevel.L1, VertebraLevel.L2)
"""The two levels whose mean density is the density of a person (Pan 2024)."""


class Boundary(StrEnum):
    """Edge of the cortex that the outline of a vertebral body follows: the outer or the inner one (Pan 2024)."""

    PERIOSTEAL = "periosteal"
    ENDOSTEAL = "endosteal"


class View(StrEnum):
    """Anatomy and projection of a radiograph; ``RadiographFacts.view_position`` distinguishes PA and AP.

    Example:
        >>> from osteo_monai import View
        >>> View("lumbar_ap") is View.LUMBAR_AP
        True
    """

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
"""Largest difference in kV of two values of one tube voltage."""


class Sex(StrEnum):
    """Sex as in the strata of the norms; ``None`` means unknown and is never replaced by a default.

    Example:
        >>> from osteo_monai import Sex
        >>> Sex("F").name
        'FEMALE'
    """

    FEMALE = "F"
    MALE = "M"


class MineralStandard(StrEnum):
    """Reference material of a volumetric density in mg/cm3.

    Example:
        >>> from osteo_monai import DensityThresholds, MineralStandard
        >>> DensityThresholds().standard is MineralStandard.K2HPO4
        True
    """

    K2HPO4 = "K2HPO4"
    HYDROXYAPATITE = "hydroxyapatite"


OSTEOPOROSIS_T_SCORE = -2.5
"""A T-score of DXA of this or less is osteoporosis (WHO Technical Report Series 843, 1994)."""


class BoneStatus(StrEnum):
    """The three classes of volumetric QCT.

    Example:
        >>> from osteo_monai import BoneStatus
        >>> [str(status) for status in BoneStatus]
        ['normal', 'osteopenia', 'osteoporosis']
    """

    NORMAL = "normal"
    OSTEOPENIA = "osteopenia"
    OSTEOPOROSIS = "osteoporosis"


@dataclass(frozen=True)
class DensityThresholds:
    """Cut-offs of trabecular density (mean of L1 and L2) in mg/cm3; both boundaries belong to osteopenia.

    Example:
        >>> from osteo_monai import DensityThresholds, MineralStandard
        >>> str(DensityThresholds().status(75.0, MineralStandard.K2HPO4))
        'osteoporosis'
    """

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
        """Return the class of ``density`` (mg/cm3); raise ``ValueError`` if its standard is different."""
        if standard != self.standard:
            raise ValueError(f"the density must be in mg/cm3 {self.standard} as the thresholds, got mg/cm3 {standard}")
        if not density == density:  # NaN compares unequal to itself
            raise ValueError("the density must be a number, got NaN")
        if density < self.osteoporosis_below:
            return BoneStatus.OSTEOPOROSIS
        return BoneStatus.NORMAL if density > self.normal_above else BoneStatus.OSTEOPENIA


class Severity(StrEnum):
    """Severity of a finding: information, to be considered, or the reason why there is no result.

    Example:
        >>> from osteo_monai import Severity
        >>> Severity("refusal") is Severity.REFUSAL
        True
    """

    INFO = "info"
    WARNING = "warning"
    REFUSAL = "refusal"


class Finding(BaseModel):
    """A fact for readers of the result, as one sentence.

    ``code`` is a stable lower_snake_case name (``missing_slice``); ``message`` contains no patient identifier.

    Example:
        >>> from osteo_monai import Finding, Severity
        >>> Finding(code="missing_slice", severity=Severity.REFUSAL, message="A slice is missing.").code
        'missing_slice'
    """

    model_config = ConfigDict(frozen=True)

    code: str
    severity: Severity
    message: str
