"""What the report of a radiograph says and shows: the risk in words, its scale, and where the network looked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.reporting.drawing import (
    FULL_WIDTH,
    PIXELS_PER_UNIT,
    Picture,
    embedded_picture,
    heat_colours,
    heated,
    label,
    line,
    rect,
    svg,
    text,
)
from osteo_monai.reporting.wording import TIMES, chance_words, missing_words
from osteo_monai.screening.images import RadiographImage, RadiographImages
from osteo_monai.screening.result import RadiographRisk, RiskModelName, RiskOpinion, ScreeningResult

VERDICTS = {
    "accepted": ("Accepted", "All quality checks were passed."),
    "accepted_with_warnings": ("Accepted with warnings", "An answer is given; read the warnings before using it."),
    "refused": ("Refused", "No risk is given for this study."),
    "unusable": ("Unusable input", "The input could not be read, so nothing was judged."),
}

_NAMES: dict[RiskModelName, str] = {
    "chest_frontal": "Chest radiograph",
    "lumbar_ap": "Lumbar AP radiograph",
    "lumbar_lateral": "Lumbar lateral radiograph",
    "fused": "Lumbar AP and lateral, fused",
    "combined": "Radiograph and person",
    "clinical": "Person alone",
}

_MADE: dict[RiskModelName, str] = {
    "chest_frontal": "a network sees 6 \N{MULTIPLICATION SIGN} 6 patches of the radiograph (Li 2026)",
    "lumbar_ap": "a network sees the whole radiograph (Boonrod 2025)",
    "lumbar_lateral": "a network sees the whole radiograph (Boonrod 2025)",
    "fused": "mean of the logits of both views",
    "combined": "boosted trees on age, sex, height, weight and the network's answer (Li 2026)",
    "clinical": "boosted trees on age, sex, height and weight",
}

_VIEWS = {"chest_frontal": "Frontal chest", "lumbar_ap": "Lumbar AP", "lumbar_lateral": "Lumbar lateral"}

_MAP_NOTE = {
    "heat": "Grad-CAM",
    "attention": "attention of the token",
}

MIN_EXCESS = 0.1
"""Attention more even than this would show noise alone; the project's choice."""

HEAT_MAP_HEIGHT = 800
"""Pixels of ``heat_map.png``, which shows where to look and is not for reading the radiograph."""


def risk_context(result: ScreeningResult, images: RadiographImages | None) -> dict[str, Any]:
    """Return what the template of radiographs needs beside what all reports share."""
    measured = result.verdict in ("accepted", "accepted_with_warnings")
    found = result.radiograph if measured else None
    opinions = [] if found is None else _opinions(found)
    return {
        "title": _title(found),
        "key": None if found is None else [_risk_box(found), _cutoff_box(found), _combined_box(found)],
        "population": "" if found is None else _population(found),
        "pictures": None if images is None else radiograph_picture(images, measured),
        "scale": risk_picture(opinions) if any(o.probability is not None for o in opinions) else None,
        "rows": [_row(o) for o in opinions],
        "absent": [] if found is None else _absent(found),
        "trained_on": None if found is None else found.trained_on.rstrip(". ") + ".",
        "acquisition": [] if found is None else _acquisition(found),
    }


def _title(found: RadiographRisk | None) -> str:
    views = [] if found is None else [_VIEWS[r.view].lower().replace(" ap", " AP") for r in found.radiographs]
    return f"Opportunistic risk from a {' and a '.join(views)} radiograph" if views else "Opportunistic risk"


# --- words --------------------------------------------------------------------------------------------------------


def _risk_box(found: RadiographRisk) -> dict[str, str]:
    risk = found.risk
    heading = f"Risk of osteoporosis, {_NAMES[risk.name][0].lower()}{_NAMES[risk.name][1:]}"
    if risk.probability is None:
        return {
            "heading": "Score, not calibrated",
            "value": f"{risk.score:.2f}",
            "text": "What the network answers, 0 to 1: no probability, and no interval or cut-off is known.",
        }
    return {"heading": heading, "value": chance_words(risk.probability, risk.cutoff), "text": _interval(risk)}


def _interval(risk: RiskOpinion) -> str:
    if risk.low is None or risk.high is None:
        return "No interval is given."
    return f"90 % interval {chance_words(risk.low)} to {chance_words(risk.high)}"


def _cutoff_box(found: RadiographRisk) -> dict[str, str]:
    risk = found.risk
    box = {"heading": "Against the screening cut-off", "value": "None", "text": "No cut-off is known."}
    if risk.cutoff is None or risk.probability is None:
        return box
    cut = f"Cut-off {chance_words(risk.cutoff)}, which nine of ten people with osteoporosis reached in the calibration."
    if risk.low is not None and risk.high is not None and risk.low < risk.cutoff <= risk.high:
        cut += " The 90 % interval reaches to both sides of it."
    if risk.raised:
        return box | {"value": "Raised", "text": f"{cut} Confirm by DXA.", "kind": "raised"}
    return box | {"value": "Not raised", "text": f"{cut} One of ten did not: osteoporosis is not excluded."}


def _combined_box(found: RadiographRisk) -> dict[str, str]:
    heading = "With age, sex, height and weight"
    one = found.combined
    if one is None:
        return {"heading": heading, "value": "Not given", "text": found.combined_absent or ""}
    if one.probability is None:
        return {"heading": f"{heading}: score", "value": f"{one.score:.2f}", "text": "Not calibrated."}
    words = {True: "raised", False: "not raised", None: "no cut-off is known"}[one.raised]
    at = "" if one.cutoff is None else f" at its cut-off of {chance_words(one.cutoff)}"
    return {
        "heading": heading,
        "value": chance_words(one.probability, one.cutoff),
        "text": f"{_interval(one)}; {words}{at}.",
    }


def _population(found: RadiographRisk) -> str:
    risk = found.risk
    if risk.prevalence is None or risk.people is None:
        return ""
    who = "virtual people" if risk.virtual else "people"
    return (
        f"A risk here is that of {who} with such a picture among {risk.people}, of whom "
        f"{chance_words(risk.prevalence)} had osteoporosis (DXA, T-score of \N{MINUS SIGN}2.5 or less). "
        "Where osteoporosis is rarer the same picture means a lower risk, where it is commoner a higher one. "
        "The interval is that of the mean over people with the same picture, not of one person or another hospital."
    )


def _opinions(found: RadiographRisk) -> list[RiskOpinion]:
    return [*found.views, found.risk, *(o for o in (found.clinical, found.combined) if o is not None)]


def _row(one: RiskOpinion) -> dict[str, str]:
    calibrated = one.probability is not None
    who = "" if one.people is None else f"{one.people} {'virtual people' if one.virtual else 'people'}"
    return {
        "name": _NAMES[one.name],
        "risk": chance_words(one.probability, one.cutoff) if one.probability is not None else "not calibrated",
        "detail": _interval(one) if calibrated else "",
        "cutoff": "none" if one.cutoff is None else chance_words(one.cutoff),
        "raised": {True: "raised", False: "not raised", None: ""}[one.raised],
        "score": f"{one.score:.3f}",
        "made": _MADE[one.name],
        "people": who or "nobody",
        "prevalence": "" if one.prevalence is None else f"{chance_words(one.prevalence)} with osteoporosis",
    }


def _absent(found: RadiographRisk) -> list[tuple[str, str]]:
    given = (("clinical", found.clinical, found.clinical_absent), ("combined", found.combined, found.combined_absent))
    names: dict[str, str] = {"clinical": _NAMES["clinical"], "combined": _NAMES["combined"]}
    return [(names[key], reason) for key, one, reason in given if one is None and reason]


def _acquisition(found: RadiographRisk) -> list[tuple[str, str]]:
    person = found.person

    def fact(name: str, value: float | None, unit: str) -> tuple[str, str]:
        source = " (given)" if name.lower() in person.given else ""
        return name, "unknown" if value is None else f"{value:g} {unit}{source}"

    sex = {"F": "female", "M": "male", None: "unknown"}[person.sex]
    rows = [
        fact("Age", None if person.age_years is None else float(int(person.age_years)), "years"),
        ("Sex", sex + (" (given)" if "sex" in person.given else "")),
        fact("Height", person.height_cm, "cm"),
        fact("Weight", person.weight_kg, "kg"),
    ]
    several = len(found.radiographs) > 1
    for one in found.radiographs:
        spacing = "not stated" if one.spacing_mm is None else f" {TIMES} ".join(f"{s:.3g}" for s in one.spacing_mm)
        chest = one.view == "chest_frontal"
        device = " ".join(word for word in (one.manufacturer, one.model) if word)
        part = [
            ("Radiograph", _VIEWS[one.view] + (f", {one.view_position}" if chest and one.view_position else "")),
            ("File", f"{one.source} ({one.source_format})"),
            ("Pixels", f"{one.rows} {TIMES} {one.columns}"),
            ("Pixel", spacing if one.spacing_mm is None else f"{spacing} mm"),
            ("Tube voltage", "not stated" if one.kvp is None else f"{one.kvp:g} kVp"),
            ("Device", missing_words(device)),
        ]
        for name, value in (("Exposure index", one.exposure_index), ("Deviation index", one.deviation_index)):
            if value is not None:
                part.append((name, f"{value:g}"))
        rows += part[:3] if several else part
    return rows


# --- pictures -----------------------------------------------------------------------------------------------------


def radiograph_picture(images: RadiographImages, judged: bool = True) -> Picture:
    """Draw each radiograph, beside it its Grad-CAM, and of a Transformer what its token attends to.

    Args:
        images: what to draw; maps that are absent are left out.
        judged: whether the maps are to be shown at all.
    """
    shown = [(image, key) for image in images.images for key in _keys(image, judged)]
    gap, bar = 8.0, 44.0 if any(key for _, key in shown) else 0.0
    room = FULL_WIDTH - bar - gap * (len(shown) - 1)
    # one height for all: the widths follow from the aspects and fill the page, unless that makes them too tall
    height = min(room / sum(1 / image.aspect for image, _ in shown), 360.0)
    widths = [height / image.aspect for image, _ in shown]
    left = (FULL_WIDTH - bar - sum(widths) - gap * (len(shown) - 1)) / 2
    parts = [rect(0, 0, FULL_WIDTH, height + 20, "#ffffff")]
    panels = _panels(images, judged, round(height * PIXELS_PER_UNIT))
    for (image, key), rgb, width in zip(shown, panels, widths, strict=True):
        parts.append(embedded_picture(rgb, left, 0, width, height))
        if not key:
            parts += (
                [label(left + 7, height / 2, "R", 13, "bold")] if image.view in ("chest_frontal", "lumbar_ap") else []
            )
        words = _MAP_NOTE[key] if key else _VIEWS.get(image.view, "Radiograph")
        parts.append(text(left + width / 2, height + 15, words, 11, "#333333", "middle"))
        left += width + gap
    if bar:
        steps = heat_colours(np.linspace(1, 0, 40, dtype=np.float32))
        top, tall = 22.0, (height - 44) / len(steps)
        for k, (r, g, b) in enumerate(steps.astype(int)):
            parts.append(rect(left, top + k * tall, 12, tall + 0.3, f"#{r:02x}{g:02x}{b:02x}"))
        parts += [text(left, top - 7, "most", 11, "#333333"), text(left, height - 8, "none", 11, "#333333")]
    views = " and ".join(_VIEWS.get(i.view, i.view).lower() for i in images.images)
    keys = {key for _, key in shown if key}
    return Picture(
        svg(FULL_WIDTH, height + 20, parts),
        f"Radiograph, {views}"
        + (f", beside it under {' and '.join(_MAP_NOTE[k] for k in sorted(keys))}." if keys else "."),
        _caption(images, keys),
    )


def _caption(images: RadiographImages, keys: set[str]) -> str:
    if not keys:
        return "The picture as it was read. No network has judged it."
    words = "Grad-CAM: what spoke for osteoporosis in the network's last map, coarse, each by its own largest value. "
    if any(image.heat is not None and not image.heat.any() for image in images.images):
        words += "In a map without colour nothing spoke for it. "
    for image in images.images:
        excess = _excess(image.attention)
        if excess is not None:
            words += (
                f"Attention: patches with more than an even share of the answer, up to {1 + excess.max():.1f} times. "
                if excess.any()
                else "Attention: all patches have about an even share of the answer. "
            )
    return words + "No map shows where bone is diseased."


def _keys(image: RadiographImage, judged: bool) -> list[str]:
    """What is drawn of a radiograph, from left to right: itself (an empty word) and its maps."""
    maps = (("heat", image.heat), ("attention", image.attention)) if judged else ()
    return ["", *(key for key, one in maps if one is not None)]


def _panels(images: RadiographImages, judged: bool, rows: int) -> list[NDArray[np.float32]]:
    """Each picture to draw, in the order of ``_keys``, as RGB of so many rows and square pixels."""
    found = []
    for image in images.images:
        small = _reduced(image.pixels, image.aspect, rows)
        grey = np.repeat(np.clip(small, 0, 1)[..., None], 3, axis=2)
        maps = {"heat": image.heat, "attention": _excess(image.attention)}
        for key in _keys(image, judged):
            one = maps.get(key)
            if one is None:
                found.append(grey)
                continue
            heat = _reduced(one, image.aspect, rows)
            peak = float(heat.max())
            found.append(heated(grey, heat / peak if peak > 0 else heat, floor=0.0, strength=0.6))
    return found


def _excess(attention: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """By how much, as a part of it, each patch has more than an even share; 0 where less, or where all are alike."""
    if attention is None:
        return None
    even = float(attention.mean())
    excess = np.clip(attention / even - 1, 0, None) if even > 0 else np.zeros_like(attention)
    return excess.astype(np.float32) if excess.max() >= MIN_EXCESS else np.zeros_like(excess, np.float32)


def _reduced(plane: NDArray[np.float32], aspect: float, rows: int) -> NDArray[np.float32]:
    """A plane (rows, columns) at so many rows and square pixels."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((max(1, round(rows / aspect)), rows), Image.Resampling.BILINEAR), np.float32)


def write_heat_map(images: RadiographImages, path: Path) -> None:
    """Write the radiographs beside their maps as one PNG of ``HEAT_MAP_HEIGHT`` rows.

    Raises:
        OSError: if ``path`` cannot be written.
    """
    from PIL import Image

    gap = np.ones((HEAT_MAP_HEIGHT, 10, 3), np.float32)
    row: list[NDArray[np.float32]] = []
    for rgb in _panels(images, True, HEAT_MAP_HEIGHT):
        row += [gap, rgb]
    joined = np.concatenate(row[1:], axis=1)
    # little compression: the file stays near 1 MB, and is written several times faster
    Image.fromarray((np.clip(joined, 0, 1) * 255).round().astype(np.uint8)).save(path, format="PNG", compress_level=2)


def risk_picture(opinions: Sequence[RiskOpinion]) -> Picture:
    """Draw each calibrated risk with its interval and cut-off on one scale, and the prevalence that it started from."""
    shown = [
        (o, o.probability, o.low, o.high)
        for o in opinions
        if o.probability is not None and o.low is not None and o.high is not None
    ]
    width, step, top = FULL_WIDTH, 30.0, 26.0
    left, right, bottom = 196.0, FULL_WIDTH - 150.0, top + step * len(shown)

    def x(p: float) -> float:
        return left + p * (right - left)

    parts = [rect(0, 0, width, bottom + 42, "#ffffff")]
    for mark in range(0, 101, 20):
        parts.append(line(x(mark / 100), top, x(mark / 100), bottom, "#e1e6ea", 1))
        parts.append(text(x(mark / 100), bottom + 16, f"{mark} %", 11, "#333333", "middle"))
    parts.append(text((left + right) / 2, bottom + 34, "risk of osteoporosis", 12, "#333333", "middle"))
    prevalence = next((o.prevalence for o, *_ in shown if o.prevalence is not None), None)
    if prevalence is not None:
        parts.append(line(x(prevalence), top - 6, x(prevalence), bottom, "#51606d", 1, "2 3"))
        parts.append(text(x(prevalence), top - 11, f"all: {chance_words(prevalence)}", 11, "#51606d", "middle"))
    told = []
    for k, (one, probability, low, high) in enumerate(shown):
        y = top + step * (k + 0.5)
        colour = "#9d3328" if one.raised else "#1d4e73"
        parts.append(text(left - 12, y + 4, _NAMES[one.name], 12, "#1b242c", "end"))
        if one.cutoff is not None:
            parts.append(line(x(one.cutoff), y - 11, x(one.cutoff), y + 11, "#b07500", 2))
        parts.append(line(x(low), y, x(high), y, colour, 3))
        parts.append(f'<circle cx="{x(probability):.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        words = f"{chance_words(probability, one.cutoff)} ({chance_words(low)} to {chance_words(high)})"
        parts.append(text(right + 12, y + 4, words, 11, "#1b242c"))
        told.append(f"{_NAMES[one.name]} {words}")
    return Picture(
        svg(width, bottom + 42, parts),
        f"Risks with their 90 % intervals on a scale from 0 to 100 %: {'; '.join(told)}.",
        "Points: risks; bars: 90 % intervals; upright strokes: the cut-off of each, at or above which a risk is raised "
        "(red)."
        + ("" if prevalence is None else " Dotted: share of osteoporosis among all people of the calibration."),
    )
