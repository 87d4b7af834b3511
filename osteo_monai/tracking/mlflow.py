"""Client functions for MLflow."""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.tracking.environment import environment_facts
from osteo_monai.tracking.store import SQLITE, prepare_store

__all__ = ["log_finished_run", "sqlite_uri", "unique_run_name"]


def unique_run_name(prefix: str) -> str:
    """Return ``<prefix>_<date>_<time>_<random>``.

    MONAI's handler continues an unfinished run of the same name.
    """
    return f"{prefix}_{time.strftime('%Y%m%d_%H%M%S')}_{uuid.uuid4().hex[:6]}"


def sqlite_uri(path: str | os.PathLike[str]) -> str:
    """Return the MLflow URI of the SQLite file at ``path``; its folder is made if missing."""
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    return f"{SQLITE}{file}"


def log_finished_run(
    tracking_uri: str,
    experiment: str,
    run_name: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Sequence[str | os.PathLike[str]] = (),
) -> str:
    """Log a finished analysis and the facts of its environment, and return the id of the run.

    Args:
        tracking_uri: MLflow store, see ``sqlite_uri``; the variable ``MLFLOW_TRACKING_URI`` overrides it.
        experiment: name of the experiment, made if missing. Its artifacts go to ``mlartifacts`` beside an SQLite file.
        run_name: name of the run, see ``unique_run_name``.
        parameters: settings of the analysis.
        metrics: results, finite numbers.
        artifacts: files and folders to log.
    """
    from mlflow import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri
    prepare_store(uri)
    client = MlflowClient(tracking_uri=uri)
    experiment_id = _experiment_id(client, experiment, uri)
    run_id: str = client.create_run(experiment_id, run_name=run_name).info.run_id
    status = "FAILED"
    try:
        for key, value in (environment_facts() | dict(parameters)).items():
            client.log_param(run_id, key, value)
        for key, number in metrics.items():
            client.log_metric(run_id, key, number)
        for artifact in artifacts:
            client.log_artifact(run_id, os.fspath(artifact))
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status=status)
    return run_id


def _experiment_id(client: Any, name: str, uri: str) -> str:
    """Return the id of an experiment; make it if it is missing."""
    from mlflow import MlflowException

    existing = client.get_experiment_by_name(name)
    if existing is None:
        location = (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri() if uri.startswith(SQLITE) else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            existing = client.get_experiment_by_name(name)  # another run has made it meanwhile
            if existing is None:
                raise
    return str(existing.experiment_id)
