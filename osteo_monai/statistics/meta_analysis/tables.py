"""Checks and continuity correction of 2 x 2 tables, their logits, and one table per study."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Array",
    "Correction",
    "checked_tables",
    "corrected",
    "logits_and_variances",
    "margin_logits",
    "one_per_study",
]

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


def margin_logits(cells: Array) -> tuple[Array, Array]:
    """Return logits of sensitivity and specificity (k, 2) and their variances.

    0.5 is added to both counts of a proportion of 0 or 1, and to no other (metafor's rule ``only0``).
    """
    tp, fp, fn, tn = cells.T
    hits = np.stack([tp, tn], axis=1)
    misses = np.stack([fn, fp], axis=1)
    half = 0.5 * ((hits == 0) | (misses == 0))
    hits, misses = hits + half, misses + half
    return np.log(hits / misses), 1 / hits + 1 / misses


def one_per_study(tables: Array, clusters: Sequence[object] | None) -> Array:
    """Return (g, 4): the mean of the tables of each study, in the order of their first tables.

    Studies with several models on the same subjects keep the size of their test set, and count once. The cells need not
    be whole numbers. Without ``clusters`` the tables are returned.

    Raises:
        ValueError: on a wrong number of labels.
    """
    if clusters is None:
        return tables
    labels = [str(c) for c in clusters]
    if len(labels) != len(tables):
        raise ValueError(f"clusters must have a label for each of the {len(tables)} tables, got {len(labels)}")
    return np.array([tables[[label == name for label in labels]].mean(axis=0) for name in dict.fromkeys(labels)])
