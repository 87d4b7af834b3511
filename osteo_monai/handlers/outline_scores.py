"""Handler that scores outlines on the centre slices of L1 and L2, as Pan 2024, and on whole volumes beside them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from numpy.typing import NDArray

from osteo_monai.data.centre_slices import centre_of
from osteo_monai.data.csv_tables import write_table
from osteo_monai.domain import SCREENED_LEVELS
from osteo_monai.handlers.epoch import EpochHandler

__all__ = ["SCORE_COLUMNS", "OutlineScores"]

SCORE_COLUMNS = ("dice", "surface_distance_mm", "hausdorff95_mm")
"""Columns of ``slices.csv`` with a measure of accuracy."""

_Mask = NDArray[np.bool_]


class OutlineScores(EpochHandler):
    """Score outlines by slice, by volume and by subject.

    Adds to ``engine.state.metrics``, each with ``_sd`` for its standard deviation (n - 1): ``val_centre_slice_dice``
    over the centre slices of L1 and L2, as Pan 2024, and ``val_volume_dice`` over images, all slices of a volume
    together. Slices without a body in the label do not count. The centre slice of a body is that of
    ``osteo-monai manifest slices``; a body that the volume cuts has none. ``val_hausdorff95_mm`` is the mean over the
    slices in which a body was segmented.

    Files: ``slices.csv`` has each slice with a body: subject, number of the image, slice, level if it is a centre
    slice, Dice, and mean symmetric distance and 95th percentile of the Hausdorff distance of the contours in mm, which
    are empty if nothing was segmented. ``subjects.csv`` has the means of each subject. An item without ``subject_id``
    is one subject.

    Args:
        folder: of the files.
        spacing: pixel size in mm along both axes of a slice.
        pred_key, label_key: masks of the output, (1, X, Y) or (1, X, Y, Z).
        levels_key: label map (1, X, Y, Z) of the input with ``VertebraLevel.label``. An image of one slice has its
            ``level`` instead.
    """

    def __init__(
        self,
        folder: str,
        spacing: Sequence[float],
        pred_key: str = "pred",
        label_key: str = "label",
        levels_key: str = "levels",
    ) -> None:
        self.folder = Path(folder)
        self.spacing = [float(size) for size in spacing]
        self.pred_key, self.label_key, self.levels_key = pred_key, label_key, levels_key
        self.start()

    def start(self) -> None:
        self._images = 0
        self._slices: list[tuple[str, int, int, str, float, float, float]] = []
        self._volumes: list[tuple[str, float]] = []

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item, given in zip(output, batch, strict=True):
            pred, label = (_mask(item[key]) for key in (self.pred_key, self.label_key))
            subject, centres = str(given.get("subject_id", f"item_{self._images}")), self._centres(given)
            for k in np.flatnonzero(label.any((0, 1))).tolist():
                scores = self._scores(pred[:, :, k], label[:, :, k])
                self._slices.append((subject, self._images, k, centres.get(k, ""), *scores))
            if label.any():
                self._volumes.append((subject, _dice(pred, label)))
            self._images += 1

    def _centres(self, given: Mapping[str, Any]) -> Mapping[int, str]:
        """Return the level of each centre slice by its number."""
        if given.get("level"):
            return {0: str(given["level"])}
        if self.levels_key not in given:
            return {}
        levels = np.rint(given[self.levels_key].detach().float().cpu().numpy()[0])
        centres = {centre_of(levels == level.label): str(level) for level in SCREENED_LEVELS}
        return {k: level for k, level in centres.items() if k is not None}

    def finish(self, engine: Engine) -> None:
        if not self._slices:
            return
        centres = [dice for *_, level, dice, _, _ in self._slices if level]
        for name, values in (("centre_slice", centres), ("volume", [dice for _, dice in self._volumes])):
            if values:
                engine.state.metrics[f"val_{name}_dice"] = float(np.mean(values))
            if len(values) > 1:
                engine.state.metrics[f"val_{name}_dice_sd"] = float(np.std(values, ddof=1))
        distances = [row[6] for row in self._slices if not math.isnan(row[6])]
        if distances:
            engine.state.metrics["val_hausdorff95_mm"] = float(np.mean(distances))
        columns = ("subject_id", "image", "slice", "level", *SCORE_COLUMNS)
        rows = [(*row[:4], *("" if math.isnan(score) else f"{score:.6f}" for score in row[4:])) for row in self._slices]
        write_table(self.folder / "slices.csv", columns, rows)
        write_table(self.folder / "subjects.csv", _SUBJECT_COLUMNS, self._subjects())

    def _scores(self, pred: _Mask, label: _Mask) -> tuple[float, float, float]:
        """Return the values of ``SCORE_COLUMNS`` of masks (X, Y)."""
        dice = _dice(pred, label)
        if not pred.any():
            return dice, math.nan, math.nan
        x, y = (torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None] for mask in (pred, label))
        surface = compute_average_surface_distance(x, y, include_background=True, symmetric=True, spacing=self.spacing)
        hausdorff = compute_hausdorff_distance(x, y, include_background=True, percentile=95, spacing=self.spacing)
        return dice, float(surface), float(hausdorff)

    def _subjects(self) -> list[tuple[str, ...]]:
        """Return number and mean Dice of the slices, of the centre slices, and of the images of each subject."""
        groups: dict[str, tuple[list[float], list[float], list[float]]] = defaultdict(lambda: ([], [], []))
        for subject, _, _, level, dice, _, _ in self._slices:
            groups[subject][0].append(dice)
            if level:
                groups[subject][1].append(dice)
        for subject, dice in self._volumes:
            groups[subject][2].append(dice)
        return [
            (subject, *(text for values in group for text in (str(len(values)), _mean(values))))
            for subject, group in groups.items()
        ]


_SUBJECT_COLUMNS = (
    "subject_id",
    "slices",
    "slice_dice",
    "centre_slices",
    "centre_slice_dice",
    "images",
    "image_dice",
)


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f}" if values else ""


def _mask(image: Any) -> _Mask:
    """Return a mask (1, X, Y[, Z]) as (X, Y, Z)."""
    mask: _Mask = image.detach().float().cpu().numpy()[0] > 0.5
    return mask if mask.ndim == 3 else mask[:, :, None]


def _dice(pred: _Mask, label: _Mask) -> float:
    return float(2 * (pred & label).sum() / (pred.sum() + label.sum()))
