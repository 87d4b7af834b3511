"""Splits: by subject, stratified by class, the same on every machine."""

from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osteo_monai import cli
from osteo_monai.data import (
    Header,
    Manifest,
    Record,
    SplitPlan,
    read_manifest,
    split_by_subject,
    split_manifest,
    write_manifest,
)
from osteo_monai.data.split import parse_ratio, temporal_split
from osteo_monai.domain import BoneStatus

SHARES = {"training": 0.6, "validation": 0.2, "test": 0.2}


def cohort(**classes: int) -> list[Record]:
    """Two images of each subject."""
    return [
        Record(image=f"{name}{i}_{image}.nii", subject_id=f"{name}{i}", bone_status=BoneStatus(name))
        for name, count in classes.items()
        for i in range(count)
        for image in range(2)
    ]


def test_each_subject_is_in_one_split() -> None:
    records = cohort(normal=23, osteopenia=11, osteoporosis=5)
    splits = split_by_subject(records, SHARES, seed=1)
    subjects = {split: {r.subject_id for r in members} for split, members in splits.items()}
    assert sum(map(len, subjects.values())) == 39 == len(set.union(*subjects.values()))
    assert all(len(splits[split]) == 2 * len(subjects[split]) for split in splits)


def test_classes_have_the_same_shares() -> None:
    splits = split_by_subject(cohort(normal=20, osteopenia=10, osteoporosis=5), SHARES, seed=1)
    counts = {split: Counter(str(r.bone_status) for r in members) for split, members in splits.items()}
    assert counts["training"] == {"normal": 24, "osteopenia": 12, "osteoporosis": 6}
    assert counts["validation"] == counts["test"] == {"normal": 8, "osteopenia": 4, "osteoporosis": 2}


def test_rounding_errors_do_not_add_up_over_classes() -> None:
    # Four classes of one subject each, one of them unknown: rounding by class would put all four in training.
    records = [*cohort(normal=1, osteopenia=1, osteoporosis=1), Record(image="u.nii", subject_id="u")]
    splits = split_by_subject(records, {"training": 0.5, "test": 0.5}, seed=0)
    assert {s: len({r.subject_id for r in members}) for s, members in splits.items()} == {"training": 2, "test": 2}


def test_order_does_not_matter_but_the_seed_does() -> None:
    records = cohort(normal=30)
    first = {r.subject_id for r in split_by_subject(records, SHARES, seed=1)["test"]}
    assert first == {r.subject_id for r in split_by_subject(records[::-1], SHARES, seed=1)["test"]}
    assert first != {r.subject_id for r in split_by_subject(records, SHARES, seed=2)["test"]}


def test_a_split_is_reproducible() -> None:
    # A stored result: another one would mean that published splits cannot be reproduced.
    splits = split_by_subject(cohort(normal=5), {"training": 0.6, "test": 0.4}, seed=7)
    assert sorted({r.subject_id for r in splits["test"]}) == ["normal0", "normal4"]


@pytest.mark.parametrize("shares", [{"training": 0.5}, {"training": 1.2, "test": -0.2}], ids=["sum", "range"])
def test_shares_must_be_shares(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_subject(cohort(normal=2), shares, seed=0)


def test_a_subject_of_two_classes_is_refused() -> None:
    records = [
        Record(image="a.nii", subject_id="p", bone_status=BoneStatus.NORMAL),
        Record(image="b.nii", subject_id="p", bone_status=BoneStatus.OSTEOPENIA),
    ]
    with pytest.raises(ValueError, match="'p' must have one bone_status"):
        split_by_subject(records, SHARES, seed=0)


# --- whole manifests -----------------------------------------------------------------------------------------------


def dated(count: int, **fields: Any) -> list[Record]:
    """Subjects s0, s1, ... a day apart; every third has osteopenia."""
    return [
        Record(
            image=f"{i}.nii",
            subject_id=f"s{i}",
            acquired=date(2021, 1, 1) + timedelta(days=i),
            bone_status=BoneStatus.OSTEOPENIA if i % 3 == 0 else BoneStatus.NORMAL,
            **fields,
        )
        for i in range(count)
    ]


def manifest_of(**splits: list[Record]) -> Manifest:
    header = Header(name="c", description="People.", virtual=True)
    return Manifest(header=header, splits={s: tuple(r) for s, r in splits.items()})


def subjects(manifest: Manifest) -> dict[str, set[str]]:
    return {split: {r.subject_id for r in records} for split, records in manifest.splits.items()}


def test_pans_temporal_split() -> None:
    # 1,048 people: the first 630 at 5:1, the rest is the test. 5:1 of 630 is 525 and 105; the paper has 530 and 100.
    plan = SplitPlan((5, 1, 4), seed=3, temporal=True, first=630)
    divided = split_manifest(manifest_of(test=dated(1048)[::-1]), plan)
    divided_subjects = subjects(divided)
    assert {s: len(names) for s, names in divided_subjects.items()} == {"training": 525, "validation": 105, "test": 418}
    assert divided_subjects["training"] | divided_subjects["validation"] == {f"s{i}" for i in range(630)}
    classes = Counter(str(r.bone_status) for r in divided.splits["training"])
    assert classes == {"normal": 350, "osteopenia": 175}
    assert "the first 630 of 1048 subjects by date 5:1" in divided.header.description


def test_temporal_without_a_number_follows_the_ratio() -> None:
    divided_subjects = subjects(split_manifest(manifest_of(test=dated(100)), SplitPlan((5, 1, 4), temporal=True)))
    assert {s: len(names) for s, names in divided_subjects.items()} == {"training": 50, "validation": 10, "test": 40}
    assert divided_subjects["test"] == {f"s{i}" for i in range(60, 100)}


def test_the_first_image_dates_a_subject() -> None:
    late = Record(image="again.nii", subject_id="s0", acquired=date(2022, 1, 1), bone_status=BoneStatus.OSTEOPENIA)
    splits = temporal_split([late, *dated(4)], 2, {"training": 0.5, "validation": 0.5}, seed=0)
    assert {r.subject_id for r in splits["test"]} == {"s2", "s3"}
    assert late in [*splits["training"], *splits["validation"]]


def test_records_without_a_day_are_refused() -> None:
    undated = [r.model_copy(update={"acquired": None}) for r in dated(7)]
    with pytest.raises(ValueError, match="missing in 7 subjects: s0, s1, s2, s3, s4 and 2 more"):
        temporal_split(undated, 3, {"training": 1}, seed=0)
    with pytest.raises(ValueError, match="between 1 and 6, got 7"):
        temporal_split(dated(7), 7, {"training": 1}, seed=0)


def test_external_cohorts_are_kept_by_default() -> None:
    whole = manifest_of(training=dated(20)[:10], test=dated(20)[10:], external_riga=[Record(image="x", subject_id="x")])
    kept = split_manifest(whole, SplitPlan(seed=1))
    assert subjects(kept)["external_riga"] == {"x"}
    assert {s: len(names) for s, names in subjects(kept).items()} == {
        "training": 10, "validation": 2, "test": 8, "external_riga": 1,
    }  # fmt: skip
    mixed = split_manifest(whole, SplitPlan(seed=1, keep_external=False))
    assert "external_riga" not in mixed.splits
    assert set.union(*subjects(mixed).values()) == {*(f"s{i}" for i in range(20)), "x"}
    with pytest.raises(ValueError, match="no records to split"):
        split_manifest(manifest_of(external_riga=[Record(image="x", subject_id="x")]), SplitPlan())


def test_a_second_split_replaces_the_first() -> None:
    again = split_manifest(split_manifest(manifest_of(test=dated(20)), SplitPlan((0.5, 0.1, 0.4))), SplitPlan(seed=2))
    assert again.header.description == "People. Split by subject, stratified by class, 5:1:4, seed 2."


def test_invalid_plans_are_refused() -> None:
    assert parse_ratio("5:1:4") == (5, 1, 4)
    for text in ("5:1", "a:b:c"):
        with pytest.raises(ValueError, match="such as 5:1:4, got"):
            parse_ratio(text)
    with pytest.raises(ValueError, match="training:validation:test"):
        SplitPlan((0, 0, 1))
    with pytest.raises(ValueError, match="must be used with temporal"):
        SplitPlan(first=630)


def test_the_command_splits_and_updates_the_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    for i in range(20):
        (tmp_path / "a" / f"{i}.nii").touch()
    write_manifest(manifest_of(test=dated(20)), tmp_path / "a" / "m.json")
    words = ["manifest", "split", str(tmp_path / "a" / "m.json"), "-o", str(tmp_path / "b" / "m.json")]
    assert cli.run([*words, "--ratio", "6:2:2", "--seed", "4"]) == 0
    assert "training: 12 subjects, 12 records" in capsys.readouterr().out
    divided = read_manifest(tmp_path / "b" / "m.json")  # checks that the files are there
    assert divided.splits["test"][0].images[0].startswith("../a/")
    assert cli.run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.run([*words, "--overwrite", "--first", "5"]) == 2
    assert "must be used with temporal" in capsys.readouterr().err


# --- properties ----------------------------------------------------------------------------------------------------

parts = st.tuples(*[st.integers(0, 9)] * 3).filter(lambda ratio: ratio[0] + ratio[1] > 0)
class_counts = st.fixed_dictionaries({status.value: st.integers(0, 12) for status in BoneStatus}).filter(
    lambda counts: sum(counts.values()) > 1
)


@settings(max_examples=40)
@given(counts=class_counts, ratio=parts, seed=st.integers(0, 9), random=st.randoms(use_true_random=False))
def test_splits_are_disjoint_complete_and_reproducible(
    counts: dict[str, int], ratio: tuple[int, int, int], seed: int, random: Random
) -> None:
    records = cohort(**counts)
    shares = {split: part / sum(ratio) for split, part in zip(SHARES, ratio, strict=True)}
    splits = split_by_subject(records, shares, seed)
    members = {split: {record.subject_id for record in group} for split, group in splits.items()}
    assert sum(map(len, members.values())) == sum(counts.values())
    assert set().union(*members.values()) == {record.subject_id for record in records}
    assert sum(map(len, splits.values())) == len(records)
    for split, share in shares.items():
        assert abs(len(members[split]) - share * sum(counts.values())) < len(shares)
        for name, count in counts.items():
            of_class = sum(subject.rstrip("0123456789") == name for subject in members[split])
            assert abs(of_class - share * count) < len(shares)
    shuffled = list(records)
    random.shuffle(shuffled)
    again = split_by_subject(shuffled, shares, seed)
    assert {split: {record.subject_id for record in group} for split, group in again.items()} == members
