"""Process that decodes compressed DICOM pixel data: ``python -m osteo_monai.codecs.worker``.

Codecs are native code: damaged data can end their process, hang it or exhaust its memory. This process has a limit of
memory and of processor time for each image, and may be killed at any moment.

Input, one JSON object per line: first :class:`Limits`, then one :class:`Job` per file. Output: for each frame one JSON
line with ``dtype`` and ``shape``, then the bytes of the array; for a file that cannot be decoded one line with
``error``. No output contains a header value.
"""

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO, TypedDict

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.tag import Tag

from osteo_monai.codecs.codestreams import wrong_size

PLUGINS = ("pyjpegls", "pylibjpeg")
"""Codec plug-ins of pydicom in order of preference: pyjpegls decodes JPEG-LS only, faster than pylibjpeg. Never gdcm,
which may be installed for another program: it ends the process on damaged data (python-gdcm issue 34). Pillow converts
colours."""

_KEYWORDS = (
    "Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit "
    "PixelRepresentation PlanarConfiguration PixelData ExtendedOffsetTable ExtendedOffsetTableLengths"
)
PIXEL_TAGS: list[Any] = [Tag(keyword) for keyword in _KEYWORDS.split()]


class Limits(TypedDict):
    """Bytes of address space, and seconds of processor time for one image."""

    memory: int
    seconds: float


class Job(TypedDict):
    """File to decode, and its number of frames, rows and columns as stated in the header."""

    path: str
    frames: int
    rows: int
    columns: int


class _UndecodableError(Exception):
    """The message is a sentence for the user."""


def decode_frames(job: Job) -> Iterator[NDArray[Any]]:
    """Yield the frames of one file, each (rows, columns) or (rows, columns, samples)."""
    dataset = pydicom.dcmread(job["path"], specific_tags=PIXEL_TAGS)
    if "PixelData" not in dataset:
        raise _UndecodableError("The image has no pixel data: the file is damaged or truncated.")
    size = job["rows"], job["columns"]
    claim = wrong_size(dataset.PixelData, job["frames"], *size)
    if claim:
        raise _UndecodableError(f"The compressed image states {claim} pixels, its header {size}.")
    plugin = _plugin(dataset)
    found = 0
    for frame in islice(iter_pixels(dataset, decoding_plugin=plugin), job["frames"]):
        yield frame
        found += 1
    if found < job["frames"]:
        raise _UndecodableError(f"The file must hold the {job['frames']} frames of its header, got {found}.")


def _plugin(dataset: Dataset) -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    available = get_decoder(syntax).available_plugins
    for name in PLUGINS:
        if name in available:
            return name
    # the JPEG codec is GPL and so an extra
    raise _UndecodableError(
        f"The images are compressed ({syntax.name}) and the codec is not installed: pip install 'osteo-monai[jpeg]'."
    )


def _send(stream: BinaryIO, head: dict[str, Any], content: NDArray[Any] | None = None) -> None:
    stream.write(json.dumps(head).encode() + b"\n")
    if content is not None:
        stream.write(content.tobytes())
    stream.flush()


def _answer(stream: BinaryIO, job: Job, seconds: float) -> None:
    """Decode one file and send its frames or the reason."""
    try:
        frames = decode_frames(job)
        while True:
            signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends this process
            frame = next(frames, None)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if frame is None:
                return
            _send(stream, {"dtype": frame.dtype.str, "shape": frame.shape}, np.ascontiguousarray(frame))
    except MemoryError:
        _send(stream, {"memory": True})
    except _UndecodableError as error:
        _send(stream, {"error": str(error)})
    # parsers and codecs raise any type on damaged data, those in Rust a panic that is no Exception
    except BaseException as error:  # noqa: BLE001
        _send(stream, {"error": f"The pixel data are damaged or cannot be decoded ({type(error).__name__})."})


def main() -> None:
    """Decode the files that are named on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    output = os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # some codecs print
        os.dup2(silent, descriptor)
    warnings.simplefilter("ignore")  # pydicom quotes header values in its warnings
    lines = iter(sys.stdin.buffer)
    limits: Limits = json.loads(next(lines))
    _limit_memory(limits["memory"])
    with pydicom.config.disable_value_validation():
        for line in lines:
            _answer(output, json.loads(line), limits["seconds"])


def _limit_memory(size: int) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold the image


if __name__ == "__main__":
    main()
