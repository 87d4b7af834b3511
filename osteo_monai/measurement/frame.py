"""The vertebral body as a solid in millimetres: a sub-voxel signed distance and the body's own axes.

The region, the shape and the search for vessels all speak of "4 mm from the cortex" or "the central half of the
height". On a grid of 3 mm, or of 0.7 x 0.7 x 2 mm, counting voxels cannot say that; this module can.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

FINE_SPACING_MM = 1.0
"""Grids coarser than this along an axis are refined before the distance is taken."""
ALIGNED_STEP_MM = 0.75
"""Sampling of the body in its own axes."""
MIN_BODY_CM3 = 2.0
"""A mask below this is no vertebral body of an adult (L1 and L2 have 25 to 60 cm3; a fractured one keeps over 8)."""
CLEARLY_WIDER = 1.15
"""Ratio of width to depth from which the section tells its own rotation; lumbar bodies have 1.15 to 1.5."""
MAX_TILT_DEGREES = 60.0
"""Beyond this the body's axis cannot be told from its depth."""


@dataclass(frozen=True)
class BodyFrame:
    """One vertebral body: signed distance and axes.

    Attributes:
        centre: (3,) RAS+ mm, the centroid.
        axes: (3, 3), rows are the unit vectors towards the patient's right, the front and the top of this body.
        aligned: signed distance in mm (inside positive) sampled every 0.75 mm along the axes, shape (U, V, W).
        aligned_origin: (3,) coordinates in the body's axes (mm from the centre) of the first sample.
        fine, fine_affine: signed distance on the refined CT grid and its index-to-mm affine.
        volume_cm3: number of voxels times their volume.
        main_part: share of the mask's voxels in its largest connected part; the rest is left out.
    """

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    aligned: NDArray[np.float32]
    aligned_origin: NDArray[np.float64]
    fine: NDArray[np.float32]
    fine_affine: NDArray[np.float64]
    volume_cm3: float
    main_part: float

    def distance_at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Signed distance in mm at (N, 3) points in RAS+ mm; far outside it is the border's value (negative)."""
        index = _apply(np.asarray(np.linalg.inv(self.fine_affine), dtype=np.float64), points)
        return np.asarray(ndimage.map_coordinates(self.fine, index.T, order=1, mode="nearest"), dtype=np.float64)

    def to_body(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) RAS+ mm to coordinates along the body's axes in mm from its centre."""
        return np.asarray((points - self.centre) @ self.axes.T)

    def to_world(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of :meth:`to_body`."""
        return np.asarray(points @ self.axes + self.centre)


def body_frame(body: NDArray[np.bool_], affine: NDArray[np.float64]) -> BodyFrame:
    """Build the frame of a body mask (X, Y, Z) on the grid of ``affine`` (index to RAS+ mm).

    The axis is the normal of the surface half-way between the two end plates, so that a wedge or a concave end
    plate does not tilt it; front and side follow from the cross-section where it is clearly wider than deep, and
    from the patient's own front where it is not.

    Raises ``ValueError`` if the arrays do not fit or the mask holds less than 2 cm3.
    """
    mask = np.asarray(body, dtype=bool)
    matrix = np.asarray(affine, dtype=np.float64)
    if mask.ndim != 3:
        raise ValueError(f"body must have shape (X, Y, Z), got {mask.shape}")
    if matrix.shape != (4, 4):
        raise ValueError(f"affine must have shape (4, 4), got {matrix.shape}")
    voxel_cm3 = abs(float(np.linalg.det(matrix[:3, :3]))) / 1000.0
    total = int(mask.sum())
    if total * voxel_cm3 < MIN_BODY_CM3:
        raise ValueError(f"body must hold at least {MIN_BODY_CM3:g} cm3, got {total * voxel_cm3:.2f} cm3")
    start, part = _largest_part(mask)
    fine, fine_affine = _signed_distance(part, matrix, start)

    inside = np.argwhere(fine > 0)
    points = _apply(fine_affine, inside.astype(np.float64))
    centre = points.mean(axis=0)
    axes = _axes(points - centre)
    aligned, origin = _align(fine, fine_affine, centre, axes, points)
    count = int(part.sum())
    return BodyFrame(
        centre, axes, aligned, origin, fine, fine_affine, volume_cm3=count * voxel_cm3, main_part=count / total
    )


def _apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def _largest_part(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Index of the first voxel of the crop and the crop itself, holding the largest part with a rim of two voxels."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    labels, count = ndimage.label(mask[box])
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        part = labels == int(sizes.argmax())
    else:
        part = labels > 0
    return np.array([s.start for s in box]) - 2, np.pad(part, 2)


def _signed_distance(
    part: NDArray[np.bool_], affine: NDArray[np.float64], start: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    factor = np.maximum(np.ceil(spacing / FINE_SPACING_MM - 1e-6).astype(int), 1)
    # Each voxel is cut into `factor` parts. The half level of the linearly interpolated mask runs half-way between
    # voxel centres, where the surface of a voxelised solid lies on average.
    grid = [(np.arange(n * f) + 0.5) / f - 0.5 for n, f in zip(part.shape, factor, strict=True)]
    soft = part.astype(np.float32)
    for axis, where in enumerate(grid):
        low = np.clip(np.floor(where).astype(int), 0, part.shape[axis] - 1)
        high = np.minimum(low + 1, part.shape[axis] - 1)
        weight = np.clip(where - low, 0.0, 1.0).astype(np.float32)
        shape = [1, 1, 1]
        shape[axis] = len(where)
        weight = weight.reshape(shape)
        soft = soft.take(low, axis=axis) * (1 - weight) + soft.take(high, axis=axis) * weight
    step = spacing / factor
    image = sitk.GetImageFromArray((soft >= 0.5).astype(np.uint8).transpose(2, 1, 0))
    image.SetSpacing([float(s) for s in step])
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    # Maurer's distance is zero at the centres of the object's outermost voxels; the surface is half a voxel on.
    fine = sitk.GetArrayFromImage(distance).transpose(2, 1, 0) + 0.5 * float(step.mean())
    fine_affine = affine.copy()
    fine_affine[:3, :3] = affine[:3, :3] / factor
    fine_affine[:3, 3] = _apply(affine, (start + 0.5 / factor - 0.5)[None])[0]
    return np.ascontiguousarray(fine, dtype=np.float32), fine_affine


def _axes(offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors to the right, the front and the top of a body given as (N, 3) offsets from its centre."""
    top = np.array([0.0, 0.0, 1.0])
    axes = _complete(top, offsets)
    for _ in range(6):  # each round measures the end plates in the axes of the last one
        tilt = _midsurface_tilt(offsets @ axes.T)
        new = axes[2] - tilt[0] * axes[0] - tilt[1] * axes[1]
        new /= np.linalg.norm(new)
        if new[2] < np.cos(np.radians(MAX_TILT_DEGREES)):
            break
        settled = float(new @ axes[2]) > np.cos(np.radians(0.2))
        axes = _complete(new, offsets)
        if settled:
            break
    return axes


def _complete(top: NDArray[np.float64], offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    front = np.array([0.0, 1.0, 0.0]) - top[1] * top
    front /= np.linalg.norm(front)
    right = np.cross(front, top)
    u, v = offsets @ right, offsets @ front
    moments, vectors = np.linalg.eigh(np.cov(np.stack([u, v])))
    across = vectors[:, 1]  # the wider direction of the cross-section
    across = across if across[0] > 0 else -across
    # Rotation about the own axis (scoliosis) is believed only where the section is clearly wider than deep.
    if moments[1] > CLEARLY_WIDER**2 * moments[0] and across[0] > np.cos(np.radians(30.0)):
        right, front = across[0] * right + across[1] * front, across[0] * front - across[1] * right
    return np.stack([right, front, top])


def _midsurface_tilt(body: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slopes (along u and v) of the plane half-way between top and bottom of the body's central columns."""
    half = np.percentile(np.abs(body[:, :2]), 97, axis=0)
    central = np.sum((body[:, :2] / half) ** 2, axis=1) < 0.6**2
    column = np.round(body[central, :2] / 1.5).astype(int)
    height = body[central, 2]
    _, index = np.unique(column, axis=0, return_inverse=True)
    index = index.ravel()
    low = np.full(index.max() + 1, np.inf)
    high = np.full(index.max() + 1, -np.inf)
    np.minimum.at(low, index, height)
    np.maximum.at(high, index, height)
    place = np.zeros((len(low), 2))
    np.add.at(place, index, body[central, :2])
    place /= np.bincount(index)[:, None]
    design = np.column_stack([place, np.ones(len(place))])
    slopes, *_ = np.linalg.lstsq(design, (low + high) / 2.0, rcond=None)
    return np.asarray(slopes[:2])


def _align(
    fine: NDArray[np.float32],
    fine_affine: NDArray[np.float64],
    centre: NDArray[np.float64],
    axes: NDArray[np.float64],
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    own = (points - centre) @ axes.T
    low, high = own.min(axis=0) - 2.0, own.max(axis=0) + 2.0
    counts = np.ceil((high - low) / ALIGNED_STEP_MM).astype(int) + 1
    to_index = np.asarray(np.linalg.inv(fine_affine), dtype=np.float64)
    # index = inverse affine of (centre + axes^T (low + step n))
    matrix = to_index[:3, :3] @ axes.T * ALIGNED_STEP_MM
    offset = _apply(to_index, (axes.T @ low + centre)[None])[0]
    sampled = ndimage.affine_transform(fine, matrix, offset=offset, output_shape=tuple(counts), order=1, mode="nearest")
    return np.asarray(sampled, dtype=np.float32), low
