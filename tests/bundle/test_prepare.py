"""Checks at the start of a run: unknown settings, missing files, and one sentence for an error of this package."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import create_workflow

from osteo_monai.bundle import (
    check_images,
    check_run,
    check_seed,
    check_weights,
    prepare_run,
    require_file,
    require_setting,
    run_bundle,
)
from osteo_monai.errors import ConfigError, ManifestError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose run writes a file; its data source must be a manifest."""
    configs = tmp_path / "some_bundle" / "configs"
    configs.mkdir(parents=True)
    common = {
        "imports": [
            "$import pathlib",
            "$import osteo_monai.bundle as bundle",
            "$import osteo_monai.data.subject_items as subjects",
        ],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "epochs": 3,
        "data_source": "",
        "items": "$subjects.subject_items(@data_source, ['test']) if @data_source else []",
        "initialize": ["$bundle.prepare_run(@bundle_root)"],
        "run": ["$pathlib.Path(@output_dir, 'done').write_text(str((@epochs, @items)))"],
    }
    for name, content in {"common": common, "inference": {}, "metadata": {"version": "1", "name": "x"}}.items():
        (configs / f"{name}.json").write_text(json.dumps(content))
    (configs / "logging.conf").write_text((ROOT / "bundles/vertebral_column_ct/configs/logging.conf").read_text())
    return configs.parent


def test_a_run_writes_its_merged_config(bundle: Path, tmp_path: Path) -> None:
    run_bundle(bundle, ["common"], {"epochs": 9, "output_dir": str(tmp_path / "out")}, trust=True)
    written = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert (written["epochs"], written["bundle_root"]) == (9, str(bundle))
    assert (tmp_path / "out" / "done").read_text() == "(9, [])"


@pytest.mark.parametrize("setting", ["epochz", "name", "epochz#width"])
def test_unknown_settings_are_refused(setting: str, bundle: Path) -> None:
    settings: dict[str, Any] = {setting: 9} if "#" not in setting else {"epochz": {}, setting: 9}
    with pytest.raises(ConfigError, match=f"unknown setting '{setting.partition('#')[0]}': no config of this bundle"):
        run_bundle(bundle, ["common"], settings, trust=True)
    assert not (bundle / "eval").exists()


def test_an_unknown_setting_has_a_suggestion(bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'epochz': .*; did you mean 'epochs'\?"):
        run_bundle(bundle, ["common"], {"epochz": 9}, trust=True)


def test_an_error_of_the_data_is_raised_as_it_is(bundle: Path) -> None:
    with pytest.raises(ManifestError, match="none.json has 1 problem"):
        run_bundle(bundle, ["common"], {"data_source": "none.json"}, trust=True)


def test_other_processes_get_exceptions(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``SystemExit`` would end a server or a notebook cell."""
    hook = sys.excepthook
    arguments: dict[str, Any] = {"config_file": str(bundle / "configs" / "common.json"), "logging_file": False}
    with pytest.raises(RuntimeError) as caught:
        create_workflow(**arguments, bundle_root="elsewhere")
    assert isinstance(caught.value.__cause__, ConfigError)
    assert sys.excepthook is hook


def test_other_processes_may_initialize_from_any_folder(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``monai.bundle.load`` does not set ``bundle_root``."""
    monkeypatch.chdir(tmp_path)
    arguments: dict[str, Any] = {"config_file": str(bundle / "configs" / "common.json"), "logging_file": False}
    assert create_workflow(**arguments).parser.get_parsed_content("epochs") == 3


def test_a_complete_config_after_an_overlay_is_refused(bundle: Path) -> None:
    """It would replace the settings of the overlay silently."""
    (bundle / "configs" / "few.json").write_text('{"epochs": 1}')
    (bundle / "configs" / "train.json").write_bytes((bundle / "configs" / "common.json").read_bytes())
    with pytest.raises(ConfigError, match=r"train\.json must precede overlays in config_file, got it after few\.json"):
        run_bundle(bundle, ["few", "train"], trust=True)
    run_bundle(bundle, ["common", "train", "few"], trust=True)
    assert (bundle / "eval" / "done").read_text() == "(1, [])"


def test_the_folder_of_the_bundle_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bundle_root must be the folder of the bundle, got .* without configs"):
        prepare_run(tmp_path)
    with pytest.raises(ConfigError, match="bundle_root must be the folder of the bundle, got .* without configs"):
        check_run(tmp_path, "cpu")


@pytest.mark.parametrize("device", ["cuda:77", "gpu"])
def test_the_device_must_exist(device: str, bundle: Path) -> None:
    with pytest.raises(ConfigError, match=f"device must be .*got '{device}'"):
        check_run(bundle, device)
    check_run(bundle, "cpu")


@pytest.mark.parametrize("amp_dtype", ["float16", "float32"])
def test_the_device_must_have_the_type_of_autocast(amp_dtype: str, bundle: Path) -> None:
    with pytest.raises(ConfigError, match=f"bfloat16, or float16 on a CUDA device, got '{amp_dtype}' on 'cpu'"):
        check_run(bundle, "cpu", amp_dtype)


def test_foreign_weights_are_refused_in_one_sentence(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 3)
    file = tmp_path / "w.pt"
    for content in ({"model": network.state_dict()}, network.state_dict()):
        torch.save(content, file)
        check_weights(file, network)
    for other in (torch.nn.Linear(2, 4), torch.nn.Conv1d(2, 3, 1), torch.nn.Sequential(torch.nn.Linear(2, 3))):
        torch.save(other.state_dict(), file)
        with pytest.raises(ConfigError, match=r"must hold the weights of this network, got 'w\.pt', which differs in"):
            check_weights(file, network)
    torch.save([1, 2], file)
    with pytest.raises(ConfigError, match=r"must be a state dict saved by PyTorch, got 'w\.pt'$"):
        check_weights(file, network)
    for text in ("no weights", ""):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"must be a state dict saved by PyTorch, got 'w\.pt'$"):
            check_weights(file, network)


def test_inference_needs_an_image(tmp_path: Path) -> None:
    check_images(["a.nii.gz"], tmp_path / "none", "NIfTI files")
    with pytest.raises(ConfigError, match="dataset_dir must be .* NIfTI files, got none: 'none'; set --image"):
        check_images([], tmp_path / "none", "NIfTI files")
    with pytest.raises(ConfigError, match="got an empty one"):
        check_images([], tmp_path, "NIfTI files")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match="got one without such files"):
        check_images([], tmp_path, "NIfTI files")
    check_images([("a.nii.gz", tmp_path / "a_labels.nii.gz")], tmp_path, "NIfTI files")
    for wrong in ([True], [5], [("a.nii.gz", True)]):  # --image without a value is True
        with pytest.raises(ConfigError, match="image and segmentation must be paths of files, got (True|5)$"):
            check_images(wrong, tmp_path, "NIfTI files")
    require_setting("image", "a.nii.gz")
    with pytest.raises(ConfigError, match="image must be set, got no value; set --image"):
        require_setting("image", "")


def test_training_has_another_seed_than_evaluation() -> None:
    check_seed(1, 2, 3)
    with pytest.raises(ConfigError, match="must differ from .* validation and test, got 3 for two"):
        check_seed(3, 2, 3)


def test_a_file_is_required(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="checkpoint must be a file, got 'none.pt'.*set --checkpoint") as caught:
        require_file("checkpoint", tmp_path / "none.pt")
    assert str(tmp_path) not in str(caught.value)
    (tmp_path / "model.pt").touch()
    require_file("checkpoint", tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data_source", "none.json"], "none.json has 1 problem:\n  - the file does not exist"),
        (["--epochz=1"], "unknown setting 'epochz': no config of this bundle has it; did you mean 'epochs'?"),
        (
            ["--bundle_root", "elsewhere"],
            "bundle_root must be the folder of the bundle, got 'elsewhere' without configs; set --bundle_root",
        ),
    ],
)
def test_the_program_of_monai_prints_one_sentence(arguments: list[str], sentence: str, bundle: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/common.json", *arguments]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert f"error: {sentence}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_program_of_monai_writes_its_merged_config(bundle: Path, tmp_path: Path) -> None:
    """Runs log this file to MLflow."""
    files = [
        "--meta_file",
        "configs/metadata.json",
        "--config_file",
        "['configs/common.json','configs/inference.json']",
    ]
    settings = ["--epochs", "5", f"--output_dir={tmp_path / 'out'}"]
    command = [sys.executable, "-m", "monai.bundle", "run", *files, *settings]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert (written["epochs"], written["data_source"]) == (5, "")
