"""Text of numbers, the same in figures, tables and sentences."""

from osteo_monai.domain import DensityThresholds, VertebraLevel
from osteo_monai.screening.result import RiskModelName

__all__ = [
    "HIGHEST_NAMED",
    "MINUS",
    "RISK_NAMES",
    "TIMES",
    "VIEW_NAMES",
    "bodies_above_words",
    "chance_words",
    "density_words",
    "missing_words",
    "ordinal",
    "percentile_words",
    "point_words",
    "signed_words",
]

HIGHEST_NAMED = VertebraLevel.T9
"""Bodies above this level are not named (the first of ``screening.ct.spines.NAMED_LEVELS``)."""
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
VIEW_NAMES = {"chest_frontal": "Frontal chest", "lumbar_ap": "Lumbar AP", "lumbar_lateral": "Lumbar lateral"}
RISK_NAMES: dict[RiskModelName, str] = {
    "chest_frontal": "Chest radiograph",
    "lumbar_ap": "Lumbar AP radiograph",
    "lumbar_lateral": "Lumbar lateral radiograph",
    "fused": "Lumbar AP and lateral, fused",
    "combined": "Radiograph and clinical data",
    "clinical": "Clinical data only",
}


def density_words(value: float, thresholds: DensityThresholds | None) -> str:
    """Return a density with one decimal, or with as many as keep it on its side of the thresholds.

    79.97 is not printed as 80.0, which would contradict its class.

    Args:
        value: mg/cm3.
        thresholds: of the classes; ``None`` gives one decimal.

    Example:
        >>> density_words(96.44, None), density_words(79.97, DensityThresholds())
        ('96.4', '79.97')
    """
    if thresholds is None:
        return f"{value:.1f}"
    cuts = (thresholds.osteoporosis_below, thresholds.normal_above)
    for decimals in (1, 2, 3, 4):
        rounded = round(value, decimals)
        if all((rounded < cut, rounded > cut) == (value < cut, value > cut) for cut in cuts):
            return f"{value:.{decimals}f}"
    return repr(value)


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``13th`` ..."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def percentile_words(percentile: float) -> str:
    """Return a percentile as ``34th``, or that it is beyond the 1st or 99th, where the approximation is too coarse."""
    if percentile < 1:
        return "below the 1st"
    if percentile > 99:
        return "above the 99th"
    return ordinal(round(percentile))


def chance_words(probability: float, cutoff: float | None = None) -> str:
    """Return a probability in per cent, with as many decimals as keep it on its side of a cut-off.

    Only 0 and 1 are printed as 0 % and 100 %.
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
    """Return a sentence on the bodies that were found without a name, or an empty text.

    Args:
        count: bodies above the highest level that can be named.
        named: whether levels were named below them; otherwise the position of these bodies is unknown.
    """
    if count < 1:
        return ""
    bodies, were, are = ("1 body", "was", "is") if count == 1 else (f"{count} bodies", "were", "are")
    if not named:
        return f"{bodies} {were} found, and none can be named."
    return f"{bodies} above {HIGHEST_NAMED} {were} found and {are} not named."


def missing_words(value: object) -> str:
    """Return a fact of a header, or "not stated"."""
    return "not stated" if value is None or value == "" else str(value)


def signed_words(value: float) -> str:
    """Return a number with one decimal and a true minus sign, and no minus before zero."""
    number = f"{value:.1f}"
    return number.replace("-", "") if float(number) == 0 else number.replace("-", MINUS)


def point_words(point: tuple[float, float, float]) -> str:
    """Return three coordinates with one decimal."""
    return ", ".join(signed_words(value) for value in point)
