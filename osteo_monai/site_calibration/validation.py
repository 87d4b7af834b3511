"""Cross-validation by subject of a regression, and checks that the scans of a fit belong together."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from osteo_monai.cohort.scans import Scan
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement.calibration import Regression, fit_regression
from osteo_monai.measurement.calibration.density import Z_90

Array = NDArray[np.float64]
T = TypeVar("T")

OUTLIER_LEVEL = 0.01
"""Familywise level at which a residual is an outlier (Bonferroni), project custom."""


def cross_validated(rows: Array, target: Array, subjects: Sequence[str]) -> tuple[Array, Array, Array]:
    """Predict each subject by a fit to all others.

    Args:
        rows: (n, p).
        target: (n,).
        subjects: (n,).

    Returns:
        Predictions with lower and upper bounds of their 90 % intervals, (n,) each.
    """
    names = np.asarray(subjects)
    predicted, sd = np.empty(len(target)), np.empty(len(target))
    for name in dict.fromkeys(subjects):
        out = names == name
        fit = fit_regression(rows[~out], target[~out], len(set(names[~out].tolist())))
        predicted[out], sd[out] = fit.predict(rows[out])
    return predicted, predicted - Z_90 * sd, predicted + Z_90 * sd


def outliers(regression: Regression, rows: Array, target: Array) -> list[int]:
    """Return the indices of cases whose externally studentised residual is improbable in a sample of this size."""
    n, p = rows.shape
    predicted, _ = regression.predict(rows)
    residual = target - predicted
    leverage = np.einsum("ni,ij,nj->n", rows, np.array(regression.covariance), rows)
    free = n - p - 1
    if free < 1:
        return []
    rest = (float(residual @ residual) - residual**2 / (1 - leverage)) / free
    scaled = residual / np.sqrt(np.maximum(rest, 1e-12) * (1 - leverage))
    limit = float(stdtrit(free, 1 - OUTLIER_LEVEL / (2 * n)))
    return [int(i) for i in np.flatnonzero(np.abs(scaled) > limit)]


def only_value(name: str, scans: Iterable[Scan], value: Callable[[Scan], T | None], words: Callable[[T], str]) -> T:
    """Return the value that all scans share.

    Raises:
        UnusableInputError: it is missing in some, or differs; the message counts each.
    """
    counts: Counter[str] = Counter()
    values: dict[str, T] = {}
    missing = 0
    for scan in scans:
        found = value(scan)
        if found is None:
            missing += 1
        else:
            counts[words(found)] += 1
            values[words(found)] = found
    if missing:
        raise UnusableInputError(f"{name} must be known for all scans, from header or manifest, got {missing} without")
    if len(counts) != 1:
        got = ", ".join(f"{text} ({count})" for text, count in counts.most_common())
        raise UnusableInputError(f"{name} must be the same for all scans, got {got}")
    return next(iter(values.values()))
