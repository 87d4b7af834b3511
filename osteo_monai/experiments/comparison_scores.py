"""Scores of networks on the same test images: means, paired comparisons by person, and their tables."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.data.csv_tables import read_table, write_table
from osteo_monai.errors import UnusableInputError
from osteo_monai.handlers.outline_scores import SCORE_COLUMNS
from osteo_monai.statistics.paired_means import PairedMeans, compare_means
from osteo_monai.utils.files import write_json

__all__ = ["ComparedNetwork", "Comparison", "ImageTable", "compare_scores", "read_scores", "write_comparison"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ImageTable:
    """Scores of the test images by one training.

    Attributes:
        images: item of the data set and slice of each image.
        subjects: person of each image.
        scores: (images, scores) in the order of ``SCORE_COLUMNS``; ``nan`` where nothing was segmented.
    """

    images: tuple[tuple[int, int], ...]
    subjects: tuple[str, ...]
    scores: Array


@dataclass(frozen=True)
class ComparedNetwork:
    """A network and its accuracy on the test images.

    Attributes:
        name: overlay of the network, or class of the bundle's own.
        overlays: configs merged over ``train`` and ``evaluate``.
        weights: number of trained weights.
        images: number of images, of all trainings.
        empty: number of images in which nothing was segmented.
        mean, sd: of each score over the images where it is defined.
        people_mean, people_sd: of each score over the people.
        by_seed: mean of each score over the images, by training.
    """

    name: str
    overlays: tuple[str, ...]
    weights: int
    images: int = 0
    empty: int = 0
    mean: Mapping[str, float] = field(default_factory=dict)
    sd: Mapping[str, float] = field(default_factory=dict)
    people_mean: Mapping[str, float] = field(default_factory=dict)
    people_sd: Mapping[str, float] = field(default_factory=dict)
    by_seed: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Networks on the same test people.

    Attributes:
        networks: in the order of the tables.
        pairs: two networks and a score, with their paired comparison by person.
        subjects: the people.
        people: (people, scores) of each network: means over the images and trainings of a person; ``nan`` for a
            distance that is undefined in one of them.
    """

    networks: tuple[ComparedNetwork, ...]
    pairs: Mapping[tuple[str, str, str], PairedMeans]
    subjects: tuple[str, ...]
    people: Mapping[str, Array]


def read_scores(file: Path) -> ImageTable:
    """Read ``slices.csv``, see ``handlers.OutlineScores``.

    Raises:
        UnusableInputError: the table is invalid or has no images.
    """
    rows = [row for _, row in read_table(file, ("image", "slice", "subject_id", *SCORE_COLUMNS)).rows]
    if not rows:
        raise UnusableInputError(f"'{file.name}' must have at least one image with a body in its label, got none")
    scores = [[float(row[name]) if row[name] else math.nan for name in SCORE_COLUMNS] for row in rows]
    images = tuple((int(row["image"]), int(row["slice"])) for row in rows)
    return ImageTable(images, tuple(row["subject_id"] for row in rows), np.array(scores, dtype=np.float64))


def compare_scores(networks: Sequence[ComparedNetwork], scored: Mapping[str, Mapping[int, ImageTable]]) -> Comparison:
    """Summarise the scores of each network and compare each two networks by person.

    Args:
        networks: without scores.
        scored: scores of the test images by network and seed.

    Raises:
        UnusableInputError: not all tables have the same images of the same people.
    """
    tables = [table for runs in scored.values() for table in runs.values()]
    first = tables[0]
    if any((table.images, table.subjects) != (first.images, first.subjects) for table in tables):
        raise UnusableInputError("all networks must be scored on the same images, got different ones")
    subjects, codes = np.unique(first.subjects, return_inverse=True)
    people = {name: _by_person(np.stack([t.scores for t in runs.values()]), codes) for name, runs in scored.items()}
    pairs = {
        (a.name, b.name, score): compare_means(people[a.name][:, i], people[b.name][:, i])
        for a, b in combinations(networks, 2)
        for i, score in enumerate(SCORE_COLUMNS)
    }
    summaries = tuple(_summarised(network, scored[network.name], people[network.name]) for network in networks)
    return Comparison(summaries, pairs, tuple(map(str, subjects)), people)


def write_comparison(folder: Path, comparison: Comparison, facts: Mapping[str, Any]) -> None:
    """Write ``networks.csv``, ``pairs.csv``, ``people.csv`` and ``comparison.json``.

    Args:
        folder: of the files.
        comparison: to write.
        facts: of the experiment, for the JSON file.
    """
    networks = [
        {"network": n.name, "weights": n.weights, "images": n.images, "empty": n.empty, "score": score}
        | {"mean": n.mean[score], "sd": n.sd[score]}
        | {"people_mean": n.people_mean[score], "people_sd": n.people_sd[score]}
        for n in comparison.networks
        for score in SCORE_COLUMNS
    ]
    pairs = [
        {"first": first, "second": second, "score": score, "people": pair.people}
        | {"first_mean": pair.first, "second_mean": pair.second, "difference": pair.difference.value}
        | {"low": pair.difference.low, "high": pair.difference.high}
        | {"wilcoxon_p": pair.wilcoxon_p, "t_p": pair.t_p}
        | {"first_higher": pair.first_higher, "second_higher": pair.second_higher}
        for (first, second, score), pair in comparison.pairs.items()
    ]
    people = [
        {"subject_id": subject, "network": name, **dict(zip(SCORE_COLUMNS, scores, strict=True))}
        for name, values in comparison.people.items()
        for subject, scores in zip(comparison.subjects, values.tolist(), strict=True)
    ]
    for name, rows in (("networks", networks), ("pairs", pairs), ("people", people)):
        write_table(folder / f"{name}.csv", list(rows[0]), [list(row.values()) for row in rows])
    trainings = {n.name: {"overlays": n.overlays, "by_seed": n.by_seed} for n in comparison.networks}
    content = {**facts, "trainings": trainings, "networks": networks, "pairs": pairs}
    write_json(folder / "comparison.json", _plain(content))


def _by_person(scores: Array, codes: NDArray[np.intp]) -> Array:
    """Return (people, scores): means of (trainings, images, scores) over the trainings and images of each person."""
    return np.stack([scores[:, codes == code].mean((0, 1)) for code in range(int(codes.max()) + 1)])


def _summarised(network: ComparedNetwork, runs: Mapping[int, ImageTable], people: Array) -> ComparedNetwork:
    scores = np.concatenate([table.scores for table in runs.values()])
    return replace(
        network,
        images=len(scores),
        empty=int(np.isnan(scores).any(1).sum()),
        mean=_named(scores, np.mean),
        sd=_named(scores, _sd),
        people_mean=_named(people, np.mean),
        people_sd=_named(people, _sd),
        by_seed={seed: _named(table.scores, np.mean) for seed, table in runs.items()},
    )


def _named(scores: Array, summary: Callable[[Array], Any]) -> dict[str, float]:
    """Return the summary of the defined values of each score; ``nan`` without any."""
    defined = [column[np.isfinite(column)] for column in scores.T]
    values = [float(summary(column)) if column.size else math.nan for column in defined]
    return dict(zip(SCORE_COLUMNS, values, strict=True))


def _sd(values: Array) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def _plain(value: Any) -> Any:
    """Return a value with ``None`` in place of NaN, and text as keys."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
