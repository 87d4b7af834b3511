"""Scores of the column network."""

from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from osteo_monai import handlers

COLUMN_Z = 2.5 * np.arange(60)


def _heat(places: Any, sd: Any = 4.0) -> Any:
    return np.max([np.zeros(60), *(np.exp(-0.5 * ((COLUMN_Z - at) / sd) ** 2) for at in places)], 0)


def _label(centres: Any, discs: Any, bodies: Any, roles: Any) -> Any:
    label = np.zeros((6, 60))
    label[0], label[1] = _heat(centres), _heat(discs, 3.0)
    label[3] = -1
    for at, role in zip(bodies, roles, strict=True):
        inside = abs(COLUMN_Z - at) <= 12.5
        label[2][inside], label[3][inside] = 1.0, role
    return label


def _answer(centres: Any, discs: Any, bodies: Any, roles: Any) -> Any:
    """Logits that say so; ``_label`` with probability 0.95."""
    label = _label(centres, discs, bodies, roles)
    logits = np.zeros((9, 60))
    share = np.clip(0.95 * label[:3], 0.002, 0.998)
    logits[:3] = np.log(share / (1 - share))
    for role in range(4):
        logits[3 + role][label[3] == role] = 5.0
    return logits


def test_column_report_by_hand() -> None:
    """The first column: three bodies, of which one is missed and one has the wrong role, and one too many; one disc of
    two. The second: two bodies, one of them without a role, both found 2.5 mm off; and a body that the crop cuts."""
    report = handlers.ColumnReport(step_mm=2.5)
    truth = _label([40.0, 75.0, 110.0], [57.5, 92.5], [40.0, 75.0, 110.0], [2, 2, 1])
    report.add(_answer([40.0, 75.0, 10.0], [57.5], [40.0, 75.0], [2, 3]), truth)
    only = report.metrics()
    assert only["centre_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert only["centre_error_mm"] == pytest.approx(0.0, abs=0.01)
    assert (only["spurious_per_column"], only["disc_rate"], only["role_accuracy"]) == (1.0, 0.5, 0.5)
    truth = _label([40.0, 75.0], [57.5], [5.0, 40.0, 75.0], [2, 2, -1])
    answer = _answer([5.0, 42.5, 77.5], [57.5], [5.0, 42.5, 77.5], [2, 2, 1])
    report.add(answer, truth)
    metrics = report.metrics()
    assert metrics["centre_f1"] == pytest.approx(2 * 4 / (5 + 4 + 1))
    assert metrics["centre_error_mm"] == pytest.approx(1.25, abs=0.02)  # of 0, 0, 2.5 and 2.5
    assert metrics["spurious_per_column"] == 0.5
    assert metrics["disc_rate"] == pytest.approx(2 / 3)
    assert metrics["role_accuracy"] == pytest.approx(2 / 3)  # of three bodies that have one


def test_a_cut_body_predicted_as_complete_is_spurious() -> None:
    truth = _label([40.0], [], [5.0, 40.0], [2, 2])
    report = handlers.ColumnReport(step_mm=2.5)
    report.add(_answer([5.0, 40.0], [], [40.0], [2]), truth)  # nothing of a body at the end: it looks whole
    assert report.metrics()["spurious_per_column"] == 1.0


@pytest.mark.parametrize(("off", "found"), [(5.0, 1), (7.5, 0)])
def test_centres_count_within_6_mm(off: Any, found: Any) -> None:
    report = handlers.ColumnReport(step_mm=2.5)
    report.add(_answer([75.0 + off], [], [75.0 + off], [2]), _label([75.0], [], [75.0], [2]))
    metrics = report.metrics()
    assert metrics["centre_f1"] == found
    assert metrics["spurious_per_column"] == 1 - found
    assert np.isnan(metrics["disc_rate"])
    assert np.isnan(metrics["role_accuracy"]) == (not found)


def test_nothing_found_and_nothing_to_find() -> None:
    report = handlers.ColumnReport(step_mm=2.5)
    assert all(np.isnan(value) for value in report.metrics().values())
    report.add(_answer([], [], [], []), _label([75.0], [57.5], [75.0], [2]))
    metrics = report.metrics()
    assert (metrics["centre_f1"], metrics["disc_rate"], metrics["spurious_per_column"]) == (0.0, 0.0, 0.0)
    assert np.isnan(metrics["centre_error_mm"])


def test_column_report_starts_anew_in_each_epoch() -> None:
    right: tuple[Any, ...] = ([75.0], [], [75.0], [2])
    outputs = [[{"pred": torch.from_numpy(_answer(*right)), "label": torch.from_numpy(_label(*right))}]]
    report = handlers.ColumnReport(step_mm=2.5)
    engine = Engine(lambda engine, batch: batch)
    report.attach(engine)
    engine.run(outputs, max_epochs=2)
    assert engine.state.metrics["centre_f1"] == 1.0
    assert report.metrics() == {name: pytest.approx(v, nan_ok=True) for name, v in engine.state.metrics.items()}
    assert report._columns == 1
