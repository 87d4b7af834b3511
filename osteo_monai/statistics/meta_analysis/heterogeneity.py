"""Heterogeneity between studies. Three quantities are called I2 in print; each one here carries its name."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm

from osteo_monai.statistics.meta_analysis.bivariate import BivariateFit, checked_tables, logits_and_variances
from osteo_monai.statistics.proportions import Interval, wilson

Array = NDArray[np.float64]

__all__ = ["Homogeneity", "ZhouDendukuri", "higgins", "midas_auc_interval", "midas_pearson", "zhou_dendukuri"]


@dataclass(frozen=True)
class Homogeneity:
    """A test of homogeneity: Q with ``df`` degrees of freedom, its p value, and I2 = max(0, (Q - df) / Q)."""

    q: float
    df: int
    i2: Interval

    @property
    def p(self) -> float:
        """Probability of a larger Q under homogeneity."""
        return float(chi2.sf(self.q, self.df))


def _homogeneity(q: float, df: int, level: float, on_h: bool) -> Homogeneity:
    """I2 with the test-based interval of Higgins and Thompson 2002, on the scale of ln H or (as midas) of I2 itself."""
    if q <= df:
        i2, log_h = 0.0, 0.0
        deviation = math.sqrt(1 / (2 * max(df - 1, 1)) * (1 - 1 / (3 * max(df - 1, 1) ** 2)))
    else:
        i2, log_h = (q - df) / q, 0.5 * math.log(q / df)
        deviation = 0.5 * (math.log(q) - math.log(df)) / (math.sqrt(2 * q) - math.sqrt(2 * df - 1))
    z = float(norm.ppf(0.5 + level / 2))
    if on_h:
        low, high = (1 - math.exp(-2 * (log_h + s * z * deviation)) for s in (-1, 1))
    else:
        slope = 2 * math.exp(-2 * log_h)
        low, high = i2 - z * slope * deviation, i2 + z * slope * deviation
    return Homogeneity(q, df, Interval(i2, max(low, 0.0), min(max(high, 0.0), 1.0)))


def higgins(tables: ArrayLike, level: float = 0.95) -> tuple[Homogeneity, Homogeneity]:
    """Return Cochran's Q and Higgins' I2 of logit sensitivity and of logit specificity (Higgins and Thompson 2002).

    Inverse-variance weights, 0.5 added to every cell: without the correction the weight of a study with an empty cell
    is zero.
    """
    y, v = logits_and_variances(checked_tables(tables, at_least=2) + 0.5)
    w = 1 / v
    q = (w * (y - (w * y).sum(axis=0) / w.sum(axis=0)) ** 2).sum(axis=0)
    first, second = (_homogeneity(float(x), len(y) - 1, level, on_h=True) for x in q)
    return first, second


def midas_pearson(tables: ArrayLike, level: float = 0.95) -> tuple[Homogeneity, Homogeneity]:
    """Return the "I2" that Stata's midas prints: Pearson's Q on the proportion scale. For comparison with papers.

    Q = sum (x - n p)^2 / (n p (1 - p)) about the proportion p pooled by summing. It reads higher than ``higgins``.
    midas takes p from a shared-intercept fit, so that its own Q can differ a little. Its interval is kept as well: the
    test-based one, made symmetric about I2.

    Raises:
        ValueError: where all proportions are 0 or all are 1.
    """
    tp, fp, fn, tn = checked_tables(tables, at_least=2).T
    found = []
    for x, n in ((tp, tp + fn), (tn, tn + fp)):
        p = x.sum() / n.sum()
        if p in (0, 1):
            raise ValueError("Pearson's Q needs a pooled proportion other than 0 and 1")
        q = float(((x - n * p) ** 2 / (n * p * (1 - p))).sum())
        found.append(_homogeneity(q, len(x) - 1, level, on_h=False))
    return found[0], found[1]


@dataclass(frozen=True)
class ZhouDendukuri:
    """I2 of Zhou and Dendukuri 2014: share of the variance that lies between the studies, 0 to 1."""

    bivariate: float
    sensitivity: float
    specificity: float


def zhou_dendukuri(fit: BivariateFit) -> ZhouDendukuri:
    """Return the bivariate I2 and its two univariate companions from a fit without covariates.

    sqrt|Psi| / (sqrt|Psi| + sqrt(E_A E_B)), E = (exp(t/2 + m) + exp(t/2 - m) + 2) mean(1/n): the within-study variance
    of a logit with mean m and between-study variance t, averaged over studies with n diseased (or healthy) subjects.
    """
    tp, fp, fn, tn = fit.tables.T
    m, t = fit.summary().mean, fit.tau2
    inverse_n = np.array([np.mean(1 / (tp + fn)), np.mean(1 / (tn + fp))])
    within = (np.exp(t / 2 + m) + np.exp(t / 2 - m) + 2) * inverse_n
    between = math.sqrt(max(float(np.linalg.det(fit.psi)), 0.0))
    univariate = t / (t + within)
    return ZhouDendukuri(
        between / (between + math.sqrt(float(within.prod()))), float(univariate[0]), float(univariate[1])
    )


def midas_auc_interval(auc: float, level: float = 0.95) -> Interval:
    """Return the interval that Stata's midas 1.00 prints beside the area: Wilson's, its n the 500 points of the curve.

    It depends on no study at all and is **not** a sampling interval. For comparison with papers only.
    """
    return wilson(auc * 500, 500, level)
