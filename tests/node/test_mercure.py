"""The mercure module: folders, options, result.json, exit codes."""

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest

from osteo_monai import cli
from osteo_monai.errors import ConfigError
from osteo_monai.node import Processed, folders, run_module

from .bench import PLANTED, ct_images, load


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    source, target = tmp_path / "data", tmp_path / "output"
    source.mkdir()
    target.mkdir()
    for number, image in enumerate(ct_images(1, 3)):
        image.save_as(source / f"1.2.3#{number}.dcm", enforce_file_format=True)
        (source / f"1.2.3#{number}.tags").write_text(json.dumps({"PatientName": PLANTED[0]}))
    monkeypatch.setenv("MERCURE_IN_DIR", str(source))
    monkeypatch.setenv("MERCURE_OUT_DIR", str(target))
    return source, target


def test_results_are_at_the_top_of_the_output(task: tuple[Path, Path]) -> None:
    run_module(*task, load)
    source, target = task
    assert sorted(path.name for path in target.iterdir()) == ["osteo_monai_1.dcm", "result.json"]
    assert pydicom.dcmread(target / "osteo_monai_1.dcm").ImageComments.startswith("3 images")
    assert len(list(source.iterdir())) == 6, "the input is not changed"


@pytest.mark.parametrize("notify", [True, False])
def test_notification(task: tuple[Path, Path], notify: bool) -> None:
    done = Processed("measured", (), "trabecular density 71 mg/cm3, osteoporosis", notify)
    run_module(*task, lambda settings: lambda images, output: done)
    result = json.loads((task[1] / "result.json").read_text())
    text = "osteo_monai: trabecular density 71 mg/cm3, osteoporosis"
    assert result["__mercure_notification"] == {"text": text, "requested": notify}


@pytest.mark.parametrize("process", [{"settings": {"levels": "L1"}}, [{"settings": {"levels": "L1", "other": 1}}]])
def test_options_of_the_task(task: tuple[Path, Path], process: object) -> None:
    (task[0] / "task.json").write_text(json.dumps({"process": process}))
    seen: list[dict[str, Any]] = []

    def keep(settings: dict[str, Any]) -> Any:
        seen.append(settings)
        return load(settings)

    run_module(*task, keep)
    assert seen[0]["options"] == {"levels": "L1"}


def test_task_that_cannot_be_read(task: tuple[Path, Path]) -> None:
    (task[0] / "task.json").write_text("[1")
    with pytest.raises(ConfigError, match="task of mercure"):
        run_module(*task, load)


def test_folders_of_the_environment(tmp_path: Path) -> None:
    names = {"MONAI_INPUTPATH": str(tmp_path), "HOLOSCAN_OUTPUT_PATH": str(tmp_path)}
    assert folders(names) == (tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="MERCURE_IN_DIR must be set"):
        folders({})
    with pytest.raises(ConfigError, match="MERCURE_OUT_DIR must name a folder"):
        folders(names | {"MERCURE_OUT_DIR": str(tmp_path / "missing")})


def test_refused_study_is_a_finished_task(task: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """mercure counts every exit code but 0 as failure."""
    assert cli.run(["node", "mercure"]) == 0
    result = json.loads((task[1] / "result.json").read_text())
    assert result["outcome"] in ("refused", "unusable")
    assert result["__mercure_notification"]["requested"]
    output = capsys.readouterr()
    assert not [word for word in PLANTED if word in output.out + output.err + json.dumps(result)]


def test_wrong_option_is_an_error(task: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    (task[0] / "task.json").write_text(json.dumps({"process": {"settings": {"levels": "T1"}}}))
    assert cli.run(["node", "mercure"]) == 2
    assert "screening.options.levels: must be levels from L1 to L5" in capsys.readouterr().err
