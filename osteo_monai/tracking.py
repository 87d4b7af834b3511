"""What every run tells MLflow, and the checks a bundle makes before it starts.

The bundles' configs name ``RunTracker`` among their handlers (``--track False`` leaves it out) and call ``prepare_run``
in ``initialize``. Runs go to an SQLite database by default: ``--tracking_uri`` or ``MLFLOW_TRACKING_URI`` names another
store.
"""

import atexit
import difflib
import inspect
import json
import os
import platform
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.handlers import MLFlowHandler

from osteo_monai.utils.files import file_sha256

__all__ = [
    "RunTracker",
    "environment_facts",
    "git_commit",
    "log_finished_run",
    "prepare_run",
    "refuse_unknown_settings",
    "sqlite_uri",
    "unique_run_name",
]

_LIBRARIES = ("osteo_monai", "monai", "torch", "numpy", "pytorch-ignite", "mlflow", "nibabel")

_MONAI_SETTINGS = frozenset(
    {"_meta_", "tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0", "imports"}
)
"""Top-level ids that ``monai.bundle run`` itself may add to a config."""


def unique_run_name(bundle: str) -> str:
    """Return ``<bundle>_<date>_<time>_<random>``: MLflow would write on in an unfinished run of the same name."""
    return f"{bundle}_{time.strftime('%Y%m%d_%H%M%S')}_{uuid.uuid4().hex[:6]}"


def sqlite_uri(path: str | os.PathLike[str]) -> str:
    """Return MLflow's address of the SQLite file at ``path``; its folder is made if it is missing."""
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{file}"


def git_commit() -> str:
    """Return the commit of the checkout this package lies in, with ``+changes`` where it is dirty, else ``"none"``."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "none"


def environment_facts() -> dict[str, str]:
    """Return versions of the libraries, Python and CUDA, the device's name and the git commit."""
    facts = {"git_commit": git_commit(), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            facts[f"version_{name.replace('-', '_')}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[f"version_{name.replace('-', '_')}"] = "not installed"
    facts["cuda"] = str(torch.version.cuda)
    facts["device_name"] = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    return facts


def refuse_unknown_settings(config: Mapping[str, Any], bundle_root: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` where ``config`` has a top-level id that no config file of the bundle knows.

    MONAI accepts any override (``--epochz 1``) and then ignores it.
    """
    known: set[str] = set(_MONAI_SETTINGS)
    for file in sorted(Path(bundle_root, "configs").glob("*.json")):
        known.update(key.lstrip("+") for key in json.loads(file.read_text()))
    unknown = sorted(set(config) - known)
    if unknown:
        guesses = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {guesses[0]!r}?" if guesses else ""
        raise ValueError(f"unknown setting {', '.join(map(repr, unknown))}: no config of this bundle has it{hint}")


def prepare_run(bundle_root: str | os.PathLike[str], output_dir: str | os.PathLike[str], write: bool = True) -> None:
    """Check the settings and write the merged config to ``<output_dir>/config.json``; a bundle's first initialise step.

    Args:
        bundle_root: the bundle's folder.
        output_dir: where the run writes; made if missing.
        write: only one process of a distributed run may write.

    Raises:
        SystemExit: on a setting that no config of the bundle knows, or an evaluation's missing checkpoint; MONAI
            would bury another exception's sentence under a page of its own.
        RuntimeError: when not called from a config.
    """
    parser = _calling_parser()
    config: dict[str, Any] = dict(cast(Mapping[str, Any], parser.config))
    try:
        refuse_unknown_settings(config, bundle_root)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    evaluates = "validate" in config and not any("trainer" in str(step) for step in config.get("run", ()))
    checkpoint = parser.get_parsed_content("checkpoint") if evaluates and "checkpoint" in config else ""
    if checkpoint and not Path(checkpoint).is_file():
        raise SystemExit(
            f"error: checkpoint: there is no file {Path(checkpoint).name!r}; train first, or name one with --checkpoint"
        )
    if write:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n")


def _calling_parser() -> ConfigParser:
    """Return the parser that evaluates the expression we are called from: MONAI hands it to nobody."""
    for frame in _frames():
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigParser):
            return caller
    raise RuntimeError("prepare_run works in a bundle's config only")


def _frames() -> Iterator[Any]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


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


def _loss(output: Any) -> float:
    """The loss of an iteration's output, decollated or not."""
    return float((output if isinstance(output, dict) else output[0])["loss"].detach())


class RunTracker(MLFlowHandler):
    """MONAI's MLflow handler that also says what was run, on what, by which code, and whether it failed.

    Args:
        tracking_uri: MLflow store, see ``sqlite_uri``; the environment's ``MLFLOW_TRACKING_URI`` wins.
        experiment_name: MLflow experiment.
        run_name: unique name of the run (``unique_run_name``); trainer and validator share it and so one run.
        bundle: name of the bundle, a tag and a parameter.
        version: version of the bundle.
        parameters: hyper-parameters, the seed among them.
        manifest: data manifest whose SHA-256 is recorded, or the name of another data source.
        artifacts: files and folders logged at the end: merged config, weights, figures, metric tables.
        ends_run: whether the run is over with this engine (trainer or evaluator: yes; validator: no).
        **kwargs: passed to ``MLFlowHandler``.
    """

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
            # an interrupted process must not leave a run that looks alive
            atexit.register(self._end, "KILLED")

    def close(self) -> None:
        """Mark the run finished."""
        self._ended = True
        super().close()

    def _failed(self, engine: Engine, error: Exception) -> None:
        self._end("FAILED", type(error).__name__)  # its text may hold a path, a path a name
        # ignite swallows an exception that a handler was given and did not raise again
        raise error

    def _end(self, status: str, reason: str = "") -> None:
        if self._ended or self.cur_run is None:
            return
        self._ended = True
        run_id = self.cur_run.info.run_id
        if reason:
            self.client.set_tag(run_id, "failure", reason)
        self.client.set_terminated(run_id, status=status)
