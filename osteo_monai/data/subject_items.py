"""Items of CT classifiers and density regressors, read from a data manifest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from osteo_monai.data import Record, read_manifest
from osteo_monai.domain import SCREENED_LEVELS, BoneStatus, DensityThresholds
from osteo_monai.errors import ManifestError

__all__ = ["CLASSES", "FACTS", "class_shares", "density_items", "sampling_weights", "subject_items"]

CLASSES: tuple[BoneStatus, ...] = tuple(BoneStatus)
"""The classes in the order of the classifier's channels: normal, osteopenia, osteoporosis."""


FACTS = ("bmd_mg_cm3", "age", "sex", "kvp", "contrast_phase", "acquisition")
"""What a table of predictions repeats of a record, where it is known."""


def subject_items(data_source: str, splits: Sequence[str], need_status: bool = True) -> list[dict[str, Any]]:
    """Return the records of a manifest's splits as a data set of the classifiers wants them.

    Each item holds ``image`` and ``label`` (paths; the latter is the record's ``segmentation``, what the segmentation
    bundle predicted, never its ground truth), ``status`` (index into ``CLASSES``, -1 where unknown), ``row`` (its place
    in the returned list), ``record`` (as the manifest has it) and ``facts`` (columns for ``PredictionsSaver``); the
    last two do not collate, so transforms must drop them. The class is the record's ``bone_status`` or follows from its
    density.

    Args:
        data_source: path of a data manifest.
        splits: such as ``["validation", "test"]``.
        need_status: whether a record of unknown class is refused.

    Raises:
        SystemExit: listing all that is wrong; MONAI would bury another exception's sentence under a page of its own.
    """
    path = Path(data_source)
    if not data_source:
        raise SystemExit("error: --data_source must name a data manifest whose records have a 'segmentation', got none")
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise SystemExit(f"error: {error}") from None
    problems = []
    if not splits or isinstance(splits, str):
        problems.append(f"splits must be a list such as \"['test']\", got {splits!r}")
        splits = []
    items: list[dict[str, Any]] = []
    for split in splits:
        records = manifest.splits.get(split, ())
        if not records:
            problems.append(f"{path.name} has no records in a split {split!r}, it has {', '.join(manifest.splits)}")
        if lacking := [place for place, record in enumerate(records) if record.segmentation is None]:
            problems.append(
                f"{path.name}: {len(lacking)} of {len(records)} records of {split} have no 'segmentation' "
                f"(the first is {split}[{lacking[0]}]); make them with `osteo-monai manifest segment`"
            )
        statuses = [_status(record) for record in records]
        if need_status and None in statuses:
            problems.append(
                f"{path.name}: {statuses.count(None)} of {len(records)} records of {split} have neither 'bone_status' "
                f"nor a density that tells it (the first is {split}[{statuses.index(None)}])"
            )
        for place, (record, status) in enumerate(zip(records, statuses, strict=True)):
            if record.segmentation is not None:
                facts = record.model_dump(mode="json", include=set(FACTS), exclude_none=True)
                facts |= {"subject_id": record.subject_id, "cohort": split, "virtual": int(manifest.header.virtual)}
                items.append(
                    {
                        "image": _below(path.parent, record.image),
                        "label": _below(path.parent, record.segmentation),
                        "status": -1 if status is None else CLASSES.index(status),
                        "row": len(items),
                        "place": f"{split}[{place}]",
                        "record": record,
                        "facts": facts if status is None else facts | {"bone_status": str(status)},
                    }
                )
    if problems:
        raise SystemExit("error: " + "\nerror: ".join(problems))
    return items


def density_items(
    data_source: str, splits: Sequence[str], levels: Sequence[str] = SCREENED_LEVELS, need_levels: bool = True
) -> list[dict[str, Any]]:
    """Read ``subject_items`` for the density regressor.

    Each item also holds ``kvp`` (NaN where unknown), ``level_bmd`` (L,) and ``study_bmd`` (1,) in mg/cm3 K2HPO4, NaN
    where unknown; the latter is the record's own density, else the mean over ``levels`` where all are known.

    Args:
        data_source, splits: see ``subject_items``.
        levels: in the order wanted.
        need_levels: whether a record without the density of each level is refused.

    Raises:
        SystemExit: listing all that is wrong.
    """
    items = subject_items(data_source, splits, need_status=False)
    other, lacking = [], []
    for item in items:
        record = item["record"]
        by_level = record.level_bmd_mg_cm3 or {}
        item["kvp"] = float("nan") if record.kvp is None else record.kvp
        item["level_bmd"] = torch.tensor([float(by_level.get(level, torch.nan)) for level in levels])
        study = item["level_bmd"].mean() if record.bmd_mg_cm3 is None else torch.tensor(record.bmd_mg_cm3)
        item["study_bmd"] = study.float()[None]
        if record.bmd_standard not in (None, DensityThresholds().standard):
            other.append(item["facts"]["cohort"])
        if not item["level_bmd"].isfinite().all():
            lacking.append(item["facts"]["cohort"])
    name, problems = Path(data_source).name, []
    for split, count in Counter(other).items():
        problems.append(f"{name}: {count} densities of {split} are not in mg/cm3 {DensityThresholds().standard}")
    for split, count in Counter(lacking if need_levels else []).items():
        problems.append(f"{name}: {count} records of {split} lack 'level_bmd_mg_cm3' of {' or '.join(levels)}")
    if problems:
        raise SystemExit("error: " + "\nerror: ".join(problems))
    return items


def class_shares(items: Sequence[Mapping[str, Any]], balance: float = 0.0) -> list[float]:
    """Return how common each of ``CLASSES`` is among items drawn with ``sampling_weights``; their sum is 1.

    Args:
        items: of ``subject_items``.
        balance: 0 leaves the classes as common as they are (n), 1 makes them equally common, between: n^(1 - balance).

    Raises:
        SystemExit: when a class has no items.
    """
    powers = [count ** (1.0 - balance) for count in _class_counts(items)]
    return [power / sum(powers) for power in powers]


def sampling_weights(items: Sequence[Mapping[str, Any]], balance: float = 0.0) -> list[float]:
    """Return the weight by which each item is to be drawn; arguments and errors as ``class_shares``."""
    counts = _class_counts(items)
    return [counts[int(item["status"])] ** -balance for item in items]


def _class_counts(items: Sequence[Mapping[str, Any]]) -> list[int]:
    counts = Counter(int(item["status"]) for item in items)
    if missing := [status.value for index, status in enumerate(CLASSES) if not counts[index]]:
        raise SystemExit(f"error: the training split must hold every class, it has no {', no '.join(missing)}")
    return [counts[index] for index in range(len(CLASSES))]


def _below(base: Path, paths: str | tuple[str, ...]) -> str | list[str]:
    return str(base / paths) if isinstance(paths, str) else [str(base / path) for path in paths]


def _status(record: Record, thresholds: DensityThresholds | None = None) -> BoneStatus | None:
    thresholds = thresholds or DensityThresholds()
    if record.bone_status is None and record.bmd_mg_cm3 is not None and record.bmd_standard == thresholds.standard:
        return thresholds.status(record.bmd_mg_cm3, record.bmd_standard)
    return record.bone_status
