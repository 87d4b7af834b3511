"""Receiver operating characteristic: the area under the curve, its uncertainty, and the comparison of two curves.

A larger score means the positive class; scores are never flipped automatically. Areas come from midranks in float64,
variances from DeLong et al. 1988 by the fast algorithm of Sun and Xu 2014 (O(n log n)); if subjects have several
cases, by the clustered form of Obuchowski 1997, which equals DeLong's if every subject has one.
"""

import math
import warnings
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm, rankdata

from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.samples import (
    RESAMPLES,
    Array,
    Codes,
    Flags,
    Resampler,
    checked_columns,
    percentile_interval,
    subject_codes,
)

__all__ = [
    "AUC",
    "AUCScale",
    "DegenerateWarning",
    "PairedTest",
    "RocBand",
    "RocCurve",
    "area_influence",
    "auc",
    "delong_test",
    "holm",
    "normal_bounds",
    "roc_band",
    "roc_curve",
]


class DegenerateWarning(UserWarning):
    """The data give a number but not its usual uncertainty; the result has the same sentence."""


# --- areas --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AUC:
    """Area under the ROC curve, without unit.

    Attributes:
        value: the area, 0 to 1; ``nan`` if a class has no case.
        variance: of the area; ``None`` if a class has fewer than two cases (or subjects).
        low: lower bound of the confidence interval, cut at 0; ``None`` as ``variance``.
        high: upper bound, cut at 1; ``None`` as ``variance``.
        positives: number of cases of the positive class.
        negatives: number of the others.
        level: confidence level.
        clustered: whether subjects had several cases; the variance is then Obuchowski's.
        warning: limitation of the interval, or ``None``.
    """

    value: float
    variance: float | None
    low: float | None
    high: float | None
    positives: int
    negatives: int
    level: float = 0.95
    clustered: bool = False
    warning: str | None = None

    @property
    def se(self) -> float | None:
        """Standard error."""
        return None if self.variance is None else math.sqrt(self.variance)


@dataclass(frozen=True)
class _Placements:
    """Structural components: for each case the share of the other class that is ranked correctly against it."""

    area: float
    positive: Flags
    components: Array


def _placements(positive: Flags, score: Array) -> _Placements:
    """Return the components of DeLong 1988 from midranks (Sun and Xu 2014)."""
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(score)
    components = np.empty(score.size)
    components[positive] = (ranks[positive] - rankdata(score[positive])) / n
    components[~positive] = 1.0 - (ranks[~positive] - rankdata(score[~positive])) / m
    return _Placements(float(components[positive].mean()), positive, components)


def area_influence(y: ArrayLike, score: ArrayLike, subjects: Codes) -> tuple[float, Array]:
    """Return the area under the ROC curve, and the influence of each case on it.

    The sum of squares of the influences, summed by subject, estimates the variance of the area: DeLong's with one case
    of each subject.

    Args:
        y: (n,) truth; both classes must have cases.
        score: (n,) larger = more likely.
        subjects: (n,) number of the subject of each case.

    Returns:
        The area, and (n,) deviations of DeLong's components from it, over the number of cases of the class, times
        sqrt(k / (k - 1)) for the k subjects of the class.
    """
    positive, numbers = np.asarray(y, dtype=bool), np.asarray(score, dtype=np.float64)
    placed = _placements(positive, numbers)
    influence = placed.components - placed.area
    for chosen in (positive, ~positive):
        people = np.unique(subjects[chosen]).size
        influence[chosen] *= math.sqrt(people / max(people - 1, 1)) / chosen.sum()
    return placed.area, influence


def _cluster_sums(positive: Flags, deviation: Array, subjects: Codes) -> tuple[Array, Array, Codes, Codes]:
    """Return sums of deviations by subject for each class, and the number of cases of each class by subject."""
    count = int(subjects.max()) + 1

    def total(chosen: Flags) -> Array:
        return np.bincount(subjects[chosen], deviation[chosen], minlength=count).astype(np.float64)

    def cases(chosen: Flags) -> Codes:
        return np.bincount(subjects[chosen], minlength=count)

    return total(positive), total(~positive), cases(positive), cases(~positive)


def _covariance(first: _Placements, second: _Placements, subjects: Codes) -> float | None:
    """Return the covariance of two areas of the same cases (Obuchowski 1997), or ``None`` if it is not estimable.

    With one case per subject this is DeLong's S10/m + S01/n; the last term is due to subjects with cases of both
    classes.
    """
    positive = first.positive
    m, n = int(positive.sum()), int((~positive).sum())
    p1, n1, has_p, has_n = _cluster_sums(positive, first.components - first.area, subjects)
    p2, n2, _, _ = _cluster_sums(positive, second.components - second.area, subjects)
    i10, i01 = int((has_p > 0).sum()), int((has_n > 0).sum())
    if min(i10, i01) < 2:
        return None
    total = i10 / (i10 - 1) * float(p1 @ p2) / m**2 + i01 / (i01 - 1) * float(n1 @ n2) / n**2
    count = has_p.size
    return total + count / (count - 1) * float(p1 @ n2 + n1 @ p2) / (m * n)


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    return float(norm.ppf(0.5 + level / 2))


def _few(positive: Flags, subjects: Codes, clustered: bool) -> str:
    unit = "subjects" if clustered else "cases"
    p, n = (np.unique(subjects[chosen]).size for chosen in (positive, ~positive))
    return f"no confidence interval: each class must have two {unit}, got {p} positive and {n} negative"


def _warn(text: str | None) -> str | None:
    if text is not None:
        warnings.warn(text, DegenerateWarning, stacklevel=3)
    return text


AUCScale = Literal["area", "logit"]
"""Scale on which the interval of an area is symmetric."""


def auc(
    y: ArrayLike,
    score: ArrayLike,
    level: float = 0.95,
    *,
    groups: ArrayLike | None = None,
    scale: AUCScale = "area",
) -> AUC:
    """Return the area under the ROC curve with its normal interval, cut to [0, 1] (as pROC does).

    Args:
        y: (n,) truth, 1 if the condition is present.
        score: (n,) finite, larger = more likely.
        level: confidence level.
        groups: (n,) subject of each case, if subjects repeat.
        scale: ``logit`` for an interval that is symmetric on the logit of the area (Pepe 2003), for areas near 1.

    Raises:
        ValueError: lists everything wrong with the columns.

    Degenerate cases issue a ``DegenerateWarning`` with the sentence of ``warning``: perfect separation has variance 0
    and the interval of Newcombe 2006 (method 5) by the numbers of subjects; a score that does not vary an interval
    without width; a class with one case no interval, one without cases no area.

    Example:
        >>> round(auc([1, 1, 1, 0, 0, 0], [0.9, 0.6, 0.3, 0.4, 0.2, 0.1]).value, 3)
        0.889
    """
    positive, (numbers,) = checked_columns(y, {"score": score}, groups=groups)
    z = _quantile(level)
    subjects = subject_codes(groups, positive.size)
    clustered = int(subjects.max()) + 1 < positive.size
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) == 0:
        message = _warn(f"no area: the sample has no {'negative' if m else 'positive'} case")
        return AUC(math.nan, None, None, None, m, n, level, clustered, message)
    placed = _placements(positive, numbers)
    variance = _covariance(placed, placed, subjects)
    if variance is None:
        message = _warn(_few(positive, subjects, clustered))
        return AUC(placed.area, None, None, None, m, n, level, clustered, message)
    variance = max(variance, 0.0)  # the mixed term of Obuchowski may be negative by rounding
    message = None
    if variance == 0:
        reason = {1.0: "the classes are separated perfectly", 0.0: "the classes are separated in the wrong direction"}
        constant = "the interval has no width: the score does not vary between cases of a class"
        known = reason.get(placed.area)
        message = _warn(f"{known}: the interval is that of Newcombe 2006" if known else constant)
    low, high = normal_bounds(placed.area, variance, z, scale)
    if variance == 0 and placed.area in (0.0, 1.0):
        people = [np.unique(subjects[chosen]).size for chosen in (positive, ~positive)]
        bound = _bound_of_separation(people[0], people[1], z)
        low, high = (bound, 1.0) if placed.area else (0.0, 1 - bound)
    return AUC(placed.area, variance, low, high, m, n, level, clustered, message)


def normal_bounds(area: float, variance: float, z: float, scale: AUCScale) -> tuple[float, float]:
    """Return the bounds of a normal interval on ``scale``."""
    if scale == "area" or not 0 < area < 1:
        half = z * math.sqrt(variance)
        return max(0.0, area - half), min(1.0, area + half)
    middle, half = math.log(area / (1 - area)), z * math.sqrt(variance) / (area * (1 - area))
    return float(expit(middle - half)), float(expit(middle + half))


def _bound_of_separation(m: int, n: int, z: float) -> float:
    """Return the lower bound of an area of 1: the area whose distance from 1 is z of its standard errors.

    The variance is that of Hanley and McNeil 1982 with both numbers of cases replaced by their mean in its last factor
    (Newcombe 2006, method 5).

    Args:
        m: number of positive subjects.
        n: number of negative ones.
        z: normal quantile.
    """
    extra = (m + n) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + extra * ((1 - area) / (2 - area) + area / (1 + area))
        return 1 - area - z * math.sqrt(area * (1 - area) * spread / (m * n))

    return float(brentq(excess, 0.0, 1 - 1e-12))


# --- the curve ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RocCurve:
    """The empirical ROC curve, one point per distinct score and (0, 0) before them.

    Attributes:
        fpr: (points,) false positive rate, rising from 0 to 1.
        tpr: (points,) true positive rate, rising from 0 to 1.
        thresholds: (points,) falling; a case is positive if its score is at or above it. The first is
            infinity: no case is positive.
    """

    fpr: Array
    tpr: Array
    thresholds: Array


def roc_curve(y: ArrayLike, score: ArrayLike) -> RocCurve:
    """Return every point of the ROC curve; its area by trapezoids is exactly ``auc``.

    Raises:
        ValueError: on wrong columns, or a class without cases.
    """
    positive, (numbers,) = checked_columns(y, {"score": score})
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) == 0:
        raise ValueError(f"both classes must have cases, got {m} positive and {n} negative")
    order = np.argsort(-numbers, kind="stable")
    last = np.append(np.diff(numbers[order]) != 0, True)
    tpr = np.cumsum(positive[order])[last] / m
    fpr = np.cumsum(~positive[order])[last] / n
    return RocCurve(np.append(0.0, fpr), np.append(0.0, tpr), np.append(np.inf, numbers[order][last]))


@dataclass(frozen=True)
class RocBand:
    """Pointwise bootstrap band of a ROC curve, resampled by subject.

    Attributes:
        fpr: (points,) grid of false positive rates.
        tpr: (points,) the curve itself on the grid.
        low: (points,) lower bound of the true positive rate at each point.
        high: (points,) upper bound.
        auc: the area with its percentile interval from the same samples.
        subjects: number of subjects.
        resamples: number of bootstrap samples.
        level: confidence level.
    """

    fpr: Array = field(repr=False)
    tpr: Array = field(repr=False)
    low: Array = field(repr=False)
    high: Array = field(repr=False)
    auc: Interval
    subjects: int
    resamples: int
    level: float


def roc_band(
    y: ArrayLike,
    score: ArrayLike,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    level: float = 0.95,
    points: int = 101,
) -> RocBand:
    """Return the band of the ROC curve on ``points`` even false positive rates, and the bootstrap interval of its area.

    Subjects are drawn with replacement within their class, with all their cases. At a false positive rate of a
    vertical part of the curve, its upper end is taken.

    Raises:
        ValueError: on wrong columns, or fewer than two cases (or subjects) of a class.
    """
    positive, (numbers,) = checked_columns(y, {"score": score}, groups=groups)
    subjects = subject_codes(groups, positive.size)
    if min(np.unique(subjects[chosen]).size for chosen in (positive, ~positive)) < 2:
        raise ValueError(_few(positive, subjects, int(subjects.max()) + 1 < positive.size))
    _quantile(level)
    order = np.argsort(-numbers, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(numbers[order]) != 0))
    flags = positive[order].astype(np.float64)
    grid = np.linspace(0, 1, points)
    curves, areas = [], []
    for block in Resampler(subjects, positive, resamples, seed).weights():
        ordered = block[:, order]
        tp = np.add.reduceat(ordered * flags, starts, axis=1).cumsum(axis=1)
        fp = np.add.reduceat(ordered * (1 - flags), starts, axis=1).cumsum(axis=1)
        tpr = np.pad(tp / tp[:, -1:], ((0, 0), (1, 0)))
        fpr = np.pad(fp / fp[:, -1:], ((0, 0), (1, 0)))
        areas.append(np.trapezoid(tpr, fpr, axis=1))
        curves += [np.interp(grid, x, t) for x, t in zip(fpr, tpr, strict=True)]
    low, high = np.quantile(np.array(curves), [0.5 - level / 2, 0.5 + level / 2], axis=0)
    curve = roc_curve(positive, numbers)
    area = percentile_interval(_placements(positive, numbers).area, np.concatenate(areas), level)
    drawn = int(subjects.max()) + 1
    return RocBand(grid, np.interp(grid, curve.fpr, curve.tpr), low, high, area, drawn, resamples, level)


# --- two curves ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedTest:
    """Two areas of the same cases, and the test of their difference (DeLong et al. 1988), two-sided.

    Attributes:
        first: area of the first score.
        second: area of the second score.
        difference: ``first - second``.
        se: standard error of the difference; ``None`` if a class has fewer than two cases (or subjects).
        low: lower bound of the difference; ``None`` as ``se``.
        high: upper bound.
        covariance: of the two areas; ``None`` as ``se``.
        z: difference over its standard error, positive where the first area is larger; 0 for identical curves;
            ``None`` as ``se``, and if areas differ but neither varies.
        p: two-sided; 1 for identical curves; ``None`` as ``z``.
        positives: number of cases of the positive class.
        negatives: number of the others.
        level: confidence level.
        clustered: whether subjects had several cases (Obuchowski 1997).
        warning: limitation of the numbers, or ``None``.
    """

    first: float
    second: float
    difference: float
    se: float | None
    low: float | None
    high: float | None
    covariance: float | None
    z: float | None
    p: float | None
    positives: int
    negatives: int
    level: float = 0.95
    clustered: bool = False
    warning: str | None = None


def delong_test(
    y: ArrayLike, first: ArrayLike, second: ArrayLike, level: float = 0.95, *, groups: ArrayLike | None = None
) -> PairedTest:
    """Compare the areas of two scores of the same cases.

    Args:
        y: (n,) truth, 1 if the condition is present.
        first: (n,) score, larger = more likely.
        second: (n,) the other score.
        level: confidence level of the difference.
        groups: (n,) subject of each case, if subjects repeat.

    Raises:
        ValueError: on wrong columns, or a class without cases.
    """
    positive, (a, b) = checked_columns(y, {"first": first, "second": second}, groups=groups)
    z_level = _quantile(level)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) == 0:
        raise ValueError(f"both classes must have cases, got {m} positive and {n} negative")
    subjects = subject_codes(groups, positive.size)
    clustered = int(subjects.max()) + 1 < positive.size
    first_placed, second_placed = _placements(positive, a), _placements(positive, b)
    difference = first_placed.area - second_placed.area
    covariance = _covariance(first_placed, second_placed, subjects)
    # the variance of the difference from differences: identical curves give exactly 0
    gap = _Placements(difference, positive, first_placed.components - second_placed.components)
    variance = _covariance(gap, gap, subjects)
    message: str | None = None
    z = p = se = low = high = None
    if variance is None:
        message = _warn(_few(positive, subjects, clustered))
    else:
        se = math.sqrt(max(variance, 0.0))
        low, high = difference - z_level * se, difference + z_level * se
        if se > 0:
            z = difference / se
            p = 2 * float(norm.sf(abs(z)))
        elif difference == 0:
            z, p = 0.0, 1.0
        else:
            message = _warn("no test: the two areas differ, but neither varies in this sample")
    return PairedTest(
        first_placed.area,
        second_placed.area,
        difference,
        se,
        low,
        high,
        None if variance is None else covariance,
        z,
        p,
        m,
        n,
        level,
        clustered,
        message,
    )


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p values adjusted by Holm 1979, in their order; ``nan`` (no test) is kept and not counted.

    Raises:
        ValueError: on a p value outside [0, 1].

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    made = np.flatnonzero(~np.isnan(p))
    if p.ndim != 1 or ((p[made] < 0) | (p[made] > 1)).any():
        raise ValueError(f"p values must be one-dimensional and between 0 and 1, got {p.tolist()}")
    order = made[np.argsort(p[made], kind="stable")]
    adjusted = p.copy()
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted
