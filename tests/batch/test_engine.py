"""The engine: order, limits, deaths of workers, and what it holds in memory."""

import os
import time
from pathlib import Path

import psutil
import pytest

from osteo_monai.batch import THIS_PROCESS, Failure, Limits, Part, StartError, Workers, process
from osteo_monai.errors import ConfigError, ModelMissingError

from .fake import Load

APART = Workers(apart=True)


def process_all(load: Load, jobs: list[str], workers: Workers) -> list[str | Failure]:
    """Return the outcomes in the order of the jobs."""
    outcomes = dict(process(load, jobs, workers))
    return [outcomes[index] for index in range(len(jobs))]


def words(outcomes: list[str | Failure]) -> list[str | Failure]:
    """Return outcomes without the numbers of processes."""
    return [o if isinstance(o, Failure) else o.partition(" by ")[0] for o in outcomes]


def pids(outcomes: list[str | Failure]) -> set[int]:
    return {int(o.partition(" by ")[2]) for o in outcomes if isinstance(o, str)}


@pytest.mark.parametrize("workers", [THIS_PROCESS, APART, Workers(3)])
def test_outcomes_have_the_order_of_the_jobs(workers: Workers) -> None:
    jobs = ["sleep 1", *(f"sleep 0.0{n}" for n in range(1, 6)), "b", "a"]
    outcomes = process_all(Load(), jobs, workers)
    assert words(outcomes) == jobs
    assert len(pids(outcomes)) <= workers.count
    assert (os.getpid() in pids(outcomes)) is workers.inside


def test_no_jobs_load_nothing() -> None:
    assert process_all(Load(missing=True), [], Workers(2)) == []


@pytest.mark.parametrize("workers", [THIS_PROCESS, Workers(2)])
def test_missing_models_stay_missing_models(workers: Workers) -> None:
    with pytest.raises(ModelMissingError, match="Models are not installed: a."):
        process_all(Load(missing=True), ["a", "b", "c"], workers)


@pytest.mark.parametrize(
    ("order", "limits", "failure"),
    [
        ("die", Limits(), Failure("died", "its process ended (signal 9), twice")),
        ("exit", Limits(), Failure("died", "its process ended (exit code 3), twice")),
        ("sleep 30", Limits(seconds=1.5), Failure("time", "it took longer than 1.5 s")),
        ("error", Limits(), Failure("error", "it stopped with ValueError")),
    ],
)
def test_a_study_that_fails_ends_no_other(order: str, limits: Limits, failure: Failure) -> None:
    outcomes = process_all(Load(), ["a", order, "b", "c", "d"], Workers(2, limits))
    assert words(outcomes) == ["a", failure, "b", "c", "d"]


def test_a_study_that_needs_too_much_memory_is_ended() -> None:
    outcomes = process_all(Load(), ["a", "memory 700", "b"], Workers(1, Limits(memory_mib=600)))
    assert words([outcomes[0], outcomes[2]]) == ["a", "b"]
    failure = outcomes[1]
    assert isinstance(failure, Failure)
    assert failure.kind == "memory"
    assert failure.reason.startswith("it needed more memory than 600 MiB (")


def test_the_study_of_a_dead_worker_is_given_to_another(tmp_path: Path) -> None:
    started: list[int] = []
    jobs = ["a", f"die_once {tmp_path / 'died'}", "b"]
    outcomes = dict(process(Load(), jobs, APART, started.append))
    assert words([outcomes[n] for n in range(3)]) == jobs
    assert started == [0, 1, 2, 1]


def test_error_text_of_a_study_is_not_repeated() -> None:
    (outcome,) = process_all(Load(), ["error"], THIS_PROCESS)
    assert outcome == Failure("error", "it stopped with ValueError")


def test_at_most_as_many_studies_are_in_flight_as_there_are_workers() -> None:
    flying, most = 0, 0

    def on_start(index: int) -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)

    for _ in process(Load(), ["sleep 0.5"] * 20, Workers(3), on_start):
        flying -= 1
    assert flying == 0
    assert 2 <= most <= 3


def test_a_caller_that_stops_leaves_no_process() -> None:
    done = process(Load(), ["sleep 0.01", "sleep 60", "sleep 60"], Workers(2))
    assert next(done)[0] == 0
    children = psutil.Process().children()
    assert len(children) >= 2
    begin = time.monotonic()
    done.close()
    assert time.monotonic() - begin < 10
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_a_worker_that_exceeds_its_memory_by_the_models_alone_ends_the_batch() -> None:
    with pytest.raises(ConfigError, match="The worker did not start: it needed more memory than 1 MiB"):
        process_all(Load(), ["a"], Workers(1, Limits(memory_mib=1)))


def test_start_errors_can_be_pickled() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(StartError("a", "b", "c")))
    assert (str(error), error.error, error.text) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Workers(0), "workers must be at least 1, got 0"),
        (lambda: Limits(seconds=0), "seconds must be above 0, got 0"),
        (lambda: Limits(memory_mib=float("nan")), "memory_mib must be above 0, got nan"),
        (lambda: Part(3, 2), "part must be a number and a count such as 3/20, got 3/2"),
        (lambda: Part.parse("3-20"), "part must be a number and a count such as 3/20, got '3-20'"),
    ],
)
def test_settings_are_checked(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=message):
        make()


def test_parts_hold_each_study_once_and_do_not_depend_on_the_others() -> None:
    keys = [f"study {number}" for number in range(500)]
    parts = [[key for key in keys if Part(number, 20).holds(key)] for number in range(1, 21)]
    assert sorted(key for part in parts for key in part) == sorted(keys)
    assert min(map(len, parts)) > 5
    assert [key for key in keys[::2] if Part(3, 20).holds(key)] == [key for key in parts[2] if key in keys[::2]]
