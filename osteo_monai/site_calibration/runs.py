"""Fit from a manifest or a table of scans, and write the file with its table, figures and summary."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

from osteo_monai.batch import THIS_PROCESS, Workers
from osteo_monai.cohort.scans import LabelSource, Scan, measure_scans, read_scans, write_scans
from osteo_monai.data import read_manifest
from osteo_monai.data.csv_tables import write_table
from osteo_monai.domain import ContrastPhase, DensityThresholds
from osteo_monai.errors import UnusableInputError
from osteo_monai.measurement.calibration import regression_rows
from osteo_monai.measurement.calibration.density import Z_90
from osteo_monai.measurement.calibration.site import VALID_DAYS
from osteo_monai.reporting.calibration_figures import TimeSeries, drift_figure, fitted_line_figure
from osteo_monai.reporting.evaluation.figures import agreement_figure
from osteo_monai.reporting.publishing import BLUE, save_figure
from osteo_monai.site_calibration.contrast import ContrastFit, fit_contrast
from osteo_monai.site_calibration.drift import Drift
from osteo_monai.site_calibration.fitting import DEFAULT_TISSUES, PUBLISHED_SCANS, Method, SiteFit, fit_site
from osteo_monai.utils.files import write_json, write_text

__all__ = ["calibrate_contrast", "calibrate_site", "calibration_products", "write_drift"]

_DRIFT_COLUMNS = (
    "scanner",
    "tissue",
    "scans",
    "first_day",
    "last_day",
    "centre_hu",
    "limit_low_hu",
    "limit_high_hu",
    "outside",
    "hu_per_year",
    "interval_low",
    "interval_high",
    "verdict",
    "reason",
)


def calibration_products(output: Path) -> list[Path]:
    """Return the files that a fit writes for the calibration file ``output``."""
    ends = ("_scans.csv", "_summary.txt", "_agreement.png", "_agreement.svg", "_fit.png", "_fit.svg")
    return [output, *(output.with_name(output.stem + end) for end in ends)]


def calibrate_site(
    path: Path,
    output: Path,
    method: Method = "line",
    *,
    tissues: Sequence[str] = DEFAULT_TISSUES,
    source: LabelSource = "label",
    valid_days: int = VALID_DAYS,
    workers: Workers = THIS_PROCESS,
) -> tuple[SiteFit, str]:
    """Fit a site calibration and write it as JSON, with scans (CSV), figures (PNG, SVG) and summary (text).

    Args:
        path: manifest with ``bmd_mg_cm3``, or a table of scans of an earlier fit.
        output: calibration file; the other files have its stem.
        method, tissues, valid_days: as :func:`fit_site` has them.
        source: label map of the bodies.
        workers: number, limits and place.

    Returns:
        The fit and the summary.

    Raises:
        ManifestError, UnusableInputError: the input is wrong, or no calibration can be fitted to it.
    """
    scans, excluded = _scans(path, source, workers, needs_density=True)
    fit = fit_site(scans, method, tissues=tissues, valid_days=valid_days)
    _, table, text, *_ = calibration_products(output)
    write_json(output, fit.file.model_dump(mode="json"))
    write_scans(table, fit.scans)
    summary = _site_summary(fit, [*excluded, *fit.left_out])
    write_text(text, summary)
    file, standard = fit.file, DensityThresholds()
    words = f"{file.scanner.name}, {file.kvp:g} kVp, {file.scans} scans"
    figure = agreement_figure(
        fit.reference,
        fit.predicted,
        fit.agreement,
        standard if file.standard == standard.standard else None,
        BLUE,
        "Cross-validation by subject",
    )
    save_figure(figure, output.with_name(f"{output.stem}_agreement"))
    hu = np.array([scan.hu for scan in fit.scans])
    at = np.linspace(hu.min() - 0.08 * np.ptp(hu), hu.max() + 0.08 * np.ptp(hu), 60)
    typical = [np.mean([scan.tissues[name] for scan in fit.scans]) for name in file.tissues]
    rows = regression_rows(at, np.tile(typical, (len(at), 1)) if typical else None)
    fitted, sd = file.regression.predict(rows)
    title = f"{words}\n{'line' if not typical else 'precalibrated, line at the mean HU of the tissues'}"
    figure = fitted_line_figure(
        hu,
        fit.reference,
        (at, fitted, fitted - Z_90 * sd, fitted + Z_90 * sd),
        ("HU, mean of L1 and L2", f"Known density (mg/cm\N{SUPERSCRIPT THREE} {file.standard})"),
        title,
    )
    save_figure(figure, output.with_name(f"{output.stem}_fit"))
    return fit, summary


def calibrate_contrast(
    path: Path,
    output: Path,
    phase: ContrastPhase | None = None,
    *,
    source: LabelSource = "label",
    workers: Workers = THIS_PROCESS,
) -> tuple[ContrastFit, str]:
    """Fit a contrast correction to paired scans and write it as :func:`calibrate_site` does.

    Args:
        path: manifest in which subjects have native and enhanced scans, or a table of scans.
        output: correction file.
        phase: use only enhanced scans of this phase.
        source: label map of the bodies.
        workers: number, limits and place.

    Raises:
        ManifestError, UnusableInputError: the input is wrong, or no correction can be fitted to it.
    """
    scans, excluded = _scans(path, source, workers, needs_density=False)
    fit = fit_contrast(scans, phase)
    _, table, text, *_ = calibration_products(output)
    write_json(output, fit.file.model_dump(mode="json"))
    write_scans(table, scans)
    summary = _contrast_summary(fit, [*excluded, *fit.left_out])
    write_text(text, summary)
    along, low, high = fit.file.fit, *fit.file.aorta_range
    at = np.linspace(low, high, 60)
    enhancement = at - fit.file.native_blood_hu
    fitted = along.intercept + along.slope * enhancement
    half = Z_90 * np.hypot(along.sd, along.slope_sd * (enhancement - along.centre_hu))
    names = ("HU of the enhanced aorta", "Bone, enhanced \N{MINUS SIGN} native (HU)")
    title = f"{fit.file.scanner.name}, {fit.file.kvp:g} kVp, {len(fit.shift)} pairs, phase {fit.file.phase}"
    figure = fitted_line_figure(fit.aorta_hu, fit.shift, (at, fitted, fitted - half, fitted + half), names, title)
    save_figure(figure, output.with_name(f"{output.stem}_fit"))
    figure = fitted_line_figure(
        fit.aorta_hu,
        fit.shift - fit.predicted,
        (at, np.zeros_like(at), np.full_like(at, -Z_90 * along.sd), np.full_like(at, Z_90 * along.sd)),
        (names[0], "Bone, corrected \N{MINUS SIGN} native (HU)"),
        f"Each subject corrected by a fit without it, {fit.shift.size} pairs",
    )
    save_figure(figure, output.with_name(f"{output.stem}_agreement"))
    return fit, summary


def _scans(
    path: Path, source: LabelSource, workers: Workers, needs_density: bool
) -> tuple[list[Scan], list[tuple[str, str]]]:
    if path.suffix.lower() != ".json":
        return read_scans(path), []
    manifest = read_manifest(path)
    records = [record for _, _, record in manifest.records()]
    if needs_density and not any(record.bmd_mg_cm3 is not None for record in records):
        raise UnusableInputError(f"'{path.name}' must have records with bmd_mg_cm3, got none")
    if missing := sum(getattr(record, source) is None for record in records):
        raise UnusableInputError(f"'{path.name}' must have a {source} in each record, got {missing} without")
    return measure_scans(manifest, path.parent, source=source, workers=workers)


def write_drift(drifts: Sequence[Drift], folder: Path) -> None:
    """Write ``drift.csv``, one row for each tissue of a scanner, and the control chart ``drift.png`` and ``.svg``."""
    rows = []
    for d in drifts:
        numbers = (d.centre, *d.limits, d.outside, d.per_year.value, d.per_year.low, d.per_year.high)
        ends = [date.fromordinal(int(day)) for day in (d.days[0], d.days[-1])]
        rows.append((d.scanner, d.tissue, len(d.days), *ends, *(round(n, 3) for n in numbers), d.verdict, d.reason))
    write_table(folder / "drift.csv", _DRIFT_COLUMNS, rows)
    series = [
        TimeSeries(d.scanner, d.tissue, d.days, d.values, d.centre, d.limits, d.baseline, d.per_year.value, d.verdict)
        for d in drifts
    ]
    save_figure(drift_figure(series), folder / "drift")


# --- summaries ----------------------------------------------------------------------------------------------------


def _site_summary(fit: SiteFit, left_out: Sequence[tuple[str, str]]) -> str:
    file, compared = fit.file, fit.agreement
    days = _span(file.first_scan, file.last_scan)
    lines = [f"Site calibration of {file.scanner.name}, {file.kvp:g} kVp, {file.contrast} scans, {days}"]
    if file.method == "line":
        intercept, slope = file.regression.coefficients
        lines.append(f"Line: density = {slope:.4f} x HU {intercept:+.2f} mg/cm3 {file.standard}")
    else:
        pairs = zip(file.tissues, file.regression.coefficients, strict=True)
        words = ", ".join(f"{name.replace('_', ' ')} {value:+.1f}" for name, value in pairs)
        lines.append(f"Equivalent densities of the tissues (mg/cm3 {file.standard}): {words}")
    lines += [
        f"Fitted to {file.scans} scans of {file.subjects} subjects, {file.density_range[0]:.0f} to "
        f"{file.density_range[1]:.0f} mg/cm3; SD of the residuals {file.regression.residual_sd:.2f} mg/cm3",
        "Cross-validation, each subject predicted by a fit without it:",
        f"  bias {compared.bias.value:+.2f} (95 % interval {compared.bias.low:+.2f} to {compared.bias.high:+.2f}), SD "
        f"{compared.sd:.2f}, mean absolute error {compared.mae.value:.2f} mg/cm3, r {compared.pearson.value:.3f}",
        f"  limits of agreement {compared.lower_limit.value:+.1f} to {compared.upper_limit.value:+.1f} mg/cm3",
    ]
    if compared.coverage is not None:
        lines.append(
            f"  known density within the 90 % interval: {compared.coverage.events} of {compared.coverage.total} "
            f"({100 * compared.coverage.value:.0f} %), mean width {compared.interval_width or 0.0:.1f} mg/cm3"
        )
    lines += [
        f"  SD by another method on the same scans: {name} {sd:.2f} mg/cm3" for name, sd in fit.alternatives.items()
    ]
    lines.append(f"Valid for {file.valid_days} days before and after these scans")
    if file.method == "precalibrated" and file.subjects < PUBLISHED_SCANS:
        lines.append(f"Note: published precalibrations used {PUBLISHED_SCANS} and 60 scans")
    return _finished(lines, file.flags, left_out)


def _contrast_summary(fit: ContrastFit, left_out: Sequence[tuple[str, str]]) -> str:
    file, compared = fit.file, fit.agreement
    low, high = file.aorta_range
    lines = [
        f"Contrast correction of {file.scanner.name}, {file.kvp:g} kVp, phase {file.phase}",
        f"Shift of the bone = {file.fit.intercept:+.2f} {file.fit.slope:+.4f} x (aorta - {file.native_blood_hu:g}) HU",
        f"Fitted to {file.pairs} pairs, aorta {low:.0f} to {high:.0f} HU",
        f"Without correction: {fit.uncorrected[0]:+.2f} +- {fit.uncorrected[1]:.2f} HU",
        f"Cross-validation, each subject corrected by a fit without it: bias {compared.bias.value:+.2f}, SD "
        f"{compared.sd:.2f} HU",
    ]
    if compared.coverage is not None:
        share = 100 * compared.coverage.value
        lines.append(
            f"  shift within the 90 % interval: {compared.coverage.events} of {compared.coverage.total} ({share:.0f} %)"
        )
    return _finished(lines, file.flags, left_out)


def _span(first: date | None, last: date | None) -> str:
    return "days unknown" if first is None or last is None else f"{first} to {last}"


def _finished(lines: list[str], flags: Sequence[str], left_out: Sequence[tuple[str, str]]) -> str:
    lines += [f"Flag: {flag}" for flag in flags]
    lines += [f"Left out: {image or 'a scan'}: {reason}" for image, reason in left_out]
    return "\n".join(lines) + "\n"
