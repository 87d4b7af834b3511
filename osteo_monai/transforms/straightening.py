"""Straightened column from a CT and the centre line of the column, the input of the column network."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.imaging.straightening import set_in_water, straighten

_SMOOTH_MM = 10.0
"""SD of the Gaussian along z that smooths a centre line: less than half a vertebra. Project choice."""
_BEYOND_MM = 40.0
"""Length of linear extrapolation beyond the ends of the line; constant beyond. Project choice."""


def centre_line(points: NDArray[np.float64], heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x and y (n, 2) in mm of a smooth line through points of a column, at given heights.

    Args:
        points: (m, 3) RAS+ mm on the axis of the column, in any order.
        heights: (n,) z in mm, ascending and evenly spaced.

    Raises:
        ValueError: when there is no point.
    """
    if len(points) == 0:
        raise ValueError("points must have at least one point of the column, got none")
    points = points[np.argsort(points[:, 2])]
    fine = np.arange(points[0, 2], points[-1, 2] + 1.0, 1.0)
    line = np.empty((len(heights), 2))
    for axis in (0, 1):
        along = np.interp(fine, points[:, 2], points[:, axis])
        along = ndimage.gaussian_filter1d(along, _SMOOTH_MM, mode="nearest")
        reach = min(30, len(along) - 1)
        slopes = [0.0, 0.0] if reach < 5 else [along[reach] - along[0], along[-1] - along[-1 - reach]]
        low, high = (np.clip(slope / max(reach, 1), -0.5, 0.5) for slope in slopes)
        line[:, axis] = np.interp(heights, fine, along)
        line[:, axis] -= low * np.clip(fine[0] - heights, 0.0, _BEYOND_MM)
        line[:, axis] += high * np.clip(heights - fine[-1], 0.0, _BEYOND_MM)
    return line


class StraightenColumnd(MapTransform):
    """Replace a CT by windows about the centre line of the column.

    ``data[key]``, a ``MetaTensor`` (1, X, Y, Z) of HU in RAS+ with voxels of about 2.5 mm, becomes (1, 56 + 2 margin,
    40 + 2 margin, Z). ``data["axis_mm"]`` becomes (Z, 3), the RAS+ position in mm of each window's centre.

    Args:
        keys: CT.
        line_key: (n, 3) RAS+ mm, points on the axis of the column.
        margin: voxels added to the window on each side, for an inferer that shifts it.
    """

    def __init__(self, keys: Hashable = "image", line_key: str = "line", margin: int = 0) -> None:
        super().__init__(keys)
        self.line_key, self.margin = line_key, margin

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            if not isinstance(image, MetaTensor) or image.ndim != 4 or image.shape[0] != 1:
                raise ValueError(f"{key} must be a MetaTensor of shape (1, X, Y, Z), got {tuple(image.shape)}")
            affine = np.asarray(image.affine, float)
            heights = affine[2, 3] + affine[2, 2] * np.arange(image.shape[3])
            line = centre_line(np.asarray(result[self.line_key], float).reshape(-1, 3), heights)
            axis = np.column_stack([line, heights])
            voxels = (axis - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
            result["axis_mm"] = axis
            width = image.shape[1] * float(np.linalg.norm(affine[:3, 0]))
            volume, outside = set_in_water(image.as_tensor()[0].float(), width)
            windows = straighten(volume, voxels[:, :2], self.margin, outside)[None]
            # windows have no affine, but writers need the file name of the scan
            result[key] = MetaTensor(windows, meta={"filename_or_obj": image.meta.get("filename_or_obj", "scan")})
        return result
