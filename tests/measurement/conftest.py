"""Solids with known sizes on any grid, to measure against (fixture ``solids``)."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Grid = tuple[float, float, float]


def rotation(about_x: float = 0.0, about_y: float = 0.0, about_z: float = 0.0) -> NDArray[np.float64]:
    """Rotation matrix whose rows are the body's right, front and top, degrees."""
    x, y, z = np.radians([about_x, about_y, about_z])
    rx = np.array([[1, 0, 0], [0, np.cos(x), np.sin(x)], [0, -np.sin(x), np.cos(x)]])
    ry = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    rz = np.array([[np.cos(z), np.sin(z), 0], [-np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return np.asarray(rz @ rx @ ry)


def grid(
    spacing: Grid, extent: Grid = (70.0, 60.0, 60.0), centre: Grid = (11.3, -7.1, 140.9)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Affine and the (X, Y, Z, 3) offsets in mm of the voxel centres from ``centre``."""
    shape = [round(e / s) for e, s in zip(extent, spacing, strict=True)]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(centre) - np.array(spacing) * np.array(shape) / 2.0 + 0.37 * np.array(spacing)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return affine, index * np.array(spacing) + affine[:3, 3] - np.array(centre)


def solid(
    spacing: Grid,
    inside: Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]],
    turned: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Mask, affine and own coordinates (X, Y, Z, 3) of a solid given in its own right, front and top."""
    affine, offsets = grid(spacing)
    own = offsets @ (np.eye(3) if turned is None else turned).T
    return inside(own[..., 0], own[..., 1], own[..., 2]), affine, own


def box(width: float, depth: float, height: float) -> Callable[..., Any]:
    return lambda u, v, w: (abs(u) <= width / 2) & (abs(v) <= depth / 2) & (abs(w) <= height / 2)


def cylinder(width: float, depth: float, height: float) -> Callable[..., Any]:
    return lambda u, v, w: ((2 * u / width) ** 2 + (2 * v / depth) ** 2 <= 1) & (abs(w) <= height / 2)


@pytest.fixture(scope="session")
def solids() -> SimpleNamespace:
    """The makers of this file: importlib mode gives test folders no package to import them from."""
    return SimpleNamespace(rotation=rotation, grid=grid, solid=solid, box=box, cylinder=cylinder)
