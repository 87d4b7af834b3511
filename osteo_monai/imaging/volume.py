"""CT volume in Hounsfield units with geometry and acquisition facts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding, Sex


@dataclass(frozen=True)
class Acquisition:
    """Acquisition facts of a CT from its header; ``None`` means not stated."""

    kvp: float | None = None
    kernel: str | None = None
    slice_thickness_mm: float | None = None
    manufacturer: str | None = None
    model: str | None = None
    station: str | None = None
    """Code of the machine within its site, see ``station_code``."""
    contrast: str | None = None
    """Entries on contrast agent (contrast attributes or descriptions), verbatim."""
    series_description: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    frame_of_reference_uid: str | None = None
    """Of all images; ``None`` if they state none or several."""
    age_years: float | None = None
    sex: Sex | None = None
    acquired: date | None = None
    """Day of the study, else of the series."""


@dataclass(frozen=True)
class SourceFrame:
    """The DICOM image of one slice: a file, and the number of the frame in it from 1, or 0 in a single-frame file."""

    path: Path
    sop_instance_uid: str
    frame_number: int = 0


@dataclass(frozen=True)
class CTVolume:
    """A CT in canonical orientation.

    Attributes:
        hu: float32 of shape (X, Y, Z), RAS+: x grows towards the patient's right, y anterior, z superior. Axial slices
            ``hu[:, :, k]`` are contiguous in memory if possible; no stride is negative.
        affine: (4, 4) voxel index to RAS+ mm.
        original_affine, original_shape: grid of the file, on which results are written. An oblique one was resampled:
            ``hu`` is then upright and covers more.
        valid: bool of the same shape as ``hu``; False in padding and outside the original grid (``hu`` is -1024 there).
            ``None`` means all valid.
        acquisition: facts from the header.
        findings: of reading; with a refusal only if the caller requested to keep doubts.
        source: name of the file or folder that was read.
        instance_numbers: DICOM InstanceNumber of each axial slice ``hu[:, :, k]``; ``None`` if the images were not
            acquired axially, have no numbers, were resampled, or come from NIfTI.
        frames: DICOM image of each slice of the original grid, in the order of its third axis; empty for NIfTI.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import make_ct, read_ct
        >>> volume = read_ct(make_ct(Path("ct"), matrix=128))
        >>> volume.hu.shape
        (128, 128, 150)
    """

    hu: NDArray[np.float32]
    affine: NDArray[np.float64]
    original_affine: NDArray[np.float64]
    original_shape: tuple[int, int, int]
    valid: NDArray[np.bool_] | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)
    findings: Sequence[Finding] = ()
    source: str = ""
    instance_numbers: tuple[int, ...] | None = None
    frames: tuple[SourceFrame, ...] = ()

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along x, y and z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)
