"""Image sizes stated in compressed frames.

A codec allocates memory by the codestream, not by the DICOM header: a small file can state 65535 x 65535 pixels.
"""

import struct

from pydicom.encaps import generate_frames

_JPEG_SOI, _J2K_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""JPEG and JPEG-LS markers that are followed by length, precision, rows and columns."""


def claimed_size(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) from a JPEG, JPEG-LS or JPEG 2000 codestream; ``None`` for other data (such as RLE)."""
    if frame.startswith(_J2K_START):
        x1, y1, x0, y0 = struct.unpack_from(">4I", frame, 8)
        return y1 - y0, x1 - x0
    if not frame.startswith(_JPEG_SOI):
        return None
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _START_OF_FRAME:
            rows, columns = struct.unpack_from(">2H", frame, at + 5)
            return rows, columns
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None


def wrong_size(pixel_data: bytes, frames: int, rows: int, columns: int) -> tuple[int, int] | None:
    """Return the first (rows, columns) of a frame that differ from the header, else ``None``."""
    claims = map(claimed_size, generate_frames(pixel_data, number_of_frames=frames))
    return next((size for size in claims if size is not None and size != (rows, columns)), None)
