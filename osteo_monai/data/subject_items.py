"""Items of CT classifiers and density regressors, read from a data manifest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from osteo_monai.data import Manifest, Record, read_manifest, record_columns
from osteo_monai.domain import SCREENED_LEVELS, BoneStatus, DensityThresholds
from osteo_monai.errors import ConfigError, ManifestError

__all__ = [
    "CLASSES",
    "class_shares",
    "density_items",
    "read_data_source",
    "sampling_weights",
    "scan_items",
    "subject_items",
]

Item = dict[str, Any]

CLASSES: tuple[BoneStatus, ...] = tuple(BoneStatus)
"""Classes in the order of the classifier's channels: normal, osteopenia, osteoporosis."""


def read_data_source(data_source: str, splits: Sequence[str]) -> Manifest:
    """Read the data manifest that a bundle's setting names.

    Args:
        data_source: path of the manifest.
        splits: names of splits.

    Raises:
        ConfigError: when a setting is missing or of the wrong type.
        ManifestError: when the manifest is invalid.
    """
    if not data_source:
        raise ConfigError("data_source must be the path of a data manifest, got ''; set --data_source")
    if not splits or isinstance(splits, str):
        raise ConfigError(f"splits must be a list such as \"['test']\", got {splits!r}")
    return read_manifest(Path(data_source))


def subject_items(data_source: str, splits: Sequence[str], need_status: bool = True) -> list[Item]:
    """Return the records of a manifest's splits as items of a data set of the CT classifiers.

    Each item has ``image`` and ``label`` (paths; the latter is the record's ``segmentation``, the prediction of the
    segmentation bundle, never the ground truth), ``status`` (index into ``CLASSES``, -1 if unknown), ``row`` (index in
    the returned list), ``place`` (such as ``test[0]``), ``record`` and ``facts`` (columns for ``PredictionsSaver``).
    The last three cannot be collated, so transforms must drop them. The class is the record's ``bone_status``, or
    follows from its density.

    Args:
        data_source: path of a data manifest.
        splits: such as ``["validation", "test"]``.
        need_status: whether a record of unknown class is refused.

    Raises:
        ConfigError: when a setting is missing or of the wrong type.
        ManifestError: with all problems of the manifest and its records.
    """
    path = Path(data_source)
    manifest = read_data_source(data_source, splits)
    problems: list[str] = []
    items: list[Item] = []
    for split in splits:
        records = manifest.splits.get(split, ())
        statuses = [_status(record) for record in records]
        problems += _split_problems(manifest, split, statuses if need_status else [])
        for place, (record, status) in enumerate(zip(records, statuses, strict=True)):
            if record.segmentation is not None:
                item = _item(path.parent, record, status)
                item["row"] = len(items)
                item["place"] = f"{split}[{place}]"
                item["facts"] = record_columns(record, split, manifest.header.virtual) | _truth(record, status)
                items.append(item)
    if problems:
        raise ManifestError(path.name, problems)
    return items


def scan_items(scans: Sequence[tuple[str, str]], **facts: Any) -> list[Item]:
    """Return scans and their label maps as items of a data set for inference.

    Each item has ``image``, ``label``, ``row`` and ``facts``: ``subject_id`` (file name) and the known facts.

    Args:
        scans: paths of image and label map.
        facts: of the person, named as in a manifest, such as ``age``; ``None`` if unknown. Only for one scan.

    Raises:
        ConfigError: when facts are out of range, or given for several scans.
    """
    known = {name: value for name, value in facts.items() if value is not None}
    if known and len(scans) > 1:
        raise ConfigError(f"{', '.join(known)} must be given for one scan, got {len(scans)} scans")
    try:
        record = Record(image="scan", subject_id="scan", **known)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"facts of the person must be valid: {'; '.join(problems)}") from None
    known = record.model_dump(mode="json", include=set(known))
    return [
        {
            "image": image,
            "label": label,
            "row": row,
            "facts": {"subject_id": Path(image).name.split(".nii")[0], **known},
        }
        for row, (image, label) in enumerate(scans)
    ]


def density_items(
    data_source: str, splits: Sequence[str], levels: Sequence[str] = SCREENED_LEVELS, need_levels: bool = True
) -> list[Item]:
    """Return ``subject_items`` for the density regressor.

    Each item also has ``kvp`` (NaN if unknown), ``level_bmd`` (L,) and ``study_bmd`` (1,) in mg/cm3 K2HPO4, NaN if
    unknown; the latter is the record's density, or else the mean over ``levels`` if all are known.

    Args:
        data_source, splits: see ``subject_items``.
        levels: vertebrae, in the order of the network's outputs.
        need_levels: whether a record without the density of each level is refused.

    Raises:
        ConfigError, ManifestError: see ``subject_items``.
    """
    items = subject_items(data_source, splits, need_status=False)
    other_standards: Counter[str] = Counter()
    incomplete: Counter[str] = Counter()
    standard = DensityThresholds().standard
    for item in items:
        record, split = item["record"], item["facts"]["cohort"]
        densities = record.level_bmd_mg_cm3 or {}
        item["kvp"] = float("nan") if record.kvp is None else record.kvp
        item["level_bmd"] = torch.tensor([float(densities.get(level, torch.nan)) for level in levels])
        study = item["level_bmd"].mean() if record.bmd_mg_cm3 is None else torch.tensor(record.bmd_mg_cm3)
        item["study_bmd"] = study.float()[None]
        other_standards[split] += record.bmd_standard not in (None, standard)
        incomplete[split] += need_levels and not bool(item["level_bmd"].isfinite().all())
    problems = [
        f"{count} densities of {split} are not in mg/cm3 {standard}"
        for split, count in other_standards.items()
        if count
    ]
    problems += [
        f"{count} records of {split} have no 'level_bmd_mg_cm3' of {' or '.join(levels)}"
        for split, count in incomplete.items()
        if count
    ]
    if problems:
        raise ManifestError(Path(data_source).name, problems)
    return items


def class_shares(items: Sequence[Mapping[str, Any]], balance: float = 0.0) -> list[float]:
    """Return the share of each of ``CLASSES`` among items drawn with ``sampling_weights``; their sum is 1.

    Args:
        items: see ``subject_items``.
        balance: exponent b of n^(1 - b), for n items of a class: 0 keeps the frequencies, 1 makes them equal.

    Raises:
        ManifestError: when a class has no items.
    """
    powers = [count ** (1.0 - balance) for count in _class_counts(items)]
    return [power / sum(powers) for power in powers]


def sampling_weights(items: Sequence[Mapping[str, Any]], balance: float = 0.0) -> list[float]:
    """Return the sampling weight of each item; arguments and errors as in ``class_shares``."""
    counts = _class_counts(items)
    return [counts[int(item["status"])] ** -balance for item in items]


def _item(folder: Path, record: Record, status: BoneStatus | None) -> Item:
    found = record.absolute(folder)
    return {
        "image": _loadable(found.image),
        "label": _loadable(found.segmentation or ()),
        "status": -1 if status is None else CLASSES.index(status),
        "record": record,
    }


def _truth(record: Record, status: BoneStatus | None) -> dict[str, str | float]:
    """Return the known ones of the columns of truth in a predictions table."""
    density: dict[str, str | float] = {} if record.bmd_mg_cm3 is None else {"bmd_mg_cm3": record.bmd_mg_cm3}
    return density if status is None else density | {"bone_status": str(status)}


def _split_problems(manifest: Manifest, split: str, statuses: Sequence[BoneStatus | None]) -> list[str]:
    """List the problems of a split: no records, records without a segmentation or with an unknown class."""
    records = manifest.splits.get(split, ())
    problems = []
    if not records:
        problems.append(f"the split {split!r} must have records; splits with records: {', '.join(manifest.splits)}")
    if places := [place for place, record in enumerate(records) if record.segmentation is None]:
        problems.append(
            f"{len(places)} of {len(records)} records of {split} have no 'segmentation' (first: {split}[{places[0]}]); "
            "create them with `osteo-monai manifest segment`"
        )
    if places := [place for place, status in enumerate(statuses) if status is None]:
        problems.append(
            f"{len(places)} of {len(records)} records of {split} have neither 'bone_status' nor a density "
            f"(first: {split}[{places[0]}])"
        )
    return problems


def _status(record: Record) -> BoneStatus | None:
    thresholds = DensityThresholds()
    if record.bone_status is None and record.bmd_mg_cm3 is not None and record.bmd_standard == thresholds.standard:
        return thresholds.status(record.bmd_mg_cm3, record.bmd_standard)
    return record.bone_status


def _loadable(paths: str | tuple[str, ...]) -> str | list[str]:
    """Return paths as MONAI's ``LoadImaged`` takes them."""
    return paths if isinstance(paths, str) else list(paths)


def _class_counts(items: Sequence[Mapping[str, Any]]) -> list[int]:
    counts = Counter(int(item["status"]) for item in items)
    missing = [status.value for index, status in enumerate(CLASSES) if not counts[index]]
    if missing:
        raise ManifestError("training split", [f"no record of the class {status!r}" for status in missing])
    return [counts[index] for index in range(len(CLASSES))]
