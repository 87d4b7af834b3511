"""What every statistic of a sample of cases needs: checked columns, and resampling by subject."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osteo_monai.statistics.proportions import Interval

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.intp]

RESAMPLES = 2000
"""Bootstrap samples of a 95 % percentile interval (Carpenter and Bithell 2000 ask for 1,000 to 2,000)."""

_WEIGHTS_AT_ONCE = 4_000_000
"""Case weights held at once, 32 MB: what bounds the memory of a bootstrap of any size."""

__all__ = ["RESAMPLES", "Resampler", "checked_columns", "percentile_interval", "subject_codes"]


def checked_columns(
    y: ArrayLike, columns: Mapping[str, ArrayLike], *, groups: ArrayLike | None = None, probabilities: bool = False
) -> tuple[Flags, list[Array]]:
    """Return a binary truth and its columns of numbers, or say everything that is wrong with them.

    Args:
        y: (n,) truth, 1 or True where the condition is present.
        columns: (n,) finite numbers each, under the name that a message uses.
        groups: (n,) subjects, checked for their number alone.
        probabilities: whether the columns must lie between 0 and 1.

    Raises:
        ValueError: one sentence per problem, all at once.
    """
    problems = []
    truth = np.asarray(y)
    if truth.ndim != 1 or not truth.size:
        problems.append(f"the truth must be one row of 0 and 1 with at least one case, got shape {truth.shape}")
    elif not np.isin(truth, (0, 1)).all():
        problems.append(f"the truth must hold 0 and 1 alone, got {truth[~np.isin(truth, (0, 1))][0]!s}")
    checked = []
    for name, column in columns.items():
        numbers, problem = _numbers(name, column, truth.shape)
        if problem is None and probabilities and not ((numbers >= 0) & (numbers <= 1)).all():
            wrong = numbers[(numbers < 0) | (numbers > 1)][0]
            problem = f"{name} must lie between 0 and 1, got {wrong:g}"
        problems += [] if problem is None else [problem]
        checked.append(numbers)
    if groups is not None:
        names = np.asarray(groups)
        nobody = [name for name in names.ravel().tolist() if name is None or name != name or name == ""]
        if names.shape != truth.shape:
            problems.append(f"groups must name one subject per case, shape {truth.shape}, got {names.shape}")
        elif nobody:
            problems.append(f"groups must name a subject for every case, {len(nobody)} of {names.size} have none")
    if problems:
        raise ValueError("; ".join(problems))
    return truth.astype(bool), checked


def _numbers(name: str, column: ArrayLike, shape: tuple[int, ...]) -> tuple[Array, str | None]:
    try:
        numbers = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty(0), f"{name} must hold numbers"
    if numbers.shape != shape:
        return numbers, f"{name} must hold one number per case, shape {shape}, got {numbers.shape}"
    bad = int((~np.isfinite(numbers)).sum())
    return numbers, f"{name} must hold finite numbers, {bad} of {numbers.size} are not" if bad else None


def subject_codes(groups: ArrayLike | None, n: int) -> Codes:
    """Return (n,) numbers 0 to subjects - 1; without ``groups`` every case is a subject of its own."""
    if groups is None:
        return np.arange(n)
    names = np.asarray(groups)
    # objects may be of several types, which have no order
    codes: Codes = np.unique(names.astype(str) if names.dtype == object else names, return_inverse=True)[1]
    return codes


@dataclass(frozen=True)
class Resampler:
    """Draws subjects with replacement, with all their cases: images of one subject are never taken apart.

    Attributes:
        subjects: (n,) number of the subject of each case, see ``subject_codes``.
        classes: (n,) class of each case where its counts shall stay as they are (subjects are then drawn among those
            that hold the same classes), or ``None`` where the prevalence varies as it would between cohorts.
        resamples: how many samples are drawn.
        seed: the same seed gives the same samples.
    """

    subjects: Codes
    classes: NDArray | None = None
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")

    def weights(self) -> Iterator[Array]:
        """Yield blocks (samples, n): how often each case stands in each sample; ``resamples`` rows in all."""
        rng = np.random.default_rng(self.seed)
        strata = self._strata()
        count = int(self.subjects.max()) + 1
        rows = max(1, _WEIGHTS_AT_ONCE // max(1, self.subjects.size))
        for start in range(0, self.resamples, rows):
            samples = min(rows, self.resamples - start)
            drawn = np.zeros((samples, count))
            for members in strata:
                picks = rng.integers(0, members.size, (samples, members.size))
                flat = (picks + members.size * np.arange(samples)[:, None]).ravel()
                times = np.bincount(flat, minlength=samples * members.size)
                drawn[:, members] = times.reshape(samples, members.size)
            yield drawn[:, self.subjects]

    def _strata(self) -> list[Codes]:
        count = int(self.subjects.max()) + 1
        if self.classes is None:
            return [np.arange(count)]
        names, codes = np.unique(self.classes, return_inverse=True)
        held = np.zeros((count, names.size), dtype=bool)
        held[self.subjects, codes] = True
        kinds = np.unique(held, axis=0, return_inverse=True)[1].ravel()
        return [np.flatnonzero(kinds == kind) for kind in range(int(kinds.max()) + 1)]


def percentile_interval(value: float, draws: ArrayLike, level: float = 0.95) -> Interval:
    """Return ``value`` with the percentiles of its bootstrap ``draws``; draws that are not defined are left out.

    Bounds are ``nan`` where fewer than half of the draws are defined: the rest would be a selection.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    numbers = np.asarray(draws, dtype=np.float64)
    defined = numbers[np.isfinite(numbers)]
    if math.isnan(value) or defined.size < max(1.0, numbers.size / 2):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(defined, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(value, float(low), float(high))
