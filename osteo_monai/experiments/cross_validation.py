"""Training of all folds of a radiograph bundle."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, run

from osteo_monai.data import read_manifest
from osteo_monai.data.radiograph_items import IN_FOLD
from osteo_monai.statistics.fusion import read_risks, risk_logit, with_logit, write_rows
from osteo_monai.tracking import sqlite_uri

__all__ = ["cross_validate", "last_checkpoint"]

logger = logging.getLogger(__name__)


def cross_validate(
    bundle: Path,
    output: Path,
    data_source: str,
    folds: int = 5,
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Train a bundle once a fold of training and validation, and write tables of predictions.

    In them the people of training and validation have the risk that the network *not* trained on them gives (cohort
    ``validation``, column ``fold``): what a model that combines the risk with other facts must be trained on. Everybody
    else has the risk by the network of fold 0 in ``predictions.csv``, which is the network to publish, and the mean of
    the folds' logits in ``ensemble.csv``. The last weights of each training are judged, not those that were best on its
    fold: these would have been chosen on the people they are judged on.

    Args:
        bundle: a bundle for radiographs.
        output: receives a folder a fold, and the tables. A fold that has the checkpoint of its last epoch there is not
            trained again, only judged, so that what was cut short goes on.
        data_source: a data manifest.
        folds: how many.
        overlays: configs of the bundle beside common.json and train.json, such as ``li2026``.
        settings: settings of train.json and evaluate.json to change.

    Returns:
        ``predictions.csv``.
    """
    configs = bundle / "configs"
    files = [str(configs / f"{name}.json") for name in ("common", "train", *overlays)]
    epochs = (settings or {}).get("epochs", ConfigParser.load_config_files(files)["epochs"])
    external = [s for s in read_manifest(Path(data_source)).splits if s not in ("training", "validation")]
    tables = []
    for fold in range(folds):
        folder = output / f"fold_{fold}"
        common: dict[str, Any] = {
            "meta_file": str(configs / "metadata.json"),
            "logging_file": str(configs / "logging.conf"),
            "bundle_root": str(bundle),
            "output_dir": str(folder),
            "data_source": str(data_source),
            "fold": fold,
            "folds": folds,
            # one place to watch all folds in
            "tracking_uri": sqlite_uri(output / "mlflow.db"),
            **(settings or {}),
        }
        if not (folder / "checkpoints" / f"checkpoint_epoch={epochs}.pt").exists():
            run(config_file=files, **common)
        run(
            config_file=[*files, str(configs / "evaluate.json")],
            checkpoint=str(last_checkpoint(folder / "checkpoints")),
            splits=[IN_FOLD, *external],
            **common,
        )
        tables.append(read_risks(folder / "predictions.csv"))
        logger.info("fold %d of %d is done", fold + 1, folds)
    rows = [row for table in tables for row in table if row.get("fold")]
    others = list(zip(*([row for row in table if not row.get("fold")] for table in tables), strict=True))
    write_rows(output / "predictions.csv", rows + [same[0] for same in others])
    ensemble = [with_logit(same[0], sum(map(risk_logit, same)) / folds) for same in others]
    write_rows(output / "ensemble.csv", rows + ensemble)
    return output / "predictions.csv"


def last_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the last epoch, ``checkpoint_epoch=N.pt``.

    Raises:
        ValueError: there is none.
    """
    epochs = {int(file.stem.rpartition("=")[2]): file for file in folder.glob("checkpoint_epoch=*.pt")}
    if not epochs:
        raise ValueError(f"{folder.name} must hold a checkpoint_epoch=N.pt, there is none")
    return epochs[max(epochs)]
