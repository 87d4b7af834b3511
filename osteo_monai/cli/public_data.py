"""``osteo-monai manifest import``: public data sets."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import OutputManifest, Overwrite, choice, existing_file, existing_folder
from osteo_monai.cli.output import check_products, show
from osteo_monai.domain import MineralStandard
from osteo_monai.utils.text import listed

__all__ = ["import_"]

_SETS = ("verse", "totalsegmentator", "ctspine1k", "vertebral-bodies", "spinopelvic")
_parse_set: Callable[[str], str] = choice(*_SETS)


def import_(
    name: Annotated[
        str,
        typer.Argument(
            parser=_parse_set,
            metavar="SET",
            help=listed(_SETS, "or") + ".",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(parser=existing_folder, metavar="DIR", help="Folder of the set; it is not changed."),
    ],
    output: OutputManifest,
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--table",
            parser=existing_file,
            metavar="FILE",
            help="Published table that is apart from the set, CSV or XLSX (docs/public_data.md); repeatable.",
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images",
            parser=existing_folder,
            metavar="FOLDER",
            help="With vertebral-bodies: folder of the images, TotalSegmentator or VerSe; repeatable.",
        ),
    ] = None,
    density: Annotated[
        Literal["phantom", "phantomless", "published"],
        typer.Option(
            parser=choice("phantom", "phantomless", "published"),
            metavar="METHOD",
            help="Density of the tables that is the reference: phantom, phantomless, or published (with the set).",
        ),
    ] = "phantom",
    standard: Annotated[
        MineralStandard | None,
        typer.Option(
            parser=choice(*MineralStandard),
            metavar="STANDARD",
            help="Standard of the published density, which its table does not state: K2HPO4 or hydroxyapatite.",
        ),
    ] = None,
    kvp: Annotated[
        float | None,
        typer.Option(
            metavar="KV",
            help="Tube voltage to assume for scans whose set states none (VerSe); without it no density is measured.",
            show_default="unknown",
        ),
    ] = None,
    cohort: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Cohort name.", show_default="name of the set")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Import a public data set as a manifest with its official splits.

    For --output one.json it also writes one.exclusions.csv (scans that are left out, with the reason), one.labels
    (label maps in the numbering of this project, where the set has another one) and one.centroids.
    """
    from osteo_monai.data.public import PublicOptions, import_public, public_products

    products = public_products(output)
    checks = OptionChecks()
    with checks.collect():
        check_products([products.manifest, products.exclusions], overwrite)
    checks.finish()
    done = import_public(
        PublicOptions(
            name=name,
            folder=folder,
            manifest=output,
            tables=tuple(tables or ()),
            images=tuple(images or ()),
            density=density,
            standard=standard,
            kvp=kvp,
            cohort=cohort,
        )
    )
    for split, records in done.manifest.splits.items():
        show(f"{split}: {len({record.subject_id for record in records})} subjects, {len(records)} records")
    for note in done.notes:
        show(f"Note: {note}")
    if done.converted:
        show(f"{done.converted} label maps converted: {products.labels}")
    if done.left_out:
        show(f"{len(done.left_out)} scans left out, reasons: {products.exclusions}")
    show(f"Licence: {done.manifest.header.licence}")
    show(f"Manifest: {output}, sha256 {done.sha256}")
