"""Summarise a manifest by split and by subject."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from statistics import mean, stdev
from typing import TYPE_CHECKING

from osteo_monai.data.manifest import Manifest
from osteo_monai.data.record import Record
from osteo_monai.domain import BoneStatus, Sex

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DESCRIPTION_COLUMNS", "describe", "label_kinds", "people_frame"]

DESCRIPTION_COLUMNS: tuple[str, ...] = (
    "split",
    "records",
    "subjects",
    "women",
    "age (years)",
    "mg/cm3",
    *(status.value for status in BoneStatus),
)


def describe(manifest: Manifest) -> list[tuple[str, ...]]:
    """Return one row per split with the columns of ``DESCRIPTION_COLUMNS``, as text.

    People are counted once, by their first record. Age and density are mean +- SD of the known values, with their
    number in brackets if some are unknown; no value is a dash, never zero.
    """
    rows = []
    for split, records in manifest.splits.items():
        people: dict[str, Record] = {}
        for record in records:
            people.setdefault(record.subject_id, record)
        persons = list(people.values())
        sexes = [p.sex for p in persons if p.sex is not None]
        classes = Counter(p.bone_status for p in persons if p.bone_status is not None)
        rows.append(
            (
                split,
                str(len(records)),
                str(len(persons)),
                f"{sum(s is Sex.FEMALE for s in sexes)} of {len(sexes)}" if sexes else "-",
                _spread([p.age for p in persons]),
                _spread([p.bmd_mg_cm3 for p in persons]),
                *(str(classes[status]) if classes else "-" for status in BoneStatus),
            )
        )
    return rows


def label_kinds(manifest: Manifest) -> str:
    """Return how many labels are of bodies and of whole vertebrae, as one sentence; empty without labels."""
    kinds: Counter[str] = Counter(r.label_kind or "body" for _, _, r in manifest.records() if r.label is not None)
    names = {"body": "vertebral bodies", "vertebra": "whole vertebrae"}
    counts = [f"{kinds[kind]} of {name}" for kind, name in names.items() if kinds[kind]]
    return f"Labels: {', '.join(counts)}." if counts else ""


def people_frame(manifest: Manifest) -> "pd.DataFrame":
    """Return one row per subject for the tables and figures of :mod:`osteo_monai.reporting.cohort`.

    Columns are ``subject_id``, ``split``, ``age`` (years), ``sex`` (``F``, ``M``), ``bmd_mg_cm3``, ``bone_status``,
    ``t_score`` (the lowest of the records), ``areal_bmd_g_cm2``, ``height_cm`` and ``weight_kg``; other facts are those
    of the first record that has them.
    """
    import pandas as pd

    texts, numbers = ("sex", "bone_status"), ("age", "bmd_mg_cm3", "areal_bmd_g_cm2", "height_cm", "weight_kg")
    people: dict[str, dict[str, object]] = {}
    lowest: dict[str, float] = {}
    for split, _, record in manifest.records():
        row = people.setdefault(record.subject_id, {"subject_id": record.subject_id, "split": split})
        for fact in (*texts, *numbers):
            if row.get(fact) is None:
                value = getattr(record, fact)
                row[fact] = value.value if isinstance(value, StrEnum) else value
        if record.t_score is not None:
            lowest[record.subject_id] = min(record.t_score, lowest.get(record.subject_id, record.t_score))
    for subject, row in people.items():
        row["t_score"] = lowest.get(subject)
    columns = ["subject_id", "split", "age", "sex", "bmd_mg_cm3", "bone_status", "t_score", *numbers[2:]]
    frame = pd.DataFrame(list(people.values()), columns=columns)
    return frame.astype(dict.fromkeys((*numbers, "t_score"), float))


def _spread(values: Sequence[float | None]) -> str:
    numbers = [v for v in values if v is not None]
    if not numbers:
        return "-"
    text = f"{mean(numbers):.1f}" + (f" +- {stdev(numbers):.1f}" if len(numbers) > 1 else "")
    return text if len(numbers) == len(values) else f"{text} ({len(numbers)})"
