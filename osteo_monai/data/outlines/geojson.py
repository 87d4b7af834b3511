"""Polygons of a GeoJSON file as QuPath exports it, drawn as a mask.

Coordinates are pixels with the origin at the top left corner of the image (QuPath's documentation, "Exporting
annotations"): pixel (x, y) covers x to x + 1 and y to y + 1. A feature has its class as ``properties.classification``
with ``name``, or ``names`` since QuPath 0.4.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.inputs import read_input

__all__ = ["LevelOf", "masks_of_geojson"]

LevelOf: TypeAlias = Callable[[str | None], VertebraLevel]
"""Return the level of a class name, ``None`` without one; raises ``UnusableInputError`` for an unknown name."""

Ring: TypeAlias = NDArray[np.float64]
"""Corners of an outline, (n, 2) as x and y, without the repeated last one."""

_IGNORED_SUFFIX = "*"
"""QuPath marks classes that are to be ignored by this last character."""


def masks_of_geojson(path: Path, size: tuple[int, int], level_of: LevelOf) -> Mapping[VertebraLevel, NDArray[np.bool_]]:
    """Return one mask (columns, rows) a level: the pixels whose centre is inside a polygon and in none of its holes.

    Args:
        path: a FeatureCollection, a list of features, or one feature. Classes that QuPath ignores (``Ignore*``) are
            left out.
        size: columns and rows of the image.
        level_of: level of a class.

    Raises:
        UnusableInputError: the file is not GeoJSON; a feature is no polygon, has an unknown class, is empty, crosses
            itself or is not inside the image.
    """
    masks: dict[VertebraLevel, NDArray[np.bool_]] = {}
    for feature in _features(path):
        name = _class_name(feature)
        if name is not None and name.endswith(_IGNORED_SUFFIX):
            continue
        level = level_of(name)
        inside = masks.setdefault(level, np.zeros(size, bool))
        for rings in _polygons(feature):
            inside |= _filled(rings, size)
    if not masks:
        raise UnusableInputError("The GeoJSON file must have at least one polygon, got none.")
    return masks


def _features(path: Path) -> list[Mapping[str, Any]]:
    try:
        content = json.loads(read_input(path))
    except (OSError, ValueError, RecursionError):
        raise UnusableInputError("The outlines cannot be read as GeoJSON.") from None
    if isinstance(content, dict):
        features = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    else:
        features = content
    if not isinstance(features, list) or not all(isinstance(f, dict) and f.get("type") == "Feature" for f in features):
        raise UnusableInputError("The outlines must be a GeoJSON FeatureCollection, got other JSON.")
    return features


def _class_name(feature: Mapping[str, Any]) -> str | None:
    properties = feature.get("properties")
    stated = properties.get("classification") if isinstance(properties, dict) else None
    if not isinstance(stated, dict):
        return None
    names = stated.get("names")
    name = stated.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else None)
    return str(name) if name else None


def _polygons(feature: Mapping[str, Any]) -> Iterator[list[Ring]]:
    """Yield the rings of each polygon, the outer one first."""
    geometry = feature.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in ("Polygon", "MultiPolygon"):
        raise UnusableInputError(f"An outline must be a Polygon or MultiPolygon, got {kind or 'no geometry'}.")
    coordinates = geometry.get("coordinates")  # type: ignore[union-attr]
    polygons = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(polygons, list) or not polygons:
        raise UnusableInputError("An outline must have coordinates, got none.")
    for polygon in polygons:
        if not isinstance(polygon, list) or not polygon:
            raise UnusableInputError("An outline must have coordinates, got none.")
        yield [_ring(corners) for corners in polygon]


def _ring(corners: Any) -> Ring:
    try:
        ring = np.array([[float(corner[0]), float(corner[1])] for corner in corners])
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        raise UnusableInputError("Corners of an outline must be pairs of numbers, got other values.") from None
    if len(ring) > 1 and np.array_equal(ring[0], ring[-1]):
        ring = ring[:-1]
    if len(ring):
        ring = ring[np.any(ring != np.roll(ring, 1, axis=0), axis=1)]  # repeated corners
    if len(ring) < 3:
        raise UnusableInputError(f"An outline must have at least 3 different corners, got {len(ring)}.")
    if not np.isfinite(ring).all():
        raise UnusableInputError("Corners of an outline must be finite numbers.")
    return ring


def _filled(rings: list[Ring], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels inside the outer ring and in no hole."""
    for ring in rings:
        low, high = ring.min(0), ring.max(0)
        if low.min() < 0 or high[0] > size[0] or high[1] > size[1]:
            x, y = next((x, y) for x, y in ring.tolist() if not (0 <= x <= size[0] and 0 <= y <= size[1]))
            raise UnusableInputError(
                f"An outline must be inside its image of {size[0]} x {size[1]} pixels, got the corner ({x:g}, {y:g}): "
                "it may belong to another image."
            )
        if (at := _crossing(ring)) is not None:
            raise UnusableInputError(f"An outline must not cross itself, got a crossing near ({at[0]:g}, {at[1]:g}).")
    from matplotlib.path import Path as Outline  # late: tables are read without it

    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5, indexing="ij")
    centres = np.stack([x.ravel(), y.ravel()], 1)
    inside = np.zeros(len(centres), bool)
    for number, ring in enumerate(rings):
        box = np.all((centres >= ring.min(0)) & (centres <= ring.max(0)), axis=1)
        hit = np.zeros_like(inside)
        hit[box] = Outline(ring).contains_points(centres[box])
        inside = hit if number == 0 else inside & ~hit
    if not inside.any():
        raise UnusableInputError("An outline must enclose the centre of at least one pixel, got an empty one.")
    return inside.reshape(size)


def _crossing(ring: Ring) -> tuple[float, float] | None:
    """Return about where two sides of a ring cross; ``None`` if none do. Sides that only touch do not cross."""
    start, end = ring, np.roll(ring, -1, axis=0)

    def side(a: Ring, b: Ring, p: Ring) -> NDArray[np.float64]:
        """Return on which side of each line a-b (rows) each point (columns) is: -1, 0 or 1."""
        d = b - a
        return np.sign(
            d[:, None, 0] * (p[None, :, 1] - a[:, None, 1]) - d[:, None, 1] * (p[None, :, 0] - a[:, None, 0])
        )

    apart = side(start, end, start) * side(start, end, end) < 0
    crosses = apart & apart.T
    if not crosses.any():
        return None
    one, other = (int(i) for i in np.argwhere(crosses)[0])
    a, b, c, d = start[one], end[one], start[other], end[other]
    t = np.linalg.solve(np.stack([b - a, c - d], 1), c - a)[0]
    x, y = (a + t * (b - a)).round(1).tolist()
    return x, y
