"""Cross-validation of a radiograph bundle."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from osteo_monai.bundle import check_trusted, config_files, find_bundle, run_bundle
from osteo_monai.data import read_manifest, read_prediction_rows, write_predictions
from osteo_monai.data.radiograph_items import IN_FOLD
from osteo_monai.experiments.parent import parent_of_runs
from osteo_monai.experiments.training import last_checkpoint
from osteo_monai.statistics.fusion import mean_of_logits
from osteo_monai.tracking import sqlite_uri

__all__ = ["cross_validate"]

logger = logging.getLogger(__name__)


def cross_validate(
    bundle: str | os.PathLike[str],
    output: Path,
    data_source: str,
    folds: int = 5,
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Path:
    """Train a bundle once for each fold of training and validation, and write predictions tables.

    In both tables the subjects of training and validation have the risk of the network that was *not* trained on them
    (cohort ``validation``, column ``fold``): the risks to train a model on that combines them with other facts. All
    other subjects have the risk of fold 0 in ``predictions.csv``, the network to publish, and the mean of the folds'
    logits in ``ensemble.csv``. The last weights of each training are evaluated, not the best on its fold: those would
    have been selected on the subjects they are evaluated on. The runs of the folds are below one parent run in MLflow,
    which has mean and SD of their test metrics.

    Args:
        bundle: name or folder of a radiograph bundle.
        output: folder of the tables, and of one folder a fold. A fold with the checkpoint of its last epoch is
            only evaluated, so that an interrupted cross-validation can be continued.
        data_source: path of a data manifest.
        folds: number of folds.
        overlays: configs of the bundle merged over ``train`` and ``evaluate``, such as ``li2026``.
        settings: further settings of ``train.json`` and ``evaluate.json``.
        trust: run a bundle that this release does not pin, see ``run_bundle``.

    Returns:
        Path of ``predictions.csv``.

    Raises:
        ConfigError, ManifestError, ModelMissingError: see ``run_bundle``.
        UnusableInputError: a fold has no checkpoint, or its predictions table is invalid.
    """
    folder = find_bundle(bundle)
    check_trusted(folder, trust)
    files = config_files(folder, ["train", *overlays])
    epochs = (settings or {}).get("epochs", ConfigParser.load_config_files(files)["epochs"])
    external = [s for s in read_manifest(Path(data_source)).splits if s not in ("training", "validation")]
    store = {"tracking_uri": sqlite_uri(output / "mlflow.db"), **(settings or {})}  # one store for all folds
    facts = {"folds": folds, "overlays": ", ".join(overlays), "epochs": epochs}
    tables = []
    with parent_of_runs(folder, ["train", *overlays], store, "cross_validation", facts) as parent:
        for fold in range(folds):
            common = {"data_source": str(data_source), "fold": fold, "folds": folds, **store, **parent.settings}
            fold_output = output / f"fold_{fold}"
            common["output_dir"] = str(fold_output)
            checkpoints = fold_output / "checkpoints"
            if not (checkpoints / f"checkpoint_epoch={epochs}.pt").exists():
                run_bundle(folder, ["train", *overlays], common | parent.name(f"fold_{fold}_train"), trust)
            evaluation = {"checkpoint": str(last_checkpoint(checkpoints)), "splits": [IN_FOLD, *external]}
            run_bundle(
                folder, ["evaluate", *overlays], common | evaluation | parent.name(f"fold_{fold}_evaluate"), trust
            )
            tables.append(read_prediction_rows(fold_output / "predictions.csv"))
            logger.info("fold %d of %d is complete", fold + 1, folds)
        parent.log_summary()
    rows: list[dict[str, Any]] = [row for table in tables for row in table if row.get("fold")]
    others = list(zip(*([row for row in table if not row.get("fold")] for table in tables), strict=True))
    write_predictions(output / "predictions.csv", rows + [predictions[0] for predictions in others])
    write_predictions(output / "ensemble.csv", rows + [mean_of_logits(predictions) for predictions in others])
    return output / "predictions.csv"
