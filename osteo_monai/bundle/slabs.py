"""Segmentation of a NIfTI file that does not fit into memory, slab by slab."""

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from osteo_monai.bundle.runner import InferenceBundle
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.files import writing

__all__ = ["segment_by_slabs"]

_HEADER_BYTES = 352
"""Header of NIfTI-1 and the 4 bytes that say that no extension follows."""

_CHECKED_SLICES = 64
"""Slices, spread over the scan, whose values are checked before the first slab."""


def segment_by_slabs(
    bundle: InferenceBundle,
    image: str | os.PathLike[str],
    output: str | os.PathLike[str],
    slices: int = 32,
    progress: bool = False,
) -> int:
    """Segment the axial slices of a scan with a bundle that reads each slice by itself, and write the mask.

    The mask is that of the bundle on the whole scan. Memory holds one slab: only its part of an uncompressed file is
    read, and the mask is mapped from the disk.

    Args:
        bundle: bundle with the setting ``slice_batch_size``, such as ``vertebral_body_segmentation_ct``.
        image: NIfTI file with one 3D volume in HU.
        output: uncompressed NIfTI file (``.nii``) to write, uint8 on the grid of the image.
        slices: slices of a slab.
        progress: whether a progress bar is shown on stderr, if it is a terminal.

    Returns:
        Number of voxels that are not 0.

    Raises:
        ConfigError: when an argument is out of range, or the bundle does not read each slice by itself.
        UnusableInputError: when the image is not one 3D volume in NIfTI, or has no HU.
    """
    if slices < 1:
        raise ConfigError(f"slices must be at least 1, got {slices}")
    if Path(output).suffix != ".nii":
        raise ConfigError(f"output must be a file .nii, got {Path(output).name!r}")
    if not bundle.has_setting("slice_batch_size"):
        raise ConfigError(f"bundle must have the setting 'slice_batch_size', got {bundle.name!r}")
    scan = _open(Path(image))
    axis = _axial_axis(scan.affine)
    step = max(1, scan.shape[axis] // _CHECKED_SLICES)
    bundle.check_values(_part(scan, axis, slice(None, None, step)))
    starts = range(0, scan.shape[axis], slices)
    total = 0
    with writing(output) as temporary:
        mask = _new_mask(scan, temporary)
        console = Console(stderr=True)
        hidden = not (progress and console.is_terminal)
        for start in track(starts, "Slabs", console=console, transient=True, disable=hidden):
            part = slice(start, min(start + slices, scan.shape[axis]))
            answer = torch.as_tensor(bundle(_part(scan, axis, part))["pred"]).numpy()[0].astype(np.uint8)
            mask[_along(axis, part)] = answer
            total += int(np.count_nonzero(answer))
        mask.flush()
    return total


def _open(path: Path) -> Any:
    try:
        # an open compressed file is read on, not from its start for each slab
        scan: Any = nib.load(path, keep_file_open=True)
    except (ImageFileError, OSError, EOFError):
        raise UnusableInputError(f"image must be a NIfTI file, got {path.name!r}") from None
    if not isinstance(scan, nib.Nifti1Pair) or len(scan.shape) != 3 or 0 in scan.shape:
        raise UnusableInputError(f"image must have one 3D volume, got shape {tuple(scan.shape)} in {path.name!r}")
    return scan


def _axial_axis(affine: NDArray[np.float64]) -> int:
    """Return the axis of the array that runs along z most closely."""
    return int(np.flatnonzero(nib.io_orientation(affine)[:, 0] == 2)[0])


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return tuple(part if one == axis else slice(None) for one in range(3))


def _part(scan: Any, axis: int, part: slice) -> MetaTensor:
    """Return slices of a scan (1, X, Y, Z) with their affine."""
    values = np.asarray(scan.dataobj[_along(axis, part)], dtype=np.float32)
    affine = np.array(scan.affine, dtype=np.float64)
    affine[:3, 3] += (part.start or 0) * affine[:3, axis]
    affine[:3, axis] *= part.step or 1
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values))[None], affine=torch.as_tensor(affine))


def _new_mask(scan: Any, path: Path) -> Any:
    """Write the header of the mask; return its voxels, all 0, mapped from the file."""
    header = nib.Nifti1Header()
    header.set_data_shape(scan.shape)
    header.set_data_dtype(np.uint8)
    header.set_zooms(scan.header.get_zooms()[:3])
    header.set_qform(scan.affine, code=1)
    header.set_sform(scan.affine, code=1)
    header.set_slope_inter(1.0, 0.0)
    header["magic"] = b"n+1"
    header["vox_offset"] = _HEADER_BYTES
    file = np.memmap(path, np.uint8, "w+", shape=(_HEADER_BYTES + int(np.prod(scan.shape)),))
    file[: len(header.binaryblock)] = np.frombuffer(header.binaryblock, np.uint8)
    return file[_HEADER_BYTES:].reshape(scan.shape, order="F")
