"""``osteo-monai manifest``: build, split, join, check and describe data manifests."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from osteo_monai.cli.errors import OptionChecks
from osteo_monai.cli.options import (
    ManifestFile,
    OutputManifest,
    Overwrite,
    Virtual,
    choice,
    existing_file,
    existing_folder,
    parse_pairs,
)
from osteo_monai.cli.output import check_folder, check_products, console, progress, show
from osteo_monai.domain import MineralStandard
from osteo_monai.utils.files import file_sha256
from osteo_monai.utils.text import counted

if TYPE_CHECKING:
    from osteo_monai.data import Build, BuildProducts, Manifest

__all__ = ["build", "describe", "join", "split", "validate"]

_Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Cohort name.", show_default="file name")]


_SPLIT_ORDER = ("training", "validation", "test")


def build(
    table: Annotated[
        Path,
        typer.Argument(
            parser=existing_file, metavar="TABLE", help="CSV or XLSX, one row per subject (docs/manifests.md)."
        ),
    ],
    images: Annotated[
        Path,
        typer.Option(parser=existing_folder, metavar="FOLDER", help="Folder with the images: DICOM, NIfTI, PNG, JPEG."),
    ],
    output: OutputManifest,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN",
            help="Column names of the table, such as age=Alter,sex=Geschlecht; repeatable.",
        ),
    ] = None,
    rules: Annotated[
        str,
        typer.Option(
            parser=choice("none", "pan2024", "li2026", "boonrod2025"),
            metavar="RULES",
            help="Inclusion and exclusion rules: none, pan2024 (CT), li2026 (chest) or boonrod2025 (lumbar).",
        ),
    ] = "none",
    kind: Annotated[
        Literal["ct", "radiograph"] | None,
        typer.Option(
            parser=choice("ct", "radiograph"),
            metavar="KIND",
            help="Kind of the images: ct or radiograph.",
            show_default="that of the rules, else radiograph if the table names a view",
        ),
    ] = None,
    exclude_unknown: Annotated[
        bool, typer.Option("--exclude-unknown", help="Exclude subjects for whom a fact of a rule is unknown.")
    ] = False,
    standard: Annotated[
        MineralStandard | None,
        typer.Option(
            parser=choice(*MineralStandard),
            metavar="STANDARD",
            help="Standard of the densities if the table has no column for it: K2HPO4 or hydroxyapatite.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="Split of all records if the table has no column for it.")
    ] = "test",
    name: _Name = None,
    virtual: Virtual = False,
    screening: Annotated[
        Path | None,
        typer.Option(
            parser=existing_folder,
            metavar="FOLDER",
            help="Output of 'osteo-monai screen' on the images: provides field of view, implants, fractures.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Join a table of subjects with their images, apply inclusion and exclusion rules, and count the exclusions.

    For --output one.json it also writes one.exclusions.csv (one row per excluded subject, with the reason) and the flow
    diagram one.flow.png and one.flow.svg.
    """
    from osteo_monai.data import BuildOptions, build_manifest, build_products, write_manifest

    products = build_products(output)
    checks = OptionChecks()
    with checks.collect():
        check_products(products.files, overwrite)
    names: dict[str, str] = {}
    for text in columns or ():
        with checks.collect():
            names |= parse_pairs(text, "--columns")
    with checks.collect(split="--split", kind="--kind"):
        options = BuildOptions(
            table=table,
            images=images,
            folder=output.parent,
            columns=names,
            rules=rules,
            kind=kind,
            exclude_unknown=exclude_unknown,
            standard=standard,
            split=split,
            name=name,
            virtual=virtual,
            screening=screening,
        )
    checks.finish()
    with progress("Reading the table") as on_stage:
        built = build_manifest(options, lambda number, count: on_stage(f"Radiograph {number} of {count}"))
    checksum = write_manifest(built.manifest, output)
    _write_losses(built, products)
    for stage in built.stages:
        show(f"{stage.label}: {stage.count}")
        for reason, count in stage.excluded:
            show(f"  excluded, {reason}: {count}")
        for fact, count in stage.unchecked:
            show(f"  not known and kept, {fact}: {count}")
    for note in built.notes:
        show(f"Note: {note}")
    show(f"Manifest: {output}, sha256 {checksum}")


def _write_losses(built: "Build", products: "BuildProducts") -> None:
    from osteo_monai.reporting.cohort import write_flow

    built.write_exclusions(products.exclusions)
    with TemporaryDirectory(dir=products.manifest.parent) as folder:
        write_flow(built.stages, Path(folder), built.manifest.header.virtual)
        for target in (products.flow_png, products.flow_svg):
            os.replace(Path(folder) / f"flow{target.suffix}", target)


def split(
    path: ManifestFile,
    output: OutputManifest,
    ratio: Annotated[
        str, typer.Option(metavar="A:B:C", help="Parts of training, validation and test; default as in Pan 2024.")
    ] = "5:1:4",
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of the split.")] = 0,
    temporal: Annotated[
        bool, typer.Option("--temporal", help="Earliest subjects for training and validation, later ones for test.")
    ] = False,
    first: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="With --temporal: number of earliest subjects.", show_default="by ratio"),
    ] = None,
    keep_external: Annotated[
        bool, typer.Option("--keep-external/--split-external", help="Keep external cohorts as they are.")
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Split a manifest by subject, with equal class shares; no subject is in two splits."""
    from osteo_monai.data import SplitPlan, read_manifest, split_manifest, write_manifest
    from osteo_monai.data.split import parse_ratio

    checks = OptionChecks()
    with checks.collect():
        check_products([output], overwrite)
    with checks.collect(ratio="--ratio"):
        plan = SplitPlan(parse_ratio(ratio), seed, temporal, first, keep_external)
    checks.finish()
    manifest = read_manifest(path, check_files=False)
    with checks.collect():  # a fraction of a second, and its errors are about the plan: --first, --temporal
        divided = split_manifest(manifest, plan)
    checks.finish()
    divided = divided.moved(path.parent, output.parent)
    checksum = write_manifest(divided, output)
    _show_splits(divided)
    show(f"Manifest: {output}, sha256 {checksum}")


def join(
    paths: Annotated[
        list[Path], typer.Argument(parser=existing_file, metavar="MANIFEST", help="Data manifests, JSON.")
    ],
    output: OutputManifest,
    name: _Name = None,
    overwrite: Overwrite = False,
) -> None:
    """Join manifests into one with all their splits, such as a cohort and its external test cohorts."""
    from osteo_monai.data import join_manifests, write_manifest

    check_products([output], overwrite)
    joined = join_manifests(paths, output.parent, name or output.stem)
    checksum = write_manifest(joined, output)
    _show_splits(joined)
    show(f"Manifest: {output}, sha256 {checksum}")


def _show_splits(manifest: "Manifest") -> None:
    for split, records in manifest.splits.items():
        subjects = counted(len({record.subject_id for record in records}), "subject")
        show(f"{split}: {subjects}, {counted(len(records), 'record')}")


def validate(
    path: ManifestFile,
    files: Annotated[bool, typer.Option(help="Check that every file exists and no image is listed twice.")] = True,
) -> None:
    """Check schema, splits, classes, units and files of a manifest; all problems are listed together.

    Exit code 2 if there is a problem.
    """
    from osteo_monai.data import read_manifest

    manifest = read_manifest(path, check_files=files, check_content=files)
    count = sum(len(records) for records in manifest.splits.values())
    show(f"{path.name} is a valid manifest of {count} records, sha256 {file_sha256(path)}.")


def describe(
    path: ManifestFile,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder for tables and figure, created if missing."),
    ] = None,
    t_test: Annotated[
        Literal["welch", "student"],
        typer.Option(
            parser=choice("welch", "student"), metavar="TEST", help="Test between the sexes: welch or student."
        ),
    ] = "welch",
) -> None:
    """Show subjects, age, sex, density and class of a manifest by split.

    With --output: baseline characteristics by split (chi-square test, analysis of variance), and density by age and sex
    (t-tests) with its figure. Tables are CSV, Markdown and LaTeX, figures PNG and SVG.
    """
    from rich.table import Table

    from osteo_monai.data import read_manifest
    from osteo_monai.data.describe import DESCRIPTION_COLUMNS, label_kinds, people_frame
    from osteo_monai.data.describe import describe as describe_manifest

    if output is not None:
        check_folder(output, (), overwrite=True)
    manifest = read_manifest(path, check_files=False)
    rows = sorted(describe_manifest(manifest), key=lambda row: (*_SPLIT_ORDER, row[0]).index(row[0]))
    table = Table("", *(row[0] for row in rows))  # facts as rows: their names do not fit into 80 columns
    for fact, *values in zip(DESCRIPTION_COLUMNS[1:], *(row[1:] for row in rows), strict=True):
        table.add_row(fact, *values)
    show(f"{manifest.header.name}: {manifest.header.description}")
    console().print(table)
    if kinds := label_kinds(manifest):
        show(kinds)
    if output is not None:
        from osteo_monai.reporting.cohort import write_cohort

        write_cohort(people_frame(manifest), output, manifest.header.virtual, t_test)
        show(f"Tables and figure: {output}")
