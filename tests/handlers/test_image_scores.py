import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from osteo_monai.handlers import ImageScores


def _box(*shape: int, at: int = 4) -> torch.Tensor:
    mask = torch.zeros(1, *shape)
    mask[:, at : at + 10, 4:14] = 1
    return mask


def _scores(folder: Path, items: list[dict[str, Any]], records: Any = None) -> tuple[list[dict[str, str]], Any]:
    engine: Any = SimpleNamespace(state=SimpleNamespace(metrics={}))
    handler = ImageScores(str(folder), (1.5, 1.5), records)
    handler.start()
    handler.collect(items, items)
    handler.finish(engine)
    with (folder / "images.csv").open() as file:
        return list(csv.DictReader(file)), engine.state.metrics


def test_dice_and_distances_of_a_shifted_box(tmp_path: Path) -> None:
    items = [{"label": _box(32, 32), "pred": _box(32, 32, at=6)}, {"label": _box(32, 32), "pred": _box(32, 32)}]
    rows, metrics = _scores(tmp_path, items)
    assert [row["subject_id"] for row in rows] == ["virtual_0", "virtual_1"]
    assert float(rows[0]["dice"]) == pytest.approx(0.8)
    assert float(rows[0]["hausdorff95_mm"]) == pytest.approx(3.0)  # two pixels
    assert 0 < float(rows[0]["surface_distance_mm"]) < 3.0
    assert [float(rows[1][name]) for name in ("dice", "surface_distance_mm", "hausdorff95_mm")] == [1, 0, 0]
    assert metrics["val_dice_by_subject"] == pytest.approx(0.9)
    assert metrics["val_hausdorff95_mm"] == pytest.approx(1.5)


def test_slices_of_a_volume_without_a_body_are_left_out(tmp_path: Path) -> None:
    label = _box(32, 32, 3)
    label[..., 0] = 0
    rows, _ = _scores(tmp_path, [{"label": label, "pred": _box(32, 32, 3)}])
    assert [(row["item"], row["slice"]) for row in rows] == [("0", "1"), ("0", "2")]


def test_an_empty_mask_has_no_distance(tmp_path: Path) -> None:
    rows, metrics = _scores(tmp_path, [{"label": _box(32, 32), "pred": torch.zeros(1, 32, 32)}])
    assert (float(rows[0]["dice"]), rows[0]["hausdorff95_mm"], rows[0]["surface_distance_mm"]) == (0.0, "", "")
    assert "val_hausdorff95_mm" not in metrics


def test_items_may_name_their_person(tmp_path: Path) -> None:
    item = {"label": _box(32, 32), "pred": _box(32, 32), "subject_id": "p7", "level": "L2"}
    rows, _ = _scores(tmp_path, [item])
    assert (rows[0]["subject_id"], rows[0]["image"]) == ("p7", "L2")


def test_images_of_a_person_count_once(tmp_path: Path) -> None:
    shifted, same = {"label": _box(32, 32), "pred": _box(32, 32, at=6)}, {"label": _box(32, 32), "pred": _box(32, 32)}
    records = [{"subject_id": name, "image": f"/data/{i}.nii.gz"} for i, name in enumerate("aab")]
    rows, metrics = _scores(tmp_path, [shifted, shifted, same], records)
    assert [(row["subject_id"], row["image"]) for row in rows] == [
        ("a", "0.nii.gz"),
        ("a", "1.nii.gz"),
        ("b", "2.nii.gz"),
    ]
    assert metrics["val_dice_by_subject"] == pytest.approx((0.8 + 1) / 2)
