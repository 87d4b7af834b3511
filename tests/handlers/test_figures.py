"""Figures of classifiers, of the column network and of volumes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure

from osteo_monai import handlers


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the figures that are saved, by file name."""
    saved: dict[str, Any] = {}
    original = Figure.savefig

    def savefig(self: Figure, file: Any, **options: Any) -> None:
        saved[Path(file).name.split(".", 2)[-1]] = self
        original(self, file, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def _run(handler: Any, items: list[dict[str, Any]]) -> None:
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run([items], max_epochs=1)


def test_curves_of_two_classes(tmp_path: Path, figures: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    items = [{"pred": torch.tensor([0.7 if n % 4 else 0.2, 0.5]), "label": int(n % 4 > 0)} for n in range(40)]
    items += [{"pred": torch.tensor([0.9, 0.1]), "label": -1}]  # unknown
    rng.shuffle(items)
    _run(handlers.ClassificationFigures(str(tmp_path), ("no_osteoporosis", "osteoporosis")), items)
    assert set(figures) == {"roc.png", "calibration.png", "confusion.png"}
    (label,) = [text.get_text() for text in figures["roc.png"].axes[0].get_legend().get_texts()]
    assert label == "osteoporosis, AUC 1.000"
    counts = [text.get_text() for text in figures["confusion.png"].axes[0].texts]
    assert counts == ["10", "0", "0", "30"]
    predicted, observed = figures["calibration.png"].axes[0].lines[0].get_data()
    np.testing.assert_allclose(sorted(predicted), [0.2, 0.7], atol=1e-6)
    np.testing.assert_allclose(sorted(observed), [0, 1])
    assert (tmp_path / "roc.png").stat().st_size > 1000


def test_curves_of_three_classes(tmp_path: Path, figures: dict[str, Any]) -> None:
    items = [{"pred": torch.eye(3)[n % 3] * 0.8 + 0.05, "label": torch.tensor([n % 3])} for n in range(30)]
    _run(handlers.ClassificationFigures(str(tmp_path), ("normal", "osteopenia", "osteoporosis")), items)
    labels = [text.get_text() for text in figures["roc.png"].axes[0].get_legend().get_texts()]
    assert labels == [f"{name}, AUC 1.000" for name in ("normal", "osteopenia", "osteoporosis")]
    assert len(figures["confusion.png"].axes[0].texts) == 9


def test_one_class_only_gives_no_curve(tmp_path: Path, figures: dict[str, Any]) -> None:
    items = [{"pred": torch.tensor([0.4]), "label": 0}] * 3
    _run(handlers.ClassificationFigures(str(tmp_path), ("no_osteoporosis", "osteoporosis")), items)
    assert set(figures) == {"confusion.png"}


def test_columns(tmp_path: Path, figures: dict[str, Any]) -> None:
    label = torch.zeros(6, 20)
    label[0, 5], label[1, 10] = 1, 1
    item = {"image": torch.rand(1, 56, 40, 20), "pred": torch.full((9, 20), -4.0), "label": label}
    _run(handlers.ColumnFigures(str(tmp_path), step_mm=2.0, count=2), [item] * 3)
    axes = figures["columns.png"].axes
    assert len(axes) == 4
    reference = axes[1].lines[1].get_xydata()
    assert reference[np.argmax(reference[:, 0]), 1] == pytest.approx(11.0)
    assert (tmp_path / "columns.png").stat().st_size > 1000


def test_overlays_of_a_volume_with_a_background_channel(tmp_path: Path) -> None:
    label = torch.zeros(3, 8, 9, 10)
    label[1, 5, 2:6, 3:7] = 1
    label[0] = 1 - label[1]
    item = {"image": torch.rand(1, 8, 9, 10), "label": label, "pred": label}
    handler = handlers.OverlayFigures(str(tmp_path), background=True, axis=0)
    handler.start()
    handler.collect([item], [])
    image, reference, prediction = handler._rows[0]
    np.testing.assert_array_equal(image, item["image"][0, 5].numpy())
    assert (reference.sum(), prediction.sum()) == (16, 16)
