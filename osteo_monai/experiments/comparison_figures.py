"""Figures of a comparison of networks: outlines of the same image, and the Dice coefficients of each person."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.experiments.comparison_scores import Comparison, ImageTable
from osteo_monai.experiments.training import Training
from osteo_monai.handlers.figures import new_figure, save_figure

__all__ = ["chosen_cases", "draw_cases", "draw_people", "shown_window"]

Plane = NDArray[np.float32]

_TRUTH, _PREDICTED = "lime", "red"


def chosen_cases(tables: Sequence[ImageTable]) -> dict[str, int]:
    """Return positions of images to show, by what they are an example of.

    Images are ordered by their mean Dice coefficient over the networks, and by the coefficient of the first network
    minus the mean of the others.
    """
    dice = np.stack([table.scores[:, 0] for table in tables])
    order = np.argsort(dice.mean(0), kind="stable")
    difference = dice[0] - dice[1:].mean(0)
    return {
        "worst": int(order[0]),
        "median": int(order[len(order) // 2]),
        "best": int(order[-1]),
        "first network better": int(np.argmax(difference)),
        "first network worse": int(np.argmin(difference)),
    }


def draw_cases(file: Path, trainings: Sequence[tuple[str, Training]], tables: Sequence[ImageTable]) -> None:
    """Draw image, reference and the outline of each network, one row a case (Pan 2024, Fig. 6).

    Args:
        file: PNG to write.
        trainings: name and training of each network.
        tables: scores of the test images by these trainings, in the same order.
    """
    cases: dict[int, list[str]] = {}
    for kind, position in chosen_cases(tables).items():
        cases.setdefault(position, []).append(kind)
    places = [tables[0].images[position] for position in cases]
    segmented = [training.segment(places) for _, training in trainings]
    names = ["CT", "reference", *(name for name, _ in trainings)]
    figure = new_figure(2.5 * len(names), 2.6 * len(cases))
    axes = figure.subplots(len(cases), len(names), squeeze=False)
    for row, (position, kinds) in enumerate(cases.items()):
        image, label, _ = segmented[0][row]
        window = shown_window(np.stack([label, *(planes[row][2] for planes in segmented)]))
        outlines = [None, (label, _TRUTH), *((planes[row][2], _PREDICTED) for planes in segmented)]
        for column, (axis, outline) in enumerate(zip(axes[row], outlines, strict=True)):
            _draw(axis, image[window], None if outline is None else (outline[0][window], outline[1]))
            if row == 0:
                axis.set_title(names[column], fontsize=8)
        axes[row][0].set_title("; ".join(kinds), fontsize=8)
        for axis, table, name in zip(axes[row][2:], tables, names[2:], strict=True):
            dice = f"Dice {table.scores[position, 0]:.3f}"
            axis.set_title(f"{name}\n{dice}" if row == 0 else dice, fontsize=8)
    save_figure(figure, file, dpi=100)


def draw_people(file: Path, comparison: Comparison) -> None:
    """Draw the mean Dice coefficient of each person by two networks, one panel for each two."""
    pairs = list(combinations(comparison.people, 2))
    figure = new_figure(3.6 * len(pairs), 3.6)
    for axis, (first, second) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        x, y = (comparison.people[name][:, 0] for name in (second, first))
        low = float(min(x.min(), y.min())) - 0.01
        axis.plot([low, 1], [low, 1], color="grey", linewidth=0.8)
        axis.plot(x, y, ".", markersize=4, alpha=0.6)
        axis.set(xlabel=f"Dice, {second}", ylabel=f"Dice, {first}", xlim=(low, 1), ylim=(low, 1), aspect="equal")
    save_figure(figure, file, dpi=110)


def _draw(axis: Any, image: Plane, outline: tuple[Plane, str] | None) -> None:
    axis.imshow(image.T, cmap="gray", origin="lower", vmin=0, vmax=1)
    axis.set_axis_off()
    if outline is not None and outline[0].any():
        axis.contour(outline[0].T > 0.5, [0.5], colors=[outline[1]], linewidths=1)


def shown_window(masks: Plane) -> tuple[slice, slice]:
    """Return a window about the first of masks (masks, X, Y), three times its larger side, that contains all masks."""
    reference = np.argwhere(masks[0] > 0.5)
    half = 1.5 * np.ptp(reference, axis=0).max() + 1
    every = np.argwhere((masks > 0.5).any(0))
    low = np.minimum(reference.mean(0) - half, every.min(0) - 4)
    high = np.maximum(reference.mean(0) + half, every.max(0) + 4)
    first, last = np.maximum(low, 0).astype(int), high.astype(int)
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1)
