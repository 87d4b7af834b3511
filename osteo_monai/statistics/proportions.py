"""Confidence intervals of a proportion, and McNemar's test of two paired ones.

Wilson's score interval is the default everywhere; the exact one suits small counts.
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
    "clopper_pearson",
    "mcnemar",
    "proportion",
    "wilson",
]


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval; ``nan`` bounds if there is none."""

    value: float
    low: float
    high: float

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


def _checked(x: float, n: float, level: float) -> float:
    """Return the normal quantile of ``level``; raise ``ValueError`` on counts that are not a proportion."""
    if not (math.isfinite(x) and math.isfinite(n) and n > 0 and 0 <= x <= n):
        raise ValueError(f"x must be 0 to n and n above 0, got x = {x} and n = {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    return float(norm.ppf(0.5 + level / 2))


def wilson(x: float, n: float, level: float = 0.95) -> Interval:
    """Return ``x / n`` with Wilson's score interval (Wilson 1927), without continuity correction.

    Args:
        x: number of events, 0 to ``n``; may be fractional.
        n: number of subjects, above 0.
        level: confidence level.

    Raises:
        ValueError: if ``x`` and ``n`` are not a proportion.

    Example:
        >>> interval = wilson(45, 50)
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.786, 0.957)
    """
    z = _checked(x, n, level)
    x, n = float(x), float(n)  # NumPy counts would give NumPy bounds
    p, w = x / n, z * z / n
    centre = (p + w / 2) / (1 + w)
    half = z * math.sqrt(p * (1 - p) / n + w / (4 * n)) / (1 + w)
    # at 0 and n one bound is exact, without rounding error
    return Interval(p, 0.0 if x == 0 else centre - half, 1.0 if x == n else centre + half)


def clopper_pearson(x: float, n: float, level: float = 0.95) -> Interval:
    """Return ``x / n`` with the exact binomial interval (Clopper and Pearson 1934).

    Args and errors as in ``wilson``.
    """
    _checked(x, n, level)
    tail = (1 - level) / 2
    low = 0.0 if x == 0 else float(beta.ppf(tail, x, n - x + 1))
    high = 1.0 if x == n else float(beta.ppf(1 - tail, x + 1, n - x))
    return Interval(float(x / n), low, high)


@dataclass(frozen=True)
class Proportion(Interval):
    """``events`` of ``total`` with their interval; 0 of 0 is undefined, ``nan`` throughout."""

    events: float
    total: float


def proportion(x: float, n: float, level: float = 0.95, method: IntervalMethod = "wilson") -> Proportion:
    """Return ``x / n`` with an interval; ``nan`` throughout if ``n`` is 0.

    Args:
        x: number of events, 0 to ``n``.
        n: number of subjects.
        level: confidence level.
        method: of the interval.

    Raises:
        ValueError: if ``x`` and ``n`` are not a proportion, or on another method.
    """
    if n == 0 and x == 0:
        return Proportion(math.nan, math.nan, math.nan, 0, 0)
    methods = {"wilson": wilson, "clopper-pearson": clopper_pearson}
    if method not in methods:
        raise ValueError(f"method must be one of {', '.join(methods)}, got {method!r}")
    interval = methods[method](x, n, level)
    return Proportion(interval.value, interval.low, interval.high, x, n)


@dataclass(frozen=True)
class McNemar:
    """Two paired proportions: only pairs that differ count (McNemar 1947). All p values are two-sided.

    Attributes:
        first_only: pairs with the first condition only.
        second_only: pairs with the second condition only.
        chi2: statistic without continuity correction, 1 degree of freedom.
        p: its p value.
        chi2_corrected: statistic with Edwards' correction.
        p_corrected: its p value.
        p_exact: of the binomial test; report this one, which is valid for all counts.
    """

    first_only: int
    second_only: int
    chi2: float
    p: float
    chi2_corrected: float
    p_corrected: float
    p_exact: float


def mcnemar(first_only: int, second_only: int) -> McNemar:
    """Return McNemar's test of ``first_only`` against ``second_only`` discordant pairs; no discordant pair gives p = 1.

    Raises:
        ValueError: on negative or fractional counts.
    """
    b, c = first_only, second_only
    if b != int(b) or c != int(c) or min(b, c) < 0:
        raise ValueError(f"discordant pairs must be whole numbers of 0 or more, got {b} and {c}")
    b, c = int(b), int(c)
    if b + c == 0:
        return McNemar(0, 0, 0.0, 1.0, 0.0, 1.0, 1.0)
    plain = (b - c) ** 2 / (b + c)
    corrected = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    exact = float(binomtest(b, b + c, 0.5).pvalue)
    return McNemar(b, c, plain, float(chi2.sf(plain, 1)), corrected, float(chi2.sf(corrected, 1)), exact)
