"""Each bundle as a user of a model zoo meets it: one config file, any working directory, MONAI's own calls."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, create_workflow, load, run, verify_net_in_out
from PIL import Image

from osteo_monai.bundle import export_onnx, load_bundle, run_bundle
from osteo_monai.data.csv_tables import read_table
from osteo_monai.errors import OsteoError

BUNDLES = Path(__file__).parents[2] / "bundles"
NAMES = sorted(folder.name for folder in BUNDLES.iterdir() if (folder / "configs").is_dir())
SEGMENTATION, LOCALIZATION = "vertebral_body_segmentation_ct", "vertebra_localization_ct"
CHEST = "osteoporosis_classification_chest_xray"
VOXELWISE = (SEGMENTATION, LOCALIZATION)
PLANNED = ("train", "evaluate", "inference")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the folder of the bundle, or of the checkout, as the current one."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _file(name: str, config: str) -> str:
    return str(BUNDLES / name / "configs" / f"{config}.json")


def _weights(name: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(BUNDLES / name / "models" / "model.pt", weights_only=True)
    return state


def _cause(error: BaseException) -> OsteoError:
    link: BaseException | None = error
    while link is not None and not isinstance(link, OsteoError):
        link = link.__cause__ or link.__context__
    assert link is not None, f"no error of this package led to {error!r}"
    return link


@pytest.mark.parametrize("workflow_type", ["train", "inference"])
@pytest.mark.parametrize("name", NAMES)
def test_load_returns_the_network_with_its_weights(name: str, workflow_type: str) -> None:
    network = load(name, bundle_dir=BUNDLES, workflow_type=workflow_type, device="cpu")
    assert isinstance(network, torch.nn.Module)
    state = network.state_dict()
    for key, value in _weights(name).items():
        torch.testing.assert_close(state[key], value.to(state[key].dtype), rtol=0, atol=0)


@pytest.mark.parametrize("config", PLANNED)
@pytest.mark.parametrize("name", NAMES)
def test_a_config_alone_makes_a_workflow(name: str, config: str) -> None:
    kind = "inference" if config == "inference" else "train"
    workflow = create_workflow(
        config_file=_file(name, config), workflow_type=kind, bundle_root=str(BUNDLES / name), dataset_dir="data"
    )
    assert isinstance(workflow.network_def, torch.nn.Module)
    assert str(workflow.parser.get_parsed_content("output_dir")).startswith(str(BUNDLES / name))


@pytest.mark.parametrize("name", NAMES)
def test_train_then_evaluate_is_evaluate(name: str) -> None:
    """The tests of MONAI's model zoo merge both files."""
    both = ConfigWorkflow(config_file=[_file(name, "train"), _file(name, "evaluate")], logging_file=False)
    only = ConfigWorkflow(config_file=_file(name, "evaluate"), logging_file=False)
    assert both.parser.get() == only.parser.get()


@pytest.mark.parametrize("name", NAMES)
def test_inference_has_every_property_of_monai(name: str) -> None:
    workflow = ConfigWorkflow(
        config_file=_file(name, "inference"), workflow_type="infer", bundle_root=str(BUNDLES / name)
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("name", NAMES)
def test_the_network_takes_the_shapes_of_the_metadata(name: str) -> None:
    verify_net_in_out(
        "network_def", meta_file=_file(name, "metadata"), config_file=_file(name, "train"), device="cpu", n=1
    )


@pytest.mark.parametrize("config", PLANNED)
@pytest.mark.parametrize("name", NAMES)
def test_the_default_root_is_refused_at_the_run(name: str, config: str) -> None:
    kind = "inference" if config == "inference" else "train"
    workflow = create_workflow(config_file=_file(name, config), workflow_type=kind)
    with pytest.raises(RuntimeError) as caught:
        workflow.run()
    assert "bundle_root must be the folder of the bundle, got '.' without configs" in str(_cause(caught.value))


@pytest.mark.parametrize("name", NAMES)
def test_inference_and_evaluation_write_to_different_folders(name: str) -> None:
    folders = set()
    for config in ("inference", "evaluate"):
        workflow = ConfigWorkflow(config_file=_file(name, config), logging_file=False, bundle_root="bundle")
        folders.add(workflow.parser.get_parsed_content("output_dir"))
    assert folders == {"bundle/inference", "bundle/eval"}


MISTAKES = {
    "missing checkpoint": ({"checkpoint": "none.pt"}, "checkpoint must be a file, got 'none.pt'"),
    "foreign checkpoint": ({"checkpoint": "foreign.pt"}, "checkpoint must hold the weights of this network"),
    "text as checkpoint": ({"checkpoint": "text.pt"}, "checkpoint must be a state dict saved by PyTorch"),
    "no such device": ({"device": "cuda:77"}, "device must be one of the"),
}


@pytest.mark.parametrize(("settings", "sentence"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("config", ["evaluate", "inference"])
@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_is_one_sentence(name: str, config: str, settings: dict[str, Any], sentence: str) -> None:
    torch.save({"model": {"weight": torch.ones(2)}}, "foreign.pt")
    Path("text.pt").write_text("no weights")
    with pytest.raises(OsteoError) as caught:
        run_bundle(BUNDLES / name, [config], {"output_dir": "out", "amp": False, **settings})
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["empty", "absent"])
@pytest.mark.parametrize("name", NAMES)
def test_inference_without_images_is_an_error(name: str, folder: str) -> None:
    """It ended with exit code 0 and no output."""
    Path("empty").mkdir()
    setting = "image" if name == "vertebral_column_ct" else "dataset_dir"
    with pytest.raises(OsteoError, match=rf"^{setting} must be "):
        run_bundle(BUNDLES / name, ["inference"], {"output_dir": "out", "amp": False, "dataset_dir": folder})


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_a_path(name: str) -> None:
    """``--image`` without a value is ``True``; it ended in a trace."""
    settings = {"output_dir": "out", "amp": False, "image": True}
    if name == "vertebral_column_ct":
        settings["line"] = [[0, 0, 0]]
    with pytest.raises(OsteoError, match="^image and segmentation must be paths of files, got True$"):
        run_bundle(BUNDLES / name, ["inference"], settings)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("vertebra")])
def test_training_and_evaluation_have_different_virtual_subjects(name: str) -> None:
    """Seed 9001 trained on the test images."""
    test = 9011 if name == "vertebral_column_ct" else 9001
    own = ConfigWorkflow(config_file=_file(name, "train"), logging_file=False).parser.get_parsed_content("seed")
    cases = [("train", {"seed": test}), ("train", {"seed": test - 2000}), ("evaluate", {"test_seed": own})]
    for config, settings in cases:
        with pytest.raises(OsteoError, match="^seed of training must differ from those of validation and test"):
            run_bundle(BUNDLES / name, [config], {"output_dir": "out", "amp": False, "track": False, **settings})


def _scan(file: Path, hu: Any) -> None:
    nib.save(nib.Nifti1Image(hu.astype(np.int16), np.diag([-3.0, -3.0, 3.0, 1.0])), file)


@pytest.fixture
def scans() -> Path:
    """A CT-like scan, an image without negative values such as an MR, and a damaged file, in this order."""
    folder = Path("scans").resolve()
    folder.mkdir()
    hu = np.random.default_rng(0).normal(0, 200, (32, 32, 32))
    hu[:, :4] = -1000
    _scan(folder / "c.nii.gz", hu)
    _scan(folder / "b_mr.nii.gz", np.abs(hu))
    (folder / "a_damaged.nii.gz").write_bytes((folder / "c.nii.gz").read_bytes()[:2000])
    return folder


@pytest.mark.parametrize("name", VOXELWISE)
def test_a_refused_scan_is_a_row(name: str, scans: Path) -> None:
    run(
        config_file=_file(name, "inference"),
        bundle_root=str(BUNDLES / name),
        output_dir="out",
        dataset_dir=str(scans),
        amp=False,
    )
    rows = [row for _, row in read_table(Path("out/refused.csv"), ("image", "reason")).rows]
    assert [row["image"] for row in rows] == ["a_damaged.nii.gz", "b_mr.nii.gz"]
    assert rows[0]["reason"] == "the file is damaged or of an unknown format"
    assert rows[1]["reason"].startswith("image must be a CT in Hounsfield units: The image has no negative value")
    assert len(list(Path("out").glob("c_*.nii.gz"))) == 1
    assert not list(Path("out").glob("b_mr_*"))


@pytest.mark.parametrize("name", VOXELWISE)
@pytest.mark.parametrize(
    ("file", "sentence"),
    [("b_mr.nii.gz", "must be a CT in Hounsfield units"), ("gone.nii.gz", "the file of 'image' does not exist")],
)
def test_inference_of_an_unusable_scan_is_an_error(name: str, file: str, sentence: str, scans: Path) -> None:
    settings = {"output_dir": "out", "image": str(scans / file), "amp": False}
    with pytest.raises(OsteoError, match=f"image '{file}' cannot be used: .*{sentence}"):
        run_bundle(BUNDLES / name, ["inference"], settings)


def test_a_refused_radiograph_is_a_row() -> None:
    folder = Path("radiographs")
    folder.mkdir()
    noise = np.random.default_rng(0).integers(40, 200, (256, 256)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "b.png")
    (folder / "a.jpeg").write_bytes(b"no picture")
    settings = {"output_dir": "out", "dataset_dir": "radiographs", "check_images": False, "heat_maps": False}
    run_bundle(BUNDLES / CHEST, ["inference"], {**settings, "amp": False})
    rows = [row for _, row in read_table(Path("out/refused.csv"), ("image", "reason")).rows]
    assert [row["image"] for row in rows] == ["a.jpeg"]
    predicted = read_table(Path("out/predictions.csv"), ("subject_id", "probability_osteoporosis")).rows
    assert [row["subject_id"] for _, row in predicted] == ["b"]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Bundles without the checkout around them, as the archives of a model zoo hold them."""
    folder = tmp_path_factory.mktemp("zoo")
    for name in NAMES:
        shutil.make_archive(str(folder / name), "zip", BUNDLES, name)
        shutil.unpack_archive(folder / f"{name}.zip", folder / "bundles")
    yield folder / "bundles"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_unpacked_archive_loads(name: str, copies: Path) -> None:
    assert isinstance(load(name, bundle_dir=copies, device="cpu"), torch.nn.Module)
    with pytest.raises(OsteoError, match="^checkpoint must be a file"):
        run_bundle(copies / name, ["inference"], {"output_dir": "out", "checkpoint": "none.pt", "amp": False})
    assert json.loads((Path("out") / "config.json").read_text(encoding="utf-8"))["bundle_root"] == str(copies / name)


SIZES: dict[str, list[tuple[int, ...]]] = {
    SEGMENTATION: [(1, 1, 64, 64), (3, 1, 64, 128)],
    LOCALIZATION: [(1, 1, 32, 32, 32), (2, 1, 32, 64, 32)],
    "vertebral_column_ct": [(1, 1, 56, 40, 5), (2, 1, 56, 40, 33)],
    "osteoporosis_classification_ct": [(1, 2, 128, 128), (5, 2, 128, 128)],
    "bone_density_regression_ct": [(1, 12, 96, 96), (3, 12, 96, 96)],
    CHEST: [(1, 36, 32, 32), (3, 36, 32, 32)],
    "osteoporosis_classification_lumbar_xray": [(1, 1, 192, 128), (3, 1, 192, 128)],
}


def _assert_onnx_agrees(name: str, overlays: list[str]) -> None:
    import onnxruntime as runtime

    axes = export_onnx(BUNDLES / name, "model.onnx", overlays)
    assert axes[0] == "batch"
    network = load_bundle(BUNDLES / name, overlays=overlays).setting("network_def").eval()
    session = runtime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    for shape in SIZES[name]:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = network(image)
        (prediction,) = session.run(None, {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(prediction), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_one_onnx_file_serves_every_batch_and_size(name: str) -> None:
    _assert_onnx_agrees(name, [])


def test_the_onnx_file_of_an_overlay_has_its_weights() -> None:
    _assert_onnx_agrees("osteoporosis_classification_lumbar_xray", ["lateral"])


@pytest.mark.parametrize("name", NAMES)
def test_torchscript_is_the_network_at_other_sizes(name: str) -> None:
    configs: dict[str, Any] = {"meta_file": _file(name, "metadata"), "config_file": _file(name, "inference")}
    ckpt_export("network_def", filepath="model.ts", ckpt_file=str(BUNDLES / name / "models" / "model.pt"), **configs)
    network = load_bundle(BUNDLES / name).setting("network_def").eval()
    script = torch.jit.load("model.ts").eval()
    for shape in SIZES[name]:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(script(image), network(image), atol=1e-4, rtol=1e-4)
