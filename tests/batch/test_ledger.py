"""The ledger: states, an earlier run, a full disk, damaged files."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from osteo_monai.batch import LEDGER, Entry, Ledger, ledgers_below, read_ledger
from osteo_monai.errors import UnusableInputError


def states(folder: Path) -> dict[str, str]:
    return {entry.study: entry.state for entry in read_ledger(folder / LEDGER).entries}


def test_states_of_a_run(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        assert ledger.begin([Entry(s, "ct") for s in "cab"], {"command": "screen", "workers": 2}) == []
        ledger.start("c")
        ledger.start("a")
        ledger.finish("c", "refused", "too_small", "The field of view is too small.")
        assert states(tmp_path) == {"c": "refused", "a": "running", "b": "pending"}  # order of the input
        content = read_ledger(tmp_path / LEDGER)
        assert (content.facts["command"], content.facts["workers"], content.facts["ended"]) == ("screen", "2", "")
        entry = content.entries[0]
        assert (entry.codes, entry.reason, entry.attempts) == ("too_small", "The field of view is too small.", 1)
        assert entry.seconds is not None
        assert entry.seconds >= 0
        ledger.end()
    assert states(tmp_path) == {"c": "refused", "a": "pending", "b": "pending"}
    assert float(read_ledger(tmp_path / LEDGER).facts["ended"]) > 0


def test_a_killed_run_is_recognised_and_attempts_are_kept(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.begin([Entry(s, "ct") for s in "ab"], {})
        ledger.start("a")
        ledger.finish("a", "measured")
        ledger.start("b")
    with Ledger(tmp_path) as ledger:
        assert ledger.begin([Entry("a", "ct", "measured", seconds=3.0), Entry("b", "ct")], {}) == ["b"]
    first, second = read_ledger(tmp_path / LEDGER).entries
    assert (first.state, first.seconds, first.attempts) == ("measured", 3.0, 1)
    assert first.ended is not None
    assert (second.state, second.seconds, second.attempts, second.started) == ("pending", None, 1, None)


def test_what_a_full_disk_refuses_is_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.begin([Entry("a", "ct"), Entry("b", "ct")], {})
        other = sqlite3.connect(tmp_path / LEDGER, isolation_level=None)
        ledger._db.execute("PRAGMA busy_timeout = 10")
        other.execute("BEGIN EXCLUSIVE")
        ledger.start("a")
        ledger.finish("a", "measured")
        other.execute("ROLLBACK")
        other.close()
        assert states(tmp_path) == {"a": "pending", "b": "pending"}
        ledger.start("b")
        assert states(tmp_path) == {"a": "measured", "b": "running"}
    assert "ledger.sqlite cannot be written yet" in caplog.text


def test_a_ledger_that_is_damaged_meanwhile_does_not_end_the_batch(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.begin([Entry(s, "ct") for s in "ab"], {})
        ledger.start("a")
        (tmp_path / LEDGER).write_bytes(b"x" * 8192)
        ledger.finish("a", "measured")
        ledger.end()


def test_a_ledger_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.begin([Entry("a", "ct")], {})
        for _ in range(5):
            ledger.start("a")
            assert states(tmp_path) == {"a": "running"}
    assert not (tmp_path / f"{LEDGER}-wal").exists()


KILLED = """
import os, sys
from pathlib import Path
from osteo_monai.batch import Entry, Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.begin([Entry("a", "ct")], {})
ledger._db.execute("PRAGMA cache_size = 1")
ledger._db.execute("PRAGMA cache_spill = 1")
ledger._db.execute("BEGIN IMMEDIATE")
for number in range(2000):  # more than the cache: the file itself is changed before the end of the transaction
    ledger._db.execute("INSERT INTO batch VALUES (?, 'x')", (str(number) * 50,))
os.kill(os.getpid(), 9)
"""


def test_a_driver_that_was_killed_inside_a_transaction_leaves_the_state_before(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert (tmp_path / f"{LEDGER}-journal").stat().st_size > 0
    content = read_ledger(tmp_path / LEDGER)
    assert [entry.state for entry in content.entries] == ["pending"]
    assert sorted(content.facts) == ["ended", "started"]


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/a" 2>/dev/null || exit 77
shift
exec "$@"
"""
READ = """
import sys
from pathlib import Path
from osteo_monai.batch import LEDGER, read_ledger
content = read_ledger(Path(sys.argv[1]) / LEDGER)
print([entry.state for entry in content.entries], sorted(content.facts), content.copied)
"""


def test_a_ledger_on_a_read_only_mount_is_read_from_a_copy(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 2
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c", READ_ONLY, "sh", str(tmp_path)]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    done = subprocess.run([*mount, sys.executable, "-c", READ, str(tmp_path)], check=False, capture_output=True)
    if done.returncode == 77 or b"unshare" in done.stderr:
        pytest.skip("needs a mount of its own")
    assert done.stdout.decode() == "['pending'] ['ended', 'started'] True\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert not read_ledger(tmp_path / LEDGER).copied  # where it can be written, the change is undone in place


def test_ledgers_of_parts_in_order(tmp_path: Path) -> None:
    for number in (10, 2):
        folder = tmp_path / f"part_{number}_of_12"
        folder.mkdir()
        Ledger(folder).__exit__()
    for name in ("part_3_of_12", "part_13_of_12", "part_0_of_12"):
        (tmp_path / name).mkdir()
    Ledger(tmp_path / "part_13_of_12").__exit__()
    assert list(ledgers_below(tmp_path)) == ["part_2_of_12", "part_10_of_12"]


@pytest.mark.parametrize("content", [b"no database" * 100, None])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / LEDGER
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 7")
        db.close()
    else:
        path.write_bytes(content)
    message = "must be a ledger of version 1, got 7" if content is None else "must be the ledger of a batch"
    with pytest.raises(UnusableInputError, match=message):
        Ledger(tmp_path)
    with pytest.raises(UnusableInputError, match=message):
        read_ledger(path)


def test_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(UnusableInputError, match="There is no ledger"):
        read_ledger(tmp_path / LEDGER)
