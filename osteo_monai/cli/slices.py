"""``osteo-monai manifest slices`` and ``outlines``: centre slices of volumes, and slices outlined in QuPath."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import (
    ManifestFile,
    OutputFolder,
    OutputManifest,
    Overwrite,
    Virtual,
    choice,
    existing_folder,
    parse_pairs,
)
from osteo_monai.cli.output import check_folder, check_products, progress, show
from osteo_monai.domain import Boundary
from osteo_monai.utils.text import counted

if TYPE_CHECKING:
    from osteo_monai.data import Record

__all__ = ["outlines", "slices"]


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
        _show_split(split, records)
    if done.left_out:
        show(f"{counted(len(done.left_out), 'slice')} left out, reasons: {output / EXCLUSIONS_FILE}")
    show(f"Manifest: {output / MANIFEST_FILE}, sha256 {done.sha256}")


def outlines(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=existing_folder,
            metavar="DIR",
            help="Axial slices (DICOM, NIfTI, PNG, TIFF), with NAME.geojson or NAME_label.png beside NAME.png.",
        ),
    ],
    output: OutputManifest,
    boundary: Annotated[
        Boundary,
        typer.Option(
            parser=choice(*Boundary),
            metavar="EDGE",
            help="Edge of the cortex that was outlined: periosteal (outer) or endosteal (inner, as in Pan 2024).",
        ),
    ],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LEVEL",
            help="Level of a class in GeoJSON, or of a number in label images, such as body=L1 or 1=L1; repeatable.",
        ),
    ] = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="HU of black and white in PNG and TIFF, such as -160 240."),
    ] = None,
    pixel_mm: Annotated[
        float | None, typer.Option("--pixel-mm", metavar="MM", help="Pixel size of PNG and TIFF.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Split of all records.")] = "test",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Cohort name.", show_default="file name")
    ] = None,
    virtual: Virtual = False,
    overwrite: Overwrite = False,
) -> None:
    """Import slices that were outlined in QuPath (GeoJSON) or as 2D label images as a manifest.

    For --output one.json it also writes one.slices (images in HU and masks as NIfTI) and one.exclusions.csv (files that
    are left out, with the reason). Divide the subjects with 'osteo-monai manifest split'.
    """
    from osteo_monai.data.outlines import OutlineOptions, import_outlines, outline_products

    products = outline_products(output)
    checks = OptionChecks()
    with checks.collect():
        check_products([products.manifest, products.exclusions], overwrite)
    levels: dict[str, str] = {}
    for text in classes or ():
        with checks.collect():
            levels |= parse_pairs(text, "--classes", "NAME=LEVEL")
    checks.finish()
    done = import_outlines(OutlineOptions(folder, output, boundary, levels, window, pixel_mm, split, name, virtual))
    _show_split(split, done.manifest.splits[split])
    if done.left_out:
        show(f"{counted(len(done.left_out), 'file')} left out, reasons: {products.exclusions}")
    show(f"Manifest: {output}, sha256 {done.sha256}")


def _show_split(split: str, records: "Sequence[Record]") -> None:
    subjects = counted(len({record.subject_id for record in records}), "subject")
    show(f"{split}: {subjects}, {counted(len(records), 'slice')}")
