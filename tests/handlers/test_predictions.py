"""Predictions table of an evaluation, and its columns."""

import csv
import math
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from torch import Tensor, tensor

from osteo_monai.handlers import PredictionsSaver, class_columns, density_columns, risk_columns


def test_columns_of_a_classifier() -> None:
    assert class_columns({"pred": tensor([0.2, 0.7, 0.1])}) == {
        "probability_normal": 0.2,
        "probability_osteopenia": 0.7,
        "probability_osteoporosis": 0.1,
        "predicted": "osteopenia",
    }


def test_columns_of_a_density() -> None:
    probability = {"normal": 0.1, "osteopenia": 0.8, "osteoporosis": 0.1}
    study = {"bmd_mg_cm3": 100.12345, "lower": 90.0, "upper": 110.0, "probability": probability}
    level = {"bmd_mg_cm3": 101.0, "lower": 89.0, "upper": 112.0}
    columns = density_columns({"density": {"study": study | {"bone_status": "osteopenia"}, "levels": {"L1": level}}})
    assert (columns["predicted_bmd_mg_cm3"], columns["predicted_bmd_L1_lower"]) == (100.123, 89.0)
    assert (columns["predicted"], columns["probability_osteopenia"]) == ("osteopenia", 0.8)


def test_columns_of_a_radiograph() -> None:
    item: dict[str, Any] = {"pred": tensor([0.25, 0.9]), "label": tensor(0)}
    assert risk_columns(item) == {"probability_osteoporosis": 0.25}
    maps = {"heat_on_bone": math.nan, "attention_on_bone": 0.4, "bone_area": 0.3}
    assert risk_columns(item | maps) == {
        "probability_osteoporosis": 0.25,
        "heat_on_bone": "",
        "attention_on_bone": 0.4,
        "bone_area": 0.3,
    }


def test_a_table_is_written_anew_in_each_epoch_in_the_order_of_the_items(tmp_path: Path) -> None:
    items = [{"facts": {"subject_id": name, "cohort": "test", "age": 70}} for name in ("a", "b")]
    saver = PredictionsSaver(str(tmp_path / "eval" / "predictions.csv"), items, "m", risk_columns)

    def step(engine: Engine, batch: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        return batch

    engine = Engine(step)
    saver.attach(engine)
    batches = [[{"row": tensor(1), "pred": tensor([0.5])}], [{"row": tensor(0), "pred": tensor([0.25])}]]
    engine.run(batches, max_epochs=2)
    content = (tmp_path / "eval" / "predictions.csv").read_bytes()
    assert b"\r" not in content
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert list(rows[0]) == ["subject_id", "model", "cohort", "probability_osteoporosis", "age"]  # schema
    assert [(row["subject_id"], row["probability_osteoporosis"]) for row in rows] == [("a", "0.25"), ("b", "0.5")]
    assert [file.name for file in (tmp_path / "eval").iterdir()] == ["predictions.csv"]
