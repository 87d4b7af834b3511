"""Learning rate schedules."""

import math
from collections.abc import Callable

__all__ = ["warmup_cosine"]


def warmup_cosine(total_steps: int, warmup_steps: int, floor: float = 0.01) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the step: linear from 0 to 1, then half a cosine.

    A function and not an object, so that ``LambdaLR`` does not store ``total_steps``: a resumed run may be longer.

    Args:
        total_steps: steps of the training.
        warmup_steps: steps of the linear part, less than ``total_steps``.
        floor: factor at the end.

    Raises:
        ValueError: when ``warmup_steps`` is out of range.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps must be in [0, total_steps), got {warmup_steps} of {total_steps}")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
