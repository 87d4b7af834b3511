"""The next study is read ahead into the page cache: one for each worker, within a limit, without effect on results."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from osteo_monai.batch import THIS_PROCESS, Workers, ahead, process
from osteo_monai.batch.ahead import ReadAhead

from .fake import Load, evict, resident

APART = Workers(apart=True)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a file of 32 MiB that is not in the page cache."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(32 << 20))
    evict(path)
    if resident(path) > 0.1:
        pytest.skip("the file system keeps all files in memory")
    return path


@pytest.mark.parametrize("workers", [THIS_PROCESS, APART])
def test_the_files_of_the_next_study_are_read_meanwhile(large: Path, workers: Workers) -> None:
    jobs = ["sleep 1", f"resident {large}"]

    def files_of(job: str) -> Sequence[Path]:
        return (large,) if job.startswith("resident") else ()

    assert float(dict(process(Load(), jobs, workers, files_of=files_of))[1]) == 1  # type: ignore[arg-type]
    evict(large)
    assert float(dict(process(Load(), jobs, workers))[1]) < 0.1  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [THIS_PROCESS, APART, Workers(3)])
def test_one_study_is_read_ahead_for_each_worker(workers: Workers) -> None:
    begun: list[int] = []
    requested: list[int] = []
    jobs = [f"sleep 0.0{number % 4}" for number in range(30)]
    numbers = {id(job): number for number, job in enumerate(jobs)}

    def files_of(job: str) -> Sequence[Path]:
        number = numbers[id(job)]
        assert number not in begun
        requested.append(number)
        return ()

    jobs = [str(job) for job in jobs]
    outcomes = dict(process(Load(), jobs, workers, begun.append, files_of))
    assert sorted(outcomes) == sorted(begun) == list(range(30))
    assert max(Counter(requested).values()) == 1
    assert len(requested) >= 30 - workers.count - 1
    if workers.count == 1:
        assert begun == list(range(30))


def test_a_study_whose_worker_dies_is_repeated_as_before(tmp_path: Path) -> None:
    jobs = ["sleep 0.01", f"die_once {tmp_path / 'died'}", "die", "sleep 0.01"]
    outcomes = dict(process(Load(), jobs, Workers(2), files_of=lambda job: (tmp_path,)))
    assert [getattr(outcomes[n], "kind", "") for n in range(4)] == ["", "", "died", ""]


def test_reading_ahead_has_a_limit_and_no_errors(tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST_BYTES", 2 << 20)
    os.mkfifo(tmp_path / "pipe")
    reader = ReadAhead()
    reader.start([tmp_path / "pipe", tmp_path / "absent", tmp_path])  # the folder holds the large file
    reader.wait()
    assert 0.05 < resident(large) < 0.5  # the system reads some more than is requested for


def test_a_new_study_ends_the_reading_of_the_earlier_one(large: Path) -> None:
    reader = ReadAhead()
    reader.start([large] * 100_000)
    reader.start([])
    reader.wait()
