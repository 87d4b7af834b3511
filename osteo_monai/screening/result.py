"""The product's word: one versioned result that JSON, HTML, SR and SEG are all written from."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from osteo_monai.domain import BoneStatus, Finding, Severity, Sex, VertebraLevel
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.measurement.values import CalibrationUsed, Density, HUStatistics

RESULT_VERSION = "1.3"
"""1.1 added the opinions, 1.2 radiographs, 1.3 ``bodies_above``; older results read as such without them."""

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
    "PersonFacts",
    "RadiographAcquisition",
    "RadiographRisk",
    "RiskModelName",
    "RiskOpinion",
    "ScreeningResult",
    "timed",
]

RadiographView = Literal["chest_frontal", "lumbar_ap", "lumbar_lateral"]
RiskModelName = Literal["chest_frontal", "lumbar_ap", "lumbar_lateral", "fused", "combined", "clinical"]


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


class RiskOpinion(_Model):
    """What one model gives as the risk of osteoporosis (DXA, a T-score of -2.5 or less).

    Probabilities hold at the prevalence of the people that the model was calibrated on; where osteoporosis is rarer,
    the same picture means less.
    """

    name: RiskModelName
    score: float
    """What the model itself answers, 0 to 1; no probability until it is calibrated."""
    probability: float | None = None
    """Calibrated; ``None`` where nobody calibrated the model, and so are all fields below."""
    low: float | None = None
    high: float | None = None
    """90 % interval of the mean risk of people with the same picture; not of another centre, nor of one person."""
    cutoff: float | None = None
    """Of the calibrated probability, at or above which the risk counts as raised."""
    cutoff_rule: str | None = None
    """How it was chosen, such as ``sensitivity_90``: 90 % sensitivity among the people of the calibration."""
    raised: bool | None = None
    prevalence: float | None = None
    """Share of osteoporosis among the people of the calibration."""
    people: int | None = None
    with_osteoporosis: int | None = None
    virtual: bool | None = None
    """Whether these people were simulated."""


class PersonFacts(_Model):
    """What is known of the person beside the radiograph; ``None`` is unknown and never replaced by a default."""

    age_years: float | None = None
    sex: Sex | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    given: tuple[Literal["age", "sex", "height", "weight"], ...] = ()
    """Which of them the caller gave; the others come from the header."""


class RadiographAcquisition(_Model):
    """How one radiograph was made and what was done to it, as far as its file says."""

    view: RadiographView
    source: str
    """Name of the file."""
    source_format: str
    rows: int
    columns: int
    """As it was judged: upright and without empty borders."""
    spacing_mm: tuple[float, float] | None = None
    modality: str | None = None
    view_position: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    kvp: float | None = None
    exposure_index: float | None = None
    deviation_index: float | None = None


class RadiographRisk(_Model):
    """What was read out of the radiographs of one person: a risk, never a density and never a diagnosis."""

    radiographs: tuple[RadiographAcquisition, ...]
    risk: RiskOpinion
    """The headline: of the one view, or of AP and lateral fused (mean of their logits)."""
    views: tuple[RiskOpinion, ...] = ()
    """Of each view by itself, where two were fused."""
    combined: RiskOpinion | None = None
    """XGBoost on the network's answer and the person's facts (Li 2026)."""
    combined_absent: str | None = None
    """Why there is none, naming the facts that are missing."""
    clinical: RiskOpinion | None = None
    """XGBoost on the person's facts alone."""
    clinical_absent: str | None = None
    person: PersonFacts = PersonFacts()
    trained_on: str
    """What the bundle says of the data behind its weights."""


class ScreeningResult(_Model):
    """The result of one study. A refused study has a refusal among ``findings``, no status and no risk."""

    version: str = RESULT_VERSION
    modality: Literal["ct", "radiograph"] = "ct"
    study: str
    """Name of the input folder or file (no patient identifier of ours is added)."""
    verdict: Literal["accepted", "accepted_with_warnings", "refused", "unusable"]
    findings: tuple[Finding, ...]
    levels_found: tuple[LocatedLevel, ...] = ()
    bodies_above: int = 0
    """Vertebral bodies that were found above the highest one that is named."""
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
    radiograph: RadiographRisk | None = None
    """Of radiographs alone, which have none of the fields from ``levels_found`` to ``acquisition``."""
    models: tuple[ModelUsed, ...] = ()
    seconds: dict[str, float] = {}
    """Wall time of each stage."""
    research_use_notice: str = (
        "Research use only. A screening estimate, not a diagnosis: confirm by DXA or QCT. "
        "The models were trained on virtual patients; nothing here measures diagnostic accuracy on real people."
    )

    @model_validator(mode="after")
    def _one_modality(self) -> Self:
        if self.modality == "ct" and self.radiograph is not None:
            raise ValueError("radiograph must be absent from the result of a CT")
        if self.modality == "radiograph" and (self.density is not None or self.status is not None):
            raise ValueError("density and status must be absent from the result of a radiograph")
        return self

    @classmethod
    def unread(
        cls,
        study: str,
        error: UnusableInputError | ScanRefusedError,
        seconds: dict[str, float],
        modality: Literal["ct", "radiograph"] = "ct",
    ) -> Self:
        """Return the result of a study that reading could not use, or refused."""
        if isinstance(error, ScanRefusedError):
            return cls(
                study=study, modality=modality, verdict="refused", findings=tuple(error.findings), seconds=seconds
            )
        finding = Finding(code="unusable_input", severity=Severity.REFUSAL, message=str(error))
        return cls(study=study, modality=modality, verdict="unusable", findings=(finding,), seconds=seconds)

    def write(self, path: Path) -> None:
        """Write the result as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Put the wall time of a stage into ``seconds``, as a result keeps it."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = round(time.perf_counter() - started, 3)
