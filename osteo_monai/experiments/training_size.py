"""Segmentation accuracy over the number of training images."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.bundle import run

__all__ = ["training_size_curve"]

logger = logging.getLogger(__name__)


def training_size_curve(
    bundle: Path, sizes: Sequence[int], output_dir: Path, overrides: Mapping[str, Any] | None = None
) -> list[dict[str, float]]:
    """Train a bundle on ever more images and score each network (Pan 2024, Fig. 5).

    Each size is one training and one evaluation with the bundle's own configs, tracked like any other.

    Args:
        bundle: folder of ``vertebral_body_segmentation_ct``.
        sizes: numbers of virtual training images.
        output_dir: receives ``training_size.csv`` and ``training_size.png``, and a folder a size.
        overrides: settings of train.json and evaluate.json to change, such as ``{"epochs": 5}``.

    Returns:
        A row a size: ``images``, ``mean``, ``std`` (of the Dice coefficient over the test slices).

    Raises:
        ValueError: when a size is below 1 or there is none.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"sizes must be positive numbers of images, got {list(sizes)}")
    configs = bundle / "configs"
    rows = []
    for size in sizes:
        folder = output_dir / f"size_{size}"
        settings: dict[str, Any] = {
            "bundle_root": str(bundle),
            "output_dir": str(folder),
            "train#virtual#length": size,
            **(overrides or {}),
        }
        files = [str(configs / "common.json"), str(configs / "train.json")]
        meta = str(configs / "metadata.json")
        log = str(configs / "logging.conf")
        run(config_file=files, meta_file=meta, logging_file=log, **settings)
        settings["checkpoint"] = str(folder / "checkpoints" / "model.pt")
        run(config_file=[*files, str(configs / "evaluate.json")], meta_file=meta, logging_file=log, **settings)
        with (folder / "val_mean_dice_summary.csv").open() as file:
            summary = list(csv.DictReader(file))[-1]
        rows.append({"images": float(size), "mean": float(summary["mean"]), "std": float(summary["std"])})
        logger.info("%d training images: Dice %.4f +- %.4f", size, rows[-1]["mean"], rows[-1]["std"])
    with (output_dir / "training_size.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["images", "mean", "std"])
        table.writeheader()
        table.writerows(rows)
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.errorbar(
        [r["images"] for r in rows], [r["mean"] for r in rows], [r["std"] for r in rows], marker="o", capsize=3
    )
    axis.set_xlabel("training images (virtual patients)")
    axis.set_ylabel("Dice coefficient, mean and SD over test slices")
    figure.savefig(output_dir / "training_size.png", dpi=120)
    return rows
