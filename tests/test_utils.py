"""Atomic writes: a complete file or none."""

import errno
import os
from pathlib import Path

import pytest

from osteo_monai.utils.files import file_sha256, write_json, write_text, writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    write_json(target, {"a": 1})
    before = file_sha256(target)

    def fail() -> None:
        with writing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(target, {"a": float("nan")})
    assert file_sha256(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_name_keeps_the_format(tmp_path: Path) -> None:
    with writing(tmp_path / "labels.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"1")
    assert [p.name for p in tmp_path.iterdir()] == ["labels.nii.gz"]


def test_text_is_utf8_with_plain_line_ends_and_its_folder_is_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "µ\r\n\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "µ\r\n\n".encode()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_write_to_a_full_disk_names_the_file(number: int, tmp_path: Path) -> None:
    """The report said 'None': a write to a full disk fails without a file name."""

    def fail() -> None:
        with writing(tmp_path / "report.html"):
            raise OSError(number, "reason")

    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        fail()
    assert caught.value.filename == str(tmp_path / "report.html")
