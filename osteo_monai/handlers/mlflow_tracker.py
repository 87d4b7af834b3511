"""Handler that records a run in MLflow."""

import atexit
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import MLFlowHandler

from osteo_monai.tracking import environment_facts, prepare_store
from osteo_monai.utils.files import file_sha256

__all__ = ["RunTracker"]


class RunTracker(MLFlowHandler):
    """MONAI's MLflow handler, which also records code, data and environment of a run, and its failure.

    Args:
        tracking_uri: MLflow store, see ``sqlite_uri``; the variable ``MLFLOW_TRACKING_URI`` overrides it.
        experiment_name: MLflow experiment.
        run_name: unique name of the run (``unique_run_name``). Trainer and validator share it, and so one run.
        bundle: name of the bundle, recorded as tag and parameter.
        version: version of the bundle.
        parameters: hyper-parameters, including the seed.
        manifest: data manifest, recorded with its SHA-256, or the name of another data source.
        artifacts: files and folders logged at the end: merged config, weights, figures, metric tables.
        ends_run: whether the run ends with this engine: true for trainer or evaluator, false for the validator of a
            training.
        **kwargs: see ``MLFlowHandler``.

    Raises:
        ConfigError: the store cannot be used, see ``prepare_store``.
    """

    cur_run: Any  # MONAI declares None only

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
        ends_run: bool = True,
        **kwargs: Any,
    ) -> None:
        prepare_store(os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri)  # before the first epoch
        facts: dict[str, Any] = {}
        if ends_run:
            facts = {"bundle": bundle, "bundle_version": version, "data_source": manifest, **environment_facts()}
            if manifest and Path(manifest).is_file():
                facts["manifest_sha256"] = file_sha256(manifest)
            facts.update(parameters or {})
        super().__init__(
            tracking_uri=tracking_uri,
            experiment_name=experiment_name,
            run_name=run_name,
            experiment_param=facts,
            artifacts=[Path(a) for a in artifacts],
            close_on_complete=ends_run,
            **{"output_transform": _loss, "tag_name": "train_loss", **kwargs},
        )
        self._tags = {"bundle": bundle, "bundle_version": version}
        self._ends_run = ends_run
        self._ended = False

    def attach(self, engine: Engine) -> None:
        super().attach(engine)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def start(self, engine: Engine) -> None:
        super().start(engine)
        if self._ends_run and self.cur_run is not None:
            for key, value in self._tags.items():
                self.client.set_tag(self.cur_run.info.run_id, key, value)
            # MLflow would show the run of an interrupted process as running
            atexit.register(self._end, "KILLED")

    def close(self) -> None:
        """Mark the run finished."""
        self._ended = True
        atexit.unregister(self._end)
        super().close()

    def _failed(self, engine: Engine, error: Exception) -> None:
        self._end("FAILED", type(error).__name__)  # the message may hold a path, and the path a patient's name
        # ignite drops an exception that no handler of EXCEPTION_RAISED raises again
        raise error

    def _end(self, status: str, reason: str = "") -> None:
        if self._ended or self.cur_run is None:
            return
        self._ended = True
        atexit.unregister(self._end)
        run_id = self.cur_run.info.run_id
        if reason:
            self.client.set_tag(run_id, "failure", reason)
        self.client.set_terminated(run_id, status=status)


def _loss(output: Any) -> float:
    """Return the loss of an iteration's output, decollated or not."""
    return float((output if isinstance(output, dict) else output[0])["loss"].detach())
