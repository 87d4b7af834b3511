"""Measurement of every record of a manifest: HU of L1 with published cut-offs, and density from HU by physics."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from osteo_monai.cohort.records import (
    EXCLUDED_FILE,
    check_bodies,
    check_grid,
    exclusion_reason,
    image_name,
    only_file,
    read_labels,
    run_jobs,
    trabecular_region_of,
)
from osteo_monai.data import Manifest, Record, read_manifest, record_columns, write_predictions
from osteo_monai.data.csv_tables import write_table
from osteo_monai.domain import KVP_TOLERANCE, SCREENED_LEVELS, DensityThresholds, MineralStandard, VertebraLevel
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging import CTVolume, read_ct
from osteo_monai.measurement import calibrate, density, hu_statistics, mean_density
from osteo_monai.screening.ct.opinions import PICKHARDT_2013, HUCutoffs

HU_FILE, LINE_FILE = "hu_l1_pickhardt.csv", "hu_line_bmd.csv"
MEASURE_FILES: tuple[str, ...] = (HU_FILE, LINE_FILE, EXCLUDED_FILE)

LINE_MODEL = "HU line"

LabelSource: TypeAlias = Literal["segmentation", "label"]

Row: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class CohortMeasured:
    """Results of :func:`measure_cohort`.

    Attributes:
        rows: number of rows of each table.
        excluded: (split, subject, image, model, reason) of each record that is missing from a table.
    """

    rows: dict[Path, int]
    excluded: tuple[tuple[str, str, str, str, str], ...]


def measure_cohort(
    manifest_path: Path,
    output_dir: Path,
    *,
    source: LabelSource = "segmentation",
    cutoffs: HUCutoffs = PICKHARDT_2013,
    workers: int = 1,
) -> CohortMeasured:
    """Measure every record as a radiologist would, and write two predictions tables.

    ``hu_l1_pickhardt.csv`` ranks and classifies subjects by the mean trabecular HU of L1 and published cut-offs (see
    ``PICKHARDT_2013``). ``hu_line_bmd.csv`` converts the median HU of L1 and L2 to mg/cm3 K2HPO4 by physics at the tube
    voltage (``measurement.calibration``), the mean of both levels with its 90 % interval. The tube voltage is the
    header's, else the record's. ``excluded.csv`` has each record that is missing from a table, with the reason.

    Args:
        manifest_path: the cohort.
        output_dir: folder for the tables; files of the same name are replaced.
        source: label map of the bodies: predicted, or ground truth.
        cutoffs: of the HU of L1.
        workers: processes.

    Raises:
        ManifestError: the manifest has problems.
        UnusableInputError: records lack the label map, or a density is not in mg/cm3 K2HPO4; all problems are listed.
        ConfigError: ``workers`` is less than 1.
    """
    manifest_path, output_dir = Path(manifest_path), Path(output_dir)
    manifest = read_manifest(manifest_path)
    _check_measurable(manifest, manifest_path.name, source)
    jobs = [(split, record) for split, _, record in manifest.records()]
    virtual = manifest.header.virtual
    work = partial(_measure_record, base=manifest_path.parent, source=source, cutoffs=cutoffs, virtual=virtual)
    outcomes = run_jobs(work, jobs, workers, "Measuring")
    excluded: list[tuple[str, str, str, str, str]] = []
    rows: dict[Path, int] = {}
    for index, (name, model) in enumerate(((HU_FILE, cutoffs.name), (LINE_FILE, LINE_MODEL))):
        table = []
        for (split, record), outcome in zip(jobs, outcomes, strict=True):
            row = outcome[index]
            if isinstance(row, str):
                excluded.append((split, record.subject_id, image_name(record), model, row))
            else:
                table.append(row)
        write_predictions(output_dir / name, table)
        rows[output_dir / name] = len(table)
    write_table(output_dir / EXCLUDED_FILE, ("cohort", "subject_id", "image", "model", "reason"), excluded)
    return CohortMeasured(rows, tuple(excluded))


def _check_measurable(manifest: Manifest, name: str, source: LabelSource) -> None:
    problems = []
    if missing := sum(getattr(record, source) is None for _, _, record in manifest.records()):
        advice = "; 'osteo-monai manifest segment' makes it" if source == "segmentation" else ""
        problems.append(f"{missing} records have no {source}, expected one in each{advice}")
    standard = DensityThresholds().standard
    if other := sum(record.bmd_standard not in (None, standard) for _, _, record in manifest.records()):
        problems.append(f"{other} records have densities that are not in mg/cm3 {standard}; convert them")
    if problems:
        raise UnusableInputError(f"'{name}' cannot be measured: " + "; ".join(problems))


def _measure_record(
    job: tuple[str, Record], base: Path, source: LabelSource, cutoffs: HUCutoffs, virtual: bool
) -> tuple[Row | str, Row | str]:
    """Return the rows by HU and by line; a reason in place of a row that cannot be computed."""
    split, record = job
    try:
        check_bodies(record, source)
        labels = read_labels(only_file(getattr(record, source), base, "label maps"))
        volume = read_ct(only_file(record.images, base, "images"), declared_ct=True)
        check_grid(labels, volume.hu.shape, volume.affine, source)
        regions = {level: _region_hu(volume, labels[0], level) for level in SCREENED_LEVELS}
    except Exception as error:  # noqa: BLE001  # any error excludes one record, with a reason, and not the others
        reason = exclusion_reason(record, error)
        return reason, reason
    measured = {level: hu for level, hu in regions.items() if not isinstance(hu, str)}
    kvp = volume.acquisition.kvp if volume.acquisition.kvp is not None else record.kvp
    facts: Row = {**record_columns(record, split, virtual), "image": image_name(record), "kvp": kvp}
    facts |= {"bone_status": record.bone_status, "bmd_mg_cm3": record.bmd_mg_cm3}
    facts |= {f"hu_{level.lower()}": round(hu[0], 2) for level, hu in measured.items()}
    reasons = [hu for hu in regions.values() if isinstance(hu, str)]
    by_line = " ".join(reasons) or _by_line(facts, kvp, record.kvp, {level: hu[1] for level, hu in measured.items()})
    return _by_hu(facts, regions[VertebraLevel.L1], cutoffs), by_line


def _by_hu(facts: Row, l1: tuple[float, float] | str, cutoffs: HUCutoffs) -> Row | str:
    if isinstance(l1, str):
        return l1
    scores = {name: round(score, 2) for name, score in cutoffs.scores(l1[0]).items()}
    return facts | scores | {"model": cutoffs.name, "predicted": cutoffs.status(l1[0])}


def _by_line(facts: Row, kvp: float | None, in_manifest: float | None, hu: Mapping[VertebraLevel, float]) -> Row | str:
    if kvp is None:
        return "Tube voltage is missing from both manifest and file."
    if in_manifest is not None and abs(in_manifest - kvp) > KVP_TOLERANCE:
        return f"Tube voltage of manifest and header must agree, got {in_manifest:g} kV and {kvp:g} kV."
    try:
        used = calibrate("physics", kvp=kvp, standard=MineralStandard.K2HPO4)
    except ValueError as error:
        return f"The density cannot be calibrated: {error}."
    by_level = {level: density(of_level, used) for level, of_level in hu.items()}
    value = mean_density(list(by_level.values()))
    levels = {f"predicted_bmd_{level}_mg_cm3": round(of_level.mg_cm3, 2) for level, of_level in by_level.items()}
    return {
        **facts,
        **levels,
        "model": LINE_MODEL,
        "calibration": used.method,
        "standard": used.standard.value,
        "predicted_bmd_mg_cm3": round(value.mg_cm3, 2),
        "predicted_bmd_lower": round(value.interval_low, 2),
        "predicted_bmd_upper": round(value.interval_high, 2),
    }


def _region_hu(volume: CTVolume, labels: NDArray[np.uint8], level: VertebraLevel) -> tuple[float, float] | str:
    """Return mean and representative (median) HU of the trabecular region of a level, or why there is none."""
    region = trabecular_region_of(volume, labels, level)
    if isinstance(region, str):
        return region
    part, mask = region
    statistics = hu_statistics(volume.hu[part], mask)
    return statistics.mean, statistics.representative
