"""Parent of one worker: starts its process, gives it studies, enforces limits of time and memory."""

import json
import math
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from osteo_monai.batch.frames import HEADER_BYTES, write_frame
from osteo_monai.batch.settings import Limits
from osteo_monai.errors import OsteoError

__all__ = ["FailureKind", "Load", "StartError", "StoppedError", "WorkerError", "WorkerProcess", "group_memory"]

_POLL_SECONDS = 0.1
_PAGE = os.sysconf("SC_PAGE_SIZE")

Load: TypeAlias = Callable[[], Callable[[Any], Any]]
"""Loads the models and returns what processes one study; an object that can be pickled."""

FailureKind: TypeAlias = Literal["error", "died", "time", "memory"]
"""Why a study was not processed: its own error, the death of its worker, or a limit."""


class WorkerError(OsteoError):
    """A study was not processed; the message is a reason without identifiers.

    Args:
        message: the reason.
        kind: why.
    """

    def __init__(self, message: str, kind: FailureKind = "error") -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self._arguments = (message, kind)


class StartError(OsteoError):
    """A worker could not be started, for example because a model is missing.

    Args:
        message: the reason.
        error: name of the error in the worker.
        text: its message.
    """

    def __init__(self, message: str, error: str = "", text: str = "") -> None:
        super().__init__(message)
        self.error = error
        self.text = text
        self._arguments = (message, error, text)


class StoppedError(OsteoError):
    """The parent has ended the work."""


class WorkerProcess:
    """One process that processes studies; it is started again after it was ended.

    Args:
        load: loads the models in the process.
        limits: of one study.
        stop: ends the work when set.
        name: of the process in messages.
        hidden: environment variables that the process does not get, such as credentials.
        environment: further variables of the process.
        pickled_answers: answers are pickles. A pickle can run code in this process: without it answers are JSON, for a
            parent that has more rights than the process.
    """

    def __init__(
        self,
        load: Load,
        limits: Limits,
        stop: threading.Event,
        *,
        name: str = "worker",
        hidden: Collection[str] = (),
        environment: Mapping[str, str] | None = None,
        pickled_answers: bool = True,
    ) -> None:
        self._load = load
        self._limits = limits
        self._stop = stop
        self._name = name
        self._hidden = frozenset(hidden)
        self._environment = dict(environment or {})
        self._pickled = pickled_answers
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = bytearray()

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Number of the process; ``None`` before it was started and after it was ended."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and wait until it has loaded the models.

        Raises:
            StartError: it ended or took too long.
            StoppedError: the work was ended.
        """
        if self.running:
            return
        self.end()
        environment = {name: value for name, value in os.environ.items() if name not in self._hidden}
        environment |= self._environment
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "osteo_monai.batch.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
            start_new_session=True,  # a group of its own, ended as a whole
        )
        self._send((pickle.dumps(self._load), self._pickled))
        try:
            answer = self._answer(self._limits.start_seconds)
        except WorkerError as error:
            raise StartError(f"The {self._name} did not start: {error}") from None
        if "failed" in answer:
            self.end()
            reason = answer["message"] or f"it stopped with {answer['failed']}"
            raise StartError(f"The {self._name} did not start: {reason}", answer["failed"], answer["message"])

    def process(self, job: object, ahead: Sequence[Path] = ()) -> Any:
        """Process one study and return the answer.

        Args:
            job: anything that can be pickled.
            ahead: files and folders of the next study, which the process reads meanwhile (``osteo_monai.batch.ahead``).

        Raises:
            StartError: the process cannot be started.
            StoppedError: the work was ended.
            WorkerError: the process failed, died, or exceeded a limit and was ended.
        """
        self.start()
        self._send((job, ahead))
        answer = self._answer(math.inf if self._limits.seconds is None else self._limits.seconds)
        if "failed" in answer:
            raise WorkerError(f"it stopped with {answer['failed']}")
        return answer["value"]

    def end(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        self._pending = bytearray()
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.wait()

    def _send(self, message: object) -> None:
        assert self._process is not None
        with suppress(BrokenPipeError):  # the process has ended: reading its answer gives the reason
            write_frame(self._process.stdin, pickle.dumps(message))

    def _answer(self, seconds: float) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        until = time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        while (content := self._whole_frame()) is None:
            if waiting.poll(1000 * min(_POLL_SECONDS, max(until - time.monotonic(), 0))):
                part = os.read(pipe, 1 << 16)
                if not part:
                    raise self._ended(f"its process ended ({self._exit_kind()})", "died")
                self._pending += part
            elif self._stop.is_set():
                self.end()
                raise StoppedError("the work was ended")
            elif self._process.poll() is not None:  # a process that it has started may hold the pipe
                raise self._ended(f"its process ended ({self._exit_kind()})", "died")
            elif time.monotonic() > until:
                raise self._ended(f"it took longer than {seconds:g} s", "time")
            else:
                self._check_memory()
        return pickle.loads(content) if self._pickled else json.loads(content)

    def _check_memory(self) -> None:
        limit = self._limits.memory_mib
        if limit is None or self._process is None:
            return
        used = group_memory(self._process.pid)
        if used > limit * 2**20:
            raise self._ended(f"it needed more memory than {limit:g} MiB ({used >> 20} MiB)", "memory")

    def _whole_frame(self) -> bytes | None:
        if len(self._pending) < HEADER_BYTES:
            return None
        end = HEADER_BYTES + int.from_bytes(self._pending[:HEADER_BYTES], "big")
        if len(self._pending) < end:
            return None
        content = bytes(self._pending[HEADER_BYTES:end])
        del self._pending[:end]
        return content

    def _exit_kind(self) -> str:
        assert self._process is not None
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _ended(self, reason: str, kind: FailureKind) -> WorkerError:
        self.end()
        return WorkerError(reason, kind)


def group_memory(group: int) -> int:
    """Return the resident bytes of all processes of a group; 0 where the system has no /proc."""
    total = 0
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return 0
    for name in names:
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{name}/stat", "rb") as stream:
                fields = stream.read().rpartition(b")")[2].split()
            if int(fields[2]) == group:
                total += int(fields[21]) * _PAGE
    return total
