"""People of a manifest with the risk that a network gives them, for the clinical and the combined model.

Networks overfit their training subjects. A combined model that is trained on the risks of such subjects relies on them
too much, so the risk of each training subject must be from a network that was *not* trained on it. Li 2026 does not
describe this; other tables are refused here.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit

from osteo_monai.data import Record, read_manifest, read_prediction_rows
from osteo_monai.data.csv_tables import refuse
from osteo_monai.domain import OSTEOPOROSIS_T_SCORE, Sex
from osteo_monai.utils.files import file_sha256
from osteo_monai.utils.frozen import FrozenDict
from osteo_monai.utils.probability import logit

__all__ = ["Cohort", "Person", "read_people", "table_cohort"]

_Key = tuple[str, str]
"""Split and subject."""


@dataclass(frozen=True)
class Person:
    """A person of a cohort; unknown values are ``None``.

    Attributes:
        subject_id, split: from the manifest.
        osteoporosis: whether the lowest T-score is -2.5 or less.
        age, height_cm, weight_kg: years, cm, kg; the mean of the person's records.
        sex: of the person.
        risk: probability of osteoporosis by the network.
    """

    subject_id: str
    split: str
    osteoporosis: bool
    age: float | None = None
    sex: Sex | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    risk: float | None = None


@dataclass(frozen=True)
class Cohort:
    """People of a manifest with a truth and a risk, ordered by split and name.

    Attributes:
        people: one entry for each person.
        left_out: number of people that are left out, by reason.
        virtual: whether they are simulated.
        manifest_sha256, scores_sha256: of the source files.
    """

    people: tuple[Person, ...]
    left_out: Mapping[str, int]
    virtual: bool
    manifest_sha256: str
    scores_sha256: str

    def of(self, split: str) -> list[Person]:
        """Return the people of a split."""
        return [person for person in self.people if person.split == split]

    @property
    def kind(self) -> str:
        """Return what the people are in messages."""
        return "virtual patients" if self.virtual else "people"

    def summary(self) -> list[str]:
        """Return one sentence for each reason why people are left out."""
        return [f"{count} {self.kind} {reason} are left out" for reason, count in self.left_out.items() if count]


def table_cohort(split: str) -> str:
    """Return the cohort of a split in a table of out-of-fold risks: training subjects are in ``validation``."""
    return "validation" if split == "training" else split


def read_people(manifest: Path, scores: Path) -> Cohort:
    """Join the people of a manifest with the risks of a predictions table, by ``subject_id``.

    People without a T-score or without a row in the table are left out and counted, so that both models are trained
    and evaluated on the same ones. Several radiographs of a person count as one, by the mean of the logits.

    Args:
        manifest: data manifest; the files of its records need not exist.
        scores: predictions table (docs/predictions.md) of one model. The rows of training subjects must be out of
            fold: cohort ``validation`` and the number of the fold in the column ``fold``.

    Raises:
        ManifestError: listing the problems of the manifest.
        UnusableInputError: listing the problems of the table, or why its risks must not be used.
    """
    content = read_manifest(manifest, check_files=False)
    records: dict[_Key, list[Record]] = defaultdict(list)
    for split, _, record in content.records():
        records[split, record.subject_id].append(record)
    rows = _rows_by_subject(scores)
    joined = {key: rows[key[1]] for key in records if key[1] in rows}
    truths = {key: _manifest_truth(group) for key, group in records.items()}
    refuse(scores, [*_leaks(joined), *_join_problems(manifest.name, joined, truths)])

    people = []
    left_out = {"without a T-score": 0, "without a risk": 0}
    for key, group in sorted(records.items()):
        truth = truths[key]
        if truth is None:
            left_out["without a T-score"] += 1
        elif key not in joined:
            left_out["without a risk"] += 1
        else:
            people.append(_person(key, group, truth, joined[key]))
    return Cohort(
        people=tuple(people),
        left_out=FrozenDict(left_out),
        virtual=content.header.virtual,
        manifest_sha256=file_sha256(manifest),
        scores_sha256=file_sha256(scores),
    )


def _rows_by_subject(path: Path) -> dict[str, list[dict[str, str]]]:
    by_subject: dict[str, list[dict[str, str]]] = defaultdict(list)
    models = set()
    for row in read_prediction_rows(path):
        by_subject[row["subject_id"]].append(row)
        models.add(row["model"])
    if len(models) > 1:
        refuse(path, [f"it must have the risks of one model, got {len(models)}: {', '.join(sorted(models))}"])
    return by_subject


def _person(key: _Key, records: Sequence[Record], truth: bool, rows: Sequence[Mapping[str, str]]) -> Person:
    logits = logit([float(row["probability_osteoporosis"]) for row in rows])
    return Person(
        subject_id=key[1],
        split=key[0],
        osteoporosis=truth,
        age=_mean([record.age for record in records]),
        sex=next((record.sex for record in records if record.sex is not None), None),
        height_cm=_mean([record.height_cm for record in records]),
        weight_kg=_mean([record.weight_kg for record in records]),
        risk=float(expit(np.mean(logits))),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _manifest_truth(records: Sequence[Record]) -> bool | None:
    t_scores = [record.t_score for record in records if record.t_score is not None]
    return min(t_scores) <= OSTEOPOROSIS_T_SCORE if t_scores else None


def _table_truth(rows: Sequence[Mapping[str, str]]) -> bool | None:
    flags = {row.get("osteoporosis", "") for row in rows}
    return None if "" in flags else "1" in flags


def _join_problems(
    name: str, joined: Mapping[_Key, Sequence[Mapping[str, str]]], truths: Mapping[_Key, bool | None]
) -> list[str]:
    """Report that manifest and table do not describe the same people."""
    problems = []
    pairs = [(_table_truth(rows), truths[key]) for key, rows in joined.items()]
    different = sum(None not in pair and pair[0] != pair[1] for pair in pairs)
    if different:
        problems.append(f"the table and {name} have different truths of {different} people")
    if not joined:
        problems.append(f"none of the {len(truths)} people of {name} has a row in it")
    return problems


def _leaks(joined: Mapping[_Key, Sequence[Mapping[str, str]]]) -> list[str]:
    """Report risks from networks that were trained on the subjects, a sentence for each split."""
    by_split: dict[str, list[Sequence[Mapping[str, str]]]] = defaultdict(list)
    for (split, _), rows in joined.items():
        by_split[split].append(rows)
    problems = []
    for split, people in by_split.items():
        if split == "training":
            problems += _fold_problems(people)
            continue
        cohort = table_cohort(split)
        elsewhere = sum(any(row["cohort"] != cohort for row in rows) for rows in people)
        if elsewhere:
            problems.append(
                f"{elsewhere} of {len(people)} people of {split} are not in the cohort {cohort} of the table: the "
                "network may have been trained on them"
            )
    return problems


def _fold_problems(people: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
    """Report training subjects whose risk is not from another fold."""
    cohort = table_cohort("training")
    folds = [{row.get("fold", "") for row in rows} for rows in people]
    in_sample = sum(
        any(row["cohort"] != cohort for row in rows) or "" in names or len(names) > 1
        for rows, names in zip(people, folds, strict=True)
    )
    if in_sample:
        return [
            f"the risks of {in_sample} of {len(people)} training subjects are not out of fold (expected the cohort "
            f"{cohort} and one fold in the column fold, as cross-validation writes them): a combined model trained on "
            "them would rely on a network that was trained on these subjects"
        ]
    if len(set().union(*folds)) < 2:
        return ["the risks of all training subjects are of one fold, expected two folds or more"]
    return []
