"""Write a manifest of single slices from images and the outlines beside them."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from osteo_monai.data.csv_tables import write_table
from osteo_monai.data.manifest import Header, Manifest, write_manifest
from osteo_monai.data.outlines.geojson import masks_of_geojson
from osteo_monai.data.outlines.images import PICTURE_SUFFIXES, Plane, is_plane, read_labels, read_plane
from osteo_monai.data.record import Record
from osteo_monai.data.slice_files import slice_names, write_slice
from osteo_monai.domain import LEVEL_LABELS, SPLIT_PATTERN, Boundary, VertebraLevel
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.imaging.nifti import NIFTI_SUFFIXES, stem
from osteo_monai.imaging.orientation import canonical_affine, to_canonical
from osteo_monai.utils.inputs import walk_tree
from osteo_monai.utils.text import safe_name

__all__ = ["OutlineImport", "OutlineOptions", "OutlineProducts", "import_outlines", "outline_products"]

LABEL_ENDS = ("_label", "_mask")
"""End of the name of a label image before its suffix."""
_JSON_SUFFIXES = (".geojson", ".json")
_LEVELS = {str(level).casefold(): level for level in VertebraLevel if level is not VertebraLevel.SACRUM}
_NUMBERS = {LEVEL_LABELS[level]: level for level in _LEVELS.values()}
_NAMED = re.compile(r"(?P<subject>.+?)[ _.-]+(?P<level>[TL]\d{1,2})", re.IGNORECASE)


@dataclass(frozen=True)
class OutlineOptions:
    """Input of :func:`import_outlines`.

    Attributes:
        folder: tree of images with their outlines; it is not changed.
        manifest: file to write; slices are written beside it.
        boundary: edge of the cortex that was outlined.
        classes: level by the name of a class in GeoJSON, or by the number in label images, beside ``L1`` or 20.
        window: HU of black and white of pictures of 8 or 16 bits.
        pixel_mm: pixel size of pictures.
        split: of all records.
        name: of the manifest (default: that of its file).
        virtual: whether the people are simulated.
    """

    folder: Path
    manifest: Path
    boundary: Boundary
    classes: Mapping[str, str]
    window: tuple[float, float] | None = None
    pixel_mm: float | None = None
    split: str = "test"
    name: str | None = None
    virtual: bool = False


@dataclass(frozen=True)
class OutlineProducts:
    """Files of an import, all beside the manifest and named after it."""

    manifest: Path
    exclusions: Path
    slices: Path


def outline_products(manifest: Path) -> OutlineProducts:
    """Return the files of a manifest: ``one.json`` has ``one.exclusions.csv`` and the folder ``one.slices``."""
    base = manifest.name.removesuffix(".json")
    return OutlineProducts(manifest, manifest.with_name(f"{base}.exclusions.csv"), manifest.with_name(f"{base}.slices"))


@dataclass(frozen=True)
class OutlineImport:
    """Results of :func:`import_outlines`.

    Attributes:
        manifest: as written.
        sha256: of its file.
        left_out: file and reason of each image and outline that is not in the manifest.
    """

    manifest: Manifest
    sha256: str
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Pair:
    """An image and its outlines; ``level`` if the name of the file states one."""

    image: Path
    outline: Path
    subject: str
    level: VertebraLevel | None


def import_outlines(options: OutlineOptions) -> OutlineImport:
    """Write the slices of a folder with their masks, and a manifest of them.

    ``NAME.png`` (or DICOM, NIfTI, TIFF) belongs to ``NAME.geojson`` or ``NAME_label.png`` (``_mask``; NIfTI, TIFF). The
    subject is the first folder below ``options.folder``, or the name of the file without ``_L1``. A subject has one
    slice a level. Files that cannot be used are left out with the reason.

    Raises:
        ConfigError: an option is invalid, or a subject is the patient id or name of a DICOM header.
        UnusableInputError: no slice could be used.
        ManifestError: the records contradict each other.
    """
    products = outline_products(options.manifest)
    levels = _checked(options)
    left_out: list[tuple[str, str]] = []
    pairs = list(_pairs(options.folder, left_out))
    names = slice_names(pair.subject for pair in pairs)
    records: dict[tuple[str, VertebraLevel], Record] = {}
    for pair in track(pairs, "Importing", len(pairs)):
        try:
            plane = read_plane(pair.image, options.window, options.pixel_mm)
            if pair.subject.casefold() in plane.patient:
                raise ConfigError("subject must be a pseudonym, got the patient id or name of a DICOM header")
            level, mask = _mask(pair, plane, levels)
            if (pair.subject, level) in records:
                raise UnusableInputError(f"The subject has a slice of {level} already; one is used.")
        except UnusableInputError as error:
            left_out.append((_shown(pair.outline, options.folder), " ".join(str(error).split())))
            continue
        target = products.slices / names[pair.subject]
        records[pair.subject, level] = _write(plane, mask, level, target, pair.subject, options)
    write_table(products.exclusions, ("file", "reason"), sorted(left_out))
    if not records:
        first = f", such as {safe_name(options.folder / left_out[0][0])}: {left_out[0][1]}" if left_out else ""
        raise UnusableInputError(f"'{options.folder.name}' has no image with outlines that can be used{first}")
    header = Header(
        name=options.name or options.manifest.stem,
        description=f"Single slices with {options.boundary} outlines: {len(records)}.",
        virtual=options.virtual,
    )
    manifest = Manifest(header=header, splits={options.split: tuple(records.values())})
    checksum = write_manifest(manifest, options.manifest)
    return OutlineImport(manifest, checksum, tuple(sorted(left_out)))


def _checked(options: OutlineOptions) -> Mapping[str, VertebraLevel]:
    """Return the level by class name in lower case; refuse invalid options."""
    if not options.folder.is_dir():
        raise UnusableInputError(f"There is no folder '{options.folder.name}'.")
    if options.manifest.resolve().is_relative_to(options.folder.resolve()):
        raise ConfigError("--output must be outside the folder of the outlines, which is not changed")
    if not re.match(SPLIT_PATTERN, options.split):
        raise ConfigError(f"--split must be training, validation, test or external_<centre>, got '{options.split}'")
    if options.window is not None and not options.window[0] < options.window[1]:
        raise ConfigError(f"--window must be two ascending HU, got {options.window[0]:g} and {options.window[1]:g}")
    if options.pixel_mm is not None and not 0.1 <= options.pixel_mm <= 10:
        raise ConfigError(f"--pixel-mm must be from 0.1 to 10, got {options.pixel_mm:g}")
    levels = dict(_LEVELS)
    for name, level in options.classes.items():
        if level.casefold() not in _LEVELS:
            raise ConfigError(f"--classes must be NAME=LEVEL with a level such as L1, got '{name}={level}'")
        levels[name.casefold()] = _LEVELS[level.casefold()]
    return levels


def _pairs(folder: Path, left_out: list[tuple[str, str]]) -> Iterator[_Pair]:
    """Yield images with their outlines; append the files without the other one to ``left_out``."""
    for place, files in walk_tree(folder):
        outlines: dict[str, list[Path]] = defaultdict(list)
        images: list[Path] = []
        for file in files:
            if file.suffix.lower() in _JSON_SUFFIXES:
                outlines[_stem(file.with_suffix(""))].append(file)
            elif _stem(file).lower().endswith(LABEL_ENDS):
                outlines[_stem(file).rpartition("_")[0]].append(file)
            elif is_plane(file):
                images.append(file)
            else:
                left_out.append((_shown(file, folder), "The file must be DICOM, NIfTI, PNG, TIFF or GeoJSON."))
        for image in images:
            own = outlines.pop(_stem(image), [])
            if len(own) != 1:
                left_out.append((_shown(image, folder), f"The image must have one file of outlines, got {len(own)}."))
                continue
            named = _NAMED.fullmatch(_stem(image))
            level = _LEVELS.get(named["level"].casefold()) if named else None
            below = place.relative_to(folder).parts
            subject = below[0] if below else named["subject"] if named and level else _stem(image)
            if below and level is None:
                level = _LEVELS.get(_stem(image).casefold())
            yield _Pair(image, own[0], subject, level)
        for unpaired in (file for own in outlines.values() for file in own):
            left_out.append((_shown(unpaired, folder), "The outlines must have an image with the same name, got none."))


def _stem(path: Path) -> str:
    """Return the name of an image without the suffix of its format."""
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        return stem(path)
    return path.stem if path.suffix.lower() in (*PICTURE_SUFFIXES, ".dcm", ".ima", ".dicom") else path.name


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _mask(pair: _Pair, plane: Plane, levels: Mapping[str, VertebraLevel]) -> tuple[VertebraLevel, NDArray[np.bool_]]:
    """Return the level of a slice and its mask (columns, rows)."""
    columns, rows = plane.hu.shape
    if pair.outline.suffix.lower() in _JSON_SUFFIXES:
        masks = masks_of_geojson(pair.outline, (columns, rows), lambda name: _level_of(name, pair, levels))
    else:
        affine = None if pair.image.suffix.lower() in PICTURE_SUFFIXES else plane.affine
        masks = _masks_of_labels(read_labels(pair.outline, (columns, rows), affine), pair, levels)
    if len(masks) != 1:
        raise UnusableInputError(f"A slice must have outlines of one level, got {', '.join(masks) or 'none'}.")
    ((level, mask),) = masks.items()
    if pair.level is not None and level is not pair.level:
        raise UnusableInputError(f"The outlines must be of {pair.level} by the name of the file, got {level}.")
    return level, mask


def _level_of(name: str | None, pair: _Pair, levels: Mapping[str, VertebraLevel]) -> VertebraLevel:
    if name is None:
        if pair.level is None:
            raise UnusableInputError("An outline must have a class such as L1, or the file a name that ends in it.")
        return pair.level
    level = levels.get(name.casefold())
    if level is None:
        raise UnusableInputError(f"The class of an outline must be L1, L2 or one of --classes, got '{name}'.")
    return level


def _masks_of_labels(
    labels: NDArray[np.int64], pair: _Pair, levels: Mapping[str, VertebraLevel]
) -> Mapping[VertebraLevel, NDArray[np.bool_]]:
    """Return the mask of each level; a single unknown number, such as 255, is the level in the file's name."""
    numbers = [int(number) for number in np.unique(labels) if number]
    if not numbers:
        raise UnusableInputError("A label image must have at least one pixel above 0, got none.")
    meant = {number: levels.get(str(number), _NUMBERS.get(number)) for number in numbers}
    if len(numbers) == 1 and meant[numbers[0]] is None:
        meant = {numbers[0]: pair.level}
    if unknown := [number for number, level in meant.items() if level is None]:
        raise UnusableInputError(
            f"A number of a label image must be {LEVEL_LABELS[VertebraLevel.L1]} (L1), "
            f"{LEVEL_LABELS[VertebraLevel.L2]} (L2) or one of --classes, got {unknown[0]}."
        )
    masks: dict[VertebraLevel, NDArray[np.bool_]] = {}
    for number, level in meant.items():
        if level is not None:
            masks[level] = masks.get(level, np.zeros(labels.shape, bool)) | (labels == number)
    return masks


def _write(
    plane: Plane,
    mask: NDArray[np.bool_],
    level: VertebraLevel,
    folder: Path,
    subject: str,
    options: OutlineOptions,
) -> Record:
    """Write a slice in RAS+ orientation; return its record, with paths relative to the manifest."""
    shape = (plane.hu.shape[0], plane.hu.shape[1], 1)
    hu = to_canonical(plane.hu[:, :, None], plane.affine)[:, :, 0]
    labels = to_canonical(mask.astype(np.uint8)[:, :, None], plane.affine)[:, :, 0]
    image, label = folder / f"{level}.nii", folder / f"{level}_label.nii"
    write_slice(image, label, hu, labels * np.uint8(level.label), canonical_affine(plane.affine, shape))
    record = Record(
        image=str(image),
        label=str(label),
        label_kind="body",
        boundary=options.boundary,
        level=level,
        subject_id=subject,
    )
    return record.moved(Path(), options.manifest.parent)
