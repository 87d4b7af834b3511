"""Handler that scores located and named vertebrae."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from osteo_monai.domain import VertebraLevel
from osteo_monai.metrics.levels import match_levels, true_centres
from osteo_monai.transforms.vertebra_decoding import LocatedVertebra

__all__ = ["LevelReport"]


class LevelReport:
    """Score the localiser: which true bodies were found, named rightly, and how far off the centres are.

    Adds to ``engine.state.metrics`` (over bodies T9 to L6 whose centre is in the volume):
    ``detection_rate`` (found within 15 mm), ``level_accuracy`` (found and rightly named, of all true bodies),
    ``certain_level_accuracy`` (rightly named among found bodies of certainty at least ``certain``), ``certain_share``
    (of the found bodies) and ``centre_error_mm`` (median over the found ones). Writes ``levels.csv`` with a row a body
    and ``level_confusion.png``.

    Args:
        save_dir: made if missing.
        certain: see above.
        target_key, vertebrae_key: items of the output.
    """

    def __init__(
        self, save_dir: str, certain: float = 0.9, target_key: str = "target", vertebrae_key: str = "vertebrae"
    ) -> None:
        self.save_dir = Path(save_dir)
        self.certain = certain
        self.target_key = target_key
        self.vertebrae_key = vertebrae_key
        self._rows: list[tuple[int, VertebraLevel, LocatedVertebra | None, float]] = []
        self._scan = 0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self._rows, self._scan = [], 0

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            target = item[self.target_key]
            truth = true_centres(target.detach().cpu().numpy(), np.asarray(target.affine, float))
            self._rows += [(self._scan, *pair) for pair in match_levels(truth, item[self.vertebrae_key])]
            self._scan += 1

    def _report(self, engine: Engine) -> None:
        found = [(level, v, distance) for _, level, v, distance in self._rows if v is not None]
        right = [v.level is level for level, v, _ in found]
        sure = [v.certainty >= self.certain for _, v, _ in found]
        metrics = {
            "detection_rate": len(found) / len(self._rows) if self._rows else float("nan"),
            "level_accuracy": sum(right) / len(self._rows) if self._rows else float("nan"),
            "certain_level_accuracy": float(np.mean([r for r, s in zip(right, sure, strict=True) if s]))
            if any(sure)
            else float("nan"),
            "certain_share": float(np.mean(sure)) if sure else float("nan"),
            "centre_error_mm": float(np.median([d for *_, d in found])) if found else float("nan"),
        }
        engine.state.metrics.update(metrics)
        self.save_dir.mkdir(parents=True, exist_ok=True)
        with (self.save_dir / "levels.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["scan", "level", "found_level", "certainty", "distance_mm"])
            for scan, level, v, distance in self._rows:
                named = [v.level.value, f"{v.certainty:.4f}", f"{distance:.2f}"] if v else ["", "", ""]
                table.writerow([scan, level.value, *named])
        self._draw()

    def _draw(self) -> None:
        names = [level.value for level in VertebraLevel if level is not VertebraLevel.SACRUM][7:]
        counts = np.zeros((len(names), len(names) + 1), int)
        for _, level, v, _ in self._rows:
            counts[names.index(level.value), names.index(v.level.value) if v else len(names)] += 1
        figure = Figure(figsize=(6.5, 5.5), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        axis.imshow(counts, cmap="Blues")
        for i, j in np.argwhere(counts):
            axis.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8)
        axis.set_xticks(range(len(names) + 1), [*names, "none"], rotation=60)
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("found")
        axis.set_ylabel("true")
        figure.savefig(self.save_dir / "level_confusion.png", dpi=100)
