"""Dice on centre slices as Pan 2024 counts, on whole volumes, and by subject."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from osteo_monai.handlers import OutlineScores


def levels() -> torch.Tensor:
    """Return a label map: L2 in slices 2 to 6, L1 in 8 to 12, L3 from slice 0 on (cut)."""
    label = torch.zeros(1, 20, 20, 16)
    for number, first, last in ((22, 0, 1), (21, 2, 7), (20, 8, 13)):
        label[0, 5:15, 5:15, first:last] = number
    return label


def finished(handler: OutlineScores) -> dict[str, float]:
    engine: Any = SimpleNamespace(state=SimpleNamespace(metrics={}))
    handler.finish(engine)
    return dict(engine.state.metrics)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_centre_slices_and_volumes_are_scored_beside_each_other(tmp_path: Path) -> None:
    handler = OutlineScores(str(tmp_path), (1.5, 1.5))
    label = (levels() > 0).float()
    half = label.clone()
    half[0, 10:, :, 4] = 0  # the centre of L2: Dice 2/3
    half[0, 10:, :, 12] = 0  # not a centre
    handler.collect([{"pred": half, "label": label}], [{"subject_id": "a", "levels": levels()}])
    handler.collect([{"pred": label, "label": label}], [{"subject_id": "b", "levels": levels(), "level": ""}])
    metrics = finished(handler)
    volume = 2 * float(half.sum()) / float(half.sum() + label.sum())
    assert metrics == pytest.approx(
        {
            "val_centre_slice_dice": (2 / 3 + 3) / 4,
            "val_centre_slice_dice_sd": float(np.std([2 / 3, 1, 1, 1], ddof=1)),
            "val_volume_dice": (volume + 1) / 2,
            "val_volume_dice_sd": float(np.std([volume, 1], ddof=1)),
            "val_hausdorff95_mm": 2 * 7.5 / 22,  # half of the box is missing: five pixels in two of 22 slices
        }
    )
    found = rows(tmp_path / "slices.csv")
    assert len(found) == 22
    assert [(r["slice"], r["dice"]) for r in found if r["level"] == "L2"] == [("4", "0.666667"), ("4", "1.000000")]
    assert [r["slice"] for r in found if r["level"] == "L1"] == ["10", "10"]
    first, second = rows(tmp_path / "subjects.csv")
    assert (first["subject_id"], first["slices"], first["centre_slices"], first["images"]) == ("a", "11", "2", "1")
    assert float(first["centre_slice_dice"]) == pytest.approx((2 / 3 + 1) / 2, abs=1e-4)
    assert float(first["slice_dice"]) == pytest.approx((2 * 2 / 3 + 9) / 11, abs=1e-4)
    assert second["image_dice"] == "1.0000"


def test_single_slices_are_centre_slices_of_their_level(tmp_path: Path) -> None:
    handler = OutlineScores(str(tmp_path), (1.5, 1.5))
    label = torch.zeros(1, 8, 8)
    label[0, 2:6, 2:6] = 1
    handler.collect(
        [{"pred": label, "label": label}, {"pred": 0 * label, "label": label}],
        [{"subject_id": "a", "level": "L1"}, {"subject_id": "a", "level": "L2"}],
    )
    assert finished(handler)["val_centre_slice_dice"] == 0.5
    assert [r["level"] for r in rows(tmp_path / "slices.csv")] == ["L1", "L2"]
    assert [r["centre_slice_dice"] for r in rows(tmp_path / "subjects.csv")] == ["0.5000"]


def test_items_without_a_subject_are_one_subject_each(tmp_path: Path) -> None:
    handler = OutlineScores(str(tmp_path), (1.5, 1.5))
    item = {"pred": torch.ones(1, 4, 4), "label": torch.ones(1, 4, 4)}
    handler.collect([item, item], [{"image": 0}, {"image": 0}])
    assert finished(handler)["val_volume_dice"] == 1
    assert [r["subject_id"] for r in rows(tmp_path / "subjects.csv")] == ["item_0", "item_1"]


def _box(at: int) -> torch.Tensor:
    mask = torch.zeros(1, 32, 32)
    mask[:, at : at + 10, 4:14] = 1
    return mask


def test_distances_of_a_shifted_box_are_in_mm(tmp_path: Path) -> None:
    handler = OutlineScores(str(tmp_path), (1.5, 1.5))
    handler.collect([{"pred": _box(6), "label": _box(4)}, {"pred": _box(4), "label": _box(4)}], [{}, {}])
    metrics = finished(handler)
    shifted, same = rows(tmp_path / "slices.csv")
    assert float(shifted["dice"]) == pytest.approx(0.8)
    assert float(shifted["hausdorff95_mm"]) == pytest.approx(3.0)  # two pixels
    assert 0 < float(shifted["surface_distance_mm"]) < 3.0
    assert [float(same[name]) for name in ("dice", "surface_distance_mm", "hausdorff95_mm")] == [1, 0, 0]
    assert metrics["val_hausdorff95_mm"] == pytest.approx(1.5)


def test_an_empty_mask_has_no_distance(tmp_path: Path) -> None:
    handler = OutlineScores(str(tmp_path), (1.5, 1.5))
    handler.collect([{"pred": torch.zeros(1, 32, 32), "label": _box(4)}], [{"subject_id": "a"}])
    assert "val_hausdorff95_mm" not in finished(handler)
    (row,) = rows(tmp_path / "slices.csv")
    assert (float(row["dice"]), row["hausdorff95_mm"], row["surface_distance_mm"]) == (0.0, "", "")
