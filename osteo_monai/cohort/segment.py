"""Preparing cohorts: the bundle's outline of L1 and L2 for every record of a manifest, and the radiologist's baseline.

A cohort is not a waiting list. Its records were chosen by somebody, often cut to the slices around L1 and L2, so the
gates that ask for a whole trunk are not asked; what makes a number wrong (values that are not HU, a body that is not
there or cut) still excludes a record, and an excluded record is a row with a reason, never a missing one.
"""

import csv
import json
import logging
import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from statistics import mean, stdev
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage

from osteo_monai.data import Header, Manifest, Record, read_manifest, write_manifest
from osteo_monai.domain import (
    KVP_TOLERANCE,
    SCREENED_LEVELS,
    DensityThresholds,
    Finding,
    MineralStandard,
    Severity,
    VertebraLevel,
)
from osteo_monai.errors import ScanRefusedError, UnusableInputError
from osteo_monai.imaging import CTVolume, read_ct, read_label_map, write_label_map
from osteo_monai.imaging.nifti import NIFTI_SUFFIXES
from osteo_monai.measurement import calibrate, density, hu_statistics, mean_density, trabecular_region
from osteo_monai.screening.ct.opinions import PICKHARDT_2013, HUCutoffs
from osteo_monai.screening.ct.pipeline import (
    ScreeningModels,
    ScreeningOptions,
    load_models,
    outline_bodies,
    screen_volume,
)

logger = logging.getLogger(__name__)
T = TypeVar("T")

PROVENANCE_FILE = "segmentations.json"
EXCLUDED_FILE = "excluded.csv"
DICE_FILE = "segmentation_dice.csv"
DICE_BY_RECORD_FILE = "segmentation_dice_by_record.csv"
MEASURE_FILES: tuple[str, ...] = ("hu_l1_pickhardt.csv", "hu_line_bmd.csv", EXCLUDED_FILE)

GRID_TOLERANCE = 0.1
"""How far, in voxels, the corners of a label map may lie from those of its image: the rounding of DICOM headers."""
HALF_DISC_MM = 4.0
"""From an end plate to the middle of its disc, where no neighbour is labelled; project's own choice. Discs of the
thoracolumbar junction are 6 to 10 mm high."""
LARGEST_DISC_MM = 20.0
"""A gap beyond this is no disc: a level between is not labelled. Project's own choice, with room for shrunk labels."""
CORE_RADIUS_MM = 10.0
"""About the axis: the end plates are taken from there, away from their rims."""

LabelSource = Literal["segmentation", "label"]


@dataclass(frozen=True)
class CohortPrepared:
    """What :func:`segment_cohort` did.

    Attributes:
        manifest: the new manifest.
        folder: where the label maps, ``excluded.csv`` and the Dice tables lie.
        segmented: records in the new manifest; ``reused`` of them had their outline from an earlier run.
        excluded: (split, subject, image, reason) of each record that is not in it.
        dice: (mean, SD, records) of each level against the ground truth, where there is one.
    """

    manifest: Path
    folder: Path
    segmented: int
    reused: int
    excluded: tuple[tuple[str, str, str, str], ...]
    dice: dict[VertebraLevel, tuple[float, float, int]]


@dataclass(frozen=True)
class CohortMeasured:
    """What :func:`measure_cohort` did: the files, how many records each holds, and who is in none or in one only."""

    rows: dict[Path, int]
    excluded: tuple[tuple[str, str, str, str, str], ...]


class _ExcludedError(Exception):
    """A record that cannot be used; the message says why."""


def _exclude(reason: str) -> NoReturn:
    raise _ExcludedError(reason)


# --- segment ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MarkedVertebra:
    """Where a vertebra is by a label map, as ``osteo_monai.screening.ct.bodies.Located`` wants it; RAS+ mm."""

    level: VertebraLevel
    centre_mm: tuple[float, float, float]
    superior_mm: tuple[float, float, float]
    inferior_mm: tuple[float, float, float]


def mark_levels(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], levels: Sequence[VertebraLevel]
) -> list[MarkedVertebra]:
    """Return where levels lie in a label map: their centres and the planes through the discs above and below.

    This is what a reader does who picks L1 and L2 by hand: nothing of the mask but its place is handed on. The axis of
    a body is the mean normal of its two end plates; a plane lies half-way to the neighbour's end plate, or 4 mm beyond
    the own one where no neighbour is labelled there.

    Args:
        labels: (X, Y, Z) with ``VertebraLevel.label``, RAS+.
        affine: (4, 4) voxel index to RAS+ mm.
        levels: those wanted.

    Raises:
        ValueError: a wanted level is not labelled, or its label reaches the first or last slice.
    """
    boxes = ndimage.find_objects(labels)
    found: dict[VertebraLevel, tuple[slice, ...]] = {}
    for level in VertebraLevel:
        box = boxes[level.label - 1] if level.label <= len(boxes) else None
        if box is not None and level is not VertebraLevel.SACRUM:
            found[level] = box
    problems = []
    for level in levels:
        if level not in found:
            problems.append(f"{level} is not labelled")
        elif found[level][2].start == 0 or found[level][2].stop == labels.shape[2]:
            problems.append(f"{level} is cut by the first or last slice of the label map")
    if problems:
        raise ValueError("; ".join(problems))
    order = list(found)
    marked = []
    for level in levels:
        own = labels[found[level]] == level.label
        points = _world(np.argwhere(own), found[level], affine)
        centre = points.mean(axis=0)
        axis = _axis(own, found[level], affine, centre)
        place = order.index(level)
        ends = []
        for side, other in ((1.0, place - 1), (-1.0, place + 1)):
            near = _reach(points, centre, side * axis)[1]
            beyond = near + 2 * HALF_DISC_MM
            if 0 <= other < len(order):
                name = order[other]
                there = _world(np.argwhere(labels[found[name]] == name.label), found[name], affine)
                low = _reach(there, centre, side * axis)[0]
                # a neighbour that is a level farther on, or leans out of the line, says nothing of this disc
                beyond = low if near < low < near + LARGEST_DISC_MM else beyond
            ends.append(centre + side * (near + beyond) / 2 * axis)
        middle, superior, inferior = ((float(p[0]), float(p[1]), float(p[2])) for p in (centre, *ends))
        marked.append(MarkedVertebra(level, middle, superior, inferior))
    return marked


def _world(index: NDArray[np.intp], box: tuple[slice, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS+ mm of voxels (n, 3) counted from the corner of ``box``."""
    return np.asarray((index + [side.start for side in box]) @ affine[:3, :3].T + affine[:3, 3])


def _axis(
    body: NDArray[np.bool_], box: tuple[slice, ...], affine: NDArray[np.float64], centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the unit vector up a body: the mean normal of the planes fitted to its upper and lower surface."""
    columns = np.argwhere(body.any(axis=2))
    highest = body.shape[2] - 1 - body[:, :, ::-1].argmax(axis=2)
    normals = []
    for surface in (highest, body.argmax(axis=2)):
        points = _world(np.column_stack([columns, surface[tuple(columns.T)]]), box, affine) - centre
        points = points[np.hypot(points[:, 0], points[:, 1]) < CORE_RADIUS_MM]
        if len(points) < 3:
            return np.array([0.0, 0.0, 1.0])
        design = np.column_stack([points[:, :2], np.ones(len(points))])
        slope = np.linalg.lstsq(design, points[:, 2], rcond=None)[0]
        normal = np.array([-slope[0], -slope[1], 1.0])
        normals.append(normal / np.linalg.norm(normal))
    axis = normals[0] + normals[1]
    return np.asarray(axis / np.linalg.norm(axis))


def _reach(points: NDArray[np.float64], centre: NDArray[np.float64], axis: NDArray[np.float64]) -> tuple[float, float]:
    """Return the first and last place along ``axis`` (mm from ``centre``) of points near it; NaN for none."""
    offset = points - centre
    along = offset @ axis
    along = along[np.linalg.norm(offset - along[:, None] * axis, axis=1) < CORE_RADIUS_MM]
    return (float(along.min()), float(along.max())) if len(along) else (math.nan, math.nan)


def segment_cohort(
    manifest_path: Path,
    output_path: Path,
    *,
    folder: Path | None = None,
    device: str = "auto",
    levels: Sequence[VertebraLevel] = SCREENED_LEVELS,
    overwrite: bool = False,
    workers: int = 1,
    models: ScreeningModels | None = None,
) -> CohortPrepared:
    """Outline the wanted levels of every record with the segmentation bundle, and write a manifest that names the maps.

    Where a record has a ground truth ``label``, the levels' planes are taken from it, as a reader picks the slices, and
    the outline is the bundle's. Where it has none the whole chain of screening runs, with its refusals. A run that was
    cut short goes on where it stopped.

    Args:
        manifest_path: the cohort.
        output_path: the new manifest: the records with ``segmentation``, paths relative to it.
        folder: for the label maps (uint8 VerSe numbers on the image's grid, ``.nii.gz``), ``excluded.csv``,
            ``segmentation_dice.csv`` (mean and SD by split and level) and ``segmentation_dice_by_record.csv``;
            ``segmentations`` beside the new manifest where ``None``.
        device: see :func:`osteo_monai.screening.ct.pipeline.load_models`; used where ``models`` is ``None``.
        levels: what to outline; a record that lacks one of them is excluded.
        overwrite: replace a manifest and outlines that are there, made by whatever weights.
        workers: processes; each loads the bundles.
        models: the bundles, loaded already; for one process.

    Raises:
        ManifestError: the manifest has problems.
        ValueError: an argument cannot be used, the output is there already, the folder holds outlines by other weights,
            or not one record could be used.
        FileNotFoundError: a bundle or its weights are missing.
    """
    manifest_path, output_path = Path(manifest_path), Path(output_path)
    if not levels or len(set(levels)) != len(levels):
        raise ValueError(f"levels must name at least one level and none twice, got {[str(v) for v in levels]}")
    if output_path.resolve() == manifest_path.resolve():
        raise ValueError("the new manifest must be another file than the old one")
    if output_path.exists() and not overwrite:
        raise ValueError(f"there is a file '{output_path.name}' already: choose another name or allow overwriting")
    manifest = read_manifest(manifest_path)
    folder = output_path.parent / "segmentations" if folder is None else Path(folder)
    work = partial(_segment_record, base=manifest_path.parent, levels=tuple(levels))
    # loaded before the first record, so that missing weights are one error and not one for each record
    used = models if models is not None else _models(device)
    targets = _target_paths(manifest, folder)
    if overwrite:
        for target in targets:
            target.unlink(missing_ok=True)
    _claim(folder, used, levels, overwrite)
    jobs = [_Job(split, record, target) for (split, _, record), target in zip(manifest.records(), targets, strict=True)]
    if models is not None or workers == 1:
        outcomes = list(track(map(partial(work, models=used), jobs), "Segmenting", len(jobs)))
    else:
        outcomes = _in_processes(partial(work, device=device), jobs, workers, "Segmenting")

    splits: dict[str, list[Record]] = {}
    excluded: list[tuple[str, str, str, str]] = []
    scores: list[tuple[_Job, VertebraLevel, float]] = []
    for job, outcome in zip(jobs, outcomes, strict=True):
        if outcome.reason is not None:
            excluded.append((job.split, job.record.subject_id, _image_name(job.record), outcome.reason))
            continue
        splits.setdefault(job.split, []).append(
            _moved(job.record, manifest_path.parent, output_path.parent, segmentation=job.target)
        )
        scores += [(job, level, value) for level, value in outcome.dice.items()]
    _write_csv(folder / EXCLUDED_FILE, ("cohort", "subject_id", "image", "reason"), excluded)
    _write_dice(folder, scores)
    if not splits:
        raise ValueError(f"none of the {len(jobs)} records could be segmented; {EXCLUDED_FILE} says why, such as: "
                         f"{excluded[0][3]}")  # fmt: skip
    header = Header(**dict(manifest.header) | {"source": _source(manifest.header.source, used)})
    output_path.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(Manifest(header=header, splits=splits), output_path)
    return CohortPrepared(
        manifest=output_path,
        folder=folder,
        segmented=sum(len(records) for records in splits.values()),
        reused=sum(outcome.reused for outcome in outcomes),
        excluded=tuple(excluded),
        dice={
            level: _mean_sd([value for _, own, value in scores if own == level])
            for level in levels
            if any(own == level for _, own, _ in scores)
        },
    )


@dataclass(frozen=True)
class _Job:
    split: str
    record: Record
    target: Path


@dataclass(frozen=True)
class _Outcome:
    """What came of one record: a reason where it is excluded, else how well the outline fits the truth."""

    reason: str | None = None
    dice: dict[VertebraLevel, float] = field(default_factory=dict)
    reused: bool = False


@lru_cache(maxsize=1)
def _models(device: str) -> ScreeningModels:
    return load_models(device, opinions=False)


def _segment_record(
    job: _Job,
    base: Path,
    levels: tuple[VertebraLevel, ...],
    models: ScreeningModels | None = None,
    device: str = "auto",
) -> _Outcome:
    """Outline one record; whatever happens to it, the others go on."""
    used = _models(device) if models is None else models
    try:
        image = _one_file(job.record.images, base, "images")
        reused = _is_newer(job.target, image)
        truth = None if job.record.label is None else _truth(job.record, base)
        if not reused:
            volume = read_ct(image, declared_ct=True)
            bodies = _outline(volume, truth, job.record, levels, used)
            # whole or not at all: a run that is cut short leaves no half file
            partly = job.target.with_name(f"{os.getpid()}.part.nii.gz")
            write_label_map(bodies, volume, partly)
            partly.replace(job.target)
        if truth is None:
            return _Outcome(reused=reused)
        predicted, affine = read_label_map(job.target)
        _check_grid(truth, (predicted.shape, affine), "label")
        return _Outcome(dice={level: _dice(predicted, truth[0], level) for level in levels}, reused=reused)
    except Exception as error:
        return _Outcome(reason=_reason(error))


def _outline(
    volume: CTVolume,
    truth: tuple[NDArray[np.uint8], NDArray[np.float64]] | None,
    record: Record,
    levels: tuple[VertebraLevel, ...],
    models: ScreeningModels,
) -> NDArray[np.uint8]:
    if truth is None:
        result, images = screen_volume(volume, models, ScreeningOptions(levels=levels, kvp=record.kvp))
        _raise_refusals(result.findings)
        if images.bodies is None:
            raise _ExcludedError("the levels could not be outlined")
        wanted = np.isin(images.bodies, [level.label for level in levels])  # neighbours were outlined too
        return np.where(wanted, images.bodies, 0).astype(np.uint8)
    _check_grid(truth, (volume.hu.shape, volume.affine), "label")
    try:
        marked = mark_levels(truth[0], volume.affine, levels)
    except ValueError as error:
        raise _ExcludedError(f"{error}.") from error
    _, bodies, findings = outline_bodies(volume, marked, models.segmentation, planes_are_exact=True)
    _raise_refusals(finding for of_level in findings.values() for finding in of_level)
    return bodies


def _raise_refusals(findings: Iterable[Finding]) -> None:
    refusals = [f.message for f in findings if f.severity is Severity.REFUSAL]
    if refusals:
        raise _ExcludedError(" ".join(refusals))


def _reason(error: Exception) -> str:
    if isinstance(error, (_ExcludedError, UnusableInputError, ScanRefusedError)):
        return str(error)
    # the text of a foreign error may quote a header
    logger.debug("a record broke off", exc_info=error)
    return f"It broke off by an unexpected error ({type(error).__name__})."


def _truth(record: Record, base: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    names = (record.label,) if isinstance(record.label, str) else record.label or ()
    return _labels(_one_file(names, base, "label maps"))


def _labels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    try:
        return read_label_map(path)
    except ValueError as error:
        raise _ExcludedError(f"The label map cannot be used: {error}.") from error


def _one_file(names: Sequence[str], base: Path, what: str) -> Path:
    if len(names) != 1:
        raise _ExcludedError(f"The record names {len(names)} {what}, expected one.")
    return base / names[0]


def _check_grid(
    labels: tuple[NDArray[np.uint8], NDArray[np.float64]],
    grid: tuple[tuple[int, ...], NDArray[np.float64]],
    name: str,
) -> None:
    """Exclude a label map whose voxels are not those of the image; both in canonical orientation."""
    shape, affine = grid
    if labels[0].shape != shape:
        _exclude(f"The {name} has {labels[0].shape} voxels, the image {shape}.")
    corners = np.array([[i, j, k, 1.0] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])])
    apart = float(np.abs(corners @ (np.linalg.inv(affine) @ labels[1] - np.eye(4)).T).max())
    if apart > GRID_TOLERANCE:
        _exclude(f"The {name} lies {apart:.1f} voxels from the image.")


def _dice(first: NDArray[np.uint8], second: NDArray[np.uint8], level: VertebraLevel) -> float:
    """2 |A and B| / (|A| + |B|) of one level; both hold it."""
    a, b = first == level.label, second == level.label
    return 2.0 * float(np.count_nonzero(a & b)) / float(np.count_nonzero(a) + np.count_nonzero(b))


def _is_newer(target: Path, image: Path) -> bool:
    return target.is_file() and target.stat().st_mtime >= image.stat().st_mtime


def _claim(folder: Path, models: ScreeningModels, levels: Sequence[VertebraLevel], overwrite: bool) -> None:
    """Write down what the outlines of a folder are made with; refuse to mix two kinds."""
    made_with = {
        "levels": [str(level) for level in levels],
        "bundles": {
            model.name: {"version": model.version, "weights_sha256": model.weights_sha256}
            for model in (models.segmentation, models.localisation, models.column)
        },
    }
    note = folder / PROVENANCE_FILE
    if note.is_file() and not overwrite:
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != made_with:
            raise ValueError(
                f"the folder '{folder.name}' holds outlines of other levels or by other weights: choose another folder "
                "or allow overwriting"
            )
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(made_with, indent=2) + "\n", encoding="utf-8")


def _target_paths(manifest: Manifest, folder: Path) -> list[Path]:
    """Return one file name per record, the same in every run: the image's path with ``__`` for ``/``."""
    taken: Counter[str] = Counter()
    paths = []
    for _, _, record in manifest.records():
        name = "__".join(part for part in PurePosixPath(record.images[0]).parts if part not in ("/", ".", ".."))
        for suffix in sorted(NIFTI_SUFFIXES, key=len, reverse=True):
            if name.lower().endswith(suffix):
                name = name[: -len(suffix)]
                break
        taken[name.lower()] += 1
        repeat = taken[name.lower()]
        paths.append(folder / (name + (f"__{repeat}" if repeat > 1 else "") + ".nii.gz"))
    return paths


def _moved(record: Record, old: Path, new: Path, segmentation: Path) -> Record:
    """Return a record whose paths are relative to the folder ``new``."""

    def there(names: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if names is None:
            return None
        if isinstance(names, tuple):
            return tuple(_relative(old / name, new) for name in names)
        return _relative(old / names, new)

    paths = {name: there(getattr(record, name)) for name in ("image", "label", "truth")}
    return record.model_copy(update=paths | {"segmentation": _relative(segmentation, new)})


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _source(source: str | None, models: ScreeningModels) -> str:
    bundle = models.segmentation
    made = f"segmentation by {bundle.name} {bundle.version}, weights {bundle.weights_sha256[:12]}"
    return made if source is None else f"{source}; {made}"


def _write_dice(folder: Path, scores: Sequence[tuple[_Job, VertebraLevel, float]]) -> None:
    by_record = [
        (job.split, job.record.subject_id, _image_name(job.record), level, f"{value:.4f}")
        for job, level, value in scores
    ]
    _write_csv(folder / DICE_BY_RECORD_FILE, ("cohort", "subject_id", "image", "level", "dice"), by_record)
    groups: dict[tuple[str, str], list[float]] = {}
    for job, level, value in scores:
        for split in (job.split, "all"):
            for name in (str(level), "all"):
                groups.setdefault((split, name), []).append(value)
    summary = []
    for (split, name), values in sorted(groups.items()):
        centre, sd, count = _mean_sd(values)
        summary.append((split, name, count, f"{centre:.4f}", f"{sd:.4f}" if count > 1 else "", f"{min(values):.4f}"))
    _write_csv(folder / DICE_FILE, ("cohort", "level", "bodies", "mean", "sd", "minimum"), summary)


def _mean_sd(values: Sequence[float]) -> tuple[float, float, int]:
    return mean(values), stdev(values) if len(values) > 1 else 0.0, len(values)


# --- measure ------------------------------------------------------------------------------------------------------

HU_MODEL = PICKHARDT_2013.name
LINE_MODEL = "HU line"

_FACTS = ("subject_id", "image", "model", "cohort", "virtual", "bone_status", "bmd_mg_cm3", "age", "sex", "kvp",
          "contrast_phase", "acquisition", "hu_l1", "hu_l2")  # fmt: skip
HU_COLUMNS = (*_FACTS, "score_normal", "score_osteopenia", "score_osteoporosis", "predicted")
LINE_COLUMNS = (*_FACTS, "predicted_bmd_mg_cm3", "predicted_bmd_lower", "predicted_bmd_upper")


def measure_cohort(
    manifest_path: Path,
    output_dir: Path,
    *,
    source: LabelSource = "segmentation",
    cutoffs: HUCutoffs = PICKHARDT_2013,
    workers: int = 1,
) -> CohortMeasured:
    """Measure every record as a radiologist would, and write two predictions tables.

    ``hu_l1_pickhardt.csv`` ranks and classifies people by the mean trabecular HU of L1 and published cut-offs (see
    :data:`PICKHARDT_2013`: published against DXA; the pair as borders of three classes is the project's reading).
    ``hu_line_bmd.csv`` turns the median HU of L1 and L2 into mg/cm3 K2HPO4 by physics at the tube voltage
    (``measurement.calibration``), the mean of both levels with its 90 % interval. The tube voltage is the header's,
    else the record's. ``excluded.csv`` names each record that is missing in one or both, with the reason.

    Args:
        manifest_path: the cohort.
        output_dir: folder for the tables; files of the same name are replaced.
        source: which label map says where the bodies are: as predicted, or the ground truth.
        cutoffs: of the HU of L1.
        workers: processes.

    Raises:
        ManifestError: the manifest has problems.
        ValueError: records lack the label map, or a density is not in mg/cm3 K2HPO4; all problems are listed.
    """
    manifest_path, output_dir = Path(manifest_path), Path(output_dir)
    manifest = read_manifest(manifest_path)
    _check_measurable(manifest, manifest_path.name, source)
    jobs = [(split, record) for split, _, record in manifest.records()]
    work = partial(_measure_record, base=manifest_path.parent, source=source, cutoffs=cutoffs)
    if workers == 1:
        outcomes = list(track(map(work, jobs), "Measuring", len(jobs)))
    else:
        outcomes = _in_processes(work, jobs, workers, "Measuring")
    made = {"virtual": int(manifest.header.virtual)}
    output_dir.mkdir(parents=True, exist_ok=True)
    excluded: list[tuple[str, str, str, str, str]] = []
    rows: dict[Path, int] = {}
    tables = ((MEASURE_FILES[0], cutoffs.name, HU_COLUMNS), (MEASURE_FILES[1], LINE_MODEL, LINE_COLUMNS))
    for place, (name, model, columns) in enumerate(tables):
        table = []
        for (split, record), outcome in zip(jobs, outcomes, strict=True):
            row = outcome[place]
            if isinstance(row, str):
                excluded.append((split, record.subject_id, _image_name(record), model, row))
            else:
                table.append(tuple((made | row).get(column) for column in columns))
        _write_csv(output_dir / name, columns, table)
        rows[output_dir / name] = len(table)
    _write_csv(output_dir / EXCLUDED_FILE, ("cohort", "subject_id", "image", "model", "reason"), excluded)
    return CohortMeasured(rows, tuple(excluded))


def _check_measurable(manifest: Manifest, name: str, source: LabelSource) -> None:
    problems = []
    if lacking := sum(getattr(record, source) is None for _, _, record in manifest.records()):
        advice = "; 'osteo-monai manifest segment' makes it" if source == "segmentation" else ""
        problems.append(f"{lacking} records have no {source}, expected one in each{advice}")
    standard = DensityThresholds().standard
    if other := sum(record.bmd_standard not in (None, standard) for _, _, record in manifest.records()):
        problems.append(f"{other} records have densities that are not in mg/cm3 {standard}; convert them")
    if problems:
        raise ValueError(f"{name} cannot be measured: " + "; ".join(problems))


_Row = dict[str, Any]


def _measure_record(
    job: tuple[str, Record], base: Path, source: LabelSource, cutoffs: HUCutoffs
) -> tuple[_Row | str, _Row | str]:
    """Return the record's row by HU and by line; a sentence in the place of one that cannot be given."""
    split, record = job
    try:
        names = getattr(record, source)
        labels = _labels(_one_file((names,) if isinstance(names, str) else names, base, "label maps"))
        volume = read_ct(_one_file(record.images, base, "images"), declared_ct=True)
        _check_grid(labels, (volume.hu.shape, volume.affine), source)
        regions = {level: _region_hu(volume, labels[0], level) for level in SCREENED_LEVELS}
        usable = {level: hu for level, hu in regions.items() if not isinstance(hu, str)}
        kvp = volume.acquisition.kvp if volume.acquisition.kvp is not None else record.kvp
        facts: _Row = {
            "subject_id": record.subject_id,
            "image": _image_name(record),
            "cohort": split,
            "bone_status": record.bone_status,
            "bmd_mg_cm3": record.bmd_mg_cm3,
            "age": record.age,
            "sex": record.sex,
            "kvp": kvp,
            "contrast_phase": record.contrast_phase,
            "acquisition": record.acquisition,
        } | {f"hu_{level.lower()}": round(hu[0], 2) for level, hu in usable.items()}
    except Exception as error:
        reason = _reason(error)
        return reason, reason
    by_hu: _Row | str
    first = regions[VertebraLevel.L1]
    if isinstance(first, str):
        by_hu = first
    else:
        scores = {name: round(score, 2) for name, score in cutoffs.scores(first[0]).items()}
        by_hu = facts | scores | {"model": cutoffs.name, "predicted": cutoffs.status(first[0])}
    wrong = [hu for hu in regions.values() if isinstance(hu, str)]
    return by_hu, " ".join(wrong) or _by_line(facts, kvp, record.kvp, [hu[1] for hu in usable.values()])


def _by_line(facts: _Row, kvp: float | None, stated: float | None, hu: Sequence[float]) -> _Row | str:
    if kvp is None:
        return "The tube voltage stands neither in the manifest nor in the file."
    if stated is not None and abs(stated - kvp) > KVP_TOLERANCE:
        return f"The manifest says {stated:g} kVp, the header {kvp:g} kVp."
    try:
        used = calibrate("physics", kvp=kvp, standard=MineralStandard.K2HPO4)
    except ValueError as error:
        return f"The density cannot be calibrated: {error}."
    value = mean_density([density(one, used) for one in hu])
    return facts | {
        "model": LINE_MODEL,
        "predicted_bmd_mg_cm3": round(value.mg_cm3, 2),
        "predicted_bmd_lower": round(value.interval_low, 2),
        "predicted_bmd_upper": round(value.interval_high, 2),
    }


def _region_hu(volume: CTVolume, labels: NDArray[np.uint8], level: VertebraLevel) -> tuple[float, float] | str:
    """Return mean and representative (median) HU of the trabecular region of a level, or why there is none."""
    boxes = ndimage.find_objects(labels, max_label=level.label)
    box = boxes[level.label - 1] if len(boxes) >= level.label else None
    if box is None:
        return f"{level} is not in the label map."
    part = tuple(slice(max(side.start - 2, 0), side.stop + 2) for side in box)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in part]
    valid = None if volume.valid is None else volume.valid[part]
    region = trabecular_region(labels[part] == level.label, volume.hu[part], affine, valid)
    if region.reason is not None:
        return f"{level}: {region.reason}"
    found = hu_statistics(volume.hu[part], region.mask)
    return found.mean, found.representative


# --- both ---------------------------------------------------------------------------------------------------------


def _in_processes(work: Callable[[Any], T], jobs: Sequence[Any], workers: int, what: str) -> list[T]:
    """Run ``work`` on each job in so many processes, in order."""
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    # forked children of a process that has used torch can hang in its thread pools
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        done: Iterator[T] = pool.map(work, jobs, chunksize=4)
        return list(track(done, what, len(jobs)))


def _image_name(record: Record) -> str:
    return ";".join(record.images)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
