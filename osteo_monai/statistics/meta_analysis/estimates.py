"""Estimates of the bivariate model: summary point, SROC curve, regions and HSROC parameters.

All are on the logit scale of (sensitivity, specificity), in this order; programs that use the false positive rate have
the opposite sign of the correlation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import f as f_distribution
from scipy.stats import norm
from scipy.stats import t as t_distribution

from osteo_monai.errors import NotEstimableError
from osteo_monai.statistics.meta_analysis.tables import (
    Array,
    Correction,
)
from osteo_monai.statistics.proportions import Interval

__all__ = ["NO_VARIANCE", "BivariateFit", "Hsroc", "Method", "SummaryPoint", "auc_of_curve"]

Method = Literal["binomial", "reml", "ml"]

NO_VARIANCE = 1e-6
"""A between-study variance of a logit below this counts as zero: it changes a proportion by less than 0.03 points."""


@dataclass(frozen=True)
class SummaryPoint:
    """Means of logit sensitivity and specificity with their covariance, and derived quantities.

    Args:
        mean: (2,) logits of sensitivity and specificity.
        cov: (2, 2) covariance of these estimates.
        level: confidence level of every interval.
        df: degrees of freedom of the t quantile; ``None`` for the normal quantile.
    """

    mean: Array
    cov: Array
    level: float = 0.95
    df: float | None = None

    @property
    def quantile(self) -> float:
        """Factor of the standard errors."""
        upper = 0.5 + self.level / 2
        return float(norm.ppf(upper) if self.df is None else t_distribution.ppf(upper, self.df))

    def _on_logit(self, which: int) -> Interval:
        m, half = self.mean[which], self.quantile * math.sqrt(max(self.cov[which, which], 0.0))
        return Interval(float(expit(m)), float(expit(m - half)), float(expit(m + half)))

    def _on_log(self, value: float, gradient: Sequence[float]) -> Interval:
        """Delta-method interval of ``exp(value)``."""
        g = np.asarray(gradient)
        half = self.quantile * math.sqrt(max(float(g @ self.cov @ g), 0.0))
        low, middle, high = np.exp(np.clip([value - half, value, value + half], -700, 700))
        return Interval(float(middle), float(low), float(high))

    @property
    def standard_errors(self) -> Array:
        """(2,) standard errors of the two logits."""
        return np.sqrt(np.diag(self.cov))

    @property
    def sensitivity(self) -> Interval:
        """Sensitivity, its interval symmetric on the logit scale."""
        return self._on_logit(0)

    @property
    def specificity(self) -> Interval:
        """Specificity, its interval symmetric on the logit scale."""
        return self._on_logit(1)

    @property
    def positive_lr(self) -> Interval:
        """LR+ = Se / (1 - Sp)."""
        se, sp = expit(self.mean)
        return self._on_log(math.log(se) + np.logaddexp(0, self.mean[1]), (1 - se, sp))

    @property
    def negative_lr(self) -> Interval:
        """LR- = (1 - Se) / Sp."""
        se, sp = expit(self.mean)
        return self._on_log(-np.logaddexp(0, self.mean[0]) - math.log(sp), (-se, sp - 1))

    @property
    def odds_ratio(self) -> Interval:
        """Diagnostic odds ratio LR+ / LR-."""
        return self._on_log(float(self.mean.sum()), (1, 1))

    def post_test(self, prevalence: float) -> tuple[Interval, Interval]:
        """Return the probability of disease after a positive and after a negative test (Fagan 1975).

        Args:
            prevalence: pre-test probability, between 0 and 1 exclusive.
        """
        if not 0 < prevalence < 1:
            raise ValueError(f"prevalence must be between 0 and 1, got {prevalence}")
        odds = prevalence / (1 - prevalence)

        def after(ratio: Interval) -> Interval:
            low, middle, high = (odds * lr / (1 + odds * lr) for lr in (ratio.low, ratio.value, ratio.high))
            return Interval(middle, low, high)

        return after(self.positive_lr), after(self.negative_lr)


@dataclass(frozen=True)
class Hsroc:
    """Parameters of the hierarchical SROC model (Rutter and Gatsonis 2001), by the identities of Harbord 2007."""

    threshold: float
    accuracy: float
    shape: float
    var_threshold: float
    var_accuracy: float


def auc_of_curve(mean: ArrayLike, tau: ArrayLike) -> Array:
    """Return the area under logit Se = m_se + (tau_se / tau_sp) (logit FPR + m_sp), FPR from 0 to 1; vectorised.

    If one of the two variances is zero, the limit is returned (a level curve or a step); if both are, ``nan``.

    Args:
        mean: (..., 2) logits of sensitivity and specificity.
        tau: (..., 2) between-study standard deviations.
    """
    m, s = np.asarray(mean, dtype=np.float64), np.asarray(tau, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = s[..., 0] / s[..., 1]
    # trapezoids over logit FPR: the error falls exponentially for a smooth integrand that vanishes at both ends
    z = np.linspace(-45.0, 45.0, 3601)
    p = expit(z)
    weight = p * (1 - p) * (z[1] - z[0])
    with np.errstate(invalid="ignore"):
        curve = expit(m[..., 0, None] + slope[..., None] * (z + m[..., 1, None]))
    area = np.asarray((curve * weight).sum(axis=-1))
    area = np.where(slope > 20, expit(m[..., 1]), area)  # towards a step at the pooled FPR; see BivariateFit.auc
    return np.where((s < math.sqrt(NO_VARIANCE)).all(axis=-1), np.nan, area)


@dataclass(frozen=True)
class BivariateFit:
    """Estimates of a bivariate model.

    Attributes:
        method: of the fit.
        correction: of empty cells; ``"none"`` for the exact binomial likelihood.
        tables: (k, 4) counts.
        design: (k, p) covariates, the first a column of ones.
        coefficients: (2, p) for logit sensitivity and specificity; the first column is the intercept.
        coefficient_cov: (2p, 2p) covariance of the coefficients, those of sensitivity first.
        psi: (2, 2) between-study covariance.
        log_likelihood: maximised (restricted) log-likelihood with all its constants.
        converged: whether the maximum was reached.
        messages: why not, and boundaries that were reached.
        decrement: Newton decrement at the estimate, about twice the distance from the maximal log-likelihood.
        nodes: quadrature nodes per dimension; 0 for the normal approximation.
        scores: (k, m) score of each study for all free parameters.
        bread: (m, m) their inverse information.
        level: confidence level.
        clusters: (k,) study of each table if several tables share one, see ``clustered``; ``None`` if all tables are
            independent.
        with_t: whether intervals have t quantiles although the tables are independent, see ``reported``.
    """

    method: Method
    correction: Correction
    tables: Array
    design: Array
    coefficients: Array
    coefficient_cov: Array
    psi: Array
    log_likelihood: float
    converged: bool
    messages: tuple[str, ...]
    decrement: float
    nodes: int
    scores: Array
    bread: Array
    level: float = 0.95
    clusters: tuple[str, ...] | None = None
    with_t: bool = False

    @property
    def n_tables(self) -> int:
        """Number of 2 x 2 tables."""
        return len(self.tables)

    @property
    def n_studies(self) -> int:
        """Number of independent units: clusters if there are any, else tables."""
        return self.n_tables if self.clusters is None else len(set(self.clusters))

    def clustered(self, clusters: Sequence[object] | None) -> "BivariateFit":
        """Return this fit with all its intervals and regions for tables that are not independent.

        The estimates stay. The covariance of the coefficients becomes the cluster-robust sandwich with the factor
        G / (G - 1); quantiles are of t with G - 1 degrees of freedom for G clusters.

        Args:
            clusters: (k,) a label per table; tables that share one are not independent (several models tested on the
                same patients). ``None``: all are independent.

        Raises:
            ValueError: on a wrong number of labels, or with fewer than 3 clusters.
        """
        if clusters is None:
            return replace(self, clusters=None)
        labels = tuple(str(c) for c in clusters)
        if len(labels) != self.n_tables:
            raise ValueError(f"clusters must have a label for each of the {self.n_tables} tables, got {len(labels)}")
        if (count := len(set(labels))) < 3:
            raise ValueError(f"clusters must be at least 3, got {count}")
        return replace(self, clusters=labels)

    def reported(self, clusters: Sequence[object] | None = None) -> "BivariateFit":
        """Return this fit with the intervals to report.

        They are those of ``clustered`` if some tables share a label. If all tables are independent, the quantiles are
        of t with k - 1 degrees of freedom: with normal ones the intervals covered in 78 to 94 % of simulated
        meta-analyses of 3 to 20 studies (docs/evidence.md).
        """
        if clusters is not None and len({str(c) for c in clusters}) < len(clusters):
            return self.clustered(clusters)
        return replace(self, clusters=None, with_t=True)

    @property
    def coefficient_covariance(self) -> Array:
        """(2p, 2p) covariance of the coefficients, those of sensitivity first; cluster-robust if there are clusters."""
        if self.clusters is None:
            return self.coefficient_cov
        names, index = np.unique(np.array(self.clusters), return_inverse=True)
        count = len(names)
        sums = np.zeros((count, self.scores.shape[1]))
        np.add.at(sums, index, self.scores)
        n = self.coefficients.size
        return np.asarray((self.bread @ (sums.T @ sums) @ self.bread * count / (count - 1))[:n, :n])

    @property
    def df(self) -> float | None:
        """Degrees of freedom of the t quantile of every interval; ``None`` for the normal quantile."""
        return self.n_studies - 1.0 if self.with_t or self.clusters is not None else None

    def summary(self, covariates: ArrayLike = ()) -> SummaryPoint:
        """Return the summary point at given covariates (none for a model without any).

        Args:
            covariates: (p - 1,) values of the covariates the model was fitted with.

        Raises:
            ValueError: on the wrong number of covariates.
        """
        x = np.concatenate([[1.0], np.asarray(covariates, dtype=np.float64).reshape(-1)])
        p = self.design.shape[1]
        if len(x) != p:
            raise ValueError(f"covariates must have {p - 1} values, got {len(x) - 1}")
        project = np.kron(np.eye(2), x)
        cov = project @ self.coefficient_covariance @ project.T
        return SummaryPoint(self.coefficients @ x, cov, self.level, self.df)

    @property
    def tau2(self) -> Array:
        """(2,) between-study variances of logit sensitivity and specificity."""
        return np.diag(self.psi).copy()

    @property
    def correlation(self) -> float:
        """Between-study correlation of the logits; ``nan`` if a variance is zero."""
        if (self.tau2 < NO_VARIANCE).any():
            return math.nan
        return float(np.clip(self.psi[0, 1] / math.sqrt(self.psi[0, 0] * self.psi[1, 1]), -1, 1))

    def sroc(self, fpr: ArrayLike, covariates: ArrayLike = ()) -> Array:
        """Return the sensitivity of the summary ROC curve at false positive rates (Rutter-Gatsonis slope tau_A/tau_B).

        Raises:
            NotEstimableError: if a between-study variance is zero, so that the curve has no slope.
        """
        if (self.tau2 < NO_VARIANCE).any():
            raise NotEstimableError("the SROC curve has no slope: a between-study variance is zero")
        m = self.summary(covariates).mean
        p = np.asarray(fpr, dtype=np.float64)
        with np.errstate(divide="ignore"):
            logit = np.log(p) - np.log1p(-p)
        return np.asarray(expit(m[0] + math.sqrt(self.tau2[0] / self.tau2[1]) * (logit + m[1])))

    @property
    def auc(self) -> float:
        """Area under the SROC curve over all false positive rates; ``nan`` if the curve has no slope."""
        if (self.tau2 < NO_VARIANCE).any():
            return math.nan
        m = self.summary().mean
        slope = math.sqrt(self.tau2[0] / self.tau2[1])
        points = sorted({-50.0, float(np.clip(-m[1] - m[0] / slope, -49, 49)), float(np.clip(-m[1], -49, 49)), 50.0})

        def density(z: float) -> float:
            p = expit(z)
            return float(expit(m[0] + slope * (z + m[1])) * p * (1 - p))

        parts = (quad(density, a, b, epsabs=1e-12, epsrel=1e-12, limit=200)[0] for a, b in pairwise(points))
        return float(sum(parts))

    @property
    def hsroc(self) -> Hsroc | None:
        """HSROC parameters, or ``None`` if a between-study variance is zero."""
        if (self.tau2 < NO_VARIANCE).any():
            return None
        m = self.summary().mean
        a, b = math.sqrt(self.tau2[0]), math.sqrt(self.tau2[1])
        ratio, cov = math.sqrt(b / a), -self.psi[0, 1]  # covariance with logit FPR
        se, fpr = float(ratio * m[0]), float(-m[1] / ratio)
        return Hsroc((se + fpr) / 2, se - fpr, math.log(b / a), float(a * b + cov) / 2, float(a * b - cov) * 2)

    def region(self, kind: Literal["confidence", "prediction"], points: int = 361) -> Array:
        """Return the boundary of the confidence region of the mean, or of the prediction region of a new study.

        An ellipse on the logit scale whose radius is sqrt(2 F(2, k - 2)) for k studies, as in Harbord and Whiting 2009.

        Returns:
            (points, 2): false positive rate and sensitivity.
        """
        summary = self.summary()
        cov = summary.cov + (self.psi if kind == "prediction" else 0)
        radius = math.sqrt(2 * f_distribution.ppf(self.level, 2, self.n_studies - 2))
        angle = np.linspace(0, 2 * np.pi, points)
        values, vectors = np.linalg.eigh(cov)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.sqrt(np.clip(values, 0, None))
        logits = summary.mean + radius * ring @ vectors.T
        return np.stack([expit(-logits[:, 1]), expit(logits[:, 0])], axis=1)

    @property
    def prediction_intervals(self) -> tuple[Interval, Interval]:
        """Prediction intervals of the true sensitivity and specificity of a new study (t, k - 2 df)."""
        s = self.summary()
        half = t_distribution.ppf(0.5 + self.level / 2, self.n_studies - 2) * np.sqrt(np.diag(s.cov) + self.tau2)
        low, middle, high = expit(s.mean - half), expit(s.mean), expit(s.mean + half)
        return (
            Interval(float(middle[0]), float(low[0]), float(high[0])),
            Interval(float(middle[1]), float(low[1]), float(high[1])),
        )
