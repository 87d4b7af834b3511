"""Flow of subjects from the table to the manifest: exclusions and their counts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from osteo_monai.data.from_table.rules import ImageKind, Rule
from osteo_monai.data.from_table.table import TableRow

__all__ = ["Exclusion", "Flow", "Stage", "apply_rules"]


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


@dataclass(frozen=True)
class Flow:
    """Result of the rules.

    Attributes:
        exclusions: in the order of the subjects in the table.
        stages: of the flow diagram.
        kept: the rows with a usable image that meet all rules.
    """

    exclusions: tuple[Exclusion, ...]
    stages: tuple[Stage, ...]
    kept: tuple[TableRow, ...]


_IMAGES: Mapping[ImageKind, str] = {"ct": "Subjects with a CT image", "radiograph": "Subjects with a radiograph"}
_FOLLOWING = {"inclusion": "Subjects who meet the inclusion criteria", "exclusion": "Subjects included"}
"""Label of the subjects that remain after a stage."""


def apply_rules(rows: Sequence[TableRow], rules: Sequence[Rule], exclude_unknown: bool, kind: ImageKind) -> Flow:
    """Exclude subjects by the first rule that applies, and count.

    A rule that applies to one CT of a subject excludes the subject. A radiograph to which a rule applies is left out,
    and its subject is excluded when no other remains. Rows without a usable image are ignored; a subject with no other
    row is excluded before all rules.

    Args:
        rows: of the table, several for a subject with several images.
        rules: in the order of application.
        exclude_unknown: exclude also if the fact of a rule is unknown.
        kind: of the images.
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
    label = _IMAGES[kind]
    for name, following in _FOLLOWING.items():
        if not (stage_rules := [rule for rule in rules if rule.stage == name]):
            continue
        count = len(remaining)
        excluded, unchecked, remaining = _apply_stage(remaining, stage_rules, exclude_unknown, kind)
        stages.append(Stage(label, count, _counts(excluded), unchecked))
        exclusions |= excluded
        label = following
    stages.append(Stage("Subjects included", len(remaining)))
    ordered = tuple(exclusions[subject] for subject in members if subject in exclusions)
    return Flow(ordered, tuple(stages), tuple(row for group in remaining.values() for row in group))


def _apply_stage(
    members: Mapping[str, Sequence[TableRow]], rules: Sequence[Rule], exclude_unknown: bool, kind: ImageKind
) -> tuple[dict[str, Exclusion], tuple[tuple[str, int], ...], dict[str, list[TableRow]]]:
    """Return the exclusions, for each unknown fact the number of subjects that are kept, and the remaining rows."""
    excluded: dict[str, Exclusion] = {}
    unknown: dict[str, set[str]] = defaultdict(set)
    remaining = {subject: list(rows) for subject, rows in members.items()}
    for rule in rules:
        for subject, rows in list(remaining.items()):
            answers = [(row, rule.excludes(row.facts)) for row in rows]
            fails = [row for row, answer in answers if answer or (answer is None and exclude_unknown)]
            kept = [row for row in rows if row not in fails] if kind == "radiograph" or not fails else []
            if kept:
                remaining[subject] = kept
                if any(answer is None and row in kept for row, answer in answers):
                    unknown[rule.needs].add(subject)
                continue
            del remaining[subject]
            reason = rule.reason if any(answer for _, answer in answers) else f"{rule.needs} not known"
            excluded[subject] = Exclusion(subject, rule.stage, reason)
    counts = {fact: len(subjects & remaining.keys()) for fact, subjects in unknown.items()}
    return excluded, tuple((fact, count) for fact, count in counts.items() if count), remaining


def _counts(exclusions: Mapping[str, Exclusion]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(exclusion.reason for exclusion in exclusions.values()).items())
