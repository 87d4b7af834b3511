"""Images of a screening for its report: the volume or the radiographs with masks and maps on the same grid."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import BoneStatus, VertebraLevel
from osteo_monai.imaging.volume import CTVolume
from osteo_monai.screening.result import LocatedLevel, ScreeningResult


@dataclass(frozen=True)
class ClassActivation:
    """Input of a classifier and its class activation map.

    Attributes:
        slices: input, float32 (levels, X, Y) from 0 to 1, RAS+.
        heat: Grad-CAM (X, Y), 0 to 1, one for all slices, which are the channels of the input.
        levels: of ``slices``.
        status: the class of the map: the predicted one.

    Raises:
        ValueError: if the shapes differ.
    """

    slices: NDArray[np.float32]
    heat: NDArray[np.float32]
    levels: tuple[VertebraLevel, ...]
    status: BoneStatus

    def __post_init__(self) -> None:
        if self.slices.shape != (len(self.levels), *self.heat.shape) or self.heat.ndim != 2:
            raise ValueError(
                f"slices must be ({len(self.levels)}, X, Y) and heat (X, Y), "
                f"got {self.slices.shape} and {self.heat.shape}"
            )


@dataclass(frozen=True)
class ReportImages:
    """A volume with its label map. Arrays are only read, never copied as a whole.

    Attributes:
        hu: float32 HU of shape (X, Y, Z), canonical RAS+ (x grows to the right, y anterior, z superior).
        affine: (4, 4) voxel index to RAS+ mm.
        bodies: integer label map of the vertebral bodies, shape of ``hu``, ids as ``VertebraLevel.label``;
            ``None`` if segmentation was not reached.
        regions: measured trabecular regions, shape of ``hu``, bool or the same ids; ``None`` if none.
        levels: all located vertebrae, with centres in RAS+ mm; empty if localisation was not reached.
        activation: class activation map of the classifier; ``None`` if it was not run.
        source: the CT as read, on whose original grid label maps are written; ``None`` if unknown.

    Raises:
        ValueError: if the shapes differ.
    """

    hu: NDArray[np.float32]
    affine: NDArray[np.float64]
    bodies: NDArray[np.integer] | None = None
    regions: NDArray[np.integer] | NDArray[np.bool_] | None = None
    levels: tuple[LocatedLevel, ...] = ()
    activation: ClassActivation | None = None
    source: CTVolume | None = None

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or min(self.hu.shape) < 1:
            raise ValueError(f"hu must be a volume of shape (X, Y, Z), got shape {self.hu.shape}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"affine must have shape (4, 4), got {self.affine.shape}")
        for name, mask in (("bodies", self.bodies), ("regions", self.regions)):
            if mask is not None and mask.shape != self.hu.shape:
                raise ValueError(f"{name} must have the shape of hu {self.hu.shape}, got {mask.shape}")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along x, y and z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    def index(self, point_mm: tuple[float, float, float]) -> NDArray[np.float64]:
        """Return the fractional voxel index (3,) of a point in RAS+ mm."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(inverse[:3, :3] @ np.asarray(point_mm, dtype=np.float64) + inverse[:3, 3])


@dataclass(frozen=True)
class RadiographImage:
    """One radiograph with the maps of its network.

    Attributes:
        view: anatomy and projection, such as ``chest_frontal``.
        pixels: float32 (rows, columns), 0..1, bone bright; row 0 on top, column 0 at the viewer's left.
        heat: Grad-CAM for osteoporosis, same shape, at least 0; ``None`` if there is none.
        attention: contribution of each patch to the output of a Transformer, same shape, at least 0; ``None`` for other
            networks.
        spacing_mm: height and width of a pixel; ``None`` if unknown, pixels are then square.

    Raises:
        ValueError: if the shapes differ.
    """

    view: str
    pixels: NDArray[np.float32]
    heat: NDArray[np.float32] | None = None
    attention: NDArray[np.float32] | None = None
    spacing_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or min(self.pixels.shape) < 1:
            raise ValueError(f"pixels must be of shape (rows, columns), got {self.pixels.shape}")
        for name, values in (("heat", self.heat), ("attention", self.attention)):
            if values is not None and values.shape != self.pixels.shape:
                raise ValueError(f"{name} must have the shape of pixels {self.pixels.shape}, got {values.shape}")

    @property
    def aspect(self) -> float:
        """Displayed height over width."""
        rows, columns = self.pixels.shape
        high, wide = self.spacing_mm or (1.0, 1.0)
        return float(rows * high / (columns * wide))


@dataclass(frozen=True)
class RadiographImages:
    """The evaluated radiographs in the order of the report; at least one."""

    images: tuple[RadiographImage, ...]

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("images must hold at least one radiograph, got none")


class Screening(NamedTuple):
    """Result and images of one screened study.

    Attributes:
        result: refused or not.
        images: ``None`` if the study could not be read.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import screen
        >>> screening = screen(Path("missing"))
        >>> screening.images is None
        True
    """

    result: ScreeningResult
    images: ReportImages | RadiographImages | None
