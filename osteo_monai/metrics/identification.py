"""Identification rate and localisation distance of named vertebral bodies, as the VerSe challenge defines them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["REACH_MM", "Identification", "NamedBody", "identify_bodies", "pooled_identification"]

REACH_MM = 20.0
"""An identified body is nearer than this to its true centre (VerSe 2019, page 'Tasks' of the challenge)."""


@dataclass(frozen=True)
class NamedBody:
    """Result for one true body.

    Attributes:
        level: its name.
        distance_mm: distance of the prediction of that name; ``nan`` if there is none.
        identified: whether the nearest true centre to that prediction is this one, and nearer than ``REACH_MM``.
        called: name of the prediction that lies here; ``None`` if there is none within ``REACH_MM``.
    """

    level: str
    distance_mm: float
    identified: bool
    called: str | None


@dataclass(frozen=True)
class Identification:
    """Named bodies of one scan, or of several.

    Attributes:
        bodies: the true ones.
        spurious: predicted bodies within the labelled part of the spine that no true body corresponds to.
        beyond: the same above or below that part, where a set may not have labelled the bodies that the scan cuts.
    """

    bodies: tuple[NamedBody, ...]
    spurious: int
    beyond: int

    @property
    def identified(self) -> int:
        """Number of identified bodies."""
        return sum(body.identified for body in self.bodies)

    @property
    def rate(self) -> float:
        """Identification rate, 0 to 1; ``nan`` without true bodies."""
        return self.identified / len(self.bodies) if self.bodies else math.nan

    @property
    def mean_distance_mm(self) -> float:
        """Mean distance of predictions from the true centre of the same name; ``nan`` without such pairs."""
        distances = [body.distance_mm for body in self.bodies if math.isfinite(body.distance_mm)]
        return float(np.mean(distances)) if distances else math.nan

    def among(self, levels: Sequence[str]) -> "Identification":
        """Return the same for the true bodies of ``levels`` only."""
        wanted = set(levels)
        return Identification(tuple(b for b in self.bodies if b.level in wanted), self.spurious, self.beyond)


def identify_bodies(
    truth: Mapping[str, ArrayLike], predicted: Mapping[str, ArrayLike], others: Sequence[ArrayLike] = ()
) -> Identification:
    """Compare predicted with true centres of named bodies in one scan.

    The definition of VerSe 2019: a vertebra is identified if the true centre that is nearest to the prediction of its
    name is its own, and nearer than 20 mm. A body that was not predicted is not identified; it has no distance.
    Spurious bodies, which the challenge does not count, are those left over when predictions and true bodies are paired
    one to one within 20 mm.

    Args:
        truth: true centre (3,) in mm by name.
        predicted: predicted centre (3,) in mm by name.
        others: centres (3,) in mm of predicted bodies without a name; only counted as spurious or not.

    Raises:
        ValueError: a centre does not have three finite coordinates.

    Example:
        >>> found = identify_bodies({"L1": (0, 0, 30), "L2": (0, 0, 0)}, {"L1": (0, 4, 33), "L3": (0, 0, 1)})
        >>> found.rate, found.mean_distance_mm, found.spurious, [body.called for body in found.bodies]
        (0.5, 5.0, 0, ['L1', 'L3'])
    """
    names, true = list(truth), _centres(truth.values())
    found_names, found = list(predicted), _centres([*predicted.values(), *others])
    distances = np.linalg.norm(found[:, None] - true[None], axis=2)
    near = distances < REACH_MM
    # a cost beyond all distances keeps far pairs out unless there is no other partner
    pairs = linear_sum_assignment(np.where(near, distances, 1e6)) if distances.size else ([], [])
    partner = {int(t): int(p) for p, t in zip(*pairs, strict=True) if near[p, t]}
    bodies = []
    for t, name in enumerate(names):
        own = found_names.index(name) if name in predicted else None
        distance = math.nan if own is None else float(distances[own, t])
        right = own is not None and int(distances[own].argmin()) == t and distance < REACH_MM
        lying = partner.get(t)
        called = found_names[lying] if lying is not None and lying < len(found_names) else None
        bodies.append(NamedBody(name, distance, right, called))
    left = found[[p for p in range(len(found)) if p not in partner.values()]]
    outside = np.zeros(len(left), dtype=bool)
    if len(true):
        outside = (left[:, 2] > true[:, 2].max()) | (left[:, 2] < true[:, 2].min())
    return Identification(tuple(bodies), int((~outside).sum()), int(outside.sum()))


def pooled_identification(scans: Iterable[Identification]) -> Identification:
    """Return all bodies of several scans as one result: rates and distances over the whole set, as VerSe 2019."""
    several = tuple(scans)
    return Identification(
        tuple(body for scan in several for body in scan.bodies),
        sum(scan.spurious for scan in several),
        sum(scan.beyond for scan in several),
    )


def _centres(points: Iterable[ArrayLike]) -> NDArray[np.float64]:
    """Return (n, 3) points."""
    listed = [np.asarray(point, dtype=np.float64) for point in points]
    if any(point.shape != (3,) or not np.isfinite(point).all() for point in listed):
        raise ValueError("a centre must have three finite coordinates in mm")
    return np.array(listed).reshape(-1, 3)
