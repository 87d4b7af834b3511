"""Calibration by a phantom in the scan: rods of known composition.

:func:`phantom_calibration` reads the rods from a small JSON file, whose format is described in ``docs/calibration.md``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from osteo_monai.domain import MineralStandard
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.imaging import attenuation
from osteo_monai.imaging.nifti import read_label_map
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.measurement.calibration.accuracy import ABSOLUTE_SD_MG_CM3, PHANTOM_RELATIVE_SD
from osteo_monai.measurement.values import CalibrationUsed
from osteo_monai.utils.inputs import read_input

R2_WARN, R2_ERROR = 0.98, 0.90
"""A phantom fit with R2 below the first has a note, below the second it is refused."""
MAX_RESIDUAL_MG_CM3 = 20.0
"""Largest deviation of a rod from the line (project custom): a region that misses its rod deviates by more."""
MIN_RODS = 3
"""Two rods always lie on a line, so that nothing checks them."""
MIN_ROD_VOXELS = 20
"""Fewest voxels of a rod (project custom): the error of a median at 20 HU of noise is then 5 HU."""
ROD_EROSION_MM = 1.0
"""Distance from the border of a labelled rod that is not measured, against partial volumes."""
DEFAULT_LENGTH_MM = 20.0
_WATER_REFERENCE = 999.6  # Mindways: beta_ct = beta_ref + 999.6, which removes the HU of the rods' water


@dataclass(frozen=True)
class Phantom:
    """Rods of known composition, in the order of the rods.

    Attributes:
        name: of the phantom.
        density: mineral in each rod, mg/cm3.
        water: water in each rod, mg/cm3; ``None`` if ``density`` is that of mineral in water-equivalent material.
        standard: the mineral.
    """

    name: str
    density: tuple[float, ...]
    water: tuple[float, ...] | None = None
    standard: MineralStandard = MineralStandard.K2HPO4


MINDWAYS_MODEL_3 = Phantom(
    "Mindways Model 3", (-51.83, -53.40, 58.88, 157.05, 375.83), (1012.25, 1056.95, 1103.57, 1119.52, 923.20)
)
"""Published rods of the Mindways Model 3 QCT phantom, mg/cm3."""


class Rod(BaseModel):
    """One rod in the file: its composition, and its place as a label or as a cylinder along z."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    density_mg_cm3: float
    """Mineral per volume; may be negative in rods that displace water."""
    water_mg_cm3: float | None = Field(default=None, gt=0)
    """Water per volume, for rods of solutions or resins whose water content is stated, as that of Mindways."""
    label: int | None = Field(default=None, ge=1, le=255)
    centre_mm: tuple[float, float, float] | None = None
    """RAS+ mm."""
    radius_mm: float | None = Field(default=None, gt=0, le=50)
    """Of the measured cylinder, smaller than that of the rod."""
    length_mm: float = Field(default=DEFAULT_LENGTH_MM, gt=0, le=1000)
    """Of the measured cylinder along z."""

    @model_validator(mode="after")
    def _placed_once(self) -> Self:
        cylinder = self.centre_mm is not None and self.radius_mm is not None
        partial = (self.centre_mm is None) != (self.radius_mm is None)
        if partial or cylinder == (self.label is not None):
            raise ValueError("a rod must have either label, or centre_mm and radius_mm")
        return self


class PhantomFile(BaseModel):
    """Content of a phantom file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="phantom", min_length=1)
    standard: MineralStandard
    labels: str | None = None
    """Label map of the rods on the grid of the scan (NIfTI), relative to this file."""
    rods: tuple[Rod, ...] = Field(min_length=MIN_RODS)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({rod.water_mg_cm3 is None for rod in self.rods}) > 1:
            raise ValueError("water_mg_cm3 must be given for all rods or for none")
        if len({rod.density_mg_cm3 for rod in self.rods}) < MIN_RODS:
            raise ValueError(f"rods must have at least {MIN_RODS} different densities")
        labels = [rod.label for rod in self.rods if rod.label is not None]
        if len(set(labels)) < len(labels):
            raise ValueError(f"rods must have different labels, got {labels}")
        if labels and self.labels is None:
            raise ValueError("labels must name a label map, since rods have labels")
        return self

    @property
    def phantom(self) -> Phantom:
        """The composition of the rods."""
        water = tuple(rod.water_mg_cm3 for rod in self.rods if rod.water_mg_cm3 is not None)
        return Phantom(self.name, tuple(rod.density_mg_cm3 for rod in self.rods), water or None, self.standard)


def read_phantom(path: Path) -> PhantomFile:
    """Read and validate a phantom file.

    Raises:
        UnusableInputError: there is no such file, or it is not UTF-8 text.
        ConfigError: the message has the file name and every invalid field.
    """
    try:
        return PhantomFile.model_validate_json(read_input(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableInputError(f"The phantom file '{path.name}' cannot be read ({type(error).__name__}).") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path.name} must be a valid phantom file: {problems}") from None


def phantom_calibration(volume: CTVolume, path: Path) -> CalibrationUsed:
    """Calibrate a scan by the rods of a phantom in it.

    Args:
        volume: the scan that contains the phantom.
        path: phantom file, see ``docs/calibration.md``.

    Returns:
        The line with its interval, as the other methods return it; the note has R2 and the largest residual.

    Raises:
        UnusableInputError: the file or its label map cannot be read.
        ValueError: the file is invalid, a rod has too few voxels in the scan, or the rods fit no line.
    """
    path = Path(path)
    file = read_phantom(path)
    rods = _rod_labels(volume, file, path.parent)
    counts = np.bincount(rods.ravel(), minlength=len(file.rods) + 1)[1:]
    short = [str(i + 1) for i, count in enumerate(counts) if count < MIN_ROD_VOXELS]
    if short:
        raise ValueError(
            f"rods must have at least {MIN_ROD_VOXELS} voxels in the scan, got fewer for {', '.join(short)}"
        )
    return phantom_fit(rod_medians(volume.hu, rods), file.phantom)


def _rod_labels(volume: CTVolume, file: PhantomFile, folder: Path) -> NDArray[np.uint8]:
    """Return a label map (X, Y, Z) with the number of each rod (from 1) on the grid of the scan; 0 elsewhere."""
    rods = np.zeros(volume.hu.shape, dtype=np.uint8)
    labels = _read_labels(volume, folder / file.labels) if file.labels is not None else None
    for number, rod in enumerate(file.rods, 1):
        if rod.label is not None and labels is not None:
            rods[_eroded(labels == rod.label, volume.spacing)] = number
        elif rod.centre_mm is not None and rod.radius_mm is not None:
            part, inside = _cylinder(volume, rod.centre_mm, rod.radius_mm, rod.length_mm)
            rods[part][inside] = number
    if volume.valid is not None:
        rods[~volume.valid] = 0
    return rods


def _read_labels(volume: CTVolume, path: Path) -> NDArray[np.uint8]:
    labels, affine = read_label_map(path)
    if labels.shape != volume.hu.shape or not np.allclose(affine, volume.affine, atol=0.01):
        raise ValueError(
            f"labels must be on the grid of the scan {volume.hu.shape}, got {labels.shape} or another place"
        )
    return labels


def _eroded(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return the voxels at least ``ROD_EROSION_MM`` inside the surface of a mask, by SimpleITK's distance map in mm."""
    import SimpleITK as sitk  # 264 MB, and needed here only

    if not mask.any():
        return mask
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask.transpose(2, 1, 0)).astype(np.uint8))
    image.SetSpacing(spacing)
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    return np.asarray(sitk.GetArrayFromImage(distance).transpose(2, 1, 0) >= ROD_EROSION_MM) & mask


def _cylinder(
    volume: CTVolume, centre: tuple[float, float, float], radius: float, length: float
) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """Return a box of the scan and its voxels within a cylinder along z, all in RAS+ mm."""
    reach = np.array([radius, radius, 0.5 * length])
    inverse = np.linalg.inv(volume.affine)
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], dtype=float)
    corners = (np.array(centre) + signs * reach) @ inverse[:3, :3].T + inverse[:3, 3]
    low = np.clip(np.floor(corners.min(0)).astype(int), 0, volume.hu.shape)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, volume.hu.shape)
    part = tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, high, strict=True))
    index = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in part), indexing="ij"), axis=-1)
    offset = index @ volume.affine[:3, :3].T + volume.affine[:3, 3] - np.array(centre)
    inside = (np.hypot(offset[..., 0], offset[..., 1]) <= radius) & (np.abs(offset[..., 2]) <= 0.5 * length)
    return part, np.asarray(inside)


def rod_medians(hu: NDArray[np.float32], rods: NDArray[np.integer]) -> tuple[float, ...]:
    """Return the median HU of each rod of a label map (labels 1, 2, ... in the phantom's order, both arrays of one
    shape).

    Raises ``ValueError`` if the shapes differ or a label between 1 and the largest is absent.
    """
    if hu.shape != rods.shape:
        raise ValueError(f"rods must have the shape of hu {hu.shape}, got {rods.shape}")
    count = int(rods.max(initial=0))
    missing = [label for label in range(1, count + 1) if not np.any(rods == label)]
    if count == 0 or missing:
        raise ValueError(f"rods must hold labels 1 to the number of rods, missing {missing or 'all'}")
    return tuple(float(np.median(hu[rods == label])) for label in range(1, count + 1))


def phantom_fit(rod_hu: Sequence[float], phantom: Phantom = MINDWAYS_MODEL_3) -> CalibrationUsed:
    """Fit the line to the HU of rods scanned with the patient, in the standard of the phantom.

    Without a stated water content HU are regressed on density, and the density is (HU - offset) / gradient. With it,
    HU minus water are regressed: the gradient is sigma_ref, the offset beta_ref; then sigma_ct = sigma_ref - 0.2174 and
    beta_ct = beta_ref + 999.6, and the density is (HU - beta_ct) / sigma_ct (Mindways).

    Raises:
        ValueError: another number of rods, values that are not finite, R2 below 0.90, a slope that no CT at 70 to
            150 kVp has, or a rod more than 20 mg/cm3 off the line. R2 below 0.98 adds to the note; the standard error
            of the slope and the residuals widen the interval.
    """
    values = np.asarray(rod_hu, dtype=np.float64)
    if values.shape != (len(phantom.density),):
        raise ValueError(f"rod HU must hold {len(phantom.density)} values for {phantom.name}, got {values.size}")
    if not np.isfinite(values).all():
        raise ValueError(f"rod HU must be finite, got {values.tolist()}")
    mineral = np.asarray(phantom.density)
    water, displacement, reference = np.zeros_like(mineral), 0.0, 0.0
    if phantom.water is not None:
        water, reference = np.asarray(phantom.water), _WATER_REFERENCE
        displacement = _DISPLACEMENT[phantom.standard]
    gradient, offset, r2, gradient_se = _line_fit(mineral, values - water)
    if r2 < R2_ERROR:
        raise ValueError(f"rod HU must lie on a line (R2 at least {R2_ERROR}), got R2 {r2:.3f}")
    sigma = gradient - displacement
    softest = attenuation.hu_per_mg_cm3(phantom.standard, attenuation.TABULATED_KVP[0])
    hardest = attenuation.hu_per_mg_cm3(phantom.standard, attenuation.TABULATED_KVP[-1])
    if not 0.75 * hardest <= sigma <= 1.25 * softest:
        raise ValueError(
            f"rod HU must give between {0.75 * hardest:.2f} and {1.25 * softest:.2f} HU per mg/cm3, got {sigma:.2f}"
        )
    residuals = (values - water - offset - gradient * mineral) / sigma
    largest = float(np.abs(residuals).max())
    if largest > MAX_RESIDUAL_MG_CM3:
        rod = int(np.abs(residuals).argmax()) + 1
        raise ValueError(
            f"rod HU must be within {MAX_RESIDUAL_MG_CM3:g} mg/cm3 of the line, got {largest:.1f} mg/cm3 for rod {rod}"
        )
    residual_sd = math.sqrt(float(residuals @ residuals) / max(len(residuals) - 2, 1))
    doubt = f"; R2 below {R2_WARN}, check the places of the rods" if r2 < R2_WARN else ""
    return CalibrationUsed(
        method="phantom",
        slope=1.0 / sigma,
        intercept=-(offset + reference) / sigma,
        standard=phantom.standard,
        relative_sd=math.hypot(PHANTOM_RELATIVE_SD, gradient_se / sigma),
        absolute_sd=math.hypot(ABSOLUTE_SD_MG_CM3, residual_sd),
        note=f"{phantom.name} rods in the scan, R2 {r2:.4f}, largest residual {largest:.1f} mg/cm3{doubt}.",
    )


_DISPLACEMENT = {
    MineralStandard.K2HPO4: attenuation.K2HPO4_DISPLACEMENT_CM3_PER_G,
    MineralStandard.HYDROXYAPATITE: 1.0 / attenuation.HYDROXYAPATITE_DENSITY,
}
"""Water displaced by one gram of each mineral, cm3."""


def _line_fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Gradient, offset, R2 and standard error of the gradient of the least-squares line y = gradient x + offset."""
    dx, dy = x - x.mean(), y - y.mean()
    gradient = float(dx @ dy / (dx @ dx))
    residual = float(np.sum((dy - gradient * dx) ** 2))
    total = float(dy @ dy)
    r2 = 1.0 - residual / total if total > 0 else 0.0
    error = math.sqrt(residual / max(len(x) - 2, 1) / float(dx @ dx))
    return gradient, float(y.mean() - gradient * x.mean()), r2, error
