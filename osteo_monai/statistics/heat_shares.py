"""Share of heat maps that lies on bone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from osteo_monai.data.radiograph_items import HEAT_COLUMNS
from osteo_monai.statistics.fusion import read_risks

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
        ValueError: when the table has no such columns.
    """
    rows = [row for row in read_risks(file) if row.get("bone_area")]
    shares = []
    for cohort in dict.fromkeys(row.get("cohort", "test") for row in rows):
        cohort_rows = [row for row in rows if row.get("cohort", "test") == cohort]
        for column in HEAT_COLUMNS[:2]:
            if any(row.get(column) for row in cohort_rows):
                shares.append(_share(cohort, column, cohort_rows))
    if not shares:
        raise ValueError(
            f"{file.name} must have the columns {', '.join(HEAT_COLUMNS)}; evaluate the bundle with --heat_maps True"
        )
    return shares


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
