"""Parent of the screening process: starts it, gives it studies, enforces limits of time and memory."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from osteo_monai.errors import OsteoError
from osteo_monai.node.config import Screening
from osteo_monai.node.processing import Processed

__all__ = ["ScreeningError", "ScreeningProcess", "StartError", "StoppedError"]

_POLL_SECONDS = 0.1
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ScreeningError(OsteoError):
    """A study was not screened; the message is a reason without identifiers."""


class StartError(ScreeningError):
    """The process could not be started, for example because a model is missing.

    Args:
        message: the reason.
        kind: name of the error in the process.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self._arguments = (message, kind)


class StoppedError(ScreeningError):
    """The node stops."""


class ScreeningProcess:
    """One process that screens; it is started again after it was ended.

    Args:
        settings: limits, and what the processor gets.
        processor: ``package.module:function`` of type :data:`osteo_monai.node.processing.Load`.
        stop: ends a running screening when set.
        hidden: environment variables that the process does not get, such as credentials.
    """

    def __init__(
        self, settings: Screening, processor: str, stop: threading.Event, hidden: Collection[str] = ()
    ) -> None:
        self._settings = settings
        self._processor = processor
        self._stop = stop
        self._hidden = frozenset(hidden)
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and wait until it has loaded the models.

        Raises:
            StartError: it ended or took too long.
            StoppedError: the node stops.
        """
        if self.running:
            return
        self._pending = b""
        environment = {name: value for name, value in os.environ.items() if name not in self._hidden}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "osteo_monai.node.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
            start_new_session=True,  # a group of its own, ended as a whole
        )
        settings = self._settings.model_dump(mode="json", exclude={"retry"})
        self._send({"processor": self._processor, "settings": settings})
        try:
            answer = self._answer(self._settings.start_seconds)
        except StoppedError:
            raise
        except ScreeningError as error:
            raise StartError(f"The screening process did not start: {error}") from None
        if "failed" in answer:
            self.end()
            reason = answer["message"] or f"it stopped with {answer['failed']}"
            raise StartError(f"The screening process did not start: {reason}", answer["failed"])

    def screen(self, images: Path, output: Path) -> Processed:
        """Screen one study.

        Raises:
            StartError: the process cannot be started.
            StoppedError: the node stops.
            ScreeningError: the process failed, crashed, or exceeded a limit and was ended.
        """
        self.start()
        self._send({"input": os.fspath(images), "output": os.fspath(output)})
        answer = self._answer(self._settings.seconds)
        if "failed" in answer:
            raise ScreeningError(f"the screening stopped with {answer['failed']}")
        return Processed(answer["outcome"], tuple(answer["files"]), answer["summary"], answer["notify"])

    def end(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended: reading its answer gives the reason
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        until = time.monotonic() + seconds
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        while b"\n" not in self._pending:
            if waiting.poll(1000 * _POLL_SECONDS):
                part = os.read(pipe, 1 << 16)
                if not part:
                    raise self._ended(f"its process ended ({self._exit_kind()})")
                self._pending += part
            elif self._stop.is_set():
                self.end()
                raise StoppedError("the node stops")
            elif time.monotonic() > until:
                raise self._ended(f"it took longer than {seconds:g} s")
            elif (used := group_memory(self._process.pid)) > self._settings.memory_mib * 2**20:
                raise self._ended(f"it needed more memory than {self._settings.memory_mib} MiB ({used >> 20} MiB)")
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _exit_kind(self) -> str:
        assert self._process is not None
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _ended(self, reason: str) -> ScreeningError:
        self.end()
        return ScreeningError(reason)


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
