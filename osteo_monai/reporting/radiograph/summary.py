"""Risk, cut-off and combined risk, above the findings."""

from osteo_monai.reporting.radiograph.study import RadiographStudy
from osteo_monai.reporting.section import Section
from osteo_monai.reporting.wording import MINUS, RISK_NAMES, chance_words
from osteo_monai.screening.result import RadiographRisk, RiskOpinion

__all__ = ["SECTION", "interval_sentence"]


def _values(study: RadiographStudy) -> dict[str, object] | None:
    if not study.measured:
        return None
    if study.reading is None:
        return {"boxes": None}
    boxes = [_risk_box(study.reading.risk), _cutoff_box(study.reading.risk), _combined_box(study.reading)]
    return {"boxes": boxes, "population": _population(study.reading.risk)}


def interval_sentence(risk: RiskOpinion) -> str:
    """Return the 90 % interval of a risk."""
    if risk.low is None or risk.high is None:
        return "No interval is given."
    return f"90 % interval {chance_words(risk.low)} to {chance_words(risk.high)}"


def _risk_box(risk: RiskOpinion) -> dict[str, str]:
    name = RISK_NAMES[risk.name]
    if risk.probability is None:
        note = "Network output, 0 to 1: not a probability; no interval or cut-off is available."
        return {"heading": "Score, not calibrated", "value": f"{risk.score:.2f}", "text": note}
    return {
        "heading": f"Risk of osteoporosis, {name[0].lower()}{name[1:]}",
        "value": chance_words(risk.probability, risk.cutoff),
        "text": interval_sentence(risk),
    }


def _cutoff_box(risk: RiskOpinion) -> dict[str, str]:
    box = {"heading": "Against the screening cut-off", "value": "None", "text": "No cut-off is available."}
    if risk.cutoff is None or risk.probability is None:
        return box
    note = (
        f"Cut-off {chance_words(risk.cutoff)}, reached by 90 % of the people with osteoporosis in the calibration "
        "cohort."
    )
    if risk.low is not None and risk.high is not None and risk.low < risk.cutoff <= risk.high:
        note += " The 90 % interval includes it."
    if risk.raised:
        return box | {"value": "Raised", "text": f"{note} Confirm by DXA.", "kind": "raised"}
    return box | {"value": "Not raised", "text": f"{note} 10 % did not reach it: osteoporosis is not excluded."}


def _combined_box(reading: RadiographRisk) -> dict[str, str]:
    heading = "With age, sex, height and weight"
    risk = reading.combined
    if risk is None:
        return {"heading": heading, "value": "Not given", "text": reading.combined_absent or ""}
    if risk.probability is None:
        return {"heading": f"{heading}: score", "value": f"{risk.score:.2f}", "text": "Not calibrated."}
    raised = {True: "raised", False: "not raised", None: "no cut-off is available"}[risk.raised]
    cutoff = "" if risk.cutoff is None else f" at its cut-off of {chance_words(risk.cutoff)}"
    return {
        "heading": heading,
        "value": chance_words(risk.probability, risk.cutoff),
        "text": f"{interval_sentence(risk)}; {raised}{cutoff}.",
    }


def _population(risk: RiskOpinion) -> str:
    if risk.prevalence is None or risk.people is None:
        return ""
    people = "virtual people" if risk.virtual else "people"
    return (
        f"The risk is that of {people} with the same network output in a calibration cohort of {risk.people}, of whom "
        f"{chance_words(risk.prevalence)} had osteoporosis (DXA, T-score of {MINUS}2.5 or less). "
        "At a lower prevalence the same radiograph means a lower risk, at a higher prevalence a higher risk. "
        "The interval is that of the mean risk at this output, not of one person or another hospital."
    )


SECTION = Section(
    _values,
    """\
{% if boxes is none %}
<p>This result has no risk.</p>
{% else %}
<dl class="key" aria-label="Result">
{% for box in boxes %}
  <div>
    <dt>{{ box.heading }}</dt>
    <dd class="value{{ " " ~ box.kind if box.kind is defined }}">{{ box.value }}</dd>
    <dd><p>{{ box.text }}</p></dd>
  </div>
{% endfor %}
</dl>
{% if population %}
<p class="small">{{ population }}</p>
{% endif %}
{% endif %}
""",
    headline=True,
)
