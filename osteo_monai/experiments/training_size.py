"""Segmentation accuracy over the number of training images."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.bundle import find_bundle, run_bundle
from osteo_monai.data.csv_tables import read_table, write_table
from osteo_monai.errors import ConfigError
from osteo_monai.experiments.parent import parent_of_runs
from osteo_monai.handlers.figures import new_figure, save_figure
from osteo_monai.tracking import sqlite_uri

__all__ = ["training_size_curve"]

logger = logging.getLogger(__name__)

Row = dict[str, float]


def training_size_curve(
    bundle: str | os.PathLike[str],
    sizes: Sequence[int],
    output_dir: Path,
    settings: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> list[Row]:
    """Train a segmentation bundle on increasing numbers of images and evaluate each network (Pan 2024, Fig. 5).

    Each size is one training and one evaluation with the bundle's own configs, tracked like any other run in one store.
    Their parent run has the curve: mean and SD of the Dice coefficient over the number of images.

    Args:
        bundle: name or folder of ``vertebral_body_segmentation_ct``.
        sizes: numbers of virtual training images.
        output_dir: folder of ``training_size.csv`` and ``training_size.png``, and of one folder a size.
        settings: further settings of ``train.json`` and ``evaluate.json``, such as ``{"epochs": 5}``.
        trust: run a bundle that this release does not pin, see ``run_bundle``.

    Returns:
        One row a size: ``images``, ``mean`` and ``std`` of the Dice coefficient over the test slices.

    Raises:
        ConfigError: when a size is below 1 or there is none; see also ``run_bundle``.
    """
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"sizes must be positive numbers of images, got {list(sizes)}")
    folder = find_bundle(bundle)
    store = {"tracking_uri": sqlite_uri(output_dir / "mlflow.db"), **(settings or {})}
    rows = []
    with parent_of_runs(folder, ["train"], store, "training_size", {"sizes": list(sizes)}) as parent:
        for size in sizes:
            output = output_dir / f"size_{size}"
            common = {"output_dir": str(output), "train#virtual#length": size, **store, **parent.settings}
            run_bundle(folder, ["train"], common | parent.name(f"size_{size}_train"), trust)
            checkpoint = {"checkpoint": str(output / "checkpoints" / "model.pt")}
            run_bundle(folder, ["evaluate"], common | checkpoint | parent.name(f"size_{size}_evaluate"), trust)
            _, summary = read_table(output / "val_mean_dice_summary.csv", ("mean", "std")).rows[-1]
            rows.append({"images": float(size), "mean": float(summary["mean"]), "std": float(summary["std"])})
            parent.log({"test_mean_dice": rows[-1]["mean"], "test_mean_dice_slices_sd": rows[-1]["std"]}, size)
            logger.info("%d training images: Dice %.4f +- %.4f", size, rows[-1]["mean"], rows[-1]["std"])
        _write(output_dir, rows)
        parent.log_artifacts([output_dir / "training_size.csv", output_dir / "training_size.png"])
    return rows


def _write(folder: Path, rows: Sequence[Row]) -> None:
    columns = ("images", "mean", "std")
    write_table(folder / "training_size.csv", columns, ([row[name] for name in columns] for row in rows))
    figure = new_figure(5, 3.5)
    axis = figure.subplots()
    images, mean, sd = ([row[name] for row in rows] for name in columns)
    axis.errorbar(images, mean, sd, marker="o", capsize=3)
    axis.set_xlabel("training images (virtual patients)")
    axis.set_ylabel("Dice coefficient, mean and SD over test slices")
    save_figure(figure, folder / "training_size.png", dpi=120)
