"""The benchmarks of speed and of sliding windows run on a CPU at small size, and compute what they print."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from osteo_monai.weights import read_weights

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return _module("gpu")


@pytest.fixture(scope="module")
def windows() -> ModuleType:
    return _module("sliding_windows")


def test_all_networks_are_measured_on_a_cpu(gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "gpu.json"
    parts = ["slices", "localisation", "training"]
    words = ["--tiny", "--device", "cpu", "--precisions", "float32", "bfloat16", "--channels-last"]
    assert gpu.main([*words, "--parts", *parts, "--output", str(output)]) == 0
    record = json.loads(output.read_text(encoding="utf-8"))
    rows = record["rows"]
    assert {row["part"] for row in rows} == set(parts)
    precisions = {"float32", "bfloat16", "float32, channels last", "bfloat16, channels last"}
    assert {row["precision"] for row in rows} == precisions
    slices = [row for row in rows if row["part"] == "slices"]
    assert len(slices) == 4 * len(precisions)
    for row in slices:
        assert row["difference"] < (1e-4 if row["precision"].startswith("float32") else 0.2)
        assert row["per_second"] == pytest.approx(gpu.TINY.slices / row["seconds"])
        assert row["bound_seconds"] > 0  # of a busy processor it is no bound
    assert all(row["peak_gib"] is None for row in rows)
    printed = capsys.readouterr().out
    assert printed.count("\n") == len(rows) + 2
    assert "MONAI SliceInferer" in printed


def test_operations_and_bytes_are_those_of_the_layers(gpu: Any) -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU())
    operations, moved = gpu.work_of(network, torch.rand(1, 2, 8, 8), "float32")
    assert operations == 2 * 2 * 3 * 9 * 64
    weights = 3 * 2 * 9 + 3
    assert moved == 4 * (2 * 64 + 3 * 64 + weights + 2 * 3 * 64)
    assert gpu.work_of(network, torch.rand(1, 2, 8, 8), "bfloat16")[1] == moved / 2
    limits = gpu.Limits({"float32": 100.0}, 10.0)
    assert limits.least_seconds(1000.0, 50.0, "float32") == 10.0
    assert limits.least_seconds(1000.0, 500.0, "float32") == 50.0


@pytest.mark.slow
def test_warm_studies_are_measured(gpu: Any, real_data: Path, tmp_path: Path) -> None:
    study = real_data / "ct_totalsegmentator_example" / "full" / "example_ct.nii.gz"
    words = ["--tiny", "--device", "cpu", "--parts", "studies", "--study", str(study)]
    assert gpu.main([*words, "--output", str(tmp_path / "gpu.json")]) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["rows"]
    whole, stages = rows[0], rows[1:]
    assert whole["per_second"] == pytest.approx(1 / whole["seconds"])
    assert len(stages) > 3
    assert sum(row["seconds"] for row in stages) < 1.5 * whole["seconds"]


@pytest.mark.gpu
def test_all_parts_run_on_a_gpu(gpu: Any, tmp_path: Path) -> None:
    words = ["--tiny", "--device", "cuda", "--precisions", "float32", "bfloat16", "float16", "--channels-last"]
    parts = ["--parts", "slices", "localisation", "training"]
    assert gpu.main([*words, *parts, "--output", str(tmp_path / "gpu.json")]) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["rows"]
    assert all(row["peak_gib"] > 0 for row in rows)


def test_padding_changes_the_whole_plane_only(windows: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "windows.json"
    assert windows.main(["--people", "2", "--loops", "2", "--fields", "250", "--output", str(output)]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    (row,) = report["rows"]
    assert report["loops"]["slices"] == 2
    assert row["pixels"] == 167
    assert row["dice_blocks"]["blocks, window 512"] == 1.0
    assert 0.1 < row["dice_blocks"]["MONAI's window 512 on the plane"] < 0.95  # its plane has more air
    assert 0.1 < row["dice_truth"]["blocks"] < 1
    assert row["changed"]["plane"]["256"] > 100
    assert row["changed"]["blocks"]["64"] == row["changed"]["blocks"]["256"] == 0
    assert set(row["changed"]["body"].values()) == {0}
    assert "| body, 50 pixels on each side | 0 |" in capsys.readouterr().out


def test_dice_counts_slices_with_a_body(windows: Any) -> None:
    truth = torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    truth[0, 0, :2] = True
    truth[1, 0, 0] = True
    mask = truth.clone()
    mask[0, 0, 1] = False
    mask[2] = True
    assert windows.truth_dice(mask, truth) == pytest.approx((2 * 4 / 12 + 1) / 2)
    assert windows.dice(truth[2], truth[2]) == 1.0


class _Threshold(nn.Module):
    """A network that marks what is brighter than a value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.value


def test_false_parts_are_those_that_touch_no_body(windows: Any) -> None:
    window = (-300.0, 700.0)
    bright = windows.false_parts(6, _Threshold(0.55), window)  # loops, arches and ribs above 250 HU
    assert bright["with_false_parts"] == 6
    assert bright["false_cm2_per_slice"] > 2
    nothing = windows.false_parts(6, _Threshold(2.0), window)
    assert (nothing["with_false_parts"], nothing["false_cm2_per_slice"]) == (0, 0.0)
    trunk = windows.false_parts(6, _Threshold(0.01), window)  # one part that contains the body, and arms or table
    assert trunk["with_false_parts"] < 6


def test_the_parts_of_a_training_step_are_measured(tmp_path: Path) -> None:
    training = _module("training_speed")
    output = tmp_path / "speed.json"
    names = ["osteoporosis_classification_chest_xray", "bone_density_regression_ct", "vertebral_body_segmentation_ct"]
    words = ["--bundles", *names, "--steps", "1", "--items", "1", "--tiny", "--float32", "--output", str(output)]
    assert training.main(words) == 0
    record = json.loads(output.read_text(encoding="utf-8"))
    assert list(record["bundles"]) == names
    for bundle in record["bundles"].values():
        assert bundle["input"][0] == 2
        assert not bundle["bfloat16"]
        assert set(bundle["median_ms"]) == {"data", "augmentation", "forward", "backward"}
        assert min(bundle["median_ms"][part]["cpu"] for part in ("data", "forward", "backward")) > 0
        total = sum(part["cpu"] for part in bundle["median_ms"].values())
        assert bundle["items_per_cpu_second"] == pytest.approx(2000 / total, rel=0.01)
        assert sum(bundle["share_of_cpu"].values()) == pytest.approx(1, abs=0.003)
    assert record["bundles"]["vertebral_body_segmentation_ct"]["input"] == [2, 1, 64, 64]
    seconds = record["generator_cpu_seconds_per_item"]
    assert len(seconds) == 9
    assert min(seconds.values()) > 0
    assert (
        seconds["localisation volume of a kept subject (each epoch)"]
        < seconds["localisation volume 80 x 64 x 96, 1 of a subject"] / 5
    )


def test_errors_of_a_centre_line() -> None:
    module = _module("localization_line")
    line = np.array([[10.0, 20.0, 0.0], [10.0, 20.0, 100.0], [30.0, 20.0, 200.0]])
    bodies = np.array([[10.0, 20.0, 50.0], [13.0, 24.0, 0.0], [20.0, 20.0, 150.0], [30.0, 120.0, 200.0]])
    assert module.line_errors(line[::-1], bodies, 4.0) == pytest.approx([0, 5, 0, module.CAP_MM])
    beyond = np.array([[10.0, 20.0, -3.0], [10.0, 20.0, -5.0], [30.0, 20.0, 205.0]])
    assert module.line_errors(line, beyond, 4.0) == pytest.approx([0, module.CAP_MM, module.CAP_MM])
    assert module.line_errors(np.empty((0, 3)), bodies, 4.0) == pytest.approx([module.CAP_MM] * 4)


def test_checkpoints_are_compared_on_the_same_people(tmp_path: Path) -> None:
    module = _module("localization_line")
    shipped = read_weights(module.BUNDLE / "models" / "model.pt")
    torch.save(shipped, tmp_path / "shipped.pt")
    blind = {key: torch.zeros_like(value) for key, value in shipped.items()}
    blind |= {key: value - 20 for key, value in blind.items() if key.endswith("bias")}  # no voxel is body
    torch.save(blind, tmp_path / "blind.pt")
    words = [f"{name}={tmp_path / name}.pt" for name in ("shipped", "blind")]
    output = tmp_path / "lines.json"
    assert module.main([*words, "--people", "2", "--output", str(output)]) == 0
    record = json.loads(output.read_text(encoding="utf-8"))["virtual"]
    assert record["shipped"]["scans"] == record["blind"]["scans"] == 2
    assert record["shipped"]["mean_mm"] < 15
    assert record["blind"]["mean_mm"] == module.CAP_MM
    difference = record["blind - shipped"]
    assert difference["low"] <= difference["mean_mm"] <= difference["high"]
    assert difference["mean_mm"] == pytest.approx(module.CAP_MM - record["shipped"]["mean_mm"], abs=0.02)
