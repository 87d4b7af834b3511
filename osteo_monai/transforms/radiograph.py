"""Radiographs as a grid of patches (Li et al. 2026, section 1.2), and their augmentation in training."""

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
    """Join patches (..., rows * columns, H, W), row by row from the top left, to (..., rows * H, columns * W)."""
    rows, columns = grid
    tiles: Tensor = patches.unflatten(-3, (rows, columns)).transpose(-3, -2)
    return tiles.flatten(-2, -1).flatten(-3, -2)


def split_patches(image: Tensor, grid: Sequence[int]) -> Tensor:
    """Invert ``join_patches``."""
    rows, columns = grid
    tiles: Tensor = image.unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1))
    return tiles.transpose(-3, -2).flatten(-4, -3)


class PatchGridd(MapTransform):
    """Divide a radiograph into a grid of rectangles without overlap, and resize each separately, bilinearly.

    The rectangles cover the whole radiograph and differ by at most a pixel in size. Input: (1, R, C), row 0 on top.
    Output: plain float32 tensor (rows * columns, H, W), row by row from the top left. A grid of 1 x 1 resizes the whole
    radiograph.

    Args:
        keys: radiographs and masks; a mask becomes its share of each pixel.
        grid: rows and columns; 6 x 6 in Li et al.
        size: height and width of a patch, one number for both; 256 in Li et al.
        antialias: whether the bilinear kernel widens where pixels grow. Without it, noise and fine bone structure
            alias in a strong reduction; the paper states "bilinear" only.
        allow_missing_keys: see MONAI's ``MapTransform``.

    Raises:
        ValueError: when an argument is out of range, or a radiograph has another shape or fewer pixels than rectangles.
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
    """Augment a whole batch of radiographs on the device; a ``prepare_batch`` of MONAI's engines.

    Patches are joined, the radiograph is augmented as a whole and divided again: flip, rotation, crop and scale (Li et
    al. 2026). For "colour jitter", which the paper does not define, properties that differ between devices are varied:
    curve of grey values, weight of fine detail, noise. Each radiograph is z-scored at the end, as in preprocessing, so
    that brightness and contrast carry no information.

    Input: ``image`` (N, P, H, W), ``target`` (N,). Returns both as float32 of the same shapes.

    Args:
        grid: rows and columns of patches.
        flip: probability of exchanging left and right.
        rotation_deg, scale, shift: limits of a uniform distribution about no change; the shift as a share of the frame.
        gamma: limits of the exponent of the grey value curve, log-uniform.
        detail: limits of the added weight of (image - its 3 x 3 mean); -1 is that mean.
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

        def draw(low: float, high: float) -> Tensor:
            return (low + (high - low) * torch.rand(n, 1, 1, 1)).to(image.device)

        low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
        grey = (image - low) / (high - low).clamp(min=1e-6)
        image = grey.clamp(min=1e-6) ** draw(math.log(self.gamma[0]), math.log(self.gamma[1])).exp()
        smooth = functional.avg_pool2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
        image = image + draw(*self.detail) * (image - smooth)
        deviation = image.std((2, 3), keepdim=True).clamp(min=1e-6)
        image = (image - image.mean((2, 3), keepdim=True)) / deviation
        if self.noise:
            image = image + torch.randn_like(image) * draw(0.0, self.noise)
            image = image / image.std((2, 3), keepdim=True).clamp(min=1e-6)
        return split_patches(image[:, 0], self.grid), target

    def _grid(self, image: Tensor) -> Tensor:
        """Return the sampling grid (N, H, W, 2); angles are those of a frame with square pixels."""
        n, (h, w) = len(image), image.shape[2:]

        def uniform(limit: float) -> Tensor:
            return limit * (2 * torch.rand(n) - 1)

        angle, zoom = uniform(self.rotation), 1 + uniform(self.scale)
        mirror = 1 - 2 * (torch.rand(n) < self.flip).float()
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        rows = [torch.stack([cos * mirror, -sin * h / w, uniform(2 * self.shift)], 1)]
        rows.append(torch.stack([sin * mirror * w / h, cos, uniform(2 * self.shift)], 1))
        return functional.affine_grid(torch.stack(rows, 1).to(image.device), list(image.shape), align_corners=False)
