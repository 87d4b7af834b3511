"""Texture of every record of a manifest, and a radiomics baseline from the table."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from osteo_monai.batch import EVERYTHING, THIS_PROCESS, Selection, Workers
from osteo_monai.cohort.records import (
    Ready,
    Recorded,
    check_bodies,
    check_grid,
    exclusion_reason,
    image_name,
    only_file,
    read_labels,
    record_identity,
    record_keys,
    run_jobs,
    trabecular_region_of,
)
from osteo_monai.data import Record, read_manifest, record_columns, write_predictions
from osteo_monai.data.csv_tables import optional_number, read_table, refuse, write_table
from osteo_monai.domain import SCREENED_LEVELS, BoneStatus, DensityThresholds, VertebraLevel
from osteo_monai.imaging import CTVolume, read_ct
from osteo_monai.measurement import (
    UNITS,
    LevelTexture,
    check_texture_installed,
    cross_validated_predictions,
    feature_table,
    level_texture,
    texture_rows,
)
from osteo_monai.measurement.radiomics import FOLDS
from osteo_monai.measurement.texture import GROUPS

TEXTURE_FILE, LEDGER_FOLDER = "texture.csv", "texture"
TEXTURE_COLUMNS = ("subject_id", "cohort", "image", "level", "feature", "value", "unit", "note")
RADIOMICS_MODEL = "Radiomics"

_Subject = tuple[str, str]
"""Cohort and ``subject_id``: centres may use the same identifier for different people."""


# --- measurement --------------------------------------------------------------------------------------------------


def measure_texture(
    manifest_path: Path,
    output_dir: Path,
    *,
    source: str = "segmentation",
    workers: Workers = THIS_PROCESS,
    selection: Selection = EVERYTHING,
) -> Path:
    """Write ``texture.csv``: the texture of the trabecular regions of L1 and L2 of every record.

    The table has one row per record, level and feature. A group of features that was not computed, since voxels are too
    coarse, a region is missing or a file cannot be used, has a row without a value and the reason in ``note``.

    Args:
        manifest_path: the cohort.
        output_dir: folder for the table; a file of the same name is replaced.
        source: field of the records with the label map of the bodies, ``segmentation`` or ``label``.
        workers: number, limits and place.
        selection: part of the records, and outcomes of earlier runs that are kept; the ledger is in the folder
            ``texture`` of the output.

    Returns:
        Path of the table.

    Raises:
        MissingExtraError: the extra ``texture`` is not installed; before a file is read.
        ManifestError: the manifest has problems.
    """
    check_texture_installed()
    manifest_path = Path(manifest_path)
    jobs = [(split, record) for split, _, record in read_manifest(manifest_path).records()]
    work = Ready(partial(_measure_record, base=manifest_path.parent, source=source))
    recorded = Recorded[tuple[LevelTexture, ...]](
        Path(output_dir) / LEDGER_FOLDER,
        "measure --texture",
        record_keys(record for _, record in jobs),
        _no_value,
        [record_identity(record, manifest_path.parent, (split, source)) for split, record in jobs],
        tuple[LevelTexture, ...],
        selection,
    )
    table: list[tuple[object, ...]] = []
    outcomes = run_jobs(work, jobs, workers, "Texture", _none_computed, recorded)
    for place, levels in outcomes.items():
        split, record = jobs[place]
        for row in texture_rows(levels):
            value = row["value"]
            cells = row | {"value": float(f"{value:.6g}") if isinstance(value, float) else value}
            columns = {"subject_id": record.subject_id, "cohort": split, "image": image_name(record), **cells}
            table.append(tuple(columns[name] for name in TEXTURE_COLUMNS))
    path = selection.folder(Path(output_dir)) / TEXTURE_FILE
    write_table(path, TEXTURE_COLUMNS, table)
    return path


def _measure_record(job: tuple[str, Record], base: Path, source: str) -> tuple[LevelTexture, ...]:
    _, record = job
    try:
        check_bodies(record, source)
        labels = read_labels(only_file(getattr(record, source), base, "label maps"))
        volume = read_ct(only_file(record.images, base, "images"), declared_ct=True)
        check_grid(labels, volume.hu.shape, volume.affine, source)
        return tuple(_measure_level(volume, labels[0], level) for level in SCREENED_LEVELS)
    except Exception as error:  # noqa: BLE001  # any error leaves one record without values, and not the others
        return _none_computed(exclusion_reason(record, error))


def _no_value(levels: Sequence[LevelTexture]) -> str:
    """Return why a record has no value; empty if it has one."""
    reasons = dict.fromkeys(reason for level in levels for reason in level.not_computed.values())
    return "" if any(level.features for level in levels) else " ".join(reasons)


def _none_computed(reason: str) -> tuple[LevelTexture, ...]:
    return tuple(_not_computed(level, reason) for level in SCREENED_LEVELS)


def _measure_level(volume: CTVolume, labels: NDArray[np.uint8], level: VertebraLevel) -> LevelTexture:
    region = trabecular_region_of(volume, labels, level)
    if isinstance(region, str):
        return _not_computed(level, region)
    part, trabecular = region
    mask = np.zeros(volume.hu.shape, dtype=bool)  # texture also reads the surroundings of the body
    mask[part] = trabecular
    return level_texture(volume, {level: mask})[0]


def _not_computed(level: VertebraLevel, reason: str) -> LevelTexture:
    return LevelTexture(level, {}, dict.fromkeys(GROUPS, reason))


# --- radiomics baseline -------------------------------------------------------------------------------------------


def predict_from_texture(
    texture_path: Path, manifest_path: Path, output: Path, *, folds: int = FOLDS, seed: int = 0
) -> dict[str, int]:
    """Write the predictions of a logistic regression on texture, cross-validated by subject over all cohorts.

    Every subject is predicted by a model that was fitted without it; ``fold`` has the number of the fold. The outcome
    is osteoporosis by ``bone_status``, else by ``bmd_mg_cm3``.

    Args:
        texture_path: table of :func:`measure_texture`.
        manifest_path: manifest with the outcomes; the files of its records need not exist.
        output: predictions table (docs/predictions.md) with one row per subject.
        folds: number of folds.
        seed: of the order of subjects.

    Returns:
        Number of subjects that are not in the table, by reason.

    Raises:
        ManifestError: listing the problems of the manifest.
        UnusableInputError: listing the problems of the table, or too few subjects for the folds.
    """
    texture_path, manifest_path = Path(texture_path), Path(manifest_path)
    manifest = read_manifest(manifest_path, check_files=False)
    records: dict[_Subject, list[Record]] = defaultdict(list)
    for split, _, record in manifest.records():
        records[split, record.subject_id].append(record)
    levels = _read_texture(texture_path)
    unknown = len(set(levels) - set(records))
    refuse(texture_path, [f"{unknown} subjects are not in '{manifest_path.name}'"] if unknown else [])
    statuses = {subject: _status(of_subject) for subject, of_subject in records.items()}
    usable = [subject for subject in records if statuses[subject] is not None and levels.get(subject)]
    left_out = {
        "without bone_status or density in mg/cm3 K2HPO4": sum(status is None for status in statuses.values()),
        "without texture": sum(not levels.get(subject) and statuses[subject] is not None for subject in records),
    }
    keys = {f"{cohort}\t{name}": (cohort, name) for cohort, name in usable}
    positive = {key: statuses[subject] == BoneStatus.OSTEOPOROSIS for key, subject in keys.items()}
    rarer = min(sum(positive.values()), len(positive) - sum(positive.values()))
    if rarer < folds:
        refuse(texture_path, [f"each outcome must have at least {folds} subjects, one per fold, got {rarer}"])
    table = cross_validated_predictions(
        feature_table({key: levels[subject] for key, subject in keys.items()}), positive, folds, seed
    )
    found = {row.subject_id: (int(row.fold), round(float(row.probability), 6)) for row in table.itertuples()}
    rows = []
    for key, subject in keys.items():
        fold, probability = found[key]
        facts = _facts(records[subject], subject[0], manifest.header.virtual)
        result = {"model": RADIOMICS_MODEL, "fold": fold, "probability_osteoporosis": probability}
        rows.append(facts | result | {"bone_status": statuses[subject]})
    write_predictions(output, rows)
    return left_out


def _read_texture(path: Path) -> dict[_Subject, list[LevelTexture]]:
    """Return the levels that have a feature, by subject; several images of a subject are in one list."""
    table = read_table(path, TEXTURE_COLUMNS)
    problems = list(table.problems)
    features: dict[_Subject, dict[tuple[str, str], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for line, row in table.rows:
        try:
            value = _value(row, table.separator)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        if value is None:
            continue
        body = row["image"], row["level"]
        features[row["cohort"], row["subject_id"]][body][row["feature"]] = value
    refuse(path, problems)
    return {
        subject: [LevelTexture(VertebraLevel(level), values) for (_, level), values in bodies.items()]
        for subject, bodies in features.items()
    }


def _value(row: Mapping[str, str], separator: str) -> float | None:
    """Return the value of a row, ``None`` if it is missing; raise ``ValueError`` if a cell is wrong."""
    value = optional_number("value", row["value"], separator)
    if value is None:
        return None
    if row["feature"] not in UNITS:
        raise ValueError(f"feature must be one of docs/texture.md, got '{row['feature'][:40]}'")
    if row["level"] not in set(VertebraLevel):
        raise ValueError(f"level must be a vertebral level, got '{row['level'][:40]}'")
    return value


def _status(records: Sequence[Record]) -> BoneStatus | None:
    """Return the class of the subject of some records, ``None`` if unknown."""
    thresholds = DensityThresholds()
    for record in records:
        if record.bone_status is not None:
            return record.bone_status
        if record.bmd_mg_cm3 is not None and record.bmd_standard == thresholds.standard:
            return thresholds.status(record.bmd_mg_cm3, thresholds.standard)
    return None


def _facts(records: Sequence[Record], cohort: str, virtual: bool) -> dict[str, object]:
    """Return the columns that all records of a subject agree on."""
    first, *others = (record_columns(record, cohort, virtual) for record in records)
    return {name: value for name, value in first.items() if all(columns.get(name) == value for columns in others)}
