"""Likelihood ratios, and predictive values at a stated prevalence, from sensitivity and specificity."""

import math
from dataclasses import dataclass

from osteo_monai.statistics.proportions import Interval

__all__ = ["LikelihoodRatios", "likelihood_ratios"]


@dataclass(frozen=True)
class LikelihoodRatios:
    """Likelihood ratios of a test.

    Attributes:
        positive: sensitivity / (1 - specificity); infinite at a specificity of 1.
        negative: (1 - sensitivity) / specificity.
    """

    positive: Interval
    negative: Interval

    def ppv(self, prevalence: float) -> Interval:
        """Return the positive predictive value at ``prevalence``, which is taken as known.

        Raises:
            ValueError: ``prevalence`` is not above 0 and below 1.
        """
        return Interval(*(_posterior(x, prevalence) for x in _parts(self.positive)))

    def npv(self, prevalence: float) -> Interval:
        """Return the negative predictive value at ``prevalence``, which is taken as known; errors as ``ppv``."""
        value, low, high = (1 - _posterior(x, prevalence) for x in _parts(self.negative))
        return Interval(value, high, low)


def _parts(ratio: Interval) -> tuple[float, float, float]:
    return ratio.value, ratio.low, ratio.high


def _posterior(ratio: float, prevalence: float) -> float:
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence must be above 0 and below 1, got {prevalence:g}")
    if math.isinf(ratio):
        return 1.0
    odds = ratio * prevalence / (1 - prevalence)
    return odds / (1 + odds)


def likelihood_ratios(sensitivity: Interval, specificity: Interval) -> LikelihoodRatios:
    """Return both likelihood ratios with intervals made of those of sensitivity and specificity.

    The method is that of Donner and Zou 2012 (MOVER for a ratio of independent estimates). Its bounds exist where a
    cell of the 2 x 2 table is empty; an upper bound is infinite if the denominator may be 0.

    Args:
        sensitivity: estimate and bounds, 0 to 1; ``nan`` gives ``nan``.
        specificity: the same.
    """
    missed = _complement(sensitivity)
    return LikelihoodRatios(_ratio(sensitivity, _complement(specificity)), _ratio(missed, specificity))


def _complement(share: Interval) -> Interval:
    return Interval(1 - share.value, 1 - share.high, 1 - share.low)


def _ratio(top: Interval, bottom: Interval) -> Interval:
    if not all(math.isfinite(x) for x in (*_parts(top), *_parts(bottom))):
        return Interval(math.nan, math.nan, math.nan)
    product = top.value * bottom.value
    lower, lower_bottom = top.low * (2 * top.value - top.low), bottom.high * (2 * bottom.value - bottom.high)
    upper, upper_bottom = top.high * (2 * top.value - top.high), bottom.low * (2 * bottom.value - bottom.low)
    root = product + math.sqrt(max(product**2 - lower * lower_bottom, 0.0))
    low = lower / root if root > 0 else 0.0
    high = math.inf
    if bottom.low > 0:
        high = (product + math.sqrt(max(product**2 - upper * upper_bottom, 0.0))) / upper_bottom
    if bottom.value == 0:
        return Interval(math.inf if top.value > 0 else math.nan, low, math.inf)
    return Interval(top.value / bottom.value, low, high)
