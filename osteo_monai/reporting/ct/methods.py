"""How the density was measured: calibration, classes and norms."""

from osteo_monai.domain import BoneStatus, DensityThresholds
from osteo_monai.norms import NORM_SOURCE
from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import MINUS, TIMES
from osteo_monai.screening.result import CalibrationUsed, ContrastCorrected

__all__ = ["SECTION"]

_CALIBRATIONS = {
    "physics": "computed from X-ray physics at the tube voltage (an estimate: this scanner was not measured)",
    "registry": "line of this scanner from the calibration registry",
    "phantom": "reference rods in this scan",
    "internal": "tissues in this scan (air, fat, blood, muscle, bone)",
    "user": "line given by the user",
    "site": "fitted to scans of known density of this scanner",
}


def _values(study: CTStudy) -> dict[str, object] | None:
    if not study.measured:
        return None
    calibration, thresholds = study.result.calibration, study.thresholds
    rows = [] if calibration is None else _calibration(calibration)
    if study.result.contrast is not None:
        rows += _contrast(study.result.contrast)
    if thresholds is not None:
        rows.append(("Classes", _classes(thresholds)))
    source = thresholds.source if thresholds is not None else study.result.thresholds_source
    if source:
        rows.append(("Thresholds from", source))
    rows.append(("Not comparable with", "areal density by DXA: the WHO definitions do not apply to volumetric density"))
    rows.append(("Age and sex norms", NORM_SOURCE))
    return {"rows": rows}


def _classes(thresholds: DensityThresholds) -> str:
    low, high = thresholds.osteoporosis_below, thresholds.normal_above
    return (
        f"{BoneStatus.NORMAL} above {high:g}, {BoneStatus.OSTEOPENIA} {low:g} to {high:g} (both included), "
        f"{BoneStatus.OSTEOPOROSIS} below {low:g} mg/cm³ {thresholds.standard}, mean of the levels"
    )


def _calibration(used: CalibrationUsed) -> list[tuple[str, str]]:
    sign = "+" if used.intercept >= 0 else MINUS
    line = f"density = {used.slope:.4g} {TIMES} HU {sign} {abs(used.intercept):.4g} mg/cm³ {used.standard}"
    parts = [f"{100 * used.relative_sd:.1f} %"] if used.relative_sd else []
    parts += [f"{used.absolute_sd:.1f} mg/cm³"] if used.absolute_sd else []
    parts += [f"{used.slope_sd:.3f} mg/cm³ per HU from {used.centre_hu:.0f} HU"] if used.slope_sd else []
    spread = " and ".join(parts) or "0"
    rows = [
        ("Calibration", f"{used.method}: {_CALIBRATIONS[used.method]}{'' if used.verified else ', NOT VERIFIED'}"),
        ("Calibration line", f"{line}, from the median HU of the region"),
        ("Its standard deviation", spread),
    ]
    if used.note:
        rows.append(("Calibration note", used.note))
    return rows


def _contrast(corrected: ContrastCorrected) -> list[tuple[str, str]]:
    value, used = corrected.density, "corrected" if corrected.classified else "raw"
    status = f", {corrected.status}" if corrected.status is not None else ""
    return [
        (
            "Corrected for contrast agent",
            f"{value.mg_cm3:.1f} mg/cm³ {value.standard} (90 % interval {value.interval_low:.1f} to "
            f"{value.interval_high:.1f}){status}; the class of this report is that of the {used} density",
        ),
        (
            "Shift by contrast agent",
            f"{corrected.shift_mg_cm3:.1f} ± {corrected.shift_sd_mg_cm3:.1f} mg/cm³ for an aorta of "
            f"{corrected.aorta_hu:.0f} HU; {corrected.source}",
        ),
    ]


SECTION = Section(
    _values,
    """\
<section aria-labelledby="methods">
  <h2 id="methods">Density measurement</h2>
  <table class="facts">
  {% for name, value in rows %}
    <tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
  {% endfor %}
  </table>
</section>
""",
)
