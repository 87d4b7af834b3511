"""Regular files only, every entry of a folder tree listed or skipped with a reason, zip archives, the folder lock."""

import fcntl
import os
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from osteo_monai.data import read_manifest
from osteo_monai.data.csv_tables import read_table
from osteo_monai.errors import ManifestError, UnusableInputError
from osteo_monai.imaging import read_ct
from osteo_monai.imaging.nifti import read_label_map
from osteo_monai.imaging.radiograph import is_picture, read_radiograph
from osteo_monai.screening.names import output_names, printable
from osteo_monai.utils.archives import ArchiveError, ArchiveLimits, is_zip, temporary_folder, unpack_zip
from osteo_monai.utils.inputs import open_input, read_input, walk_tree
from osteo_monai.utils.locks import LOCK_NAME, FolderLock, LockedError, folder_lock, read_lock


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Return a named pipe without a writer: opening it as a file would never end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


LIMITS = ArchiveLimits(files=1000, mib=100, ratio=1000)


def test_no_reader_waits_for_a_pipe(pipe: Path) -> None:
    with pytest.raises(OSError, match="regular file"):
        open_input(pipe)
    assert not is_picture(pipe)
    with pytest.raises(UnusableInputError, match="regular file or a folder"):
        read_ct(pipe)
    with pytest.raises(UnusableInputError):
        read_radiograph(pipe)
    with pytest.raises(UnusableInputError, match="cannot be read"):
        read_table(pipe)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(pipe)
    pipe = pipe.rename(pipe.with_name("labels.nii"))
    with pytest.raises(UnusableInputError):
        read_label_map(pipe)


def test_text_has_unix_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffa,b\r\n1,2\r\n".encode())
    assert read_input(tmp_path / "a.csv", "utf-8-sig") == "a,b\n1,2\n"


def walked(root: Path, **options: list[Path]) -> tuple[list[str], dict[str, str]]:
    skipped: dict[str, str] = {}

    def on_skip(path: Path, reason: str) -> None:
        skipped[path.relative_to(root).as_posix()] = reason

    found = [file.relative_to(root).as_posix() for _, files in walk_tree(root, on_skip, **options) for file in files]
    return found, skipped


def test_links_are_followed_once_and_loops_are_cut(tmp_path: Path) -> None:
    root, other = tmp_path / "in", tmp_path / "other"
    for path in (root / "a" / "1", root / "b" / "2", other / "3"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for name, target in {
        "a/loop": root, "a/up": tmp_path, "again": root / "b", "outside": other, "twice": other,
        "file": root / "a" / "1", "broken": root / "absent", "self": root / "self", "far": other / "3",
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    found, skipped = walked(root)
    assert sorted(found) == ["a/1", "b/2", "far"]  # the link to a file is first; its folder then repeats it
    assert set(skipped) == {
        "a/loop", "a/up", "again", "twice", "file", "broken", "self", "outside/3",
    }  # fmt: skip
    assert skipped["a/up"] == "link to a folder that contains the input folder"
    assert skipped["broken"].startswith("broken link")
    assert skipped["self"] == "link loop"


def test_files_of_a_store_of_links_are_read(tmp_path: Path) -> None:
    """DataLad keeps content in a hidden folder and links to it."""
    (tmp_path / ".git" / "annex").mkdir(parents=True)
    (tmp_path / ".git" / "annex" / "key").write_text("x")
    (tmp_path / "ct.nii.gz").symlink_to(tmp_path / ".git" / "annex" / "key")
    assert walked(tmp_path) == (["ct.nii.gz"], {".git": "hidden"})


def test_entries_that_cannot_be_read_have_a_reason(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pipe.parent
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        (root / "closed").mkdir()
        scandir = os.scandir

        def refuse(path: Path) -> object:
            if Path(path).name == "closed":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        (root / "DICOMDIR").write_text("x")
        assert walked(root) == (
            [],
            {
                "DICOMDIR": "DICOMDIR (an index of other files)",
                "closed": "folder cannot be opened (Permission denied)",
                "pipe": "named pipe",
                "socket": "socket",
            },
        )


def test_a_tree_of_any_depth_is_walked(tmp_path: Path) -> None:
    here, depth = os.getcwd(), 0
    os.chdir(tmp_path)
    try:
        while depth < 1200:
            os.mkdir("d")
            os.chdir("d")
            depth += 1
        Path("x").write_text("x")
        found, skipped = walked(tmp_path)
        Path("x").unlink()
        while depth:  # pytest's own removal of old folders recurses too deep for this tree
            os.chdir("..")
            os.rmdir("d")
            depth -= 1
    finally:
        os.chdir(here)
    assert (len(found), skipped) == (1, {})


# --- archives -----------------------------------------------------------------------------------------------------


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_an_archive_is_unpacked_with_safe_names(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.ZIP", {"ct/1.dcm": b"1", "n" * 300 + ".nii.gz": b"2", "a\nb": b"3"})
    assert is_zip(path)
    unpack_zip(path, tmp_path / "out", LIMITS)
    files = sorted(file for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert sorted(file.read_bytes() for file in files) == [b"1", b"2", b"3"]
    assert all(file.name.isprintable() and len(file.name) < 200 for file in files)
    assert any(file.name.endswith(".nii.gz") for file in files)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil"])
def test_paths_out_of_an_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    with pytest.raises(ArchiveError, match="paths out of the archive"):
        unpack_zip(path, tmp_path / "out", LIMITS)
    assert [file.name for file in tmp_path.rglob("*")] == ["a.zip"]


def test_limits_of_archives(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"1": bytes(1 << 20), "2": b"2"})
    for limits, match in (
        (ArchiveLimits(files=1, mib=100, ratio=10**6), "more than 1 files"),
        (ArchiveLimits(files=9, mib=1, ratio=10**6), "more than 1 MiB unpacked"),
        (ArchiveLimits(files=9, mib=100, ratio=100, ratio_from_bytes=1000), "suspected archive bomb"),
    ):
        with pytest.raises(ArchiveError, match=match):
            unpack_zip(path, tmp_path / "out", limits)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("place", [30, 45, 60, 90])
def test_damage_is_named_for_each_compression(tmp_path: Path, method: int, place: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("1", bytes(range(256)) * 20)
    content = bytearray(path.read_bytes())
    content[place : place + 6] = bytes(b ^ 0xFF for b in content[place : place + 6])
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged"):
        unpack_zip(path, tmp_path / "out", LIMITS)
    assert not (tmp_path / "out").exists()


def test_damaged_archives_and_links_in_them(tmp_path: Path) -> None:
    content = zipped(tmp_path / "a.zip", {"1": os.urandom(4000)}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:2000])
    (tmp_path / "flip.zip").write_bytes(content[:1000] + bytes([content[1000] ^ 255]) + content[1001:])
    for name in ("cut.zip", "flip.zip"):
        with pytest.raises(ArchiveError, match="damaged"):
            unpack_zip(tmp_path / name, tmp_path / "out", LIMITS)
        assert not (tmp_path / "out").exists()
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="contains links"):
        unpack_zip(tmp_path / "link.zip", tmp_path / "out", LIMITS)


def test_the_temporary_folder_of_a_killed_process_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as living:
        left = tmp_path / "osteo_monai_zip_left"
        left.mkdir()
        for folder in (left, living.parent):
            os.utime(folder, (1, 1))
        with temporary_folder():
            pass
        assert not left.exists()
        assert living.is_dir()
    assert not list(tmp_path.iterdir())


# --- lock ---------------------------------------------------------------------------------------------------------


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from osteo_monai.utils.locks import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(LockedError), folder_lock(tmp_path):
            pass
        process.kill()
        process.wait()
    assert (tmp_path / LOCK_NAME).exists()
    assert read_lock(tmp_path) == FolderLock("left", socket.gethostname())
    with folder_lock(tmp_path):
        assert read_lock(tmp_path).state == "held"
    assert not list(tmp_path.iterdir())


def test_reading_a_lock_does_not_refuse_a_run_that_starts(tmp_path: Path) -> None:
    """A reader holds the file for a moment."""
    path = tmp_path / LOCK_NAME
    path.touch()
    with path.open() as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        threading.Timer(0.03, lambda: fcntl.flock(reader, fcntl.LOCK_UN)).start()
        with folder_lock(tmp_path):
            assert read_lock(tmp_path).state == "held"


# --- names --------------------------------------------------------------------------------------------------------


def test_names_of_output_folders_are_accepted_by_every_file_system(tmp_path: Path) -> None:
    odd = [
        os.fsdecode(b"st\xe9"),
        os.fsdecode(b"st\xe8"),
        "n" * 250,
        "summary.csv",
        "Result.json",
        "a\tb",
        "a",
        "A",
        ".x",
    ]
    names = output_names([tmp_path / name for name in odd], tmp_path)
    assert len({name.casefold() for name in names}) == len(odd)
    assert all(len(name.encode()) <= 200 and name.isprintable() and not name.startswith(".") for name in names)
    assert not {"summary.csv", "result.json"} & {name.casefold() for name in names}
    assert output_names([tmp_path / odd[0]], tmp_path) == [names[0]]  # independent of the other studies


def test_a_path_is_printed_with_escapes() -> None:
    assert printable(Path(os.fsdecode(b"st\xe9/\x1b[2J"))) == "st\\xe9/\\x1b[2J"
    assert printable(Path("Müller")) == "Müller"
