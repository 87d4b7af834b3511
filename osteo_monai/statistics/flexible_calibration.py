"""Flexible calibration curve and the distances of predictions from it: ICI, E50, E90 (Austin and Steyerberg 2019)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.samples import (
    RESAMPLES,
    Array,
    Flags,
    Resampler,
    checked_columns,
    percentile_interval,
    subject_codes,
)
from osteo_monai.utils.probability import logit

_QUANTILES = {3: (0.1, 0.5, 0.9), 4: (0.05, 0.35, 0.65, 0.95)}
"""Places of the knots (Harrell 2015, table 2.3)."""
_EVENTS = 10
"""Fewest events and non-events of a curve; project custom."""

__all__ = ["FlexibleCalibration", "flexible_calibration"]


@dataclass(frozen=True)
class FlexibleCalibration:
    """Observed share as a smooth function of the predicted probability.

    Attributes:
        predicted: (points,) from the 1st to the 99th percentile of the predictions.
        observed: (points,) estimated share of events.
        low: (points,) lower bound, pointwise, bootstrap by subject.
        high: (points,) upper bound.
        ici: mean distance of predicted from estimated share over the cases (integrated calibration index).
        e50: median of these distances.
        e90: their 90th percentile.
        knots: number of knots.
        undefined: share of bootstrap samples without a finite estimate.
    """

    predicted: Array = field(repr=False)
    observed: Array = field(repr=False)
    low: Array = field(repr=False)
    high: Array = field(repr=False)
    ici: Interval
    e50: Interval
    e90: Interval
    knots: int
    undefined: float


def flexible_calibration(
    y: ArrayLike,
    p: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    points: int = 50,
) -> FlexibleCalibration | str:
    """Return the curve of a logistic regression on a restricted cubic spline of logit(p), or why there is none.

    Four knots, three if the predictions have fewer different values at the places of four. Distances are never
    negative, so that their intervals do not include 0 even for perfect probabilities; compare them between models.

    Args:
        y: (n,) 1 if the event occurred.
        p: (n,) predicted probability, 0 to 1.
        groups: (n,) subject of each case, if subjects repeat.
        resamples: bootstrap samples, by subject.
        seed: bootstrap random seed.
        level: confidence level.
        points: of the curve.

    Raises:
        ValueError: lists wrong columns and probabilities outside [0, 1].
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, groups=groups, probabilities=True)
    if min(int(positive.sum()), int((~positive).sum())) < _EVENTS:
        return f"a curve requires {_EVENTS} images with and {_EVENTS} without the event"
    x = logit(chance)
    knots = next((found for k in (4, 3) if (found := _knots(x, k)) is not None), None)
    if knots is None:
        return "the predictions have too few different values for a curve"
    design = _basis(x, knots)
    beta = _fitted(design, positive, np.ones(x.size), np.zeros(design.shape[1]))
    if beta is None:
        return "the curve has no finite estimate"
    ends = np.quantile(chance, [0.01, 0.99]).tolist()
    grid = np.linspace(ends[0], ends[1], points)
    at_grid = _basis(logit(grid), knots)
    subjects = subject_codes(groups, x.size)
    curves, distances, failed = [], [], 0
    for block in Resampler(subjects, resamples=resamples, seed=seed).weights():
        for weights in block:
            drawn = _fitted(design, positive, weights, beta)
            if drawn is None:
                failed += 1
                continue
            curves.append(expit(at_grid @ drawn))
            distances.append(_distances(np.abs(expit(design @ drawn) - chance), weights))
    if failed > resamples / 2:
        return "most bootstrap samples have no finite estimate of the curve"
    low, high = np.quantile(np.array(curves), [0.5 - level / 2, 0.5 + level / 2], axis=0)
    own = _distances(np.abs(expit(design @ beta) - chance), np.ones(x.size))
    ici, e50, e90 = (
        percentile_interval(value, column, level) for value, column in zip(own, np.array(distances).T, strict=True)
    )
    observed: Array = expit(at_grid @ beta)
    return FlexibleCalibration(grid, observed, low, high, ici, e50, e90, knots.size, failed / resamples)


def _knots(x: Array, count: int) -> Array | None:
    places: Array = np.quantile(x, _QUANTILES[count])
    return places if np.unique(places).size == count and np.unique(x).size > count else None


def _basis(x: Array, knots: Array) -> Array:
    """Return intercept, x and the restricted cubic terms, in the scale of Harrell's (divided by the squared range)."""
    last, before = knots[-1], knots[-2]

    def cubed(knot: float) -> Array:
        return np.asarray(np.maximum(x - knot, 0.0) ** 3)

    terms = [
        cubed(knot) - cubed(before) * (last - knot) / (last - before) + cubed(last) * (before - knot) / (last - before)
        for knot in knots[:-2]
    ]
    return np.column_stack([np.ones(x.size), x, *(term / (last - knots[0]) ** 2 for term in terms)])


def _fitted(design: Array, positive: Flags, weights: Array, start: Array) -> Array | None:
    """Return the coefficients of a weighted logistic regression (Newton), ``None`` if they do not converge."""
    beta, reached = start, _likelihood(design @ start, positive, weights)
    for _ in range(50):
        mu = expit(design @ beta)
        hessian = design.T @ (design * (weights * mu * (1 - mu))[:, None])
        gradient = design.T @ (weights * (positive - mu))
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            return None
        decrement = float(gradient @ step)
        if not np.isfinite(decrement):
            return None
        if decrement < 1e-12 * weights.sum():
            return beta + step
        for _ in range(30):
            here = _likelihood(design @ (beta + step), positive, weights)
            if here >= reached:
                break
            step /= 2
        beta, reached = beta + step, here
        if reached > -1e-6 * weights.sum():
            return None  # separated
    return None


def _likelihood(eta: Array, positive: Flags, weights: Array) -> float:
    return float(weights @ (positive * eta - np.logaddexp(0, eta)))


def _distances(distance: Array, weights: Array) -> tuple[float, float, float]:
    """Return weighted mean, median and 90th percentile (inverse of the distribution function)."""
    order = np.argsort(distance)
    share = np.cumsum(weights[order]) / weights.sum()
    at = np.searchsorted(share, [0.5 - 1e-12, 0.9 - 1e-12])
    return (
        float((distance * weights).sum() / weights.sum()),
        float(distance[order[at[0]]]),
        float(distance[order[at[1]]]),
    )
