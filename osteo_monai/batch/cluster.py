"""Workers on Ray (extra ``cluster``).

Each worker is an actor, which reserves cores and a share of a GPU; it starts a worker process on its machine, which
holds the models, so that limits and deaths are handled as on one machine.
"""

import math
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osteo_monai.batch.settings import Cluster, Limits
from osteo_monai.batch.worker import Load, StartError, StoppedError, WorkerError, WorkerProcess
from osteo_monai.errors import ConfigError
from osteo_monai.utils.optional import import_optional

__all__ = ["check_reachable", "join_cluster"]

_PLACE_SECONDS = 300.0
"""Time for the cluster to find a place for an actor, beside the time to load the models."""


_REACH_SECONDS = 10.0


def check_reachable(cluster: Cluster) -> None:
    """Check at once that something answers at the address of a cluster; Ray tries for many minutes.

    Raises:
        ConfigError: nothing answers.
    """
    if cluster.address in ("local", "auto"):
        return
    host, _, port = cluster.address.removeprefix("ray://").rpartition(":")
    try:
        if not host:
            raise ValueError
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        raise ConfigError(
            f"--cluster must be local, auto or the address of a Ray cluster that runs, got '{cluster.address}', where "
            "nothing answers"
        ) from None


def join_cluster(
    load: Load, cluster: Cluster, limits: Limits, count: int
) -> "tuple[Sequence[RayWorker], Callable[[], None]]":
    """Connect to a cluster and return its workers, and what ends the connection.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: the cluster cannot be reached.
    """
    ray = import_optional("ray", "cluster", "--cluster")
    workers = [RayWorker(ray, load, cluster, limits) for _ in range(count)]
    if ray.is_initialized():
        return workers, lambda: None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to others
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if cluster.address == "local":
        ray.init("local", num_cpus=math.ceil(max(count * cluster.cpus, 1)), include_dashboard=False, **quiet)
        return workers, ray.shutdown
    try:
        ray.init(cluster.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"cluster must be local, auto or the address of a Ray cluster that runs, got '{cluster.address}' "
            f"({type(error).__name__})"
        ) from None
    return workers, ray.shutdown


@dataclass(frozen=True)
class _Pickled:
    """Loads what processes pickled jobs into pickled answers: actors need not import the modules of jobs.

    Attributes:
        load: pickle of what loads the models.
    """

    load: bytes

    def __call__(self) -> Callable[[bytes], bytes]:
        work = pickle.loads(self.load)()
        return lambda job: pickle.dumps(work(pickle.loads(job)))


class RayWorker:
    """A worker on a cluster; its actor is placed again after it has ended.

    Args:
        ray: the module.
        load: loads the models.
        cluster: resources of the actor.
        limits: of one study.
    """

    def __init__(self, ray: Any, load: Load, cluster: Cluster, limits: Limits) -> None:
        self._ray = ray
        self._load = _Pickled(pickle.dumps(load))
        self._limits = limits
        self._environment = {} if cluster.gpus else {"CUDA_VISIBLE_DEVICES": ""}  # a device that is not reserved
        self._place = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_restarts=0, max_task_retries=0)(
            _Actor
        )
        self._actor: Any = None
        self._ended = False

    def start(self) -> None:
        """Place the actor and load the models; see ``WorkerProcess.start``."""
        if self._actor is not None:
            return
        self._actor = self._place.remote(self._load, self._limits, self._environment, os.getcwd(), sys.path)
        try:
            answer = self._ray.get(self._actor.start.remote(), timeout=self._limits.start_seconds + _PLACE_SECONDS)
        except self._ray.exceptions.GetTimeoutError:
            self._kill()
            raise StartError("The cluster must have free cores and GPUs for a worker, got none in time.") from None
        except self._ray.exceptions.RayError as error:
            self._kill()
            raise self._stopped_or(
                StartError(f"The worker did not start on the cluster ({type(error).__name__}).")
            ) from None
        if answer is not None:
            self._kill()
            raise answer

    def process(self, job: object, ahead: Sequence[Path] = ()) -> object:
        """Process one study; see ``WorkerProcess.process``."""
        self.start()
        try:
            answer, error = self._ray.get(self._actor.process.remote(pickle.dumps(job), ahead))
        except self._ray.exceptions.RayError as lost:
            self._kill()
            raise self._stopped_or(WorkerError(f"its actor ended ({type(lost).__name__})", "died")) from None
        if error is not None:
            raise error
        return pickle.loads(answer)

    def end(self) -> None:
        """End the actor, and with it the process that holds the models."""
        self._ended = True
        self._kill()

    def _stopped_or(self, error: Exception) -> Exception:
        return StoppedError("the work was ended") if self._ended else error

    def _kill(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            with suppress(Exception):  # it has ended, or the cluster has
                self._ray.kill(actor)


class _Actor:
    """What runs on a machine of the cluster: the parent of one worker process.

    Args:
        load: loads the models.
        limits: of one study.
        environment: further variables of the process.
        folder: working folder of the driver, which relative paths start from.
        path: of the driver's modules.
    """

    def __init__(
        self, load: _Pickled, limits: Limits, environment: Mapping[str, str], folder: str, path: Sequence[str]
    ) -> None:
        self._folder = folder
        sys.path[:] = [*path, *(place for place in sys.path if place not in path)]
        self._worker = WorkerProcess(load, limits, threading.Event(), environment=environment)

    def start(self) -> StartError | None:
        """Start the process; return the error, since Ray wraps those that are raised."""
        try:
            os.chdir(self._folder)
        except OSError:
            return StartError("The working folder must exist on each machine of the cluster.")
        try:
            self._worker.start()
        except StartError as error:
            return error
        return None

    def process(self, job: bytes, ahead: Sequence[Path]) -> tuple[bytes, WorkerError | StartError | None]:
        """Process one study; return the answer or the error."""
        try:
            return self._worker.process(job, ahead), None
        except (WorkerError, StartError) as error:
            return b"", error

    def pids(self) -> tuple[int, int | None]:
        """Return the numbers of this process and of the worker process."""
        return os.getpid(), self._worker.pid
