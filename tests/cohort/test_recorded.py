"""The ledger of a cohort, and records whose worker was ended."""

from pathlib import Path

import pytest

from osteo_monai.batch import LEDGER, Limits, Workers, read_ledger
from osteo_monai.cohort.records import Ready, Recorded, record_keys, run_jobs
from osteo_monai.data import Record
from osteo_monai.errors import ConfigError
from osteo_monai.utils.locks import folder_lock


def obey(order: str) -> str:
    """Return the reason in an order, or sleep."""
    if order == "sleep":
        import time

        time.sleep(60)
    return order


def recorded(folder: Path, count: int) -> Recorded[str]:
    return Recorded(folder, "measure", [f"r{number}" for number in range(count)], str)


def test_records_are_in_the_ledger_by_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    jobs = ["", "sleep", "L1 is not in the label map.", "Unexpected error (KeyError)."]
    workers = Workers(2, Limits(seconds=2))
    outcomes = run_jobs(Ready(obey), jobs, workers, "Measuring", lambda reason: reason, recorded(tmp_path, 4))
    assert outcomes == ["", "Not processed: it took longer than 2 s.", *jobs[2:]]
    content = read_ledger(tmp_path / LEDGER)
    assert content.facts["command"] == "measure"
    assert [(e.study, e.kind, e.state, e.codes, e.reason) for e in content.entries] == [
        ("r0", "record", "measured", "", ""),
        ("r1", "record", "failed", "time_limit", "Not processed: it took longer than 2 s."),
        ("r2", "record", "refused", "excluded", jobs[2]),
        ("r3", "record", "failed", "internal_error", jobs[3]),
    ]


def test_a_second_run_into_the_folder_is_refused(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(ConfigError, match="the output folder must be one that no other run"):
        run_jobs(Ready(obey), [""], Workers(), "Measuring", str, recorded(tmp_path, 1))


def test_keys_are_unique() -> None:
    records = [Record(image=name, subject_id=str(n)) for n, name in enumerate(("a.nii", "b.nii", "a.nii"))]
    assert record_keys(records) == ["a.nii", "b.nii", "a.nii (2)"]
