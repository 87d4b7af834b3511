"""Read the files of the next study while the present one is computed.

The content is not kept here: the operating system has it in its page cache, from which the next study is then read.
Results, limits and the memory of a worker do not depend on it. It saves the waiting for a slow or remote disk, and no
time of a processor.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from osteo_monai.utils.inputs import open_input, walk_tree

__all__ = ["MOST_BYTES", "ReadAhead"]

MOST_BYTES = 2 << 30
"""Most that is read ahead of one study: 4,000 uncompressed CT slices of 512 x 512 pixels."""

_CHUNK_BYTES = 1 << 20


class ReadAhead:
    """Reads one study ahead by a thread, which ends with the process."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, paths: Sequence[Path]) -> None:
        """Read files, and those below folders; what is still read of an earlier call is given up.

        Files that cannot be read are left out: the study itself reports them.
        """
        self._stop.set()
        self._stop = threading.Event()
        if paths:
            self._thread = threading.Thread(target=_read, args=(paths, self._stop), daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait until the files are read."""
        if self._thread is not None:
            self._thread.join()


def _read(paths: Sequence[Path], stop: threading.Event) -> None:
    buffer, left = bytearray(_CHUNK_BYTES), MOST_BYTES
    for path in paths:
        with suppress(OSError):
            files = [file for _, found in walk_tree(path) for file in found] if path.is_dir() else [path]
            for file in files:
                left -= _read_file(file, buffer, left, stop)
        if left <= 0 or stop.is_set():
            return


def _read_file(path: Path, buffer: bytearray, most: int, stop: threading.Event) -> int:
    """Read a file and return the number of its bytes that were read."""
    total = 0
    with suppress(OSError), open_input(path) as stream:
        while total < most and not stop.is_set() and (count := stream.readinto(buffer)):  # type: ignore[attr-defined]
            total += count
    return total
