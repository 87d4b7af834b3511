"""Items of radiograph classifiers, read from a data manifest, and their division into folds."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osteo_monai.data import Manifest, Record, record_columns
from osteo_monai.data.subject_items import read_data_source
from osteo_monai.domain import OSTEOPOROSIS_T_SCORE
from osteo_monai.errors import ConfigError, ManifestError, UnusableInputError
from osteo_monai.imaging.radiograph import find_radiographs

__all__ = ["IN_FOLD", "OTHER_FOLDS", "FoldPlan", "radiograph_files", "radiograph_items", "soft_target"]

IN_FOLD, OTHER_FOLDS = "fold", "other_folds"
"""Names of the subjects of one fold and of all other folds, used like names of splits."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".dcm"}
"""Names of files that claim to be radiographs, with any content."""


def radiograph_files(folder: str | os.PathLike[str]) -> list[str]:
    """List the radiographs in a folder tree, and files that have the name of one: readers refuse those with a reason.

    Args:
        folder: folder to search; the list is empty when there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        return []
    try:
        found = set(find_radiographs(root))
    except UnusableInputError:  # nothing that looks like a radiograph
        found = set()
    studies = {path for path in found if path.is_dir()}
    named = {path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()}
    return sorted(str(path) for path in found | {path for path in named if path.parent not in studies})


def lowest_t_scores(records: Iterable[Record]) -> dict[str, float]:
    """Return the lowest T-score of each subject over all records, which is the truth of the subject (Li 2026).

    Subjects without a T-score are left out.
    """
    lowest: dict[str, float] = {}
    for record in records:
        if record.t_score is not None:
            lowest[record.subject_id] = min(record.t_score, lowest.get(record.subject_id, math.inf))
    return lowest


@dataclass(frozen=True)
class FoldPlan:
    """Division of the subjects of ``training`` and ``validation`` together into folds for cross-validation.

    Args:
        fold: index of the validation fold, from 0.
        folds: number of folds; 0 for none.
        seed: random seed of the division.

    Raises:
        ConfigError: when there is one fold only, or no fold of that index.
    """

    fold: int = 0
    folds: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds and (self.folds < 2 or not 0 <= self.fold < self.folds):
            raise ConfigError(
                f"fold must be an index below folds, and folds 0 or at least 2, got fold {self.fold} of {self.folds}"
            )

    def check(self, splits: Iterable[str]) -> None:
        """Raise ``ConfigError`` when ``splits`` names folds and the plan has none."""
        if not self.folds and {IN_FOLD, OTHER_FOLDS} & set(splits):
            raise ConfigError(f"folds must be at least 2 for the splits {IN_FOLD!r} and {OTHER_FOLDS!r}, got 0")

    def sources(self, split: str) -> tuple[str, ...]:
        """Return the splits of the manifest that hold the subjects of ``split``."""
        return ("training", "validation") if split in (IN_FOLD, OTHER_FOLDS) else (split,)

    def assign(self, records: Iterable[Record]) -> dict[str, int]:
        """Return the fold of each subject: similar numbers of both classes in each fold, by a hash of seed and name.

        A subject has osteoporosis if the lowest T-score of its records says so.
        """
        listed = tuple(records)
        lowest = lowest_t_scores(listed)
        ordered = sorted(
            {record.subject_id for record in listed},
            key=lambda s: (
                lowest.get(s, math.inf) <= OSTEOPOROSIS_T_SCORE,
                hashlib.sha256(f"{self.seed}/{s}".encode()).digest(),
            ),
        )
        return {subject: place % self.folds for place, subject in enumerate(ordered)}

    def select(self, split: str, sources: Sequence["_Source"]) -> list["_Source"]:
        """Return the records of ``sources`` that belong to ``split``."""
        if split not in (IN_FOLD, OTHER_FOLDS):
            return list(sources)
        folds = self.assign(source.record for source in sources)
        return [s for s in sources if (folds[s.record.subject_id] == self.fold) == (split == IN_FOLD)]

    def columns(self, split: str, source: str) -> dict[str, str | int]:
        """Return the columns of a predictions table about split and fold.

        The subjects of a fold are in the cohort ``validation``, since its network was not trained on them.
        """
        return {"cohort": "validation", "fold": self.fold} if split == IN_FOLD else {"cohort": source}


@dataclass(frozen=True)
class _Source:
    """A record and its place in the manifest."""

    split: str
    index: int
    record: Record

    @property
    def place(self) -> str:
        return f"{self.split}[{self.index}]"


def soft_target(t_score: float, sd: float = 0.0) -> float:
    """Return the probability that a repeated T-score is -2.5 or less; 0 or 1 for an SD of 0.

    DXA repeats a T-score of the lumbar spine with an SD of about 0.1 to 0.2; a larger SD makes the target depend on the
    distance from the threshold.

    Args:
        t_score: measured T-score.
        sd: standard deviation of a repeated measurement, in T-scores.

    Raises:
        ValueError: for a negative ``sd``.
    """
    if sd < 0:
        raise ValueError(f"sd must be 0 or positive, got {sd}")
    if sd == 0:
        return float(t_score <= OSTEOPOROSIS_T_SCORE)
    return 0.5 * math.erfc((t_score - OSTEOPOROSIS_T_SCORE) / (sd * math.sqrt(2)))


def radiograph_items(
    data_source: str,
    splits: Sequence[str],
    view: str,
    fold: int = 0,
    folds: int = 0,
    seed: int = 0,
    target_sd: float = 0.0,
    need_truth: bool = True,
) -> list[dict[str, Any]]:
    """Return the records of one view in a manifest's splits as items of a data set of the radiograph bundles.

    Each item has ``image`` (path), ``bone`` (path of its mask, if all records have one), ``label`` (1 osteoporosis, 0
    none, -1 unknown), ``target`` (of the loss, see ``soft_target``; -1 if unknown), ``row`` (index in the list),
    ``virtual``, ``place`` (such as ``test[0]``) and ``facts`` (columns for ``PredictionsSaver``). The last two cannot
    be collated: transforms must drop them. All items of a subject have one truth: the lowest T-score of all records of
    the subject in the manifest, of any view.

    Args:
        data_source: path of a data manifest; its records need ``view`` and ``t_score``.
        splits: names of splits. With ``folds`` also ``"fold"``, the subjects of one fold, and ``"other_folds"``, those
            of all other folds, see ``FoldPlan``.
        view: such as ``chest_frontal``; records of other views are skipped.
        fold, folds, seed: see ``FoldPlan``.
        target_sd: ``sd`` of ``soft_target``.
        need_truth: whether a record of a subject without a T-score is refused.

    Raises:
        ConfigError: when a setting is missing, of the wrong type or out of range.
        ManifestError: with all problems of the manifest and its records.
    """
    plan = FoldPlan(fold, folds, seed)
    manifest = read_data_source(data_source, splits)
    plan.check(splits)
    t_scores = lowest_t_scores(source.record for source in _records(manifest))
    problems: list[str] = []
    chosen: list[tuple[_Source, dict[str, str | int]]] = []
    for split in splits:
        sources = [s for s in _records(manifest) if s.split in plan.sources(split)]
        of_view = [s for s in sources if s.record.view == view]
        faults = _faults(manifest, split, plan.sources(split), sources, of_view, view)
        if need_truth and (unknown := [s for s in of_view if s.record.subject_id not in t_scores]):
            first = f"first: {unknown[0].place}"
            faults.append(f"{len(unknown)} of {len(of_view)} radiographs of {split} have no 't_score' ({first})")
        problems += faults
        if not faults:
            chosen += [(s, plan.columns(split, s.split)) for s in plan.select(split, of_view)]
    if problems:
        raise ManifestError(Path(data_source).name, problems)
    images = Counter(source.record.subject_id for source, _ in chosen)
    has_masks = all(source.record.bone_mask for source, _ in chosen)
    items = []
    for row, (source, columns) in enumerate(chosen):
        facts = record_columns(source.record, source.split, manifest.header.virtual) | columns
        if images[source.record.subject_id] > 1:
            facts["image_id"] = source.place
        score = t_scores.get(source.record.subject_id)
        item = _item(Path(data_source).parent, source, score, facts, target_sd, has_masks)
        items.append(item | {"row": row, "virtual": manifest.header.virtual})
    return items


def _records(manifest: Manifest) -> Iterator[_Source]:
    return (_Source(split, index, record) for split, index, record in manifest.records())


def _item(
    folder: Path, source: _Source, score: float | None, facts: dict[str, Any], target_sd: float, has_masks: bool
) -> dict[str, Any]:
    """Return an item; ``score`` is the T-score of its subject."""
    record = source.record.absolute(folder)
    if score is not None:
        facts |= {"t_score": score, "osteoporosis": int(score <= OSTEOPOROSIS_T_SCORE)}
    masks = {"bone": record.bone_mask} if has_masks else {}
    return {
        "image": record.images[0],
        **masks,
        "label": facts.get("osteoporosis", -1),
        "target": -1.0 if score is None else soft_target(score, target_sd),
        "place": source.place,
        "facts": facts,
    }


def _faults(
    manifest: Manifest,
    split: str,
    names: Sequence[str],
    sources: Sequence[_Source],
    of_view: Sequence[_Source],
    view: str,
) -> list[str]:
    """List the problems of a split: no records of the view, several images in a record."""
    faults = []
    if not of_view:
        without_view = sum(s.record.view is None for s in sources)
        faults.append(
            f"no records of the view {view!r} in a split {' or '.join(map(repr, names))}; splits: "
            f"{', '.join(manifest.splits) or 'none'}; {without_view} of its {len(sources)} records have no 'view'"
        )
    if stacks := [s for s in of_view if len(s.record.images) > 1]:
        faults.append(
            f"{len(stacks)} of {len(of_view)} radiographs of {split} have several images (first: {stacks[0].place})"
        )
    return faults
