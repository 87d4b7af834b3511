"""Steps of each bundle: metadata, references, properties, a tracked epoch, evaluation, inference, export.

One process, so that MONAI is imported once; only distributed runs start others.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, run, verify_net_in_out

from osteo_monai.bundle import export_weights, load_bundle, run_bundle
from osteo_monai.errors import ConfigError, ModelMissingError
from osteo_monai.experiments import training_size_curve
from osteo_monai.networks import ChannelAttentionUNet
from osteo_monai.transforms.level_naming import NAMED_LEVELS
from osteo_monai.transforms.vertebra_decoding import FIRST_NAME_CHANNEL
from osteo_monai.utils.files import file_sha256

BUNDLES = Path(__file__).parents[2] / "bundles"
SEGMENTATION, LOCALIZATION = "vertebral_body_segmentation_ct", "vertebra_localization_ct"
CLASSIFICATION, COLUMN = "osteoporosis_classification_ct", "vertebral_column_ct"
NAMES = [SEGMENTATION, LOCALIZATION]
"""Voxelwise bundles that train on virtual patients; other files test the others."""
ALL = [*NAMES, CLASSIFICATION, COLUMN]

REQUIRED = {
    "schema": str,
    "version": str,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "required_packages_version": dict,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "network_data_format": dict,
}
"""Required keys of MONAI's metadata schema 20240725 and their types."""
OPTIONAL = {
    "changelog": dict,
    "data_source": str,
    "data_type": str,
    "image_classes": str,
    "label_classes": str,
    "pred_classes": str,
    "eval_metrics": dict,
    "intended_use": str,
    "references": list,
    "supported_apps": dict,
}
TENSOR = {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"}
METRICS = {
    SEGMENTATION: {"val_mean_dice", "val_surface_distance_mm"},
    LOCALIZATION: {
        "val_mean_dice",
        "detection_rate",
        "level_accuracy",
        "certain_level_accuracy",
        "certain_share",
        "centre_error_mm",
    },
    CLASSIFICATION: {"val_mean_auc", "val_accuracy"},
}
"""Metrics of the other bundles are in their own tests."""
OF_SLICES = {
    *(f"val_{name}_dice{suffix}" for name in ("centre_slice", "volume") for suffix in ("", "_sd")),
    "val_hausdorff95_mm",
}
"""Of the segmentation, if a slice of that kind is in the test set."""
SMALL: dict[str, dict[str, Any]] = {
    SEGMENTATION: {"image_size": 64, "network_def#widths": [2, 2, 2, 2, 2, 2, 2], "batch_size": 2},
    LOCALIZATION: {"volume_size": [32, 32, 32], "network_def#channels": [2, 2, 2, 2, 2], "batch_size": 1},
}
TINY_RUN: dict[str, Any] = {"epochs": 1, "epoch_length": 2, "validation_items": 2, "num_workers": 0, "amp": False}
OVERLAYS = {
    SEGMENTATION: [
        [],
        ["evaluate"],
        ["multi_gpu_train"],
        ["pan2024"],
        ["random_planes"],
        ["classical_unet"],
        ["classical_unet_equal_weights"],
        ["classical_unet_wide"],
        ["evaluate", "pan2024"],
    ],
    LOCALIZATION: [[], ["evaluate"], ["multi_gpu_train"]],
    CLASSIFICATION: [
        *([overlay] for overlay in ("evaluate", "multi_gpu_train", "pan2024", "l1_only", "quick")),
        [],
        ["evaluate", "pan2024", "depth_3_4_6_3", "l1_only"],
        *(["evaluate", overlay] for overlay in ("densenet121", "slices_5", "volume_3d", "sagittal", "coronal")),
        ["with_covariates"],
    ],
    COLUMN: [[], ["evaluate"], ["multi_gpu_train"]],
}


def _files(name: str, *overlays: Any) -> Any:
    return [str(BUNDLES / name / "configs" / f"{part}.json") for part in ("train", *overlays)]


def _meta(name: str) -> Any:
    return str(BUNDLES / name / "configs" / "metadata.json")


def _metadata(name: str) -> Any:
    return json.loads(Path(_meta(name)).read_text())


def _run(name: str, folder: Path, *overlays: Any, **settings: Any) -> None:
    own: dict[str, Any] = {"output_dir": str(folder), "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    run_bundle(BUNDLES / name, ["train", *overlays], {**own, **SMALL[name], **settings})


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module", params=NAMES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One epoch of two steps on virtual patients; returns name of the bundle and folder of the run."""
    folder = tmp_path_factory.mktemp("run")
    environment = pytest.MonkeyPatch()
    environment.delenv("MLFLOW_TRACKING_URI", raising=False)
    _run(request.param, folder, **TINY_RUN)
    environment.undo()
    return request.param, folder


@pytest.mark.parametrize("name", ALL)
def test_files_are_there(name: str) -> None:
    folder = BUNDLES / name
    expected = ["metadata", "common", "train", "evaluate", "inference", "multi_gpu_train"]
    expected += [f"{part}_overlay" for part in ("train", "evaluate", "inference")]
    missing = [part for part in expected if not (folder / "configs" / f"{part}.json").is_file()]
    missing += [part for part in ("configs/logging.conf", "docs/README.md", "LICENSE") if not (folder / part).is_file()]
    assert missing == []
    assert "Apache License" in (folder / "LICENSE").read_text()


@pytest.mark.parametrize("name", ALL)
def test_metadata_follows_the_schema(name: str) -> None:
    metadata = _metadata(name)
    assert {key for key, kind in REQUIRED.items() if not isinstance(metadata.get(key), kind)} == set()
    wrong = {key for key, kind in OPTIONAL.items() if key in metadata and not isinstance(metadata[key], kind)}
    assert wrong == set()
    assert metadata["schema"].endswith("/meta_schema_20240725.json")
    assert metadata["version"] in metadata["changelog"]
    assert all(isinstance(reference, str) for reference in metadata["references"])
    for side in ("inputs", "outputs"):
        for tensor in metadata["network_data_format"][side].values():
            assert set(tensor) >= TENSOR


@pytest.mark.parametrize("name", [*NAMES, CLASSIFICATION])
def test_metadata_agrees_with_the_network_and_the_evaluation(name: str) -> None:
    metadata, common = _metadata(name), ConfigParser()
    common.read_config(str(BUNDLES / name / "configs" / "common.json"))
    prediction = metadata["network_data_format"]["outputs"]["pred"]
    assert prediction["num_channels"] == common["network_def"]["out_channels"] == len(prediction["channel_def"])
    assert metadata["network_data_format"]["inputs"]["image"]["num_channels"] == common.get_parsed_content(
        "network_def#in_channels"
    )
    assert set(metadata.get("eval_metrics", {})) <= METRICS[name]
    if name == LOCALIZATION:
        names = [prediction["channel_def"][str(FIRST_NAME_CHANNEL + i)] for i in range(len(NAMED_LEVELS))]
        assert names == ["T8 or above", *(level.value for level in NAMED_LEVELS[1:])]


@pytest.mark.parametrize(("name", "overlays"), [(name, overlays) for name in ALL for overlays in OVERLAYS[name]])
def test_every_reference_resolves(name: str, overlays: Any) -> None:
    _assert_references(name, _files(name, *overlays))


@pytest.mark.parametrize("name", ALL)
def test_every_reference_of_inference_resolves(name: str) -> None:
    _assert_references(name, [str(BUNDLES / name / "configs" / "inference.json")])


def _assert_references(name: str, files: Any) -> None:
    parser = ConfigParser()
    parser.read_config(files)
    parser.read_meta(_meta(name))
    references = set(re.findall(r"@([\w#:]+)", json.dumps(parser.get(), default=str)))
    assert len(references) > 10
    assert {r for r in references if r.replace("#", "::") not in parser} == set()


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_are_reported(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint must be a file, got 'none\.pt'"):
        _run(name, tmp_path, "evaluate", checkpoint=str(tmp_path / "none.pt"), test_items=1, track=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_setting_ends_the_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown setting 'epochz'.*did you mean 'epochs'"):
        _run(name, tmp_path, epochz=4)


@pytest.mark.parametrize("name", ALL)
def test_network_fits_its_metadata(name: str) -> None:
    common = str(BUNDLES / name / "configs" / "inference.json")
    verify_net_in_out("network_def", meta_file=_meta(name), config_file=common, device="cpu", n=1)


@pytest.mark.parametrize("name", NAMES)
def test_monai_finds_every_property_of_training(name: str, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=_files(name),
        meta_file=_meta(name),
        workflow_type="train",
        logging_file=None,
        bundle_root=str(BUNDLES / name),
        output_dir=str(tmp_path),
        **SMALL[name],
        **TINY_RUN,
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("name", NAMES)
def test_monai_finds_every_property_of_inference(name: str, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(BUNDLES / name / "configs" / "inference.json"),
        meta_file=_meta(name),
        workflow_type="infer",
        logging_file=None,
        bundle_root=str(BUNDLES / name),
        output_dir=str(tmp_path),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_training_is_tracked(trained: Any) -> None:
    name, folder = trained
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == name])
    assert record.info.status == "FINISHED"
    expected = {"bundle": name, "bundle_version": _metadata(name)["version"], "data_source": "virtual", "epochs": "1"}
    assert {key: record.data.params[key] for key in expected} == expected
    assert {"seed", "git_commit", "learning_rate", "version_torch", "cuda", "batch_size"} <= set(record.data.params)
    assert {"train_loss", "train_loss_epoch", "val_mean_dice", "lr_group_0"} <= set(record.data.metrics)
    assert len(client.get_metric_history(record.info.run_id, "train_loss")) == 2
    artifacts = {artifact.path for artifact in client.list_artifacts(record.info.run_id)}
    assert artifacts == {"config.json", "figures"}
    figures = {Path(artifact.path).name for artifact in client.list_artifacts(record.info.run_id, "figures")}
    assert figures == {"overlays.png"}
    _assert_described(name, record, folder)
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert version.tags["bundle_version"] == _metadata(name)["version"]
    assert version.tags["weights_sha256"] == file_sha256(folder / "checkpoints" / "model.pt")
    assert json.loads((folder / "config.json").read_text())["epochs"] == 1
    assert (folder / "checkpoints" / "checkpoint_epoch=1.pt").is_file()


def _assert_described(name: str, record: Any, folder: Path) -> None:
    """The parameters are those of the objects that ran, and name the generated data."""
    of_network = "network.widths" if name == SEGMENTATION else "network.channels"
    expected = {
        "optimizer": "AdamW",
        "optimizer.weight_decay": record.data.params["weight_decay"],
        "lr_scheduler": "LambdaLR",
        "gradient_norm": "1.0",
        of_network: "2, 2, 2, 2, 2, 2, 2" if name == SEGMENTATION else "2, 2, 2, 2, 2",
    }
    assert {key: record.data.params.get(key) for key in expected} == expected
    assert record.data.params["lr_scheduler.lr_lambda"].startswith("warmup_cosine(floor=0.01, total_steps=2, ")
    assert "Rand" in record.data.params["augmentation"]
    assert {data.dataset.name for data in record.inputs.dataset_inputs} == {"virtual, training", "virtual, validation"}
    network = record.data.params["network"]
    assert record.info.run_name.startswith(f"{network}_train_")
    assert str(folder) not in str(record.data.params) + str(record.data.tags)


@pytest.mark.parametrize("name", sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/evaluate.json")))
def test_the_tracker_of_an_evaluation_sees_its_errors(name: str) -> None:
    """The handler of statistics raises an error again, which later handlers do not see: the run was KILLED."""
    config = json.loads((BUNDLES / name / "configs" / "evaluate.json").read_text())
    targets = [handler["_target_"].rpartition(".")[2] for handler in config["validate"]["handlers"]]
    assert targets.index("RunTracker") < targets.index("StatsHandler")
    # metrics and files of the others are there when the run ends
    assert targets.index("MetricsSaver") < targets.index("RunTracker")


def test_training_resumes(trained: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name, folder = trained
    with caplog.at_level("INFO"):
        _run(
            name,
            tmp_path,
            **TINY_RUN | {"epochs": 2},
            track=False,
            resume=f"{folder}/checkpoints/checkpoint_epoch=1.pt",
        )
    assert [path.name for path in (tmp_path / "checkpoints").glob("checkpoint*")] == ["checkpoint_epoch=2.pt"]
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=True)
    assert state["trainer"]["iteration"] == 4
    assert not (tmp_path / "mlflow.db").exists()


def test_evaluation_writes_what_it_declares(trained: Any, tmp_path: Path) -> None:
    name, folder = trained
    weights = f"{folder}/checkpoints/model.pt"
    _run(name, tmp_path, "evaluate", checkpoint=weights, test_items=2, num_workers=0, amp=False)
    with (tmp_path / "metrics.csv").open() as file:
        values = {row[0]: float(row[1]) for row in csv.reader(file)}
    assert METRICS[name] <= set(values) <= METRICS[name] | OF_SLICES
    assert 0 <= values["val_mean_dice"] <= 1 or np.isnan(values["val_mean_dice"])
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == name])
    assert record.info.status == "FINISHED"
    assert record.data.params["weights_sha256"] == file_sha256(weights)
    names = {key.removeprefix("val_") for key in values}
    assert {key for key in record.data.metrics if not key.startswith("system/")} == {f"test_{key}" for key in names}
    assert {artifact.path for artifact in client.list_artifacts(record.info.run_id)} >= {"config.json", "metrics.csv"}
    figures = {Path(artifact.path).name for artifact in client.list_artifacts(record.info.run_id, "figures")}
    assert figures >= ({"level_confusion.png"} if name == LOCALIZATION else {"overlays.png"})


def test_shipped_localizer_finds_and_names_bodies_in_its_own_evaluation(tmp_path: Path) -> None:
    weights = str(BUNDLES / LOCALIZATION / "models" / "model.pt")
    settings = {"checkpoint": weights, "test_items": 3, "num_workers": 0, "amp": False, "track": False}
    run_bundle(BUNDLES / LOCALIZATION, ["evaluate"], {"output_dir": str(tmp_path), **settings})
    with (tmp_path / "metrics.csv").open() as file:
        values = {row[0]: float(row[1]) for row in csv.reader(file)}
    # 100 people: 0.92, 0.76 and 5.7 mm; voxels read as 1 mm gave 0.0
    assert values["detection_rate"] > 0.8
    assert values["level_accuracy"] > 0.5
    assert values["centre_error_mm"] < 10.0


@pytest.fixture
def scan(tmp_path: Path) -> Any:
    """A small scan with permuted and flipped axes."""
    turn = np.array([[0, 0, -1.0], [-1.0, 0, 0], [0, 1.0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.5, 1.1, 1.3])
    affine[:3, 3] = [40, 60, -20]
    hu = np.random.default_rng(0).normal(0, 200, (20, 44, 36)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_inference_overlays_the_scan(trained: Any, scan: Any, tmp_path: Path) -> None:
    name, folder = trained
    width: dict[str, Any] = {key: value for key, value in SMALL[name].items() if key.startswith("network_def")}
    run(
        config_file=str(BUNDLES / name / "configs" / "inference.json"),
        meta_file=_meta(name),
        logging_file=str(BUNDLES / name / "configs" / "logging.conf"),
        bundle_root=str(BUNDLES / name),
        output_dir=str(tmp_path / "out"),
        checkpoint=f"{folder}/checkpoints/model.pt",
        image=str(scan),
        amp=False,
        **width,
    )
    (written,) = (tmp_path / "out").glob("*.nii.gz")
    result, original = nib.Nifti1Image.from_filename(written), nib.Nifti1Image.from_filename(scan)
    assert result.shape == original.shape
    np.testing.assert_allclose(result.affine, original.affine, atol=1e-4)
    assert result.get_data_dtype() == np.uint8
    if name == LOCALIZATION:
        assert isinstance(json.loads((tmp_path / "out" / "scan_vertebrae.json").read_text()), list)


def test_exported_weights_load_and_run_in_memory(trained: Any, scan: Any, tmp_path: Path) -> None:
    from monai.transforms import LoadImage

    name, folder = trained
    copy = tmp_path / name
    (copy / "configs").mkdir(parents=True)
    config = json.loads((BUNDLES / name / "configs" / "inference.json").read_text())
    for key, value in SMALL[name].items():
        if key.startswith("network_def#"):
            config["network_def"][key.split("#")[1]] = value
    (copy / "configs" / "inference.json").write_text(json.dumps(config))
    (copy / "configs" / "metadata.json").write_text(json.dumps(_metadata(name)))
    with pytest.raises(ModelMissingError, match="has no weights") as caught:
        load_bundle(copy, trust=True)
    assert str(tmp_path) not in str(caught.value)
    sha256 = export_weights(folder / "checkpoints" / "checkpoint_epoch=1.pt", copy / "models" / "model.pt")
    half = torch.load(copy / "models" / "model.pt", weights_only=True)
    assert {v.dtype for v in half.values() if v.is_floating_point()} == {torch.float16}
    bundle = load_bundle(copy, trust=True)
    assert (bundle.name, bundle.version, bundle.weights_sha256) == (name, _metadata(name)["version"], sha256)
    image = LoadImage(ensure_channel_first=True)(scan)
    result = bundle(image)
    assert result["pred"].shape == image.shape
    assert result["pred"].dtype is torch.uint8
    torch.testing.assert_close(result["pred"].affine, image.affine)
    assert ("vertebrae" in result) == (name == LOCALIZATION)
    with pytest.raises(ValueError, match="must be a MetaTensor"):
        bundle(torch.zeros(1, 8, 8, 8))


def test_torchscript_export(trained: Any, tmp_path: Path) -> None:
    name, folder = trained
    width: dict[str, Any] = {key: value for key, value in SMALL[name].items() if key.startswith("network_def")}
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=f"{folder}/checkpoints/model.pt",
        meta_file=_meta(name),
        config_file=str(BUNDLES / name / "configs" / "inference.json"),
        **width,
    )
    network = torch.jit.load(str(tmp_path / "model.ts"))
    shape = (1, 1, 64, 64) if name == SEGMENTATION else (1, 1, 32, 32, 32)
    assert (
        network(torch.zeros(shape)).shape[1]
        == _metadata(name)["network_data_format"]["outputs"]["pred"]["num_channels"]
    )


def test_pan_s_recipe_and_the_classical_unet_train(tmp_path: Path) -> None:
    plan = TINY_RUN | {"image_size": 64, "batch_size": 2, "track": False}
    pan = plan | {"augmentation#3#roi_size": [56, 56]}
    _run(SEGMENTATION, tmp_path / "pan", "pan2024", **pan)
    assert (tmp_path / "pan" / "checkpoints" / "model.pt").is_file()
    parser = ConfigParser()
    parser.read_config(_files(SEGMENTATION, "pan2024"))
    values = [parser[key] for key in ("epochs", "batch_size", "learning_rate", "boundary", "image_size")]
    assert values == [500, 64, 0.001, "endosteal", 512]
    assert parser["optimizer"]["_target_"] == "torch.optim.SGD"
    settings: dict[str, Any] = {
        **plan,
        "network_def#features": [2, 2, 2, 2, 2, 2],
        "output_dir": str(tmp_path / "unet"),
    }
    run_bundle(BUNDLES / SEGMENTATION, ["train", "classical_unet"], settings)
    assert (tmp_path / "unet" / "checkpoints" / "model.pt").is_file()


def test_the_second_stage_trains_on_planes_of_several_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: set[int] = set()
    forward = ChannelAttentionUNet.forward

    def counted(self: ChannelAttentionUNet, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            sizes.add(x.shape[-1])
        return forward(self, x)

    monkeypatch.setattr(ChannelAttentionUNet, "forward", counted)
    settings = TINY_RUN | {"image_size": 96, "batch_size": 1, "plane_sizes": [64, 128], "epoch_length": 8}
    _run(SEGMENTATION, tmp_path, "random_planes", **settings, track=False)
    assert sizes == {64, 128}
    assert (tmp_path / "checkpoints" / "model.pt").is_file()


@pytest.fixture
def manifest(tmp_path: Path) -> Any:
    """Three scans with one body of L1 each, and a manifest with one in each split."""
    records = []
    for number in range(3):
        labels = np.zeros((40, 44, 30), np.uint8)
        labels[15:25, 15:25, 10:20] = 20
        hu = np.where(labels > 0, 200, -50).astype(np.int16)
        affine = np.diag([-2.0, 2.0, 3.0, 1.0])
        nib.save(nib.Nifti1Image(hu, affine), tmp_path / f"ct_{number}.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), tmp_path / f"levels_{number}.nii.gz")
        records.append({"image": f"ct_{number}.nii.gz", "label": f"levels_{number}.nii.gz", "subject_id": str(number)})
    path = tmp_path / "manifest.json"
    header = {"name": "three scans", "description": "boxes", "virtual": True}
    path.write_text(
        json.dumps({**header, **dict(zip(("training", "validation", "test"), ([r] for r in records), strict=True))})
    )
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_is_another_source_of_data(name: str, manifest: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(name, out, **TINY_RUN, data_source=str(manifest))
    client = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == name])
    assert len(record.data.params["manifest_sha256"]) == 64
    assert "val_mean_dice" in record.data.metrics
    weights = f"{out}/checkpoints/model.pt"
    scores = tmp_path / "scores"
    _run(name, scores, "evaluate", checkpoint=weights, data_source=str(manifest), num_workers=0, amp=False)
    with (scores / "metrics.csv").open() as file:
        found = {row[0] for row in csv.reader(file)}
    assert METRICS[name] <= found <= METRICS[name] | OF_SLICES
    assert name != SEGMENTATION or {"val_centre_slice_dice", "val_volume_dice"} <= found


def test_only_bodies_of_a_manifest_are_trained_and_evaluated(tmp_path: Path) -> None:
    """Label maps also hold the sacrum (26) and ribs (50); T13 is 28."""
    labels = np.zeros((40, 44, 30), np.uint8)
    for place, label in enumerate((20, 28, 26, 50)):
        labels[8 * place : 8 * place + 6, 15:25, 10:20] = label
    affine = np.diag([1.5, 1.5, 3.0, 1.0])
    splits = {}
    for split in ("training", "validation", "test"):
        image, label_map = f"{split}.nii.gz", f"{split}_levels.nii.gz"
        nib.save(nib.Nifti1Image(np.where(labels > 0, 200, -50).astype(np.int16), affine), tmp_path / image)
        nib.save(nib.Nifti1Image(labels, affine), tmp_path / label_map)
        splits[split] = [{"image": image, "label": label_map, "subject_id": split}]
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({"name": "n", "description": "d", "virtual": True, **splits}))
    for overlays in ([], ["evaluate"]):
        parser = ConfigParser(ConfigParser.load_config_files(_files(SEGMENTATION, *overlays)))
        parser.update({"data_source": str(file), "image_size": 64, "bundle_root": str(BUNDLES / SEGMENTATION)})
        label = parser.get_parsed_content("validate#dataset")[0]["label"]
        assert torch.equal(label[0] > 0.01, torch.from_numpy((labels == 20) | (labels == 28)))
        crops = parser.get_parsed_content("train#dataset")[0]
        assert {float(value) for crop in crops for value in crop["label"].unique()} == {0.0, 1.0}
        bright = torch.stack([crop["image"] for crop in crops]) > 0.45
        share = float(torch.stack([crop["label"] for crop in crops]).sum() / bright.sum())
        assert 0.3 < share < 0.8  # two of four boxes are bodies; with all labels it is 1


def test_curve_of_dice_over_virtual_training_images(tmp_path: Path) -> None:
    small: dict[str, Any] = {**SMALL[SEGMENTATION], **TINY_RUN, "test_items": 2}
    rows = training_size_curve(BUNDLES / SEGMENTATION, [1, 4], tmp_path, settings=small)  # 1 is less than a batch
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == SEGMENTATION)
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in runs if r.data.tags["kind"] == "training_size")
    assert {r.data.tags["mlflow.parentRunId"] for r in runs if r is not parent} == {parent.info.run_id}
    curve = client.get_metric_history(parent.info.run_id, "test_mean_dice")
    assert [(point.step, point.value) for point in curve] == [(row.images, row.mean) for row in rows]
    artifacts = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {"training_size.csv", "training_size.png"}
    assert [(row.images, row.subjects) for row in rows] == [(1, None), (4, None)]
    assert (tmp_path / "training_size.png").stat().st_size > 1000
    with (tmp_path / "training_size.csv").open() as file:
        assert [float(row["mean"]) for row in csv.DictReader(file)] == [row.mean for row in rows]
    weights = [torch.load(tmp_path / f"size_{n}/checkpoints/checkpoint_epoch=1.pt")["model"] for n in (1, 4)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
