"""Splitting: by subject, alike in each class, the same on every machine."""

from collections import Counter

import pytest

from osteo_monai.domain import BoneStatus
from osteo_monai.manifests import Record, split_by_subject

SHARES = {"training": 0.6, "validation": 0.2, "test": 0.2}


def cohort(**classes: int) -> list[Record]:
    """Two images of each subject."""
    return [
        Record(image=f"{name}{i}_{image}.nii", subject_id=f"{name}{i}", bone_status=BoneStatus(name))
        for name, count in classes.items()
        for i in range(count)
        for image in range(2)
    ]


def test_no_subject_is_torn_apart_and_none_is_lost() -> None:
    records = cohort(normal=23, osteopenia=11, osteoporosis=5)
    splits = split_by_subject(records, SHARES, seed=1)
    subjects = {split: {r.subject_id for r in members} for split, members in splits.items()}
    assert sum(map(len, subjects.values())) == 39 == len(set.union(*subjects.values()))
    assert all(len(splits[split]) == 2 * len(subjects[split]) for split in splits)


def test_each_class_is_divided_alike() -> None:
    splits = split_by_subject(cohort(normal=20, osteopenia=10, osteoporosis=5), SHARES, seed=1)
    counts = {split: Counter(str(r.bone_status) for r in members) for split, members in splits.items()}
    assert counts["training"] == {"normal": 24, "osteopenia": 12, "osteoporosis": 6}
    assert counts["validation"] == counts["test"] == {"normal": 8, "osteopenia": 4, "osteoporosis": 2}


def test_rounding_errors_do_not_add_up_over_classes() -> None:
    # Four classes of one subject each, the unknown among them: rounding by class would put all four in training.
    records = [*cohort(normal=1, osteopenia=1, osteoporosis=1), Record(image="u.nii", subject_id="u")]
    splits = split_by_subject(records, {"training": 0.5, "test": 0.5}, seed=0)
    assert {s: len({r.subject_id for r in members}) for s, members in splits.items()} == {"training": 2, "test": 2}


def test_order_does_not_matter_but_the_seed_does() -> None:
    records = cohort(normal=30)
    first = {r.subject_id for r in split_by_subject(records, SHARES, seed=1)["test"]}
    assert first == {r.subject_id for r in split_by_subject(records[::-1], SHARES, seed=1)["test"]}
    assert first != {r.subject_id for r in split_by_subject(records, SHARES, seed=2)["test"]}


def test_a_known_division() -> None:
    # Written down once: another one would mean that a published split cannot be made again.
    splits = split_by_subject(cohort(normal=5), {"training": 0.6, "test": 0.4}, seed=7)
    assert sorted({r.subject_id for r in splits["test"]}) == ["normal0", "normal4"]


@pytest.mark.parametrize("shares", [{"training": 0.5}, {"training": 1.2, "test": -0.2}], ids=["sum", "range"])
def test_shares_must_be_shares(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_subject(cohort(normal=2), shares, seed=0)


def test_a_subject_of_two_classes() -> None:
    records = [
        Record(image="a.nii", subject_id="p", bone_status=BoneStatus.NORMAL),
        Record(image="b.nii", subject_id="p", bone_status=BoneStatus.OSTEOPENIA),
    ]
    with pytest.raises(ValueError, match="'p' disagree"):
        split_by_subject(records, SHARES, seed=0)
