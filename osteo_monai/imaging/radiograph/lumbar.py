"""Fit of a picture to the pattern of an AP lumbar spine, the alternative to the pattern of the chest.

It only rejects chests: lateral views and CT slices along the body fit it as well.
"""

from functools import lru_cache

import numpy as np

from osteo_monai.imaging.radiograph.pattern import GRID, Bank, Grey, Reduced, correlate, draw_bank

MIN_COVER = 0.55
"""Share of the pattern in the picture: the collimator often cuts the flanks off."""

MIN_EXPLAINED = 0.8
"""Share of the picture that the pattern must cover: else it finds a column and two dark sides within any chest."""

HIGHEST_CREST, LOWEST_DOME = 0.85, 0.3
"""Heights in the picture, 0 at its top: the iliac crests lie above the first, the domes of the diaphragm above the
second, as where the field is centred on L3."""


def _pattern(u: Grey, v: Grey) -> tuple[Grey, Grey]:
    """Return brightness and weight where ``u`` runs from -1 to 1 over the trunk's width and ``v`` from 0 at the domes
    of the diaphragm to 1 at the iliac crests."""
    side = np.abs(u)
    column = side < np.where(v > 0.9, 0.30, 0.25)
    wing = (v > 1 + 0.25 * ((side - 0.5) / 0.3) ** 2) & (side > 0.3) & (side < 0.85)
    lung = (v < 0.25 * ((side - 0.5) / 0.4) ** 2) & (side < 0.9)
    parts = [column, wing, lung, side > 1, side > 0.78]
    value = np.select(parts, [1.0, 0.6, 0.4, 0.0, 0.5], 0.7)
    weight = np.select(parts, [1.0, 0.7, 0.6, 0.4, 0.6], 0.8)
    inside = (side < 1.2) & (v > -0.5) & (v < 1.8)
    return value.astype(np.float32), np.where(inside, weight, 0).astype(np.float32)


@lru_cache(maxsize=1)
def _bank() -> Bank:
    places = []
    for height in GRID * np.array([0.30, 0.36, 0.43, 0.50, 0.58, 0.68]):
        for width in height * np.array([1.2, 1.5, 1.8, 2.2]):
            for x in 0.5 * (GRID - 1) + GRID * np.linspace(-0.12, 0.12, 5):
                places += [(x, top, width, height) for top in np.arange(-0.35 * height, GRID - height, 0.12 * height)]
    return draw_bank(_pattern, places)


def fit_lumbar(picture: Reduced) -> float:
    """Return the best correlation of the lumbar pattern with a picture, however it lies and in either grey scale."""
    bank = _bank()
    fits = correlate(bank, picture, 0.0, MIN_COVER)
    explained = (bank.weight > 0).astype(np.float32) @ picture.valid / picture.valid.sum(axis=0)
    first = 0.5 * (GRID - picture.height)
    dome = (bank.place[:, 1:2] - first) / picture.height
    crest = dome + bank.place[:, 3:] / picture.height
    fits[(explained < MIN_EXPLAINED) | (dome > LOWEST_DOME) | (crest > HIGHEST_CREST)] = 0
    return float(np.abs(fits).max())
