"""What the sections of a CT report share: the result with its refusal rule, and the figures' images."""

from dataclasses import dataclass, replace
from typing import Self

from osteo_monai.domain import SCREENED_LEVELS, DensityThresholds, VertebraLevel
from osteo_monai.reporting.figures import axial_slice
from osteo_monai.screening.images import ReportImages
from osteo_monai.screening.result import Density, LevelMeasurement, ScreeningResult

__all__ = ["AxialSlice", "CTStudy"]


@dataclass(frozen=True)
class AxialSlice:
    """A level with the index of its axial slice and the number of that slice in the source, if known."""

    level: VertebraLevel
    index: int
    number: str = ""


@dataclass(frozen=True)
class CTStudy:
    """A CT result as it may be shown: without density and levels unless the study was accepted.

    Attributes:
        result: of the study.
        images: for the figures, with the levels of the result if they have none; ``None`` for an unread input.
        measured: whether the study was accepted.
        density: of the study, if it was accepted.
        levels: measured levels, if it was accepted.
        thresholds: cut-offs that were applied; ``None`` if the result does not record them (older versions).
        slices: axial slices to draw: of the measured levels, else of L1 and L2 if they are in the volume.
    """

    result: ScreeningResult
    images: ReportImages | None
    measured: bool
    density: Density | None
    levels: tuple[LevelMeasurement, ...]
    thresholds: DensityThresholds | None
    slices: tuple[AxialSlice, ...]

    @classmethod
    def of(cls, result: ScreeningResult, images: ReportImages | None) -> Self:
        """Return the study of a result and its images."""
        measured = result.verdict in ("accepted", "accepted_with_warnings")
        if images is not None and not images.levels and result.levels_found:
            images = replace(images, levels=result.levels_found)
        levels = result.levels if measured else ()
        density = result.density if measured else None
        return cls(result, images, measured, density, levels, _thresholds(result), _slices(images, levels))

    @property
    def single_level(self) -> str:
        """``L1 only`` if one level was measured, else empty."""
        return f"{self.levels[0].level} only" if len(self.levels) == 1 else ""

    @property
    def level_names(self) -> list[str]:
        """Names of the measured levels."""
        return [str(m.level) for m in self.levels]

    @property
    def last_rib(self) -> str | None:
        """The finding on the last ribs, on which the level names are based."""
        return next((f.message for f in self.result.findings if f.code == "last_rib"), None)


def _thresholds(result: ScreeningResult) -> DensityThresholds | None:
    thresholds = getattr(result, "thresholds", None)
    return thresholds if isinstance(thresholds, DensityThresholds) else None


def _slices(images: ReportImages | None, levels: tuple[LevelMeasurement, ...]) -> tuple[AxialSlice, ...]:
    if images is None:
        return ()
    if levels:
        return tuple(
            AxialSlice(m.level, m.slice_index, "" if m.instance_number is None else f"instance {m.instance_number}")
            for m in levels
        )
    indices = ((level, axial_slice(images, level)) for level in SCREENED_LEVELS)
    return tuple(AxialSlice(level, index) for level, index in indices if index is not None)
