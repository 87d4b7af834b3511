"""Options of a screening as typed values; parsing of command line text is not done here."""

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Literal, TypeAlias

from osteo_monai.domain import DensityThresholds, Sex, VertebraLevel, View
from osteo_monai.measurement.calibration.contrast import ContrastCorrection
from osteo_monai.screening.gates.limits import DEFAULT_LIMITS, Limits
from osteo_monai.utils.text import listed

__all__ = [
    "Calibration",
    "InternalCalibration",
    "PhantomCalibration",
    "PhysicsCalibration",
    "RadiographOptions",
    "RegistryCalibration",
    "ScreeningOptions",
    "SiteCalibration",
    "UserCalibration",
]


USER_SLOPE = (0.2, 2.0)
USER_INTERCEPT = 100.0
"""Limits of a line of the user, in mg/cm3 per HU and mg/cm3. Project custom, far outside of the 0.45 to 0.95 that
physics allows at 120 kVp and of published intercepts of -11 to 13 (``measurement.calibration.registry_lines``)."""


STATED_KVP = (40.0, 200.0)
"""kV; tube voltages without a computed calibration, within these, are refused by a gate."""


@dataclass(frozen=True)
class PhysicsCalibration:
    """The line computed for the tube voltage of the scan.

    Example:
        >>> from osteo_monai import ScreeningOptions, PhysicsCalibration
        >>> type(ScreeningOptions(calibration=PhysicsCalibration()).calibration).__name__
        'PhysicsCalibration'
    """


@dataclass(frozen=True)
class InternalCalibration:
    """The line fitted to tissues of the patient.

    Example:
        >>> from osteo_monai import ScreeningOptions, InternalCalibration
        >>> type(ScreeningOptions(calibration=InternalCalibration()).calibration).__name__
        'InternalCalibration'
    """


@dataclass(frozen=True)
class RegistryCalibration:
    """A published line by its name; an unverified one is used with a warning.

    Example:
        >>> from osteo_monai import ScreeningOptions, RegistryCalibration
        >>> type(ScreeningOptions(calibration=RegistryCalibration("NAME")).calibration).__name__
        'RegistryCalibration'
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name of a registry calibration must not be empty")


@dataclass(frozen=True)
class UserCalibration:
    """density = slope * HU + intercept, in mg/cm3 of the standard of the thresholds.

    Raises:
        ValueError: the line cannot be that of a CT (:data:`USER_SLOPE`, :data:`USER_INTERCEPT`).

    Example:
        >>> from osteo_monai import ScreeningOptions, UserCalibration
        >>> type(ScreeningOptions(calibration=UserCalibration(slope=0.8, intercept=-3.0)).calibration).__name__
        'UserCalibration'
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (isfinite(self.slope) and isfinite(self.intercept)):
            raise ValueError(f"slope and intercept must be finite, got {self.slope:g} and {self.intercept:g}")
        low, high = USER_SLOPE
        if not low <= self.slope <= high:
            raise ValueError(f"slope must be from {low:g} to {high:g} mg/cm3 per HU, got {self.slope:g}")
        if abs(self.intercept) > USER_INTERCEPT:
            limits = f"from -{USER_INTERCEPT:g} to {USER_INTERCEPT:g} mg/cm3"
            raise ValueError(f"intercept must be {limits}, got {self.intercept:g}")


@dataclass(frozen=True)
class PhantomCalibration:
    """The line fitted to the rods of a phantom in the scan, which a JSON file describes (docs/calibration.md).

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import ScreeningOptions, PhantomCalibration
        >>> type(ScreeningOptions(calibration=PhantomCalibration(Path("phantom.json"))).calibration).__name__
        'PhantomCalibration'
    """

    path: Path


@dataclass(frozen=True)
class SiteCalibration:
    """The line or internal method that was fitted to scans of known density of one scanner (docs/site_calibration.md).

    Example:
        >>> from pathlib import Path
        >>> from osteo_monai import ScreeningOptions, SiteCalibration
        >>> type(ScreeningOptions(calibration=SiteCalibration(Path("site.json"))).calibration).__name__
        'SiteCalibration'
    """

    path: Path


Calibration: TypeAlias = (
    PhysicsCalibration
    | InternalCalibration
    | RegistryCalibration
    | UserCalibration
    | PhantomCalibration
    | SiteCalibration
)


@dataclass(frozen=True)
class ScreeningOptions:
    """Options of the screening of a CT; every choice is recorded in the result.

    Attributes:
        levels: levels to measure; if one of them is not complete, the study is refused. ``None``: L1 and L2 if both are
            complete, else only L1.
        thresholds: density thresholds of the classes.
        calibration: conversion from HU to mg/cm3.
        kvp: tube voltage in kV if missing from the header; never overrides a header.
        limits: limits of the quality gates.
        texture: also compute texture of the trabecular regions (extra ``texture``).
        contrast_correction: correction of an enhanced scan; raw and corrected density are both given.
        classify_corrected: derive the class from the corrected density, if there is one. By default it follows from the
            raw one: the spread of the correction between sites is not known.
        header_text: copy free text of the header (series description, contrast entries) to the result and its findings;
            in practice it may hold names.

    Raises:
        ValueError: if levels are empty or repeated, the tube voltage is not that of a CT, or a correction that is to be
            classified is missing.

    Example:
        >>> from osteo_monai import ScreeningOptions, VertebraLevel
        >>> str(ScreeningOptions(levels=(VertebraLevel.L1,)).levels[0])
        'L1'
    """

    levels: tuple[VertebraLevel, ...] | None = None
    thresholds: DensityThresholds = field(default_factory=DensityThresholds)
    calibration: Calibration = field(default_factory=PhysicsCalibration)
    kvp: float | None = None
    limits: Limits = DEFAULT_LIMITS
    texture: bool = False
    contrast_correction: ContrastCorrection | None = None
    classify_corrected: bool = False
    header_text: bool = False

    def __post_init__(self) -> None:
        if self.levels is not None and (not self.levels or len(set(self.levels)) != len(self.levels)):
            names = [str(level) for level in self.levels]
            raise ValueError(f"levels must contain at least one level and no duplicates, got {names}")
        low, high = STATED_KVP
        if self.kvp is not None and not low <= self.kvp <= high:
            raise ValueError(f"kvp must be from {low:g} to {high:g} kV, got {self.kvp:g}")
        if self.classify_corrected and self.contrast_correction is None:
            raise ValueError("contrast_correction must be given to classify the corrected density, got none")


Fact: TypeAlias = Literal["age", "sex", "height", "weight"]

_FACTS: tuple[Fact, ...] = ("age", "sex", "height", "weight")
_RANGES = {"age": (0.0, 120.0, "years"), "height": (30.0, 250.0, "cm"), "weight": (1.0, 400.0, "kg")}
"""Lowest and highest value and unit, as in a data manifest."""

SCREENED_VIEWS = (View.CHEST_FRONTAL, View.LUMBAR_AP, View.LUMBAR_LATERAL)
"""Views with a model."""


@dataclass(frozen=True)
class RadiographOptions:
    """Facts about the radiographs of one patient; they override the header.

    Attributes:
        view: view of the radiographs if neither header nor image identifies it; other views are refused.
        age, sex, height, weight: of the patient, in years, cm and kg.
        allow_unvalidated: show the risk of a real radiograph by a network that was calibrated on virtual patients only.

    Raises:
        ValueError: if the view has no model or a value is out of range.

    Example:
        >>> from osteo_monai import RadiographOptions, Sex
        >>> RadiographOptions(age=71.0, sex=Sex.FEMALE).given
        ('age', 'sex')
    """

    view: View | None = None
    age: float | None = None
    sex: Sex | None = None
    height: float | None = None
    weight: float | None = None
    allow_unvalidated: bool = False

    def __post_init__(self) -> None:
        if self.view is not None and self.view not in SCREENED_VIEWS:
            raise ValueError(f"view must be {listed(SCREENED_VIEWS, 'or')}, got '{self.view}'")
        for name, (low, high, unit) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN is out of range, too
                raise ValueError(f"{name} must be between {low:g} and {high:g} {unit}, got {value:g}")

    @property
    def given(self) -> tuple[Fact, ...]:
        """Names of the patient facts that are set."""
        return tuple(name for name in _FACTS if getattr(self, name) is not None)
