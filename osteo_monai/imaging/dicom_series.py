"""DICOM CT series: the frames that belong together, their order of preference, and the choice among them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding
from osteo_monai.imaging.acquisition import clean_text, contrast_note, kernel_is_sharp, number, stated_native
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
    _stated: dict[str, Counter[str]] = field(default_factory=dict, repr=False)

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

    @cached_property
    def derived(self) -> bool:
        return any(image_type(f)[:1] == ("DERIVED",) for f in self.frames)

    def stated(self, keyword: str) -> Counter[str]:
        """Return how many frames state each value of a header entry, as text; empty for those without one."""
        if keyword not in self._stated:
            self._stated[keyword] = stated_values(self.frames, keyword)
        return self._stated[keyword]

    def agreed(self, keyword: str) -> str:
        """Return the value that at least half of the frames state; empty if there is none."""
        values = self.stated(keyword)
        value, count = max(values.items(), key=lambda item: (item[0] != "", item[1]), default=("", 0))
        return value if 2 * count >= values.total() else ""

    def agreed_number(self, keyword: str) -> float | None:
        """Return :meth:`agreed` as a finite number, ``None`` if there is none."""
        return number(self.agreed(keyword) or None)

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        """Reconstruction kernels of the frames, a sharp one first, then the most frequent.

        A kernel that a single frame of several states is not the kernel of the series.
        """
        counts = {k: n for k, n in self.stated("ConvolutionKernel").items() if k and (n > 1 or len(self.frames) == 1)}
        return tuple(sorted(counts, key=lambda k: (not kernel_is_sharp(k), -counts[k])))

    @property
    def kernel(self) -> str | None:
        return self.kernels[0] if self.kernels else None

    @property
    def thickness_mm(self) -> float | None:
        """The largest slice thickness that more than one frame states."""
        stated = self.stated("SliceThickness")
        values = [number(v or None) for v, count in stated.items() if count > 1 or len(self.frames) == 1]
        return max((v for v in values if v and v > 0), default=None)

    @cached_property
    def contrast_notes(self) -> Counter[str]:
        """How many frames have each contrast agent entry; empty for those without one."""
        counts = Counter(_contrast_entries(f) for f in self.frames)
        notes: Counter[str] = Counter()
        for (agent, route, volume, texts, dose, rate), count in counts.items():
            notes[contrast_note(agent, route, volume, texts, dose, rate) or ""] += count
        return notes

    @property
    def contrast(self) -> str | None:
        """Contrast agent entries of any frame, the most frequent ones: one is reason enough for a warning."""
        return next((note for note, _ in self.contrast_notes.most_common() if note), None)

    @property
    def contrast_rank(self) -> int:
        """0 for a series that is said to be native, 1 where nothing or both is said, 2 with contrast agent."""
        native = stated_native(self.first.text(k) for k in DESCRIPTION_KEYWORDS)
        tags = any(
            part.split(":")[0] != "description" for note in self.contrast_notes for part in note.split("; ") if note
        )
        if native:
            return 1 if tags else 0
        return 2 if self.contrast else 1

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


def stated_values(frames: Sequence[Frame], keyword: str) -> Counter[str]:
    """Return how many of ``frames`` state each value of a header entry, as text; empty for those without one."""
    values: Counter[str] = Counter()
    texts: dict[str, str] = {}
    for frame in frames:
        value = frame.get(keyword)
        raw = str(value)
        if raw not in texts:
            texts[raw] = f"{float(value):.10g}" if isinstance(value, (int, float)) else clean_text(value)
        values[texts[raw]] += 1
    return values


def _contrast_entries(
    frame: Frame,
) -> tuple[str, str, float | None, tuple[str, ...], float | None, float | None]:
    agent = frame.text("ContrastBolusAgent")
    for item in frame.get("ContrastBolusAgentSequence") or ():
        agent = agent or str(item.get("CodeMeaning") or "")
    texts = tuple(frame.text(k) for k in DESCRIPTION_KEYWORDS)
    volume, dose, rate = (
        frame.number(k) for k in ("ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastFlowRate")
    )
    return agent, frame.text("ContrastBolusRoute"), volume, texts, dose, rate
