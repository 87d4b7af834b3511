"""The program of ``make demo``: its settings exist, and a step that fails shows why."""

import importlib.util
import json
import sqlite3
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_training_starts_from_published_weights_and_has_known_settings(demo: ModuleType) -> None:
    config = json.loads((demo.BUNDLE / "configs" / "train.json").read_text())
    assert set(demo.TRAINING) <= set(config)
    assert (demo.BUNDLE / demo.TRAINING["initial_weights"]).is_file()
    assert demo.TRAINING["learning_rate"] < config["learning_rate"]


def test_step_prints_one_line_and_logs_the_rest(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.step("Talk", [sys.executable, "-c", "print('chatter')"], tmp_path / "log", tmp_path)
    assert capsys.readouterr().out.split() == ["Talk", "0", "s"]
    assert "chatter" in (tmp_path / "log").read_text()


def test_failing_step_shows_the_end_of_the_log(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        demo.step("Talk", [sys.executable, "-c", "import sys; sys.exit('no space')"], tmp_path / "log", tmp_path)
    assert stop.value.code == 1
    text = capsys.readouterr().out
    assert "failed" in text
    assert "no space" in text


def test_dice_curve_of_the_last_run(demo: ModuleType, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE runs (run_uuid TEXT, start_time INTEGER)")
        database.execute("CREATE TABLE metrics (run_uuid TEXT, key TEXT, value REAL, step INTEGER)")
        database.executemany("INSERT INTO runs VALUES (?, ?)", [("old", 1), ("new", 2)])
        rows = [("old", 0.1, 1), ("new", 0.92, 2), ("new", 0.91, 1)]
        database.executemany("INSERT INTO metrics VALUES (?, 'val_mean_dice', ?, ?)", rows)
    database.close()
    assert demo.dice_curve(tmp_path / "mlflow.db") == "val_mean_dice 0.910, 0.920"
