"""Limits of what is read from a file, checked before memory is allocated for it.

Every limit has an environment variable; docs/limits.md lists them.
"""

import gzip
import math
import os
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.inputs import open_input
from osteo_monai.utils.text import safe_name

__all__ = ["InputLimits", "check_file_size", "check_nifti_size", "input_limits"]

_PREFIX = "OSTEO_MAX_"
_CHUNK = 1 << 16
_SMALL = 64 * 2**20


@dataclass(frozen=True)
class InputLimits:
    """Largest input that is read. The defaults are the project's choice; each field has a variable ``OSTEO_MAX_...``.

    Attributes:
        voxels: of a volume: 2048 slices of 512 x 512, 2 GiB as float32.
        pixels: of a picture or radiograph; the largest detectors in clinical use have about 20 million.
        gzip_ratio: bytes of a NIfTI file over its compressed bytes, above 64 MiB; a CT has about 2 to 20.
        sidecar_bytes: of the JSON file beside a NIfTI file.
        table_bytes: of a table.
        decoding_mib: address space of the process that decodes compressed pixel data, in MiB.
        decoding_seconds: processor time to decode one image; the wall time may be four times as long.
        archive_files: files in a zip archive.
        archive_mib: of all files of an archive unpacked, in MiB.
        archive_ratio: bytes unpacked over those of the archive, above 256 MiB. Slices of air compress by 20 to 50, an
            archive bomb by up to 1032 with deflate.
    """

    voxels: int = 2**29
    pixels: int = 50_000_000
    gzip_ratio: int = 250
    sidecar_bytes: int = 16 * 2**20
    table_bytes: int = 256 * 2**20
    decoding_mib: int = 2048
    decoding_seconds: int = 20
    archive_files: int = 200_000
    archive_mib: int = 16 * 2**10
    archive_ratio: int = 200


def input_limits() -> InputLimits:
    """Return the limits, with those of the environment variables.

    Raises:
        ConfigError: a variable is not a positive whole number.

    Example:
        >>> import os
        >>> os.environ["OSTEO_MAX_VOXELS"] = "1000"
        >>> input_limits().voxels
        1000
        >>> del os.environ["OSTEO_MAX_VOXELS"]
    """
    values = {}
    for field in fields(InputLimits):
        variable = _PREFIX + field.name.upper()
        text = os.environ.get(variable, "").strip()
        if not text:
            continue
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise ConfigError(f"{variable} must be a positive whole number, got '{text[:40]}'")
        values[field.name] = int(text)
    return InputLimits(**values)


def check_file_size(path: Path, limit: int) -> None:
    """Raise ``UnusableInputError`` if a file has more bytes than ``limit``."""
    size = path.stat().st_size
    if size > limit:
        raise UnusableInputError(f"{_start(path)} must have at most {limit} bytes, got {size}.")


def check_nifti_size(path: Path, wanted: int, limits: InputLimits) -> None:
    """Check that a file can hold the ``wanted`` bytes that its header states, before memory is allocated for them.

    Raises:
        UnusableInputError: it holds fewer bytes, or was compressed more than an image is.
    """
    size = path.stat().st_size
    with open_input(path) as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
        if compressed and size > 4:
            stream.seek(-4, os.SEEK_END)
            stated = int.from_bytes(stream.read(4), "little")  # gzip: length of the last member modulo 2**32
    found = size
    if compressed:
        if wanted > max(_SMALL, size * limits.gzip_ratio):
            raise UnusableInputError(
                f"{_start(path)} must be compressed at most {limits.gzip_ratio} times (OSTEO_MAX_GZIP_RATIO), "
                f"got {math.ceil(wanted / size)} times."
            )
        found = wanted if stated == wanted % 2**32 else _inflated_size(path, wanted)
    if found < wanted:
        raise UnusableInputError(
            f"{_start(path)} must hold the {wanted} bytes of its header, got {found}: it is damaged or cut off."
        )


def _start(path: Path) -> str:
    name = safe_name(path)
    return name[0].upper() + name[1:]


def _inflated_size(path: Path, enough: int) -> int:
    """Return the inflated size of a gzip file, or a number from ``enough`` on, without keeping the content."""
    found = 0
    try:
        with gzip.open(path) as stream:
            while found < enough and (part := stream.read(_CHUNK)):
                found += len(part)
    except (EOFError, OSError, zlib.error):
        pass  # the end is missing or damaged
    return found
