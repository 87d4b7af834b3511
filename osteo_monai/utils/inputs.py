"""Open input files, regular ones only, and walk folder trees: every entry is listed, or skipped with a reason."""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "OUTPUT_REASON",
    "OnSkip",
    "check_regular",
    "ignore_skipped",
    "open_input",
    "read_input",
    "same_content",
    "walk_tree",
]

OnSkip = Callable[[Path, str], None]
"""Called with the path of an entry that is left out, and the reason as a phrase."""

OUTPUT_REASON = "output folder of this run"

_KINDS = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def ignore_skipped(path: Path, reason: str) -> None:
    """Do nothing with a skipped entry."""


def check_regular(path: str | os.PathLike[str]) -> None:
    """Check that a path is a regular file: reading a pipe or a device may never end.

    Raises:
        OSError: there is no such file, or it is a folder, pipe, socket or device.
    """
    _refuse_irregular(os.stat(path).st_mode, path)


def open_input(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; a pipe without writer does not block.

    Raises:
        OSError: as :func:`check_regular`.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "a.txt")
        >>> _ = file.write_text("content")
        >>> with open_input(file) as stream:
        ...     stream.read()
        b'content'
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _refuse_irregular(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_input(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Return the text of a regular file with ``\\n`` line ends.

    Raises:
        OSError: as :func:`check_regular`.
        UnicodeDecodeError: the content is not text in this encoding.
    """
    with open_input(path) as stream:
        text = stream.read().decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def same_content(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two regular files have the same bytes.

    Raises:
        OSError: as :func:`check_regular`.
    """
    with open_input(one) as first, open_input(other) as second:
        if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
            return False
        return first.read() == second.read()


def _refuse_irregular(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Input must be a regular file", os.fspath(path))


def walk_tree(
    root: Path, on_skip: OnSkip = ignore_skipped, exclude: Collection[Path] = ()
) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder below ``root`` with its regular files, in a fixed order.

    Links are followed, and no file or folder is listed twice: a link to something that the tree contains anyway is
    skipped, and so is a link to a folder that contains ``root``.

    Args:
        root: a folder.
        on_skip: called for each entry that is left out: hidden entries, DICOMDIR, pipes, sockets, devices, links that
            are broken or lead to listed entries, folders without permission.
        exclude: folders to leave out, such as that of the output.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> _ = (root / "a.txt").write_text("content")
        >>> os.mkfifo(root / "pipe")
        >>> [[file.name for file in files] for _, files in walk_tree(root, lambda path, why: print(path.name, why))]
        pipe named pipe
        [['a.txt']]
    """
    yield from _Walk(root, on_skip, exclude).folders()


class _Walk:
    """State of one walk: real paths that were listed."""

    def __init__(self, root: Path, on_skip: OnSkip, exclude: Collection[Path]) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._skip = on_skip
        self._exclude = {os.path.realpath(path) for path in exclude} - {self._real_root}
        self._seen_folders: set[tuple[int, int]] = set()
        self._seen_files: set[str] = set()

    def folders(self) -> Iterator[tuple[Path, list[Path]]]:
        waiting = [(self._root, self._real_root)]
        while waiting:
            folder, real = waiting.pop()
            if not self._enter(folder):
                continue
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError as error:
                self._skip(folder, f"folder cannot be opened ({error.strerror})")
                continue
            files: list[Path] = []
            below: list[tuple[Path, str]] = []
            for entry in entries:
                path = folder / entry.name
                try:
                    self._sort(path, os.path.join(real, entry.name), entry, files, below)
                except OSError as error:
                    self._skip(path, _link_fault(entry, error))
            yield folder, files
            waiting += reversed(below)

    def _enter(self, folder: Path) -> bool:
        try:
            status = os.stat(folder)
        except OSError as error:
            self._skip(folder, f"folder cannot be opened ({error.strerror})")
            return False
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen_folders:
            self._skip(folder, "folder that is listed already through a link")
            return False
        self._seen_folders.add(identity)
        return True

    def _sort(
        self, path: Path, real: str, entry: os.DirEntry[str], files: list[Path], below: list[tuple[Path, str]]
    ) -> None:
        """Append an entry to ``files`` or ``below``, or skip it."""
        if entry.name.startswith("."):
            return self._skip(path, "hidden")
        if entry.name.upper() == "DICOMDIR":
            return self._skip(path, "DICOMDIR (an index of other files)")
        mode = entry.stat().st_mode
        if entry.is_symlink():
            real = os.path.realpath(path)
        if stat.S_ISDIR(mode):
            reason = OUTPUT_REASON if real in self._exclude else self._loop(real) if entry.is_symlink() else ""
            if reason:
                self._skip(path, reason)
            else:
                below.append((path, real))
        elif not stat.S_ISREG(mode):
            self._skip(path, _KINDS.get(stat.S_IFMT(mode), "no regular file"))
        elif entry.is_symlink() and self._inside(real):
            self._skip(path, "link to a file of the same folder tree")
        elif real in self._seen_files:
            self._skip(path, "file that is listed already through a link")
        else:
            if not self._inside(real):
                self._seen_files.add(real)
            files.append(path)
        return None

    def _loop(self, real: str) -> str:
        if self._inside(real):
            return "link to a folder of the same folder tree"
        if self._real_root == real or self._real_root.startswith(real.rstrip(os.sep) + os.sep):
            return "link to a folder that contains the input folder"
        return ""

    def _inside(self, real: str) -> bool:
        """Whether a real path is listed below the root without links."""
        if real != self._real_root and not real.startswith(self._real_root.rstrip(os.sep) + os.sep):
            return False
        if any(real == path or real.startswith(path + os.sep) for path in self._exclude):
            return False
        return not any(part.startswith(".") for part in os.path.relpath(real, self._real_root).split(os.sep))


def _link_fault(entry: os.DirEntry[str], error: OSError) -> str:
    if not entry.is_symlink():
        return f"entry cannot be read ({error.strerror})"
    return "link loop" if error.errno == errno.ELOOP else f"broken link ({error.strerror})"
