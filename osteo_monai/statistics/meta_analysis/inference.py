"""Inference from a fitted model: bootstrap, leave-one-out and small-study effects."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from scipy.stats import t as t_distribution

from osteo_monai.statistics.meta_analysis.bivariate import fit_bivariate
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit, SummaryPoint, auc_of_curve
from osteo_monai.statistics.meta_analysis.likelihood import cholesky_factor
from osteo_monai.statistics.meta_analysis.refitting import Refitter
from osteo_monai.statistics.meta_analysis.tables import checked_tables, corrected, one_per_study
from osteo_monai.statistics.proportions import Interval

Array = NDArray[np.float64]

__all__ = [
    "Bootstrap",
    "Deeks",
    "Omission",
    "bootstrap",
    "deeks",
    "leave_one_out",
]


# --- bootstrap ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bootstrap:
    """Refits of a model to resampled studies.

    Attributes:
        kind: ``parametric``, or ``studies`` drawn with replacement.
        means: (r, 2) logits of sensitivity and specificity of the usable replicates.
        tau2: (r, 2) their between-study variances.
        auc: (r,) their areas under the SROC curve; ``nan`` if the curve has no slope.
        requested: number of replicates requested; the missing ones had no finite estimate.
        level: confidence level.
    """

    kind: Literal["parametric", "studies"]
    means: Array
    tau2: Array
    auc: Array
    requested: int
    level: float

    def _percentiles(self, values: Array, estimate: float) -> Interval:
        usable = values[np.isfinite(values)]
        if not math.isfinite(estimate) or len(usable) < 0.5 * self.requested:
            return Interval(estimate, math.nan, math.nan)
        tail = 50 * (1 - self.level)
        low, high = np.percentile(usable, [tail, 100 - tail])
        return Interval(estimate, float(low), float(high))

    def auc_interval(self, fit: BivariateFit) -> Interval:
        """Return the percentile interval of the area; no bounds if the fit or half of the replicates have no area."""
        return self._percentiles(self.auc, fit.auc)

    def sensitivity_interval(self, fit: BivariateFit) -> Interval:
        """Return the percentile interval of the summary sensitivity."""
        return self._percentiles(expit(self.means[:, 0]), fit.summary().sensitivity.value)

    def specificity_interval(self, fit: BivariateFit) -> Interval:
        """Return the percentile interval of the summary specificity."""
        return self._percentiles(expit(self.means[:, 1]), fit.summary().specificity.value)


def bootstrap(
    fit: BivariateFit,
    replicates: int = 2000,
    seed: int = 1,
    nodes: int | None = None,
) -> Bootstrap:
    """Refit the model to resampled studies.

    If the tables are independent, each replicate is drawn from the fitted model: true logits from N(mean, Psi), counts
    from their binomials with the numbers of subjects of the studies. If the fit has clusters, whole clusters are drawn
    with replacement instead, since the fitted model does not include their dependence.

    Args:
        fit: a model without covariates.
        replicates: number of resamples, at least 100.
        seed: random seed.
        nodes: quadrature nodes per dimension of the refits (default: 7, and 5 from 200 tables on).

    Raises:
        ValueError: on too few replicates.
    """
    if replicates < 100:
        raise ValueError(f"replicates must be at least 100, got {replicates}")
    rng = np.random.default_rng(seed)
    refit = Refitter(fit, nodes or (7 if fit.n_tables < 200 else 5))
    draw = _model_sampler(fit, rng) if fit.clusters is None else _cluster_sampler(fit.tables, fit.clusters, rng)
    refits = [pair for pair in (refit(draw()) for _ in range(replicates)) if pair is not None]
    means = np.array([mean for mean, _ in refits]).reshape(-1, 2)
    tau2 = np.array([np.diag(psi) for _, psi in refits]).reshape(-1, 2)
    kind: Literal["parametric", "studies"] = "parametric" if fit.clusters is None else "studies"
    blocks = [auc_of_curve(m, np.sqrt(t)) for m, t in zip(_blocks(means), _blocks(tau2), strict=True)]
    return Bootstrap(kind, means, tau2, np.concatenate(blocks), replicates, fit.level)


def _blocks(rows: Array) -> list[Array]:
    return np.array_split(rows, max(1, math.ceil(len(rows) / 256)))


def _model_sampler(fit: BivariateFit, rng: np.random.Generator) -> Callable[[], Array]:
    l11, l21, l22 = cholesky_factor(fit.psi)
    factor = np.array([[l11, 0.0], [l21, l22]])
    mean = fit.summary().mean
    # sorted, so that the draws do not depend on the order of the studies
    tp, fp, fn, tn = fit.tables[np.lexsort(fit.tables.T)].astype(np.int64).T
    diseased, healthy = tp + fn, fp + tn

    def draw() -> Array:
        p = expit(mean + rng.standard_normal((len(tp), 2)) @ factor.T)
        hits, correct = rng.binomial(diseased, p[:, 0]), rng.binomial(healthy, p[:, 1])
        return np.stack([hits, healthy - correct, diseased - hits, correct], axis=1).astype(np.float64)

    return draw


def _cluster_sampler(tables: Array, clusters: Sequence[str], rng: np.random.Generator) -> Callable[[], Array]:
    _, index = np.unique(np.array(clusters), return_inverse=True)
    members = [np.flatnonzero(index == g) for g in range(index.max() + 1)]

    def draw() -> Array:
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        return np.asarray(tables[rows])

    return draw


# --- leave one out ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Omission:
    """The summary without one study (all of its tables), and the (2, 2) between-study covariance.

    Both are ``None`` if there is no estimate; ``reason`` says why.
    """

    omitted: str
    summary: SummaryPoint | None
    psi: Array | None
    reason: str = ""


def leave_one_out(
    fit: BivariateFit, labels: Sequence[object] | None = None, on_step: Callable[[int, int], None] = lambda *_: None
) -> list[Omission]:
    """Refit without each study; the clusters of the fit stay those of the refits.

    Args:
        fit: a model without covariates.
        labels: a label per table; tables that share one are omitted together (default: the clusters of the fit, or one
            table at a time).
        on_step: called with the number of finished refits and of all.

    Raises:
        ValueError: on a model with covariates, or a wrong number of labels.
    """
    if fit.design.shape[1] != 1:
        raise ValueError("fit must be a model without covariates")
    names = [str(n) for n in (labels or fit.clusters or range(1, fit.n_tables + 1))]
    if len(names) != fit.n_tables:
        raise ValueError(f"labels must have a label for each of the {fit.n_tables} tables, got {len(names)}")
    omissions: list[Omission] = []
    units = list(dict.fromkeys(names))
    for name in units:
        omissions.append(_without(fit, [n != name for n in names], name))
        on_step(len(omissions), len(units))
    return omissions


def _without(fit: BivariateFit, kept: list[bool], name: str) -> Omission:
    try:
        correction = fit.correction if fit.method != "binomial" else "all"
        refit = fit_bivariate(fit.tables[kept], fit.method, correction, nodes=fit.nodes or 15, level=fit.level)
        if fit.clusters is not None:
            refit = refit.clustered([c for c, keep in zip(fit.clusters, kept, strict=True) if keep])
        refit = replace(refit, with_t=fit.with_t)
    except ValueError as error:
        return Omission(name, None, None, str(error))
    return Omission(name, refit.summary(), refit.psi, "" if refit.converged else " ".join(refit.messages))


# --- small-study effects ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deeks:
    """Deeks' regression test of funnel asymmetry, with the points of the funnel.

    ``log_dor`` and ``ess`` (k,): log diagnostic odds ratio and effective sample size; ``fitted`` = intercept + slope /
    sqrt(ess).
    """

    slope: float
    slope_se: float
    intercept: float
    intercept_se: float
    df: int
    log_dor: Array
    ess: Array

    @property
    def t(self) -> float:
        """Slope over its standard error."""
        return self.slope / self.slope_se

    @property
    def p(self) -> float:
        """Two-sided p value of the slope."""
        return float(2 * t_distribution.sf(abs(self.t), self.df))


def deeks(tables: ArrayLike, clusters: Sequence[object] | None = None) -> Deeks:
    """Return Deeks' test (Deeks, Macaskill and Irwig 2005): lnDOR on 1 / sqrt(ESS) with weight ESS.

    ESS = 4 n1 n2 / (n1 + n2); tables with an empty cell get 0.5 in each cell first, in the ESS as well (as midas does).

    Args:
        tables: (k, 4) TP, FP, FN, TN.
        clusters: a label per table; the tables of a study then count once, as their mean.

    Raises:
        ValueError: on fewer than 3 tables or studies, or equal effective sample sizes.
    """
    cells = corrected(one_per_study(checked_tables(tables), clusters), "single")
    if len(cells) < 3:
        raise ValueError(f"Deeks' test must have at least 3 studies, got {len(cells)}")
    tp, fp, fn, tn = cells.T
    log_dor = np.log(tp * tn / (fp * fn))
    n1, n2 = tp + fn, fp + tn
    ess = 4 * n1 * n2 / (n1 + n2)
    x = np.stack([np.ones_like(ess), 1 / np.sqrt(ess)], axis=1)
    if np.ptp(x[:, 1]) < 1e-12:
        raise ValueError("effective sample sizes must differ for Deeks' test")
    # scaled to unit weights by sqrt(ESS), the column of the slope is one and that of the intercept sqrt(ESS)
    inverse = np.linalg.inv(x.T @ (ess[:, None] * x))
    intercept, slope = inverse @ (x.T @ (ess * log_dor))
    residual = log_dor - intercept - slope * x[:, 1]
    df = len(ess) - 2
    variance = float((ess * residual**2).sum()) / df
    se = np.sqrt(variance * np.diag(inverse))
    return Deeks(float(slope), float(se[1]), float(intercept), float(se[0]), df, log_dor, ess)
