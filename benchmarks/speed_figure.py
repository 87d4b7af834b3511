"""Draw where the time of a study goes, before and now, from a result of ``benchmarks/speed.py``.

python benchmarks/speed_figure.py RESULT.json FIGURE.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from osteo_monai.utils.files import writing

COLOURS = ("#4c78a8", "#72b7b2", "#54a24b", "#e45756", "#f58518", "#b279a2", "#9d755d", "#bab0ac")
NAMES = ("before", "now")


def draw_cold(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Draw the processor seconds of whole commands."""
    for place, name in enumerate(NAMES):
        seconds = [row[name] for row in rows]
        at = [n + 0.4 * place - 0.2 for n in range(len(rows))]
        bars = axes.barh(at, seconds, 0.36, label=name, color=("#bab0ac", "#4c78a8")[place])
        axes.bar_label(bars, [f"{s:.2f}" for s in seconds], padding=3)
    axes.set_yticks(range(len(rows)), [row["command"] for row in rows])
    axes.invert_yaxis()
    axes.set_title("Whole command, cold", loc="left")
    axes.set_xlabel("processor seconds")
    axes.legend(frameon=False, loc="lower right")
    axes.margins(x=0.12)


def draw_stages(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Draw the stages of a further study, and the networks among them."""
    names = list(rows[-1]["stages"])
    for place, row in enumerate(rows):
        left = 0.0
        for name, colour in zip(names, COLOURS, strict=False):
            seconds = row["stages"].get(name, 0.0)
            axes.barh(place, seconds, 0.5, left=left, color=colour, label=name if place == 0 else None)
            left += seconds
        axes.barh(place + 0.34, row["networks"], 0.12, color="black", label="networks" if place == 0 else None)
        axes.text(left, place, f" {left:.2f}", va="center")
    axes.set_yticks(range(len(rows)), [row["tree"] for row in rows])
    axes.invert_yaxis()
    axes.set_title("A further CT of 512 x 512 x 150, models loaded", loc="left")
    axes.set_xlabel("processor seconds")
    axes.legend(frameon=False, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.28), fontsize=8)
    axes.margins(x=0.1)


def main() -> None:
    result, target = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure((8.0, 5.2), layout="constrained")
        upper, lower = figure.subplots(2, 1)
        draw_cold(upper, result["cold"])
        draw_stages(lower, result["stages"])
        with writing(target) as temporary, temporary.open("wb") as stream:
            FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})


if __name__ == "__main__":
    main()
