"""Sample sizes of a diagnostic study: precision of a rate and of an area, comparison of two tests, calibration."""

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import binom, norm

from osteo_monai.statistics.proportions import wilson

__all__ = [
    "size_for_area",
    "size_for_area_difference",
    "size_for_calibration",
    "size_for_paired_rates",
    "size_for_rate",
    "with_prevalence",
]

_LARGEST = 10_000_000


def size_for_rate(rate: float, width: float, level: float = 0.95) -> int:
    """Return the smallest number of subjects with which Wilson's interval of a rate is at most ``width`` wide.

    Args:
        rate: expected sensitivity (subjects are then those with the condition) or specificity.
        width: of the interval, from bound to bound.
        level: confidence level.

    Raises:
        ValueError: on a value out of range.

    Example:
        >>> size_for_rate(0.9, 0.1)
        141
    """
    _check(rate=rate, width=width, level=level)

    def sufficient(n: int) -> bool:
        found = wilson(rate * n, n, level)
        return found.high - found.low <= width

    return _smallest(sufficient)


def size_for_area(area: float, width: float, ratio: float = 1.0, level: float = 0.95) -> tuple[int, int]:
    """Return numbers of subjects with and without the condition for an interval of the area of at most ``width``.

    Variance of Hanley and McNeil 1982.

    Args:
        area: expected area under the ROC curve, above 0.5.
        width: of the interval, from bound to bound.
        ratio: subjects without the condition for each with it.
        level: confidence level.

    Raises:
        ValueError: on a value out of range.
    """
    _check(area=area, width=width, level=level)
    _check_area(area, ratio)
    z = float(norm.ppf(0.5 + level / 2))
    m = _smallest(lambda n: 2 * z * math.sqrt(_area_variance(area, n, ratio * n)) <= width)
    return m, math.ceil(ratio * m)


def size_for_area_difference(
    first: float,
    second: float,
    correlation: float = 0.0,
    *,
    ratio: float = 1.0,
    power: float = 0.8,
    level: float = 0.95,
) -> tuple[int, int]:
    """Return numbers of subjects with and without the condition to show a difference of two areas of the same subjects.

    Two-sided test of the difference (Hanley and McNeil 1983): variances at both areas, and the covariance by the
    correlation of the areas.

    Args:
        first: expected area of one model.
        second: expected area of the other.
        correlation: of the two estimated areas; 0 for different subjects.
        ratio: subjects without the condition for each with it.
        power: of the test.
        level: 1 - its significance level.

    Raises:
        ValueError: on a value out of range, or equal areas.
    """
    _check(first=first, second=second, power=power, level=level)
    _check_area(min(first, second), ratio)
    if first == second:
        raise ValueError(f"the areas must differ, got {first:g} twice")
    if not -1 <= correlation < 1:
        raise ValueError(f"correlation must be at least -1 and below 1, got {correlation:g}")
    z = float(norm.ppf(0.5 + level / 2) + norm.ppf(power))

    def sufficient(n: int) -> bool:
        a, b = (_area_variance(area, n, ratio * n) for area in (first, second))
        return z * math.sqrt(a + b - 2 * correlation * math.sqrt(a * b)) <= abs(first - second)

    m = _smallest(sufficient)
    return m, math.ceil(ratio * m)


def size_for_paired_rates(
    only_first: float, only_second: float, *, margin: float = 0.0, power: float = 0.8, level: float = 0.95
) -> int:
    """Return the number of subjects for a comparison of two tests in the same subjects.

    Without ``margin`` that of McNemar's exact test, two-sided, by its exact unconditional power (approximated from
    above 2,000 discordant pairs by Connor 1987). With ``margin`` that of non-inferiority of the first test: the lower
    bound of the difference must be above -margin (normal approximation, one-sided level (1 - level) / 2).

    Args:
        only_first: expected share of subjects that only the first test classifies correctly.
        only_second: share that only the second does.
        margin: largest acceptable inferiority of the first test.
        power: of the test.
        level: confidence level.

    Raises:
        ValueError: on a value out of range, or no difference to detect.
    """
    _check(power=power, level=level)
    discordant, gap = only_first + only_second, only_first - only_second
    if not (0 <= only_first <= 1 and 0 <= only_second <= 1 and 0 < discordant <= 1):
        raise ValueError(f"the shares must add up to more than 0 and at most 1, got {only_first:g} and {only_second:g}")
    if margin < 0 or gap + margin == 0 or (margin and gap + margin < 0):
        raise ValueError(f"the difference {gap:g} must be above -margin and not 0, got the margin {margin:g}")
    z_level, z_power = float(norm.ppf(0.5 + level / 2)), float(norm.ppf(power))
    if margin:
        return math.ceil((z_level + z_power) ** 2 * (discordant - gap**2) / (gap + margin) ** 2)
    start = ((z_level * math.sqrt(discordant) + z_power * math.sqrt(discordant - gap**2)) / gap) ** 2
    if start * discordant > 2000:
        return math.ceil(start)
    share = only_first / discordant
    # the exact power is not monotone in n: all of the next sizes must have it as well
    n, run = max(1, int(0.7 * start)), 0
    while run < 10:
        run = run + 1 if _mcnemar_power(n, discordant, share, 1 - level) >= power else 0
        n += 1
    return n - 10


def _mcnemar_power(n: int, discordant: float, share: float, alpha: float) -> float:
    """Return the power of McNemar's exact test in ``n`` subjects, over the number of discordant pairs."""
    pairs = np.arange(n + 1)
    weights = binom.pmf(pairs, n, discordant)
    used = np.flatnonzero(weights > 1e-9)
    # largest number in the lower tail that is still significant
    critical = binom.ppf(alpha / 2, used, 0.5) - 1
    critical += binom.cdf(critical + 1, used, 0.5) <= alpha / 2
    reject = binom.cdf(critical, used, share) + binom.sf(used - critical - 1, used, share)
    return float(weights[used] @ np.where(critical >= 0, reject, 0.0))


def size_for_calibration(
    prevalence: float, slope_width: float, ratio_width: float, *, area: float = 0.8, level: float = 0.95
) -> int:
    """Return the number of subjects for intervals of O/E and of the calibration slope of a well calibrated model.

    The larger of two numbers (Riley et al. 2021): for O/E with standard error sqrt((1 - prevalence) / events) on the
    log scale, for the slope from the expected information. Logits are taken as normal with the same SD in both classes,
    as a model with this area has them.

    Args:
        prevalence: expected share of events.
        slope_width: of the interval of the slope, from bound to bound.
        ratio_width: of the interval of O/E at O/E = 1, from bound to bound.
        area: expected area under the ROC curve.
        level: confidence level.

    Raises:
        ValueError: on a value out of range.
    """
    _check(prevalence=prevalence, level=level, area=area)
    _check_area(area, 1.0)
    if not (slope_width > 0 and ratio_width > 0):
        raise ValueError(f"widths must be above 0, got {slope_width:g} and {ratio_width:g}")
    z = float(norm.ppf(0.5 + level / 2))
    log_half = math.asinh(ratio_width / 2)  # exp(h) - exp(-h) = 2 sinh(h)
    by_ratio = (1 - prevalence) / prevalence * (z / log_half) ** 2
    # distance of the class means in SD; logits are then distance**2 apart with SD distance, and calibrated
    distance = math.sqrt(2) * float(norm.ppf(area))
    centre = math.log(prevalence / (1 - prevalence))
    points = np.linspace(-8, 8, 4001)
    step = points[1] - points[0]
    information = np.zeros((2, 2))
    for share, sign in ((prevalence, 0.5), (1 - prevalence, -0.5)):
        logits = centre + sign * distance**2 + distance * points
        chance = 1 / (1 + np.exp(-logits))
        weight = share * norm.pdf(points) * step * chance * (1 - chance)
        design = np.column_stack([np.ones(points.size), logits])
        information += design.T @ (design * weight[:, None])
    by_slope = float(np.linalg.inv(information)[1, 1]) * (2 * z / slope_width) ** 2
    return math.ceil(max(by_ratio, by_slope))


def with_prevalence(cases: int, others: int, prevalence: float) -> int:
    """Return the number of subjects of a cohort that is expected to have at least this many cases and others.

    Raises:
        ValueError: ``prevalence`` is not above 0 and below 1.
    """
    _check(prevalence=prevalence)
    return math.ceil(max(cases / prevalence, others / (1 - prevalence)) - 1e-9)


def _area_variance(area: float, m: float, n: float) -> float:
    """Return the variance of Hanley and McNeil 1982 for m cases and n others."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    return (area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (m * n)


def _smallest(sufficient: Callable[[int], bool]) -> int:
    """Return the smallest n that is sufficient, for a property that holds above it."""
    high = 2
    while not sufficient(high):
        high *= 2
        if high > _LARGEST:
            raise ValueError(f"the requirement needs more than {_LARGEST} subjects")
    low = 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sufficient(middle) else (middle, high)
    return high


def _check(**shares: float) -> None:
    problems = [f"{name} must be above 0 and below 1, got {x:g}" for name, x in shares.items() if not 0 < x < 1]
    if problems:
        raise ValueError("; ".join(problems))


def _check_area(area: float, ratio: float) -> None:
    if area <= 0.5:
        raise ValueError(f"area must be above 0.5, got {area:g}")
    if ratio <= 0:
        raise ValueError(f"ratio must be above 0, got {ratio:g}")
