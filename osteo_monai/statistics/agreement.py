"""Agreement of a predicted with a reference density, in mg/cm3.

Differences are predicted minus reference: a positive bias is an overestimate.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as t_distribution

from osteo_monai.statistics.clusters import clustered_proportion
from osteo_monai.statistics.proportions import Interval, Proportion
from osteo_monai.statistics.samples import (
    RESAMPLES,
    Array,
    Resampler,
    checked_columns,
    percentile_interval,
    subject_codes,
)

__all__ = ["Agreement", "agreement", "agreement_by"]


@dataclass(frozen=True)
class Agreement:
    """Predicted against reference density, each number with its interval; undefined numbers are ``nan``.

    Attributes:
        n: number of cases.
        subjects: number of their subjects.
        bias: mean difference, mg/cm3.
        sd: standard deviation of the differences (n - 1), mg/cm3.
        lower_limit: lower limit of agreement, bias - z sd with z for 95 %, mg/cm3.
        upper_limit: upper limit of agreement, mg/cm3.
        mae: mean absolute difference, mg/cm3.
        rmse: root of the mean squared difference, mg/cm3.
        pearson: correlation coefficient.
        ccc: Lin's concordance correlation coefficient.
        slope: of the regression of the difference on the mean of both, mg/cm3 per mg/cm3; 0 if the error does not
            depend on the density.
        slope_p: two-sided p value of ``slope``; ``nan`` if subjects are clustered or it is undefined.
        intercept: of that regression, mg/cm3.
        coverage: share of references within the predicted interval, bounds included; ``None`` without intervals.
        nominal: intended value of that share.
        interval_width: mean width of the predicted interval, mg/cm3; ``None`` without intervals.
        level: confidence level.
        clustered: whether subjects had several cases.
    """

    n: int
    subjects: int
    bias: Interval
    sd: float
    lower_limit: Interval
    upper_limit: Interval
    mae: Interval
    rmse: Interval
    pearson: Interval
    ccc: Interval
    slope: Interval
    slope_p: float
    intercept: Interval
    coverage: Proportion | None
    nominal: float
    interval_width: float | None
    level: float
    clustered: bool


_FEWEST = 5
"""Subjects of a bootstrap where subjects have several cases; project custom, as in ``subgroups``: three subjects have
only ten different samples."""
_LIMIT = float(norm.ppf(0.975))
"""Limits of agreement contain 95 % of the differences (Bland and Altman 1999) at every confidence level."""


def agreement(
    reference: ArrayLike,
    predicted: ArrayLike,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    *,
    nominal: float = 0.9,
    groups: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Compare predicted with reference densities.

    Intervals of independent cases: t for the bias and the regression, Bland and Altman 1999 for the limits, Fisher's z
    for r, Lin 1989 as corrected in 2000 for the concordance, Wilson for the coverage; MAE and RMSE by bootstrap. If
    subjects have several cases, all by bootstrap of subjects, of which there must be five, except the coverage: Wilson
    at the effective sample size (``clusters.clustered_proportion``).

    Args:
        reference: (n,) mg/cm3, at least one case.
        predicted: (n,) mg/cm3, of the same mineral standard.
        lower: (n,) lower bounds of predicted intervals, mg/cm3.
        upper: (n,) upper bounds; both or neither.
        nominal: nominal coverage of those intervals.
        groups: (n,) subject of each case, if subjects repeat.
        level: confidence level.
        resamples: bootstrap samples.
        seed: bootstrap random seed.

    Raises:
        ValueError: lists wrong columns, intervals with one bound or in reverse order, and a level out of range.
    """
    bounds = {name: bound for name, bound in (("lower", lower), ("upper", upper)) if bound is not None}
    columns: dict[str, ArrayLike] = {"reference": reference, "predicted": predicted, **bounds}
    problems = [f"lower and upper must both be given, got {name} only" for name in bounds if len(bounds) == 1]
    problems += [
        f"{name} must be between 0 and 1, got {share}"
        for name, share in (("level", level), ("nominal", nominal))
        if not 0 < share < 1
    ]
    numbers: list[Array] = []
    try:
        numbers = checked_columns(np.zeros(np.shape(reference)), columns, groups=groups)[1]
        if len(numbers) == 4 and (numbers[2] > numbers[3]).any():
            problems.append(f"lower must not be above upper, got {int((numbers[2] > numbers[3]).sum())} such cases")
    except ValueError as error:
        problems.append(str(error).replace("the truth", "reference"))
    if problems:
        raise ValueError("; ".join(problems))
    x, y = numbers[:2]
    n = x.size
    subjects = subject_codes(groups, n)
    count = int(subjects.max()) + 1
    within = (numbers[2] <= x) & (x <= numbers[3]) if len(numbers) == 4 else None
    value = {name: float(column[0]) for name, column in _measures(np.ones((1, n)), x, y).items()}
    blocks = [_measures(block, x, y) for block in Resampler(subjects, resamples=resamples, seed=seed).weights()]
    draws = {name: np.concatenate([block[name] for block in blocks]) for name in value}
    sufficient = count > 1 if count == n else count >= _FEWEST
    bands = {name: percentile_interval(value[name], draws[name] if sufficient else [], level) for name in value}
    slope_p = math.nan
    if count == n:
        formulas, slope_p = _by_formula(value, x, y, level)
        bands |= formulas
    coverage = None
    if within is not None:
        coverage = clustered_proportion(within, subjects, level)
        if count == 1 < n:
            coverage = Proportion(coverage.value, math.nan, math.nan, coverage.events, coverage.total)
    return Agreement(
        n=n,
        subjects=count,
        sd=value["sd"],
        slope_p=slope_p,
        coverage=coverage,
        nominal=nominal,
        interval_width=float((numbers[3] - numbers[2]).mean()) if within is not None else None,
        level=level,
        clustered=count < n,
        **{name: band for name, band in bands.items() if name != "sd"},
    )


def _measures(weights: Array, x: Array, y: Array) -> dict[str, Array]:
    """Return measures, (samples,) each, of cases with multiplicities ``weights`` (samples, n)."""
    n = weights.sum(1)
    # moments about the mean of the whole sample, against rounding errors
    a, b = x - x.mean(), y - y.mean()
    shift = float(y.mean() - x.mean())
    mx, my = weights @ a / n, weights @ b / n
    with np.errstate(divide="ignore", invalid="ignore"):
        sxx, syy, sxy = weights @ a**2 / n - mx**2, weights @ b**2 / n - my**2, weights @ (a * b) / n - mx * my
        # a variance within rounding error is 0
        sxx, syy = (
            np.where(s > 1e-12 * max(1.0, float(np.abs(c).max()) ** 2), s, 0.0) for s, c in ((sxx, x), (syy, y))
        )
        bias = my - mx + shift
        d = y - x
        spread = np.maximum(weights @ (d - shift) ** 2 / n - (bias - shift) ** 2, 0.0)
        sd = np.sqrt(np.where(n > 1, spread * n / (n - 1), np.nan))
        # difference on mean: covariance (syy - sxx) / 2, variance of the mean (sxx + syy + 2 sxy) / 4
        of_mean = (sxx + syy + 2 * sxy) / 4
        slope = np.where(of_mean > 0, (syy - sxx) / 2 / of_mean, np.nan)
        middle = (mx + my + x.mean() + y.mean()) / 2
        results = {
            "bias": bias,
            "sd": sd,
            "lower_limit": bias - _LIMIT * sd,
            "upper_limit": bias + _LIMIT * sd,
            "mae": weights @ np.abs(d) / n,
            "rmse": np.sqrt(weights @ d**2 / n),
            "pearson": np.clip(sxy / np.sqrt(sxx * syy), -1, 1),
            "ccc": 2 * sxy / (sxx + syy + bias**2),
            "slope": slope,
            "intercept": bias - slope * middle,
        }
    return results


def _by_formula(value: dict[str, float], x: Array, y: Array, level: float) -> tuple[dict[str, Interval], float]:
    """Return intervals of independent cases, and the p value of the slope."""
    n = x.size
    nothing = {
        name: Interval(value[name], math.nan, math.nan)
        for name in ("bias", "lower_limit", "upper_limit", "pearson", "ccc", "slope", "intercept")
    }
    if n < 3:
        return nothing, math.nan
    results = dict(nothing)
    sd, z = value["sd"], float(norm.ppf(0.5 + level / 2))
    t = float(t_distribution.ppf(0.5 + level / 2, n - 1))
    # Bland and Altman 1999: the variance of a limit is that of the mean and of z times the standard deviation
    of_limit = sd * math.sqrt(1 / n + _LIMIT**2 / (2 * (n - 1)))
    for name, se in (("bias", sd / math.sqrt(n)), ("lower_limit", of_limit), ("upper_limit", of_limit)):
        results[name] = Interval(value[name], value[name] - t * se, value[name] + t * se)
    r, c = value["pearson"], value["ccc"]
    if n > 3 and abs(r) < 1:
        results["pearson"] = _fisher(r, z / math.sqrt(n - 3))
    if abs(r) < 1 and r != 0:
        u2 = value["bias"] ** 2 / math.sqrt(float(x.var() * y.var()))
        rest = 1 - c * c
        variance = (
            (1 - r * r) * c * c / (rest * r * r)
            + 2 * c**3 * (1 - c) * u2 / (r * rest**2)
            - c**4 * u2**2 / (2 * r * r * rest**2)
        ) / (n - 2)
        if variance >= 0:
            results["ccc"] = _fisher(c, z * math.sqrt(variance))
    mean, d = (x + y) / 2, y - x
    sxx = float(((mean - mean.mean()) ** 2).sum())
    if math.isnan(value["slope"]):
        return results, math.nan
    residual = d - value["intercept"] - value["slope"] * mean
    s = math.sqrt(float(residual @ residual) / (n - 2))
    of_line = {"slope": s / math.sqrt(sxx), "intercept": s * math.sqrt(1 / n + float(mean.mean()) ** 2 / sxx)}
    t = float(t_distribution.ppf(0.5 + level / 2, n - 2))
    for name, error in of_line.items():
        results[name] = Interval(value[name], value[name] - t * error, value[name] + t * error)
    if of_line["slope"] == 0:
        return results, math.nan
    return results, float(2 * t_distribution.sf(abs(value["slope"]) / of_line["slope"], n - 2))


def _fisher(value: float, half: float) -> Interval:
    z = math.atanh(value)
    return Interval(value, math.tanh(z - half), math.tanh(z + half))


def agreement_by(
    subgroups: Mapping[str, ArrayLike],
    reference: ArrayLike,
    predicted: ArrayLike,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    nominal: float = 0.9,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Agreement]]:
    """Return the agreement within each value of each column of ``subgroups``, such as tube voltage or phase.

    Args:
        subgroups: (n,) values of each factor; ``None``, ``nan`` and "" are the subgroup "unknown".
        reference: as in ``agreement``, like all further arguments.

    Raises:
        ValueError: as ``agreement``, or if a factor does not have one value per case.
    """
    columns = [c for c in (reference, predicted, lower, upper, groups) if c is not None]
    n = np.size(reference)
    problems = [f"{name} must have {n} values, got {np.size(v)}" for name, v in subgroups.items() if np.size(v) != n]
    if problems:
        raise ValueError("; ".join(problems))
    if any(np.shape(c) != (n,) for c in columns):
        # raises with the messages of the columns, before they are divided
        agreement(reference, predicted, lower, upper, groups=groups, nominal=nominal, level=level, resamples=1)
    results: dict[str, dict[str, Agreement]] = {}
    for factor, values in subgroups.items():
        names = np.array([_name(v) for v in np.asarray(values, dtype=object)])
        results[factor] = {}
        for name in sorted(set(names.tolist()), key=_order):
            rows = names == name
            low, high, of_rows = (None if c is None else np.asarray(c)[rows] for c in (lower, upper, groups))
            results[factor][name] = agreement(
                np.asarray(reference)[rows],
                np.asarray(predicted)[rows],
                low,
                high,
                nominal=nominal,
                groups=of_rows,
                level=level,
                resamples=resamples,
                seed=seed,
            )
    return results


def _name(value: object) -> str:
    if value is None or value == "" or value != value:  # NaN compares unequal to itself
        return "unknown"
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def _order(name: str) -> tuple[int, float, str]:
    """Return a sort key: numbers by size, then texts, then "unknown"."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1 + (name == "unknown"), 0.0, name
