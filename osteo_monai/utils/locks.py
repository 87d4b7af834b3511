"""A lock on a folder that ends with its process, also after SIGKILL."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK_NAME", "LockedError", "folder_lock"]

LOCK_NAME = ".osteo_monai.lock"

logger = logging.getLogger(__name__)


class LockedError(BlockingIOError):
    """Another process holds the lock."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on a folder inside the block.

    The operating system releases the lock when the process ends, so that the file of a killed process does not block.
    The file is removed at the end of the block.

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

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError(error.errno, "The folder is locked", str(path)) from None
    except OSError as error:  # some network file systems have no locks
        logger.warning("the output folder cannot be locked: %s", error.strerror)
