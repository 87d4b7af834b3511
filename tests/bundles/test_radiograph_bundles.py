"""Both radiograph bundles: training, folds, evaluation, inference, heat maps, refusals, on twelve subjects."""

import csv
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, run
from PIL import Image

from osteo_monai.bundle import export_weights, find_bundle, load_bundle, merge_configs, run_bundle
from osteo_monai.data.predictions_table import read_predictions
from osteo_monai.errors import ConfigError, ManifestError, ModelMissingError, UnusableInputError
from osteo_monai.experiments import cross_validate, last_checkpoint
from osteo_monai.transforms import LoadRadiographd
from osteo_monai.virtual.projections import write_projections
from osteo_monai.weights import read_weights

CHEST, LUMBAR = "osteoporosis_classification_chest_xray", "osteoporosis_classification_lumbar_xray"
NAMES = (CHEST, LUMBAR)
VIEWS = {CHEST: "chest_frontal", LUMBAR: "lumbar_ap"}
# with 4 channels or fewer PyTorch 2.13 writes past its memory where the processor has AVX2 and no more (convolution of
# 1 x 1 with stride 2, channels last, backward)
SMALL: dict[str, dict[str, Any]] = {
    CHEST: {"patch_size": 32, "network_def#width": 64, "network_def#heads": 2, "network_def#layers": 1},
    LUMBAR: {"patch_size": [64, 32], "network_def#width": 0.125},
}
TINY_RUN: dict[str, Any] = {"epochs": 2, "batch_size": 3, "amp": False, "cache_workers": 1, "check_images": False}


def _configs(name: str) -> Any:
    return find_bundle(name) / "configs"


def _run(name: str, folder: Path, manifest: Any, *overlays: Any, **settings: Any) -> None:
    own: dict[str, Any] = {
        "output_dir": str(folder),
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "data_source": str(manifest),
    }
    run_bundle(name, ["train", *overlays], {**own, **SMALL[name], **settings})


def _table(file: Any) -> Any:
    with file.open() as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each subject has all views: a bright band, masked as bone, broad for a high T-score, narrow for a low one."""
    folder = tmp_path_factory.mktemp("cohort")
    content: dict[str, Any] = {"name": "bands", "description": "bands", "virtual": True}
    content |= {split: [] for split in ("training", "validation", "test")}
    for number in range(12):
        poor = number % 2
        for view in ("chest_frontal", "lumbar_ap", "lumbar_lateral"):
            pixels = np.random.default_rng(number).normal(20000, 1000, (72, 60))
            bone = np.zeros((72, 60), np.uint8)
            bone[:, 30 : 34 + 12 * (1 - poor)] = 255
            stem = f"{number}_{view}"
            Image.fromarray((pixels + 100 * bone).astype(np.uint16)).save(folder / f"{stem}.png")
            Image.fromarray(bone).save(folder / f"{stem}_bone.png")
            split = "training" if number < 6 else "validation" if number < 9 else "test"
            facts = {"age": 60 + number, "sex": "F", "t_score": -3.0 if poor else -1.0}
            paths = {"image": f"{stem}.png", "bone_mask": f"{stem}_bone.png"}
            content[split].append({**paths, "view": view, "subject_id": f"p{number}", **facts})
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder / "manifest.json"


@pytest.fixture(scope="module", params=NAMES)
def trained(request: pytest.FixtureRequest, manifest: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("run")
    environment = pytest.MonkeyPatch()
    environment.delenv("MLFLOW_TRACKING_URI", raising=False)
    _run(request.param, folder, manifest, **TINY_RUN)
    environment.undo()
    return request.param, folder


def test_training_is_tracked_and_leaves_weights(trained: Any) -> None:
    name, folder = trained
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == name])
    assert record.info.status == "FINISHED"
    assert {"train_loss_epoch", "val_auc", "val_accuracy"} <= set(record.data.metrics)
    assert record.data.params["training_images"] == "6"
    assert record.data.params["view"] == VIEWS[name]
    assert len(record.data.params["manifest_sha256"]) == 64
    assert {artifact.path for artifact in client.list_artifacts(record.info.run_id)} == {"config.json", "figures"}
    figures = {Path(artifact.path).name for artifact in client.list_artifacts(record.info.run_id, "figures")}
    assert figures == {"roc.png", "calibration.png", "confusion.png"}
    assert len(client.search_model_versions(f"name = '{record.data.tags['bundle']}'")) == 1
    assert record.data.params["augmentation"] != "none"
    assert (folder / "checkpoints" / "checkpoint_epoch=2.pt").is_file()


def test_evaluation_writes_risks_and_how_much_heat_lies_on_bone(trained: Any, manifest: Any, tmp_path: Path) -> None:
    name, folder = trained
    weights = f"{folder}/checkpoints/model.pt"
    splits = ["validation", "test"]
    _run(name, tmp_path, manifest, "evaluate", **TINY_RUN, checkpoint=weights, splits=splits, heat_maps=True)
    with (tmp_path / "metrics.csv").open() as file:
        assert {row[0] for row in csv.reader(file)} == {"val_auc", "val_accuracy"}
    cohorts = {one.cohort: one for one in read_predictions([tmp_path / "predictions.csv"])}
    test = cohorts["test"]
    assert test.virtual
    assert test.classes == ("no_osteoporosis", "osteoporosis")
    assert dict(zip(test.subjects.tolist(), test.truth.tolist(), strict=True)) == {"p9": 1, "p10": 0, "p11": 1}
    rows = _table(tmp_path / "predictions.csv")
    assert {row["t_score"] for row in rows} == {"-3.0", "-1.0"}
    for row in rows:
        wide = row["osteoporosis"] == "0"
        assert float(row["bone_area"]) == pytest.approx((16 if wide else 4) / 60, abs=0.01)
        assert ("attention_on_bone" in row) == (name == CHEST)
        assert 0 <= float(row["heat_on_bone"] or 0) <= 1
    assert (tmp_path / "heat_maps.png").stat().st_size > 1000
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == name])
    figures = {Path(artifact.path).name for artifact in client.list_artifacts(record.info.run_id, "figures")}
    assert figures == {"heat_maps.png", "roc.png", "calibration.png", "confusion.png"}
    assert {key for key in record.data.metrics if not key.startswith("system/")} == {"test_auc", "test_accuracy"}


def test_inference_runs_alone_and_in_memory_with_the_same_answer(trained: Any, manifest: Any, tmp_path: Path) -> None:
    name, folder = trained
    config = merge_configs(find_bundle(name))["inference.json"] | {"amp": False, "check_images": False}
    for key, value in SMALL[name].items():
        if key.startswith("network_def#"):
            config["network_def"][key.split("#")[1]] = value
        else:
            config[key] = value
    copy = tmp_path / name
    (copy / "configs").mkdir(parents=True)
    (copy / "configs" / "inference.json").write_text(json.dumps(config))
    (copy / "configs" / "metadata.json").write_text((_configs(name) / "metadata.json").read_text())
    with pytest.raises(ModelMissingError, match=r"has no weights: .*model\.pt is missing"):
        load_bundle(copy, trust=True)
    export_weights(folder / "checkpoints" / "model.pt", copy / "models" / "model.pt", half=False)
    picture = manifest.parent / f"0_{VIEWS[name]}.png"
    run(
        config_file=str(copy / "configs" / "inference.json"),
        meta_file=str(copy / "configs" / "metadata.json"),
        logging_file=str(_configs(name) / "logging.conf"),
        bundle_root=str(copy),
        image=str(picture),
    )
    (row,) = _table(copy / "inference" / "predictions.csv")
    assert row["subject_id"] == picture.stem
    assert (copy / "inference" / "heat_maps.png").is_file()
    bundle = load_bundle(copy, trust=True)
    image = torch.from_numpy(np.asarray(Image.open(picture)).astype(np.float32))[None]
    answer = bundle(image)
    assert set(answer) == {"pred", "heat", *(["attention"] if name == CHEST else [])}
    assert float(answer["pred"][0]) == pytest.approx(float(row["score_osteoporosis"]), abs=1e-5)
    assert row["probability_osteoporosis"] == ""  # the copy has no calibration
    assert answer["heat"].shape == ((1, 192, 192) if name == CHEST else (1, 64, 32))
    # brightness and contrast are taken out
    torch.testing.assert_close(bundle(3 * image + 7)["pred"], answer["pred"], atol=1e-4, rtol=0)
    masked = bundle({"image": image, "bone": torch.ones_like(image)})
    assert masked["bone_area"] == pytest.approx(1)
    with pytest.raises(ValueError, match=r"image must be a tensor of shape \(1, rows, columns\), got \(1, 8, 8, 8\)"):
        bundle(torch.zeros(1, 8, 8, 8))
    with pytest.raises(ValueError, match="all images must have its shape"):
        bundle({"image": image, "bone": torch.ones(1, 5, 5)})


def test_all_folds_give_one_table_of_risks_by_networks_that_did_not_see_the_person(
    manifest: Any, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {**SMALL[CHEST], **TINY_RUN, "epochs": 1}
    file = cross_validate(find_bundle(CHEST), tmp_path, str(manifest), folds=3, settings=settings)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == CHEST)
    found = client.search_runs([experiment.experiment_id])
    assert {r.info.status for r in found} == {"FINISHED"}
    (parent,) = (r for r in found if r.data.tags["kind"] == "cross_validation")
    runs = [r for r in found if r is not parent]
    assert sorted(r.data.params["fold"] for r in runs) == ["0", "0", "1", "1", "2", "2"]
    assert {r.data.tags["mlflow.parentRunId"] for r in runs} == {parent.info.run_id}
    assert sorted(r.info.run_name.rsplit("_", 3)[0] for r in runs) == [
        f"fold_{fold}_{kind}" for fold in range(3) for kind in ("evaluate", "train")
    ]
    assert client.search_model_versions(f"name = '{CHEST}'") == []
    areas = [r.data.metrics["test_auc"] for r in runs if r.data.tags["kind"] == "evaluate"]
    assert parent.data.metrics["test_auc_mean"] == pytest.approx(np.mean(areas))
    assert parent.data.metrics["test_auc_sd"] == pytest.approx(np.std(areas, ddof=1))
    trainings = {r.data.params["fold"]: r.info.run_id for r in runs if r.data.tags["kind"] == "train"}
    evaluations = {r.data.params["fold"]: r.data.tags["training_run"] for r in runs if "training_run" in r.data.tags}
    assert evaluations == trainings  # the last weights are evaluated, not the best
    settings["track"] = False
    rows = _table(file)
    fold = {row["subject_id"]: row["fold"] for row in rows if row["cohort"] == "validation"}
    assert set(fold) == {f"p{n}" for n in range(9)}
    assert sorted(fold.values()) == ["0"] * 3 + ["1"] * 3 + ["2"] * 3
    for number in range(3):
        single = {row["subject_id"]: row for row in _table(tmp_path / f"fold_{number}" / "predictions.csv")}
        assert {name for name, at in fold.items() if at == str(number)} == set(single) - {"p9", "p10", "p11"}
    assert [row["subject_id"] for row in rows if row["cohort"] == "test"] == ["p9", "p10", "p11"]
    logits = []
    for number in range(3):
        p = {
            r["subject_id"]: float(r["probability_osteoporosis"])
            for r in _table(tmp_path / f"fold_{number}/predictions.csv")
        }
        logits.append(np.log(p["p9"] / (1 - p["p9"])))
    joined = {row["subject_id"]: float(row["probability_osteoporosis"]) for row in _table(tmp_path / "ensemble.csv")}
    assert joined["p9"] == pytest.approx(1 / (1 + np.exp(-np.mean(logits))), abs=1e-4)
    published = next(float(row["probability_osteoporosis"]) for row in rows if row["subject_id"] == "p9")
    assert published == pytest.approx(1 / (1 + np.exp(-logits[0])), abs=1e-5)
    assert {one.cohort for one in read_predictions([file])} == {"validation", "test"}
    # a complete fold is evaluated again with its last weights, not trained
    weights = tmp_path / "fold_1" / "checkpoints" / "checkpoint_epoch=1.pt"
    assert last_checkpoint(weights.parent) == weights
    written = weights.stat().st_mtime_ns
    assert _table(cross_validate(find_bundle(CHEST), tmp_path, str(manifest), folds=3, settings=settings)) == rows
    assert weights.stat().st_mtime_ns == written
    weights.unlink()
    with pytest.raises(UnusableInputError, match="must hold a checkpoint"):
        last_checkpoint(weights.parent)


def test_lateral_radiographs_with_the_other_architecture(manifest: Any, tmp_path: Path) -> None:
    _run(LUMBAR, tmp_path, manifest, "lateral", **TINY_RUN, track=False)
    state = torch.load(tmp_path / "checkpoints" / "model.pt", weights_only=True)
    assert state.get("model", state)["classes.weight"].shape == (1, 128, 1, 1)
    folder = tmp_path / "eval"
    settings = TINY_RUN | {"checkpoint": f"{tmp_path}/checkpoints/model.pt", "track": False}
    _run(LUMBAR, folder, manifest, "evaluate", "lateral", **settings)
    assert {row["model"] for row in _table(folder / "predictions.csv")} == {"darknet19 (lumbar_lateral)"}


def test_published_recipes(manifest: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    _run(CHEST, tmp_path / "li", manifest, "li2026", **TINY_RUN, track=False, num_workers=0)
    assert "Training begins with random weights" in "".join(capfd.readouterr())
    _run(LUMBAR, tmp_path / "boonrod", manifest, "boonrod2025", **TINY_RUN, track=False)
    for folder in ("li", "boonrod"):
        assert (tmp_path / folder / "checkpoints" / "model.pt").is_file()

    def settings(name: str, overlay: Any, *keys: Any) -> Any:
        parser = ConfigParser()
        parser.read_config([str(_configs(name) / f"{part}.json") for part in ("train", overlay)])
        return [parser[key] for key in keys]

    keys = ("grid", "patch_size", "batch_size", "learning_rate", "target_sd", "network_def#width", "network_def#layers")
    assert settings(CHEST, "li2026", *keys) == [[6, 6], 256, 8, 0.0001, 0.0, 512, 6]
    (optimiser,) = settings(CHEST, "li2026", "optimizer")
    assert (optimiser["_target_"], optimiser["momentum"]) == ("torch.optim.SGD", 0.9)
    added = ("gradient_norm", "weight_decay", "warmup_steps", "average_decay")
    assert settings(CHEST, "li2026", *added) == [1e12, 0.0, 0, 0.0]  # nothing that the paper does not have
    assert settings(LUMBAR, "boonrod2025", "network_def#width", "target_sd") == [1.0, 0.0]
    assert settings(LUMBAR, "lateral", "view", "architecture") == ["lumbar_lateral", "darknet19"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["train", "validate"])
def test_each_radiograph_is_read_once_in_two_passes(
    name: str, part: Any, manifest: Any, monkeypatch: pytest.MonkeyPatch
) -> Any:
    reads = []
    read = LoadRadiographd.__call__

    def counted(self: LoadRadiographd, data: Any) -> Any:
        reads.append(data["image"])
        return read(self, data)

    monkeypatch.setattr(LoadRadiographd, "__call__", counted)
    configs = _configs(name)
    parser = ConfigParser(ConfigParser.load_config_files([configs / "train.json"]))
    parser.update({"data_source": str(manifest), "check_images": False, "cache_workers": 1, "amp": False})
    for key, value in SMALL[name].items():
        parser[key] = value
    dataset = parser.get_parsed_content(f"{part}#dataset")
    passes = [[dataset[index] for index in range(len(dataset))] for _ in range(2)]
    assert len(passes[0]) == (6 if part == "train" else 3)
    assert sorted(reads) == sorted(item["image"] for item in parser.get_parsed_content(f"{part}#subjects"))
    torch.testing.assert_close(passes[0][0]["image"], passes[1][0]["image"])


def test_all_unusable_radiographs_are_listed_together(manifest: Any, tmp_path: Path) -> None:
    content = json.loads(manifest.read_text())
    for number in (0, 3):
        (manifest.parent / f"broken_{number}.png").write_bytes(b"no picture")
        content["training"][number] |= {"image": f"broken_{number}.png"}
    path = manifest.parent / "broken.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match=r"(?s)has 2 problems:.*training\[0\]: .*training\[3\]: "):
        _run(CHEST, tmp_path, path, **TINY_RUN, track=False)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_settings_are_refused(name: str, manifest: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data_source must be the path of a data manifest"):
        _run(name, tmp_path, "", **TINY_RUN, track=False)
    with pytest.raises(ConfigError, match="unknown setting 'epochz'.*did you mean 'epochs'"):
        _run(name, tmp_path, manifest, epochz=1)
    with pytest.raises(ManifestError, match="no records of the view 'chest_lateral'"):
        _run(name, tmp_path, manifest, **TINY_RUN, track=False, view="chest_lateral")


@pytest.mark.parametrize("name", NAMES)
def test_metadata_agrees_with_the_network(name: str) -> None:
    configs = _configs(name)
    metadata = json.loads((configs / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    parser = ConfigParser(json.loads((configs / "inference.json").read_text()))
    network = parser.get_parsed_content("network_def").eval()
    formats = metadata["network_data_format"]
    channels, size = (formats["inputs"]["image"][key] for key in ("num_channels", "spatial_shape"))
    with torch.no_grad():
        answer = network(torch.zeros(1, channels, *size))
    assert answer.shape == (1, formats["outputs"]["pred"]["num_channels"])
    for part in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert len(part["channel_def"]) == part["num_channels"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["train", "infer"])
def test_monai_finds_every_property(name: str, kind: Any, manifest: Any, tmp_path: Path) -> None:
    configs = _configs(name)
    files = [str(configs / "train.json")]
    workflow = ConfigWorkflow(
        config_file=files if kind == "train" else str(configs / "inference.json"),
        meta_file=str(configs / "metadata.json"),
        workflow_type=kind,
        logging_file=None,
        bundle_root=str(configs.parent),
        output_dir=str(tmp_path),
        **SMALL[name],
        **({"data_source": str(manifest), **TINY_RUN} if kind == "train" else {}),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_clinical_look_trains_on_projections_and_starts_from_weights(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = {
        "name": "few",
        "description": "training, validation and test",
        "seed": 7,
        "subjects": 6,
        "splits": {"training": 0.5, "validation": 0.5},
        "osteoporosis": {"share": 0.5, "population": {"female_fraction": 1.0, "age_mean": 72, "age_sd": 5}},
        "acquisitions": [{"modality": "radiograph", "name": "dr", "rows": 96}],
        "formats": ["png"],
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    source = write_projections(tmp_path / "recipe.json", tmp_path / "store", rows=64)
    few = {key: value for key, value in TINY_RUN.items() if key != "check_images"}
    _run(CHEST, tmp_path / "first", source, "clinical_look", **few, track=False)
    assert "Training begins with random weights" in "".join(capfd.readouterr())
    start = tmp_path / "first" / "checkpoints" / "model.pt"
    still = {"learning_rate": 0.0, "average_decay": 0.0, "initial_weights": str(start)}
    _run(CHEST, tmp_path / "second", source, "clinical_look", **few, **still, track=False)
    assert "Training begins with random weights" not in "".join(capfd.readouterr())
    one, two = (read_weights(tmp_path / run / "checkpoints" / "model.pt") for run in ("first", "second"))
    for name in one:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(one[name], two[name])

    parser = ConfigParser(
        ConfigParser.load_config_files([_configs(CHEST) / f"{part}.json" for part in ("train", "clinical_look")])
    )
    parser.update({"data_source": str(source), "cache_workers": 1, "amp": False})
    training, validation = (parser.get_parsed_content(f"{part}#dataset") for part in ("train", "validate"))
    pair, again = training[0], training[0]
    assert [item["image"].shape for item in pair] == [(36, 32, 32)] * 2
    assert len({round(float(item["target"]), 6) for item in (*pair, *again)}) == 4
    assert not torch.equal(pair[0]["image"], again[0]["image"])
    first, second = validation[0]["image"], validation[0]["image"]
    assert first.shape == (36, 32, 32)
    assert torch.equal(first, second)
