"""Find the CT studies and the studies of radiographs at a path."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.inputs import OUTPUT_REASON

if TYPE_CHECKING:
    from osteo_monai.screening.inventory import Inputs

Kind: TypeAlias = Literal["ct", "radiograph"]


@dataclass(frozen=True)
class Study:
    """One study: a CT by its path, or radiographs by their files.

    Attributes:
        kind: by content.
        path: a file or a folder, from which the name follows.
        files: of radiographs, or of a CT in several folders; empty for another CT, whose reader selects the series at
            ``path``.
    """

    kind: Kind
    path: Path
    files: tuple[Path, ...] = ()


def find_screenable(path: Path) -> list[Study]:
    """List the CT studies and the studies of radiographs at a path, distinguished by content.

    Each PNG, JPEG and NIfTI file is a study. DICOM files are grouped by StudyInstanceUID and PatientID, also within one
    folder; radiographs (modality CR, DX or RG) of a study are joined across folders. In a folder with CT images,
    radiographs and pictures of the same study are ignored, as are segmentations, reports and RT objects. Links are
    followed; archives are not read, see :func:`osteo_monai.screening.inventory.list_inputs`.

    Returns:
        Studies ordered by path, each with a unique path. Other objects, such as a folder of mammograms, count as CT:
        the CT reader reports why they cannot be used.

    Raises:
        UnusableInputError: if the path does not exist or nothing at it can be read.
    """
    from osteo_monai.screening.inventory import list_inputs

    with list_inputs(Path(path)) as inputs:
        outside = [study for study in inputs.studies if not study.path.is_relative_to(inputs.roots[-1])]
        return at_one_path(Path(path), replace(inputs, studies=tuple(outside)))


def at_one_path(path: Path, inputs: "Inputs") -> list[Study]:
    """Return the studies of a listing; an only study has the path of the input.

    Raises:
        UnusableInputError: if there is none.
    """
    studies = inputs.studies
    if not studies:
        raise UnusableInputError("The folder has no DICOM, NIfTI, PNG or JPEG file.")
    (only, *more) = studies
    whole = path.is_dir() and only.path.is_relative_to(path) and (only.files or only.path.is_dir() or _alone(inputs))
    if not more and whole:
        return [Study(only.kind, path, only.files)]
    return list(studies)


def _alone(inputs: "Inputs") -> bool:
    return not any(
        entry.name.endswith((".nii", ".nii.gz")) or entry.reason == OUTPUT_REASON for entry in inputs.not_read
    )
