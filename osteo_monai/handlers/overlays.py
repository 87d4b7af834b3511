"""Handler that draws segmented slices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from numpy.typing import NDArray

from osteo_monai.handlers.epoch import EpochHandler
from osteo_monai.handlers.figures import new_figure, save_figure

__all__ = ["OverlayFigures"]

Plane = NDArray[np.float32]


class OverlayFigures(EpochHandler):
    """Write ``overlays.png``: image, probability, reference outline and predicted outline of slices (Pan 2024, Fig. 6).

    Slices without a body in the label are skipped; of a volume the plane with the largest body is drawn.

    Args:
        folder: folder of the figure.
        count: maximum number of rows.
        probability_key: item of the output with the probability before thresholding; optional in the output.
        background: whether channel 0 of label and prediction is the background; then all others are outlined together.
        axis: of a volume that the drawn plane is perpendicular to.
    """

    def __init__(
        self,
        folder: str,
        count: int = 8,
        probability_key: str = "probability",
        background: bool = False,
        axis: int = 2,
    ) -> None:
        self.folder = Path(folder)
        self.count = count
        self.probability_key = probability_key
        self.background = background
        self.axis = axis
        self._rows: list[tuple[Plane, ...]] = []

    def start(self) -> None:
        self._rows = []

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item in output:
            if len(self._rows) >= self.count:
                return
            keys = [key for key in ("image", self.probability_key, "label", "pred") if key in item]
            arrays = [item[key].detach().float().cpu().numpy() for key in keys]
            planes = [
                array[1:].max(0) if self.background and key in ("label", "pred") else array[0]
                for key, array in zip(keys, arrays, strict=True)
            ]
            label = planes[-2]
            if not label.any():
                continue
            if label.ndim == 3:
                index = int(label.sum(tuple(axis for axis in range(3) if axis != self.axis)).argmax())
                planes = [plane.take(index, self.axis) for plane in planes]
            self._rows.append(tuple(planes))

    def finish(self, engine: Engine) -> None:
        if not self._rows:
            return
        columns = len(self._rows[0])
        figure = new_figure(2.4 * columns, 2.4 * len(self._rows))
        titles = ["CT", *(["probability"] if columns == 4 else []), "reference", "network"]
        axes = figure.subplots(len(self._rows), columns, squeeze=False)
        for row, planes in zip(axes, self._rows, strict=True):
            for axis, title, plane in zip(row, titles, planes, strict=True):
                _draw_panel(axis, title, planes[0], plane)
            reference, prediction = planes[-2] > 0.5, planes[-1] > 0.5
            dice = 2 * (reference & prediction).sum() / (reference.sum() + prediction.sum())
            row[-1].set_title(f"Dice {dice:.3f}", fontsize=8)
        for axis, title in zip(axes[0][:-1], titles, strict=False):
            axis.set_title(title, fontsize=8)
        save_figure(figure, self.folder / "overlays.png", dpi=100)


def _draw_panel(axis: Any, title: str, image: Plane, plane: Plane) -> None:
    axis.imshow(image.T, cmap="gray", origin="lower")
    axis.set_axis_off()
    if title == "probability":
        axis.imshow(plane.T, cmap="inferno", origin="lower", alpha=0.6, vmin=0, vmax=1)
    elif title != "CT" and plane.any():
        axis.contour(plane.T > 0.5, [0.5], colors=["lime" if title == "reference" else "red"], linewidths=1)
