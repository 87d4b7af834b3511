"""The values of a scan by their histogram: steps, clipping, and a change of scale at 0 HU."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_VOXELS = 1_500_000
SOFT_HU = (-150.0, 250.0)
CLIPPED_RATIO = 8.0
"""An end is clipped if it holds this many times the voxels of the next 20 HU together ..."""
CLIPPED_VOXELS = 30
"""... and at least this many of the sample."""
SIDE_HU = (3.0, 120.0)
"""Range on each side of 0 HU in which the distinct values are counted."""
BIN_HU = 13.0
FILLED_BIN = 400
"""Least number of voxels of a bin in which distinct values are counted: no whole value is missing by chance ..."""
MIN_BINS = 4
"""... and of such bins on each side."""
MIN_DISTINCT_PER_BIN = 5
"""Fewer distinct values are an image of few bits."""
MERGED_HU = (5, 150)
"""Range on each side of 0 HU in which the counts of neighbouring whole numbers are compared."""
ROUGH, SMOOTH = 0.12, 0.08
"""Typical second difference of the logarithm of these counts: above the first, a reduced scale merged values into one;
below the second, none were merged. Real scans are at 0.04 and below on both sides, and at 0.15 above 0 HU with a scale
of 0.95."""
MERGED_RATIO = 1.5
"""A count this many times the usual one is of two merged values."""
KINK_HU = (3.0, 36.0)
"""Distance from 0 HU at which the frequency of continuous values is compared ..."""
NEAR_KINK_HU = (2.5, 14.5)
"""... and that of whole numbers, which a scale of 0.5 moves nearer."""
KINK_BIN_HU = 3.0
MIN_BIN = 100
"""Least number of voxels in a bin beside 0 HU."""


@dataclass(frozen=True)
class ValuePattern:
    """Pattern of the values of a scan.

    Attributes:
        low, high: lowest and highest value.
        step: usual distance of neighbouring values between -150 and 250 HU; 0 if continuous.
        clipped_low, clipped_high: share of the voxels at the lowest and highest value if they are clipped, else 0.
        above_zero: scale of the values above 0 HU by those below, from the number of distinct values or else from the
            frequency of values on both sides of 0; 1 if it is not known.
        above_zero_sd: its standard error; 0 if from distinct values.
    """

    low: float
    high: float
    step: float
    clipped_low: float
    clipped_high: float
    above_zero: float = 1.0
    above_zero_sd: float = 0.0


def value_pattern(hu: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> ValuePattern:
    """Describe the values of a volume (X, Y, Z) in HU; padded voxels do not count.

    Raises:
        ValueError: fewer than 100 voxels count.
    """
    every = max(1, round((hu.size / SAMPLE_VOXELS) ** 0.5))
    # whole slices of every second pixel or so: values of one slice are not interpolated between slices
    cut = (slice(None, None, every), slice(None, None, every), slice(None))
    values = hu[cut][valid[cut]] if valid is not None else hu[cut].ravel(order="K")
    values = values[np.isfinite(values)]
    if values.size < 100:
        raise ValueError(f"hu must have at least 100 valid voxels, got {values.size}")
    low, high = float(values.min()), float(values.max())
    scale, error = _above_zero(values)
    return ValuePattern(
        low, high, _step(values), _clipped(values, low, 1.0), _clipped(values, high, -1.0), scale, error
    )


def _step(values: NDArray[np.float32]) -> float:
    soft = np.unique(values[(values > SOFT_HU[0]) & (values < SOFT_HU[1])])
    gaps = np.diff(soft)
    # rounding of a scaled image splits a value in two neighbours
    gaps = gaps[gaps > 0.05]
    return float(np.median(gaps)) if gaps.size >= 5 and soft.size <= 2000 else 0.0


def _clipped(values: NDArray[np.float32], end: float, inwards: float) -> float:
    inside = (values - end) * inwards
    at_end = int(np.count_nonzero(inside < 0.5))
    beside = int(np.count_nonzero((inside >= 0.5) & (inside <= 20.5)))
    clipped = at_end >= CLIPPED_VOXELS and at_end > CLIPPED_RATIO * beside / 20.0
    return at_end / values.size if clipped else 0.0


def _above_zero(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the scale of values above 0 HU by those below, and its standard error."""
    below, above = _distinct(-values), _distinct(values)
    discrete = np.unique(values[np.abs(values) < SIDE_HU[1]]).size <= 8 * (SIDE_HU[1] - SIDE_HU[0])
    if discrete and below is not None and above is not None and min(below, above) * BIN_HU >= MIN_DISTINCT_PER_BIN:
        if abs(np.log(below / above)) > 0.03:
            return below / above, 0.0
        if (merged := _merged(values)) is not None:
            return merged, 0.0
    elif discrete:
        return 1.0, 0.0
    kink, error = _kink(values, NEAR_KINK_HU if discrete else KINK_HU, 1 if discrete else 3)
    return (1.0, 0.0) if kink is None else (float(np.exp(-kink)), float(np.exp(-kink) * error))


def _merged(values: NDArray[np.float32]) -> float | None:
    """Return the scale above 0 HU by the whole numbers there that hold two values; ``None`` if there are none.

    A scale below 1 leaves no number out, but some hold the voxels of two, which the numbers below 0 HU do not.
    """
    shares = []
    for side in (-values, values):
        numbers = np.arange(MERGED_HU[0], MERGED_HU[1] + 1)
        counts = np.histogram(side, bins=np.append(numbers, MERGED_HU[1] + 1) - 0.5)[0].astype(np.float64)
        counts = counts[: int(np.argmax(counts < FILLED_BIN))] if (counts < FILLED_BIN).any() else counts
        if len(counts) < MIN_BINS * BIN_HU:
            return None
        rough = float(np.sqrt(np.mean(np.diff(np.log(counts), 2) ** 2) / 6))
        blocks = np.array_split(counts, len(counts) // 12)
        share = float(np.mean([(block > MERGED_RATIO * np.percentile(block, 20)).mean() for block in blocks]))
        shares.append((rough, share))
    (below, _), (above, share) = shares
    return 1 / (1 + share) if above > ROUGH and below < SMOOTH and share > 0 else None


def _distinct(values: NDArray[np.float32]) -> float | None:
    """Return the number of distinct values per HU in well filled bins on the positive side; ``None`` if too few."""
    bins = np.arange(SIDE_HU[0] + 0.5, SIDE_HU[1], BIN_HU)
    counts = np.histogram(values, bins=bins)[0]
    filled = [
        np.unique(values[(values > low) & (values < low + BIN_HU)]).size
        for low, count in zip(bins[:-1], counts, strict=True)
        if count >= FILLED_BIN
    ]
    return sum(filled) / (len(filled) * BIN_HU) if len(filled) >= MIN_BINS else None


def _kink(values: NDArray[np.float32], reach: tuple[float, float], degree: int) -> tuple[float | None, float]:
    """Return the step at 0 of the logarithm of the frequencies, beside a polynomial, and its standard error.

    With degree 1 each side has its own line.
    """
    inner, outer = reach
    width = KINK_BIN_HU if degree > 1 else 2.0
    edges = np.arange(inner - (0.5 if degree > 1 else 0.0), outer + 1e-6, width)
    above = np.histogram(values, bins=edges)[0]
    below = np.histogram(-values, bins=edges)[0]
    counts = np.concatenate([below[::-1], above]).astype(np.float64)
    if counts.min() < MIN_BIN:
        return None, 0.0
    middle = 0.5 * (edges[:-1] + edges[1:])
    x = np.concatenate([-middle[::-1], middle]) / outer
    side = (x > 0).astype(np.float64)
    shape = [x**n for n in range(degree + 1)] if degree > 1 else [np.ones_like(x), x, x * side]
    design = np.stack([*shape, side], axis=1)
    weight = np.sqrt(counts)
    answer, *_ = np.linalg.lstsq(design * weight[:, None], np.log(counts) * weight, rcond=None)
    rest = np.log(counts) - design @ answer
    variance = float(np.sum(counts * rest**2) / (len(x) - design.shape[1]))
    covariance = np.linalg.inv((design * counts[:, None]).T @ design) * max(variance, 1.0)
    return float(answer[-1]), float(np.sqrt(covariance[-1, -1]))
