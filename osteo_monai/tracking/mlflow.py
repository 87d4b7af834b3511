"""Client functions for MLflow."""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osteo_monai.tracking.environment import environment_facts

__all__ = ["log_finished_run", "sqlite_uri", "unique_run_name"]


def unique_run_name(bundle: str) -> str:
    """Return ``<bundle>_<date>_<time>_<random>``: MLflow would write on in an unfinished run of the same name."""
    return f"{bundle}_{time.strftime('%Y%m%d_%H%M%S')}_{uuid.uuid4().hex[:6]}"


def sqlite_uri(path: str | os.PathLike[str]) -> str:
    """Return MLflow's address of the SQLite file at ``path``; its folder is made if it is missing."""
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{file}"


def log_finished_run(
    tracking_uri: str,
    experiment: str,
    run_name: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Sequence[str | os.PathLike[str]] = (),
) -> str:
    """Log an analysis that is over, with the facts of its environment, and return the run's id.

    Args:
        tracking_uri: MLflow store, see ``sqlite_uri``; the environment's ``MLFLOW_TRACKING_URI`` wins.
        experiment: name of the experiment, made if missing; beside an SQLite file its artifacts go to ``mlartifacts``.
        run_name: name of the run, see ``unique_run_name``.
        parameters: what was asked.
        metrics: what was found, finite numbers.
        artifacts: files and folders to keep.
    """
    from mlflow import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri
    client = MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name(experiment)
    location = (
        (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri() if uri[:10] == "sqlite:///" else None
    )
    experiment_id = known.experiment_id if known else client.create_experiment(experiment, artifact_location=location)
    run_id = client.create_run(experiment_id, run_name=run_name).info.run_id
    try:
        for key, value in (environment_facts() | dict(parameters)).items():
            client.log_param(run_id, key, value)
        for key, number in metrics.items():
            client.log_metric(run_id, key, number)
        for artifact in map(Path, artifacts):
            client.log_artifact(run_id, str(artifact))
    except BaseException:
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id)
    return run_id
