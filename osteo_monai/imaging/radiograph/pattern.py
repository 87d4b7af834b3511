"""Template matching of drawn patterns to recognise a view and its orientation.

Nothing is learned: a pattern consists of a few curves that give brightness and weight. It is compared with the picture
in many places, sizes and proportions and in all eight orientations; the fit is the weighted correlation with the
brightness ranks of the picture, so that exposure and display window do not matter, and that of the inverted picture is
its negative.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osteo_monai.imaging.radiograph.image import orient

GRID = 32
"""Side of the square that a picture is reduced to; a rib is smaller than its pixels, a lung has about a hundred."""

MIN_COVER = 0.82
"""Share of the pattern's part within the square that must lie in the picture, so that only an edge may be cut off.
The places of a bank limit the part outside the square."""

_DRAWN = 16
"""Places that are drawn together: their arrays stay in the cache of the processor."""

Grey = NDArray[np.float32]
Pattern = Callable[[Grey, Grey], tuple[Grey, Grey]]
"""Brightness and weight at ``u``, -1 to 1 from left to right, and ``v``, 0 to 1 from top to bottom, by broadcasting."""


@dataclass(frozen=True)
class Bank:
    """A pattern over the square in many places, one a row: weight, weight x value, weight x value squared."""

    weight: Grey
    first: Grey
    second: Grey
    total: Grey
    place: Grey
    """Centre column, top row, width and height, in pixels of the square."""


def draw_bank(pattern: Pattern, places: list[tuple[float, float, float, float]]) -> Bank:
    """Draw ``pattern`` at each of ``places``: centre column, top row, width and height, in pixels of the square."""
    place = np.array(places, np.float32)
    parts = [_draw(pattern, place[start : start + _DRAWN]) for start in range(0, len(place), _DRAWN)]
    weight, first, second = np.concatenate(parts, axis=1)
    return Bank(weight, first, second, weight.sum(1), place)


def _draw(pattern: Pattern, place: Grey) -> Grey:
    """Return the three sums (3, places, pixels) of a pattern at some places."""
    x, top, width, height = place.T[:, :, None, None]
    rows, columns = (n.astype(np.float32) for n in np.ogrid[:GRID, :GRID])
    sums = np.zeros((3, len(place), GRID, GRID), np.float32)
    for a in (-0.25, 0.25):  # four samples a pixel: outlines are finer than the grid
        for b in (-0.25, 0.25):
            value, weight = pattern((columns + a - x) / (0.5 * width), (rows + b - top) / height)
            for power in range(3):
                sums[power] += 0.25 * weight * value**power
    return sums.reshape(3, len(place), -1)


@dataclass(frozen=True)
class Reduced:
    """A picture on the square in all orientations, one a column: ranks (0 outside) and the area of the picture.

    Orientation ``2 x turns + mirrored``: turned counter-clockwise by quarter turns first, then mirrored, so that the
    two of one turn differ in left and right only.
    """

    grey: Grey
    valid: Grey
    height: NDArray[np.int64]
    width: NDArray[np.int64]


def reduce(pixels: Grey) -> Reduced:
    """Reduce a picture (rows, columns; any grey scale) to the square as brightness ranks in 0..1."""
    scale = GRID / max(pixels.shape)
    shape = [max(2, round(n * scale)) for n in pixels.shape]
    edges = [np.linspace(0, n, m + 1).astype(int)[:-1] for n, m in zip(pixels.shape, shape, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(pixels, edges[0], 0, dtype=np.float64), edges[1], 1)
    counts = np.outer(*(np.diff([*e, n]) for e, n in zip(edges, pixels.shape, strict=True)))
    # pixels of one value share a rank, so that a flat area stays flat
    _, inverse, same = np.unique((sums / counts).round(4), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(same) - 0.5 * same) / counts.size
    square, inside = np.zeros((GRID, GRID), np.float32), np.zeros((GRID, GRID), bool)
    top, left = (GRID - shape[0]) // 2, (GRID - shape[1]) // 2
    cut = slice(top, top + shape[0]), slice(left, left + shape[1])
    square[cut], inside[cut] = ranks[inverse.reshape(shape)], True
    ways = [(-turns if mirrored else turns, mirrored) for turns in range(4) for mirrored in (False, True)]
    valid = np.stack([orient(inside, *way).ravel() for way in ways], 1).astype(np.float32)
    grey = np.stack([orient(square, *way).ravel() for way in ways], 1) * valid
    odd = np.array([turns % 2 for turns, _ in ways], bool)
    return Reduced(grey, valid, np.where(odd, shape[1], shape[0]), np.where(odd, shape[0], shape[1]))


def correlate(bank: Bank, picture: Reduced, min_share: float, min_cover: float = MIN_COVER) -> Grey:
    """Return the correlation of every pattern (rows) with the picture in every orientation (columns).

    0 where less than ``min_cover`` of the pattern lies in the picture, or where it takes less than ``min_share`` of the
    width or height of the picture, since a small pattern fits any picture.
    """
    valid, grey = picture.valid, picture.grey
    n = np.maximum(bank.weight @ valid, 1e-6)
    mean, mean_square = bank.weight @ grey / n, bank.weight @ (grey * grey) / n
    pattern, pattern_square = bank.first @ valid / n, bank.second @ valid / n
    spread = (mean_square - mean**2) * (pattern_square - pattern**2)
    fit = (bank.first @ grey / n - mean * pattern) / np.sqrt(np.maximum(spread, 1e-6))
    narrow = bank.place[:, 2:3] < min_share * picture.width
    low = bank.place[:, 3:] < min_share * picture.height
    fit[(n < min_cover * bank.total[:, None]) | narrow | low] = 0
    return np.asarray(fit, np.float32)
