"""Repeatability of a measurement from repeated scans, and the evaluation of a change against it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2, norm
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.samples import Array, checked_columns, subject_codes

__all__ = ["LSC_FACTOR", "SUFFICIENT_DF", "Repeatability", "repeatability"]

LSC_FACTOR = math.sqrt(2) * float(norm.ppf(0.975))
"""Least significant change at 95 % confidence in units of the precision error: 2.77 (ISCD precision calculator)."""
SUFFICIENT_DF = 27
"""Degrees of freedom with which the 90 % interval of a precision error ends 30 % above it (Glueer 1995, doi
10.1007/BF01774016, abstract): 27 people scanned twice, or 14 people scanned three times."""


@dataclass(frozen=True)
class Repeatability:
    """Precision of a measurement; undefined numbers are ``nan``.

    Attributes:
        subjects: number of subjects with at least two values.
        values: number of their values.
        df: degrees of freedom, ``values - subjects``.
        mean: mean of the subjects' means, mg/cm3.
        rms_sd: root-mean-square standard deviation, mg/cm3, weighted by degrees of freedom.
        rms_cv: root-mean-square coefficient of variation, a fraction; ``nan`` if a subject's mean is not above 0.
        lsc: least significant change at 95 % confidence, ``LSC_FACTOR`` times ``rms_sd``, mg/cm3.
        lsc_percent: the same from ``rms_cv``, a fraction.
        icc: intraclass correlation, the share of the variance of single values that lies between subjects (one-way
            random effects, ICC(1,1) of Shrout and Fleiss 1979). Below 0 if subjects differ less than their repeats. It
            grows with the spread of the subjects and is no property of the method; ``nan`` without any variance.
        shift: mean of the last minus the first value of each subject, mg/cm3; random error has none. Its interval is by
            the t distribution.
        level: confidence level.
    """

    subjects: int
    values: int
    df: int
    mean: float
    rms_sd: Interval
    rms_cv: Interval
    lsc: Interval
    lsc_percent: Interval
    icc: Interval
    shift: Interval
    level: float

    @property
    def sufficient(self) -> bool:
        """Whether there are the ``SUFFICIENT_DF`` degrees of freedom that Glueer 1995 recommends."""
        return self.df >= SUFFICIENT_DF

    @property
    def shifted(self) -> bool:
        """Whether the interval of ``shift`` excludes 0: the scans differ by more than chance."""
        return math.isfinite(self.shift.low) and 0.0 not in self.shift


def repeatability(values: ArrayLike, subjects: ArrayLike, *, level: float = 0.95) -> Repeatability:
    """Return the repeatability of repeated measurements of the same subjects, which did not change between them.

    Variances within subjects are pooled by their degrees of freedom, so that subjects may have different numbers of
    values (Glueer 1995). Confidence intervals of the precision errors are those of a standard deviation by the
    chi-square distribution; they suppose normal errors of equal size in all subjects. Subjects with one value are left
    out.

    Args:
        values: (n,) measurements, mg/cm3, those of a subject in their order in time.
        subjects: (n,) subject of each value.
        level: confidence level.

    Raises:
        ValueError: lists wrong columns, a level out of range, and that no subject has two values.

    Example:
        >>> found = repeatability([100.0, 104.0, 80.0, 78.0], ["a", "a", "b", "b"])
        >>> round(found.rms_sd.value, 3), found.df, round(found.lsc.value, 2)
        (2.236, 2, 6.2)
    """
    problems = [] if 0 < level < 1 else [f"level must be between 0 and 1, got {level}"]
    numbers = np.empty(0)
    try:
        numbers = checked_columns(np.zeros(np.shape(values)), {"values": values}, groups=subjects)[1][0]
    except ValueError as error:
        problems.append(str(error).replace("the truth", "values").replace("groups", "subjects"))
    if problems:
        raise ValueError("; ".join(problems))
    codes = subject_codes(subjects, numbers.size)
    repeated = [of for of in (numbers[codes == code] for code in range(int(codes.max()) + 1)) if of.size > 1]
    if not repeated:
        raise ValueError("subjects must have at least two values in one of them, got one value in each")
    df = np.array([of.size - 1 for of in repeated], dtype=np.float64)
    variances = np.array([of.var(ddof=1) for of in repeated])
    means = np.array([of.mean() for of in repeated])
    rms_sd = _pooled(variances, df, level)
    rms_cv = _pooled(variances / means**2, df, level) if (means > 0).all() else Interval(math.nan, math.nan, math.nan)
    return Repeatability(
        subjects=len(repeated),
        values=int(sum(of.size for of in repeated)),
        df=int(df.sum()),
        mean=float(means.mean()),
        rms_sd=rms_sd,
        rms_cv=rms_cv,
        lsc=_scaled(rms_sd, LSC_FACTOR),
        lsc_percent=_scaled(rms_cv, LSC_FACTOR),
        icc=_intraclass(repeated, float(variances @ df / df.sum()), level),
        shift=_mean_interval(np.array([of[-1] - of[0] for of in repeated]), level),
        level=level,
    )


def _pooled(variances: Array, df: Array, level: float) -> Interval:
    """Return the root of the pooled variance with its chi-square interval."""
    total = float(df.sum())
    value = math.sqrt(float(variances @ df) / total)
    low, high = (value * math.sqrt(total / float(chi2.ppf(p, total))) for p in (0.5 + level / 2, 0.5 - level / 2))
    return Interval(value, low, high)


def _intraclass(repeated: list[Array], within: float, level: float) -> Interval:
    """Return the intraclass correlation with its F interval, which is exact for equal numbers of values."""
    sizes = np.array([of.size for of in repeated], dtype=np.float64)
    means = np.array([of.mean() for of in repeated])
    subjects, total = sizes.size, float(sizes.sum())
    undefined = Interval(math.nan, math.nan, math.nan)
    if subjects < 2:
        return undefined
    between = float(sizes @ (means - sizes @ means / total) ** 2) / (subjects - 1)
    size = (total - float(sizes @ sizes) / total) / (subjects - 1)  # mean number of values, Snedecor and Cochran
    if between + within <= 0:
        return undefined
    if within == 0:
        return Interval(1.0, math.nan, math.nan)
    ratio, first, second = between / within, subjects - 1, total - subjects
    low = ratio / float(f_distribution.ppf(0.5 + level / 2, first, second))
    high = ratio * float(f_distribution.ppf(0.5 + level / 2, second, first))
    return Interval(*((f - 1) / (f + size - 1) for f in (ratio, low, high)))


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(factor * interval.value, factor * interval.low, factor * interval.high)


def _mean_interval(values: Array, level: float) -> Interval:
    mean = float(values.mean())
    if values.size < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(t_distribution.ppf(0.5 + level / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size))
    return Interval(mean, mean - half, mean + half)
