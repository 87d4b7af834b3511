"""Measurement of every record of a manifest: HU of L1 with published cut-offs, and density from HU by a line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from osteo_monai.batch import EVERYTHING, THIS_PROCESS, Selection, Workers
from osteo_monai.cohort.records import (
    EXCLUDED_FILE,
    ExcludedRecordError,
    Ready,
    Recorded,
    check_bodies,
    check_grid,
    exclusion_reason,
    image_name,
    only_file,
    read_labels,
    record_files,
    record_identity,
    record_keys,
    run_jobs,
    trabecular_region_of,
)
from osteo_monai.cohort.scans import site_facts, surrounded
from osteo_monai.data import Manifest, Record, read_manifest, record_columns, write_predictions
from osteo_monai.data.csv_tables import write_table
from osteo_monai.domain import (
    KVP_TOLERANCE,
    SCREENED_LEVELS,
    DensityThresholds,
    Finding,
    MineralStandard,
    VertebraLevel,
)
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.imaging import CTVolume, read_ct
from osteo_monai.measurement import CalibrationUsed, calibrate, density, hu_statistics, mean_density
from osteo_monai.measurement.calibration import SiteFile, read_site_file, site_findings, site_line
from osteo_monai.screening.ct.opinions import PICKHARDT_2013, HUCutoffs
from osteo_monai.screening.options import PhysicsCalibration, SiteCalibration

HU_FILE, LINE_FILE = "hu_l1_pickhardt.csv", "hu_line_bmd.csv"
MEASURE_FILES: tuple[str, ...] = (HU_FILE, LINE_FILE, EXCLUDED_FILE)

LINE_MODEL = "HU line"
SITE_MODELS = {"line": "HU line of the site", "precalibrated": "Precalibrated tissues of the site"}
"""Names in the predictions table by method of a site calibration."""

PHYSICS = PhysicsCalibration()

LabelSource: TypeAlias = Literal["segmentation", "label"]

Row: TypeAlias = dict[str, str | float | int | None]

_Outcome: TypeAlias = tuple[Row | str, Row | str, tuple[Finding, ...]]
"""Rows by HU and by line, or why there is none; warnings."""


@dataclass(frozen=True)
class CohortMeasured:
    """Results of :func:`measure_cohort`.

    Attributes:
        rows: number of rows of each table.
        excluded: (split, subject, image, model, reason) of each record that is missing from a table.
        warnings: on the use of a site calibration, one sentence with the number of records each.
    """

    rows: dict[Path, int]
    excluded: tuple[tuple[str, str, str, str, str], ...]
    warnings: tuple[str, ...] = ()


def measure_cohort(
    manifest_path: Path,
    output_dir: Path,
    *,
    source: LabelSource = "segmentation",
    cutoffs: HUCutoffs = PICKHARDT_2013,
    calibration: PhysicsCalibration | SiteCalibration = PHYSICS,
    workers: Workers = THIS_PROCESS,
    selection: Selection = EVERYTHING,
) -> CohortMeasured:
    """Measure every record as a radiologist would, and write two predictions tables.

    ``hu_l1_pickhardt.csv`` ranks and classifies subjects by the mean trabecular HU of L1 and published cut-offs (see
    ``PICKHARDT_2013``). ``hu_line_bmd.csv`` converts the median HU of L1 and L2 to mg/cm3 K2HPO4 by physics at the tube
    voltage (``measurement.calibration``) or by a site calibration, the mean of both levels with its 90 % interval. The
    tube voltage is the header's, else the record's. ``excluded.csv`` has each record that is missing from a table, with
    the reason. The ledger stores the outcome of each record when it is known: with ``selection.resume`` those of the
    same version, options and files are kept, also those of parts, whose tables are in folders of their own.

    Args:
        manifest_path: the cohort.
        output_dir: folder for the tables; files of the same name are replaced.
        source: label map of the bodies: predicted, or ground truth.
        cutoffs: of the HU of L1.
        calibration: of the density; a record that a site calibration does not hold for is excluded from that table.
        workers: number, limits and place.
        selection: part of the records, and outcomes of earlier runs that are kept.

    Raises:
        ManifestError: the manifest has problems.
        UnusableInputError: records lack the label map, or a density is not in mg/cm3 K2HPO4; all problems are listed.
        ConfigError: the site calibration is wrong or not in mg/cm3 K2HPO4.
    """
    manifest_path, output_dir = Path(manifest_path), Path(output_dir)
    manifest = read_manifest(manifest_path)
    _check_measurable(manifest, manifest_path.name, source)
    jobs = [(split, record) for split, _, record in manifest.records()]
    virtual = manifest.header.virtual
    site = None if isinstance(calibration, PhysicsCalibration) else _site_file(calibration.path)
    model = LINE_MODEL if site is None else SITE_MODELS[site.method]
    measuring = _Measuring(manifest_path.parent, source, cutoffs, site, virtual)
    work = Ready(partial(_measure_record, measuring=measuring))
    recorded = Recorded[_Outcome](
        output_dir,
        "measure",
        record_keys(record for _, record in jobs),
        _excluded,
        [record_identity(record, manifest_path.parent, (split, *measuring.facts)) for split, record in jobs],
        _Outcome,
        selection,
    )
    base = manifest_path.parent
    outcomes = run_jobs(
        work, jobs, workers, "Measuring", _not_measured, recorded, lambda job: record_files(job[1], base)
    )
    output_dir = selection.folder(output_dir)
    excluded: list[tuple[str, str, str, str, str]] = []
    rows: dict[Path, int] = {}
    for name, of_table, column in ((HU_FILE, cutoffs.name, 0), (LINE_FILE, model, 1)):
        table: list[Row] = []
        for place, outcome in outcomes.items():
            (split, record), row = jobs[place], outcome[column]
            if isinstance(row, str):
                excluded.append((split, record.subject_id, image_name(record), of_table, row))
            else:
                table.append(row)  # type: ignore[arg-type]
        write_predictions(output_dir / name, table)
        rows[output_dir / name] = len(table)
    write_table(output_dir / EXCLUDED_FILE, ("cohort", "subject_id", "image", "model", "reason"), excluded)
    return CohortMeasured(rows, tuple(excluded), _warnings([outcome[2] for outcome in outcomes.values()]))


def _warnings(of_records: Sequence[Sequence[Finding]]) -> tuple[str, ...]:
    """Return each kind of finding once, with the number of records that it is about."""
    messages = {finding.code: finding.message for findings in of_records for finding in findings}
    counts = Counter(finding.code for findings in of_records for finding in findings)
    return tuple(f"{counts[code]} records: {message}" for code, message in messages.items())


@dataclass(frozen=True)
class _Measuring:
    """What all records are measured with."""

    base: Path
    source: LabelSource
    cutoffs: HUCutoffs
    site: SiteFile | None
    virtual: bool

    @property
    def facts(self) -> tuple[str, ...]:
        """What an outcome depends on, beside the record and its files."""
        site = "" if self.site is None else self.site.model_dump_json()
        return self.source, repr(self.cutoffs), site, str(self.virtual)


def _site_file(path: Path) -> SiteFile:
    try:
        file = read_site_file(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    standard = DensityThresholds().standard
    if file.standard != standard:
        raise ConfigError(f"the site calibration must be in mg/cm3 {standard}, got mg/cm3 {file.standard}")
    return file


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


def _excluded(outcome: _Outcome) -> str:
    """Return why a record is in no table; empty if it is in one."""
    by_hu, by_line, _ = outcome
    return by_hu if isinstance(by_hu, str) and isinstance(by_line, str) else ""


def _not_measured(reason: str) -> _Outcome:
    return reason, reason, ()


def _measure_record(job: tuple[str, Record], measuring: _Measuring) -> _Outcome:
    """Return the rows by HU and by line, and warnings; a reason in place of a row that cannot be computed."""
    split, record = job
    base, source = measuring.base, measuring.source
    try:
        check_bodies(record, source)
        labels = read_labels(only_file(getattr(record, source), base, "label maps"))
        volume = read_ct(only_file(record.images, base, "images"), declared_ct=True)
        check_grid(labels, volume.hu.shape, volume.affine, source)
        regions = {level: _region_hu(volume, labels[0], level) for level in SCREENED_LEVELS}
    except Exception as error:  # noqa: BLE001  # any error excludes one record, with a reason, and not the others
        return _not_measured(exclusion_reason(record, error))
    measured = {level: hu for level, hu in regions.items() if not isinstance(hu, str)}
    kvp = volume.acquisition.kvp if volume.acquisition.kvp is not None else record.kvp
    facts: Row = {**record_columns(record, split, measuring.virtual), "image": image_name(record), "kvp": kvp}
    facts |= {"bone_status": record.bone_status, "bmd_mg_cm3": record.bmd_mg_cm3}
    facts |= {f"hu_{level.lower()}": round(hu[0], 2) for level, hu in measured.items()}
    reasons = [hu for hu in regions.values() if isinstance(hu, str)]
    by_line: Row | str = " ".join(reasons)
    findings: tuple[Finding, ...] = ()
    if not reasons:
        try:
            used, findings = _line(record, volume, labels[0], kvp, measuring.site)
            by_line = facts | _by_line(used, {level: hu[1] for level, hu in measured.items()})
            by_line["model"] = LINE_MODEL if measuring.site is None else SITE_MODELS[measuring.site.method]
        except ExcludedRecordError as error:
            by_line = str(error)
    return _by_hu(facts, regions[VertebraLevel.L1], measuring.cutoffs), by_line, findings


def _by_hu(facts: Row, l1: tuple[float, float] | str, cutoffs: HUCutoffs) -> Row | str:
    if isinstance(l1, str):
        return l1
    scores = {name: round(score, 2) for name, score in cutoffs.scores(l1[0]).items()}
    return facts | scores | {"model": cutoffs.name, "predicted": cutoffs.status(l1[0])}


def _line(
    record: Record, volume: CTVolume, labels: NDArray[np.uint8], kvp: float | None, site: SiteFile | None
) -> tuple[CalibrationUsed, tuple[Finding, ...]]:
    """Return the line of a record, and warnings on its use.

    Raises:
        ExcludedRecordError: there is none.
    """
    if kvp is None:
        raise ExcludedRecordError("Tube voltage is missing from both manifest and file.")
    if record.kvp is not None and abs(record.kvp - kvp) > KVP_TOLERANCE:
        raise ExcludedRecordError(
            f"Tube voltage of manifest and header must agree, got {record.kvp:g} kV and {kvp:g} kV."
        )
    try:
        if site is None:
            return calibrate("physics", kvp=kvp, standard=MineralStandard.K2HPO4), ()
        around = surrounded(volume, labels, SCREENED_LEVELS)
        facts = site_facts(record, volume, around, kvp)
        return site_line(site, facts, around.samples), tuple(site_findings(site, facts, date.today()))
    except ValueError as error:
        raise ExcludedRecordError(f"The density cannot be calibrated: {error}.") from None


def _by_line(used: CalibrationUsed, hu: Mapping[VertebraLevel, float]) -> Row:
    by_level = {level: density(of_level, used) for level, of_level in hu.items()}
    value = mean_density(list(by_level.values()))
    levels = {f"predicted_bmd_{level}_mg_cm3": round(of_level.mg_cm3, 2) for level, of_level in by_level.items()}
    return {
        **levels,
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
