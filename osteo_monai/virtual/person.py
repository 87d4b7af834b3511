"""A virtual person: sex, age, body size and bone density, drawn from published norms."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from osteo_monai.domain import MineralStandard, Sex, VertebraLevel
from osteo_monai.norms import density_norm

MEAN_AGE, SD_AGE = 51.19, 14.35
"""Years; Pan 2024, Table 2."""
MALE_FRACTION = 605 / 1048
"""Pan 2024, Table 2."""
LEVEL_CORRELATION = 0.95
"""Correlation of the densities of neighbouring lumbar bodies; the project's choice, near that of the L1 and L2 QCT
values in notes of a 13-patient repeat study (means within 3 mg/cm3, SDs alike)."""
STANDARD = MineralStandard.K2HPO4
"""Mineral standard of the densities of Pan 2024, and so of virtual people."""
_SMALLEST_DENSITY, _LARGEST_DENSITY = 5.0, 300.0
"""mg/cm3; the range that Pan 2024 reports is 5.7 to 295.1."""
_STATURE = {Sex.MALE: (171.0, 6.5), Sex.FEMALE: (159.0, 6.0)}
"""Mean and SD of height in cm; the project's choice for an East Asian cohort such as Pan's."""
_BMI = (24.3, 3.6)
"""Mean and SD in kg/m2; the project's choice."""


class Variant(StrEnum):
    """Anatomical variants and findings of a spine."""

    LUMBARISED = "lumbarised"
    """Six lumbar-type bodies: S1 is separate."""
    SACRALISED = "sacralised"
    """Four lumbar-type bodies: L5 is fused with the sacrum."""
    ELEVEN_RIBS = "eleven_ribs"
    """T12 carries no rib."""
    THIRTEEN_RIBS = "thirteen_ribs"
    """A thirteenth pair of ribs on a supernumerary T13."""
    OSTEOPHYTES = "osteophytes"
    WEDGE_FRACTURE = "wedge_fracture"
    CEMENT = "cement"
    SCREWS = "screws"
    SCOLIOSIS = "scoliosis"


VARIANT_FREQUENCY: Mapping[Variant, float] = {
    Variant.LUMBARISED: 0.04,
    Variant.SACRALISED: 0.04,
    Variant.ELEVEN_RIBS: 0.03,
    Variant.THIRTEEN_RIBS: 0.02,
    Variant.OSTEOPHYTES: 0.25,
    Variant.WEDGE_FRACTURE: 0.06,
    Variant.CEMENT: 0.02,
    Variant.SCREWS: 0.03,
    Variant.SCOLIOSIS: 0.10,
}
"""Default frequency of each variant, higher than in the population; the project's choice."""

_EXCLUSIVE = (Variant.LUMBARISED, Variant.SACRALISED, Variant.ELEVEN_RIBS, Variant.THIRTEEN_RIBS)


@dataclass(frozen=True)
class Person:
    """One virtual person.

    Attributes:
        seed: of the anatomy; the same seed and attributes give the same body.
        density: trabecular density by level, mg/cm3 K2HPO4, as by single-energy QCT at 120 kVp.
    """

    seed: int
    sex: Sex
    age_years: float
    height_cm: float
    weight_kg: float
    density: Mapping[VertebraLevel, float]
    variants: frozenset[Variant] = frozenset()

    @property
    def mean_density(self) -> float:
        """Mean of L1 and L2 in mg/cm3, from which the bone status follows."""
        return 0.5 * (self.density[VertebraLevel.L1] + self.density[VertebraLevel.L2])


def _density_by_level(mean: float, rng: np.random.Generator) -> dict[VertebraLevel, float]:
    """Return densities by level from the mean of L1 and L2: higher upwards, lower downwards, correlated neighbours."""
    levels = [level for level in VertebraLevel if level is not VertebraLevel.SACRUM]
    centre = levels.index(VertebraLevel.L1) + 0.5
    sd = 0.16 * mean
    step = np.sqrt(1 - LEVEL_CORRELATION**2)
    deviation = np.zeros(len(levels))
    deviation[0] = rng.normal()
    for i in range(1, len(levels)):
        deviation[i] = LEVEL_CORRELATION * deviation[i - 1] + step * rng.normal()
    trend = np.array([1.0 + 0.022 * max(centre - i, 0.0) - 0.012 * max(i - centre, 0.0) for i in range(len(levels))])
    values = mean * trend + sd * deviation
    lumbar = [levels.index(VertebraLevel.L1), levels.index(VertebraLevel.L2)]
    values += mean - values[lumbar].mean()
    # near the limits L1 and L2 approach each other and keep their mean
    margin = min(mean - _SMALLEST_DENSITY, _LARGEST_DENSITY - mean)
    if np.abs(values[lumbar] - mean).max() > margin:
        values[lumbar] = mean + np.clip(values[lumbar] - mean, -margin, margin)
    return {
        level: float(np.clip(value, _SMALLEST_DENSITY, _LARGEST_DENSITY))
        for level, value in zip(levels, values, strict=True)
    }


def draw_person(
    seed: int,
    *,
    sex: Sex | None = None,
    age_years: float | None = None,
    mean_density: float | None = None,
    variants: Mapping[Variant, float] | frozenset[Variant] | None = None,
) -> Person:
    """Draw a person from the norms; given values are kept.

    Args:
        seed: of all random draws, including the anatomy.
        mean_density: mean of L1 and L2 in mg/cm3 K2HPO4, 5 to 300; default Pan 2024, Table 1, by age and sex.
        variants: the variants (a set) or their frequencies (a mapping).

    Raises:
        ValueError: there is no norm for the age, the density is out of range, or ``variants`` has two that change the
            number of levels or ribs.
    """
    if mean_density is not None and not _SMALLEST_DENSITY <= mean_density <= _LARGEST_DENSITY:
        raise ValueError(
            f"mean_density must be from {_SMALLEST_DENSITY:g} to {_LARGEST_DENSITY:g} mg/cm3, got {mean_density}"
        )
    rng = np.random.default_rng([seed, 1])
    drawn_sex = Sex.MALE if rng.random() < MALE_FRACTION else Sex.FEMALE
    sex = sex or drawn_sex
    drawn_age = float(np.clip(rng.normal(MEAN_AGE, SD_AGE), 20.0, 89.9))
    age = drawn_age if age_years is None else age_years
    norm = density_norm(age, sex)
    if norm is None:
        raise ValueError(f"age_years must be from 18 to 90 (90 excluded), the range of the norms, got {age}")
    drawn_density = float(np.clip(rng.normal(norm.mean, norm.sd), _SMALLEST_DENSITY, _LARGEST_DENSITY))
    density = drawn_density if mean_density is None else mean_density
    height = float(rng.normal(*_STATURE[sex]))
    weight = float(np.clip(rng.normal(*_BMI), 16.0, 42.0)) * (height / 100.0) ** 2
    frequency = VARIANT_FREQUENCY if variants is None else variants
    if isinstance(frequency, Mapping):
        chosen = [v for v in Variant if rng.random() < frequency.get(v, 0.0)]
        exclusive = [v for v in chosen if v in _EXCLUSIVE]
        frequency = frozenset(v for v in chosen if v not in exclusive[1:])
    elif len(exclusive := sorted(v for v in frequency if v in _EXCLUSIVE)) > 1:
        names = ", ".join(sorted(_EXCLUSIVE))
        raise ValueError(f"variants must contain at most one of {names}, got {', '.join(exclusive)}")
    return Person(seed, sex, age, height, weight, _density_by_level(density, rng), frequency)
