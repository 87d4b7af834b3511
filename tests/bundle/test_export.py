"""Merged configs of all bundles, and weights of a checkpoint."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from osteo_monai.bundle import export_weights, merge_configs, write_merged_configs

BUNDLES = Path(__file__).parents[2] / "bundles"
NAMES = sorted(folder.name for folder in BUNDLES.iterdir() if (folder / "configs").is_dir())
RADIOGRAPHS = ("osteoporosis_classification_chest_xray", "osteoporosis_classification_lumbar_xray")


def _config(name: str, file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((BUNDLES / name / "configs" / file).read_text(encoding="utf-8"))
    return content


def test_all_bundles_are_here() -> None:
    assert len(NAMES) == 7


@pytest.mark.parametrize("name", NAMES)
def test_written_configs_are_the_merged_ones(name: str) -> None:
    merged = merge_configs(BUNDLES / name)
    assert {"train.json", "evaluate.json", "inference.json", "multi_gpu_train.json"} <= set(merged)
    for file, content in merged.items():
        assert _config(name, file) == content, f"run `osteo-monai bundle merge bundles/{name}`"
        assert str(content["_desc_"]).startswith("Written by `osteo-monai bundle merge`")


def test_shared_configs_are_equal() -> None:
    bundles = [name for name in NAMES if name not in (*RADIOGRAPHS, "osteoporosis_classification_ct")]
    assert all(_config(name, "multi_gpu_train.json") == _config(bundles[0], "multi_gpu_train.json") for name in bundles)
    chest, lumbar = RADIOGRAPHS
    for file in ("evaluate_overlay.json", "inference_overlay.json", "multi_gpu_train.json"):
        assert _config(chest, file) == _config(lumbar, file)
    for file in ("common.json", "train_overlay.json"):
        ours, theirs = _config(chest, file), _config(lumbar, file)
        overlays = [_config(name, file.replace(".", "_own.")) for name in RADIOGRAPHS]
        assert {key for key in ours | theirs if ours.get(key) != theirs.get(key)} <= {k for o in overlays for k in o}
    for file in ("configs/logging.conf", "LICENSE"):
        assert len({(BUNDLES / name / file).read_bytes() for name in NAMES}) == 1


def test_a_bundle_outside_the_checkout_merges_its_own_configs(tmp_path: Path) -> None:
    copy = tmp_path / RADIOGRAPHS[0]
    shutil.copytree(BUNDLES / RADIOGRAPHS[0] / "configs", copy / "configs")
    written = [copy / "configs" / f"{name}.json" for name in ("train", "evaluate", "inference")]
    expected = [json.loads(file.read_text(encoding="utf-8")) for file in written]
    for file in written:
        file.unlink()
    assert write_merged_configs(copy) == written
    assert [json.loads(file.read_text(encoding="utf-8")) for file in written] == expected


def test_an_overlay_replaces_ids_of_the_shared_config(tmp_path: Path) -> None:
    configs = tmp_path / "some_bundle" / "configs"
    configs.mkdir(parents=True)
    (tmp_path / "_shared").mkdir()
    files = {
        tmp_path / "_shared" / "common.json": {"_desc_": "shared", "a": 1, "b": {"c": 2}, "d": [1]},
        configs / "common_own.json": {"_desc_": "own", "b": 3},
        configs / "inference_overlay.json": {"a": 4, "+d": [2]},
    }
    for file, content in files.items():
        file.write_text(json.dumps(content))
    common = {"_desc_": "shared", "a": 1, "b": 3, "d": [1]}
    head = {"_desc_": "Written by `osteo-monai bundle merge` from common.json and inference_overlay.json: edit these."}
    inference = {**common, "a": 4, "d": [1, 2], **head}
    assert merge_configs(configs.parent) == {"common.json": common, "inference.json": inference}


def test_exported_weights_have_a_checksum_that_depends_on_the_weights_only(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.ones(2, 2)}}, tmp_path / "checkpoint_epoch=1.pt")
    sums = {export_weights(tmp_path / "checkpoint_epoch=1.pt", tmp_path / run / "model.pt") for run in ("a", "b")}
    assert len(sums) == 1
    with zipfile.ZipFile(tmp_path / "a" / "model.pt") as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"model"}
    state = torch.load(tmp_path / "a" / "model.pt", weights_only=True)
    assert state["weight"].dtype is torch.float16
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["model.pt"]
