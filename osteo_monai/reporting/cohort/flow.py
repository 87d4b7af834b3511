"""Flow of subjects into a study (Fig. 1 of Pan 2024)."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from osteo_monai.reporting.publishing import (
    SOFT,
    STYLE,
    new_figure,
    save_figure,
)

__all__ = ["FlowStage", "flow_figure", "write_flow"]

_PM, _EN_DASH, _NBSP = "\N{PLUS-MINUS SIGN}", "\N{EN DASH}", "\N{NO-BREAK SPACE}"


class FlowStage(Protocol):
    """One box of the flow diagram; ``osteo_monai.data.build`` makes them."""

    @property
    def label(self) -> str:
        """Description of the subjects in this box."""

    @property
    def count(self) -> int:
        """Number of subjects in this box."""

    @property
    def excluded(self) -> Sequence[tuple[str, int]]:
        """Reason and number of the subjects that are excluded here."""

    @property
    def unchecked(self) -> Sequence[tuple[str, int]]:
        """What could not be checked, and in how many of the remaining subjects."""


@mpl.rc_context(STYLE)
def flow_figure(stages: Sequence[FlowStage]) -> Figure:
    """Draw the flow of subjects into the study as boxes from top to bottom (Fig. 1 of Pan 2024).

    Args:
        stages: in order; exclusions are drawn to the right of their stage, the next stage holds the remaining subjects.

    Raises:
        ValueError: if the counts do not add up.
    """
    for stage, following in pairwise(stages):
        if (remaining := stage.count - _excluded(stage)) != following.count:
            raise ValueError(
                f"the stage after {stage.count} subjects must have the remaining {remaining}, got {following.count}"
            )
    line, pad, gap, width = 0.19, 0.2, 0.3, 3.1
    left = [_wrapped(f"{s.label} {_n(s.count)}", 46) for s in stages]
    right = [
        [
            *([f"Excluded {_n(_excluded(s))}"] if s.excluded else []),
            *(t for reason, n in s.excluded for t in _wrapped(f"{reason} {_n(n)}", 48)),
            *(t for what, n in s.unchecked for t in _wrapped(f"unknown, included: {what} {_n(n)}", 48)),
        ]
        for s in stages
    ]
    heights = [line * len(lines) + pad for lines in left]
    sides = [line * len(lines) + pad if lines else 0.0 for lines in right]
    steps = [h + max(gap, side + gap - 0.05) for h, side in zip(heights, sides, strict=True)]
    total = sum(steps[:-1]) + heights[-1]
    figure = new_figure(2 * width + 0.5, total + 0.1)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 2 * width + 0.5), ylim=(0, total + 0.1))
    axis.axis("off")
    arrow = {"arrowstyle": "-|>", "color": SOFT, "lw": 1, "shrinkA": 0, "shrinkB": 0}
    top = total + 0.05
    for i in range(len(stages)):
        bottom = top - heights[i]
        _box(axis, 0.05, top, width, heights[i], left[i], line, bold=True)
        if i + 1 < len(stages):
            axis.annotate("", (0.05 + width / 2, top - steps[i]), (0.05 + width / 2, bottom), arrowprops=arrow)
        if right[i]:
            side_top = bottom - (steps[i] - heights[i] - sides[i]) / 2
            _box(axis, width + 0.4, side_top, width, sides[i], right[i], line, bold=bool(stages[i].excluded))
            middle = side_top - sides[i] / 2
            axis.annotate("", (width + 0.4, middle), (0.05 + width / 2, middle), arrowprops=arrow)
        top -= steps[i]
    return figure


def _n(count: int) -> str:
    return f"(n = {count})".replace(" ", _NBSP)


def _excluded(stage: FlowStage) -> int:
    return sum(n for _, n in stage.excluded)


def _wrapped(text: str, length: int) -> list[str]:
    """Return lines of at most ``length`` characters, continued ones indented."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > length:
            lines.append("   " + word)
        else:
            lines[-1] += (" " if lines[-1] else "") + word
    return lines


def _box(
    axis: Axes, x: float, top: float, width: float, height: float, lines: Sequence[str], line: float, bold: bool
) -> None:
    axis.add_patch(
        FancyBboxPatch(
            (x, top - height),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor="white",
            edgecolor=SOFT,
            lw=0.9,
        )
    )
    for i, text in enumerate(lines):
        y = top - height / 2 + (len(lines) / 2 - i - 0.5) * line
        axis.text(x + 0.1, y, text, va="center", fontsize=8, fontweight="bold" if bold and i == 0 else None)


def write_flow(stages: Sequence[FlowStage], output: Path, virtual: bool = False) -> None:
    """Write the flow diagram as ``flow.png`` and ``flow.svg`` into the folder ``output``.

    Args:
        stages: as for :func:`flow_figure`.
        output: folder, made if missing.
        virtual: mark the figure as one of simulated people.
    """
    output.mkdir(parents=True, exist_ok=True)
    figure = flow_figure(stages)
    if virtual:
        figure.text(0.99, 0.99, "virtual patients", ha="right", va="top", fontsize=9, color=SOFT, style="italic")
    save_figure(figure, output / "flow")
