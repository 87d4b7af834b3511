"""Radiographs from file to report: both bundles with random weights, their calibration, refusals, many studies."""

import csv
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
import xgboost
from monai.bundle import ConfigParser
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from osteo_monai.bundle import find_bundle, load_bundle
from osteo_monai.domain import Severity, Sex, View
from osteo_monai.imaging.radiograph import read_radiograph
from osteo_monai.risk import FEATURES, ModelFacts, RiskModel
from osteo_monai.risk.calibration import RiskCalibration, read_risk, write_risk
from osteo_monai.screening import (
    RadiographImages,
    RadiographModels,
    RadiographOptions,
    ScreeningResult,
    find_screenable,
    screen_folder,
    screen_radiographs,
)
from osteo_monai.screening.models import CHEST_BUNDLE, LUMBAR_BUNDLE
from osteo_monai.screening.result import RadiographRisk, RiskOpinion
from osteo_monai.screening_files import screen_to_folder

SMALL: dict[str, dict[str, Any]] = {
    CHEST_BUNDLE: {"patch_size": 16, "network": {"width": 16, "heads": 2, "layers": 1}, "views": [((), "model.pt")]},
    LUMBAR_BUNDLE: {
        "patch_size": [64, 32],
        "network": {"width": 0.0625},
        "views": [((), "model.pt"), (("lateral",), "model_lateral.pt")],
    },
}
PATIENT = {"age": 70.0, "sex": Sex.FEMALE, "height": 160.0, "weight": 55.0}


def calibration(name: str, intercept: float, network_sd: float | None, cutoff: float) -> RiskCalibration:
    return RiskCalibration(
        model=name,
        virtual=True,
        people=800,
        with_osteoporosis=200,
        intercept=intercept,
        slope=0.8,
        covariance=((0.01, 0.0), (0.0, 0.01)),
        network_sd=network_sd,
        thresholds={"sensitivity_90": cutoff},
        source_sha256="0" * 64,
    )


CALIBRATIONS = {
    CHEST_BUNDLE: {
        "chest_frontal": calibration("chest", -1.0, 0.3, 0.01),
        "combined": calibration("combined", 0.0, None, 0.99),
        "clinical": calibration("clinical", 0.0, None, 0.5),
    },
    LUMBAR_BUNDLE: {
        "lumbar_ap": calibration("ap", -1.0, 0.3, 0.2),
        "lumbar_lateral": calibration("lateral", -1.2, 0.4, 0.2),
        "fused": calibration("fused", -1.1, None, 0.2),
    },
}


def risk_model(name: str) -> RiskModel:
    """A few trees on made-up people, whose risk rises with the last feature."""
    rng = np.random.default_rng(0)
    features = FEATURES[name]  # type: ignore[index]
    values = rng.uniform(0, 1, (200, len(features))) * [1, 90, 180, 80, 30, 1][: len(features)]
    truth = values[:, -1] > np.median(values[:, -1])
    data = xgboost.DMatrix(values, label=truth, feature_names=list(features))
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 2, "nthread": 1, "eta": 0.2}, data, 10)
    facts = {"training_people": 200, "training_with_osteoporosis": 100, "training_lacking": {}, "parameters": {}}
    return RiskModel(
        booster,
        ModelFacts(
            model=name,
            features=features,
            virtual=True,
            log_loss=0.5,
            seed=0,
            manifest_sha256="",
            scores_sha256="",
            **facts,
        ),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both bundles with small networks of random weights, their calibrations, and the models on facts."""
    root = tmp_path_factory.mktemp("bundles")
    torch.manual_seed(1)
    for name, small in SMALL.items():
        folder = root / name
        shutil.copytree(find_bundle(name) / "configs", folder / "configs")
        config = json.loads((folder / "configs" / "inference.json").read_text())
        config["patch_size"], config["amp"] = small["patch_size"], False
        config["network_def"] |= small["network"]
        (folder / "configs" / "inference.json").write_text(json.dumps(config))
        (folder / "models").mkdir()
        for overlays, weights in small["views"]:
            files = [folder / "configs" / f"{part}.json" for part in ("inference", *overlays)]
            network = ConfigParser(ConfigParser.load_config_files(files)).get_parsed_content("network_def")
            torch.save(network.state_dict(), folder / "models" / weights)
        write_risk(CALIBRATIONS[name], folder / "models" / "risk.json")
    for name in ("clinical", "combined"):
        risk_model(name).save(root / CHEST_BUNDLE / "models")
    return root


@pytest.fixture
def bundles(made: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OSTEO_BUNDLES", str(made))
    return made


@pytest.fixture
def copied(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same bundles, to be spoilt."""
    folder = tmp_path / "bundles"
    shutil.copytree(made, folder)
    monkeypatch.setenv("OSTEO_BUNDLES", str(folder))
    return folder


def pixels(seed: int = 0, shape: Any = (300, 280)) -> np.ndarray:
    """Grey clouds of 12 bits around a bright band: enough grey values, nothing flat, no chest."""
    rng = np.random.default_rng(seed)
    cloud = np.asarray(Image.fromarray(rng.random((12, 10)).astype(np.float32)).resize(shape[::-1]), np.float32)
    band = np.exp(-(((np.arange(shape[1]) - shape[1] / 2) / 40) ** 2))
    values = 600 + 1500 * cloud + 1500 * band + rng.normal(0, 20, shape)
    return np.asarray(np.clip(values, 0, 4095).astype(np.uint16))


def dicom(
    path: Any,
    part: Any = "CHEST",
    position: Any = "PA",
    study: Any = None,
    modality: Any = "DX",
    seed: Any = 0,
    **facts: Any,
) -> Any:
    header = Dataset()
    header.SOPClassUID = CTImageStorage if modality == "CT" else DigitalXRayImageStorageForPresentation
    header.SOPInstanceUID, header.SeriesInstanceUID = generate_uid(), generate_uid()
    header.StudyInstanceUID = study or generate_uid()
    header.Modality, header.BodyPartExamined, header.ViewPosition = modality, part, position
    header.PatientName, header.PatientID = "DOE^JANE", "4711"
    header.PresentationIntentType = "FOR PRESENTATION"
    header.PhotometricInterpretation, header.SamplesPerPixel = "MONOCHROME2", 1
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    values = pixels(seed)
    header.Rows, header.Columns = values.shape
    header.PixelData = values.tobytes()
    header.PixelData = bytes(header.PixelData)
    for name, value in facts.items():
        setattr(header, name, value)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return path


def png(path: Any, seed: Any = 0) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed)).save(path)
    return path


def lumbar_pair(folder: Any, study: Any = None, **facts: Any) -> Any:
    study = study or generate_uid()
    dicom(folder / "ap.dcm", "LSPINE", "AP", study, seed=1, **facts)
    dicom(folder / "lateral.dcm", "LSPINE", "LATERAL", study, seed=2, **facts)
    return folder


def run(path: Any, output: Any, **options: Any) -> Any:
    """Screen the radiographs at a path; return the verdict without "with_warnings", and the result as written."""
    (study,) = find_screenable(path)
    result = screen_to_folder(
        study, output, radiograph_options=RadiographOptions(**options), radiograph_models=RadiographModels("cpu")
    )
    assert ScreeningResult.model_validate_json((output / "result.json").read_text()) == result
    return result.verdict.removesuffix("_with_warnings"), result


def codes(result: Any, severity: Any = None) -> Any:
    return {f.code for f in result.findings if severity is None or f.severity is severity}


def logit(p: Any) -> Any:
    return math.log(p / (1 - p))


# --- one study ----------------------------------------------------------------------------------------------------


def test_chest_gives_a_calibrated_risk_with_heat_map_and_report(bundles: Path, tmp_path: Path) -> None:
    path = dicom(tmp_path / "chest.dcm", PatientAge="071Y", PatientSex="F")
    verdict, result = run(path, tmp_path / "out")
    assert verdict == "accepted"
    assert (result.version, result.modality, result.study) == ("1.4", "radiograph", "chest.dcm")
    found = result.radiograph
    radiograph = read_radiograph(path)
    answer = load_bundle(CHEST_BUNDLE)(torch.from_numpy(radiograph.pixels)[None])
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
        answer = load_bundle(LUMBAR_BUNDLE, "cpu", overlays)(torch.from_numpy(radiograph.pixels)[None])
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
    verdict, result = run(dicom(tmp_path / "chest.dcm"), tmp_path / "out")
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

        def __call__(self, image: Any) -> Any:
            heat = torch.zeros(1, 20, 40)
            heat[:, :5, :10] = 1
            return {"pred": torch.tensor([0.3]), "heat": heat}

    models = RadiographModels("cpu")
    monkeypatch.setattr(models, "bundle", lambda view: Corner())
    monkeypatch.setattr(models, "calibrations", lambda bundle: {})
    options = RadiographOptions(view=View.LUMBAR_AP)
    _, images = screen_radiographs([png(tmp_path / "a.png")], models, options)
    assert isinstance(images, RadiographImages)
    (image,) = images.images
    assert image.heat is not None
    rows, columns = image.pixels.shape
    assert image.heat.shape == (rows, columns)
    assert image.heat[: rows // 5, : columns // 5].min() > 0.9
    assert image.heat[rows // 3 :].max() == image.heat[:, columns // 3 :].max() == 0


# --- many studies -------------------------------------------------------------------------------------------------


def test_a_folder_of_mixed_studies_gives_a_row_each(bundles: Path, tmp_path: Path) -> Any:
    root = tmp_path / "in"
    dicom(root / "chest" / "a.dcm", PatientAge="071Y")
    lumbar_pair(root / "lumbar")
    png(root / "x.png")
    dicom(root / "ct" / "1.dcm", modality="CT")
    studies = {study.path: study for study in find_screenable(root)}
    models = RadiographModels("cpu")

    def screen_one(path: Any, folder: Any) -> Any:
        if studies[path].kind == "ct":
            return ScreeningResult(study=folder.name, verdict="accepted", findings=())
        return screen_to_folder(studies[path], folder, name=folder.name, radiograph_models=models)

    results = screen_folder(list(studies), root, tmp_path / "out", screen_one, kind=lambda path: studies[path].kind)
    assert {r.verdict for r in results} == {"accepted", "accepted_with_warnings", "refused"}
    with (tmp_path / "out" / "summary.csv").open() as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert {name: (row["modality"], row["view"]) for name, row in rows.items()} == {
        "chest": ("radiograph", "chest_frontal"),
        "ct": ("ct", ""),
        "lumbar": ("radiograph", "lumbar_ap+lumbar_lateral"),
        "x.png": ("radiograph", ""),
    }
    chest = rows["chest"]
    assert float(chest["risk_low"]) < float(chest["risk"]) < float(chest["risk_high"])
    assert (chest["risk_raised"], chest["combined_risk"], chest["density_mg_cm3"]) == ("True", "", "")
    assert float(chest["age"]) == 71
    assert (rows["x.png"]["verdict"], rows["x.png"]["refusals"], rows["x.png"]["risk"]) == (
        "refused",
        "view_unknown",
        "",
    )
    assert rows["ct"]["risk"] == ""
    assert (tmp_path / "out" / "lumbar" / "heat_map.png").exists()


def test_studies_are_distinguished_by_content(tmp_path: Path) -> None:
    """Flat folders of radiographs by study, series in sub-folders together, previews beside slices skipped."""
    one, two = generate_uid(), generate_uid()
    lumbar_pair(tmp_path / "flat", one)
    dicom(tmp_path / "flat" / "chest.dcm", study=two)
    series = generate_uid()
    dicom(tmp_path / "series" / "1" / "a", "LSPINE", "AP", series)
    dicom(tmp_path / "series" / "2" / "b", "LSPINE", "LATERAL", series)
    dicom(tmp_path / "ct" / "1.dcm", modality="CT")
    png(tmp_path / "ct" / "preview.png")
    found = [(s.kind, s.path.relative_to(tmp_path).as_posix(), len(s.files)) for s in find_screenable(tmp_path)]
    assert found == [
        ("ct", "ct", 0),
        ("radiograph", "flat/ap.dcm", 2),
        ("radiograph", "flat/chest.dcm", 1),
        ("radiograph", "series", 2),
    ]


@pytest.mark.parametrize("ct", ["scan.nii.gz", "scan/1.dcm"])
def test_a_single_ct_among_radiographs_is_given_by_itself(tmp_path: Path, ct: Any) -> None:
    """And not by the folder that it shares with them, of which a reader of CT could make nothing."""
    lumbar_pair(tmp_path / "lumbar")
    png(tmp_path / "x.png")
    if ct.endswith(".dcm"):
        dicom(tmp_path / ct, modality="CT")
    else:
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / ct)
    found = [(s.kind, s.path.relative_to(tmp_path).as_posix()) for s in find_screenable(tmp_path)]
    assert found == [("radiograph", "lumbar"), ("ct", ct.partition("/")[0]), ("radiograph", "x.png")]


# --- options and the result ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"age": 150.0}, "age must be between 0 and 120 years, got 150"),
        ({"height": 1.6}, "height must be between 30 and 250 cm, got 1.6"),
        ({"weight": float("nan")}, "weight must be between 1 and 400 kg, got nan"),
        ({"view": View.CHEST_LATERAL}, "view must be chest_frontal, lumbar_ap or lumbar_lateral, got 'chest_lateral'"),
    ],
)
def test_invalid_options_are_named(options: Any, text: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        RadiographOptions(**options)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_older_result_still_reads_as_one_of_a_ct(version: Any) -> None:
    stored = {"version": version, "study": "a", "verdict": "refused", "findings": [], "seconds": {"reading": 1.0}}
    if version == "1.1":
        stored |= {"opinions": [], "opinions_absent": {"classifier": "It is not installed."}}
    result = ScreeningResult.model_validate_json(json.dumps(stored))
    assert (result.version, result.modality, result.radiograph) == (version, "ct", None)


def test_a_ct_holds_no_risk_and_a_radiograph_no_class() -> None:
    risk = RadiographRisk(radiographs=(), risk=RiskOpinion(name="fused", score=0.5), trained_on="no data")
    with pytest.raises(ValueError, match="radiograph must be absent from the result of a CT"):
        ScreeningResult(study="a", verdict="accepted", findings=(), radiograph=risk)
    with pytest.raises(ValueError, match="density and status must be absent"):
        ScreeningResult(study="a", modality="radiograph", verdict="accepted", findings=(), status="normal")


def test_calibrations_are_those_of_the_bundle(bundles: Path) -> None:
    models = RadiographModels("cpu")
    assert models.calibrations(LUMBAR_BUNDLE) == read_risk(bundles / LUMBAR_BUNDLE / "models")
    assert models.bundle(View.LUMBAR_AP) is models.bundle(View.LUMBAR_AP)
