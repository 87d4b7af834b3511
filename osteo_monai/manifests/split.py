"""Dividing people, not images, into splits."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from osteo_monai.manifests.record import Record


def split_by_subject(records: Sequence[Record], shares: Mapping[str, float], seed: int) -> dict[str, list[Record]]:
    """Divide records so that all images of one subject fall in one split and each class is divided alike.

    Subjects are ordered by a hash of the seed and their name, so that the order of ``records`` does not matter and the
    same input gives the same splits on every machine.

    Args:
        records: of any number of subjects; those of unknown ``bone_status`` form a class of their own.
        shares: share of the subjects of each class in each split; they add up to 1.
        seed: another seed gives another division.

    Returns:
        The records of each split, in the order of ``records``.

    Raises:
        ValueError: if the shares do not add up to 1, one of them is not between 0 and 1, or the records of one
            subject disagree about its class.
    """
    if any(not 0 <= share <= 1 for share in shares.values()) or not math.isclose(
        sum(shares.values()), 1.0, abs_tol=1e-6
    ):
        raise ValueError(f"shares must lie between 0 and 1 and add up to 1, got {dict(shares)}")
    status: dict[str, str] = {}
    for record in records:
        known = str(record.bone_status or "unknown")
        if status.setdefault(record.subject_id, known) != known:
            raise ValueError(f"records of subject {record.subject_id!r} disagree about bone_status")
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
            # Whoever lacks most of what the classes so far entitle it to: rounding errors do not add up over classes
            split = max(shares, key=lambda s: wanted[s] - placed[s])
            split_of[subject] = split
            placed[split] += 1
    return {split: [r for r in records if split_of[r.subject_id] == split] for split in shares}
