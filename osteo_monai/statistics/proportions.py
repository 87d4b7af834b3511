"""Confidence intervals of a single proportion, and McNemar's tests of two paired ones.

Wilson's score interval is the default everywhere; the exact one is for small counts and regulators. The two others
are here because papers print them, and are compared, never used.
"""

import math
from dataclasses import dataclass
from typing import Literal

from scipy.stats import beta, binomtest, chi2, norm

IntervalMethod = Literal["wilson", "clopper-pearson"]

__all__ = [
    "Interval",
    "IntervalMethod",
    "McNemar",
    "Proportion",
    "agresti_coull",
    "clopper_pearson",
    "mcnemar",
    "proportion",
    "wald",
    "wilson",
]


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval; ``nan`` bounds say that there is none."""

    value: float
    low: float
    high: float

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


def _checked(x: float, n: float, level: float) -> float:
    """Return the normal quantile of ``level``; refuse counts that are no proportion."""
    if not (math.isfinite(x) and math.isfinite(n) and n > 0 and 0 <= x <= n):
        raise ValueError(f"a proportion needs 0 <= x <= n and n > 0, got x = {x} and n = {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return float(norm.ppf(0.5 + level / 2))


def wilson(x: float, n: float, level: float = 0.95) -> Interval:
    """Return ``x / n`` with Wilson's score interval (Wilson 1927), without continuity correction.

    Args:
        x: number of events, 0 to ``n``; need not be whole.
        n: number of subjects, above 0.
        level: confidence level.

    Raises:
        ValueError: where ``x`` and ``n`` are no proportion.
    """
    z = _checked(x, n, level)
    p, w = x / n, z * z / n
    centre = (p + w / 2) / (1 + w)
    half = z * math.sqrt(p * (1 - p) / n + w / (4 * n)) / (1 + w)
    # at 0 and n one bound is exact; rounding must not move it
    return Interval(p, 0.0 if x == 0 else centre - half, 1.0 if x == n else centre + half)


def clopper_pearson(x: float, n: float, level: float = 0.95) -> Interval:
    """Return ``x / n`` with the exact binomial interval (Clopper and Pearson 1934).

    Args and errors as in ``wilson``.
    """
    _checked(x, n, level)
    tail = (1 - level) / 2
    low = 0.0 if x == 0 else float(beta.ppf(tail, x, n - x + 1))
    high = 1.0 if x == n else float(beta.ppf(1 - tail, x + 1, n - x))
    return Interval(x / n, low, high)


def agresti_coull(x: float, n: float, level: float = 0.95) -> Interval:
    """Return ``x / n`` with the interval of Agresti and Coull 1998; its bounds may leave [0, 1]. For comparison."""
    z = _checked(x, n, level)
    size = n + z * z
    p = (x + z * z / 2) / size
    half = z * math.sqrt(p * (1 - p) / size)
    return Interval(x / n, p - half, p + half)


def wald(x: float, n: float, level: float = 0.95) -> Interval:
    """Return ``x / n`` with Wald's interval, which has no width at 0 and ``n``. For comparison."""
    z = _checked(x, n, level)
    p = x / n
    half = z * math.sqrt(p * (1 - p) / n)
    return Interval(p, p - half, p + half)


@dataclass(frozen=True)
class Proportion(Interval):
    """``events`` of ``total`` with their interval; 0 of 0 is undefined, ``nan`` throughout, and never 0."""

    events: float
    total: float


def proportion(x: float, n: float, level: float = 0.95, method: IntervalMethod = "wilson") -> Proportion:
    """Return ``x / n`` with the interval named, or with ``nan`` throughout where ``n`` is 0 (no subject, no number).

    Raises:
        ValueError: where ``x`` and ``n`` are no proportion, or the method is not known.
    """
    if n == 0 and x == 0:
        return Proportion(math.nan, math.nan, math.nan, 0, 0)
    methods = {"wilson": wilson, "clopper-pearson": clopper_pearson}
    if method not in methods:
        raise ValueError(f"the interval must be one of {', '.join(methods)}, got {method!r}")
    found = methods[method](x, n, level)
    return Proportion(found.value, found.low, found.high, x, n)


@dataclass(frozen=True)
class McNemar:
    """Two paired proportions: only pairs that differ count (McNemar 1947). All p values are two-sided.

    Attributes:
        first_only: pairs where the first holds and the second does not.
        second_only: pairs where the second holds and the first does not.
        chi2: statistic without continuity correction, 1 degree of freedom.
        p: its p value.
        chi2_corrected: statistic with Edwards' correction.
        p_corrected: its p value.
        p_exact: of the binomial test; the one to report, as it holds for any counts.
    """

    first_only: int
    second_only: int
    chi2: float
    p: float
    chi2_corrected: float
    p_corrected: float
    p_exact: float


def mcnemar(first_only: int, second_only: int) -> McNemar:
    """Return McNemar's test of ``first_only`` against ``second_only`` discordant pairs; none at all give p = 1.

    Raises:
        ValueError: counts that are negative or not whole.
    """
    b, c = first_only, second_only
    if b != int(b) or c != int(c) or min(b, c) < 0:
        raise ValueError(f"discordant pairs must be whole numbers from 0 on, got {b} and {c}")
    b, c = int(b), int(c)
    if b + c == 0:
        return McNemar(0, 0, 0.0, 1.0, 0.0, 1.0, 1.0)
    plain = (b - c) ** 2 / (b + c)
    corrected = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    exact = float(binomtest(b, b + c, 0.5).pvalue)
    return McNemar(b, c, plain, float(chi2.sf(plain, 1)), corrected, float(chi2.sf(corrected, 1)), exact)
