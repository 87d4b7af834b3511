"""Grid for anti-aliased painting of shapes given as signed distance functions, in torch.

A shape is a function of position whose value is (about) the distance to its surface in mm, negative inside. Painting
converts the distance to the fraction of a voxel that the shape covers, so that edges are partial volumes, and evaluates
the bounding box of the shape only. A smooth warp of the positions bends all shapes and labels in the same way.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Vector = Sequence[float] | NDArray[np.float64]
Box = tuple[slice, slice, slice]

_LONG_VOXEL = 1.25
"""Ratio of length along z to width of voxels above which ramps depend on direction (project custom)."""
_STACKED_VOXELS = 12_000
"""Voxels up to which the rods of a chain are computed in one pass: above, the intermediate values leave the cache."""
_WHOLE: Box = (slice(None), slice(None), slice(None))


class Places(tuple[Tensor, Tensor, Tensor]):
    """The x, y, z in mm of the voxels of a box of a canvas, as ``Canvas.positions`` returns them."""

    canvas: "Canvas"
    box: Box


def shared(p: tuple[Tensor, Tensor, Tensor], compute: Callable[[tuple[Tensor, Tensor, Tensor]], Tensor]) -> Tensor:
    """Return ``compute(p)``, which is evaluated once for all voxels of a canvas; several shapes may depend on it.

    ``compute`` must be the same object in each call, and a function of the position only. It may add axes in front.
    """
    return p.canvas.shared(compute)[(..., *p.box)] if isinstance(p, Places) else compute(p)


class Canvas:
    """A regular, axis-aligned grid in RAS+ mm with one painted value and one label a voxel.

    Args:
        origin: RAS+ position in mm of voxel (0, 0, 0).
        spacing: voxel size in mm along x, y, z.
        shape: number of voxels along x, y, z.
        background: initial value (HU of air).
        pose: (4, 4) rigid map from the canvas' mm to the mm in which shapes are given.
        warp: maps positions (3, ...) in mm, after the pose, to displaced positions of the same shape.
        reach: the largest displacement of ``warp`` in mm.
        softness: width in mm of the ramp between outside and inside. By default the mean in-plane voxel size; if
            voxels are longer along z, it grows to their length as a surface turns towards z.
    """

    def __init__(
        self,
        origin: Vector,
        spacing: Vector,
        shape: Sequence[int],
        *,
        background: float = -1000.0,
        pose: NDArray[np.float64] | None = None,
        warp: Callable[[Tensor], Tensor] | None = None,
        reach: float = 0.0,
        softness: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape must be three positive integers, got {tuple(shape)}")
        self.device = torch.device(device)
        self.origin = [float(o) for o in origin]
        self.spacing = [float(s) for s in spacing]
        self.shape = tuple(int(n) for n in shape)
        self.axes = [
            o + s * torch.arange(n, dtype=torch.float32, device=self.device)
            for o, s, n in zip(self.origin, self.spacing, self.shape, strict=True)
        ]
        self.reach = reach
        in_plane = 0.5 * (self.spacing[0] + self.spacing[1])
        self._turns = softness is None and self.spacing[2] > _LONG_VOXEL * in_plane
        self.softness = softness if softness is not None else in_plane
        self.widest = self.spacing[2] if self._turns else self.softness
        """Largest width of the ramp in mm; painting ends at half of it outside a surface."""
        self.value = torch.full(self.shape, background, dtype=torch.float32, device=self.device)
        self.label = torch.zeros(self.shape, dtype=torch.uint8, device=self.device)
        self._warp = warp
        self._shared: dict[Callable[[tuple[Tensor, Tensor, Tensor]], Tensor], Tensor] = {}
        self._positions: Tensor | None = None
        self._inverse_pose = None if pose is None else np.linalg.inv(pose)
        if pose is not None or warp is not None:
            positions = torch.stack(torch.meshgrid(*self.axes, indexing="ij"))
            if pose is not None:
                matrix = torch.as_tensor(pose, dtype=torch.float32, device=self.device)
                positions = torch.einsum("ij,jxyz->ixyz", matrix[:3, :3], positions) + matrix[:3, 3, None, None, None]
            self._positions = positions if warp is None else warp(positions)

    def box(self, low: Vector, high: Vector) -> Box | None:
        """Return the voxels whose positions may lie between ``low`` and ``high`` (mm), or None if there are none."""
        return self.boxes(np.asarray(low, float)[None], np.asarray(high, float)[None])[0]

    def boxes(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> list[Box | None]:
        """Return ``box`` for many boxes: ``low`` and ``high`` have shape (n, 3)."""
        centre, half = 0.5 * (low + high), 0.5 * (high - low) + self.reach
        if self._inverse_pose is not None:
            centre = centre @ self._inverse_pose[:3, :3].T + self._inverse_pose[:3, 3]
            half = half @ np.abs(self._inverse_pose[:3, :3]).T
        half = half + [self.softness, self.softness, max(self.softness, 0.5 * self.widest)]
        first = np.floor((centre - half - self.origin) / self.spacing).clip(0, None).astype(int)
        last = (np.ceil((centre + half - self.origin) / self.spacing) + 1).clip(None, self.shape).astype(int)
        meets: list[bool] = np.all(first < last, axis=1).tolist()
        return [
            (slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2])) if met else None
            for met, a, b in zip(meets, first.tolist(), last.tolist(), strict=True)
        ]

    def positions(self, box: Box) -> tuple[Tensor, Tensor, Tensor]:
        """Return the (warped) x, y, z in mm of the voxels of ``box``, broadcastable to its shape."""
        if self._positions is not None:
            places = Places(self._positions[(slice(None), *box)].unbind())
        else:
            x, y, z = (axis[part] for axis, part in zip(self.axes, box, strict=True))
            places = Places((x[:, None, None], y[None, :, None], z[None, None, :]))
        places.canvas, places.box = self, box
        return places

    def shared(self, compute: Callable[[tuple[Tensor, Tensor, Tensor]], Tensor]) -> Tensor:
        """Return ``compute`` of all positions, (..., X, Y, Z), which is evaluated once; see ``canvas.shared``."""
        if compute not in self._shared:
            value = compute(self.positions(_WHOLE))
            self._shared[compute] = value.expand(*value.shape[:-3], *self.shape)
        return self._shared[compute]

    def width(self, distance: Tensor) -> Tensor | float:
        """Return the width in mm of the ramp at each voxel; for long voxels that along the gradient of ``distance``."""
        if not self._turns or distance.ndim != 3:
            return self.softness
        square = torch.zeros_like(distance)
        for axis in range(3):
            if distance.shape[axis] > 1:
                (change,) = torch.gradient(distance, dim=axis)
                square.addcmul_(change, change)
        return square.sqrt_().clamp_(self.softness, self.widest)

    def coverage(self, distance: Tensor) -> Tensor:
        """Return the fraction of a voxel inside a surface at signed ``distance`` (mm)."""
        return (distance / self.width(distance)).sub_(0.5).neg_().clamp_(0.0, 1.0)

    def paint(self, box: Box | None, distance: Tensor, value: float | Tensor, label: int | None = None) -> None:
        """Blend in ``value`` where ``distance`` is negative; set ``label`` (0 erases) at voxel centres inside."""
        if box is None:
            return
        target = self.value[box]
        change = value - target
        target += change.mul_(self.coverage(distance))
        if label is not None:
            self._mark(box, distance, label)

    def paint_shell(
        self,
        box: Box | None,
        distance: Tensor,
        thickness: float,
        shell: float | Tensor,
        core: float | Tensor,
        label: int | None = None,
    ) -> None:
        """Blend in a body with a shell of ``thickness`` mm on the inside of its surface.

        The share of the shell in a voxel is the coverage of the body minus that of its core, so that a shell much
        thinner than a voxel keeps its mass.
        """
        if box is None:
            return
        width = self.width(distance)
        outer = (distance / width).sub_(0.5).neg_().clamp_(0.0, 1.0)
        inner = (distance + thickness).div_(width).sub_(0.5).neg_().clamp_(0.0, 1.0)
        target = self.value[box]
        target *= 1.0 - outer
        target += outer.sub_(inner).mul_(shell).add_(inner.mul_(core))
        if label is not None:
            self._mark(box, distance, label)

    def _mark(self, box: Box, distance: Tensor, label: int) -> None:
        self.label[box] = torch.where(distance < 0, torch.tensor(label, dtype=torch.uint8), self.label[box])


def smooth_max(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Return the intersection of two shapes with the edge rounded over ``radius`` mm (polynomial smooth maximum)."""
    h = (radius - (a - b).abs()).clamp_(min=0.0)
    return torch.maximum(a, b) + h * h * (0.25 / radius)


def smooth_min(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Return the union of two shapes with the crease filled over ``radius`` mm."""
    h = (radius - (a - b).abs()).clamp_(min=0.0)
    return torch.minimum(a, b) - h * h * (0.25 / radius)


def capsule(
    p: tuple[Tensor, Tensor, Tensor],
    start: Vector,
    end: Vector,
    radius: float,
    end_radius: float | None = None,
    stretch: Vector = (1.0, 1.0, 1.0),
) -> Tensor:
    """Return the distance to a rod from ``start`` to ``end`` whose radius may taper; ``stretch`` > 1 thickens it along
    an axis.

    Distances are exact for a plain rod and shrink by the stretch along a stretched axis.
    """
    axes = [(float(a), float(b), 1.0 / float(s)) for a, b, s in zip(start, end, stretch, strict=True)]
    offset = [(x - a) * s for x, (a, _, s) in zip(p, axes, strict=True)]
    along = [(b - a) * s for a, b, s in axes]
    length2 = sum(d * d for d in along)
    if length2 == 0:
        t: Tensor | float = 0.0
    else:
        t = ((offset[0] * along[0] + offset[1] * along[1] + offset[2] * along[2]) / length2).clamp_(0.0, 1.0)
    dx, dy, dz = (o - d * t for o, d in zip(offset, along, strict=True))
    r = radius if end_radius is None else radius + (end_radius - radius) * t
    return (dx * dx + dy * dy + dz * dz).sqrt() - r


def chain(
    p: tuple[Tensor, Tensor, Tensor],
    points: NDArray[np.float64],
    radius: NDArray[np.float64],
    stretch: Vector = (1.0, 1.0, 1.0),
) -> Tensor:
    """Return the distance to the union of the rods between consecutive ``points`` (n, 3) with ``radius`` (n,).

    The result is that of ``capsule`` for each rod. A few voxels are computed for all rods in one pass.
    """
    if max(x.numel() for x in p) > _STACKED_VOXELS:
        rods = zip(points[:-1].tolist(), points[1:].tolist(), radius[:-1].tolist(), radius[1:].tolist(), strict=True)
        return functools.reduce(torch.minimum, (capsule(p, a, b, ra, rb, stretch) for a, b, ra, rb in rods))
    device, lines = p[0].device, (len(points) - 1, *[1] * p[0].ndim)
    scale = [1.0 / float(s) for s in stretch]
    along = (points[1:] - points[:-1]) * scale
    length2 = (along**2).sum(1)
    # all numbers of the rods in one tensor: start x, y, z, direction x, y, z, square of the length, radius, its change
    numbers = np.column_stack([points[:-1], along, np.where(length2 > 0, length2, 1.0), radius[:-1], np.diff(radius)])
    columns = torch.as_tensor(numbers.T, dtype=torch.float32, device=device).reshape(9, *lines)
    offset = [(x - columns[i]).mul_(scale[i]) for i, x in enumerate(p)]
    t = offset[0] * columns[3] + offset[1] * columns[4] + offset[2] * columns[5]
    t = t.div_(columns[6]).clamp_(0.0, 1.0)
    squares = None
    for i in range(3):
        d = offset[i] - columns[3 + i] * t
        squares = d * d if squares is None else squares + d * d
    assert squares is not None
    return (squares.sqrt_() - (columns[7] + columns[8] * t)).amin(0)


def ellipsoid(p: tuple[Tensor, Tensor, Tensor], centre: Vector, radii: Vector) -> Tensor:
    """Return the distance to an ellipsoid along the axes: first-order, exact on the surface."""
    q = [(x - float(c)) / float(r) for x, c, r in zip(p, centre, radii, strict=True)]
    k = (q[0] ** 2 + q[1] ** 2 + q[2] ** 2).sqrt()
    g = ((q[0] / float(radii[0])) ** 2 + (q[1] / float(radii[1])) ** 2 + (q[2] / float(radii[2])) ** 2).sqrt()
    return k * (k - 1.0) / g.clamp_(min=1e-6)
