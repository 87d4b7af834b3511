"""Recognition of a frontal chest and its orientation by a drawn pattern of lungs and mediastinum.

The pattern is in units of the width and height of the lungs and has two versions: the lungs and adjacent parts, as most
radiographs are collimated, and the whole trunk with the air beside it. A picture is a chest if the pattern fits, and
fits better than that of the lumbar spine; the best orientation is that of the picture.

The limits were chosen on 51 real radiographs of 30 people, most of pneumonia, on CT slices and on virtual radiographs.
The real ones are a development set, and no independent one was available, so the rates of false refusals and false
acceptances elsewhere are unknown. ``benchmarks/radiograph_reading.py`` counts both.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from osteo_monai.imaging.radiograph.lumbar import fit_lumbar
from osteo_monai.imaging.radiograph.pattern import GRID, Bank, Grey, Reduced, correlate, draw_bank, reduce

MIN_SHARE = 0.5
"""Smallest share of the width and height of the picture that the lungs take; a smaller pattern fits any picture."""

MIN_SHARE_TRUNK = 0.4
"""The same for the lungs within the whole trunk, whose pattern is wider."""

MIN_FIT = 0.62
"""Smallest correlation of a frontal chest. Chosen on 51 real radiographs, most of pneumonia, of which 49 are above it
(median 0.75): the only limit that was set by real chests only."""

MIN_LEAD, MIN_LEAD_TURNED = -0.10, -0.05
"""Least fit of the chest's pattern over that of the lumbar spine, which has fewer details and so fits any picture
better. Chosen on virtual radiographs: of 60 chests one is below the first and five below the second; real ones are
above 0."""

MIN_WALL, MIN_LEAD_UNSEEN = 0.05, 0.05
"""The chest wall of one side at least is brighter than the lungs by this share of the picture's ranks; what only looks
like a pair of lungs has air or background there. Chosen on virtual chests, all of 60 above 0.06; a real one
whose wall is seen beside a white lung only showed that both sides must be seen for it to count. Where one is cut off,
the chest must lead the lumbar spine by the second, which keeps spines out that lie on their side; two of 51 real ones
are so cut and lead by 0.13 and more."""

MIN_FIT_TURNED, MIN_GAIN, MIN_MIDDLE_TURNED = 0.66, 0.06, 0.15
"""A picture is turned or inverted only where that fits well and clearly better than leaving it as it is, and the middle
is then brighter than either lung by the third. Virtual chests are above 0.23, of 49 real ones nine in ten above it;
turned lumbar spines and photographs often are not."""

MIN_GAIN_MIRRORED = 0.05
"""Least difference by which the mirrored pattern must fit better; among 51 real radiographs the largest accidental
difference was 0.03."""


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


def _trunk_pattern(u: Grey, v: Grey) -> tuple[Grey, Grey]:
    """Return the same with the upper abdomen below and the air, or an arm hanging in it, beside the trunk."""
    value, weight = _pattern(u, v)
    side = np.abs(u)
    abdomen, edge = (v >= 1) & (v < 1.65) & (side < 0.95), (v >= 1) & (side >= 0.95) & (side < 1.2)
    air = (side > 1.16) & (side < 1.75) & (v > 0.25) & (v < 1.65) & ~edge
    parts = [abdomen, air, edge]
    value, weight = np.select(parts, [1.0, 0.12, 0.0], value), np.select(parts, [0.6, 0.4, 0.0], weight)
    return value.astype(np.float32), weight.astype(np.float32)


_PROPORTIONS = (0.72, 0.88, 1.06, 1.28)
"""Height over width of the lungs."""
_CENTRE = 0.5 * (GRID - 1)
Place = tuple[float, float, float, float]
"""Centre column, top row, width and height of the lungs."""


@lru_cache(maxsize=1)
def _banks() -> tuple[tuple[Bank, float], tuple[Bank, float]]:
    """Return both versions of the pattern, each with the smallest share of the picture that the lungs take."""
    return (
        (draw_bank(_pattern, _close_places()), MIN_SHARE),
        (draw_bank(_trunk_pattern, _trunk_places()), MIN_SHARE_TRUNK),
    )


def _close_places() -> list[Place]:
    """Return places of lungs that fill most of the picture."""
    places: list[Place] = []
    for width in GRID * np.geomspace(0.42, 1.1, 8):
        reach = max(0.5 * (GRID - width), 0.0) + 0.04 * width
        shifts = np.linspace(-reach, reach, 2 * round(reach / (0.09 * width)) + 1)
        for height in width * np.array(_PROPORTIONS):
            if height > 1.12 * GRID:
                continue
            tops = np.arange(-0.1 * height, GRID - 0.85 * height, 0.09 * height)
            places += [(_CENTRE + x, top, width, height) for x in shifts for top in tops]
    return places


def _trunk_places() -> list[Place]:
    """Return places of lungs in a picture of the whole trunk."""
    places: list[Place] = []
    for width in GRID * np.geomspace(0.42, 0.7, 5):
        shifts = 0.09 * width * np.arange(-3, 4)
        for height in width * np.array(_PROPORTIONS):
            if height > 0.85 * GRID:
                continue
            tops = np.arange(0.0, GRID - 1.1 * height, 0.09 * height)
            places += [(_CENTRE + x, top, width, height) for x in shifts for top in tops]
    return places


@dataclass(frozen=True)
class ChestFit:
    """Orientation of a picture of a frontal chest.

    Attributes:
        fit: correlation with the pattern in the orientation given by the other fields, 0..1.
        lead: ``fit`` less the best correlation with the pattern of the lumbar spine, however that lies.
        wall: brightness rank of the chest wall, of the brighter side, over that of the lungs; None if one is cut off.
        upright: the best correlation with the picture as it is, mirrored or not.
        turns, mirrored, inverted: changes that make it upright with the heart on the person's left: turn
            counter-clockwise by ``turns`` x 90 degrees, then mirror left to right, and invert the grey scale. Uncertain
            ones are not set.
        uncertain: another orientation fits about as well.
    """

    fit: float
    lead: float
    wall: float | None
    upright: float
    turns: int = 0
    mirrored: bool = False
    inverted: bool = False
    uncertain: bool = False

    @property
    def recognised(self) -> bool:
        """Whether the picture is recognised as a frontal chest."""
        least_lead = MIN_LEAD_UNSEEN if self.wall is None else MIN_LEAD
        return self.fit >= MIN_FIT and self.lead >= least_lead and (self.wall is None or self.wall >= MIN_WALL)


def fit_chest(pixels: Grey) -> ChestFit:
    """Fit the patterns to a picture (rows, columns; any grey scale) in all orientations."""
    picture = reduce(pixels)
    banks = _banks()
    all_fits = np.concatenate([correlate(bank, picture, share) for bank, share in banks])
    places = np.concatenate([bank.place for bank, _ in banks])
    both = np.stack([all_fits, -all_fits]).reshape(2, -1, 4, 2)  # grey scale, place, turns, mirrored
    fits = both.max(axis=1)
    best = fits.max(axis=2)
    rival = fit_lumbar(picture)

    def brightness(inverted: int, turns: int) -> tuple[list[float], float]:
        mirrored = int(fits[inverted, turns].argmax())
        place = places[both[inverted, :, turns, mirrored].argmax()]
        return _over_lungs(picture, place, 2 * turns + mirrored, bool(inverted))

    inverted, turns = (int(i) for i in np.unravel_index(best.argmax(), best.shape))
    upright, highest = float(best[0, 0]), float(best.max())
    if inverted or turns:
        walls, middle = brightness(inverted, turns)
        clear = highest - upright >= MIN_GAIN and highest >= MIN_FIT_TURNED and highest - rival >= MIN_LEAD_TURNED
        if not clear or middle < MIN_MIDDLE_TURNED or max(walls, default=1.0) < MIN_WALL:
            inverted = turns = 0
    walls, _ = brightness(inverted, turns)
    others = best.copy()
    others[inverted, turns] = -1
    as_is, other = fits[inverted, turns]
    fit = float(best[inverted, turns])
    return ChestFit(
        fit=fit,
        lead=fit - rival,
        wall=max(walls) if len(walls) == 2 else None,
        upright=upright,
        turns=turns,
        mirrored=bool(other - as_is > MIN_GAIN_MIRRORED),
        inverted=bool(inverted),
        uncertain=bool(fit - others.max() < 0.02),
    )


def _over_lungs(picture: Reduced, place: Grey, way: int, inverted: bool) -> tuple[list[float], float]:
    """Return differences of mean ranks: the wall of each visible side minus both lungs, and the middle minus the
    brighter lung (1 if outside the picture).
    """
    grey, valid = (a[:, way].reshape(GRID, GRID) for a in (picture.grey, picture.valid))
    x, top, width, height = place
    rows, columns = np.mgrid[:GRID, :GRID].astype(np.float32)
    u, v = (columns - x) / (0.5 * width), (rows - top) / height
    value, weight = _pattern(u, v)

    def ranks(region: NDArray[np.bool_]) -> list[float]:
        """Return the mean rank of a region, empty if too little of it is visible."""
        seen = grey[region & (valid > 0)]
        return [float(1 - seen.mean() if inverted else seen.mean())] if seen.size > 1 else []

    lungs, beside = (value == 0) & (weight == 1), (np.abs(u) > 0.98) & (np.abs(u) < 1.14) & (v > 0.1) & (v < 0.95)
    lung = [rank for side in (u < 0, u > 0) for rank in ranks(lungs & side)]
    if not lung:
        return [], 1.0
    walls = [rank - sum(lung) / len(lung) for side in (u < 0, u > 0) for rank in ranks(beside & side)]
    middle = [rank - max(lung) for rank in ranks((np.abs(u) < 0.15) & (v > 0) & (v < 0.85))]
    return walls, middle[0] if middle else 1.0
