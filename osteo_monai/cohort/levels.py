"""Location of vertebrae by a label map: centres and planes through the discs."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.domain import VertebraLevel
from osteo_monai.screening.ct.bodies import VertebraLocation

Box: TypeAlias = tuple[slice, ...]

HALF_DISC_MM = 4.0
"""From an end plate to the middle of its disc, if no neighbour is labelled; project custom. Discs of the thoracolumbar
junction are 6 to 10 mm high."""
LARGEST_DISC_MM = 20.0
"""A larger gap is not a disc: a level between is not labelled. Project custom, with margin for eroded labels."""
CORE_RADIUS_MM = 10.0
"""End plates are taken within this distance from the axis, away from their rims."""


def locate_labelled(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], levels: Sequence[VertebraLevel]
) -> list[VertebraLocation]:
    """Return where levels are in a label map: their centres and points in the discs above and below.

    Only the position is taken from the mask, as by a reader who picks L1 and L2 by hand. The axis of a body is the mean
    normal of its two end plates; a plane is half-way to the neighbour's end plate, or 4 mm beyond the end plate if no
    neighbour is labelled.

    Args:
        labels: (X, Y, Z) with ``VertebraLevel.label``, RAS+.
        affine: (4, 4) voxel index to RAS+ mm.
        levels: levels to locate.

    Raises:
        ValueError: if a level is not labelled, or its label reaches the first or last slice.
    """
    boxes = _boxes(labels)
    problems = []
    for level in levels:
        if level not in boxes:
            problems.append(f"{level} is not labelled")
        elif boxes[level][2].start == 0 or boxes[level][2].stop == labels.shape[2]:
            problems.append(f"{level} is cut by the first or last slice of the label map")
    if problems:
        raise ValueError("; ".join(problems))
    return [_located(labels, affine, boxes, level) for level in levels]


def _boxes(labels: NDArray[np.uint8]) -> dict[VertebraLevel, Box]:
    """Return the bounding box of each labelled vertebra, from the top down."""
    objects = ndimage.find_objects(labels)
    boxes: dict[VertebraLevel, Box] = {}
    for level in VertebraLevel:
        box = objects[level.label - 1] if level.label <= len(objects) else None
        if box is not None and level is not VertebraLevel.SACRUM:
            boxes[level] = box
    return boxes


def _located(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], boxes: Mapping[VertebraLevel, Box], level: VertebraLevel
) -> VertebraLocation:
    body = labels[boxes[level]] == level.label
    points = _world(np.argwhere(body), boxes[level], affine)
    centre = points.mean(axis=0)
    axis = _axis(body, boxes[level], affine, centre)
    order = list(boxes)
    index = order.index(level)
    ends = []
    for side, beside in ((1.0, index - 1), (-1.0, index + 1)):
        end_plate = _extent(points, centre, side * axis)[1]
        beyond = end_plate + 2 * HALF_DISC_MM
        if 0 <= beside < len(order):
            name = order[beside]
            neighbour = _world(np.argwhere(labels[boxes[name]] == name.label), boxes[name], affine)
            first = _extent(neighbour, centre, side * axis)[0]
            # a neighbour that is not adjacent, or off the axis, does not limit this disc
            beyond = first if end_plate < first < end_plate + LARGEST_DISC_MM else beyond
        ends.append(centre + side * (end_plate + beyond) / 2 * axis)
    middle, superior, inferior = ((float(p[0]), float(p[1]), float(p[2])) for p in (centre, *ends))
    return VertebraLocation(level, middle, superior, inferior)


def _world(index: NDArray[np.intp], box: Box, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return RAS+ mm of voxels (n, 3) counted from the corner of ``box``."""
    return np.asarray((index + [side.start for side in box]) @ affine[:3, :3].T + affine[:3, 3])


def _axis(
    body: NDArray[np.bool_], box: Box, affine: NDArray[np.float64], centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the unit vector up a body: the mean normal of the planes fitted to its upper and lower surface."""
    columns = np.argwhere(body.any(axis=2))
    highest = body.shape[2] - 1 - body[:, :, ::-1].argmax(axis=2)
    normals = []
    for surface in (highest, body.argmax(axis=2)):
        points = _world(np.column_stack([columns, surface[tuple(columns.T)]]), box, affine) - centre
        points = points[np.hypot(points[:, 0], points[:, 1]) < CORE_RADIUS_MM]
        if len(points) < 3:
            return np.array([0.0, 0.0, 1.0])
        design = np.column_stack([points[:, :2], np.ones(len(points))])
        slope = np.linalg.lstsq(design, points[:, 2], rcond=None)[0]
        normal = np.array([-slope[0], -slope[1], 1.0])
        normals.append(normal / np.linalg.norm(normal))
    axis = normals[0] + normals[1]
    return np.asarray(axis / np.linalg.norm(axis))


def _extent(points: NDArray[np.float64], centre: NDArray[np.float64], axis: NDArray[np.float64]) -> tuple[float, float]:
    """Return the first and last position along ``axis`` (mm from ``centre``) of points near it; NaN for none."""
    offset = points - centre
    along = offset @ axis
    along = along[np.linalg.norm(offset - along[:, None] * axis, axis=1) < CORE_RADIUS_MM]
    return (float(along.min()), float(along.max())) if len(along) else (math.nan, math.nan)
