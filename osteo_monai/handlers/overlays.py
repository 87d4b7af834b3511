"""Handler that draws segmented slices."""

from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["OverlayFigures"]


class OverlayFigures:
    """Write panels of slices (Pan 2024, Fig. 6): image, probability, reference outline, predicted outline.

    Args:
        folder: receives ``overlays.png``; made if missing.
        count: rows of the figure, spread over the validation set.
        probability_key: item of the output that holds the probability before it was cut, if it was kept.
    """

    def __init__(self, folder: str, count: int = 8, probability_key: str = "probability") -> None:
        self.folder = Path(folder)
        self.count = count
        self.probability_key = probability_key
        self._rows: list[tuple[NDArray[np.float32], ...]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            if len(self._rows) >= self.count:
                return
            images = [item[key] for key in ("image", self.probability_key, "label", "pred") if key in item]
            planes = [image.detach().float().cpu().numpy()[0] for image in images]
            label = planes[-2]
            if not label.any():
                continue
            if label.ndim == 3:  # the slice with most of the body
                at = int(label.sum((0, 1)).argmax())
                planes = [plane[..., at] for plane in planes]
            self._rows.append(tuple(planes))

    def _draw(self, engine: Engine) -> None:
        if not self._rows:
            return
        columns = len(self._rows[0])
        figure = Figure(figsize=(2.4 * columns, 2.4 * len(self._rows)), layout="constrained")
        FigureCanvasAgg(figure)
        titles = ["CT", *(["probability"] if columns == 4 else []), "reference", "network"]
        axes = figure.subplots(len(self._rows), columns, squeeze=False)
        for row, planes in zip(axes, self._rows, strict=True):
            image, label, prediction = planes[0], planes[-2], planes[-1]
            for axis, title, plane in zip(row, titles, planes, strict=True):
                axis.imshow(image.T, cmap="gray", origin="lower")
                axis.set_axis_off()
                if title == "probability":
                    axis.imshow(plane.T, cmap="inferno", origin="lower", alpha=0.6, vmin=0, vmax=1)
                elif title != "CT" and plane.any():
                    axis.contour(plane.T > 0.5, [0.5], colors=["lime" if title == "reference" else "red"], linewidths=1)
            inside, found = label > 0.5, prediction > 0.5
            row[-1].set_title(f"Dice {2 * (inside & found).sum() / (inside.sum() + found.sum()):.3f}", fontsize=8)
        for axis, title in zip(axes[0][:-1], titles, strict=False):
            axis.set_title(title, fontsize=8)
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / "overlays.png", dpi=100)
