"""Limits of input, checked before memory is allocated, and of the process that runs codecs."""

import gzip
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from osteo_monai.codecs import worker
from osteo_monai.errors import ConfigError, ScanRefusedError, UnusableInputError
from osteo_monai.imaging import read_ct
from osteo_monai.imaging.limits import input_limits
from osteo_monai.imaging.radiograph import read_radiograph


def compressed(ds: Dataset, _: int) -> None:
    ds.compress(RLELossless)


def only_worker_process(body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``body`` in the decoding process instead of the decoding of an image."""
    (tmp_path / "hook").mkdir()
    code = f"import sys\nif sys.argv[:1] == ['-m']:\n    import atexit, os, signal, time\n{body}"
    (tmp_path / "hook" / "sitecustomize.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "hook"))


REPLACED = """
    import osteo_monai.codecs.codestreams as codestreams
    def instead(*arguments):
        {action}
    codestreams.wrong_size = instead
"""


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGABRT)", r"codec ended on the compressed image \(signal 6\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"codec ended on the compressed image \(signal 9\)"),
        ("raise MemoryError", r"more memory than the limit \(OSTEO_MAX_DECODING_MIB = 1024\)"),
        ("os._exit(3)", r"codec ended on the compressed image \(exit code 3\)"),
        ("return bytearray(10**10) and None", r"more memory than the limit \(OSTEO_MAX_DECODING_MIB = 1024\)"),
        ("raise BaseException('Verysecret')", r"damaged or cannot be decoded \(BaseException\)\."),
        ("[None for _ in iter(int, 1)]", r"processor time than the limit \(OSTEO_MAX_DECODING_SECONDS = 1\)"),
    ],
    ids=["abort", "killed", "no memory", "exit", "memory", "panic", "endless"],
)
def test_a_codec_that_fails_is_one_sentence(
    action: str,
    reason: str,
    make_series: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """python-gdcm ends the interpreter on damaged data; here the decoding process is ended, hung or exhausted."""
    monkeypatch.setenv("OSTEO_MAX_DECODING_SECONDS", "1")
    monkeypatch.setenv("OSTEO_MAX_DECODING_MIB", "1024")
    folder = make_series(compressed)
    only_worker_process(REPLACED.format(action=action), tmp_path, monkeypatch)
    with pytest.raises(UnusableInputError, match=reason) as caught:
        read_ct(folder)
    message = str(caught.value)
    assert message.startswith("'1_"), "the file is named"
    assert "Verysecret" not in message
    assert "\n" not in message


def test_a_codec_that_waits_for_ever_is_ended(
    make_series: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It uses no processor time."""
    monkeypatch.setenv("OSTEO_MAX_DECODING_SECONDS", "1")
    monkeypatch.setattr("osteo_monai.imaging.decoding._START_SECONDS", 2)
    folder = make_series(compressed)
    only_worker_process(REPLACED.format(action="time.sleep(300)"), tmp_path, monkeypatch)
    begin = time.monotonic()
    with pytest.raises(UnusableInputError, match="was not decoded within 6 s"):
        read_ct(folder)
    assert time.monotonic() - begin < 20


def test_a_process_that_ends_in_the_middle_leaves_the_next_study_alone(
    make_series: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_series(compressed)
    with monkeypatch.context() as context:
        ends = "done.append(1)\n        if len(done) == 3:\n            os.kill(os.getpid(), signal.SIGKILL)"
        only_worker_process(f"\n    done = []{REPLACED.format(action=ends)}", tmp_path, context)
        with pytest.raises(UnusableInputError, match=r"codec ended on the compressed image \(signal 9\)"):
            read_ct(folder)
    assert read_ct(folder).hu.shape[2] > 3


def test_no_decoding_process_is_left(make_series: Callable[..., Path]) -> None:
    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    before = children()
    read_ct(make_series(compressed))
    assert children() == before


def test_gdcm_is_never_used() -> None:
    assert "gdcm" not in worker.PLUGINS


def test_a_compressed_file_with_fewer_frames_than_stated(make_series: Callable[..., Path]) -> None:
    def change(ds: Dataset, k: int) -> None:
        ds.compress(RLELossless)
        if k == 3:
            ds.PixelData = encapsulate([b"\xff\x4f\xff\x51"], has_bot=False)
            ds.file_meta.TransferSyntaxUID = JPEG2000Lossless

    begin = time.monotonic()
    with pytest.raises(UnusableInputError, match="damaged"):
        read_ct(make_series(change))
    assert time.monotonic() - begin < 20


def test_millions_of_stated_frames_cost_nothing(make_series: Callable[..., Path]) -> None:
    """C2: a slice of 4 x 4 pixels that states 33 million frames took more than 15 s."""

    def change(ds: Dataset, k: int) -> None:
        if k == 2:
            ds.Rows = ds.Columns = 4
            ds.NumberOfFrames = "33554432"
            ds.PixelData = bytes(32)

    begin = time.monotonic()
    with pytest.raises(ScanRefusedError, match="more than the file holds"):
        read_ct(make_series(change))
    assert time.monotonic() - begin < 5


def nifti_header(shape: tuple[int, int, int]) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), code=1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    return bytes(header.binaryblock) + bytes(4)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_nifti_that_states_more_than_it_holds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: 1.3 kB that state 1 GiB took 1 GiB."""
    content = nifti_header((1024, 1024, 500)) + bytes(1000)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("voxels were read")

    monkeypatch.setattr(np, "asarray", never)
    with pytest.raises(
        UnusableInputError, match=r"must hold the 1048576352 bytes|must be compressed at most 250 times"
    ):
        read_ct(tmp_path / name)


def test_a_gzip_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    """C3: 3 MB of zeros that inflate to 1 GB took 3.3 GiB; here 100 MB, from 0.1 MB."""
    content = nifti_header((400, 400, 320)) + bytes(2 * 400 * 400 * 320)
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(content, compresslevel=6))
    begin = time.monotonic()
    with pytest.raises(UnusableInputError, match="must be compressed at most 250 times"):
        read_ct(tmp_path / "scan.nii.gz")
    assert time.monotonic() - begin < 2


def test_a_gzip_of_several_members_is_read(make_nifti: Callable[..., Path]) -> None:
    path = make_nifti()
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:20000]) + gzip.compress(content[20000:]))
    assert read_ct(path).hu.shape == (32, 40, 12)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(bytes(width + 1)) for _ in range(height)) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_picture_of_100_megapixels_in_100_kb(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(png(10_000, 10_000))
    assert path.stat().st_size < 150_000
    with pytest.raises(UnusableInputError, match="must have at most 50000000 pixels"):
        read_radiograph(path)


def test_limits_are_set_by_variables(make_series: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_series()
    monkeypatch.setenv("OSTEO_MAX_VOXELS", "1000")
    with pytest.raises(ScanRefusedError, match="above 1000 voxels|exceed 1000 voxels"):
        read_ct(folder)
    monkeypatch.setenv("OSTEO_MAX_VOXELS", "-3")
    with pytest.raises(ConfigError, match="OSTEO_MAX_VOXELS must be a positive whole number, got '-3'"):
        read_ct(folder)


def test_a_huge_json_beside_a_scan(make_nifti: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_nifti()
    path.with_name("scan.json").write_text('{"KVP": 120' + " " * 2000 + "}")
    monkeypatch.setenv("OSTEO_MAX_SIDECAR_BYTES", "1000")
    with pytest.raises(UnusableInputError, match="must have at most 1000 bytes"):
        read_ct(path)


def test_every_limit_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    for name, value in vars(input_limits()).items():
        assert f"| `OSTEO_MAX_{name.upper()}` | {value} |" in text
