"""Fit a site calibration to scans of known density."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osteo_monai import __version__
from osteo_monai.cohort.scans import Scan
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement.calibration import Scanner, fit_regression, regression_rows
from osteo_monai.measurement.calibration.site import VALID_DAYS, SiteFile
from osteo_monai.site_calibration.validation import cross_validated, only_value, outliers
from osteo_monai.statistics.agreement import Agreement, agreement
from osteo_monai.utils.frozen import FrozenDict
from osteo_monai.utils.text import listed

__all__ = ["DEFAULT_TISSUES", "MIN_SUBJECTS", "PUBLISHED_SCANS", "SiteFit", "fit_site"]

Array = NDArray[np.float64]
Method = Literal["line", "precalibrated"]

DEFAULT_TISSUES = ("air", "blood")
"""One of the two sets of the JBMR 2023 comparison; the other is adipose, blood, cortical_bone."""
MIN_SUBJECTS = 20
"""Fewest persons of a fit (project custom): the t interval of 20 is 6 % wider than that of many."""
PUBLISHED_SCANS = 57
"""Scans of the smaller precalibration set of the JBMR 2023 comparison."""
MIN_DENSITY_SD = 15.0
"""Least SD of the known densities, mg/cm3 (project custom; half of that within a decade of age, Pan 2024): with less
the slope is not determined."""
MIN_CORRELATION = 0.5
"""Least correlation of HU and density (project custom; published methods have 0.9 and more)."""
SLOPE_RANGE = (0.45, 0.95)
"""Slopes in mg/cm3 per HU that are plausible at 120 kVp, as for a line given by a user."""


@dataclass(frozen=True)
class SiteFit:
    """A site calibration with its cross-validation.

    Attributes:
        file: content of the calibration file.
        scans: of the fit, in the order of the arrays.
        reference, predicted, lower, upper: (n,) known density, and prediction by a fit without the subject with its
            90 % interval, mg/cm3.
        agreement: of predicted and known density.
        alternatives: SD of the error in cross-validation of other methods that the scans permit, mg/cm3.
        left_out: (image, reason).
    """

    file: SiteFile
    scans: tuple[Scan, ...]
    reference: Array
    predicted: Array
    lower: Array
    upper: Array
    agreement: Agreement
    alternatives: dict[str, float]
    left_out: tuple[tuple[str, str], ...]


def fit_site(
    scans: Sequence[Scan],
    method: Method = "line",
    *,
    tissues: Sequence[str] = DEFAULT_TISSUES,
    valid_days: int = VALID_DAYS,
    today: date | None = None,
) -> SiteFit:
    """Fit a line, or equivalent densities of tissues, to scans of one scanner with known density.

    The density is regressed on HU and not the reverse, since a density is to be predicted. Each subject is also
    predicted by a fit without it.

    Args:
        scans: of one scanner, tube voltage, mineral standard and contrast state.
        method: ``line`` or ``precalibrated``.
        tissues: of the precalibrated method, two or more.
        valid_days: distance in days at which the calibration warns of its age.
        today: day of the fit.

    Raises:
        UnusableInputError: too few subjects, mixed or unknown scanners, voltages, standards or contrast states, no
            spread of density, no correlation of HU and density.
    """
    names = tuple(tissues) if method == "precalibrated" else ()
    used, left_out = _usable(scans, names)
    subjects = [scan.subject for scan in used]
    count = len(set(subjects))
    if count < MIN_SUBJECTS:
        reasons = "" if not left_out else f"; {len(left_out)} scans were left out, first: {left_out[0][1]}"
        raise UnusableInputError(f"scans must be of at least {MIN_SUBJECTS} subjects, got {count}{reasons}")
    facts = _shared_facts(used)
    if names and facts["contrast"] == "enhanced" and "blood" in names:
        raise UnusableInputError("tissues must not contain blood for contrast-enhanced scans")
    reference = np.array([scan.bmd_mg_cm3 for scan in used], dtype=np.float64)
    hu = np.array([scan.hu for scan in used])
    _check_spread(hu, reference)
    rows = _rows(used, names)
    try:
        regression = fit_regression(rows, reference, count)
    except ValueError:
        raise UnusableInputError(f"the HU of {listed(names)} must vary between the scans to fit them") from None
    predicted, lower, upper = cross_validated(rows, reference, subjects)
    compared = agreement(reference, predicted, lower, upper, groups=subjects if count < len(used) else None)
    days = [scan.acquired for scan in used if scan.acquired is not None]
    file = SiteFile(
        program=f"osteo-monai {__version__}",
        fitted=today or date.today(),
        valid_days=valid_days,
        method=method,
        tissues=names,
        regression=regression,
        scans=len(used),
        subjects=count,
        first_scan=min(days, default=None),
        last_scan=max(days, default=None),
        density_range=(float(reference.min()), float(reference.max())),
        cross_validation=FrozenDict(_numbers(compared)),
        flags=_flags(used, regression.coefficients, outliers(regression, rows, reference), method),
        **facts,
    )
    others = _alternatives(used, method, names, reference, subjects)
    return SiteFit(file, tuple(used), reference, predicted, lower, upper, compared, others, tuple(left_out))


def _usable(scans: Sequence[Scan], tissues: Sequence[str]) -> tuple[list[Scan], list[tuple[str, str]]]:
    used, left_out = [], []
    for scan in scans:
        missing = [name.replace("_", " ") for name in tissues if name not in scan.tissues]
        if scan.bmd_mg_cm3 is None:
            left_out.append((scan.image, "no known density (bmd_mg_cm3)"))
        elif missing:
            left_out.append((scan.image, f"{listed(missing)} not found"))
        else:
            used.append(scan)
    return used, left_out


def _shared_facts(scans: Sequence[Scan]) -> dict[str, object]:
    """Return what a calibration is bound to; all scans must agree."""
    scanner = only_value("scanner", scans, _scanner, lambda s: s.name)
    return {
        "scanner": scanner,
        "kvp": only_value("tube voltage", scans, lambda s: s.kvp, lambda kvp: f"{kvp:g} kVp"),
        "standard": only_value("mineral standard", scans, lambda s: s.standard, str),
        "contrast": only_value("contrast state", scans, lambda s: "enhanced" if s.enhanced else "native", str),
        "region": only_value("rule of the trabecular region", scans, lambda s: s.region, str),
    }


def _scanner(scan: Scan) -> Scanner | None:
    known = scan.scanner.manufacturer is not None and scan.scanner.model is not None
    return scan.scanner if known else None


def _check_spread(hu: Array, reference: Array) -> None:
    spread = float(reference.std(ddof=1))
    if spread < MIN_DENSITY_SD:
        raise UnusableInputError(
            f"known densities must have an SD of at least {MIN_DENSITY_SD:g} mg/cm3, got {spread:.1f}"
        )
    r = float(np.corrcoef(hu, reference)[0, 1]) if hu.std() > 0 else 0.0
    if r < MIN_CORRELATION:
        raise UnusableInputError(
            f"HU and known density must have a correlation of at least {MIN_CORRELATION}, got {r:.2f}: check that each "
            "density belongs to its scan"
        )


def _rows(scans: Sequence[Scan], tissues: Sequence[str]) -> Array:
    hu = [scan.hu for scan in scans]
    if not tissues:
        return regression_rows(hu)
    try:
        return regression_rows(hu, [[scan.tissues[name] for name in tissues] for scan in scans])
    except ValueError as error:
        raise UnusableInputError(f"{error}") from None


def _numbers(compared: Agreement) -> dict[str, float]:
    numbers = {
        "bias": compared.bias.value,
        "sd": compared.sd,
        "lower_limit": compared.lower_limit.value,
        "upper_limit": compared.upper_limit.value,
        "mae": compared.mae.value,
        "rmse": compared.rmse.value,
        "r": compared.pearson.value,
    }
    if compared.coverage is not None:
        numbers["coverage_90"] = compared.coverage.value
    return {name: round(value, 4) for name, value in numbers.items()}


def _flags(scans: Sequence[Scan], coefficients: Sequence[float], far: Sequence[int], method: Method) -> tuple[str, ...]:
    names = [scans[i].image or scans[i].subject for i in far]
    flags = [f"Scan {name} is an outlier: its density does not follow from its HU as in the others." for name in names]
    low, high = SLOPE_RANGE
    if method == "line" and not low <= coefficients[1] <= high and scans[0].kvp == 120.0:
        flags.append(
            f"The slope of {coefficients[1]:.2f} mg/cm3 per HU is outside {low} to {high}, expected at 120 kVp."
        )
    return tuple(flags)


def _alternatives(
    scans: Sequence[Scan], method: Method, tissues: Sequence[str], reference: Array, subjects: Sequence[str]
) -> dict[str, float]:
    """Return the error in cross-validation of the other methods on the same scans."""
    candidates: dict[str, tuple[str, ...]] = {
        "line": (),
        "precalibrated air, blood": ("air", "blood"),
        "precalibrated air, adipose": ("air", "adipose"),
        "precalibrated air, adipose, muscle": ("air", "adipose", "muscle"),
        "precalibrated adipose, blood, cortical bone": ("adipose", "blood", "cortical_bone"),
    }
    errors = {}
    for name, chosen in candidates.items():
        same = chosen == tuple(tissues) and (method == "line") == (not chosen)
        if same or not all(tissue in scan.tissues for scan in scans for tissue in chosen):
            continue
        try:
            predicted, _, _ = cross_validated(_rows(scans, chosen), reference, subjects)
        except (ValueError, UnusableInputError):  # tissues that do not vary
            continue
        errors[name] = float(np.std(predicted - reference, ddof=1))
    return errors
