"""Checks and continuity correction of 2 x 2 tables, and their logits."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "Correction", "checked_tables", "corrected", "logits_and_variances"]

Array = NDArray[np.float64]

Correction = Literal["all", "single", "none"]


def corrected(tables: ArrayLike, correction: Correction = "all") -> Array:
    """Return the tables (k, 4: TP, FP, FN, TN) with 0.5 added if cells are empty.

    ``"all"``: to every cell of every table if one table has an empty cell; ``"single"``: to the tables that have one;
    ``"none"``: no addition.
    """
    cells = np.asarray(tables, dtype=np.float64)
    empty = (cells == 0).any(axis=1)
    if correction == "all":
        return np.asarray(cells + 0.5 * empty.any())
    if correction == "single":
        return np.asarray(cells + 0.5 * empty[:, None])
    if correction == "none":
        return cells.copy()
    raise ValueError(f"correction must be 'all', 'single' or 'none', got '{correction}'")


def checked_tables(tables: ArrayLike, at_least: int = 3) -> Array:
    """Return (k, 4) counts as float64; raise ``ValueError`` with everything wrong with them."""
    cells = np.asarray(tables, dtype=np.float64)
    if cells.ndim != 2 or cells.shape[1] != 4:
        raise ValueError(f"tables must be of shape (k, 4) with TP, FP, FN, TN, got {cells.shape}")
    problems = []
    if len(cells) < at_least:
        problems.append(f"tables must be at least {at_least}, got {len(cells)}")
    for i, row in enumerate(cells, start=1):
        if not np.isfinite(row).all() or (row < 0).any() or (row != np.round(row)).any():
            problems.append(f"table {i} must hold whole numbers of 0 or more")
        elif row[0] + row[2] == 0 or row[1] + row[3] == 0:
            problems.append(f"table {i} has no {'diseased' if row[0] + row[2] == 0 else 'healthy'} subject")
    if problems:
        raise ValueError("; ".join(problems))
    return cells


def logits_and_variances(cells: Array) -> tuple[Array, Array]:
    """Return logits of sensitivity and specificity (k, 2) and their variances from tables without empty cells."""
    tp, fp, fn, tn = cells.T
    with np.errstate(divide="ignore"):
        return np.stack([np.log(tp / fn), np.log(tn / fp)], axis=1), np.stack(
            [1 / tp + 1 / fn, 1 / tn + 1 / fp], axis=1
        )
