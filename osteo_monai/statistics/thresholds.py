"""Cut-off of a score: chosen on validation data, then applied unchanged to other data."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osteo_monai.errors import UnattainableError
from osteo_monai.statistics.classification import BinaryCounts, Rates, class_performance, rates
from osteo_monai.statistics.proportions import IntervalMethod
from osteo_monai.statistics.samples import RESAMPLES, Array, Flags, checked_columns, subject_codes

Rule = Literal["sensitivity", "specificity", "youden"]

__all__ = ["Rule", "Threshold", "choose_threshold"]


@dataclass(frozen=True)
class Threshold:
    """A cut-off: a case is positive if its score is at or above ``value``.

    Attributes:
        value: the cut-off, in the unit of the score; one of the scores it was chosen on.
        rule: criterion of the choice.
        required: minimum sensitivity or specificity; ``None`` for Youden's index.
        chosen_on: name of the data it was chosen on.
        counts: 2 x 2 table of these data; optimistic, since the cut-off was chosen on them.
        tied: number of their cases with exactly this score.
        warnings: limitations of the choice.
    """

    value: float
    rule: Rule
    required: float | None
    chosen_on: str
    counts: BinaryCounts
    tied: int
    warnings: tuple[str, ...] = ()

    def call(self, score: ArrayLike) -> Flags:
        """Return whether each case is positive, of the shape of ``score``.

        Raises:
            ValueError: on scores that are not numbers.
        """
        numbers = np.asarray(score, dtype=np.float64)
        if np.isnan(numbers).any():
            raise ValueError(f"score must be numbers, {int(np.isnan(numbers).sum())} of {numbers.size} are not")
        called: Flags = numbers >= self.value
        return called

    def apply(
        self,
        y: ArrayLike,
        score: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        method: IntervalMethod = "wilson",
        level: float = 0.95,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> Rates:
        """Return the rates of the cut-off on other data.

        Args:
            y: (n,) truth, 1 if the condition is present.
            score: (n,) in the unit of ``value``.
            groups: (n,) subject of each case, if subjects repeat; intervals are then by bootstrap.
            method: interval of a proportion.
            level: confidence level.
            resamples: bootstrap samples.
            seed: bootstrap random seed.

        Raises:
            ValueError: lists everything wrong with the columns.
        """
        positive, (numbers,) = checked_columns(y, {"score": score}, groups=groups)
        classes = ("positive", "negative")
        truth, called = (np.where(flags, *classes) for flags in (positive, self.call(numbers)))
        performance = class_performance(
            truth, called, classes, groups=groups, method=method, level=level, resamples=resamples, seed=seed
        )
        return performance.rates["positive"]

    @property
    def rates(self) -> Rates:
        """Rates on the data it was chosen on, with Wilson intervals of independent cases."""
        return rates(*self.counts)


def choose_threshold(
    y: ArrayLike,
    score: ArrayLike,
    rule: Rule,
    required: float | None = None,
    *,
    chosen_on: str,
    groups: ArrayLike | None = None,
) -> Threshold:
    """Choose a cut-off among the scores of the cases.

    ``sensitivity``: the highest cut-off with at least ``required`` sensitivity, which has the best specificity.
    ``specificity``: the lowest cut-off with at least ``required`` specificity. ``youden``: the largest sensitivity +
    specificity - 1 (Youden 1950); the lowest of equal ones, which misses fewer cases.

    Args:
        y: (n,) truth, 1 if the condition is present.
        score: (n,) larger = more likely.
        rule: criterion of the choice.
        required: above 0 and at most 1; none for ``youden``.
        chosen_on: name of the data, kept with the result; must not be the data to report on.
        groups: (n,) subject of each case, if subjects repeat: for a warning only.

    Raises:
        UnattainableError: if no score as a cut-off reaches the specificity.
        ValueError: lists wrong columns, a class without cases, and a wrong rule or requirement.
    """
    positive, (numbers,) = checked_columns(y, {"score": score}, groups=groups)
    _check_rule(positive, rule, required)
    m, n = int(positive.sum()), int((~positive).sum())
    values, place = np.unique(numbers, return_inverse=True)
    # at or above each distinct score
    tp = np.bincount(place, positive)[::-1].cumsum()[::-1].astype(np.int64)
    fp = np.bincount(place, ~positive)[::-1].cumsum()[::-1].astype(np.int64)
    warnings: list[str] = []
    if rule == "sensitivity":
        chosen = int(np.flatnonzero(tp >= float(required or 0) * m - _SLACK)[-1])
    elif rule == "specificity":
        chosen = _first_specific(values, fp, n, float(required or 0), chosen_on)
    else:
        chosen, warnings = _best_index(values, tp * n - fp * m)  # whole numbers: ties are exact
    tied = place == chosen
    warnings += _warnings(positive, tied, int(fp[chosen]), rule, required, chosen_on)
    codes = subject_codes(groups, positive.size)
    if int(codes.max()) + 1 < positive.size:
        warnings.append("subjects have several cases: the rates are of cases, not of subjects")
    counts = BinaryCounts(int(tp[chosen]), int(fp[chosen]), int(m - tp[chosen]), int(n - fp[chosen]))
    return Threshold(float(values[chosen]), rule, required, chosen_on, counts, int(tied.sum()), tuple(warnings))


_SLACK = 1e-9
"""Against rounding: 0.9 of 10 cases is 9."""


def _check_rule(positive: Flags, rule: Rule, required: float | None) -> None:
    m, n = int(positive.sum()), int((~positive).sum())
    problems = []
    if min(m, n) == 0:
        problems.append(f"both classes must have cases, got {m} positive and {n} negative")
    if rule not in get_args(Rule):
        problems.append(f"rule must be sensitivity, specificity or youden, got {rule!r}")
    elif rule == "youden" and required is not None:
        problems.append(f"required must be None for youden, got {required}")
    elif rule != "youden" and (required is None or not 0 < required <= 1):
        problems.append(f"the required {rule} must be above 0 and at most 1, got {required}")
    if problems:
        raise ValueError("; ".join(problems))


def _first_specific(values: Array, fp: NDArray[np.int64], n: int, required: float, chosen_on: str) -> int:
    """Return the index of the lowest cut-off with the required specificity."""
    sufficient = np.flatnonzero(n - fp >= required * n - _SLACK)
    if not sufficient.size:
        raise UnattainableError(
            f"no cut-off has a specificity of {required:g} on {chosen_on}: the highest score, {values[-1]:g}, "
            f"is that of {fp[-1]} of {n} negative cases, which gives {(n - fp[-1]) / n:.3f}"
        )
    return int(sufficient[0])


def _best_index(values: Array, index: NDArray[np.int64]) -> tuple[int, list[str]]:
    """Return the lowest cut-off with the largest Youden's index, and a warning if there are others."""
    best = np.flatnonzero(index == index.max())
    if best.size == 1:
        return int(best[0]), []
    others = ", ".join(f"{values[i]:g}" for i in best[1:4]) + (", ..." if best.size > 4 else "")
    return int(best[0]), [f"{best.size - 1} other cut-offs have the same Youden's index: {others}"]


def _warnings(positive: Flags, tied: Flags, fp: int, rule: Rule, required: float | None, chosen_on: str) -> list[str]:
    m, n = int(positive.sum()), int((~positive).sum())
    warnings = []
    if fp == n:
        warnings.append(f"the cut-off classifies every negative case of {chosen_on} as positive")
    if positive[tied].any() and not positive[tied].all():
        warnings.append(
            f"{int(tied.sum())} cases of both classes share the score of the cut-off; {rule} cannot be set finer"
        )
    steps = {"sensitivity": m, "specificity": n}.get(rule, 0)
    if steps and required is not None and steps * (1 - required) < 1 - _SLACK and required != 1:
        warnings.append(f"with {steps} cases {required:g} means all of them")
    return warnings
