"""Late fusion of views."""

import csv
from pathlib import Path
from typing import Any

import pytest

from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.statistics.fusion import fuse_views


def _table(file: Any, rows: Any) -> Any:
    with file.open("w", newline="") as lines:
        table = csv.DictWriter(lines, list(dict.fromkeys(key for row in rows for key in row)))
        table.writeheader()
        table.writerows(rows)
    return file


def _read(file: Any) -> Any:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_fusion_is_the_mean_of_the_views_logits(tmp_path: Path) -> Any:
    def row(subject: Any, p: Any, **more: Any) -> Any:
        return {
            "subject_id": subject,
            "model": "m",
            "cohort": "test",
            "osteoporosis": 1,
            "probability_osteoporosis": p,
        } | more

    ap = _table(tmp_path / "ap.csv", [row("a", 0.5), row("b", 0.9), row("c", 0.2)])
    # b has two lateral radiographs, with logits of 0 and log 9: their mean is log 3
    lateral = _table(tmp_path / "lateral.csv", [row("b", 0.5), row("b", 0.9), row("a", 0.8)])
    assert fuse_views([ap, lateral], tmp_path / "fused.csv", "both") == 2
    first, second = _read(tmp_path / "fused.csv")
    assert (first["subject_id"], first["model"], first["osteoporosis"]) == ("a", "both", "1")
    assert float(first["probability_osteoporosis"]) == pytest.approx(2 / 3, abs=1e-6)  # odds: sqrt(1 x 4) = 2
    odds = 27**0.5  # sqrt(9 x 3)
    assert float(second["probability_osteoporosis"]) == pytest.approx(odds / (1 + odds), abs=1e-6)


def test_fusion_lists_the_problems_of_the_tables(tmp_path: Path) -> None:
    one = [{"subject_id": "a", "osteoporosis": 1, "probability_osteoporosis": 0.5}]
    ap = _table(tmp_path / "ap.csv", one)
    other = _table(tmp_path / "other.csv", [{**one[0], "osteoporosis": 0}])
    disjoint = _table(tmp_path / "disjoint.csv", [{**one[0], "subject_id": "z"}])
    bad = _table(tmp_path / "bad.csv", [{**one[0], "probability_osteoporosis": 5}])
    with pytest.raises(ConfigError, match="at least 2 views, got 1"):
        fuse_views([ap], tmp_path / "fused.csv")
    for files, sentence in (
        ([ap, other], "osteoporosis of a subject of the cohort test must be the same"),
        ([ap, disjoint], "at least one subject must have a prediction in every table"),
        ([ap, bad, tmp_path / "none.csv"], r"(?s)bad.csv' has 1 problem:.*\nthere is no file '.*none.csv'"),
    ):
        with pytest.raises(UnusableInputError, match=sentence):
            fuse_views(files, tmp_path / "fused.csv")
