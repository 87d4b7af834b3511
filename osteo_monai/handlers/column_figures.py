"""Handler that draws the output of the column network along the column."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from numpy.typing import NDArray

from osteo_monai.handlers.epoch import EpochHandler
from osteo_monai.handlers.figures import new_figure, save_figure

__all__ = ["ColumnFigures"]

_CURVES = ((0, "centre of a body", "tab:red"), (1, "disc", "tab:blue"))
"""Channels of network and label, see ``ColumnNetwork`` and ``RandColumnViewd``."""

Array = NDArray[np.floating]


class ColumnFigures(EpochHandler):
    """Write ``columns.png``: sagittal middle plane of columns, with predicted and true centres and discs beside it.

    The output must have items with ``image`` (1, X, Y, Z), ``pred`` (9, Z) and ``label`` (6, Z).

    Args:
        folder: folder of the figure.
        step_mm: distance of slices.
        count: maximum number of columns; the first are drawn.
    """

    def __init__(self, folder: str, step_mm: float, count: int = 4) -> None:
        self.folder = Path(folder)
        self.step_mm, self.count = step_mm, count
        self._rows: list[tuple[Array, Array, Array]] = []

    def start(self) -> None:
        self._rows = []

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item in output[: self.count - len(self._rows)]:
            image, pred, label = (item[key].detach().float().cpu().numpy() for key in ("image", "pred", "label"))
            self._rows.append((image[0, image.shape[1] // 2], 1 / (1 + np.exp(-pred[:2])), label[:2]))

    def finish(self, engine: Engine) -> None:
        if not self._rows:
            return
        figure = new_figure(3.4 * len(self._rows), 4.5)
        axes = figure.subplots(1, 2 * len(self._rows), squeeze=False, sharey=True)[0]
        for left, right, (plane, heat, label) in zip(axes[::2], axes[1::2], self._rows, strict=True):
            height = plane.shape[1] * self.step_mm
            left.imshow(plane.T, cmap="gray", origin="lower", aspect="auto", extent=(0, plane.shape[0], 0, height))
            left.set_xticks([])
            z = (np.arange(heat.shape[1]) + 0.5) * self.step_mm
            for channel, name, colour in _CURVES:
                right.plot(heat[channel], z, color=colour, label=f"{name}, network")
                right.plot(label[channel], z, color=colour, ls=":", label=f"{name}, reference")
            right.set_xlim(0, 1.05)
        axes[0].set_ylabel("along the column (mm)")
        axes[1].legend(fontsize=5, loc="upper right")
        save_figure(figure, self.folder / "columns.png", dpi=100)
