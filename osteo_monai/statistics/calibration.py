"""Whether predicted probabilities mean what they say, and how to make them so at a new centre.

Terms and methods after Van Calster et al. 2016 (intercept, slope, calibration in the large) and Debray et al. 2017
(observed to expected ratio).
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import chi2, norm

from osteo_monai.statistics.proportions import Interval, Proportion, proportion
from osteo_monai.statistics.samples import Array, Flags, checked_columns, subject_codes

_SURE = 1e-6
"""Probabilities are cut to [1e-6, 1 - 1e-6] before their logit: 0 and 1 have none, and one such case would decide
the slope. The project's own choice; how many were cut is told."""
_NOTHING = Interval(math.nan, math.nan, math.nan)

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
    cut = np.clip(p, _SURE, 1 - _SURE)
    return logit(cut), int((cut != p).sum())


def _one_class(positive: Flags) -> str | None:
    if positive.all() or not positive.any():
        return f"all {positive.size} cases are {'positive' if positive.all() else 'negative'}"
    return None


def _no_slope(positive: Flags, x: Array) -> str | None:
    """Why the logistic regression on ``x`` has no finite estimate (Albert and Anderson 1984), or ``None``.

    With one covariate and an intercept that is so exactly where the ranges of the two classes do not overlap.
    """
    if said := _one_class(positive):
        return said
    if x.min() == x.max():
        return "every case has the same prediction"
    yes, no = x[positive], x[~positive]
    if yes.min() >= no.max():
        return "the predictions separate the classes perfectly"
    if yes.max() <= no.min():
        return "the predictions separate the classes the wrong way round"
    return None


def _fit(positive: Flags, design: Array, offset: Array, subjects: Array | None = None) -> tuple[Array, Array]:
    """Return coefficients and covariance of a logistic regression that is known to have a finite estimate.

    Newton's method, with halved steps where the likelihood would fall. With ``subjects`` the covariance is the
    cluster-robust sandwich.
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
    codes = subjects.astype(np.intp)
    count = int(codes.max()) + 1
    scores = np.stack([np.bincount(codes, column, minlength=count) for column in (design * (y - mu)[:, None]).T], 1)
    return beta, inverse @ (scores.T @ scores) @ inverse * count / max(count - 1, 1)


def _interval(value: float, variance: float, level: float) -> Interval:
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt(variance)
    return Interval(float(value), float(value - half), float(value + half))


# --- the report ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HosmerLemeshow:
    """The test of Hosmer and Lemeshow 1980; its power grows with n, so a small p need not matter and a large need not
    comfort.

    Attributes:
        chi2: statistic; infinite where events happened in a group that excluded them.
        df: degrees of freedom.
        p: its p value.
        groups: how many groups of equal size.
    """

    chi2: float
    df: int
    p: float
    groups: int


@dataclass(frozen=True)
class ReliabilityCurve:
    """Predicted against observed in bins of about equal size; cases of equal prediction stay together.

    Attributes:
        predicted: (bins,) mean predicted probability.
        observed: share of events in each bin, with Wilson's interval.
    """

    predicted: Array
    observed: tuple[Proportion, ...]


@dataclass(frozen=True)
class Calibration:
    """Calibration of predicted probabilities. What has no finite estimate is ``nan``, and ``warnings`` say why.

    Attributes:
        n: cases.
        events: positive cases.
        intercept: of the logistic recalibration, at logit(p) = 0; 0 is ideal.
        slope: of the logistic recalibration; 1 is ideal, below 1 predictions are too extreme.
        in_the_large: intercept with the slope held at 1; above 0 risk is underestimated.
        brier: mean squared error of the probabilities, 0 is best.
        brier_reference: of predicting the prevalence for everyone.
        mean_predicted: mean probability.
        observed: share of events with Wilson's interval.
        observed_expected: events over their expected number; 1 is ideal.
        hosmer_lemeshow: ``None`` with fewer cases than groups, or no degree of freedom.
        ece: expected calibration error, 10 bins of equal width.
        curve: reliability curve.
        level: confidence level.
        clustered: whether subjects had several cases: intercepts and slope then have cluster-robust intervals.
        warnings: what must be known to read the numbers rightly.
    """

    n: int
    events: int
    intercept: Interval
    slope: Interval
    in_the_large: Interval
    brier: float
    brier_reference: float
    mean_predicted: float
    observed: Proportion
    observed_expected: Interval
    hosmer_lemeshow: HosmerLemeshow | None
    ece: float
    curve: ReliabilityCurve = field(repr=False)
    level: float
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
    """Describe how the probabilities ``p`` fit the outcomes ``y``.

    Args:
        y: (n,) 1 where the event happened.
        p: (n,) predicted probability, 0 to 1.
        groups: (n,) the subject of each case, where subjects repeat.
        bins: groups of the Hosmer-Lemeshow test and of the reliability curve.
        level: confidence level.
        estimated: degrees of freedom that the Hosmer-Lemeshow test gives up: 2 where the model was fitted to these
            data (and what most programs print), 0 on outside data.

    Raises:
        ValueError: columns that do not fit, probabilities outside [0, 1]; all at once.
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, groups=groups, probabilities=True)
    observed = proportion(int(positive.sum()), positive.size, level)
    subjects = subject_codes(groups, positive.size)
    clustered = int(subjects.max()) + 1 < positive.size
    codes = subjects.astype(np.float64) if clustered else None
    x, cut = _logits(chance)
    warnings = [f"{cut} of {x.size} probabilities were cut to [{_SURE:g}, 1 - {_SURE:g}]"] if cut else []
    intercept = slope = large = _NOTHING
    if said := _no_slope(positive, x):
        warnings.append(f"no calibration intercept and slope: {said}")
    else:
        beta, covariance = _fit(positive, np.column_stack([np.ones(x.size), x]), np.zeros(x.size), codes)
        intercept, slope = (_interval(beta[i], covariance[i, i], level) for i in (0, 1))
    if said := _one_class(positive):
        warnings.append(f"no calibration in the large: {said}")
    else:
        beta, covariance = _fit(positive, np.ones((x.size, 1)), x, codes)
        large = _interval(beta[0], covariance[0, 0], level)
    prevalence, mean = observed.value, float(chance.mean())
    return Calibration(
        positive.size,
        int(positive.sum()),
        intercept,
        slope,
        large,
        float(((chance - positive) ** 2).mean()),
        prevalence * (1 - prevalence),
        mean,
        observed,
        _observed_expected(int(positive.sum()), positive.size, mean, level),
        hosmer_lemeshow(positive, chance, bins, estimated) if estimated < bins <= positive.size else None,
        expected_calibration_error(positive, chance),
        reliability_curve(positive, chance, bins, level),
        level,
        clustered,
        tuple(warnings),
    )


def _observed_expected(events: int, n: int, mean: float, level: float) -> Interval:
    """O/E with the interval on the log scale, variance (1 - O/n) / O (Debray et al. 2017)."""
    if mean == 0:
        return _NOTHING
    ratio = events / n / mean
    if events == 0:
        return Interval(0.0, math.nan, math.nan)
    half = float(norm.ppf(0.5 + level / 2)) * math.sqrt((1 - events / n) / events)
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half))


def hosmer_lemeshow(y: ArrayLike, p: ArrayLike, groups: int = 10, estimated: int = 2) -> HosmerLemeshow:
    """Return the test over ``groups`` of equal size by rank of ``p``, equal values in their order of appearance.

    Args:
        y: (n,) 1 where the event happened.
        p: (n,) predicted probability.
        groups: at least ``estimated`` + 1 and at most n.
        estimated: see ``calibration``.

    Raises:
        ValueError: columns that do not fit, or a number of groups out of range.
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, probabilities=True)
    if not estimated < groups <= positive.size:
        raise ValueError(f"groups must be {estimated + 1} to {positive.size} (the cases), got {groups}")
    parts = np.array_split(np.argsort(chance, kind="stable"), groups)
    size = np.array([part.size for part in parts])
    seen = np.array([positive[part].sum() for part in parts])
    expected = np.array([chance[part].sum() for part in parts])
    variance = expected * (1 - expected / size)
    gap = (seen - expected) ** 2
    # a group that is sure and right adds nothing, one that is sure and wrong refutes
    sure = np.where(gap < 1e-18, 0.0, np.inf)
    statistic = float(np.divide(gap, variance, out=sure, where=variance > 0).sum())
    df = groups - estimated
    return HosmerLemeshow(statistic, df, float(chi2.sf(statistic, df)), groups)


def expected_calibration_error(y: ArrayLike, p: ArrayLike, bins: int = 10) -> float:
    """Return the mean distance of predicted from observed over bins of equal width, weighted by their cases.

    A boundary belongs to the bin above it, 1 to the last (Naeini et al. 2015, for a binary outcome).
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, probabilities=True)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    place = np.minimum((chance * bins).astype(np.intp), bins - 1)
    return float(np.abs(np.bincount(place, positive - chance)).sum() / chance.size)


def reliability_curve(y: ArrayLike, p: ArrayLike, bins: int = 10, level: float = 0.95) -> ReliabilityCurve:
    """Return mean predicted probability and observed share of up to ``bins`` bins between quantiles of ``p``.

    Raises:
        ValueError: columns that do not fit, or no bin.
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, probabilities=True)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    inner = np.unique(np.quantile(chance, np.linspace(0, 1, bins + 1)[1:-1]))
    _, place = np.unique(np.searchsorted(inner, chance, side="left"), return_inverse=True)
    size = np.bincount(place)
    seen = np.bincount(place, positive)
    shares = tuple(proportion(int(x), int(n), level) for x, n in zip(seen, size, strict=True))
    return ReliabilityCurve(np.bincount(place, chance) / size, shares)


# --- at a new centre ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recalibration:
    """A logistic correction of probabilities, fitted at one centre and frozen.

    Attributes:
        intercept: added to slope * logit(p).
        slope: factor of logit(p).
        fitted: what the data allowed to be fitted.
        fitted_on: name of the data it was fitted on.
        n: their cases.
        events: their positive cases.
        warning: why less was fitted than asked, or ``None``.
    """

    intercept: float
    slope: float
    fitted: Literal["intercept and slope", "intercept", "nothing"]
    fitted_on: str
    n: int
    events: int
    warning: str | None = None

    def apply(self, p: ArrayLike) -> Array:
        """Return corrected probabilities, of the shape of ``p``; where nothing was fitted, ``p`` itself."""
        chance = np.asarray(p, dtype=np.float64)
        if not ((chance >= 0) & (chance <= 1)).all():
            raise ValueError("probabilities must lie between 0 and 1")
        if self.fitted == "nothing":
            return chance
        corrected: Array = expit(self.intercept + self.slope * _logits(chance)[0])
        return corrected


def recalibrate(y: ArrayLike, p: ArrayLike, fitted_on: str, *, slope: bool = True) -> Recalibration:
    """Fit intercept and slope (or the intercept alone) of the probabilities ``p`` to the outcomes of a centre.

    Where the slope has no finite estimate, or comes out negative (which would turn the ranking round), the intercept
    alone is fitted, and where all outcomes are the same, nothing; ``warning`` says so.

    Args:
        y: (n,) 1 where the event happened.
        p: (n,) predicted probability.
        fitted_on: name of these data, kept with the result.
        slope: ``False`` for the intercept alone, as few events ask for.

    Raises:
        ValueError: columns that do not fit, probabilities outside [0, 1]; all at once.
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, probabilities=True)
    n, events = positive.size, int(positive.sum())
    x, _ = _logits(chance)
    if said := _one_class(positive):
        return Recalibration(0.0, 1.0, "nothing", fitted_on, n, events, f"nothing was fitted: {said}")
    why = _no_slope(positive, x) if slope else None
    if slope and why is None:
        beta, _ = _fit(positive, np.column_stack([np.ones(n), x]), np.zeros(n))
        if beta[1] > 0:
            return Recalibration(float(beta[0]), float(beta[1]), "intercept and slope", fitted_on, n, events)
        why = f"the slope is {beta[1]:.3g}, which would turn the ranking round"
    beta, _ = _fit(positive, np.ones((n, 1)), x)
    said = f"the intercept alone was fitted: {why}" if why else None
    return Recalibration(float(beta[0]), 1.0, "intercept", fitted_on, n, events, said)
