"""Write results on the original grid of a scan, so that they overlay it in any viewer."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from osteo_monai.imaging.nifti import is_nifti
from osteo_monai.imaging.original_grid import on_original_grid
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.utils.files import writing
from osteo_monai.utils.occupied import occupied_box


def write_label_map(labels: NDArray[Any], volume: CTVolume, path: Path) -> None:
    """Write a label map as NIfTI on the original grid of the scan (axes, directions and affine of the input).

    The file contains exactly the given labels, permuted and flipped back; only if the scan was resampled, because its
    grid was oblique, each original voxel gets the nearest label.

    Args:
        labels: integers (or bool) of shape (X, Y, Z), 0 to 65535, on the canonical grid of ``volume``.
        volume: the scan as read by :func:`read_ct`.
        path: ``.nii`` or ``.nii.gz``; its folder is created if missing.

    Raises:
        ValueError: shape, type or range of ``labels``, or the suffix of ``path``, is not as described.
    """
    path = Path(path)
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise ValueError(f"labels must lie in 0 to 65535, got {low} to {high}")
    if not is_nifti(path):
        raise ValueError(f"path must end in .nii or .nii.gz, got '{path.name}'")
    kind = np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16
    given = on_original_grid(labels, volume)
    original = np.zeros(given.shape, dtype=kind, order="F")  # the order of the file, which nibabel writes fastest
    box = occupied_box(given)
    if box is not None:
        original[box] = given[box]
    image = nib.Nifti1Image(original, volume.original_affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.original_affine, code="scanner")
    image.set_qform(volume.original_affine, code="scanner")
    with writing(path) as temporary:
        nib.save(image, temporary)
