"""A result in one sentence without identifiers."""

from osteo_monai.domain import Severity
from osteo_monai.reporting.wording import chance_words, density_words
from osteo_monai.screening.result import ScreeningResult

__all__ = ["one_sentence"]


def one_sentence(result: ScreeningResult) -> str:
    """Return density and class, risk, or the reasons of a refusal."""
    measured = result.verdict in ("accepted", "accepted_with_warnings")
    if measured and result.density is not None:
        value = result.density
        status = "" if result.status is None else f", {result.status}"
        return (
            f"Trabecular density {density_words(value.mg_cm3, result.thresholds)} mg/cm3 {value.standard} "
            f"(90 % interval {value.interval_low:.0f} to {value.interval_high:.0f}){status}."
        )
    if measured and result.radiograph is not None:
        risk = result.radiograph.risk
        if risk.probability is None:
            return f"Risk of osteoporosis not calibrated, score {risk.score:.2f}."
        raised = {True: ", raised", False: ", not raised", None: ""}[risk.raised]
        return f"Risk of osteoporosis {chance_words(risk.probability, risk.cutoff)}{raised}."
    reasons = [finding.message for finding in result.findings if finding.severity is Severity.REFUSAL]
    return f"Not measured. {' '.join(reasons)}"
