"""Handler that scores located and named vertebrae."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine

from osteo_monai.data.csv_tables import write_table
from osteo_monai.domain import VertebraLevel
from osteo_monai.handlers.epoch import EpochHandler
from osteo_monai.handlers.figures import new_figure, save_figure
from osteo_monai.metrics import match_levels, true_centres
from osteo_monai.transforms import LocatedVertebra

__all__ = ["LevelReport"]

_FIRST_LEVEL = 7
"""Index of T8 in ``VertebraLevel``; the localiser does not name the levels above it."""


class LevelReport(EpochHandler):
    """Score the localiser over the true bodies T9 to L6 whose centre is in the volume.

    Adds to ``engine.state.metrics``, NaN if undefined: ``detection_rate`` (located within 15 mm), ``level_accuracy``
    (located and named correctly, of all true bodies), ``certain_level_accuracy`` (named correctly, of the located
    bodies of certainty at least ``certain``), ``certain_share`` (of the located bodies) and ``centre_error_mm`` (median
    over the located bodies). Writes ``levels.csv`` with one row a body, and ``level_confusion.png``.

    Args:
        save_dir: folder of the files.
        certain: minimum certainty, see above.
        target_key: item of the output with labels and centre heat map, see ``true_centres``.
        vertebrae_key: item of the output with the located vertebrae.
    """

    def __init__(
        self, save_dir: str, certain: float = 0.9, target_key: str = "target", vertebrae_key: str = "vertebrae"
    ) -> None:
        self.save_dir = Path(save_dir)
        self.certain = certain
        self.target_key = target_key
        self.vertebrae_key = vertebrae_key
        self._rows: list[tuple[int, VertebraLevel, LocatedVertebra | None, float]] = []
        self._scans = 0

    def start(self) -> None:
        self._rows, self._scans = [], 0

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item in output:
            target = item[self.target_key]
            truth = true_centres(target.detach().cpu().numpy(), np.asarray(target.affine, float))
            self._rows += [(self._scans, *pair) for pair in match_levels(truth, item[self.vertebrae_key])]
            self._scans += 1

    def finish(self, engine: Engine) -> None:
        engine.state.metrics.update(self._metrics())
        columns = ("scan", "level", "found_level", "certainty", "distance_mm")
        rows = [
            (scan, level, *((v.level, f"{v.certainty:.4f}", f"{distance:.2f}") if v else (None, None, None)))
            for scan, level, v, distance in self._rows
        ]
        write_table(self.save_dir / "levels.csv", columns, rows)
        self._draw()

    def _metrics(self) -> dict[str, float]:
        located = [(level, v, distance) for _, level, v, distance in self._rows if v is not None]
        correct = [v.level is level for level, v, _ in located]
        certain = [v.certainty >= self.certain for _, v, _ in located]
        return {
            "detection_rate": _ratio(len(located), len(self._rows)),
            "level_accuracy": _ratio(sum(correct), len(self._rows)),
            "certain_level_accuracy": _ratio(sum(np.logical_and(correct, certain)), sum(certain)),
            "certain_share": _ratio(sum(certain), len(certain)),
            "centre_error_mm": float(np.median([distance for *_, distance in located])) if located else float("nan"),
        }

    def _draw(self) -> None:
        names = [level.value for level in VertebraLevel if level is not VertebraLevel.SACRUM][_FIRST_LEVEL:]
        counts = np.zeros((len(names), len(names) + 1), int)
        for _, level, v, _ in self._rows:
            counts[names.index(level.value), names.index(v.level.value) if v else len(names)] += 1
        figure = new_figure(6.5, 5.5)
        axis = figure.subplots()
        axis.imshow(counts, cmap="Blues")
        for i, j in np.argwhere(counts):
            axis.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8)
        axis.set_xticks(range(len(names) + 1), [*names, "none"], rotation=60)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("located")
        axis.set_ylabel("true")
        save_figure(figure, self.save_dir / "level_confusion.png", dpi=100)


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")
