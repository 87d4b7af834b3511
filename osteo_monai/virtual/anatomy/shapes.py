"""Shapes with a distance function and a value, painted in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import MineralStandard
from osteo_monai.virtual.canvas import Box, Canvas, capsule, chain, ellipsoid

Positions = tuple[Tensor, Tensor, Tensor]
Vec = NDArray[np.float64]


class Palette(Protocol):
    """Values of materials: HU for CT, attenuation or mineral for other acquisitions."""

    def tissue(self, name: str) -> float:
        """Value of a soft tissue, fluid or gas."""

    def bone(self, density: float | Tensor) -> float | Tensor:
        """Value of bone whose density is in mg/cm3 K2HPO4 as by single-energy QCT at 120 kVp."""

    def mineral(self, density: float, standard: MineralStandard) -> float:
        """Value of a reference mineral in water, mg/cm3."""

    def solid(self, name: str) -> float:
        """Value of an implant material."""


Value = Callable[[Palette, Positions, Tensor], "float | Tensor"]

_DENSE = 0.8
"""Share of visible voxels from which a texture is computed in the whole box."""


@dataclass(frozen=True)
class Texture:
    """A value that costs more than a distance: ``paint_shapes`` computes it at painted voxels only."""

    value: Value

    def __call__(self, palette: Palette, p: Positions, distance: Tensor) -> "float | Tensor":
        return self.value(palette, p, distance)


@dataclass(frozen=True)
class Shape:
    """One part of the body: bounding box, distance function, material and label."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    distance: Callable[[Positions], Tensor]
    value: Value
    label: int | None = None
    shell: tuple[float, Value] | None = None
    """Thickness in mm and value of a shell on the inside of the surface (cortex)."""
    mineral: bool = False
    """Whether it is a calcification in soft tissue."""
    hidden: Callable[[Positions], Tensor] | None = None
    """Distance of a later shape with a box as large, which covers a part of this one."""


class Noise:
    """Smooth random fields as functions of position: one periodic cube, sampled at any scale."""

    def __init__(self, seed: int, size: int = 48) -> None:
        generator = torch.Generator().manual_seed(seed)
        cube = torch.randn((size,) * 3, generator=generator)
        for axis in range(3):  # continuous from one period to the next
            cube.select(axis, -1).copy_(cube.select(axis, 0))
        self._size = size
        self._cube = cube[None, None]

    def __call__(self, p: Positions, scale: float | Sequence[float], shift: float = 0.0) -> Tensor:
        """Sample the field, of unit variance at its nodes, which lie ``scale`` mm apart, at positions ``p``."""
        scales = (scale,) * 3 if isinstance(scale, int | float) else scale
        n = self._size
        shape = p[0].shape if p[0].shape == p[1].shape == p[2].shape else torch.broadcast_shapes(*(x.shape for x in p))
        cells = torch.empty((*shape, 3), device=p[0].device)
        for axis, (x, s) in enumerate(zip(p, scales, strict=True)):
            cells[..., axis] = (x / s).add_(shift).remainder_(n - 1)
        cells.mul_(2.0 / (n - 1)).sub_(1.0)
        cube = self._cube.to(cells.device)
        flat = cells.reshape(1, 1, 1, -1, 3)
        return torch.nn.functional.grid_sample(cube, flat, align_corners=True).reshape(shape)


def fixed(name: str) -> Value:
    """Return the value of a tissue without texture."""
    return lambda palette, p, d: palette.tissue(name)


def spline(points: Sequence[Sequence[float] | Vec], per_piece: int = 4) -> NDArray[np.float64]:
    """Return points (n, 3) of a Catmull-Rom curve through ``points``."""
    p = np.array([points[0], *points, points[-1]], float)
    t = np.linspace(0, 1, per_piece, endpoint=False)[:, None]
    a, b, c, d = (part[:, None] for part in (p[:-3], p[1:-2], p[2:-1], p[3:]))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([curve.reshape(-1, p.shape[1]), p[-2:-1]])


class Builder:
    """Add shapes to a list, at random but repeatably; base of the builders of all regions."""

    shapes: list[Shape]
    _rng: np.random.Generator
    _noise: Noise

    def _uniform(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))

    def _add(
        self,
        points: Sequence[Sequence[float] | Vec] | Vec,
        reach: float,
        distance: Callable[[Positions], Tensor],
        value: Value,
        label: int | None = None,
        shell: tuple[float, Value] | None = None,
        mineral: bool = False,
        hidden: Callable[[Positions], Tensor] | None = None,
    ) -> None:
        corners = np.array(points, float)
        low, high = (corners.min(0) - reach).tolist(), (corners.max(0) + reach).tolist()
        self.shapes.append(Shape(tuple(low), tuple(high), distance, value, label, shell, mineral, hidden))

    def _rod(
        self,
        start: Sequence[float] | Vec,
        end: Sequence[float] | Vec,
        radius: float,
        value: Value,
        *,
        end_radius: float | None = None,
        stretch: Sequence[float] = (1.0, 1.0, 1.0),
        label: int | None = None,
        shell: tuple[float, Value] | None = None,
        mineral: bool = False,
    ) -> None:
        reach = max(radius, end_radius or 0.0) * max(stretch)
        a, b = [float(x) for x in start], [float(x) for x in end]
        self._add([a, b], reach, lambda p: capsule(p, a, b, radius, end_radius, stretch), value, label, shell, mineral)

    def _blob(self, centre: Sequence[float] | Vec, radii: Sequence[float], value: Value) -> None:
        c, r = [float(x) for x in centre], [float(x) for x in radii]
        self._add([c], max(r), lambda p: ellipsoid(p, c, r), value)

    def _pipe(
        self,
        points: NDArray[np.float64],
        radius: NDArray[np.float64],
        value: Value,
        *,
        stretch: Sequence[float] = (1.0, 1.0, 1.0),
        label: int | None = None,
        shell: tuple[float, Value] | None = None,
        pieces: int = 4,
    ) -> None:
        """Add a bent tube without seams: each shape is the union of a few pieces, including the adjacent ones."""
        last = len(points) - 1
        for first in range(0, last, pieces):
            end = min(first + pieces, last)
            pieces_points = points[first : end + 1]
            reach = float(radius[first : end + 1].max()) * max(stretch)
            included = slice(max(first - 1, 0), min(end + 1, last) + 1)

            def distance(p: Positions, at: Vec = points[included], r: Vec = radius[included]) -> Tensor:
                return chain(p, at, r, stretch)

            self._add(pieces_points, reach, distance, value, label, shell)

    def _tube(self, points: Sequence[Vec], radius: Sequence[float], value: Value, **keywords: object) -> None:
        for a, b, ra, rb in zip(points[:-1], points[1:], radius[:-1], radius[1:], strict=True):
            self._rod(a, b, ra, value, end_radius=rb, **keywords)  # type: ignore[arg-type]

    def _textured(self, name: str, contrast: float, scale: float) -> Value:
        shift = self._uniform(0, 40)

        def value(palette: Palette, p: Positions, d: Tensor) -> float | Tensor:
            if getattr(palette, "smooth", False):  # texture is lost in sums along rays and costs time
                return palette.tissue(name)
            return palette.tissue(name) + contrast * self._noise(p, scale, shift)

        return Texture(value)


def paint_shapes(canvas: Canvas, palette: Palette, shapes: Sequence[Shape]) -> None:
    """Paint shapes in order, each in its bounding box."""
    boxes = canvas.boxes(np.array([s.low for s in shapes]), np.array([s.high for s in shapes]))
    for shape, box in zip(shapes, boxes, strict=True):
        if box is None:
            continue
        box, p, distance = _painted(canvas, box, shape.distance(canvas.positions(box)))
        if box is None:
            continue
        value = _value(canvas, palette, shape, p, distance)
        if shape.shell is None:
            canvas.paint(box, distance, value, shape.label)
            continue
        thickness, cortex = shape.shell
        canvas.paint_shell(box, distance, thickness, cortex(palette, p, distance), value, shape.label)


def _value(canvas: Canvas, palette: Palette, shape: Shape, p: Positions, distance: Tensor) -> "float | Tensor":
    """Return the value of a shape; 0 where none of a texture is visible."""
    if not isinstance(shape.value, Texture) or distance.device.type != "cpu":
        return shape.value(palette, p, distance)
    visible = distance < 0.5 * canvas.widest
    if shape.hidden is not None:
        visible &= shape.hidden(p) > -0.5 * canvas.widest
    if np.count_nonzero(visible.numpy()) > _DENSE * visible.numel():
        return shape.value(palette, p, distance)
    x, y, z = (axis.masked_select(visible) for axis in p)
    part = shape.value(palette, (x, y, z), distance.masked_select(visible))
    if not isinstance(part, Tensor):
        return part
    return torch.zeros(visible.shape).masked_scatter_(visible, part)


def _painted(canvas: Canvas, box: Box, distance: Tensor) -> tuple[Box | None, Positions, Tensor]:
    """Shrink ``box`` to the painted voxels, since values with textures are slower than distances.

    The result is the same, since nothing outside is painted. On a GPU the search takes longer than it saves.
    """
    size = tuple(part.stop - part.start for part in box)
    if distance.device.type != "cpu" or distance.shape != size:
        return box, canvas.positions(box), distance
    reduce_any = np.logical_or.reduce
    near = distance.numpy() < 0.5 * canvas.widest
    front = reduce_any(near, axis=0)
    inner = []
    for hit in (reduce_any(near.reshape(size[0], -1), axis=1), reduce_any(front, axis=1), reduce_any(front, axis=0)):
        first = int(hit.argmax())
        if not hit[first]:
            return None, canvas.positions(box), distance
        # one more voxel for the gradients at the last painted voxels
        inner.append(slice(max(first - 1, 0), len(hit) - int(hit[::-1].argmax()) + 1))
    x, y, z = (
        slice(part.start + painted.start, min(part.start + painted.stop, part.stop))
        for part, painted in zip(box, inner, strict=True)
    )
    return (x, y, z), canvas.positions((x, y, z)), distance[inner[0], inner[1], inner[2]]
