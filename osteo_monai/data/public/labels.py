"""Labels of public data sets in the numbering of this project, on the grid of their image."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from osteo_monai.data.public.case import (
    CERVICAL_LABELS,
    NAMED_LABELS,
    BinaryMasks,
    Centroids,
    NumberedLabel,
)
from osteo_monai.data.public.files import read_json
from osteo_monai.domain import LEVEL_LABELS, VertebraLevel
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.dicom_headers import unusable_if_damaged
from osteo_monai.imaging.orientation import GRID_TOLERANCE, grid_distance
from osteo_monai.utils.files import writing
from osteo_monai.utils.inputs import check_regular

ROUNDING = 0.01
"""Largest distance of a stored value from a whole number."""

OVERLAP_TOLERANCE = 0.01
"""Largest share of the voxels of a binary mask that another mask may have too (project custom): borders of resampled
masks overlap; two vertebrae in one place do not."""

_DOWNWARDS = {number: name for name, number in NAMED_LABELS.items()}
"""Names by number, from the head to the feet."""

_AXES = ("L", "R"), ("P", "A"), ("I", "S")
"""Negative and positive direction of the axes x, y, z in RAS."""


def read_grid(path: Path) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Return shape and affine (4, 4) of a NIfTI image from its header.

    Raises:
        UnusableInputError: the file is not a NIfTI image of three dimensions.
    """
    with unusable_if_damaged(f"'{path.name}' is damaged or not NIfTI"):
        check_regular(path)
        image = nib.load(path)
        shape = tuple(int(n) for n in getattr(image, "shape", ()))
    if not isinstance(image, Nifti1Image) or len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise UnusableInputError(f"'{path.name}' must be a NIfTI volume, got shape {shape}.")
    return (shape[0], shape[1], shape[2]), np.asarray(image.affine, dtype=np.float64)


def read_label(
    label: NumberedLabel | BinaryMasks, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], bool]:
    """Return the labels in the numbering of this project, and whether the file holds exactly these numbers.

    Args:
        label: of the set.
        shape: of the image.
        affine: of the image (4, 4), voxel index to RAS+ mm.

    Raises:
        UnusableInputError: with the reason why the labels cannot be used: a damaged file, another grid than the image,
            another numbering, no vertebra, vertebrae that are not in the order of their numbers.
    """
    if isinstance(label, NumberedLabel):
        stored, exact = _read_whole_numbers(label.path, shape, affine)
        numbers = _renumbered(stored, label)
        as_stored = exact and bool(np.array_equal(numbers, stored))
    else:
        numbers, as_stored = _merged(label.masks, shape, affine), False
    _check_levels(numbers, affine)
    return numbers, as_stored


def write_labels(numbers: NDArray[np.uint8], affine: NDArray[np.float64], path: Path) -> None:
    """Write labels (X, Y, Z) on their grid, atomically."""
    image = nib.Nifti1Image(numbers, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    with writing(path) as temporary:
        nib.save(image, temporary)


def _read_whole_numbers(
    path: Path, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], bool]:
    """Return the numbers of a NIfTI label map on the grid of its image, and whether they are stored exactly.

    Raises:
        UnusableInputError: the file is damaged, has another grid, or does not hold whole numbers from 0 to 255.
    """
    own_shape, own_affine = read_grid(path)
    if own_shape != shape:
        raise UnusableInputError(f"The label map has shape {own_shape}, its image {shape}.")
    distance = grid_distance(affine, own_affine, shape)
    if not distance <= GRID_TOLERANCE:
        raise UnusableInputError(f"The label map is {distance:.1f} voxels from its image.")
    with unusable_if_damaged("The label map is damaged or truncated"):
        stored = np.asarray(nib.load(path).dataobj).reshape(shape)  # type: ignore[attr-defined]
    exact = True
    if stored.dtype.kind not in "iub":
        # resampled masks of some scans have NaN outside, and values such as 19.9999
        whole = np.rint(np.nan_to_num(stored, nan=0.0))
        exact = bool(np.array_equal(stored, whole))
        if not exact and float(np.nanmax(np.abs(stored - whole))) > ROUNDING:
            raise UnusableInputError("The label map must hold whole numbers, got other values.")
        stored = whole
    if stored.min() < 0 or stored.max() > np.iinfo(np.uint8).max:
        raise UnusableInputError(f"The numbers of the label map must be from 0 to 255, got {int(stored.max())}.")
    return stored.astype(np.uint8), exact


def _counts(numbers: NDArray[np.uint8], axis: int) -> NDArray[np.int64]:
    """Return the voxels of each number in each slice along an axis, (slices, 256)."""
    return np.stack([np.bincount(part.ravel(), minlength=256) for part in np.moveaxis(numbers, axis, 0)])


def _renumbered(stored: NDArray[np.uint8], label: NumberedLabel) -> NDArray[np.uint8]:
    values = np.flatnonzero(_counts(stored, 2).sum(axis=0)).tolist()
    unknown = [v for v in values if v and v not in label.numbers]
    if unknown:
        listed = ", ".join(str(v) for v in unknown[:5])
        raise UnusableInputError(f"The label map has the numbers {listed}, which are not in the numbering of the set.")
    table = np.zeros(256, np.uint8)
    for number in values:
        table[number] = label.numbers[number] if number else 0
    return table[stored]


def _merged(
    masks: Mapping[int, tuple[Path, ...]], shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> NDArray[np.uint8]:
    numbers = np.zeros(shape, np.uint8)
    for number, paths in masks.items():
        for path in paths:
            mask = _read_whole_numbers(path, shape, affine)[0] != 0
            taken = mask & (numbers != 0) & (numbers != number)
            if np.count_nonzero(taken) > OVERLAP_TOLERANCE * np.count_nonzero(mask):
                raise UnusableInputError(f"The mask '{path.name}' overlaps with another structure.")
            numbers[mask & (numbers == 0)] = number
    return numbers


def _check_levels(numbers: NDArray[np.uint8], affine: NDArray[np.float64]) -> None:
    axis = int(np.argmax(np.abs(affine[2, :3])))
    along = _counts(numbers, axis)
    order = [number for number in _in_order() if along[:, number].any()]
    if not set(order) - {VertebraLevel.SACRUM.label}:
        raise UnusableInputError("No vertebra is labelled.")
    # of a vertebra that the border cuts only a process may be left, beside the body of a lower one
    order = [number for number in order if not along[0, number] and not along[-1, number]]
    centres = np.arange(len(along)) @ along[:, order] / along[:, order].sum(axis=0)
    heights = centres * np.sign(affine[2, axis])
    for (upper, above), (lower, below) in pairwise(zip(order, heights, strict=True)):
        if above <= below:
            raise UnusableInputError(
                f"{_DOWNWARDS[upper]} is below {_DOWNWARDS[lower]} in the label map: the numbering is another one, or "
                "the image is upside down."
            )


def _in_order() -> list[int]:
    return [*CERVICAL_LABELS.values(), *(LEVEL_LABELS[level] for level in VertebraLevel)]


# --- centroids ----------------------------------------------------------------------------------------------------


def read_centroids(
    centroids: Centroids, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> dict[str, list[float]]:
    """Return the centres of vertebral bodies by level, RAS+ mm; cervical ones are not levels of this project.

    The file names the directions of its axes (``P, I, R`` if it does not), which may differ from those of the image.
    Coordinates are voxels of the image in these directions, or mm along them from the first voxel.

    Args:
        centroids: the file.
        shape: of the image.
        affine: of the image (4, 4), voxel index to RAS+ mm.

    Raises:
        UnusableInputError: the file is not in this format, or a centre is outside the image.
    """
    content = read_json(centroids.path)
    wrong = UnusableInputError(f"'{centroids.path.name}' must be a list of centroids with label, X, Y and Z.")
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise wrong
    directions = next((tuple(entry["direction"]) for entry in content if "direction" in entry), ("P", "I", "R"))
    to_image = _from_directions(directions, shape, affine, centroids.unit)
    levels = {number: level for level, number in LEVEL_LABELS.items()}
    points: dict[str, list[float]] = {}
    for entry in content:
        if "direction" in entry:
            continue
        try:
            number, index = int(entry["label"]), np.array([float(entry[axis]) for axis in "XYZ"])
        except (KeyError, TypeError, ValueError):
            raise wrong from None
        if number not in levels or not np.isfinite(index).all():
            continue
        voxel = to_image @ np.append(index, 1.0)
        if (voxel[:3] < -1).any() or (voxel[:3] > shape).any():
            raise UnusableInputError(f"The centroid of {levels[number]} is outside the image.")
        points[str(levels[number])] = [round(float(v), 2) for v in (affine @ voxel)[:3]]
    return points


def _from_directions(
    directions: tuple[Any, ...], shape: tuple[int, int, int], affine: NDArray[np.float64], unit: str
) -> NDArray[np.float64]:
    """Return the matrix (4, 4) from coordinates along ``directions`` to voxel indices of the image."""
    own = nib.aff2axcodes(affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    used = []
    for column, direction in enumerate(directions):
        pair = next((pair for pair in _AXES if direction in pair), None)
        axis = next((n for n, code in enumerate(own) if pair and code in pair), None)
        if axis is None or len(directions) != 3:
            raise UnusableInputError(f"The directions of the centroids must be such as P, I, R, got {directions}.")
        step = 1.0 / spacing[axis] if unit == "mm" else 1.0
        same = own[axis] == direction
        matrix[axis, column] = step if same else -step
        matrix[axis, 3] = 0.0 if same else shape[axis] - 1.0
        used.append(axis)
    if sorted(used) != [0, 1, 2]:
        raise UnusableInputError(f"The directions of the centroids must be such as P, I, R, got {directions}.")
    return matrix
