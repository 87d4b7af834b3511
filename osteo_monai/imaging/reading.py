"""Read and validate a CT volume from a path."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from osteo_monai.domain import Finding
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.dicom import read_dicom, read_dicom_acquisition
from osteo_monai.imaging.dicom_headers import check_folder, looks_like_dicom, unusable_if_damaged
from osteo_monai.imaging.findings import info
from osteo_monai.imaging.nifti import is_nifti, read_nifti, read_sidecar
from osteo_monai.imaging.studies import separate_people, study_of_slice, study_paths, walk_studies
from osteo_monai.imaging.volume import Acquisition, CTVolume
from osteo_monai.utils.inputs import walk_tree


def read_ct(path: Path, declared_ct: bool = False, keep_doubts: bool = False, files: Sequence[Path] = ()) -> CTVolume:
    """Read a CT from a DICOM folder (searched with its sub-folders), one DICOM file, or a NIfTI file.

    A folder may contain several series of one study and other objects; the series that is best for bone density is
    selected (axial, original, no sharp kernel, full coverage, 1 to 3 mm) and the choice is recorded in the findings. A
    grid that is oblique to the body is resampled upright.

    Args:
        path: a folder, ``.nii`` / ``.nii.gz``, a multi-frame DICOM file, or one slice, which selects the files of
            its study in the same folder.
        declared_ct: the caller declares that a NIfTI is CT in HU, as a data manifest does: a field of view without air,
            such as one targeted at the spine, is then a warning instead of a refusal.
        keep_doubts: return the volume even if its values are not valid for measurement (lossy compression beyond the
            limit, virtual mono-energetic images, several tube voltages, a stated tilt), with the refusals among its
            findings. For callers that report another reason first, such as a level out of view.
        files: DICOM files of the study, if they are not all those at ``path``, such as of a study in several folders.

    Returns:
        The volume in HU, RAS+, with geometry and acquisition facts; none of its findings is a refusal unless
        ``keep_doubts``.

    Raises:
        UnusableInputError: nothing can be read: no such path, no images in it, damaged data.
        ScanRefusedError: images were read, but cannot be measured (not CT, missing slice, tilt, no rescale, values
            that are not HU, ...); its findings are the reasons.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import make_ct, read_ct
        >>> read_ct(make_ct(Path("ct"), matrix=128)).acquisition.kvp
        120.0
    """
    path = Path(path)
    if not path.exists():
        raise UnusableInputError(f"There is no file or folder '{path}'.")
    with unusable_if_damaged("The input cannot be read"):
        if files:
            return read_dicom(files, path.name, keep_doubts)
        if path.is_file():
            if is_nifti(path):
                return read_nifti(path, path.name, declared_ct)
            if looks_like_dicom(path) or path.suffix.lower() in {".dcm", ".dicom", ".ima"}:
                return _read_file(path, keep_doubts)
            raise UnusableInputError("The file is neither DICOM nor NIfTI (.nii, .nii.gz), PNG or JPEG.")
        check_folder(path)
        files = [file for _, names in walk_tree(path) for file in names]
        volumes = [file for file in files if is_nifti(file)]
        if any(looks_like_dicom(file) for file in files):
            scan = read_dicom(files, path.name, keep_doubts)
            if volumes:
                scan = _with(
                    scan, info("nifti_ignored", f"{len(volumes)} NIfTI files beside the DICOM files were ignored.")
                )
            return scan
        if len(volumes) == 1:
            return read_nifti(volumes[0], path.name, declared_ct)
        if volumes:
            raise UnusableInputError(f"The folder must contain one NIfTI file, got {len(volumes)}.")
        return read_dicom(files, path.name, keep_doubts)


def _read_file(path: Path, keep_doubts: bool) -> CTVolume:
    files, others = study_of_slice(path)
    scan = read_dicom(files, path.name, keep_doubts)
    if len(files) > 1:
        message = f"The file is one slice of a study: its {len(files)} files in the same folder were read."
        scan = _with(scan, info("study_of_slice", message))
    if others:
        scan = _with(scan, info("other_studies", f"{others} images of other studies in the folder were ignored."))
    return scan


def _with(scan: CTVolume, note: Finding) -> CTVolume:
    return replace(scan, findings=(*scan.findings, note))


def read_acquisition(path: Path) -> Acquisition:
    """Return the acquisition facts of a CT without reading its voxels: from DICOM headers or the JSON beside a NIfTI.

    Args:
        path: as of :func:`read_ct`; in a folder with DICOM and NIfTI, DICOM is read.

    Raises:
        UnusableInputError: there is no such path, or nothing in it is DICOM or NIfTI.
        ScanRefusedError: the headers show that it is not CT or cannot be measured.
    """
    if not path.exists():
        raise UnusableInputError("There is no such file or folder.")
    with unusable_if_damaged("The input cannot be read"):
        if path.is_file() and is_nifti(path):
            return read_sidecar(path)[0]
        if path.is_file():
            return read_dicom_acquisition(study_of_slice(path)[0])
        files = [file for _, names in walk_tree(path) for file in names]
        volumes = [file for file in files if is_nifti(file)]
        if len(volumes) == 1 and not any(looks_like_dicom(file) for file in files):
            return read_sidecar(volumes[0])[0]
        return read_dicom_acquisition(files)


def find_studies(path: Path) -> list[Path]:
    """List the studies in a folder tree, each as a path for :func:`read_ct`.

    DICOM files are grouped by StudyInstanceUID and PatientID. The path of a study is the folder that contains all its
    files and no other study; in a folder of several studies it is one file of each. Segmentations, reports and RT
    objects beside images are no separate study. Each NIfTI file is one study.

    Args:
        path: a file or a folder.

    Returns:
        Paths in a fixed order; ``[path]`` if it is a file or contains a single study.

    Raises:
        UnusableInputError: there is no such path, or nothing in it looks like DICOM or NIfTI.
    """
    path = Path(path)
    if not path.exists():
        raise UnusableInputError(f"There is no file or folder '{path}'.")
    if path.is_file():
        return [path]
    folders = list(walk_studies(path))
    found = [file for _, _, others in folders for file in others if is_nifti(file)]
    found += study_paths(separate_people([part for _, parts, _ in folders for part in parts]))
    if not found:
        raise UnusableInputError("Nothing in the folder is DICOM or NIfTI.")
    return [path] if len(found) == 1 else sorted(found)
