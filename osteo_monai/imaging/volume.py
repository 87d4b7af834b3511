"""A checked CT volume: Hounsfield units, geometry and the acquisition facts that a measurement depends on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding, Sex


@dataclass(frozen=True)
class Acquisition:
    """What the header says about how a CT was made. ``None`` means that it does not say."""

    kvp: float | None = None
    kernel: str | None = None
    slice_thickness_mm: float | None = None
    manufacturer: str | None = None
    model: str | None = None
    contrast: str | None = None
    """What the header says of contrast agent (any of the contrast attributes or the descriptions), verbatim."""
    series_description: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    age_years: float | None = None
    sex: Sex | None = None
    acquired: date | None = None
    """Day of the study, of the series where the study has none."""


@dataclass(frozen=True)
class CTVolume:
    """A CT in canonical orientation.

    Attributes:
        hu: float32 of shape (X, Y, Z), RAS+: x grows towards the patient's right, y anterior, z superior. Axial slices
            ``hu[:, :, k]`` lie together in memory where the reader can arrange it; no stride is negative.
        affine: (4, 4) voxel index to RAS+ mm.
        original_affine, original_shape: the grid the file came in, so that results can be written to overlay it. An
            oblique one was resampled: ``hu`` then is upright and covers more.
        valid: bool of the same shape as ``hu``; False where the scanner padded or the original grid does not reach
            (``hu`` is -1024 there). ``None`` means all valid.
        acquisition: facts from the header.
        findings: what reading noticed; a refusal is among it only if the reader was told to keep doubts.
        source: name of the file or folder that was read, as the caller gave it.
        instance_numbers: DICOM InstanceNumber of each axial slice ``hu[:, :, k]``; ``None`` where the images were not
            acquired axially, do not number themselves, were resampled, or come from NIfTI.
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

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along x, y and z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)
