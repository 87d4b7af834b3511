"""Fast refits of a model to resampled tables."""

import numpy as np

from osteo_monai.statistics.meta_analysis.bivariate import FAR_LOGIT, covariance_of
from osteo_monai.statistics.meta_analysis.estimates import BivariateFit
from osteo_monai.statistics.meta_analysis.likelihood import BinomialLikelihood, NormalLikelihood, cholesky_factor
from osteo_monai.statistics.meta_analysis.optimiser import climb_quickly, maximise
from osteo_monai.statistics.meta_analysis.tables import Array, corrected, logits_and_variances

__all__ = ["Refitter"]


class Refitter:
    """Refits of a model to other tables, from its estimates and with its curvature as the first metric.

    Args:
        fit: without covariates.
        nodes: quadrature nodes; fewer than in the fit, since resampling needs less precision.
    """

    def __init__(self, fit: BivariateFit, nodes: int = 7) -> None:
        if fit.design.shape[1] != 1:
            raise ValueError("fit must be a model without covariates")
        self._fit, self._nodes = fit, min(nodes, fit.nodes) if fit.nodes else nodes
        # a start on the boundary would not leave it
        chol = cholesky_factor(fit.psi)
        self._chol = np.array([max(chol[0], 0.05), chol[1], max(chol[2], 0.05)])
        self._metric = np.eye(len(self._chol))
        if fit.method == "binomial":
            values, vectors = np.linalg.eigh(fit.bread)  # singular where a variance is zero
            self._metric = (vectors * np.clip(values, 1e-4, None)) @ vectors.T

    def __call__(self, tables: Array) -> tuple[Array, Array] | None:
        """Return mean (2,) and psi (2, 2), or ``None`` if these tables have no finite estimate."""
        x = np.ones((len(tables), 1))
        if self._fit.method == "binomial":
            if (tables.sum(axis=0) == 0).any():
                return None
            tp, fp, fn, tn = tables.T
            events, totals = np.stack([tp, tn], axis=1), np.stack([tp + fn, tn + fp], axis=1)
            binomial = BinomialLikelihood(events, totals, x, self._nodes)
            start = np.concatenate([self._fit.coefficients[:, 0], self._chol])
            at = climb_quickly(binomial.value_and_gradient, start, self._metric)
            mean, chol = at[:2], at[2:]
        else:
            filled = corrected(tables, self._fit.correction)
            if (filled == 0).any():
                return None
            y, v = logits_and_variances(filled)
            normal = NormalLikelihood(y, v, x, self._fit.method == "reml")
            chol, _ = maximise(normal.value_and_gradient, self._chol, tolerance=1e-3)
            mean = normal.means(chol)[0][:, 0]
        if not np.isfinite(mean).all() or np.abs(mean).max() > FAR_LOGIT:
            return None
        return mean, covariance_of(chol)
