"""Plots of density against age, with class bands and norms: of one study, and of many."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from osteo_monai.domain import BoneStatus, DensityThresholds, MineralStandard, Sex
from osteo_monai.norms import DENSITY_NORMS, NORM_NAME, NORM_STANDARD
from osteo_monai.reporting.drawing import (
    FULL_WIDTH,
    Picture,
    line,
    rect,
    svg,
    text,
)
from osteo_monai.reporting.figures.panel import clamped
from osteo_monai.reporting.wording import density_words
from osteo_monai.screening.result import Density
from osteo_monai.utils.text import listed

__all__ = ["DensityPoint", "densities_picture", "density_picture"]

_REGRESSION = "#b3431e"
_SEX_COLOUR = {Sex.FEMALE: "#6b3fa0", Sex.MALE: "#1f5fa8"}
_PLURAL = {Sex.FEMALE: "women", Sex.MALE: "men"}
_BANDS = (
    (BoneStatus.OSTEOPOROSIS, "#f3e3dd"),
    (BoneStatus.OSTEOPENIA, "#faf2dc"),
    (BoneStatus.NORMAL, "#e8f1ea"),
)
_INK, _LABEL = "#111111", "#333333"


@dataclass(frozen=True)
class _Axes:
    """Rectangle of the plot in drawing units, ages in years along x, densities in mg/cm3 from 0 along y."""

    age_low: float
    age_high: float
    peak: float
    left: float = 56.0
    right: float = FULL_WIDTH - 92.0
    top: float = 12.0
    bottom: float = 196.0
    height: float = 240.0

    def x(self, age: float) -> float:
        return self.left + (age - self.age_low) / (self.age_high - self.age_low) * (self.right - self.left)

    def y(self, density: float) -> float:
        return self.bottom - clamped(density, 0.0, self.peak) / self.peak * (self.bottom - self.top)


def density_picture(
    density: Density,
    thresholds: DensityThresholds | None,
    age_years: float | None,
    sex: Sex | None,
    regression: Density | None = None,
) -> Picture:
    """Draw the measured density with its interval over the class bands and the norms of age and sex.

    Norms are drawn as in their table, one block (mean, one and two SD) per decade. With unknown age the density is a
    line across all ages; with unknown age or sex the norms of both sexes are drawn.

    Args:
        density: of the study, with its 90 % interval.
        thresholds: of the classes; without them, or in another standard than the density, no bands are drawn.
        age_years: of the patient.
        sex: of the patient.
        regression: density by regression, drawn as a diamond if it is in the same standard.
    """
    if regression is not None and regression.standard is not density.standard:
        regression = None
    axes = _axes([density, *([] if regression is None else [regression])], age_years)
    both = sex is None or age_years is None
    sexes: list[Sex] = list(Sex) if both else [sex] if sex else []
    parts = [f'<rect width="{FULL_WIDTH}" height="{axes.height:.0f}" fill="#ffffff"/>']
    if thresholds is not None and density.standard is thresholds.standard:
        parts += _class_bands(axes, thresholds)
    parts += _scales(axes, density.standard)
    comparable = density.standard is NORM_STANDARD
    if comparable:
        for s in sexes:
            parts += _norm_blocks(axes, s, both, age_years)
        parts += _norm_legend(sexes, both, axes.right)
    parts.append(rect(axes.left, axes.top, axes.right - axes.left, axes.bottom - axes.top, "none", "#555555"))
    value = density_words(density.mg_cm3, thresholds)
    if regression is None:
        parts += _measured_mark(axes, density, f"measured {value}", age_years)
    else:
        titles = (f"HU line {value}", f"regression {density_words(regression.mg_cm3, thresholds)}")
        parts += _two_marks(axes, (density, regression), titles, age_years)
    alt = _alternative(density, regression, thresholds, age_years, sexes if comparable else [])
    caption = _caption(both, regression is not None) if comparable else _NOT_COMPARABLE.format(NORM_STANDARD)
    return Picture(svg(FULL_WIDTH, axes.height, parts), alt, caption)


@dataclass(frozen=True)
class DensityPoint:
    """Age in years, sex if known, and density in mg/cm3 of one study."""

    age_years: float
    sex: Sex | None
    mg_cm3: float


def densities_picture(
    points: Sequence[DensityPoint], standard: MineralStandard, thresholds: DensityThresholds | None
) -> Picture:
    """Draw the densities of many studies over the class bands and the norms of both sexes.

    Args:
        points: at least one.
        standard: of all densities.
        thresholds: of the classes; without them, or in another standard, no bands are drawn.
    """
    ages, densities = [p.age_years for p in points], [p.mg_cm3 for p in points]
    low, high = min(18.0, min(ages) - 4), max(90.0, max(ages) + 4)
    axes = _Axes(low, high, float(np.ceil(max(240.0, 1.05 * max(densities)) / 40) * 40), bottom=316.0, height=360.0)
    parts = [f'<rect width="{FULL_WIDTH}" height="{axes.height:.0f}" fill="#ffffff"/>']
    if thresholds is not None and thresholds.standard is standard:
        parts += _class_bands(axes, thresholds)
    parts += _scales(axes, standard)
    comparable = standard is NORM_STANDARD
    if comparable:
        for sex in Sex:
            parts += _norm_blocks(axes, sex, True, None)
        parts += _norm_legend(list(Sex), True, axes.right)
    parts.append(rect(axes.left, axes.top, axes.right - axes.left, axes.bottom - axes.top, "none", "#555555"))
    parts += [_small_mark(axes, point) for point in points]
    beyond = sum(density < 0 for density in densities)
    caption = "Circles: women; squares: men; diamonds: sex unknown."
    caption += f" {beyond} below 0 mg/cm³ are drawn at 0." if beyond else ""
    norms = (
        f" Norms by decade, {NORM_NAME}: mean (line), one SD (dark), two SD (light)."
        if comparable
        else f" {_NOT_COMPARABLE.format(NORM_STANDARD)}"
    )
    alt = (
        f"Plot of {len(points)} densities from {min(densities):.0f} to {max(densities):.0f} mg/cm³ {standard} at ages "
        f"from {int(min(ages))} to {int(max(ages))} years."
    )
    return Picture(svg(FULL_WIDTH, axes.height, parts), alt, caption + norms)


def _small_mark(axes: _Axes, point: DensityPoint) -> str:
    x, y = axes.x(point.age_years), axes.y(point.mg_cm3)
    edge = 'stroke="#ffffff" stroke-width="0.7"'
    if point.sex is None:
        return f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4Z" fill="{_INK}" {edge}/>'
    colour = _SEX_COLOUR[point.sex]
    if point.sex is Sex.FEMALE:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" {edge}/>'
    return f'<rect x="{x - 2.8:.1f}" y="{y - 2.8:.1f}" width="5.6" height="5.6" fill="{colour}" {edge}/>'


_NOT_COMPARABLE = "The norms are in mg/cm³ {} and this density is not: no comparison is drawn."


def _alternative(
    density: Density,
    regression: Density | None,
    thresholds: DensityThresholds | None,
    age_years: float | None,
    sexes: Sequence[Sex],
) -> str:
    value = (
        f"{density_words(density.mg_cm3, thresholds)} mg/cm³ {density.standard}, "
        f"90 % interval {density.interval_low:.1f} to {density.interval_high:.1f}"
    )
    if regression is not None:
        value += (
            f"; by regression {density_words(regression.mg_cm3, thresholds)}, "
            f"{regression.interval_low:.1f} to {regression.interval_high:.1f}"
        )
    age = f"at age {int(age_years)}" if age_years is not None else "at unknown age (drawn across all ages)"
    norms = (
        f", against the norms of {listed(_PLURAL[s] for s in sexes)} by decade of age ({NORM_NAME})" if sexes else ""
    )
    return f"Plot of the measured density, {value}, {age}{norms}."


def _caption(both: bool, with_regression: bool) -> str:
    caption = f"Norms by decade, {NORM_NAME}: mean (line), one SD (dark), two SD (light)."
    if both:
        caption += " Both sexes are shown, because age or sex is unknown."
    if with_regression:
        caption += " Point: HU line; diamond: density regression; bars: 90 % intervals."
    return caption


def _axes(densities: Sequence[Density], age_years: float | None) -> _Axes:
    age_low, age_high = 18.0, 90.0
    if age_years is not None and not age_low <= age_years < age_high:
        age_low, age_high = min(age_low, age_years - 4), max(age_high, age_years + 4)
    peak = max(240.0, *(1.05 * max(d.interval_high, d.mg_cm3) for d in densities))
    return _Axes(age_low, age_high, float(np.ceil(peak / 40) * 40))


def _class_bands(axes: _Axes, thresholds: DensityThresholds) -> list[str]:
    parts = []
    low, high = thresholds.osteoporosis_below, thresholds.normal_above
    for (status, fill), start, end in zip(_BANDS, (0.0, low, high), (low, high, axes.peak), strict=True):
        top, bottom = axes.y(end), axes.y(start)
        parts.append(rect(axes.left, top, axes.right - axes.left, bottom - top, fill))
        parts.append(text(axes.right + 8, (bottom + top) / 2 + 4, status.value, 12, _LABEL))
    for cutoff in (low, high):
        parts.append(line(axes.left, axes.y(cutoff), axes.right, axes.y(cutoff), "#7a6f5a", 1, "6 3"))
        parts.append(text(axes.right + 8, axes.y(cutoff) + 4, f"{cutoff:g}", 11, "#555555"))
    return parts


def _scales(axes: _Axes, standard: MineralStandard) -> list[str]:
    parts = []
    for mark in range(0, int(axes.peak) + 1, 40):
        parts.append(line(axes.left - 4, axes.y(mark), axes.left, axes.y(mark), "#555555", 1))
        parts.append(text(axes.left - 8, axes.y(mark) + 4, f"{mark}", 11, _LABEL, "end"))
    for age in range(20, int(axes.age_high) + 1, 10):
        parts.append(line(axes.x(age), axes.bottom, axes.x(age), axes.bottom + 4, "#555555", 1))
        parts.append(text(axes.x(age), axes.bottom + 18, f"{age}", 11, _LABEL, "middle"))
    parts.append(text((axes.left + axes.right) / 2, axes.height - 8, "age (years)", 12, _LABEL, "middle"))
    title = escape(f"density (mg/cm³ {standard})")
    parts.append(
        f'<text transform="translate(14 {(axes.top + axes.bottom) / 2:.1f}) rotate(-90)" text-anchor="middle" '
        f'font-size="12" fill="{_LABEL}">{title}</text>'
    )
    return parts


def _norm_blocks(axes: _Axes, sex: Sex, both: bool, age_years: float | None) -> list[str]:
    parts = []
    for norm in DENSITY_NORMS:
        if norm.sex is not sex:
            continue
        x1, x2 = axes.x(norm.age_low), axes.x(norm.age_high)
        if both:  # one half of the decade each, so that neither covers the other
            x1, x2 = (x1, (x1 + x2) / 2) if sex is Sex.FEMALE else ((x1 + x2) / 2, x2)
        colour = _SEX_COLOUR[sex]
        in_decade = age_years is not None and norm.age_low <= age_years < norm.age_high
        for sds, opacity in ((2, 0.14), (1, 0.34 if in_decade else 0.24)):
            high, low = axes.y(norm.mean + sds * norm.sd), axes.y(norm.mean - sds * norm.sd)
            parts.append(rect(x1 + 1, high, x2 - x1 - 2, low - high, colour, opacity=opacity))
        dash = "" if sex is Sex.FEMALE else "7 3"
        parts.append(line(x1 + 1, axes.y(norm.mean), x2 - 1, axes.y(norm.mean), colour, 2.2, dash))
    return parts


def _norm_legend(sexes: Sequence[Sex], both: bool, right: float) -> list[str]:
    parts = []
    for row, sex in enumerate(sexes):
        y = 28.0 + 17 * row
        side = (" (left of each decade)" if sex is Sex.FEMALE else " (right of each decade)") if both else ""
        title = f"{_PLURAL[sex]}, mean by decade{side}"
        start = right - 12 - 6.4 * len(title) - 34
        parts.append(rect(start - 6, y - 13, right - start - 2, 17, "#ffffff", opacity=0.85))
        parts.append(line(start, y - 4, start + 26, y - 4, _SEX_COLOUR[sex], 2.2, "" if sex is Sex.FEMALE else "7 3"))
        parts.append(text(start + 32, y, title, 11, "#222222"))
    return parts


def _bar(x: float, high: float, low: float, half: float, colour: str) -> list[str]:
    caps = line(x - half, high, x + half, high, colour, 2) + line(x - half, low, x + half, low, colour, 2)
    return [line(x, high, x, low, colour, 2), caps]


def _point(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}" stroke="#ffffff" stroke-width="1.5"/>'


def _diamond(x: float, y: float, colour: str) -> str:
    return f'<path d="M{x:.1f} {y - 7:.1f}l6 7l-6 7l-6 -7Z" fill="{colour}" stroke="#ffffff" stroke-width="1.5"/>'


def _across_all_ages(axes: _Axes, density: Density) -> list[str]:
    low, middle, high = axes.y(density.interval_low), axes.y(density.mg_cm3), axes.y(density.interval_high)
    return [
        rect(axes.left, high, axes.right - axes.left, low - high, _INK, opacity=0.10),
        line(axes.left, middle, axes.right, middle, _INK, 2),
    ]


def _measured_mark(axes: _Axes, density: Density, title: str, age: float | None) -> list[str]:
    low, middle, high = axes.y(density.interval_low), axes.y(density.mg_cm3), axes.y(density.interval_high)
    if age is None:
        title_at_left = text(
            axes.left + 8, middle - 6, f"{title} (age unknown)", 12, _INK, weight="bold", halo="#ffffff"
        )
        return [*_across_all_ages(axes, density), title_at_left]
    x = axes.x(age)
    right_half = x > (axes.left + axes.right) / 2
    start, anchor = (x - 12, "end") if right_half else (x + 12, "start")
    return [
        *_bar(x, high, low, 6, _INK),
        _point(x, middle, _INK),
        text(start, middle + 4, title, 12, _INK, anchor, "bold", "#ffffff"),
    ]


def _two_marks(
    axes: _Axes, densities: tuple[Density, Density], titles: tuple[str, str], age: float | None
) -> list[str]:
    """Draw the measured density as a point and the one by regression as a diamond, with titles that do not overlap.

    With unknown age both are lines across all ages, their intervals at the right end.
    """
    heights = _title_heights(axes, densities, age is None)
    parts: list[str] = []
    if age is None:
        middle = axes.y(densities[1].mg_cm3)
        parts += _across_all_ages(axes, densities[0])
        parts.append(line(axes.left, middle, axes.right, middle, _REGRESSION, 2, "8 4"))
    x = axes.right - 16 if age is None else axes.x(age)
    right_half = x > (axes.left + axes.right) / 2
    if age is None:
        start, anchor, tail = axes.left + 8, "start", " (age unknown)"
    else:
        start, anchor, tail = (x - 20, "end", "") if right_half else (x + 20, "start", "")
    marks = ((_INK, x - 7, _point), (_REGRESSION, x + 7, _diamond))
    for density, title, height, (colour, u, mark) in zip(densities, titles, heights, marks, strict=True):
        parts += _bar(u, axes.y(density.interval_high), axes.y(density.interval_low), 5, colour)
        parts.append(mark(u, axes.y(density.mg_cm3), colour))
        parts.append(text(start, height + 4, title + tail, 12, colour, anchor, "bold", "#ffffff"))
    return parts


def _title_heights(axes: _Axes, densities: tuple[Density, Density], on_lines: bool) -> list[float]:
    """Return the y of each title: that of its density, moved apart where they are close, and off the lines."""
    middles = [axes.y(d.mg_cm3) for d in densities]
    heights = list(middles)
    if abs(middles[0] - middles[1]) < 15:
        above = 0 if middles[0] < middles[1] or densities[0].mg_cm3 > densities[1].mg_cm3 else 1
        centre = sum(middles) / 2
        heights[above], heights[1 - above] = centre - 7.5, centre + 7.5
    if on_lines:
        above = 0 if heights[0] < heights[1] else 1
        heights[above], heights[1 - above] = heights[above] - 8, heights[1 - above] + 8
    return heights
