"""Plan of a virtual cohort: people, splits and acquisitions derived from a recipe.

Equal recipes give equal plans on every machine. Each person and each scan has its own seed, so that a cohort can be
generated in any order, by many processes, or one person at a time.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import BoneStatus, DensityThresholds, Sex
from osteo_monai.errors import ConfigError
from osteo_monai.virtual.person import STANDARD, Variant, draw_person
from osteo_monai.virtual.recipe import (
    EXCLUSIVE_VARIANTS,
    LISTABLE_FIELDS,
    RADIOGRAPH_LIMITS,
    AcquisitionRecipe,
    CohortRecipe,
    Coverage,
    FieldOfView,
    FrozenModel,
    Kernel,
    Osteoporotic,
    Phase,
    Population,
    RadiographAcquisition,
    Range,
    Stratum,
)
from osteo_monai.virtual.spread import TissueSpread

_MOST_SD = 2.5
"""Limit of the effective energy of a scanner, in SD."""
_MOST_ATTEMPTS = 1000
"""Number of redraws for ``class_counts`` after which these are refused as impossible."""


class ScanPlan(FrozenModel):
    """One CT of one person; fields are named as in ``CTProtocol``."""

    acquisition: str
    """Name of the acquisition in the recipe."""
    seed: int
    """Seed of the noise and of the position in the field of view; below 2**48."""
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
    beam: float = 1.0
    hardening: float = 1.0


class RadiographPlan(FrozenModel):
    """One radiograph of one person; fields without a value keep the usual value of the view."""

    modality: Literal["radiograph"] = "radiograph"
    acquisition: str
    """Name of the acquisition in the recipe."""
    seed: int
    """Seed of noise, positioning and collimation; below 2**48."""
    view: Literal["chest_frontal", "lumbar_ap", "lumbar_lateral"]
    rows: int
    values: dict[str, float]
    """Fields of ``RadiographProtocol`` and its ``Processing`` by name."""
    filtration: Literal["light", "copper"] | None = None
    bits: int = 12
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    detector: Literal["DX", "CR"] = "DX"
    device: str = "Virtual DR 43"
    centre: str = "virtual"


class SubjectPlan(FrozenModel):
    """One person as fixed by the recipe; the rest is drawn from ``seed`` when the anatomy is generated."""

    subject_id: str
    split: str
    seed: int
    """Below 2**48; different for every person, also between cohorts."""
    sex: Sex
    age_years: float
    variants: frozenset[Variant]
    scans: tuple[ScanPlan | RadiographPlan, ...]
    osteoporosis: bool | None = None
    """Whether the T-score must be -2.5 or below; the person is redrawn until it is. ``None``: not fixed."""
    body_mass_index: tuple[float, float] | None = None
    """Mean and SD in kg/m2; default: :mod:`osteo_monai.virtual.person`."""
    tissues: TissueSpread | None = None
    """Differences of fat, muscle and blood; default: an SD of 6 HU of every tissue."""


def plan_cohort(recipe: CohortRecipe) -> tuple[SubjectPlan, ...]:
    """Draw the people of a cohort; equal recipes give equal plans on every machine.

    Raises:
        ConfigError: people of these ages and sexes do not reach ``class_counts``.
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
    affected: list[bool | None] = [None] * n
    if recipe.osteoporosis is not None:
        affected, sexes, ages = _two_populations(recipe, recipe.osteoporosis, places, quantiles)
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
            osteoporosis=affected[i],
            body_mass_index=_population(recipe, affected[i]).body_mass_index,
            tissues=_population(recipe, affected[i]).tissues,
        )
        for i in range(n)
    )


def _population(recipe: CohortRecipe, affected: bool | None) -> Population:
    return recipe.osteoporosis.population if affected and recipe.osteoporosis is not None else recipe.population


def _two_populations(
    recipe: CohortRecipe, share: Osteoporotic, places: NDArray[np.int64], quantiles: Sequence[float]
) -> tuple[list[bool | None], list[Sex], list[float]]:
    """Return osteoporosis, sex and age of each person; the first places are those with osteoporosis."""
    n = recipe.subjects
    count = round(n * share.share)
    women = {True: round(count * share.population.female_fraction)}
    women[False] = round((n - count) * recipe.population.female_fraction)
    affected: list[bool | None] = [bool(place < count) for place in places]
    sexes = [
        Sex.FEMALE if place - (0 if has else count) < women[bool(has)] else Sex.MALE
        for place, has in zip(places, affected, strict=True)
    ]
    ages = [_age(_population(recipe, has), u) for has, u in zip(affected, quantiles, strict=True)]
    return affected, sexes, ages


def _order(draws: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Return a random order of ``n`` people, from uniform numbers only: their stream is equal in all NumPy versions."""
    return np.argsort(draws.random(n), kind="stable")


def _whole(shares: dict[str, float], n: int) -> dict[str, int]:
    """Divide ``n`` people by ``shares`` with the sum 1, by the largest remainder method."""
    counts = {name: math.floor(share * n + 1e-9) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * n)
    for name in by_remainder[: n - sum(counts.values())]:
        counts[name] += 1
    return counts


def _people(recipe: CohortRecipe, sexes: Sequence[Sex], ages: Sequence[float]) -> tuple[list[int], list[BoneStatus]]:
    """Return seed and bone status of each person; redraw some of them to reach ``class_counts``.

    Age and sex do not change: people of a class with too many are redrawn in turn until one falls into a class with
    too few. This replaces as few as possible, mostly at ages where the missing class is common.
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
    raise ConfigError(
        f"class_counts must be possible for people of these ages and sexes, got {lacking} missing "
        f"after {_MOST_ATTEMPTS} draws"
    )


def _splits(recipe: CohortRecipe, order: NDArray[np.int64], classes: Sequence[BoneStatus]) -> list[str]:
    """Return the split of each person; ``order`` assigns the places, within each class if ``split_classes`` is set."""
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
    """Return the age in years to one decimal at the share ``u`` of the band, upper end excluded."""
    age = stratum.age_min + u * (stratum.age_max - stratum.age_min)
    return math.floor(age * 10) / 10


def _age(population: Population, u: float) -> float:
    """Return the age in years to one decimal at the quantile ``u`` of the population's distribution."""
    low, high = population.age_min, population.age_max
    if population.age_distribution == "uniform" or low == high:
        age = low + u * (high - low)
    else:
        normal = NormalDist(population.age_mean, population.age_sd)
        below, above = normal.cdf(low), normal.cdf(high)
        age = normal.inv_cdf(below + max(u, 1e-12) * (above - below))
    return round(min(max(age, low), high), 1)


def _variants(recipe: CohortRecipe, draws: np.random.Generator) -> list[frozenset[Variant]]:
    """Return the variants of each person, with exactly the shares of the recipe."""
    n = recipe.subjects
    chosen: list[set[Variant]] = [set() for _ in range(n)]
    for variant in Variant:  # not the order in the file: equal recipes give equal cohorts
        exclusive = EXCLUSIVE_VARIANTS if variant in EXCLUSIVE_VARIANTS else frozenset()
        candidates = [int(i) for i in _order(draws, n) if not chosen[i] & exclusive]
        for i in candidates[: round(n * recipe.variants.get(variant, 0.0))]:
            chosen[i].add(variant)
    return [frozenset(person) for person in chosen]


def _scans(recipe: CohortRecipe, draws: np.random.Generator, person: int) -> tuple[ScanPlan | RadiographPlan, ...]:
    """Draw the scans of one person by weight; none is repeated before all were used once."""
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
        # a separate stream, so that people and splits do not depend on the fields of a scan
        gain, offset, *picks = np.random.Generator(np.random.PCG64([seed, 7])).random(2 + len(LISTABLE_FIELDS)).tolist()
        beam, hardening = np.random.Generator(np.random.PCG64([seed, 8])).normal(0.0, 1.0, 2).tolist()
        scans.append(
            ScanPlan(
                acquisition=chosen.name,
                seed=seed,
                gain=round(_within(chosen.gain, gain), 5),
                offset_hu=round(_within(chosen.offset_hu, offset), 2),
                beam=round(math.exp(chosen.beam_sd * min(max(beam, -_MOST_SD), _MOST_SD)), 4),
                hardening=round(math.exp(chosen.hardening_sd * hardening), 4),
                pixel=round(_within(chosen.pixel, where), 4),
                noise_hu=round(_within(chosen.noise_hu, noise), 2),
                matrix=(chosen.matrix, chosen.matrix),
                **{name: _pick(getattr(chosen, name), u) for name, u in zip(LISTABLE_FIELDS, picks, strict=True)},
                **chosen.model_dump(include={"slice_thickness", "slice_step", "coverage", "field"}),
            )
        )
    return tuple(scans)


def _radiograph(chosen: RadiographAcquisition, seed: int) -> RadiographPlan:
    draws = np.random.Generator(np.random.PCG64([seed, 7])).random(len(RADIOGRAPH_LIMITS)).tolist()
    values: dict[str, float] = {"dynamic_range": chosen.dynamic_range}
    for (name, _), u in zip(RADIOGRAPH_LIMITS.items(), draws, strict=True):
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


def _seed(recipe: CohortRecipe, purpose: str) -> int:
    """Return a seed for ``purpose`` (a person or a scan), from name and seed of the cohort."""
    digest = hashlib.sha256(f"{recipe.people or recipe.name}/{recipe.seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
