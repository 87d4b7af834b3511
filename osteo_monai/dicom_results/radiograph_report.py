"""Structured report of evaluated radiographs."""

from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes

from osteo_monai.dicom_results.codes import CHEST, LUMBAR_SPINE, RAISED, RISK, SCORE
from osteo_monai.dicom_results.report import (
    Group,
    add_evaluations,
    content,
    image_reference,
    report,
    tracking_of,
    with_interval,
)
from osteo_monai.dicom_results.source import Source
from osteo_monai.domain import View
from osteo_monai.reporting.wording import RISK_NAMES
from osteo_monai.screening.result import RadiographRisk, RiskOpinion, ScreeningResult

__all__ = ["radiograph_report"]

_YES_NO = {True: codes.SCT.Yes, False: codes.SCT.No}


def radiograph_report(result: ScreeningResult, risk: RadiographRisk, source: Source) -> Dataset:
    """Return the report of the risks: one group each, with its images; the primary one is the first."""
    others = [*risk.views, *(o for o in (risk.combined, risk.clinical) if o is not None)]
    root = content([_group(opinion, risk, source) for opinion in (risk.risk, *others)], result)
    absent = [text for text in (risk.combined_absent, risk.clinical_absent) if text]
    notes = [*_notes(risk.risk), *absent, f"Models trained on: {risk.trained_on}"]
    raised = [] if risk.risk.raised is None else [(RAISED, _YES_NO[risk.risk.raised])]
    add_evaluations(root, result, raised, notes)
    return report(root, source)


def _group(opinion: RiskOpinion, risk: RadiographRisk, source: Source) -> Group:
    views = {r.view: source.find(r.sop_instance_uid) for r in risk.radiographs}
    of_one_view = {view: image for view, image in views.items() if view == opinion.name}
    images = [image for image in (of_one_view or views).values() if image is not None]
    references = [image_reference(image.header) for image in images] if opinion.name != "clinical" else []
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking_of(source, RISK_NAMES[opinion.name]),
        finding_sites=[sr.FindingSite(CHEST if View.CHEST_FRONTAL in views else LUMBAR_SPINE)],
        measurements=_measurements(opinion, references),
        qualitative_evaluations=[]
        if opinion.raised is None
        else [sr.QualitativeEvaluation(RAISED, _YES_NO[opinion.raised])],
    )


def _measurements(opinion: RiskOpinion, images: list[sr.SourceImageForMeasurement]) -> list[sr.Measurement]:
    if opinion.probability is None:
        return with_interval(
            SCORE, round(opinion.score, 4), None, codes.UCUM.NoUnits, decimals=4, referenced_images=images
        )
    interval = None if opinion.low is None or opinion.high is None else (opinion.low, opinion.high)
    return with_interval(RISK, _shown(opinion), interval, codes.UCUM.NoUnits, decimals=4, referenced_images=images)


def _shown(opinion: RiskOpinion) -> float:
    """Return the probability with as many decimals as keep it on its side of the cut-off."""
    probability = float(opinion.probability or 0.0)
    for decimals in (4, 6, 8, 10):
        value = round(probability, decimals)
        if opinion.cutoff is None or (value >= opinion.cutoff) == (probability >= opinion.cutoff):
            return value
    return probability


def _notes(opinion: RiskOpinion) -> list[str]:
    if opinion.probability is None:
        return ["The model is not calibrated: its output is no probability."]
    notes = ["The interval is that of the mean risk of people with the same image, not of one person."]
    if opinion.cutoff is not None:
        notes.append(f"Cut-off {opinion.cutoff:.4g} ({opinion.cutoff_rule or 'rule not stated'}).")
    if opinion.prevalence is not None and opinion.people is not None:
        kind = "virtual people" if opinion.virtual else "people"
        notes.append(
            f"Calibrated on {opinion.people} {kind}, of whom a share of {opinion.prevalence:.3g} had osteoporosis; at "
            "another prevalence the risk is another."
        )
    return notes
