"""Radiographs beside their Grad-CAM and attention maps."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from osteo_monai.reporting.drawing import (
    FULL_WIDTH,
    PIXELS_PER_UNIT,
    Picture,
    embedded_picture,
    heat_legend,
    heated,
    label,
    rect,
    svg,
    text,
)
from osteo_monai.reporting.wording import VIEW_NAMES
from osteo_monai.screening.images import RadiographImage, RadiographImages
from osteo_monai.utils.files import writing

__all__ = ["HEAT_MAP_HEIGHT", "MIN_EXCESS", "heat_map", "radiograph_picture", "write_heat_map"]

Content = Literal["image", "heat", "attention"]

_MAP_NAMES: dict[Content, str] = {"heat": "Grad-CAM", "attention": "attention"}
_SIDED_VIEWS = ("chest_frontal", "lumbar_ap")
"""Views that have a right and a left side."""

MIN_EXCESS = 0.1
"""Attention closer than this to an even distribution shows noise only; the project's choice."""

HEAT_MAP_HEIGHT = 800
"""Rows of ``heat_map.png``, which is an overview and not for reading the radiograph."""

_GAP, _LEGEND = 8.0, 44.0


def radiograph_picture(images: RadiographImages, with_maps: bool = True) -> Picture:
    """Draw each radiograph and beside it its Grad-CAM map, and the attention map of a Transformer.

    Args:
        images: what to draw; missing maps are left out.
        with_maps: whether to draw maps at all.
    """
    shown = [(image, content) for image in images.images for content in _contents(image, with_maps)]
    legend = _LEGEND if any(content != "image" for _, content in shown) else 0.0
    available = FULL_WIDTH - legend - _GAP * (len(shown) - 1)
    # one height for all: widths follow from the aspect ratios and fill the page, unless the images become too tall
    height = min(available / sum(1 / image.aspect for image, _ in shown), 360.0)
    widths = [height / image.aspect for image, _ in shown]
    left = (available - sum(widths)) / 2
    parts = [rect(0, 0, FULL_WIDTH, height + 20, "#ffffff")]
    panels = _panels(images, with_maps, round(height * PIXELS_PER_UNIT))
    for (image, content), rgb, width in zip(shown, panels, widths, strict=True):
        parts.append(embedded_picture(rgb, left, 0, width, height))
        if content == "image" and image.view in _SIDED_VIEWS:
            parts.append(label(left + 7, height / 2, "R", 13, "bold"))
        title = VIEW_NAMES.get(image.view, "Radiograph") if content == "image" else _MAP_NAMES[content]
        parts.append(text(left + width / 2, height + 15, title, 11, "#333333", "middle"))
        left += width + _GAP
    if legend:
        parts += heat_legend(left, height)
    views = " and ".join(VIEW_NAMES.get(i.view, i.view).lower() for i in images.images)
    maps = sorted({content for _, content in shown} - {"image"})
    beside = f", beside it under {' and '.join(_MAP_NAMES[m] for m in maps)}." if maps else "."
    return Picture(svg(FULL_WIDTH, height + 20, parts), f"Radiograph, {views}{beside}", _caption(images, bool(maps)))


def _caption(images: RadiographImages, with_maps: bool) -> str:
    if not with_maps:
        return "The image as read. No network has evaluated it."
    sentences = [
        "Grad-CAM: image areas that support osteoporosis, from the last feature map of the network; coarse, each map "
        "scaled by its own maximum."
    ]
    if any(image.heat is not None and not image.heat.any() for image in images.images):
        sentences.append("A map without colour has no such area.")
    for image in images.images:
        excess = _excess(image.attention)
        if excess is not None and excess.any():
            peak = 1 + excess.max()
            sentences.append(f"Attention: patches with more than an even share of the output, up to {peak:.1f} times.")
        elif excess is not None:
            sentences.append("Attention: all patches have about an even share of the output.")
    return " ".join([*sentences, "No map shows where bone is diseased."])


def _contents(image: RadiographImage, with_maps: bool) -> list[Content]:
    """Return what is drawn of a radiograph from left to right: itself and the maps that exist."""
    maps: tuple[tuple[Content, object], ...] = (("heat", image.heat), ("attention", image.attention))
    return ["image", *(content for content, values in maps if with_maps and values is not None)]


def _panels(images: RadiographImages, with_maps: bool, rows: int) -> list[NDArray[np.float32]]:
    """Return each image to draw, in the order of ``_contents``, as RGB with ``rows`` rows and square pixels."""
    panels = []
    for image in images.images:
        small = _resized(image.pixels, image.aspect, rows)
        grey = np.repeat(np.clip(small, 0, 1)[..., None], 3, axis=2)
        maps = {"heat": image.heat, "attention": _excess(image.attention)}
        for content in _contents(image, with_maps):
            values = maps.get(content)
            if values is None:
                panels.append(grey)
                continue
            heat = _resized(values, image.aspect, rows)
            peak = float(heat.max())
            panels.append(heated(grey, heat / peak if peak > 0 else heat, floor=0.0, strength=0.6))
    return panels


def _excess(attention: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """Return by which fraction each patch exceeds an even share; 0 below it, and everywhere if all are about even."""
    if attention is None:
        return None
    even = float(attention.mean())
    excess = np.clip(attention / even - 1, 0, None) if even > 0 else np.zeros_like(attention)
    return excess.astype(np.float32) if excess.max() >= MIN_EXCESS else np.zeros_like(excess, np.float32)


def _resized(plane: NDArray[np.float32], aspect: float, rows: int) -> NDArray[np.float32]:
    """Return a plane (rows, columns) resampled to ``rows`` rows and square pixels."""
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((max(1, round(rows / aspect)), rows), Image.Resampling.BILINEAR), np.float32)


def heat_map(images: RadiographImages) -> NDArray[np.uint8]:
    """Return the radiographs beside their maps as RGB (rows, columns, 3) of ``HEAT_MAP_HEIGHT`` rows."""
    gap = np.ones((HEAT_MAP_HEIGHT, 10, 3), np.float32)
    row: list[NDArray[np.float32]] = []
    for rgb in _panels(images, True, HEAT_MAP_HEIGHT):
        row += [gap, rgb]
    return (np.clip(np.concatenate(row[1:], axis=1), 0, 1) * 255).round().astype(np.uint8)


def write_heat_map(images: RadiographImages, path: Path) -> None:
    """Write :func:`heat_map` as PNG.

    Raises:
        OSError: if ``path`` cannot be written.
    """
    with writing(path) as temporary:
        # low compression: the file stays near 1 MB and is written several times faster
        Image.fromarray(heat_map(images)).save(temporary, format="PNG", compress_level=2)
