"""The recipe of a virtual cohort: who is in it, how they are scanned, and how they are divided.

A recipe is a small JSON file (``data_manifests/recipes/*.json``). :func:`read_recipe` checks it, and
:func:`plan_cohort` turns it into one :class:`SubjectPlan` per person, the same on every machine: each person has a
seed of its own, so that a cohort can be made in any order, by many processes, or one person at a time.
"""

import hashlib
import math
import re
from pathlib import Path
from statistics import NormalDist
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from osteo_monai.domain import SPLIT_PATTERN, Sex
from osteo_monai.virtual.person import MALE_FRACTION, MEAN_AGE, SD_AGE, Variant

Range = tuple[float, float]
"""Lower and upper limit of a value that is drawn evenly for each scan; equal limits fix it."""

Kernel = Literal["soft", "sharp"]
Phase = Literal["native", "arterial", "portal_venous"]
Coverage = Literal["chest", "abdomen", "thoracolumbar"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


EXCLUSIVE_VARIANTS = frozenset({Variant.LUMBARISED, Variant.SACRALISED, Variant.ELEVEN_RIBS, Variant.THIRTEEN_RIBS})
"""Those that change the number of levels or ribs, of which one person has at most one."""


class Population(_Model):
    """Age and sex of the people; density, height and weight follow from these in :mod:`osteo_monai.virtual`.

    The defaults are Pan et al. 2024 (doi 10.1186/s12891-024-07297-1): 443 of 1048 subjects are women, age
    51.19 +- 14.35 years (Table 2). The age is drawn from the normal distribution cut off at ``age_min`` and
    ``age_max``; ``age_distribution`` ``uniform`` draws it evenly between the two instead, and then neither mean nor
    SD is used.
    """

    female_fraction: float = Field(default=1 - MALE_FRACTION, ge=0, le=1)
    age_distribution: Literal["normal", "uniform"] = "normal"
    age_mean: float = Field(default=MEAN_AGE, ge=18, le=90)
    age_sd: float = Field(default=SD_AGE, gt=0, le=30)
    age_min: float = Field(default=18, ge=18, lt=90)
    age_max: float = Field(default=89.9, ge=18, lt=90)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.age_min > self.age_max:
            raise ValueError(f"age_min must not exceed age_max, got {self.age_min} and {self.age_max} years")
        return self


class AcquisitionRecipe(_Model):
    """One way of scanning, in the words of ``osteo_monai.virtual.ct.CTProtocol``. Lengths in mm."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    """Becomes part of file names."""
    weight: float = Field(default=1.0, gt=0)
    """How often this one is taken, relative to the weights of the others."""
    kvp: Literal[80, 100, 120, 140] = 120
    kernel: Kernel = "soft"
    slice_thickness: float = Field(default=2.0, gt=0, le=10)
    slice_step: float = Field(default=2.0, gt=0, le=10)
    """Distance between slices."""
    pixel: Range = (0.68, 0.90)
    matrix: int = Field(default=512, ge=32, le=1024)
    """Pixels along x and along y."""
    noise_hu: Range = (8.0, 20.0)
    """Standard deviation in water at the centre of an average trunk, at this slice thickness."""
    phase: Phase = "native"
    coverage: Coverage = "chest"
    """``chest`` ends below L2, ``abdomen`` runs from T11 to the sacrum, ``thoracolumbar`` from T8 to the sacrum."""

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        limits = {"pixel": (0.2, 4.0), "noise_hu": (0.0, 200.0)}
        for field, (least, most) in limits.items():
            low, high = getattr(self, field)
            if not least <= low <= high <= most:
                raise ValueError(f"{field} must satisfy {least} <= low <= high <= {most}, got {low} and {high}")
        return self


class CohortRecipe(_Model):
    """Everything that decides a virtual cohort, apart from the version of the code that makes it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str = Field(min_length=1)
    seed: int = Field(ge=0, lt=2**32)
    subjects: int = Field(ge=1)
    population: Population = Population()
    splits: dict[str, float] = {"test": 1.0}
    """Share of the people in each split; they add up to 1. Names as in data manifests."""
    variants: dict[Variant, float] = {}
    """Share of the people that have each variant; rounded to whole people, who are then drawn at random."""
    acquisitions: tuple[AcquisitionRecipe, ...] = Field(min_length=1)
    scans_per_subject: int = Field(default=1, ge=1)
    """So many acquisitions of each person, different ones as long as there are enough."""
    formats: tuple[Literal["dicom", "nifti"], ...] = Field(default=("nifti",), min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for split, share in self.splits.items():
            if not re.match(SPLIT_PATTERN, split):
                raise ValueError(f"splits must be training, validation, test or external_<centre>, got {split!r}")
            if not 0 <= share <= 1:
                raise ValueError(f"splits[{split!r}] must be a share from 0 to 1, got {share}")
        if not math.isclose(sum(self.splits.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"splits must add up to 1, got {sum(self.splits.values())}")
        for variant, share in self.variants.items():
            if not 0 <= share <= 1:
                raise ValueError(f"variants[{str(variant)!r}] must be a share from 0 to 1, got {share}")
        if (total := sum(self.variants.get(v, 0.0) for v in EXCLUSIVE_VARIANTS)) > 1:
            rivals = ", ".join(sorted(EXCLUSIVE_VARIANTS))
            raise ValueError(f"variants {rivals} exclude one another and must not exceed 1 in all, got {total}")
        names = [a.name for a in self.acquisitions]
        if len(set(names)) < len(names):
            raise ValueError(f"acquisitions must have different names, got {names}")
        if len(set(self.formats)) < len(self.formats):
            raise ValueError(f"formats must differ, got {list(self.formats)}")
        return self


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


class SubjectPlan(_Model):
    """What the recipe decides of one person; the rest is drawn from ``seed`` when the person is made."""

    subject_id: str
    split: str
    seed: int
    """Below 2**48; differs for every person, also between cohorts."""
    sex: Sex
    age_years: float
    variants: frozenset[Variant]
    scans: tuple[ScanPlan, ...]


def read_recipe(path: Path) -> CohortRecipe:
    """Read and check a recipe file.

    Raises:
        ValueError: naming the file and every field that is wrong.
    """
    try:
        return CohortRecipe.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc']) or 'recipe'}: {e['msg']}" for e in error.errors()
        )
        raise ValueError(f"{path.name} is not a cohort recipe: {problems}") from error


def plan_cohort(recipe: CohortRecipe) -> tuple[SubjectPlan, ...]:
    """Draw the people of a cohort; equal recipes give equal plans on every machine."""
    n = recipe.subjects
    draws = np.random.Generator(np.random.PCG64(recipe.seed))
    women = _order(draws, n) < round(n * recipe.population.female_fraction)
    ages = [_age(recipe.population, u) for u in draws.random(n).tolist()]
    split_names = [name for name, count in _whole(recipe.splits, n).items() for _ in range(count)]
    splits = [split_names[i] for i in _order(draws, n)]
    variants = _variants(recipe, draws)
    width = max(3, len(str(n)))
    return tuple(
        SubjectPlan(
            subject_id=f"{recipe.name}_{i + 1:0{width}d}",
            split=splits[i],
            seed=_seed(recipe, f"person {i}"),
            sex=Sex.FEMALE if women[i] else Sex.MALE,
            age_years=ages[i],
            variants=variants[i],
            scans=_scans(recipe, draws, i),
        )
        for i in range(n)
    )


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


def _scans(recipe: CohortRecipe, draws: np.random.Generator, person: int) -> tuple[ScanPlan, ...]:
    """Draw one person's scans by weight; no acquisition is taken twice before each was taken once."""
    scans: list[ScanPlan] = []
    left: list[AcquisitionRecipe] = []
    for number in range(recipe.scans_per_subject):
        left = left or list(recipe.acquisitions)
        which, where, noise = draws.random(3).tolist()
        cumulated = np.cumsum([a.weight for a in left])
        at = int(np.searchsorted(cumulated, which * cumulated[-1], side="right"))
        chosen = left.pop(min(at, len(left) - 1))
        scans.append(
            ScanPlan(
                acquisition=chosen.name,
                seed=_seed(recipe, f"person {person} scan {number}"),
                pixel=round(_within(chosen.pixel, where), 4),
                noise_hu=round(_within(chosen.noise_hu, noise), 2),
                matrix=(chosen.matrix, chosen.matrix),
                **chosen.model_dump(include={"kvp", "kernel", "slice_thickness", "slice_step", "phase", "coverage"}),
            )
        )
    return tuple(scans)


def _within(limits: Range, u: float) -> float:
    return limits[0] + u * (limits[1] - limits[0])


def _seed(recipe: CohortRecipe, what: str) -> int:
    """A seed for a person or a scan, from the cohort's name and seed and a word for what it is for."""
    digest = hashlib.sha256(f"{recipe.name}/{recipe.seed}/{what}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
