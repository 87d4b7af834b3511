"""Name the vertebral bodies of one column by a joint decision.

A detector gives body centres, an anatomical tracer gives votes about ribs and sacrum, networks may give votes about
names. One hidden Markov model over the detected bodies combines them: the states are the levels of one spine in their
fixed order, the observations are the distances between neighbouring centres and the votes at each body. The model sums
over the variants of the spine (four, five or six lumbar bodies; eleven, twelve or thirteen pairs of ribs), over one
scale per patient, over bodies that the detector missed and over false detections (forward-backward, Rabiner 1989). The
certainty of a name is its share of the total weight.

Distances do not suffice for naming (notes of the project: right in 43-59 % of windows). Without a vote that anchors the
column the posterior is flat, and no name may be used.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.measurement.landmarks import ROLES, Role
from osteo_monai.screening.ct.spines import (
    INSTEAD,
    MAX_STEP,
    MIXED_ROLES,
    NAMED_LEVELS,
    SpineTables,
    counted,
    spine_tables,
)

_MAX_SKIP = 3
"""Detections from one true body to the next: up to two false detections in a row between them."""
_DOUBLE_MM = 14.0
"""Centres nearer than this are one body detected twice (project custom: half the usual distance of lower bodies)."""
_MAX_BODIES = 60
"""Largest number of detections, twice the bodies of a spine (project custom); also keeps weights above 1e-300."""


@dataclass(frozen=True)
class NamingModel:
    """Constants of the model. Defaults fitted by ``benchmarks/naming_vid_spines.py --fit`` if marked "fitted".

    Attributes:
        scale_sd: SD of the logarithm of a patient's scale (VID data: 6.5 %).
        centre_sd_mm: SD that the detector's error adds to a distance (fitted).
        outlier: share of distances unrelated to anatomy: fracture, misplaced centre (project custom; 12 of about
            11,000 distances of the VID data are over 5 SD off, and detections are worse than checked points).
        outlier_sd_mm: SD of such distances.
        cut_sd_mm: SD that a body cut by the scan adds to the distance to its neighbour (project custom: the
            centre of a body of 28 mm that is half in view is 7 mm off).
        missed: probability that the detector misses a body inside the column (VID detections: 1.0 %).
        missed_at_end: the same below the lowest found body, if the scan continues (project custom: detectors
            find the sacrum and incomplete bodies there).
        sacrum_found: probability that the first sacral body is detected as a body (VID detections: about 200 of 1,900).
        role_trust: exponent of the anatomical votes. 1 uses them as log-likelihoods; the fit on simulated votes gives
            1.3 with 3 % less loss, which is not used.
        role_noise: share of single votes without information (fitted).
        ribs_one_high: probability that the tracer has the last rib one level too high, because it skipped a short rib.
            Project custom, near the simulated rate (3.5 %); on real scans the rate is unknown, and this and the next
            bound the certainty of a name that is based on ribs only.
        ribs_one_low: probability that it classifies a process as a rib (project custom, simulated at 1.5 %).
        first_one_high: probability that C7 seems to have the first rib (project custom; cervical ribs in 0.9 %).
        first_one_low: probability that the ribs of T1 are missed (project custom; none of 64 scans, one of them real).
        name_trust: weight of the votes for names, shared by all bodies, since their errors are correlated (project
            custom: the networks of version 0.1.0 name 3 of 7 and 5 of 9 real scans correctly, always with confidence).
        name_range: votes for names below the best one by more than this count as this value below.
    """

    scale_sd: float = 0.065
    centre_sd_mm: float = 1.4
    outlier: float = 0.03
    outlier_sd_mm: float = 6.0
    cut_sd_mm: float = 6.0
    missed: float = 0.01
    missed_at_end: float = 0.05
    sacrum_found: float = 0.1
    role_trust: float = 1.0
    role_noise: float = 0.02
    ribs_one_high: float = 0.03
    ribs_one_low: float = 0.015
    first_one_high: float = 0.01
    first_one_low: float = 0.005
    name_trust: float = 0.3
    name_range: float = 4.0


@dataclass(frozen=True)
class BodyEvidence:
    """Evidence for one detection.

    Attributes:
        centre_mm: RAS+ mm.
        found: probability that it is a vertebral body, from the detector.
        roles: log-likelihoods of the anatomical landmarks, for each of ``ROLES``; for a role that is absent that of
            ``INSTEAD``, else 0.
        names: log-likelihoods of names from networks; empty if unknown. The lowest value is used for every level that
            is absent, that of T8 for all levels above it.
        cut_below, cut_above: the scan ends inside the body.

    Raises:
        ValueError: if a role is unknown, or a number is not finite.
    """

    centre_mm: tuple[float, float, float]
    found: float = 0.97
    roles: Mapping[Role, float] = field(default_factory=dict)
    names: Mapping[VertebraLevel, float] = field(default_factory=dict)
    cut_below: bool = False
    cut_above: bool = False

    def __post_init__(self) -> None:
        unknown = set(self.roles) - set(ROLES)
        if unknown:
            raise ValueError(f"roles must be among {list(ROLES)}, got {sorted(unknown)}")
        if not 0.0 <= self.found <= 1.0:
            raise ValueError(f"found must be a probability, got {self.found}")
        if not np.isfinite([*self.centre_mm, *self.roles.values(), *self.names.values()]).all():
            raise ValueError("centre_mm, roles and names must be finite numbers")


@dataclass(frozen=True)
class BodyName:
    """The name of one detection.

    Attributes:
        kind: ``named`` (``level`` is set), ``above`` (a body above the highest level of ``NAMED_LEVELS``) or
            ``spurious`` (no vertebral body).
        posterior: probability of this answer.
        runner_up: the most probable other answer: a level, or ``None`` for 'above' or 'spurious'.
        posteriors: of each level of ``NAMED_LEVELS``; the remainder to 1 is ``above`` and ``spurious``.
    """

    kind: Literal["named", "above", "spurious"]
    level: VertebraLevel | None
    posterior: float
    runner_up: VertebraLevel | None
    runner_up_posterior: float
    posteriors: Mapping[VertebraLevel, float]
    above: float
    spurious: float


@dataclass(frozen=True)
class MissedBody:
    """A body that the distances suggest and the detector did not find.

    Attributes:
        position_mm: RAS+ mm, on the line between its neighbours.
        below: index of the detected body below it.
        level: its name; ``None`` above the named levels.
        probability: of at least one missed body in this gap.
    """

    position_mm: tuple[float, float, float]
    below: int
    level: VertebraLevel | None
    probability: float


@dataclass(frozen=True)
class Naming:
    """The names of one column.

    Attributes:
        bodies: one entry per detection, in the order given (lowest first).
        lumbar_count: probability of four, five and six lumbar bodies; the prior unless sacrum and last rib are visible.
        ribbed_count: probability of 11, 12 and 13 pairs of ribs.
        missed: probably missed bodies.
        doubles: indices of spurious detections nearer to a true body than two centres can be.
        scale: distances of this patient relative to the mean patient.
        first_ribbed: index of the detection that is T1 in this answer; ``None`` if there is none.
        first_ribbed_posterior: probability that this detection is T1.
    """

    bodies: tuple[BodyName, ...]
    lumbar_count: Mapping[int, float]
    ribbed_count: Mapping[int, float]
    missed: tuple[MissedBody, ...]
    doubles: tuple[int, ...]
    scale: float
    first_ribbed: int | None = None
    first_ribbed_posterior: float = 0.0

    def index(self, level: VertebraLevel) -> int | None:
        """Return the index of the detection named ``level``; ``None`` if there is none."""
        return next((i for i, body in enumerate(self.bodies) if body.level is level), None)


def name_column(
    bodies: Sequence[BodyEvidence],
    bottom_mm: float | None = None,
    model: NamingModel | None = None,
) -> Naming:
    """Name the detections of one column.

    Args:
        bodies: from the lowest up.
        bottom_mm: z of the lower end of the scan in RAS+ mm. If a whole body would fit between the lowest
            detection and this end, and none was detected, the lowest one is probably the last above the sacrum.
            ``None`` if the detector was not run down to there.
        model: constants; the calibrated ones if ``None``.

    Returns:
        The best joint answer that keeps the order of levels, with the posterior of each part of it.

    Raises:
        ValueError: if the bodies are not sorted, or too many for a column.
    """
    model = model or NamingModel()
    points = np.array([b.centre_mm for b in bodies], dtype=np.float64).reshape(-1, 3)
    if (np.diff(points[:, 2]) < 0).any():
        raise ValueError("bodies must be sorted from the lowest up")
    if len(bodies) > _MAX_BODIES:
        raise ValueError(f"bodies must be at most {_MAX_BODIES}, got {len(bodies)}")
    tables = spine_tables(model.ribs_one_high, model.ribs_one_low, model.first_one_high, model.first_one_low)
    if not bodies:
        return Naming((), counted(tables, tables.prior, 1), counted(tables, tables.prior, 0), (), (), 1.0)
    return _Column(bodies, points, bottom_mm, model, tables).naming()


def _flat_part(log_weights: NDArray[np.float64], noise: float) -> tuple[NDArray[np.float64], float]:
    """Mix a vote with a flat one; return its weights and their mean, which is used for a false detection."""
    weights = np.exp(log_weights - log_weights.max())
    mean = float(weights[:4].mean())  # of the roles that most bodies have
    return (1.0 - noise) * weights + noise * mean, mean


@dataclass(frozen=True)
class _Edge:
    """Weights of all steps from detection ``lower`` to detection ``upper``; detections between them are false.

    ``weights`` has for each step k (1 to ``MAX_STEP``) an array (V, M - k, S): from state s to state s + k.
    """

    lower: int
    upper: int
    weights: Mapping[int, NDArray[np.float64]]


class _Column:
    """The model of one column: V readings, M states and S scales for each of n detections."""

    def __init__(
        self,
        bodies: Sequence[BodyEvidence],
        points: NDArray[np.float64],
        bottom_mm: float | None,
        model: NamingModel,
        tables: SpineTables,
    ) -> None:
        self.bodies, self.points, self.model, self.tables = bodies, points, model, tables
        self.n = len(bodies)
        grid = np.linspace(-2.5, 2.5, 15)
        self.scales = np.exp(model.scale_sd * grid)
        self.scale_prior = np.exp(-0.5 * grid**2)
        self.scale_prior /= self.scale_prior.sum()
        name_weight = model.name_trust / max(1, sum(bool(b.names) for b in bodies))
        emitted = [self._emission(b, name_weight) for b in bodies]
        self.emission = np.array([e for e, _ in emitted])  # (n, V, M)
        self.false = np.array([f for _, f in emitted])  # (n,)
        self.edges = [e for j in range(1, self.n) for i in range(max(0, j - _MAX_SKIP), j) if (e := self._edge(i, j))]
        self.start = np.stack([self._start(i, bottom_mm) for i in range(self.n)])  # (n, V, M)
        # (n,) weight of all detections above a body being false
        self.after = np.append(np.cumprod(self.false[::-1])[::-1], 1.0)[1:]

    # evidence

    def _emission(self, body: BodyEvidence, name_weight: float) -> tuple[NDArray[np.float64], float]:
        """Return the weight (V, M) of one body's votes in each state, and its weight as a false detection."""
        model, tables = self.model, self.tables
        roles = body.roles
        votes = model.role_trust * np.array([roles.get(r, roles.get(INSTEAD.get(r, r), 0.0)) for r in ROLES])
        weights, flat = _flat_part(votes, model.role_noise)
        weights = np.append(weights, MIXED_ROLES @ weights)
        emission = np.where(tables.label <= len(NAMED_LEVELS), weights[tables.role], 0.0)
        if body.names:
            by_level, flat_name = self._name_weights(body.names, name_weight)
            emission = emission * by_level
            flat *= flat_name
        found = min(max(body.found, 0.02), 0.98)
        # true bodies are about 30 mm apart, false detections are anywhere
        return emission, flat * (1.0 - found) / found / 30.0

    def _name_weights(
        self, names: Mapping[VertebraLevel, float], name_weight: float
    ) -> tuple[NDArray[np.float64], float]:
        """Return the weight (V, M) of one body's votes for names in each state, and their mean."""
        best = max(names.values())
        floor = max(min(names.values()), best - self.model.name_range)
        by_name = {str(level): math.exp(name_weight * (max(v, floor) - best)) for level, v in names.items()}
        mean, lowest = sum(by_name.values()) / len(by_name), math.exp(name_weight * (floor - best))
        above = by_name.get("T8", lowest)
        table = np.zeros(self.tables.label.shape)
        for v, chain in enumerate(self.tables.levels):
            for s, name in enumerate(chain):
                otherwise = lowest if VertebraLevel.T9 in chain[s:] else above
                table[v, s] = by_name.get(name, mean if name == "sacrum" else otherwise)
        return table, mean

    def _edge(self, i: int, j: int) -> _Edge | None:
        """Return the weights of the steps from detection i to j; ``None`` if they are too far apart or too near."""
        model, tables = self.model, self.tables
        distance = float(np.linalg.norm(self.points[j] - self.points[i]))
        extra = 2.0 * model.centre_sd_mm**2
        cut = sum(b.cut_below or b.cut_above for b in (self.bodies[i], self.bodies[j]))
        variance = tables.variance[:, None] + extra + cut * model.cut_sd_mm**2
        wide = variance + model.outlier_sd_mm**2
        off = (distance - tables.mean[:, None] * self.scales) ** 2
        density = (1.0 - model.outlier) * np.exp(-0.5 * off / variance) / np.sqrt(2.0 * np.pi * variance)
        density += model.outlier * np.exp(-0.5 * off / wide) / np.sqrt(2.0 * np.pi * wide)
        density *= float(np.prod(self.false[i + 1 : j]))
        density = np.vstack([density, np.zeros(len(self.scales))])  # the row of steps that leave the spine
        weights = {}
        for k in range(1, MAX_STEP + 1):
            rows = tables.pair[k - 1][:, :-k]
            if density[np.unique(rows)].max() > 1e-40:
                weights[k] = density[rows] * (1.0 - model.missed) * model.missed ** (k - 1)
        return _Edge(i, j, weights) if weights else None

    def _start(self, i: int, bottom_mm: float | None) -> NDArray[np.float64]:
        """Return the weight (V, M) that detection i is the lowest true body and in each state."""
        tables, model = self.tables, self.model
        exists = tables.label <= len(NAMED_LEVELS)
        weight = exists / exists.sum(axis=1, keepdims=True)
        weight[:, 0] *= model.sacrum_found
        weight[:, 1] *= 1.0 - model.sacrum_found
        if bottom_mm is not None:
            # a whole body needs one and a half distances; a tilted column shortens them by a tenth
            space = float(self.points[i, 2] - bottom_mm)
            for v, s in np.argwhere(exists):
                below = np.cumsum(tables.pitch[v, s:1:-1])  # down to the last lumbar body
                needed = 0.9 * (below + 0.5 * tables.pitch[v, s:1:-1])
                weight[v, s] *= model.missed_at_end ** min(3, int((needed <= space).sum()))
        return np.asarray(weight * float(np.prod(self.false[:i])) / 30.0)

    # sums over all readings

    def _forward(self) -> NDArray[np.float64]:
        """Return the weight (n, V, M, S) of everything below each body, with the body itself."""
        prior = self.tables.prior[:, None, None] * self.scale_prior
        alpha = self.start[..., None] * prior
        alpha *= self.emission[..., None]
        for edge in self.edges:  # in the order of their upper ends
            for k, weight in edge.weights.items():
                step = alpha[edge.lower][:, :-k] * weight
                step *= self.emission[edge.upper][:, k:, None]
                alpha[edge.upper][:, k:] += step
        return np.asarray(alpha)

    def _backward(self) -> NDArray[np.float64]:
        """Return the weight (n, V, M, S) of everything above each body."""
        shape = (self.n, *self.tables.label.shape, len(self.scales))
        beta = np.broadcast_to(self.after[:, None, None, None], shape).copy()
        for edge in reversed(self.edges):
            for k, weight in edge.weights.items():
                beta[edge.lower][:, :-k] += weight * (self.emission[edge.upper][:, k:, None] * beta[edge.upper][:, k:])
        return beta

    def naming(self) -> Naming:
        """Sum all weights and choose the answer."""
        alpha, beta = self._forward(), self._backward()
        no_body = float(np.prod(self.false))  # the weight of the reading without any body
        by_reading = (alpha * self.after[:, None, None, None]).sum(axis=(0, 2))  # (V, S)
        by_reading += no_body * np.outer(self.tables.prior, self.scale_prior)
        total = float(by_reading.sum())
        by_state = (alpha * beta).sum(axis=3) / total
        labels = self._labels(by_state)
        reading, path = self._path(labels)
        first = next((i for i, state in path if state == self.tables.first_ribbed[reading]), None)
        at_first = by_state[:, np.arange(len(self.tables.counts)), self.tables.first_ribbed].sum(axis=1)
        answers = [len(NAMED_LEVELS) + 1] * self.n
        for i, state in path:
            answers[i] = int(self.tables.label[reading, state])
        weights = by_reading.sum(axis=1) / total
        return Naming(
            tuple(_name(labels[i], answers[i]) for i in range(self.n)),
            counted(self.tables, weights, 1),
            counted(self.tables, weights, 0),
            self._missed(reading, path, alpha, beta, total),
            self._doubles(path),
            float(by_reading.sum(axis=0) @ self.scales / total),
            first,
            0.0 if first is None else float(at_first[first]),
        )

    def _labels(self, by_state: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the posterior (n, V, M) of states by answer: (n, levels + 2), the last two above and false."""
        labels = np.stack([by_state[:, self.tables.label == a].sum(axis=1) for a in range(len(NAMED_LEVELS) + 1)], 1)
        false = np.clip(1.0 - labels.sum(axis=1, keepdims=True), 0.0, 1.0)
        return np.hstack([labels, false])

    # the best single answer

    def _path(self, labels: NDArray[np.float64]) -> tuple[int, list[tuple[int, int]]]:
        """Return a reading and the (body, state) pairs of its true bodies, lowest first.

        Among the most probable paths (Viterbi) to each last state of each reading, the one whose answers have the
        highest sum of posteriors is taken, so that a name with most of the weight is preferred to that of the single
        most probable path.
        """
        best, origin = self._viterbi()
        ends = (best * self.after[:, None, None, None]).max(axis=3)  # (n, V, M)
        chosen: tuple[int, list[tuple[int, int]]] = (0, [])
        highest = float(labels[:, -1].sum())
        for i, v, s in np.argwhere(ends > 1e-4 * ends.max()):
            path = self._backtrack(origin, int(i), int(v), int(s), int(best[i, v, s].argmax()))
            answers = np.full(self.n, len(NAMED_LEVELS) + 1)
            for body, state in path:
                answers[body] = self.tables.label[v, state]
            score = float(labels[np.arange(self.n), answers].sum())
            if score > highest:
                chosen, highest = (int(v), path), score
        return chosen

    def _viterbi(self) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
        """Return the weight (n, V, M, S) of the best path to each state, and the edge and step it arrived by.

        The second array holds ``edge * MAX_STEP + k - 1``; -1 where the path begins.
        """
        prior = self.tables.prior[:, None, None] * self.scale_prior
        best = self.start[..., None] * prior * self.emission[..., None]
        origin = np.full(best.shape, -1, dtype=np.int16)
        for e, edge in enumerate(self.edges):
            for k, weight in edge.weights.items():
                step = best[edge.lower][:, :-k] * weight * self.emission[edge.upper][:, k:, None]
                at, source = best[edge.upper][:, k:], origin[edge.upper][:, k:]
                better = step > at
                np.copyto(at, step, where=better)
                np.copyto(source, np.int16(e * MAX_STEP + k - 1), where=better)
        return best, origin

    def _backtrack(self, origin: NDArray[np.int16], i: int, v: int, s: int, scale: int) -> list[tuple[int, int]]:
        """Follow a path down from its last body."""
        path = [(i, s)]
        while (code := int(origin[i, v, s, scale])) >= 0:
            i, s = self.edges[code // MAX_STEP].lower, s - code % MAX_STEP - 1
            path.append((i, s))
        return path[::-1]

    # missed and double bodies

    def _missed(
        self,
        reading: int,
        path: Sequence[tuple[int, int]],
        alpha: NDArray[np.float64],
        beta: NDArray[np.float64],
        total: float,
    ) -> tuple[MissedBody, ...]:
        """List the bodies that the best path skips."""
        by_ends = {(edge.lower, edge.upper): edge for edge in self.edges}
        missed = []
        for (i, s), (j, above) in pairwise(path):
            if above - s < 2:
                continue
            edge = by_ends[(i, j)]
            probability = sum(
                float((alpha[i][:, :-k] * w * self.emission[j][:, k:, None] * beta[j][:, k:]).sum())
                for k, w in edge.weights.items()
                if k > 1
            )
            for state in range(s + 1, above):
                share = (state - s) / (above - s)
                x, y, z = (float(c) for c in self.points[i] + share * (self.points[j] - self.points[i]))
                label = int(self.tables.label[reading, state])
                level = NAMED_LEVELS[label] if label < len(NAMED_LEVELS) else None
                missed.append(MissedBody((x, y, z), i, level, probability / total))
        return tuple(missed)

    def _doubles(self, path: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        """Return the false detections too near to a true body for a neighbour."""
        true = [i for i, _ in path]
        nearest = {
            i: float(np.linalg.norm(self.points[true] - self.points[i], axis=1).min())
            for i in set(range(self.n)) - set(true)
            if true
        }
        return tuple(sorted(i for i, distance in nearest.items() if distance < _DOUBLE_MM))


def _name(labels: NDArray[np.float64], answer: int) -> BodyName:
    """Put the posterior (levels + 2,) of one body and its answer into a name."""
    named = len(NAMED_LEVELS)
    others = labels.copy()
    others[answer] = -1.0
    second = int(others.argmax())
    return BodyName(
        kind="named" if answer < named else "above" if answer == named else "spurious",
        level=NAMED_LEVELS[answer] if answer < named else None,
        posterior=float(labels[answer]),
        runner_up=NAMED_LEVELS[second] if second < named else None,
        runner_up_posterior=float(labels[second]),
        posteriors={level: float(p) for level, p in zip(NAMED_LEVELS, labels, strict=False) if p > 1e-6},
        above=float(labels[named]),
        spurious=float(labels[named + 1]),
    )
