"""Handler that draws heat maps over radiographs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from osteo_monai.transforms.radiograph import join_patches

__all__ = ["HeatMapFigures"]


class HeatMapFigures:
    """Write ``heat_maps.png``: radiographs beside Grad-CAM over them and, of a Transformer, what its token attends to.

    Attach it to an evaluator whose postprocessing has ``HeatMapsd``; without its maps nothing is written.

    Args:
        folder: receives the picture; made if missing.
        grid: rows and columns of patches.
        count: rows of the figure, the first radiographs that come.
    """

    def __init__(self, folder: str, grid: Sequence[int] = (1, 1), count: int = 8) -> None:
        self.folder = Path(folder)
        self.grid = (int(grid[0]), int(grid[1]))
        self.count = count
        self._rows: list[tuple[str, Tensor, dict[str, Tensor]]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output:
            if len(self._rows) >= self.count or "heat" not in item:
                return
            title = f"risk {float(item['pred'][0]):.2f}"
            if "heat_on_bone" in item:
                title += f", {100 * float(item['heat_on_bone']):.0f} % of the heat on bone"
                title += f"\n(bone: {100 * float(item['bone_area']):.0f} % of the image)"
            maps = {key: item[key][0].detach().float().cpu() for key in ("heat", "attention") if key in item}
            self._rows.append((title, join_patches(item["image"].detach().float().cpu(), self.grid), maps))

    def _draw(self, engine: Engine) -> None:
        if not self._rows:
            return
        columns = 1 + len(self._rows[0][2])
        figure = Figure(figsize=(3 * columns, 3.2 * len(self._rows)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(self._rows), columns, squeeze=False)
        for line, (title, image, maps) in zip(axes, self._rows, strict=True):
            for axis, (name, one) in zip(line, [("", None), *maps.items()], strict=True):
                axis.imshow(image, cmap="gray")
                axis.set_axis_off()
                if one is not None:
                    axis.imshow(one, cmap="jet", alpha=0.4, vmin=0, vmax=max(float(one.max()), 1e-9))
                axis.set_title({"heat": "Grad-CAM", "attention": "attention of the token"}.get(name, title), fontsize=7)
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / "heat_maps.png", dpi=110)
