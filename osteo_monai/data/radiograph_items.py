"""Items of radiograph classifiers, read from a data manifest."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osteo_monai.data import Record, read_manifest
from osteo_monai.domain import OSTEOPOROSIS_T_SCORE
from osteo_monai.errors import ManifestError

__all__ = ["FACTS", "HEAT_COLUMNS", "IN_FOLD", "OTHER_FOLDS", "radiograph_items", "soft_target"]

FACTS = ("age", "sex", "height_cm", "weight_kg", "t_score", "centre", "kvp", "acquisition")
"""What a table of predictions repeats of a record, where it is known."""


HEAT_COLUMNS = ("heat_on_bone", "attention_on_bone", "bone_area")
"""Columns of a predictions table about heat maps."""

IN_FOLD, OTHER_FOLDS = "fold", "other_folds"
"""Names that stand, beside those of a manifest's splits, for the people of one fold and for all but them."""


def soft_target(t_score: float, sd: float = 0.0) -> float:
    """Return the probability that a T-score measured again, with an SD of ``sd``, is -2.5 or less; 0 or 1 without one.

    A person of -2.4 and one of -2.6 are all but the same person. DXA repeats a T-score of the lumbar spine with an SD
    of about 0.1 to 0.2; larger values also teach how far from the threshold somebody is.
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
    """Return the records of one view in a manifest's splits as a data set of the radiograph bundles wants them.

    Each item holds ``image`` (path), ``bone`` (path of its mask, if all have one), ``label`` (1 for osteoporosis, 0, or
    -1 where unknown), ``target`` (what the loss is given, see ``soft_target``), ``row`` (its place in the list),
    ``place`` (its place in the manifest) and ``facts`` (columns for ``evaluation.PredictionsSaver``); the last two do
    not collate, so transforms must drop them.

    Args:
        data_source: path of a data manifest; its records need ``view`` and ``t_score``.
        splits: names of splits; also, with ``folds``, ``"fold"``: the people of one fold of ``training`` and
            ``validation`` together, and ``"other_folds"``: all but them. Folds divide people, not images, alike in each
            class, by a hash of seed and name. In tables the people of a fold stand in the cohort ``validation``, since
            they were not trained on, with the number of the fold in the column ``fold``.
        view: such as ``chest_frontal``; records of another or of none are passed over.
        fold, folds: which of how many, from 0; 0 folds for none.
        seed: of the folds.
        target_sd: of ``soft_target``.
        need_truth: whether a record without a T-score is refused.

    Raises:
        SystemExit: listing all that is wrong; MONAI would bury another exception's sentence under a page of its own.
    """
    if not data_source:
        raise SystemExit("error: --data_source must name a data manifest of radiographs, got none")
    path = Path(data_source)
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        raise SystemExit(f"error: {error}") from None
    problems = []
    if not splits or isinstance(splits, str):
        problems.append(f"splits must be a list such as \"['test']\", got {splits!r}")
        splits = []
    if folds and (folds < 2 or not 0 <= fold < folds):
        problems.append(f"fold must be one of the folds, from 0, and folds at least 2, got fold {fold} of {folds}")
        folds = 0
    if not folds and {IN_FOLD, OTHER_FOLDS} & set(splits):
        problems.append("the people of a fold were asked for: --folds must say how many folds there are, such as 5")
        splits = [split for split in splits if split not in (IN_FOLD, OTHER_FOLDS)]
    chosen: list[tuple[str, int, Record, dict[str, Any]]] = []
    for split in splits:
        virtual_split = split in (IN_FOLD, OTHER_FOLDS)
        sources = ("training", "validation") if virtual_split else (split,)
        records = [(s, place, r) for s, place, r in manifest.records() if s in sources]
        wanted = [(s, place, record) for s, place, record in records if record.view == view]
        if not wanted:
            unnamed = sum(record.view is None for _, _, record in records)
            named = " or ".join(map(repr, sources))
            problems.append(
                f"{path.name} has no records of the view {view!r} in a split {named}, it has "
                f"{', '.join(manifest.splits) or 'no splits'}; {unnamed} of {len(records)} records there name no 'view'"
            )
        if need_truth and (lacking := [(s, p) for s, p, record in wanted if record.t_score is None]):
            problems.append(
                f"{path.name}: {len(lacking)} of {len(wanted)} radiographs of {split} have no 't_score' "
                f"(the first is {lacking[0][0]}[{lacking[0][1]}])"
            )
            continue
        if virtual_split:
            number = _folds([record for _, _, record in wanted], folds, seed)
            wanted = [one for one in wanted if (number[one[2].subject_id] == fold) == (split == IN_FOLD)]
        added = {"cohort": "validation", "fold": fold} if split == IN_FOLD else {}
        chosen += [(s, p, record, {"cohort": s, **added}) for s, p, record in wanted]
    if problems:
        raise SystemExit("error: " + "\nerror: ".join(problems))

    images: dict[str, int] = defaultdict(int)
    for _, _, record, _ in chosen:
        images[record.subject_id] += 1
    masks = all(record.bone_mask for _, _, record, _ in chosen)
    items: list[dict[str, Any]] = []
    for split, place, record, added in chosen:
        facts = record.model_dump(mode="json", include=set(FACTS), exclude_none=True)
        facts |= {"subject_id": record.subject_id, **added, "virtual": int(manifest.header.virtual)}
        if images[record.subject_id] > 1:
            facts["image_id"] = f"{split}[{place}]"
        score = record.t_score
        if score is not None:
            facts["osteoporosis"] = int(score <= OSTEOPOROSIS_T_SCORE)
        items.append(
            {
                "image": str(path.parent / record.images[0]),
                **({"bone": str(path.parent / str(record.bone_mask))} if masks else {}),
                "label": facts.get("osteoporosis", -1),
                "target": -1.0 if score is None else soft_target(score, target_sd),
                "row": len(items),
                "place": f"{split}[{place}]",
                "facts": facts,
            }
        )
    return items


def _folds(records: Sequence[Record], folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each subject, alike in each class; a subject counts as osteoporotic by its lowest T-score."""
    lowest: dict[str, float] = {}
    for record in records:
        score = math.inf if record.t_score is None else record.t_score
        lowest[record.subject_id] = min(score, lowest.get(record.subject_id, math.inf))
    ordered = sorted(
        lowest,
        key=lambda s: (lowest[s] <= OSTEOPOROSIS_T_SCORE, hashlib.sha256(f"{seed}/{s}".encode()).digest()),
    )
    return {subject: place % folds for place, subject in enumerate(ordered)}
