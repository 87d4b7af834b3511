"""Radiograph with grey values for display, layout and acquisition facts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import Finding, Sex, View

VIRTUAL_MANUFACTURER = "Virtual"
"""Manufacturer (0008,0070) of virtual patients' images."""

VIRTUAL_SOURCE = "virtual patient"
"""PNG text entry ``Source`` of virtual patients' radiographs."""


@dataclass(frozen=True)
class RadiographFacts:
    """Acquisition facts of a radiograph from its file; ``None`` means not stated.

    Patient data are age, sex, height and weight only.
    """

    source_format: str
    """``DICOM``, ``PNG`` or ``JPEG``."""
    bits: int
    """Bits used of a stored value."""
    virtual: bool = False
    """Whether the file states that it shows a virtual patient."""
    age_years: float | None = None
    sex: Sex | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    acquired: date | None = None
    laterality: str | None = None
    """``L`` or ``R``."""
    modality: str | None = None
    view_position: str | None = None
    body_part: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    kvp: float | None = None
    exposure_index: float | None = None
    """IEC 62494-1; 100 is about 1 uGy at the detector."""
    deviation_index: float | None = None
    """IEC 62494-1; 10 log10 of the exposure index over its target."""
    spacing_at_patient: bool | None = None
    """Whether the spacing is calibrated to the patient (True) or that of the detector (False)."""


@dataclass(frozen=True)
class Layout:
    """Conversion of stored pixels to those of a :class:`Radiograph`: cropped, then mirrored, then turned.

    Attributes:
        shape: rows and columns as stored (pictures: after the turn of their EXIF entry).
        box: first row, row after the last, first column, column after the last that were kept.
        quarter_turns: counter-clockwise.
        mirrored: left to right, before the turn.
    """

    shape: tuple[int, int]
    box: tuple[int, int, int, int]
    quarter_turns: int = 0
    mirrored: bool = False

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Convert an array on the stored grid, such as a bone mask, to the grid of the radiograph.

        Raises:
            ValueError: its (rows, columns) are not the stored ones.
        """
        if array.shape != self.shape:
            raise ValueError(f"the array must be on the stored grid {self.shape} (rows, columns), got {array.shape}")
        top, bottom, left, right = self.box
        return orient(array[top:bottom, left:right], self.quarter_turns, self.mirrored)

    def then(self, quarter_turns: int, mirrored: bool) -> "Layout":
        """Return this layout followed by another mirroring and turn."""
        # mirroring a turned picture is turning the mirrored one the other way
        turns = quarter_turns + (-self.quarter_turns if mirrored else self.quarter_turns)
        return Layout(self.shape, self.box, turns % 4, self.mirrored != mirrored)


def orient(array: NDArray[Any], quarter_turns: int, mirrored: bool) -> NDArray[Any]:
    """Mirror ``array`` (rows, columns) left to right if ``mirrored``, then turn it counter-clockwise by quarter
    turns.
    """
    return np.rot90(array[:, ::-1] if mirrored else array, quarter_turns)


@dataclass(frozen=True)
class Radiograph:
    """A radiograph in display orientation.

    Attributes:
        pixels: float32 (rows, columns), 0..1, bright where the beam was weakened most (bone). Row 0 is at the top,
            column 0 at the viewer's left, which is the person's right on frontal views.
        spacing_mm: height and width of a pixel; ``None`` if not stated.
        view: anatomy and projection.
        facts: from the header.
        findings: of reading (never a refusal: that is raised).
        layout: from the stored grid to this one.
        source: name of the file or folder that was read.

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import make_radiograph, read_radiograph
        >>> radiograph = read_radiograph(make_radiograph(Path("radiograph"), rows=512))
        >>> radiograph.pixels.ndim
        2
    """

    pixels: NDArray[np.float32]
    spacing_mm: tuple[float, float] | None
    view: View
    facts: RadiographFacts
    layout: Layout
    findings: Sequence[Finding] = ()
    source: str = ""


@dataclass(frozen=True)
class StoredRadiograph:
    """Content of a file before its pixels are checked; ``turns`` and ``mirrored`` make it upright as stated in the
    header.

    ``pixels`` are as those of :class:`Radiograph`, ``view`` is ``UNKNOWN`` if not stated, and ``elsewhere`` is a body
    part in the header that is neither chest nor lumbar spine.
    """

    pixels: NDArray[np.float32]
    spacing_mm: tuple[float, float] | None
    facts: RadiographFacts
    view: View = View.UNKNOWN
    elsewhere: str = ""
    turns: int = 0
    mirrored: bool = False
    findings: list[Finding] = field(default_factory=list)
