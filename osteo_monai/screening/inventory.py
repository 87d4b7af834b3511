"""List everything at a path: the studies, and all that is not read with the reason. Zip archives are unpacked."""

import errno
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from osteo_monai.errors import UnusableInputError
from osteo_monai.screening.names import DICOM_FOLDER, OUTPUT_FILES, printable
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.screening.studies import Study
from osteo_monai.utils.archives import (
    ArchiveError,
    ArchiveLimits,
    is_zip,
    temporary_folder,
    unpack_zip,
)
from osteo_monai.utils.inputs import open_input

if TYPE_CHECKING:
    from osteo_monai.imaging.studies import StudyPart

__all__ = ["Inputs", "NotRead", "list_inputs"]

RADIOGRAPH_MODALITIES = frozenset({"CR", "DX", "RG"})
"""DICOM modalities of radiographs."""

_FORMATS = {
    ".gz": "archive or compressed file (only .zip and .nii.gz are read)",
    ".tar": "archive (only .zip is read)",
    ".tgz": "archive (only .zip is read)",
    ".7z": "archive (only .zip is read)",
    ".rar": "archive (only .zip is read)",
    ".bz2": "archive (only .zip is read)",
    ".xz": "archive (only .zip is read)",
    ".nrrd": "NRRD (convert it to NIfTI)",
    ".nhdr": "NRRD (convert it to NIfTI)",
    ".mha": "MetaImage (convert it to NIfTI)",
    ".mhd": "MetaImage (convert it to NIfTI)",
}
_CONVERTED = re.compile(r"(.+)_(?:Eq|Tilt)_\d+")
"""dcm2niix writes ``X_Eq_1`` (equal slice distances) or ``X_Tilt_1`` (tilt removed) beside ``X``, which is distorted
(rordenlab/dcm2niix, issue 341)."""


@dataclass(frozen=True)
class NotRead:
    """An entry of the input that belongs to no study.

    Attributes:
        name: path below the input, printable; a path in an archive starts with that of the archive.
        reason: as a phrase.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Inputs:
    """What lies at a path.

    Attributes:
        studies: ordered by path, each with a unique path.
        not_read: everything else, ordered by name.
        roots: the input, and the folder of unpacked archives; output is named by the path below them.
    """

    studies: tuple[Study, ...]
    not_read: tuple[NotRead, ...]
    roots: tuple[Path, ...]


@contextmanager
def list_inputs(path: Path, exclude: Collection[Path] = ()) -> Iterator[Inputs]:
    """Give all studies at a path, also those in zip archives, and the entries that are not read.

    Archives are unpacked into a temporary folder, which is removed at the end of the block.

    Args:
        path: a file or a folder.
        exclude: folders to leave out, such as the output.

    Raises:
        UnusableInputError: the path does not exist, or is no regular file or folder, or is an archive that cannot be
            unpacked.
        ConfigError: a variable of the limits is no positive whole number.
    """
    from osteo_monai.imaging.limits import input_limits

    limits = input_limits()
    of_archives = ArchiveLimits(limits.archive_files, limits.archive_mib, limits.archive_ratio)
    if not path.exists():
        raise UnusableInputError(f"There is no file or folder '{printable(path)}'.")
    with temporary_folder() as unpacked:
        listing = _Listing(path, unpacked, of_archives)
        if path.is_dir():
            studies = listing.tree(path, exclude)
        elif is_zip(path):
            studies = listing.archive(path, unpacked / "archive", whole=True)
        else:
            studies = [single_file(path)]
        not_read = tuple(sorted(listing.not_read, key=lambda entry: entry.name))
        roots = (unpacked / "archive",) if is_zip(path) else (path, unpacked)
        yield Inputs(tuple(sorted(studies, key=lambda study: study.path)), not_read, roots)


def single_file(path: Path) -> Study:
    """Return the study of one file, by content."""
    from osteo_monai.imaging.dicom_headers import looks_like_dicom
    from osteo_monai.imaging.radiograph import is_picture
    from osteo_monai.imaging.studies import study_parts

    radiograph = is_picture(path) or (looks_like_dicom(path) and any(radiographs(p) for p in study_parts([path])))
    return Study("radiograph", path, (path,)) if radiograph else Study("ct", path)


class _Listing:
    """Studies and other entries of a folder and its archives."""

    def __init__(self, root: Path, unpacked: Path, limits: ArchiveLimits) -> None:
        self.not_read: list[NotRead] = []
        self._root = root
        self._unpacked = unpacked
        self._limits = limits
        self._keys: set[str] = set()

    def skip(self, path: Path, reason: str) -> None:
        """Add an entry to those that are not read."""
        root = self._unpacked if path.is_relative_to(self._unpacked) else self._root
        if path.is_relative_to(self._unpacked / "archive"):
            root = self._unpacked / "archive"
        self.not_read.append(NotRead(printable(path.relative_to(root)) if path != root else path.name, reason))

    def archive(self, file: Path, target: Path, whole: bool = False) -> list[Study]:
        """Unpack an archive and return its studies; the whole input must be readable."""
        try:
            unpack_zip(file, target, self._limits)
        except (ArchiveError, OSError) as error:
            reason = str(error) if isinstance(error, ArchiveError) else f"archive ({error.strerror})"
            if whole:
                raise UnusableInputError(f"The input must be a readable zip archive, got an {reason}.") from None
            self.skip(file, reason)
            return []
        studies = self.tree(target, (), nested=True)
        if not studies:
            self.skip(file, "archive without studies")
        return studies

    def tree(self, folder: Path, exclude: Collection[Path], nested: bool = False) -> list[Study]:
        """Return the studies below a folder."""
        from osteo_monai.imaging.studies import separate_people, walk_studies

        found: list[StudyPart] = []
        single: list[Path] = []
        archives: list[Path] = []
        for place, parts, others in walk_studies(folder, self.skip, exclude):
            if place.name == DICOM_FOLDER and _own_output([place.parent / "result.json"]):
                for file in (*others, *(file for part in parts for file in part.files)):
                    self.skip(file, "output of an earlier screening")
                continue
            found += parts
            single += self._single(parts, others, archives)
        single = self._without_masks(single, bool(found))
        found = separate_people(found)
        films = [part for part in found if radiographs(part)]
        slices = [part for part in found if not radiographs(part)]
        if nested:
            films, slices = self._new(films), self._new(slices)
        self._keys |= {part.key for part in found if part.key}
        studies = [_file_study(file) for file in single] + self._films(films, slices)
        for path, files in _ct_studies(slices, films):
            studies.append(Study("ct", path, files))
        for file in archives:
            if nested:
                self.skip(file, "archive in an archive")
            else:
                studies += self.archive(file, self._unpacked / file.relative_to(self._root))
        return studies

    def _new(self, parts: Sequence["StudyPart"]) -> list["StudyPart"]:
        """Return the parts of studies that are not listed outside the archive."""
        for part in parts:
            if part.key in self._keys:
                self.skip(part.representative, "study in an archive that is also outside of it")
        return [part for part in parts if part.key not in self._keys]

    def _single(self, parts: Sequence["StudyPart"], others: Sequence[Path], archives: list[Path]) -> list[Path]:
        """Return the NIfTI files and pictures of a folder that are studies; append its archives."""
        from osteo_monai.imaging.nifti import is_nifti, stem
        from osteo_monai.imaging.radiograph import is_picture

        of_output = _own_output(others)
        converted = {m[1] for file in others if is_nifti(file) and (m := _CONVERTED.fullmatch(stem(file)))}
        sidecars = {stem(file) + ".json" for file in others if is_nifti(file)}
        only_films = all(radiographs(part) for part in parts)
        chosen = []
        for file in others:
            if file in of_output:
                self.skip(file, "output of an earlier screening")
            elif is_nifti(file) and stem(file) in converted:
                self.skip(file, "NIfTI file of dcm2niix with unequal slice distances or tilt; its _Eq or _Tilt is read")
            elif is_nifti(file) or (is_picture(file) and only_films):
                chosen.append(file)
            elif is_picture(file):
                self.skip(file, "picture beside DICOM images")
            elif is_zip(file):
                archives.append(file)
            elif file.name not in sidecars:
                self.skip(file, _reason(file))
        return chosen

    def _without_masks(self, files: Sequence[Path], others: bool) -> list[Path]:
        """Leave out NIfTI files of whole numbers of 8 bits, if there is anything else to screen."""
        from osteo_monai.imaging.nifti import holds_bytes, is_nifti

        masks = {file for file in files if is_nifti(file) and holds_bytes(file)}
        if not others and len(masks) == len(files):
            return list(files)  # each of them is refused with the reason
        for file in sorted(masks):
            self.skip(file, "NIfTI file of whole numbers of 8 bits (mask or label map)")
        return [file for file in files if file not in masks]

    def _films(self, films: Sequence["StudyPart"], slices: Sequence["StudyPart"]) -> list[Study]:

        groups: defaultdict[str, list[Path]] = defaultdict(list)
        for part in films:
            used = radiographs(part)
            for number, file in enumerate(used):
                groups[part.key or f"{part.folder} {number}"].append(file)
            for file in part.files:
                if file not in used:
                    self.skip(file, "damaged or other DICOM file beside radiographs")
        folders = {part.folder for part in slices}
        return [Study("radiograph", _common_path(files, groups, folders), tuple(files)) for files in groups.values()]


def radiographs(part: "StudyPart") -> tuple[Path, ...]:
    """Return the radiographs of a study without CT images in this folder."""
    if part.ct:
        return ()
    return tuple(sorted(file for m in RADIOGRAPH_MODALITIES for file in part.by_modality.get(m, ())))


def _file_study(file: Path) -> Study:
    from osteo_monai.imaging.nifti import is_nifti

    return Study("ct", file) if is_nifti(file) else Study("radiograph", file, (file,))


def _ct_studies(slices: Sequence["StudyPart"], films: Sequence["StudyPart"]) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Yield path and files of each CT study; no files if they are all those at the path."""
    from osteo_monai.imaging.studies import study_paths

    members: defaultdict[str, list[StudyPart]] = defaultdict(list)
    for part in slices:
        members[part.key or f"no identifier {part.folder}"].append(part)
    for parts in members.values():
        paths = study_paths(parts, [*films, *(part for part in slices if part not in parts)])
        yield paths[0], () if len(paths) == 1 else tuple(file for part in parts for file in part.files)


def _common_path(files: Sequence[Path], groups: Mapping[str, Sequence[Path]], ct_folders: set[Path]) -> Path:
    """Return the folder that contains these files and no other study, else the first file."""
    folder = Path(os.path.commonpath([file.parent for file in files]))
    others = (file for group in groups.values() for file in group if file not in files)
    if any(file.is_relative_to(folder) for file in others) or any(f.is_relative_to(folder) for f in ct_folders):
        return files[0]
    return folder


def _own_output(files: Sequence[Path]) -> set[Path]:
    """Return the files of a screening in a folder that has a result of this package."""
    written = {file for file in files if file.name in OUTPUT_FILES}
    result = next((file for file in written if file.name == "result.json"), None)
    if result is None:
        return set()
    try:
        with open_input(result) as stream:
            ScreeningResult.model_validate_json(stream.read())
    except (OSError, ValueError):
        return set()
    return written


def _reason(file: Path) -> str:
    """Return why a file that is no image is not read."""
    try:
        with open_input(file) as stream:
            start = stream.read(8)
    except OSError as error:
        return f"file that cannot be opened ({os.strerror(error.errno or errno.EIO)})"
    if not start:
        return "empty file"
    if start[:4] in (b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x16\x00", b"\x08\x00\x00\x00"):
        return "DICOM without file header (preamble and 'DICM')"
    return _FORMATS.get(file.suffix.lower(), "no DICOM, NIfTI, PNG, JPEG or zip file")
