"""Handler that draws heat maps over radiographs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from torch import Tensor

from osteo_monai.handlers.epoch import EpochHandler
from osteo_monai.handlers.figures import new_figure, save_figure
from osteo_monai.transforms.radiograph import join_patches

__all__ = ["HeatMapFigures"]

_TITLES = {"heat": "Grad-CAM", "attention": "attention of the class token"}


class HeatMapFigures(EpochHandler):
    """Write ``heat_maps.png``: radiographs, their Grad-CAM maps and the attention of a Transformer's class token.

    Needs ``HeatMapsd`` in the postprocessing of the evaluator; without maps no figure is written.

    Args:
        folder: folder of the figure.
        grid: rows and columns of patches.
        count: maximum number of rows; the first radiographs are drawn.
    """

    def __init__(self, folder: str, grid: Sequence[int] = (1, 1), count: int = 8) -> None:
        self.folder = Path(folder)
        self.grid = (int(grid[0]), int(grid[1]))
        self.count = count
        self._rows: list[tuple[str, Tensor, dict[str, Tensor]]] = []

    def start(self) -> None:
        self._rows = []

    def collect(self, output: Sequence[Mapping[str, Any]], batch: Sequence[Mapping[str, Any]]) -> None:
        for item in output:
            if len(self._rows) >= self.count or "heat" not in item:
                return
            title = f"risk {float(item['pred'][0]):.2f}"
            if "heat_on_bone" in item:
                title += f", {100 * float(item['heat_on_bone']):.0f} % of the heat on bone"
                title += f"\n(bone: {100 * float(item['bone_area']):.0f} % of the image)"
            maps = {key: item[key][0].detach().float().cpu() for key in _TITLES if key in item}
            self._rows.append((title, join_patches(item["image"].detach().float().cpu(), self.grid), maps))

    def finish(self, engine: Engine) -> None:
        if not self._rows:
            return
        columns = 1 + len(self._rows[0][2])
        figure = new_figure(3 * columns, 3.2 * len(self._rows))
        axes = figure.subplots(len(self._rows), columns, squeeze=False)
        for row, (title, image, maps) in zip(axes, self._rows, strict=True):
            for axis in row:
                axis.imshow(image, cmap="gray")
                axis.set_axis_off()
            row[0].set_title(title, fontsize=7)
            for axis, (name, heat) in zip(row[1:], maps.items(), strict=True):
                axis.imshow(heat, cmap="jet", alpha=0.4, vmin=0, vmax=max(float(heat.max()), 1e-9))
                axis.set_title(_TITLES[name], fontsize=7)
        save_figure(figure, self.folder / "heat_maps.png", dpi=110)
