"""Straightened vertebral column: axial windows about its centre line, stacked."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

STEP_MM = 2.5
"""Isotropic voxel size of a straightened column; project custom."""
WINDOW = (56, 40)
"""Voxels of a window along x and y: 140 mm from side to side, 100 mm from back to front."""
IN_FRONT_MM = 35.0
"""How much of the window lies in front of the centre line; the arch and the ribs lie behind it."""
NARROW_MM = 250.0
"""A scan narrower than this is a crop about the spine: trunks of adults are wider. Project custom."""
_EMPTY_HU = -950.0
"""HU in a crop below which voxels are padding, not lung (-900 to -750 HU)."""


def window_offsets(margin: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the x and y offsets in mm of a window's voxel centres from the centre line.

    Args:
        margin: voxels added on each side.
    """
    across, along = (np.arange(-margin, n + margin, dtype=np.float64) for n in WINDOW)
    x: NDArray[np.float64] = (across - 0.5 * (WINDOW[0] - 1)) * STEP_MM
    y: NDArray[np.float64] = IN_FRONT_MM - (WINDOW[1] - 0.5 - along) * STEP_MM
    return x, y


def straighten(volume: Tensor, line: NDArray[np.float64], margin: int = 0, padding: float = -1000.0) -> Tensor:
    """Sample a window about the centre line in every axial slice.

    Args:
        volume: (X, Y, Z), isotropic voxels of ``STEP_MM``, axes RAS+.
        line: (Z, 2) x and y of the centre line in voxels, one row a slice.
        margin: voxels added to the window on each side.
        padding: value outside of the volume.

    Returns:
        (56 + 2 margin, 40 + 2 margin, Z), linearly interpolated in each slice.

    Raises:
        ValueError: if the line has another number of slices than the volume.
    """
    if line.shape != (volume.shape[2], 2):
        raise ValueError(f"line must be ({volume.shape[2]}, 2), one point a slice, got {line.shape}")
    x, y = (torch.as_tensor(o / STEP_MM, dtype=torch.float32) for o in window_offsets(margin))
    points = torch.as_tensor(line, dtype=torch.float32)
    # grid_sample takes (N, C, H, W) and points (w, h) scaled to -1..1: here H is x and W is y
    at_x = (points[:, 0, None, None] + x[None, :, None]).expand(-1, -1, len(y))
    at_y = (points[:, 1, None, None] + y[None, None, :]).expand(-1, len(x), -1)
    scale = [2.0 / max(1, n - 1) for n in volume.shape[:2]]
    grid = torch.stack([at_y * scale[1] - 1.0, at_x * scale[0] - 1.0], dim=-1)
    planes = (volume.permute(2, 0, 1)[:, None] - padding).float()
    windows = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return (windows[:, 0] + padding).permute(1, 2, 0).contiguous()


def set_in_water(volume: Tensor, width_mm: float) -> tuple[Tensor, float]:
    """Fill the empty voxels of a crop about the spine, so that they do not look like lung.

    Args:
        volume: HU, X first.
        width_mm: extent along X.

    Returns:
        The volume, and the value outside of it: water in a crop, air otherwise.
    """
    if width_mm >= NARROW_MM:
        return volume, -1000.0
    return volume.masked_fill(volume < _EMPTY_HU, 0.0), 0.0
