"""Recipe of a virtual cohort: population, acquisitions and splits.

A recipe is a small JSON file (``data_manifests/recipes/*.json``). :func:`read_recipe` validates it, and
:func:`osteo_monai.virtual.plan.plan_cohort` derives one plan per person from it.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from osteo_monai.domain import SPLIT_PATTERN, BoneStatus
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.inputs import read_input
from osteo_monai.virtual.person import MALE_FRACTION, MEAN_AGE, SD_AGE, Variant
from osteo_monai.virtual.spread import TissueSpread

Range = tuple[float, float]
"""Lower and upper limit of a value that is drawn uniformly for each scan; equal limits fix it."""

Kvp = Literal[80, 100, 120, 140]
Kernel = Literal["soft", "sharp"]
Phase = Literal["native", "arterial", "portal_venous"]
Coverage = Literal["chest", "chest_with_neck", "abdomen", "thoracolumbar", "l1_l2"]
FieldOfView = Literal["trunk", "spine"]


class FrozenModel(BaseModel):
    """Immutable model that rejects unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


EXCLUSIVE_VARIANTS = frozenset({Variant.LUMBARISED, Variant.SACRALISED, Variant.ELEVEN_RIBS, Variant.THIRTEEN_RIBS})
"""Variants that change the number of levels or ribs; a person has at most one of them."""


class Stratum(FrozenModel):
    """Number of men and women whose ages are drawn uniformly in ``age_min <= age < age_max`` years."""

    age_min: float = Field(ge=18, lt=90)
    age_max: float = Field(gt=18, le=90)
    men: int = Field(ge=0)
    women: int = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.age_min < self.age_max:
            raise ValueError(f"age_min must be below age_max, got {self.age_min} and {self.age_max} years")
        return self


class Population(FrozenModel):
    """Age and sex of the people; density, height and weight follow from these in :mod:`osteo_monai.virtual`.

    The defaults are Pan et al. 2024 (doi 10.1186/s12891-024-07297-1): 443 of 1048 subjects are women, age
    51.19 +- 14.35 years (Table 2). The age is drawn from the normal distribution cut off at ``age_min`` and
    ``age_max``; with ``age_distribution`` ``uniform`` it is uniform between the two, and mean and SD are not used.
    ``strata`` gives the number of people of each sex in each age band and replaces all of these.
    """

    female_fraction: float = Field(default=1 - MALE_FRACTION, ge=0, le=1)
    age_distribution: Literal["normal", "uniform"] = "normal"
    age_mean: float = Field(default=MEAN_AGE, ge=18, le=90)
    age_sd: float = Field(default=SD_AGE, gt=0, le=30)
    age_min: float = Field(default=18, ge=18, lt=90)
    age_max: float = Field(default=89.9, ge=18, lt=90)
    strata: tuple[Stratum, ...] = ()
    body_mass_index: tuple[float, float] | None = None
    """Mean and SD in kg/m2; default: :mod:`osteo_monai.virtual.person`."""
    tissues: TissueSpread | None = None
    """Differences of fat, muscle and blood between people; default: an SD of 6 HU of every tissue. ``{}`` has the
    published spreads of :class:`osteo_monai.virtual.spread.TissueSpread`."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.strata and (others := sorted(self.model_fields_set - {"strata", "tissues"})):
            raise ValueError(f"strata fix age and sex and must not be combined with {', '.join(others)}")
        if self.age_min > self.age_max:
            raise ValueError(f"age_min must not exceed age_max, got {self.age_min} and {self.age_max} years")
        return self


LISTABLE_FIELDS = ("kvp", "kernel", "phase")
"""Fields of which an acquisition may list several values."""


class AcquisitionRecipe(FrozenModel):
    """A CT acquisition with the fields of ``osteo_monai.virtual.ct.CTProtocol``; lengths in mm.

    If ``kvp``, ``kernel`` or ``phase`` is a list, each scan takes one of its values at random.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    """Becomes part of file names."""
    weight: float = Field(default=1.0, gt=0)
    """Frequency relative to the weights of the other acquisitions."""
    kvp: Kvp | tuple[Kvp, ...] = 120
    kernel: Kernel | tuple[Kernel, ...] = "soft"
    slice_thickness: float = Field(default=2.0, gt=0, le=10)
    slice_step: float = Field(default=2.0, gt=0, le=10)
    """Distance between slices."""
    pixel: Range = (0.68, 0.90)
    matrix: int = Field(default=512, ge=32, le=1024)
    """Pixels along x and along y."""
    noise_hu: Range = (8.0, 20.0)
    """Standard deviation in water at the centre of an average trunk, at this slice thickness."""
    phase: Phase | tuple[Phase, ...] = "native"
    gain: Range = (1.0, 1.0)
    """Error of the scanner: a value of h HU is written as ``gain * (h + 1000) - 1000 + offset_hu``. One per cent is
    10 HU in water and about 12 HU in trabecular bone."""
    offset_hu: Range = (0.0, 0.0)
    beam_sd: float = Field(default=0.0, ge=0, le=0.2)
    """Relative SD of the HU per mg/cm3 between scanners of one tube voltage: each scan has its own effective energy.
    Published: 0.092 (Skornitzke 2022, another scanner)."""
    hardening_sd: float = Field(default=0.0, ge=0, le=0.2)
    """Relative SD of the HU of bone at the spine that other tissues do not show (beam hardening, scatter). Published:
    0.078 to 0.080 for one scanner (Kaesmacher 2017, internal and asynchronous calibration)."""
    coverage: Coverage = "chest"
    """``chest`` is 298 mm from below L2 upwards, ``chest_with_neck`` from there to C7 or C6, ``abdomen`` extends from
    T11 to the sacrum, ``thoracolumbar`` from T8 to the sacrum; ``l1_l2`` is a slab from just above the body of L1 to
    just below that of L2."""
    field: FieldOfView = "trunk"
    """Centre of the field of view; ``spine`` means the bodies of L1 and L2, as in a targeted reconstruction."""

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        limits = {"pixel": (0.2, 4.0), "noise_hu": (0.0, 200.0), "gain": (0.5, 1.5), "offset_hu": (-200.0, 200.0)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} must satisfy {least} <= low <= high <= {most}, got {low} and {high}")
        for name in LISTABLE_FIELDS:
            choices = getattr(self, name)
            if isinstance(choices, tuple) and (not choices or len(set(choices)) < len(choices)):
                raise ValueError(f"{name} must be one value or a list of different ones, got {list(choices)}")
        return self


class RadiographAcquisition(FrozenModel):
    """A radiographic acquisition with the fields of ``osteo_monai.virtual.radiograph``; lengths in mm.

    Fields without a value keep the usual value of the view; positioning and collimation vary at random.
    """

    modality: Literal["radiograph"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    """Becomes part of file names."""
    weight: float = Field(default=1.0, gt=0)
    view: Literal["chest_frontal", "lumbar_ap", "lumbar_lateral"] = "chest_frontal"
    rows: int = Field(default=1024, ge=64, le=4096)
    """Rows of the image; the number of columns follows from the field size of the view."""
    kvp: Range | None = None
    filtration: Literal["light", "copper"] | None = None
    source_distance: Range | None = None
    photons: Range | None = None
    """Photons detected per mm2 behind the measuring field, in thousands."""
    exposure: Range = (0.7, 1.5)
    """Factor on ``photons``, log-uniform."""
    scatter: Range | None = None
    blur: Range | None = None
    compression: Range | None = None
    detail: Range | None = None
    edges: Range | None = None
    contrast: Range | None = None
    dynamic_range: float = Field(default=30.0, ge=2, le=1000)
    bits: int = Field(default=12, ge=8, le=16)
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    detector: Literal["DX", "CR"] = "DX"
    device: str = Field(default="Virtual DR 43", min_length=1)
    centre: str = Field(default="virtual", min_length=1)

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        for name, (least, most) in RADIOGRAPH_LIMITS.items():
            limits = getattr(self, name)
            if limits is not None and not least <= limits[0] <= limits[1] <= most:
                raise ValueError(
                    f"{name} must satisfy {least} <= low <= high <= {most}, got {limits[0]} and {limits[1]}"
                )
        return self


RADIOGRAPH_LIMITS: dict[str, Range] = {
    "kvp": (60.0, 145.0),
    "source_distance": (900.0, 2500.0),
    "photons": (1.0, 1000.0),
    "exposure": (0.02, 50.0),
    "scatter": (0.0, 3.0),
    "blur": (0.05, 1.0),
    "compression": (0.0, 0.9),
    "detail": (0.0, 4.0),
    "edges": (0.0, 4.0),
    "contrast": (0.0, 6.0),
}
"""Limits of the ranges of a radiographic acquisition."""


def _kind(value: Any) -> str:
    modality = value.get("modality") if isinstance(value, dict) else getattr(value, "modality", None)
    return "radiograph" if modality == "radiograph" else "ct"


AnyAcquisition = Annotated[
    Annotated[AcquisitionRecipe, Tag("ct")] | Annotated[RadiographAcquisition, Tag("radiograph")], Discriminator(_kind)
]


class Osteoporotic(FrozenModel):
    """People of a cohort with a T-score of -2.5 or below; ``population`` of the recipe then holds for the others."""

    share: float = Field(ge=0, le=1)
    """Share of all people; rounded to whole people."""
    population: Population = Population()


class CohortRecipe(FrozenModel):
    """Complete definition of a virtual cohort, except the version of the code."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str = Field(min_length=1)
    seed: int = Field(ge=0, lt=2**32)
    people: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]*$")
    """Name of another recipe whose people are scanned again with other acquisitions; default: this recipe. Seed,
    subjects, population, classes, splits and variants must equal those of that recipe."""
    subjects: int = Field(ge=1)
    population: Population = Population()
    splits: dict[str, float] = {"test": 1.0}
    """Share of the people in each split (sum 1), or their number (sum ``subjects``). Names as in data manifests."""
    class_counts: dict[BoneStatus, int] = {}
    """Number of people of each bone status, reached by redrawing as few as possible; empty: not fixed."""
    split_classes: dict[str, dict[BoneStatus, int]] = {}
    """Number of people of each bone status in each split; empty: splits do not depend on bone status."""
    variants: dict[Variant, float] = {}
    """Share of the people with each variant; rounded to whole people, who are then drawn at random."""
    osteoporosis: Osteoporotic | None = None
    """Share and population of people with osteoporosis by T-score; default: not fixed."""
    acquisitions: tuple[AnyAcquisition, ...] = Field(min_length=1)
    scans_per_subject: int = Field(default=1, ge=1)
    """Number of acquisitions of each person; none is repeated before all were used once."""
    formats: tuple[Literal["dicom", "nifti", "png"], ...] = Field(default=("nifti",), min_length=1)
    """``nifti`` applies to CT only and ``png`` to radiographs only."""
    dxa: bool = True
    """Whether the areal density of each person is simulated."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_splits()
        self._check_counts()
        self._check_variants()
        self._check_acquisitions()
        self._check_osteoporosis()
        return self

    @property
    def counted(self) -> bool:
        """Whether ``splits`` are numbers of people, not shares."""
        total = sum(self.splits.values())
        return total == self.subjects and not math.isclose(total, 1.0, abs_tol=1e-6)

    def _check_splits(self) -> None:
        for split, share in self.splits.items():
            if not re.match(SPLIT_PATTERN, split):
                raise ValueError(f"splits must be training, validation, test or external_<centre>, got {split!r}")
            if share < 0 or (self.counted and share != int(share)):
                raise ValueError(f"splits[{split!r}] must be a share from 0 to 1 or a number of people, got {share}")
        total = sum(self.splits.values())
        if not self.counted and not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"splits must add up to 1 or, as numbers, to {self.subjects} subjects, got {total:g}")

    def _check_counts(self) -> None:
        strata = self.population.strata
        if strata and (total := sum(s.men + s.women for s in strata)) != self.subjects:
            raise ValueError(f"population.strata must add up to {self.subjects} people, got {total}")
        if self.class_counts and (total := sum(self.class_counts.values())) != self.subjects:
            raise ValueError(f"class_counts must add up to {self.subjects} subjects, got {total}")
        counts = [
            *self.class_counts.values(),
            *(n for classes in self.split_classes.values() for n in classes.values()),
        ]
        if min(counts, default=0) < 0:
            raise ValueError(f"class_counts and split_classes must not be negative, got {min(counts)}")
        if not self.split_classes:
            return
        for status in BoneStatus:
            held = sum(classes.get(status, 0) for classes in self.split_classes.values())
            if held != (wanted := self.class_counts.get(status, 0)):
                raise ValueError(f"split_classes must add up to {wanted} people of status {status}, got {held}")
        for split in {**self.splits, **self.split_classes}:
            held, people = sum(self.split_classes.get(split, {}).values()), self.splits.get(split, 0)
            if held != people:
                raise ValueError(f"split_classes[{split!r}] must add up to splits[{split!r}], {people:g}, got {held}")

    def _check_variants(self) -> None:
        for variant, share in self.variants.items():
            if not 0 <= share <= 1:
                raise ValueError(f"variants[{str(variant)!r}] must be a share from 0 to 1, got {share}")
        if (share := sum(self.variants.get(v, 0.0) for v in EXCLUSIVE_VARIANTS)) > 1:
            exclusive = ", ".join(sorted(EXCLUSIVE_VARIANTS))
            raise ValueError(f"variants {exclusive} exclude one another and must not exceed 1 in total, got {share}")

    def _check_acquisitions(self) -> None:
        names = [a.name for a in self.acquisitions]
        if len(set(names)) < len(names):
            raise ValueError(f"acquisitions must have different names, got {names}")
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"formats must be different, got {list(self.formats)}")
        for kind, extra in (("ct", "nifti"), ("radiograph", "png")):
            if any(_kind(a) == kind for a in self.acquisitions) and not {extra, "dicom"} & set(self.formats):
                raise ValueError(
                    f"formats must contain dicom or {extra} for {kind} acquisitions, got {list(self.formats)}"
                )

    def _check_osteoporosis(self) -> None:
        if self.osteoporosis is None:
            return
        if self.population.strata or self.osteoporosis.population.strata or self.class_counts:
            raise ValueError("osteoporosis must not be combined with strata or class_counts")
        if not self.dxa:
            raise ValueError("osteoporosis must have dxa true, since it follows from the T-score, got dxa false")


_ROOT = Path(__file__).resolve().parents[2]

RECIPES = (
    _ROOT / ("data_manifests" if (_ROOT / "pyproject.toml").is_file() else "osteo_monai_data_manifests") / "recipes"
)
"""Folder of the recipes of this release: in the source tree, or beside the installed package."""


def find_recipe(name_or_path: str | Path) -> Path | None:
    """Return the file of a recipe given its path, or the name of a recipe of this release; ``None`` without one."""
    path = Path(name_or_path)
    shipped = RECIPES / f"{path.name}.json"
    if not path.is_file() and path.name == str(name_or_path) and shipped.is_file():
        return shipped
    return path if path.is_file() else None


def read_recipe(path: Path) -> CohortRecipe:
    """Read and validate a recipe file.

    Raises:
        UnusableInputError: the file cannot be read.
        ConfigError: the message has the file name and every invalid field.
    """
    try:
        text = read_input(path)
    except (OSError, UnicodeDecodeError):
        raise UnusableInputError(f"'{path.name}' cannot be read as text (UTF-8)") from None
    try:
        return CohortRecipe.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(_field_path(e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"'{path.name}' must be a valid cohort recipe: {problems}") from error


def _field_path(location: tuple[int | str, ...]) -> list[str]:
    """Return the path of a field in a recipe, without the tag that pydantic adds for the kind of acquisition."""
    parts = [str(part) for part in location]
    return [p for i, p in enumerate(parts) if not (i == 2 and parts[0] == "acquisitions" and p in ("ct", "radiograph"))]
