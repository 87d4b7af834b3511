"""Masked middle planes of named vertebral bodies, and their augmentation in training."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from osteo_monai.domain import VertebraLevel
from osteo_monai.utils.occupied import occupied_box

__all__ = ["PLANES", "RandomisedSlices", "VertebralSlicesd"]

PLANES: Mapping[str, tuple[int, int, int]] = {"axial": (0, 1, 2), "sagittal": (1, 2, 0), "coronal": (0, 2, 1)}
"""Axes of a RAS+ volume by plane: the two of the plane, then that across it."""


class VertebralSlicesd(MapTransform):
    """Extract the middle slices of named vertebral bodies from a CT volume.

    The centre slice of a level is the one of its mask nearest to the area-weighted middle of the mask across the plane
    (along z for axial slices, along x for sagittal and along y for coronal ones, which are not tilted); a slice
    at an offset is the nearest one to that middle plus the offset, or the last slice of the volume. All slices of a
    level share one frame. With ``pixel_mm`` the frame is centred at the centroid of the mask in the centre slice and
    sampled linearly, with a kernel that widens where pixels grow (anti-aliasing). Without it pixels are kept and the
    frame is centred at the middle of the volume: the whole slice if that has ``size`` x ``size`` pixels (Pan 2024:
    512 x 512).

    Image and mask are sampled separately, so that no pixel mixes bone with the fill value.

    Input: ``image`` (1, X, Y, Z) in HU, a ``MetaTensor``, and a label map of the same shape with
    ``VertebraLevel.label`` for the bodies, both RAS+. Output: ``image``, float32 (levels * offsets, size, size) in HU,
    level by level and within a level by offset, axes X (to the right) and Y (forwards), Y and Z (upwards) for sagittal
    and X and Z for coronal slices; ``mask``, float32 of the same shape, 1 in the level's body and 0 elsewhere. Both are
    plain tensors. The label map is dropped.

    Args:
        keys: image and label map, in this order.
        levels: levels to extract.
        offsets_mm: distances of the slices from the middle of the body in mm: upwards, to the right (sagittal) or
            forwards (coronal).
        pixel_mm: pixel size of the frame in mm; ``None`` keeps the volume's pixels.
        size: pixels of the frame along each axis.
        masked: whether pixels outside the body become ``fill_hu``.
        fill_hu: HU outside the body, and outside the volume.
        margin_mm: in-plane growth of the mask; negative to shrink it.
        mask_key: item for the mask.
        plane: one of ``PLANES``; only ``axial`` without ``pixel_mm``.
        allow_missing_keys: must be ``False``: both keys are required.

    Raises:
        ValueError: when an argument is out of range, image and label map do not match, the label map has no body of a
            level, or a body is not within a frame without resampling.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        levels: Sequence[str] = ("L1", "L2"),
        offsets_mm: Sequence[float] = (0.0,),
        pixel_mm: float | None = 0.5,
        size: int = 128,
        masked: bool = True,
        fill_hu: float = -1024.0,
        margin_mm: float = 0.0,
        mask_key: str = "mask",
        allow_missing_keys: bool = False,
        plane: str = "axial",
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        problems = []
        if len(self.keys) != 2 or allow_missing_keys:
            problems.append(f"keys must name the image and the label map, both required, got {self.keys}")
        if not levels or len(set(levels)) < len(levels) or set(levels) - set(VertebraLevel):
            problems.append(f"levels must be different vertebral levels such as 'L1', got {list(levels)}")
        if not offsets_mm:
            problems.append("offsets_mm must have at least one distance, got none")
        if size < 1 or (pixel_mm is not None and not pixel_mm > 0):
            problems.append(f"size and pixel_mm must be positive, got {size} and {pixel_mm}")
        if plane not in PLANES or (plane != "axial" and pixel_mm is None):
            problems.append(f"plane must be one of {', '.join(PLANES)}, others than axial with pixel_mm, got {plane!r}")
        if problems:
            raise ValueError("; ".join(problems))
        self.plane = plane
        self.levels = tuple(VertebraLevel(level) for level in levels)
        self.offsets_mm = tuple(float(offset) for offset in offsets_mm)
        self.pixel_mm, self.size = pixel_mm, int(size)
        self.masked, self.fill_hu, self.margin_mm = masked, float(fill_hu), float(margin_mm)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        image, labels = (result[key] for key in self.keys)
        if not isinstance(image, MetaTensor) or image.ndim != 4 or image.shape[0] != 1 or labels.shape != image.shape:
            raise ValueError(
                f"{self.keys[0]} must be a MetaTensor (1, X, Y, Z) and {self.keys[1]} a label map of its shape, got "
                f"{type(image).__name__} {tuple(image.shape)} and {tuple(labels.shape)}"
            )
        spacing = torch.linalg.norm(image.affine[:3, :3].double(), dim=0).tolist()
        axes = PLANES[self.plane]
        spacing = [spacing[axis] for axis in axes]
        hu = image.as_tensor()[0].cpu().numpy().transpose(axes)
        volume = torch.as_tensor(labels)[0].cpu().numpy().transpose(axes)
        bodies = {level: np.abs(volume - level.label) < 0.5 for level in self.levels}
        if missing := [f"{level} (label {level.label})" for level, body in bodies.items() if not body.any()]:
            raise ValueError(f"{self.keys[1]} must hold {', '.join(self.levels)}, got no {', no '.join(missing)}")
        images, masks = zip(*(self._cut(hu, body, level, spacing) for level, body in bodies.items()), strict=True)
        result.pop(self.keys[1])
        result[self.keys[0]] = torch.from_numpy(np.concatenate(images))
        result[self.mask_key] = torch.from_numpy(np.concatenate(masks))
        return result

    def _cut(
        self, hu: NDArray[np.floating], body: NDArray[np.bool_], level: VertebraLevel, spacing: Sequence[float]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return HU and mask of one level, (offsets, size, size) each."""
        box = occupied_box(body)
        assert box is not None  # absent levels are refused before
        area = np.zeros(body.shape[2], dtype=np.int64)
        area[box[2]] = body[box].sum((0, 1))
        occupied = np.flatnonzero(area)
        middle = float((area * np.arange(len(area))).sum() / area.sum())
        centre = int(occupied[np.abs(occupied - middle).argmin()])
        slices = [
            centre if offset == 0 else int(np.clip(np.rint(middle + offset / spacing[2]), 0, len(area) - 1))
            for offset in self.offsets_mm
        ]
        if self.pixel_mm is None:
            centroid = [(n - 1) / 2 for n in body.shape[:2]]
            steps = [1.0, 1.0]
        else:
            centroid = [float(c.mean()) for c in np.nonzero(body[:, :, centre])]
            steps = [self.pixel_mm / s for s in spacing[:2]]
        along_x, along_y = (
            _sampling(n, c, step, self.size, exact=self.pixel_mm is None)
            for n, c, step in zip(body.shape[:2], centroid, steps, strict=True)
        )
        if self.pixel_mm is None:
            inside = body[:, :, slices][along_x.any(0)][:, along_y.any(0)]
            if inside.sum() < body[:, :, slices].sum():
                raise ValueError(f"size must be large enough for {level} to be in the frame, got {self.size} pixels")
        planes = np.moveaxis(hu[:, :, slices], -1, 0).astype(np.float32)
        cut = along_x @ (planes - self.fill_hu) @ along_y.T + np.float32(self.fill_hu)
        mask = along_x @ np.moveaxis(body[:, :, slices], -1, 0).astype(np.float32) @ along_y.T >= 0.5
        if self.margin_mm:
            pixels = [step * s for step, s in zip(steps, spacing, strict=False)]
            mask = np.stack([_grown(plane, self.margin_mm, pixels) for plane in mask])
        if self.masked:
            cut = np.where(mask, cut, np.float32(self.fill_hu))
        return cut.astype(np.float32), mask.astype(np.float32)


def _sampling(count: int, centre: float, step: float, size: int, exact: bool) -> NDArray[np.float32]:
    """Return the weights (size, count) that map ``count`` pixels of an axis to ``size`` samples about ``centre``.

    Each row is a triangle of half-width max(1, ``step``) pixels about its sample. Weights outside the axis are dropped:
    a sum below 1 leaves the rest to the fill value.

    Args:
        exact: whether the frame is moved by less than a pixel, so that samples are pixels.
    """
    first = centre - (size - 1) / 2 * step
    at = (np.floor(first + 0.5) if exact else first) + np.arange(size) * step
    width = max(1.0, step)
    reach = int(np.ceil(width)) + 1
    around = np.floor(at)[:, None] + np.arange(-reach, reach + 1)
    weight = np.maximum(0.0, 1.0 - np.abs(around - at[:, None]) / width)
    weight /= weight.sum(1, keepdims=True)
    matrix = np.zeros((size, count), np.float32)
    rows, columns = np.nonzero((weight > 0) & (around >= 0) & (around < count))
    matrix[rows, around[rows, columns].astype(int)] = weight[rows, columns]
    return matrix


def _grown(mask: NDArray[np.bool_], margin_mm: float, pixel_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Grow (or shrink) the mask of a plane by a distance between pixel centres."""
    if margin_mm > 0:
        return np.asarray(ndimage.distance_transform_edt(~mask, sampling=pixel_mm) <= margin_mm)
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=pixel_mm) > -margin_mm)


class RandomisedSlices:
    """Augment a whole batch of slices and their masks on the device; a ``prepare_batch`` of MONAI's engines.

    Image and mask are warped separately and joined by ``finish``, so that the edges of bodies are as sharp as in
    validation. Noise, gain and offset are applied in HU, before a window clips them.

    Input: ``image`` (N, C, X, Y) in HU, ``mask`` of the same shape, ``label`` (N,), and optionally ``covariates``
    (N, K), which are not changed. Returns the output of ``finish`` for all but the label, float32, and ``label``.

    Args:
        finish: last steps of preprocessing, the same as in validation: window and mask.
        flip: probability of reversing the first axis of the slices: left and right, of sagittal ones front and back.
        rotation_deg, scale, shift: limits of a uniform distribution about no change; the shift as a share of the frame.
        mask_cut: limits of the threshold of a smoothed mask; 0.5 is the mask itself, the limits move its edge by about
            half a pixel.
        noise_hu: largest SD of the added noise.
        gain_sd, offset_hu: SDs of a factor about 1 and of a shift.
    """

    def __init__(
        self,
        finish: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
        flip: float = 0.5,
        rotation_deg: float = 10.0,
        scale: float = 0.1,
        shift: float = 0.06,
        mask_cut: tuple[float, float] = (0.3, 0.7),
        noise_hu: float = 15.0,
        gain_sd: float = 0.01,
        offset_hu: float = 3.0,
    ) -> None:
        if not 0 < mask_cut[0] <= mask_cut[1] < 1:
            raise ValueError(f"mask_cut must satisfy 0 < low <= high < 1, got {tuple(mask_cut)}")
        self.finish = finish
        self.flip, self.rotation, self.scale, self.shift = flip, math.radians(rotation_deg), scale, shift
        self.mask_cut, self.noise_hu, self.gain_sd, self.offset_hu = mask_cut, noise_hu, gain_sd, offset_hu

    def __call__(
        self, batch: Mapping[str, Tensor], device: torch.device | str, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        image, mask, label = (batch[key].to(device, non_blocking=non_blocking) for key in ("image", "mask", "label"))
        both = torch.cat([image.float(), functional.avg_pool2d(mask.float(), 3, 1, 1)], 1)
        grid = functional.affine_grid(self._warps(len(both)).to(device), list(both.shape), align_corners=False)
        image, mask = functional.grid_sample(both, grid, padding_mode="border", align_corners=False).chunk(2, 1)

        def per_item(values: Tensor) -> Tensor:
            return values.view(-1, 1, 1, 1).to(device)

        n = len(image)
        image = image * per_item(1 + self.gain_sd * torch.randn(n)) + per_item(self.offset_hu * torch.randn(n))
        if self.noise_hu:
            image = image + torch.randn_like(image) * per_item(self.noise_hu * torch.rand(n))
        low, high = self.mask_cut
        mask = (mask > per_item(low + (high - low) * torch.rand(n))).float()
        facts = {key: batch[key].to(device) for key in ("covariates",) if key in batch}
        return self.finish({"image": image, "mask": mask, **facts})["image"], label

    def _warps(self, count: int) -> Tensor:
        """Return (count, 2, 3) maps from the new frame to the old; ``affine_grid`` calls the frame's last axis x."""

        def uniform(limit: float) -> Tensor:
            return limit * (2 * torch.rand(count) - 1)

        angle, zoom = uniform(self.rotation), 1 + uniform(self.scale)
        mirror = 1 - 2 * (torch.rand(count) < self.flip).float()  # of X, which affine_grid calls y
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        rows = [torch.stack([cos, -sin * mirror, uniform(2 * self.shift)], 1)]
        rows.append(torch.stack([sin, cos * mirror, uniform(2 * self.shift)], 1))
        return torch.stack(rows, 1)
