"""Handler that records a run in MLflow."""

import atexit
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from osteo_monai.tracking import TrackedRun, environment_facts, prepare_store, store_uri
from osteo_monai.tracking.datasets import DataFacts, data_facts, dataset_links, log_data
from osteo_monai.tracking.definition import network_definition
from osteo_monai.tracking.description import training_facts, unwrapped
from osteo_monai.tracking.machine import start_monitor
from osteo_monai.tracking.models import find_training, log_network
from osteo_monai.tracking.paths import without_paths
from osteo_monai.utils.files import file_sha256
from osteo_monai.utils.inputs import read_input

__all__ = ["RunTracker"]

logger = logging.getLogger(__name__)

_TEST = "test_"
"""Prefix of the metrics of an evaluation, in place of ``val_`` if they have it."""


class RunTracker(MLFlowHandler):
    """MONAI's MLflow handler, which also records hyper-parameters, data, model, code and machine of a run, its failure,
    and the training whose weights an evaluation reads.

    Hyper-parameters are read from the objects of the engine, so that they are those in use. No path is recorded.

    Args:
        tracking_uri: MLflow store, see ``store_uri``.
        experiment_name: MLflow experiment.
        run_name: unique name of the run (``unique_run_name``). Trainer and validator share it, and so one run.
        bundle: name of the bundle, recorded as tag and parameter.
        version: version of the bundle.
        parameters: further hyper-parameters, including the seed; they override those of the engine.
        manifest: data manifest, recorded by its name and SHA-256, or the name of another data source.
        artifacts: files and folders logged at the end: figures, tables of metrics. Files older than the run are left
            out. Figures get the folder ``figures``.
        config: merged config, logged at the start without paths.
        weights: checkpoint. A training writes it, and it is logged as a model; an evaluation reads it.
        data_format: ``num_channels`` and ``spatial_shape`` of the network's input, see the bundle's metadata.
        lr_scheduler: schedule of the learning rate.
        parent_run: id of the run that this one belongs to, such as that of a cross-validation; empty for none.
        register: whether the model becomes a version of the registered model of the bundle.
        ends_run: whether the run ends with this engine: true for trainer or evaluator, false for the validator of a
            training.
        **kwargs: see ``MLFlowHandler``.

    Raises:
        ConfigError: the store cannot be used, see ``prepare_store``.
    """

    cur_run: Any  # MONAI declares None only
    experiment: Any

    def __init__(
        self,
        tracking_uri: str,
        experiment_name: str,
        run_name: str,
        bundle: str,
        version: str,
        parameters: Mapping[str, Any] | None = None,
        manifest: str = "",
        artifacts: Sequence[str] = (),
        config: str = "",
        weights: str = "",
        data_format: Mapping[str, Any] | None = None,
        lr_scheduler: object = None,
        parent_run: str = "",
        register: bool = True,
        ends_run: bool = True,
        **kwargs: Any,
    ) -> None:
        self._uri = store_uri(tracking_uri)
        prepare_store(self._uri)  # before the first epoch
        super().__init__(
            tracking_uri=self._uri,
            experiment_name=experiment_name,
            run_name=run_name,
            artifacts=[Path(a) for a in artifacts],
            close_on_complete=ends_run,
            **{"output_transform": _loss, "tag_name": "train_loss", **kwargs},
        )
        self._bundle, self._version, self._parent = bundle, version, parent_run
        self._given, self._manifest = dict(parameters or {}), manifest
        self._config, self._weights, self._data_format = config, weights, dict(data_format or {})
        self._lr_scheduler, self._register, self._ends_run = lr_scheduler, register, ends_run
        self._ended = False
        self._started = 0.0
        self._run: TrackedRun | None = None
        self._engine: Any = None
        self._monitor: Any = None
        self._links: dict[str, str] = {}
        self._prefix = ""

    def attach(self, engine: Engine) -> None:
        super().attach(engine)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def start(self, engine: Engine) -> None:
        """Start the run, or continue that of the trainer, and record what is known before the first iteration."""
        if self.cur_run is not None:  # a validator starts at each validation
            return
        is_training = hasattr(engine, "optimizer")
        kind = "train" if is_training else "evaluate"
        if self._ends_run:
            self._started = time.time()
            tags = {"bundle": self._bundle, "bundle_version": self._version, "kind": kind}
            source = f"{self._bundle} {kind}"
            run = TrackedRun.begin(self._uri, self.experiment_name, str(self.run_name), source, self._parent, **tags)
            # MLflow would show the run of an interrupted process as running
            atexit.register(self._end, "KILLED")
        else:
            run = TrackedRun(self._uri, self.experiment_name, "")
            run.run_id = _run_of_name(run, str(self.run_name))
        self._run, self._engine, self.client = run, engine, run.client
        self.cur_run = run.client.get_run(run.run_id)
        use = ("training" if is_training else "test") if self._ends_run else "validation"
        data = data_facts(self._manifest, getattr(getattr(engine, "data_loader", None), "dataset", None))
        log_data(run, data, use)
        self._links = {} if is_training else dataset_links(data, use)
        if self._ends_run:
            self._log_start(engine, run, data, is_training)

    def complete(self) -> None:
        """Log artifacts, and the model of a training."""
        if self._run is None:
            return
        self._log_files(self._run)
        if self._ends_run and hasattr(self._engine, "optimizer"):
            self._log_model(self._engine, self._run)

    def close(self) -> None:
        """Mark the run finished."""
        if not self._ended:
            self._end("FINISHED")
        self._dispose_sqlite_store()

    def _log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if self._run is not None:
            if self._prefix:
                metrics = {self._prefix + name.removeprefix("val_"): value for name, value in metrics.items()}
            self._run.log_metrics(metrics, step or 0, **self._links)

    def _log_start(self, engine: Engine, run: TrackedRun, data: DataFacts, is_training: bool) -> None:
        facts: dict[str, Any] = {"bundle": self._bundle, "bundle_version": self._version, "data_source": data.name}
        if self._manifest and Path(self._manifest).is_file():
            facts["manifest_sha256"] = data.sha256
        definition = self._definition(engine)
        network = {f"network.{key}": value for key, value in (definition or {}).items() if key != "_target_"}
        facts |= environment_facts() | training_facts(engine, self._lr_scheduler) | network
        if is_training:
            facts |= {"max_epochs": engine.state.max_epochs, "epoch_length": engine.state.epoch_length}
        else:
            self._prefix = _TEST
            self._link_training(run, facts)
        run.log_parameters(without_paths(facts | self._given))
        if self._config and Path(self._config).is_file():
            config = json.loads(read_input(self._config))
            run.client.log_dict(run.run_id, without_paths(config), "config.json")
        self._monitor = start_monitor(run)

    def _definition(self, engine: Any) -> dict[str, Any] | None:
        return network_definition(self._config, unwrapped(engine.network)) if self._config else None

    def _link_training(self, run: TrackedRun, facts: dict[str, Any]) -> None:
        """Record the weights that an evaluation reads, and the training that made them, if it is in the store."""
        if not self._weights or not Path(self._weights).is_file():
            return
        facts["weights_sha256"] = file_sha256(self._weights)
        training = find_training(run, facts["weights_sha256"])
        if training is None:
            return
        address = f"#/experiments/{training.experiment_id}/runs/{training.run_id}"
        run.set_tags({"training_run": training.run_id, "mlflow.note.content": f"Weights of [this training]({address})"})
        if training.model_id:
            from mlflow.entities import LoggedModelInput

            run.client.log_inputs(run.run_id, models=[LoggedModelInput(training.model_id)])
            self._links["model_id"] = training.model_id

    def _log_files(self, run: TrackedRun) -> None:
        paths: list[str] = self._parse_artifacts()  # type: ignore[no-untyped-call]
        for file in map(Path, paths):
            if file.is_file() and file.stat().st_mtime >= self._started - 1:  # not of an earlier run in this folder
                folder = "figures" if file.suffix in (".png", ".svg") else None
                run.client.log_artifact(run.run_id, str(file), folder)

    def _log_model(self, engine: Any, run: TrackedRun) -> None:
        weights = Path(self._weights)
        if not self._weights or not weights.is_file() or weights.stat().st_mtime < self._started - 1:
            return
        last = weights.with_name(f"checkpoint_epoch={engine.state.epoch}.pt")
        tags = {"weights_sha256": file_sha256(weights)}
        if last.is_file():
            tags["last_checkpoint_sha256"] = file_sha256(last)
        run.set_tags(tags)
        definition = self._definition(engine)
        if definition is None or not self._data_format:
            logger.warning("the model is not logged to MLflow: the merged config of this run is not known")
            return
        network, sizes = unwrapped(engine.network), self._data_format["spatial_shape"]
        channels = _channels(engine, len(sizes))
        try:
            run.set_tags(
                log_network(
                    run, self._bundle, self._version, network, definition, weights, sizes, channels, self._register
                )
            )
        except Exception as error:  # noqa: BLE001  # the training is complete, and the store may have no models
            logger.warning("the model is not logged to MLflow: %s", type(error).__name__)

    def _failed(self, engine: Engine, error: Exception) -> None:
        self._end("FAILED", type(error).__name__)
        # ignite drops an exception that no handler of EXCEPTION_RAISED raises again
        raise error

    def _end(self, status: str, failure: str = "") -> None:
        if self._ended or self._run is None:
            return
        self._ended = True
        atexit.unregister(self._end)
        if self._monitor is not None:
            self._monitor.finish()
        if status != "FINISHED":
            self._log_files(self._run)
        self._run.end(status, failure)


def _run_of_name(run: TrackedRun, name: str) -> str:
    """Return the id of the unfinished run of a name in the experiment."""
    condition = f"attributes.run_name = '{name}' and attributes.status = 'RUNNING'"
    (found,) = run.client.search_runs([run.experiment_id], condition, max_results=1)
    return str(found.info.run_id)


def _channels(engine: Any, axes: int) -> int:
    """Return the number of channels of the last batch, the axis before those of the sizes."""
    output = engine.state.output
    image = (output if isinstance(output, dict) else output[0])["image"]
    return int(image.shape[-axes - 1])


def _loss(output: Any) -> float:
    """Return the loss of an iteration's output, decollated or not."""
    return float((output if isinstance(output, dict) else output[0])["loss"].detach())
