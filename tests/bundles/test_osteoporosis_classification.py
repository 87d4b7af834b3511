"""Classifier of bone status: training, evaluation, inference and refusals, on twelve subjects made of boxes."""

import csv
import json
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, run

from osteo_monai.bundle import export_weights, find_bundle, load_bundle, merge_configs, run_bundle
from osteo_monai.data.predictions_table import read_predictions
from osteo_monai.errors import ConfigError, ManifestError

NAME = "osteoporosis_classification_ct"
BUNDLE = find_bundle(NAME)
CONFIGS = BUNDLE / "configs"
# 8 channels or more: with fewer PyTorch 2.13 writes past its memory on processors with AVX2 and no more
NETWORK: dict[str, Any] = {"depth": "resnet10", "widths": [8, 8, 16, 16]}
SMALL: dict[str, Any] = {"size": 32, "pixel_mm": 2.0, **{f"network_def#{key}": value for key, value in NETWORK.items()}}
TINY_RUN: dict[str, Any] = {"epochs": 2, "batch_size": 3, "amp": False, "cache_workers": 1}
BMD = {"normal": 150.0, "osteopenia": 100.0, "osteoporosis": 60.0}


def _run(folder: Path, manifest: Any, *overlays: Any, **settings: Any) -> None:
    own: dict[str, Any] = {
        "output_dir": str(folder),
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "data_source": str(manifest),
    }
    run_bundle(BUNDLE, ["train", *overlays], {**own, **SMALL, **settings})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two subjects of each class in training, one each in validation and test; HU follow the density.

    The truth's label map holds no L2, so that reading it instead of the predicted one fails.
    """
    folder = tmp_path_factory.mktemp("cohort")
    content: dict[str, Any] = {
        "name": "boxes",
        "description": "boxes",
        "virtual": True,
        "training": [],
        "validation": [],
        "test": [],
    }
    for number, (status, bmd) in enumerate(list(BMD.items()) * 4):
        labels = np.zeros((24, 22, 12), np.uint8)
        labels[6:18, 6:16, 7:11], labels[6:18, 6:16, 1:5] = 20, 21
        noise = np.random.default_rng(number).normal(0, 5, labels.shape)
        hu = np.where(labels > 0, bmd, -50) + noise
        hu[0] = -1000  # without air it is no CT
        affine = np.diag([-3.0, 3.0, 3.0, 1.0])
        nib.save(nib.Nifti1Image(hu.astype(np.int16), affine), folder / f"{number}.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / f"{number}_labels.nii.gz")
        nib.save(nib.Nifti1Image(labels * (labels == 20), affine), folder / f"{number}_truth.nii.gz")
        split = ("training", "training", "validation", "test")[number // 3]
        density = {"bone_status": status} if split == "training" else {"bmd_mg_cm3": bmd, "bmd_standard": "K2HPO4"}
        paths = {"image": f"{number}.nii.gz", "label": f"{number}_truth.nii.gz"}
        predicted = {"segmentation": f"{number}_labels.nii.gz"}
        content[split].append({**paths, **predicted, **density, "subject_id": f"p{number}", "age": 60, "kvp": 120})
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder / "manifest.json"


@pytest.fixture(scope="module")
def trained(manifest: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("run")
    environment = pytest.MonkeyPatch()
    environment.delenv("MLFLOW_TRACKING_URI", raising=False)
    _run(folder, manifest, **TINY_RUN)
    environment.undo()
    return folder


def test_training_is_tracked_and_leaves_weights(trained: Any) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{trained}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == NAME])
    assert record.info.status == "FINISHED"
    assert {"train_loss_epoch", "val_mean_auc", "val_accuracy"} <= set(record.data.metrics)
    assert record.data.params["training_people"] == "6"
    assert len(record.data.params["manifest_sha256"]) == 64
    assert {artifact.path for artifact in client.list_artifacts(record.info.run_id)} == {"config.json", "figures"}
    figures = {Path(artifact.path).name for artifact in client.list_artifacts(record.info.run_id, "figures")}
    assert figures == {"roc.png", "calibration.png", "confusion.png"}
    assert len(client.search_model_versions(f"name = '{record.data.tags['bundle']}'")) == 1
    assert record.data.params["augmentation"] != "none"
    assert (trained / "checkpoints" / "checkpoint_epoch=2.pt").is_file()


def test_evaluation_writes_predictions_of_any_splits(trained: Any, manifest: Any, tmp_path: Path) -> None:
    weights = f"{trained}/checkpoints/model.pt"
    _run(tmp_path, manifest, "evaluate", **TINY_RUN, checkpoint=weights, splits=["validation", "test"])
    with (tmp_path / "metrics.csv").open() as file:
        assert {row[0] for row in csv.reader(file)} == {"val_mean_auc", "val_accuracy"}
    cohorts = {one.cohort: one for one in read_predictions([tmp_path / "predictions.csv"])}
    assert set(cohorts) == {"validation", "test"}
    test = cohorts["test"]
    assert (test.model, test.virtual) == ("Model 1 (L1 + L2)", True)
    truth = zip(test.subjects.tolist(), test.truth.tolist(), test.density.tolist(), strict=True)
    assert sorted(truth) == [("p10", 1, 100.0), ("p11", 2, 60.0), ("p9", 0, 150.0)]
    assert test.probabilities is not None
    np.testing.assert_allclose(test.probabilities.sum(1), 1, atol=1e-5)
    assert set(test.facts) >= {"age", "kvp"}


def test_prior_is_put_into_the_probabilities(trained: Any, manifest: Any, tmp_path: Path) -> None:
    """Bayes: with another prior the odds change by the ratio of the priors."""
    rows = []
    for number, prior in enumerate(([1, 1, 1], [0.6, 0.3, 0.1])):
        folder = tmp_path / str(number)
        weights = f"{trained}/checkpoints/model.pt"
        _run(folder, manifest, "evaluate", **TINY_RUN, checkpoint=weights, class_prior=prior, track=False)
        with (folder / "predictions.csv").open() as file:
            row = next(csv.DictReader(file))
        rows.append([float(row[f"probability_{status}"]) for status in BMD])
    odds = [row[0] / row[2] for row in rows]
    assert odds[1] / odds[0] == pytest.approx(6.0, rel=1e-3)


def test_inference_runs_alone_and_in_memory_with_the_same_answer(trained: Any, manifest: Any, tmp_path: Path) -> None:
    from monai.transforms import LoadImage

    config = merge_configs(BUNDLE)["inference.json"]
    config["network_def"] |= NETWORK
    config |= {"size": SMALL["size"], "pixel_mm": SMALL["pixel_mm"], "amp": False}
    copy = tmp_path / NAME
    (copy / "configs").mkdir(parents=True)
    (copy / "configs" / "inference.json").write_text(json.dumps(config))
    (copy / "configs" / "metadata.json").write_text((CONFIGS / "metadata.json").read_text())
    export_weights(trained / "checkpoints" / "model.pt", copy / "models" / "model.pt", half=False)
    run(
        config_file=str(copy / "configs" / "inference.json"),
        meta_file=str(copy / "configs" / "metadata.json"),
        logging_file=str(CONFIGS / "logging.conf"),
        bundle_root=str(copy),
        image=str(manifest.parent / "0.nii.gz"),
        segmentation=str(manifest.parent / "0_labels.nii.gz"),
    )
    with (copy / "inference" / "predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["subject_id"] == "0"
    bundle, load = load_bundle(copy, trust=True), LoadImage(ensure_channel_first=True)
    image, labels = load(manifest.parent / "0.nii.gz"), load(manifest.parent / "0_labels.nii.gz")
    answer = bundle({"image": image, "label": labels})
    assert set(answer) == {"pred"}
    expected = [float(row[f"probability_{status}"]) for status in BMD]
    np.testing.assert_allclose(answer["pred"].numpy(), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"got no L2 \(label 21\)"):
        bundle({"image": image, "label": labels * (labels == 20)})
    with pytest.raises(ValueError, match="label must be a MetaTensor of shape"):
        bundle({"image": image, "label": torch.zeros(1, 2, 2, 2)})
    with pytest.raises(ValueError, match="all images must have its shape"):
        bundle({"image": image, "label": labels[:, :-1]})


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (lambda c: [r.pop("segmentation") for r in c["training"][:2]], ["2 of 6 records of training have no 'segm"]),
        (lambda c: c["training"][1].pop("bone_status"), ["1 of 6 records of training have neither 'bone_status'"]),
        (
            lambda c: [r.update(segmentation=r["label"]) for r in c["training"][1:3]],
            [
                "data set of 6 records has 2 problems",
                r"training\[1\]: label must hold L1, L2, got no L2",
                r"training\[2\]:",
            ],
        ),
        (
            lambda c: c.pop("training"),
            ["the split 'training' must have records; splits with"],
        ),
        (
            lambda c: c.update(training=c["training"][:1]),
            ["the class 'osteopenia'", "the class 'osteoporosis'"],
        ),
    ],
)
def test_problems_of_a_manifest_are_listed(manifest: Any, tmp_path: Path, change: Any, sentences: Any) -> None:
    content = json.loads(manifest.read_text())
    change(content)
    file = manifest.parent / f"{tmp_path.name}.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match="(?s)" + ".*".join(sentences)):
        _run(tmp_path, file, **TINY_RUN, track=False)


def test_no_manifest_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="data_source must be the path of a data manifest"):
        _run(tmp_path, "", **TINY_RUN, track=False)
    with pytest.raises(ConfigError, match="unknown setting 'epochz'.*did you mean 'epochs'"):
        _run(tmp_path, "", epochz=1)


def test_model_2_sees_l1_alone_and_pan_s_recipe_trains(manifest: Any, tmp_path: Path) -> None:
    pan: dict[str, Any] = {
        "network_def#widths": [8, 8, 8, 8],
        "network_def#depth": "3-4-6-3",
        "pixel_mm": None,
        "epochs": 1,
    }
    _run(tmp_path, manifest, "pan2024", "l1_only", **TINY_RUN | pan | {"size": 64}, track=False)
    state = torch.load(tmp_path / "checkpoints" / "model.pt", weights_only=True)
    assert state["conv1.weight"].shape == (8, 1, 7, 7)
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{part}.json") for part in ("train", "pan2024")])
    assert [parser[key] for key in ("size", "pixel_mm", "window")] == [512, None, [-160, 240]]
    assert parser["network_def"]["depth"] == "resnet101"
    assert parser["margin_mm"] == -1.5
    # nothing that the paper does not have
    assert [parser[key] for key in ("balance", "smoothing", "average_decay", "gradient_norm")] == [0, 0, 0, 1e12]
    own = ("noise_hu", "gain_sd", "offset_hu", "mask_cut")
    assert [parser[f"augmentation#{key}"] for key in own] == [0, 0, 0, [0.5, 0.5]]


@pytest.mark.parametrize("kind", ["train", "infer"])
def test_monai_finds_every_property(manifest: Any, tmp_path: Path, kind: Any) -> None:
    train = [str(CONFIGS / "train.json")]
    files, settings = (train, TINY_RUN) if kind == "train" else (str(CONFIGS / "inference.json"), {})
    workflow = ConfigWorkflow(
        config_file=files,
        meta_file=str(CONFIGS / "metadata.json"),
        workflow_type=kind,
        logging_file=None,
        bundle_root=str(BUNDLE),
        output_dir=str(tmp_path),
        **SMALL,
        **settings,
        **({"data_source": str(manifest)} if kind == "train" else {}),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
