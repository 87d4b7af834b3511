"""Risks with their intervals and cut-offs on one scale."""

from collections.abc import Sequence

from osteo_monai.reporting.drawing import FULL_WIDTH, Picture, line, rect, svg, text
from osteo_monai.reporting.wording import RISK_NAMES, chance_words
from osteo_monai.screening.result import RiskOpinion

__all__ = ["risk_picture"]

_LEFT, _RIGHT, _TOP, _STEP = 196.0, FULL_WIDTH - 150.0, 26.0, 30.0


def _x(probability: float) -> float:
    return _LEFT + probability * (_RIGHT - _LEFT)


def risk_picture(opinions: Sequence[RiskOpinion]) -> Picture:
    """Draw each calibrated risk with its 90 % interval and cut-off, and the prevalence in the calibration cohort."""
    shown = [
        (o, o.probability, o.low, o.high)
        for o in opinions
        if o.probability is not None and o.low is not None and o.high is not None
    ]
    bottom = _TOP + _STEP * len(shown)
    prevalence = next((o.prevalence for o, *_ in shown if o.prevalence is not None), None)
    parts = _scale(bottom, prevalence)
    values = []
    for k, (opinion, probability, low, high) in enumerate(shown):
        value = f"{chance_words(probability, opinion.cutoff)} ({chance_words(low)} to {chance_words(high)})"
        parts += _row(opinion, (probability, low, high), _TOP + _STEP * (k + 0.5), value)
        values.append(f"{RISK_NAMES[opinion.name]} {value}")
    caption = (
        "Points: risks; bars: 90 % intervals; vertical strokes: cut-offs, at or above which a risk is raised (red)."
    )
    if prevalence is not None:
        caption += " Dotted: prevalence of osteoporosis in the calibration cohort."
    return Picture(
        svg(FULL_WIDTH, bottom + 42, parts),
        f"Risks with their 90 % intervals on a scale from 0 to 100 %: {'; '.join(values)}.",
        caption,
    )


def _scale(bottom: float, prevalence: float | None) -> list[str]:
    parts = [rect(0, 0, FULL_WIDTH, bottom + 42, "#ffffff")]
    for mark in range(0, 101, 20):
        x = _x(mark / 100)
        parts.append(line(x, _TOP, x, bottom, "#e1e6ea", 1))
        parts.append(text(x, bottom + 16, f"{mark} %", 11, "#333333", "middle"))
    parts.append(text((_LEFT + _RIGHT) / 2, bottom + 34, "risk of osteoporosis", 12, "#333333", "middle"))
    if prevalence is not None:
        x = _x(prevalence)
        parts.append(line(x, _TOP - 6, x, bottom, "#51606d", 1, "2 3"))
        parts.append(text(x, _TOP - 11, f"all: {chance_words(prevalence)}", 11, "#51606d", "middle"))
    return parts


def _row(opinion: RiskOpinion, values: tuple[float, float, float], y: float, value: str) -> list[str]:
    probability, low, high = values
    colour = "#9d3328" if opinion.raised else "#1d4e73"
    parts = [text(_LEFT - 12, y + 4, RISK_NAMES[opinion.name], 12, "#1b242c", "end")]
    if opinion.cutoff is not None:
        parts.append(line(_x(opinion.cutoff), y - 11, _x(opinion.cutoff), y + 11, "#b07500", 2))
    parts.append(line(_x(low), y, _x(high), y, colour, 3))
    parts.append(f'<circle cx="{_x(probability):.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
    parts.append(text(_RIGHT + 12, y + 4, value, 11, "#1b242c"))
    return parts
