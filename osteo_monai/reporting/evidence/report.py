"""The evidence report: one self-contained HTML file, with figures and tables as files."""

from collections.abc import Callable
from pathlib import Path

from osteo_monai.reporting.drawing import Picture
from osteo_monai.reporting.environment import render
from osteo_monai.reporting.evidence.analysis import FEW_STUDIES, Evidence, build_evidence
from osteo_monai.reporting.evidence.options import EvidenceOptions
from osteo_monai.reporting.evidence.own import OwnComparison
from osteo_monai.reporting.evidence.pictures import draw_evidence
from osteo_monai.reporting.evidence.tables import summary_quantities, write_tables
from osteo_monai.statistics.meta_analysis import METHODS
from osteo_monai.statistics.meta_analysis.influence import INFLUENTIAL
from osteo_monai.statistics.meta_analysis.reference import (
    WANG_2025,
    WANG_2025_CONTRADICTIONS,
    auc_interval_checks,
    fagan_check,
    subgroup_checks,
)
from osteo_monai.statistics.proportions import Interval
from osteo_monai.utils.files import write_text

__all__ = ["write_evidence"]

_SHORT_METHODS = {"binomial": "exact binomial", "reml": "normal, REML", "ml": "normal, ML"}


def write_evidence(
    options: EvidenceOptions, output: Path, version: str = "", on_stage: Callable[[str], None] = lambda _: None
) -> Evidence:
    """Analyse the evidence and write ``report.html``, ``evidence.json``, CSV and LaTeX tables, and ``figures/``.

    Args:
        options: files and settings.
        output: folder, made if missing; files of the same names are replaced.
        version: program version, printed in the report.
        on_stage: called with the name of each stage.

    Raises:
        UnusableInputError: if an input file cannot be used; nothing is written then.
        OSError: if ``output`` cannot be written.
    """
    on_stage("reading and fitting")
    evidence = build_evidence(options)
    on_stage("tables")
    write_tables(evidence, output)
    on_stage("figures")
    pictures = draw_evidence(evidence, output / "figures")
    on_stage("report")
    write_text(output / "report.html", render("evidence.html.j2", _values(evidence, pictures, version)))
    return evidence


def _values(evidence: Evidence, pictures: dict[str, Picture], version: str) -> dict[str, object]:
    options = evidence.options
    return {
        "own": [_own_values(own, options.prevalence) for own in evidence.own.values()],
        "targets": [
            {
                "it": target,
                "rows": [] if target.fit is None else summary_quantities(target, target.fit, options.prevalence),
            }
            for target in evidence.targets.values()
        ],
        "pictures": pictures,
        "options": options,
        "method_name": METHODS[options.method],
        "short_methods": _SHORT_METHODS,
        "review": _review_values() if options.reference is not None else None,
        "pooled": any(target.fit is not None for target in evidence.targets.values()),
        "clustered": any(target.clusters is not None for target in evidence.targets.values()),
        "few_studies": FEW_STUDIES,
        "influential": INFLUENTIAL,
        "version": version,
        "source": options.studies.name if options.studies else "",
    }


def _review_values() -> dict[str, object]:
    return {
        "pooled": WANG_2025,
        "fagan": fagan_check(),
        "subgroup_checks": subgroup_checks(),
        "auc_checks": auc_interval_checks(),
        "contradictions": WANG_2025_CONTRADICTIONS,
    }


def _own_values(own: OwnComparison, prevalence: float) -> dict[str, object]:
    positive, negative = own.accuracy_ratios.post_test(prevalence)
    pooled = own.reference.point.post_test(prevalence) if own.reference else None
    return {"it": own, "verdict": _verdict(own), "positive": positive, "negative": negative, "pooled": pooled}


def _verdict(own: OwnComparison) -> str:
    if own.differences is None:
        return ""
    sensitivity, specificity = own.differences
    text = f"{_position(sensitivity, 'sensitivity')}; {_position(specificity, 'specificity')}."
    return text[0].upper() + text[1:]


def _position(difference: Interval, quantity: str) -> str:
    if difference.low > 0:
        return f"{quantity} is above the mean of the review"
    if difference.high < 0:
        return f"{quantity} is below the mean of the review"
    return f"{quantity} does not differ significantly from the mean of the review"
