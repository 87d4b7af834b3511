"""Decision curves: net benefit of acting on a model (Vickers and Elkin 2006)."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.samples import (
    RESAMPLES,
    Array,
    Resampler,
    checked_columns,
    percentile_interval,
    subject_codes,
)

__all__ = ["DecisionCurve", "decision_curve", "net_benefit_difference"]


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit over threshold probabilities t, in true positives per case; cases with p >= t are acted on.

    Attributes:
        thresholds: (points,) threshold probabilities t.
        net_benefit: (points,) TP / n - FP / n * t / (1 - t) - harm.
        treat_all: (points,) the same for acting on all cases, without harm of a test.
        treat_none: (points,) zeros.
        interventions_avoided: (points,) net, per case, against acting on all: (net benefit - that of all) over
            t / (1 - t).
        tp_rate: (points,) true positives over all cases.
        fp_rate: (points,) false positives over all cases.
        low: (points,) lower bound of the net benefit, bootstrap by subject; ``nan`` without resamples.
        high: (points,) upper bound.
        n: number of cases.
        prevalence: share of positive cases.
        harm: harm of the test itself, in true positives per case.
        subjects: number of subjects.
        resamples: number of bootstrap samples.
        level: confidence level of the band.
    """

    thresholds: Array
    net_benefit: Array
    treat_all: Array
    treat_none: Array
    interventions_avoided: Array
    tp_rate: Array = field(repr=False)
    fp_rate: Array = field(repr=False)
    low: Array = field(repr=False)
    high: Array = field(repr=False)
    n: int
    prevalence: float
    harm: float
    subjects: int
    resamples: int
    level: float


def decision_curve(
    y: ArrayLike,
    p: ArrayLike,
    thresholds: ArrayLike | None = None,
    *,
    harm: float = 0.0,
    groups: ArrayLike | None = None,
    resamples: int = 0,
    seed: int = 0,
    level: float = 0.95,
) -> DecisionCurve:
    """Return the decision curve of predicted probabilities.

    Args:
        y: (n,) 1 if the condition is present.
        p: (n,) predicted probability, 0 to 1.
        thresholds: (points,) above 0 and below 1 (default: 0.01 to 0.99).
        harm: of the test itself, in true positives per case: 1 over the largest acceptable number of tests for one
            case found.
        groups: (n,) subject of each case, if subjects repeat.
        resamples: bootstrap samples of the band by subject; 0 for no band. The prevalence varies between samples.
        seed: bootstrap random seed.
        level: confidence level of the band.

    Raises:
        ValueError: lists wrong columns, and probabilities, thresholds, harm or level out of range.
    """
    positive, (chance,) = checked_columns(y, {"probability": p}, groups=groups, probabilities=True)
    t = np.linspace(0.01, 0.99, 99) if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    problems = []
    if t.ndim != 1 or not t.size or not ((t > 0) & (t < 1)).all():
        problems.append(f"thresholds must be one-dimensional, above 0 and below 1, got {t.tolist()}")
    if not harm >= 0:
        problems.append(f"harm must be 0 or more, got {harm}")
    if not 0 < level < 1:
        problems.append(f"level must be between 0 and 1, got {level}")
    if resamples < 0:
        problems.append(f"resamples must be 0 or more, got {resamples}")
    if problems:
        raise ValueError("; ".join(problems))
    order = np.argsort(chance, kind="stable")
    first = np.searchsorted(chance[order], t, side="left")
    event = positive[order].astype(np.float64)
    odds = t / (1 - t)

    def shares(weights: Array) -> tuple[Array, Array]:
        """Return true and false positives over all cases, (samples, points), of (samples, n) weights in order of p."""
        total = weights.sum(1, keepdims=True)
        counts = []
        for marked in (weights * event, weights * (1 - event)):
            tail = np.pad(np.cumsum(marked[:, ::-1], axis=1)[:, ::-1], ((0, 0), (0, 1)))
            counts.append(tail[:, first] / total)
        return counts[0], counts[1]

    tp, fp = (rate[0] for rate in shares(np.ones((1, event.size))))
    benefit = tp - odds * fp - harm
    prevalence = float(positive.mean())
    treat_all = prevalence - odds * (1 - prevalence)
    low = high = np.full(t.size, np.nan)
    subjects = subject_codes(groups, positive.size)
    if resamples:
        draws = []
        for block in Resampler(subjects, resamples=resamples, seed=seed).weights():
            true_positives, false_positives = shares(block[:, order])
            draws.append(true_positives - odds * false_positives - harm)
        low, high = np.quantile(np.concatenate(draws), [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return DecisionCurve(
        t,
        benefit,
        treat_all,
        np.zeros(t.size),
        (benefit - treat_all) / odds,
        tp,
        fp,
        low,
        high,
        positive.size,
        prevalence,
        harm,
        int(subjects.max()) + 1,
        resamples,
        level,
    )


def net_benefit_difference(
    y: ArrayLike,
    p: ArrayLike,
    other: ArrayLike | None,
    thresholds: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """Return the net benefit of ``p`` minus that of ``other`` at each threshold, with a paired bootstrap interval.

    Both are computed in the same samples of subjects. If no sample differs from the estimate, there is no interval
    (``nan`` bounds), except where both act on the same cases, whose difference is 0 in every sample.

    Args:
        y: (n,) 1 if the condition is present.
        p: (n,) predicted probability, 0 to 1.
        other: (n,) that of another model; ``None`` for acting on all cases.
        thresholds: (points,) above 0 and below 1.
        groups: (n,) subject of each case, if subjects repeat.
        resamples: bootstrap samples.
        seed: bootstrap random seed.
        level: confidence level.

    Raises:
        ValueError: lists wrong columns and thresholds.
    """
    columns = {"probability": p} if other is None else {"probability": p, "other": other}
    positive, chances = checked_columns(y, columns, groups=groups, probabilities=True)
    t = np.asarray(thresholds, dtype=np.float64)
    if t.ndim != 1 or not t.size or not ((t > 0) & (t < 1)).all():
        raise ValueError(f"thresholds must be one-dimensional, above 0 and below 1, got {t.tolist()}")
    worth = np.where(positive[:, None], 1.0, -t / (1 - t))
    acted = [chance[:, None] >= t for chance in chances]
    second = np.ones_like(acted[0]) if other is None else acted[1]
    gain = worth * (acted[0].astype(np.float64) - second)
    subjects = subject_codes(groups, positive.size)
    draws = np.concatenate(
        [
            (block @ gain) / block.sum(1, keepdims=True)
            for block in Resampler(subjects, resamples=resamples, seed=seed).weights()
        ]
    )
    found = []
    for value, samples, column in zip(gain.mean(0), draws.T, gain.T, strict=True):
        interval = percentile_interval(float(value), samples, level)
        constant = interval.low == interval.high and column.any()
        found.append(Interval(interval.value, np.nan, np.nan) if constant else interval)
    return found
