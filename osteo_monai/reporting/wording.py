"""How numbers are put into words, the same in pictures, tables and sentences."""

from osteo_monai.domain import DensityThresholds

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"


def density_words(value: float, thresholds: DensityThresholds) -> str:
    """Return a density with one decimal, or with as many as keep it on its side of the thresholds.

    79.97 is printed so, not as 80.0, which would contradict the class beside it.
    """
    cuts = (thresholds.osteoporosis_below, thresholds.normal_above)
    for decimals in (1, 2, 3, 4):
        rounded = round(value, decimals)
        if all((rounded < cut, rounded > cut) == (value < cut, value > cut) for cut in cuts):
            return f"{value:.{decimals}f}"
    return repr(value)


def percent_words(probability: float) -> str:
    """Return a probability in whole per cent, never rounded up to certainty."""
    return ">99 %" if probability > 0.99 else f"{int(probability * 100 + 1e-9)} %"


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``13th`` ..."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def percentile_words(percentile: float) -> str:
    """Return a percentile as ``34th``; beyond the 1st and 99th the normal approximation says no more than that."""
    if percentile < 1:
        return "below the 1st"
    if percentile > 99:
        return "above the 99th"
    return ordinal(round(percentile))
