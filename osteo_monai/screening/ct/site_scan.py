"""What a site calibration and a contrast correction need from a scan, and the corrected density."""

from osteo_monai.domain import BoneStatus, DensityThresholds, Finding
from osteo_monai.imaging.volume import Acquisition
from osteo_monai.measurement.calibration import Scanner, SiteScan, contrast_shift, widened
from osteo_monai.measurement.calibration.contrast import ContrastCorrection
from osteo_monai.measurement.region import REGION_RULE
from osteo_monai.screening.ct.steps import Checked
from osteo_monai.screening.gates.gate import info, warning
from osteo_monai.screening.gates.image import AORTA_CERTAINTY_MINIMUM, AORTA_ENHANCED_HU
from osteo_monai.screening.gates.limits import Limits
from osteo_monai.screening.result import CalibrationUsed, ContrastCorrected, Density, TissueValues

MIN_AORTA_CERTAINTY = 0.5
"""Least certainty of an aorta that a number is computed from (measurement.tissues)."""


def scanner_of(scan: Acquisition) -> Scanner:
    """Return the scanner that a header names."""
    return Scanner(manufacturer=scan.manufacturer, model=scan.model, station=scan.station)


def is_enhanced(tissues: TissueValues, contrast_in_header: str | None, limits: Limits) -> bool | None:
    """Return whether the blood carries contrast agent; ``None`` if neither aorta nor header shows it.

    An aorta found with certainty overrides the header, which also names oral agents.
    """
    hu, certainty = tissues.aorta_hu, tissues.aorta_certainty
    if hu is not None and certainty >= limits[AORTA_CERTAINTY_MINIMUM] and hu > limits[AORTA_ENHANCED_HU]:
        return True
    if hu is not None and certainty >= MIN_AORTA_CERTAINTY:
        return False
    return True if contrast_in_header else None


def site_scan(checked: Checked, tissues: TissueValues) -> SiteScan:
    """Return the facts of a scan that decide whether a site calibration holds for it."""
    scan = checked.volume.acquisition
    enhanced = is_enhanced(tissues, scan.contrast, checked.options.limits)
    return SiteScan(scanner_of(scan), checked.kvp, enhanced, scan.acquired, REGION_RULE)


def corrected(
    checked: Checked, tissues: TissueValues, used: CalibrationUsed, raw: Density
) -> tuple[ContrastCorrected | None, list[Finding]]:
    """Return the density without the shift by contrast agent, or a finding with the reason why there is none."""
    options = checked.options
    correction = options.contrast_correction
    if correction is None:
        return None, []
    enhanced = is_enhanced(tissues, checked.volume.acquisition.contrast, options.limits)
    if enhanced is not True:
        reason = "no contrast agent was found" if enhanced is None else "the aorta is not enhanced"
        return None, [info("contrast_not_corrected", f"The density was not corrected for contrast agent: {reason}.")]
    try:
        shift, sd = _shift(correction, checked, tissues, used)
    except ValueError as error:
        message = f"The density could not be corrected for contrast agent: {error}."
        return None, [warning("contrast_not_corrected", message)]
    value = raw.model_copy(
        update={bound: getattr(raw, bound) - shift for bound in ("mg_cm3", "interval_low", "interval_high")}
    )
    value = widened(value, sd)
    result = ContrastCorrected(
        density=value,
        status=_status(options.thresholds, value),
        shift_mg_cm3=shift,
        shift_sd_mg_cm3=sd,
        aorta_hu=tissues.aorta_hu or 0.0,
        classified=options.classify_corrected,
        source=correction.source,
    )
    return result, _findings(result, correction, raw, options.thresholds)


def _shift(
    correction: ContrastCorrection, checked: Checked, tissues: TissueValues, used: CalibrationUsed
) -> tuple[float, float]:
    if tissues.aorta_hu is None or tissues.aorta_certainty < MIN_AORTA_CERTAINTY:
        raise ValueError("the aorta was not found with certainty")
    scanner = scanner_of(checked.volume.acquisition)
    return contrast_shift(correction, tissues.aorta_hu, used.slope, scanner, checked.kvp)


def _status(thresholds: DensityThresholds, value: Density) -> BoneStatus | None:
    return thresholds.status(value.mg_cm3, value.standard) if value.standard == thresholds.standard else None


def _findings(
    result: ContrastCorrected, correction: ContrastCorrection, raw: Density, thresholds: DensityThresholds
) -> list[Finding]:
    findings = []
    raw_status = _status(thresholds, raw)
    if raw_status != result.status:
        used = "corrected" if result.classified else "raw"
        message = (
            f"Without the shift by contrast agent ({result.shift_mg_cm3:.1f} mg/cm3) the class is {result.status}, "
            f"with it {raw_status}: the class of this result is that of the {used} density."
        )
        findings.append(warning("contrast_changes_class", message))
    if correction.flags:
        findings.append(
            warning("contrast_correction_flagged", f"The correction has flags: {' '.join(correction.flags)}")
        )
    return findings
