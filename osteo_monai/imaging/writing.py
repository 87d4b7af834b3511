"""Writes results back on the grid the scan came in, so that they overlay it in any viewer."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from osteo_monai.imaging.nifti import is_nifti
from osteo_monai.imaging.orientation import canonical_grid, from_canonical
from osteo_monai.imaging.resampling import is_resampled, resample_labels
from osteo_monai.imaging.volume import CTVolume


def write_label_map(labels: NDArray[Any], volume: CTVolume, path: Path) -> None:
    """Write a label map as NIfTI on the scan's original grid (axes, directions and affine of the input).

    The file holds exactly the given labels, permuted and flipped back; only where the scan was resampled, because its
    grid was oblique, does each original voxel get the label nearest to it.

    Args:
        labels: integers (or bool) of shape (X, Y, Z), 0 to 65535, on the canonical grid of ``volume``.
        volume: the scan as read by :func:`read_ct`.
        path: ``.nii`` or ``.nii.gz``; its folder is made if absent.

    Raises:
        ValueError: shape, type or range of ``labels``, or the suffix of ``path``, is not as said above.
    """
    path = Path(path)
    labels = np.asarray(labels)
    if labels.shape != volume.hu.shape:
        raise ValueError(f"labels must have the shape of the volume, {volume.hu.shape}, got {labels.shape}")
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise ValueError(f"labels must lie in 0 to 65535, got {low} to {high}")
    if not is_nifti(path):
        raise ValueError(f"path must end in .nii or .nii.gz, got '{path.name}'")
    kind = np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16
    labels = labels.astype(kind)
    if is_resampled(volume.affine, volume.original_affine, volume.original_shape):
        there, shape = canonical_grid(volume.original_affine, volume.original_shape)
        labels = resample_labels(labels, volume.affine, there, shape)
    original = np.ascontiguousarray(from_canonical(labels, volume.original_affine))
    if original.shape != tuple(volume.original_shape):
        raise ValueError(f"volume.original_shape {volume.original_shape} does not fit its data, {original.shape}")
    image = nib.Nifti1Image(original, volume.original_affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.original_affine, code="scanner")
    image.set_qform(volume.original_affine, code="scanner")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
