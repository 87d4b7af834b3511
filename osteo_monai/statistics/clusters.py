"""Intervals and tests of images of one subject: effective sample sizes, and an exact paired test by subject.

The rules do not depend on how often an image is copied: with one image of each subject they are those of independent
cases, and the same images several times change no interval and no p value.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import fftconvolve
from scipy.stats import binom

from osteo_monai.statistics.proportions import IntervalMethod, Proportion, proportion
from osteo_monai.statistics.samples import Array

_DIRECT = 4096
"""Longest distribution that is convolved directly."""

__all__ = ["clustered_proportion", "design_effect", "exact_sign_p"]


def design_effect(values: ArrayLike, subjects: ArrayLike, low: float = 0.0, high: float = 1.0) -> float:
    """Return the variance of the mean of clustered values over that of independent ones (Kish 1965).

    One subject of mean size with the value ``low`` and one with ``high`` are added, so that values without variation
    have the design effect of complete correlation, and the number of subjects is the effective sample size (project
    custom; coverage in docs/evaluation_statistics.md).

    Args:
        values: (n,) at least one, between ``low`` and ``high``.
        subjects: (n,) subject of each value.
        low: smallest possible value.
        high: largest possible value.

    Returns:
        1 if each subject has one value.
    """
    numbers = np.asarray(values, dtype=np.float64)
    codes = np.unique(np.asarray(subjects), return_inverse=True)[1]
    count = int(codes.max()) + 1
    if count == numbers.size:
        return 1.0
    size = numbers.size / count
    mean = (numbers.sum() + size * (low + high)) / (numbers.size + 2 * size)
    added = (low - mean) ** 2 + (high - mean) ** 2
    sums = np.bincount(codes, numbers - mean)
    return float(((sums**2).sum() + size**2 * added) / (((numbers - mean) ** 2).sum() + size * added))


def clustered_proportion(
    flags: ArrayLike, subjects: ArrayLike, level: float = 0.95, method: IntervalMethod = "wilson"
) -> Proportion:
    """Return the share of true ``flags`` with the interval of ``method`` at the effective sample size.

    The effective sample size is n over ``design_effect`` (Korn and Graubard 1998, without their factor of t quantiles).

    Args:
        flags: (n,) whether the event occurred.
        subjects: (n,) subject of each flag.
        level: confidence level.
        method: of the interval.

    Returns:
        Events and total are the numbers of images; ``nan`` throughout without an image.
    """
    marked = np.asarray(flags, dtype=bool)
    events, n = int(marked.sum()), marked.size
    if not n:
        return proportion(0, 0, level, method)
    effective = n / design_effect(marked, subjects)
    interval = proportion(min(events / n * effective, effective), effective, level, method)
    return Proportion(events / n, interval.low, interval.high, events, n)


def exact_sign_p(differences: ArrayLike, subjects: ArrayLike) -> float:
    """Return the two-sided p of the hypothesis that the sums of subjects are symmetric about 0, exact.

    All signs of the sums of subjects are equally probable under the hypothesis. With one value of -1, 0 or 1 for each
    subject this is McNemar's exact test.

    Args:
        differences: (n,) whole numbers.
        subjects: (n,) subject of each value.
    """
    codes = np.unique(np.asarray(subjects), return_inverse=True)[1]
    sums = np.rint(np.bincount(codes, np.asarray(differences, dtype=np.float64))).astype(np.int64)
    sums = sums[sums != 0]
    if not sums.size:
        return 1.0
    sums //= math.gcd(*np.abs(sums).tolist())
    distribution: Array = np.ones(1)
    for step, repeats in zip(*np.unique(np.abs(sums), return_counts=True), strict=True):
        # the number of positive signs is binomial; the sum moves by 2 x step with each
        part = np.zeros(2 * int(step) * int(repeats) + 1)
        part[:: 2 * int(step)] = binom.pmf(np.arange(repeats + 1), repeats, 0.5)
        longest = max(part.size, distribution.size)
        distribution = (np.convolve if longest <= _DIRECT else fftconvolve)(distribution, part)
    half = (distribution.size - 1) // 2
    extreme = np.abs(np.arange(distribution.size) - half) >= abs(int(sums.sum()))
    return float(np.clip(distribution[extreme].sum(), 0.0, 1.0))
