"""Reference values of trabecular density by age and sex: the table of Pan et al. 2024.

It depends on ``domain`` only, so that virtual patients, reports and statistics share one table.
"""

from dataclasses import dataclass
from math import erf, sqrt

from osteo_monai.domain import MineralStandard, Sex

NORM_SOURCE = "Pan et al. 2024, Table 1, doi 10.1186/s12891-024-07297-1"
"""The table behind every value here: 1,048 health-check subjects, one centre, chest CT at 120 kVp, Mindways QCT Pro."""

NORM_NAME = "Pan 2024 Table 1"
"""Short name of the table, printed beside every percentile."""

NORM_STANDARD = MineralStandard.K2HPO4
"""Mindways QCT Pro calibrates to K2HPO4."""

NORM_AGES: tuple[float, float] = (18.0, 90.0)
"""Ages in years covered by the table, second excluded."""


@dataclass(frozen=True)
class DensityNorm:
    """Mean and standard deviation of the individual density (mean of L1 and L2) in one age group.

    Attributes:
        age_low, age_high: limits of the group, ``age_low <= age < age_high``, in years.
        sex: ``None`` for men and women together.
        mean, sd: mg/cm3 K2HPO4.
        subjects: number of subjects in the group.
    """

    age_low: float
    age_high: float
    sex: Sex | None
    mean: float
    sd: float
    subjects: int

    @property
    def group(self) -> str:
        """Name of the group, such as ``women 60-69``."""
        sexes = {Sex.FEMALE: "women", Sex.MALE: "men", None: "men and women"}[self.sex]
        ages = "below 30" if self.age_low < 30 else f"{self.age_low:.0f}-{self.age_high - 1:.0f}"
        return f"{sexes} {ages}"

    def percentile(self, density: float, standard: MineralStandard) -> float:
        """Return the percentage of the group below ``density`` (mg/cm3), taking the group as normally distributed.

        Raises:
            ValueError: if the density is in another standard than the table.
        """
        if standard is not NORM_STANDARD:
            raise ValueError(f"the density must be in mg/cm3 {NORM_STANDARD} as the norms, got mg/cm3 {standard}")
        return 50.0 * (1.0 + erf((density - self.mean) / (self.sd * sqrt(2.0))))


def _group(low: float, *columns: tuple[Sex | None, int, float, float]) -> tuple[DensityNorm, ...]:
    high = 30.0 if low < 30 else low + 10
    return tuple(DensityNorm(low, high, sex, mean, sd, n) for sex, n, mean, sd in columns)


_M, _F = Sex.MALE, Sex.FEMALE
DENSITY_NORMS: tuple[DensityNorm, ...] = (
    *_group(18.0, (None, 60, 175.96, 28.27), (_M, 40, 173.85, 31.38), (_F, 20, 180.18, 20.80)),
    # the paper prints 28.26 for both sexes; the groups it is made of, and its own F of 157.79, give 27.26
    *_group(30.0, (None, 165, 168.42, 27.26), (_M, 85, 160.27, 28.37), (_F, 80, 177.08, 23.22)),
    *_group(40.0, (None, 256, 148.27, 27.58), (_M, 157, 139.14, 25.06), (_F, 99, 162.76, 25.18)),
    *_group(50.0, (None, 322, 121.83, 32.53), (_M, 207, 120.48, 33.20), (_F, 115, 124.25, 31.30)),
    *_group(60.0, (None, 117, 94.46, 28.42), (_M, 57, 96.66, 29.52), (_F, 60, 92.36, 27.41)),
    *_group(70.0, (None, 86, 83.83, 33.16), (_M, 41, 102.64, 31.91), (_F, 45, 66.70, 23.85)),
    *_group(80.0, (None, 40, 66.49, 31.20), (_M, 17, 71.88, 33.45), (_F, 23, 62.51, 29.54)),
)
"""Pan 2024 Table 1, groups in order of age; the group of 90 and above (two subjects) is excluded."""


def density_norm(age_years: float, sex: Sex | None) -> DensityNorm | None:
    """Return the norm of this age and sex (``None``: both sexes together), or ``None`` outside 18-90 years.

    The table is a step function of age: there is no interpolation between groups or extrapolation.
    """
    for norm in DENSITY_NORMS:
        if norm.sex is sex and norm.age_low <= age_years < norm.age_high:
            return norm
    return None
