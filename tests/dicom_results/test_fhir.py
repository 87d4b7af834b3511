"""FHIR resources are valid in their release and hold what the result holds."""

import importlib
import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pydicom
import pytest

from osteo_monai.dicom_results import FurtherFiles, Outputs, fhir_bundle
from osteo_monai.dicom_results.options import FhirRelease
from osteo_monai.screening import Screening, ScreeningResult

from .conftest import CREATED, NAME, PATIENT_ID, STUDY_UID, Case, MakeCase, density, refused

RELEASES: tuple[FhirRelease, ...] = ("R4", "R5")


def check(bundle: dict[str, Any], release: str) -> None:
    """Validate a bundle and its resources; R4B is R4 with changes in other resources."""
    package = "fhir.resources.R4B" if release == "R4" else "fhir.resources"
    text = json.dumps(bundle)
    importlib.import_module(f"{package}.bundle").Bundle.model_validate_json(text)
    for entry in bundle["entry"]:
        kind = entry["resource"]["resourceType"]
        model = getattr(importlib.import_module(f"{package}.{kind.lower()}"), kind)
        model.model_validate_json(json.dumps(entry["resource"]))


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


@pytest.mark.parametrize("release", RELEASES)
def test_a_measured_ct(make_case: MakeCase, release: FhirRelease) -> None:
    case = make_case()
    bundle = fhir_bundle(case.screening.result, release, PATIENT_ID, "ACC1", CREATED.astimezone(UTC))
    check(bundle, release)
    mean, l1, l2, status = resources(bundle, "Observation")
    assert [o["valueQuantity"]["value"] for o in (mean, l1, l2)] == [77.0, 79.97, 74.0]
    assert l1["valueQuantity"]["code"] == "mg/cm3"
    assert [c["valueQuantity"]["value"] for c in l1["component"]][:2] == [64.0, 96.0]
    assert l1["bodySite"]["coding"][0]["code"] == "66794005"
    assert status["valueCodeableConcept"]["coding"][0]["code"] == "64859006"
    urls = {e["resource"].get("bodySite", {}).get("text"): e["fullUrl"] for e in bundle["entry"]}
    assert [m["reference"] for m in mean["hasMember"]] == [urls["L1 vertebra"], urls["L2 vertebra"]]
    assert all(o["status"] == "preliminary" for o in (mean, l1, l2, status))
    assert mean["subject"]["identifier"]["value"] == PATIENT_ID
    assert mean["effectiveDateTime"] == "2021-03-01"
    (report,) = resources(bundle, "DiagnosticReport")
    study = report["imagingStudy" if release == "R4" else "study"][0]["identifier"]["value"]
    assert study == f"urn:oid:{STUDY_UID}"
    assert "osteoporosis" in report["conclusion"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_refused_study_has_no_value(make_case: MakeCase, release: FhirRelease) -> None:
    bundle = fhir_bundle(refused(make_case().screening.result), release)
    check(bundle, release)
    (only,) = resources(bundle, "Observation")
    assert only["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert "not in the field of view" in only["dataAbsentReason"]["text"]
    assert "valueQuantity" not in json.dumps(bundle)
    assert "conclusionCode" not in json.dumps(bundle)


@pytest.mark.parametrize("release", RELEASES)
def test_radiographs(radiograph_case: Case, release: FhirRelease) -> None:
    bundle = fhir_bundle(radiograph_case.screening.result, release)
    check(bundle, release)
    fused, *views = resources(bundle, "Observation")
    assert (fused["valueQuantity"]["value"], len(views)) == (0.62, 2)
    assert [c.get("valueBoolean") for c in fused["component"]][-1] is True
    assert "subject" not in fused


def test_ids_follow_from_the_result(make_case: MakeCase) -> None:
    result = make_case().screening.result
    again = result.timed({"total": 1.0}).model_copy(update={"study": "other"})
    changed: ScreeningResult = result.model_copy(update={"density": density(70.0)})
    one, two, three = ({e["fullUrl"] for e in fhir_bundle(r)["entry"]} for r in (result, again, changed))
    assert one == two
    assert not one & three


def test_the_file_has_the_identifier_and_no_name(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    result = FurtherFiles(Outputs(fhir="R4"), case.files)(case.screening, tmp_path)
    text = (tmp_path / "fhir.json").read_text(encoding="utf-8")
    assert result == case.screening.result
    assert PATIENT_ID in text
    assert NAME.split("^")[0] not in text
    assert PATIENT_ID not in result.model_dump_json()


def test_without_one_identity_there_is_no_subject(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    for number, file in enumerate(case.files):
        ds = pydicom.dcmread(file)
        ds.PatientID = f"P{number}"
        ds.save_as(file)
    result = Screening(refused(case.screening.result), None)
    FurtherFiles(Outputs(fhir="R4"), case.files)(result, tmp_path)
    text = (tmp_path / "fhir.json").read_text(encoding="utf-8")
    assert "subject" not in text


def test_without_dicom_there_is_no_subject(make_case: MakeCase, tmp_path: Path) -> None:
    case = make_case()
    result = case.screening.result.model_copy(update={"source": None})
    FurtherFiles(Outputs(fhir="R5"), [])(Screening(result, case.screening.images), tmp_path)
    bundle = json.loads((tmp_path / "fhir.json").read_text(encoding="utf-8"))
    check(bundle, "R5")
    assert "subject" not in json.dumps(bundle)
