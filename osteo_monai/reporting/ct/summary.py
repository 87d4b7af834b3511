"""Density, class and percentile, above the findings."""

from osteo_monai.domain import BoneStatus, DensityThresholds
from osteo_monai.norms import NORM_AGES, NORM_NAME, NORM_STANDARD, DensityNorm, density_norm
from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import density_words, percentile_words
from osteo_monai.screening.result import ContrastCorrected, Density, ScreeningResult
from osteo_monai.utils.text import listed

__all__ = ["SECTION"]


def _values(study: CTStudy) -> dict[str, object] | None:
    if not study.measured:
        return None
    result, density, thresholds = study.result, study.density, study.thresholds
    if density is None:
        return {"density": None}
    names = study.level_names
    percentile, percentile_note = _percentile(result, density)
    contrast = result.contrast
    # the class and its distances belong to one of the two densities
    classified = density if contrast is None or not contrast.classified else contrast.density
    return {
        "contrast": _contrast(contrast, thresholds),
        "density": density_words(density.mg_cm3, thresholds),
        "standard": density.standard,
        "interval": f"{density.interval_low:.1f} to {density.interval_high:.1f}",
        "levels": f"mean of {listed(names)}" if len(names) > 1 else study.single_level,
        "status": result.status or "none",
        "distances": _distances(result, classified, thresholds),
        "status_note": _status_note(result.status, classified, thresholds),
        "percentile": percentile,
        "percentile_note": percentile_note,
    }


def _contrast(corrected: ContrastCorrected | None, thresholds: DensityThresholds | None) -> str:
    """Return the corrected density in a sentence, and which density has the class; empty without a correction."""
    if corrected is None:
        return ""
    value = corrected.density
    return (
        f"Not corrected for contrast agent. Corrected: {density_words(value.mg_cm3, thresholds)} mg/cm³ "
        f"({value.interval_low:.1f} to {value.interval_high:.1f}), {corrected.status or 'no class'}. The class is "
        f"that of the {'corrected' if corrected.classified else 'raw'} density."
    )


def _status_note(status: BoneStatus | None, density: Density, thresholds: DensityThresholds | None) -> str:
    if status is None:
        return "No class is given."
    if thresholds is None:
        return "The cut-offs are not recorded in this result."
    ends = {thresholds.status(value, density.standard) for value in (density.interval_low, density.interval_high)}
    others = sorted(ends - {status})
    if not others:
        return "The whole 90 % interval is in this class."
    return f"The 90 % interval extends into {listed(others)}: the class is not certain."


def _distances(result: ScreeningResult, density: Density, thresholds: DensityThresholds | None) -> str:
    """Return the distance from each cut-off, which older results record without the cut-off itself."""
    if thresholds is not None:
        if density.standard is not thresholds.standard:
            return ""
        cutoffs = (thresholds.osteoporosis_below, thresholds.normal_above)
        return "; ".join(_distance(density.mg_cm3 - cutoff, f"{cutoff:g}") for cutoff in cutoffs) + " mg/cm³."
    recorded = result.distance_to_thresholds or {}
    names = {"osteoporosis_below": "the osteoporosis cut-off", "normal_above": "the normal cut-off"}
    parts = [_distance(recorded[key], name, " mg/cm³") for key, name in names.items() if key in recorded]
    return "; ".join(parts) + "." if parts else ""


def _distance(distance: float, cutoff: str, unit: str = "") -> str:
    if abs(distance) < 1e-6:
        return f"exactly at {cutoff}"
    size = f"{abs(distance):.1f}" if abs(distance) >= 0.05 else f"{abs(distance):.2g}"
    return f"{size}{unit} {'above' if distance > 0 else 'below'} {cutoff}"


def _percentile(result: ScreeningResult, density: Density) -> tuple[str, str]:
    """Return the percentile in the reference group and its source, or why there is none."""
    age = result.acquisition.age_years if result.acquisition else None
    sex = result.acquisition.sex if result.acquisition else None
    if age is None or sex is None:
        missing = [name for name, value in (("age", age), ("sex", sex)) if value is None]
        return "not given", f"{listed(missing).capitalize()} unknown: no percentile is given."
    norm = density_norm(age, sex)
    if norm is None:
        low, high = NORM_AGES
        return "not given", f"No norm for age {int(age)}: {NORM_NAME} covers {low:.0f} to below {high:.0f} years."
    if density.standard is not NORM_STANDARD:
        return "not given", f"The density is in {density.standard}, {NORM_NAME} in {NORM_STANDARD}."
    middle, low_end, high_end = (
        percentile_words(norm.percentile(value, density.standard))
        for value in (density.mg_cm3, density.interval_low, density.interval_high)
    )
    return middle, f"90 % interval {low_end} to {high_end}. {_norm_sentence(norm)}"


def _norm_sentence(norm: DensityNorm) -> str:
    return (
        f"Percentile of {norm.group} in {NORM_NAME} ({norm.mean:.1f} ± {norm.sd:.1f} mg/cm³, "
        f"n = {norm.subjects}, normal approximation)."
    )


SECTION = Section(
    _values,
    """\
{% if density is none %}
<p>This result has no density.</p>
{% else %}
<dl class="key" aria-label="Result">
  <div>
    <dt>Density{% if levels %}, {{ levels }}{% endif %}</dt>
    <dd class="value">{{ density }} <small>mg/cm³ {{ standard }}</small></dd>
    <dd><p>90 % interval {{ interval }}</p>{% if contrast %}<p>{{ contrast }}</p>{% endif %}</dd>
  </div>
  <div>
    <dt>Class by volumetric density</dt>
    <dd class="value">{{ status | capitalize }}</dd>
    <dd><p>{% if distances %}{{ distances }} {% endif %}{{ status_note }}</p></dd>
  </div>
  <div>
    <dt>Percentile for age and sex</dt>
    <dd class="value">{{ percentile | capitalize }}</dd>
    <dd><p>{{ percentile_note }}</p></dd>
  </div>
</dl>
{% endif %}
""",
    headline=True,
)
