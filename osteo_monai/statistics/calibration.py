"""Calibration of predicted probabilities, and their recalibration at a new centre.

Terms and methods after Van Calster et al. 2016 (intercept, slope, calibration in the large) and Debray et al. 2017
(observed to expected ratio).
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import sqrtm
from scipy.special import expit
from scipy.stats import chi2, norm

from osteo_monai.statistics.clusters import clustered_proportion, design_effect
from osteo_monai.statistics.proportions import Interval, Proportion
from osteo_monai.statistics.samples import Array, Codes, Flags, checked_columns, subject_codes
from osteo_monai.utils.probability import PROBABILITY_LIMIT, clip_probability, logit

_UNDEFINED = Interval(math.nan, math.nan, math.nan)

__all__ = [
    "Calibration",
    "HosmerLemeshow",
    "Recalibration",
    "ReliabilityCurve",
    "calibration",
    "expected_calibration_error",
    "hosmer_lemeshow",
    "recalibrate",
    "reliability_curve",
]


# --- logistic recalibration ---------------------------------------------------------------------------------------


def _logits(p: Array) -> tuple[Array, int]:
    """Return logits of clipped probabilities, and the number of clipped ones."""
    return logit(p), int((clip_probability(p) != p).sum())


def _one_class(positive: Flags) -> str | None:
    if positive.all() or not positive.any():
        return f"all {positive.size} cases are {'positive' if positive.all() else 'negative'}"
    return None


def _no_slope(positive: Flags, x: Array) -> str | None:
    """Return why the logistic regression on ``x`` has no finite estimate (Albert and Anderson 1984), or ``None``.

    With one covariate and an intercept this is so if and only if the ranges of the two classes do not overlap.
    """
    if reason := _one_class(positive):
        return reason
    if x.min() == x.max():
        return "all cases have the same prediction"
    yes, no = x[positive], x[~positive]
    if yes.min() >= no.max():
        return "the predictions separate the classes perfectly"
    if yes.max() <= no.min():
        return "the predictions separate the classes in the wrong direction"
    return None


def _fit(positive: Flags, design: Array, offset: Array, subjects: Codes | None = None) -> tuple[Array, Array]:
    """Return coefficients and covariance of a logistic regression that has a finite estimate.

    Newton's method with halved steps if the likelihood would decrease. With ``subjects`` the covariance is the
    cluster-robust sandwich, see ``_of_subjects``.
    """
    y = positive.astype(np.float64)

    def loglik(beta: Array) -> float:
        eta = design @ beta + offset
        return float(y @ eta - np.logaddexp(0, eta).sum())

    def information(beta: Array) -> tuple[Array, Array]:
        mu = expit(design @ beta + offset)
        return mu, design.T @ (design * (mu * (1 - mu))[:, None])

    beta = np.zeros(design.shape[1])
    for _ in range(100):
        mu, hessian = information(beta)
        step = np.linalg.solve(hessian, design.T @ (y - mu))
        here = loglik(beta)
        while loglik(beta + step) < here - 1e-12 * abs(here) and np.abs(step).max() > 1e-12:
            step /= 2
        beta = beta + step
        if np.abs(step).max() < 1e-12:
            break
    mu, hessian = information(beta)
    inverse: Array = np.linalg.inv(hessian).astype(np.float64)
    if subjects is None:
        return beta, inverse
    return beta, _of_subjects(inverse, design * (y - mu)[:, None], subjects)


def _of_subjects(inverse: Array, scores: Array, subjects: Codes) -> Array:
    """Return the covariance of coefficients if cases of one subject are not independent.

    The sandwich of subjects is scaled by the map that makes the sandwich of independent cases the covariance of the
    model. It is that covariance with one case of each subject, and copies of cases do not change it; with a correct
    model and many subjects it is the sandwich (Liang and Zeger 1986).

    Args:
        inverse: (k, k) inverse of the information.
        scores: (n, k) score of each case.
        subjects: (n,) number of the subject of each case.
    """
    sums = np.stack([np.bincount(subjects, column) for column in scores.T], 1)
    robust, single = (inverse @ (part.T @ part) @ inverse for part in (sums, scores))
    root = np.real(sqrtm(single))
    back = np.linalg.inv(root)
    scale = back @ np.real(sqrtm(root @ inverse @ root)) @ back
    covariance: Array = scale @ robust @ scale
    return covariance


def _interval(value: float, variance: float, level: float) -> Interval:
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt(variance)
    return Interval(float(value), float(value - half), float(value + half))


# --- the report ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HosmerLemeshow:
    """The test of Hosmer and Lemeshow 1980; its power depends strongly on n.

    Attributes:
        chi2: statistic; infinite if events occurred in a group with probability 0.
        df: degrees of freedom.
        p: its p value.
        groups: number of groups, of equal size but for equal predictions.
    """

    chi2: float
    df: int
    p: float
    groups: int


@dataclass(frozen=True)
class ReliabilityCurve:
    """Predicted against observed in bins of about equal size; cases of equal prediction are in the same bin.

    Attributes:
        predicted: (bins,) mean predicted probability.
        observed: share of events in each bin, with Wilson's interval, at the effective sample size if subjects have
            several cases.
    """

    predicted: Array
    observed: tuple[Proportion, ...]


@dataclass(frozen=True)
class Calibration:
    """Calibration of predicted probabilities; numbers without a finite estimate are ``nan``, with a warning.

    Attributes:
        n: number of cases.
        events: number of positive cases.
        intercept: of the logistic recalibration, at logit(p) = 0; 0 is ideal.
        slope: of the logistic recalibration; 1 is ideal, below 1 predictions are too extreme.
        in_the_large: intercept with the slope held at 1; above 0 risk is underestimated.
        brier: mean squared error of the probabilities, 0 is best.
        brier_reference: of the prevalence as prediction.
        mean_predicted: mean probability.
        covariance: (2, 2) of intercept and slope; ``None`` if they have no finite estimate.
        observed: share of events with Wilson's interval.
        observed_expected: events over their expected number; 1 is ideal.
        hosmer_lemeshow: ``None`` with fewer cases than groups, no degree of freedom, or several cases of a subject.
        ece: expected calibration error, 10 bins of equal width.
        curve: reliability curve.
        level: confidence level.
        subjects: number of subjects.
        clustered: whether subjects had several cases: intervals are then of subjects.
        warnings: limitations of the numbers.
    """

    n: int
    events: int
    intercept: Interval
    slope: Interval
    in_the_large: Interval
    covariance: tuple[tuple[float, float], tuple[float, float]] | None
    brier: float
    brier_reference: float
    mean_predicted: float
    observed: Proportion
    observed_expected: Interval
    hosmer_lemeshow: HosmerLemeshow | None
    ece: float
    curve: ReliabilityCurve = field(repr=False)
    level: float
    subjects: int
    clustered: bool
    warnings: tuple[str, ...]


def calibration(
    y: ArrayLike,
    p: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    bins: int = 10,
    level: float = 0.95,
    estimated: int = 2,
) -> Calibration:
    """Return the calibration of probabilities ``p`` for outcomes ``y``.

    Args:
        y: (n,) 1 if the event occurred.
        p: (n,) predicted probability, 0 to 1.
        groups: (n,) subject of each case, if subjects repeat.
        bins: number of groups of the Hosmer-Lemeshow test and of the reliability curve.
        level: confidence level.
        estimated: degrees of freedom lost by the Hosmer-Lemeshow test: 2 if the model was fitted to these data (the
            default of most programs), 0 for external data.

    Raises:
        ValueError: lists wrong columns and probabilities outside [0, 1].
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, groups=groups, probabilities=True)
    subjects = subject_codes(groups, positive.size)
    count = int(subjects.max()) + 1
    clustered = count < positive.size
    codes = subjects if clustered else None
    observed = clustered_proportion(positive, subjects, level)
    x, clipped = _logits(chance)
    warnings = (
        [f"{clipped} of {x.size} probabilities were moved to at least {PROBABILITY_LIMIT:f} from 0 and 1"]
        if clipped
        else []
    )
    intercept = slope = in_the_large = _UNDEFINED
    of_two = None
    if reason := _no_slope(positive, x):
        warnings.append(f"no calibration intercept and slope: {reason}")
    else:
        beta, covariance = _fit(positive, np.column_stack([np.ones(x.size), x]), np.zeros(x.size), codes)
        intercept, slope = (_interval(beta[i], covariance[i, i], level) for i in (0, 1))
        (a, b), (c, d) = covariance.tolist()
        of_two = ((a, b), (c, d))
    if reason := _one_class(positive):
        warnings.append(f"no calibration in the large: {reason}")
    else:
        beta, covariance = _fit(positive, np.ones((x.size, 1)), x, codes)
        in_the_large = _interval(beta[0], covariance[0, 0], level)
    prevalence, mean = observed.value, float(chance.mean())
    return Calibration(
        positive.size,
        int(positive.sum()),
        intercept,
        slope,
        in_the_large,
        of_two,
        float(((chance - positive) ** 2).mean()),
        prevalence * (1 - prevalence),
        mean,
        observed,
        _observed_expected(observed, design_effect(positive, subjects), mean, level),
        None if clustered else _test(positive, chance, bins, estimated),
        expected_calibration_error(positive, chance),
        reliability_curve(positive, chance, bins, level, groups=codes),
        level,
        count,
        clustered,
        tuple(warnings),
    )


def _observed_expected(observed: Proportion, effect: float, mean: float, level: float) -> Interval:
    """Return O/E with the interval on the log scale, variance (1 - O/n) / O times the design effect (Debray 2017).

    If none or all are events this variance is undefined or 0; the bounds are then those of the observed share.
    """
    if mean == 0:
        return _UNDEFINED
    ratio = observed.value / mean
    if observed.events in (0, observed.total):
        return Interval(ratio, observed.low / mean, observed.high / mean)
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt(effect * (1 - observed.value) / observed.events)
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half))


def hosmer_lemeshow(y: ArrayLike, p: ArrayLike, groups: int = 10, estimated: int = 2) -> HosmerLemeshow:
    """Return the test over ``groups`` of equal size by rank of ``p``; equal values are in the group of their mean rank.

    The order of the cases has no effect. Cases must be independent.

    Args:
        y: (n,) 1 if the event occurred.
        p: (n,) predicted probability.
        groups: at least ``estimated`` + 1 and at most n; fewer are used if equal values fill several.
        estimated: see ``calibration``.

    Raises:
        ValueError: on wrong columns, a number of groups out of range, or too few different values.
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, probabilities=True)
    if not estimated < groups <= positive.size:
        raise ValueError(f"groups must be {estimated + 1} to {positive.size} (the number of cases), got {groups}")
    found = _test(positive, chance, groups, estimated)
    if found is None:
        raise ValueError(f"p must have enough different values for {estimated + 1} groups")
    return found


def _test(positive: Flags, chance: Array, groups: int, estimated: int) -> HosmerLemeshow | None:
    """Return the test of Hosmer and Lemeshow, ``None`` without a degree of freedom."""
    if not estimated < groups <= positive.size:
        return None
    part_of_rank = np.repeat(np.arange(groups), [part.size for part in np.array_split(chance, groups)])
    _, value, repeats = np.unique(chance, return_inverse=True, return_counts=True)
    last = np.cumsum(repeats) - 1
    middle = (last - repeats + 1 + last) // 2
    _, place = np.unique(part_of_rank[middle][value], return_inverse=True)
    size = np.bincount(place)
    df = size.size - estimated
    if df < 1:
        return None
    observed_events, expected = np.bincount(place, positive), np.bincount(place, chance)
    variance = expected * (1 - expected / size)
    gap = (observed_events - expected) ** 2
    # a group with probability 0 or 1 adds nothing if correct, infinity if not
    certain = np.where(gap < 1e-18, 0.0, np.inf)
    statistic = float(np.divide(gap, variance, out=certain, where=variance > 0).sum())
    return HosmerLemeshow(statistic, df, float(chi2.sf(statistic, df)), int(size.size))


def expected_calibration_error(y: ArrayLike, p: ArrayLike, bins: int = 10) -> float:
    """Return the mean distance of predicted from observed over bins of equal width, weighted by their cases.

    A boundary belongs to the bin above it, 1 to the last (Naeini et al. 2015, for a binary outcome).
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, probabilities=True)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    place = np.minimum((chance * bins).astype(np.intp), bins - 1)
    return float(np.abs(np.bincount(place, positive - chance)).sum() / chance.size)


def reliability_curve(
    y: ArrayLike, p: ArrayLike, bins: int = 10, level: float = 0.95, *, groups: ArrayLike | None = None
) -> ReliabilityCurve:
    """Return mean predicted probability and observed share of up to ``bins`` bins between quantiles of ``p``.

    Args:
        y: (n,) 1 if the event occurred.
        p: (n,) predicted probability.
        bins: largest number of bins.
        level: confidence level.
        groups: (n,) subject of each case, if subjects repeat.

    Raises:
        ValueError: on wrong columns, or no bin.
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, probabilities=True)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    # cases at exact ranks and not quantiles between them, so that copies of all cases have the same bins
    ranks = -(-np.arange(1, bins) * chance.size // bins) - 1
    inner = np.unique(np.sort(chance)[np.maximum(ranks, 0)])
    _, place = np.unique(np.searchsorted(inner, chance, side="left"), return_inverse=True)
    subjects = subject_codes(groups, positive.size)
    rows = [np.flatnonzero(place == at) for at in range(int(place.max()) + 1)]
    shares = tuple(clustered_proportion(positive[chosen], subjects[chosen], level) for chosen in rows)
    return ReliabilityCurve(np.array([chance[chosen].mean() for chosen in rows]), shares)


# --- recalibration ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recalibration:
    """A logistic correction of probabilities, fitted at one centre and frozen.

    Attributes:
        intercept: added to slope * logit(p).
        slope: factor of logit(p).
        fitted: parameters that could be estimated.
        fitted_on: name of the data.
        n: number of their cases.
        events: number of their positive cases.
        warning: why fewer parameters were fitted than requested, or ``None``.
    """

    intercept: float
    slope: float
    fitted: Literal["intercept and slope", "intercept", "nothing"]
    fitted_on: str
    n: int
    events: int
    warning: str | None = None

    def apply(self, p: ArrayLike) -> Array:
        """Return corrected probabilities, of the shape of ``p``; ``p`` itself if nothing was fitted."""
        chance = np.asarray(p, dtype=np.float64)
        if not ((chance >= 0) & (chance <= 1)).all():
            raise ValueError("probabilities must be between 0 and 1")
        if self.fitted == "nothing":
            return chance
        corrected: Array = expit(self.intercept + self.slope * _logits(chance)[0])
        return corrected


def recalibrate(y: ArrayLike, p: ArrayLike, fitted_on: str, *, slope: bool = True) -> Recalibration:
    """Fit intercept and slope (or the intercept only) of the probabilities ``p`` to the outcomes of a centre.

    If the slope has no finite estimate or is negative (which would reverse the ranking), only the intercept is fitted;
    if all outcomes are equal, nothing; ``warning`` gives the reason.

    Args:
        y: (n,) 1 if the event occurred.
        p: (n,) predicted probability.
        fitted_on: name of these data, kept with the result.
        slope: ``False`` for the intercept only, as advisable for few events.

    Raises:
        ValueError: lists wrong columns and probabilities outside [0, 1].
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, probabilities=True)
    n, events = positive.size, int(positive.sum())
    x, _ = _logits(chance)
    if reason := _one_class(positive):
        return Recalibration(0.0, 1.0, "nothing", fitted_on, n, events, f"nothing was fitted: {reason}")
    reason_without_slope = _no_slope(positive, x) if slope else None
    if slope and reason_without_slope is None:
        beta, _ = _fit(positive, np.column_stack([np.ones(n), x]), np.zeros(n))
        if beta[1] > 0:
            return Recalibration(float(beta[0]), float(beta[1]), "intercept and slope", fitted_on, n, events)
        reason_without_slope = f"the slope is {beta[1]:.3g}, which would reverse the ranking"
    beta, _ = _fit(positive, np.ones((n, 1)), x)
    reason = f"only the intercept was fitted: {reason_without_slope}" if reason_without_slope else None
    return Recalibration(float(beta[0]), 1.0, "intercept", fitted_on, n, events, reason)
