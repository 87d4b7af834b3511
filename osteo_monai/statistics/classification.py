"""Predicted against true classes: confusion matrices, rates of each class, agreement beyond chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osteo_monai.statistics.clusters import clustered_proportion
from osteo_monai.statistics.proportions import (
    Interval,
    IntervalMethod,
    Proportion,
    proportion,
)
from osteo_monai.statistics.samples import (
    RESAMPLES,
    Array,
    Flags,
    Resampler,
    checked_columns,
    percentile_interval,
    subject_codes,
)

Counts = NDArray[np.int64]

__all__ = [
    "BinaryCounts",
    "ClassPerformance",
    "Rates",
    "Summary",
    "binary_counts",
    "class_performance",
    "confusion_matrix",
    "rates",
    "summarise",
]


class BinaryCounts(NamedTuple):
    """A 2 x 2 table: true positives, false positives, false negatives, true negatives."""

    tp: int
    fp: int
    fn: int
    tn: int


def _codes(values: ArrayLike, classes: Sequence[str], what: str) -> tuple[NDArray[np.intp], str | None]:
    names = [str(name) for name in np.asarray(values, dtype=object).ravel()]
    place = {str(name): code for code, name in enumerate(classes)}
    unknown = sorted(set(names) - set(place))
    problem = f"{what} must be one of {', '.join(place)}, got {', '.join(unknown)}" if unknown else None
    return np.array([place.get(name, 0) for name in names], dtype=np.intp), problem


def _pairs(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> tuple[NDArray[np.intp], ...]:
    """Return the codes of both in the order of ``classes``; raise ``ValueError`` with everything wrong."""
    problems = [] if len(set(classes)) == len(classes) > 1 else ["classes must be at least two different names"]
    true, unknown_true = _codes(truth, classes, "the true class")
    called, unknown_called = _codes(predicted, classes, "the predicted class")
    problems += [p for p in (unknown_true, unknown_called) if p]
    if true.size != called.size or not true.size:
        problems.append(
            f"true and predicted classes must be equally many and at least one, got {true.size} and {called.size}"
        )
    if problems:
        raise ValueError("; ".join(problems))
    return true, called


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> Counts:
    """Return (classes, classes) counts of cases: rows are true, columns predicted, in the order of ``classes``.

    Raises:
        ValueError: lists unknown classes and columns of different length.

    Example:
        >>> confusion_matrix(["a", "a", "b"], ["a", "b", "b"], ["a", "b"]).tolist()
        [[1, 1], [0, 1]]
    """
    true, called = _pairs(truth, predicted, classes)
    k = len(classes)
    return np.bincount(true * k + called, minlength=k * k).reshape(k, k).astype(np.int64)


def binary_counts(matrix: ArrayLike, k: int) -> BinaryCounts:
    """Return the 2 x 2 table of class ``k`` against all others, of a matrix with true rows and predicted columns."""
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not 0 <= k < counts.shape[0]:
        raise ValueError(f"k must be a class of a square confusion matrix, got {k} for shape {counts.shape}")
    tp, row, column = counts[k, k], counts[k].sum(), counts[:, k].sum()
    return BinaryCounts(int(tp), int(column - tp), int(row - tp), int(counts.sum() - row - column + tp))


@dataclass(frozen=True)
class Rates:
    """Rates of a 2 x 2 table with their intervals; a rate of no cases is undefined (``nan``), not 0.

    Attributes:
        counts: the table.
        sensitivity: TP / (TP + FN).
        specificity: TN / (TN + FP).
        ppv: TP / (TP + FP), at the prevalence of this sample.
        npv: TN / (TN + FN), at the prevalence of this sample.
        accuracy: (TP + TN) / all.
        f1: 2 TP / (2 TP + FP + FN); with an interval only from resampling, else ``nan`` bounds.
        interval: method of the intervals of the proportions.
        clustered: whether they are at the effective sample size of subjects with several cases.
    """

    counts: BinaryCounts
    sensitivity: Proportion
    specificity: Proportion
    ppv: Proportion
    npv: Proportion
    accuracy: Proportion
    f1: Interval
    interval: IntervalMethod
    clustered: bool = False


def _parts(c: BinaryCounts) -> dict[str, tuple[int, int]]:
    return {
        "sensitivity": (c.tp, c.tp + c.fn),
        "specificity": (c.tn, c.tn + c.fp),
        "ppv": (c.tp, c.tp + c.fp),
        "npv": (c.tn, c.tn + c.fn),
        "accuracy": (c.tp + c.tn, sum(c)),
    }


def _ratio(x: ArrayLike, n: ArrayLike) -> Array:
    """``x / n`` elementwise, ``nan`` where ``n`` is 0."""
    top, bottom = np.asarray(x, dtype=np.float64), np.asarray(n, dtype=np.float64)
    undefined = np.full(np.broadcast(top, bottom).shape, np.nan)
    return np.asarray(np.divide(top, bottom, out=undefined, where=bottom != 0))


def rates(
    tp: int,
    fp: int,
    fn: int,
    tn: int,
    method: IntervalMethod = "wilson",
    level: float = 0.95,
    f1: Interval | None = None,
) -> Rates:
    """Return the rates of a 2 x 2 table whose cases are independent.

    Args:
        tp: true positives.
        fp: false positives.
        fn: false negatives.
        tn: true negatives.
        method: interval of each proportion.
        level: confidence level.
        f1: F1 with a bootstrap interval, if there is one.

    Raises:
        ValueError: on negative or fractional counts, or a wrong method or level.
    """
    if any(x != int(x) or x < 0 for x in (tp, fp, fn, tn)):
        raise ValueError(f"counts must be whole numbers of 0 or more, got TP {tp}, FP {fp}, FN {fn}, TN {tn}")
    counts = BinaryCounts(int(tp), int(fp), int(fn), int(tn))
    proportions = {name: proportion(x, n, level, method) for name, (x, n) in _parts(counts).items()}
    plain = Interval(float(_ratio(2 * tp, 2 * tp + fp + fn)), math.nan, math.nan)
    se, sp, ppv, npv, accuracy = proportions.values()
    return Rates(counts, se, sp, ppv, npv, accuracy, plain if f1 is None else f1, method)


# --- all classes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassPerformance:
    """Performance of the predicted classes of a sample.

    Attributes:
        classes: names, in the order of the matrix.
        matrix: (classes, classes) counts, rows true, columns predicted.
        rates: of each class against all others, with a bootstrap interval of F1.
        accuracy: share of cases on the diagonal.
        macro_f1: mean of F1 over the classes; undefined if a class is neither true nor predicted.
        kappa: Cohen's kappa (Cohen 1960); undefined if the chance agreement is complete.
        quadratic_kappa: with quadratic weights of the distance in the order of ``classes`` (Cohen 1968).
        subjects: number of subjects.
        clustered: whether subjects had several cases.
        resamples: number of bootstrap samples.
        level: confidence level.
    """

    classes: tuple[str, ...]
    matrix: Counts
    rates: dict[str, Rates]
    accuracy: Proportion
    macro_f1: Interval
    kappa: Interval
    quadratic_kappa: Interval
    subjects: int
    clustered: bool
    resamples: int
    level: float


def _measures(matrices: Array) -> dict[str, Array]:
    """Return measures of (samples, k, k) matrices: (samples, k) of each class, (samples,) overall."""
    k = matrices.shape[-1]
    total = matrices.sum((1, 2))
    tp = np.diagonal(matrices, axis1=1, axis2=2)
    row, column = matrices.sum(2), matrices.sum(1)
    tn = total[:, None] - row - column + tp
    f1 = _ratio(2 * tp, row + column)
    expected = row[:, :, None] * column[:, None, :] / total[:, None, None]
    distance = np.square(np.subtract.outer(np.arange(k), np.arange(k))).astype(np.float64)
    return {
        "sensitivity": _ratio(tp, row),
        "specificity": _ratio(tn, total[:, None] - row),
        "ppv": _ratio(tp, column),
        "npv": _ratio(tn, total[:, None] - column),
        "accuracy": (tp + tn) / total[:, None],
        "f1": f1,
        "overall": tp.sum(1) / total,
        "macro_f1": f1.mean(1),
        "kappa": _kappa(matrices, expected, (distance > 0).astype(np.float64)),
        "quadratic_kappa": _kappa(matrices, expected, distance),
    }


def _kappa(observed: Array, expected: Array, weights: Array) -> Array:
    return 1 - _ratio((observed * weights).sum((1, 2)), (expected * weights).sum((1, 2)))


def class_performance(
    truth: ArrayLike,
    predicted: ArrayLike,
    classes: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    method: IntervalMethod = "wilson",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ClassPerformance:
    """Return matrix, rates, F1 and kappas of a sample with their intervals.

    Proportions have the interval of ``method``, at the effective sample size if subjects have several cases
    (``clusters.clustered_proportion``). Macro F1, kappas and F1 have a percentile interval by subject. Where no sample
    differs from the estimate, F1 has the interval of the share TP / (TP + FP + FN), of which it is a function, and the
    others none (``nan`` bounds), since a width of 0 would not show the uncertainty.

    Args:
        truth: (n,) true class of each case.
        predicted: (n,) predicted class.
        classes: all classes, in their order.
        groups: (n,) subject of each case, if subjects repeat.
        method: interval of a proportion.
        level: confidence level.
        resamples: bootstrap samples.
        seed: bootstrap random seed.

    Raises:
        ValueError: lists everything wrong with classes and columns.
    """
    true, called = _pairs(truth, predicted, classes)
    checked_columns(np.zeros(true.size), {}, groups=groups)
    k = len(classes)
    cell = np.zeros((true.size, k * k))
    cell[np.arange(true.size), true * k + called] = 1
    matrix = cell.sum(0).reshape(k, k)
    subjects = subject_codes(groups, true.size)
    count = int(subjects.max()) + 1
    clustered = count < true.size
    value = {name: column[0] for name, column in _measures(matrix[None]).items()}
    blocks = [
        _measures((block @ cell).reshape(-1, k, k))
        for block in Resampler(subjects, resamples=resamples, seed=seed).weights()
    ]
    draws = {name: np.concatenate([block[name] for block in blocks]) for name in value}

    def band(name: str, at: int | None = None) -> Interval:
        chosen = draws[name] if at is None else draws[name][:, at]
        number = value[name] if at is None else value[name][at]
        found = percentile_interval(float(number), chosen if count > 1 else [], level)
        return Interval(found.value, math.nan, math.nan) if found.low == found.high else found

    def share(flags: Flags, among: Flags) -> Proportion:
        """Return the share of ``flags`` in the cases of ``among``."""
        rows = np.flatnonzero(among)
        if not clustered:
            return proportion(int(flags[rows].sum()), rows.size, level, method)
        found = clustered_proportion(flags[rows], subjects[rows], level, method)
        return found if count > 1 else Proportion(found.value, math.nan, math.nan, found.events, found.total)

    each = {}
    for at, name in enumerate(classes):
        is_true, is_called = true == at, called == at
        f1 = band("f1", at)
        if math.isnan(f1.low) and count > 1:
            f1 = _f1_of_share(share(is_true & is_called, is_true | is_called))
        each[str(name)] = Rates(
            binary_counts(matrix, at),
            share(is_called, is_true),
            share(~is_called, ~is_true),
            share(is_true, is_called),
            share(~is_true, ~is_called),
            share(is_true == is_called, np.ones(true.size, dtype=bool)),
            f1,
            method,
            clustered,
        )
    overall = share(true == called, np.ones(true.size, dtype=bool))
    return ClassPerformance(
        tuple(str(name) for name in classes),
        matrix.astype(np.int64),
        each,
        overall,
        band("macro_f1"),
        band("kappa"),
        band("quadratic_kappa"),
        count,
        clustered,
        resamples,
        level,
    )


def _f1_of_share(share: Proportion) -> Interval:
    """Return F1 = 2 J / (1 + J) of the share J = TP / (TP + FP + FN) and its bounds."""
    return Interval(*(2 * bound / (1 + bound) for bound in (share.value, share.low, share.high)))


# --- numbers per case ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Distribution of a measure over cases (Dice, for one), in the unit of its values.

    Attributes:
        n: number of values.
        missing: number of cases without a value (``nan``).
        mean: ``nan`` without a value.
        sd: standard deviation with n - 1; ``nan`` for fewer than two values.
        minimum: smallest value.
        q1: first quartile, by linear interpolation as the other two.
        median: second quartile.
        q3: third quartile.
        maximum: largest value.
    """

    n: int
    missing: int
    mean: float
    sd: float
    minimum: float
    q1: float
    median: float
    q3: float
    maximum: float


def summarise(values: ArrayLike) -> Summary:
    """Return mean, standard deviation and quartiles of ``values`` (any shape); ``nan`` counts as missing.

    Raises:
        ValueError: on infinite values.
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    if np.isinf(numbers).any():
        raise ValueError(f"values must be finite or nan, got {int(np.isinf(numbers).sum())} of {numbers.size} infinite")
    values_present = numbers[~np.isnan(numbers)]
    missing = numbers.size - values_present.size
    if not values_present.size:
        return Summary(0, missing, *[math.nan] * 7)
    sd = float(values_present.std(ddof=1)) if values_present.size > 1 else math.nan
    quantiles = [float(q) for q in np.quantile(values_present, [0, 0.25, 0.5, 0.75, 1])]
    return Summary(values_present.size, missing, float(values_present.mean()), sd, *quantiles)
