"""Whether a picture shows a frontal chest, and which way up: a drawn pattern of lungs and mediastinum laid over it.

No network and nothing learned: the pattern is a handful of curves in units of the width and height of the lungs. It is
laid over the picture in many places, sizes and proportions, in all eight orientations and both grey scales; how well it
can be made to fit (weighted correlation of brightness ranks) says whether there is a chest at all, and which
orientation fits best says how it lies.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from osteo_monai.imaging.radiograph.image import orient

GRID = 32
"""Side of the square that a picture is reduced to; a rib is smaller than its pixels, a lung has some hundred."""

MIN_COVER = 0.82
"""Share of the pattern that must lie in the picture: costophrenic angles, apices or a side may be cut off, not more."""

MIN_SHARE = 0.5
"""Smallest share of the picture's width and height that the lungs take; a smaller pattern finds itself in anything."""

MIN_FIT = 0.62
"""Below this correlation nobody can say from the picture that it is a frontal chest. Chosen on 51 real radiographs,
most of pneumonia: 49 are above it (median 0.75), and of 91 CT slices of the trunk one that no other check refuses."""

MIN_FIT_TURNED, MIN_GAIN = 0.66, 0.06
"""A picture is turned or inverted only where that fits well and clearly better than leaving it as it is."""

MIN_GAIN_MIRRORED = 0.05
"""The heart is known to be on the wrong side only where the mirrored pattern fits better by this; among 51 real
radiographs the most that it did by accident was 0.03."""

Grey = NDArray[np.float32]


def _pattern(u: Grey, v: Grey) -> tuple[Grey, Grey]:
    """Return brightness and weight where ``u`` runs from -1 to 1 over the lungs' width (positive: the viewer's right,
    the person's left) and ``v`` from 0 at their apices to 1 at the costophrenic angles."""
    side = np.abs(u)
    persons_left = u > 0
    outer = 0.98 - 0.62 * np.clip(1 - v / 0.62, 0, 1) ** 2.2
    heart = np.exp(-(((v - 0.78) / 0.2) ** 2))
    inner = np.where(persons_left, 0.17 + 0.30 * heart, 0.17 + 0.10 * heart)
    dome = np.where(persons_left, 0.88, 0.84) + 0.13 * ((side - 0.5) / 0.5) ** 2
    lung = (v > 0) & (v < dome) & (side > inner) & (side < outer)
    middle = (side <= inner) & (v < dome)
    below = (v >= dome) & (side < 1.0)
    value = np.select([lung, middle | below], [0.0, 1.0], 0.72)
    weight = np.select([lung | middle, below, (side >= outer) & (v > 0.02)], [1.0, 0.9, 0.5], 0.3)
    inside = (side < 1.16) & (v > -0.1) & (v < 1.22)
    return value.astype(np.float32), np.where(inside, weight, 0).astype(np.float32)


@dataclass(frozen=True)
class _Bank:
    """Patterns over the square, one a row: weight, weight x value, weight x value squared."""

    weight: Grey
    first: Grey
    second: Grey
    total: Grey
    place: Grey
    """Centre column, top row, width and height, in pixels of the square."""


@lru_cache(maxsize=1)
def _bank() -> _Bank:
    centre = 0.5 * (GRID - 1)
    places = []
    for width in GRID * np.geomspace(0.42, 1.1, 8):
        for height in width * np.array([0.72, 0.88, 1.06, 1.28]):
            if height > 1.12 * GRID:
                continue
            reach = max(0.5 * (GRID - width), 0.0) + 0.04 * width
            for x in np.linspace(-reach, reach, 2 * round(reach / (0.09 * width)) + 1):
                for top in np.arange(-0.1 * height, GRID - 0.85 * height, 0.09 * height):
                    places.append((centre + x, top, width, height))
    place = np.array(places, np.float32)
    x, top, width, height = place.T[:, :, None, None]
    rows, columns = np.mgrid[:GRID, :GRID].astype(np.float32)
    sums = np.zeros((3, len(place), GRID, GRID), np.float32)
    for a in (-0.25, 0.25):  # four samples a pixel: outlines are finer than the grid
        for b in (-0.25, 0.25):
            value, weight = _pattern((columns + a - x) / (0.5 * width), (rows + b - top) / height)
            for power in range(3):
                sums[power] += 0.25 * weight * value**power
    weight, first, second = sums.reshape(3, len(place), -1)
    return _Bank(weight, first, second, weight.sum(1), place)


def _reduce(pixels: Grey) -> tuple[Grey, NDArray[np.bool_]]:
    """Return the picture on the square grid as brightness ranks in 0..1, and which of its pixels lie in the picture."""
    scale = GRID / max(pixels.shape)
    shape = [max(2, round(n * scale)) for n in pixels.shape]
    edges = [np.linspace(0, n, m + 1).astype(int)[:-1] for n, m in zip(pixels.shape, shape, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(pixels, edges[0], 0, dtype=np.float64), edges[1], 1)
    counts = np.outer(*(np.diff([*e, n]) for e, n in zip(edges, pixels.shape, strict=True)))
    # pixels of one value share a rank, so that a flat area stays flat
    _, inverse, same = np.unique((sums / counts).round(4), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(same) - 0.5 * same) / counts.size
    square, valid = np.zeros((GRID, GRID), np.float32), np.zeros((GRID, GRID), bool)
    top, left = (GRID - shape[0]) // 2, (GRID - shape[1]) // 2
    cut = slice(top, top + shape[0]), slice(left, left + shape[1])
    square[cut], valid[cut] = ranks[inverse.reshape(shape)], True
    return square, valid


@dataclass(frozen=True)
class ChestFit:
    """How a picture lies if it is a frontal chest.

    Attributes:
        fit: correlation with the pattern in the orientation given by the other fields, 0..1.
        upright: the best correlation with the picture as it is, mirrored or not.
        turns, mirrored, inverted: what brings it upright with the heart on the person's left: turn counter-clockwise by
            ``turns`` x 90 degrees, then mirror left to right, and invert the grey scale. Only what is certain is set.
        uncertain: another orientation fits about as well.
    """

    fit: float
    upright: float
    turns: int = 0
    mirrored: bool = False
    inverted: bool = False
    uncertain: bool = False


def fit_chest(pixels: Grey) -> ChestFit:
    """Lay the pattern over a picture (rows, columns; any grey scale) in all orientations."""
    fits = _fits(pixels)
    fits = np.stack([fits.max(0), (-fits).max(0)]).reshape(2, 4, 2)  # grey scale, turns, mirrored
    best = fits.max(axis=2)
    inverted, turns = (int(i) for i in np.unravel_index(best.argmax(), best.shape))
    upright, highest = float(best[0, 0]), float(best.max())
    if highest - upright < MIN_GAIN or highest < MIN_FIT_TURNED:
        inverted = turns = 0
    others = best.copy()
    others[inverted, turns] = -1
    as_is, other = fits[inverted, turns]
    return ChestFit(
        fit=float(best[inverted, turns]),
        upright=upright,
        turns=turns,
        mirrored=bool(other - as_is > MIN_GAIN_MIRRORED),
        inverted=bool(inverted),
        uncertain=bool(best[inverted, turns] - others.max() < 0.02),
    )


def _fits(pixels: Grey) -> Grey:
    """Return the correlation of every pattern (rows) with the picture in every orientation (columns: 4 turns x 2)."""
    bank = _bank()
    square, inside = _reduce(pixels)
    height, width = (int(inside.any(1 - axis).sum()) for axis in (0, 1))
    # turned first and mirrored then, so that the two of one turn differ by left and right of the chest alone
    ways = [(-turns if mirrored else turns, mirrored) for turns in range(4) for mirrored in (False, True)]
    valid = np.stack([orient(inside, *way).ravel() for way in ways], 1).astype(np.float32)
    grey = np.stack([orient(square, *way).ravel() for way in ways], 1) * valid
    n = np.maximum(bank.weight @ valid, 1e-6)
    mean, mean_square = bank.weight @ grey / n, bank.weight @ (grey * grey) / n
    pattern, pattern_square = bank.first @ valid / n, bank.second @ valid / n
    spread = (mean_square - mean**2) * (pattern_square - pattern**2)
    fit = (bank.first @ grey / n - mean * pattern) / np.sqrt(np.maximum(spread, 1e-6))
    odd = np.array([turns % 2 for turns, _ in ways])
    narrow = bank.place[:, 2:3] < MIN_SHARE * np.where(odd, height, width)
    low = bank.place[:, 3:] < MIN_SHARE * np.where(odd, width, height)
    fit[(n < MIN_COVER * bank.total[:, None]) | narrow | low] = 0
    return np.asarray(fit, np.float32)
