"""Separation of a mask of all vertebral bodies into one mask per level, by planes through the discs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.domain import VertebraLevel
from osteo_monai.measurement.end_plates import EndPlates, find_end_plates
from osteo_monai.utils.occupied import occupied_box, occupied_voxels

Point: TypeAlias = tuple[float, float, float]

DISC_GAP_MM = 2.5
"""Distance excluded on both sides of a disc's middle: discs of adults are 3 to 14 mm high. Project custom, tried on
seven real scans."""
HALF_PLATE_MM = 0.5
"""From the middle of an end plate, where it is brightest, to its outer surface. Project custom."""
RIM_MM, RIM_CONTRAST, RIM_CONTRAST_TO_NOISE = 3.0, 1.0, 1.2
"""Largest distance of the rim of a concave end plate from its middle, share of the plate's contrast to the disc from
which it counts as bone, and contrast in SD of the disc that separates a rim from noise. Project custom."""
SMOOTHING_MM = 1.2
"""SD of the Gaussian over HU before they are compared with bone. Project custom."""
DISC_SEARCH_MM = 10.0
"""Search distance for a disc in a mask from its located place; less than half the distance to the next disc."""
SLAB_MARGIN_MM = 14.0
"""Slices kept beyond the disc planes: a body 35 mm deep, tilted by 30 degrees, reaches 9 mm beyond them."""
CLEAR_DISC_SHARE = 0.6
"""A mask whose section is never below this share of its full area shows no disc clearly."""
COLUMN_RADIUS_MM = 32.0
"""Voxels farther from the axis are not part of a vertebral body; the largest are 55 mm wide."""
SPECK_FRACTION = 0.1
"""A component smaller than this share of the largest one between the same planes is not the body."""


@dataclass(frozen=True)
class VertebraLocation:
    """Where a vertebra is; points are RAS+ mm.

    Attributes:
        centre_mm: centre of the body.
        superior_mm, inferior_mm: points in the middle of the disc above and below.
    """

    level: VertebraLevel
    centre_mm: Point
    superior_mm: Point
    inferior_mm: Point


def slab(vertebrae: Sequence[VertebraLocation], affine: NDArray[np.float64], slices: int) -> slice:
    """Return the axial slices that contain the given vertebrae and a margin, within ``0 .. slices``.

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


@dataclass(frozen=True)
class Borders:
    """The upper and lower border of a body."""

    top: "Border"
    bottom: "Border"

    def inside(self, points: NDArray[np.float64], hu: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which of the points (N, 3) in RAS+ mm, with their HU (N,), are between the borders."""
        return self.top.within(points, hu, -1.0) & self.bottom.within(points, hu, 1.0)


@dataclass(frozen=True)
class Border:
    """A plane at the end of a body, and how far its bright rim may extend beyond it: end plates are concave.

    Attributes:
        point_mm: (3,) RAS+ mm.
        normal: (3,) unit vector upwards.
        rim_mm: within this distance beyond the plane, voxels of at least ``bone_hu`` belong to the body.
        bone_hu: lowest HU of the rim.
    """

    point_mm: NDArray[np.float64]
    normal: NDArray[np.float64]
    rim_mm: float = 0.0
    bone_hu: float = math.inf

    def within(self, points: NDArray[np.float64], hu: NDArray[np.float32], side: float) -> NDArray[np.bool_]:
        """Return which points are on the body's side of the plane, above it for a ``side`` of 1 and below it for -1."""
        depth = side * ((points - self.point_mm) @ self.normal)
        return np.asarray((depth >= 0) | ((depth >= -self.rim_mm) & (hu >= self.bone_hu)))


def disc_borders(vertebra: VertebraLocation, gap_mm: float = 0.0) -> Borders:
    """Return planes through the discs above and below a vertebra, perpendicular to the line that joins them.

    Args:
        gap_mm: distance excluded on the inner side of each plane.
    """
    axis = _axis(vertebra)
    superior, inferior = np.asarray(vertebra.superior_mm), np.asarray(vertebra.inferior_mm)
    return Borders(Border(superior - gap_mm * axis, axis), Border(inferior + gap_mm * axis, axis))


def end_plate_borders(hu: NDArray[np.float32], affine: NDArray[np.float64], vertebra: VertebraLocation) -> Borders:
    """Return planes just outside the end plates of a vertebra; if an end plate is not visible, the plane of its disc.

    Args:
        hu: (X, Y, Z) in HU.
        affine: (4, 4) voxel index to RAS+ mm.
    """
    axis = _axis(vertebra)
    borders = disc_borders(vertebra, DISC_GAP_MM)
    above = find_end_plates(hu, affine, np.asarray(vertebra.superior_mm), axis)
    below = find_end_plates(hu, affine, np.asarray(vertebra.inferior_mm), axis)
    if above is not None:
        borders = replace(borders, top=_beyond(above, above.lower_mm))
    if below is not None:
        borders = replace(borders, bottom=_beyond(below, below.upper_mm))
    return borders


def _beyond(plates: EndPlates, plate_mm: NDArray[np.float64]) -> Border:
    """Return the border half a plate outside the middle of an end plate; its rim extends to the middle of the disc."""
    to_disc = plates.disc_mm - plate_mm
    length = float(np.linalg.norm(to_disc))
    outside = min(HALF_PLATE_MM, length)
    point = plate_mm + to_disc * (outside / max(length, 1e-6))
    visible = plates.contrast_hu >= RIM_CONTRAST_TO_NOISE * plates.disc_sd
    rim_mm = min(RIM_MM, length - outside) if visible else 0.0
    return Border(point, plates.normal, rim_mm, plates.disc_hu + RIM_CONTRAST * plates.contrast_hu)


def _axis(vertebra: VertebraLocation) -> NDArray[np.float64]:
    """Return the unit vector from the inferior to the superior point."""
    axis = np.asarray(vertebra.superior_mm) - np.asarray(vertebra.inferior_mm)
    length = float(np.linalg.norm(axis))
    if length == 0:
        raise ValueError(f"superior_mm and inferior_mm of {vertebra.level} must be different points")
    return np.asarray(axis / length)


def separate_bodies(
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    hu: NDArray[np.float32],
    vertebrae: Sequence[VertebraLocation],
    borders: Sequence[Borders],
) -> NDArray[np.uint8]:
    """Label each vertebra's body in a mask of bodies.

    A voxel belongs to a vertebra if it is between its borders; if those of two neighbours overlap, the nearer centre is
    used. A mask that continues across a disc, where osteophytes bridge it, thus ends at the disc. Of the voxels near
    the axis the connected component (6 neighbours) nearest to the centre is the body, its holes filled.

    Args:
        mask: (X, Y, Z) all bodies.
        affine: (4, 4) voxel index of ``mask`` to RAS+ mm.
        hu: (X, Y, Z) in HU.
        vertebrae: vertebrae to label.
        borders: of each of them.

    Returns:
        (X, Y, Z) uint8 with ``VertebraLevel.label`` as values; a vertebra without any voxel is absent.
    """
    labels = np.zeros(mask.shape, dtype=np.uint8)
    index = occupied_voxels(without_stray_slices(mask, float(np.linalg.norm(affine[:3, 2]))))
    if len(index) == 0 or not vertebrae:
        return labels
    points = index @ affine[:3, :3].T + affine[:3, 3]
    values = _smoothed(hu, affine, index)
    owner = np.full(len(index), -1)
    nearest = np.full(len(index), np.inf)
    for n, (vertebra, planes) in enumerate(zip(vertebrae, borders, strict=True)):
        _, across = _along(points, vertebra)
        distance = np.linalg.norm(points - np.asarray(vertebra.centre_mm), axis=1)
        take = planes.inside(points, values) & (across < COLUMN_RADIUS_MM) & (distance < nearest)
        owner[take], nearest[take] = n, distance[take]
    for n, vertebra in enumerate(vertebrae):
        owned = np.flatnonzero(owner == n)
        if len(owned):
            kept = owned[_component_nearest_centre(index[owned], nearest[owned])]
            _fill(labels, index[kept], vertebra.level.label)
    return labels


def disc_in_mask(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], vertebra: VertebraLocation
) -> tuple[float | None, float | None]:
    """Return how far a mask has the discs of a vertebra above their located places, in mm.

    Args:
        mask: (X, Y, Z) all bodies, on slices that contain the vertebra.
        affine: (4, 4) voxel index to RAS+ mm.

    Returns:
        For the superior and the inferior disc; ``None`` if the mask shows none clearly.
    """
    step = float(np.linalg.norm(affine[:3, 2]))
    index = occupied_voxels(mask)
    if len(index) == 0:
        return None, None
    along, across = _along(index @ affine[:3, :3].T + affine[:3, 3], vertebra)
    length = math.dist(vertebra.superior_mm, vertebra.inferior_mm)
    near = along[across < COLUMN_RADIUS_MM]
    if len(near) == 0:
        return None, None
    offsets = [thinnest(near, at, step, (float(near.min()), float(near.max()))) for at in (length, 0.0)]
    return offsets[0], offsets[1]


def _smoothed(hu: NDArray[np.float32], affine: NDArray[np.float64], index: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the HU of voxels (N, 3) smoothed over one or two millimetres, so that noise is not classified as bone."""
    low, high = np.maximum(index.min(axis=0) - 3, 0), index.max(axis=0) + 4
    box = hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32)
    sigma = SMOOTHING_MM / np.linalg.norm(affine[:3, :3], axis=0)
    smooth = ndimage.gaussian_filter(box, np.where(sigma < 0.4, 0.0, sigma), truncate=2.0)
    return np.asarray(smooth[tuple((index - low).T)])


def _along(points: NDArray[np.float64], vertebra: VertebraLocation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the position of points (N, 3) along the axis from its lower end, and their distance from it, in mm."""
    axis = _axis(vertebra)
    offset = points - np.asarray(vertebra.inferior_mm)
    along = offset @ axis
    return along, np.linalg.norm(offset - along[:, None] * axis, axis=1)


def _fill(labels: NDArray[np.uint8], index: NDArray[np.intp], label: int) -> None:
    """Label one body, its holes filled slice by slice."""
    low, high = index.min(axis=0), index.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    body = np.zeros(high - low, dtype=bool)
    body[tuple((index - low).T)] = True
    for k in range(body.shape[2]):
        body[:, :, k] = ndimage.binary_fill_holes(body[:, :, k])
    labels[box][body & (labels[box] == 0)] = label


def without_stray_slices(mask: NDArray[np.bool_], step: float) -> NDArray[np.bool_]:
    """Return a mask (X, Y, Z) in which each voxel follows the majority of its neighbours above and below.

    Slices are segmented one by one, so a slice through a disc may be classified as bone; bone is thicker than 6 mm.
    Straight edges do not move, as with any median.

    Args:
        step: distance between slices in mm; above 4 mm no neighbour is near enough.
    """
    window = 2 * int(3.0 / step + 0.25) + 1
    box = occupied_box(mask)
    if window == 1 or box is None:
        return mask
    kernel = np.ones(window, np.int16)
    result = np.zeros_like(mask)
    within = (*box[:2], slice(None))
    result[within] = 2 * ndimage.convolve1d(mask[within].astype(np.int16), kernel, axis=2, mode="nearest") > window
    return result


def thinnest(heights: NDArray[np.float64], at: float, step: float, seen: tuple[float, float]) -> float | None:
    """Return how far from ``at`` a column has the smallest cross-section, which is the middle of a disc.

    Args:
        heights: position along the column of each of its voxels, mm.
        at: expected position of the disc, mm.
        step: distance between slices in mm, the scatter of the voxels' positions.
        seen: first and last segmented height, mm.

    Returns:
        Millimetres, positive above ``at``; ``None`` if no disc is clearly visible.
    """
    sigma = max(1.5, 0.7 * step)
    # at the ends of the slab the area of the masks decreases as in a disc
    if at - DISC_SEARCH_MM - 2 * sigma < seen[0] or at + DISC_SEARCH_MM + 2 * sigma > seen[1]:
        return None
    # counted beyond the search range, so that smoothing makes no minimum at its ends
    reach = DISC_SEARCH_MM + np.ceil(4.0 * sigma)
    wide = np.arange(-reach, reach + 0.25, 0.5)
    counts, _ = np.histogram(heights - at, np.append(wide - 0.25, wide[-1] + 0.25))
    area = ndimage.gaussian_filter1d(counts.astype(float), sigma / 0.5, mode="nearest")
    searched = np.abs(wide) <= DISC_SEARCH_MM
    least = area[searched].min()
    lowest = np.flatnonzero(searched & (area == least))
    # a minimum has two sides: at the end of the masks there is none
    if least >= CLEAR_DISC_SHARE * min(area[: lowest[0] + 1].max(), area[lowest[-1] :].max()):
        return None
    return float(wide[lowest].mean())  # the middle of an empty gap


def _component_nearest_centre(index: NDArray[np.intp], distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which voxels belong to the connected component nearest to the centre, apart from very small ones."""
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


def stand_in(vertebra: VertebraLocation, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return an elliptic cylinder (X, Y, Z) at a located vertebra, to examine its surroundings without segmentation."""
    mask = np.zeros(shape, dtype=bool)
    superior, inferior = np.asarray(vertebra.superior_mm), np.asarray(vertebra.inferior_mm)
    half = 0.4 * float(np.linalg.norm(superior - inferior))  # the disc has the remaining fifth
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
