"""Segmentation accuracy over the number of training images (Pan 2024, Fig. 5)."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from osteo_monai.bundle import check_trusted, find_bundle
from osteo_monai.data import Manifest, Record, read_manifest, write_manifest
from osteo_monai.data.csv_tables import write_table
from osteo_monai.errors import ConfigError
from osteo_monai.experiments.comparison_scores import read_scores
from osteo_monai.experiments.parent import parent_of_runs
from osteo_monai.experiments.training import Training, shared_slices
from osteo_monai.handlers.figures import new_figure, save_figure
from osteo_monai.statistics.samples import Resampler, percentile_interval, subject_codes
from osteo_monai.tracking import sqlite_uri
from osteo_monai.utils.frozen import FrozenDict

__all__ = ["SUBSET_SEED", "SizeResult", "nested_subset", "training_size_curve"]

logger = logging.getLogger(__name__)

SUBSET_SEED = 20240311
"""Seed of the order in which people of a manifest enter the training set."""

_VIRTUAL = "virtual"


@dataclass(frozen=True)
class SizeResult:
    """Accuracy of a network on the test images.

    Attributes:
        images: number of training images.
        subjects: number of people in them; ``None`` for virtual images, which the bundle draws.
        mean, sd: Dice coefficient over the test images.
        low, high: 95 % interval of the mean over the test people, by a bootstrap of people.
    """

    images: int
    subjects: int | None
    mean: float
    sd: float
    low: float
    high: float


def training_size_curve(
    bundle: str | os.PathLike[str],
    sizes: Sequence[int],
    output_dir: Path,
    data_source: str = _VIRTUAL,
    overlays: Sequence[str] = (),
    subset_seed: int = SUBSET_SEED,
    settings: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> list[SizeResult]:
    """Train a segmentation bundle on increasing numbers of images and evaluate each network (Pan 2024, Fig. 5).

    Smaller training sets are contained in larger ones; validation and test images are the same for all. Each size is
    one training and one evaluation of its last weights, tracked like any other run in one store. Their parent run has
    the curve. An interrupted curve continues with the same arguments.

    Args:
        bundle: name or folder of ``vertebral_body_segmentation_ct``.
        sizes: numbers of training images.
        output_dir: folder of ``training_size.csv`` and ``training_size.png``, and of one folder a size.
        data_source: ``virtual``, or path of a data manifest with training, validation and test; an image is a record.
        overlays: configs of the bundle merged over ``train`` and ``evaluate``, such as ``pan2024``.
        subset_seed: of the order of the people of a manifest, see ``nested_subset``.
        settings: further settings of ``train.json`` and ``evaluate.json``, such as ``{"epochs": 5}``.
        trust: run a bundle that this release does not pin, see ``run_bundle``.

    Returns:
        One result a size, in increasing order.

    Raises:
        ConfigError: a size is below 1, twice, or above the number of training images of the manifest, or there is none;
            see also ``run_bundle``.
        ManifestError: the manifest is invalid.
    """
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise ConfigError(f"sizes must be different positive numbers of images, got {list(sizes)}")
    folder = find_bundle(bundle)
    check_trusted(folder, trust)
    ordered = sorted(sizes)
    store = {
        "tracking_uri": sqlite_uri(output_dir / "mlflow.db"),
        **shared_slices(folder, overlays, output_dir),
        **(settings or {}),
    }
    subsets = _subsets(data_source, ordered, subset_seed, output_dir)
    facts = {"sizes": ordered, "subset_seed": subset_seed, "overlays": ", ".join(overlays)}
    results = []
    with parent_of_runs(folder, ["train", *overlays], store, "training_size", facts) as parent:
        for size in ordered:
            chosen, subjects = subsets[size]
            training = Training(folder, output_dir / f"size_{size}", tuple(overlays), store | chosen, trust)
            training.run(parent)
            result = _result(size, subjects, training.evaluate(parent))
            results.append(result)
            parent.log({"test_mean_dice": result.mean, "test_mean_dice_slices_sd": result.sd}, size)
            logger.info("%d training images: Dice %.4f +- %.4f", size, result.mean, result.sd)
            _write(output_dir, results)
        parent.log_artifacts([output_dir / "training_size.csv", output_dir / "training_size.png"])
    return results


def nested_subset(records: Sequence[Record], size: int, seed: int = SUBSET_SEED) -> tuple[Record, ...]:
    """Return ``size`` records, such that the subset of a smaller size is contained in that of a larger one.

    People are shuffled once, and the records of each follow one another: all people of a subset but the last have all
    their records in it.

    Args:
        records: of a training set.
        size: number of records.
        seed: of the order of the people.

    Raises:
        ConfigError: there are fewer records.
    """
    if not 1 <= size <= len(records):
        raise ConfigError(f"size must be 1 to {len(records)}, the number of training images, got {size}")
    people: dict[str, list[Record]] = {}
    for record in records:
        people.setdefault(record.subject_id, []).append(record)
    names = sorted(people)
    order = np.random.default_rng(seed).permutation(len(names))
    return tuple(record for place in order for record in people[names[place]])[:size]


def _subsets(
    data_source: str, sizes: Sequence[int], seed: int, output: Path
) -> dict[int, tuple[dict[str, Any], int | None]]:
    """Return settings and number of people of each size; write the manifests of subsets, all or none."""
    if data_source == _VIRTUAL:
        all_used = {"data_source": _VIRTUAL, "train#dataloader#drop_last": False}  # also a set smaller than a batch
        return {size: ({**all_used, "train#virtual#length": size}, None) for size in sizes}
    manifest = read_manifest(Path(data_source))
    records = manifest.splits.get("training", ())
    chosen = {size: nested_subset(records, size, seed) for size in sizes}
    subsets: dict[int, tuple[dict[str, Any], int | None]] = {}
    for size, subset in chosen.items():
        file = output / f"size_{size}" / "manifest.json"
        splits = {**manifest.splits, "training": subset}
        part = Manifest(header=manifest.header, splits=FrozenDict(splits))
        write_manifest(part.moved(Path(data_source).parent, file.parent), file)
        subsets[size] = {"data_source": str(file)}, len({record.subject_id for record in subset})
    return subsets


def _result(size: int, subjects: int | None, file: Path) -> SizeResult:
    table = read_scores(file)
    dice, codes = table.scores[:, 0], subject_codes(table.subjects, len(table.subjects))
    draws = np.concatenate([weights @ dice / weights.sum(1) for weights in Resampler(codes).weights()])
    interval = percentile_interval(float(dice.mean()), draws)
    sd = float(dice.std(ddof=1)) if dice.size > 1 else float("nan")
    return SizeResult(size, subjects, float(dice.mean()), sd, interval.low, interval.high)


def _write(folder: Path, results: Sequence[SizeResult]) -> None:
    columns = ("images", "subjects", "mean", "sd", "low", "high")
    write_table(folder / "training_size.csv", columns, ([getattr(r, name) for name in columns] for r in results))
    figure = new_figure(5, 3.5)
    axis = figure.subplots()
    mean = np.array([result.mean for result in results])
    bounds = np.array([[result.low for result in results], [result.high for result in results]])
    axis.errorbar([r.images for r in results], mean, np.abs(bounds - mean), marker="o", capsize=3)
    axis.set_xlabel("training images")
    axis.set_ylabel("mean Dice coefficient of the test images\n(95 % interval by person)")
    save_figure(figure, folder / "training_size.png", dpi=120)
