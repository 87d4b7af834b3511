"""Address of an MLflow store, and its check before work begins: reachable, sound, writable, with its tables made."""

import os
import sqlite3
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from osteo_monai.errors import ConfigError

__all__ = ["artifact_location", "prepare_store", "sqlite_uri", "store_uri"]

SQLITE = "sqlite:///"
_SECONDS = 4.0
"""Time limit of each step; at most two steps are taken."""
_MAKING_SECONDS = 120.0
"""Longest wait for another process of this package that makes the tables of the store, which takes some 10 s."""


def sqlite_uri(path: str | os.PathLike[str]) -> str:
    """Return the MLflow URI of the SQLite file at ``path``; its folder is made if missing."""
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    return f"{SQLITE}{file}"


def store_uri(uri: str) -> str:
    """Return the URI of the store in use: the variable ``MLFLOW_TRACKING_URI`` if set, else ``uri``.

    A relative SQLite path becomes absolute, since MLflow makes no URI of a relative folder of artifacts.
    """
    used = os.environ.get("MLFLOW_TRACKING_URI") or uri
    return f"{SQLITE}{Path(used.removeprefix(SQLITE)).absolute()}" if used.startswith(SQLITE) else used


def artifact_location(uri: str) -> str | None:
    """Return the folder ``mlartifacts`` beside an SQLite file as a URI; ``None``: the server decides."""
    return (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts").as_uri() if uri.startswith(SQLITE) else None


def prepare_store(uri: str) -> None:
    """Check an MLflow store, and make the tables of an SQLite one.

    Args:
        uri: a URI of MLflow: ``sqlite:///FILE``, ``http(s)://HOST``; others are not checked.

    Raises:
        ConfigError: it cannot be reached, is damaged, locked by another program, or cannot be written. Within 10 s.
    """
    if uri.startswith(SQLITE):
        _prepare_sqlite(Path(uri.removeprefix(SQLITE)), uri)
    elif urlsplit(uri).scheme in ("http", "https"):
        _reach(uri)


def _reach(uri: str) -> None:
    parts = urlsplit(uri)
    host = parts.hostname or ""
    shown = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"  # without user and password
    unverified = ssl.create_default_context()  # nothing is sent; MLflow itself verifies as it is configured
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    path = f"{parts.path.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(f"{shown}{path}", timeout=_SECONDS, context=unverified):
            return
    except urllib.error.HTTPError:
        return  # an answer
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        words = getattr(reason, "strerror", None) or ("timed out" if isinstance(reason, TimeoutError) else "no answer")
        raise ConfigError(f"The tracking store must be reachable, got '{shown}' ({words}).") from None


def _prepare_sqlite(file: Path, uri: str) -> None:
    if not file.parent.is_dir():
        raise ConfigError(f"The folder of the tracking store must exist, got '{file.parent}'.")
    with _only_process(file):
        _check_sqlite(file)
        # two processes that make the tables at once end with an error of MLflow
        try:
            from mlflow import MlflowClient

            MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
        except Exception as error:  # noqa: BLE001  # of SQLAlchemy, alembic and MLflow
            raise _unusable(file, type(error).__name__) from None


def _check_sqlite(file: Path) -> None:
    if file.exists() and not file.is_file():
        raise _unusable(file, "not a regular file")
    try:
        with closing(sqlite3.connect(file, timeout=_SECONDS, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            database.execute("CREATE TABLE osteo_monai_can_write (x)")
            database.execute("ROLLBACK")
            answer = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise _unusable(file, str(error)) from None
    if answer != "ok":
        raise _unusable(file, "damaged")


def _unusable(file: Path, reason: str) -> ConfigError:
    return ConfigError(f"The tracking store must be an SQLite file that can be written, got '{file}' ({reason}).")


@contextmanager
def _only_process(file: Path) -> Iterator[None]:
    """Hold a lock beside the database: one process at a time makes or checks the tables."""
    import fcntl

    try:
        descriptor = os.open(file.with_name(f".{file.name}.lock"), os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise _unusable(file, error.strerror or "no access") from None
    try:
        until = time.monotonic() + _MAKING_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise _unusable(file, "locked by another process") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
