"""Paths and addresses are not recorded."""

import hashlib
from pathlib import Path

import pytest

from osteo_monai.tracking.paths import without_paths

NAME = "Zyxwvut"


def test_paths_of_a_config_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    config = {
        "data_source": str(folder / "manifest.json"),
        "relative": f"{NAME}/manifest.json",
        "images": [folder / "manifest.json", str(folder / "not there.nii.gz")],
        "output_dir": f"$'{folder}' + '/eval'",
        "store": f"sqlite:///{folder}/mlflow.db",
        "server": "https://user:secret@host.example/mlflow",
    }
    found = without_paths(config)
    assert NAME not in str(found)
    assert "secret" not in str(found)
    digest = f"sha256 {hashlib.sha256(b'{}').hexdigest()}"
    assert found == {
        "data_source": digest,
        "relative": digest,
        "images": [digest, "(path)"],
        "output_dir": "$'(path)' + '/eval'",
        "store": "sqlite://",
        "server": "https://",
    }


def test_other_texts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "virtual").mkdir()  # a folder of the name of a setting
    config = {
        "data_source": "virtual",
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "reference": "@train#dataset",
        "network": "osteo_monai.networks.DensityRegressor",
        "note": "1 / 2 of the slices",
        "numbers": [1, 2.5, None, True],
        "loss": {"_target_": "DiceCELoss"},
    }
    assert without_paths(config) == config
