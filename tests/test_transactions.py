"""Transactions of the ledger of a batch and the queue of a node: whole or undone, and a full disk is named."""

import errno
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from osteo_monai.utils.transactions import transaction

Make = Callable[[str], sqlite3.Connection]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Make]:
    """Return a function that opens a file with a journal of the given kind and one table."""
    opened = []

    def make(journal: str) -> sqlite3.Connection:
        db = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
        opened.append(db)
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("CREATE TABLE texts (value TEXT)")
        return db

    yield make
    for db in opened:
        db.close()


def insert(db: sqlite3.Connection, texts: list[str], error: Exception | None = None) -> None:
    """Insert rows in one transaction, which the error ends."""
    with transaction(db, Path("a.sqlite")):
        for text in texts:
            db.execute("INSERT INTO texts VALUES (?)", (text,))
        if error is not None:
            raise error


def count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM texts").fetchone()[0])


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_an_error_undoes_the_block(connect: Make, journal: str) -> None:
    db = connect(journal)
    with pytest.raises(KeyError):
        insert(db, ["a"], KeyError())
    assert (db.in_transaction, count(db)) == (False, 0)
    insert(db, ["a"])
    assert count(db) == 1


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_full_disk_is_an_error_of_the_disk_and_undoes_the_block(connect: Make, journal: str) -> None:
    db = connect(journal)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(OSError, match="a.sqlite") as error:
        insert(db, ["x" * 4000] * 20)
    assert error.value.errno == errno.ENOSPC
    assert (db.in_transaction, count(db)) == (False, 0)
    db.execute("PRAGMA max_page_count = 1000")
    insert(db, ["a"])
    assert count(db) == 1


def test_other_errors_of_the_file_stay(connect: Make, tmp_path: Path) -> None:
    db = connect("DELETE")
    db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        insert(db, ["a"])
    other.close()
