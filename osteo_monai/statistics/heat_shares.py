"""Share of heat maps that lies on bone."""

import math
from pathlib import Path
from typing import Any

import torch

from osteo_monai.data.radiograph_items import HEAT_COLUMNS
from osteo_monai.statistics.fusion import read_risks

__all__ = ["heat_shares"]


def heat_shares(file: Path) -> list[dict[str, Any]]:
    """Count how much of the heat maps lies on bone, by cohort: Li judged by eye, virtual people have masks.

    Args:
        file: a table of predictions with the columns ``heat_on_bone``, ``attention_on_bone`` and ``bone_area``.

    Returns:
        A row for each cohort and map: ``cohort``, ``map``, ``images`` (those whose map is not empty), ``empty``,
        ``on_bone`` and ``bone_area`` (means of shares of the map and of the image), ``low`` and ``high`` (95 % interval
        of the first), ``gain`` (mean of the ratios of the two; 1 for a map that knows nothing of bone).

    Raises:
        ValueError: the table has no such columns.
    """
    rows = [row for row in read_risks(file) if row.get("bone_area")]
    found: list[dict[str, Any]] = []
    for cohort in dict.fromkeys(row.get("cohort", "test") for row in rows):
        own = [row for row in rows if row.get("cohort", "test") == cohort]
        for name in HEAT_COLUMNS[:2]:
            if not any(name in row for row in own):
                continue
            pairs = [(float(row[name]), float(row["bone_area"])) for row in own if row.get(name)]
            if not pairs:
                continue
            share, area = (torch.tensor(values, dtype=torch.float64) for values in zip(*pairs, strict=True))
            half = 1.96 * float(share.std()) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.nan
            mean = float(share.mean())
            found.append(
                {
                    "cohort": cohort,
                    "map": name.removesuffix("_on_bone"),
                    "images": len(pairs),
                    "empty": len(own) - len(pairs),
                    "on_bone": mean,
                    "low": mean - half,
                    "high": mean + half,
                    "bone_area": float(area.mean()),
                    "gain": float((share / area.clamp(min=1e-6)).mean()),
                }
            )
    if not found:
        raise ValueError(f"{file.name} must have the columns {', '.join(HEAT_COLUMNS)}: evaluate with --heat_maps True")
    return found
