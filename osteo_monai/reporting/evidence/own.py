"""Comparison of one test set with pooled values."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from osteo_monai.statistics.meta_analysis.estimates import BivariateFit, SummaryPoint
from osteo_monai.statistics.meta_analysis.reference import PooledReference
from osteo_monai.statistics.proportions import Interval, wilson

__all__ = ["NO_INTERVAL", "OwnComparison", "compare_own"]

Array = NDArray[np.float64]

NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class OwnComparison:
    """Test set of the user's model for one target, and its comparison with pooled values.

    Attributes:
        counts: (4,) TP, FP, FN, TN.
        target: what the test is positive for.
        name: of the model.
        sensitivity: with Wilson's interval.
        specificity: with Wilson's interval.
        accuracy_ratios: gives likelihood ratios and post-test probabilities.
        reference: pooled values of a review, if one was requested and has this target.
        differences: own minus pooled sensitivity and specificity, Newcombe's interval from the two intervals.
        remarks: sentences on the test set.
        farther_out: probability that the result of a new study is farther from the summary than this one, given the
            between-study variance and both sampling errors; ``None`` without a fit.
    """

    target: str
    name: str
    counts: Array
    sensitivity: Interval
    specificity: Interval
    accuracy_ratios: SummaryPoint
    reference: PooledReference | None
    differences: tuple[Interval, Interval] | None
    farther_out: float | None
    remarks: tuple[str, ...] = ()


def compare_own(
    target: str,
    name: str,
    counts: Array,
    fit: BivariateFit | None = None,
    remarks: tuple[str, ...] = (),
    reference: PooledReference | None = None,
) -> OwnComparison:
    """Compare one test set with the pooled values of a review and with a fitted meta-analysis, each if given.

    Args:
        target: what the test is positive for.
        name: of the model.
        counts: (4,) TP, FP, FN, TN with at least one diseased and one healthy subject.
        fit: of the studies to compare with; the test set must not be one of them.
        remarks: sentences on the test set.
        reference: pooled values of a review.
    """
    tp, fp, fn, tn = counts
    se, sp = wilson(tp, tp + fn), wilson(tn, tn + fp)
    filled = counts + 0.5 * (counts == 0).any()
    own_logits = np.array([math.log(filled[0] / filled[2]), math.log(filled[3] / filled[1])])
    own_cov = np.diag([1 / filled[0] + 1 / filled[2], 1 / filled[3] + 1 / filled[1]])
    differences = None
    if reference is not None:
        differences = (_newcombe(se, reference.sensitivity), _newcombe(sp, reference.specificity))
    farther = None
    if fit is not None:
        summary = fit.summary()
        gap = own_logits - summary.mean
        farther = float(chi2.sf(gap @ np.linalg.solve(fit.psi + summary.cov + own_cov, gap), 2))
    return OwnComparison(
        target, name, counts, se, sp, SummaryPoint(own_logits, own_cov), reference, differences, farther, remarks
    )


def _newcombe(a: Interval, b: Interval) -> Interval:
    """Return the difference a - b with the interval combined from the two intervals (Newcombe 1998, MOVER)."""
    d = a.value - b.value
    return Interval(
        d, d - math.hypot(a.value - a.low, b.high - b.value), d + math.hypot(a.high - a.value, b.value - b.low)
    )
