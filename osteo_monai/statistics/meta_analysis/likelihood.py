r"""The two log-likelihoods of the bivariate model and their gradients.

Both model study i as theta_i = mu_i + L b_i with b_i ~ N(0, I): theta holds the logits of sensitivity and specificity,
mu_i is linear in the covariates, and Psi = L L' is the between-study covariance. L (lower triangular, l11, l21, l22) is
unconstrained, so that it covers all covariances, also singular ones: tau = 0 and correlation 1 are not limits at
infinity.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import expit, gammaln

Array = NDArray[np.float64]

__all__ = ["BinomialLikelihood", "NormalLikelihood", "cholesky_factor"]


def cholesky_factor(psi: Array) -> Array:
    """Return (l11, l21, l22) of a 2 x 2 covariance that may be singular."""
    l11 = np.sqrt(max(psi[0, 0], 0.0))
    l21 = psi[0, 1] / l11 if l11 > 0 else 0.0
    return np.array([l11, l21, np.sqrt(max(psi[1, 1] - l21**2, 0.0))])


@dataclass
class NormalLikelihood:
    """Normal within-study model (Reitsma 2005), maximised over the means: a function of L only.

    Args:
        y: (k, 2) logits of sensitivity and specificity.
        v: (k, 2) their within-study variances; the two are independent, since their subjects differ.
        x: (k, p) covariates, the first a column of ones.
        restricted: REML instead of ML.
    """

    y: Array
    v: Array
    x: Array
    restricted: bool

    def __post_init__(self) -> None:
        k, p = self.x.shape
        self._xx = np.einsum("ki,kj->kij", self.x, self.x).reshape(k, p * p)

    def means(self, chol: Array) -> tuple[Array, Array]:
        """Return the generalised least squares coefficients (2, p) and their covariance (2p, 2p) given L."""
        beta, cov, *_ = self._solve(chol)
        return beta, cov

    def scores(self, chol: Array) -> Array:
        """Return each study's score of the coefficients, (k, 2p), at the estimates."""
        *_, u = self._solve(chol)
        return np.asarray(np.einsum("kc,kp->kcp", u, self.x).reshape(len(self.y), -1))

    def value_and_gradient(self, chol: Array) -> tuple[float, Array]:
        """Return the log-likelihood and its derivative by (l11, l21, l22)."""
        _, cov, (i11, i12, i22), log_det, r, u = self._solve(chol)
        k, p = self.x.shape
        value = -0.5 * (log_det.sum() + np.einsum("kc,kc->", r, u) + 2 * k * np.log(2 * np.pi))
        # derivative by Psi, as the symmetric matrix (g11, g12, g22)
        g11 = 0.5 * (u[:, 0] ** 2 - i11).sum()
        g12 = 0.5 * (u[:, 0] * u[:, 1] - i12).sum()
        g22 = 0.5 * (u[:, 1] ** 2 - i22).sum()
        if self.restricted:
            value += 0.5 * np.linalg.slogdet(cov)[1] + p * np.log(2 * np.pi)
            c = cov.reshape(2, p, 2, p)
            h11, h12, h22 = (self._xx @ c[a, :, b].reshape(-1) for a, b in ((0, 0), (0, 1), (1, 1)))
            s11, s12 = i11 * h11 + i12 * h12, i11 * h12 + i12 * h22
            s21, s22 = i12 * h11 + i22 * h12, i12 * h12 + i22 * h22
            g11 += 0.5 * (s11 * i11 + s12 * i12).sum()
            g12 += 0.5 * (s11 * i12 + s12 * i22).sum()
            g22 += 0.5 * (s21 * i12 + s22 * i22).sum()
        l11, l21, l22 = chol
        return float(value), 2 * np.array([g11 * l11 + g12 * l21, g12 * l11 + g22 * l21, g22 * l22])

    def _solve(self, chol: Array) -> tuple[Array, Array, tuple[Array, Array, Array], Array, Array, Array]:
        l11, l21, l22 = chol
        p = self.x.shape[1]
        a, c, d = self.v[:, 0] + l11**2, l11 * l21, self.v[:, 1] + l21**2 + l22**2
        det = a * d - c * c
        i11, i12, i22 = d / det, -c / det, a / det
        m11, m12, m22 = ((i @ self._xx).reshape(p, p) for i in (i11, i12, i22))
        cov = np.linalg.inv(np.block([[m11, m12], [m12, m22]]))
        w = np.stack([i11 * self.y[:, 0] + i12 * self.y[:, 1], i12 * self.y[:, 0] + i22 * self.y[:, 1]])
        beta = (cov @ (w @ self.x).reshape(-1)).reshape(2, p)
        r = self.y - self.x @ beta.T
        u = np.stack([i11 * r[:, 0] + i12 * r[:, 1], i12 * r[:, 0] + i22 * r[:, 1]], axis=1)
        return beta, cov, (i11, i12, i22), np.log(det), r, u


@dataclass
class BinomialLikelihood:
    """Exact binomial within-study model (Chu and Cole 2006), integrated by adaptive Gauss-Hermite quadrature.

    The nodes of a study are centred on the mode of its integrand and scaled by the curvature there. The gradient is
    Fisher's identity: the score of the complete data, averaged over the same nodes.

    Args:
        events: (k, 2) TP and TN.
        totals: (k, 2) diseased and healthy.
        x: (k, p) covariates, the first a column of ones.
        nodes: quadrature nodes per dimension.
    """

    events: Array
    totals: Array
    x: Array
    nodes: int
    _mode: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._mode = np.zeros_like(self.events, dtype=np.float64)
        z, w = hermegauss(self.nodes)
        self._z, self._log_w = z, np.log(w) + z * z / 2
        n, e = self.totals, self.events
        self._constant = float((gammaln(n + 1) - gammaln(e + 1) - gammaln(n - e + 1)).sum())

    def value_and_gradient(self, parameters: Array) -> tuple[float, Array]:
        """Return the log-likelihood and its derivative by (coefficients of sensitivity, of specificity, L)."""
        log_integrals, scores = self.by_study(parameters)
        return float(log_integrals.sum()) + self._constant, scores.sum(axis=0)

    def by_study(self, parameters: Array) -> tuple[Array, Array]:
        """Return each study's log-integral (k,), without its binomial coefficient, and score (k, 2p + 3)."""
        k, p = self.x.shape
        log_integrals, e, factor = self.at(self.x @ parameters[: 2 * p].reshape(2, p).T, parameters[2 * p :])
        scores = np.empty((k, 2 * p + 3))
        scores[:, :p], scores[:, p : 2 * p] = e[:, :1] * self.x, e[:, 1:] * self.x
        scores[:, 2 * p :] = factor
        return log_integrals, scores

    def at(self, mu: Array, chol: Array) -> tuple[Array, Array, Array]:
        """Return log-integrals at given means, and their derivatives.

        Args:
            mu: (k, 2) mean logit of sensitivity and specificity of each study.
            chol: (3,) factor of the between-study covariance.

        Returns:
            Log-integrals (k,) without the binomial coefficients, derivatives by ``mu`` (k, 2) and by ``chol`` (k, 3).
        """
        l11, l21, l22 = chol
        mode, (h11, h12, h22) = self._find_modes(mu, l11, l21, l22)
        # C C' = inverse of the curvature H, C lower triangular: the first factor then depends on the first node only
        det = h11 * h22 - h12 * h12
        c11 = np.sqrt(h22 / det)
        c21, c22 = -h12 / det / c11, 1 / np.sqrt(h22)
        z, log_w = self._z, self._log_w
        b1 = mode[:, 0, None] + c11[:, None] * z  # (k, q)
        b2 = (mode[:, 1, None] + c21[:, None] * z)[:, :, None] + c22[:, None, None] * z  # (k, q, q)
        log_f1, s1 = _log_binomial(self.events[:, 0, None], self.totals[:, 0, None], mu[:, 0, None] + l11 * b1)
        theta2 = (mu[:, 1, None] + l21 * b1)[:, :, None] + l22 * b2
        log_f2, s2 = _log_binomial(self.events[:, 1, None, None], self.totals[:, 1, None, None], theta2)
        terms = (log_f1 - b1 * b1 / 2 + log_w)[:, :, None] + (log_f2 - b2 * b2 / 2 + log_w)
        top = terms.max(axis=(1, 2), keepdims=True)
        weights = np.exp(terms - top)
        total = weights.sum(axis=(1, 2))
        log_integrals = np.log(total) + top[:, 0, 0] + np.log(c11 * c22) - np.log(2 * np.pi)
        weights /= total[:, None, None]
        row = weights.sum(axis=2)
        ws2 = weights * s2
        row2 = ws2.sum(axis=2)
        by_mean = np.stack([(row * s1).sum(axis=1), row2.sum(axis=1)], axis=1)
        by_factor = np.stack(
            [(row * s1 * b1).sum(axis=1), (row2 * b1).sum(axis=1), np.einsum("kij,kij->k", ws2, b2)], axis=1
        )
        return log_integrals, by_mean, by_factor

    def _find_modes(self, mu: Array, l11: float, l21: float, l22: float) -> tuple[Array, tuple[Array, Array, Array]]:
        """Return the modes of the concave log integrands by Newton's method with step halving, and the curvatures."""
        b, n, e = self._mode, self.totals, self.events
        value = None
        for _ in range(100):
            t1, t2 = mu[:, 0] + l11 * b[:, 0], mu[:, 1] + l21 * b[:, 0] + l22 * b[:, 1]
            p1, p2 = expit(t1), expit(t2)
            s1, s2 = e[:, 0] - n[:, 0] * p1, e[:, 1] - n[:, 1] * p2
            w1, w2 = n[:, 0] * p1 * (1 - p1), n[:, 1] * p2 * (1 - p2)
            g1, g2 = l11 * s1 + l21 * s2 - b[:, 0], l22 * s2 - b[:, 1]
            h11, h12, h22 = 1 + l11**2 * w1 + l21**2 * w2, l21 * l22 * w2, 1 + l22**2 * w2
            det = h11 * h22 - h12 * h12
            step = np.stack([(h22 * g1 - h12 * g2) / det, (h11 * g2 - h12 * g1) / det], axis=1)
            decrement = step[:, 0] * g1 + step[:, 1] * g2
            if decrement.max() < 1e-16:
                break
            value = self._integrand(mu, l11, l21, l22, b)
            size = np.ones(len(b))
            for _ in range(40):
                worse = self._integrand(mu, l11, l21, l22, b + size[:, None] * step) < value - 1e-12 * np.abs(value)
                if not worse.any():
                    break
                size[worse] /= 2
            b = b + size[:, None] * step
        self._mode = b
        return b, (h11, h12, h22)

    def _integrand(self, mu: Array, l11: float, l21: float, l22: float, b: Array) -> Array:
        theta = np.stack([mu[:, 0] + l11 * b[:, 0], mu[:, 1] + l21 * b[:, 0] + l22 * b[:, 1]], axis=1)
        log_f = self.events * theta - self.totals * np.logaddexp(0, theta)
        return np.asarray((log_f - b * b / 2).sum(axis=1))


def _log_binomial(x: Array, n: Array, theta: Array) -> tuple[Array, Array]:
    """Return the log-likelihood of x of n at logit theta (without its coefficient) and its derivative by theta."""
    t = np.exp(-np.abs(theta))
    positive = theta > 0
    log_f = x * theta - n * (np.log1p(t) + np.where(positive, theta, 0.0))
    return log_f, x - n * np.where(positive, 1.0, t) / (1 + t)
