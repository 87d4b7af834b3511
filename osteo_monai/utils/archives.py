"""Unpack zip archives of unknown origin, within limits."""

import hashlib
import lzma
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from osteo_monai.utils.inputs import open_input
from osteo_monai.utils.locks import folder_lock

__all__ = ["ArchiveError", "ArchiveLimits", "is_zip", "temporary_folder", "unpack_zip"]

_PREFIX = "osteo_monai_zip_"
_NEW_SECONDS = 60.0
"""A temporary folder younger than this may not be locked yet."""
_CHUNK = 1 << 20
_LONGEST_NAME = 150


class ArchiveError(ValueError):
    """An archive is damaged, encrypted, unsafe or above a limit; the message is a phrase with the reason."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits of one archive, see ``osteo_monai.imaging.limits.InputLimits``.

    Attributes:
        files: in it.
        mib: of all files unpacked.
        ratio: unpacked size by size of the archive, for archives above ``ratio_from_bytes`` unpacked.
    """

    files: int
    mib: int
    ratio: int
    ratio_from_bytes: int = 256 * 2**20


def is_zip(path: Path) -> bool:
    """Whether a regular file is named ``.zip`` and starts like one."""
    if path.suffix.lower() != ".zip":
        return False
    try:
        with open_input(path) as stream:
            return stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a temporary folder that is removed at the end; those of killed processes are removed first."""
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _NEW_SECONDS:
                _remove_abandoned(old)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
        content = Path(name) / "content"
        with folder_lock(Path(name)):
            content.mkdir()
            yield content


def _remove_abandoned(folder: Path) -> None:
    with folder_lock(folder):  # not free while its process lives
        shutil.rmtree(folder, ignore_errors=True)


def unpack_zip(path: Path, target: Path, limits: ArchiveLimits) -> None:
    """Unpack all regular files of a zip archive below ``target``, which must not exist; nothing stays after an error.

    Names of entries that a file system does not accept are shortened; a path out of the archive is an error.

    Raises:
        ArchiveError: damaged, encrypted, unsafe or above a limit.
        OSError: ``target`` cannot be written.
    """
    damaged = "archive that is damaged or compressed by an unknown method"
    try:
        with open_input(path) as stream, zipfile.ZipFile(stream) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check(entries, path.stat().st_size, target, limits)
            for entry in entries:
                _unpack(archive, entry, target / _safe_name(entry.filename))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeError) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ArchiveError(damaged) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ArchiveError("archive with several files of one name") from error
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        if error.errno is None:  # invalid bzip2 data; errors of the file system have a number
            raise ArchiveError(damaged) from error
        raise
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _check(entries: list[zipfile.ZipInfo], size: int, target: Path, limits: ArchiveLimits) -> None:
    if len(entries) > limits.files:
        raise ArchiveError(f"archive with more than {limits.files} files (OSTEO_MAX_ARCHIVE_FILES)")
    total = sum(entry.file_size for entry in entries)
    if total > limits.mib * 2**20:
        raise ArchiveError(f"archive with more than {limits.mib} MiB unpacked (OSTEO_MAX_ARCHIVE_MIB)")
    if total > limits.ratio_from_bytes and total > limits.ratio * size:
        reason = f"archive compressed by more than {limits.ratio} (OSTEO_MAX_ARCHIVE_RATIO): suspected archive bomb"
        raise ArchiveError(reason)
    target.mkdir(parents=True)
    if total > shutil.disk_usage(target).free:
        raise ArchiveError("archive larger than the space for temporary files")
    for entry in entries:
        if entry.flag_bits & 0x1:
            raise ArchiveError("archive that is encrypted")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ArchiveError("archive that contains links")
        name = entry.filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
            raise ArchiveError("archive with paths out of the archive")


def _safe_name(name: str) -> PurePosixPath:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return PurePosixPath(*(_safe_part(part) for part in parts)) if parts else PurePosixPath("unnamed")


def _safe_part(part: str) -> str:
    clean = "".join(c if c.isprintable() else "_" for c in part)
    encoded = clean.encode("utf-8", "replace")
    if clean == part and len(encoded) <= _LONGEST_NAME:
        return part
    digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    suffix = "".join(PurePosixPath(clean).suffixes[-2:])[-12:]
    return f"{encoded[:_LONGEST_NAME].decode('utf-8', 'ignore')}_{digest}{suffix}"


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, temporary: Path) -> None:
    """Unpack one file; never more bytes than the entry declares."""
    temporary.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, temporary.open("xb") as file:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise ArchiveError("archive with files larger than declared")
            file.write(chunk)
