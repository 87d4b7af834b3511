"""A cut-off of a score: chosen once on validation data, frozen, then applied to data that had no say in it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from osteo_monai.errors import UnattainableError
from osteo_monai.statistics.classification import BinaryCounts, Rates, class_performance, rates
from osteo_monai.statistics.proportions import IntervalMethod
from osteo_monai.statistics.samples import RESAMPLES, Flags, checked_columns, subject_codes

Rule = Literal["sensitivity", "specificity", "youden"]

__all__ = ["Rule", "Threshold", "choose_threshold"]


@dataclass(frozen=True)
class Threshold:
    """A frozen cut-off: a case is called positive where its score is at or above ``value``.

    Attributes:
        value: the cut-off, in the unit of the score; one of the scores it was chosen on.
        rule: what it was chosen for.
        required: the least sensitivity or specificity asked; ``None`` for Youden's index.
        chosen_on: name of the data it was chosen on.
        counts: what it gives on them; too good, since it was chosen there.
        tied: how many of their cases have exactly this score.
        warnings: what must be known about the choice.
    """

    value: float
    rule: Rule
    required: float | None
    chosen_on: str
    counts: BinaryCounts
    tied: int
    warnings: tuple[str, ...] = ()

    def call(self, score: ArrayLike) -> Flags:
        """Return where ``score`` is called positive, of its shape.

        Raises:
            ValueError: a score that is not a number: it is neither positive nor negative.
        """
        numbers = np.asarray(score, dtype=np.float64)
        if np.isnan(numbers).any():
            raise ValueError(f"score must hold numbers, {int(np.isnan(numbers).sum())} of {numbers.size} are not")
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
        """Return what the cut-off gives on other data.

        Args:
            y: (n,) truth, 1 where the condition is present.
            score: (n,) in the unit of ``value``.
            groups: (n,) the subject of each case, where subjects repeat; intervals are then by bootstrap.
            method: interval of a proportion.
            level: confidence level.
            resamples: bootstrap samples.
            seed: of the bootstrap.

        Raises:
            ValueError: columns that do not fit.
        """
        positive, (numbers,) = checked_columns(y, {"score": score}, groups=groups)
        classes = ("positive", "negative")
        truth, called = (np.where(flags, *classes) for flags in (positive, self.call(numbers)))
        found = class_performance(
            truth, called, classes, groups=groups, method=method, level=level, resamples=resamples, seed=seed
        )
        return found.rates["positive"]

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
    """Choose a cut-off among the scores of ``y``'s cases.

    ``sensitivity``: the highest cut-off with at least ``required`` sensitivity, so the best specificity that goes with
    it. ``specificity``: the lowest one with at least ``required`` specificity. ``youden``: the largest sensitivity +
    specificity - 1 (Youden 1950); of equal ones the lowest cut-off, which misses fewer.

    Args:
        y: (n,) truth, 1 where the condition is present.
        score: (n,) larger = more likely.
        rule: what the cut-off is chosen for.
        required: above 0 and at most 1; none for ``youden``.
        chosen_on: name of the data, kept with the result: never those it will be reported on.
        groups: (n,) the subject of each case, where subjects repeat: only to say so.

    Raises:
        UnattainableError: no score as a cut-off reaches the specificity.
        ValueError: columns that do not fit, a class without a case, a rule or requirement that is none.
    """
    positive, (numbers,) = checked_columns(y, {"score": score}, groups=groups)
    m, n = int(positive.sum()), int((~positive).sum())
    problems = []
    if min(m, n) == 0:
        problems.append(f"a cut-off needs both classes, there are {m} positive and {n} negative cases")
    if rule not in ("sensitivity", "specificity", "youden"):
        problems.append(f"the rule must be sensitivity, specificity or youden, got {rule!r}")
    elif rule == "youden" and required is not None:
        problems.append(f"Youden's index takes no requirement, got {required}")
    elif rule != "youden" and (required is None or not 0 < required <= 1):
        problems.append(f"the required {rule} must be above 0 and at most 1, got {required}")
    if problems:
        raise ValueError("; ".join(problems))
    values, place = np.unique(numbers, return_inverse=True)
    # at or above each distinct score
    tp = np.bincount(place, positive)[::-1].cumsum()[::-1].astype(np.int64)
    fp = np.bincount(place, ~positive)[::-1].cumsum()[::-1].astype(np.int64)
    warnings = []
    slack = 1e-9  # 0.9 of 10 is 9, whatever the rounding
    if rule == "sensitivity":
        at = int(np.flatnonzero(tp >= float(required or 0) * m - slack)[-1])
    elif rule == "specificity":
        enough = np.flatnonzero(n - fp >= float(required or 0) * n - slack)
        if not enough.size:
            raise UnattainableError(
                f"no cut-off has a specificity of {required:g} on {chosen_on}: the highest score, {values[-1]:g}, "
                f"is that of {fp[-1]} of {n} negative cases, which leaves {(n - fp[-1]) / n:.3f}"
            )
        at = int(enough[0])
    else:
        index = tp * n - fp * m  # whole numbers: ties are exact
        best = np.flatnonzero(index == index.max())
        at = int(best[0])
        if best.size > 1:
            others = ", ".join(f"{values[i]:g}" for i in best[1:4]) + (", ..." if best.size > 4 else "")
            warnings.append(f"{best.size - 1} other cut-offs have the same Youden's index: {others}")
    if fp[at] == n:
        warnings.append(f"the cut-off calls every negative case of {chosen_on} positive: it does not discriminate")
    tied = place == at
    if positive[tied].any() and not positive[tied].all():
        warnings.append(
            f"{int(tied.sum())} cases of both classes share the score of the cut-off; {rule} cannot be set finer"
        )
    steps = {"sensitivity": m, "specificity": n}.get(rule, 0)
    if steps and steps * (1 - float(required or 0)) < 1 - slack and required != 1:
        warnings.append(f"with {steps} cases {required:g} means all of them")
    codes = subject_codes(groups, positive.size)
    if int(codes.max()) + 1 < positive.size:
        warnings.append("subjects have several cases: the rates are of cases, not of subjects")
    counts = BinaryCounts(int(tp[at]), int(fp[at]), int(m - tp[at]), int(n - fp[at]))
    return Threshold(float(values[at]), rule, required, chosen_on, counts, int(tied.sum()), tuple(warnings))
