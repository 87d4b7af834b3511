"""Handler that writes the accuracy of each segmented slice."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
from torch import Tensor

from osteo_monai.data.csv_tables import write_table
from osteo_monai.handlers.epoch import EpochHandler

__all__ = ["SCORE_COLUMNS", "ImageScores"]

SCORE_COLUMNS = ("dice", "surface_distance_mm", "hausdorff95_mm")
"""Columns of ``images.csv`` with a measure of accuracy."""


class ImageScores(EpochHandler):
    """Write ``images.csv``: one row for each axial slice with a body in its label, and its person.

    Columns: ``item`` (position in the data set), ``slice`` (along z, 0 for a 2D image), ``subject_id``, ``image``, the
    Dice coefficient, the mean symmetric distance of the contours, and the 95th percentile of their Hausdorff distance
    (both in mm, empty if nothing was segmented).

    Metrics of the engine: ``val_dice_by_subject``, the mean over people of the mean over their images, and
    ``val_hausdorff95_mm``, the mean over the images where it is defined.

    Args:
        folder: folder of the table.
        spacing: pixel size in mm along both axes.
        records: of the items in order, with ``subject_id`` and ``image``; without them an item's own ``subject_id`` and
            ``level`` are used, and an item without is one person.
    """

    def __init__(
        self, folder: str, spacing: Sequence[float], records: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.spacing = [float(size) for size in spacing]
        self.records = records
        self._rows: list[tuple[int, int, str, str, float, float, float]] = []
        self._items = 0

    def start(self) -> None:
        self._rows, self._items = [], 0

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item, source in zip(output, batch, strict=True):
            subject, image = self._names(self._items, source)
            label, prediction = (_planes(item[key]) for key in ("label", "pred"))
            for index in torch.nonzero(label.flatten(1).any(1)).ravel().tolist():
                scores = self._scores(prediction[index], label[index])
                self._rows.append((self._items, index, subject, image, *scores))
            self._items += 1

    def finish(self, engine: Engine) -> None:
        header = ("item", "slice", "subject_id", "image", *SCORE_COLUMNS)
        rows = [[*row[:4], *("" if math.isnan(score) else f"{score:.6f}" for score in row[4:])] for row in self._rows]
        write_table(self.folder / "images.csv", header, rows)
        if not self._rows:
            return
        people: dict[str, list[float]] = {}
        for row in self._rows:
            people.setdefault(row[2], []).append(row[4])
        engine.state.metrics["val_dice_by_subject"] = float(np.mean([np.mean(dice) for dice in people.values()]))
        distances = [row[6] for row in self._rows if not math.isnan(row[6])]
        if distances:
            engine.state.metrics["val_hausdorff95_mm"] = float(np.mean(distances))

    def _names(self, item: int, source: Mapping[str, Any]) -> tuple[str, str]:
        """Return person and image of an item of the data set."""
        if self.records is None:
            return str(source.get("subject_id", f"virtual_{item}")), str(source.get("level", ""))
        images = self.records[item]["image"]
        return str(self.records[item]["subject_id"]), Path(images if isinstance(images, str) else images[0]).name

    def _scores(self, prediction: Tensor, label: Tensor) -> tuple[float, float, float]:
        """Return Dice and both distances of masks (X, Y)."""
        pair = prediction[None, None].float(), label[None, None].float()
        dice = float(compute_dice(*pair))
        if not prediction.any():
            return dice, math.nan, math.nan
        surface = compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=self.spacing)
        hausdorff = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=self.spacing)
        return dice, float(surface), float(hausdorff)


def _planes(mask: Tensor) -> Tensor:
    """Return axial slices (slices, X, Y) of a mask (1, X, Y) or (1, X, Y, Z) on the CPU."""
    plain = torch.as_tensor(mask.detach().cpu()) > 0.5
    return plain[0].permute(2, 0, 1) if plain.ndim == 4 else plain
