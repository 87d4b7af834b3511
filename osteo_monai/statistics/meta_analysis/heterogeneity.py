"""Heterogeneity between studies; each of the quantities published as I2 has the name of its definition here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from scipy.stats import chi2, norm

from osteo_monai.statistics.meta_analysis.estimates import BivariateFit
from osteo_monai.statistics.meta_analysis.tables import checked_tables, margin_logits, one_per_study
from osteo_monai.statistics.proportions import Interval, wilson

Array = NDArray[np.float64]

__all__ = [
    "Homogeneity",
    "Univariate",
    "ZhouDendukuri",
    "higgins",
    "midas_auc_interval",
    "midas_pearson",
    "univariate",
    "zhou_dendukuri",
]


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


def higgins(
    tables: ArrayLike, level: float = 0.95, clusters: Sequence[object] | None = None
) -> tuple[Homogeneity, Homogeneity]:
    """Return Cochran's Q and Higgins' I2 of logit sensitivity and of logit specificity (Higgins and Thompson 2002).

    Inverse-variance weights; 0.5 is added to both counts of a proportion of 0 or 1 only (metafor's rule ``only0``).

    Args:
        tables: (k, 4) TP, FP, FN, TN.
        level: confidence level.
        clusters: a label per table; the tables of a study then count once, as their mean.
    """
    y, v = margin_logits(one_per_study(checked_tables(tables, at_least=2), clusters))
    w = 1 / v
    q = (w * (y - (w * y).sum(axis=0) / w.sum(axis=0)) ** 2).sum(axis=0)
    first, second = (_homogeneity(float(x), len(y) - 1, level, on_h=True) for x in q)
    return first, second


@dataclass(frozen=True)
class Univariate:
    """Sensitivity or specificity pooled separately: the proportion, its between-study variance of the logit, I2.

    ``i2`` = tau2 / (tau2 + s2), s2 the typical within-study variance of Higgins and Thompson 2002. With the estimate of
    DerSimonian and Laird it equals the I2 that follows from Q.
    """

    pooled: Interval
    tau2: float
    i2: float


def univariate(
    tables: ArrayLike,
    estimator: Literal["reml", "dl"] = "reml",
    level: float = 0.95,
    clusters: Sequence[object] | None = None,
) -> tuple[Univariate, Univariate]:
    """Return sensitivity and specificity, pooled separately; report the bivariate model instead.

    Correction and ``clusters`` as in ``higgins``. ``"reml"``: restricted maximum likelihood by Fisher scoring;
    ``"dl"``: DerSimonian and Laird 1986. The interval is Wald's on the logit scale.

    Raises:
        ValueError: on another estimator, or tables that cannot be used.
    """
    if estimator not in ("reml", "dl"):
        raise ValueError(f"estimator must be 'reml' or 'dl', got '{estimator}'")
    logits, variances = margin_logits(one_per_study(checked_tables(tables, at_least=2), clusters))
    z = float(norm.ppf(0.5 + level / 2))
    margins = []
    for y, v in zip(logits.T, variances.T, strict=True):
        w = 1 / v
        spread = float(w.sum() - (w * w).sum() / w.sum())
        q = float((w * (y - (w * y).sum() / w.sum()) ** 2).sum())
        tau2 = max(0.0, (q - len(y) + 1) / spread)
        if estimator == "reml":
            tau2 = _reml(y, v, tau2)
        w = 1 / (v + tau2)
        mean, half = (w * y).sum() / w.sum(), z / math.sqrt(w.sum())
        value, low, high = (float(expit(mean + s * half)) for s in (0, -1, 1))
        margins.append(Univariate(Interval(value, low, high), tau2, tau2 / (tau2 + (len(y) - 1) / spread)))
    return margins[0], margins[1]


def _reml(y: Array, v: Array, tau2: float) -> float:
    """Return the between-study variance at the maximum of the restricted likelihood, at least 0."""
    for _ in range(1000):
        w = 1 / (v + tau2)
        second, third = (w**2).sum() / w.sum(), (w**3).sum() / w.sum()
        u = w * (y - (w * y).sum() / w.sum())
        # score over information, both twice: y'PPy - tr P and tr PP with P = W - W11'W / sum w
        step = ((u * u).sum() - (w.sum() - second)) / ((w**2).sum() - 2 * third + second**2)
        new = max(0.0, tau2 + float(step))
        if abs(new - tau2) < 1e-12 * (1 + tau2):
            return new
        tau2 = new
    return tau2


def midas_pearson(
    tables: ArrayLike, level: float = 0.95, clusters: Sequence[object] | None = None
) -> tuple[Homogeneity, Homogeneity]:
    """Return the "I2" that Stata's midas prints: Pearson's Q on the proportion scale. For comparison with papers.

    Q = sum (x - n p)^2 / (n p (1 - p)) about the proportion p pooled by summing. It is higher than ``higgins``.
    midas takes p from a shared-intercept fit, so that its Q can differ slightly. The interval is that of midas too:
    test-based and symmetric about I2. With ``clusters`` (as in ``higgins``) it differs from midas, which has none.

    Raises:
        ValueError: if all proportions are 0 or all are 1.
    """
    tp, fp, fn, tn = one_per_study(checked_tables(tables, at_least=2), clusters).T
    margins = []
    for x, n in ((tp, tp + fn), (tn, tn + fp)):
        p = x.sum() / n.sum()
        if p in (0, 1):
            raise ValueError(f"the pooled proportion must not be 0 or 1 for Pearson's Q, got {p:g}")
        q = float(((x - n * p) ** 2 / (n * p * (1 - p))).sum())
        margins.append(_homogeneity(q, len(x) - 1, level, on_h=False))
    return margins[0], margins[1]


@dataclass(frozen=True)
class ZhouDendukuri:
    """I2 of Zhou and Dendukuri 2014: share of the variance that is between the studies, 0 to 1."""

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
    """Return the interval that Stata's midas 1.00 prints with the area: Wilson's, for 500 points of the curve.

    It does not depend on any study and is **not** a sampling interval. For comparison with papers only.
    """
    return wilson(auc * 500, 500, level)
