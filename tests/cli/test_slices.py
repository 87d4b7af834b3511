"""The verbs ``manifest slices`` and ``manifest outlines``."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from osteo_monai.cli import run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Write a manifest of one subject with a body of L1."""
    labels = np.zeros((40, 40, 12), np.uint8)
    labels[10:30, 10:30, 2:9] = 20
    hu = np.random.default_rng(0).normal(60, 40, labels.shape).astype(np.int16)
    hu[:, :5] = -1000
    for name, array in (("ct", hu), ("label", labels)):
        nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / f"{name}.nii.gz")
    path = tmp_path / "volumes.json"
    record = {"subject_id": "a", "image": "ct.nii.gz", "label": "label.nii.gz"}
    path.write_text(json.dumps({"name": "v", "description": "d", "virtual": True, "training": [record]}))
    return path


def test_slices(volumes: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["manifest", "slices", str(volumes), "--output", str(tmp_path / "out"), "--boundary", "endosteal"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "training: 1 subject, 1 slice" in out
    assert "1 slice left out, reasons: " in out
    content = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (content["name"], content["virtual"]) == ("v_slices", True)
    assert [(r["level"], r["boundary"]) for r in content["training"]] == [("L1", "endosteal")]
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*words, "--overwrite", "--name", "again"]) == 0
    assert run(["manifest", "slices", str(tmp_path / "out" / "manifest.json"), "-o", str(tmp_path / "b")]) == 2
    assert "must be a volume, got a slice of L1" in capsys.readouterr().err


def test_outlines(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "Mueller Hans"
    folder.mkdir()
    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)).save(folder / "b_L2.png")
    square = [[5, 5], [20, 5], [20, 20], [5, 20], [5, 5]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]}}
    feature["properties"] = {"objectType": "annotation", "classification": {"name": "Corpus"}}
    (folder / "b_L2.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    words = ["manifest", "outlines", str(folder), "--output", str(tmp_path / "one.json"), "--boundary", "endosteal"]
    pixels = ["--window", "-160", "240", "--pixel-mm", "0.8"]
    assert run([*words, *pixels]) == 2
    error = capsys.readouterr().err
    assert "The class of an outline must be L1, L2 or one of --classes, got 'Corpus'" in error
    assert "b_L2" not in error
    assert run([*words, *pixels, "--classes", "Corpus=L2", "--overwrite"]) == 0
    assert "test: 1 subject, 1 slice" in capsys.readouterr().out
    assert run([*words[:-2], *pixels]) == 2
    assert "--boundary" in capsys.readouterr().err
    assert run([*words, "--classes", "Corpus", "--overwrite"]) == 2
    assert "--classes must be NAME=LEVEL, several separated by commas, got 'Corpus'" in capsys.readouterr().err
