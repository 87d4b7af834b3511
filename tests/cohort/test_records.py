"""Work on many records and the reasons of exclusions."""

from pathlib import Path

import numpy as np
import pytest

from osteo_monai.batch import Workers
from osteo_monai.cohort.records import ExcludedRecordError, Ready, check_grid, exclusion_reason, only_file, run_jobs
from osteo_monai.data import Record
from osteo_monai.errors import UnusableInputError


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_run_in_order_in_any_number_of_processes(workers: int) -> None:
    work: Ready[int, int] = Ready(abs)
    assert run_jobs(work, [-1, 2, -3], Workers(workers), "Counting", int) == {0: 1, 1: 2, 2: 3}
    assert run_jobs(work, [], Workers(workers), "Counting", int) == {}


@pytest.mark.parametrize(("names", "count"), [((), 0), (None, 0), (("a", "b"), 2)])
def test_a_record_must_have_one_file(names: tuple[str, ...] | None, count: int) -> None:
    with pytest.raises(ExcludedRecordError, match=rf"must have one of images, got {count}\."):
        only_file(names, Path("x"), "images")
    assert only_file("a", Path("x"), "images") == only_file(("a",), Path("x"), "images") == Path("x/a")


def test_grids_may_differ_by_a_tenth_of_a_voxel() -> None:
    labels, affine = np.zeros((3, 3, 3), np.uint8), np.eye(4)
    moved = affine.copy()
    moved[0, 3] = 0.09
    check_grid((labels, affine), (3, 3, 3), moved, "label")
    moved[0, 3] = 0.11
    with pytest.raises(ExcludedRecordError, match=r"0\.1 voxels from the image"):
        check_grid((labels, affine), (3, 3, 3), moved, "label")
    with pytest.raises(ExcludedRecordError, match="must be that of the image"):
        check_grid((labels, affine), (3, 3, 4), affine, "label")


def test_a_reason_is_one_line() -> None:
    error = UnusableInputError("'a.nii' has 2 problems:\n  - one\n  - two")
    reason = exclusion_reason(Record(image="a.nii", subject_id="p1"), error)
    assert reason == "'a.nii' has 2 problems: - one - two"
