"""Table of the texture of the trabecular regions, if it was requested."""

from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import MINUS
from osteo_monai.screening.result import TextureMeasurement

__all__ = ["SECTION"]

_WORDS = {
    "first_order": "First-order statistics",
    "first_order_mean": "Mean",
    "first_order_sd": "Standard deviation",
    "first_order_skewness": "Skewness",
    "first_order_kurtosis": "Kurtosis",
    "first_order_p10": "10th percentile",
    "first_order_p90": "90th percentile",
    "first_order_entropy": "Entropy",
    "glcm": "Co-occurrence",
    "microarchitecture": "Microarchitecture",
    "bv_tv": "Apparent BV/TV",
    "tb_n": "Apparent Tb.N",
    "tb_th": "Apparent Tb.Th",
    "tb_sp": "Apparent Tb.Sp",
}


def _values(study: CTStudy) -> dict[str, object] | None:
    """Rows (feature, unit, one value per level), and each reason once, with the group and its levels."""
    texture = study.result.texture if study.measured else ()
    if not texture:
        return None
    units = {feature.name: feature.unit for of_level in texture for feature in of_level.features}
    values = [{feature.name: _number(feature.value) for feature in of_level.features} for of_level in texture]
    rows = [
        (_words(name), "" if unit == "1" else unit, [of_level.get(name, "") for of_level in values])
        for name, unit in units.items()
    ]
    return {"names": [str(of_level.level) for of_level in texture], "rows": rows, "reasons": _reasons(texture)}


def _words(name: str) -> str:
    if name in _WORDS:
        return _WORDS[name]
    return f"Co-occurrence, {name.removeprefix('glcm_').replace('_', ' ')}"


def _number(value: float) -> str:
    """Return three significant digits, and all digits before the point."""
    text = f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.3g}"
    return text.replace("-", MINUS)


def _reasons(texture: tuple[TextureMeasurement, ...]) -> list[tuple[str, str, str]]:
    levels: dict[tuple[str, str], list[str]] = {}
    for of_level in texture:
        for group, reason in of_level.not_computed.items():
            levels.setdefault((group, reason), []).append(str(of_level.level))
    return [(_words(group), " and ".join(names), reason) for (group, reason), names in levels.items()]


SECTION = Section(
    _values,
    """\
<section class="stamp" aria-labelledby="texture">
  <h2 id="texture">Texture of the trabecular region</h2>
  {% if rows %}
  <table class="levels">
    <thead><tr><th scope="col">Feature</th>\
{% for name in names %}<th scope="col" class="n">{{ name }}</th>{% endfor %}</tr></thead>
    <tbody>
    {% for feature, unit, values in rows %}
      <tr><th scope="row">{{ feature }}{% if unit %} ({{ unit }}){% endif %}</th>\
{% for value in values %}<td class="n">{{ value }}</td>{% endfor %}</tr>
    {% endfor %}
    </tbody>
  </table>
  {% endif %}
  {% for group, levels, reason in reasons %}
  <p>{{ group }} ({{ levels }}): not computed. {{ reason }}</p>
  {% endfor %}
  <p>Values depend on scanner and protocol; compare only scans of one protocol.</p>
</section>
""",
)
