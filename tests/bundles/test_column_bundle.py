"""Column bundle: a tracked training on virtual subjects, evaluation, and inference along a line that another
bundle found.

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
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, run
from monai.data import MetaTensor
from monai.transforms import LoadImage

from osteo_monai.bundle import export_weights, load_bundle, run_bundle
from osteo_monai.errors import ConfigError
from osteo_monai.imaging import read_ct
from osteo_monai.imaging.straightening import IN_FRONT_MM, STEP_MM, WINDOW
from osteo_monai.networks import COLUMN_CHANNELS
from osteo_monai.virtual.column_dataset import paint_column

NAME, LOCALIZATION = "vertebral_column_ct", "vertebra_localization_ct"
BUNDLES = Path(__file__).parents[2] / "bundles"
BUNDLE = BUNDLES / NAME
CONFIGS = BUNDLE / "configs"
META = str(CONFIGS / "metadata.json")
LOG = str(CONFIGS / "logging.conf")
METRICS = {"val_loss", "centre_f1", "centre_error_mm", "spurious_per_column", "disc_rate", "role_accuracy"}
TINY: dict[str, Any] = {
    "network_def#channels": [8, 8, 8],
    "network_def#features": 8,
    "network_def#dilations": [1],
    "amp": False,
}
SMALL_RUN: dict[str, Any] = {**TINY, "people": 4, "epochs": 1, "batch_size": 2, "validation_items": 2, "num_workers": 0}


def files(*overlays: Any) -> Any:
    return [str(CONFIGS / f"{part}.json") for part in ("train", *overlays)]


def start(folder: Path, *overlays: Any, **settings: Any) -> None:
    own: dict[str, Any] = {"output_dir": str(folder), "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    run_bundle(BUNDLE, ["train", *overlays], {**own, **SMALL_RUN, **settings})


def infer(bundle: Any, folder: Path, **settings: Any) -> None:
    run(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=LOG,
        bundle_root=str(bundle),
        output_dir=str(folder),
        amp=False,
        **settings,
    )


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One epoch of two steps."""
    folder = tmp_path_factory.mktemp("run")
    environment = pytest.MonkeyPatch()
    environment.delenv("MLFLOW_TRACKING_URI", raising=False)
    start(folder)
    environment.undo()
    return folder


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A virtual person's column as a NIfTI file whose axes are not those of RAS+, and the true centres in RAS+ mm."""
    column = paint_column(42, 2)
    affine = np.diag([-STEP_MM, -STEP_MM, STEP_MM, 1.0])
    affine[:3, 3] = [110.0, 95.0, -420.0]
    hu = column["image"].numpy()[::-1, ::-1]
    path = tmp_path_factory.mktemp("scan") / "person.nii.gz"
    nib.save(nib.Nifti1Image(hu, affine), path)
    bodies = column["bodies"].numpy()
    whole = (bodies[:, 3] >= 0) & (bodies[:, 4] <= hu.shape[2] - 1)
    low = np.array([110.0 - STEP_MM * (hu.shape[0] - 1), 95.0 - STEP_MM * (hu.shape[1] - 1), -420.0])
    return path, low + STEP_MM * bodies[whole, :3]


def test_metadata_agrees_with_the_network() -> None:
    metadata = json.loads(Path(META).read_text())
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "common.json"))
    network = parser.get_parsed_content("network_def")
    given, answer = (metadata["network_data_format"][side] for side in ("inputs", "outputs"))
    assert given["image"]["num_channels"] == len(given["image"]["channel_def"]) == 1
    assert given["image"]["spatial_shape"] == [*WINDOW, "n"] == [*network.window, "n"]
    assert answer["pred"]["num_channels"] == len(answer["pred"]["channel_def"]) == sum(COLUMN_CHANNELS.values())
    assert parser["spacing_mm"] == STEP_MM
    assert set(metadata["eval_metrics"]) <= METRICS
    assert all(abs(s) <= parser["margin"] for shift in parser["inferer#shifts"] for s in shift)


def test_the_window_is_the_one_that_the_config_tells() -> None:
    """140 mm from side to side, 100 mm from back to front, 35 of them in front of the line."""
    description = json.loads((CONFIGS / "common.json").read_text())["_desc_spacing_mm"]
    assert f"{WINDOW[0]} x {WINDOW[1]} voxels" in description
    assert f"{WINDOW[0] * STEP_MM:.0f} mm from side to side" in description
    assert f"{WINDOW[1] * STEP_MM:.0f} mm from back to front" in description
    assert 0 < IN_FRONT_MM < WINDOW[1] * STEP_MM


@pytest.mark.parametrize("kind", ["train", "infer"])
def test_monai_finds_every_property(kind: Any, tmp_path: Path) -> None:
    settings = SMALL_RUN if kind == "train" else {}
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


def test_training_is_tracked(trained: Any) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{trained}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == NAME])
    assert record.info.status == "FINISHED"
    expected = {"bundle": NAME, "data_source": "virtual", "epochs": "1", "people": "4", "batch_size": "2"}
    assert {key: record.data.params[key] for key in expected} == expected
    assert {"seed", "git_commit", "learning_rate", "version_torch", "slices", "window"} <= set(record.data.params)
    assert {"train_loss", "val_loss", "lr_group_0"} <= set(record.data.metrics)
    assert len(client.get_metric_history(record.info.run_id, "train_loss")) == 2
    artifacts = {artifact.path for artifact in client.list_artifacts(record.info.run_id)}
    assert artifacts == {"config.json", "figures"}
    assert [a.path for a in client.list_artifacts(record.info.run_id, "figures")] == ["figures/columns.png"]
    assert len(client.search_model_versions("name = 'vertebral_column_ct'")) == 1
    assert record.inputs is not None
    assert {data.dataset.name for data in record.inputs.dataset_inputs} == {"virtual, training", "virtual, validation"}
    assert (trained / "checkpoints" / "checkpoint_epoch=1.pt").is_file()
    assert len(list((trained / "columns").glob("*.pt"))) == 6  # 4 people to train and 2 to validate, painted once


def test_the_best_weights_are_those_of_the_lowest_loss(tmp_path: Path) -> None:
    start(tmp_path, epochs=3, learning_rate=0.02, average_decay=0.0)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == NAME])
    losses = [m.value for m in client.get_metric_history(record.info.run_id, "val_loss")]
    assert len(losses) == 3
    scores = tmp_path / "scores"
    start(
        scores,
        "evaluate",
        checkpoint=str(tmp_path / "checkpoints" / "model.pt"),
        test_items=2,
        test_seed=7011,  # the people of validation
        track=False,
    )
    with (scores / "metrics.csv").open() as file:
        values = {row[0]: float(row[1]) for row in csv.reader(file)}
    assert values["val_loss"] == pytest.approx(min(losses), rel=1e-3)
    assert values["val_loss"] < max(losses)


def test_training_resumes(trained: Any, tmp_path: Path) -> None:
    start(
        tmp_path,
        epochs=2,
        track=False,
        cache_dir=str(trained / "columns"),
        resume=str(trained / "checkpoints" / "checkpoint_epoch=1.pt"),
    )
    assert [path.name for path in (tmp_path / "checkpoints").glob("checkpoint*")] == ["checkpoint_epoch=2.pt"]
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=True)
    assert state["trainer"]["iteration"] == 4
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "columns").exists()


def test_another_seed_paints_other_people(trained: Any, tmp_path: Path) -> None:
    """Caches of different seeds are separate."""
    cache = trained / "columns"
    before = {path.name for path in cache.glob("*.pt")}
    start(tmp_path, seed=1, track=False, cache_dir=str(cache))
    assert len({path.name for path in cache.glob("*.pt")} - before) == 4  # those of validation are the same


def test_a_misspelt_setting_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown setting 'poeple'.*did you mean 'people'"):
        start(tmp_path, poeple=4)


def test_evaluation_writes_what_it_declares(trained: Any, tmp_path: Path) -> None:
    start(tmp_path, "evaluate", checkpoint=str(trained / "checkpoints" / "model.pt"), test_items=2)
    with (tmp_path / "metrics.csv").open() as file:
        values = {row[0]: float(row[1]) for row in csv.reader(file)}
    assert set(values) == METRICS
    assert 0 <= values["centre_f1"] <= 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (record,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == NAME])
    assert record.info.status == "FINISHED"
    assert len(record.data.params["weights_sha256"]) == 64
    assert record.data.params["test_items"] == "2"
    assert not (tmp_path / "columns").exists()


def test_evaluation_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint must be a file, got 'nowhere\.pt'"):
        start(tmp_path, "evaluate", checkpoint=str(tmp_path / "nowhere.pt"))


def test_the_localiser_s_line_leads_the_shipped_weights_to_the_bodies(scan: Any, tmp_path: Path) -> None:
    """Two bundles in sequence, as in the cards: the second reads the file of the first."""
    path, truth = scan
    infer(BUNDLES / LOCALIZATION, tmp_path, image=str(path))
    vertebrae = tmp_path / "person_vertebrae.json"
    assert len(json.loads(vertebrae.read_text())) >= 4
    infer(BUNDLE, tmp_path, image=str(path), vertebrae=str(vertebrae))
    bodies = json.loads((tmp_path / "person_bodies.json").read_text())
    found = np.array([b["centre_mm"] for b in bodies])
    assert (np.diff(found[:, 2]) > 0).all()
    nearest = np.abs(found[:, 2] - truth[:, 2, None]).argmin(1)
    off = found[nearest] - truth
    good = (np.abs(off[:, 2]) < 6.0) & (np.hypot(off[:, 0], off[:, 1]) < 6.0)
    assert good.mean() >= 0.8, off
    for b in bodies:
        assert b["inferior_mm"][2] <= b["centre_mm"][2] <= b["superior_mm"][2]
        assert 0.25 <= b["probability"] <= 1
        assert sum(np.exp(b["role"])) == pytest.approx(1, abs=0.05)
        assert isinstance(b["complete"], bool)
    line = [v["centre_mm"] for v in json.loads(vertebrae.read_text())]
    infer(BUNDLE, tmp_path / "again", image=str(path), line=line)  # given instead of a file
    assert json.loads((tmp_path / "again" / "person_bodies.json").read_text()) == bodies
    # in memory, as screening does, with the line as an array
    image = LoadImage(ensure_channel_first=True)(path)
    answer = load_bundle(NAME)({"image": image, "line": np.array(line)})
    np.testing.assert_allclose([b.centre_mm for b in answer["bodies"]], found, atol=0.3)  # bfloat16 where it is fast
    assert answer["axis_mm"].shape == (image.shape[3], 3)
    assert answer["pred"].shape == (3, image.shape[3])


@pytest.mark.parametrize("name", ["lidc0001", "lung_bases_5mm", "lidc0002_short_rib", "petct_abdomen_5mm"])
def test_bodies_of_real_people_stand_where_a_reader_saw_them(name: str, real_data: Path) -> None:
    """All complete bodies within 6 mm (the reader's error is 3 mm), no cut bodies."""
    folder = real_data / "ct_real_dev"
    levels = json.loads((folder / "truth.json").read_text())[name]["levels"]
    volume = read_ct(folder / name, keep_doubts=True)
    image = MetaTensor(torch.from_numpy(volume.hu)[None], affine=torch.from_numpy(np.array(volume.affine)))
    line = load_bundle(LOCALIZATION)(image)["line"]
    bodies = load_bundle(NAME)({"image": image, "line": line})["bodies"]
    whole = np.array([b.centre_mm[2] for b in bodies if b.complete])
    every = np.array([b.centre_mm[2] for b in bodies])
    for level, truth in levels.items():
        if truth["whole"]:
            assert np.abs(every - truth["z_mm"]).min() < 6.0, level
        else:
            assert np.abs(whole - truth["z_mm"]).min() > 12.0, level


def test_a_scan_without_a_line_is_refused(scan: Any) -> None:
    image = LoadImage(ensure_channel_first=True)(scan[0])
    with pytest.raises(ValueError, match="points must have at least one point of the column, got none"):
        load_bundle(NAME)({"image": image, "line": np.empty((0, 3))})
    with pytest.raises(ValueError, match="must be a MetaTensor"):
        load_bundle(NAME)({"image": torch.zeros(1, 8, 8, 8), "line": [[0.0, 0.0, 0.0]]})


def test_beyond_the_scan_lies_air(tmp_path: Path) -> None:
    """The network's input beyond a trunk is 0, as in training, and not an unscaled HU."""
    config = ConfigParser()
    config.read_config(str(CONFIGS / "inference.json"))
    steps = config["preprocessing#transforms"]
    config["preprocessing#transforms"] = [s for s in steps if "Load" not in str(s) and "EnsureChannel" not in str(s)]
    prepare = config.get_parsed_content("preprocessing")
    affine = torch.diag(torch.tensor([STEP_MM, STEP_MM, STEP_MM, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.full((1, 110, 60, 20), 175.0), affine=affine)
    image[0, :2] = -1000.0  # a CT has air
    seen = prepare({"image": image, "line": [[10.0, 70.0, 20.0]]})["image"]
    assert seen.shape == (1, WINDOW[0] + 4, WINDOW[1] + 4, 20)
    assert (seen.min(), seen.max()) == (0.0, 0.5)  # 175 HU is half way from -250 to 600


def test_exported_weights_run(trained: Any, scan: Any, tmp_path: Path) -> None:
    copy = tmp_path / NAME
    (copy / "configs").mkdir(parents=True)
    config = json.loads((CONFIGS / "inference.json").read_text())
    for key, value in TINY.items():
        target = config["network_def"] if "#" in key else config
        target[key.split("#")[-1]] = value
    (copy / "configs" / "inference.json").write_text(json.dumps(config))
    (copy / "configs" / "metadata.json").write_text(Path(META).read_text())
    with pytest.raises(FileNotFoundError, match="has no weights"):
        load_bundle(copy, trust=True)
    sha256 = export_weights(trained / "checkpoints" / "checkpoint_epoch=1.pt", copy / "models" / "model.pt")
    bundle = load_bundle(copy, trust=True)
    assert (bundle.name, bundle.weights_sha256) == (NAME, sha256)
    image = LoadImage(ensure_channel_first=True)(scan[0])
    assert isinstance(bundle({"image": image, "line": scan[1]})["bodies"], list)


def test_torchscript_export(trained: Any, tmp_path: Path) -> None:
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(trained / "checkpoints" / "model.pt"),
        meta_file=META,
        config_file=str(CONFIGS / "inference.json"),
        **{key: value for key, value in TINY.items() if key.startswith("network_def")},
    )
    assert torch.jit.load(str(tmp_path / "model.ts"))(torch.zeros(2, 1, *WINDOW, 7)).shape == (2, 9, 7)
