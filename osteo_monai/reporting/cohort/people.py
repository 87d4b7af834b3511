"""The table of people that cohort tables and figures are made of, and its age bands."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from osteo_monai.domain import Sex

__all__ = ["AGE_BANDS", "SEXES", "age_bands", "checked", "ordered_splits"]

AGE_BANDS: tuple[tuple[str, float, float], ...] = (
    ("< 30", -math.inf, 30),
    *((f"{low}\N{EN DASH}{low + 9}", low, low + 10) for low in range(30, 90, 10)),
    ("\N{GREATER-THAN OR EQUAL TO} 90", 90, math.inf),
)
"""Name, lower bound (included) and upper bound (excluded) in years: the bands of Pan's Table 1."""

SEXES = ((Sex.MALE, "Male"), (Sex.FEMALE, "Female"))

_COLUMNS = ("subject_id", "split", "age", "sex", "bmd_mg_cm3", "bone_status")


def checked(people: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table, or raise ``ValueError`` on missing columns (also those of ``more``) and repeated subjects."""
    columns = (*_COLUMNS, *more)
    missing = [c for c in columns if c not in people.columns]
    if missing:
        raise ValueError(
            f"the table of people must have the columns {', '.join(columns)}, missing: {', '.join(missing)}"
        )
    if people["subject_id"].duplicated().any():
        raise ValueError("the table of people must have one row per subject, got several of one subject")
    return people


def ordered_splits(splits: Iterable[str]) -> list[str]:
    """Return the names of the splits: training, validation and test first, in any order of the people."""
    first = ("internal", "training", "validation", "test")
    return sorted(set(map(str, splits)), key=lambda name: (first.index(name) if name in first else len(first), name))


def age_bands(people: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the people of known age by band, without empty bands at either end."""
    parts = [(name, people[(people["age"] >= low) & (people["age"] < high)]) for name, low, high in AGE_BANDS]
    filled = [i for i, (_, part) in enumerate(parts) if len(part)]
    return parts[filled[0] : filled[-1] + 1] if filled else []
