"""``osteo-monai manifest slices``: centre slices of volumes."""

from typing import Annotated

import typer

from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import ManifestFile, OutputFolder, Overwrite, choice
from osteo_monai.cli.output import check_folder, progress, show
from osteo_monai.domain import Boundary

__all__ = ["slices"]


def slices(
    path: ManifestFile,
    output: OutputFolder,
    boundary: Annotated[
        Boundary,
        typer.Option(
            parser=choice(*Boundary),
            metavar="EDGE",
            help="Edge of the cortex of the masks: periosteal (outer) or endosteal (inner, as in Pan 2024).",
        ),
    ] = Boundary.PERIOSTEAL,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Cohort name.", show_default="name of MANIFEST_slices")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the centre axial slices of L1 and L2 of each subject with their outlines, and a manifest of them.

    The volumes need labels of vertebral bodies. Slices keep pixel size and HU. Subjects whose labels do not show a body
    completely are listed with the reason in exclusions.csv. The segmentation bundle trains on the slices with
    --data_source FOLDER/manifest.json.
    """
    from osteo_monai.data.centre_slices import EXCLUSIONS_FILE, MANIFEST_FILE, write_centre_slices

    checks = OptionChecks()
    with checks.collect():
        check_folder(output, (MANIFEST_FILE, EXCLUSIONS_FILE), overwrite)
    checks.finish()
    with progress("Reading the manifest") as on_stage:
        done = write_centre_slices(
            path, output, boundary, name, lambda number, count: on_stage(f"volume {number} of {count}")
        )
    for split, records in done.manifest.splits.items():
        show(f"{split}: {len({record.subject_id for record in records})} subjects, {len(records)} slices")
    if done.left_out:
        show(f"{len(done.left_out)} slices left out, reasons: {output / EXCLUSIONS_FILE}")
    show(f"Manifest: {output / MANIFEST_FILE}, sha256 {done.sha256}")
