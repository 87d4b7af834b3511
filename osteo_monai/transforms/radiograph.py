"""Radiographs as a grid of patches (Li et al. 2026, section 1.2), and how they are varied in training."""

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn import functional

__all__ = ["PatchGridd", "RandomisedRadiographs", "join_patches", "split_patches"]


def join_patches(patches: Tensor, grid: Sequence[int]) -> Tensor:
    """Lay patches (..., rows * columns, H, W), row by row from the top left, together: (..., rows * H, columns * W)."""
    rows, columns = grid
    tiles = patches.unflatten(-3, (rows, columns)).transpose(-3, -2)
    return tiles.flatten(-2, -1).flatten(-3, -2)


def split_patches(image: Tensor, grid: Sequence[int]) -> Tensor:
    """The inverse of ``join_patches``."""
    rows, columns = grid
    tiles = image.unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1))
    return tiles.transpose(-3, -2).flatten(-4, -3)


class PatchGridd(MapTransform):
    """Cut a radiograph into a grid of rectangles that do not overlap, and resize each by itself, bilinearly.

    The rectangles cover the whole radiograph and differ by at most a pixel in size. Each is resized without a look at
    its neighbours. In: (1, R, C), row 0 on top. Out: float32 (rows * columns, H, W), row by row from the top left, a
    plain tensor. With a grid of 1 x 1 it resizes the radiograph as a whole.

    Args:
        keys: radiographs and masks; a mask becomes the share of each pixel that it covers.
        grid: rows and columns; Li's is 6 x 6.
        size: height and width of a patch, one number for both; Li's is 256.
        antialias: widen the bilinear kernel where pixels grow. Without, a strong reduction skips pixels and noise and
            fine bone structure alias; the paper says no more than "bilinear".
        allow_missing_keys: as in MONAI.

    Raises:
        ValueError: on impossible arguments, or a radiograph of another shape or with fewer pixels than rectangles.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        grid: Sequence[int] = (6, 6),
        size: int | Sequence[int] = 256,
        antialias: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        sizes = (size, size) if isinstance(size, int) else tuple(size)
        problems = []
        if len(grid) != 2 or min(grid, default=0) < 1:
            problems.append(f"grid must be the rows and columns of patches, got {tuple(grid)}")
        if len(sizes) != 2 or min(sizes, default=0) < 1:
            problems.append(f"size must be the height and width of a patch, got {size}")
        if problems:
            raise ValueError("; ".join(problems))
        self.grid = (int(grid[0]), int(grid[1]))
        self.size = (int(sizes[0]), int(sizes[1]))
        self.antialias = antialias

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = torch.as_tensor(result[key])
            image = image.as_tensor() if hasattr(image, "as_tensor") else image
            if image.ndim != 3 or len(image) != 1 or image.shape[1] < self.grid[0] or image.shape[2] < self.grid[1]:
                raise ValueError(
                    f"{key} must be a radiograph (1, rows, columns) with at least {self.grid[0]} x {self.grid[1]} "
                    f"pixels, got {tuple(image.shape)}"
                )
            result[key] = self._cut(image.float())
        return result

    def _cut(self, image: Tensor) -> Tensor:
        down, across = (
            [round(i * n / parts) for i in range(parts + 1)]
            for n, parts in zip(image.shape[1:], self.grid, strict=True)
        )
        patches = [
            functional.interpolate(
                image[None, :, top:bottom, left:right],
                size=self.size,
                mode="bilinear",
                align_corners=False,
                antialias=self.antialias,
            )[0, 0]
            for top, bottom in pairwise(down)
            for left, right in pairwise(across)
        ]
        return torch.stack(patches)


class RandomisedRadiographs:
    """Vary a whole batch of radiographs at once, on the device; a MONAI engine's ``prepare_batch``.

    Patches are laid side by side, the radiograph is varied as a whole and cut again: flip, rotation, crop and scale
    (Li et al. 2026), and for "colour jitter", which is not explained there, what differs between devices and their
    software: the curve of grey values, the weight of fine detail, noise. Each radiograph is z-scored at the end, as
    preprocessing leaves it, so that brightness and contrast by themselves tell nothing.

    Batch in: ``image`` (N, P, H, W), ``target`` (N,). Returned: both, float32, of the same shapes.

    Args:
        grid: rows and columns of patches.
        flip: probability of a mirror image, left for right.
        rotation_deg, scale, shift: limits of an even distribution about no change; the shift in parts of the frame.
        gamma: limits of the exponent of the grey values' curve, drawn evenly on a logarithmic scale.
        detail: limits of the weight of what a 3 x 3 mean takes away; -1 leaves the mean alone.
        noise: largest SD of added noise, in SDs of the radiograph.
    """

    def __init__(
        self,
        grid: Sequence[int] = (6, 6),
        flip: float = 0.5,
        rotation_deg: float = 7.0,
        scale: float = 0.1,
        shift: float = 0.04,
        gamma: Sequence[float] = (0.7, 1.4),
        detail: Sequence[float] = (-0.6, 1.0),
        noise: float = 0.05,
    ) -> None:
        if len(gamma) != 2 or not 0 < gamma[0] <= gamma[1]:
            raise ValueError(f"gamma must satisfy 0 < low <= high, got {tuple(gamma)}")
        if len(detail) != 2 or not -1 <= detail[0] <= detail[1]:
            raise ValueError(f"detail must satisfy -1 <= low <= high, got {tuple(detail)}")
        self.grid = (int(grid[0]), int(grid[1]))
        self.flip, self.rotation, self.scale, self.shift = flip, math.radians(rotation_deg), scale, shift
        self.gamma, self.detail, self.noise = (gamma[0], gamma[1]), (detail[0], detail[1]), noise

    def __call__(
        self, batch: Mapping[str, Tensor], device: torch.device | str, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        patches, target = (batch[key].to(device, non_blocking=non_blocking).float() for key in ("image", "target"))
        image = join_patches(patches, self.grid)[:, None]
        image = functional.grid_sample(
            image, self._grid(image), mode="bilinear", padding_mode="border", align_corners=False
        )
        n = len(image)

        def each(low: float, high: float) -> Tensor:
            return (low + (high - low) * torch.rand(n, 1, 1, 1)).to(image.device)

        low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
        grey = (image - low) / (high - low).clamp(min=1e-6)
        image = grey.clamp(min=1e-6) ** each(math.log(self.gamma[0]), math.log(self.gamma[1])).exp()
        smooth = functional.avg_pool2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
        image = image + each(*self.detail) * (image - smooth)
        deviation = image.std((2, 3), keepdim=True).clamp(min=1e-6)
        image = (image - image.mean((2, 3), keepdim=True)) / deviation
        if self.noise:
            image = image + torch.randn_like(image) * each(0.0, self.noise)
            image = image / image.std((2, 3), keepdim=True).clamp(min=1e-6)
        return split_patches(image[:, 0], self.grid), target

    def _grid(self, image: Tensor) -> Tensor:
        """Return the places (N, H, W, 2) that are sampled; angles are those of a frame whose pixels are square."""
        n, (h, w) = len(image), image.shape[2:]

        def even(limit: float) -> Tensor:
            return limit * (2 * torch.rand(n) - 1)

        angle, zoom = even(self.rotation), 1 + even(self.scale)
        mirror = 1 - 2 * (torch.rand(n) < self.flip).float()
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        rows = [torch.stack([cos * mirror, -sin * h / w, even(2 * self.shift)], 1)]
        rows.append(torch.stack([sin * mirror * w / h, cos, even(2 * self.shift)], 1))
        return functional.affine_grid(torch.stack(rows, 1).to(image.device), list(image.shape), align_corners=False)
