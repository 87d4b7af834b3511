"""Files of figures are complete or absent; results become valid JSON."""

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from osteo_monai.reporting.publishing import json_ready, new_figure, publish_figure, save_figure
from osteo_monai.statistics import Interval


def test_a_figure_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_figure(new_figure(1, 1), tmp_path / "plot")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert set(before) == {"plot.png", "plot.svg"}

    def broken(self: Figure, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="the disk is full"):
        save_figure(new_figure(1, 1), tmp_path / "plot")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_published_figure_is_the_file(tmp_path: Path) -> None:
    picture = publish_figure(new_figure(1, 1), tmp_path / "figures", "plot", "a plot", "A caption.", 300)
    assert picture.svg == (tmp_path / "figures" / "plot.svg").read_text(encoding="utf-8")
    assert (picture.alt, picture.caption, picture.width) == ("a plot", "A caption.", 300)


def test_json_has_no_nan_and_no_numpy() -> None:
    value = {
        "i": Interval(0.5, math.nan, 1.0),
        "a": np.array([1.0, np.inf]),
        "n": np.int64(3),
        "t": ("x", np.float64(2)),
    }
    assert json_ready(value) == {
        "i": {"value": 0.5, "low": None, "high": 1.0},
        "a": [1.0, None],
        "n": 3,
        "t": ["x", 2.0],
    }
