"""Calibration of one scanner by scans of known density: a line, or a precalibrated internal method.

``line``: density = intercept + slope * HU. ``precalibrated``: each tissue has an equivalent density, fitted to the
scans; the line of a new scan is the least-squares line of these densities on the HU of its own tissues (the idea of the
JBMR 2023 comparison of phantomless methods, abstract read). That line is linear in the equivalent densities, so that
both methods are one linear regression with one prediction interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from osteo_monai.domain import KVP_TOLERANCE, Finding, MineralStandard, Severity
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement.calibration.accuracy import OTHER_SCANNER_SD
from osteo_monai.measurement.calibration.internal import TISSUES, TissueSample
from osteo_monai.measurement.calibration.regression import Regression
from osteo_monai.measurement.values import CalibrationUsed
from osteo_monai.utils.frozen import FrozenDict
from osteo_monai.utils.inputs import read_input
from osteo_monai.utils.text import listed

__all__ = [
    "Scanner",
    "SiteFile",
    "SiteScan",
    "read_site_file",
    "regression_rows",
    "site_findings",
    "site_line",
]

Array = NDArray[np.float64]
Contrast = Literal["native", "enhanced"]
M = TypeVar("M", bound=BaseModel)

VALID_DAYS = 365
"""Default age in days from which a calibration is too old (project custom): HU drift by 0.55 to 2.29 HU per year
(PMC6682570, abstract read)."""


class Scanner(BaseModel):
    """A CT scanner as its headers name it; ``None`` is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manufacturer: str | None = None
    model: str | None = None
    station: str | None = None

    @property
    def name(self) -> str:
        """The known names, or ``unknown scanner``; a manufacturer that its model repeats is given once."""
        maker = self.manufacturer
        if maker and self.model and _plain(self.model).startswith(_plain(maker)):
            maker = None
        return " ".join(n for n in (maker, self.model, self.station) if n) or "unknown scanner"

    def differs(self, other: "Scanner") -> bool:
        """Whether manufacturer or model are known in both and differ; case and blanks do not count."""
        pairs = ((self.manufacturer, other.manufacturer), (self.model, other.model))
        return any(a is not None and b is not None and _plain(a) != _plain(b) for a, b in pairs)

    def certain(self, other: "Scanner") -> bool:
        """Whether manufacturer and model are known in both."""
        return None not in (self.manufacturer, self.model, other.manufacturer, other.model)

    def other_station(self, other: "Scanner") -> bool:
        """Whether both name a station, and not the same."""
        known = self.station is not None and other.station is not None
        return known and _plain(str(self.station)) != _plain(str(other.station))


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


class SiteFile(BaseModel):
    """Content of a site calibration file, written by ``osteo-monai calibrate fit``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["site calibration"] = "site calibration"
    version: Literal[1] = 1
    program: str = Field(min_length=1)
    """Name and version of the program that fitted it."""
    fitted: date
    valid_days: int = Field(default=VALID_DAYS, ge=1)
    """A scan further away in time than this is measured with a warning."""
    scanner: Scanner
    kvp: FiniteFloat = Field(ge=40, le=200)
    standard: MineralStandard
    contrast: Contrast
    region: str = Field(min_length=1)
    """Name and version of the rule of the trabecular region."""
    method: Literal["line", "precalibrated"]
    tissues: tuple[str, ...] = ()
    """Tissues of the precalibrated method; the coefficients are their equivalent densities, mg/cm3. Those of a line are
    intercept and slope."""
    regression: Regression
    scans: int = Field(ge=1)
    subjects: int = Field(ge=1)
    first_scan: date | None = None
    last_scan: date | None = None
    density_range: tuple[FiniteFloat, FiniteFloat]
    """Lowest and highest density of the fit, mg/cm3."""
    cross_validation: Annotated[Mapping[str, FiniteFloat], AfterValidator(FrozenDict)]
    """Each subject predicted by a fit without it: bias, sd, limits, mae (mg/cm3), r, coverage of the 90 % interval."""
    flags: tuple[str, ...] = ()
    """What to check before use, one sentence each."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        unknown = set(self.tissues) - set(TISSUES)
        if unknown or len(set(self.tissues)) < len(self.tissues):
            raise ValueError(f"tissues must be different ones of {', '.join(TISSUES)}")
        if (self.method == "precalibrated") != (len(self.tissues) >= 2):
            raise ValueError("tissues must be two or more for precalibrated, and none for line")
        if len(self.regression.coefficients) != (len(self.tissues) or 2):
            raise ValueError("regression must have one coefficient for each tissue, or two for a line")
        return self


@dataclass(frozen=True)
class SiteScan:
    """Facts of a scan that decide whether a site calibration holds for it.

    Attributes:
        enhanced: whether the blood carries contrast agent; ``None`` if unknown.
        region: rule of the trabecular region.
    """

    scanner: Scanner
    kvp: float | None
    enhanced: bool | None
    acquired: date | None
    region: str


def read_site_file(path: Path) -> SiteFile:
    """Read and validate a site calibration file.

    Raises:
        UnusableInputError: the file cannot be read.
        ValueError: the message has the file name and every invalid field.
    """
    return read_model(path, SiteFile, "site calibration")


def read_model(path: Path, model: type[M], kind: str) -> M:
    """Read a JSON file of a model; errors as of :func:`read_site_file`."""
    try:
        return model.model_validate_json(read_input(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableInputError(f"The {kind} file '{path.name}' cannot be read ({type(error).__name__}).") from None
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ValueError(f"'{path.name}' must be a {kind} file: {'; '.join(problems)}") from None


def regression_rows(hu: ArrayLike, tissues: ArrayLike | None = None) -> Array:
    """Return the rows of the regression of densities.

    Args:
        hu: (n,) HU of the trabecular region.
        tissues: (n, k) HU of the tissues of each scan; ``None`` for a line.

    Returns:
        (n, 2) ones and HU, or (n, k) weights of the equivalent densities of the tissues.

    Raises:
        ValueError: the tissues of a scan all have one HU.
    """
    x = np.asarray(hu, dtype=np.float64)
    if tissues is None:
        return np.stack([np.ones_like(x), x], axis=1)
    constant, per_hu = _tissue_line(np.asarray(tissues, dtype=np.float64))
    return np.asarray(constant + x[:, None] * per_hu)


def _tissue_line(tissues: Array) -> tuple[Array, Array]:
    """Return the parts of the weights that do not depend on HU and that are proportional to it, (n, k) each."""
    mean = tissues.mean(axis=1, keepdims=True)
    spread = np.sum((tissues - mean) ** 2, axis=1, keepdims=True)
    if not (spread > 1.0).all():
        raise ValueError("the tissues of a scan must differ in HU")
    per_hu = (tissues - mean) / spread
    return 1.0 / tissues.shape[1] - mean * per_hu, per_hu


def site_line(
    calibration: SiteFile,
    scan: SiteScan,
    samples: Mapping[str, TissueSample],
    *,
    corrects_contrast: bool = False,
) -> CalibrationUsed:
    """Return the line of a scan by a site calibration.

    A scanner that the header does not name widens the interval by 9.2 % (another scanner, Skornitzke 2022).

    Args:
        calibration: of the site.
        scan: facts of the scan.
        samples: tissues of the scan, for the precalibrated method.
        corrects_contrast: the contrast agent is corrected afterwards, so that a calibration of native scans serves.

    Raises:
        ValueError: another scanner, tube voltage, contrast state or region rule, or a missing tissue.
    """
    _check_scan(calibration, scan, corrects_contrast)
    constant, per_hu = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    if calibration.method == "precalibrated":
        if missing := [name.replace("_", " ") for name in calibration.tissues if name not in samples]:
            raise ValueError(f"the site calibration needs {listed(missing)} of the patient, which was not found")
        hu = np.array([[samples[name].hu for name in calibration.tissues]])
        constant, per_hu = (part[0] for part in _tissue_line(hu))
    fit = calibration.regression.along(constant.tolist(), per_hu.tolist())
    return CalibrationUsed(
        method="site",
        slope=fit.slope,
        intercept=fit.intercept,
        standard=calibration.standard,
        relative_sd=0.0 if calibration.scanner.certain(scan.scanner) else OTHER_SCANNER_SD,
        absolute_sd=fit.sd,
        slope_sd=fit.slope_sd,
        centre_hu=fit.centre_hu,
        note=_note(calibration),
    )


def _check_scan(calibration: SiteFile, scan: SiteScan, corrects_contrast: bool) -> None:
    if calibration.scanner.differs(scan.scanner):
        raise ValueError(f"the site calibration is for {calibration.scanner.name}, the scan is of {scan.scanner.name}")
    if scan.kvp is None:
        raise ValueError(
            f"the site calibration is for {calibration.kvp:g} kVp, the tube voltage of the scan is unknown"
        )
    if abs(scan.kvp - calibration.kvp) > KVP_TOLERANCE:
        raise ValueError(f"the site calibration is for {calibration.kvp:g} kVp, the scan has {scan.kvp:g} kVp")
    if scan.region != calibration.region:
        raise ValueError(f"the site calibration is for the region rule {calibration.region}, got {scan.region}")
    if corrects_contrast and calibration.contrast == "enhanced":
        raise ValueError("the site calibration is for contrast-enhanced scans: a contrast correction must be left out")
    if scan.enhanced and calibration.contrast == "native" and not corrects_contrast:
        raise ValueError("the site calibration is for native scans, the scan is contrast-enhanced")
    if not scan.enhanced and calibration.contrast == "enhanced":
        raise ValueError("the site calibration is for contrast-enhanced scans, no enhancement was found in the scan")


def _note(calibration: SiteFile) -> str:
    method = "Line"
    if calibration.method == "precalibrated":
        names = listed(name.replace("_", " ") for name in calibration.tissues)
        method = f"Internal method with {names}"
    return (
        f"{method} fitted at the site on {calibration.fitted} to {calibration.scans} {calibration.contrast} scans of "
        f"{calibration.subjects} persons with known density ({calibration.scanner.name}, {calibration.kvp:g} kVp); SD "
        f"of the residuals {calibration.regression.residual_sd:.1f} mg/cm3."
    )


def site_findings(calibration: SiteFile, scan: SiteScan, today: date) -> Sequence[Finding]:
    """Return warnings on the use of a site calibration: unknown scanner, another station, too old, its own flags.

    The age is the distance in days from the day of the scan, else from ``today``, to the scans of the fit.
    """
    findings: list[Finding] = []

    def warn(code: str, message: str) -> None:
        findings.append(Finding(code=code, severity=Severity.WARNING, message=message))

    if not calibration.scanner.certain(scan.scanner):
        message = (
            f"The header does not name the scanner: whether it is {calibration.scanner.name} is not checked, and the "
            "interval is wider."
        )
        warn("site_scanner_unknown", message)
    if calibration.scanner.other_station(scan.scanner):
        message = (
            f"The site calibration was fitted on station {calibration.scanner.station}, the scan is of station "
            f"{scan.scanner.station} of the same model."
        )
        warn("site_other_station", message)
    day = scan.acquired or today
    first, last = calibration.first_scan or calibration.fitted, calibration.last_scan or calibration.fitted
    days = max((first - day).days, (day - last).days, 0)
    if days > calibration.valid_days:
        message = (
            f"The scan is {days} days away from the scans of the site calibration, more than {calibration.valid_days}: "
            "check the scanner for drift ('osteo-monai calibrate check') or fit it again."
        )
        warn("site_calibration_old", message)
    if calibration.flags:
        warn("site_calibration_flagged", f"The site calibration has flags: {' '.join(calibration.flags)}")
    return findings
