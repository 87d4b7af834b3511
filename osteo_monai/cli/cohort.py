"""``osteo-monai manifest segment`` and ``osteo-monai measure``: all records of a manifest."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from osteo_monai.cli.batch import (
    ClusterAddress,
    ClusterGpus,
    MemoryLimit,
    PartOfMany,
    Resume,
    Retry,
    TimeLimit,
    WorkersOfMany,
    chosen_selection,
    chosen_workers,
)
from osteo_monai.cli.errors import ArgumentError, OptionChecks
from osteo_monai.cli.options import (
    Device,
    ManifestFile,
    OptionalTracking,
    OutputFolder,
    OutputManifest,
    Overwrite,
    TrustBundle,
    choice,
    parse_calibration,
    parse_levels,
)
from osteo_monai.cli.output import check_folder, check_products, command_run, show
from osteo_monai.domain import SCREENED_LEVELS, VertebraLevel
from osteo_monai.utils.files import file_sha256

if TYPE_CHECKING:
    from osteo_monai.screening.options import PhysicsCalibration, SiteCalibration

__all__ = ["measure", "segment"]


def segment(
    path: ManifestFile,
    output: OutputManifest,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for the label maps.", show_default="segmentations beside the new manifest"
        ),
    ] = None,
    levels: Annotated[
        Sequence[VertebraLevel],
        typer.Option(
            parser=parse_levels,
            metavar="LEVELS",
            help="Levels to segment; a record without one of them is excluded.",
            show_default="L1,L2",
        ),
    ] = SCREENED_LEVELS,
    device: Device = "auto",
    resume: Resume = False,
    retry: Retry = None,
    workers: WorkersOfMany = 1,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    part: PartOfMany = None,
    cluster: ClusterAddress = None,
    cluster_gpus: ClusterGpus = None,
    tracking_uri: OptionalTracking = None,
    overwrite: Overwrite = False,
    trust_bundle: TrustBundle = False,
) -> None:
    """Segment L1 and L2 of every record with the segmentation bundle, as input of the classification bundles.

    The position of the levels is taken from a record's ground-truth label; a record without one is screened, and
    excluded if screening refuses it. Excluded records are listed with the reason in excluded.csv. A run that was
    stopped continues where it stopped; with --resume it also keeps the records that were excluded. With --part no
    manifest is written: start the command without --part and with --resume when all parts are finished.
    """
    if output.resolve() == path.resolve():
        raise ArgumentError([f"--output must be another file than MANIFEST, got '{output}'"])
    checks = OptionChecks()
    with checks.collect(part="--part"):
        selection = chosen_selection(part, resume, retry, overwrite)
        check_products([output], overwrite or selection.resume or selection.part is not None)
    with checks.collect(gpus="--cluster-gpus", cluster="--cluster"):
        places = chosen_workers(workers, time_limit, memory_limit, cluster, cluster_gpus)
    checks.finish()
    from osteo_monai.cohort import segment_cohort

    parameters = {"manifest_sha256": file_sha256(path), "levels": ", ".join(levels), "device": device}
    with command_run("cohort", "manifest segment", tracking_uri, parameters) as run:
        done = segment_cohort(
            path,
            output,
            folder=folder,
            device=device,
            levels=tuple(levels),
            workers=places,
            overwrite=overwrite,
            trust=trust_bundle,
            selection=selection,
        )
        facts: dict[str, float] = {"segmented": done.segmented, "reused": done.reused, "excluded": len(done.excluded)}
        facts |= {f"dice_{level}": mean for level, (mean, _, _) in done.dice.items()}
        run.log(facts | {f"dice_{level}_sd": sd for level, (_, sd, _) in done.dice.items()}, manifest=path)
    for level, (mean, sd, count) in done.dice.items():
        show(f"Dice of {level} against the label: {mean:.3f} +- {sd:.3f} (n = {count})")
    for level, (mean, sd, count) in done.inside.items():
        other = done.in_other[level][0]
        show(f"Share of {level} in its vertebra: {mean:.3f} +- {sd:.3f} (n = {count}), in others: {other:.3f}")
    reused = f", {done.reused} of them earlier" if done.reused else ""
    show(f"{done.segmented} records segmented{reused}, {len(done.excluded)} excluded")
    if done.excluded:
        show(f"Reasons of exclusion: {done.folder / 'excluded.csv'}")
    if done.whole:
        show(f"Manifest: {done.manifest}")
    else:
        show(f"Part {part}: no manifest; start without --part and with --resume when all parts are finished.")


def _calibration(text: str) -> "PhysicsCalibration | SiteCalibration":
    """Return the calibration of a cohort; one that is bound to a single scan or not verified does not serve."""
    from osteo_monai.screening.options import PhysicsCalibration, SiteCalibration

    if text == "physics" or text.startswith("site:"):
        used = parse_calibration(text)
        if isinstance(used, (PhysicsCalibration, SiteCalibration)):
            return used
    raise ValueError(f"--calibration must be physics or site:FILE, got '{text}'")


def measure(
    path: ManifestFile,
    output: OutputFolder,
    source: Annotated[
        Literal["segmentation", "label"],
        typer.Option(
            parser=choice("segmentation", "label"),
            metavar="SOURCE",
            help="Label map to measure in: segmentation (predicted) or label (ground truth).",
        ),
    ] = "segmentation",
    calibration: Annotated[
        str,
        typer.Option(metavar="METHOD", help="physics, or site:FILE, a file of 'osteo-monai calibrate fit'."),
    ] = "physics",
    texture: Annotated[
        bool,
        typer.Option("--texture", help="Also write texture.csv, texture of the trabecular regions (extra 'texture')."),
    ] = False,
    resume: Resume = False,
    retry: Retry = None,
    workers: WorkersOfMany = 1,
    time_limit: TimeLimit = None,
    memory_limit: MemoryLimit = None,
    part: PartOfMany = None,
    cluster: ClusterAddress = None,
    cluster_gpus: ClusterGpus = None,
    tracking_uri: OptionalTracking = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a cohort without a classifier: HU of L1 with published cut-offs, and density from HU.

    Writes predictions tables for 'osteo-monai evaluate', hu_l1_pickhardt.csv and hu_line_bmd.csv, and excluded.csv.
    With --part into the folder of the part: start the command without --part and with --resume for the tables of all
    records when all parts are finished.
    """
    from osteo_monai.cohort.measure import MEASURE_FILES, measure_cohort
    from osteo_monai.cohort.texture import TEXTURE_FILE, measure_texture
    from osteo_monai.measurement import check_texture_installed

    checks = OptionChecks()
    with checks.collect(part="--part"):
        selection = chosen_selection(part, resume, retry, overwrite)
        files = (*MEASURE_FILES, TEXTURE_FILE) if texture else MEASURE_FILES
        check_folder(selection.folder(output), () if selection.resume else files, overwrite)
    with checks.collect():
        used = _calibration(calibration)
    with checks.collect(gpus="--cluster-gpus", cluster="--cluster"):
        places = chosen_workers(workers, time_limit, memory_limit, cluster, cluster_gpus)
    checks.finish()
    if texture:
        check_texture_installed()
    parameters = {"manifest_sha256": file_sha256(path), "source": source, "calibration": calibration.partition(":")[0]}
    with command_run("cohort", "measure", tracking_uri, parameters) as run:
        done = measure_cohort(path, output, source=source, calibration=used, workers=places, selection=selection)
        counts: dict[str, float] = {Path(table).stem: count for table, count in done.rows.items()}
        run.log({**counts, "excluded": len(done.excluded)}, manifest=path)
    for table, count in done.rows.items():
        show(f"{table}: {count} records")
    for warning in done.warnings:
        show(f"Warning: {warning}")
    if done.excluded:
        show(f"{len(done.excluded)} excluded, reasons: {selection.folder(output) / 'excluded.csv'}")
    if texture:
        table = measure_texture(path, output, source=source, workers=places, selection=selection)
        show(f"Texture: {table}")
