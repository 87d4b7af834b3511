"""How numbers are put into words, the same in pictures, tables and sentences."""

from osteo_monai.domain import DensityThresholds, VertebraLevel

HIGHEST_NAMED = VertebraLevel.T9
"""Bodies above this level get no name of their own (the first of ``screening.ct.spines.NAMED_LEVELS``)."""
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


def chance_words(probability: float, cutoff: float | None = None) -> str:
    """Return a probability in per cent, with as many decimals as keep it on its side of a cut-off.

    Ends stay ends: what is neither 0 nor 1 is never printed as 0 % or 100 %.
    """
    if 0 < probability < 0.001:
        return "<0.1\N{NO-BREAK SPACE}%"
    if 0.999 < probability < 1:
        return ">99.9\N{NO-BREAK SPACE}%"
    for decimals in (0 if 0.095 <= probability <= 0.905 else 1, 1, 2, 3, 4):
        rounded = round(100 * probability, decimals)
        if cutoff is None or (rounded >= 100 * cutoff) == (probability >= cutoff):
            return f"{rounded:.{decimals}f}\N{NO-BREAK SPACE}%"
    return f"{100 * probability!r}\N{NO-BREAK SPACE}%"


def bodies_above_words(count: int, named: bool = True) -> str:
    """Say how many bodies were found without a name; empty where there are none.

    Args:
        count: those above the highest level that can be named.
        named: levels were named below them; without any, nobody knows how high these bodies lie.
    """
    if count < 1:
        return ""
    bodies, were, are = ("1 body", "was", "is") if count == 1 else (f"{count} bodies", "were", "are")
    if not named:
        return f"{bodies} {were} found, and none can be named."
    return f"{bodies} above {HIGHEST_NAMED} {were} found and {are} not named."


def missing_words(value: object) -> str:
    """Return a fact of a header as it stands, or that it is not stated."""
    return "not stated" if value is None or value == "" else str(value)
