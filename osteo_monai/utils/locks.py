"""A lock on a folder that ends with its process, also after SIGKILL."""

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from osteo_monai.utils.inputs import open_input, read_input

__all__ = ["LOCK_NAME", "FolderLock", "LockState", "LockedError", "folder_lock", "read_lock"]

LOCK_NAME = ".osteo_monai.lock"

LockState: TypeAlias = Literal["held", "free", "left", "unknown"]
"""``held``: by a process that lives; ``free``: no lock file; ``left``: by a process that was killed; ``unknown``: taken
on another host, whose lock is not visible here; that process was killed, or the file system does not share locks."""

_TRIES, _PAUSE_SECONDS = 5, 0.02
"""Attempts to lock: ``read_lock`` of another process holds the file for a moment."""

logger = logging.getLogger(__name__)


class LockedError(BlockingIOError):
    """Another process holds the lock."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder inside the block.

    The operating system releases the lock when the process ends, so that the file of a killed process does not block.
    The file, which has the names of host and process, is removed at the end of the block.

    Args:
        folder: must exist and be writable.

    Raises:
        LockedError: another process, or another block of this one, holds the lock.
        OSError: the lock file cannot be made.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with folder_lock(folder):
        ...     with folder_lock(folder):
        ...         pass
        Traceback (most recent call last):
        osteo_monai.utils.locks.LockedError: ...
    """
    path = folder / LOCK_NAME
    descriptor = _acquire(path)
    try:
        with suppress(OSError):  # on a full disk the lock holds without names
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path)
            if _same_file(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder removed the file between opening and locking it


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(descriptor: int, path: Path) -> None:
    import fcntl

    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not left:
                raise LockedError(error.errno, "The folder is locked", str(path)) from None
            time.sleep(_PAUSE_SECONDS)
        except OSError as error:  # some network file systems have no locks
            logger.warning("the output folder cannot be locked: %s", error.strerror)
            return
        else:
            return


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderLock:
    """The lock of a folder, as another process sees it.

    Attributes:
        state: whether it is held.
        host: where it was taken, ``None`` if not known.
    """

    state: LockState
    host: str | None = None


def read_lock(folder: Path) -> FolderLock:
    """Return whether a process holds the lock of a folder, without taking it and without writing.

    Locks of NFS are seen from all hosts, those of some other network file systems only from the host that took them.

    Args:
        folder: may be on a read-only mount.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> read_lock(folder).state
        'free'
        >>> with folder_lock(folder):
        ...     read_lock(folder).state
        'held'
    """
    path = folder / LOCK_NAME
    if not path.exists():
        return FolderLock("free")
    host, pid = _taken_by(path)
    here = host == socket.gethostname()
    held = _is_held(path)
    if held is None:  # a file system without locks: a process number is reused only after a long time
        held = here and pid is not None and _lives(pid)
    state: LockState = "held" if held else "left" if here or host is None else "unknown"
    return FolderLock(state, host)


def _taken_by(path: Path) -> tuple[str | None, int | None]:
    try:
        content = json.loads(read_input(path))
        return str(content["host"]), int(content["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _is_held(path: Path) -> bool | None:
    """Return whether another process holds the lock; ``None`` if locks cannot be tested."""
    import fcntl

    try:
        with open_input(path) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released with the file
    except BlockingIOError:
        return True
    except FileNotFoundError:  # its holder has just ended
        return False
    except OSError:
        return None
    return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # of another user
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
