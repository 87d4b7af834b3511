"""Published values of Wang et al. 2025, and checks that need no study tables, which were not published.

Source of every number: Wang A, Ma Z, Wang T, et al. J Med Internet Res 2025;27:e77155, doi 10.2196/77155 (CC BY 4.0).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logit
from scipy.stats import norm

from osteo_monai.statistics.meta_analysis.covariates import LikelihoodRatioTest
from osteo_monai.statistics.meta_analysis.estimates import SummaryPoint
from osteo_monai.statistics.meta_analysis.heterogeneity import midas_auc_interval
from osteo_monai.statistics.proportions import Interval

__all__ = [
    "WANG_2025",
    "WANG_2025_CONTRADICTIONS",
    "WANG_2025_FAGAN",
    "WANG_2025_SUBGROUPS",
    "FaganCheck",
    "PooledReference",
    "SubgroupCheck",
    "auc_interval_checks",
    "fagan_check",
    "printed_as",
    "subgroup_checks",
]


@dataclass(frozen=True)
class PooledReference:
    """Pooled values of a review as printed, rounded to two decimals; I2 as its program (Stata midas) defines it."""

    target: str
    models: int
    sensitivity: Interval
    specificity: Interval
    auc: Interval
    i2_sensitivity: float
    i2_specificity: float

    @property
    def point(self) -> SummaryPoint:
        """Summary point with standard errors from the printed intervals; the covariance was not published."""
        z = 2 * float(norm.ppf(0.975))
        pair = (self.sensitivity, self.specificity)
        se = [(logit(i.high) - logit(i.low)) / z for i in pair]
        return SummaryPoint(np.array([float(logit(i.value)) for i in pair]), np.diag(np.square(se)))


WANG_2025: dict[str, PooledReference] = {
    r.target: r
    for r in (
        PooledReference(
            "osteoporosis",
            39,
            Interval(0.88, 0.85, 0.91),
            Interval(0.94, 0.91, 0.96),
            Interval(0.96, 0.93, 0.97),
            0.8369,
            0.9507,
        ),
        PooledReference(
            "osteopenia",
            19,
            Interval(0.81, 0.76, 0.85),
            Interval(0.92, 0.90, 0.94),
            Interval(0.94, 0.92, 0.96),
            0.8238,
            0.7905,
        ),
        PooledReference(
            "normal",
            30,
            Interval(0.95, 0.92, 0.97),
            Interval(0.93, 0.91, 0.95),
            Interval(0.98, 0.96, 0.99),
            0.9828,
            0.9493,
        ),
    )
}
"""Abstract and Results."""

WANG_2025_FAGAN = (0.20, 0.80, 0.03)
"""Figure 7: pre-test probability, and post-test probability after a positive and after a negative test."""

WANG_2025_SUBGROUPS: dict[str, tuple[str, int, float]] = {
    "Validation strategy": (".08", 61, 5.15),
    "Backbone network architecture": ("<.001", 96, 46.90),
    "Scan plane": ("<.001", 95, 41.19),
    "Image window setting": (".63", 0, 0.93),
    "Input data format": ("<.001", 89, 18.65),
    "Reference standard": ("<.001", 94, 35.71),
    "Model dimensionality": ("<.001", 87, 15.19),
}
"""Table 2: printed p, printed I2 in per cent, and the chi-square of the likelihood-ratio test with 2 df."""

WANG_2025_CONTRADICTIONS: tuple[tuple[str, str, str], ...] = (
    (
        "Figure 7",
        "post-test probability 80 %",
        "Se 0.88 and Sp 0.94 as printed give 78.6 %; 80 % is reached only at the edge of their rounding. 3 % agrees.",
    ),
    (
        "AUC intervals",
        "0.93-0.97, 0.92-0.96, 0.96-0.99",
        "All three equal a Wilson interval of 500 curve points, not of any study: no sampling interval (inferred).",
    ),
    (
        "Table 1",
        "20 studies pooled",
        "Only 19 rows carry the footnote of pooled studies, and the text cites 10. Reference 35 lacks the footnote, "
        "but the Results count it among the pooled studies.",
    ),
    ("Results", "test sets from 45 to 2867 (reference 23)", "Table 1 gives 975 and 4401 for this study."),
    ("Results", "20 studies used single-center data", "The list has 19, with one multicentre study among them."),
    ("Results", "19 studies used axial images", "The list has 20."),
    ("Results", "segmentation automated in 18, manual in 5 studies", "These are 23 of 24."),
    (
        "Methods",
        "39 models treated as independent",
        "They are from 20 studies: intervals are too narrow. Two studies share authors and a test set of 418.",
    ),
    ("Statistics", "Higgins I2", "midas prints Pearson's I2 on the proportion scale, which is higher than Higgins'."),
)
"""Place in the publication, printed value, and the contradiction."""


@dataclass(frozen=True)
class FaganCheck:
    """Post-test probabilities from the printed values, with the ranges due to their rounding to two decimals."""

    prevalence: float
    printed_positive: float
    printed_negative: float
    positive: Interval
    negative: Interval


def fagan_check() -> FaganCheck:
    """Recompute the review's Fagan figures from its pooled sensitivity and specificity."""
    prevalence, positive, negative = WANG_2025_FAGAN
    pooled = WANG_2025["osteoporosis"]
    odds = prevalence / (1 - prevalence)

    def after(se: float, sp: float) -> tuple[float, float]:
        up, down = odds * se / (1 - sp), odds * (1 - se) / sp
        return up / (1 + up), down / (1 + down)

    se, sp, half = pooled.sensitivity.value, pooled.specificity.value, 0.005
    middle, low, high = after(se, sp), after(se - half, sp - half), after(se + half, sp + half)
    return FaganCheck(
        prevalence,
        positive,
        negative,
        Interval(middle[0], low[0], high[0]),
        Interval(middle[1], high[1], low[1]),
    )


@dataclass(frozen=True)
class SubgroupCheck:
    """A row of the review's Table 2 with p and I2 recomputed from its chi-square."""

    name: str
    printed_p: str
    printed_i2: int
    test: LikelihoodRatioTest

    @property
    def agrees(self) -> bool:
        """Whether both printed values follow from the chi-square."""
        return round(100 * self.test.midas_i2) == self.printed_i2 and printed_as(self.test.p) == self.printed_p


def printed_as(p: float) -> str:
    """Return a p value in the review's style."""
    return "<.001" if p < 0.001 else f"{p:.2f}".removeprefix("0")


def subgroup_checks() -> list[SubgroupCheck]:
    """Recompute the review's table of subgroup tests."""
    return [
        SubgroupCheck(name, p, i2, LikelihoodRatioTest(value, 2))
        for name, (p, i2, value) in WANG_2025_SUBGROUPS.items()
    ]


def auc_interval_checks() -> list[tuple[str, Interval, Interval]]:
    """Return per target the printed area with its interval, and Wilson's interval of 500 curve points.

    Among the areas that round to the printed one, that with the best fitting Wilson interval is returned.
    """
    checks = []
    for target, pooled in WANG_2025.items():
        candidates = [
            midas_auc_interval(a) for a in np.arange(pooled.auc.value - 0.005, pooled.auc.value + 0.005, 0.0005)
        ]
        best = min(candidates, key=lambda i: abs(i.low - pooled.auc.low) + abs(i.high - pooled.auc.high))
        checks.append((target, pooled.auc, best))
    return checks
