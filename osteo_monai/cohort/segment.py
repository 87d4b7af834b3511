"""Segmentation of L1 and L2 in every record of a manifest by the segmentation bundle.

The records of a cohort were selected before and are often cropped to the slices around L1 and L2, so gates that need a
whole trunk are not run; findings that make a density wrong (values that are not HU, a missing or cut body) still
exclude a record, and each excluded record has a row with its reason.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from osteo_monai.batch import EVERYTHING, THIS_PROCESS, Selection, Workers
from osteo_monai.cohort.levels import locate_labelled
from osteo_monai.cohort.overlap import (
    OutlineOverlap,
    RecordOverlap,
    bodies_of_vertebrae,
    mean_sd,
    outline_overlap,
    write_overlaps,
)
from osteo_monai.cohort.records import (
    EXCLUDED_FILE,
    ExcludedRecordError,
    LabelMap,
    Recorded,
    check_grid,
    exclusion_reason,
    image_name,
    locked_output,
    only_file,
    read_labels,
    record_files,
    record_identity,
    record_keys,
    run_jobs,
)
from osteo_monai.data import Header, Manifest, Record, read_manifest, write_manifest
from osteo_monai.data.csv_tables import write_table
from osteo_monai.domain import SCREENED_LEVELS, Finding, Severity, VertebraLevel
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.imaging import CTVolume, read_ct, read_label_map, write_label_map
from osteo_monai.imaging.nifti import NIFTI_SUFFIXES
from osteo_monai.screening import ScreeningModels, ScreeningOptions, load_models, screen_volume
from osteo_monai.screening.ct.outlines import outline_bodies
from osteo_monai.utils.files import write_json, writing
from osteo_monai.utils.inputs import read_input
from osteo_monai.utils.monai_import import import_monai_for_inference

PROVENANCE_FILE = "segmentations.json"


@dataclass(frozen=True)
class CohortSegmented:
    """Results of :func:`segment_cohort`.

    Attributes:
        manifest: the new manifest.
        folder: with the label maps, ``excluded.csv`` and the tables of agreement.
        segmented: records in the new manifest; ``reused`` of them have label maps of an earlier run.
        excluded: (split, subject, image, reason) of each record that is not in it.
        dice: (mean, SD, records) of each level against labels of bodies, if there are some.
        inside: the same of the share of the outline inside its own vertebra, against labels of whole vertebrae.
        in_other: the same of the share inside other vertebrae.
        whole: whether the manifest was written; a part writes none.
    """

    manifest: Path
    folder: Path
    segmented: int
    reused: int
    excluded: tuple[tuple[str, str, str, str], ...]
    dice: dict[VertebraLevel, tuple[float, float, int]]
    inside: dict[VertebraLevel, tuple[float, float, int]] = field(default_factory=dict)
    in_other: dict[VertebraLevel, tuple[float, float, int]] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True)
class _Job:
    split: str
    record: Record
    target: Path


@dataclass(frozen=True)
class _Outcome:
    """Outcome of one record: a reason if it is excluded, else the agreement of each level with ground truth."""

    reason: str | None = None
    overlaps: tuple[OutlineOverlap, ...] = ()
    reused: bool = False


def segment_cohort(
    manifest_path: Path,
    output_path: Path,
    *,
    folder: Path | None = None,
    device: str = "auto",
    levels: Sequence[VertebraLevel] = SCREENED_LEVELS,
    overwrite: bool = False,
    workers: Workers = THIS_PROCESS,
    models: ScreeningModels | None = None,
    trust: bool = False,
    selection: Selection = EVERYTHING,
) -> CohortSegmented:
    """Segment levels of every record with the segmentation bundle, and write a manifest with the label maps.

    For a record with a ground truth ``label``, the position of the levels is taken from it, as a reader picks the
    slices, and the segmentation is the bundle's. For a record without one the whole screening pipeline runs, with its
    refusals. A stopped run continues where it stopped: label maps that are newer than image and label are kept.
    With ``selection.resume`` records that were excluded are kept too, if version, options, weights and files are the
    same. A part writes label maps into the common folder and its tables into a folder of its own; the run without part
    then keeps all label maps and writes the manifest. Outlines are compared with labels of bodies by Dice,
    with labels of whole vertebrae by the share inside the own vertebra and inside others.

    Args:
        manifest_path: the cohort.
        output_path: the new manifest: the records with ``segmentation``, paths relative to it.
        folder: for the label maps (uint8 VerSe numbers on the image's grid, ``.nii.gz``), ``excluded.csv``,
            ``segmentation_dice.csv`` (mean and SD by split and level) and ``segmentation_dice_by_record.csv``, with
            labels of whole vertebrae ``segmentation_shares.csv`` and ``segmentation_shares_by_record.csv``;
            ``segmentations`` beside the new manifest if ``None``.
        device: see :func:`osteo_monai.screening.load_models`; used if ``models`` is ``None``.
        levels: levels to segment; a record without one of them is excluded.
        overwrite: replace existing manifest and label maps.
        workers: number, limits and place; processes load the bundles themselves.
        models: the bundles, loaded already; then this process does the work.
        trust: see :func:`osteo_monai.screening.load_models`; used if ``models`` is ``None``.
        selection: part of the records, and outcomes of earlier runs that are kept.

    Raises:
        ManifestError: the manifest has problems.
        ConfigError: an argument is invalid, the output exists, or a bundle is not trusted.
        UnusableInputError: the folder has label maps by other weights, or no record could be segmented.
        ModelMissingError: a bundle or its weights are missing.
    """
    manifest_path, output_path = Path(manifest_path), Path(output_path)
    _check_arguments(manifest_path, output_path, levels, overwrite or selection.resume or selection.part is not None)
    manifest = read_manifest(manifest_path)
    folder = output_path.parent / "segmentations" if folder is None else Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"folder must be a folder, got the file '{folder.name}'")
    # loaded before the first record, so that missing weights are one error and not one for each record
    used = models if models is not None else load_models(device, opinions=False, trust=trust)
    targets = _target_paths(manifest, folder)
    jobs = [_Job(split, record, target) for (split, _, record), target in zip(manifest.records(), targets, strict=True)]
    keys, base = record_keys(job.record for job in jobs), manifest_path.parent
    with locked_output(selection.folder(folder)):  # the label maps of another run are not removed
        if overwrite:
            for place in selection.places(keys):
                targets[place].unlink(missing_ok=True)
        provenance = _check_provenance(folder, used, levels, overwrite)
        recorded = Recorded[_Outcome](
            folder,
            "manifest segment",
            keys,
            lambda outcome: outcome.reason or "",
            [record_identity(job.record, base, (job.split, provenance)) for job in jobs],
            _Outcome,
            selection,
            lambda place, outcome: _adopted(jobs[place], outcome, base),
            models is None,
        )
        for place, ended in recorded.changed().items():  # such as an image that was replaced by an older file
            if targets[place].is_file() and targets[place].stat().st_mtime <= ended:  # not edited since
                targets[place].unlink()
    if models is not None:
        workers = THIS_PROCESS
    load = _Load(base, tuple(levels), device, trust, used if workers.inside else None)
    outcomes = run_jobs(
        load, jobs, workers, "Segmenting", _Outcome, recorded, lambda job: record_files(job.record, base)
    )
    done = [(jobs[place], outcome) for place, outcome in outcomes.items()]
    tables = selection.folder(folder)
    return _write_outputs(manifest, (manifest_path, output_path), tables, used, done, selection.part is None)


def _check_arguments(manifest_path: Path, output_path: Path, levels: Sequence[VertebraLevel], may_exist: bool) -> None:
    if not levels or len(set(levels)) != len(levels):
        raise ConfigError(f"levels must contain at least one level and no duplicates, got {[str(v) for v in levels]}")
    if output_path.resolve() == manifest_path.resolve():
        raise ConfigError(f"output_path must be another file than the manifest, got '{output_path.name}'")
    if output_path.exists() and not may_exist:
        raise ConfigError(f"output_path must be a new file unless overwriting is allowed, got '{output_path.name}'")


def _check_provenance(
    folder: Path, models: ScreeningModels, levels: Sequence[VertebraLevel], overwrite: bool
) -> Mapping[str, object]:
    """Record levels and weights of the label maps in a folder, and return them; refuse a folder with others."""
    provenance: dict[str, object] = {
        "levels": [str(level) for level in levels],
        "bundles": {
            model.name: {"version": model.version, "weights_sha256": model.weights_sha256}
            for model in (models.segmentation, models.localisation, models.column)
        },
    }
    path = folder / PROVENANCE_FILE
    if path.is_file() and not overwrite:
        try:
            before = json.loads(read_input(path))
        except ValueError:
            before = None
        if before != provenance:
            raise UnusableInputError(
                f"the folder '{folder.name}' must not have label maps of other levels or by other weights: choose "
                "another folder or allow overwriting"
            )
    write_json(path, provenance)
    return provenance


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


# --- one record ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Load:
    """Loads the bundles of a worker, unless ``models`` has them."""

    base: Path
    levels: tuple[VertebraLevel, ...]
    device: str
    trust: bool
    models: ScreeningModels | None

    def __call__(self) -> Callable[[_Job], _Outcome]:
        if self.models is None and not self.trust:  # a worker; bundles of others may use all of MONAI
            import_monai_for_inference()
        models = self.models or load_models(self.device, opinions=False, trust=self.trust)
        return partial(_segment_record, base=self.base, levels=self.levels, models=models)


def _segment_record(job: _Job, base: Path, levels: tuple[VertebraLevel, ...], models: ScreeningModels) -> _Outcome:
    """Segment one record; any error excludes only this record."""
    try:
        image = only_file(job.record.images, base, "images")
        reused = _is_newer(job, base)
        truth = None if job.record.label is None else read_labels(only_file(job.record.label, base, "label maps"))
        if not reused:
            volume = read_ct(image, declared_ct=True)
            bodies = _segmented(volume, truth, job.record, levels, models)
            with writing(job.target) as temporary:
                write_label_map(bodies, volume, temporary)
        if truth is None:
            return _Outcome(reused=reused)
        predicted, affine = read_label_map(job.target)
        check_grid(truth, predicted.shape, affine, "label")
        kind = job.record.label_kind
        return _Outcome(overlaps=tuple(outline_overlap(predicted, truth[0], n, kind) for n in levels), reused=reused)
    except Exception as error:  # noqa: BLE001  # any error excludes one record, with a reason, and not the others
        return _Outcome(reason=exclusion_reason(job.record, error))


def _segmented(
    volume: CTVolume,
    truth: LabelMap | None,
    record: Record,
    levels: tuple[VertebraLevel, ...],
    models: ScreeningModels,
) -> NDArray[np.uint8]:
    if truth is None:
        result, images = screen_volume(volume, models, ScreeningOptions(levels=levels, kvp=record.kvp))
        _raise_refusals(result.findings)
        if images.bodies is None:
            raise ExcludedRecordError("The levels could not be segmented.")
        wanted = np.isin(images.bodies, [level.label for level in levels])  # neighbours are segmented, too
        return np.where(wanted, images.bodies, 0).astype(np.uint8)
    check_grid(truth, volume.hu.shape, volume.affine, "label")
    places = truth[0]
    if record.label_kind == "vertebra":
        places = bodies_of_vertebrae(places, np.linalg.norm(volume.affine[:3, :3], axis=0).tolist())
    try:
        located = locate_labelled(places, volume.affine, levels)
    except ValueError as error:
        raise ExcludedRecordError(f"{error}.") from error
    outlines = outline_bodies(volume, located, models.segmentation, planes_are_exact=True)
    _raise_refusals(finding for of_level in outlines.findings.values() for finding in of_level)
    return outlines.bodies


def _raise_refusals(findings: Iterable[Finding]) -> None:
    refusals = [f.message for f in findings if f.severity is Severity.REFUSAL]
    if refusals:
        raise ExcludedRecordError(" ".join(refusals))


def _adopted(job: _Job, outcome: _Outcome, base: Path) -> _Outcome | None:
    """Return the outcome of an earlier run; ``None`` if its label map is missing or older than image or label."""
    if outcome.reason is not None:
        return outcome
    try:
        newer = _is_newer(job, base)
    except (OSError, ExcludedRecordError):
        newer = False
    return replace(outcome, reused=True) if newer else None


def _is_newer(job: _Job, base: Path) -> bool:
    """Return whether a record has a label map that is newer than its image and the label that names its levels."""
    sources = [only_file(job.record.images, base, "images")]
    if job.record.label is not None:
        sources.append(only_file(job.record.label, base, "label maps"))
    if not job.target.is_file():
        return False
    return job.target.stat().st_mtime >= max(source.stat().st_mtime for source in sources)


# --- output -------------------------------------------------------------------------------------------------------


def _write_outputs(
    manifest: Manifest,
    paths: tuple[Path, Path],
    folder: Path,
    models: ScreeningModels,
    done: Sequence[tuple[_Job, _Outcome]],
    whole: bool,
) -> CohortSegmented:
    """Write excluded records and tables of agreement, and the new manifest of the ``whole`` cohort.

    Args:
        manifest: the cohort.
        paths: of the cohort and of the new manifest.
        folder: for the tables.
        models: the bundles.
        done: records with their outcomes.
        whole: whether these are all records.
    """
    splits: dict[str, list[Record]] = {}
    excluded: list[tuple[str, str, str, str]] = []
    scores: list[RecordOverlap] = []
    for job, outcome in done:
        place = job.split, job.record.subject_id, image_name(job.record)
        if outcome.reason is not None:
            excluded.append((*place, outcome.reason))
            continue
        with_map = job.record.model_copy(update={"segmentation": str(job.target.absolute())})
        splits.setdefault(job.split, []).append(with_map.moved(paths[0].parent, paths[1].parent))
        scores += [RecordOverlap(*place, of_level) for of_level in outcome.overlaps]
    write_table(folder / EXCLUDED_FILE, ("cohort", "subject_id", "image", "reason"), excluded)
    write_overlaps(folder, scores)
    if whole:
        _write_manifest(manifest, splits, excluded, paths[1], models)
    return CohortSegmented(
        manifest=paths[1],
        folder=folder,
        segmented=sum(len(records) for records in splits.values()),
        reused=sum(outcome.reused for _, outcome in done),
        excluded=tuple(excluded),
        dice=_by_level(scores, "dice"),
        inside=_by_level(scores, "inside"),
        in_other=_by_level(scores, "in_other"),
        whole=whole,
    )


def _write_manifest(
    manifest: Manifest,
    splits: dict[str, list[Record]],
    excluded: Sequence[tuple[str, str, str, str]],
    path: Path,
    models: ScreeningModels,
) -> None:
    if not splits:
        first = f", such as: {excluded[0][3]}" if excluded else ""
        raise UnusableInputError(
            f"none of the {len(excluded)} records could be segmented; reasons are in {EXCLUDED_FILE}{first}"
        )
    header = Header(**dict(manifest.header) | {"source": _source(manifest.header.source, models)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(Manifest(header=header, splits=splits), path)


def _by_level(scores: Sequence[RecordOverlap], name: str) -> dict[VertebraLevel, tuple[float, float, int]]:
    by_level: dict[VertebraLevel, list[float]] = {}
    for score in scores:
        value: float | None = getattr(score.overlap, name)
        if value is not None:
            by_level.setdefault(score.overlap.level, []).append(value)
    return {level: mean_sd(values) for level, values in by_level.items()}


def _source(source: str | None, models: ScreeningModels) -> str:
    bundle = models.segmentation
    made = f"segmentation by {bundle.name} {bundle.version}, weights {bundle.weights_sha256[:12]}"
    return made if source is None else f"{source}; {made}"
