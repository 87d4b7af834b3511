"""Scores of located and named vertebrae."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from osteo_monai import handlers
from osteo_monai.domain import VertebraLevel as L
from osteo_monai.transforms import LocatedVertebra


def _vertebra(level: Any, z: Any, certainty: Any = 1.0) -> Any:
    return LocatedVertebra(level, certainty, None, (8.0, 8.0, z), (8.0, 8.0, z + 16), (8.0, 8.0, z - 16), True)


def _target() -> Any:
    """A 4 mm grid whose first voxel lies at the origin, T12 about z = 40 mm and L1 about z = 12 mm; L2 is cut off."""
    target = torch.zeros(2, 5, 5, 16)
    z = 4.0 * torch.arange(16.0)
    for level, centre, voxels in ((L.T12, 40.0, slice(8, 13)), (L.L1, 12.0, slice(2, 6)), (L.L2, -12.0, slice(0, 1))):
        target[0, 1:4, 1:4, voxels] = level.label
        target[1, 2, 2] = torch.maximum(target[1, 2, 2], torch.exp(-((z - centre) ** 2) / 72))
    return MetaTensor(target, affine=torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0])))


def _run(handler: Any, outputs: Any) -> Any:
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run(outputs, max_epochs=1)
    return engine


def test_level_report_scores_by_hand(tmp_path: Path) -> None:
    first = {"target": _target(), "vertebrae": [_vertebra(L.T12, 42.0), _vertebra(L.L1, 12.0, 0.5)]}
    second = {"target": _target(), "vertebrae": [_vertebra(L.L1, 46.0)]}  # shifted by a level; L1 missed
    engine = _run(handlers.LevelReport(str(tmp_path)), [[first], [second]])
    metrics = engine.state.metrics
    assert metrics["detection_rate"] == pytest.approx(3 / 4)
    assert metrics["level_accuracy"] == pytest.approx(2 / 4)
    assert metrics["certain_share"] == pytest.approx(2 / 3)
    assert metrics["certain_level_accuracy"] == pytest.approx(1 / 2)
    assert metrics["centre_error_mm"] == pytest.approx(2.0, abs=1e-3)  # of 2, 0 and 6
    with (tmp_path / "levels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["scan"], r["level"], r["found_level"]) for r in rows] == [
        ("0", "T12", "T12"),
        ("0", "L1", "L1"),
        ("1", "T12", "L1"),
        ("1", "L1", ""),
    ]
    assert (tmp_path / "level_confusion.png").stat().st_size > 1000
