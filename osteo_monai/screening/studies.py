"""Find the CT studies and the studies of radiographs at a path."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from osteo_monai.errors import UnusableInputError

if TYPE_CHECKING:
    from osteo_monai.imaging.studies import StudyPart

Kind: TypeAlias = Literal["ct", "radiograph"]

RADIOGRAPH_MODALITIES = frozenset({"CR", "DX", "RG"})
"""DICOM modalities of radiographs."""


@dataclass(frozen=True)
class Study:
    """One study: a CT by its path, or radiographs by their files.

    Attributes:
        kind: by content.
        path: a file or a folder, from which the name follows.
        files: of radiographs; empty for a CT, whose reader selects the series at ``path``.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...] = ()


def find_screenable(path: Path) -> list[Study]:
    """List the CT studies and the studies of radiographs at a path, distinguished by content.

    Each PNG, JPEG and NIfTI file is a study. DICOM files are grouped by StudyInstanceUID and PatientID, also within one
    folder; radiographs (modality CR, DX or RG) of a study are joined across folders. In a folder with CT images,
    radiographs and pictures of the same study are ignored, as are segmentations, reports and RT objects.

    Returns:
        Studies ordered by path, each with a unique path. Other objects, such as a folder of mammograms, count as CT:
        the CT reader reports why they cannot be used.

    Raises:
        UnusableInputError: if the path does not exist or nothing at it can be read.
    """
    from osteo_monai.imaging.radiograph import is_picture

    path = Path(path)
    if not path.exists():
        raise UnusableInputError(f"There is no file or folder '{path}'.")
    if path.is_file():
        radiograph = is_picture(path) or _is_radiograph(path)
        return [Study("radiograph", path, (path,)) if radiograph else Study("ct", path)]
    studies = _studies_of_folder(path)
    if not studies:
        raise UnusableInputError("The folder has no DICOM, NIfTI, PNG or JPEG file.")
    if len(studies) == 1:
        return [Study(studies[0].kind, path, studies[0].files)]
    return sorted(studies, key=lambda study: study.path)


def _studies_of_folder(path: Path) -> list[Study]:
    from osteo_monai.imaging.nifti import is_nifti
    from osteo_monai.imaging.radiograph import is_picture
    from osteo_monai.imaging.studies import study_paths, walk_studies

    single: list[Path] = []
    films: list[StudyPart] = []
    slices: list[StudyPart] = []
    for _, parts, others in walk_studies(path):
        of_folder = [part for part in parts if _radiographs(part)]
        films += of_folder
        slices += [part for part in parts if part not in of_folder]
        single += [file for file in others if is_nifti(file)]
        if len(of_folder) == len(parts):  # a picture in a folder of slices is a preview of them
            single += [file for file in others if is_picture(file)]
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for part in films:
        for number, file in enumerate(_radiographs(part)):
            groups[part.key or f"{part.folder} {number}"].append(file)
    folders = {part.folder for part in slices}
    studies = [Study("radiograph", _common_path(files, groups, folders), tuple(files)) for files in groups.values()]
    studies += [Study("radiograph", file, (file,)) if is_picture(file) else Study("ct", file) for file in single]
    return studies + [Study("ct", study) for study in study_paths(slices, films)]


def _radiographs(part: "StudyPart") -> tuple[Path, ...]:
    """Return the radiographs of a study without CT images in this folder."""
    if part.ct:
        return ()
    return tuple(sorted(file for m in RADIOGRAPH_MODALITIES for file in part.by_modality.get(m, ())))


def _is_radiograph(file: Path) -> bool:
    from osteo_monai.imaging.dicom_headers import looks_like_dicom
    from osteo_monai.imaging.studies import study_parts

    return looks_like_dicom(file) and any(_radiographs(part) for part in study_parts([file]))


def _common_path(files: Sequence[Path], groups: Mapping[str, Sequence[Path]], ct_folders: set[Path]) -> Path:
    """Return the folder that contains these files and no other study, else the first file."""
    folder = Path(os.path.commonpath([file.parent for file in files]))
    others = (file for group in groups.values() for file in group if file not in files)
    if any(file.is_relative_to(folder) for file in others) or any(f.is_relative_to(folder) for f in ct_folders):
        return files[0]
    return folder
