"""Creation and atomic writing of matplotlib figures without a display."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from osteo_monai.utils.files import writing

__all__ = ["new_figure", "save_figure"]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, file: Path, dpi: int) -> None:
    """Write a figure; its folder is made if missing."""
    with writing(file) as temporary:
        figure.savefig(temporary, dpi=dpi)
