"""Protocol of a virtual radiograph: view, beam, detector, positioning and image processing."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from osteo_monai.domain import View


@dataclass(frozen=True)
class Processing:
    """Image processing of a detector's signal.

    Attributes:
        compression: share of the differences over more than 15 mm that is removed.
        detail: amplification of those below 3 mm.
        edges: additional amplification of those below 1 mm.
        window: quantiles of the body that are displayed black and white.
        contrast: steepness of the S-shaped curve; 0 for none.
    """

    compression: float = 0.4
    detail: float = 0.8
    edges: float = 0.3
    window: tuple[float, float] = (0.004, 0.97)
    contrast: float = 1.6


@dataclass(frozen=True)
class RadiographProtocol:
    """Acquisition of a radiograph; lengths in mm, at the detector.

    Attributes:
        field_size: width and height of the detector area that is read out.
        size: columns and rows of the image.
        blur: standard deviation of the detector's and the focal spot's spread.
        photons: detected per square mm behind the measuring field, in thousands; 100 is about 3 uGy.
        exposure: factor on these, above 1 over-exposed.
        dynamic_range: saturation signal of the detector, relative to that behind the measuring field.
        scatter: scattered over primary radiation behind 20 cm of water, after the grid.
        heel: relative fall of the intensity from the cathode's side to the anode's.
        borders: width of the collimator's shadow at the left, right, top and bottom, as shares of the field.
        turn, tilt: of the person about the long and the transverse axis, degrees.
        shift: of the field from its usual place, to the person's left on frontal views and up.
        marker: letter burned in at the side it names; none where empty.
    """

    view: View = View.CHEST_FRONTAL
    kvp: float = 120.0
    filtration: Literal["light", "copper"] = "copper"
    source_distance: float = 1800.0
    field_size: tuple[float, float] = (430.0, 430.0)
    size: tuple[int, int] = (1024, 1024)
    gap: float = 30.0
    blur: float = 0.22
    photons: float = 100.0
    exposure: float = 1.0
    dynamic_range: float = 30.0
    scatter: float = 0.45
    heel: float = 0.12
    borders: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    turn: float = 0.0
    tilt: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    processing: Processing = Processing()
    bits: int = 12
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    marker: str = ""
    modality: Literal["DX", "CR"] = "DX"
    device: str = "Virtual DR 43"

    def __post_init__(self) -> None:
        if not 8 <= self.bits <= 16:
            raise ValueError(f"bits must be between 8 and 16, got {self.bits}")
        if min(self.size) < 32:
            raise ValueError(f"size must be at least 32 columns and rows, got {self.size}")

    @property
    def pixel(self) -> tuple[float, float]:
        """Width and height of a pixel at the detector."""
        return self.field_size[0] / self.size[0], self.field_size[1] / self.size[1]


def usual_protocol(view: View | str, size: int = 1024) -> RadiographProtocol:
    """Return the usual protocol of ``view`` with ``size`` rows."""
    view = View(view)
    if view is View.CHEST_FRONTAL:
        return RadiographProtocol(size=(size, size))
    lateral = view is View.LUMBAR_LATERAL
    return RadiographProtocol(
        view=view,
        kvp=88.0 if lateral else 78.0,
        filtration="light",
        source_distance=1100.0,
        field_size=(260.0, 430.0) if lateral else (300.0, 430.0),
        size=(round(size * (260 if lateral else 300) / 430), size),
        gap=70.0,
        photons=70.0,
        scatter=0.9,
        processing=Processing(compression=0.6, detail=0.8, contrast=1.6),
    )


def draw_protocol(base: RadiographProtocol, rng: np.random.Generator) -> RadiographProtocol:
    """Vary positioning, exposure and collimation at random, as they vary between radiographs."""
    chest = base.view is View.CHEST_FRONTAL
    left, right, top, bottom = (float(b) if rng.random() < 0.5 else 0.0 for b in rng.uniform(0.005, 0.05, 4))
    return replace(
        base,
        turn=float(rng.normal(0, 1.8 if chest else 2.5)),
        tilt=float(rng.normal(0, 2.5)),
        shift=(float(rng.normal(0, 6)), float(rng.normal(0, 10))),
        borders=(left, right, top, bottom),
        exposure=base.exposure * float(np.exp(rng.normal(0, 0.25))),
        scatter=base.scatter * float(rng.uniform(0.8, 1.2)),
        blur=base.blur * float(rng.uniform(0.85, 1.3)),
        kvp=float(np.clip(base.kvp + rng.normal(0, 2.5), 60, 145)),
        marker=("R", "L", "")[int(rng.integers(3))],
    )
