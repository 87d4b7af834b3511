"""Files of painted subjects: written once, complete or absent, and not read by another generator."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from osteo_monai.virtual import painted_files
from osteo_monai.virtual.painted_files import PaintedFiles

SETTINGS = {"seed": 3, "size": [4, 5]}


class Painter:
    """Paint other numbers in each call, and count the calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.threads: list[int] = []

    def __call__(self) -> dict[str, NDArray[np.int16]]:
        self.calls += 1
        self.threads.append(torch.get_num_threads())
        return {"hu": np.full((4, 5), self.calls, np.int16), "more": np.arange(self.calls, dtype=np.int16)}


def test_a_subject_is_painted_once_and_then_read(tmp_path: Path) -> None:
    paint = Painter()
    first = PaintedFiles(tmp_path, "boxes", SETTINGS).get(7, paint)
    again = PaintedFiles(tmp_path, "boxes", SETTINGS).get(7, paint)
    assert paint.calls == 1
    assert set(first) == set(again) == {"hu", "more"}
    for name, values in first.items():
        assert again[name].dtype == values.dtype
        assert np.array_equal(again[name], values)
    other = PaintedFiles(tmp_path, "boxes", SETTINGS).get(8, paint)
    assert paint.calls == 2
    assert other["hu"].max() == 2
    assert [path.name for path in sorted(tmp_path.rglob("*.npz"))] == ["000007.npz", "000008.npz"]


def test_subjects_are_painted_by_one_thread(tmp_path: Path) -> None:
    paint = Painter()
    torch.set_num_threads(2)
    PaintedFiles(tmp_path, "boxes", SETTINGS).get(0, paint)
    assert paint.threads == [1]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("kind", ["settings", "kind", "release", "source"])
def test_another_generator_has_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    usual = PaintedFiles(tmp_path, "boxes", SETTINGS)
    name, settings = "boxes", dict(SETTINGS)
    if kind == "settings":
        settings["seed"] = 4
    elif kind == "kind":
        name = "rods"
    elif kind == "release":
        monkeypatch.setattr(painted_files, "__version__", "99.0")
    else:
        monkeypatch.setattr(painted_files, "_source_digest", lambda: "0")
    other = PaintedFiles(tmp_path, name, settings)
    assert other.folder != usual.folder
    paint = Painter()
    assert usual.get(1, paint)["hu"].max() == 1
    assert other.get(1, paint)["hu"].max() == 2


def test_the_digest_of_the_source_depends_on_each_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "anatomy").mkdir()
    (tmp_path / "anatomy" / "bones.py").write_text("RADIUS = 4\n")
    monkeypatch.setattr(painted_files, "__file__", str(tmp_path / "painted_files.py"))
    digest = painted_files._source_digest.__wrapped__
    before = digest()
    assert digest() == before
    (tmp_path / "anatomy" / "bones.py").write_text("RADIUS = 5\n")
    assert digest() != before


@pytest.mark.parametrize("left", [0, 10, 200])
def test_a_damaged_file_is_written_again(tmp_path: Path, left: int) -> None:
    paint = Painter()
    files = PaintedFiles(tmp_path, "boxes", SETTINGS)
    files.get(0, paint)
    path = files.folder / "000000.npz"
    path.write_bytes(path.read_bytes()[:left])
    assert files.get(0, paint)["hu"].max() == 2
    assert files.get(0, paint)["hu"].max() == 2
    assert paint.calls == 2


def test_a_stopped_painting_leaves_no_file(tmp_path: Path) -> None:
    def stop() -> dict[str, NDArray[np.int16]]:
        raise KeyboardInterrupt

    files = PaintedFiles(tmp_path, "boxes", SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        files.get(0, stop)
    assert list(tmp_path.rglob("*.npz")) == []
    assert files.get(0, Painter())["hu"].max() == 1
