"""The ledger of a cohort, and records whose worker was ended."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from osteo_monai.batch import EVERYTHING, LEDGER, Limits, Part, Selection, Workers, read_ledger
from osteo_monai.cohort.records import Ready, Recorded, record_keys, run_jobs
from osteo_monai.data import Record
from osteo_monai.errors import ConfigError, UnusableInputError
from osteo_monai.utils.locks import folder_lock


def obey(order: str) -> str:
    """Return the reason in an order, or sleep."""
    if order == "sleep":
        time.sleep(60)
    return order


def recorded(folder: Path, count: int, selection: Selection = EVERYTHING, changed: int | None = None) -> Recorded[str]:
    keys = [f"r{number}" for number in range(count)]
    identities = [f"{key} changed" if place == changed else key for place, key in enumerate(keys)]
    return Recorded(folder, "measure", keys, lambda outcome: outcome.partition(" by ")[0], identities, str, selection)


def test_records_are_in_the_ledger_by_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    jobs = ["", "sleep", "L1 is not in the label map.", "Unexpected error (KeyError)."]
    workers = Workers(2, Limits(seconds=2))
    outcomes = run_jobs(Ready(obey), jobs, workers, "Measuring", lambda reason: reason, recorded(tmp_path, 4))
    assert list(outcomes.values()) == ["", "Not processed: it took longer than 2 s.", *jobs[2:]]
    content = read_ledger(tmp_path / LEDGER)
    assert content.facts["command"] == "measure"
    assert [(e.study, e.kind, e.state, e.codes, e.reason) for e in content.entries] == [
        ("r0", "record", "measured", "", ""),
        ("r1", "record", "failed", "time_limit", "Not processed: it took longer than 2 s."),
        ("r2", "record", "refused", "excluded", jobs[2]),
        ("r3", "record", "failed", "internal_error", jobs[3]),
    ]


# --- runs that continue -------------------------------------------------------------------------------------------

RESUME = Selection(resume=True)


@dataclass(frozen=True)
class Logged:
    """Loads what obeys orders and appends each to a file."""

    log: Path

    def __call__(self) -> Callable[[str], str]:
        def work(order: str) -> str:
            with self.log.open("a") as file:
                file.write(f"{order}\n")
            word, _, value = order.partition(" ")
            if word == "wait":
                time.sleep(float(value))
                return ""
            return f"{order} by {os.getpid()}"

        return work


def done_by(log: Path) -> list[str]:
    """Return the orders that were obeyed since the last call."""
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(lines)


def test_a_resumed_run_keeps_what_is_the_same(tmp_path: Path) -> None:
    log, jobs = tmp_path / "log", ["wait 0", "no body", "Unexpected error (KeyError).", "wait 0.001"]

    def runs(selection: Selection, changed: int | None = None) -> dict[int, str]:
        of_run = recorded(tmp_path / "out", 4, selection, changed)
        return run_jobs(Logged(log), jobs, Workers(), "Measuring", str, of_run)

    first = runs(EVERYTHING)
    assert done_by(log) == sorted(jobs)
    assert runs(RESUME) == first
    assert done_by(log) == []
    runs(Selection(resume=True, retry=frozenset({"failed"})))
    assert done_by(log) == [jobs[2]]
    runs(Selection(resume=True, retry=frozenset({"refused"})))
    assert done_by(log) == [jobs[1]]
    runs(RESUME, changed=3)
    assert done_by(log) == [jobs[3]]
    assert {entry.state for entry in read_ledger(tmp_path / "out" / LEDGER).entries} == {
        "measured",
        "refused",
        "failed",
    }
    runs(EVERYTHING)
    assert done_by(log) == sorted(jobs)


def test_a_whole_run_keeps_what_its_parts_have_done(tmp_path: Path) -> None:
    log, jobs = tmp_path / "log", [f"r {number}" for number in range(9)]

    def runs(selection: Selection) -> dict[int, str]:
        of_run = recorded(tmp_path / "out", 9, selection)
        return run_jobs(Logged(log), jobs, Workers(), "Measuring", str, of_run)

    parts = [runs(Selection(Part(number, 3))) for number in (1, 2)]
    assert sorted(done_by(log)) == sorted(jobs[place] for part in parts for place in part)
    assert 0 < sum(map(len, parts)) < 9
    whole = runs(RESUME)
    assert list(whole) == list(range(9))
    assert {place: whole[place] for part in parts for place in part} == parts[0] | parts[1]
    assert done_by(log) == sorted(jobs[place] for place in range(9) if place not in parts[0] | parts[1])


def main() -> None:
    """Process records that a test may kill: FOLDER COUNT."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    of_run = recorded(folder / "out", count, RESUME)
    outcomes = run_jobs(Logged(folder / "log"), ["wait 0.15"] * count, Workers(2), "Measuring", str, of_run)
    (folder / "done").write_text(str(list(outcomes)))


def test_a_killed_run_loses_no_record_and_does_none_twice(tmp_path: Path) -> None:
    count, draw = 16, random.Random(3)
    words = [sys.executable, "-c", "from tests.cohort.test_recorded import main; main()", str(tmp_path), str(count)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    measured = 0
    for goal in (4, 9):
        with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
            until = time.monotonic() + 120
            while measured < goal and time.monotonic() < until:
                time.sleep(0.02)
                with suppress(UnusableInputError):
                    measured = sum(e.state == "measured" for e in read_ledger(tmp_path / "out" / LEDGER).entries)
            time.sleep(draw.uniform(0, 0.2))
            process.kill()
        assert goal <= measured < count
    assert subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert (tmp_path / "done").read_text() == str(list(range(count)))
    entries = read_ledger(tmp_path / "out" / LEDGER).entries
    assert [(entry.study, entry.state) for entry in entries] == [(f"r{n}", "measured") for n in range(count)]
    begun = len(done_by(tmp_path / "log"))
    assert sum(entry.attempts for entry in entries) >= begun  # a record that a kill broke is begun again, others not
    assert begun <= count + 2 * 2


def test_a_second_run_into_the_folder_is_refused(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(ConfigError, match="the output folder must be one that no other run"):
        run_jobs(Ready(obey), [""], Workers(), "Measuring", str, recorded(tmp_path, 1))


def test_keys_are_unique() -> None:
    records = [Record(image=name, subject_id=str(n)) for n, name in enumerate(("a.nii", "b.nii", "a.nii"))]
    assert record_keys(records) == ["a.nii", "b.nii", "a.nii (2)"]
