"""Results as a FHIR bundle: Observations, and a DiagnosticReport that refers to them (R4 and R5)."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from osteo_monai.dicom_results.options import FhirRelease
from osteo_monai.dicom_results.terms import SCHEME, STATUS_CODES, VERTEBRA_CODES
from osteo_monai.domain import BoneStatus, DensityThresholds, Severity
from osteo_monai.reporting.wording import RISK_NAMES, density_words
from osteo_monai.screening.result import Density, LevelMeasurement, RiskOpinion, ScreeningResult

__all__ = ["CODE_SYSTEM", "fhir_bundle"]

Json: TypeAlias = dict[str, Any]

CODE_SYSTEM = "https://github.com/osteo-monai/osteo-monai/blob/main/docs/dicom_results.md"
"""System of the codes that no terminology has; the same codes as in DICOM."""

_SNOMED, _UCUM, _LOINC = "http://snomed.info/sct", "http://unitsofmeasure.org", "http://loinc.org"
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_NAMESPACE = UUID("0d0d8f10-34b8-5f5f-8a5f-6e2f1c9f5a11")
"""Of this project; made once at random."""


def fhir_bundle(
    result: ScreeningResult,
    release: FhirRelease = "R4",
    patient_id: str = "",
    accession: str = "",
    created: datetime | None = None,
) -> Json:
    """Return a bundle of type ``collection``; resources have the same ids whenever the result is the same.

    Args:
        result: of the study; a refused one gives an Observation without value, and the reasons.
        release: R4 or R5, which name the reference to the imaging study differently.
        patient_id, accession: of the source, for the reference to the patient and the request; no name is written.
        created: with a time zone; the bundle has no date of issue if ``None``.
    """
    facts = result.model_dump(mode="json", exclude={"study", "seconds", "run"})
    seed = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    shared = _shared(result, patient_id)
    measured = result.verdict in ("accepted", "accepted_with_warnings")
    if measured and result.density is not None:
        observations = _of_ct(result, result.density)
    elif measured and result.radiograph is not None:
        others = [*result.radiograph.views, result.radiograph.combined, result.radiograph.clinical]
        opinions = [result.radiograph.risk, *(o for o in others if o is not None)]
        observations = [_risk(opinion) for opinion in opinions]
    else:
        observations = [_refusal(result)]
    observations = [shared | observation for observation in observations]
    urls = [f"urn:uuid:{uuid5(_NAMESPACE, f'{seed} {number}')}" for number in range(len(observations) + 1)]
    members = [{"reference": url} for url in urls[1:-1]]
    if measured and result.density is not None and members:
        observations[0]["hasMember"] = members[: len(result.levels)]
    report = _report(result, shared, release, accession, urls[:-1])
    if created is not None:
        report["issued"] = created.isoformat(timespec="seconds")
    entries = [
        {"fullUrl": url, "resource": resource} for url, resource in zip(urls, [*observations, report], strict=True)
    ]
    bundle: Json = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    if created is not None:
        bundle["timestamp"] = created.isoformat(timespec="seconds")
    return bundle


def _shared(result: ScreeningResult, patient_id: str) -> Json:
    """Return what all Observations have in common."""
    from osteo_monai.dicom_results.version import software_version

    models = [{"value": f"{m.bundle} {m.version}, weights SHA-256 {m.weights_sha256}"} for m in result.models]
    device = {
        "resourceType": "Device",
        "id": "software",
        "manufacturer": "osteo_monai contributors",
        "modelNumber": "osteo_monai",
        "version": [{"value": software_version()}, *models],
    }
    shared: Json = {
        "resourceType": "Observation",
        "contained": [device],
        "status": "preliminary",
        "category": [{"coding": [{"system": _CATEGORY, "code": "imaging"}]}],
        "device": {"reference": "#software"},
    }
    if patient_id:
        shared["subject"] = {"type": "Patient", "identifier": {"value": patient_id}}
    source = result.source
    if source is not None and source.study_date is not None:
        shared["effectiveDateTime"] = source.study_date.isoformat()
    if source is not None and source.study_instance_uid:
        shared["derivedFrom"] = [_imaging_study(source.study_instance_uid)]
    return shared


def _imaging_study(uid: str) -> Json:
    return {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}


def _own(code: str, text: str) -> Json:
    return {"coding": [{"system": CODE_SYSTEM, "code": f"{SCHEME}-{code}", "display": text}], "text": text}


def _snomed(code: str, text: str) -> Json:
    return {"coding": [{"system": _SNOMED, "code": code, "display": text}], "text": text}


def _quantity(value: float, unit: str) -> Json:
    return {"value": value, "unit": unit, "system": _UCUM, "code": unit}


def _component(code: str, text: str, value: float, unit: str) -> Json:
    return {"code": _own(code, text), "valueQuantity": _quantity(value, unit)}


def _of_ct(result: ScreeningResult, density: Density) -> list[Json]:
    """Return the mean first, then the levels, the corrected density and the class."""
    levels = [_level(level, result) for level in result.levels]
    mean = _density(density, result, "VBMD", "Trabecular volumetric bone mineral density, mean of the levels")
    mean["note"] = _notes(result)
    observations = [mean, *levels]
    if result.contrast is not None:
        text = "Trabecular density corrected for contrast agent, mean of the levels"
        observations.append(_density(result.contrast.density, result, "VBMD_C", text))
    if result.status is not None:
        observations.append(_class(result.status, result.thresholds))
    return observations


def _density(value: Density, result: ScreeningResult, code: str, text: str) -> Json:
    thresholds = result.thresholds or DensityThresholds()
    standard = value.standard
    observation: Json = {
        "code": _own(code, f"{text} ({standard})"),
        "valueQuantity": _quantity(float(density_words(value.mg_cm3, thresholds)), "mg/cm3"),
        "component": [
            _component("LOW", "Lower limit of the 90 % interval", round(value.interval_low, 1), "mg/cm3"),
            _component("HIGH", "Upper limit of the 90 % interval", round(value.interval_high, 1), "mg/cm3"),
        ],
    }
    if result.calibration is not None:
        used = result.calibration
        text = (
            f"Calibration {used.method}: density = {used.slope:.5g} * HU {used.intercept:+.5g} mg/cm3 {used.standard}"
        )
        observation["method"] = {"text": text}
    return observation


def _level(level: LevelMeasurement, result: ScreeningResult) -> Json:
    observation = _density(level.density, result, "VBMD", "Trabecular volumetric bone mineral density")
    observation["bodySite"] = _snomed(*VERTEBRA_CODES[level.level])
    hu = (
        ("HU_MEAN", "Mean HU", level.hu.mean),
        ("HU_MEDIAN", "Median HU", level.hu.median),
        ("HU_SD", "Standard deviation HU", level.hu.sd),
    )
    observation["component"] += [_component(code, text, round(value, 1), "[hnsf'U]") for code, text, value in hu]
    volume = round(level.region_volume_cm3, 3)
    observation["component"].append(_component("VOLUME", "Volume of the trabecular region", volume, "cm3"))
    return observation


def _class(status: BoneStatus, thresholds: DensityThresholds | None) -> Json:
    observation: Json = {
        "code": _own("CLASS", "Bone density class"),
        "valueCodeableConcept": _snomed(*STATUS_CODES[status]),
    }
    if thresholds is not None:
        text = (
            f"Osteoporosis below {thresholds.osteoporosis_below:g}, normal above {thresholds.normal_above:g} mg/cm3 "
            f"{thresholds.standard} ({thresholds.source})"
        )
        observation["method"] = {"text": text}
    return observation


def _risk(opinion: RiskOpinion) -> Json:
    name = RISK_NAMES[opinion.name]
    if opinion.probability is None:
        text = f"Output of the network, not calibrated: {name}"
        return {"code": _own("SCORE", text), "valueQuantity": _quantity(round(opinion.score, 4), "1")}
    observation: Json = {
        "code": _own("RISK", f"Probability of osteoporosis by DXA: {name}"),
        "valueQuantity": _quantity(round(opinion.probability, 6), "1"),
    }
    limits = (
        ("LOW", "Lower limit of the 90 % interval", opinion.low),
        ("HIGH", "Upper limit of the 90 % interval", opinion.high),
        ("CUTOFF", "Cut-off", opinion.cutoff),
    )
    components = [_component(code, text, round(value, 6), "1") for code, text, value in limits if value is not None]
    if opinion.raised is not None:
        components.append(
            {"code": _own("RAISED", "Probability at or above the cut-off"), "valueBoolean": opinion.raised}
        )
    if components:
        observation["component"] = components
    return observation


def _refusal(result: ScreeningResult) -> Json:
    name = (
        ("VBMD", "Bone density measurement")
        if result.modality == "ct"
        else ("RISK", "Estimate of the risk of osteoporosis")
    )
    return {
        "code": _own(*name),
        "dataAbsentReason": {
            "coding": [{"system": _ABSENT, "code": "not-performed"}],
            "text": " ".join(_reasons(result)),
        },
        "note": _notes(result),
    }


def _reasons(result: ScreeningResult) -> list[str]:
    return [finding.message for finding in result.findings if finding.severity is Severity.REFUSAL]


def _notes(result: ScreeningResult) -> list[Json]:
    shown = [f.message for f in result.findings if f.severity is not Severity.INFO]
    return [{"text": text} for text in (*shown, result.research_use_notice)]


def _report(
    result: ScreeningResult, shared: Json, release: FhirRelease, accession: str, observations: Sequence[str]
) -> Json:
    report: Json = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "code": {"coding": [{"system": _LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}]},
        "result": [{"reference": url} for url in observations],
        "conclusion": _conclusion(result),
    }
    report |= {key: shared[key] for key in ("subject", "effectiveDateTime") if key in shared}
    if result.status is not None and result.verdict in ("accepted", "accepted_with_warnings"):
        report["conclusionCode"] = [_snomed(*STATUS_CODES[result.status])]
    if "derivedFrom" in shared:
        report["imagingStudy" if release == "R4" else "study"] = shared["derivedFrom"]
    if accession:
        kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
        report["basedOn"] = [{"type": "ServiceRequest", "identifier": {"type": kind, "value": accession}}]
    return report


def _conclusion(result: ScreeningResult) -> str:
    from osteo_monai.dicom_results.sentences import one_sentence

    return f"{one_sentence(result)} {result.research_use_notice}"
