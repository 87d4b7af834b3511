"""Funnel plot: readable labels on the scale of the diagnostic odds ratio."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from osteo_monai.reporting.evidence.figures import deeks_figure
from osteo_monai.statistics.meta_analysis.inference import Deeks


@pytest.mark.parametrize(("low", "high"), [(18.0, 700.0), (8.0, 60.0), (12.0, 40.0), (2.0, 20_000.0)])
def test_labels_of_the_funnel_do_not_overlap(low: float, high: float) -> None:
    ratios = np.geomspace(low, high, 8)
    figure = deeks_figure(Deeks(10.0, 9.0, 4.0, 1.0, 6, np.log(ratios), np.linspace(60, 300, 8)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axis = figure.axes[0]
    left, right = axis.get_xlim()
    labels = [
        label
        for which in ("major", "minor")
        for label in axis.get_xticklabels(which=which)
        if label.get_text() and left <= label.get_position()[0] <= right
    ]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: float(box.x0))
    assert len(boxes) >= 2
    assert all(first.x1 < second.x0 for first, second in pairwise(boxes))
