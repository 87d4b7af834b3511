"""Each bundle from the archives of a zoo, without the source tree, and each call that MONAI and its zoo make.

Archives are packed, served and downloaded; the current folder is another one. Calls that need no download are in
``test_standalone.py``: ``load`` and ``create_workflow`` of every config, ONNX and TorchScript.
"""

import csv
import functools
import http.server
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, download, load, run, verify_net_in_out

from osteo_monai.bundle import LARGE_FILE_BYTES, check_trusted, load_bundle, pack_bundles, publishing_problems
from osteo_monai.data.csv_tables import read_table
from osteo_monai.handlers import CalibratedRiskColumns
from osteo_monai.risk.calibration import read_risk
from osteo_monai.transforms import NAME_LABELS
from osteo_monai.transforms.vertebra_decoding import FIRST_NAME_CHANNEL

from .conftest import (
    BUNDLES,
    CHEST,
    CLASSIFICATION,
    COLUMN,
    DENSITY,
    LOCALIZATION,
    LUMBAR,
    NAMES,
    SEGMENTATION,
    STEP,
    TEST,
)

ALL: dict[str, Any] = {"amp": False, "logging_file": False}
LEAST: dict[str, tuple[str, float]] = {
    SEGMENTATION: ("val_mean_dice", 0.6),
    LOCALIZATION: ("detection_rate", 0.5),
    COLUMN: ("centre_f1", 0.8),
}
"""A metric of the published weights, and a value that damaged weights or a damaged input do not reach."""
WRITTEN = {
    SEGMENTATION: "*_body.nii.gz",
    LOCALIZATION: "*_levels.nii.gz",
    COLUMN: "*_bodies.json",
    **dict.fromkeys((DENSITY, CLASSIFICATION, CHEST, LUMBAR), "predictions.csv"),
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # of the base class
        pass


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles as MONAI downloads them from a zoo that ``pack_bundles`` wrote."""
    served, folder = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("downloaded")
    archives = pack_bundles([BUNDLES / name for name in NAMES], served)
    handler = functools.partial(_Quiet, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, archive in zip(NAMES, archives, strict=True):
        url = f"http://127.0.0.1:{server.server_address[1]}/{archive.name}"
        download(name=name, bundle_dir=str(folder), url=url, progress=False)
    server.shutdown()
    server.server_close()
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _config(zoo: Path, name: str, *configs: str) -> dict[str, Any]:
    files = [str(zoo / name / "configs" / f"{config}.json") for config in configs]
    return {"config_file": files, "bundle_root": str(zoo / name), "output_dir": "out", **ALL}


def _source(cohorts: Mapping[str, Path], name: str) -> dict[str, Any]:
    return {"data_source": str(cohorts[name])} if name in cohorts else {}


def _images(cohorts: Mapping[str, Path], name: str) -> dict[str, Any]:
    """Return the settings of an inference on one image."""
    folder = cohorts[DENSITY].parent
    if name in (CHEST, LUMBAR):
        view = "chest_frontal" if name == CHEST else "lumbar_ap"
        return {"image": str(folder / f"test_0_{view}.png"), "check_images": False}
    images: dict[str, Any] = {"image": str(folder / "test_0.nii.gz")}
    if name in (DENSITY, CLASSIFICATION):
        images["segmentation"] = str(folder / "test_0_labels.nii.gz")
    if name == COLUMN:
        images["line"] = [[-24.0, 30.0, 5.0], [-24.0, 30.0, 50.0]]
    return images


@pytest.mark.parametrize("name", NAMES)
def test_a_downloaded_bundle_is_pinned_and_loads(name: str, zoo: Path) -> None:
    assert check_trusted(zoo / name)
    assert isinstance(load(name, bundle_dir=zoo, device="cpu"), torch.nn.Module)
    assert load_bundle(zoo / name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_it_passes_the_checks_of_the_zoo(name: str, zoo: Path) -> None:
    """Those of ``ci/verify_bundle.py``: files, metadata, version, large files, data shapes, TorchScript."""
    folder = zoo / name
    assert publishing_problems(folder) == []
    assert max(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < LARGE_FILE_BYTES
    files: dict[str, Any] = {
        "meta_file": str(folder / "configs" / "metadata.json"),
        "config_file": str(folder / "configs" / "inference.json"),
    }
    verify_net_in_out("network_def", device="cpu", bundle_root=str(folder), **files)
    weights = str(folder / "models" / "model.pt")
    ckpt_export("network_def", filepath="model.ts", ckpt_file=weights, bundle_root=str(folder), **files)
    torch.jit.load("model.ts")


@pytest.mark.parametrize("name", NAMES)
def test_a_training_of_one_step_has_every_property(name: str, zoo: Path, cohorts: Mapping[str, Path]) -> None:
    """The unit tests of the zoo run a ``ConfigWorkflow`` in this way."""
    settings = {**_config(zoo, name, "train"), **STEP[name], **_source(cohorts, name), "epochs": 1, "batch_size": 12}
    settings |= {"batch_size": 1} if name in (SEGMENTATION, LOCALIZATION, COLUMN) else {}
    workflow = ConfigWorkflow(workflow_type="train", **settings)
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    assert Path("out/checkpoints/model.pt").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_scores_the_published_weights(name: str, zoo: Path, cohorts: Mapping[str, Path]) -> None:
    run(**_config(zoo, name, "train", "evaluate"), **TEST[name], **_source(cohorts, name))
    with Path("out/metrics.csv").open() as file:
        values = {row[0]: float(row[1]) for row in csv.reader(file)}
    published = json.loads((zoo / name / "configs" / "metadata.json").read_text())["eval_metrics"]
    assert published.keys() <= values.keys()
    if name in LEAST:
        metric, least = LEAST[name]
        assert values[metric] > least
    else:
        assert len(read_table(Path("out/predictions.csv"), ("subject_id",)).rows) == 3


@pytest.mark.parametrize("name", NAMES)
def test_an_inference_has_every_property_and_writes(name: str, zoo: Path, cohorts: Mapping[str, Path]) -> None:
    workflow = ConfigWorkflow(workflow_type="infer", **_config(zoo, name, "inference"), **_images(cohorts, name))
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    assert len(list(Path("out").glob(WRITTEN[name]))) == 1


@pytest.mark.parametrize("name", NAMES)
def test_run_of_an_inference_writes(name: str, zoo: Path, cohorts: Mapping[str, Path]) -> None:
    run(**_config(zoo, name, "inference"), **_images(cohorts, name))
    assert len(list(Path("out").glob(WRITTEN[name]))) == 1


def test_an_inference_writes_the_calibrated_risk_of_screening(zoo: Path, cohorts: Mapping[str, Path]) -> None:
    run(**_config(zoo, CHEST, "inference"), **_images(cohorts, CHEST))
    ((_, row),) = read_table(Path("out/predictions.csv"), ("score_osteoporosis", "probability_osteoporosis")).rows
    calibration = read_risk(zoo / CHEST / "models")["chest_frontal"]
    score, risk = float(row["score_osteoporosis"]), float(row["probability_osteoporosis"])
    assert risk == pytest.approx(calibration.estimate(score).probability, abs=1e-5)
    assert abs(risk - score) > 0.01


def test_an_inference_without_calibration_has_a_score_only(
    zoo: Path, cohorts: Mapping[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    item = {"pred": torch.tensor([0.25])}
    columns = CalibratedRiskColumns(str(zoo / DENSITY / "models"), "chest_frontal")(item)
    assert columns == {"score_osteoporosis": 0.25, "probability_osteoporosis": ""}
    assert "risk.json is missing beside the weights" in caplog.text


def test_written_labels_have_the_names_of_the_metadata() -> None:
    outputs = {
        name: json.loads((BUNDLES / name / "configs" / "metadata.json").read_text())["network_data_format"]["outputs"]
        for name in (SEGMENTATION, LOCALIZATION)
    }
    levels = outputs[LOCALIZATION]["levels"]["channel_def"]
    channels = outputs[LOCALIZATION]["pred"]["channel_def"]
    names = [channels[str(FIRST_NAME_CHANNEL + index)] for index in range(len(NAME_LABELS))]
    named = {str(label): name for label, name in zip(NAME_LABELS, names, strict=True)}
    assert levels == {"0": "background", "26": "sacrum", **named}
    assert outputs[SEGMENTATION]["body"]["channel_def"] == {"0": "background", "1": "vertebral body"}
