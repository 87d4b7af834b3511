"""``osteo-monai radiograph``: cross-validation of radiograph bundles and their predictions tables."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from osteo_monai.cli.errors import ArgumentError
from osteo_monai.cli.logs import logger_level
from osteo_monai.cli.options import (
    BundleFolder,
    OutputFolder,
    OutputTable,
    Overwrite,
    TrainingSettings,
    existing_file,
    known_overlays,
)
from osteo_monai.cli.output import check_folder, check_products, show
from osteo_monai.utils.text import share_words

__all__ = ["cross_validate", "fuse", "heat"]


def cross_validate(
    bundle: BundleFolder,
    output: OutputFolder,
    data_source: Annotated[
        Path, typer.Option(parser=existing_file, metavar="MANIFEST", help="Data manifest with training and validation.")
    ],
    folds: Annotated[int, typer.Option(min=2, metavar="N", help="Number of folds.")] = 5,
    overlay: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Config of the bundle to add, such as li2026; repeatable."),
    ] = None,
    settings: TrainingSettings = {},  # noqa: B006  # never changed
) -> None:
    """Train and evaluate a bundle once per fold, and write predictions.csv and ensemble.csv.

    In the tables every subject of training and validation has the prediction of the network that was not trained on
    this subject. A fold with the checkpoint of its last epoch is not trained again, so that an interrupted run
    continues.
    """
    check_folder(output, (), overwrite=True)
    overlays = known_overlays(bundle, overlay or [])
    from osteo_monai.experiments.cross_validation import cross_validate as train_folds

    with logger_level("osteo_monai", logging.INFO):
        table = train_folds(bundle, output, str(data_source), folds, overlays, settings)
    show(f"Predictions: {table}")


def fuse(
    files: Annotated[
        list[Path],
        typer.Argument(parser=existing_file, metavar="TABLE", help="Predictions tables, one per view."),
    ],
    output: OutputTable,
    model: Annotated[str, typer.Option(metavar="NAME", help="Name of the model in the new table.")] = "fused views",
    overwrite: Overwrite = False,
) -> None:
    """Fuse the predictions of several views by the mean of their logits; subjects without all views are left out."""
    check_products([output], overwrite)
    if len(files) < 2:
        raise ArgumentError([f"TABLE must be two or more tables, got {len(files)}"])
    from osteo_monai.statistics.fusion import fuse_views

    count = fuse_views(files, output, model)
    show(f"{count} subjects: {output}")


def heat(
    table: Annotated[
        Path,
        typer.Argument(parser=existing_file, metavar="TABLE", help="Predictions table of a run with --heat_maps True."),
    ],
) -> None:
    """Show which share of the heat maps lies on bone, by cohort."""
    from osteo_monai.statistics.heat_shares import heat_shares

    rows = heat_shares(table)
    for row in rows:
        show(_heat_line(row))


def _heat_line(row: Mapping[str, Any]) -> str:
    shares = {key: share_words(row[key], 1) for key in ("on_bone", "low", "high", "bone_area")}
    return (
        "{cohort}, {map}: {on_bone} ({low} to {high}) on bone, which is {bone_area} of the image; "
        "ratio {gain:.2f}; {images} images, {empty} without a map".format(**{**row, **shares})
    )
