"""Recognition of AP and lateral lumbar spines by drawn patterns; the AP one is also the alternative to the chest.

The patterns distinguish lumbar radiographs from chests, noise and pictures that lie on their side or are inverted.
They do not distinguish AP from lateral, and CT slices along the body fit them as well.

The limits were chosen on virtual radiographs of 12 people with random positions and exposures, on projections of one
real CT, on 30 real chests and on noise. No real lumbar radiograph was available, so the limits are far below the lowest
virtual values, and the rate of false refusals of real ones is unknown. Photographs, drawings and hand-like shapes with
a bright middle are accepted in part (docs/limits.md).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from osteo_monai.domain import View
from osteo_monai.imaging.radiograph.pattern import GRID, Bank, Grey, Reduced, correlate, draw_bank, reduce

MIN_COVER = 0.55
"""Share of the pattern in the picture: the collimator often cuts the flanks off."""

MIN_EXPLAINED = 0.8
"""Share of the picture that the pattern must cover: else it finds a column and two dark sides within any chest."""

HIGHEST_CREST, LOWEST_DOME = 0.85, 0.3
"""Heights in the picture, 0 at its top: the iliac crests lie above the first, the domes of the diaphragm above the
second, as where the field is centred on L3."""


MIN_FIT = 0.50
"""Smallest correlation of a lumbar spine. Virtual ones are at 0.70 (AP), 0.71 (lateral) and above, four projections of
a real CT at 0.58 (AP) and 0.82 (lateral) and above, smoothed noise at 0.44 and below. Chests are not refused by it."""

MIN_LEAD_SIDE = -0.05
"""Least fit of a picture as it is over both quarter turns: virtual ones are at 0.42 (AP), 0.19 (lateral) and above, the
projections of a real CT at 0.01 (AP) and 0.36 (lateral) and above."""

MIN_LEAD_INVERTED = 0.0
"""The same over the inverted grey scale: virtual ones are at 0.70 (AP) and 0.04 (lateral) and above, the
projections of a real CT at 0.58 (AP) and 0.08 (lateral)."""

MIN_LEAD_HALF = -0.03
"""The same over the half turn, which looks similar: virtual ones are at 0.01 (AP), -0.01 (lateral) and above, but
projections of a real CT below the limit, so that this is a warning only."""


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


def _lateral_pattern(u: Grey, v: Grey) -> tuple[Grey, Grey]:
    """Return the same for a lateral view, with ``u`` from -1 at the front to 1 at the skin of the back."""
    centre = 0.28 - 0.16 * np.exp(-(((v - 0.62) / 0.3) ** 2))
    sacrum = (v > 1.0) & (np.abs(u - 0.30 - 0.35 * (v - 1.0)) < 0.42)
    bone = (np.abs(u - centre) < 0.22) | sacrum
    lung = (v < 0.30 - 0.35 * np.clip(u + 0.3, -1, 1) ** 2) & (u < centre - 0.22)
    parts = [bone, u > 0.86, u > centre + 0.22, lung, u < -0.95]
    value = np.select(parts, [1.0, 0.05, 0.55, 0.45, 0.15], 0.62)
    weight = np.select(parts, [1.0, 0.8, 0.6, 0.4, 0.3], 0.8)
    inside = (u > -1.15) & (u < 1.2) & (v > -0.4) & (v < 1.5)
    return value.astype(np.float32), np.where(inside, weight, 0).astype(np.float32)


@lru_cache(maxsize=1)
def _lateral_bank() -> Bank:
    places = []
    for height in GRID * np.array([0.36, 0.43, 0.50, 0.58, 0.68]):
        for width in height * np.array([0.7, 0.9, 1.15, 1.45]):
            for x in 0.5 * (GRID - 1) + GRID * np.linspace(-0.16, 0.16, 7):
                places += [(x, top, width, height) for top in np.arange(-0.2 * height, GRID - height, 0.12 * height)]
    return draw_bank(_lateral_pattern, places)


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
    return float(np.abs(_fits(_bank(), picture)).max())


def _fits(bank: Bank, picture: Reduced, min_explained: float = MIN_EXPLAINED, tolerance: float = 0.0) -> Grey:
    """Return the correlation of each place with the picture in each orientation, 0 where the field would be unusual."""
    fits = correlate(bank, picture, 0.0, MIN_COVER)
    explained = (bank.weight > 0).astype(np.float32) @ picture.valid / picture.valid.sum(axis=0)
    first = 0.5 * (GRID - picture.height)
    dome = (bank.place[:, 1:2] - first) / picture.height
    crest = dome + bank.place[:, 3:] / picture.height
    outside = (dome > LOWEST_DOME + 2 * tolerance) | (crest > HIGHEST_CREST + tolerance)
    fits[(explained < min_explained) | outside] = 0
    return fits


@dataclass(frozen=True)
class LumbarFit:
    """Fit of a picture to a lumbar view, and how much better it fits as it is than otherwise.

    Attributes:
        fit: correlation with the pattern as the picture is, mirrored or not, -1..1.
        over_side, over_half, over_inverted: ``fit`` less that of the better quarter turn, of the half turn, and of the
            inverted grey scale.
    """

    fit: float
    over_side: float
    over_half: float
    over_inverted: float

    @property
    def recognised(self) -> bool:
        """Whether the picture may show the view, however it lies and in either grey scale."""
        others = (self.over_side, self.over_half, self.over_inverted)
        return max(self.fit, *(self.fit - lead for lead in others)) >= MIN_FIT

    @property
    def defect(self) -> str | None:
        """What is wrong with the orientation or the grey scale of a recognised picture, ``None`` if nothing is."""
        if self.over_side < MIN_LEAD_SIDE:
            return "lies on its side"
        if self.over_inverted < MIN_LEAD_INVERTED:
            return "shows bone dark"
        return None

    @property
    def maybe_upside_down(self) -> bool:
        """Whether the picture fits better after half a turn, which does not suffice for a refusal."""
        return self.over_half < MIN_LEAD_HALF


def fit_lumbar_view(pixels: Grey, view: View) -> LumbarFit:
    """Fit the pattern of a lumbar view to a picture (rows, columns; any grey scale)."""
    lateral = view is View.LUMBAR_LATERAL
    bank, explained = (_lateral_bank(), 0.7) if lateral else (_bank(), MIN_EXPLAINED)
    fits = _fits(bank, reduce(pixels), explained, 0.05)
    ways = fits.max(axis=0).reshape(4, 2).max(axis=1)
    as_is, left, half, right = (float(way) for way in ways)
    inverted = float(-fits[:, :2].min())
    return LumbarFit(as_is, as_is - max(left, right), as_is - half, as_is - inverted)
