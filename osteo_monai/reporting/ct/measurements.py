"""Table of what was measured in each level."""

from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import density_words, missing_words, point_words, signed_words
from osteo_monai.screening.result import LevelMeasurement
from osteo_monai.utils.text import percent_words

__all__ = ["SECTION"]

_Group = list[tuple[str, list[str]]]
"""Quantity and its value in each level."""


def _values(study: CTStudy) -> dict[str, object] | None:
    """Rows (quantity, one value per level, whether a new group of rows begins)."""
    if not study.levels:
        return None
    groups = (
        _densities(study),
        _hounsfield(study.levels),
        _region(study.levels),
        _body(study.levels),
        _position(study),
    )
    rows = [(name, values, not k) for group in groups for k, (name, values) in enumerate(group)]
    return {"names": study.level_names, "rows": rows}


def _densities(study: CTStudy) -> _Group:
    densities = [m.density for m in study.levels]
    return [
        (
            "Density (mg/cm³, with its standard)",
            [f"{density_words(d.mg_cm3, study.thresholds)} {d.standard}" for d in densities],
        ),
        ("90 % interval", [f"{d.interval_low:.1f} to {d.interval_high:.1f}" for d in densities]),
    ]


def _hounsfield(levels: tuple[LevelMeasurement, ...]) -> _Group:
    return [
        ("Mean HU", [signed_words(m.hu.mean) for m in levels]),
        ("Median HU", [signed_words(m.hu.median) for m in levels]),
        ("Standard deviation HU", [signed_words(m.hu.sd) for m in levels]),
        ("10th to 90th percentile HU", [f"{signed_words(m.hu.p10)} to {signed_words(m.hu.p90)}" for m in levels]),
    ]


def _region(levels: tuple[LevelMeasurement, ...]) -> _Group:
    return [
        ("Trabecular region, rule", [m.region_name for m in levels]),
        ("Region, voxels", [f"{m.region_voxels}" for m in levels]),
        ("Region, volume (cm³)", [f"{m.region_volume_cm3:.2f}" for m in levels]),
        ("Region, area on the centre slice (mm²)", [f"{m.region_area_mm2:.0f}" for m in levels]),
    ]


def _body(levels: tuple[LevelMeasurement, ...]) -> _Group:
    return [
        ("Body, volume (cm³)", [f"{m.body_volume_cm3:.1f}" for m in levels]),
        ("Body, height (mm)", [f"{m.height_mm:.1f}" for m in levels]),
    ]


def _position(study: CTStudy) -> _Group:
    levels = study.levels
    runner_up = {located.level: located.runner_up for located in study.result.levels_found}
    names = [percent_words(m.certainty) + (f" ({up})" if (up := runner_up.get(m.level)) else "") for m in levels]
    return [
        ("Certainty of the name (runner-up)", names),
        ("Centre slice (lowest slice is 0)", [f"{m.slice_index}" for m in levels]),
        ("DICOM InstanceNumber", [missing_words(m.instance_number) for m in levels]),
        ("Centre (mm; right, anterior, superior)", [point_words(m.centre_mm) for m in levels]),
    ]


SECTION = Section(
    _values,
    """\
<section class="stamp" aria-labelledby="levels">
  <h2 id="levels">Measurements per level</h2>
  <table class="levels">
    <thead><tr><th scope="col">Quantity</th>\
{% for name in names %}<th scope="col" class="n">{{ name }}</th>{% endfor %}</tr></thead>
    <tbody>
    {% for quantity, values, first in rows %}
      <tr{% if first %} class="first"{% endif %}><th scope="row">{{ quantity }}</th>\
{% for value in values %}<td class="n">{{ value }}</td>{% endfor %}</tr>
    {% endfor %}
    </tbody>
  </table>
</section>
""",
)
