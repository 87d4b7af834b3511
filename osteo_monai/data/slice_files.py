"""Files of single axial slices: an image in HU and the mask of one body, as NIfTI with one slice along z."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from osteo_monai.utils.files import writing

__all__ = ["file_word", "read_slice", "slice_names", "write_slice"]


def file_word(subject: str) -> str:
    """Return a subject id as part of a file name: other characters than letters, digits, ``-_.`` become ``-``."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in subject).lstrip(".") or "subject"


def slice_names(subjects: Iterable[str]) -> Mapping[str, str]:
    """Return a different folder name for each subject: its id with other characters than letters and digits replaced.

    Example:
        >>> slice_names(["a/1", "a-1", "b"])
        {'a/1': 'a-1', 'a-1': 'a-1_2', 'b': 'b'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for subject in dict.fromkeys(subjects):
        plain = file_word(subject)
        name, number = plain, 1
        while name.casefold() in taken:  # some file systems do not distinguish cases
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.casefold())
        names[subject] = name
    return names


def write_slice(
    image: Path, label: Path, hu: NDArray[np.floating], mask: NDArray[np.integer], affine: NDArray[np.float64]
) -> None:
    """Write one slice without loss: whole HU as int16, other values as float32; the mask as uint8.

    The files are not compressed, since a training reads them in each epoch. The image is written last: its presence
    means that both are complete.

    Args:
        image, label: files ``.nii``.
        hu: (X, Y), RAS+.
        mask: (X, Y), label of the body in it, 0 elsewhere.
        affine: (4, 4), from (x, y, 0) to RAS+ mm.
    """
    values = np.asarray(hu, np.float32)
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int16)
    for path, array in ((label, mask.astype(np.uint8)), (image, whole if np.array_equal(whole, values) else values)):
        nifti = nib.Nifti1Image(array[:, :, None], affine)
        nifti.set_sform(affine, 1)
        nifti.set_qform(affine, 1)
        nifti.header.set_xyzt_units("mm")
        with writing(path) as temporary:
            nib.save(nifti, temporary)


def read_slice(path: Path) -> NDArray[np.float32]:
    """Read the values (X, Y) of a file of ``write_slice``."""
    image: nib.Nifti1Image = nib.load(path)  # type: ignore[assignment]
    return np.asarray(image.dataobj, np.float32)[:, :, 0]
