"""The product's word: one versioned result that JSON, HTML, SR and SEG are all written from."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from osteo_monai.domain import BoneStatus, Finding, Sex, VertebraLevel
from osteo_monai.measurement.values import CalibrationUsed, Density, HUStatistics

RESULT_VERSION = "1.1"
"""1.1 added the opinions; a result of version 1.0 reads as one without any."""

OpinionName = Literal["hu_line", "hu_rule", "density_regression", "classifier"]

__all__ = [
    "RESULT_VERSION",
    "AcquisitionFacts",
    "CalibrationUsed",
    "Density",
    "HUStatistics",
    "LevelMeasurement",
    "LocatedLevel",
    "ModelUsed",
    "Opinion",
    "OpinionName",
    "ScreeningResult",
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LocatedLevel(_Model):
    """One vertebra found by the localiser (all of them, not only L1 and L2)."""

    level: VertebraLevel
    certainty: float
    """Posterior probability of this name, 0 to 1."""
    runner_up: VertebraLevel | None
    centre_mm: tuple[float, float, float]
    """RAS+ mm."""


class LevelMeasurement(_Model):
    """What was measured in one vertebral body."""

    level: VertebraLevel
    certainty: float
    slice_index: int
    """Axial slice through the centre, counted in the canonical (RAS+) volume from its lowest slice."""
    instance_number: int | None
    """DICOM InstanceNumber of that slice where the source was DICOM."""
    centre_mm: tuple[float, float, float]
    body_volume_cm3: float
    height_mm: float
    region_name: str
    """Name and version of the trabecular region rule."""
    region_voxels: int
    region_area_mm2: float
    """Area of the region on the centre slice."""
    region_volume_cm3: float
    hu: HUStatistics
    density: Density


class ModelUsed(_Model):
    """A bundle that took part, by name, version and checksum of its weights."""

    bundle: str
    version: str
    weights_sha256: str


class Opinion(_Model):
    """What one way of judging the bone says: a class, and what it has besides.

    ``hu_line`` is the measured density, the headline of the result; ``hu_rule`` reads published cut-offs off the HU of
    L1; the two others are bundles that see the slices themselves.
    """

    name: OpinionName
    status: BoneStatus | None
    """``None`` where it gives no class for this scan; ``note`` says why."""
    density: Density | None = None
    level_densities: dict[VertebraLevel, Density] = {}
    l1_hu: float | None = None
    """Mean HU of L1, of the rule alone."""
    probabilities: dict[BoneStatus, float] | None = None
    """Of the three classes; they sum to 1."""
    bundle: str | None = None
    """Which of ``models`` it comes from."""
    trained_on: str | None = None
    note: str = ""


class AcquisitionFacts(_Model):
    """The header facts that a reader needs beside the numbers."""

    kvp: float | None
    kernel: str | None
    slice_thickness_mm: float | None
    manufacturer: str | None
    model: str | None
    contrast: str | None
    series_description: str | None
    age_years: float | None
    sex: Sex | None
    shape: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None


class ScreeningResult(_Model):
    """The result of one study. A refused study has a refusal among ``findings`` and no status."""

    version: str = RESULT_VERSION
    study: str
    """Name of the input folder or file (no patient identifier of ours is added)."""
    verdict: Literal["accepted", "accepted_with_warnings", "refused", "unusable"]
    findings: tuple[Finding, ...]
    levels_found: tuple[LocatedLevel, ...] = ()
    levels: tuple[LevelMeasurement, ...] = ()
    density: Density | None = None
    """Mean over the measured levels."""
    status: BoneStatus | None = None
    distance_to_thresholds: dict[str, float] | None = None
    """Density minus each cut-off in mg/cm3, keys ``osteoporosis_below`` and ``normal_above``."""
    thresholds_source: str | None = None
    calibration: CalibrationUsed | None = None
    opinions: tuple[Opinion, ...] = ()
    """Beside the density above, which they never change; none in a study that was refused."""
    opinions_absent: dict[OpinionName, str] = {}
    """Opinions that a measured study lacks, with the reason."""
    acquisition: AcquisitionFacts | None = None
    models: tuple[ModelUsed, ...] = ()
    seconds: dict[str, float] = {}
    """Wall time of each stage."""
    research_use_notice: str = (
        "Research use only. A screening estimate, not a diagnosis: confirm by DXA or QCT. "
        "The models were trained on virtual patients; nothing here measures diagnostic accuracy on real people."
    )

    def write(self, path: Path) -> None:
        """Write the result as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
