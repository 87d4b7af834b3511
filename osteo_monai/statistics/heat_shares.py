"""Share of heat maps that lies on bone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from osteo_monai.data import HEAT_COLUMNS, read_prediction_rows
from osteo_monai.errors import UnusableInputError

__all__ = ["HeatShare", "heat_shares"]


class HeatShare(TypedDict):
    """Mean shares of the heat maps of one cohort.

    - ``cohort``; ``map``: ``heat`` or ``attention``
    - ``images``: number of maps that are not empty; ``empty``: number of empty ones
    - ``on_bone``: mean share of a map on bone; ``low`` and ``high``: its 95 % interval
    - ``bone_area``: mean share of the image that is bone
    - ``gain``: mean ratio of both; 1 for a map without relation to bone
    """

    cohort: str
    map: str
    images: int
    empty: int
    on_bone: float
    low: float
    high: float
    bone_area: float
    gain: float


def heat_shares(file: Path) -> list[HeatShare]:
    """Compute the share of heat maps on bone, by cohort and map.

    Li et al. 2026 evaluated heat maps by eye; virtual patients have bone masks.

    Args:
        file: predictions table with the columns ``heat_on_bone``, ``attention_on_bone`` and ``bone_area``.

    Raises:
        UnusableInputError: when the table cannot be read, has no such columns, or has values in them that are not
            shares.
    """
    rows = [row for row in read_prediction_rows(file) if row.get("bone_area")]
    _check_shares(file, rows)
    shares = []
    for cohort in dict.fromkeys(row["cohort"] for row in rows):
        cohort_rows = [row for row in rows if row["cohort"] == cohort]
        for column in HEAT_COLUMNS[:2]:
            if any(row.get(column) for row in cohort_rows):
                shares.append(_share(cohort, column, cohort_rows))
    if not shares:
        raise UnusableInputError(
            f"'{file.name}' must have the columns {', '.join(HEAT_COLUMNS)}; evaluate the bundle with --heat_maps True"
        )
    return shares


def _check_shares(file: Path, rows: Sequence[Mapping[str, str]]) -> None:
    wrong = [name for name in HEAT_COLUMNS if not all(_is_share(row[name]) for row in rows if row.get(name))]
    if wrong:
        raise UnusableInputError(f"{', '.join(wrong)} must be numbers between 0 and 1 in each row of '{file.name}'")


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def _share(cohort: str, column: str, rows: Sequence[Mapping[str, str]]) -> HeatShare:
    pairs = np.array([(float(row[column]), float(row["bone_area"])) for row in rows if row.get(column)])
    share, area = pairs.T
    half = 1.96 * float(share.std(ddof=1)) / math.sqrt(len(share)) if len(share) > 1 else math.nan
    mean = float(share.mean())
    return {
        "cohort": cohort,
        "map": column.removesuffix("_on_bone"),
        "images": len(share),
        "empty": len(rows) - len(share),
        "on_bone": mean,
        "low": mean - half,
        "high": mean + half,
        "bone_area": float(area.mean()),
        "gain": float((share / area.clip(min=1e-6)).mean()),
    }
