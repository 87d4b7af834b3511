"""Density bundle: a calibrated, tracked training on subjects of a manifest, evaluation, inference.

One process, so that MONAI is imported once; only the distributed run starts others.
"""

import csv
import json
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, run, verify_net_in_out
from monai.transforms import LoadImage

from osteo_monai.bundle import export_weights, load_bundle, run_bundle
from osteo_monai.errors import ManifestError

from .processes import train_in_processes

NAME = "bone_density_regression_ct"
BUNDLE = Path(__file__).parents[2] / "bundles" / NAME
CONFIGS = BUNDLE / "configs"
META = str(CONFIGS / "metadata.json")
LOG = str(CONFIGS / "logging.conf")
TINY: dict[str, Any] = {
    "size": 32,
    "pixel_mm": 2.0,
    "network_def#init_features": 4,
    "network_def#growth_rate": 2,
    "network_def#block_config": [1, 1],
    "amp": False,
}
SMALL_RUN: dict[str, Any] = {**TINY, "epochs": 1, "batch_size": 2, "num_workers": 0}
LEVELS = {"L1": 20, "L2": 21}
METRICS = {
    "val_mae",
    "bias",
    "error_sd",
    "interval_coverage",
    "interval_width",
    "level_mae",
    "level_interval_coverage",
}


def files(*overlays: Any) -> Any:
    return [str(CONFIGS / f"{part}.json") for part in ("train", *overlays)]


def start(folder: Path, *overlays: Any, **settings: Any) -> None:
    own: dict[str, Any] = {"output_dir": str(folder), "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    run_bundle(BUNDLE, ["train", *overlays], {**own, **SMALL_RUN, **settings})


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Boxes of bone in muscle, 0.75 mg/cm3 per HU: 3 to train, 9 to validate (enough to calibrate), 2 to test."""
    folder = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    manifest: dict[str, Any] = {"name": "boxes", "description": "boxes", "virtual": True}
    for split, count in (("training", 3), ("validation", 9), ("test", 2)):
        manifest[split] = []
        for number in range(count):
            hu, labels = np.full((24, 28, 30), 50.0), np.zeros((24, 28, 30), np.uint8)
            density = dict(zip(LEVELS, rng.uniform(60, 200, 2).round(1).tolist(), strict=True))
            for level, low in (("L1", 16), ("L2", 2)):
                box = (slice(4, 20), slice(8, 22), slice(low, low + 11))
                hu[box], labels[box] = density[level] / 0.75, LEVELS[level]
            stem = f"{split}_{number}"
            affine = np.diag([-2.0, 2.0, 2.0, 1.0])
            hu[0] = -1000  # without air it is no CT
            noisy = (hu + rng.normal(0, 10, hu.shape)).astype(np.int16)
            nib.save(nib.Nifti1Image(noisy, affine), folder / f"{stem}.nii.gz")
            nib.save(nib.Nifti1Image(labels, affine), folder / f"{stem}_labels.nii.gz")
            record = {
                "image": f"{stem}.nii.gz",
                "segmentation": f"{stem}_labels.nii.gz",
                "subject_id": stem,
                "level_bmd_mg_cm3": density,
                "bmd_mg_cm3": round(sum(density.values()) / 2, 2),
                "bmd_standard": "K2HPO4",
            }
            manifest[split].append(record | ({"kvp": 120} if number else {}))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def trained(cohort: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("run")
    environment = pytest.MonkeyPatch()
    environment.delenv("MLFLOW_TRACKING_URI", raising=False)
    start(folder, data_source=str(cohort / "manifest.json"))
    environment.undo()
    return folder


@pytest.fixture(scope="module")
def published(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the bundle with the tiny network's weights."""
    copy = tmp_path_factory.mktemp("zoo") / NAME
    (copy / "configs").mkdir(parents=True)
    config = json.loads((CONFIGS / "inference.json").read_text())
    for key, value in TINY.items():
        target = config["network_def"] if "#" in key else config
        target[key.split("#")[-1]] = value
    (copy / "configs" / "inference.json").write_text(json.dumps(config))
    (copy / "configs" / "metadata.json").write_text(Path(META).read_text())
    export_weights(trained / "checkpoints" / "model.pt", copy / "models" / "model.pt")
    return copy


def test_metadata_agrees_with_the_network() -> None:
    metadata = json.loads(Path(META).read_text())
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "common.json"))
    network = parser.get_parsed_content("network_def")
    given = metadata["network_data_format"]["inputs"]["image"]
    assert given["num_channels"] == network.in_channels == len(given["channel_def"])
    assert given["spatial_shape"] == [parser["size"]] * 2
    assert metadata["version"] in metadata["changelog"]
    assert set(metadata["eval_metrics"]) <= METRICS
    # ready to ship: at most 16 MiB in half precision
    assert 2 * sum(tensor.numel() for tensor in network.state_dict().values()) < 16 * 2**20
    verify_net_in_out("network_def", meta_file=META, config_file=str(CONFIGS / "inference.json"), device="cpu", n=1)


@pytest.mark.parametrize("kind", ["train", "infer"])
def test_monai_finds_every_property(kind: Any, cohort: Any, tmp_path: Path) -> None:
    settings = SMALL_RUN | {"data_source": str(cohort / "manifest.json")} if kind == "train" else {}
    workflow = ConfigWorkflow(
        config_file=files() if kind == "train" else str(CONFIGS / "inference.json"),
        meta_file=META,
        workflow_type=kind,
        logging_file=None,
        bundle_root=str(BUNDLE),
        output_dir=str(tmp_path),
        **settings,
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_training_is_tracked_and_calibrated(trained: Any) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{trained}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == NAME])
    assert record.info.status == "FINISHED"
    assert {"seed", "git_commit", "manifest_sha256", "beta", "offsets_mm"} <= set(record.data.params)
    assert {"train_loss", *METRICS} <= set(record.data.metrics)
    assert record.data.params["augmentation"].startswith("RandAcquisitiond(shift=4, gain=0.03, ")
    (version,) = client.search_model_versions("name = 'bone_density_regression_ct'")
    assert version.run_id == record.info.run_id
    state = torch.load(trained / "checkpoints" / "model.pt", weights_only=True)
    # 9 people: the largest score, so that all are within; the level's is the 18th of 18 (ceil(19 * 0.9))
    assert record.data.metrics["interval_coverage"] == 1
    assert state["study_interval_factor"] != pytest.approx(1.6449, abs=1e-4)
    assert state["level_interval_factor"] != pytest.approx(1.6449, abs=1e-4)
    assert (trained / "figures" / "densities.png").stat().st_size > 1000


def test_evaluation_predicts_every_person(trained: Any, cohort: Any, tmp_path: Path) -> None:
    weights = str(trained / "checkpoints" / "model.pt")
    source = str(cohort / "manifest.json")
    start(
        tmp_path, "evaluate", data_source=source, checkpoint=weights, splits=["validation", "test"], model_name="tiny"
    )
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cohort"] for row in rows] == ["validation"] * 9 + ["test"] * 2
    assert {row["model"] for row in rows} == {"tiny"}
    truth = np.array([float(row["bmd_mg_cm3"]) for row in rows])
    predicted = np.array([float(row["predicted_bmd_mg_cm3"]) for row in rows])
    # an untrained network says the line from HU to density, which is the truth here
    np.testing.assert_allclose(predicted, truth, atol=12)
    for row in rows:
        low, middle, high = (float(row[f"predicted_bmd_{part}"]) for part in ("lower", "mg_cm3", "upper"))
        assert low < middle < high
        chances = [float(row[f"probability_{name}"]) for name in ("normal", "osteopenia", "osteoporosis")]
        assert sum(chances) == pytest.approx(1, abs=1e-5)


def test_metrics_are_those_of_the_table(trained: Any, cohort: Any, tmp_path: Path) -> None:
    weights = str(trained / "checkpoints" / "model.pt")
    start(tmp_path, "evaluate", data_source=str(cohort / "manifest.json"), checkpoint=weights, track=False)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "metrics.csv").open() as file:
        values = {row[0]: float(row[1]) for row in csv.reader(file)}
    assert set(values) == METRICS
    error = np.array([float(row["predicted_bmd_mg_cm3"]) - float(row["bmd_mg_cm3"]) for row in rows])
    width = np.array([float(row["predicted_bmd_upper"]) - float(row["predicted_bmd_lower"]) for row in rows])
    assert values["bias"] == pytest.approx(error.mean(), abs=2e-3)
    assert values["val_mae"] == pytest.approx(np.abs(error).mean(), abs=2e-3)
    assert values["interval_width"] == pytest.approx(width.mean(), abs=2e-3)
    assert values["interval_coverage"] == pytest.approx((np.abs(error) <= width / 2).mean())
    assert not (tmp_path / "mlflow.db").exists()


def test_published_bundle_reads_a_scan(published: Any, cohort: Any, tmp_path: Path) -> None:
    load = LoadImage(ensure_channel_first=True)
    scan = {"image": load(cohort / "test_1.nii.gz"), "label": load(cohort / "test_1_labels.nii.gz")}
    bundle = load_bundle(published, trust=True)
    density = bundle({**scan, "kvp": 120.0})["density"]
    assert set(density["levels"]) == {"L1", "L2"}
    assert density["study"]["bmd_mg_cm3"] == pytest.approx(
        sum(level["bmd_mg_cm3"] for level in density["levels"].values()) / 2
    )
    json.dumps(density)
    run(
        config_file=str(published / "configs" / "inference.json"),
        meta_file=META,
        logging_file=LOG,
        bundle_root=str(published),
        output_dir=str(tmp_path),
        image=str(cohort / "test_1.nii.gz"),
        segmentation=str(cohort / "test_1_labels.nii.gz"),
        kvp=120,
    )
    with (tmp_path / "predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["subject_id"] == "test_1"
    assert float(row["predicted_bmd_upper"]) == pytest.approx(density["study"]["upper"], abs=0.01)
    assert float(row["predicted_bmd_L1_mg_cm3"]) == pytest.approx(density["levels"]["L1"]["bmd_mg_cm3"], abs=0.01)
    # unknown voltage is another input; a missing level is an error
    assert "study" in bundle(scan)["density"]
    scan["label"][scan["label"] == 21] = 0
    with pytest.raises(ValueError, match=r"got no L2 \(label 21\)"):
        bundle(scan)


def test_torchscript_export(trained: Any, tmp_path: Path) -> None:
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(trained / "checkpoints" / "model.pt"),
        meta_file=META,
        config_file=str(CONFIGS / "inference.json"),
        **{key: value for key, value in TINY.items() if key.startswith("network_def")},
    )
    assert torch.jit.load(str(tmp_path / "model.ts"))(torch.zeros(1, 2, 12, 32, 32)).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level_bmd_mg_cm3": {"L1": 100.0}, "bmd_mg_cm3": None}, "1 records of training have no 'level_bmd_mg_cm3'"),
        ({"bmd_standard": "hydroxyapatite"}, "1 densities of training are not in mg/cm3 K2HPO4"),
        ({"segmentation": None}, "1 of 3 records of training have no 'segmentation'"),
    ],
)
def test_unusable_records_are_refused(change: Any, message: Any, cohort: Any, tmp_path: Path) -> None:
    manifest = json.loads((cohort / "manifest.json").read_text())
    record = {key: value for key, value in (manifest["training"][0] | change).items() if value is not None}
    manifest["training"][0] = record
    path = cohort / f"unfit_{next(iter(change))}.json"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=message):
        start(tmp_path, data_source=str(path), track=False)


@pytest.mark.slow
def test_two_processes_train_and_calibrate_together(cohort: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**SMALL_RUN, "batch_size": 1, "output_dir": tmp_path, "track": False}
    text = train_in_processes(BUNDLE, {**settings, "data_source": cohort / "manifest.json"})
    # each process has seen 4 or 5 of the 9 people, too few for itself
    assert "not calibrated" not in text
    state = torch.load(tmp_path / "checkpoints" / "model.pt", weights_only=True)
    assert state["study_interval_factor"] != pytest.approx(1.6449, abs=1e-4)
