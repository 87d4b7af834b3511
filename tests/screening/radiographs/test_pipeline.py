"""Radiographs from file to report: both bundles with random weights, their calibration, refusals, many studies."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.uid import generate_uid

from osteo_monai import cli, make_radiograph
from osteo_monai.bundle import load_bundle
from osteo_monai.domain import Severity, Sex, View
from osteo_monai.imaging.radiograph import read_radiograph
from osteo_monai.risk.calibration import write_risk
from osteo_monai.screening import (
    RadiographImages,
    RadiographModels,
    RadiographOptions,
    ScreeningResult,
    screen_radiographs,
)
from osteo_monai.screening.models import CHEST_BUNDLE, LUMBAR_BUNDLE

from .conftest import CALIBRATIONS, PATIENT, codes, dicom, logit, lumbar_pair, png, risk_model, run

# --- one study ----------------------------------------------------------------------------------------------------


def test_chest_gives_a_calibrated_risk_with_heat_map_and_report(bundles: Path, tmp_path: Path) -> None:
    path = dicom(tmp_path / "chest.dcm", PatientAge="071Y", PatientSex="F")
    verdict, result = run(path, tmp_path / "out")
    assert verdict == "accepted"
    assert (result.version, result.modality, result.study) == ("1.7", "radiograph", "chest.dcm")
    found = result.radiograph
    radiograph = read_radiograph(path)
    answer = load_bundle(CHEST_BUNDLE, trust=True)(torch.from_numpy(radiograph.pixels)[None])
    assert found.risk.score == pytest.approx(float(answer["pred"][0]), abs=1e-6)
    expected = CALIBRATIONS[CHEST_BUNDLE]["chest_frontal"].estimate(found.risk.score)
    assert (found.risk.probability, found.risk.low, found.risk.high) == pytest.approx(
        (expected.probability, expected.low, expected.high)
    )
    assert (found.risk.cutoff, found.risk.raised, found.risk.prevalence) == (0.01, True, 0.25)
    assert (found.person.age_years, found.person.sex, found.person.given) == (71, Sex.FEMALE, ())
    (facts,) = found.radiographs
    assert (facts.view, facts.view_position, facts.rows) == ("chest_frontal", "PA", radiograph.pixels.shape[0])
    assert [m.bundle for m in result.models] == [CHEST_BUNDLE]
    with Image.open(tmp_path / "out" / "heat_map.png") as picture:
        width = 800 * radiograph.pixels.shape[1] / radiograph.pixels.shape[0]
        assert picture.height == 800
        assert picture.width == pytest.approx(3 * width + 20, abs=3)
    page = (tmp_path / "out" / "report.html").read_text()
    page = re.sub(r"base64,[^\"]+", "", page)
    for text in (page, (tmp_path / "out" / "result.json").read_text()):
        assert "Research use only" in text
        assert "DOE" not in text
        assert "4711" not in text
    for never in ("mg/cm", "K2HPO4", "osteoporosis: yes"):
        assert never not in page


def test_real_chest_is_recognised_by_what_it_shows(bundles: Path, real_data: Path, tmp_path: Path) -> None:
    """Without a header: the view follows from the picture, and age and sex stay unknown."""
    path = next(iter(sorted((real_data / "cxr_frontal" / "images").glob("SARS*"))))
    verdict, result = run(path, tmp_path / "out")
    assert verdict == "accepted"
    assert result.radiograph.risk.name == "chest_frontal"
    assert result.radiograph.combined_absent == "Age, sex, height and weight are unknown."
    assert "age_unknown" in codes(result)


def test_missing_facts_are_named_and_no_default_is_made_up(bundles: Path, tmp_path: Path) -> None:
    path = dicom(tmp_path / "chest.dcm", PatientAge="071Y", PatientSex="F")
    _, result = run(path, tmp_path / "out", height=160.0)
    found = result.radiograph
    assert found.combined is None
    assert found.clinical is None
    assert found.combined_absent == "Unknown: weight. Age, sex, height and weight are all required."
    assert found.person.weight_kg is None
    assert found.person.given == ("height",)
    assert "Unknown: weight." in (tmp_path / "out" / "report.html").read_text()


def test_combined_model_is_used_when_all_facts_are_known(bundles: Path, tmp_path: Path) -> None:
    _, result = run(dicom(tmp_path / "chest.dcm"), tmp_path / "out", **PATIENT)
    found = result.radiograph
    facts_given = (70, Sex.FEMALE, 160, 55)
    for name, one, risk in (("clinical", found.clinical, None), ("combined", found.combined, found.risk.score)):
        raw = risk_model(name).probability(*facts_given, risk)
        assert one.score == pytest.approx(raw, abs=1e-6)
        expected = CALIBRATIONS[CHEST_BUNDLE][name].estimate(raw)
        assert one.probability == pytest.approx(expected.probability)
    assert found.combined.raised is False
    # the uncertainty of the network is propagated through the model
    ends = [1 / (1 + math.exp(-(logit(found.risk.score) + step * 0.3))) for step in (-1, 1)]
    low, high = (logit(risk_model("combined").probability(*facts_given, end)) for end in ends)
    expected = CALIBRATIONS[CHEST_BUNDLE]["combined"].estimate(found.combined.score, abs(high - low) / 2)
    assert (found.combined.low, found.combined.high) == pytest.approx((expected.low, expected.high))


def test_given_facts_override_the_header_with_a_warning(bundles: Path, tmp_path: Path) -> None:
    path = dicom(tmp_path / "chest.dcm", PatientAge="071Y", PatientSex="F")
    _, result = run(path, tmp_path / "out", age=60.0, sex=Sex.FEMALE)
    assert result.radiograph.person.age_years == 60
    warned = [f.message for f in result.findings if f.code == "fact_contradicted"]
    assert warned == ["The given age differs from the header; the given value is used."]


def test_lumbar_views_of_one_study_are_fused(bundles: Path, tmp_path: Path) -> None:
    verdict, result = run(lumbar_pair(tmp_path / "study"), tmp_path / "out")
    assert verdict == "accepted"
    found = result.radiograph
    ap, lateral = found.views
    assert (ap.name, lateral.name, found.risk.name) == ("lumbar_ap", "lumbar_lateral", "fused")
    assert logit(found.risk.score) == pytest.approx((logit(ap.score) + logit(lateral.score)) / 2)
    for view, file, overlays, one in (
        ("lumbar_ap", "ap.dcm", (), ap),
        ("lumbar_lateral", "lateral.dcm", ("lateral",), lateral),
    ):
        radiograph = read_radiograph(tmp_path / "study" / file, view)
        answer = load_bundle(LUMBAR_BUNDLE, "cpu", overlays, trust=True)(torch.from_numpy(radiograph.pixels)[None])
        assert one.score == pytest.approx(float(answer["pred"][0]), abs=1e-6)
    fused = CALIBRATIONS[LUMBAR_BUNDLE]["fused"].estimate(found.risk.score, math.hypot(0.3, 0.4) / 2)
    assert (found.risk.low, found.risk.high) == pytest.approx((fused.low, fused.high))
    assert found.combined_absent == "The model is for chest radiographs only."
    assert len({m.weights_sha256 for m in result.models}) == 2
    assert [r.source for r in found.radiographs] == ["ap.dcm", "lateral.dcm"]


def test_chest_is_chosen_among_the_views_of_a_study(bundles: Path, tmp_path: Path) -> None:
    study = generate_uid()
    lumbar_pair(tmp_path / "study", study)
    dicom(tmp_path / "study" / "chest.dcm", study=study)
    _, result = run(tmp_path / "study", tmp_path / "out")
    assert result.radiograph.risk.name == "chest_frontal"
    reported = next(f.message for f in result.findings if f.code == "view_chosen")
    assert reported == "Of 3 radiographs 1 was used (frontal chest); not used: lumbar AP, lumbar lateral."
    _, result = run(tmp_path / "study", tmp_path / "ap", view=View.LUMBAR_AP)
    assert result.radiograph.risk.name == "lumbar_ap"


def test_damaged_radiograph_of_a_study_is_left_out_and_reported(bundles: Path, tmp_path: Path) -> None:
    lumbar_pair(tmp_path / "study")
    lateral = tmp_path / "study" / "lateral.dcm"
    lateral.write_bytes(lateral.read_bytes()[:-100_000])
    verdict, result = run(tmp_path / "study", tmp_path / "out")
    assert verdict == "accepted"
    assert result.radiograph.risk.name == "lumbar_ap"
    assert "radiograph_left_out" in codes(result, Severity.WARNING)


def test_picture_of_unknown_view_needs_the_option_view(bundles: Path, tmp_path: Path) -> None:
    path = png(tmp_path / "spine.png")
    verdict, result = run(path, tmp_path / "out")
    assert verdict == "refused"
    assert codes(result, Severity.REFUSAL) == {"view_unknown"}
    assert "name it with --view" in result.findings[0].message
    assert result.radiograph is None
    verdict, result = run(path, tmp_path / "named", view=View.LUMBAR_AP)
    assert verdict == "accepted"
    assert result.radiograph.risk.name == "lumbar_ap"
    verdict, result = run(path, tmp_path / "chest", view=View.CHEST_FRONTAL)
    assert verdict == "refused"
    assert codes(result, Severity.REFUSAL) == {"not_a_chest"}


@pytest.mark.parametrize(
    ("header", "options", "code"),
    [
        ({"part": "CHEST", "position": "LATERAL"}, {}, "other_view"),
        ({"part": "HAND", "position": "PA"}, {}, "view_unknown"),
        ({"part": "HAND", "position": "PA"}, {"view": View.LUMBAR_AP}, "other_body_part"),
        ({"part": "CHEST", "position": "PA"}, {"view": View.LUMBAR_AP}, "other_view"),
        ({"PresentationIntentType": "FOR PROCESSING"}, {}, "for_processing"),
        ({"PatientAge": "012Y"}, {}, "age_below_18"),
        ({}, {"age": 17.0}, "age_below_18"),
    ],
)
def test_unsuitable_radiographs_are_refused(
    bundles: Path, tmp_path: Path, header: Any, options: Any, code: Any
) -> None:
    verdict, result = run(dicom(tmp_path / "x.dcm", **header), tmp_path / "out", **options)
    assert verdict == "refused"
    assert result.verdict == "refused"
    assert code in codes(result, Severity.REFUSAL)
    assert result.radiograph is None
    assert not (tmp_path / "out" / "heat_map.png").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "No risk is given for this study." in page
    assert code in page


def test_ct_slice_as_a_picture_is_refused(bundles: Path, tmp_path: Path) -> None:
    """Air around an ellipse: no chest radiograph, and nothing else that is named."""
    y, x = np.mgrid[-1:1:400j, -1:1:400j]
    body = ((x / 0.8) ** 2 + (y / 0.55) ** 2 <= 1) * (120 + 40 * np.sin(9 * x) * np.cos(7 * y))
    Image.fromarray(body.astype(np.uint8)).save(tmp_path / "slice.png")
    verdict, result = run(tmp_path / "slice.png", tmp_path / "out")
    assert verdict == "refused"
    assert codes(result, Severity.REFUSAL)
    assert result.radiograph is None


def test_model_that_is_not_installed_is_one_sentence(copied: Path, tmp_path: Path) -> None:
    (copied / CHEST_BUNDLE / "models" / "model.pt").unlink()
    verdict, result = run(dicom(tmp_path / "chest.dcm"), tmp_path / "out")
    assert verdict == "refused"
    assert codes(result, Severity.REFUSAL) == {"model_not_installed"}
    message = next(f.message for f in result.findings if f.code == "model_not_installed")
    assert message.count(".") == 1
    assert str(tmp_path) not in message


def test_missing_lateral_model_leaves_the_other_view(copied: Path, tmp_path: Path) -> None:
    (copied / LUMBAR_BUNDLE / "models" / "model_lateral.pt").unlink()
    verdict, result = run(lumbar_pair(tmp_path / "study"), tmp_path / "out")
    assert verdict == "accepted"
    assert result.radiograph.risk.name == "lumbar_ap"
    assert not result.radiograph.views
    assert "model_not_installed" in codes(result, Severity.WARNING)


@pytest.mark.parametrize("spoilt", ["absent", "damaged", "other entries"])
def test_without_calibration_there_is_a_score_and_no_class(copied: Path, tmp_path: Path, spoilt: Any) -> None:
    file = copied / CHEST_BUNDLE / "models" / "risk.json"
    if spoilt == "absent":
        file.unlink()
    elif spoilt == "damaged":
        file.write_text("{")
    else:
        write_risk(CALIBRATIONS[LUMBAR_BUNDLE], file)
    verdict, result = run(dicom(tmp_path / "chest.dcm"), tmp_path / "out", allow_unvalidated=True)
    assert verdict == "accepted"
    risk = result.radiograph.risk
    assert (risk.probability, risk.low, risk.cutoff, risk.raised) == (None, None, None, None)
    assert 0 <= risk.score <= 1
    assert "risk_not_calibrated" in codes(result, Severity.WARNING)
    assert "Score, not calibrated" in (tmp_path / "out" / "report.html").read_text()


def test_missing_combined_model_is_reported(copied: Path, tmp_path: Path) -> None:
    (copied / CHEST_BUNDLE / "models" / "combined.ubj").unlink()
    _, result = run(dicom(tmp_path / "chest.dcm"), tmp_path / "out", **PATIENT)
    assert result.radiograph.combined is None
    assert "combined.ubj" in result.radiograph.combined_absent
    assert result.radiograph.clinical is not None


def test_heat_map_of_an_earlier_run_does_not_outlive_its_result(bundles: Path, tmp_path: Path) -> None:
    run(dicom(tmp_path / "chest.dcm"), tmp_path / "out")
    assert (tmp_path / "out" / "heat_map.png").exists()
    run(png(tmp_path / "x.png"), tmp_path / "out")
    assert not (tmp_path / "out" / "heat_map.png").exists()


def test_maps_lie_on_the_grid_of_the_radiograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A network that looks at the upper left corner of a frame of another shape than the radiograph."""

    class Corner:
        name, version, weights_sha256, trained_on = LUMBAR_BUNDLE, "0", "0" * 64, "no data"
        pinned = False

        def __call__(self, image: Any) -> Any:
            heat = torch.zeros(1, 20, 40)
            heat[:, :5, :10] = 1
            return {"pred": torch.tensor([0.3]), "heat": heat}

    models = RadiographModels("cpu")
    monkeypatch.setattr(models, "bundle", lambda view: Corner())
    monkeypatch.setattr(models, "calibrations", lambda bundle: {})
    options = RadiographOptions(view=View.LUMBAR_AP, allow_unvalidated=True)
    _, images = screen_radiographs([png(tmp_path / "a.png")], models, options)
    assert isinstance(images, RadiographImages)
    (image,) = images.images
    assert image.heat is not None
    rows, columns = image.pixels.shape
    assert image.heat.shape == (rows, columns)
    assert image.heat[: rows // 5, : columns // 5].min() > 0.9
    assert image.heat[rows // 3 :].max() == image.heat[:, columns // 3 :].max() == 0


# --- networks that were calibrated on virtual patients -----------------------------------------------------------


@pytest.fixture
def virtual_only(copied: Path) -> Path:
    """Bundles whose calibrations are of virtual patients."""
    for bundle, known in CALIBRATIONS.items():
        changed = {name: used.model_copy(update={"virtual": True}) for name, used in known.items()}
        write_risk(changed, copied / bundle / "models" / "risk.json")
    return copied


@pytest.mark.parametrize("view", ["chest", "lumbar"])
def test_risk_of_a_real_radiograph_is_not_shown(virtual_only: Path, tmp_path: Path, view: str) -> None:
    path = dicom(tmp_path / "chest.dcm") if view == "chest" else lumbar_pair(tmp_path / "lumbar")
    facts = PATIENT if view == "chest" else {}
    verdict, result = run(path, tmp_path / "out", **facts)
    assert verdict == "refused"
    assert result.radiograph is None
    assert "not_validated_on_real_people" in codes(result)
    assert not (tmp_path / "out" / "heat_map.png").exists()
    assert "%" not in re.sub(
        r"<style.*?</style>|base64,[^\"]+", "", (tmp_path / "out" / "report.html").read_text(), flags=re.S
    )


def test_unvalidated_risk_is_shown_on_request_and_does_not_enter_the_combined_model(
    virtual_only: Path, tmp_path: Path
) -> None:
    verdict, result = run(dicom(tmp_path / "chest.dcm"), tmp_path / "out", allow_unvalidated=True, **PATIENT)
    assert verdict == "accepted"
    assert result.radiograph.risk.probability is not None
    assert result.radiograph.clinical is not None
    assert result.radiograph.combined is None
    assert "does not enter the combined model" in result.radiograph.combined_absent
    assert "known_to_virtual_people_alone" in codes(result)


@pytest.mark.parametrize("suffix", [".dcm", ".png"])
def test_virtual_radiographs_have_the_risk_and_the_combined_one(
    virtual_only: Path, tmp_path: Path, suffix: str
) -> None:
    path = make_radiograph(tmp_path / "film", rows=512).with_suffix(suffix)
    verdict, result = run(path, tmp_path / "out", **PATIENT)
    assert verdict == "accepted"
    assert result.radiograph.combined is not None


def test_without_a_calibration_nothing_is_shown_for_a_real_radiograph(copied: Path, tmp_path: Path) -> None:
    (copied / CHEST_BUNDLE / "models" / "risk.json").unlink()
    verdict, result = run(dicom(tmp_path / "chest.dcm"), tmp_path / "out")
    assert (verdict, result.radiograph) == ("refused", None)


# --- from the command line ----------------------------------------------------------------------------------------


def test_a_missing_bundle_is_exit_code_4_with_the_command_that_installs_it(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / CHEST_BUNDLE / "models" / "model.pt").unlink()
    path = dicom(tmp_path / "chest.dcm")
    words = ["screen", str(path), "-o", str(tmp_path / "out"), "--device", "cpu", "--trust-bundle"]
    assert cli.run(words) == 4
    output = " ".join(capsys.readouterr().out.split())
    assert f"osteo-monai bundle fetch {CHEST_BUNDLE} --source URL" in output


def test_an_unpinned_bundle_needs_trust(bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dicom(tmp_path / "chest.dcm")
    words = ["screen", str(path), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.run(words) == 2
    error = capsys.readouterr().err
    assert "bundle must be one that this release pins, or be trusted with --trust-bundle" in error
    assert cli.run([*words, "--trust-bundle"]) == 0
    result = ScreeningResult.model_validate_json((tmp_path / "out" / "result.json").read_text())
    assert [model.pinned for model in result.models] == [False]
