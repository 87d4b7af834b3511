"""Runs in MLflow: of trainings and evaluations of bundles, of commands, and parents of several runs."""

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from osteo_monai.tracking.environment import environment_facts, source_tags
from osteo_monai.tracking.store import artifact_location, prepare_store, store_uri

__all__ = ["TrackedRun", "log_finished_run", "metrics_of_children", "tracked_run", "unique_run_name"]

_PARAMETERS_AT_ONCE, _LONGEST = 100, 6000
"""Limits of MLflow: parameters in one request, and characters of a value."""

_KIND, _MODELS = "mlflow.experimentKind", "custom_model_development"
"""Tag of an experiment with which the MLflow UI opens it as model training; without it, as a GenAI application."""


def unique_run_name(prefix: str, network: object = None) -> str:
    """Return ``<prefix>_<date>_<time>_<random>``, with the class of a network first if one is given.

    The MLflow UI cuts long names at the end. MONAI's handler continues an unfinished run of the same name.
    """
    parts = ["" if network is None else type(network).__name__, prefix, time.strftime("%Y%m%d_%H%M%S")]
    return "_".join([part for part in parts if part] + [uuid.uuid4().hex[:6]])


class TrackedRun:
    """A run in an MLflow store.

    Args:
        uri: MLflow store, see ``store_uri``.
        experiment: name of the experiment, made if missing.
        run_id: of a run that exists.

    Attributes:
        uri, run_id: see above.
        client: client of the store.
        experiment_id: of the experiment.
    """

    def __init__(self, uri: str, experiment: str, run_id: str) -> None:
        from mlflow import MlflowClient

        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri)
        self.experiment_id = experiment_id(self.client, experiment, uri)
        self.run_id = run_id

    @classmethod
    def begin(cls, uri: str, experiment: str, name: str, source: str, parent: str = "", **tags: str) -> "TrackedRun":
        """Start a run.

        Args:
            uri: MLflow store, see ``store_uri``; checked by ``prepare_store`` before.
            experiment: name of the experiment, made if missing.
            name: name of the run.
            source: what runs, see ``source_tags``.
            parent: id of the run that this one belongs to; empty for none.
            **tags: further tags.
        """
        run = cls(uri, experiment, "")
        content = {**source_tags(source), **tags, **({"mlflow.parentRunId": parent} if parent else {})}
        run.run_id = run.client.create_run(run.experiment_id, run_name=name, tags=content).info.run_id
        return run

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log parameters; a list is logged as ``1, 2, 3``, and values longer than MLflow's limit are cut."""
        from mlflow.entities import Param

        entries = [Param(key, _shown(value)[:_LONGEST]) for key, value in parameters.items()]
        for start in range(0, len(entries), _PARAMETERS_AT_ONCE):
            self.client.log_batch(self.run_id, params=entries[start : start + _PARAMETERS_AT_ONCE])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, **links: str) -> None:
        """Log metrics.

        Args:
            metrics: finite numbers by name.
            step: position on the horizontal axis of their charts.
            **links: ``model_id``, or ``dataset_name`` and ``dataset_digest``: what the metrics are results of.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, step, **links) for key, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=entries)

    def log_artifacts(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        """Log files and folders; a folder keeps its name.

        Raises:
            OSError: one of them does not exist.
        """
        for path in paths:
            self.client.log_artifact(self.run_id, os.fspath(path))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)

    def end(self, status: str, failure: str = "") -> None:
        """Mark the end of the run.

        Args:
            status: ``FINISHED``, ``FAILED`` or ``KILLED``.
            failure: class of the error, if any; a message may hold a path, and the path a patient's name.
        """
        if failure:
            self.set_tags({"failure": failure})
        self.client.set_terminated(self.run_id, status=status)


def _shown(value: Any) -> str:
    """Return a value as text; the MLflow UI would spread a list in brackets over many lines."""
    flat = isinstance(value, list | tuple) and not any(isinstance(item, list | tuple | dict) for item in value)
    return ", ".join(map(str, value)) if flat else str(value)


@contextmanager
def tracked_run(
    tracking_uri: str,
    experiment: str,
    name: str,
    source: str,
    parameters: Mapping[str, Any],
    parent: str = "",
    **tags: str,
) -> Iterator[TrackedRun]:
    """Start a run that ends with the block: FINISHED, FAILED after an error, KILLED after an interruption.

    Args:
        tracking_uri: MLflow store, see ``store_uri``.
        experiment: name of the experiment, made if missing.
        name: name of the run.
        source: what runs, see ``source_tags``.
        parameters: settings; facts of the environment are added.
        parent: id of the run that this one belongs to; empty for none.
        **tags: further tags.

    Raises:
        ConfigError: the store cannot be used, see ``prepare_store``.
    """
    uri = store_uri(tracking_uri)
    prepare_store(uri)
    run = TrackedRun.begin(uri, experiment, name, source, parent, **tags)
    try:
        run.log_parameters(environment_facts() | dict(parameters))
        yield run
    except Exception as error:
        run.end("FAILED", type(error).__name__)
        raise
    except BaseException:
        run.end("KILLED")
        raise
    run.end("FINISHED")


def log_finished_run(
    tracking_uri: str,
    experiment: str,
    run_name: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Sequence[str | os.PathLike[str]] = (),
    parts: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Log a finished analysis and the facts of its environment, and return the id of the run.

    Args:
        tracking_uri: MLflow store, see ``store_uri``.
        experiment: name of the experiment, made if missing. Its artifacts go to ``mlartifacts`` beside an SQLite file.
        run_name: name of the run, see ``unique_run_name``.
        parameters: settings of the analysis.
        metrics: results, finite numbers.
        artifacts: files and folders to log.
        parts: results of each part, such as a model, by its name; each part is a run below this one.
    """
    source = f"osteo-monai {experiment}"
    with tracked_run(tracking_uri, experiment, run_name, source, parameters) as run:
        run.log_metrics(metrics)
        for name, results in (parts or {}).items():
            part = TrackedRun.begin(run.uri, experiment, name, source, run.run_id)
            part.log_parameters({"part": name, **parameters})
            part.log_metrics(results)
            part.end("FINISHED")
        run.log_artifacts(artifacts)
    return run.run_id


def metrics_of_children(run: TrackedRun, kind: str) -> dict[str, float]:
    """Return mean and SD of each metric over the finished runs below a run, as ``<name>_mean`` and ``<name>_sd``.

    Metrics of the machine are left out. The SD is that of a sample (n - 1), left out for one run; so are metrics that
    are not finite in all runs.

    Args:
        run: parent of the runs.
        kind: tag ``kind`` of the runs that count: ``train`` or ``evaluate``.
    """
    import numpy as np

    condition = f"tags.`mlflow.parentRunId` = '{run.run_id}' and tags.kind = '{kind}' and status = 'FINISHED'"
    children = run.client.search_runs([run.experiment_id], condition, max_results=1000)
    summary: dict[str, float] = {}
    for name in sorted(set.intersection(*(set(child.data.metrics) for child in children)) if children else ()):
        values = np.array([child.data.metrics[name] for child in children])
        if name.startswith("system/") or not np.isfinite(values).all():
            continue
        summary[f"{name}_mean"] = float(values.mean())
        if len(values) > 1:
            summary[f"{name}_sd"] = float(values.std(ddof=1))
    return summary


def experiment_id(client: Any, name: str, uri: str) -> str:
    """Return the id of an experiment; make it if it is missing."""
    from mlflow import MlflowException

    existing = client.get_experiment_by_name(name)
    if existing is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location(uri), tags={_KIND: _MODELS}))
        except MlflowException:
            existing = client.get_experiment_by_name(name)  # another run has made it meanwhile
            if existing is None:
                raise
    elif _KIND not in existing.tags and existing.lifecycle_stage == "active":
        client.set_experiment_tag(existing.experiment_id, _KIND, _MODELS)
    return str(existing.experiment_id)
