"""The recipe of a virtual cohort: who is in it, how they are scanned, and how they are divided.

A recipe is a small JSON file (``data_manifests/recipes/*.json``). :func:`read_recipe` checks it, and
:func:`plan_cohort` turns it into one :class:`SubjectPlan` per person, the same on every machine: each person has a
seed of its own, so that a cohort can be made in any order, by many processes, or one person at a time.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from osteo_monai.domain import SPLIT_PATTERN, BoneStatus, DensityThresholds, Sex
from osteo_monai.virtual.person import MALE_FRACTION, MEAN_AGE, SD_AGE, STANDARD, Variant, draw_person

_MOST_ATTEMPTS = 1000
"""So often a person is drawn again for the sake of ``class_counts`` before they are held to be impossible."""

Range = tuple[float, float]
"""Lower and upper limit of a value that is drawn evenly for each scan; equal limits fix it."""

Kvp = Literal[80, 100, 120, 140]
Kernel = Literal["soft", "sharp"]
Phase = Literal["native", "arterial", "portal_venous"]
Coverage = Literal["chest", "abdomen", "thoracolumbar", "l1_l2"]
FieldOfView = Literal["trunk", "spine"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


EXCLUSIVE_VARIANTS = frozenset({Variant.LUMBARISED, Variant.SACRALISED, Variant.ELEVEN_RIBS, Variant.THIRTEEN_RIBS})
"""Those that change the number of levels or ribs, of which one person has at most one."""


class Stratum(_Model):
    """So many men and women whose ages are drawn evenly in ``age_min <= age < age_max`` years."""

    age_min: float = Field(ge=18, lt=90)
    age_max: float = Field(gt=18, le=90)
    men: int = Field(ge=0)
    women: int = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.age_min < self.age_max:
            raise ValueError(f"age_min must lie below age_max, got {self.age_min} and {self.age_max} years")
        return self


class Population(_Model):
    """Age and sex of the people; density, height and weight follow from these in :mod:`osteo_monai.virtual`.

    The defaults are Pan et al. 2024 (doi 10.1186/s12891-024-07297-1): 443 of 1048 subjects are women, age
    51.19 +- 14.35 years (Table 2). The age is drawn from the normal distribution cut off at ``age_min`` and
    ``age_max``; ``age_distribution`` ``uniform`` draws it evenly between the two instead, and then neither mean nor
    SD is used. ``strata`` counts the people of each sex in each age band instead of all these.
    """

    female_fraction: float = Field(default=1 - MALE_FRACTION, ge=0, le=1)
    age_distribution: Literal["normal", "uniform"] = "normal"
    age_mean: float = Field(default=MEAN_AGE, ge=18, le=90)
    age_sd: float = Field(default=SD_AGE, gt=0, le=30)
    age_min: float = Field(default=18, ge=18, lt=90)
    age_max: float = Field(default=89.9, ge=18, lt=90)
    strata: tuple[Stratum, ...] = ()
    body_mass_index: tuple[float, float] | None = None
    """Mean and SD in kg/m2; those of :mod:`osteo_monai.virtual.person` where not given."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.strata and (others := sorted(self.model_fields_set - {"strata"})):
            raise ValueError(f"strata decide age and sex alone and must not stand beside {', '.join(others)}")
        if self.age_min > self.age_max:
            raise ValueError(f"age_min must not exceed age_max, got {self.age_min} and {self.age_max} years")
        return self


_CHOICES = ("kvp", "kernel", "phase")
"""What an acquisition may leave open."""


class AcquisitionRecipe(_Model):
    """One way of scanning, in the words of ``osteo_monai.virtual.ct.CTProtocol``. Lengths in mm.

    Where ``kvp``, ``kernel`` or ``phase`` is a list, each scan takes one of it at random.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    """Becomes part of file names."""
    weight: float = Field(default=1.0, gt=0)
    """How often this one is taken, relative to the weights of the others."""
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
    """The scanner's own error: a value of h HU is written as ``gain * (h + 1000) - 1000 + offset_hu``. One per cent is
    10 HU in water and about 12 HU in trabecular bone."""
    offset_hu: Range = (0.0, 0.0)
    coverage: Coverage = "chest"
    """``chest`` ends below L2, ``abdomen`` runs from T11 to the sacrum, ``thoracolumbar`` from T8 to the sacrum;
    ``l1_l2`` is a slab from just above the body of L1 to just below that of L2."""
    field: FieldOfView = "trunk"
    """What the field of view is centred on; ``spine``, the bodies of L1 and L2, as in a targeted reconstruction."""

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        limits = {"pixel": (0.2, 4.0), "noise_hu": (0.0, 200.0), "gain": (0.5, 1.5), "offset_hu": (-200.0, 200.0)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(f"{name} must satisfy {least} <= low <= high <= {most}, got {low} and {high}")
        for name in _CHOICES:
            choices = getattr(self, name)
            if isinstance(choices, tuple) and (not choices or len(set(choices)) < len(choices)):
                raise ValueError(f"{name} must be one value or a list of different ones, got {list(choices)}")
        return self


class RadiographAcquisition(_Model):
    """One way of making radiographs, in the words of ``osteo_monai.virtual.radiograph``. Lengths in mm.

    What is not given is that view's usual way; positioning and collimation differ from one person to the next.
    """

    modality: Literal["radiograph"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    """Becomes part of file names."""
    weight: float = Field(default=1.0, gt=0)
    view: Literal["chest_frontal", "lumbar_ap", "lumbar_lateral"] = "chest_frontal"
    rows: int = Field(default=1024, ge=64, le=4096)
    """Of the image; its columns follow from the shape of the view's field."""
    kvp: Range | None = None
    filtration: Literal["light", "copper"] | None = None
    source_distance: Range | None = None
    photons: Range | None = None
    """Thousands detected per square mm behind the measuring field."""
    exposure: Range = (0.7, 1.5)
    """Factor on these; drawn evenly in its logarithm."""
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
        for name, (least, most) in _RADIOGRAPH_LIMITS.items():
            limits = getattr(self, name)
            if limits is not None and not least <= limits[0] <= limits[1] <= most:
                raise ValueError(
                    f"{name} must satisfy {least} <= low <= high <= {most}, got {limits[0]} and {limits[1]}"
                )
        return self


_RADIOGRAPH_LIMITS: dict[str, Range] = {
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
"""What a radiograph's ranges must lie in."""


def _kind(value: Any) -> str:
    modality = value.get("modality") if isinstance(value, dict) else getattr(value, "modality", None)
    return "radiograph" if modality == "radiograph" else "ct"


AnyAcquisition = Annotated[
    Annotated[AcquisitionRecipe, Tag("ct")] | Annotated[RadiographAcquisition, Tag("radiograph")], Discriminator(_kind)
]


class Osteoporotic(_Model):
    """The people of a cohort whose T-score is -2.5 or below; the recipe's ``population`` are then the others."""

    share: float = Field(ge=0, le=1)
    """Of all people; rounded to whole people."""
    population: Population = Population()


class CohortRecipe(_Model):
    """Everything that decides a virtual cohort, apart from the version of the code that makes it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str = Field(min_length=1)
    seed: int = Field(ge=0, lt=2**32)
    people: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the recipe whose people these are, for scanning them another way; their own where not given. Seed,
    subjects, population, classes, splits and variants must be those of that recipe."""
    subjects: int = Field(ge=1)
    population: Population = Population()
    splits: dict[str, float] = {"test": 1.0}
    """Share of the people in each split, adding up to 1, or their number, adding up to ``subjects``. Names as in data
    manifests."""
    class_counts: dict[BoneStatus, int] = {}
    """Number of people of each bone status, as few as possible redrawn at their age and sex; not fixed where empty."""
    split_classes: dict[str, dict[BoneStatus, int]] = {}
    """Number of people of each bone status in each split; drawn regardless of it where empty."""
    variants: dict[Variant, float] = {}
    """Share of the people that have each variant; rounded to whole people, who are then drawn at random."""
    osteoporosis: Osteoporotic | None = None
    """How many people have osteoporosis by T-score, and who they are; as it comes where not given."""
    acquisitions: tuple[AnyAcquisition, ...] = Field(min_length=1)
    scans_per_subject: int = Field(default=1, ge=1)
    """So many acquisitions of each person, different ones as long as there are enough."""
    formats: tuple[Literal["dicom", "nifti", "png"], ...] = Field(default=("nifti",), min_length=1)
    """``nifti`` is for CT alone and ``png`` for radiographs alone."""
    dxa: bool = True
    """Whether each person's areal density is simulated too."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for split, share in self.splits.items():
            if not re.match(SPLIT_PATTERN, split):
                raise ValueError(f"splits must be training, validation, test or external_<centre>, got {split!r}")
            if share < 0 or (self.counted and share != int(share)):
                raise ValueError(f"splits[{split!r}] must be a share from 0 to 1 or a number of people, got {share}")
        total = sum(self.splits.values())
        if not self.counted and not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"splits must add up to 1 or, as numbers, to {self.subjects} subjects, got {total:g}")
        self._check_counts()
        for variant, share in self.variants.items():
            if not 0 <= share <= 1:
                raise ValueError(f"variants[{str(variant)!r}] must be a share from 0 to 1, got {share}")
        if (share := sum(self.variants.get(v, 0.0) for v in EXCLUSIVE_VARIANTS)) > 1:
            rivals = ", ".join(sorted(EXCLUSIVE_VARIANTS))
            raise ValueError(f"variants {rivals} exclude one another and must not exceed 1 in all, got {share}")
        names = [a.name for a in self.acquisitions]
        if len(set(names)) < len(names):
            raise ValueError(f"acquisitions must have different names, got {names}")
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"formats must differ, got {list(self.formats)}")
        for kind, own in (("ct", "nifti"), ("radiograph", "png")):
            if any(_kind(a) == kind for a in self.acquisitions) and not {own, "dicom"} & set(self.formats):
                raise ValueError(f"formats must hold dicom or {own} for {kind} acquisitions, got {list(self.formats)}")
        if self.osteoporosis is not None:
            if self.population.strata or self.osteoporosis.population.strata or self.class_counts:
                raise ValueError("osteoporosis must not stand beside strata or class_counts, which decide the same")
            if not self.dxa:
                raise ValueError("osteoporosis needs dxa, from which it follows, got dxa false")
        return self

    @property
    def counted(self) -> bool:
        """Whether ``splits`` are numbers of people; shares may also be written as the whole number 1."""
        total = sum(self.splits.values())
        return total == self.subjects and not math.isclose(total, 1.0, abs_tol=1e-6)

    def _check_counts(self) -> None:
        strata = self.population.strata
        if strata and (total := sum(s.men + s.women for s in strata)) != self.subjects:
            raise ValueError(f"population.strata must hold {self.subjects} people, got {total}")
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
                raise ValueError(f"split_classes must hold {wanted} people of status {status}, got {held}")
        for split in {**self.splits, **self.split_classes}:
            held, people = sum(self.split_classes.get(split, {}).values()), self.splits.get(split, 0)
            if held != people:
                raise ValueError(f"split_classes[{split!r}] must add up to splits[{split!r}], {people:g}, got {held}")


class ScanPlan(_Model):
    """One scan of one person, everything decided; the fields of ``CTProtocol`` have its names."""

    acquisition: str
    """Name of the acquisition in the recipe."""
    seed: int
    """Of the noise and of the position in the field of view; below 2**48."""
    kvp: float
    kernel: Kernel
    slice_thickness: float
    slice_step: float
    pixel: float
    matrix: tuple[int, int]
    noise_hu: float
    phase: Phase
    coverage: Coverage
    field: FieldOfView = "trunk"
    gain: float = 1.0
    offset_hu: float = 0.0


class RadiographPlan(_Model):
    """One radiograph of one person, everything decided; what is not given is the view's usual way."""

    modality: Literal["radiograph"] = "radiograph"
    acquisition: str
    """Name of the acquisition in the recipe."""
    seed: int
    """Of the noise, the positioning and the collimation; below 2**48."""
    view: Literal["chest_frontal", "lumbar_ap", "lumbar_lateral"]
    rows: int
    values: dict[str, float]
    """Of ``RadiographProtocol`` and its ``Processing``, by name."""
    filtration: Literal["light", "copper"] | None = None
    bits: int = 12
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    detector: Literal["DX", "CR"] = "DX"
    device: str = "Virtual DR 43"
    centre: str = "virtual"


class SubjectPlan(_Model):
    """What the recipe decides of one person; the rest is drawn from ``seed`` when the person is made."""

    subject_id: str
    split: str
    seed: int
    """Below 2**48; differs for every person, also between cohorts."""
    sex: Sex
    age_years: float
    variants: frozenset[Variant]
    scans: tuple[ScanPlan | RadiographPlan, ...]
    osteoporosis: bool | None = None
    """Whether the person is to have a T-score of -2.5 or below; drawn again until they do. Either where not given."""
    body_mass_index: tuple[float, float] | None = None
    """Mean and SD in kg/m2; the usual ones where not given."""


def read_recipe(path: Path) -> CohortRecipe:
    """Read and check a recipe file.

    Raises:
        ValueError: naming the file and every field that is wrong.
    """
    try:
        return CohortRecipe.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(_place(e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path.name} is not a cohort recipe: {problems}") from error


def _place(location: tuple[int | str, ...]) -> list[str]:
    """Where in a recipe something is wrong, without pydantic's word for the kind of acquisition."""
    parts = [str(part) for part in location]
    return [p for i, p in enumerate(parts) if not (i == 2 and parts[0] == "acquisitions" and p in ("ct", "radiograph"))]


def plan_cohort(recipe: CohortRecipe) -> tuple[SubjectPlan, ...]:
    """Draw the people of a cohort; equal recipes give equal plans on every machine.

    Raises:
        ValueError: ``class_counts`` that people of these ages and sexes do not have, however often they are drawn.
    """
    n = recipe.subjects
    draws = np.random.Generator(np.random.PCG64(recipe.seed))
    places = _order(draws, n)
    quantiles: list[float] = draws.random(n).tolist()
    if recipe.population.strata:
        slots: list[tuple[Stratum, Sex]] = []
        for s in recipe.population.strata:
            slots += [(s, Sex.MALE)] * s.men + [(s, Sex.FEMALE)] * s.women
        sexes = [slots[i][1] for i in places]
        ages = [_age_within(slots[i][0], u) for i, u in zip(places, quantiles, strict=True)]
    else:
        women = round(n * recipe.population.female_fraction)
        sexes = [Sex.FEMALE if place < women else Sex.MALE for place in places]
        ages = [_age(recipe.population, u) for u in quantiles]
    ill: list[bool | None] = [None] * n
    if recipe.osteoporosis is not None:
        ill, sexes, ages = _two_populations(recipe, recipe.osteoporosis, places, quantiles)
    seeds, classes = _people(recipe, sexes, ages)
    splits = _splits(recipe, _order(draws, n), classes)
    variants = _variants(recipe, draws)
    width = max(3, len(str(n)))
    return tuple(
        SubjectPlan(
            subject_id=f"{recipe.people or recipe.name}_{i + 1:0{width}d}",
            split=splits[i],
            seed=seeds[i],
            sex=sexes[i],
            age_years=ages[i],
            variants=variants[i],
            scans=_scans(recipe, draws, i),
            osteoporosis=ill[i],
            body_mass_index=_population(recipe, ill[i]).body_mass_index,
        )
        for i in range(n)
    )


def _population(recipe: CohortRecipe, ill: bool | None) -> Population:
    return recipe.osteoporosis.population if ill and recipe.osteoporosis is not None else recipe.population


def _two_populations(
    recipe: CohortRecipe, share: Osteoporotic, places: NDArray[np.int64], quantiles: Sequence[float]
) -> tuple[list[bool | None], list[Sex], list[float]]:
    """Who has osteoporosis, and everybody's sex and age: the first places are for those who have it."""
    n = recipe.subjects
    count = round(n * share.share)
    women = {True: round(count * share.population.female_fraction)}
    women[False] = round((n - count) * recipe.population.female_fraction)
    ill: list[bool | None] = [bool(place < count) for place in places]
    sexes = [
        Sex.FEMALE if place - (0 if has else count) < women[bool(has)] else Sex.MALE
        for place, has in zip(places, ill, strict=True)
    ]
    ages = [_age(_population(recipe, has), u) for has, u in zip(ill, quantiles, strict=True)]
    return ill, sexes, ages


def _order(draws: np.random.Generator, n: int) -> NDArray[np.int64]:
    """A random order of ``n`` people, from uniform numbers alone: their stream is the same in every NumPy."""
    return np.argsort(draws.random(n), kind="stable")


def _whole(shares: dict[str, float], n: int) -> dict[str, int]:
    """Divide ``n`` people by ``shares`` that add up to 1; largest remainders take what rounding down leaves."""
    counts = {name: math.floor(share * n + 1e-9) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * n)
    for name in by_remainder[: n - sum(counts.values())]:
        counts[name] += 1
    return counts


def _people(recipe: CohortRecipe, sexes: Sequence[Sex], ages: Sequence[float]) -> tuple[list[int], list[BoneStatus]]:
    """Seed and bone status of each person; where ``class_counts`` ask for it, some are drawn again.

    Nobody's age or sex changes: who belongs to a class with too many is drawn again, in turn, until somebody of a
    class with too few comes up. So as few as possible are replaced, and mostly where the wanted class is common.
    """
    seeds = [_seed(recipe, f"person {i}") for i in range(recipe.subjects)]
    if not recipe.class_counts:
        return seeds, []
    thresholds = DensityThresholds()

    def status(i: int, seed: int) -> BoneStatus:
        return thresholds.status(draw_person(seed, sex=sexes[i], age_years=ages[i]).mean_density, STANDARD)

    classes = [status(i, seed) for i, seed in enumerate(seeds)]
    excess = Counter(classes)
    excess.subtract(recipe.class_counts)
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        if not any(excess.values()):
            return seeds, classes
        for i, old in enumerate(classes):
            if excess[old] <= 0:
                continue
            seed = _seed(recipe, f"person {i} again {attempt}")
            if excess[new := status(i, seed)] < 0:
                seeds[i], classes[i] = seed, new
                excess[old] -= 1
                excess[new] += 1
    lacking = ", ".join(f"{-n} of status {name}" for name, n in sorted(excess.items()) if n < 0)
    raise ValueError(
        f"class_counts cannot be met by people of these ages and sexes: lacking {lacking} after {_MOST_ATTEMPTS} draws"
    )


def _splits(recipe: CohortRecipe, order: NDArray[np.int64], classes: Sequence[BoneStatus]) -> list[str]:
    """Split of each person: places are handed out in ``order``, within each class where the recipe counts those."""
    if not recipe.split_classes:
        total = recipe.subjects if recipe.counted else 1.0
        whole = _whole({name: share / total for name, share in recipe.splits.items()}, recipe.subjects)
        names = [name for name, count in whole.items() for _ in range(count)]
        return [names[i] for i in order]
    left = {
        status: [name for name, count in recipe.split_classes.items() for _ in range(count.get(status, 0))]
        for status in BoneStatus
    }
    splits = [""] * recipe.subjects
    for i in order.tolist():
        splits[i] = left[classes[i]].pop()
    return splits


def _age_within(stratum: Stratum, u: float) -> float:
    """Age in years to one decimal, at the share ``u`` of the band, whose upper end belongs to the next one."""
    age = stratum.age_min + u * (stratum.age_max - stratum.age_min)
    return math.floor(age * 10) / 10


def _age(population: Population, u: float) -> float:
    """Age in years to one decimal, at the quantile ``u`` of the population's distribution."""
    low, high = population.age_min, population.age_max
    if population.age_distribution == "uniform" or low == high:
        age = low + u * (high - low)
    else:
        normal = NormalDist(population.age_mean, population.age_sd)
        below, above = normal.cdf(low), normal.cdf(high)
        age = normal.inv_cdf(below + max(u, 1e-12) * (above - below))
    return round(min(max(age, low), high), 1)


def _variants(recipe: CohortRecipe, draws: np.random.Generator) -> list[frozenset[Variant]]:
    """Variants of each person, with exactly the shares that the recipe asks for."""
    n = recipe.subjects
    chosen: list[set[Variant]] = [set() for _ in range(n)]
    for variant in Variant:  # not the order in the file: two files that say the same give the same cohort
        rivals = EXCLUSIVE_VARIANTS if variant in EXCLUSIVE_VARIANTS else frozenset()
        candidates = [int(i) for i in _order(draws, n) if not chosen[i] & rivals]
        for i in candidates[: round(n * recipe.variants.get(variant, 0.0))]:
            chosen[i].add(variant)
    return [frozenset(person) for person in chosen]


def _scans(recipe: CohortRecipe, draws: np.random.Generator, person: int) -> tuple[ScanPlan | RadiographPlan, ...]:
    """Draw one person's scans by weight; no acquisition is taken twice before each was taken once."""
    scans: list[ScanPlan | RadiographPlan] = []
    left: list[AcquisitionRecipe | RadiographAcquisition] = []
    for number in range(recipe.scans_per_subject):
        left = left or list(recipe.acquisitions)
        which, where, noise = draws.random(3).tolist()
        cumulated = np.cumsum([a.weight for a in left])
        at = int(np.searchsorted(cumulated, which * cumulated[-1], side="right"))
        chosen = left.pop(min(at, len(left) - 1))
        seed = _seed(recipe, f"person {person} scan {number}")
        if isinstance(chosen, RadiographAcquisition):
            scans.append(_radiograph(chosen, seed))
            continue
        # a stream of its own: who is in a cohort, and where, does not depend on what else is drawn for a scan
        gain, offset, *picks = np.random.Generator(np.random.PCG64([seed, 7])).random(2 + len(_CHOICES)).tolist()
        scans.append(
            ScanPlan(
                acquisition=chosen.name,
                seed=seed,
                gain=round(_within(chosen.gain, gain), 5),
                offset_hu=round(_within(chosen.offset_hu, offset), 2),
                pixel=round(_within(chosen.pixel, where), 4),
                noise_hu=round(_within(chosen.noise_hu, noise), 2),
                matrix=(chosen.matrix, chosen.matrix),
                **{name: _pick(getattr(chosen, name), u) for name, u in zip(_CHOICES, picks, strict=True)},
                **chosen.model_dump(include={"slice_thickness", "slice_step", "coverage", "field"}),
            )
        )
    return tuple(scans)


def _radiograph(chosen: RadiographAcquisition, seed: int) -> RadiographPlan:
    draws = np.random.Generator(np.random.PCG64([seed, 7])).random(len(_RADIOGRAPH_LIMITS)).tolist()
    values: dict[str, float] = {"dynamic_range": chosen.dynamic_range}
    for (name, _), u in zip(_RADIOGRAPH_LIMITS.items(), draws, strict=True):
        limits: Range | None = getattr(chosen, name)
        if limits is None:
            continue
        if name == "exposure":
            values[name] = round(limits[0] * (limits[1] / limits[0]) ** u, 4)
        else:
            values[name] = round(_within(limits, u), 4)
    same = chosen.model_dump(
        include={"view", "rows", "filtration", "bits", "photometric", "detector", "device", "centre"}
    )
    return RadiographPlan(acquisition=chosen.name, seed=seed, values=values, **same)


def _pick(choices: object, u: float) -> Any:
    return choices[int(u * len(choices))] if isinstance(choices, tuple) else choices


def _within(limits: Range, u: float) -> float:
    return limits[0] + u * (limits[1] - limits[0])


def _seed(recipe: CohortRecipe, what: str) -> int:
    """A seed for a person or a scan, from the cohort's name and seed and a word for what it is for."""
    digest = hashlib.sha256(f"{recipe.people or recipe.name}/{recipe.seed}/{what}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
