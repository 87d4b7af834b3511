"""Bundles for radiographs with random weights, their calibrations, and synthetic radiographs."""

import json
import math
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
import xgboost
from monai.bundle import ConfigParser
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from osteo_monai.bundle import find_bundle
from osteo_monai.domain import Sex
from osteo_monai.risk import FEATURES, ModelFacts, RiskModel
from osteo_monai.risk.calibration import RiskCalibration, write_risk
from osteo_monai.screening import (
    RadiographModels,
    RadiographOptions,
    ScreeningResult,
    find_screenable,
)
from osteo_monai.screening.models import CHEST_BUNDLE, LUMBAR_BUNDLE
from osteo_monai.screening_files import screen_to_folder
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.person import draw_person
from osteo_monai.virtual.radiograph import project, usual_protocol

SMALL: dict[str, dict[str, Any]] = {
    CHEST_BUNDLE: {"patch_size": 16, "network": {"width": 16, "heads": 2, "layers": 1}, "views": [((), "model.pt")]},
    LUMBAR_BUNDLE: {
        "patch_size": [64, 32],
        "network": {"width": 0.0625},
        "views": [((), "model.pt"), (("lateral",), "model_lateral.pt")],
    },
}
PATIENT = {"age": 70.0, "sex": Sex.FEMALE, "height": 160.0, "weight": 55.0}


def calibration(
    name: str, intercept: float, network_sd: float | None, cutoff: float, virtual: bool = False
) -> RiskCalibration:
    return RiskCalibration(
        model=name,
        virtual=virtual,
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


@cache
def _projected(view: str) -> np.ndarray:
    return project(Anatomy(draw_person(3)), usual_protocol(view, 512), 3).pixels


def film(part: str, position: str, seed: int) -> np.ndarray:
    """A virtual radiograph of 12 bits of the view in the header, clouds for other views; the seed changes its noise."""
    if part not in ("CHEST", "LSPINE") or (part == "CHEST" and position not in ("PA", "AP")):
        return pixels(seed)
    lumbar = "lumbar_ap" if position in ("AP", "PA") else "lumbar_lateral"
    values = 4095 * _projected("chest_frontal" if part == "CHEST" else lumbar)
    values = values + np.random.default_rng(seed).normal(0, 8, values.shape)
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
    values = film(part, position, seed)
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
        study,
        output,
        radiograph_options=RadiographOptions(**options),
        radiograph_models=RadiographModels("cpu", trust=True),
    )
    assert ScreeningResult.model_validate_json((output / "result.json").read_text()) == result
    return result.verdict.removesuffix("_with_warnings"), result


def codes(result: Any, severity: Any = None) -> Any:
    return {f.code for f in result.findings if severity is None or f.severity is severity}


def logit(p: Any) -> Any:
    return math.log(p / (1 - p))
