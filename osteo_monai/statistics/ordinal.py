"""Ordinal figure of merit: how often a score ranks two cases of different classes correctly."""

import math
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from osteo_monai.statistics.proportions import Interval
from osteo_monai.statistics.roc import area_influence, normal_bounds
from osteo_monai.statistics.samples import checked_columns, subject_codes

__all__ = ["ordinal_concordance"]


def ordinal_concordance(
    classes: ArrayLike, score: ArrayLike, *, groups: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Return the share of pairs of cases of different classes in which the higher class has the higher score.

    Ties count half. It is the mean of the areas of all pairs of classes, weighted by their numbers of pairs (Harrell's
    C of an ordinal outcome; Obuchowski 2005 without penalties), and the area under the ROC curve with two classes. The
    interval is symmetric on the logit scale, with DeLong's components summed by subject and the numbers of cases of
    each class fixed: on the scale of the concordance it covered in 86 to 93 % of simulated samples, on the logit scale
    in 94 to 96 % (docs/evaluation_statistics.md).

    Args:
        classes: (n,) whole number of each class, in their order.
        score: (n,) larger = higher class.
        groups: (n,) subject of each case, if subjects repeat.
        level: confidence level.

    Returns:
        ``nan`` throughout with one class; ``nan`` bounds if the components do not vary.

    Raises:
        ValueError: on wrong columns.
    """
    codes = np.asarray(classes)
    _, (numbers,) = checked_columns(np.zeros(codes.shape), {"score": score}, groups=groups)
    subjects = subject_codes(groups, codes.size)
    total = weight = 0.0
    influence = np.zeros(codes.size)
    for low, high in combinations(np.unique(codes), 2):
        rows = np.flatnonzero((codes == low) | (codes == high))
        positive = codes[rows] == high
        pairs = float(positive.sum()) * float((~positive).sum())
        area, components = area_influence(positive, numbers[rows], subjects[rows])
        influence[rows] += pairs * components
        total += pairs * area
        weight += pairs
    if not weight:
        return Interval(math.nan, math.nan, math.nan)
    value = total / weight
    variance = float((np.bincount(subjects, influence / weight) ** 2).sum())
    if variance < 1e-24:
        return Interval(value, math.nan, math.nan)
    return Interval(value, *normal_bounds(value, variance, float(norm.ppf(0.5 + level / 2)), "logit"))
