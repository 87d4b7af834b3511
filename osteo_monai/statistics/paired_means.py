"""Means of two methods on the same people."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.samples import RESAMPLES, Resampler, percentile_interval, subject_codes

__all__ = ["PairedMeans", "compare_means"]


@dataclass(frozen=True)
class PairedMeans:
    """Means of two methods on the same people.

    Attributes:
        people: number of people with both values.
        first, second: mean of each method over these people; ``nan`` without people.
        difference: mean of ``first - second`` with its percentile interval of a bootstrap of people.
        wilcoxon_p: two-sided, signed-rank test of the differences (Wilcoxon 1945; differences of 0 by Pratt 1959).
        t_p: two-sided, paired t test.
        first_higher: number of people in whom ``first`` is larger; ``second_higher`` in whom it is smaller.
    """

    people: int
    first: float
    second: float
    difference: Interval
    wilcoxon_p: float
    t_p: float
    first_higher: int
    second_higher: int


def compare_means(first: ArrayLike, second: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> PairedMeans:
    """Compare two methods by one value of each person.

    Args:
        first: (n,) value of each person by the first method; people with ``nan`` in one of both are left out.
        second: (n,) by the second, in the same order.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Both p values are 1 if no value differs, and ``nan`` with fewer than two people.

    Raises:
        ValueError: when the shapes differ.

    Example:
        >>> compare_means([0.9, 0.8, 0.7], [0.8, 0.8, 0.6]).first_higher
        2
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"first and second must be one-dimensional of one shape, got {a.shape} and {b.shape}")
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if not a.size:
        nothing = Interval(math.nan, math.nan, math.nan)
        return PairedMeans(0, math.nan, math.nan, nothing, math.nan, math.nan, 0, 0)
    differences = a - b
    weights = Resampler(subject_codes(None, a.size), resamples=resamples, seed=seed).weights()
    draws = np.concatenate([block @ differences / a.size for block in weights])
    interval = percentile_interval(float(differences.mean()), draws)
    wilcoxon_p, t_p = _p_values(differences)
    signs = np.sign(differences)
    higher = int((signs > 0).sum()), int((signs < 0).sum())
    return PairedMeans(a.size, float(a.mean()), float(b.mean()), interval, wilcoxon_p, t_p, *higher)


def _p_values(differences: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    """Return p of the signed-rank test and of the t test."""
    if differences.size < 2:
        return math.nan, math.nan
    if not differences.any():
        return 1.0, 1.0
    wilcoxon = float(stats.wilcoxon(differences, zero_method="pratt").pvalue)
    if np.ptp(differences) == 0:  # the t statistic has no variance
        return wilcoxon, math.nan
    return wilcoxon, float(stats.ttest_1samp(differences, 0).pvalue)
