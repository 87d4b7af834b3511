"""Correction of a density for contrast agent in the bone, linear in the enhancement of the aorta."""

import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

from osteo_monai.domain import KVP_TOLERANCE, ContrastPhase
from osteo_monai.measurement.calibration.regression import AlongHU
from osteo_monai.measurement.calibration.site import Scanner, read_model
from osteo_monai.utils.frozen import FrozenDict

__all__ = ["PUBLISHED_CONTRAST", "ContrastCorrection", "contrast_shift", "read_contrast_correction"]


class ContrastCorrection(BaseModel):
    """Content of a contrast correction file, written by ``osteo-monai calibrate contrast``.

    The shift is ``intercept + slope * (aorta - native_blood_hu)``: what an enhanced scan shows above a native one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["contrast correction"] = "contrast correction"
    version: Literal[1] = 1
    program: str = Field(min_length=1)
    source: str = Field(min_length=1)
    """Publication, or the pairs that it was fitted to."""
    unit: Literal["HU", "mg/cm3"]
    """Unit of the shift; HU are converted by the slope of the calibration in use."""
    native_blood_hu: FiniteFloat = Field(ge=20, le=80)
    fit: AlongHU
    """Along the HU of the enhancement."""
    relative_sd: FiniteFloat = Field(default=0.0, ge=0, le=1)
    """Further SD as a share of the shift."""
    aorta_range: tuple[FiniteFloat, FiniteFloat]
    """HU of the aorta that the correction holds for; it is not extrapolated."""
    phase: ContrastPhase | None = None
    scanner: Scanner = Scanner()
    kvp: FiniteFloat | None = Field(default=None, ge=40, le=200)
    """``None`` if it is not bound to a tube voltage."""
    fitted: date | None = None
    pairs: int | None = Field(default=None, ge=1)
    cross_validation: Annotated[Mapping[str, FiniteFloat], AfterValidator(FrozenDict)] = FrozenDict()
    """Each subject corrected by a fit without it: bias and sd of native minus corrected, coverage; HU."""
    flags: tuple[str, ...] = ()


ASSUMED_ENHANCEMENT_HU = 120.0
"""Enhancement of the aorta about 90 s after the injection (project custom: the abstract of the source does not state
it). Portal-venous and nephrographic aortas have about 150 to 180 HU, native ones 45 HU."""

PUBLISHED_CONTRAST = ContrastCorrection(
    program="osteo-monai",
    source=(
        "shift of +9.90 +- 4.28 mg/cm3 at L3 in the nephrographic phase (n = 194, internal calibration with air, fat, "
        "muscle and cortical bone; Calgary hematuria cohort, 'Effects of contrast on opportunistic computed tomography "
        "vertebral bone mineral density analysis using internal calibration'; abstract read only), made linear in the "
        f"enhancement of the aorta by an assumed {ASSUMED_ENHANCEMENT_HU:g} HU in that phase"
    ),
    unit="mg/cm3",
    native_blood_hu=45.0,
    fit=AlongHU(intercept=0.0, slope=9.90 / ASSUMED_ENHANCEMENT_HU, sd=4.28, slope_sd=0.0, centre_hu=0.0),
    relative_sd=0.3,
    aorta_range=(60.0, 250.0),
    phase=None,
)
"""The published correction. The full text has a linear equation that was not read; the abstract has the shift of each
phase. As a check, the line gives 3.3 mg/cm3 for an aorta of 85 HU (urographic phase, published +2.33 +- 3.26). The
relative SD of 30 % is that of the assumed enhancement (90 to 160 HU; project custom). It ends at 250 HU: an arterial
aorta is denser while the bone is not yet enhanced more."""


def read_contrast_correction(path: Path) -> ContrastCorrection:
    """Read and validate a contrast correction file.

    Raises:
        UnusableInputError: the file cannot be read.
        ValueError: the message has the file name and every invalid field.
    """
    return read_model(path, ContrastCorrection, "contrast correction")


def contrast_shift(
    correction: ContrastCorrection, aorta_hu: float, slope: float, scanner: Scanner, kvp: float | None
) -> tuple[float, float]:
    """Return the shift of the density by contrast agent and its SD, both in mg/cm3.

    Args:
        correction: published, or of the site.
        aorta_hu: HU of the aorta.
        slope: of the calibration in use, mg/cm3 per HU.
        scanner: of the scan.
        kvp: of the scan; ``None`` if unknown.

    Raises:
        ValueError: another scanner or tube voltage than that of the correction, or an aorta outside its range.
    """
    if correction.scanner.differs(scanner):
        raise ValueError(f"the correction is for {correction.scanner.name}, the scan is of {scanner.name}")
    if correction.kvp is not None and (kvp is None or abs(kvp - correction.kvp) > KVP_TOLERANCE):
        got = "an unknown tube voltage" if kvp is None else f"{kvp:g} kVp"
        raise ValueError(f"the correction is for {correction.kvp:g} kVp, the scan has {got}")
    low, high = correction.aorta_range
    if not low <= aorta_hu <= high:
        raise ValueError(f"the correction is for an aorta of {low:.0f} to {high:.0f} HU, got {aorta_hu:.0f} HU")
    enhancement = aorta_hu - correction.native_blood_hu
    fit, unit = correction.fit, 1.0 if correction.unit == "mg/cm3" else slope
    shift = fit.intercept + fit.slope * enhancement
    sd = math.hypot(fit.sd, fit.slope_sd * (enhancement - fit.centre_hu), correction.relative_sd * shift)
    return shift * unit, sd * unit
