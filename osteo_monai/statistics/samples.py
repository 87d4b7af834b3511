"""Checks of the columns of a sample of cases, and resampling by subject."""

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
"""Bootstrap samples of a 95 % percentile interval (Carpenter and Bithell 2000 recommend 1,000 to 2,000)."""

_WEIGHTS_AT_ONCE = 4_000_000
"""Case weights in memory at once, 32 MB, in a bootstrap of any size."""

__all__ = ["RESAMPLES", "Resampler", "checked_columns", "percentile_interval", "subject_codes"]


def checked_columns(
    y: ArrayLike, columns: Mapping[str, ArrayLike], *, groups: ArrayLike | None = None, probabilities: bool = False
) -> tuple[Flags, list[Array]]:
    """Return a binary truth and its columns of numbers.

    Args:
        y: (n,) truth, 1 or True where the condition is present.
        columns: (n,) finite numbers each, under their names in messages.
        groups: (n,) subjects; only their shape and missing names are checked.
        probabilities: whether the columns must be between 0 and 1.

    Raises:
        ValueError: lists everything wrong.
    """
    problems = []
    truth = np.asarray(y)
    if truth.ndim != 1 or not truth.size:
        problems.append(f"the truth must be one-dimensional with at least one case, got shape {truth.shape}")
    elif not np.isin(truth, (0, 1)).all():
        problems.append(f"the truth must be 0 or 1, got {truth[~np.isin(truth, (0, 1))][0]!s}")
    checked = []
    for name, column in columns.items():
        numbers, problem = _numbers(name, column, truth.shape)
        if problem is None and probabilities and not ((numbers >= 0) & (numbers <= 1)).all():
            wrong = numbers[(numbers < 0) | (numbers > 1)][0]
            problem = f"{name} must be between 0 and 1, got {wrong:g}"
        problems += [] if problem is None else [problem]
        checked.append(numbers)
    if groups is not None:
        names = np.asarray(groups)
        missing = [name for name in names.ravel().tolist() if name is None or name != name or name == ""]
        if names.shape != truth.shape:
            problems.append(f"groups must have shape {truth.shape}, got {names.shape}")
        elif missing:
            problems.append(f"groups must have a subject for every case, {len(missing)} of {names.size} are missing")
    if problems:
        raise ValueError("; ".join(problems))
    return truth.astype(bool), checked


def _numbers(name: str, column: ArrayLike, shape: tuple[int, ...]) -> tuple[Array, str | None]:
    try:
        numbers = np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty(0), f"{name} must be numbers"
    if numbers.shape != shape:
        return numbers, f"{name} must have shape {shape}, got {numbers.shape}"
    bad = int((~np.isfinite(numbers)).sum())
    return numbers, f"{name} must be finite, {bad} of {numbers.size} are not" if bad else None


def subject_codes(groups: ArrayLike | None, n: int) -> Codes:
    """Return (n,) numbers 0 to subjects - 1 in the order of their names, so that resampling by subject is the same for
    any order of the cases; without ``groups`` each case is one subject, and their order counts.
    """
    if groups is None:
        return np.arange(n)
    names = np.asarray(groups)
    # objects of several types have no order
    codes: Codes = np.unique(names.astype(str) if names.dtype == object else names, return_inverse=True)[1]
    return codes


@dataclass(frozen=True)
class Resampler:
    """Draw subjects with replacement, each with all its cases.

    Attributes:
        subjects: (n,) number of the subject of each case, see ``subject_codes``.
        classes: (n,) class of each case, to keep the number of cases of each class (subjects are then drawn among those
            with the same classes); ``None`` lets the prevalence vary as between cohorts.
        resamples: number of samples.
        seed: random seed.
    """

    subjects: Codes
    classes: NDArray[np.generic] | None = None
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")

    def weights(self) -> Iterator[Array]:
        """Yield blocks (samples, n): number of times each case is in each sample; ``resamples`` rows in total."""
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
        present = np.zeros((count, names.size), dtype=bool)
        present[self.subjects, codes] = True
        kinds = np.unique(present, axis=0, return_inverse=True)[1].ravel()
        return [np.flatnonzero(kinds == kind) for kind in range(int(kinds.max()) + 1)]


def percentile_interval(value: float, draws: ArrayLike, level: float = 0.95) -> Interval:
    """Return ``value`` with the percentiles of its bootstrap ``draws``; undefined draws are excluded.

    Bounds are ``nan`` if fewer than half of the draws are defined.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    numbers = np.asarray(draws, dtype=np.float64)
    defined = numbers[np.isfinite(numbers)]
    if math.isnan(value) or defined.size < max(1.0, numbers.size / 2):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(defined, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(value, float(low), float(high))
