"""Messages between a worker and its parent: the length in 8 bytes, big-endian, then the content."""

from typing import Any, BinaryIO

__all__ = ["HEADER_BYTES", "frame", "read_frame", "write_frame"]

HEADER_BYTES = 8


def frame(content: bytes) -> bytes:
    """Return a message with its length.

    Example:
        >>> frame(b"ab").hex()
        '00000000000000026162'
    """
    return len(content).to_bytes(HEADER_BYTES, "big") + content


def write_frame(stream: Any, content: bytes) -> None:
    """Write one message to a stream without a buffer."""
    rest = memoryview(frame(content))
    while rest:
        rest = rest[stream.write(rest) :]


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read one message, ``None`` at the end of the stream, also inside a message."""
    header = stream.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return None
    length = int.from_bytes(header, "big")
    content = stream.read(length)
    return content if len(content) == length else None
