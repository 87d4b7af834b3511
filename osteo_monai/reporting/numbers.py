"""Printed form of statistics, for tables, figures and reports."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # SciPy is slow to import, and screening reports print no intervals
    from osteo_monai.statistics.proportions import Interval

__all__ = ["FILTERS", "printed_interval", "printed_number", "printed_p"]

_EN_DASH, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def printed_number(value: float, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` decimals (none from 100 on), or "not defined" if it is not finite.

    Example:
        >>> printed_number(0.12345), printed_number(float("nan"))
        ('0.123', 'not defined')
    """
    if not math.isfinite(value):
        return "not defined"
    text = f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.0f}"
    return text.replace("-", _MINUS)


def printed_interval(interval: "Interval", digits: int = 3) -> str:
    """Return the estimate and, if they exist, its bounds in brackets."""
    value, low, high = interval.value, interval.low, interval.high
    if not math.isfinite(value):
        return "not defined"
    if not math.isfinite(low):
        return printed_number(value, digits)
    separator = " to " if min(value, low) < 0 else _EN_DASH
    return f"{printed_number(value, digits)} ({printed_number(low, digits)}{separator}{printed_number(high, digits)})"


def printed_p(p: float) -> str:
    """Return a p value with three decimals, or ``< 0.001``."""
    if not math.isfinite(p):
        return "not defined"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _percent(interval: "Interval") -> str:
    if not math.isfinite(interval.low):
        return f"{100 * interval.value:.1f} %"
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f}{_EN_DASH}{100 * interval.high:.1f})"


def _points(interval: "Interval") -> str:
    """Difference in percentage points."""
    low, value, high = (f"{100 * v:+.1f}".replace("-", _MINUS) for v in (interval.low, interval.value, interval.high))
    return f"{value} ({low} to {high})"


def _share(p: float) -> str:
    return "fewer than 1 %" if p < 0.01 else f"{100 * p:.0f} %"


FILTERS: dict[str, Callable[..., Any]] = {
    "ci": printed_interval,
    "number": printed_number,
    "p": printed_p,
    "percent": _percent,
    "points": _points,
    "share": _share,
}
"""Filters of the report templates."""
