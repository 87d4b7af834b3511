"""From a mask of all vertebral bodies to one mask per level, by the planes through the discs."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.domain import VertebraLevel

DISC_SEARCH_MM = 16.0
"""How far a disc is looked for from where the localiser puts it; less than half the distance to the next disc."""
SLAB_MARGIN_MM = DISC_SEARCH_MM + 8.0
"""Slices kept beyond the disc planes: a body 35 mm deep, tilted by 30 degrees, reaches 9 mm beyond them."""
NO_DISC_SHARE = 0.8
"""Where the mask nowhere falls below this share of its full area there is no disc to be seen."""
COLUMN_RADIUS_MM = 32.0
"""What lies farther from the axis is no vertebral body; the largest are 55 mm wide."""
SPECK_FRACTION = 0.1
"""A component smaller than this share of the largest one between the same planes is a speck, never the body."""


class Located(Protocol):
    """What is needed of a located vertebra (``osteo_monai.transforms.vertebra_decoding.LocatedVertebra``)."""

    @property
    def level(self) -> VertebraLevel:
        """Name of the vertebra."""

    @property
    def centre_mm(self) -> tuple[float, float, float]:
        """Centre of the body, RAS+ mm."""

    @property
    def superior_mm(self) -> tuple[float, float, float]:
        """Point on the plane half-way to the body above, RAS+ mm."""

    @property
    def inferior_mm(self) -> tuple[float, float, float]:
        """Point on the plane half-way to the body below, RAS+ mm."""


def slab(vertebrae: Sequence[Located], affine: NDArray[np.float64], slices: int) -> slice:
    """Return the axial slices that hold the given vertebrae and a margin, within ``0 .. slices``.

    Raises:
        ValueError: if no vertebra is given.
    """
    if not vertebrae:
        raise ValueError("vertebrae must name at least one vertebra, got none")
    points = np.array([p for v in vertebrae for p in (v.superior_mm, v.inferior_mm, v.centre_mm)])
    inverse = np.linalg.inv(affine)
    k = points @ inverse[2, :3] + inverse[2, 3]
    margin = SLAB_MARGIN_MM / float(np.linalg.norm(affine[:3, 2]))
    lowest = max(0, int(np.floor(k.min() - margin)))
    highest = min(slices, int(np.ceil(k.max() + margin)) + 1)
    return slice(min(lowest, slices - 1), max(highest, min(lowest, slices - 1) + 1))


def shifted(affine: NDArray[np.float64], first_slice: int) -> NDArray[np.float64]:
    """Return the affine of a volume whose first ``first_slice`` axial slices were cut off."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += first_slice * moved[:3, 2]
    return moved


def separate_bodies(
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    vertebrae: Sequence[Located],
    planes_are_exact: bool = False,
) -> NDArray[np.uint8]:
    """Label each vertebra's body in a mask of bodies.

    A voxel belongs to a vertebra when it lies between the planes through the discs above and below, both perpendicular
    to the line that joins its superior and inferior point; where the wedges of two neighbours overlap the nearer centre
    wins. The planes lie where the mask is thinnest, near where the localiser has them: it works on coarse voxels, the
    mask sees the discs. Of what is left the connected part (6 neighbours) nearest to the centre is the body.

    Args:
        mask: (X, Y, Z) all bodies, no matter which.
        affine: (4, 4) voxel index of ``mask`` to RAS+ mm.
        vertebrae: those to label.
        planes_are_exact: their planes come from a reader and stay where they are.

    Returns:
        (X, Y, Z) uint8 with ``VertebraLevel.label`` as values; a vertebra without any voxel is absent.
    """
    labels = np.zeros(mask.shape, dtype=np.uint8)
    index = np.argwhere(without_stray_slices(mask, float(np.linalg.norm(affine[:3, 2]))))
    if len(index) == 0 or not vertebrae:
        return labels
    points = index @ affine[:3, :3].T + affine[:3, 3]
    owner = np.full(len(index), -1)
    nearest = np.full(len(index), np.inf)
    for n, vertebra in enumerate(vertebrae):
        superior, inferior = np.asarray(vertebra.superior_mm), np.asarray(vertebra.inferior_mm)
        axis = superior - inferior
        length = float(np.linalg.norm(axis))
        if length == 0:
            raise ValueError(f"superior_mm and inferior_mm of {vertebra.level} are the same point")
        axis = axis / length
        along = (points - inferior) @ axis
        bottom, top = 0.0, length
        if not planes_are_exact:
            across = np.linalg.norm(points - inferior - along[:, None] * axis, axis=1)
            heights = along[across < COLUMN_RADIUS_MM]
            step = float(np.linalg.norm(affine[:3, 2]))
            # beyond the last slice nothing is outlined, which is no disc
            seen = sorted((affine[2, 3] + affine[2, 2] * k - inferior[2]) / axis[2] for k in (0, mask.shape[2] - 1))
            bottom, top = (thinnest(heights, at, step, (seen[0], seen[1])) for at in (0.0, length))
        centre = inferior + 0.5 * (bottom + top) * axis
        centre += (
            np.asarray(vertebra.centre_mm) - inferior - ((np.asarray(vertebra.centre_mm) - inferior) @ axis) * axis
        )
        distance = np.linalg.norm(points - centre, axis=1)
        take = (along >= bottom) & (along <= top) & (distance < nearest)
        owner[take], nearest[take] = n, distance[take]
    for n, vertebra in enumerate(vertebrae):
        own = np.flatnonzero(owner == n)
        if len(own):
            kept = own[_component_nearest_centre(index[own], nearest[own])]
            labels[tuple(index[kept].T)] = vertebra.level.label
    return labels


def without_stray_slices(mask: NDArray[np.bool_], step: float) -> NDArray[np.bool_]:
    """Return a mask (X, Y, Z) in which each voxel follows the majority of its neighbours above and below.

    Slices are outlined one by one, so one through a disc may be taken for bone; bone is thicker than 6 mm. Straight
    edges stay where they are, as with any median.

    Args:
        step: distance between slices in mm; those of more than 4 mm have no neighbours near enough to ask.
    """
    window = 2 * int(3.0 / step + 0.25) + 1
    if window == 1:
        return mask
    kernel = np.ones(window, np.int16)
    return np.asarray(2 * ndimage.convolve1d(mask.astype(np.int16), kernel, axis=2, mode="nearest") > window)


def thinnest(
    heights: NDArray[np.float64], at: float, step: float, seen: tuple[float, float] = (-math.inf, math.inf)
) -> float:
    """Return the height near ``at`` where a column has the smallest cross-section: the middle of a disc.

    Args:
        heights: position along the column of each of its voxels, mm.
        at: where the disc is expected, mm.
        step: distance between slices in mm, which the voxels' positions are scattered by.
        seen: first and last height that the scan holds, mm.

    Returns:
        ``at`` itself where no disc shows.
    """
    grid = np.arange(-DISC_SEARCH_MM, DISC_SEARCH_MM + 0.25, 0.5)
    counts, _ = np.histogram(heights - at, np.append(grid - 0.25, grid[-1] + 0.25))
    inside = (at + grid >= seen[0]) & (at + grid <= seen[1])
    if not inside.any():
        return at
    counts, grid = counts[inside], grid[inside]
    area = ndimage.gaussian_filter1d(counts.astype(float), max(1.5, 0.7 * step) / 0.5, mode="nearest")
    if area.max() == 0 or area.min() > NO_DISC_SHARE * area.max():
        return at
    # of two places equally thin the nearer one
    return at + float(grid[np.argmin(area / area.max() + 0.15 * (grid / DISC_SEARCH_MM) ** 2)])


def _component_nearest_centre(index: NDArray[np.intp], distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which voxels belong to the connected component nearest to the centre, leaving specks aside."""
    low = index.min(axis=0)
    box = np.zeros(index.max(axis=0) - low + 1, dtype=bool)
    local = tuple((index - low).T)
    box[local] = True
    component = ndimage.label(box)[0][local]
    sizes = np.bincount(component)
    reach = ndimage.minimum(distance, component, np.arange(1, len(sizes)))
    reach[sizes[1:] < SPECK_FRACTION * sizes[1:].max()] = np.inf
    return np.asarray(component == 1 + int(np.argmin(reach)))


STAND_IN_RADII_MM = (21.0, 16.0)
"""Half width and half depth of a lumbar body of 42 x 32 mm."""


def stand_in(vertebra: Located, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return an elliptic cylinder (X, Y, Z) where a vertebra was located, to look around it before it is outlined."""
    mask = np.zeros(shape, dtype=bool)
    superior, inferior = np.asarray(vertebra.superior_mm), np.asarray(vertebra.inferior_mm)
    half = 0.4 * float(np.linalg.norm(superior - inferior))  # the disc takes the other fifth
    axis = (superior - inferior) / max(float(np.linalg.norm(superior - inferior)), 1e-6)
    front = np.array([0.0, 1.0, 0.0]) - axis[1] * axis
    front /= np.linalg.norm(front)
    right = np.cross(front, axis)
    centre = np.asarray(vertebra.centre_mm)
    inverse = np.linalg.inv(affine)
    at = inverse[:3, :3] @ centre + inverse[:3, 3]
    reach = np.ceil((max(STAND_IN_RADII_MM) + half) / np.linalg.norm(affine[:3, :3], axis=0))
    low = np.clip(np.floor(at - reach), 0, shape).astype(int)
    high = np.clip(np.ceil(at + reach) + 1, 0, shape).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), axis=-1)
    offset = grid @ affine[:3, :3].T + affine[:3, 3] - centre
    across = (offset @ right / STAND_IN_RADII_MM[0]) ** 2 + (offset @ front / STAND_IN_RADII_MM[1]) ** 2 <= 1.0
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = across & (np.abs(offset @ axis) <= half)
    return mask
