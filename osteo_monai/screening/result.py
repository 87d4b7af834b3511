"""The versioned screening result, from which JSON and reports are written."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding, Severity, Sex, VertebraLevel, View
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.measurement.values import CalibrationUsed, Density, HUStatistics
from osteo_monai.utils.files import write_text

RESULT_VERSION = "1.7"
"""1.1 added opinions, 1.2 radiographs, 1.3 ``bodies_above``, 1.4 ``thresholds``, 1.5 ``texture``, 1.6 ``tissues``,
``contrast``, ``run``, station and day of the acquisition, 1.7 ``source``, UIDs of images and ``pinned`` of the models;
older results lack them."""

OpinionName = Literal["hu_line", "hu_rule", "density_regression", "classifier"]

__all__ = [
    "RESULT_VERSION",
    "AcquisitionFacts",
    "CalibrationUsed",
    "ContrastCorrected",
    "Density",
    "FrozenDict",
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
    "SourceStudy",
    "TextureFeature",
    "TextureMeasurement",
    "TissueValues",
]

RiskModelName = Literal["chest_frontal", "lumbar_ap", "lumbar_lateral", "fused", "combined", "clinical"]


K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dictionary that cannot be changed and has a hash, so that the models below have one, too.

    Example:
        >>> FrozenDict(reading=1.0)["reading"]
        1.0
        >>> FrozenDict(reading=1.0)["reading"] = 2.0
        Traceback (most recent call last):
        TypeError: this dictionary cannot be changed
    """

    def __hash__(self) -> int:  # type: ignore[override]  # a dictionary has none
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def _refuse(self, *arguments: object, **named: object) -> NoReturn:
        raise TypeError("this dictionary cannot be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


Frozen = Annotated[dict[K, V], AfterValidator(FrozenDict)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceStudy(_Model):
    """The DICOM study and series that was screened; ``None`` where the images state none, several or an invalid UID."""

    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    frame_of_reference_uid: str | None = None
    study_date: date | None = None


class LocatedLevel(_Model):
    """One located vertebra; the result lists all of them, not only L1 and L2."""

    level: VertebraLevel
    certainty: float
    """Posterior probability of this name, 0 to 1."""
    runner_up: VertebraLevel | None
    centre_mm: tuple[float, float, float]
    """RAS+ mm."""


class LevelMeasurement(_Model):
    """Measurements of one vertebral body."""

    level: VertebraLevel
    certainty: float
    slice_index: int
    """Axial slice through the centre, counted in the canonical (RAS+) volume from its lowest slice."""
    instance_number: int | None
    """DICOM InstanceNumber of that slice, if the source was DICOM."""
    sop_instance_uid: str | None = None
    """SOPInstanceUID of the image of that slice, if the source was DICOM and was not resampled."""
    frame_number: int | None = None
    """Number of that slice in a multi-frame image, from 1."""
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


class TextureFeature(_Model):
    """One feature of a trabecular region (docs/texture.md)."""

    name: str
    value: float
    unit: str
    """``1`` for a feature without a unit."""


class TextureMeasurement(_Model):
    """Texture of the trabecular region of one body."""

    level: VertebraLevel
    features: tuple[TextureFeature, ...]
    not_computed: Frozen[str, str] = FrozenDict()
    """Groups of features that are missing, with the reason."""


class TissueValues(_Model):
    """Median HU of tissues near the measured bodies; ``None`` if not found."""

    air_hu: float | None = None
    fat_hu: float | None = None
    aorta_hu: float | None = None
    aorta_certainty: float = 0.0
    """0 to 1, that it is the aorta."""


class ContrastCorrected(_Model):
    """The density without the shift by contrast agent; the raw one is ``density`` of the result."""

    density: Density
    """Raw density minus the shift; the spread of the correction widens the interval."""
    status: BoneStatus | None
    """Class of this density."""
    shift_mg_cm3: float
    shift_sd_mg_cm3: float
    aorta_hu: float
    classified: bool
    """Whether the class of the result is that of this density, at the request of the user."""
    source: str


class ModelUsed(_Model):
    """A bundle that was run, by name, version and checksum of its weights."""

    bundle: str
    version: str
    weights_sha256: str
    pinned: bool | None = None
    """Whether all its files are those of the release; ``None`` in results before 1.7."""


class Opinion(_Model):
    """Class, density or probabilities by one method.

    ``hu_line`` is the measured density, the primary output; ``hu_rule`` applies published cut-offs to the HU of L1; the
    two others are bundles with the slices as input.
    """

    name: OpinionName
    status: BoneStatus | None
    """``None`` if the method gives no class for this scan; ``note`` has the reason."""
    density: Density | None = None
    level_densities: Frozen[VertebraLevel, Density] = FrozenDict()
    l1_hu: float | None = None
    """Mean HU of L1, only of the rule."""
    probabilities: Frozen[BoneStatus, float] | None = None
    """Of the three classes; they sum to 1."""
    bundle: str | None = None
    """The source among ``models``."""
    trained_on: str | None = None
    note: str = ""


class AcquisitionFacts(_Model):
    """Header values needed to interpret the measurements."""

    kvp: float | None
    kernel: str | None
    slice_thickness_mm: float | None
    manufacturer: str | None
    model: str | None
    station: str | None = None
    """Name of the machine within its site."""
    acquired: date | None = None
    """Day of the study."""
    contrast: str | None
    series_description: str | None
    age_years: float | None
    sex: Sex | None
    shape: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None


class RiskOpinion(_Model):
    """Risk of osteoporosis (DXA, a T-score of -2.5 or less) by one model.

    Probabilities hold at the prevalence of the calibration sample; at a lower prevalence the risk is lower.
    """

    name: RiskModelName
    score: float
    """Output of the model, 0 to 1; not a probability until it is calibrated."""
    probability: float | None = None
    """Calibrated; ``None`` if the model is not calibrated, like all fields below."""
    low: float | None = None
    high: float | None = None
    """90 % interval of the mean risk of people with the same image; not for another centre, nor for an individual."""
    cutoff: float | None = None
    """Calibrated probability from which the risk counts as raised."""
    cutoff_rule: str | None = None
    """How it was chosen, such as ``sensitivity_90``: 90 % sensitivity in the calibration sample."""
    raised: bool | None = None
    prevalence: float | None = None
    """Share of osteoporosis in the calibration sample."""
    people: int | None = None
    with_osteoporosis: int | None = None
    virtual: bool | None = None
    """Whether the calibration sample was simulated."""


class PersonFacts(_Model):
    """Facts about the patient; ``None`` is unknown and never replaced by a default."""

    age_years: float | None = None
    sex: Sex | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    given: tuple[Literal["age", "sex", "height", "weight"], ...] = ()
    """Facts that were given by the caller; the others are from the header."""


class RadiographAcquisition(_Model):
    """Acquisition of one radiograph according to its file."""

    view: View
    source: str
    """Name of the file."""
    source_format: str
    sop_instance_uid: str | None = None
    """Of a DICOM file."""
    series_instance_uid: str | None = None
    rows: int
    columns: int
    """Of the network input: upright and without empty borders."""
    spacing_mm: tuple[float, float] | None = None
    modality: str | None = None
    view_position: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    kvp: float | None = None
    exposure_index: float | None = None
    deviation_index: float | None = None


class RadiographRisk(_Model):
    """Risk from the radiographs of one patient; not a density and not a diagnosis."""

    radiographs: tuple[RadiographAcquisition, ...]
    risk: RiskOpinion
    """Primary output: of one view, or of AP and lateral fused (mean of their logits)."""
    views: tuple[RiskOpinion, ...] = ()
    """Of each single view, if two were fused."""
    combined: RiskOpinion | None = None
    """XGBoost on the network output and patient facts (Li 2026)."""
    combined_absent: str | None = None
    """Reason if there is none, with the missing facts."""
    clinical: RiskOpinion | None = None
    """XGBoost only on patient facts."""
    clinical_absent: str | None = None
    person: PersonFacts = PersonFacts()
    trained_on: str
    """Training data according to the bundle's metadata."""


class ScreeningResult(_Model):
    """The result of one study. A refused study has a refusal among ``findings``, no status and no risk.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import ScreeningResult, screen, write_screening
        >>> _ = write_screening(screen(Path("missing")), Path("result"))
        >>> ScreeningResult.model_validate_json(Path("result", "result.json").read_text()).verdict
        'unusable'
    """

    version: str = RESULT_VERSION
    modality: Literal["ct", "radiograph"] = "ct"
    study: str
    """Name of the input folder or file; no patient identifier is added."""
    verdict: Literal["accepted", "accepted_with_warnings", "refused", "unusable"]
    findings: tuple[Finding, ...]
    levels_found: tuple[LocatedLevel, ...] = ()
    bodies_above: int = 0
    """Vertebral bodies detected above the highest named one."""
    levels: tuple[LevelMeasurement, ...] = ()
    density: Density | None = None
    """Mean over the measured levels."""
    status: BoneStatus | None = None
    distance_to_thresholds: Frozen[str, float] | None = None
    """Density minus each cut-off in mg/cm3, keys ``osteoporosis_below`` and ``normal_above``."""
    thresholds_source: str | None = None
    """Source of the thresholds, if a class was given."""
    thresholds: DensityThresholds | None = None
    """Thresholds of the classes in use; ``None`` for radiographs and results before version 1.4."""
    calibration: CalibrationUsed | None = None
    tissues: TissueValues | None = None
    """Near the bodies, also of a study that was refused after segmentation."""
    contrast: ContrastCorrected | None = None
    """Beside the raw density, if a correction was requested and the scan is enhanced."""
    texture: tuple[TextureMeasurement, ...] = ()
    """Of the measured levels, if it was requested."""
    opinions: tuple[Opinion, ...] = ()
    """By other methods; they never change the density. Empty for a refused study."""
    opinions_absent: Frozen[OpinionName, str] = FrozenDict()
    """Opinions that a measured study lacks, with the reason."""
    acquisition: AcquisitionFacts | None = None
    source: SourceStudy | None = None
    """Only of DICOM; never with a fact about the patient."""
    radiograph: RadiographRisk | None = None
    """Only for radiographs, for which the fields from ``levels_found`` to ``acquisition`` are empty."""
    models: tuple[ModelUsed, ...] = ()
    run: str = ""
    """Hash of versions, options, weights and input files, by which ``--resume`` recognises a result; may be empty."""
    seconds: Frozen[str, float] = FrozenDict()
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
        seconds: Mapping[str, float],
        modality: Literal["ct", "radiograph"] = "ct",
    ) -> Self:
        """Return the result of a study that could not be read or was refused while reading."""
        times = FrozenDict(seconds)
        if isinstance(error, ScanRefusedError):
            return cls(study=study, modality=modality, verdict="refused", findings=tuple(error.findings), seconds=times)
        finding = Finding(code="unusable_input", severity=Severity.REFUSAL, message=str(error))
        return cls(study=study, modality=modality, verdict="unusable", findings=(finding,), seconds=times)

    def timed(self, seconds: Mapping[str, float]) -> Self:
        """Return a copy with the wall time of further stages."""
        return self.model_copy(update={"seconds": FrozenDict(self.seconds | dict(seconds))})

    def warned(self, code: str, message: str) -> Self:
        """Return a copy with one more warning."""
        finding = Finding(code=code, severity=Severity.WARNING, message=message)
        verdict = "accepted_with_warnings" if self.verdict == "accepted" else self.verdict
        return self.model_copy(update={"findings": (*self.findings, finding), "verdict": verdict})

    def write(self, path: Path) -> None:
        """Write the result as JSON, atomically."""
        write_text(path, self.model_dump_json(indent=2) + "\n")
