"""Results on the original grid of a scan: label maps, and the DICOM image of an axial slice."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from osteo_monai.imaging.orientation import axis_map, canonical_grid, from_canonical
from osteo_monai.imaging.resampling import is_resampled, resample_labels
from osteo_monai.imaging.volume import CTVolume, SourceFrame

__all__ = ["axial_frame", "on_original_grid"]

T = TypeVar("T", bound=np.generic)


def on_original_grid(labels: NDArray[T], volume: CTVolume) -> NDArray[T]:
    """Return labels (X, Y, Z) of the canonical grid on the original one: axes permuted and flipped back.

    Only if the scan was resampled, because its grid was oblique, each original voxel gets the nearest label.

    Raises:
        ValueError: shape of ``labels`` or ``volume.original_shape`` does not fit.
    """
    if labels.shape != volume.hu.shape:
        raise ValueError(f"labels must have the shape of the volume, {volume.hu.shape}, got {labels.shape}")
    if is_resampled(volume.affine, volume.original_affine, volume.original_shape):
        affine, shape = canonical_grid(volume.original_affine, volume.original_shape)
        labels = resample_labels(labels, volume.affine, affine, shape)
    original = from_canonical(labels, volume.original_affine)
    if original.shape != tuple(volume.original_shape):
        raise ValueError(f"volume.original_shape must be {original.shape} as the data, got {volume.original_shape}")
    return original


def axial_frame(volume: CTVolume, k: int) -> SourceFrame | None:
    """Return the DICOM image of the axial slice ``hu[:, :, k]``; ``None`` if it is none, or not one."""
    mapping = axis_map(volume.original_affine)
    if not volume.frames or int(mapping[2, 0]) != 2:
        return None
    if is_resampled(volume.affine, volume.original_affine, volume.original_shape):
        return None
    return volume.frames[len(volume.frames) - 1 - k if mapping[2, 1] < 0 else k]
