"""Calibration lines that need no measurement in the scan: physics, the user, or a registry of scanners."""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import attenuation
from osteo_monai.measurement.calibration.accuracy import (
    ABSOLUTE_SD_MG_CM3,
    ASYNCHRONOUS_RELATIVE_SD,
    OTHER_KVP_SD,
    OTHER_SCANNER_SD,
    REFERENCE_KVP,
)
from osteo_monai.measurement.values import CalibrationUsed

USER_SLOPE_RANGE = (0.45, 0.95)
"""Slope in mg/cm3 per HU that a user line may have at 120 kVp: 0.66 to 0.80 by physics at 65 to 75 keV, with margin."""


class RegistryLine(BaseModel):
    """One scanner line of the registry file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    manufacturer: str | None
    model: str | None
    kvp: float
    slope: float
    intercept: float
    standard: MineralStandard | None
    """``None`` if the source does not state it; such a line is refused."""
    status: Literal["verified", "unverified"]
    source: str


def physics(kvp: float, standard: MineralStandard = MineralStandard.K2HPO4) -> CalibrationUsed:
    """Return the line by X-ray physics at ``kvp`` (70 to 150): one over the HU that a mg/cm3 adds to water.

    The intercept is zero: a QCT density is by definition that of the mineral-in-water solution with the same HU,
    and water has 0 HU. Marrow fat therefore lowers it, as it lowers every single-energy QCT value.

    The relative SD is the root sum of squares of asynchronous calibration (8.0 %) and of an uncalibrated scanner
    (9.2 %), together 12.2 %; away from 120 kVp 5.4 % is added in the same way, because physics and population means
    disagree there.
    """
    relative = math.hypot(ASYNCHRONOUS_RELATIVE_SD, OTHER_SCANNER_SD)
    if kvp != REFERENCE_KVP:
        relative = math.hypot(relative, OTHER_KVP_SD)
    displaced = (
        f"{attenuation.K2HPO4_DISPLACEMENT_CM3_PER_G} cm3 of water displaced per g"
        if MineralStandard(standard) is MineralStandard.K2HPO4
        else f"solid density {attenuation.HYDROXYAPATITE_DENSITY} g/cm3"
    )
    return CalibrationUsed(
        method="physics",
        slope=1.0 / attenuation.hu_per_mg_cm3(standard, kvp),
        intercept=0.0,
        standard=standard,
        relative_sd=relative,
        absolute_sd=ABSOLUTE_SD_MG_CM3,
        note=(
            f"Estimate from X-ray physics at {kvp:g} kVp for a model scanner ({displaced}); "
            "no phantom was in the scan and this scanner was not calibrated."
        ),
    )


def user_line(slope: float, intercept: float, standard: MineralStandard, kvp: float | None = None) -> CalibrationUsed:
    """Return a line that the user measured, mg/cm3 = slope * HU + intercept.

    Raises ``ValueError`` if the slope lies outside :data:`USER_SLOPE_RANGE`, scaled by physics where ``kvp`` is known
    and not 120, or if the intercept is not within 50 mg/cm3 of zero.
    """
    return CalibrationUsed(
        method="user",
        slope=_plausible(slope, intercept, kvp),
        intercept=intercept,
        standard=standard,
        relative_sd=ASYNCHRONOUS_RELATIVE_SD,
        absolute_sd=ABSOLUTE_SD_MG_CM3,
        note=f"Line given by the user: {slope:g} x HU {intercept:+g} mg/cm3 {MineralStandard(standard)}.",
    )


MAX_INTERCEPT_MG_CM3 = 50.0
"""A larger intercept means another unit or an HU offset that is no calibration."""


def _plausible(slope: float, intercept: float, kvp: float | None) -> float:
    low, high = USER_SLOPE_RANGE
    scale = 1.0
    if kvp is not None:
        reference = attenuation.hu_per_mg_cm3(MineralStandard.K2HPO4, REFERENCE_KVP)
        scale = reference / attenuation.hu_per_mg_cm3(MineralStandard.K2HPO4, kvp)
    if not low * scale <= slope <= high * scale:
        raise ValueError(
            f"slope must be between {low * scale:.2f} and {high * scale:.2f} mg/cm3 per HU"
            f"{'' if kvp is None else f' at {kvp:g} kVp'}, got {slope}"
        )
    if not abs(intercept) <= MAX_INTERCEPT_MG_CM3:
        raise ValueError(f"intercept must be within {MAX_INTERCEPT_MG_CM3:g} mg/cm3 of zero, got {intercept}")
    return slope


@lru_cache(maxsize=1)
def registry_lines() -> Mapping[str, RegistryLine]:
    """Return the shipped scanner lines by name. All are unverified: none was read in its primary source."""
    text = files("osteo_monai.measurement").joinpath("calibration_registry.json").read_text(encoding="utf-8")
    lines = [RegistryLine.model_validate(line) for line in json.loads(text)["lines"]]
    return {line.name: line for line in lines}


def registry(name: str, kvp: float, *, allow_unverified: bool = False) -> CalibrationUsed:
    """Return the line ``name`` of the registry.

    Raises ``ValueError`` for an unknown name, another tube voltage than the line's, an unverified line without
    ``allow_unverified``, a line of unstated mineral standard, or one outside the limits of physics.
    """
    lines = registry_lines()
    if name not in lines:
        raise ValueError(f"registry_name must be one of {', '.join(sorted(lines))}, got {name!r}")
    return line_from_registry(lines[name], kvp, allow_unverified=allow_unverified)


def line_from_registry(line: RegistryLine, kvp: float, *, allow_unverified: bool = False) -> CalibrationUsed:
    """Return a line of the caller's own registry; errors as of :func:`registry`."""
    if line.status != "verified" and not allow_unverified:
        raise ValueError(f"calibration line {line.name!r} must be verified, got an unverified one ({line.source})")
    if line.standard is None:
        raise ValueError(
            f"calibration line {line.name!r} must state its mineral standard; use it as a user line with one"
        )
    if kvp != line.kvp:
        raise ValueError(f"calibration line {line.name!r} must be used at {line.kvp:g} kVp, got {kvp:g} kVp")
    return CalibrationUsed(
        method="registry",
        slope=_plausible(line.slope, line.intercept, kvp),
        intercept=line.intercept,
        standard=line.standard,
        relative_sd=ASYNCHRONOUS_RELATIVE_SD,
        absolute_sd=ABSOLUTE_SD_MG_CM3,
        note=f"Registry line {line.name} ({line.status}): {line.source}.",
        verified=line.status == "verified",
    )
