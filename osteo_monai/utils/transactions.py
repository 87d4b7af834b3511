"""Transactions of SQLite files that others read at the same time, and an error that names a full disk."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["transaction"]


@contextmanager
def transaction(db: sqlite3.Connection, path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold one transaction; it is on the disk at the end of the block, or undone.

    Args:
        db: connection with ``isolation_level=None``, and ``PRAGMA synchronous = FULL`` for the flush to the disk.
        path: of its file, for the error.

    Raises:
        OSError: the disk is full (``ENOSPC``); SQLite has undone the transaction.

    Example:
        >>> db = sqlite3.connect(":memory:", isolation_level=None)
        >>> _ = db.execute("CREATE TABLE numbers (value INTEGER)")
        >>> with transaction(db, "numbers.sqlite"):
        ...     _ = db.execute("INSERT INTO numbers VALUES (1)")
        >>> db.execute("SELECT value FROM numbers").fetchall()
        [(1,)]
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException as error:
        if db.in_transaction:  # a full disk ends it at once, also at COMMIT
            db.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(Path(path))) from None
        raise
