"""Differences of rates with intervals: of two classifiers on the same cases, with exact tests, and of two groups."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from osteo_monai.statistics.clusters import clustered_proportion, design_effect, exact_sign_p
from osteo_monai.statistics.proportions import Interval, IntervalMethod, McNemar, mcnemar
from osteo_monai.statistics.samples import Array, Codes, Flags, checked_columns, subject_codes

__all__ = ["PairedRate", "PairedRates", "compare_rates", "difference_of_groups"]


@dataclass(frozen=True)
class PairedRate:
    """Sensitivity or specificity of two classifiers on the same cases.

    Attributes:
        first: rate of the first; ``nan`` without cases.
        second: rate of the second.
        difference: ``first - second`` with its interval.
        test: McNemar's tests of the cases that only one classifies correctly; with clustered subjects only its counts
            are valid.
        p: two-sided, to be reported: McNemar's exact test; for clustered subjects the exact test of the signs of their
            sums, which is the same with one case of each subject.
        clustered: whether ``p`` is that of clustered subjects.
    """

    first: float
    second: float
    difference: Interval
    test: McNemar
    p: float
    clustered: bool


@dataclass(frozen=True)
class PairedRates:
    """Rates of two classifiers on the same cases.

    Attributes:
        sensitivity, specificity: with their tests.
        ppv, npv: differences of the predictive values with their intervals; ``nan`` if one of the two is undefined.
    """

    sensitivity: PairedRate
    specificity: PairedRate
    ppv: Interval
    npv: Interval


def compare_rates(
    truth: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    method: IntervalMethod = "wilson",
) -> PairedRates:
    """Compare sensitivity, specificity and predictive values of two classifiers.

    The interval of a difference is made of those of both rates and of their correlation (Newcombe 1998, method 10 with
    its continuity correction, for sensitivity and specificity; Zou and Donner 2008, MOVER, in general). It keeps its
    width where both rates are 0 or 1, and it is not the inversion of the exact test: the two may differ near the level.

    Args:
        truth: (n,) 1 if the condition is present.
        first: (n,) 1 if the first classifier is positive.
        second: (n,) 1 if the second classifier is positive.
        groups: (n,) subject of each case, if subjects repeat.
        level: confidence level of the differences.
        method: interval of the single rates.

    Raises:
        ValueError: lists everything wrong with the columns.
    """
    positive, called = checked_columns(truth, {"first": first, "second": second}, groups=groups)
    problems = [
        f"{name} must be 0 or 1"
        for name, calls in zip(("first", "second"), called, strict=True)
        if not np.isin(calls, (0, 1)).all()
    ]
    if problems:
        raise ValueError("; ".join(problems))
    subjects = subject_codes(groups, positive.size)
    a, b = (calls.astype(bool) for calls in called)

    def difference(flags: tuple[Flags, Flags], among: tuple[Flags, Flags]) -> Interval:
        return _difference(flags, among, subjects, level, method)

    return PairedRates(
        _tested(a, b, positive, subjects, difference((a, b), (positive, positive))),
        _tested(~a, ~b, ~positive, subjects, difference((~a, ~b), (~positive, ~positive))),
        difference((positive, positive), (a, b)),
        difference((~positive, ~positive), (~a, ~b)),
    )


def difference_of_groups(
    flags: ArrayLike,
    first: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    method: IntervalMethod = "wilson",
) -> Interval:
    """Return the share of true ``flags`` in the cases of ``first`` minus that in the others, with its interval.

    For different subjects in the two groups this is Newcombe's 1998 method 10 of independent proportions; subjects with
    cases in both correlate them, as in ``compare_rates``.

    Args:
        flags: (n,) whether the event occurred.
        first: (n,) whether the case is in the first group.
        groups: (n,) subject of each case, if subjects repeat.
        level: confidence level.
        method: interval of the single shares.

    Returns:
        ``nan`` throughout if a group has no case.

    Raises:
        ValueError: on wrong columns.
    """
    marked, (member,) = checked_columns(flags, {"first": first}, groups=groups)
    if not np.isin(member, (0, 1)).all():
        raise ValueError("first must be 0 or 1")
    chosen = member.astype(bool)
    subjects = subject_codes(groups, marked.size)
    return _difference((marked, marked), (chosen, ~chosen), subjects, level, method)


def _tested(first: Flags, second: Flags, among: Flags, subjects: Codes, difference: Interval) -> PairedRate:
    """Test whether two classifiers are equally often correct in the cases of ``among``."""
    one, other, people = first[among], second[among], subjects[among]
    gap = one.astype(float) - other
    test = mcnemar(int((gap > 0).sum()), int((gap < 0).sum()))
    clustered = bool(np.unique(people).size < people.size)
    p = exact_sign_p(gap, people) if clustered else test.p_exact
    first_rate, second_rate = (float(correct.mean()) if correct.size else math.nan for correct in (one, other))
    return PairedRate(first_rate, second_rate, difference, test, p, clustered)


def _difference(
    flags: tuple[Flags, Flags], among: tuple[Flags, Flags], subjects: Codes, level: float, method: IntervalMethod
) -> Interval:
    """Return the difference of two correlated shares, of ``flags`` in the cases of ``among``."""
    if not (among[0].any() and among[1].any()):
        return Interval(math.nan, math.nan, math.nan)
    one, other = (
        clustered_proportion(f[rows], subjects[rows], level, method) for f, rows in zip(flags, among, strict=True)
    )
    u, v = (_sums(f, rows, subjects) for f, rows in zip(flags, among, strict=True))
    size = math.sqrt(float(u @ u) * float(v @ v))
    correlation = float(u @ v) / size if size > 0 else 0.0
    if correlation > 0:
        spread = math.prod(
            math.sqrt(share.value * (1 - share.value) * rows.sum() / design_effect(f[rows], subjects[rows]))
            for share, f, rows in zip((one, other), flags, among, strict=True)
        )
        correlation = max(correlation - 1 / (2 * spread), 0.0)
    value = one.value - other.value
    low = value - _combined(one.value - one.low, other.high - other.value, correlation)
    high = value + _combined(one.high - one.value, other.value - other.low, correlation)
    return Interval(value, max(low, -1.0), min(high, 1.0))


def _sums(flags: Flags, among: Flags, subjects: Codes) -> Array:
    """Return the sum of the influence of the cases of each subject on the share of ``flags`` in ``among``."""
    influence = np.where(among, flags - flags[among].mean(), 0.0) / among.sum()
    return np.bincount(subjects, influence).astype(np.float64)


def _combined(first: float, second: float, correlation: float) -> float:
    return math.sqrt(max(first**2 + second**2 - 2 * correlation * first * second, 0.0))
