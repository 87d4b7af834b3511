"""The bivariate random-effects model of diagnostic accuracy, and what is read from its estimates.

Everything is on the logit scale of (sensitivity, specificity), in this order; programs that work with the false
positive rate have the opposite sign for the correlation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import f as f_distribution
from scipy.stats import norm
from scipy.stats import t as t_distribution

from osteo_monai.errors import NotEstimableError
from osteo_monai.statistics.meta_analysis.likelihood import BinomialLikelihood, NormalLikelihood, cholesky_factor
from osteo_monai.statistics.proportions import Interval

Array = NDArray[np.float64]
Method = Literal["binomial", "reml", "ml"]
Correction = Literal["all", "single", "none"]
Objective = Callable[[Array], tuple[float, Array]]
"""Parameters to log-likelihood and gradient."""

METHODS: dict[str, str] = {
    "binomial": "exact binomial likelihood, adaptive Gauss-Hermite quadrature",
    "reml": "normal approximation, restricted maximum likelihood",
    "ml": "normal approximation, maximum likelihood",
}

_NO_VARIANCE = 1e-6
"""A between-study variance of a logit below this is called zero: it moves a proportion by less than 0.03 points."""
_FULL_CORRELATION = 0.9999
_FAR_LOGIT = 14.0
"""A pooled logit beyond this (a proportion within 1e-6 of 0 or 1) is a likelihood that climbs for ever."""

__all__ = [
    "METHODS",
    "BivariateFit",
    "Hsroc",
    "Method",
    "SummaryPoint",
    "auc_of_curve",
    "corrected",
    "fit_bivariate",
]


# --- what is read from the estimates ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SummaryPoint:
    """Means of logit sensitivity and specificity with their covariance, and all that follows from the two.

    Args:
        mean: (2,) logits of sensitivity and specificity.
        cov: (2, 2) covariance of these estimates.
        level: confidence level of every interval.
        df: degrees of freedom of the t quantile; ``None`` takes the normal one.
    """

    mean: Array
    cov: Array
    level: float = 0.95
    df: float | None = None

    @property
    def quantile(self) -> float:
        """Quantile by which standard errors are multiplied."""
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
            raise ValueError(f"prevalence must lie between 0 and 1, got {prevalence}")
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

    Where one of the two variances is zero the limit is given (a level curve or a step); where both are, ``nan``.

    Args:
        mean: (..., 2) logits of sensitivity and specificity.
        tau: (..., 2) between-study standard deviations.
    """
    m, s = np.asarray(mean, dtype=np.float64), np.asarray(tau, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = s[..., 0] / s[..., 1]
    # trapezoids over logit FPR: for a smooth integrand that dies out at both ends the error falls exponentially
    z = np.linspace(-45.0, 45.0, 3601)
    p = expit(z)
    weight = p * (1 - p) * (z[1] - z[0])
    with np.errstate(invalid="ignore"):
        curve = expit(m[..., 0, None] + slope[..., None] * (z + m[..., 1, None]))
    area = np.asarray((curve * weight).sum(axis=-1))
    area = np.where(slope > 20, expit(m[..., 1]), area)  # towards a step at the pooled FPR; see BivariateFit.auc
    return np.where((s < math.sqrt(_NO_VARIANCE)).all(axis=-1), np.nan, area)


@dataclass(frozen=True)
class BivariateFit:
    """Estimates of a bivariate model.

    Attributes:
        method, correction: what was fitted; ``correction`` is ``"none"`` for the exact binomial likelihood.
        n_studies: number of 2 x 2 tables.
        coefficients: (2, p) for logit sensitivity and specificity; the first column is the intercept.
        coefficient_cov: (2p, 2p) covariance of the coefficients, those of sensitivity first.
        psi: (2, 2) between-study covariance.
        log_likelihood: maximised (restricted) log-likelihood with all its constants.
        converged: whether the maximum was reached; ``messages`` says why not, and names boundaries.
        decrement: Newton decrement at the estimate, about twice the log-likelihood still to be gained.
        scores: (k, m) score of each study for all free parameters, and ``bread`` (m, m) their inverse information.
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

    @property
    def n_studies(self) -> int:
        return len(self.tables)

    def summary(self, covariates: ArrayLike = (), clusters: Sequence[object] | None = None) -> SummaryPoint:
        """Return the summary point at given covariates (none for a model without any).

        Args:
            covariates: (p - 1,) values of the covariates the model was fitted with.
            clusters: a label per table; tables that share one are not independent (several models tested on the same
                patients). The covariance is then the cluster-robust sandwich with the factor G / (G - 1) and a t
                quantile with G - 1 degrees of freedom for G clusters; the estimates stay.

        Raises:
            ValueError: on the wrong number of covariates or labels, or with fewer than 3 clusters.
        """
        x = np.concatenate([[1.0], np.asarray(covariates, dtype=np.float64).reshape(-1)])
        p = self.design.shape[1]
        if len(x) != p:
            raise ValueError(f"covariates must have {p - 1} values, got {len(x) - 1}")
        cov, df = self.coefficient_cov, None
        if clusters is not None:
            cov, df = self._clustered(clusters)
        project = np.kron(np.eye(2), x)
        return SummaryPoint(self.coefficients @ x, project @ cov @ project.T, self.level, df)

    def _clustered(self, clusters: Sequence[object]) -> tuple[Array, float]:
        if len(clusters) != self.n_studies:
            raise ValueError(f"clusters must have a label for each of the {self.n_studies} tables, got {len(clusters)}")
        _, index = np.unique(np.array([str(c) for c in clusters]), return_inverse=True)
        count = int(index.max()) + 1
        if count < 3:
            raise ValueError(f"clusters must be at least 3, got {count}")
        sums = np.zeros((count, self.scores.shape[1]))
        np.add.at(sums, index, self.scores)
        sandwich = self.bread @ (sums.T @ sums) @ self.bread * count / (count - 1)
        n = self.coefficients.size
        return sandwich[:n, :n], count - 1.0

    @property
    def tau2(self) -> Array:
        """(2,) between-study variances of logit sensitivity and specificity."""
        return np.diag(self.psi).copy()

    @property
    def correlation(self) -> float:
        """Between-study correlation of the logits; ``nan`` where a variance is zero."""
        if (self.tau2 < _NO_VARIANCE).any():
            return math.nan
        return float(np.clip(self.psi[0, 1] / math.sqrt(self.psi[0, 0] * self.psi[1, 1]), -1, 1))

    def sroc(self, fpr: ArrayLike, covariates: ArrayLike = ()) -> Array:
        """Return the sensitivity of the summary ROC curve at false positive rates (Rutter-Gatsonis slope tau_A/tau_B).

        Raises:
            NotEstimableError: where a between-study variance is zero, so that the curve has no slope.
        """
        if (self.tau2 < _NO_VARIANCE).any():
            raise NotEstimableError("the SROC curve has no slope: a between-study variance is zero")
        m = self.summary(covariates).mean
        p = np.asarray(fpr, dtype=np.float64)
        with np.errstate(divide="ignore"):
            logit = np.log(p) - np.log1p(-p)
        return expit(m[0] + math.sqrt(self.tau2[0] / self.tau2[1]) * (logit + m[1]))

    @property
    def auc(self) -> float:
        """Area under the SROC curve over all false positive rates; ``nan`` where the curve has no slope."""
        if (self.tau2 < _NO_VARIANCE).any():
            return math.nan
        m = self.summary().mean
        slope = math.sqrt(self.tau2[0] / self.tau2[1])
        points = sorted({-50.0, float(np.clip(-m[1] - m[0] / slope, -49, 49)), float(np.clip(-m[1], -49, 49)), 50.0})

        def density(z: float) -> float:
            p = expit(z)
            return float(expit(m[0] + slope * (z + m[1])) * p * (1 - p))

        return sum(quad(density, a, b, epsabs=1e-12, epsrel=1e-12, limit=200)[0] for a, b in pairwise(points))

    @property
    def hsroc(self) -> Hsroc | None:
        """HSROC parameters, or ``None`` where a between-study variance is zero."""
        if (self.tau2 < _NO_VARIANCE).any():
            return None
        m = self.summary().mean
        a, b = math.sqrt(self.tau2[0]), math.sqrt(self.tau2[1])
        ratio, cov = math.sqrt(b / a), -self.psi[0, 1]  # covariance with logit FPR
        se, fpr = float(ratio * m[0]), float(-m[1] / ratio)
        return Hsroc((se + fpr) / 2, se - fpr, math.log(b / a), float(a * b + cov) / 2, float(a * b - cov) * 2)

    def region(self, kind: Literal["confidence", "prediction"], points: int = 361) -> Array:
        """Return the boundary of the confidence region of the mean, or of the prediction region of a new study.

        An ellipse on the logit scale whose radius is sqrt(2 F(2, k - 2)), as in Harbord and Whiting 2009.

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
        """Intervals in which the true sensitivity, and the true specificity, of a new study lies (t, k - 2 df)."""
        s = self.summary()
        half = t_distribution.ppf(0.5 + self.level / 2, self.n_studies - 2) * np.sqrt(np.diag(s.cov) + self.tau2)
        low, middle, high = expit(s.mean - half), expit(s.mean), expit(s.mean + half)
        return (
            Interval(float(middle[0]), float(low[0]), float(high[0])),
            Interval(float(middle[1]), float(low[1]), float(high[1])),
        )


# --- fitting ------------------------------------------------------------------------------------------------------


def corrected(tables: ArrayLike, correction: Correction = "all") -> Array:
    """Return the tables (k, 4: TP, FP, FN, TN) with 0.5 added against empty cells.

    ``"all"``: to every cell of every table as soon as one table has an empty cell; ``"single"``: to the tables that
    have one; ``"none"``: nowhere.
    """
    cells = np.asarray(tables, dtype=np.float64)
    empty = (cells == 0).any(axis=1)
    if correction == "all":
        return cells + 0.5 * empty.any()
    if correction == "single":
        return cells + 0.5 * empty[:, None]
    if correction == "none":
        return cells.copy()
    raise ValueError(f"correction must be 'all', 'single' or 'none', got '{correction}'")


def checked_tables(tables: ArrayLike, at_least: int = 3) -> Array:
    """Return (k, 4) counts as float64, or raise ``ValueError`` with everything that is wrong with them."""
    cells = np.asarray(tables, dtype=np.float64)
    if cells.ndim != 2 or cells.shape[1] != 4:
        raise ValueError(f"tables must be of shape (k, 4) with TP, FP, FN, TN, got {cells.shape}")
    problems = []
    if len(cells) < at_least:
        problems.append(f"at least {at_least} tables are needed, got {len(cells)}")
    for i, row in enumerate(cells, start=1):
        if not np.isfinite(row).all() or (row < 0).any() or (row != np.round(row)).any():
            problems.append(f"table {i} must hold whole numbers of 0 or more")
        elif row[0] + row[2] == 0 or row[1] + row[3] == 0:
            problems.append(f"table {i} has no {'diseased' if row[0] + row[2] == 0 else 'healthy'} subject")
    if problems:
        raise ValueError("; ".join(problems))
    return cells


def logits_and_variances(cells: Array) -> tuple[Array, Array]:
    """Return logits of sensitivity and specificity (k, 2) and their variances from tables without empty cells."""
    tp, fp, fn, tn = cells.T
    with np.errstate(divide="ignore"):
        return np.stack([np.log(tp / fn), np.log(tn / fp)], axis=1), np.stack(
            [1 / tp + 1 / fn, 1 / tn + 1 / fp], axis=1
        )


def fit_bivariate(
    tables: ArrayLike,
    method: Method = "binomial",
    correction: Correction = "all",
    covariates: ArrayLike | None = None,
    nodes: int = 15,
    level: float = 0.95,
) -> BivariateFit:
    """Fit the bivariate random-effects model of diagnostic accuracy.

    Args:
        tables: (k, 4) whole numbers: TP, FP, FN, TN of each study, k at least 3.
        method: ``"binomial"`` (exact likelihood, Chu and Cole 2006; needs no correction), ``"reml"`` or ``"ml"``
            (normal approximation, Reitsma 2005).
        correction: of empty cells, for the normal approximation only; see ``corrected``.
        covariates: (k, q) study-level covariates that act on both logits, without the intercept.
        nodes: quadrature nodes per dimension, at least 3. From 15 on AuditC's variances move by less than 1e-5.
        level: confidence level.

    Returns:
        The fit. ``converged`` is false, with a message, where the optimiser stopped before the maximum.

    Raises:
        NotEstimableError: where no finite estimate exists.
        ValueError: on counts or covariates that cannot be used, all problems in one sentence.
    """
    cells = checked_tables(tables)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got '{method}'")
    if nodes < 3:
        raise ValueError(f"nodes must be at least 3, got {nodes}")
    design = _design(covariates, len(cells))
    if method == "binomial":
        _refuse_separation(cells)
        likelihood, chol, beta = _binomial_parts(cells, design, nodes)
        return _finish_binomial(cells, design, likelihood, *_climb_binomial(likelihood, chol, beta), nodes, level)
    filled = corrected(cells, correction)
    if (filled == 0).any():
        raise NotEstimableError("a logit is infinite: a table has an empty cell; use correction 'all' or 'single'")
    return _fit_normal(cells, filled, design, method, correction, level)


def _design(covariates: ArrayLike | None, k: int) -> Array:
    columns = np.ones((k, 1))
    if covariates is not None:
        more = np.asarray(covariates, dtype=np.float64)
        if more.ndim != 2 or len(more) != k or not np.isfinite(more).all():
            raise ValueError(f"covariates must be finite numbers of shape ({k}, q), got shape {more.shape}")
        columns = np.hstack([columns, more])
        if np.linalg.matrix_rank(columns) < columns.shape[1]:
            raise ValueError("covariates must not be constant or determine one another")
    return columns


def _refuse_separation(cells: Array) -> None:
    tp, fp, fn, tn = cells.sum(axis=0)
    for empty, word in ((fn == 0, "sensitivity 1"), (tp == 0, "sensitivity 0"), (fp == 0, "specificity 1"),
                        (tn == 0, "specificity 0")):  # fmt: skip
        if empty:
            raise NotEstimableError(
                f"every study has {word}: the exact binomial likelihood has no finite maximum; "
                "'reml' with a continuity correction gives an estimate that rests on the correction"
            )


def _starts(y: Array, v: Array, x: Array) -> list[Array]:
    """Cholesky factors to start from: moments, and both signs of the correlation."""
    r = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    spread = r.T @ r / max(len(y) - x.shape[1], 1)
    tau = np.sqrt(np.maximum(np.diag(spread) - v.mean(axis=0), 0.05 * np.diag(spread) + 1e-3))
    signs = (np.sign(spread[0, 1]) * 0.5, np.sign(-spread[0, 1]) * 0.5)
    return [
        cholesky_factor(np.array([[tau[0] ** 2, rho * tau.prod()], [rho * tau.prod(), tau[1] ** 2]])) for rho in signs
    ] + [np.array([0.2, 0.0, 0.2])]


def _maximise(value_and_gradient: Objective, start: Array, tolerance: float = 1e-7) -> tuple[Array, float]:
    """BFGS; return where it stopped and the value there. ``tolerance`` is that of the gradient."""

    def negative(q: Array) -> tuple[float, Array]:
        value, gradient = value_and_gradient(q)
        return -value, -gradient

    options = {"gtol": tolerance, "maxiter": 500}
    found = minimize(negative, start, jac=True, method="BFGS", options=options)
    return found.x, -float(found.fun)


def _information(value_and_gradient: Objective, at: Array) -> Array:
    """Negative Hessian by central differences of the gradient."""
    h = 1e-4 * np.maximum(np.abs(at), 0.1)
    rows = [
        (value_and_gradient(at + step)[1] - value_and_gradient(at - step)[1]) / (2 * size)
        for step, size in zip(np.diag(h), h, strict=True)
    ]
    hessian = np.array(rows)
    return -(hessian + hessian.T) / 2


def _pseudo_inverse(information: Array) -> Array:
    """Inverse on the directions that the data inform: at a zero variance L may turn without changing Psi."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-12))
    values, vectors = np.linalg.eigh(information * np.outer(scale, scale))
    inverse = np.where(values > 1e-7 * max(values.max(), 1e-12), 1 / np.where(values == 0, 1, values), 0.0)
    return (vectors * inverse) @ vectors.T * np.outer(scale, scale)


def _polish(value_and_gradient: Objective, at: Array) -> tuple[Array, Array, float]:
    """A few Newton steps; return the point, the inverse information there and the decrement left."""
    value, gradient = value_and_gradient(at)
    inverse = _pseudo_inverse(_information(value_and_gradient, at))
    decrement = float(gradient @ inverse @ gradient)
    for _ in range(4):
        if decrement < 1e-16:
            break
        new = at + inverse @ gradient
        new_value, new_gradient = value_and_gradient(new)
        left = float(new_gradient @ inverse @ new_gradient)
        if not left < decrement or new_value < value - 1e-6:
            break
        at, value, gradient, decrement = new, new_value, new_gradient, left
    return at, _pseudo_inverse(_information(value_and_gradient, at)), decrement


def _binomial_parts(cells: Array, design: Array, nodes: int) -> tuple[BinomialLikelihood, list[Array], Array]:
    """Return the likelihood and where to start: the normal approximation's estimate, then the cruder starts."""
    tp, fp, fn, tn = cells.T
    likelihood = BinomialLikelihood(np.stack([tp, tn], axis=1), np.stack([tp + fn, tn + fp], axis=1), design, nodes)
    y, v = logits_and_variances(cells + 0.5)
    normal = NormalLikelihood(y, v, design, restricted=False)
    starts = _starts(y, v, design)
    best = max((_maximise(normal.value_and_gradient, s) for s in starts[:2]), key=lambda found: found[1])[0]
    return likelihood, [best, *starts[1:]], normal.means(best)[0]


def _climb_binomial(likelihood: BinomialLikelihood, starts: list[Array], beta: Array) -> tuple[Array, Array, float]:
    """Climb with few nodes from every start, then with all of them from the best point."""
    rough = BinomialLikelihood(likelihood.events, likelihood.totals, likelihood.x, min(7, likelihood.nodes))
    found = [_maximise(rough.value_and_gradient, np.concatenate([beta.reshape(-1), s])) for s in starts]
    best = max(found, key=lambda pair: pair[1])[0]
    at, _ = _maximise(likelihood.value_and_gradient, best)
    return _polish(likelihood.value_and_gradient, at)


def _finish_binomial(
    cells: Array,
    design: Array,
    likelihood: BinomialLikelihood,
    at: Array,
    inverse: Array,
    decrement: float,
    nodes: int,
    level: float,
) -> BivariateFit:
    p = design.shape[1]
    psi = _psi(at[2 * p :])
    converged, messages = _diagnose(at[: 2 * p].reshape(2, p), design, psi, decrement)
    return BivariateFit(
        "binomial", "none", cells, design, at[: 2 * p].reshape(2, p), inverse[: 2 * p, : 2 * p], psi,
        likelihood.value_and_gradient(at)[0], converged, messages, decrement, nodes,
        likelihood.by_study(at)[1], inverse, level,
    )  # fmt: skip


def _fit_normal(
    cells: Array, filled: Array, design: Array, method: Method, correction: Correction, level: float
) -> BivariateFit:
    y, v = logits_and_variances(filled)
    likelihood = NormalLikelihood(y, v, design, restricted=method == "reml")
    if len(cells) <= design.shape[1]:
        raise ValueError(f"{len(cells)} tables are too few for {design.shape[1]} coefficients of each logit")
    found = [_maximise(likelihood.value_and_gradient, s) for s in _starts(y, v, design)]
    chol, _, decrement = _polish(likelihood.value_and_gradient, max(found, key=lambda pair: pair[1])[0])
    beta, cov = likelihood.means(chol)
    psi = _psi(chol)
    converged, messages = _diagnose(beta, design, psi, decrement)
    return BivariateFit(
        method, correction, cells, design, beta, cov, psi, likelihood.value_and_gradient(chol)[0],
        converged, messages, decrement, 0, likelihood.scores(chol), cov, level,
    )  # fmt: skip


def _psi(chol: Array) -> Array:
    l11, l21, l22 = chol
    return np.array([[l11**2, l11 * l21], [l11 * l21, l21**2 + l22**2]])


def _diagnose(beta: Array, design: Array, psi: Array, decrement: float) -> tuple[bool, tuple[str, ...]]:
    messages = []
    converged = decrement < 1e-6
    if not converged:
        messages.append(f"The optimiser stopped before the maximum (Newton decrement {decrement:.1e}).")
    if np.abs(design @ beta.T).max() > _FAR_LOGIT:
        converged = False
        messages.append("A pooled proportion runs to 0 or 1: the likelihood has no finite maximum in it.")
    none = np.diag(psi) < _NO_VARIANCE
    for zero, word in zip(none, ("sensitivity", "specificity"), strict=True):
        if zero:
            messages.append(f"Boundary: no variance between studies in logit {word}; the SROC curve is not defined.")
    if not none.any() and abs(psi[0, 1]) > _FULL_CORRELATION * math.sqrt(psi[0, 0] * psi[1, 1]):
        messages.append(
            f"Boundary: the correlation between studies is {'+' if psi[0, 1] > 0 else '-'}1; "
            "the data do not tell the two variances and the correlation apart."
        )
    return converged, tuple(messages)


# --- refitting, for resampling ------------------------------------------------------------------------------------


class Refitter:
    """Fit the model of a fit to other tables, quickly: from its estimates and with its curvature as the first metric.

    Args:
        fit: without covariates.
        nodes: quadrature nodes; fewer than in the fit, since resampling needs no sixth digit.
    """

    def __init__(self, fit: BivariateFit, nodes: int = 7) -> None:
        if fit.design.shape[1] != 1:
            raise ValueError("refitting needs a model without covariates")
        self._fit, self._nodes = fit, min(nodes, fit.nodes) if fit.nodes else nodes
        # a start on the boundary would stay there
        chol = cholesky_factor(fit.psi)
        self._chol = np.array([max(chol[0], 0.05), chol[1], max(chol[2], 0.05)])
        self._metric = np.eye(len(self._chol))
        if fit.method == "binomial":
            values, vectors = np.linalg.eigh(fit.bread)  # singular where a variance is zero
            self._metric = (vectors * np.clip(values, 1e-4, None)) @ vectors.T

    def __call__(self, tables: Array) -> tuple[Array, Array] | None:
        """Return mean (2,) and psi (2, 2), or ``None`` where these tables have no finite estimate."""
        x = np.ones((len(tables), 1))
        if self._fit.method == "binomial":
            if (tables.sum(axis=0) == 0).any():
                return None
            tp, fp, fn, tn = tables.T
            events, totals = np.stack([tp, tn], axis=1), np.stack([tp + fn, tn + fp], axis=1)
            binomial = BinomialLikelihood(events, totals, x, self._nodes)
            start = np.concatenate([self._fit.coefficients[:, 0], self._chol])
            at = _climb_quickly(binomial.value_and_gradient, start, self._metric)
            mean, chol = at[:2], at[2:]
        else:
            filled = corrected(tables, self._fit.correction)
            if (filled == 0).any():
                return None
            y, v = logits_and_variances(filled)
            normal = NormalLikelihood(y, v, x, self._fit.method == "reml")
            chol, _ = _maximise(normal.value_and_gradient, self._chol, tolerance=1e-3)
            mean = normal.means(chol)[0][:, 0]
        if not np.isfinite(mean).all() or np.abs(mean).max() > _FAR_LOGIT:
            return None
        return mean, _psi(chol)


def _climb_quickly(value_and_gradient: Objective, at: Array, metric: Array) -> Array:
    """BFGS without a line search, for starts near the maximum whose curvature is known: one evaluation a step.

    Stops where the Newton decrement is below 1e-6, a thousandth of a standard error from the maximum.
    """
    value, gradient = value_and_gradient(at)
    for _ in range(50):
        step = metric @ gradient
        decrement = float(gradient @ step)
        if decrement < 1e-6:
            break
        step *= min(1.0, 2 / math.sqrt(decrement))  # two standard errors at most
        for _ in range(20):
            new = at + step
            new_value, new_gradient = value_and_gradient(new)
            # with few nodes value and gradient disagree in the second decimal; the gradient is the one to follow
            if new_value >= value - 0.05:
                break
            step /= 2
        else:
            break
        fall = gradient - new_gradient
        curvature = float(step @ fall)
        if curvature > 1e-12:
            change = np.eye(len(at)) - np.outer(step, fall) / curvature
            metric = change @ metric @ change.T + np.outer(step, step) / curvature
        at, value, gradient = new, new_value, new_gradient
    return at
