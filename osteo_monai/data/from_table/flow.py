"""Flow of subjects from the table to the manifest: exclusions and their counts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from osteo_monai.data.from_table.rules import Rule
from osteo_monai.data.from_table.table import TableRow

__all__ = ["Exclusion", "Stage", "apply_rules"]


@dataclass(frozen=True)
class Exclusion:
    """A subject that is excluded, with the stage and the first rule that applied."""

    subject_id: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Stage:
    """A box of the flow diagram.

    Attributes:
        label: name of the stage.
        count: number of subjects at its beginning.
        excluded: reason and number of those excluded here.
        unchecked: fact and number of those kept although the fact is unknown.
    """

    label: str
    count: int
    excluded: tuple[tuple[str, int], ...] = ()
    unchecked: tuple[tuple[str, int], ...] = ()


_FOLLOWING = {"inclusion": "Subjects who meet the inclusion criteria", "exclusion": "Subjects included"}
"""Label of the subjects that remain after a stage."""


def apply_rules(
    rows: Sequence[TableRow], rules: Sequence[Rule], exclude_unknown: bool
) -> tuple[tuple[Exclusion, ...], tuple[Stage, ...]]:
    """Exclude each subject by the first rule that applies to one of its rows, and count.

    Rows without a usable image are ignored; a subject with no other row is excluded before all rules.

    Args:
        rows: of the table, several for a subject with several images.
        rules: in the order of application.
        exclude_unknown: exclude a subject also if the fact of a rule is unknown.

    Returns:
        The exclusions in the order of the subjects in ``rows``, and the stages of the flow diagram.
    """
    members: dict[str, list[TableRow]] = defaultdict(list)
    for row in rows:
        members[row.subject].append(row)
    usable = {subject: [row for row in group if row.lost is None] for subject, group in members.items()}
    exclusions = {
        subject: Exclusion(subject, "image", members[subject][0].lost or "")
        for subject, group in usable.items()
        if not group
    }
    stages = [Stage("Subjects in the table", len(members), _counts(exclusions))]
    remaining = {subject: group for subject, group in usable.items() if group}
    label = "Subjects with a CT image"
    for name, following in _FOLLOWING.items():
        if not (stage_rules := [rule for rule in rules if rule.stage == name]):
            continue
        excluded, unchecked = _apply_stage(remaining, stage_rules, exclude_unknown)
        stages.append(Stage(label, len(remaining), _counts(excluded), unchecked))
        exclusions |= excluded
        remaining = {subject: group for subject, group in remaining.items() if subject not in excluded}
        label = following
    stages.append(Stage("Subjects included", len(remaining)))
    return tuple(exclusions[subject] for subject in members if subject in exclusions), tuple(stages)


def _apply_stage(
    members: Mapping[str, Sequence[TableRow]], rules: Sequence[Rule], exclude_unknown: bool
) -> tuple[dict[str, Exclusion], tuple[tuple[str, int], ...]]:
    """Return the exclusions of a stage, and for each unknown fact the number of subjects that are kept."""
    excluded: dict[str, Exclusion] = {}
    unknown: dict[str, list[str]] = defaultdict(list)
    for rule in rules:
        for subject in (name for name in members if name not in excluded):
            answers = [rule.excludes(row.facts) for row in members[subject]]
            if True in answers:
                excluded[subject] = Exclusion(subject, rule.stage, rule.reason)
            elif None in answers and exclude_unknown:
                excluded[subject] = Exclusion(subject, rule.stage, f"{rule.needs} not known")
            elif None in answers:
                unknown[rule.needs].append(subject)
    kept = {fact: len(set(subjects) - excluded.keys()) for fact, subjects in unknown.items()}
    return excluded, tuple((fact, count) for fact, count in kept.items() if count)


def _counts(exclusions: Mapping[str, Exclusion]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(exclusion.reason for exclusion in exclusions.values()).items())
