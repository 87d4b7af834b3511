"""Processing without models, for tests of the engine: a study is an order such as ``sleep 0.1``."""

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from osteo_monai.errors import ModelMissingError
from osteo_monai.utils.files import write_text


@dataclass(frozen=True)
class Load:
    """Loads nothing and returns ``obey``."""

    missing: bool = False

    def __call__(self) -> Callable[[str], str]:
        if self.missing:
            raise ModelMissingError("Models are not installed: a.")
        return obey


def obey(order: str) -> str:
    """Do what an order says and return it with the number of this process."""
    word, _, value = order.partition(" ")
    if word == "sleep":
        time.sleep(float(value))
    elif word == "die":
        os.kill(os.getpid(), 9)
    elif word == "die_once":
        if not Path(value).exists():
            write_text(value, "")
            os.kill(os.getpid(), 9)
    elif word == "exit":
        os._exit(3)
    elif word == "memory":
        block = bytearray(int(value) << 20)
        time.sleep(60)
        del block
    elif word == "resident":
        return f"{resident(Path(value)):.2f}"
    elif word == "error":
        raise ValueError("PatientName DOE^JOHN")
    return f"{order} by {os.getpid()}"


def resident(path: Path) -> float:
    """Return the share of the pages of a file that the page cache holds."""
    size = path.stat().st_size
    found = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE) as content:
        start = ctypes.c_char.from_buffer(content)
        address = ctypes.c_void_p(ctypes.addressof(start))
        assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(size), found) == 0
        del start  # the map cannot be closed before
    return sum(page & 1 for page in found) / len(found)


def evict(path: Path) -> None:
    """Take a file out of the page cache, where its file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
