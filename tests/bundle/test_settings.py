"""Names of settings: nested ids must have a place in the config, and components must accept their arguments."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.bundle import CheckedWorkflow, run_bundle
from osteo_monai.errors import ConfigError

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/inference.json"))
COMPLETE = {"common.json", "train.json", "evaluate.json", "inference.json"}
OVERLAYS_OF_TRAINING = {
    "multi_gpu_train",
    "quick",
    "pan2024",
    "random_planes",
    "li2026",
    "boonrod2025",
    "l1_only",
    "depth_3_4_6_3",
}
NOT_OVERLAYS = {"evaluate": OVERLAYS_OF_TRAINING, "inference": OVERLAYS_OF_TRAINING | {"clinical_look"}}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    configs = tmp_path / "some_bundle" / "configs"
    configs.mkdir(parents=True)
    common: dict[str, Any] = {
        "imports": ["$import pathlib", "$import osteo_monai.bundle as bundle"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "cpu",
        "network_def": {"_target_": "BasicUNet", "spatial_dims": 2, "features": [4, 4, 4, 4, 4, 4]},
        "network": "$@network_def.to(@device)",
        "slice_inferer": {"_target_": "SlidingWindowInferer", "roi_size": [64, 64]},
        "inferer": "@slice_inferer",
        "train": {"loader": {"batch_size": 2}, "handlers": [{"_target_": "StatsHandler"}]},
        "initialize": ["$bundle.prepare_run(@bundle_root)"],
        "run": ["$pathlib.Path(@output_dir, 'done').write_text(str((@train, @network_def.training)))"],
    }
    for name, content in {"common": common, "inference": {}, "metadata": {"version": "1", "name": "x"}}.items():
        (configs / f"{name}.json").write_text(json.dumps(content))
    (configs / "logging.conf").write_text((ROOT / "bundles/vertebral_column_ct/configs/logging.conf").read_text())
    return configs.parent


WRONG = [
    ("network_def#featuress", "BasicUNet has no argument 'featuress'", "network_def#features"),
    ("slice_inferer#roi_siz", "SlidingWindowInferer has no argument 'roi_siz'", "slice_inferer#roi_size"),
    ("inferer#roi_siz", "'inferer' is a reference to 'slice_inferer'", "slice_inferer#roi_size"),
    ("network#featuress", "'network' has no parts", "network_def#features"),
    ("train#loadr#batch_size", "'train' has no part 'loadr'", "train#loader#batch_size"),
    ("train#loader#bach_size", "'train#loader' has no part 'bach_size'", "train#loader#batch_size"),
    ("train#handlers#4#name", "'train#handlers' has the parts 0 to 0", "train#handlers#0#name"),
    ("train::loader::bach_size", "'train#loader' has no part 'bach_size'", "train#loader#batch_size"),
]


@pytest.mark.parametrize(("setting", "reason", "similar"), WRONG)
def test_a_misspelt_part_is_named_with_similar_ones(setting: str, reason: str, similar: str, bundle: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run_bundle(bundle, ["common"], {setting: 3}, trust=True)
    message = str(caught.value)
    assert message.startswith(f"unknown setting '{setting.replace('::', '#')}': {reason}")
    assert repr(similar) in message.partition("did you mean ")[2]
    assert "\n" not in message
    assert not (bundle / "eval").exists()


def test_the_wrong_argument_of_a_replaced_component_is_named(bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"'slice_inferer#overlp': SlidingWindowInferer .*'slice_inferer#overlap'"):
        run_bundle(
            bundle, ["common"], {"slice_inferer": {"_target_": "SlidingWindowInferer", "overlp": 0.5}}, trust=True
        )


def test_an_overlay_may_add_parts_and_may_not_misspell_arguments(bundle: Path) -> None:
    overlay = bundle / "configs" / "more.json"
    overlay.write_text(json.dumps({"train#workers": 3, "train#loader#size": 4}))
    run_bundle(bundle, ["common", "more"], trust=True)
    done = (bundle / "eval" / "done").read_text()
    assert "'workers': 3" in done
    assert "'size': 4" in done
    overlay.write_text(json.dumps({"network_def#featuress": [4]}))
    with pytest.raises(ConfigError, match="BasicUNet has no argument 'featuress'"):
        run_bundle(bundle, ["common", "more"], trust=True)
    overlay.write_text(json.dumps({"validate#loader": {}}))
    with pytest.raises(ConfigError, match="'validate#loader': the config has no part 'validate'"):
        run_bundle(bundle, ["common", "more"], trust=True)


def test_valid_parts_are_accepted(bundle: Path) -> None:
    settings: dict[str, Any] = {
        "train#loader#batch_size": 5,
        "train#handlers#0#name": "x",
        "network_def#act": "relu",
        "slice_inferer#_disabled_": True,
    }
    run_bundle(bundle, ["common"], settings, trust=True)
    assert "{'batch_size': 5}" in (bundle / "eval" / "done").read_text()


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_the_configs_that_ship_are_accepted(folder: Path) -> None:
    """No config of a bundle, by itself or below an overlay, has an argument that its component refuses."""
    configs = folder / "configs"
    meta: dict[str, Any] = {"meta_file": str(configs / "metadata.json"), "logging_file": False}
    overlays = {file.stem for file in configs.glob("*.json")} - {Path(name).stem for name in COMPLETE} - {"metadata"}
    for name in ("train", "evaluate", "inference"):
        for overlay in ("", *sorted(o for o in overlays if "overlay" not in o and "own" not in o)):
            if overlay in NOT_OVERLAYS.get(name, ()):
                continue
            files = [str(configs / f"{one}.json") for one in (name, overlay) if one]
            CheckedWorkflow(config_file=files, workflow_type="inference" if name == "inference" else "train", **meta)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--network_def#featuress", "3"], "unknown setting 'network_def#featuress': BasicUNet has no argument"),
        (["run", "--train#loader#bach_size=3"], "unknown setting 'train#loader#bach_size': 'train#loader' has no part"),
        (
            ["run_workflow", "osteo_monai.bundle.CheckedWorkflow", "--inferer#roi_siz", "3"],
            "unknown setting 'inferer#roi_siz': 'inferer' is a reference to 'slice_inferer'",
        ),
    ],
)
def test_the_program_of_monai_prints_one_sentence(arguments: list[str], sentence: str, bundle: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", *arguments, "--config_file", "configs/common.json"]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert f"error: {sentence}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_checked_workflow_runs_in_the_program_of_monai(bundle: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run_workflow", "osteo_monai.bundle.CheckedWorkflow"]
    settings = ["--config_file", "configs/common.json", "--train#loader#batch_size", "7"]
    done = subprocess.run([*command, *settings], cwd=bundle, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "'batch_size': 7" in (bundle / "eval" / "done").read_text()
