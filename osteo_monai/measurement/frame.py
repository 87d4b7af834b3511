"""The vertebral body as a solid in millimetres: a sub-voxel signed distance and the axes of the body.

The region, the shape and the search for vessels need distances such as "4 mm from the cortex" and "the central half of
the height". Counting voxels cannot give them on a grid of 3 mm, or of 0.7 x 0.7 x 2 mm.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.utils.occupied import occupied_box

FINE_SPACING_MM = 1.0
"""Grids coarser than this along an axis are refined before the distance is taken."""
SMOOTHING_VOXELS = 0.7
"""Gaussian that smooths the staircase of a voxelised surface, in voxels of the CT grid."""
ALIGNED_STEP_MM = 0.75
"""Sampling of the body in its own axes."""
MIN_BODY_CM3 = 2.0
"""A smaller mask is not a vertebral body of an adult (L1 and L2 have 25 to 60 cm3; a fractured one keeps over 8)."""
CLEARLY_WIDER = 1.15
"""Ratio of width to depth from which on the section shows its rotation; lumbar bodies have 1.15 to 1.5."""
MAX_TILT_DEGREES = 60.0
"""Largest tilt; beyond it the axis of the body cannot be distinguished from its depth."""


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
        main_part: share of the mask's voxels in its largest connected part; the rest is ignored.
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
        """Return the signed distance in mm at (N, 3) points in RAS+ mm; far outside the (negative) value of the
        border.
        """
        index = _apply(np.asarray(np.linalg.inv(self.fine_affine), dtype=np.float64), points)
        return np.asarray(ndimage.map_coordinates(self.fine, index.T, order=1, mode="nearest"), dtype=np.float64)

    def to_body(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert (N, 3) RAS+ mm to coordinates along the axes of the body, mm from its centre."""
        return np.asarray((points - self.centre) @ self.axes.T)

    def to_world(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert coordinates of the body to RAS+ mm, the inverse of :meth:`to_body`."""
        return np.asarray(points @ self.axes + self.centre)


def body_frame(body: NDArray[np.bool_], affine: NDArray[np.float64]) -> BodyFrame:
    """Build the frame of a body mask (X, Y, Z) on the grid of ``affine`` (index to RAS+ mm).

    The axis is the normal of the surface half-way between the two end plates, so that a wedge or a concave end
    plate does not tilt it; front and side follow from the cross-section if it is clearly wider than deep, otherwise
    from the patient's front.

    Raises ``ValueError`` if the arrays do not fit, the mask holds less than 2 cm3 or is a line of single voxels.
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
    field, fine_affine = _surface_field(part, matrix, start)
    if not (field >= 0.5).any():
        raise ValueError("body must be thicker than one voxel, got a thin line")
    fine = _signed_distance(field, fine_affine)

    inside = np.argwhere(fine > 0)
    points = _apply(fine_affine, inside.astype(np.float64))
    centre = points.mean(axis=0)
    axes = _axes(field, fine_affine, points - centre, centre)
    aligned, origin = _align(fine, fine_affine, centre, axes, points)
    count = int(part.sum())
    return BodyFrame(
        centre, axes, aligned, origin, fine, fine_affine, volume_cm3=count * voxel_cm3, main_part=count / total
    )


def _apply(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def _largest_part(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the index of the first voxel of a crop and the crop, with the largest part and a rim of two voxels."""
    box = occupied_box(mask)
    assert box is not None  # the mask holds a body
    labels, count = ndimage.label(mask[box])
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        part = labels == int(sizes.argmax())
    else:
        part = labels > 0
    return np.array([s.start for s in box]) - 2, np.pad(part, 2)


def _surface_field(
    part: NDArray[np.bool_], affine: NDArray[np.float64], start: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the mask as a smooth field on the refined grid, 0.5 on the surface, and the affine of that grid."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    factor = np.maximum(np.ceil(spacing / FINE_SPACING_MM - 1e-6).astype(int), 1)
    # a voxelised slanted face is a staircase whose nearest step is always too near: smoothing by a share of the voxel
    # corrects it; a flat face keeps its place and a sphere of 20 mm loses 0.1 mm at 3 mm voxels
    field: NDArray[np.float32] = ndimage.gaussian_filter(part.astype(np.float32), SMOOTHING_VOXELS, mode="constant")
    for axis, f in enumerate(factor):
        where = (np.arange(part.shape[axis] * f) + 0.5) / f - 0.5
        low = np.clip(np.floor(where).astype(int), 0, part.shape[axis] - 1)
        high = np.minimum(low + 1, part.shape[axis] - 1)
        shape = [1, 1, 1]
        shape[axis] = len(where)
        weight = np.clip(where - low, 0.0, 1.0).astype(np.float32).reshape(shape)
        field = field.take(low, axis=axis) * (1 - weight) + field.take(high, axis=axis) * weight
    fine_affine = affine.copy()
    fine_affine[:3, :3] = affine[:3, :3] / factor
    fine_affine[:3, 3] = _apply(affine, (start + 0.5 / factor - 0.5)[None])[0]
    return np.ascontiguousarray(field, dtype=np.float32), fine_affine


def _signed_distance(field: NDArray[np.float32], fine_affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the distance in mm from every point of the refined grid to the 0.5 surface of the field, inside positive.

    The surface is the set of points where grid lines cross it, found by linear interpolation. A distance map of the
    thresholded field (Maurer) would measure to voxel centres and be up to 2 mm short in the middle of a sphere.
    """
    matrix = fine_affine[:3, :3]
    crossings = []
    for axis in range(3):
        ahead = np.moveaxis(field, axis, 0)[1:]
        behind = np.moveaxis(field, axis, 0)[:-1]
        at = np.argwhere((behind >= 0.5) != (ahead >= 0.5))
        first, second = behind[tuple(at.T)], ahead[tuple(at.T)]
        place = at.astype(np.float64)
        place[:, 0] += (0.5 - first) / (second - first)
        crossings.append(np.insert(place[:, 1:], axis, place[:, 0], axis=1))
    points = np.concatenate(crossings)
    cell = np.minimum(np.rint(points).astype(int), np.array(field.shape) - 1)
    flat, member = np.unique(np.ravel_multi_index(tuple(cell.T), field.shape), return_inverse=True)
    member = member.ravel()
    sums = [np.bincount(member, weights=points[:, axis]) for axis in range(3)]
    mean = np.stack(sums, axis=1) / np.bincount(member)[:, None]
    number = np.full(field.shape, -1)
    number.ravel()[flat] = np.arange(flat.size)
    # the nearest cell with surface, and those nearest to the neighbours, contain the nearest point
    spacing = np.linalg.norm(matrix, axis=0)
    nearest = ndimage.distance_transform_edt(number < 0, sampling=spacing, return_distances=False, return_indices=True)
    owner = number[tuple(nearest)]
    here = np.stack(np.meshgrid(*(np.arange(n) for n in field.shape), indexing="ij"), axis=-1)
    best = np.full(field.shape, np.inf)
    for shift in ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
        candidate = mean[np.roll(owner, shift, axis=(0, 1, 2))]
        best = np.minimum(best, np.sum(((here - candidate) * spacing) ** 2, axis=-1))
    distance = np.sqrt(best)
    return np.asarray(np.where(field >= 0.5, distance, -distance), np.float32)


def _axes(
    field: NDArray[np.float32],
    fine_affine: NDArray[np.float64],
    offsets: NDArray[np.float64],
    centre: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return unit vectors to the right, front and top of a body from its field and (N, 3) offsets from the centre."""
    axes = _complete(np.array([0.0, 0.0, 1.0]), offsets)
    for _ in range(8):  # each round measures the end plates in the axes of the last one
        tilt = _midsurface_tilt(field, fine_affine, offsets, centre, axes)
        new = axes[2] - tilt[0] * axes[0] - tilt[1] * axes[1]
        new /= np.linalg.norm(new)
        if new[2] < np.cos(np.radians(MAX_TILT_DEGREES)):
            break
        settled = float(new @ axes[2]) > np.cos(np.radians(0.1))
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
    # rotation about the axis (scoliosis) is used only if the section is clearly wider than deep
    if moments[1] > CLEARLY_WIDER**2 * moments[0] and across[0] > np.cos(np.radians(30.0)):
        right, front = across[0] * right + across[1] * front, across[0] * front - across[1] * right
    return np.stack([right, front, top])


def _midsurface_tilt(
    field: NDArray[np.float32],
    fine_affine: NDArray[np.float64],
    offsets: NDArray[np.float64],
    centre: NDArray[np.float64],
    axes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the slopes (along u and v) of the plane half-way between top and bottom of the central columns."""
    own = offsets @ axes.T
    half = np.percentile(np.abs(own[:, :2]), 97, axis=0)
    reach = float(np.abs(own[:, 2]).max()) + 2.0
    u, v = (np.arange(-0.6 * h, 0.6 * h + 1e-6, 2.0) for h in half)
    w = np.arange(-reach, reach, ALIGNED_STEP_MM)
    grid = np.stack(np.meshgrid(u, v, w, indexing="ij"), axis=-1)
    grid = grid[(u[:, None] / half[0]) ** 2 + (v[None, :] / half[1]) ** 2 < 0.6**2]  # (columns, W, 3)
    index = _apply(np.asarray(np.linalg.inv(fine_affine), dtype=np.float64), grid.reshape(-1, 3) @ axes + centre)
    line = ndimage.map_coordinates(field, index.T, order=1, mode="nearest").reshape(grid.shape[:2])
    # the middle of a column is the centroid of the field along it: without a threshold there are no steps
    weight = line.sum(axis=1)
    use = weight > 4.0
    if np.count_nonzero(use) < 6:
        return np.zeros(2)
    middle = (line @ w)[use] / weight[use]
    design = np.column_stack([grid[use, 0, :2], np.ones(np.count_nonzero(use))])
    slopes, *_ = np.linalg.lstsq(design, middle, rcond=None)
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
