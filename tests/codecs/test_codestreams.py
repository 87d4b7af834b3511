import pytest

from osteo_monai.codecs.codestreams import claimed_size

START_OF_FRAME = bytes([0x00, 0x0B, 0x10, 0x01, 0x02, 0x00, 0x40, 0x01])  # length, 16 bits, 258 rows, 64 columns
COMMENT = b"\xff\xfe\x00\x04\xff\xc0"  # holds bytes that look like a start of frame


@pytest.mark.parametrize(
    ("frame", "size"),
    [
        (b"\xff\xd8" + COMMENT + b"\xff\xc3" + START_OF_FRAME + bytes(4), (258, 64)),
        (b"\xff\xd8" + b"\xff\xff\xf7" + START_OF_FRAME + bytes(4), (258, 64)),  # JPEG-LS after a fill byte
        (bytes.fromhex("ff4fff51002f0000 00000050 00000032 00000010 00000002") + bytes(30), (48, 64)),
        (bytes([1, 0, 0, 0]) + bytes(80), None),  # RLE
        (b"\xff\xd8\xff\xd9", None),
    ],
)
def test_claimed_size(frame: bytes, size: tuple[int, int] | None) -> None:
    assert claimed_size(frame) == size
