"""Fit of the bivariate random-effects model of diagnostic accuracy."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from osteo_monai.errors import NotEstimableError
from osteo_monai.statistics.meta_analysis.estimates import NO_VARIANCE, BivariateFit, Method, SummaryPoint
from osteo_monai.statistics.meta_analysis.likelihood import BinomialLikelihood, NormalLikelihood, cholesky_factor
from osteo_monai.statistics.meta_analysis.optimiser import maximise, polish
from osteo_monai.statistics.meta_analysis.tables import (
    Array,
    Correction,
    checked_tables,
    corrected,
    logits_and_variances,
)

__all__ = ["FAR_LOGIT", "METHODS", "covariance_of", "fit_bivariate", "pool_studies"]

METHODS: dict[Method, str] = {
    "binomial": "exact binomial likelihood, adaptive Gauss-Hermite quadrature",
    "reml": "normal approximation, restricted maximum likelihood",
    "ml": "normal approximation, maximum likelihood",
}

_FULL_CORRELATION = 0.9999

FAR_LOGIT = 14.0
"""Beyond this pooled logit (a proportion within 1e-6 of 0 or 1) the likelihood has no finite maximum."""


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
        nodes: quadrature nodes per dimension, at least 3. From 15 on the variances of AuditC change by less than 1e-5.
        level: confidence level.

    Returns:
        The fit. ``converged`` is false, with a message, if the optimiser stopped before the maximum.

    Raises:
        NotEstimableError: if no finite estimate exists.
        ValueError: lists everything wrong with counts and covariates.

    Example:
        >>> fit = fit_bivariate([[47, 101, 9, 738], [126, 272, 51, 1543], [19, 12, 10, 192], [36, 78, 3, 276]])
        >>> sensitivity = fit.summary().sensitivity
        >>> round(sensitivity.value, 2), round(fit.auc, 2)
        (0.79, 0.9)
    """
    cells = checked_tables(tables)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got '{method}'")
    if nodes < 3:
        raise ValueError(f"nodes must be at least 3, got {nodes}")
    design = _design(covariates, len(cells))
    if method == "binomial":
        _refuse_separation(cells, design)
        likelihood, chol, beta = _binomial_parts(cells, design, nodes)
        return _finish_binomial(cells, design, likelihood, *_climb_binomial(likelihood, chol, beta), nodes, level)
    filled = corrected(cells, correction)
    if (filled == 0).any():
        raise NotEstimableError("a logit is infinite: a table has an empty cell; use correction 'all' or 'single'")
    return _fit_normal(cells, filled, design, method, correction, level)


def pool_studies(
    tables: ArrayLike,
    method: Method = "binomial",
    level: float = 0.95,
    studies: Sequence[object] | None = None,
) -> SummaryPoint:
    """Pool the 2 x 2 tables of diagnostic accuracy studies.

    The summary comes from the bivariate random-effects model; ``fit_bivariate`` also gives its between-study variances,
    SROC curve and prediction intervals. The intervals are those of ``BivariateFit.reported``.

    Args:
        tables: (k, 4) whole numbers: TP, FP, FN, TN of each study, k at least 3.
        method: likelihood, see ``fit_bivariate``.
        level: confidence level of the intervals.
        studies: a label per table, if studies have several tables; default: each table is a study.

    Returns:
        Pooled sensitivity, specificity, likelihood ratios and diagnostic odds ratio with their intervals.

    Raises:
        NotEstimableError: if no finite estimate exists, or the optimiser stopped before the maximum.
        ValueError: lists everything wrong with the counts.

    Example:
        >>> pooled = pool_studies([[45, 12, 5, 188], [80, 30, 10, 280], [33, 9, 7, 151], [60, 25, 4, 211]])
        >>> round(pooled.sensitivity.value, 3), round(pooled.specificity.value, 3)
        (0.892, 0.919)
    """
    fit = fit_bivariate(tables, method, level=level)
    if not fit.converged:
        raise NotEstimableError(f"the model has no estimate: {' '.join(fit.messages)}")
    return fit.reported(studies).summary()


def _design(covariates: ArrayLike | None, k: int) -> Array:
    columns = np.ones((k, 1))
    if covariates is not None:
        more = np.asarray(covariates, dtype=np.float64)
        if more.ndim != 2 or len(more) != k or not np.isfinite(more).all():
            raise ValueError(f"covariates must be finite numbers of shape ({k}, q), got shape {more.shape}")
        columns = np.hstack([columns, more])
        if np.linalg.matrix_rank(columns) < columns.shape[1]:
            raise ValueError("covariates must not be constant or linearly dependent")
    return columns


def _refuse_separation(cells: Array, design: Array) -> None:
    tp, fp, fn, tn = cells.sum(axis=0)
    names = {"sensitivity 1": fn, "sensitivity 0": tp, "specificity 1": fp, "specificity 0": tn}
    for name, count in names.items():
        if count == 0:
            raise NotEstimableError(
                f"every study has {name}: the exact binomial likelihood has no finite maximum; "
                "'reml' with a continuity correction gives an estimate that depends on the correction"
            )
    for name, events, failures in (("sensitivity", 0, 2), ("specificity", 3, 1)):
        if _is_separated(design, cells[:, events], cells[:, failures]):
            raise NotEstimableError(
                f"{name} has no finite estimate: the covariates separate studies with a proportion of 0 or 1"
            )


def _is_separated(design: Array, events: Array, failures: Array) -> bool:
    """Return whether a direction of the coefficients raises the likelihood without limit (Albert and Anderson 1984).

    It raises the logit of studies without failures, lowers that of studies without events and leaves the others.
    """
    sign = (failures == 0).astype(np.float64) - (events == 0)
    if design.shape[1] == 1 or not sign.any():
        return False
    ends, inner = sign[:, None] * design, design[sign == 0]
    at_zero = {"A_eq": inner, "b_eq": np.zeros(len(inner))} if len(inner) else {}
    found = linprog(
        -ends.sum(axis=0), A_ub=-ends[sign != 0], b_ub=np.zeros(int((sign != 0).sum())), bounds=(-1, 1), **at_zero
    )
    return bool(found.status == 0 and found.fun < -1e-7)


def _starts(y: Array, v: Array, x: Array) -> list[Array]:
    """Return Cholesky factors to start from: by moments, with both signs of the correlation."""
    r = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    spread = r.T @ r / max(len(y) - x.shape[1], 1)
    tau = np.sqrt(np.maximum(np.diag(spread) - v.mean(axis=0), 0.05 * np.diag(spread) + 1e-3))
    signs = (np.sign(spread[0, 1]) * 0.5, np.sign(-spread[0, 1]) * 0.5)
    return [
        cholesky_factor(np.array([[tau[0] ** 2, rho * tau.prod()], [rho * tau.prod(), tau[1] ** 2]])) for rho in signs
    ] + [np.array([0.2, 0.0, 0.2])]


def _binomial_parts(cells: Array, design: Array, nodes: int) -> tuple[BinomialLikelihood, list[Array], Array]:
    """Return the likelihood and starts: the estimate of the normal approximation, then those by moments."""
    tp, fp, fn, tn = cells.T
    likelihood = BinomialLikelihood(np.stack([tp, tn], axis=1), np.stack([tp + fn, tn + fp], axis=1), design, nodes)
    y, v = logits_and_variances(cells + 0.5)
    normal = NormalLikelihood(y, v, design, restricted=False)
    starts = _starts(y, v, design)
    best = max((maximise(normal.value_and_gradient, s) for s in starts[:2]), key=lambda maxima: maxima[1])[0]
    return likelihood, [best, *starts[1:]], normal.means(best)[0]


def _climb_binomial(likelihood: BinomialLikelihood, starts: list[Array], beta: Array) -> tuple[Array, Array, float]:
    """Maximise with few nodes from every start, then with all nodes from the best point."""
    rough = BinomialLikelihood(likelihood.events, likelihood.totals, likelihood.x, min(7, likelihood.nodes))
    maxima = [maximise(rough.value_and_gradient, np.concatenate([beta.reshape(-1), s])) for s in starts]
    best = max(maxima, key=lambda pair: pair[1])[0]
    at, _ = maximise(likelihood.value_and_gradient, best)
    return polish(likelihood.value_and_gradient, at)


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
    psi = covariance_of(at[2 * p :])
    converged, messages = _diagnose(at[: 2 * p].reshape(2, p), design, psi, decrement)
    return BivariateFit(
        "binomial",
        "none",
        cells,
        design,
        at[: 2 * p].reshape(2, p),
        inverse[: 2 * p, : 2 * p],
        psi,
        likelihood.value_and_gradient(at)[0],
        converged,
        messages,
        decrement,
        nodes,
        likelihood.by_study(at)[1],
        inverse,
        level,
    )


def _fit_normal(
    cells: Array, filled: Array, design: Array, method: Method, correction: Correction, level: float
) -> BivariateFit:
    y, v = logits_and_variances(filled)
    likelihood = NormalLikelihood(y, v, design, restricted=method == "reml")
    if len(cells) <= design.shape[1]:
        raise ValueError(f"{len(cells)} tables are too few for {design.shape[1]} coefficients of each logit")
    maxima = [maximise(likelihood.value_and_gradient, s) for s in _starts(y, v, design)]
    chol, _, decrement = polish(likelihood.value_and_gradient, max(maxima, key=lambda pair: pair[1])[0])
    beta, cov = likelihood.means(chol)
    psi = covariance_of(chol)
    converged, messages = _diagnose(beta, design, psi, decrement)
    return BivariateFit(
        method,
        correction,
        cells,
        design,
        beta,
        cov,
        psi,
        likelihood.value_and_gradient(chol)[0],
        converged,
        messages,
        decrement,
        0,
        likelihood.scores(chol),
        cov,
        level,
    )


def covariance_of(chol: Array) -> Array:
    """Return the 2 x 2 covariance of a Cholesky factor (l11, l21, l22)."""
    l11, l21, l22 = chol
    return np.array([[l11**2, l11 * l21], [l11 * l21, l21**2 + l22**2]])


def _diagnose(beta: Array, design: Array, psi: Array, decrement: float) -> tuple[bool, tuple[str, ...]]:
    messages = []
    converged = decrement < 1e-6
    if not converged:
        messages.append(f"The optimiser stopped before the maximum (Newton decrement {decrement:.1e}).")
    if np.abs(design @ beta.T).max() > FAR_LOGIT:
        converged = False
        messages.append("A pooled proportion tends to 0 or 1: the likelihood has no finite maximum.")
    zero_variance = np.diag(psi) < NO_VARIANCE
    for zero, name in zip(zero_variance, ("sensitivity", "specificity"), strict=True):
        if zero:
            messages.append(f"Boundary: no variance between studies in logit {name}; the SROC curve is not defined.")
    if not zero_variance.any() and abs(psi[0, 1]) > _FULL_CORRELATION * math.sqrt(psi[0, 0] * psi[1, 1]):
        messages.append(
            f"Boundary: the correlation between studies is {'+' if psi[0, 1] > 0 else '-'}1; "
            "the two variances and the correlation are not identified separately."
        )
    return converged, tuple(messages)
