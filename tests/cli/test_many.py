"""Options of ``screen`` for many studies, and ``batch status``."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from osteo_monai.batch import LEDGER, Entry, Ledger, Part, read_ledger
from osteo_monai.cli import run
from osteo_monai.screening import ScreeningResult
from osteo_monai.utils.locks import LOCK_NAME, folder_lock

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Return the command for five radiographs that are refused without a network: no worker loads one."""
    (tmp_path / "in").mkdir()
    for name in "abcde":
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "in" / f"{name}.png")
    return ["screen", str(tmp_path / "in"), "-o", str(tmp_path / "out")]


def rows(output: Path) -> list[tuple[Any, ...]]:
    return [(row["study"], row["refusals"]) for row in json.loads((output / "summary.json").read_text())]


def entries(output: Path) -> list[tuple[str, str, str]]:
    return [(entry.study, entry.state, entry.codes) for entry in read_ledger(output / LEDGER).entries]


def times(output: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in output.rglob("result.json")}


def test_results_do_not_depend_on_the_number_of_workers(pictures: list[str], tmp_path: Path) -> None:
    assert run(pictures) == 3
    two = [*pictures[:-1], str(tmp_path / "two"), "--workers", "2"]
    assert run(two) == 3
    assert rows(tmp_path / "out") == rows(tmp_path / "two")
    assert [name for name, _ in rows(tmp_path / "two")] == [f"{name}.png" for name in "abcde"]
    for name, codes in rows(tmp_path / "two"):
        results = [
            ScreeningResult.model_validate_json((tmp_path / folder / name / "result.json").read_bytes())
            for folder in ("out", "two")
        ]
        first, second = (result.model_copy(update={"seconds": {}}) for result in results)
        assert first == second
        assert (name, "refused", codes) in entries(tmp_path / "two")
    assert {entry.kind for entry in read_ledger(tmp_path / "two" / LEDGER).entries} == {"radiograph"}


def test_a_study_that_takes_too_long_has_a_row_and_is_repeated_on_request(
    pictures: list[str], tmp_path: Path, capsys: Capture
) -> None:
    output = tmp_path / "out"
    assert run([*pictures, "--time-limit", "0.000001"]) == 2
    assert rows(output) == [(f"{name}.png", "time_limit") for name in "abcde"]
    assert entries(output) == [(f"{name}.png", "failed", "time_limit") for name in "abcde"]
    assert "a.png: unusable. Screening was stopped: it took longer than 1e-06 s." in capsys.readouterr().out
    before = times(output)
    assert run([*pictures, "--resume"]) == 2
    assert times(output) == before
    assert "Failed: 5; --retry failed repeats them." in capsys.readouterr().out
    assert run([*pictures, "--retry", "failed"]) == 3
    assert {state for _, state, _ in entries(output)} == {"refused"}
    before = times(output)
    assert run([*pictures, "--retry", "failed"]) == 3
    assert times(output) == before
    assert run([*pictures, "--retry", "refused"]) == 3
    assert all(times(output)[name] > at for name, at in before.items())


def test_parts_together_are_everything_once(pictures: list[str], tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out"
    assert {run([*pictures, "--part", f"{number}/3"]) for number in (1, 3)} <= {0, 3}
    assert run(["batch", "status", str(output)]) == 0
    assert "Parts not begun (1): part_2_of_3" in capsys.readouterr().out
    assert run([*pictures, "--part", "2/3"]) in (0, 3)
    names = [name for number in (1, 2, 3) for name, _ in rows(output / f"part_{number}_of_3")]
    assert sorted(names) == [f"{name}.png" for name in "abcde"]
    assert len(times(output)) == 5
    capsys.readouterr()
    assert run(["batch", "status", str(output)]) == 0
    text = capsys.readouterr().out
    assert "5 of 5 studies (100 %)" in text
    assert "All studies are finished." in text


def test_one_study_with_an_option_for_many_is_a_batch(pictures: list[str], tmp_path: Path) -> None:
    for name in "bcde":
        (tmp_path / "in" / f"{name}.png").unlink()
    assert run([*pictures, "--time-limit", "500"]) == 3
    assert [name for name, _ in rows(tmp_path / "out")] == ["in"]
    assert (tmp_path / "out" / "in" / "report.html").is_file()


def test_a_batch_that_was_killed_is_continued_apart(pictures: list[str], tmp_path: Path) -> None:
    """A study that ends its process must not end the run again."""
    output = tmp_path / "out"
    output.mkdir()
    with Ledger(output) as ledger:
        ledger.begin([Entry("a.png", "radiograph")], {})
        ledger.start("a.png")
    assert run([*pictures, "--resume"]) == 3
    assert [(e.study, e.attempts) for e in read_ledger(output / LEDGER).entries][:2] == [("a.png", 2), ("b.png", 1)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--part", "4/3"], "--part must be a number and a count such as 3/20, got 4/3"),
        (["--part", "x"], "--part must be a number and a count such as 3/20, got 'x'"),
        (["--retry", "measured"], "--retry must be failed, refused or failed,refused, got 'measured'"),
        (["--time-limit", "0"], "--time-limit must be above 0, got 0"),
        (["--memory-limit", "-1"], "--memory-limit must be above 0, got -1"),
        (["--memory-limit", "nan"], "--memory-limit must be above 0, got nan"),
        (["--cluster-gpus", "1"], "--cluster-gpus must be given with --cluster"),
        (["--cluster", "local", "--cluster-gpus", "inf"], "--cluster-gpus must be 0 to 1 or a whole number, got inf"),
        (["--cluster", "local", "--cluster-gpus", "nan"], "--cluster-gpus must be 0 to 1 or a whole number, got nan"),
        (["--cluster", "local", "--cluster-gpus", "-1"], "--cluster-gpus must be 0 to 1 or a whole number, got -1"),
        (["--resume", "--overwrite"], "--overwrite must not be given with --resume or --retry"),
        (["--retry", "failed", "--overwrite"], "--overwrite must not be given with --resume or --retry"),
    ],
)
def test_wrong_options(pictures: list[str], capsys: Capture, words: list[str], message: str) -> None:
    assert run([*pictures, *words]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_cannot_start_leaves_earlier_results(pictures: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert run(pictures) == 3
    before = times(tmp_path / "out")
    assert run([*pictures, "--overwrite", "--memory-limit", "0.02"]) == 2  # less than the import of the package takes
    assert times(tmp_path / "out") == before
    assert capsys.readouterr().err.count("\n") <= 2


def test_a_cluster_that_does_not_answer_is_one_sentence(pictures: list[str], tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("ray", reason="needs the extra 'cluster'")
    for address in ("127.0.0.1:1", "nowhere"):
        assert run([*pictures, "--cluster", address]) == 2
        assert f"got '{address}', where nothing answers" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_the_page_has_the_studies_and_the_entries_of_this_run(pictures: list[str], tmp_path: Path) -> None:
    (tmp_path / "in" / "notes.txt").write_text("x")
    assert run(pictures) == 3
    page = (tmp_path / "out" / "index.html").read_text()
    assert "1 entry of the input" in page or "1 entries of the input" in page
    (tmp_path / "in" / "a.png").unlink()
    assert run([*pictures, "--resume"]) == 3
    page = (tmp_path / "out" / "index.html").read_text()
    assert "b.png" in page
    assert "a.png" not in page


def test_missing_ray_is_one_sentence(pictures: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run([*pictures, "--cluster", "local"]) == 2
    assert "--cluster needs ray: pip install 'osteo-monai[cluster]'" in capsys.readouterr().err


# --- batch status -------------------------------------------------------------------------------------------------


def status(folder: Path, capsys: Capture) -> str:
    assert run(["batch", "status", str(folder)]) == 0
    return capsys.readouterr().out


def test_status_of_a_run(tmp_path: Path, capsys: Capture) -> None:
    with folder_lock(tmp_path), Ledger(tmp_path) as ledger:
        ledger.begin([Entry(f"s{n}", "ct") for n in range(8)], {})
        ledger.start("s0")
        text = status(tmp_path, capsys)
        assert "0 of 8 studies (0 %)" in text
        assert "Rate: not known before two studies have ended (last change 0 s ago)." in text
        ledger.finish("s0", "measured")
        for number, state in enumerate(("refused", "refused", "failed"), 1):
            ledger.start(f"s{number}")
            ledger.finish(f"s{number}", state, "a; b" if number == 1 else "b", "Why.")  # type: ignore[arg-type]
        ledger.start("s4")
        text = status(tmp_path, capsys)
    assert "4 of 8 studies (50 %)" in text
    for line in (
        "pending: 3",
        "running: 1",
        "measured: 1",
        "refused: 2",
        "failed: 1",
        "refused: 2 x b",
        "failed: 1 x b",
    ):
        assert f"  {line}\n" in text
    assert "studies per hour; expected end: 20" in text
    assert (
        "Stopped (killed): 4 studies are left, 1 of them begun. Start 'osteo-monai screen' again with the same "
        "arguments and --resume."
    ) in status(tmp_path, capsys)
    with Ledger(tmp_path) as ledger:
        ledger.end()
    assert "Stopped: 4 studies are left. Start 'osteo-monai screen' again" in status(tmp_path, capsys)


def test_rate_counts_the_studies_of_this_run_only(tmp_path: Path, capsys: Capture) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.begin([Entry(f"s{n}", "ct") for n in range(4)], {})
        for name in ("s0", "s1"):
            ledger.start(name)
            ledger.finish(name, "measured")
    with folder_lock(tmp_path), Ledger(tmp_path) as ledger:
        ledger.begin([Entry(f"s{n}", "ct", "measured" if n < 2 else "pending") for n in range(4)], {})
        ledger.start("s2")
        assert "Rate: not known before two studies have ended" in status(tmp_path, capsys)


HOLD = """
import sys, time
from pathlib import Path
from osteo_monai.batch import Entry, Ledger
from osteo_monai.utils.locks import LOCK_NAME, folder_lock
with folder_lock(Path(sys.argv[1])), Ledger(Path(sys.argv[1])) as ledger:
    ledger.begin([Entry("a", "record"), Entry("b", "record")], {"command": "measure"})
    ledger.start("a")
    print("works", flush=True)
    time.sleep(120)
"""


def test_a_killed_run_differs_from_a_slow_one(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "part_2_of_3"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"works\n"
        text = status(tmp_path, capsys)
        assert "Rate: not known before two studies have ended" in text
        assert "Stopped" not in text
        process.kill()
    assert (folder / LOCK_NAME).exists()
    assert (
        "Stopped (killed) of part_2_of_3: 2 studies are left, 1 of them begun. Start 'osteo-monai measure' again with "
        "the same arguments and --part 2/3 --resume."
    ) in status(tmp_path, capsys)


def test_a_lock_of_another_host_may_be_invisible(tmp_path: Path, capsys: Capture) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.begin([Entry("a", "ct")], {})
    (tmp_path / LOCK_NAME).write_text(json.dumps({"host": "node7", "pid": 1}))
    text = status(tmp_path, capsys)
    assert "The run on host node7 does not hold its lock as seen from this host: it was killed, or" in text
    with Ledger(tmp_path) as ledger:
        ledger.end()
    assert "Stopped: 1 studies are left." in status(tmp_path, capsys)


# --- batch join ---------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(pictures: list[str], tmp_path: Path) -> Path:
    """Return the output of two finished parts, whose studies alternate in the input."""
    for number in (2, 1):
        assert run([*pictures, "--part", f"{number}/2"]) in (0, 3)
    return tmp_path / "out"


def test_joined_parts_are_the_whole(pictures: list[str], parts: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in" / "notes.txt").write_text("x")
    whole = [*pictures[:-1], str(tmp_path / "whole")]
    assert run(whole) == 3
    assert run([*pictures, "--part", "1/2", "--resume"]) in (0, 3)
    capsys.readouterr()
    assert run(["batch", "join", str(parts)]) == 0
    assert "Joined: 5 studies" in capsys.readouterr().out
    assert rows(parts) == rows(tmp_path / "whole")
    assert [name for name, _ in rows(parts)] == [f"{name}.png" for name in "abcde"]
    with (parts / "summary.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert all((parts / row["folder"] / "result.json").is_file() for row in table)
    with (tmp_path / "whole" / "summary.csv").open(newline="") as file:
        for one, other in zip(table, csv.DictReader(file), strict=True):
            assert one | {"folder": "", "seconds": ""} == other | {"folder": "", "seconds": ""}
    folders = pq.read_table(parts / "results.parquet").column("folder").to_pylist()
    assert folders == [row["folder"] for row in table]
    page = (parts / "index.html").read_text()
    assert all(f'href="{folder}/report.html"' in page for folder in folders)
    assert "notes.txt" in (parts / "not_read.csv").read_text()
    assert run(["batch", "join", str(parts)]) == 2
    assert "--overwrite must be given" in capsys.readouterr().err
    assert run(["batch", "join", str(parts), "--overwrite"]) == 0


def test_a_missing_or_stopped_part_is_named(parts: Path, capsys: Capture) -> None:
    with Ledger(parts / "part_1_of_2") as ledger:
        ledger.start(read_ledger(parts / "part_1_of_2" / LEDGER).entries[0].study)
    shutil.rmtree(parts / "part_2_of_2")
    capsys.readouterr()
    assert run(["batch", "join", str(parts)]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert "part_2_of_2 is missing; part_1_of_2 has 1 studies without an outcome" in text
    assert not (parts / "summary.csv").exists()
    assert run(["batch", "join", str(parts), "--partial"]) == 0
    text = capsys.readouterr().out
    assert "Parts missing (1): part_2_of_2" in text
    assert "Not finished: part_1_of_2, 1 studies have no outcome" in text
    assert rows(parts) == [(name, codes) for name, _, codes in entries(parts / "part_1_of_2")[1:]]


def test_overlapping_parts_are_refused(parts: Path, capsys: Capture) -> None:
    shutil.copytree(parts / "part_1_of_2", parts / "part_1_of_4")
    assert run(["batch", "join", str(parts)]) == 2
    assert "must have parts of one division, got parts of 2 and 4" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree(parts / "part_1_of_4")
    shutil.rmtree(parts / "part_2_of_2")
    shutil.copytree(parts / "part_1_of_2", parts / "part_2_of_2")
    study = entries(parts / "part_1_of_2")[0][0]
    assert run(["batch", "join", str(parts)]) == 2
    assert f"must have each study once, got in two of them: {study}" in " ".join(capsys.readouterr().err.split())


def test_parts_by_several_versions_are_refused(
    pictures: list[str], parts: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osteo_monai.__version__", "99.0")
    assert run([*pictures, "--part", "1/2", "--resume"]) in (0, 3)
    capsys.readouterr()
    assert run(["batch", "join", str(parts)]) == 2
    assert "must have parts by one version of osteo-monai, got" in " ".join(capsys.readouterr().err.split())
    assert not (parts / "summary.csv").exists()


def test_a_study_that_was_added_between_parts_is_not_left_out(
    pictures: list[str], parts: Path, tmp_path: Path, capsys: Capture
) -> None:
    """It belongs to the part that had ended, and was in no summary."""
    held = (name for name in (f"a{n}.png" for n in range(99)) if Part(1, 2).holds(name))
    (tmp_path / "in" / next(held)).write_bytes((tmp_path / "in" / "a.png").read_bytes())
    assert run([*pictures, "--part", "2/2", "--resume"]) in (0, 3)
    capsys.readouterr()
    assert run(["batch", "join", str(parts)]) == 2
    assert "got parts between which studies were added or removed" in " ".join(capsys.readouterr().err.split())
    assert run([*pictures, "--part", "1/2", "--resume"]) in (0, 3)
    assert run(["batch", "join", str(parts)]) == 0
    assert len(rows(parts)) == 6


def test_a_batch_without_parts_is_not_joined(pictures: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert run(pictures) == 3
    assert run(["batch", "join", str(tmp_path / "out"), "--overwrite"]) == 2
    assert "got the ledger of a run without --part" in " ".join(capsys.readouterr().err.split())


def test_a_result_that_is_missing_is_not_left_out(parts: Path, capsys: Capture) -> None:
    study = entries(parts / "part_1_of_2")[0][0]
    (parts / "part_1_of_2" / study / "result.json").unlink()
    (parts / "part_1_of_2" / "summary.json").unlink()
    assert run(["batch", "join", str(parts)]) == 2
    assert "must have the result that the ledger names" in " ".join(capsys.readouterr().err.split())


def test_status_of_another_folder(tmp_path: Path, capsys: Capture) -> None:
    assert run(["batch", "status", str(tmp_path)]) == 2
    assert "must be the output folder of a batch, got one without a ledger" in capsys.readouterr().err
    assert run(["batch", "status", str(tmp_path / "absent")]) == 2
    assert "DIR must be an existing folder, got" in capsys.readouterr().err
