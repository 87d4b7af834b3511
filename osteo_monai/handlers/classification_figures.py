"""Handler that draws ROC curves, calibration and confusion of a classifier."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from osteo_monai.handlers.epoch import EpochHandler
from osteo_monai.handlers.figures import new_figure, save_figure

__all__ = ["ClassificationFigures"]

_BINS = 10
"""Bins of the calibration, of equal numbers of subjects."""

Array = NDArray[np.float64]


class ClassificationFigures(EpochHandler):
    """Write ``roc.png``, ``calibration.png`` and ``confusion.png`` of the predictions of an epoch.

    The output must have items with ``pred``, probabilities of the classes (C,), or the probability of the second of two
    classes first, and ``label``, index of the true class, -1 if unknown.

    Args:
        folder: folder of the figures.
        classes: names of the classes, in the order of their index. With two classes the curves are those of the second.
    """

    def __init__(self, folder: str, classes: Sequence[str]) -> None:
        self.folder = Path(folder)
        self.classes = tuple(classes)
        self._rows: list[tuple[Array, int]] = []

    def start(self) -> None:
        self._rows = []

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item in output:
            pred = item["pred"].detach().double().cpu().flatten().numpy()
            if len(self.classes) == 2:
                pred = np.array([1 - pred[0], pred[0]])
            if (label := int(torch.as_tensor(item["label"]).flatten()[0])) >= 0:
                self._rows.append((pred, label))

    def finish(self, engine: Engine) -> None:
        if not self._rows:
            return
        probabilities = np.stack([pred for pred, _ in self._rows])
        truth = np.array([label for _, label in self._rows])
        drawn = range(len(self.classes)) if len(self.classes) > 2 else (1,)
        curves = [(self.classes[i], truth == i, probabilities[:, i]) for i in drawn if 0 < (truth == i).mean() < 1]
        if curves:
            self._draw_roc(curves)
            self._draw_calibration(curves)
        self._draw_confusion(truth, probabilities.argmax(1))

    def _draw_roc(self, curves: Sequence[tuple[str, NDArray[np.bool_], Array]]) -> None:
        figure = new_figure(4.5, 4.3)
        axis = figure.subplots()
        for name, positive, score in curves:
            false_positive, sensitivity, _ = roc_curve(positive, score)
            axis.plot(false_positive, sensitivity, label=f"{name}, AUC {roc_auc_score(positive, score):.3f}")
        axis.plot([0, 1], [0, 1], color="grey", lw=0.8, ls=":")
        axis.set_xlabel("1 - specificity")
        axis.set_ylabel("sensitivity")
        axis.set_title(f"{len(self._rows)} images", fontsize=9)
        axis.legend(fontsize=8)
        save_figure(figure, self.folder / "roc.png", dpi=100)

    def _draw_calibration(self, curves: Sequence[tuple[str, NDArray[np.bool_], Array]]) -> None:
        figure = new_figure(4.5, 4.3)
        axis = figure.subplots()
        for name, positive, score in curves:
            bins = min(_BINS, max(2, len(score) // 10))
            observed, predicted = calibration_curve(positive, np.clip(score, 0, 1), n_bins=bins, strategy="quantile")
            axis.plot(predicted, observed, marker="o", label=name)
        axis.plot([0, 1], [0, 1], color="grey", lw=0.8, ls=":")
        axis.set_xlabel("mean predicted probability")
        axis.set_ylabel("observed frequency")
        axis.set_title(f"{len(self._rows)} images, bins of equal numbers", fontsize=9)
        axis.legend(fontsize=8)
        save_figure(figure, self.folder / "calibration.png", dpi=100)

    def _draw_confusion(self, truth: NDArray[np.intp], predicted: NDArray[np.intp]) -> None:
        counts = confusion_matrix(truth, predicted, labels=range(len(self.classes)))
        figure = new_figure(4.3, 3.9)
        axis = figure.subplots()
        axis.imshow(counts, cmap="Blues")
        for i, j in np.ndindex(counts.shape):
            colour = "white" if counts[i, j] > counts.max() / 2 else "black"
            axis.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour)
        axis.set_xticks(range(len(self.classes)), self.classes)
        axis.set_yticks(range(len(self.classes)), self.classes, rotation=90, va="center")
        axis.set_xlabel("most probable class")
        axis.set_ylabel("true class")
        save_figure(figure, self.folder / "confusion.png", dpi=100)
