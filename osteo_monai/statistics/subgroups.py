"""Tests whether a rate or an area under the ROC curve differs between subgroups (interaction)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2, norm

from osteo_monai.statistics.paired_rates import difference_of_groups
from osteo_monai.statistics.proportions import Interval, IntervalMethod
from osteo_monai.statistics.roc import area_influence
from osteo_monai.statistics.samples import Array, Codes, checked_columns, subject_codes

__all__ = ["Heterogeneity", "areas_differ", "rates_differ"]


@dataclass(frozen=True)
class Heterogeneity:
    """A test of equality over subgroups.

    Attributes:
        chi2: statistic.
        df: degrees of freedom, the number of compared subgroups less one.
        p: its p value.
        compared: names of the compared subgroups.
        difference: of two subgroups, the first of ``compared`` minus the second; ``None`` with more of them.
    """

    chi2: float
    df: int
    p: float
    compared: tuple[str, ...]
    difference: Interval | None


def rates_differ(
    flags: ArrayLike,
    subgroups: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    method: IntervalMethod = "wilson",
) -> Heterogeneity | None:
    """Test whether the share of true ``flags`` is the same in all subgroups.

    Score test at the common share, with the variance of subjects (Boos 1992): it exists where a subgroup has a share
    of 0 or 1, and a subject may have cases in several subgroups. Subgroups of fewer than five subjects are left out,
    for which the chi-square distribution does not hold.

    Args:
        flags: (n,) whether the event occurred.
        subgroups: (n,) name of the subgroup of each case; empty names are left out.
        groups: (n,) subject of each case, if subjects repeat.
        level: confidence level of the difference of two subgroups (``difference_of_groups``).
        method: interval of the single shares.

    Returns:
        ``None`` with fewer than two subgroups, or without variation of ``flags``.

    Raises:
        ValueError: on wrong columns.
    """
    marked, _ = checked_columns(flags, {}, groups=groups)
    names, subjects = np.asarray(subgroups).astype(str), subject_codes(groups, marked.size)
    kept = [k for k in np.unique(names[names != ""]) if np.unique(subjects[names == k]).size >= _SMALLEST]
    rows = np.isin(names, kept)
    if len(kept) < 2 or marked[rows].all() or not marked[rows].any():
        return None
    member = (names[rows][:, None] == np.array(kept)).astype(np.float64)
    residual = marked[rows] - marked[rows].mean()
    scores = (residual[:, None] * (member - member.mean(0)))[:, 1:]
    difference = None
    if len(kept) == 2:
        difference = difference_of_groups(marked[rows], member[:, 0], groups=subjects[rows], level=level, method=method)
    return _wald((residual[:, None] * member)[:, 1:].sum(0), _by_subject(scores, subjects[rows]), kept, difference)


def areas_differ(
    y: ArrayLike, score: ArrayLike, subgroups: ArrayLike, groups: ArrayLike | None = None, *, level: float = 0.95
) -> Heterogeneity | None:
    """Test whether the area under the ROC curve is the same in all subgroups.

    Wald test with DeLong's components, summed by subject. Subgroups with fewer than five subjects of a class, or with
    an area of 0 or 1 (which has no variance), are left out.

    Args:
        y: (n,) truth, 1 if the condition is present.
        score: (n,) larger = more likely.
        subgroups: (n,) name of the subgroup of each case; empty names are left out.
        groups: (n,) subject of each case, if subjects repeat.
        level: confidence level of the difference of two subgroups, whose interval is normal.

    Returns:
        ``None`` with fewer than two subgroups.

    Raises:
        ValueError: on wrong columns.
    """
    positive, (numbers,) = checked_columns(y, {"score": score}, groups=groups)
    names, subjects = np.asarray(subgroups).astype(str), subject_codes(groups, positive.size)
    kept, areas, columns = [], [], []
    for name in np.unique(names[names != ""]):
        rows = np.flatnonzero(names == name)
        classes = (rows[positive[rows]], rows[~positive[rows]])
        if min(np.unique(subjects[chosen]).size for chosen in classes) < _SMALLEST:
            continue
        area, influence = area_influence(positive[rows], numbers[rows], subjects[rows])
        if not influence.any():
            continue
        column = np.zeros(positive.size)
        column[rows] = influence
        kept.append(name)
        areas.append(area)
        columns.append(column)
    if len(kept) < 2:
        return None
    contrast = np.column_stack([-np.ones(len(kept) - 1), np.eye(len(kept) - 1)])
    sums = _by_subject(np.column_stack(columns) @ contrast.T, subjects)
    difference = None
    if len(kept) == 2:
        value, half = areas[0] - areas[1], float(norm.ppf(0.5 + level / 2)) * math.sqrt(float((sums**2).sum()))
        difference = Interval(value, max(value - half, -1.0), min(value + half, 1.0))
    return _wald(contrast @ np.array(areas), sums, kept, difference)


_SMALLEST = 5
"""Subjects of a subgroup (for an area: of each class); project custom, as the usual minimum of expected counts."""


def _by_subject(columns: Array, subjects: Codes) -> Array:
    """Return (subjects, k) sums of (n, k) columns."""
    codes = np.unique(subjects, return_inverse=True)[1]
    return np.stack([np.bincount(codes, column) for column in columns.T], 1).astype(np.float64)


def _wald(value: Array, sums: Array, kept: list[str], difference: Interval | None) -> Heterogeneity | None:
    covariance = sums.T @ sums
    if np.linalg.matrix_rank(covariance) < value.size:
        return None
    statistic = float(value @ np.linalg.solve(covariance, value))
    p = float(chi2.sf(statistic, value.size))
    return Heterogeneity(statistic, value.size, p, tuple(str(k) for k in kept), difference)
