"""DICOM CT series: the frames that belong together, their order of preference, and the choice among them."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding
from osteo_monai.imaging.acquisition import contrast_note, kernel_is_sharp
from osteo_monai.imaging.dicom_headers import Frame, Instance
from osteo_monai.imaging.orientation import axis_codes

MIN_SLICES = 3
"""Smallest number of slices; fewer do not show whether they are evenly spaced."""

MAX_SLICE_MM = 5.0
"""Thicker slices mix end plates and discs into the trabecular region."""


@dataclass(frozen=True)
class Grid:
    """Positions of the slices of a series.

    Attributes:
        frames: in the order of the third axis.
        affine: (4, 4) from (column, row, slice) to RAS+ mm.
        spacing_mm: distance of neighbouring slices.
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    spacing_mm: float

    @property
    def axial(self) -> bool:
        """Whether the slice axis runs along the body."""
        return axis_codes(self.affine)[2] in "SI"


@dataclass
class Series:
    """The frames of one series, the findings about them, and their grid if they form one.

    ``refusals`` are reasons why the series cannot be read, ``doubts`` (refusals as well) reasons why the values of a
    readable one are no measurement.
    """

    frames: list[Frame]
    refusals: list[Finding] = field(default_factory=list)
    doubts: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    grid: Grid | None = None

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def instance(self) -> Instance:
        return self.first.instance

    @cached_property
    def image_type(self) -> tuple[str, ...]:
        """Image type (or frame type) in capitals, empty if the header has none."""
        return image_type(self.first)

    @property
    def localizer(self) -> bool:
        return any("LOCALIZER" in v or "SCOUT" in v for v in self.image_type)

    @property
    def derived(self) -> bool:
        return self.image_type[:1] == ("DERIVED",)

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        """Reconstruction kernels of all frames, a sharp one first."""
        names = dict.fromkeys(f.text("ConvolutionKernel") for f in self.frames)
        return tuple(sorted((k for k in names if k), key=lambda k: not kernel_is_sharp(k)))

    @property
    def kernel(self) -> str | None:
        return self.kernels[0] if self.kernels else None

    @property
    def thickness_mm(self) -> float | None:
        value = self.first.number("SliceThickness")
        return value if value and value > 0 else None

    @cached_property
    def contrast(self) -> str | None:
        """Contrast agent entries of any frame."""
        entries = dict.fromkeys(_contrast_entries(f) for f in self.frames)
        notes = (contrast_note(agent, route, volume, texts) for agent, route, volume, texts in entries)
        return next((note for note in notes if note), None)

    @property
    def coverage_mm(self) -> float:
        return self.grid.spacing_mm * (len(self.grid.frames) - 1) if self.grid else 0.0

    def label(self) -> str:
        """Return a description of the series for findings."""
        # no description: it is free text and may hold a name
        number = self.first.number("SeriesNumber")
        parts = ["without number" if number is None else f"number {number:g}", f"{len(self.frames)} images"]
        if self.grid:
            parts.append(f"{self.grid.spacing_mm:.2g} mm apart")
        if self.kernel:
            parts.append(f"kernel {self.kernel}")
        return ", ".join(parts)


DESCRIPTION_KEYWORDS = ("SeriesDescription", "ProtocolName", "StudyDescription", "BodyPartExamined")


def image_type(frame: Frame) -> tuple[str, ...]:
    value = frame.get("FrameType") or frame.get("ImageType") or ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(v).upper().strip() for v in values)


def _contrast_entries(frame: Frame) -> tuple[str, str, float | None, tuple[str, ...]]:
    agent = frame.text("ContrastBolusAgent")
    for item in frame.get("ContrastBolusAgentSequence") or ():
        agent = agent or str(item.get("CodeMeaning") or "")
    texts = tuple(frame.text(k) for k in DESCRIPTION_KEYWORDS)
    return agent, frame.text("ContrastBolusRoute"), frame.number("ContrastBolusVolume"), texts
