"""Labels and legend entries that several figures share."""

from dataclasses import dataclass

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from osteo_monai.statistics.proportions import Interval

__all__ = ["Array", "OwnPoint", "handle", "interval_text", "shortened"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OwnPoint:
    """The user's model on a figure: its name and counts TP, FP, FN, TN."""

    name: str
    counts: Array


def interval_text(i: Interval) -> str:
    return f"{i.value:.2f} ({i.low:.2f}\N{EN DASH}{i.high:.2f})"


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def handle(marker: str, colour: str, label: str, filled: bool) -> Line2D:
    return Line2D(
        [],
        [],
        ls="",
        marker=marker,
        color=colour,
        label=label,
        ms=10 if marker == "*" else 7,
        markerfacecolor=colour if filled else "white",
    )
