"""Confidence intervals of a single proportion.

Wilson's score interval is the default everywhere; the exact one is for small counts and regulators. The two others
are here because papers print them, and are compared, never used.
"""

import math
from dataclasses import dataclass
from typing import Literal

from scipy.stats import beta, norm

__all__ = ["Interval", "agresti_coull", "clopper_pearson", "proportion", "wald", "wilson"]


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


def proportion(x: float, n: float, level: float = 0.95, method: Literal["wilson", "exact"] = "wilson") -> Interval:
    """Return ``x / n`` with the interval named, or with ``nan`` throughout where ``n`` is 0 (no subject, no number)."""
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    return wilson(x, n, level) if method == "wilson" else clopper_pearson(x, n, level)
