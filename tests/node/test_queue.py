"""The durable queue: versions, retries, dead letters, commitment, removal."""

import sqlite3
from pathlib import Path

import pytest

from osteo_monai.errors import UnusableInputError
from osteo_monai.node import Queue
from osteo_monai.node.config import Retry
from osteo_monai.node.queue import Image, Job, Product

RETRY = Retry(attempts=2, first_seconds=10, longest_seconds=100)
STUDY = "a" * 32


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.sqlite3")


def add(queue: Queue, name: str, at: float, study: str = STUDY) -> None:
    queue.add_image(Image(name, study, f"content {name}", 100), at)


def job_of(queue: Queue, at: float) -> Job:
    """Complete the studies and take the job."""
    queue.complete(at, 10, 1000)
    job = queue.take_job(at)
    assert job is not None
    return job


def finish(queue: Queue, job: Job, at: float = 0) -> bool:
    return queue.finish_job(job, "measured", [Product("a.dcm", f"i{job.version}")], ["pacs", "web"], 1.0, at)


def test_study_is_complete_after_its_last_image(queue: Queue) -> None:
    add(queue, "1", 0)
    add(queue, "2", 8)
    assert queue.complete(17.9, 10, 1000) == []
    assert queue.complete(18, 10, 1000) == [STUDY]


def test_study_is_complete_by_force_while_images_arrive(queue: Queue) -> None:
    for at in range(0, 30, 5):
        add(queue, str(at), at)
    assert queue.complete(29, 10, 30) == []
    assert queue.complete(30, 10, 30) == [STUDY]


def test_clock_that_was_set_back_does_not_keep_a_study_open(queue: Queue) -> None:
    add(queue, "1", 100_000)
    assert queue.complete(1000, 10, 2000) == []
    assert queue.complete(1010, 10, 2000) == [STUDY]


def test_same_images_make_one_result(queue: Queue) -> None:
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20))
    add(queue, "1", 30)
    queue.complete(100, 10, 1000)
    assert queue.take_job(200) is None
    assert queue.counts()["jobs"] == {"done": 1}


def test_late_image_makes_a_result_that_supersedes(queue: Queue) -> None:
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20))
    (first,) = queue.due_deliveries("pacs", 20)
    queue.delivered(first, 21)
    add(queue, "2", 30)
    job = job_of(queue, 50)
    assert job.version == 2
    assert finish(queue, job)
    assert [d.version for d in queue.due_deliveries("pacs", 60)] == [2]
    assert queue.counts()["deliveries"] == {"done": 1, "superseded": 1, "waiting": 2}


def test_images_that_arrive_during_a_screening_supersede_it(queue: Queue) -> None:
    add(queue, "1", 0)
    job = job_of(queue, 20)
    add(queue, "2", 21)
    queue.complete(40, 10, 1000)
    assert not finish(queue, job)
    assert queue.due_deliveries("pacs", 100) == []
    later = queue.take_job(100)
    assert later is not None
    assert later.version == 2


def test_failed_screening_that_is_superseded_is_not_tried_again(queue: Queue) -> None:
    add(queue, "1", 0)
    job = job_of(queue, 20)
    add(queue, "2", 21)
    queue.complete(40, 10, 1000)
    queue.fail_job(job, "crash", RETRY, 41)
    taken = [queue.take_job(1000), queue.take_job(1000)]
    assert [job.version for job in taken if job] == [2]


def test_images_that_arrive_before_the_screening_join_it(queue: Queue) -> None:
    add(queue, "1", 0)
    queue.complete(20, 10, 1000)
    add(queue, "2", 21)
    assert queue.take_job(22) is None, "the study still receives images"
    assert job_of(queue, 40).version == 1


def test_forced_study_is_screened_while_it_receives(queue: Queue) -> None:
    for at in range(0, 40, 5):
        add(queue, str(at), at)
        queue.complete(at, 10, 30)
    job = queue.take_job(35)
    assert job is not None
    assert len(job.images) == 8, "with the image that arrived after it was completed"
    finish(queue, job)
    queue.complete(100, 10, 30)
    assert queue.take_job(100) is None, "nothing new since"


def test_failed_screening_waits_and_becomes_a_dead_letter(queue: Queue) -> None:
    add(queue, "1", 0)
    assert queue.fail_job(job_of(queue, 20), "crash", RETRY, 20)
    assert queue.take_job(29.9) is None
    job = queue.take_job(30)
    assert job is not None
    assert not queue.fail_job(job, "crash", RETRY, 30)
    assert queue.take_job(1e9) is None
    (failure,) = queue.failures()
    assert (failure["item"], failure["reason"]) == ("job 1", "crash")
    assert queue.revive([], 50) == ["job 1"]
    assert queue.take_job(50) is not None


def test_waiting_time_doubles_up_to_the_longest() -> None:
    retry = Retry(attempts=9, first_seconds=10, longest_seconds=35)
    assert [retry.wait(n) for n in (1, 2, 3, 4)] == [10, 20, 35, 35]
    assert retry.wait(10_000) == 35


def test_killed_screening_counts_as_an_attempt_and_a_graceful_stop_does_not(queue: Queue) -> None:
    add(queue, "1", 0)
    queue.release_job(job_of(queue, 20))
    for _ in range(2):
        assert queue.take_job(30) is not None
        queue.recover(RETRY, 30)
    assert queue.counts()["jobs"] == {"dead": 1}, "a study that ends the node must not do so for ever"


def test_delivery_is_tried_again_and_becomes_a_dead_letter(queue: Queue) -> None:
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20), 20)
    (delivery,) = queue.due_deliveries("pacs", 20)
    assert queue.not_delivered(delivery, "down", RETRY, 20)
    assert queue.due_deliveries("pacs", 29) == []
    (delivery,) = queue.due_deliveries("pacs", 30)
    assert not queue.not_delivered(delivery, "down", RETRY, 30)
    assert queue.due_deliveries("pacs", 1e9) == []
    assert [row["kind"] for row in queue.failures()] == ["delivery to pacs"]
    assert queue.revive(["delivery 1", "delivery 2"], 40) == ["delivery 1"]
    assert len(queue.due_deliveries("pacs", 40)) == 1


def test_commitment_is_awaited_and_confirmed(queue: Queue) -> None:
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20))
    (delivery,) = queue.due_deliveries("pacs", 20)
    queue.delivered(delivery, 20, confirm_by=50)
    assert queue.confirm("web", ["i1"], 30) == 0, "another destination"
    assert queue.confirm("pacs", ["unknown", "i1"], 30) == 1
    assert queue.counts()["deliveries"] == {"done": 1, "waiting": 1}


@pytest.mark.parametrize(("instances", "at"), [(["i1"], 21), (None, 51)])
def test_objects_without_commitment_are_sent_again(queue: Queue, instances: list[str] | None, at: float) -> None:
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20))
    for _ in range(RETRY.attempts):
        (delivery,) = queue.due_deliveries("pacs", 1000)
        queue.delivered(delivery, 20, confirm_by=50)
        if instances is None:
            assert queue.deny("pacs", None, "late", RETRY, 49) == 0
        assert queue.deny("pacs", instances, "not confirmed", RETRY, at) == 1
    assert [row["reason"] for row in queue.failures()] == ["not confirmed"]


def test_late_image_after_the_removal_of_the_others_is_reported_and_not_screened(queue: Queue) -> None:
    """A result from the late image only would supersede a good one."""
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20))
    assert queue.expired_images(100) == [STUDY]
    assert queue.images_removed(STUDY)
    add(queue, "2", 200)
    queue.complete(300, 10, 1000)
    assert queue.take_job(1000) is None
    (failure,) = queue.failures()
    assert failure["reason"] == "1 of 2 images were removed after their time; send the whole study again"
    add(queue, "1", 400)
    assert job_of(queue, 500).version == 2
    assert queue.failures() == []


def test_study_that_is_sent_again_after_its_removal_makes_no_second_result(queue: Queue) -> None:
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20))
    queue.images_removed(STUDY)
    add(queue, "1", 200)
    queue.complete(300, 10, 1000)
    assert queue.take_job(1000) is None
    assert queue.counts()["jobs"] == {"done": 1}


def test_images_of_unfinished_studies_are_kept(queue: Queue) -> None:
    add(queue, "1", 0)
    assert queue.expired_images(100) == [], "receives"
    job = job_of(queue, 20)
    assert queue.expired_images(100) == [], "is screened"
    queue.fail_job(job, "crash", Retry(attempts=1), 20)
    assert queue.expired_images(100) == [], "may be tried again by hand"


def test_results_are_kept_until_delivered(queue: Queue) -> None:
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20))
    for destination in ("pacs", "web"):
        assert queue.expired_results(100) == []
        (delivery,) = queue.due_deliveries(destination, 20)
        queue.delivered(delivery, 30)
    assert queue.expired_results(100) == [STUDY]


def test_old_studies_are_forgotten_when_all_is_done(queue: Queue) -> None:
    add(queue, "1", 0)
    finish(queue, job_of(queue, 20))
    assert queue.forget(100) == 0, "images are present"
    queue.images_removed(STUDY)
    assert queue.forget(100) == 0, "two deliveries wait"
    for destination in ("pacs", "web"):
        (delivery,) = queue.due_deliveries(destination, 20)
        queue.delivered(delivery, 30)
    assert queue.forget(0) == 0, "not old"
    assert queue.forget(100) == 1
    assert queue.counts() == {"studies": {}, "jobs": {}, "deliveries": {}, "quarantine": {"kept": 0}}
    assert queue.image("1") is None


def test_quarantine_expires(queue: Queue) -> None:
    queue.add_quarantine(Image("1", STUDY, "other", 100), 50)
    assert queue.expired_quarantine(50) == []
    assert queue.expired_quarantine(51) == [("1", "other")]
    assert queue.failures() == []


def test_size_of_a_study(queue: Queue) -> None:
    for _ in range(2):
        add(queue, "1", 0)
    add(queue, "2", 0)
    assert queue.study_size(STUDY) == (2, 200)


def test_followed_studies_are_remembered(queue: Queue) -> None:
    assert queue.followed(STUDY) == 0
    queue.add_followed(STUDY, 3, 0)
    queue.add_followed(STUDY, 5, 0)
    assert queue.followed(STUDY) == 5


def test_state_is_on_the_disk(tmp_path: Path) -> None:
    add(Queue(tmp_path / "queue.sqlite3"), "1", 0)
    assert Queue(tmp_path / "queue.sqlite3").study_size(STUDY) == (1, 100)


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue.sqlite3")
    assert queue._db.one("PRAGMA journal_mode") == {"journal_mode": "wal"}
    assert queue._db.one("PRAGMA synchronous") == {"synchronous": 2}


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite3"
    text.write_text("no database" * 100)
    with pytest.raises(UnusableInputError, match="must be the queue of a node"):
        Queue(text)
    newer = tmp_path / "newer.sqlite3"
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(UnusableInputError, match="must be a queue of version 1, got 99"):
        Queue(newer)
