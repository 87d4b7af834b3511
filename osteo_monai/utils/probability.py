"""Logits of probabilities that may be 0 or 1."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["PROBABILITY_LIMIT", "clip_probability", "logit"]

PROBABILITY_LIMIT = 1e-6
"""Distance from 0 and 1 to which probabilities are clipped before their logit is taken."""


def clip_probability(probability: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities clipped to [1e-6, 1 - 1e-6]."""
    return np.clip(np.asarray(probability, dtype=np.float64), PROBABILITY_LIMIT, 1 - PROBABILITY_LIMIT)


def logit(probability: ArrayLike) -> NDArray[np.float64]:
    """Return the natural logit of clipped probabilities.

    Example:
        >>> float(logit(0.5))
        0.0
    """
    return np.asarray(special.logit(clip_probability(probability)))
