"""A batch that is stopped, resumed, repeated, or cannot write."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from osteo_monai.cli import run
from osteo_monai.screening.result import ScreeningResult
from osteo_monai.utils.locks import folder_lock

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command for three damaged NIfTI files, which need no network."""
    monkeypatch.setattr("osteo_monai.screening.models.load_models", lambda device, trust: None)
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "in" / f"{name}.nii").write_bytes(b"damaged")
    return ["screen", str(tmp_path / "in"), "-o", str(tmp_path / "out")]


def times(output: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob("*/result.json")}


def rows(output: Path) -> list[tuple[str, str]]:
    return [(row["study"], row["refusals"]) for row in json.loads((output / "summary.json").read_text())]


def test_resume_keeps_whole_results_of_the_same_files_and_options(
    words: list[str], tmp_path: Path, capsys: Capture
) -> None:
    output = tmp_path / "out"
    assert run(words) == 2
    before = times(output)
    (output / "b.nii" / "result.json").write_text("{")
    (tmp_path / "in" / "c.nii").write_bytes(b"other content")
    assert run(words) == 2
    assert "--overwrite must be given" in capsys.readouterr().err
    assert run([*words, "--resume"]) == 2
    assert "1 complete results were kept. 2 were made again" in capsys.readouterr().out
    after = times(output)
    assert [name for name in before if after[name] == before[name]] == ["a.nii"]
    assert [name for name, _ in rows(output)] == ["a.nii", "b.nii", "c.nii"]
    assert run([*words, "--resume", "--levels", "L1"]) == 2
    assert "0 complete results were kept. 3 were made again" in capsys.readouterr().out


def test_overwrite_leaves_nothing_of_an_earlier_run(words: list[str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run(words) == 2
    (tmp_path / "in" / "a.nii").unlink()
    (output / "b.nii" / "notes.txt").write_text("of the user")
    (output / ".0123abcd.partial").mkdir()
    (output / "c.nii" / ".0123abcd.result.json").write_text("half")
    assert run([*words, "--overwrite"]) == 2
    assert sorted(path.name for path in output.iterdir()) == [
        "b.nii",
        "batch.json",
        "c.nii",
        "index.html",
        "ledger.sqlite",
        "results.parquet",
        "summary.csv",
        "summary.json",
    ]
    page = (output / "index.html").read_text()
    assert "b.nii" in page
    assert "a.nii" not in page
    assert sorted(path.name for path in (output / "b.nii").iterdir()) == ["notes.txt", "report.html", "result.json"]
    assert sorted(path.name for path in (output / "c.nii").iterdir()) == ["report.html", "result.json"]


def test_overwrite_removes_no_folder_outside_the_output(words: list[str], tmp_path: Path) -> None:
    output, other = tmp_path / "out", tmp_path / "other"
    for folder in (output, other):
        folder.mkdir()
    (other / "result.json").write_text("kept")
    (output / "batch.json").write_text(json.dumps({"folders": ["../other", str(other), "..", 7]}))
    assert run([*words, "--overwrite"]) == 2
    assert (other / "result.json").read_text() == "kept"


def test_a_second_run_into_the_same_folder_is_refused(words: list[str], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "out").mkdir()
    with folder_lock(tmp_path / "out"):
        assert run(words) == 2
    assert "--output must be a folder that no other run writes to" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_does_not_end_a_batch(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = ScreeningResult.write

    def full(result: ScreeningResult, path: Path) -> None:
        if "b.nii" in path.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(result, path)

    monkeypatch.setattr(ScreeningResult, "write", full)
    assert run(words) == 2
    assert rows(tmp_path / "out") == [
        ("a.nii", "unusable_input"), ("b.nii", "output_failed"), ("c.nii", "unusable_input"),
    ]  # fmt: skip


def test_what_is_not_read_is_counted_and_named(words: list[str], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in" / "notes.txt").write_text("x")
    (tmp_path / "in" / "empty").write_bytes(b"")
    (tmp_path / "in" / "=HYPERLINK(1)").write_text("x")
    os.mkfifo(tmp_path / "in" / "pipe")
    assert run(words) == 2
    text = capsys.readouterr().out
    for line in ("1 x empty file: empty", "1 x named pipe: pipe", "zip file: =HYPERLINK(1), notes.txt"):
        assert line in text
    lines = (tmp_path / "out" / "not_read.csv").read_text().splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("'=HYPERLINK(1),")  # no formula
    assert len(rows(tmp_path / "out")) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_output_does_not_end_a_batch(words: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        code = subprocess.run([sys.executable, "-m", "osteo_monai", *words], stdout=full, stderr=full, check=False)
    assert code.returncode == 2
    assert [name for name, _ in rows(tmp_path / "out")] == ["a.nii", "b.nii", "c.nii"]


def test_a_closed_pipe_does_not_end_a_batch(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from osteo_monai.screening import models; models.load_models = lambda device, trust: None\n"
        "from osteo_monai.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    assert subprocess.run([sys.executable, "-c", code, *words], stdout=writer, check=False).returncode == 2
    os.close(writer)
    assert len(rows(tmp_path / "out")) == 3
