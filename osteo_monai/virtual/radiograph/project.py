"""Projection of a virtual patient, or of a CT, to a radiograph with its truth.

The body is painted twice on grids whose second axis runs along the rays: soft tissue, whose edges are smooth, on a
coarse grid as its equivalent in water, and mineral on a fine one. The two sums along each ray give the attenuation
(:mod:`osteo_monai.virtual.radiograph.beam`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import MineralStandard, VertebraLevel, View
from osteo_monai.imaging.attenuation import hu_per_mg_cm3
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.hips import hip_bones
from osteo_monai.virtual.anatomy.thorax import Thorax, Vessel
from osteo_monai.virtual.ct import CTPalette
from osteo_monai.virtual.radiograph.detector import Paths, develop, expose
from osteo_monai.virtual.radiograph.protocol import RadiographProtocol
from osteo_monai.virtual.radiograph.rays import PerspectiveCanvas, RayGeometry, ray_geometry, span, sum_rays, view_frame
from osteo_monai.virtual.threads import reserve_threads

BONE_G_CM2 = 0.05
"""Projected mineral from which a pixel counts as bone; the project's choice, a third of a thin rib's."""
BONE_FROM_HU = 100.0
"""HU above which a CT's voxel holds mineral: above muscle and organs; the project's choice."""
_STEP_MM, _SOFT_STEP_MM, _SOFT_PIXEL_MM = 2.5, 6.0, 1.9
_TITANIUM_MG_CM3, _CEMENT_MG_CM3 = 4540.0, 900.0
"""Titanium, and bone cement with its barium in terms of mineral."""


class _SoftPalette(CTPalette):
    """Soft tissue in HU; bone counts as water here, since its mineral is painted separately."""

    smooth = True

    def bone(self, density: float | Tensor) -> float | Tensor:
        return 30.0

    def solid(self, name: str) -> float:
        return 0.0


class MineralPalette:
    """Mineral only, mg/cm3; with ``metal``, titanium and cement instead."""

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
        """Grey levels in the bits of the protocol, bone bright."""
        most = 2**self.protocol.bits - 1
        levels: NDArray[np.uint16] = np.clip(np.rint(self.pixels * most), 0, most).astype(np.uint16)
        return levels

    @property
    def spacing(self) -> tuple[float, float]:
        """Distance between rows and between columns at the detector in mm."""
        return self.protocol.pixel[1], self.protocol.pixel[0]


def project(
    anatomy: Anatomy, protocol: RadiographProtocol, seed: int = 0, *, thorax: Thorax | None = None
) -> VirtualRadiograph:
    """Make a radiograph of a virtual person.

    Args:
        seed: of the noise.
        thorax: of the same person, if built before (it takes 0.1 s).
    """
    with reserve_threads():
        thorax = thorax or Thorax(anatomy)
        rays = ray_geometry(anatomy, thorax, protocol)
        paths = project_paths(anatomy, thorax, rays, protocol)
        picture = develop(expose(paths, protocol, seed), protocol)
    px, py = protocol.pixel
    landmarks = {}
    for v in anatomy.vertebrae:
        x, y = rays.project(v.centre)
        row, column = y / py + 0.5 * protocol.size[1] - 0.5, x / px + 0.5 * protocol.size[0] - 0.5
        if -0.5 < row < protocol.size[1] - 0.5 and -0.5 < column < protocol.size[0] - 0.5:
            landmarks[v.level] = (round(float(row), 1), round(float(column), 1))
    mineral = paths.mineral.numpy().astype(np.float32)
    return VirtualRadiograph(
        picture.numpy().astype(np.float32), mineral >= BONE_G_CM2, mineral, protocol, anatomy, landmarks, seed
    )


def project_paths(anatomy: Anatomy, thorax: Thorax, rays: RayGeometry, protocol: RadiographProtocol) -> Paths:
    """Return the paths through water, mineral and metal of each pixel of a person's radiograph."""
    chest = protocol.view is View.CHEST_FRONTAL
    palette = _SoftPalette(max(protocol.kvp, 70.0), seed=anatomy.seed)
    soft_shapes = thorax.soft if chest else anatomy.soft_shapes

    def soft(canvas: PerspectiveCanvas) -> None:
        canvas.paint_shapes(palette, soft_shapes)

    factor = max(1.0, _SOFT_PIXEL_MM / protocol.pixel[0], 3.0)
    water = sum_rays(rays, protocol, soft, factor=factor, step=_SOFT_STEP_MM, span=rays.span, background=-1000.0)
    water = _enlarged(water * 1e-4, protocol, factor)
    bones = anatomy.vertebra_shapes + thorax.hard
    if not chest:  # hips first; with the calcium of vessels
        bones = hip_bones(anatomy) + bones + [s for s in anatomy.soft_shapes if s.mineral]
    mineral_palette = MineralPalette()

    def hard(canvas: PerspectiveCanvas) -> None:
        canvas.paint_shapes(mineral_palette, bones)

    mineral = sum_rays(rays, protocol, hard, factor=1.0, step=_STEP_MM, span=span(bones, rays), background=0.0)
    metal = None
    if anatomy.hardware_shapes:
        metal_palette = MineralPalette(metal=True)

        def foreign(canvas: PerspectiveCanvas) -> None:
            canvas.paint_shapes(metal_palette, anatomy.hardware_shapes)

        depth = span(anatomy.hardware_shapes, rays)
        metal = sum_rays(rays, protocol, foreign, factor=1.0, step=1.5, span=depth, background=0.0) * 1e-4
    if chest:
        water = water + 1e-4 * draw_vessels(thorax.vessels, rays, protocol, 1040.0 - 1000.0 - thorax.lung_hu)
    return Paths(water.clamp(min=0.0), mineral * 1e-4, metal)


def _enlarged(coarse: Tensor, protocol: RadiographProtocol, factor: float) -> Tensor:
    """Interpolate a coarse map at the pixels of the image."""
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


def draw_vessels(vessels: Sequence[Vessel], rays: RayGeometry, protocol: RadiographProtocol, contrast: float) -> Tensor:
    """Return the path through the vessels in mm times their ``contrast`` with the lung, (rows, columns)."""
    nx, ny = protocol.size
    image = np.zeros((ny, nx), np.float32)
    px, py = protocol.pixel
    pixel = 0.5 * (px + py)
    if not vessels:
        return torch.from_numpy(image)
    ends = np.array([[v.start, v.end] for v in vessels])
    local = (ends - rays.source) @ rays.frame
    scale = rays.distance / local[..., 1]
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


def project_ct(
    volume: CTVolume, protocol: RadiographProtocol, *, density_factor: float = 1.0, seed: int = 0
) -> VirtualRadiograph:
    """Make the radiograph of a CT through the middle of the volume.

    Real anatomy with a known change of its mineral; ``benchmarks/radiograph_reading.py`` uses it.

    Args:
        density_factor: factor on the bone mineral, so that one anatomy shows several densities.
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
    frame = view_frame(protocol)
    middle = middle - frame[:, 0] * protocol.shift[0] - frame[:, 2] * protocol.shift[1]
    half = float(np.abs(frame[:, 1]) @ reach)
    to_middle = protocol.source_distance - protocol.gap - half
    rays = RayGeometry(
        middle - frame[:, 1] * to_middle, frame, protocol.source_distance, (to_middle - half, to_middle + half)
    )
    step = max(1.5, float(np.linalg.norm(affine[:3, :3], axis=0).min()))
    inverse = np.linalg.inv(affine)
    (nx, ny), (px, py) = protocol.size, protocol.pixel
    depth = torch.arange(rays.span[0] + 0.5 * step, rays.span[1], step)
    first = [-0.5 * f + 0.5 * p for f, p in zip(protocol.field_size, (px, py), strict=True)]
    bands = []
    height = max(1, 4_000_000 // (nx * len(depth)))
    for start in range(0, ny, height):
        rows = (first[1] + py * start, py, min(height, ny - start))
        canvas = PerspectiveCanvas(
            rays.source, frame, rays.distance, (first[0], px, nx), (float(depth[0]), step, len(depth)), rows
        )
        p = torch.broadcast_tensors(*canvas.positions((slice(None), slice(None), slice(None))))
        grid = []
        for axis in (2, 1, 0):  # grid_sample counts axes from the last
            at = sum(p[i] * float(inverse[axis, i]) for i in range(3)) + float(inverse[axis, 3])
            grid.append(at * (2.0 / max(size[axis] - 1, 1)) - 1.0)
        sampled = torch.nn.functional.grid_sample(both, torch.stack(grid, -1)[None], align_corners=True)
        bands.append(sampled[0].sum(2).transpose(1, 2))
    x, y = ((f + p * torch.arange(n)) / rays.distance for f, p, n in zip(first, (px, py), (nx, ny), strict=True))
    total = torch.cat(bands, 1) * step * (1 + x[None, :] ** 2 + y[:, None] ** 2).sqrt()
    paths = Paths(0.1 * total[0], 1e-4 * total[1])
    picture = develop(expose(paths, protocol, seed), protocol)
    mineral_map = paths.mineral.numpy().astype(np.float32)
    return VirtualRadiograph(picture.numpy().astype(np.float32), mineral_map >= BONE_G_CM2, mineral_map, protocol)


def decompose(hu: Tensor, kvp: float = 120.0) -> tuple[Tensor, Tensor]:
    """Return the water (relative density) and the bone mineral (mg/cm3 K2HPO4) of HU.

    HU above ``BONE_FROM_HU`` count as mineral; contrast agent and metal do as well, so a scan should have neither.
    """
    water = 1.0 + hu.clamp(-1000.0, BONE_FROM_HU) / 1000.0
    mineral = (hu.clamp(max=2500.0) - BONE_FROM_HU).clamp(min=0) / hu_per_mg_cm3(MineralStandard.K2HPO4, kvp)
    return water, mineral
