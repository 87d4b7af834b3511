"""Ledger of a batch: one SQLite file that says for every study what became of it.

Only the driver writes it, so that workers need no access. It uses a rollback journal: WAL needs shared memory, which
network disks do not have. Each change is on the disk before the call returns.
"""

import logging
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias, get_args

from osteo_monai.batch.settings import Part
from osteo_monai.errors import UnusableInputError
from osteo_monai.utils.files import write_bytes
from osteo_monai.utils.inputs import open_input
from osteo_monai.utils.transactions import transaction

__all__ = [
    "LEDGER",
    "Entry",
    "Ledger",
    "LedgerContent",
    "State",
    "StoredOutcome",
    "ledgers_below",
    "missing_parts",
    "read_ledger",
]

LEDGER = "ledger.sqlite"

State: TypeAlias = Literal["pending", "running", "measured", "refused", "failed"]
"""``pending``: not begun; ``running``: begun and not ended, also where the driver was killed; ``measured``: with a
result; ``refused``: a property of the input, with reasons; ``failed``: an error, a limit or a dead worker."""

_Change: TypeAlias = tuple[str, tuple[object, ...]]
"""A statement and its values."""

logger = logging.getLogger(__name__)

_STATES = get_args(State)
_CANNOT_WRITE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
_COPIES = 3
"""Attempts to copy a ledger that does not change meanwhile."""
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE batch (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE studies (
    position INTEGER NOT NULL, study TEXT PRIMARY KEY, kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN {_STATES}), codes TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
    seconds REAL, attempts INTEGER NOT NULL DEFAULT 0, started REAL, ended REAL
) STRICT;
CREATE INDEX studies_by_state ON studies (state);
"""
_OUTCOMES = (
    "CREATE TABLE IF NOT EXISTS outcomes (study TEXT PRIMARY KEY, identity TEXT NOT NULL, content TEXT NOT NULL) STRICT"
)


@dataclass(frozen=True)
class Entry:
    """A study in the ledger.

    Attributes:
        study: its key, unique in the batch: the name of its output folder.
        kind: ``ct``, ``radiograph`` or ``record``.
        state: of the study.
        codes: of refusals or of the failure.
        reason: sentences without identifiers.
        seconds: wall time of the last attempt.
        attempts: how often it was begun.
        started: Unix time of the last begin.
        ended: Unix time of the last end.
        position: in the order of the whole input, of which a part has some; the order of the entries if ``None``.
    """

    study: str
    kind: str
    state: State = "pending"
    codes: str = ""
    reason: str = ""
    seconds: float | None = None
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    position: int | None = None


@dataclass(frozen=True)
class StoredOutcome:
    """The stored outcome of a study whose result is no file of its own.

    Attributes:
        identity: hash of all that it depends on.
        content: as JSON.
    """

    identity: str
    content: str


@dataclass(frozen=True)
class LedgerContent:
    """What a ledger holds.

    Attributes:
        facts: of the last run.
        entries: the studies in the order of the input.
        outcomes: those that are stored, by study; empty unless requested.
        copied: the folder cannot be written and the ledger has the journal of a killed run, whose unfinished change was
            undone in a copy.
    """

    facts: Mapping[str, str]
    entries: tuple[Entry, ...]
    outcomes: Mapping[str, StoredOutcome] = field(default_factory=dict)
    copied: bool = False

    @property
    def ended(self) -> bool:
        """Whether the run has recorded its end; one that continues or was killed has not."""
        return bool(self.facts.get("ended"))


class Ledger:
    """The ledger of a running batch; one process writes it.

    Args:
        folder: output of the batch; must exist.

    Raises:
        UnusableInputError: the file is no ledger, or one of another version.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER
        self._late: list[_Change] = []
        try:
            self._db = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = DELETE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise _no_ledger(self._path, error) from None

    def _prepare(self) -> None:
        with transaction(self._db, self._path):
            if _version(self._db, self._path) == 0:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
            self._db.execute(_OUTCOMES)  # a ledger of an earlier run may lack it

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def begin(
        self, entries: Sequence[Entry], facts: Mapping[str, object], outcomes: Mapping[str, StoredOutcome] | None = None
    ) -> list[str]:
        """Replace the studies by those of this run.

        Args:
            entries: in the order of the input; those of an earlier run that are kept have their final state.
            facts: of this run.
            outcomes: stored ones that are kept.

        Returns:
            Keys of the studies that were running when an earlier run was killed.
        """
        before = self._db.execute("SELECT study, state, attempts, started, ended FROM studies")
        earlier = {study: values for study, *values in before}
        rows = []
        for index, entry in enumerate(entries):
            position = index if entry.position is None else entry.position
            _, attempts, started, ended = earlier.get(
                entry.study,
                ("", entry.attempts, entry.started, entry.ended),  # of the ledger of a part
            )
            times = (None, None) if entry.state == "pending" else (started, ended)
            values = (entry.study, entry.kind, entry.state, entry.codes, entry.reason, entry.seconds, attempts)
            rows.append((position, *values, *times))
        texts = {"started": repr(time.time()), "ended": ""} | {name: str(value) for name, value in facts.items()}
        with transaction(self._db, self._path):
            self._db.execute("DELETE FROM studies")
            self._db.executemany("INSERT INTO studies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.execute("DELETE FROM batch")
            self._db.executemany("INSERT INTO batch VALUES (?, ?)", texts.items())
            self._db.execute("DELETE FROM outcomes")
            stored = [(study, kept.identity, kept.content) for study, kept in (outcomes or {}).items()]
            self._db.executemany("INSERT INTO outcomes VALUES (?, ?, ?)", stored)
        return [study for study, (state, *_) in earlier.items() if state == "running"]

    def start(self, study: str) -> None:
        """Record that a study is given to a worker."""
        update = (
            "UPDATE studies SET state = 'running', codes = '', reason = '', seconds = NULL, started = ?, ended = NULL, "
            "attempts = attempts + 1 WHERE study = ?"
        )
        self._write((update, (time.time(), study)), ("DELETE FROM outcomes WHERE study = ?", (study,)))

    def finish(
        self, study: str, state: State, codes: str = "", reason: str = "", outcome: StoredOutcome | None = None
    ) -> None:
        """Record what became of a study, with its time since ``start``, and store its outcome in the same change."""
        now = time.time()
        update = (
            "UPDATE studies SET state = ?, codes = ?, reason = ?, ended = ?, seconds = max(? - started, 0) "
            "WHERE study = ?"
        )
        changes: list[_Change] = [(update, (state, codes, reason, now, now, study))]
        if outcome is not None:
            values = (study, outcome.identity, outcome.content)
            changes.append(("INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?)", values))
        self._write(*changes)

    def end(self) -> None:
        """Record the end of the run; studies that were given to a worker and have no outcome wait again."""
        self._write(
            ("UPDATE studies SET state = 'pending', started = NULL WHERE state = 'running'", ()),
            ("UPDATE batch SET value = ? WHERE name = 'ended'", (repr(time.time()),)),
        )

    def _write(self, *changes: _Change) -> None:
        """Change the ledger; what cannot be written now, for example on a full disk, is written with the next change.

        The ledger reports the batch, and the results are in files of their own: it must not end the batch.
        """
        self._late += changes
        try:
            with transaction(self._db, self._path):
                for late in self._late:
                    self._db.execute(*late)
        except (OSError, sqlite3.Error) as error:
            logger.warning("%s cannot be written yet (%s)", LEDGER, type(error).__name__)
        else:
            self._late.clear()


def read_ledger(path: Path, outcomes: bool = False) -> LedgerContent:
    """Read a ledger, also while a batch writes it, and on a read-only mount.

    Args:
        path: of the file.
        outcomes: also read the stored outcomes.

    Raises:
        UnusableInputError: there is no ledger of this version.
    """
    if not path.is_file():
        raise UnusableInputError(f"There is no ledger '{path}'.")
    try:
        return _read_or_recover(path, outcomes)
    except sqlite3.DatabaseError as error:
        raise _no_ledger(path, error) from None


def _read_or_recover(path: Path, outcomes: bool) -> LedgerContent:
    """Read a ledger; where a killed driver has left a journal, its transaction is undone first."""
    for mode in ("ro", "rw"):
        try:
            return _read(path, mode, outcomes)
        except sqlite3.OperationalError as error:
            cannot_write = error.sqlite_errorcode & 0xFF in _CANNOT_WRITE
            if mode == "rw" and not cannot_write:
                raise
    with TemporaryDirectory() as folder:
        return replace(_read(_copy(path, Path(folder)), "rw", outcomes), copied=True)


def _copy(path: Path, folder: Path) -> Path:
    """Copy a ledger and its journal, which undoes what the ledger has of an unfinished transaction.

    Raises:
        UnusableInputError: both changed meanwhile.
    """
    files = (path.with_name(f"{path.name}-journal"), path)
    for _ in range(_COPIES):
        before = [_stamp(file) for file in files]
        for file in files:
            (folder / file.name).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                write_bytes(folder / file.name, _bytes(file))
        if before == [_stamp(file) for file in files]:
            return folder / path.name
    raise UnusableInputError(f"'{path}' must not change while it is copied, got one that another process writes.")


def _bytes(path: Path) -> bytes:
    with open_input(path) as stream:
        return stream.read()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def _read(path: Path, mode: str, outcomes: bool) -> LedgerContent:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=60)) as db:
        if _version(db, path) == 0:  # killed before its tables were made
            return LedgerContent({}, ())
        db.execute("BEGIN")  # all that is read is of one moment
        facts = dict(db.execute("SELECT name, value FROM batch"))
        rows = db.execute(
            "SELECT study, kind, state, codes, reason, seconds, attempts, started, ended, position FROM studies "
            "ORDER BY position"
        ).fetchall()
        stored: list[tuple[str, str, str]] = []
        if outcomes and db.execute("SELECT 1 FROM sqlite_master WHERE name = 'outcomes'").fetchone():
            stored = db.execute("SELECT study, identity, content FROM outcomes").fetchall()
    kept = {study: StoredOutcome(identity, content) for study, identity, content in stored}
    return LedgerContent(facts, tuple(Entry(*row) for row in rows), kept)


def ledgers_below(folder: Path) -> dict[str, Path]:
    """Return the ledger of a batch, or those of its parts in the order of their numbers, by the name of the part."""
    paths = {"": folder / LEDGER} | {name: folder / name / LEDGER for name in _parts_below(folder)}
    return {name: path for name, path in paths.items() if path.is_file()}


def missing_parts(names: Collection[str]) -> tuple[str, ...]:
    """Return the names of the parts that belong to those of ``names`` and are not among them.

    Example:
        >>> missing_parts(["part_1_of_3", "part_3_of_3"])
        ('part_2_of_3',)
    """
    counts = sorted({Part.of_folder(name).count for name in names if name})
    wanted = [Part(number, count).folder for count in counts for number in range(1, count + 1)]
    return tuple(name for name in wanted if name not in names)


def _parts_below(folder: Path) -> list[str]:
    names = [path.name for path in folder.iterdir() if path.is_dir() and Part.is_folder(path.name)]
    return sorted(names, key=lambda name: (Part.of_folder(name).count, Part.of_folder(name).number))


def _version(db: sqlite3.Connection, path: Path) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise UnusableInputError(f"'{path}' must be a ledger of version {_VERSION}, got {version}.")
    return int(version)


def _no_ledger(path: Path, error: sqlite3.DatabaseError) -> UnusableInputError:
    return UnusableInputError(f"'{path}' must be the ledger of a batch, got a file that cannot be read "
                              f"({type(error).__name__}).")  # fmt: skip
