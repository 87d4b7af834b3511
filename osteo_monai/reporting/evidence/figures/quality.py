"""QUADAS-2 judgements and the PRISMA flow diagram."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import PercentFormatter

from osteo_monai.reporting.evidence.figures.shared import shortened
from osteo_monai.reporting.publishing import INK, RULE, SOFT, STYLE, new_figure
from osteo_monai.statistics.meta_analysis.studies import (
    JUDGEMENTS,
    QUADAS_CONCERNS,
    QUADAS_DOMAINS,
    PrismaFlow,
    QuadasTable,
)

__all__ = ["prisma_figure", "quadas_figure"]

# lightness differs as well as hue, for grey print and colour-blind readers
JUDGEMENT_COLOURS = {"low": "#3a9d5d", "unclear": "#f2c230", "high": "#b3271e", "not stated": "#d9dfe4"}

JUDGEMENT_SIGNS = {"low": "+", "unclear": "?", "high": "\N{MINUS SIGN}", "not stated": ""}

_DOMAIN_NAMES = {
    "patient_selection": "Patient selection",
    "index_test": "Index test",
    "reference_standard": "Reference standard",
    "flow_and_timing": "Flow and timing",
}


@mpl.rc_context(STYLE)
def quadas_figure(table: QuadasTable) -> Figure:
    """Draw QUADAS-2 as a bar per domain (share of the studies) above a coloured mark per study and domain."""
    k = len(table.studies)
    show_concern = any(value != "not stated" for row in table.concern for value in row)
    groups: list[tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]] = [
        ("Risk of bias", QUADAS_DOMAINS, table.risk)
    ]
    if show_concern:
        groups.append(("Applicability concerns", QUADAS_CONCERNS, table.concern))
    columns = [
        (group, domain, [row[i] for row in rows]) for group, names, rows in groups for i, domain in enumerate(names)
    ]
    top, lights = 0.26 * len(columns) + 0.55, 0.235 * k + 0.9
    total = top + lights
    figure = new_figure(6.8, total)
    bars = figure.add_axes((0.36, 1 - (top - 0.45) / total, 0.62, (top - 0.55) / total))
    for y, (_, _, values) in enumerate(columns):
        left = 0.0
        for judgement in JUDGEMENTS:
            share = sum(v == judgement for v in values) / k
            bars.barh(y, share, left=left, color=JUDGEMENT_COLOURS[judgement], height=0.72, edgecolor="white", lw=0.8)
            if share >= 0.03:
                bars.text(
                    left + share / 2,
                    y,
                    f"{round(share * k)}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if judgement in ("low", "high") else INK,
                )
            left += share
    names = [_DOMAIN_NAMES[d] + ("" if g == "Risk of bias" else " (applicability)") for g, d, _ in columns]
    bars.set_yticks(range(len(columns)), names, fontsize=8, color=INK)
    bars.set(xlim=(0, 1), ylim=(len(columns) - 0.45, -0.55))
    bars.xaxis.set_major_formatter(PercentFormatter(1.0))
    bars.tick_params(axis="y", length=0)
    bars.spines["left"].set_visible(False)
    grid = figure.add_axes((0.36, 0.3 / total, 0.62, (lights - 0.75) / total))
    for x, (_, _, values) in enumerate(columns):
        for y, value in enumerate(values):
            grid.scatter(x, y, s=92, color=JUDGEMENT_COLOURS[value], lw=0)
            grid.text(
                x,
                y,
                JUDGEMENT_SIGNS[value],
                ha="center",
                va="center",
                fontsize=8,
                fontweight="bold",
                color="white" if value in ("low", "high") else INK,
            )
    grid.set(xlim=(-0.6, len(columns) - 0.4), ylim=(k - 0.4, -0.6))
    grid.set_yticks(range(k), [shortened(s, 40) for s in table.studies], fontsize=7.5, color=INK)
    grid.set_xticks(range(len(columns)), [_DOMAIN_NAMES[d].replace(" ", "\n", 1) for _, d, _ in columns], fontsize=7.5)
    grid.xaxis.tick_top()
    grid.tick_params(length=0, labelcolor=INK)
    for spine in grid.spines.values():
        spine.set_visible(False)
    if show_concern:
        grid.axvline(len(QUADAS_DOMAINS) - 0.5, color=RULE, lw=1)
    shown = [j for j in JUDGEMENTS if any(j in values for _, _, values in columns)]
    handles = [Line2D([], [], ls="", marker="o", ms=8, color=JUDGEMENT_COLOURS[j], label=j) for j in shown]
    figure.legend(
        handles=handles, loc="lower center", ncol=len(shown), frameon=False, fontsize=8, bbox_to_anchor=(0.67, 0.0)
    )
    return figure


@mpl.rc_context(STYLE)
def prisma_figure(flow: PrismaFlow) -> Figure:
    """Draw the PRISMA 2020 flow diagram of database searches."""

    def reasons(counts: Mapping[str, int]) -> list[str]:
        # the number of a single reason is the sum above it
        return [f"{reason}: {n}" if len(counts) > 1 else reason for reason, n in counts.items()]

    stages = [
        (
            "Identification",
            [f"Records identified: {sum(flow.identified.values())}", *reasons(flow.identified)],
            [f"Removed before screening: {sum(flow.removed.values())}", *reasons(flow.removed)],
        ),
        (
            "Screening",
            [f"Records screened: {flow.screened}"],
            [f"Records excluded: {sum(flow.excluded.values())}", *reasons(flow.excluded)],
        ),
        (
            "Eligibility",
            [f"Full texts assessed: {flow.assessed}"],
            [f"Full texts excluded: {sum(flow.excluded_full_text.values())}", *reasons(flow.excluded_full_text)],
        ),
        (
            "Included",
            [f"Studies in the review: {flow.included}", f"Studies in the meta-analysis: {flow.in_meta_analysis}"],
            [],
        ),
    ]
    line, pad, gap = 0.2, 0.2, 0.34
    heights = [max(len(left), len(right)) * line + pad for _, left, right in stages]
    total = sum(heights) + gap * (len(stages) - 1)
    figure = new_figure(6.6, total + 0.1)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 6.6), ylim=(0, total + 0.1))
    axis.axis("off")
    y = total + 0.05
    for i, ((stage, left, right), height) in enumerate(zip(stages, heights, strict=True)):
        axis.add_patch(Rectangle((0.02, y - height), 0.3, height, facecolor="#e3eaf1", lw=0))
        axis.text(0.17, y - height / 2, stage, rotation=90, ha="center", va="center", fontsize=6.5, color=SOFT)
        _box(axis, 0.5, y, 2.75, height, left)
        if right:
            _box(axis, 3.75, y, 2.75, height, right)
            axis.annotate("", (3.73, y - height / 2), (3.27, y - height / 2), arrowprops=_ARROW)
        if i + 1 < len(stages):
            axis.annotate("", (1.88, y - height - gap + 0.02), (1.88, y - height - 0.02), arrowprops=_ARROW)
        y -= height + gap
    return figure


_ARROW = {"arrowstyle": "-|>", "color": SOFT, "lw": 1, "shrinkA": 0, "shrinkB": 0}


def _box(axis: Axes, x: float, top: float, width: float, height: float, lines: Sequence[str]) -> None:
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
        middle = top - height / 2 + (len(lines) / 2 - i - 0.5) * 0.2
        axis.text(x + 0.12, middle, shortened(text, 46), va="center", fontsize=8, fontweight="bold" if i == 0 else None)
