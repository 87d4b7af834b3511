"""Comparison of the HU line with the other methods, and the Grad-CAM map of the classifier."""

from osteo_monai.domain import DensityThresholds
from osteo_monai.reporting.ct.study import CTStudy
from osteo_monai.reporting.figures import activation_picture
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import density_words, signed_words
from osteo_monai.screening.result import Opinion, OpinionName
from osteo_monai.utils.text import percent_words

__all__ = ["SECTION"]

_METHODS: dict[OpinionName, tuple[str, str, str]] = {
    "hu_line": ("HU line", "median HU of the trabecular regions and a line to mg/cm³ (see below)", "no training"),
    "density_regression": (
        "Density regression",
        "DenseNet on five slices of each body and its surroundings; adapts the line to the scan",
        "unknown",
    ),
    "classifier": ("Classifier", "ResNet on the middle slices of both bodies, masked (Pan 2024)", "unknown"),
    "hu_rule": (
        "HU rule of L1",
        "mean HU of L1 against cut-offs; not independent of the line, which uses the same HU",
        "no training; published against DXA",
    ),
}
"""Name, how it is computed, and the training data if the result does not record them."""

_COMPARISONS = ("opinions_differ", "opinions_borderline", "opinions_agree")


def _values(study: CTStudy) -> dict[str, object] | None:
    result = study.result
    if not study.measured or not result.opinions:
        return None
    by_name = {o.name: o for o in result.opinions}
    activation = study.images.activation if study.images is not None and "classifier" in by_name else None
    return {
        "heading": "Comparison of methods",
        "rows": [
            _row(by_name[name], study.thresholds)
            if name in by_name
            else {"title": _METHODS[name][0], "absent": result.opinions_absent.get(name, "It was not run.")}
            for name in _METHODS
        ],
        "comparison": next((f.message for f in result.findings if f.code in _COMPARISONS), None),
        "trained": any(o.bundle for o in result.opinions),
        "picture": None if activation is None else activation_picture(activation),
    }


def _row(opinion: Opinion, thresholds: DensityThresholds | None) -> dict[str, object]:
    title, method, trained_on = _METHODS[opinion.name]
    return {
        "title": title,
        "absent": None,
        "status": str(opinion.status or "none").capitalize(),
        "probabilities": _probabilities(opinion),
        "density": _density(opinion, thresholds),
        "method": method,
        "note": opinion.note,
        "trained_on": opinion.trained_on or trained_on,
    }


def _probabilities(opinion: Opinion) -> str:
    if opinion.probabilities is None:
        return ""
    parts = ", ".join(f"{status} {percent_words(p)}" for status, p in opinion.probabilities.items())
    return parts.replace(" %", "\N{NO-BREAK SPACE}%")


def _density(opinion: Opinion, thresholds: DensityThresholds | None) -> list[str]:
    """Return density, interval and levels, or the HU of the rule, one line each."""
    density = opinion.density
    if density is None:
        return ["none" if opinion.l1_hu is None else f"L1 {signed_words(opinion.l1_hu)} HU"]
    levels = opinion.level_densities.items()
    return [
        f"{density_words(density.mg_cm3, thresholds)} mg/cm³ {density.standard}",
        f"90 % interval {density.interval_low:.1f} to {density.interval_high:.1f}",
        ", ".join(f"{level} {density_words(d.mg_cm3, thresholds)}" for level, d in levels),
    ]


SECTION = Section(
    _values,
    """\
<section aria-labelledby="opinions">
  <h2 id="opinions">{{ heading }}</h2>
  {% if comparison %}
  <p>{{ comparison }}</p>
  {% endif %}
  <table class="opinions">
    <thead><tr><th scope="col">Method</th><th scope="col">Class</th><th scope="col">Density</th>\
<th scope="col">How it is computed</th><th scope="col">Trained on</th></tr></thead>
    <tbody>
    {% for row in rows %}
    {% if row.absent is not none %}
      <tr><th scope="row">{{ row.title }}</th><td colspan="4" class="absent">No opinion. {{ row.absent }}</td></tr>
    {% else %}
      <tr><th scope="row">{{ row.title }}</th>\
<td><b>{{ row.status }}</b>{% if row.probabilities %}<span>{{ row.probabilities }}</span>{% endif %}</td>\
<td>{% for line in row.density if line %}\
{% if loop.first %}<b>{{ line }}</b>{% else %}<span>{{ line }}</span>{% endif %}{% endfor %}</td>\
<td>{{ row.method }}{% if row.note %}<span>{{ row.note }}</span>{% endif %}</td><td>{{ row.trained_on }}</td></tr>
    {% endif %}
    {% endfor %}
    </tbody>
  </table>
  <p class="small">Class and density of this report are those of the HU line; the other methods do not change them.\
{% if trained %} The networks were trained on the data in the last column: results on virtual patients do not show \
accuracy in real patients.{% endif %}</p>
  {% if picture is not none %}
  {{ figure(picture) }}
  {% endif %}
</section>
""",
)
