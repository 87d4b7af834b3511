"""All risks on one scale and in one table."""

from osteo_monai.reporting.figures import risk_picture
from osteo_monai.reporting.radiograph.study import RadiographStudy
from osteo_monai.reporting.radiograph.summary import interval_sentence
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import RISK_NAMES, TIMES, chance_words
from osteo_monai.screening.result import RadiographRisk, RiskModelName, RiskOpinion

__all__ = ["SECTION"]

_METHODS: dict[RiskModelName, str] = {
    "chest_frontal": f"network on 6 {TIMES} 6 patches of the radiograph (Li 2026)",
    "lumbar_ap": "network on the whole radiograph (Boonrod 2025)",
    "lumbar_lateral": "network on the whole radiograph (Boonrod 2025)",
    "fused": "mean of the logits of both views",
    "combined": "boosted trees on age, sex, height, weight and the network output (Li 2026)",
    "clinical": "boosted trees on age, sex, height and weight",
}


def _values(study: RadiographStudy) -> dict[str, object] | None:
    reading, opinions = study.reading, study.opinions
    if reading is None:
        return None
    calibrated = any(o.probability is not None for o in opinions)
    return {
        "scale": risk_picture(opinions) if calibrated else None,
        "rows": [_row(o) for o in opinions],
        "absent": _absent(reading),
        "trained_on": reading.trained_on.rstrip(". ") + ".",
    }


def _row(risk: RiskOpinion) -> dict[str, str]:
    calibrated = risk.probability is not None
    people = "" if risk.people is None else f"{risk.people} {'virtual people' if risk.virtual else 'people'}"
    return {
        "name": RISK_NAMES[risk.name],
        "risk": chance_words(risk.probability, risk.cutoff) if risk.probability is not None else "not calibrated",
        "interval": interval_sentence(risk) if calibrated else "",
        "cutoff": "none" if risk.cutoff is None else chance_words(risk.cutoff),
        "raised": {True: "raised", False: "not raised", None: ""}[risk.raised],
        "score": f"{risk.score:.3f}",
        "method": _METHODS[risk.name],
        "cohort": people or "none",
        "prevalence": "" if risk.prevalence is None else f"{chance_words(risk.prevalence)} with osteoporosis",
    }


def _absent(reading: RadiographRisk) -> list[tuple[str, str]]:
    rows = (
        (RISK_NAMES["clinical"], reading.clinical, reading.clinical_absent),
        (RISK_NAMES["combined"], reading.combined, reading.combined_absent),
    )
    return [(name, reason) for name, risk, reason in rows if risk is None and reason]


SECTION = Section(
    _values,
    """\
<section class="stamp" aria-labelledby="risks">
  <h2 id="risks">{% if scale is not none %}Risks of all models{% else %}Scores{% endif %}</h2>
  {% if scale is not none %}
  {{ figure(scale) }}
  {% endif %}
  <table class="risks">
    <thead><tr><th scope="col">Input</th><th scope="col">Risk</th><th scope="col">Cut-off</th>\
<th scope="col">Output</th><th scope="col">How it is computed</th><th scope="col">Calibrated on</th></tr></thead>
    <tbody>
    {% for row in rows %}
      <tr><th scope="row">{{ row.name }}</th>\
<td><b>{{ row.risk }}</b>{% if row.interval %}<span>{{ row.interval }}</span>{% endif %}</td>\
<td>{{ row.cutoff }}{% if row.raised %}<span>{{ row.raised }}</span>{% endif %}</td>\
<td>{{ row.score }}</td><td>{{ row.method }}</td>\
<td>{{ row.cohort }}{% if row.prevalence %}<span>{{ row.prevalence }}</span>{% endif %}</td></tr>
    {% endfor %}
    {% for name, reason in absent %}
      <tr><th scope="row">{{ name }}</th><td colspan="5" class="absent">No risk. {{ reason }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  <p class="small">Network trained on: {{ trained_on }} Results on virtual patients do not show accuracy in real \
patients. A raised risk is not a diagnosis and should be confirmed by DXA; a risk that is not raised does not exclude \
osteoporosis.</p>
</section>
""",
)
