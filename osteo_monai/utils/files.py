"""Atomic writes and checksums: a reader sees a complete file or none."""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from osteo_monai.utils.inputs import open_input

__all__ = [
    "file_sha256",
    "sync",
    "write_bytes",
    "write_json",
    "write_text",
    "writing",
    "writing_folder",
]

_NOT_WRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG})


@contextmanager
def writing(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and move it there when the block succeeds.

    The temporary name keeps all suffixes of ``path``, since libraries choose the format by them. When the block raises,
    the temporary file is removed and ``path`` stays as it was. The folder is made if missing. An ``OSError`` of a full
    or read-only disk names ``path``.

    Args:
        path: of the file.
        durable: also flush the file and its folder to the disk, so that the file survives a loss of power.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a" / "numbers.txt"
        >>> with writing(target) as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> target.read_text()
        '1 2 3'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        yield temporary
        if durable:
            sync(temporary, required=True)
        os.replace(temporary, target)
        if durable:
            sync(target.parent, required=True)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:  # a full disk has no file name, and the temporary name says nothing
            raise OSError(error.errno, os.strerror(error.errno), os.fspath(target)) from error
        raise
    finally:
        with suppress(OSError):  # the first error is the reason
            temporary.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty temporary folder beside ``path``, which it replaces when the block succeeds.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a"
        >>> with writing_folder(target) as temporary:
        ...     write_text(temporary / "numbers.txt", "1 2 3")
        >>> [file.name for file in target.iterdir()]
        ['numbers.txt']
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (target.with_name(f".{secrets.token_hex(4)}.{target.name}") for _ in range(2))
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 with ``\\n`` line ends, atomically."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` atomically."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = 2) -> None:
    """Write ``value`` as JSON atomically; raise ``ValueError`` on NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def sync(path: str | os.PathLike[str], required: bool = False) -> None:
    """Wait until a file, or the names in a folder, are on the disk.

    A file that is renamed before may be empty after a power failure.

    Args:
        path: of the file or folder.
        required: a file system that cannot do this is an error.
    """
    with nullcontext() if required else suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open_input(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
