"""The door: one path in, one checked CT volume out, or a reason."""

from dataclasses import replace
from pathlib import Path

from osteo_monai.domain import Finding
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.dicom import read_dicom, read_dicom_acquisition
from osteo_monai.imaging.dicom_headers import looks_like_dicom, one_sentence, walk_files
from osteo_monai.imaging.findings import info
from osteo_monai.imaging.nifti import is_nifti, read_nifti, read_sidecar
from osteo_monai.imaging.studies import study_of_slice, study_paths, walk_studies
from osteo_monai.imaging.volume import Acquisition, CTVolume


def read_ct(path: Path, declared_ct: bool = False, keep_doubts: bool = False) -> CTVolume:
    """Read a CT from a DICOM folder (searched with its sub-folders), one DICOM file, or a NIfTI file.

    A folder may hold several series of one study and other objects; the series that suits bone density best is
    chosen (axial, original, no sharp kernel, full coverage, 1 to 3 mm) and the choice is told in the findings. A grid
    that lies oblique to the body is resampled upright.

    Args:
        path: a folder, ``.nii`` / ``.nii.gz``, a multi-frame DICOM file, or one slice, which stands for the files of
            its study in the same folder.
        declared_ct: somebody vouches that a NIfTI is CT in HU, as DICOM says by itself (a data manifest does): a field
            of view without air, as one targeted at the spine, is then warned of and not refused.
        keep_doubts: give the volume although no honest number can come of its values (lossy compression beyond the
            limit, virtual mono-energetic images, several tube voltages, a stated tilt); the refusals are then among
            its findings. For a caller who looks for a better reason first, such as a level out of view.

    Returns:
        The volume in HU, RAS+, with geometry and acquisition facts; none of its findings is a refusal unless
        ``keep_doubts``.

    Raises:
        UnusableInputError: nothing can be read: no such path, no images in it, damaged data.
        ScanRefusedError: images were read, but no honest number can come of them (not CT, missing slice, tilt,
            no rescale, values that are not HU, ...); its findings say why.
    """
    path = Path(path)
    if not path.exists():
        raise UnusableInputError(f"There is no file or folder '{path}'.")
    with one_sentence("The input cannot be read"):
        if path.is_file():
            if is_nifti(path):
                return read_nifti(path, path.name, declared_ct)
            if looks_like_dicom(path) or path.suffix.lower() in {".dcm", ".dicom", ".ima"}:
                return _read_file(path, keep_doubts)
            raise UnusableInputError("The file is neither DICOM nor NIfTI (.nii, .nii.gz).")
        files = [file for _, names in walk_files(path) for file in names]
        volumes = [file for file in files if is_nifti(file)]
        if any(looks_like_dicom(file) for file in files):
            scan = read_dicom(files, path.name, keep_doubts)
            if volumes:
                scan = _with(scan, info("nifti_ignored", f"{len(volumes)} NIfTI files beside the DICOM were not read."))
            return scan
        if len(volumes) == 1:
            return read_nifti(volumes[0], path.name, declared_ct)
        if volumes:
            raise UnusableInputError(f"The folder holds {len(volumes)} NIfTI files; give one of them.")
        return read_dicom(files, path.name, keep_doubts)


def _read_file(path: Path, keep_doubts: bool) -> CTVolume:
    files, others = study_of_slice(path)
    scan = read_dicom(files, path.name, keep_doubts)
    if len(files) > 1:
        message = f"The file is one slice of a study: the {len(files)} files of it in the same folder were read."
        scan = _with(scan, info("study_of_slice", message))
    if others:
        scan = _with(scan, info("other_studies", f"{others} images of other studies in the folder were left aside."))
    return scan


def _with(scan: CTVolume, note: Finding) -> CTVolume:
    return replace(scan, findings=(*scan.findings, note))


def read_acquisition(path: Path) -> Acquisition:
    """Return how a CT was made without reading its voxels: from the DICOM headers, or from the JSON beside a NIfTI.

    Args:
        path: as :func:`read_ct` takes it; of a folder that holds DICOM and NIfTI, DICOM is read.

    Raises:
        UnusableInputError: there is no such path, or nothing in it is DICOM or NIfTI.
        ScanRefusedError: the headers alone say that it is no CT or cannot be measured.
    """
    if not path.exists():
        raise UnusableInputError("There is no such file or folder.")
    with one_sentence("The input cannot be read"):
        if path.is_file() and is_nifti(path):
            return read_sidecar(path)[0]
        if path.is_file():
            return read_dicom_acquisition(study_of_slice(path)[0])
        files = [file for _, names in walk_files(path) for file in names]
        volumes = [file for file in files if is_nifti(file)]
        if len(volumes) == 1 and not any(looks_like_dicom(file) for file in files):
            return read_sidecar(volumes[0])[0]
        return read_dicom_acquisition(files)


def find_studies(path: Path) -> list[Path]:
    """List the studies in a folder tree, each as a path that :func:`read_ct` takes.

    DICOM files are told apart by their StudyInstanceUID and PatientID; folders of one study are given by the folder
    they share if that holds no other study, and of a folder that mixes studies one file stands for each. Segmentations,
    reports and RT objects beside images are no study of their own. Each NIfTI file is a study of its own.

    Args:
        path: a file or a folder.

    Returns:
        Paths in a fixed order; ``[path]`` if it is a file or holds a single study.

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
    found += study_paths([part for _, parts, _ in folders for part in parts])
    if not found:
        raise UnusableInputError("Nothing in the folder is DICOM or NIfTI.")
    return [path] if len(found) == 1 else sorted(found)
