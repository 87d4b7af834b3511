"""Measurement of the scans of a manifest for a calibration: HU of L1 and L2, of the tissues beside them, and facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from osteo_monai.batch import THIS_PROCESS, Workers
from osteo_monai.cohort.records import (
    Ready,
    check_grid,
    exclusion_reason,
    image_name,
    only_file,
    read_labels,
    run_jobs,
    trabecular_region_of,
)
from osteo_monai.data import Manifest, Record
from osteo_monai.data.csv_tables import optional_number, read_table, refuse, write_table
from osteo_monai.domain import KVP_TOLERANCE, SCREENED_LEVELS, ContrastPhase, MineralStandard, VertebraLevel
from osteo_monai.imaging import CTVolume, read_ct
from osteo_monai.imaging.acquisition import date_of
from osteo_monai.measurement import hu_statistics
from osteo_monai.measurement.calibration import Scanner, SiteScan, TissueSample
from osteo_monai.measurement.region import REGION_RULE
from osteo_monai.measurement.tissues import ENHANCED_BLOOD_HU, Surroundings, surroundings

__all__ = ["TISSUE_COLUMNS", "Scan", "Surrounded", "measure_scans", "read_scans", "surrounded", "write_scans"]

LabelSource: TypeAlias = Literal["segmentation", "label"]

TISSUE_COLUMNS: Mapping[str, str] = {
    name: f"{name}_hu" for name in ("air", "adipose", "muscle", "blood", "cortical_bone")
}
"""Column of each tissue in the table of scans."""
MIN_AORTA_CERTAINTY = 0.5
"""Least certainty of an aorta that a number is computed from (measurement.tissues)."""


@dataclass(frozen=True)
class Scan:
    """One scan of a person: measurements, and facts that decide what it may be compared with.

    Attributes:
        hu: mean of the representative HU of L1 and L2.
        tissues: HU by name of the tissue.
        aorta_hu: HU of the aorta, enhanced or not, if it was found with certainty.
        phase: of the manifest, else native or ``unknown`` (enhanced) by the aorta or the header; ``None`` if none of
            them shows it.
        bmd_mg_cm3, standard: known density, if any.
        region: rule of the trabecular region.
    """

    subject: str
    image: str
    hu: float
    scanner: Scanner
    kvp: float | None
    phase: ContrastPhase | None
    tissues: Mapping[str, float] = field(default_factory=dict)
    aorta_hu: float | None = None
    acquired: date | None = None
    bmd_mg_cm3: float | None = None
    standard: MineralStandard | None = None
    region: str = REGION_RULE

    @property
    def enhanced(self) -> bool:
        """Whether the blood carries contrast agent, by the manifest, else by the aorta."""
        if self.phase is not None:
            return self.phase is not ContrastPhase.NATIVE
        return self.aorta_hu is not None and self.aorta_hu > ENHANCED_BLOOD_HU


@dataclass(frozen=True)
class Surrounded:
    """Tissues beside the first measured level."""

    samples: Mapping[str, TissueSample]
    aorta_hu: float | None
    """Of an aorta that was found with certainty."""


def surrounded(volume: CTVolume, labels: NDArray[np.uint8], levels: Sequence[VertebraLevel]) -> Surrounded:
    """Return the tissues beside the first of the levels, and the aorta beside the one where it is most certain.

    Raises:
        ValueError: a body is not in the label map, or too small.
    """
    around: list[Surroundings] = []
    for level in levels:
        slices = np.flatnonzero((labels == level.label).any(axis=(0, 1)))
        if slices.size == 0:
            raise ValueError(f"{level} must be in the label map")
        part = slice(int(slices[0]), int(slices[-1]) + 1)
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, 2] * part.start
        valid = None if volume.valid is None else volume.valid[:, :, part]
        around.append(surroundings(volume.hu[:, :, part], affine, labels[:, :, part] == level.label, valid))
    aortas = [a.aorta for a in around if a.aorta is not None and a.aorta.certainty >= MIN_AORTA_CERTAINTY]
    aorta = max(aortas, key=lambda a: a.certainty, default=None)
    return Surrounded(around[0].calibration_samples(), None if aorta is None else aorta.hu)


def measure_scans(
    manifest: Manifest, folder: Path, *, source: LabelSource = "segmentation", workers: Workers = THIS_PROCESS
) -> tuple[list[Scan], list[tuple[str, str]]]:
    """Measure every record of a manifest that has a label map.

    Args:
        manifest: the cohort.
        folder: of the manifest.
        source: label map of the bodies.
        workers: number, limits and place.

    Returns:
        The scans, and (image, reason) of each record that could not be measured.
    """
    records = [record for _, _, record in manifest.records()]
    work: Ready[Record, Scan | str] = Ready(partial(_scan_of, base=folder, source=source))
    outcomes = run_jobs(work, records, workers, "Measuring", lambda reason: reason)
    scans = [outcome for outcome in outcomes.values() if isinstance(outcome, Scan)]
    reasons = [(image_name(records[place]), o) for place, o in outcomes.items() if isinstance(o, str)]
    return scans, reasons


def _scan_of(record: Record, base: Path, source: LabelSource) -> Scan | str:
    """Return the scan of a record, or why it cannot be measured."""
    try:
        labels = read_labels(only_file(getattr(record, source), base, "label maps"))
        volume = read_ct(only_file(record.images, base, "images"), declared_ct=True)
        check_grid(labels, volume.hu.shape, volume.affine, source)
        values = []
        for level in SCREENED_LEVELS:
            region = trabecular_region_of(volume, labels[0], level)
            if isinstance(region, str):
                return region
            values.append(hu_statistics(volume.hu[region[0]], region[1]).representative)
        around = surrounded(volume, labels[0], SCREENED_LEVELS)
    except Exception as error:  # noqa: BLE001  # any error excludes one record, with a reason, and not the others
        return exclusion_reason(record, error)
    header = volume.acquisition
    if record.kvp is not None and header.kvp is not None and abs(record.kvp - header.kvp) > KVP_TOLERANCE:
        return f"Tube voltage of manifest and header must agree, got {record.kvp:g} kV and {header.kvp:g} kV."
    return Scan(
        subject=record.subject_id,
        image=image_name(record),
        hu=float(np.mean(values)),
        scanner=scanner_of(record, volume),
        kvp=header.kvp if header.kvp is not None else record.kvp,
        phase=_phase(record.contrast_phase, around.aorta_hu, header.contrast),
        tissues={name: sample.hu for name, sample in around.samples.items()},
        aorta_hu=around.aorta_hu,
        acquired=header.acquired or record.acquired,
        bmd_mg_cm3=record.bmd_mg_cm3,
        standard=record.bmd_standard,
    )


def scanner_of(record: Record, volume: CTVolume) -> Scanner:
    """Return the scanner of the header, else of the record."""
    header = volume.acquisition
    return Scanner(
        manufacturer=header.manufacturer or record.manufacturer,
        model=header.model or record.scanner,
        station=header.station,
    )


def site_facts(record: Record, volume: CTVolume, around: Surrounded, kvp: float | None) -> SiteScan:
    """Return the facts that decide whether a site calibration holds for a record."""
    phase = _phase(record.contrast_phase, around.aorta_hu, volume.acquisition.contrast)
    enhanced = None if phase is None else phase is not ContrastPhase.NATIVE
    acquired = volume.acquisition.acquired or record.acquired
    return SiteScan(scanner_of(record, volume), kvp, enhanced, acquired, REGION_RULE)


def _phase(stated: ContrastPhase | None, aorta_hu: float | None, in_header: str | None) -> ContrastPhase | None:
    """Return the phase of the manifest, else native or unknown (enhanced) by the aorta, else by the header."""
    if stated is not None and stated is not ContrastPhase.UNKNOWN:
        return stated
    if aorta_hu is not None:
        return ContrastPhase.UNKNOWN if aorta_hu > ENHANCED_BLOOD_HU else ContrastPhase.NATIVE
    return ContrastPhase.UNKNOWN if in_header else None


# --- table --------------------------------------------------------------------------------------------------------

_NUMBERS = ("hu", "kvp", *TISSUE_COLUMNS.values(), "aorta_hu", "bmd_mg_cm3")
_COLUMNS = (
    "subject_id",
    "image",
    "manufacturer",
    "model",
    "station",
    "acquired",
    "contrast_phase",
    "bmd_standard",
    "region",
    *_NUMBERS,
)
_REQUIRED = ("subject_id", "hu")


def write_scans(path: Path, scans: Sequence[Scan]) -> None:
    """Write the table of scans, which a calibration can be fitted to again without the images."""
    rows = []
    for scan in scans:
        tissues = [scan.tissues.get(name) for name in TISSUE_COLUMNS]
        numbers = (scan.hu, scan.kvp, *tissues, scan.aorta_hu, scan.bmd_mg_cm3)
        rows.append(
            (
                scan.subject,
                scan.image,
                scan.scanner.manufacturer,
                scan.scanner.model,
                scan.scanner.station,
                scan.acquired,
                scan.phase,
                scan.standard,
                scan.region,
                *(None if n is None else round(n, 3) for n in numbers),
            )
        )
    write_table(path, _COLUMNS, rows)


def read_scans(path: Path) -> list[Scan]:
    """Read a table of scans with at least the columns ``subject_id`` and ``hu``.

    Raises:
        UnusableInputError: it cannot be read; the message lists every wrong cell.
    """
    table = read_table(path, _REQUIRED)
    problems, scans = list(table.problems), []
    for line, cells in table.rows:
        try:
            scans.append(_scan_of_row(cells, table.separator))
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    refuse(path, problems)
    return scans


def _scan_of_row(cells: Mapping[str, str], separator: str) -> Scan:
    numbers = {name: optional_number(name, cells.get(name, ""), separator) for name in _NUMBERS}
    hu, subject = numbers["hu"], cells["subject_id"]
    if hu is None or not subject:
        raise ValueError("subject_id and hu must be given, got an empty cell")
    day = cells.get("acquired", "")
    if day and date_of(day) is None:
        raise ValueError(f"acquired must be a day such as 2026-03-01, got '{day}'")
    standard, phase = cells.get("bmd_standard", ""), cells.get("contrast_phase", "")
    if standard and standard not in set(MineralStandard):
        raise ValueError(f"bmd_standard must be {' or '.join(MineralStandard)}, got '{standard}'")
    if phase and phase not in set(ContrastPhase):
        raise ValueError(f"contrast_phase must be one of {', '.join(ContrastPhase)}, got '{phase}'")
    return Scan(
        subject=subject,
        image=cells.get("image", ""),
        hu=hu,
        scanner=Scanner(**{name: cells.get(name) or None for name in ("manufacturer", "model", "station")}),
        kvp=numbers["kvp"],
        phase=ContrastPhase(phase) if phase else _phase(None, numbers["aorta_hu"], None),
        tissues={name: value for name, column in TISSUE_COLUMNS.items() if (value := numbers[column]) is not None},
        aorta_hu=numbers["aorta_hu"],
        acquired=date_of(day) if day else None,
        bmd_mg_cm3=numbers["bmd_mg_cm3"],
        standard=MineralStandard(standard) if standard else None,
        region=cells.get("region") or REGION_RULE,
    )
