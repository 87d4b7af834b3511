"""SQLite file of the node's queue: schema, transactions, rows."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.transactions import transaction

__all__ = ["Database", "Row"]

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE studies (
    study TEXT PRIMARY KEY, state TEXT NOT NULL, first_at REAL NOT NULL, last_at REAL NOT NULL,
    images INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE images (
    image TEXT PRIMARY KEY, study TEXT NOT NULL, content TEXT NOT NULL, bytes INTEGER NOT NULL,
    present INTEGER NOT NULL, at REAL NOT NULL
) STRICT;
CREATE INDEX images_of_study ON images (study);
CREATE TABLE jobs (
    job INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, version INTEGER NOT NULL, content TEXT NOT NULL,
    forced INTEGER NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL,
    reason TEXT NOT NULL DEFAULT '', outcome TEXT NOT NULL DEFAULT '', seconds REAL, at REAL NOT NULL,
    UNIQUE (study, version)
) STRICT;
CREATE TABLE deliveries (
    delivery INTEGER PRIMARY KEY AUTOINCREMENT, job INTEGER NOT NULL, destination TEXT NOT NULL, file TEXT NOT NULL,
    instance TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL,
    reason TEXT NOT NULL DEFAULT '', at REAL NOT NULL, UNIQUE (job, destination, file)
) STRICT;
CREATE INDEX studies_by_state ON studies (state);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX deliveries_by_state ON deliveries (state, destination);
CREATE TABLE quarantine (
    image TEXT NOT NULL, content TEXT NOT NULL, study TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (image, content)
) STRICT;
CREATE TABLE followed (study TEXT PRIMARY KEY, images INTEGER NOT NULL, at REAL NOT NULL) STRICT;
"""

Row = dict[str, Any]


class Database:
    """One SQLite file, for all threads of the node and for the commands that list and retry.

    Args:
        path: of the file; made if missing.

    Raises:
        UnusableInputError: the file is no queue, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._path = path
        try:
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._prepare(path)
        except sqlite3.DatabaseError as error:
            raise UnusableInputError(
                f"'{path}' must be the queue of a node, got a file that cannot be read ({type(error).__name__})."
            ) from None

    def _prepare(self, path: Path) -> None:
        with self.change():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            elif version != _SCHEMA_VERSION:
                raise UnusableInputError(f"'{path}' must be a queue of version {_SCHEMA_VERSION}, got {version}.")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold one transaction; it is on the disk at the end of the block, or undone.

        Raises:
            OSError: the disk is full.
        """
        with self._lock, transaction(self._db, self._path):
            yield

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> int:
        """Change rows inside ``change`` and return their number."""
        return self._db.execute(statement, values).rowcount

    def rows(self, statement: str, *values: Any) -> list[Row]:
        """Return the rows of a statement."""
        with self._lock:
            return [dict(row) for row in self._db.execute(statement, values)]

    def one(self, statement: str, *values: Any) -> Row | None:
        """Return the first row of a statement."""
        rows = self.rows(statement, *values)
        return rows[0] if rows else None
