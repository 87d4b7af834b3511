"""Split manifests by subject, stratified by class."""

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from osteo_monai.data.manifest import Manifest
from osteo_monai.data.record import Record


def split_by_subject(records: Sequence[Record], shares: Mapping[str, float], seed: int) -> dict[str, list[Record]]:
    """Split records by subject, with the same shares of each class.

    Subjects are ordered by a hash of seed and name: the order of ``records`` does not matter and the splits are the
    same on every machine.

    Args:
        records: those of unknown ``bone_status`` are a separate class.
        shares: share of the subjects of each class in each split; they add up to 1.
        seed: of the order.

    Returns:
        The records of each split, in the order of ``records``.

    Raises:
        ValueError: the shares do not add up to 1, a share is not between 0 and 1, or records of a subject have
            different classes.

    Example:
        >>> records = [Record(image=f"{n}.nii", subject_id=f"s{n}") for n in range(10)]
        >>> splits = split_by_subject(records, {"training": 0.8, "test": 0.2}, seed=1)
        >>> len(splits["training"]), len(splits["test"])
        (8, 2)
    """
    if any(not 0 <= share <= 1 for share in shares.values()) or not math.isclose(
        sum(shares.values()), 1.0, abs_tol=1e-6
    ):
        raise ValueError(f"shares must be between 0 and 1 and add up to 1, got {dict(shares)}")
    status: dict[str, str] = {}
    for record in records:
        name = str(record.bone_status or "unknown")
        if status.setdefault(record.subject_id, name) != name:
            raise ValueError(f"records of subject {record.subject_id!r} must have one bone_status, got several")
    by_class: dict[str, list[str]] = defaultdict(list)
    for subject in sorted(status, key=lambda s: hashlib.sha256(f"{seed}/{s}".encode()).digest()):
        by_class[status[subject]].append(subject)

    split_of: dict[str, str] = {}
    placed = dict.fromkeys(shares, 0)
    wanted = dict.fromkeys(shares, 0.0)
    for name in sorted(by_class):
        for split, share in shares.items():
            wanted[split] += share * len(by_class[name])
        for subject in by_class[name]:
            # the split with the largest deficit over all classes so far: rounding errors do not add up over classes
            split = max(shares, key=lambda s: wanted[s] - placed[s])
            split_of[subject] = split
            placed[split] += 1
    return {split: [r for r in records if split_of[r.subject_id] == split] for split in shares}


def temporal_split(
    records: Sequence[Record], first: int, shares: Mapping[str, float], seed: int
) -> dict[str, list[Record]]:
    """Split by date as Pan 2024: the earliest subjects for training and validation, all later ones for test.

    Subjects are ordered by the day of their first image, then by a hash of seed and name.

    Args:
        records: each with ``acquired``.
        first: number of earliest subjects, which :func:`split_by_subject` splits.
        shares: of the earliest subjects by split, without ``test``; they add up to 1.
        seed: of the order.

    Raises:
        ValueError: subjects have no day, or ``first`` leaves no subject for the test.
    """
    undated = sorted({r.subject_id for r in records if r.acquired is None})
    if undated:
        named = ", ".join(undated[:5]) + (f" and {len(undated) - 5} more" if len(undated) > 5 else "")
        raise ValueError(
            f"a temporal split needs 'acquired' in every record, missing in {len(undated)} subjects: {named}"
        )
    day: dict[str, date] = {}
    for record in records:
        if record.acquired is not None:
            day[record.subject_id] = min(record.acquired, day.get(record.subject_id, record.acquired))
    if not 0 < first < len(day):
        raise ValueError(f"the number of first subjects must be between 1 and {len(day) - 1}, got {first}")
    ordered = sorted(day, key=lambda s: (day[s], hashlib.sha256(f"{seed}/{s}".encode()).digest()))
    early = set(ordered[:first])
    splits = split_by_subject([r for r in records if r.subject_id in early], shares, seed)
    return {**splits, "test": [r for r in records if r.subject_id not in early]}


@dataclass(frozen=True)
class SplitPlan:
    """Options of a split.

    Attributes:
        ratio: of training, validation and test; Pan's is 5:1:4.
        seed: of the order of subjects.
        temporal: order by ``acquired``: the earliest for training and validation, the rest for test.
        first: with ``temporal``, number of earliest subjects (Pan: 630; default: from the ratio).
        keep_external: keep ``external_*`` splits; otherwise their records are split too.
    """

    ratio: tuple[float, float, float] = (5, 1, 4)
    seed: int = 0
    temporal: bool = False
    first: int | None = None
    keep_external: bool = True

    def __post_init__(self) -> None:
        if len(self.ratio) != 3 or min(self.ratio) < 0 or sum(self.ratio[:2]) <= 0:
            raise ValueError(f"the ratio must be training:validation:test, such as 5:1:4, got {self.ratio}")
        if self.first is not None and not self.temporal:
            raise ValueError("first must be used with temporal, got first only")


def split_manifest(manifest: Manifest, plan: SplitPlan) -> Manifest:
    """Return the manifest with its records split again by subject, with the same shares of each class.

    Raises:
        ValueError: the plan does not suit the records; see :func:`split_by_subject` and :func:`temporal_split`.
    """
    kept = {s: r for s, r in manifest.splits.items() if plan.keep_external and s.startswith("external_")}
    records = [r for split, rs in manifest.splits.items() if split not in kept for r in rs]
    if not records:
        raise ValueError("there are no records to split except those of external cohorts")
    subjects = len({r.subject_id for r in records})
    training, validation, test = plan.ratio
    if plan.temporal:
        early = training + validation
        first = round(subjects * early / (early + test)) if plan.first is None else plan.first
        shares = {"training": training / early, "validation": validation / early}
        divided = temporal_split(records, first, shares, plan.seed)
        how = f"the first {first} of {subjects} subjects by date {training:g}:{validation:g}, the rest as test"
    else:
        total = sum(plan.ratio)
        shares = {s: p / total for s, p in zip(("training", "validation", "test"), plan.ratio, strict=True)}
        divided = split_by_subject(records, shares, plan.seed)
        how = f"{training:g}:{validation:g}:{test:g}"
    note = f"Split by subject, stratified by class, {how}, seed {plan.seed}."
    description = f"{_SPLIT_NOTE.sub('', manifest.header.description).rstrip()} {note}"
    header = manifest.header.model_copy(update={"description": description})
    return Manifest(header=header, splits={**{s: tuple(r) for s, r in divided.items() if r}, **kept})


_SPLIT_NOTE = re.compile(r"Split by subject, stratified by class, .*?, seed -?\d+\.")


def parse_ratio(text: str) -> tuple[float, float, float]:
    """Return ``5:1:4`` as numbers; raise ``ValueError`` if it is not three numbers.

    Example:
        >>> parse_ratio("5:1:4")
        (5.0, 1.0, 4.0)
    """
    try:
        training, validation, test = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"the ratio must be training:validation:test, such as 5:1:4, got {text!r}") from None
    return training, validation, test
