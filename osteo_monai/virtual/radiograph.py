"""Radiographs of a virtual person: a cone of rays through the body, and what a detector and its software make of it.

The body is painted twice on grids whose second axis runs along the rays: soft tissue, whose edges are smooth, on a
coarse grid as its equivalent in water, and mineral on a fine one. The two sums along each ray decide what is left of
the beam (:mod:`osteo_monai.virtual.beam`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import MineralStandard, VertebraLevel, View
from osteo_monai.imaging.attenuation import hu_per_mg_cm3
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.hips import hip_bones
from osteo_monai.virtual.anatomy.shapes import Palette, Shape
from osteo_monai.virtual.anatomy.thorax import Part, Thorax, Vessel
from osteo_monai.virtual.beam import absorbance, titanium_as_mineral
from osteo_monai.virtual.canvas import Box, Canvas
from osteo_monai.virtual.ct import CTPalette, gaussian_blur
from osteo_monai.virtual.threads import own_threads, side_by_side

L = VertebraLevel
MANUFACTURER = "Virtual"
BONE_G_CM2 = 0.05
"""Projected mineral from which a pixel counts as bone; the project's choice, a third of a thin rib's."""
BONE_FROM_HU = 100.0
"""HU above which a CT's voxel holds mineral: above muscle and organs; the project's choice."""
_STEP_MM, _SOFT_STEP_MM, _SOFT_PIXEL_MM = 2.5, 6.0, 1.9
_VOXELS_AT_ONCE = 24_000_000
_TITANIUM_MG_CM3, _CEMENT_MG_CM3 = 4540.0, 900.0
"""Titanium, and bone cement with its barium in terms of mineral."""


@dataclass(frozen=True)
class Processing:
    """What the software makes of a detector's signal.

    Attributes:
        compression: share of the differences over more than 15 mm that is taken away.
        detail: how much those below 3 mm are amplified.
        edges: how much those below 1 mm are amplified beyond that.
        window: quantiles of the body that are shown black and white.
        contrast: steepness of the S-shaped curve; 0 for none.
    """

    compression: float = 0.4
    detail: float = 0.8
    edges: float = 0.3
    window: tuple[float, float] = (0.004, 0.97)
    contrast: float = 1.6


@dataclass(frozen=True)
class RadiographProtocol:
    """How a radiograph is made; lengths in mm, at the detector.

    Attributes:
        field_size: width and height of the detector that is read out.
        size: columns and rows of the image.
        blur: standard deviation of the detector's and the focal spot's spread.
        photons: detected per square mm behind the measuring field, in thousands; 100 is about 3 uGy.
        exposure: factor on these, above 1 over-exposed.
        dynamic_range: highest signal that the detector can hold, relative to that behind the measuring field.
        scatter: scattered over primary radiation behind 20 cm of water, after the grid.
        heel: relative fall of the intensity from the cathode's side to the anode's.
        borders: width of the collimator's shadow at the left, right, top and bottom, as shares of the field.
        turn, tilt: of the person about the long and the transverse axis, degrees.
        shift: of the field from its usual place, to the person's left on frontal views and up.
        marker: letter burned in at the side it names; none where empty.
    """

    view: View = View.CHEST_FRONTAL
    kvp: float = 120.0
    filtration: Literal["light", "copper"] = "copper"
    source_distance: float = 1800.0
    field_size: tuple[float, float] = (430.0, 430.0)
    size: tuple[int, int] = (1024, 1024)
    gap: float = 30.0
    blur: float = 0.22
    photons: float = 100.0
    exposure: float = 1.0
    dynamic_range: float = 30.0
    scatter: float = 0.45
    heel: float = 0.12
    borders: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    turn: float = 0.0
    tilt: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    processing: Processing = Processing()
    bits: int = 12
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    marker: str = ""
    modality: Literal["DX", "CR"] = "DX"
    device: str = "Virtual DR 43"

    def __post_init__(self) -> None:
        if not 8 <= self.bits <= 16:
            raise ValueError(f"bits must be between 8 and 16, got {self.bits}")
        if min(self.size) < 32:
            raise ValueError(f"size must be at least 32 columns and rows, got {self.size}")

    @property
    def pixel(self) -> tuple[float, float]:
        """Width and height of a pixel at the detector."""
        return self.field_size[0] / self.size[0], self.field_size[1] / self.size[1]


def usual_protocol(view: View | str, size: int = 1024) -> RadiographProtocol:
    """Return the ordinary way of making ``view``, ``size`` rows high."""
    view = View(view)
    if view is View.CHEST_FRONTAL:
        return RadiographProtocol(size=(size, size))
    lateral = view is View.LUMBAR_LATERAL
    return RadiographProtocol(
        view=view,
        kvp=88.0 if lateral else 78.0,
        filtration="light",
        source_distance=1100.0,
        field_size=(260.0, 430.0) if lateral else (300.0, 430.0),
        size=(round(size * (260 if lateral else 300) / 430), size),
        gap=70.0,
        photons=70.0,
        scatter=0.9,
        processing=Processing(compression=0.6, detail=0.8, contrast=1.6),
    )


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
        """As ``Canvas.boxes``: the corners of a box are seen at their own magnification."""
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
        """RAS+ positions of the samples of ``box``, broadcastable to its shape."""
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
        """Width of the ramp between outside and inside: a pixel and the step along the ray, seen from the surface."""
        if distance.shape[1] < 2:
            return torch.full_like(distance, self.softness)
        # the steeper side counts: what is thinner than a step has its crease within reach of every sample
        step = (distance[:, 1:] - distance[:, :-1]).abs_()
        slope = torch.cat([step[:, :1], torch.maximum(step[:, 1:], step[:, :-1]), step[:, -1:]], 1)
        return slope.add_(self.softness)

    def paint_shapes(self, palette: Palette, shapes: Sequence[Shape]) -> None:
        """Paint shapes in order; edges cover a sample as far as the ray's step lies inside, thin shells likewise."""
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
                found = np.flatnonzero(hit)
                if not len(found):
                    return
                inner.append(slice(int(found[0]), int(found[-1]) + 1))
            cut = (inner[0], inner[1], inner[2])
            distance, ramp = distance[cut], ramp[cut]
            box = tuple(slice(b.start + c.start, b.start + c.stop) for b, c in zip(box, cut, strict=True))  # type: ignore[assignment]
        p = self.positions(box)
        cover = (0.5 - distance / ramp).clamp_(0.0, 1.0)
        value = shape.value(palette, p, distance)
        if shape.shell is not None:
            thickness, compact = shape.shell
            core = (0.5 - (distance + thickness) / ramp).clamp_(0.0, 1.0)
            # of what is covered this share lies inside the shell: a shell thinner than a step keeps its mass
            core /= cover.clamp(min=1e-6)
            hard = compact(palette, p, distance)
            value = hard + core * (value - hard)
        if isinstance(shape, Part) and shape.keep is not None:
            cover = cover * shape.keep(p)
        target = self.value[box]
        target += cover * (value - target)


class _SoftPalette(CTPalette):
    """Soft tissue in HU; bone counts as water here, its mineral is painted apart."""

    smooth = True

    def bone(self, density: float | Tensor) -> float | Tensor:
        return 30.0

    def solid(self, name: str) -> float:
        return 0.0


class _MineralPalette:
    """Mineral alone, mg/cm3; metal where asked for instead."""

    def __init__(self, metal: bool = False) -> None:
        self._metal = metal

    def tissue(self, name: str) -> float:
        return 0.0

    def bone(self, density: float | Tensor) -> float | Tensor:
        if self._metal:
            return 0.0
        return density.clamp(min=0.0) if isinstance(density, Tensor) else max(density, 0.0)

    def mineral(self, density: float, standard: MineralStandard) -> float:
        return density

    def solid(self, name: str) -> float:
        return {"titanium": _TITANIUM_MG_CM3, "cement": _CEMENT_MG_CM3}[name] if self._metal else 0.0


@dataclass(frozen=True)
class Paths:
    """What lies on the ray of each pixel: (rows, columns) maps, display orientation.

    Attributes:
        water: water-equivalent path without the mineral, cm.
        mineral: bone mineral, g/cm2 K2HPO4.
        metal: titanium and cement, g/cm2 as titanium.
    """

    water: Tensor
    mineral: Tensor
    metal: Tensor | None = None


@dataclass(frozen=True)
class VirtualRadiograph:
    """A simulated radiograph and its truth, on one grid of (rows, columns).

    Attributes:
        pixels: float32, 0..1, bone bright; row 0 on top, column 0 the viewer's left.
        bone_mask: bool; projected mineral of at least ``BONE_G_CM2``.
        mineral: float32, projected mineral in g/cm2 K2HPO4, magnified as the image is.
        landmarks: centre of each vertebral body in the field, as (row, column).
    """

    pixels: NDArray[np.float32]
    bone_mask: NDArray[np.bool_]
    mineral: NDArray[np.float32]
    protocol: RadiographProtocol
    anatomy: Anatomy | None = None
    landmarks: dict[VertebraLevel, tuple[float, float]] = field(default_factory=dict)
    seed: int = 0

    @property
    def stored(self) -> NDArray[np.uint16]:
        """The picture in whole grey levels of the protocol's bits, bone bright."""
        most = 2**self.protocol.bits - 1
        levels: NDArray[np.uint16] = np.clip(np.rint(self.pixels * most), 0, most).astype(np.uint16)
        return levels

    @property
    def spacing(self) -> tuple[float, float]:
        """Distance between rows and between columns at the detector, mm."""
        return self.protocol.pixel[1], self.protocol.pixel[0]


@dataclass(frozen=True)
class Beam:
    """Where source and detector stand: RAS+ mm, and the image's directions."""

    source: NDArray[np.float64]
    frame: NDArray[np.float64]
    distance: float
    span: tuple[float, float]
    """Nearest and farthest part of the body along the central ray, mm from the source."""

    def seen(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns-wise and rows-wise distance in mm at the detector from the central ray."""
        local = (point - self.source) @ self.frame
        return np.array([local[0], local[2]]) * self.distance / local[1]


_FRAMES: dict[View, NDArray[np.float64]] = {
    # columns: towards larger columns, along the beam, towards larger rows
    View.CHEST_FRONTAL: np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]]),
    View.LUMBAR_AP: np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
    View.LUMBAR_LATERAL: np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]),
}
"""Chest from behind, lumbar spine from the front, lateral from the right with the front of the body at the left."""


def _turned(frame: NDArray[np.float64], turn: float, tilt: float) -> NDArray[np.float64]:
    a, b = np.deg2rad([turn, tilt])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    c, s = np.cos(b), np.sin(b)
    about_first = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    turned: NDArray[np.float64] = about_z @ frame @ about_first
    return turned


def beam_for(anatomy: Anatomy, thorax: Thorax, protocol: RadiographProtocol) -> Beam:
    """Place source and detector for a person as a radiographer would."""
    frame = _turned(_FRAMES[protocol.view], protocol.turn, protocol.tilt)
    middle = anatomy.trunk_centre.astype(float)
    if protocol.view is View.CHEST_FRONTAL:
        # the upper edge a few cm above the shoulders
        magnification = protocol.source_distance / (protocol.source_distance - anatomy.half_depth - protocol.gap)
        half = 0.5 * protocol.field_size[1] / magnification
        aim = np.array([middle[0], thorax.chest_centre_y, thorax.top + 62.0 - half])
        near, far = anatomy.half_depth + 50.0, anatomy.half_depth + 70.0
    else:
        aim = anatomy.vertebra(L.L3).centre.copy()
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
    return Beam(aim - frame[:, 1] * to_aim, frame, protocol.source_distance, (to_aim - near, to_aim + far))


def _sum_rays(
    beam: Beam,
    protocol: RadiographProtocol,
    paint: Callable[[PerspectiveCanvas], None],
    *,
    factor: float,
    step: float,
    span: tuple[float, float],
    background: float,
) -> Tensor:
    """Paint bands of rows and sum along the rays, mm times what is painted above ``background``; (rows, columns)."""
    nx, ny = (int(np.ceil(n / factor)) for n in protocol.size)
    px, py = (p * factor for p in protocol.pixel)
    first = [-0.5 * f + 0.5 * p for f, p in zip(protocol.field_size, (px, py), strict=True)]
    count = int(np.ceil((span[1] - span[0]) / step))
    depth = (span[0] + 0.5 * step, step, count)
    height = max(1, min(ny, _VOXELS_AT_ONCE // (nx * count)))

    def band(start: int) -> Tensor:
        rows = (first[1] + py * start, py, min(height, ny - start))
        columns = (first[0], px, nx)
        canvas = PerspectiveCanvas(beam.source, beam.frame, beam.distance, columns, depth, rows, background=background)
        paint(canvas)
        return canvas.value.sum(1).T - background * count

    bands = side_by_side(band, range(0, ny, height))
    total = torch.cat(bands) * step
    x = (first[0] + px * torch.arange(nx)) / beam.distance
    y = (first[1] + py * torch.arange(ny)) / beam.distance
    return total * (1 + x[None, :] ** 2 + y[:, None] ** 2).sqrt()


def project_paths(anatomy: Anatomy, thorax: Thorax, beam: Beam, protocol: RadiographProtocol) -> Paths:
    """Return what lies on the ray of each pixel of a person's radiograph."""
    chest = protocol.view is View.CHEST_FRONTAL
    palette = _SoftPalette(max(protocol.kvp, 70.0), seed=anatomy.seed)
    soft_shapes = thorax.soft if chest else anatomy.soft_shapes

    def soft(canvas: PerspectiveCanvas) -> None:
        canvas.paint_shapes(palette, soft_shapes)

    factor = max(1.0, _SOFT_PIXEL_MM / protocol.pixel[0], 3.0)
    water = _sum_rays(beam, protocol, soft, factor=factor, step=_SOFT_STEP_MM, span=beam.span, background=-1000.0)
    water = _enlarged(water * 1e-4, protocol, factor)
    bones = anatomy.vertebra_shapes + thorax.hard
    if not chest:  # hips first, vessels' calcium too
        bones = hip_bones(anatomy) + bones + [s for s in anatomy.soft_shapes if s.mineral]
    mineral_palette = _MineralPalette()

    def hard(canvas: PerspectiveCanvas) -> None:
        canvas.paint_shapes(mineral_palette, bones)

    mineral = _sum_rays(beam, protocol, hard, factor=1.0, step=_STEP_MM, span=_span(bones, beam), background=0.0)
    metal = None
    if anatomy.hardware_shapes:
        metal_palette = _MineralPalette(metal=True)

        def foreign(canvas: PerspectiveCanvas) -> None:
            canvas.paint_shapes(metal_palette, anatomy.hardware_shapes)

        span = _span(anatomy.hardware_shapes, beam)
        metal = _sum_rays(beam, protocol, foreign, factor=1.0, step=1.5, span=span, background=0.0) * 1e-4
    if chest:
        water = water + 1e-4 * _draw_vessels(thorax.vessels, beam, protocol, 1040.0 - 1000.0 - thorax.lung_hu)
    return Paths(water.clamp(min=0.0), mineral * 1e-4, metal)


def _span(shapes: Sequence[Shape], beam: Beam) -> tuple[float, float]:
    low, high = np.array([s.low for s in shapes]), np.array([s.high for s in shapes])
    signs = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners = low[:, None] + signs * (high - low)[:, None]
    depth = ((corners - beam.source) @ beam.frame)[..., 1]
    return max(float(depth.min()) - 4, beam.span[0] - 30), min(float(depth.max()) + 4, beam.span[1] + 30)


def _enlarged(coarse: Tensor, protocol: RadiographProtocol, factor: float) -> Tensor:
    """A coarse map on the pixels of the image."""
    nx, ny = protocol.size
    if factor == 1.0:
        return coarse
    ys = (torch.arange(ny) + 0.5) / factor / coarse.shape[0] * 2 - 1
    xs = (torch.arange(nx) + 0.5) / factor / coarse.shape[1] * 2 - 1
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1)[None]
    fine = torch.nn.functional.grid_sample(
        coarse[None, None], grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    return fine[0, 0]


def _draw_vessels(vessels: Sequence[Vessel], beam: Beam, protocol: RadiographProtocol, contrast: float) -> Tensor:
    """Path through each vessel in mm times its ``contrast`` with the lung; (rows, columns)."""
    nx, ny = protocol.size
    image = np.zeros((ny, nx), np.float32)
    px, py = protocol.pixel
    pixel = 0.5 * (px + py)
    if not vessels:
        return torch.from_numpy(image)
    ends = np.array([[v.start, v.end] for v in vessels])
    local = (ends - beam.source) @ beam.frame
    scale = beam.distance / local[..., 1]
    at = np.stack([local[..., 0] * scale, local[..., 2] * scale], -1)  # mm at the detector
    radius = np.array([v.radius for v in vessels]) * scale.mean(1)
    length = np.linalg.norm(at[:, 1] - at[:, 0], axis=1)
    depth = np.abs(local[:, 1, 1] - local[:, 0, 1]) * scale.mean(1)
    steep = np.minimum(np.sqrt(1 + (depth / np.maximum(length, 1e-3)) ** 2), 2.0)
    shown = np.maximum(radius, 0.6 * pixel)
    weight = contrast * steep * (radius / shown) ** 2 / scale.mean(1)
    columns = -0.5 * protocol.field_size[0] + (np.arange(nx) + 0.5) * px
    rows = -0.5 * protocol.field_size[1] + (np.arange(ny) + 0.5) * py
    low, high = at.min(1) - shown[:, None] - pixel, at.max(1) + shown[:, None] + pixel
    c0, c1 = np.searchsorted(columns, low[:, 0]), np.searchsorted(columns, high[:, 0])
    r0, r1 = np.searchsorted(rows, low[:, 1]), np.searchsorted(rows, high[:, 1])
    for i in range(len(vessels)):
        if c0[i] >= c1[i] or r0[i] >= r1[i]:
            continue
        x, y = columns[c0[i] : c1[i]][None], rows[r0[i] : r1[i]][:, None]
        way = (at[i, 1] - at[i, 0]) / max(length[i], 1e-3)
        dx, dy = x - at[i, 0, 0], y - at[i, 0, 1]
        t = dx * way[0] + dy * way[1]
        off = dx * way[1] - dy * way[0]
        chord = 2 * np.sqrt(np.maximum(shown[i] ** 2 - off * off, 0))
        ends_in = np.clip(0.5 + t / pixel, 0, 1) * np.clip(0.5 + (length[i] - t) / pixel, 0, 1)
        image[r0[i] : r1[i], c0[i] : c1[i]] += (weight[i] * chord * ends_in).astype(np.float32)
    return torch.from_numpy(image)


def expose(paths: Paths, protocol: RadiographProtocol, seed: int = 0) -> Tensor:
    """Return the detector's signal, 1 behind the measuring field: primary and scattered, blurred and noisy."""
    generator = torch.Generator().manual_seed(seed * 7919 + 11)
    mineral = paths.mineral
    if paths.metal is not None:
        mineral = mineral + paths.metal * titanium_as_mineral(protocol.kvp, protocol.filtration)
    attenuated = absorbance(paths.water, mineral, protocol.kvp, protocol.filtration)
    ny, nx = attenuated.shape
    px, py = protocol.pixel
    x = (torch.arange(nx) + 0.5) * px - 0.5 * nx * px
    y = (torch.arange(ny) + 0.5) * py - 0.5 * ny * py
    reach = 1 + (x[None] ** 2 + y[:, None] ** 2) / protocol.source_distance**2
    fall = reach**-1.5 * (1 - protocol.heel * (y[:, None] / (ny * py)))
    open_field = _collimated(protocol, (ny, nx))
    primary = torch.exp(-attenuated) * fall * open_field
    # scattered radiation: more behind more water, spread over centimetres
    source = primary * (protocol.scatter * paths.water / 20.0)
    coarse = max(1, round(6.0 / px))
    small = torch.nn.functional.avg_pool2d(source[None, None], coarse, ceil_mode=True)
    spread = gaussian_blur(small[0, 0][..., None], [28.0 / (coarse * py), 28.0 / (coarse * px), 0])[..., 0]
    scattered = torch.nn.functional.interpolate(spread[None, None], (ny, nx), mode="bilinear")[0, 0]
    signal = primary + scattered * (0.15 + 0.85 * open_field)
    signal = gaussian_blur(signal[..., None], [protocol.blur / py, protocol.blur / px, 0])[..., 0]
    chosen = signal[_measuring_fields(protocol, (ny, nx))]
    signal = signal / chosen.mean().clamp(min=1e-9)
    quanta = 1e3 * protocol.photons * protocol.exposure * px * py
    noise = torch.randn(signal.shape, generator=generator)
    signal = signal + noise * (signal.clamp(min=0) / quanta).sqrt()
    return signal.clamp(min=1.0 / 4096, max=protocol.dynamic_range / protocol.exposure)


def _measuring_fields(protocol: RadiographProtocol, shape: tuple[int, int]) -> Tensor:
    """Where the automatic exposure looks: both lungs, or the spine."""
    ny, nx = shape
    chosen = torch.zeros(shape, dtype=torch.bool)
    places = ((0.32, 0.42), (0.68, 0.42)) if protocol.view is View.CHEST_FRONTAL else ((0.5, 0.5),)
    for x, y in places:
        chosen[int((y - 0.07) * ny) : int((y + 0.07) * ny), int((x - 0.06) * nx) : int((x + 0.06) * nx)] = True
    return chosen


def _collimated(protocol: RadiographProtocol, shape: tuple[int, int]) -> Tensor:
    """1 in the open field, 0 in the shadow of the collimator, with a penumbra."""
    ny, nx = shape
    left, right, top, bottom = protocol.borders
    px, py = protocol.pixel
    x, y = torch.arange(nx) + 0.5, torch.arange(ny) + 0.5
    across = torch.minimum((x - left * nx) * px, ((1 - right) * nx - x) * px)
    down = torch.minimum((y - top * ny) * py, ((1 - bottom) * ny - y) * py)
    open_x = (0.5 + across / 1.5).clamp(0, 1) if left or right else torch.ones(nx)
    open_y = (0.5 + down / 1.5).clamp(0, 1) if top or bottom else torch.ones(ny)
    return open_y[:, None] * open_x[None] * 0.9985 + 0.0015


def develop(signal: Tensor, protocol: RadiographProtocol) -> Tensor:
    """Return the picture for viewing, 0..1 with bone bright, from the detector's signal."""
    how = protocol.processing
    dense = -torch.log(signal)
    ny, nx = dense.shape
    px, py = protocol.pixel
    left, right, top, bottom = protocol.borders
    inside = dense[int(np.ceil(top * ny)) : int((1 - bottom) * ny), int(np.ceil(left * nx)) : int((1 - right) * nx)]
    least, most = _quantiles(inside, (0.002, 0.998))
    air = least + 0.22 * (most - least)  # what the beam reaches directly is no part of the picture's range
    body = inside > air
    low, high = _quantiles(inside[body], how.window)
    centred = dense.clamp(low - 1.5, high + 1.5)
    picture = dense
    if how.compression or how.detail or how.edges:
        large = _smooth(centred, 15.0, px, py)
        middle = _smooth(centred, 2.5, px, py)
        fine = _smooth(centred, 0.6, px, py)
        picture = (
            large * (1 - how.compression)
            + how.compression * 0.5 * (low + high)
            + (middle - large)
            + (1 + how.detail) * (fine - middle)
            + (1 + how.detail + how.edges) * (centred - fine)
        )
        held = picture[int(np.ceil(top * ny)) : int((1 - bottom) * ny), int(np.ceil(left * nx)) : int((1 - right) * nx)]
        low, high = _quantiles(held[body], how.window)
    scaled = (picture - low) / max(high - low, 1e-3)
    if how.contrast > 0:
        edge = float(np.tanh(0.5 * how.contrast))
        scaled = 0.5 + 0.5 * torch.tanh(how.contrast * (scaled - 0.5)) / edge
    scaled = scaled.clamp(0.0, 1.0)
    return _burn_marker(scaled, protocol)


def _quantiles(values: Tensor, shares: tuple[float, float]) -> tuple[float, float]:
    some = values.reshape(-1)[:: max(1, values.numel() // 40000)]
    low, high = torch.quantile(some, torch.tensor(shares)).tolist()
    return low, high


def _smooth(image: Tensor, sigma: float, px: float, py: float) -> Tensor:
    """Gaussian blur of ``sigma`` mm; wide ones on a smaller image."""
    step = max(1, int(0.4 * sigma / max(px, py)))
    if step == 1:
        return gaussian_blur(image[..., None], [sigma / py, sigma / px, 0])[..., 0]
    small = torch.nn.functional.interpolate(
        image[None, None], scale_factor=1 / step, mode="area", recompute_scale_factor=True
    )
    blurred = gaussian_blur(small[0, 0][..., None], [sigma / (step * py), sigma / (step * px), 0])[..., 0]
    return torch.nn.functional.interpolate(blurred[None, None], image.shape, mode="bilinear")[0, 0]


_LETTERS = {
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
}


def _burn_marker(picture: Tensor, protocol: RadiographProtocol) -> Tensor:
    if not protocol.marker:
        return picture
    letter = np.array([[int(c) for c in line] for line in _LETTERS[protocol.marker]], np.float32)
    ny, nx = picture.shape
    times = max(1, round(ny / 200))
    letter = np.kron(letter, np.ones((times, times), np.float32))
    top = int((protocol.borders[2] + 0.03) * ny)
    at_left = protocol.marker == "R"
    left = (
        int((protocol.borders[0] + 0.03) * nx) if at_left else int((0.97 - protocol.borders[1]) * nx) - letter.shape[1]
    )
    part = picture[top : top + letter.shape[0], left : left + letter.shape[1]]
    part.copy_(torch.maximum(part, torch.from_numpy(letter[: part.shape[0], : part.shape[1]])))
    return picture


def project(
    anatomy: Anatomy, protocol: RadiographProtocol, seed: int = 0, *, thorax: Thorax | None = None
) -> VirtualRadiograph:
    """Make a radiograph of a virtual person.

    Args:
        seed: of the noise.
        thorax: of the same person, where it is at hand already (it takes a tenth of a second).
    """
    with own_threads():
        thorax = thorax or Thorax(anatomy)
        beam = beam_for(anatomy, thorax, protocol)
        paths = project_paths(anatomy, thorax, beam, protocol)
        picture = develop(expose(paths, protocol, seed), protocol)
    px, py = protocol.pixel
    landmarks = {}
    for v in anatomy.vertebrae:
        x, y = beam.seen(v.centre)
        row, column = y / py + 0.5 * protocol.size[1] - 0.5, x / px + 0.5 * protocol.size[0] - 0.5
        if -0.5 < row < protocol.size[1] - 0.5 and -0.5 < column < protocol.size[0] - 0.5:
            landmarks[v.level] = (round(float(row), 1), round(float(column), 1))
    mineral = paths.mineral.numpy().astype(np.float32)
    return VirtualRadiograph(
        picture.numpy().astype(np.float32), mineral >= BONE_G_CM2, mineral, protocol, anatomy, landmarks, seed
    )


def decompose(hu: Tensor, kvp: float = 120.0) -> tuple[Tensor, Tensor]:
    """Divide HU into water (parts of water's density) and bone mineral (mg/cm3 K2HPO4).

    What exceeds ``BONE_FROM_HU`` counts as mineral: contrast agent and metal with it, so a scan should have neither.
    """
    water = 1.0 + hu.clamp(-1000.0, BONE_FROM_HU) / 1000.0
    mineral = (hu.clamp(max=2500.0) - BONE_FROM_HU).clamp(min=0) / hu_per_mg_cm3(MineralStandard.K2HPO4, kvp)
    return water, mineral


def project_ct(
    volume: CTVolume, protocol: RadiographProtocol, *, density_factor: float = 1.0, seed: int = 0
) -> VirtualRadiograph:
    """Make the radiograph of a CT, of a real person as well, through the middle of the volume.

    Args:
        density_factor: what the bone's mineral is multiplied by, so that one anatomy shows several densities.
        seed: of the noise.

    Raises:
        ValueError: ``density_factor`` is not positive.
    """
    if not density_factor > 0:
        raise ValueError(f"density_factor must be positive, got {density_factor}")
    hu = torch.as_tensor(np.ascontiguousarray(volume.hu), dtype=torch.float32)
    kvp = volume.acquisition.kvp or 120.0
    water, mineral = decompose(hu, float(np.clip(kvp, 70, 150)))
    both = torch.stack([water, mineral * density_factor])[None]
    size = np.array(hu.shape, float)
    affine = np.asarray(volume.affine, float)
    middle = (affine @ np.append(0.5 * (size - 1), 1.0))[:3]
    reach = np.abs(affine[:3, :3]) @ (0.5 * size)
    frame = _turned(_FRAMES[protocol.view], protocol.turn, protocol.tilt)
    middle = middle - frame[:, 0] * protocol.shift[0] - frame[:, 2] * protocol.shift[1]
    half = float(np.abs(frame[:, 1]) @ reach)
    to_middle = protocol.source_distance - protocol.gap - half
    beam = Beam(middle - frame[:, 1] * to_middle, frame, protocol.source_distance, (to_middle - half, to_middle + half))
    step = max(1.5, float(np.linalg.norm(affine[:3, :3], axis=0).min()))
    inverse = np.linalg.inv(affine)
    (nx, ny), (px, py) = protocol.size, protocol.pixel
    depth = torch.arange(beam.span[0] + 0.5 * step, beam.span[1], step)
    first = [-0.5 * f + 0.5 * p for f, p in zip(protocol.field_size, (px, py), strict=True)]
    bands = []
    height = max(1, 4_000_000 // (nx * len(depth)))
    for start in range(0, ny, height):
        rows = (first[1] + py * start, py, min(height, ny - start))
        canvas = PerspectiveCanvas(
            beam.source, frame, beam.distance, (first[0], px, nx), (float(depth[0]), step, len(depth)), rows
        )
        p = torch.broadcast_tensors(*canvas.positions((slice(None), slice(None), slice(None))))
        grid = []
        for axis in (2, 1, 0):  # grid_sample counts axes from the last
            at = sum(p[i] * float(inverse[axis, i]) for i in range(3)) + float(inverse[axis, 3])
            grid.append(at * (2.0 / max(size[axis] - 1, 1)) - 1.0)
        sampled = torch.nn.functional.grid_sample(both, torch.stack(grid, -1)[None], align_corners=True)
        bands.append(sampled[0].sum(2).transpose(1, 2))
    x, y = ((f + p * torch.arange(n)) / beam.distance for f, p, n in zip(first, (px, py), (nx, ny), strict=True))
    total = torch.cat(bands, 1) * step * (1 + x[None, :] ** 2 + y[:, None] ** 2).sqrt()
    paths = Paths(0.1 * total[0], 1e-4 * total[1])
    picture = develop(expose(paths, protocol, seed), protocol)
    mineral_map = paths.mineral.numpy().astype(np.float32)
    return VirtualRadiograph(picture.numpy().astype(np.float32), mineral_map >= BONE_G_CM2, mineral_map, protocol)


def draw_protocol(base: RadiographProtocol, rng: np.random.Generator) -> RadiographProtocol:
    """Vary positioning, exposure and collimation as one person's radiograph differs from the next."""
    chest = base.view is View.CHEST_FRONTAL
    left, right, top, bottom = (float(b) if rng.random() < 0.5 else 0.0 for b in rng.uniform(0.005, 0.05, 4))
    return replace(
        base,
        turn=float(rng.normal(0, 1.8 if chest else 2.5)),
        tilt=float(rng.normal(0, 2.5)),
        shift=(float(rng.normal(0, 6)), float(rng.normal(0, 10))),
        borders=(left, right, top, bottom),
        exposure=base.exposure * float(np.exp(rng.normal(0, 0.25))),
        scatter=base.scatter * float(rng.uniform(0.8, 1.2)),
        blur=base.blur * float(rng.uniform(0.85, 1.3)),
        kvp=float(np.clip(base.kvp + rng.normal(0, 2.5), 60, 145)),
        marker=("R", "L", "")[int(rng.integers(3))],
    )
