"""Loops of bowel with contrast agent, and similar bright structures beside the column, as a look of training images."""

import numpy as np
import torch
from numpy.typing import NDArray

from osteo_monai.virtual.canvas import Canvas, smooth_max

__all__ = ["paint_loops"]

_HU = (130.0, 700.0)
"""HU of the contrast agent in bowel: 100 to 420 in usual doses, more where it is concentrated (project custom)."""


def paint_loops(canvas: Canvas, column: NDArray[np.float64], seed: int) -> None:
    """Paint 1 to 5 loops with contrast agent in front of and beside the column.

    Some are as large as a vertebral body, have a brighter rim, an air level, or touch one another. Bones are painted
    afterwards and so remain.

    Args:
        canvas: soft tissue of a slice.
        column: (3,) position in mm of the axis of the column at the slice, in the frame of the person.
        seed: of all random draws.
    """
    rng = np.random.default_rng([seed, 21])
    for _ in range(int(rng.integers(1, 6))):
        angle = np.deg2rad(rng.uniform(-25, 205))  # 0 is to the right of the image, 90 in front
        radii = rng.uniform(8, 26, 3) * [1.0, 1.0, 1.6]
        away = float(rng.uniform(26, 110)) + 0.6 * float(radii[:2].max())
        centre = column + [away * np.cos(angle), away * np.sin(angle), rng.uniform(-8, 8)]
        _paint_loop(canvas, centre, radii, rng)


def _paint_loop(
    canvas: Canvas, centre: NDArray[np.float64], radii: NDArray[np.float64], rng: np.random.Generator
) -> None:
    core = float(rng.uniform(*_HU))
    kind, turn = float(rng.uniform()), float(rng.uniform(0, np.pi))
    rim, rim_mm = core + float(rng.uniform(60, 400)), float(rng.uniform(1.0, 3.0))
    corner = float(rng.uniform(2, 12))
    air_y = float(centre[1] + rng.uniform(-0.5, 0.8) * radii[1])
    reach = float(radii.max())
    box = canvas.box(centre - reach, centre + reach)
    if box is None:
        return
    x, y, z = canvas.positions(box)
    dx, dy, dz = x - float(centre[0]), y - float(centre[1]), z - float(centre[2])
    u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    a, b, c = (float(r) for r in radii)
    oval = ((u / a) ** 2 + (v / b) ** 2).sqrt()
    side = (oval - 1.0) * min(a, b)
    distance = smooth_max(side + 0 * dz, dz.abs() - c + 0 * side, corner)
    if kind < 0.35:  # contrast agent at the wall, or an enhanced cortex
        canvas.paint_shell(box, distance, rim_mm, rim, 0.55 * core)
    elif kind < 0.55:  # air above fluid
        canvas.paint(box, distance, torch.where(y + 0 * distance > air_y, -900.0, core))
    else:
        canvas.paint(box, distance, core)
