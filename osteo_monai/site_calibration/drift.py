"""Follow the HU of air, fat and blood of each scanner over time."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, stdtrit

from osteo_monai.data.csv_tables import optional_number, read_table, refuse
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.acquisition import date_of
from osteo_monai.measurement.calibration import Scanner
from osteo_monai.measurement.tissues import ENHANCED_BLOOD_HU
from osteo_monai.statistics.proportions import Interval

__all__ = ["Drift", "Reading", "check_drift", "read_summaries"]

Array = NDArray[np.float64]
Verdict = Literal["stable", "drift", "undecided", "too few scans"]

TISSUES: Mapping[str, str] = {"air": "air_hu", "fat": "fat_hu", "aorta": "aorta_hu"}
"""Tissues and their columns in summary.csv. Only native aortas count."""

LEVEL = 0.99
"""Of the interval of the drift: a false alarm in 1 of 100 series."""
MIN_SCANS, MIN_DAYS = 20, 90
"""Fewest scans and days of a series (project custom)."""
BASELINE_SCANS = 20
"""The first scans, at most half of the series, give centre and control limits."""
LIMIT_SD = 3.0
"""Control limits of a Shewhart chart."""
SMALLEST_DRIFT, TOLERATED_DRIFT = 0.5, 2.0
"""HU per year (project custom): published scanners drift by 0.55 to 2.29 (PMC6682570, abstract read). A drift below the
first is not reported; a series whose interval lies within the second is stable."""
SMALLEST_SD_HU = 0.5
"""SD of a series at least: HU are whole numbers."""
OUTSIDE_CHANCE = 1.0 - math.erf(LIMIT_SD / math.sqrt(2.0))
OUTSIDE_LEVEL = 0.01


@dataclass(frozen=True)
class Reading:
    """Tissues of one scan: the scanner with its tube voltage, the day, and HU by tissue."""

    scanner: str
    day: date
    values: Mapping[str, float]


@dataclass(frozen=True)
class Drift:
    """One tissue of one scanner over time.

    Attributes:
        days: (n,) proleptic Gregorian ordinals, ascending.
        values: (n,) HU.
        centre: mean of the baseline, HU; nan for too few scans, as all numbers below.
        limits: control limits of a new scan, HU.
        per_year: slope of the regression on time with its 99 % interval, HU per year.
        baseline: number of scans of the baseline.
        outside: number of later scans outside the limits.
        reason: of the verdict, one sentence.
    """

    scanner: str
    tissue: str
    days: Array
    values: Array
    centre: float
    limits: tuple[float, float]
    per_year: Interval
    baseline: int
    outside: int
    verdict: Verdict
    reason: str


def read_summaries(paths: Sequence[Path]) -> tuple[list[Reading], dict[str, int]]:
    """Read the CT rows of tables ``summary.csv`` of ``osteo-monai screen``.

    Returns:
        One reading for each row, and the number of rows that were left out by reason. A row that two tables share
        counts once.

    Raises:
        UnusableInputError: a table cannot be read, lacks the columns of tissues, or has wrong cells.
    """
    readings: dict[tuple[object, ...], Reading] = {}
    left_out: dict[str, int] = defaultdict(int)
    needed = ("study", "modality", "manufacturer", "model", "acquired", "kvp", "air_hu", "fat_hu")
    for path in paths:
        table = read_table(path, needed)
        problems = list(table.problems)
        for line, cells in table.rows:
            try:
                reading = _reading(cells, table.separator)
            except ValueError as error:
                problems.append(f"line {line}: {error}")
                continue
            if isinstance(reading, str):
                left_out[reading] += 1
                continue
            key = (cells["study"], reading.scanner, reading.day, *sorted(reading.values.items()))
            left_out["already read from another table"] += key in readings
            readings[key] = reading
        refuse(path, problems)
    return list(readings.values()), {reason: count for reason, count in left_out.items() if count}


def _reading(cells: Mapping[str, str], separator: str) -> Reading | str:
    if cells["modality"] != "ct":
        return "no CT"
    scanner = Scanner(**{name: cells.get(name) or None for name in ("manufacturer", "model", "station")})
    if not scanner.certain(scanner):
        return "scanner unknown"
    if not cells["acquired"]:
        return "day unknown"
    day = date_of(cells["acquired"])
    if day is None:
        raise ValueError(f"acquired must be a day such as 2026-03-01, got '{cells['acquired']}'")
    values = {
        tissue: hu
        for tissue, column in TISSUES.items()
        if (hu := optional_number(column, cells.get(column, ""), separator)) is not None
    }
    if values.get("aorta", 0.0) > ENHANCED_BLOOD_HU:
        del values["aorta"]
    if not values:
        return "no tissue measured"
    kvp = optional_number("kvp", cells["kvp"], separator)
    return Reading(f"{scanner.name}, {'unknown' if kvp is None else f'{kvp:g}'} kVp", day, values)


def check_drift(readings: Sequence[Reading]) -> list[Drift]:
    """Return the drift of each tissue of each scanner and tube voltage.

    Drift: the 99 % interval of the slope excludes 0 and the slope is at least 0.5 HU per year, or more scans than by
    chance (1 %) are outside the control limits of the first scans. Stable: the interval is within 2 HU per year.

    Raises:
        UnusableInputError: no series has enough scans and days.
    """
    series: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for reading in readings:
        for tissue, value in reading.values.items():
            series[reading.scanner, tissue].append((reading.day.toordinal(), value))
    order = list(TISSUES)
    keys = sorted(series, key=lambda key: (key[0], order.index(key[1])))
    drifts = [_drift(scanner, tissue, sorted(series[scanner, tissue])) for scanner, tissue in keys]
    if all(d.verdict == "too few scans" for d in drifts):
        largest = max((len(d.days) for d in drifts), default=0)
        raise UnusableInputError(
            f"a scanner must have at least {MIN_SCANS} scans over {MIN_DAYS} days with known day and scanner, got at "
            f"most {largest} scans"
        )
    return drifts


def _drift(scanner: str, tissue: str, points: Sequence[tuple[int, float]]) -> Drift:
    days, values = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    n, span = len(days), float(days[-1] - days[0])
    if n < MIN_SCANS or span < MIN_DAYS:
        nothing = Interval(math.nan, math.nan, math.nan)
        reason = f"{n} scans over {span:.0f} days; at least {MIN_SCANS} over {MIN_DAYS} are needed."
        none = (math.nan, math.nan)
        return Drift(scanner, tissue, days, values, math.nan, none, nothing, 0, 0, "too few scans", reason)
    first = min(BASELINE_SCANS, n // 2)
    centre, limits = _limits(values[:first])
    per_year = _slope((days - days.mean()) / 365.25, values)
    later = values[first:]
    outside = int(((later < limits[0]) | (later > limits[1])).sum())
    verdict, reason = _verdict(per_year, outside, len(later))
    return Drift(scanner, tissue, days, values, centre, limits, per_year, first, outside, verdict, reason)


def _limits(baseline: Array) -> tuple[float, tuple[float, float]]:
    """Return the mean of the baseline, and limits that a new scan exceeds with the chance of 3 SD (t distribution)."""
    n, centre = len(baseline), float(baseline.mean())
    sd = max(float(baseline.std(ddof=1)), SMALLEST_SD_HU)
    half = float(stdtrit(n - 1, 1.0 - OUTSIDE_CHANCE / 2.0)) * sd * math.sqrt(1.0 + 1.0 / n)
    return centre, (centre - half, centre + half)


def _slope(years: Array, values: Array) -> Interval:
    n, sxx = len(years), float(years @ years)
    slope = float(years @ values) / sxx
    residual = values - values.mean() - slope * years
    sd = max(math.sqrt(float(residual @ residual) / (n - 2)), SMALLEST_SD_HU)
    half = float(stdtrit(n - 2, 0.5 + LEVEL / 2.0)) * sd / math.sqrt(sxx)
    return Interval(slope, slope - half, slope + half)


def _verdict(per_year: Interval, outside: int, later: int) -> tuple[Verdict, str]:
    words = f"{per_year.value:+.1f} HU per year ({per_year.low:+.1f} to {per_year.high:+.1f})"
    steady = per_year.low <= 0 <= per_year.high or abs(per_year.value) < SMALLEST_DRIFT
    by_chance = not outside or float(bdtrc(outside - 1, later, OUTSIDE_CHANCE)) >= OUTSIDE_LEVEL
    if not (steady and by_chance):
        reasons = [] if steady else ["the interval excludes 0"]
        reasons += [] if by_chance else [f"{outside} of {later} later scans are outside the control limits"]
        return "drift", f"{words}: {' and '.join(reasons)}."
    if per_year.low >= -TOLERATED_DRIFT and per_year.high <= TOLERATED_DRIFT:
        return "stable", f"{words}: within {TOLERATED_DRIFT:g} HU per year."
    return "undecided", f"{words}: more scans or a longer time are needed to exclude a drift."
