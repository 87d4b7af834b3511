"""Tests that compare groups of subjects from their counts, means and standard deviations.

The tests need no values of single subjects, so that published tables can be checked as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["ChiSquare", "FTest", "Group", "TTest", "TTestKind", "anova", "chi_square", "t_test"]

TTestKind = Literal["welch", "student"]


@dataclass(frozen=True)
class Group:
    """Number of values, their mean and standard deviation (n - 1 in the denominator; ``nan`` for one value)."""

    n: int
    mean: float
    sd: float

    @classmethod
    def of(cls, values: ArrayLike) -> "Group":
        """Summarise the finite values.

        Example:
            >>> Group.of([1, 2, float("nan"), 3])
            Group(n=3, mean=2.0, sd=1.0)
        """
        x = np.asarray(values, dtype=np.float64)
        x = x[np.isfinite(x)]
        return cls(x.size, float(x.mean()) if x.size else math.nan, float(x.std(ddof=1)) if x.size > 1 else math.nan)


@dataclass(frozen=True)
class TTest:
    """Statistic of the first group minus the second, degrees of freedom, two-sided p."""

    t: float
    df: float
    p: float


@dataclass(frozen=True)
class FTest:
    """F with its degrees of freedom between and within groups, and p."""

    f: float
    df_between: int
    df_within: int
    p: float


@dataclass(frozen=True)
class ChiSquare:
    """Pearson's statistic without continuity correction, degrees of freedom, p, and the smallest expected count."""

    value: float
    df: int
    p: float
    smallest_expected: float


def t_test(first: Group, second: Group, kind: TTestKind = "welch") -> TTest | None:
    """Compare two means.

    Args:
        first: the statistic is positive when its mean is larger.
        second: the other group.
        kind: ``welch`` (unequal variances, Welch 1947) or ``student`` (pooled variance).

    Returns:
        ``None`` when a group has fewer than two values or both standard deviations are 0.

    Raises:
        ValueError: on another kind.
    """
    if kind not in get_args(TTestKind):
        raise ValueError(f"kind must be 'welch' or 'student', got {kind!r}")
    if min(first.n, second.n) < 2 or first.sd == second.sd == 0:
        return None
    result = stats.ttest_ind_from_stats(
        first.mean, first.sd, first.n, second.mean, second.sd, second.n, equal_var=kind == "student"
    )
    return TTest(float(result.statistic), _degrees_of_freedom(first, second, kind), float(result.pvalue))


def _degrees_of_freedom(first: Group, second: Group, kind: TTestKind) -> float:
    if kind == "student":
        return float(first.n + second.n - 2)
    a, b = first.sd**2 / first.n, second.sd**2 / second.n
    return float((a + b) ** 2 / (a**2 / (first.n - 1) + b**2 / (second.n - 1)))


def anova(groups: Sequence[Group]) -> FTest | None:
    """Compare means of groups (one-way analysis of variance); empty groups are skipped.

    Returns:
        ``None`` when fewer than two groups have values, or no value varies within its group.
    """
    filled = [g for g in groups if g.n > 0]
    n = np.array([g.n for g in filled], dtype=np.float64)
    between, within = len(filled) - 1, int(n.sum()) - len(filled)
    if between < 1 or within < 1:
        return None
    means = np.array([g.mean for g in filled])
    # a single value has no variance, but it has a mean and counts for the degrees of freedom
    squares = np.array([0.0 if g.n == 1 else (g.n - 1) * g.sd**2 for g in filled]).sum()
    if squares <= 0:
        return None
    f = float((n * (means - np.average(means, weights=n)) ** 2).sum() / between / (squares / within))
    return FTest(f, between, within, float(stats.f.sf(f, between, within)))


def chi_square(counts: ArrayLike) -> ChiSquare | None:
    """Test a table of counts for independence; rows and columns without counts are skipped.

    Args:
        counts: (rows, columns).

    Returns:
        ``None`` when fewer than two rows or columns remain.
    """
    table = np.asarray(counts, dtype=np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return None
    result = stats.chi2_contingency(table, correction=False)
    return ChiSquare(float(result.statistic), int(result.dof), float(result.pvalue), float(result.expected_freq.min()))
