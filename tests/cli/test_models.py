"""The verbs ``risk ...``, ``radiograph ...`` and ``bundle ...``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from osteo_monai.cli import run
from osteo_monai.experiments import ComparedNetwork, Comparison, SizeResult
from osteo_monai.experiments.training_size import SUBSET_SEED
from osteo_monai.statistics import Interval
from osteo_monai.statistics.paired_means import PairedMeans

Capture = pytest.CaptureFixture[str]


def predictions(path: Path, seed: int, count: int = 200) -> Path:
    """Write a predictions table of validation subjects with informative probabilities."""
    rng = np.random.default_rng(seed)
    lines = ["subject_id,model,cohort,osteoporosis,probability_osteoporosis,virtual"]
    for number in range(count):
        truth = int(np.random.default_rng(number).random() < 0.4)
        probability = 1 / (1 + np.exp(-(1.5 * (2 * truth - 1) + rng.normal())))
        lines.append(f"p{number},net,validation,{truth},{probability:.6f},1")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def tables(tmp_path: Path) -> tuple[str, str]:
    return str(predictions(tmp_path / "ap.csv", 1)), str(predictions(tmp_path / "lateral.csv", 2))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a folder with the configs of a small bundle."""
    configs = tmp_path / "bundle" / "configs"
    configs.mkdir(parents=True)
    (configs / "common.json").write_text('{"a": 1}')
    (configs / "inference_overlay.json").write_text('{"b": 2}')
    (configs / "inference.json").write_text("{}")
    return configs.parent


# --- risk ---------------------------------------------------------------------------------------------------------


def test_calibrate(tables: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "models" / "risk.json"
    words = ["risk", "calibrate", f"lumbar_ap={tables[0]}", f"lumbar_lateral={tables[1]}", "-o", str(output)]
    assert run([*words, "--tables", str(tmp_path / "calibrated")]) == 0
    assert list(json.loads(output.read_text())) == ["lumbar_ap", "lumbar_lateral"]
    assert sorted(path.name for path in (tmp_path / "calibrated").iterdir()) == ["lumbar_ap.csv", "lumbar_lateral.csv"]
    assert "lumbar_ap: 200 subjects, " in capsys.readouterr().out
    assert run(words) == 2
    assert "--overwrite must be given" in capsys.readouterr().err


def test_calibrate_reports_all_wrong_sources(tables: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    words = ["risk", "calibrate", "chest", "chest=gone.csv", f"a={tables[0]}", f"a={tables[1]}"]
    assert run([*words, "-o", str(tmp_path / "risk.json")]) == 2
    error = capsys.readouterr().err
    assert "got 'chest'" in error
    assert "got 'chest=gone.csv'" in error
    assert "'a' must be calibrated once" in error
    assert not (tmp_path / "risk.json").exists()


def test_calibrate_of_a_table_without_validation(tables: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    table = Path(tables[0])
    table.write_text(table.read_text().replace("validation", "test"))
    assert run(["risk", "calibrate", f"a={table}", "-o", str(tmp_path / "risk.json")]) == 2
    assert "cohort" in capsys.readouterr().err


def test_train_passes_its_options(tables: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    class People:
        virtual = True
        left_out: Mapping[str, int] = {}

    def train_and_predict(*arguments: object) -> tuple[People, list[object]]:
        calls.append(arguments)
        return People(), []

    monkeypatch.setattr("osteo_monai.risk.train_and_predict", train_and_predict)
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    output = tmp_path / "out"
    words = ["risk", "train", str(manifest), "--scores", tables[0], "-o", str(output), "--seed", "3"]
    assert run(words) == 0
    assert calls == [(manifest, Path(tables[0]), output, 3)]
    output.mkdir()
    (output / "combined.ubj").touch()
    assert run(words) == 2
    assert len(calls) == 1


# --- radiograph ---------------------------------------------------------------------------------------------------


def test_fuse(tables: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "fused.csv"
    assert run(["radiograph", "fuse", *tables, "-o", str(output), "--model", "both"]) == 0
    assert f"200 subjects: {output}" in capsys.readouterr().out
    assert output.read_text().count("both") == 200
    assert run(["radiograph", "fuse", *tables, "-o", str(output)]) == 2


def test_fuse_of_one_table_or_of_tables_that_disagree(tables: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    output = str(tmp_path / "fused.csv")
    assert run(["radiograph", "fuse", tables[0], "-o", output]) == 2
    assert "TABLE must be two or more tables, got 1" in capsys.readouterr().err
    other = tmp_path / "other.csv"
    other.write_text(Path(tables[0]).read_text().replace(",1,0.", ",0,0."))
    assert run(["radiograph", "fuse", tables[0], str(other), "-o", output]) == 2
    assert "of the cohort validation" in capsys.readouterr().err


def test_heat_of_a_table_without_maps(tables: tuple[str, str], capsys: Capture) -> None:
    assert run(["radiograph", "heat", tables[0]]) == 2
    assert "heat_on_bone" in capsys.readouterr().err


def test_tables_that_cannot_be_read(tables: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("subject_id,probability_osteoporosis\na,high\n")
    for words in (["fuse", tables[0], str(bad), "-o", str(tmp_path / "fused.csv")], ["heat", str(bad)]):
        assert run(["radiograph", *words]) == 2
        assert "probability_osteoporosis must be a number" in capsys.readouterr().err


def test_heat(tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "heat.csv"
    table.write_text(
        "subject_id,cohort,probability_osteoporosis,heat_on_bone,bone_area\na,test,0.5,0.6,0.3\nb,test,0.5,0.8,0.4\n"
    )
    assert run(["radiograph", "heat", str(table)]) == 0
    assert "test, heat: 70.0 %" in capsys.readouterr().out


def test_cross_validate_passes_its_options(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    calls: list[tuple[object, ...]] = []

    def cross_validate(*arguments: object) -> Path:
        calls.append(arguments)
        return Path("predictions.csv")

    monkeypatch.setattr("osteo_monai.experiments.cross_validation.cross_validate", cross_validate)
    manifest = tmp_path / "manifest.json"
    manifest.touch()
    output = tmp_path / "folds"
    words = ["radiograph", "cross-validate", str(bundle), "-o", str(output), "--data-source", str(manifest)]
    assert run([*words, "--overlay", "common", "--settings", '{"epochs": 2}', "--folds", "3"]) == 0
    assert calls == [(bundle, output, str(manifest), 3, ["common"], {"epochs": 2}, False)]
    for wrong, message in (
        (["--overlay", "gone"], "--overlay must be a config of the bundle, got 'gone'"),
        (["--settings", "epochs=2"], "--settings must be a JSON object"),
        (["--folds", "1"], "--folds must be greater than or equal to 2, got '1'"),
    ):
        assert run([*words, *wrong]) == 2
        assert message in capsys.readouterr().err
    assert len(calls) == 1


# --- bundle -------------------------------------------------------------------------------------------------------


def test_merge(bundle: Path, capsys: Capture) -> None:
    assert run(["bundle", "merge", str(bundle)]) == 0
    assert json.loads((bundle / "configs" / "inference.json").read_text()).items() >= {"a": 1, "b": 2}.items()
    (bundle / "configs" / "inference_overlay.json").unlink()
    assert run(["bundle", "merge", str(bundle)]) == 2
    assert "must hold configs/inference_overlay.json" in capsys.readouterr().err


def test_export(bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"model": {"w": torch.ones(2)}}, checkpoint)
    words = ["bundle", "export", str(checkpoint), str(bundle)]
    assert run(words) == 0
    assert torch.load(bundle / "models" / "model.pt", weights_only=True)["w"].dtype is torch.float16
    assert run(words) == 2
    assert "--overwrite must be given" in capsys.readouterr().err
    assert run([*words, "--overwrite", "--full"]) == 0
    assert torch.load(bundle / "models" / "model.pt", weights_only=True)["w"].dtype is torch.float32
    assert run(["bundle", "export", "gone.pt", str(bundle)]) == 2
    assert "CHECKPOINT must be an existing file, got 'gone.pt'" in capsys.readouterr().err


def test_export_of_the_mean_of_two_stages(bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    first, second, other = (tmp_path / f"{name}.pt" for name in ("first", "second", "other"))
    torch.save({"model": {"w": torch.tensor([1.0, 3.0])}}, first)
    torch.save({"w": torch.tensor([2.0, 1.0], dtype=torch.float16)}, second)
    torch.save({"w": torch.ones(3)}, other)
    words = ["bundle", "export", str(first), str(bundle), "--average"]
    assert run([*words, str(other)]) == 2
    assert "checkpoints must be of one network, got weights of other names or shapes" in capsys.readouterr().err
    assert not (bundle / "models" / "model.pt").exists()
    assert run([*words, str(second)]) == 0
    mean = torch.load(bundle / "models" / "model.pt", weights_only=True)["w"]
    assert mean.tolist() == [1.5, 2.0]
    assert mean.dtype is torch.float16


def test_train_sizes_passes_its_options(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    calls: list[tuple[Any, ...]] = []

    def curve(bundle: Path, sizes: Sequence[int], output: Path, *options: Any) -> list[SizeResult]:
        calls.append((sizes, *options))
        return [SizeResult(50, 25, 0.9, 0.1, 0.85, 0.95)]

    monkeypatch.setattr("osteo_monai.experiments.training_size.training_size_curve", curve)
    words = ["bundle", "train-sizes", str(bundle), "-o", str(tmp_path / "curve")]
    assert run(words) == 0
    assert "50 training images: Dice 0.9000 +- 0.1000, 95 % interval 0.8500 to 0.9500" in capsys.readouterr().out
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    more = ["--sizes", "20,40", "--data-source", str(manifest), "--subset-seed", "3", "--settings", '{"epochs": 1}']
    assert run([*words, *more]) == 0
    assert calls == [
        ([50, 100, 200, 300, 500, 1096], "virtual", [], SUBSET_SEED, {}, False),
        ([20, 40], str(manifest), [], 3, {"epochs": 1}, False),
    ]
    for sizes in ("0", "a", ""):
        assert run([*words, "--sizes", sizes]) == 2
        assert "--sizes must be positive whole numbers such as 50,100,200" in capsys.readouterr().err
    assert run([*words, "--data-source", "gone.json"]) == 2
    assert "--data-source must be 'virtual' or an existing file, got 'gone.json'" in capsys.readouterr().err


def test_compare_networks_passes_its_options(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    calls: list[tuple[Any, ...]] = []
    scores = {"dice": 0.9, "surface_distance_mm": 0.5, "hausdorff95_mm": 2.0}
    networks = tuple(ComparedNetwork(name, (), 1000, 8, 1, scores, scores) for name in ("own", "other"))
    pair = PairedMeans(4, 0.9, 0.85, Interval(0.05, 0.02, 0.08), 0.0001, 0.0002, 4, 0)

    def compare(bundle: Path, networks_: Sequence[str], output: Path, *options: Any) -> Comparison:
        calls.append((networks_, *options))
        return Comparison(networks, {("own", "other", "dice"): pair}, (), {})

    monkeypatch.setattr("osteo_monai.experiments.network_comparison.compare_networks", compare)
    (bundle / "configs" / "other.json").write_text("{}")
    words = ["bundle", "compare-networks", str(bundle), "-o", str(tmp_path / "out")]
    assert run([*words, "--network", "other", "--seeds", "1,2", "--settings", '{"epochs": 1}']) == 0
    shown = capsys.readouterr().out
    assert "own, 1,000 weights: Dice 0.9000 +- 0.9000, Hausdorff 2.00 mm, 1 of 8 images without a contour" in shown
    assert "own minus other, 4 people: +0.0500 (+0.0200 to +0.0800), Wilcoxon p < 0.001" in shown
    assert calls == [(["other"], "virtual", [], [1, 2], {"epochs": 1}, False)]
    assert run([*words, "--network", "gone"]) == 2
    assert "--network must be a config of the bundle, got 'gone'" in capsys.readouterr().err
