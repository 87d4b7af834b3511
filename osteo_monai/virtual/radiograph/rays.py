"""Rays from the focal spot to the detector: geometry of the exposure and a grid that follows the rays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import VertebraLevel, View
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.shapes import Palette, Shape
from osteo_monai.virtual.anatomy.thorax import Part, Thorax
from osteo_monai.virtual.canvas import Box, Canvas
from osteo_monai.virtual.radiograph.protocol import RadiographProtocol
from osteo_monai.virtual.threads import run_parallel

_VOXELS_AT_ONCE = 24_000_000


@dataclass(frozen=True)
class RayGeometry:
    """Focal spot and directions of the image, RAS+ mm.

    Attributes:
        source: (3,) position of the focal spot.
        frame: (3, 3); columns are the directions of image columns, of the central ray and of image rows.
        distance: from the source to the detector, mm.
        span: nearest and farthest part of the body along the central ray, mm from the source.
    """

    source: NDArray[np.float64]
    frame: NDArray[np.float64]
    distance: float
    span: tuple[float, float]

    def project(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance (column-wise, row-wise) from the central ray in mm at the detector."""
        local = (point - self.source) @ self.frame
        return np.asarray(np.array([local[0], local[2]]) * self.distance / local[1])


_VIEW_FRAMES: dict[View, NDArray[np.float64]] = {
    # columns: towards larger columns, along the beam, towards larger rows
    View.CHEST_FRONTAL: np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]),
    View.LUMBAR_AP: np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
    View.LUMBAR_LATERAL: np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]),
}
"""Chest from behind, lumbar spine from the front, lateral from the right with the front of the body at the left."""


def view_frame(protocol: RadiographProtocol) -> NDArray[np.float64]:
    """Return the frame (3, 3) of a protocol's view, turned and tilted as the person is."""
    a, b = np.deg2rad([protocol.turn, protocol.tilt])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    c, s = np.cos(b), np.sin(b)
    about_first = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    turned: NDArray[np.float64] = about_z @ _VIEW_FRAMES[protocol.view] @ about_first
    return turned


def ray_geometry(anatomy: Anatomy, thorax: Thorax, protocol: RadiographProtocol) -> RayGeometry:
    """Return the usual geometry of a view, aimed at the anatomy of a person."""
    frame = view_frame(protocol)
    middle = anatomy.trunk_centre.astype(float)
    if protocol.view is View.CHEST_FRONTAL:
        # the upper edge a few cm above the shoulders
        magnification = protocol.source_distance / (protocol.source_distance - anatomy.half_depth - protocol.gap)
        half = 0.5 * protocol.field_size[1] / magnification
        aim = np.array([middle[0], thorax.chest_centre_y, thorax.top + 62.0 - half])
        near, far = anatomy.half_depth + 50.0, anatomy.half_depth + 70.0
    else:
        aim = anatomy.vertebra(VertebraLevel.L3).centre.copy()
        aim[2] = aim[2] + 8
        if protocol.view is View.LUMBAR_AP:
            aim[0] = 0.6 * aim[0] + 0.4 * middle[0]
            near, far = anatomy.half_depth + 90, anatomy.half_depth + 90
        else:
            aim[1] += 8.0
            near, far = anatomy.half_width + 70, anatomy.half_width + 70
    aim = aim - frame[:, 0] * protocol.shift[0] - frame[:, 2] * protocol.shift[1]
    half_thickness = anatomy.half_width if protocol.view is View.LUMBAR_LATERAL else anatomy.half_depth
    to_aim = protocol.source_distance - protocol.gap - half_thickness
    return RayGeometry(aim - frame[:, 1] * to_aim, frame, protocol.source_distance, (to_aim - near, to_aim + far))


class PerspectiveCanvas(Canvas):
    """A canvas in a cone of rays: columns of the image, depth along the rays, rows of the image.

    Args:
        source: RAS+ position in mm of the focal spot.
        frame: (3, 3); columns are the directions in which image columns grow, of the central ray, and of rows.
        distance: from the source to the detector.
        columns, rows: first, step and number, mm from the central ray at the detector.
        depth: first, step and number of the samples along the central ray, mm from the source.
    """

    def __init__(
        self,
        source: NDArray[np.float64],
        frame: NDArray[np.float64],
        distance: float,
        columns: tuple[float, float, int],
        depth: tuple[float, float, int],
        rows: tuple[float, float, int],
        *,
        background: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        parts = (columns, depth, rows)
        origin, spacing, shape = ([part[i] for part in parts] for i in range(3))
        middle = depth[0] + 0.5 * depth[1] * depth[2]
        super().__init__(
            origin,
            spacing,
            shape,  # type: ignore[arg-type]
            background=background,
            softness=0.5 * (columns[1] + rows[1]) * middle / distance,
            device=device,
        )
        self.source, self.frame, self.distance = source, frame, distance

    def boxes(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> list[Box | None]:
        """Return voxels as ``Canvas.boxes``; each corner of a box has its own magnification."""
        centre, half = 0.5 * (low + high), 0.5 * (high - low) + self.softness
        signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
        corners = (centre[:, None] + signs * half[:, None] - self.source) @ self.frame
        depth = corners[..., 1].clip(1.0)
        seen = np.stack([corners[..., 0] * self.distance / depth, depth, corners[..., 2] * self.distance / depth], -1)
        grow = np.array([0.0, 0.5 * self.spacing[1], 0.0])  # so that a ray that just misses a sample's centre counts
        first = np.floor((seen.min(1) - grow - self.origin) / self.spacing).clip(0, None).astype(int)
        last = (np.ceil((seen.max(1) + grow - self.origin) / self.spacing) + 1).clip(None, self.shape).astype(int)
        meets: list[bool] = np.all(first < last, axis=1).tolist()
        return [
            (slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2])) if met else None
            for met, a, b in zip(meets, first.tolist(), last.tolist(), strict=True)
        ]

    def positions(self, box: Box) -> tuple[Tensor, Tensor, Tensor]:
        """Return RAS+ positions in mm of the samples of ``box``, broadcastable to its shape."""
        a, s, b = (axis[part] for axis, part in zip(self.axes, box, strict=True))
        ratio = s / self.distance
        local = (a[:, None, None] * ratio[None, :, None], s[None, :, None], ratio[None, :, None] * b[None, None, :])
        world = []
        for axis in range(3):
            total: Tensor | float = float(self.source[axis])
            for part, weight in zip(local, self.frame[axis].tolist(), strict=True):
                if abs(weight) > 1e-9:
                    total = total + part * weight
            world.append(total if isinstance(total, Tensor) else torch.full((1, 1, 1), total))
        return world[0], world[1], world[2]

    def along(self, distance: Tensor) -> Tensor:
        """Return the width in mm of the ramp at a surface: a pixel plus the step of the distance along the ray."""
        if distance.shape[1] < 2:
            return torch.full_like(distance, self.softness)
        # take the steeper side: a part thinner than a step has its crease within reach of every sample
        step = (distance[:, 1:] - distance[:, :-1]).abs_()
        slope = torch.cat([step[:, :1], torch.maximum(step[:, 1:], step[:, :-1]), step[:, -1:]], 1)
        return slope.add_(self.softness)

    def paint_shapes(self, palette: Palette, shapes: Sequence[Shape]) -> None:
        """Paint shapes in order; a sample at an edge is covered by the share of the ray's step that lies inside."""
        if not shapes:
            return
        boxes = self.boxes(np.array([s.low for s in shapes]), np.array([s.high for s in shapes]))
        for shape, box in zip(shapes, boxes, strict=True):
            if box is not None:
                self._paint_shape(palette, shape, box)

    def _paint_shape(self, palette: Palette, shape: Shape, box: Box) -> None:
        size = tuple(part.stop - part.start for part in box)
        distance = shape.distance(self.positions(box)).expand(size)
        ramp = self.along(distance)
        near = (distance < 0.5 * ramp).numpy() if distance.device.type == "cpu" else None
        if near is not None:
            inner = []
            front = np.logical_or.reduce(near, axis=0)
            hits = (
                np.logical_or.reduce(near.reshape(size[0], -1), axis=1),
                np.logical_or.reduce(front, axis=1),
                np.logical_or.reduce(front, axis=0),
            )
            for hit in hits:
                indices = np.flatnonzero(hit)
                if not len(indices):
                    return
                inner.append(slice(int(indices[0]), int(indices[-1]) + 1))
            cut = (inner[0], inner[1], inner[2])
            distance, ramp = distance[cut], ramp[cut]
            box = tuple(slice(b.start + c.start, b.start + c.stop) for b, c in zip(box, cut, strict=True))  # type: ignore[assignment]
        p = self.positions(box)
        cover = (0.5 - distance / ramp).clamp_(0.0, 1.0)
        value = shape.value(palette, p, distance)
        if shape.shell is not None:
            thickness, compact = shape.shell
            core = (0.5 - (distance + thickness) / ramp).clamp_(0.0, 1.0)
            # share of the covered part inside the shell: a shell thinner than a step keeps its mass
            core /= cover.clamp(min=1e-6)
            hard = compact(palette, p, distance)
            value = hard + core * (value - hard)
        if isinstance(shape, Part) and shape.keep is not None:
            cover = cover * shape.keep(p)
        target = self.value[box]
        target += cover * (value - target)


def sum_rays(
    rays: RayGeometry,
    protocol: RadiographProtocol,
    paint: Callable[[PerspectiveCanvas], None],
    *,
    factor: float,
    step: float,
    span: tuple[float, float],
    background: float,
) -> Tensor:
    """Paint bands of rows and sum along the rays: mm times the value above ``background``, (rows, columns)."""
    nx, ny = (int(np.ceil(n / factor)) for n in protocol.size)
    px, py = (p * factor for p in protocol.pixel)
    first = [-0.5 * f + 0.5 * p for f, p in zip(protocol.field_size, (px, py), strict=True)]
    count = int(np.ceil((span[1] - span[0]) / step))
    depth = (span[0] + 0.5 * step, step, count)
    height = max(1, min(ny, _VOXELS_AT_ONCE // (nx * count)))

    def band(start: int) -> Tensor:
        rows = (first[1] + py * start, py, min(height, ny - start))
        columns = (first[0], px, nx)
        canvas = PerspectiveCanvas(rays.source, rays.frame, rays.distance, columns, depth, rows, background=background)
        paint(canvas)
        return canvas.value.sum(1).T - background * count

    bands = run_parallel(band, range(0, ny, height))
    total = torch.cat(bands) * step
    x = (first[0] + px * torch.arange(nx)) / rays.distance
    y = (first[1] + py * torch.arange(ny)) / rays.distance
    return total * (1 + x[None, :] ** 2 + y[:, None] ** 2).sqrt()


def span(shapes: Sequence[Shape], rays: RayGeometry) -> tuple[float, float]:
    """Return the depth range of shapes along the central ray, mm from the source, within that of the body."""
    low, high = np.array([s.low for s in shapes]), np.array([s.high for s in shapes])
    signs = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners = low[:, None] + signs * (high - low)[:, None]
    depth = ((corners - rays.source) @ rays.frame)[..., 1]
    return max(float(depth.min()) - 4, rays.span[0] - 30), min(float(depth.max()) + 4, rays.span[1] + 30)
