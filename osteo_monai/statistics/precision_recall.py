"""Precision-recall curve, average precision and partial area, with bootstrap intervals by subject."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

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

__all__ = ["PrecisionRecall", "partial_auc", "precision_recall"]


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision (PPV) over recall (sensitivity); both depend on the prevalence of the sample.

    Attributes:
        recall: (points,) falling to 0.
        precision: (points,) at each recall.
        average: average precision, the mean precision over the steps of recall.
        prevalence: share of positive cases, the average precision of a score without information.
    """

    recall: Array = field(repr=False)
    precision: Array = field(repr=False)
    average: Interval
    prevalence: float


def precision_recall(
    y: ArrayLike,
    score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> PrecisionRecall:
    """Return the curve and its average precision with a bootstrap interval.

    Args:
        y: (n,) truth, 1 if the condition is present.
        score: (n,) larger = more likely.
        groups: (n,) subject of each case, if subjects repeat.
        resamples: bootstrap samples of subjects, drawn within their class.
        seed: bootstrap random seed.
        level: confidence level.

    Raises:
        ValueError: on wrong columns, or a class without cases.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    positive, numbers = _two_classes(y, score, groups)
    precision, recall, _ = precision_recall_curve(positive, numbers)
    subjects = subject_codes(groups, positive.size)
    average = _bootstrap(
        average_precision_score, positive, numbers, Resampler(subjects, positive, resamples, seed), level
    )
    return PrecisionRecall(recall, precision, average, float(positive.mean()))


def partial_auc(
    y: ArrayLike,
    score: ArrayLike,
    specificity: float,
    *,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the area at specificities of at least ``specificity``, standardised to 0.5 (chance) to 1 (McClish 1989).

    Args, errors: as ``precision_recall``; ``specificity`` must be at least 0 and below 1.
    """
    from sklearn.metrics import roc_auc_score

    if not 0 <= specificity < 1:
        raise ValueError(f"specificity must be at least 0 and below 1, got {specificity:g}")
    positive, numbers = _two_classes(y, score, groups)
    subjects = subject_codes(groups, positive.size)

    def area(truth: Flags, score: Array, sample_weight: Array | None = None) -> float:
        return float(roc_auc_score(truth, score, max_fpr=1 - specificity, sample_weight=sample_weight))

    return _bootstrap(area, positive, numbers, Resampler(subjects, positive, resamples, seed), level)


def _two_classes(y: ArrayLike, score: ArrayLike, groups: ArrayLike | None) -> tuple[Flags, Array]:
    positive, (numbers,) = checked_columns(y, {"score": score}, groups=groups)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) == 0:
        raise ValueError(f"both classes must have cases, got {m} positive and {n} negative")
    return positive, numbers


def _bootstrap(
    measure: Callable[..., float], positive: Flags, score: Array, resampler: Resampler, level: float
) -> Interval:
    """Return a measure with its percentile interval; ``nan`` bounds where no sample differs from it."""
    draws = []
    for block in resampler.weights():
        for weights in block:
            drawn = weights > 0
            draws.append(measure(positive[drawn], score[drawn], sample_weight=weights[drawn]))
    found = percentile_interval(float(measure(positive, score)), draws, level)
    return Interval(found.value, math.nan, math.nan) if np.ptp(draws) < 1e-12 else found
