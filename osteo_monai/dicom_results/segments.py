"""Masks of vertebral bodies and trabecular regions on the original grid of a scan."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.imaging import on_original_grid
from osteo_monai.imaging.volume import SourceFrame
from osteo_monai.screening.images import ReportImages
from osteo_monai.screening.result import ScreeningResult

__all__ = ["COLOURS", "Part", "Segment", "Segments", "find_segments"]

Part = Literal["body", "region"]

COLOURS: dict[Part, tuple[int, int, int]] = {"body": (79, 216, 255), "region": (255, 182, 40)}
"""RGB, as in the reports."""


@dataclass(frozen=True)
class Segment:
    """A vertebral body, or the trabecular region in it."""

    level: VertebraLevel
    part: Part

    @property
    def label(self) -> str:
        return f"{self.level} {self.part}"


@dataclass(frozen=True)
class Segments:
    """Segments on the original grid.

    Attributes:
        segments: all that have a voxel.
        masks: bool (slices, rows, columns), one per segment; only the slices that have a segment and those between.
        first: index of the first of these slices in the original grid.
        frames: images of these slices; empty if the source was not DICOM.
        affine: (4, 4) of column, row and slice index of the original grid to RAS+ mm.
    """

    segments: tuple[Segment, ...]
    masks: tuple[NDArray[np.bool_], ...]
    first: int
    frames: tuple[SourceFrame, ...]
    affine: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of slices."""
        return int(self.masks[0].shape[0])

    @property
    def pixel_mm2(self) -> float:
        """Area of a pixel."""
        column, row, _ = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(column * row)

    def mask(self, level: VertebraLevel, part: Part) -> NDArray[np.bool_] | None:
        """Return a mask, ``None`` if it is empty."""
        segment = Segment(level, part)
        return self.masks[self.segments.index(segment)] if segment in self.segments else None


def find_segments(images: ReportImages, result: ScreeningResult) -> Segments | None:
    """Return the segments of the measured levels, or of all bodies if none was measured; ``None`` without any.

    Segments follow each other from the top down, the region after its body.
    """
    if images.bodies is None or images.source is None:
        return None
    present = set(np.unique(images.bodies).tolist())
    measured = {level.level for level in result.levels}
    levels = [v for v in VertebraLevel if v.label in present and (not measured or v in measured)]
    # a body and its region differ by one, so that one resampling of an oblique scan keeps the region in the body
    codes_of = {level: 2 * n + 1 for n, level in enumerate(levels)}
    coded = np.zeros(images.bodies.shape, np.uint8)
    for level, code in codes_of.items():
        body = images.bodies == level.label
        coded[body] = code
        if images.regions is not None:
            region = images.regions if images.regions.dtype == np.bool_ else images.regions == level.label
            coded[body & np.asarray(region, bool)] = code + 1
    planes = on_original_grid(coded, images.source).transpose(2, 1, 0)
    filled = np.flatnonzero(planes.any(axis=(1, 2)))
    if not len(filled):
        return None
    first, slab = int(filled[0]), planes[filled[0] : filled[-1] + 1]
    found: list[tuple[Segment, NDArray[np.bool_]]] = []
    for level, code in codes_of.items():
        region = slab == code + 1
        found += [(Segment(level, "body"), region | (slab == code)), (Segment(level, "region"), region)]
    found = [(segment, mask) for segment, mask in found if mask.any()]
    volume = images.source
    return Segments(
        tuple(segment for segment, _ in found),
        tuple(mask for _, mask in found),
        first,
        volume.frames[first : first + len(slab)],
        volume.original_affine,
    )
