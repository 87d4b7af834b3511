"""Virtual columns for the network that localises bodies and discs: painted once, scanned at random in every epoch."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, Randomizable
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging.straightening import STEP_MM, straighten
from osteo_monai.virtual.anatomy import Anatomy, Vertebra
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.ct import gaussian_blur, paint_table
from osteo_monai.virtual.datasets import SmoothWarp, _degrade, _random_palette, _random_person, _random_pose
from osteo_monai.virtual.person import Variant

_L = VertebraLevel
SIZE = (84, 64, 120)
"""Voxels of a painted column: 210 mm from side to side, 160 mm from back to front, 300 mm along the body."""
CENTRE_SD_MM, DISC_SD_MM = 4.0, 3.0
"""SD of the targets about the centre of a body and the middle of a disc."""
ROLES = ("ribbed", "last_ribbed", "lumbar", "last_lumbar")
NO_ROLE = -1.0
"""Role of a slice outside of any body, and of a body with stubs of ribs only."""
STUB_MM = 40.0
"""A rib that ends nearer to the axis than this looks like a transverse process, which ends at 28 to 52 mm."""


def paint_column(seed: int, index: int) -> dict[str, Any]:
    """Paint the surroundings of a virtual person's column, without noise.

    Args:
        seed: of the data set; sets with different seeds have different people.
        index: of the person.

    Returns:
        ``image`` int16 (X, Y, Z) HU at 2.5 mm; ``line`` float32 (Z, 2) x and y of the column in voxels; ``bodies``
        float32 (n, 7) x, y, z of a body's centre, z of its lower and upper end plate and of the disc below, all in
        voxels, and its index into ``ROLES``, for each vertebra whose centre, one of whose end plates or whose disc lies
        in the image; ``profile`` float32 (Z,) the share of a 12.5 mm square about the axis that is a body.
    """
    rng = np.random.default_rng([seed, index, 13])
    anatomy, palette = _random_person(rng), _random_palette(rng)
    zs = {v.level: float(v.centre[2]) for v in anatomy.vertebrae}
    at_thorax = rng.random() < 0.15
    middle_z = float(rng.uniform(zs[_L.T8], zs[_L.T5]) if at_thorax else rng.uniform(zs[_L.L4], zs[_L.T9]))
    near = min(anatomy.vertebrae, key=lambda v: abs(float(v.centre[2]) - middle_z))
    middle = np.array([near.centre[0], near.centre[1] - 15.0, middle_z])
    span = 0.5 * STEP_MM * (np.array(SIZE) - 1)
    warp = SmoothWarp(rng, float(rng.uniform(0, 8)))
    canvas = Canvas(
        middle + np.array([*rng.normal(0, 6, 2), 0.0]) - span,
        [STEP_MM] * 3,
        SIZE,
        pose=_random_pose(rng, middle, (7, 5, 6), 0.08, stretch=0.07),
        warp=warp,
        reach=warp.reach,
        softness=STEP_MM * float(rng.uniform(0.9, 1.15)),
    )
    if rng.random() < 0.6:
        paint_table(canvas, float(anatomy.trunk_centre[1] - anatomy.half_depth))
    anatomy.paint(canvas, palette)
    column = _Column(anatomy, canvas)
    return {"image": canvas.value.clamp(-1024, 3071).round().short(), **column.targets()}


class _Column:
    """Truth of a painted column, in voxels of its canvas."""

    def __init__(self, anatomy: Anatomy, canvas: Canvas) -> None:
        self.anatomy, self.canvas = anatomy, canvas
        whole = (slice(None), slice(None), slice(None))
        self.positions = torch.stack(torch.broadcast_tensors(*canvas.positions(whole)))
        self.coarse = self.positions[:, ::4, ::4, ::4]

    def targets(self) -> dict[str, Tensor]:
        """Return ``paint_column`` without its image."""
        rows = [row for v in self.anatomy.vertebrae if (row := self._vertebra(v)) is not None]
        line = self._line(np.array([row[:3] for row in rows]))
        return {
            "line": torch.from_numpy(line.astype(np.float32)),
            "bodies": torch.tensor(rows, dtype=torch.float32).reshape(-1, 7),
            "profile": torch.from_numpy(self._profile(line).astype(np.float32)),
        }

    def _vertebra(self, v: Vertebra) -> list[float] | None:
        """Return x, y, z of the centre, z of lower and upper end plate and of the disc below, and the role.

        Points outside the canvas are extrapolated along z; ``None`` if all are outside.
        """
        half = 0.5 * v.height
        heights = (0.0, -half, half, -half - 0.5 * v.disc_below)
        seen = {w: at for w in heights if (at := self._index(v.world(0.0, 0.0, w))) is not None}
        if not seen:
            return None
        points = []
        for w in heights:
            nearest = min(seen, key=lambda s: abs(s - w))
            points.append(seen[nearest] + [0.0, 0.0, (w - nearest) / STEP_MM])
        x, y = (float(c) for c in points[0][:2])
        return [x, y, *(float(point[2]) for point in points), float(self._role(v))]

    def _index(self, at: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the voxel coordinates of a point of the person; ``None`` outside of the canvas."""
        target = torch.as_tensor(at, dtype=torch.float32)[:, None, None, None]
        rough = ((self.coarse - target) ** 2).sum(0)
        near = 4 * np.array(np.unravel_index(int(rough.argmin()), rough.shape))
        low = np.maximum(near - 5, 0)
        box = tuple(slice(a, b) for a, b in zip(low, near + 6, strict=True))
        distance2 = ((self.positions[(slice(None), *box)] - target) ** 2).sum(0)
        if float(distance2.min()) > 3 * STEP_MM**2:
            return None
        weight = torch.exp(-distance2 / (2 * STEP_MM**2)).numpy()
        return np.asarray(np.array(ndimage.center_of_mass(weight)) + low)

    def _has_rib(self, v: Vertebra) -> bool:
        without = v.level is _L.T12 and Variant.ELEVEN_RIBS in self.anatomy.person.variants
        return v.level.startswith("T") and not without

    def _role(self, v: Vertebra) -> float:
        if v is self.anatomy.vertebrae[0]:
            return ROLES.index("last_lumbar")
        if not self._has_rib(v):
            return ROLES.index("lumbar")
        if max(self.anatomy.rib_reach(v.level)) < STUB_MM:  # such a rib cannot be distinguished from a process
            return NO_ROLE
        lowest = next(u for u in self.anatomy.vertebrae if self._has_rib(u))
        return ROLES.index("last_ribbed" if v is lowest else "ribbed")

    def _line(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (Z, 2) x and y of the column, extrapolated over at most 40 mm at its ends."""
        centres = centres[np.argsort(centres[:, 2])]
        if len(centres) > 1:
            below = centres[0] + (centres[0] - centres[1]) * 16 / max(1.0, centres[1, 2] - centres[0, 2])
            above = centres[-1] + (centres[-1] - centres[-2]) * 16 / max(1.0, centres[-1, 2] - centres[-2, 2])
            centres = np.stack([below, *centres, above])
        at = np.arange(self.canvas.shape[2])
        line = np.stack([np.interp(at, centres[:, 2], centres[:, axis]) for axis in (0, 1)], 1)
        return np.asarray(ndimage.gaussian_filter1d(line, 4.0, axis=0, mode="nearest"))

    def _profile(self, line: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (Z,) the share of a 12.5 mm square about the axis that is a vertebral body."""
        label = self.canvas.label
        body = (label > 0) & (label <= VertebraLevel.T13.label) & (label != _L.SACRUM.label)
        square = functional.avg_pool2d(body.float().permute(2, 0, 1)[:, None], 5, 1, 2)[:, 0].numpy()
        x, y = np.clip(np.rint(line).astype(int), 0, np.array(self.canvas.shape[:2]) - 1).T
        return np.asarray(square[np.arange(len(line)), x, y])


class PaintColumnd(MapTransform):
    """Replace the index of a person by the result of ``paint_column``; deterministic, so that MONAI can cache it.

    Args:
        keys: of the index.
        seed: see ``paint_column``.
    """

    def __init__(self, keys: Hashable = "index", seed: int = 0) -> None:
        super().__init__(keys)
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result.update(paint_column(self.seed, int(result[key])))
        return result


class RandColumnViewd(Randomizable, MapTransform):
    """Scan a painted column at random: slices, blur, noise, gain, an imprecise centre line, a crop, a mirror.

    The result has ``image`` float32 (1, 56, 40, ``slices``) in HU and ``label`` float32 (6, ``slices``): heat of the
    centres of bodies and of the middles of discs, share of body on the axis, role (see ``ROLES``, -1 outside bodies),
    x and y from the window's centre line to the column's axis in 10 mm. A body cut by the crop has no centre.

    Args:
        slices: length of the crop.
        seed: of fixed views (validation); ``None`` draws new ones each time.
    """

    def __init__(self, keys: Hashable = "image", slices: int = 80, seed: int | None = None) -> None:
        MapTransform.__init__(self, keys)
        self.slices, self.seed = slices, seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.seed is None:
            rng = np.random.default_rng(self.R.randint(2**31))
        else:
            rng = np.random.default_rng([self.seed, int(data["index"])])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        hu = _sliced(data["image"].float(), rng)
        hu = _degrade(hu, rng, STEP_MM, generator)
        line = data["line"].numpy().astype(np.float64)
        error = _line_error(len(line), rng)
        windows = straighten(hu, line + error)
        first = int(rng.integers(0, windows.shape[2] - self.slices + 1))
        part = slice(first, first + self.slices)
        label = _column_label(data["bodies"].numpy(), data["profile"].numpy(), first, self.slices)
        label[4:] = -error[part].T * (STEP_MM / 10.0)
        image = windows[..., part]
        if rng.random() < 0.5:
            image, label[4] = image.flip(0), -label[4]
        if rng.random() < 0.2:  # a small field of view
            near = int(rng.integers(0, 10))
            image = image.clone()
            image[:near], image[image.shape[0] - near :] = -1000.0, -1000.0
        return {"image": image[None].contiguous(), "label": torch.from_numpy(label.astype(np.float32))}


def _sliced(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """Average along z as in slices of up to 5.5 mm, and interpolate between slices with up to that distance."""
    if rng.random() < 0.45:
        return hu
    thickness = float(rng.uniform(2.5, 5.5))
    hu = gaussian_blur(hu, (0.0, 0.0, thickness / (12**0.5 * STEP_MM)))
    apart = float(rng.uniform(2.5, max(thickness, 3.0))) / STEP_MM
    at = np.arange(float(rng.uniform(0, apart)), hu.shape[2] - 1, apart)
    position = np.clip(np.interp(np.arange(hu.shape[2]), at, np.arange(len(at))), 0, len(at) - 1)
    samples = _interpolated(hu, at)
    return _interpolated(samples, position)


def _interpolated(hu: Tensor, at: NDArray[np.float64]) -> Tensor:
    low = np.clip(np.floor(at).astype(int), 0, hu.shape[2] - 1)
    high = np.clip(low + 1, 0, hu.shape[2] - 1)
    share = torch.as_tensor(at - low, dtype=torch.float32)
    return hu[..., low] * (1 - share) + hu[..., high] * share


def _line_error(slices: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the error (Z, 2) of a detected centre line in voxels: a shift and a slow drift."""
    size = float(rng.choice([3.5, 8.0, 20.0], p=[0.7, 0.2, 0.1]))
    drift = ndimage.gaussian_filter1d(rng.normal(size=(slices + 80, 2)), 12.0, axis=0)[40 : 40 + slices]
    drift *= rng.uniform(0, size, 2) / max(1e-6, float(np.abs(drift).max()))
    return np.asarray((drift + rng.normal(0, 0.4 * size, 2)) / STEP_MM)


def _column_label(
    bodies: NDArray[np.float32], profile: NDArray[np.float32], first: int, slices: int
) -> NDArray[np.float64]:
    """Return (6, slices): heat of centres and discs, body, role, and two rows for the offset."""
    at = np.arange(slices) + first
    label = np.zeros((6, slices))
    label[2] = profile[first : first + slices]
    label[3] = NO_ROLE
    for _, _, z, low, high, disc, role in bodies:
        inside = (at >= low) & (at <= high)
        label[3][inside] = role
        if low >= first and high <= first + slices - 1:
            label[0] = np.maximum(label[0], np.exp(-0.5 * ((at - z) * STEP_MM / CENTRE_SD_MM) ** 2))
        label[1] = np.maximum(label[1], np.exp(-0.5 * ((at - disc) * STEP_MM / DISC_SD_MM) ** 2))
    return label


__all__ = ["ROLES", "PaintColumnd", "RandColumnViewd", "paint_column"]
