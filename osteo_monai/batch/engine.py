"""Process many studies by workers that share nothing but a queue.

The parent gives each worker one study at a time. A study whose worker dies is given to a worker once more; one that
exceeds a limit, or whose worker dies again, has failed, and the others continue.
"""

import logging
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from osteo_monai import errors
from osteo_monai.batch.ahead import ReadAhead
from osteo_monai.batch.settings import Workers
from osteo_monai.batch.worker import FailureKind, Load, StartError, StoppedError, WorkerError, WorkerProcess
from osteo_monai.errors import ConfigError, OsteoError

__all__ = ["Failure", "check_start", "process"]

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")

LoadFor: TypeAlias = Callable[[], Callable[[Job], Outcome]]
"""Loads the models of a worker and returns what processes one study; can be pickled where workers are processes."""

FilesOf: TypeAlias = Callable[[Job], Sequence[Path]]
"""Returns the files and folders of a study, without looking at the disk."""

_MOST_DEATHS = 2
"""Deaths of its worker after which a study has failed; the first may be the fault of another process."""

logger = logging.getLogger(__name__)


_CODES: dict[FailureKind, str] = {
    "error": "internal_error", "died": "worker_died", "time": "time_limit", "memory": "memory_limit",
}  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A study that was not processed.

    Attributes:
        kind: why.
        reason: a clause without identifiers, such as ``it took longer than 60 s``.
    """

    kind: FailureKind
    reason: str

    @property
    def code(self) -> str:
        """Code of the failure: ``internal_error``, ``worker_died``, ``time_limit`` or ``memory_limit``."""
        return _CODES[self.kind]


def process(
    load: LoadFor[Job, Outcome],
    jobs: Sequence[Job],
    workers: Workers,
    on_start: Callable[[int], None] = lambda index: None,
    files_of: FilesOf[Job] = lambda job: (),
) -> Generator[tuple[int, Outcome | Failure]]:
    """Process each job and yield its index and outcome, in the order of completion.

    Args:
        load: called once in each worker.
        jobs: anything that can be pickled where workers are processes.
        workers: number, limits and place.
        on_start: called with the index of a job before a worker gets it, again after the death of a worker.
        files_of: what a worker reads ahead of its next job; at most one job ahead.

    Raises:
        OsteoError: the models cannot be loaded, for example because they are missing.
        MissingExtraError: a cluster is requested and Ray is not installed.

    Example:
        >>> dict(process(lambda: abs, [-1, 2, -3], Workers()))
        {0: 1, 1: 2, 2: 3}
    """
    if not jobs:
        return
    if workers.inside:
        work, ahead = load(), ReadAhead()
        for index, job in enumerate(jobs):
            on_start(index)
            ahead.start(files_of(jobs[index + 1]) if index + 1 < len(jobs) else ())
            yield index, _inside(work, job)
        return
    crew: _Crew[Job, Outcome] = _Crew(load, workers, len(jobs))
    with crew:
        yield from crew.process(jobs, on_start, files_of)


def check_start(load: Callable[[], Callable[..., Any]], workers: Workers) -> None:
    """Start one worker that is a process or an actor, and end it.

    Raises:
        OsteoError: it does not start, see :func:`process`.
    """
    if not workers.inside:
        with _Crew[Any, Any](load, workers, 1) as crew:
            crew.check()


def _inside(work: Callable[[Job], Outcome], job: Job) -> Outcome | Failure:
    try:
        return work(job)
    except Exception as error:
        logger.debug("traceback of a study", exc_info=error)
        return Failure("error", f"it stopped with {type(error).__name__}")


# --- workers that are processes -----------------------------------------------------------------------------------


class Worker(Protocol):
    """What one thread of the parent drives: a process here, or an actor of a cluster."""

    def start(self) -> None:
        """Load the models, see ``WorkerProcess.start``."""

    def process(self, job: object, ahead: Sequence[Path] = ()) -> object:
        """Process one study, see ``WorkerProcess.process``."""

    def end(self) -> None:
        """End the worker at once."""


@dataclass(frozen=True)
class _Event(Generic[Outcome]):
    """What a thread reports: its worker is ready, or an outcome, or the error that ends the worker.

    A worker that was ended is not ready: it gets no study before it has started again, which may wait for a machine.
    """

    thread: int
    index: int | None = None
    outcome: Outcome | None = None
    failure: Failure | None = None
    error: Exception | None = None
    ready: bool = True


class _Todo:
    """Jobs that no worker has, and for each worker the one that it reads ahead, which it gets next if it can."""

    def __init__(self, count: int) -> None:
        self._waiting = dict.fromkeys(range(count))
        self._ahead: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, thread: int) -> tuple[int, int | None]:
        """Return the job of a worker, and the one to read ahead, if there is one."""
        index = self._ahead.pop(thread, None)
        if index not in self._waiting:  # none, or another worker has it
            index = self._first_free()
        if index is None:  # others read all ahead that are left
            index = next(iter(self._waiting))
        del self._waiting[index]
        following = self._first_free()
        if following is not None:
            self._ahead[thread] = following
        return index, following

    def put_back(self, index: int) -> None:
        """Add a job whose worker was lost, behind the others."""
        self._waiting[index] = None

    def _first_free(self) -> int | None:
        """Return the first job that no worker reads ahead."""
        taken = set(self._ahead.values())
        return next((index for index in self._waiting if index not in taken), None)


class _Crew(Generic[Job, Outcome]):
    """Workers, each driven by a thread; all state of the batch is that of the thread which calls ``process``."""

    def __init__(self, load: Load, workers: Workers, jobs: int) -> None:
        self._stop = threading.Event()
        self._events: queue.Queue[_Event[Outcome]] = queue.Queue()
        self._close: Callable[[], None] = lambda: None
        count = min(workers.count, jobs)
        if workers.cluster is None:
            threads = _threads_of_a_worker(count)
            self._workers: Sequence[Worker] = [
                WorkerProcess(load, workers.limits, self._stop, environment=threads) for _ in range(count)
            ]
        else:
            from osteo_monai.batch.cluster import join_cluster

            self._workers, self._close = join_cluster(load, workers.cluster, workers.limits, count)
        self._orders: list[queue.Queue[tuple[int, Job, Sequence[Path]] | None]] = [queue.Queue() for _ in self._workers]
        self._threads = [threading.Thread(target=self._drive, args=(n,), daemon=True) for n in range(count)]

    def __enter__(self) -> "_Crew[Job, Outcome]":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for order in self._orders:
            order.put(None)
        for worker in self._workers:
            if not isinstance(worker, WorkerProcess):  # the thread of a process ends it within a tenth of a second
                worker.end()
        for thread in self._threads:
            thread.join()
        self._close()

    def check(self) -> None:
        """Wait until the first worker is ready; raise why it is not."""
        if (error := self._events.get().error) is not None:
            raise _original(error)

    def process(
        self, jobs: Sequence[Job], on_start: Callable[[int], None], files_of: FilesOf[Job]
    ) -> Iterator[tuple[int, Outcome | Failure]]:
        """See :func:`process`."""
        todo = _Todo(len(jobs))
        deaths: Counter[int] = Counter()
        idle: list[int] = []
        alive, left = len(self._workers), len(jobs)
        while left:
            while todo and idle:
                thread = idle.pop()
                index, following = todo.take(thread)
                on_start(index)
                ahead = () if following is None else files_of(jobs[following])
                self._orders[thread].put((index, jobs[index], ahead))
            event = self._events.get()
            index_or_none = event.index
            if event.error is not None:
                alive -= 1
                if index_or_none is not None:
                    todo.put_back(index_or_none)  # its worker could not be started again: the study is not at fault
                if not alive or not isinstance(event.error, StartError):
                    raise _original(event.error)
                logger.warning("a worker is lost: %s", event.error)
                continue
            if event.ready:
                idle.append(event.thread)
            if index_or_none is None:
                continue
            failure = event.failure
            if failure is not None and failure.kind == "died":
                deaths[index_or_none] += 1
                if deaths[index_or_none] < _MOST_DEATHS:
                    todo.put_back(index_or_none)
                    continue
                failure = Failure("died", f"{failure.reason}, twice")
            left -= 1
            yield index_or_none, event.outcome if failure is None else failure  # type: ignore[misc]

    def _drive(self, number: int) -> None:
        """Drive one worker until there is no more order; every end of it is an event."""
        worker, index = self._workers[number], None
        try:
            worker.start()
            self._events.put(_Event(number))
            while (order := self._orders[number].get()) is not None:
                index, job, ahead = order
                event = self._one(worker, number, index, job, ahead)
                index = None
                self._events.put(event)
                if not event.ready:
                    worker.start()
                    self._events.put(_Event(number))
        except Exception as error:  # noqa: BLE001  # raised by the thread that waits for events
            self._events.put(_Event(number, index, error=error))
        finally:
            worker.end()

    def _one(self, worker: Worker, number: int, index: int, job: Job, ahead: Sequence[Path]) -> _Event[Outcome]:
        try:
            outcome: Outcome = worker.process(job, ahead)  # type: ignore[assignment]
        except WorkerError as error:
            return _Event(number, index, failure=Failure(error.kind, str(error)), ready=error.kind == "error")
        return _Event(number, index, outcome)


def _threads_of_a_worker(count: int) -> dict[str, str]:
    """Divide the cores among the workers, unless the user has set a number of threads."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(cores // count, 1))}


def _original(error: Exception) -> Exception:
    """Return the error of the worker by its class, so that a missing model stays one."""
    if isinstance(error, StoppedError):  # pragma: no cover  # the parent does not wait for events then
        return error
    if not isinstance(error, StartError):
        return error
    kind = getattr(errors, error.error, None)
    if isinstance(kind, type) and issubclass(kind, OsteoError):
        return kind(error.text)
    return ConfigError(str(error))
