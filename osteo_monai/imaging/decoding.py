"""Decode DICOM pixel data: compressed ones in a process with limits, uncompressed ones here."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID

from osteo_monai.codecs.worker import PIXEL_TAGS, Job
from osteo_monai.codecs.worker import Limits as WorkerLimits
from osteo_monai.errors import UnusableInputError
from osteo_monai.imaging.dicom_headers import Instance, unusable_if_damaged
from osteo_monai.imaging.limits import InputLimits, input_limits
from osteo_monai.utils.text import one_line, safe_name

__all__ = ["PixelDecoder", "PixelFile", "decode_file"]

_WALL_PER_CPU_SECOND = 4
"""A machine under load gives a process a quarter of a processor (project custom)."""
_START_SECONDS = 30
_AHEAD = 2
"""Files sent to the process: it decodes one while the other is converted here."""


@dataclass(frozen=True)
class PixelFile:
    """One DICOM file and its size as stated in the header."""

    path: Path
    frames: int
    rows: int
    columns: int
    transfer_syntax: str

    @classmethod
    def of(cls, instance: Instance) -> Self:
        header = instance.header
        return cls(instance.path, instance.frames, int(header.Rows), int(header.Columns), instance.transfer_syntax)


def decode_file(file: PixelFile) -> NDArray[Any]:
    """Return the stored values of a file with one frame: (rows, columns) or (rows, columns, samples).

    Raises:
        UnusableInputError: as :meth:`PixelDecoder.decode`.
    """
    with PixelDecoder() as decoder:
        return next(decoder.decode([file]))


class PixelDecoder:
    """Decoder of the files of one series; the context ends the process that it started for compressed ones."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._worker is not None:
            self._worker.end()

    def prepare(self, transfer_syntax: str) -> None:
        """Start the process if the syntax is a compressed one: it starts while headers are read."""
        if self._worker is None and _is_encapsulated(transfer_syntax):
            self._worker = _Worker(input_limits())

    def decode(self, files: Sequence[PixelFile]) -> Iterator[NDArray[Any]]:
        """Yield the stored values of all frames of ``files`` in order.

        Raises:
            UnusableInputError: pixel data are absent, damaged, or of another size than stated; their codec is not
                installed; it failed, or reached a limit of :class:`InputLimits`. The message names the file.
        """
        for file in files:
            self.prepare(file.transfer_syntax)
        if self._worker is None:
            for file in files:
                yield from _uncompressed(file)
        else:
            yield from self._worker.decode(files)


def _is_encapsulated(transfer_syntax: str) -> bool:
    syntax = UID(transfer_syntax)
    return syntax.is_transfer_syntax and syntax.is_encapsulated


def _uncompressed(file: PixelFile) -> Iterator[NDArray[Any]]:
    problem = f"{_of(file)}: The pixel data are damaged"
    with unusable_if_damaged(problem):
        dataset = pydicom.dcmread(file.path, specific_tags=PIXEL_TAGS)
        if "PixelData" not in dataset:
            raise UnusableInputError(f"{_of(file)}: The image has no pixel data: the file is damaged or truncated.")
        frames = iter_pixels(dataset)
    for _ in range(file.frames):
        with unusable_if_damaged(problem):
            frame = next(frames)
            _check_shape(frame, file)
        yield frame


def _check_shape(frame: NDArray[Any], file: PixelFile) -> None:
    size = file.rows, file.columns
    if frame.shape[:2] != size:
        raise UnusableInputError(f"{_of(file)}: The image decodes to {frame.shape}, its header states {size}.")


def _of(file: PixelFile) -> str:
    name = safe_name(file.path)
    return name[0].upper() + name[1:]


class _Worker:
    """A process that runs ``osteo_monai.codecs.worker``."""

    def __init__(self, limits: InputLimits) -> None:
        self._limits = limits
        # one thread: the address space is limited, and thread pools reserve much of it
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "osteo_monai.codecs.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        seconds = self._limits.decoding_seconds
        self._send(WorkerLimits(memory=self._limits.decoding_mib * 2**20, seconds=seconds))
        self._wall = _START_SECONDS + _WALL_PER_CPU_SECOND * seconds
        self._pending = b""

    def end(self) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()

    def decode(self, files: Sequence[PixelFile]) -> Iterator[NDArray[Any]]:
        jobs = iter(
            Job(path=os.fspath(f.path.absolute()), frames=f.frames, rows=f.rows, columns=f.columns)
            for f in files
            if _is_encapsulated(f.transfer_syntax)
        )
        for job in islice(jobs, _AHEAD - 1):
            self._send(job)
        for file in files:
            if not _is_encapsulated(file.transfer_syntax):
                yield from _uncompressed(file)
                continue
            for job in islice(jobs, 1):
                self._send(job)
            for _ in range(file.frames):
                yield self._frame(file)

    def _send(self, message: Job | WorkerLimits) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended: reading its answer gives the reason
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def _frame(self, file: PixelFile) -> NDArray[Any]:
        until = time.monotonic() + self._wall
        head = json.loads(self._line(file, until))
        if head.get("memory"):
            limit = f"OSTEO_MAX_DECODING_MIB = {self._limits.decoding_mib}"
            raise UnusableInputError(f"{_of(file)}: The image needs more memory than the limit ({limit}).")
        if "error" in head:
            raise UnusableInputError(f"{_of(file)}: {one_line(head['error'])}")
        values = np.empty(head["shape"], np.dtype(head["dtype"]))
        _check_shape(values, file)
        self._fill(values.reshape(-1).view(np.uint8).data, file, until)
        return values

    def _line(self, file: PixelFile, until: float) -> bytes:
        while b"\n" not in self._pending:
            self._pending += self._read(1 << 16, file, until)
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _fill(self, target: memoryview, file: PixelFile, until: float) -> None:
        first = self._pending[: len(target)]
        self._pending = self._pending[len(first) :]
        target[: len(first)] = first
        done = len(first)
        while done < len(target):
            part = self._read(len(target) - done, file, until)
            target[done : done + len(part)] = part
            done += len(part)

    def _read(self, most: int, file: PixelFile, until: float) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        if not waiting.poll(1000 * max(0.0, until - time.monotonic())):
            raise UnusableInputError(f"{_of(file)}: The image was not decoded within {self._wall} s.")
        part = os.read(pipe, most)
        if not part:
            raise UnusableInputError(f"{_of(file)}: {self._end_reason()}")
        return part

    def _end_reason(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGPROF:
            limit = f"OSTEO_MAX_DECODING_SECONDS = {self._limits.decoding_seconds}"
            return f"The image needs more processor time than the limit ({limit})."
        kind = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"The codec ended on the compressed image ({kind}): the data are damaged."
