"""Segmentation of a column into named vertebrae by a hidden semi-Markov model over its slices.

Along z the column is a sequence of segments, each one vertebra with its half discs. A segment has a level and a length.
The levels follow one of a few anatomical orders; the lengths vary about anatomical values. For each slice the network
gives the likelihood of each level and the proximity to the centre of a body. All segmentations and names are weighted
together (forward-backward algorithm, Rabiner 1989, with explicit durations): the result is the most likely one, and the
certainty of a name is its posterior probability. Location and name are thus estimated jointly. If a name depends on
counting and the scan shows neither end of the count, the probability is divided between the names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from osteo_monai.domain import VertebraLevel

L = VertebraLevel
NAMED_LEVELS: tuple[VertebraLevel, ...] = (
    L.T8, L.T9, L.T10, L.T11, L.T12, L.T13, L.L1, L.L2, L.L3, L.L4, L.L5, L.L6,
)  # fmt: skip
"""Levels that the network names; the first is the class "T8 or above"."""

SPINES: Mapping[str, tuple[float, tuple[VertebraLevel, ...]]] = {
    "normal": (0.86, (L.T9, L.T10, L.T11, L.T12, L.L1, L.L2, L.L3, L.L4, L.L5)),
    "six lumbar": (0.05, (L.T9, L.T10, L.T11, L.T12, L.L1, L.L2, L.L3, L.L4, L.L5, L.L6)),
    "four lumbar": (0.05, (L.T9, L.T10, L.T11, L.T12, L.L1, L.L2, L.L3, L.L4)),
    "thirteen ribbed": (0.04, (L.T9, L.T10, L.T11, L.T12, L.T13, L.L1, L.L2, L.L3, L.L4, L.L5)),
}
"""Orders of levels with their prior probabilities; several percent of people have a transitional anatomy."""

PITCH_MM: Mapping[VertebraLevel, float] = {
    L.T8: 23.5, L.T9: 24.5, L.T10: 25.5, L.T11: 27.0, L.T12: 29.0, L.T13: 30.5, L.L1: 32.0, L.L2: 33.5, L.L3: 35.0,
    L.L4: 35.5, L.L5: 34.0, L.L6: 32.0,
}  # fmt: skip
"""Mean height of a body with its two half discs along z; lumbar bodies are 20-30 mm high, discs 5-12 mm."""
_PITCH_SD_MM = 5.0
_SHORTEST_MM, _LONGEST_MM = 12.0, 52.0


@dataclass(frozen=True)
class Segment:
    """Slices ``first`` to ``stop`` (exclusive) of the column, with their level.

    Attributes:
        posterior: probability of each level at the segment's centre.
    """

    level: VertebraLevel
    first: int
    stop: int
    posterior: Mapping[VertebraLevel, float]


def cut_column(
    evidence: NDArray[np.float64],
    heat: NDArray[np.float64],
    spacing: float,
    *,
    heat_sd_mm: float,
    open_below: bool,
    open_above: bool,
    lowest_is_last: float,
    trust: float = 0.35,
) -> list[Segment]:
    """Divide a column of slices, lowest first, into vertebrae.

    Args:
        evidence: (n, 12) mean log-probability of each of ``NAMED_LEVELS`` in each slice.
        heat: (n,) proximity of each slice to the centre of a body, 0 to 1.
        spacing: distance between slices in mm.
        heat_sd_mm: SD in mm of the heat about a centre.
        open_below, open_above: whether the scan ends there before the spine does, so that the outer body may be cut.
        lowest_is_last: probability that the lowest segment is the last one above the sacrum.
        trust: weight of the evidence of one slice; less than 1, since neighbouring slices are correlated.

    Returns:
        The most likely segmentation, lowest first; empty if the column is shorter than any vertebra.
    """
    n = len(evidence)
    if n * spacing < _SHORTEST_MM:
        return []
    longest = max(2, min(n, round(_LONGEST_MM / spacing)))
    model = _Model(evidence * trust, _heat_scores(heat, spacing, heat_sd_mm, longest), spacing, open_below, open_above)
    orders = []
    for prior, order in SPINES.values():
        states = (*order[::-1], L.T8)
        start = np.full(len(states), np.log(max(1.0 - lowest_is_last, 1e-3) / (len(states) - 1)))
        start[0] = np.log(max(lowest_is_last, 1e-3))
        orders.append((np.log(prior), states, start))
    runs = [model.run(states, start) for _, states, start in orders]
    weights = np.array([prior + run.total for (prior, _, _), run in zip(orders, runs, strict=True)])
    if not np.isfinite(weights).any():
        return []
    weights = np.exp(weights - logsumexp(weights))
    marginal = np.zeros((n, len(NAMED_LEVELS)))
    for weight, (_, states, _), run in zip(weights, orders, runs, strict=True):
        for j, level in enumerate(states):
            marginal[:, NAMED_LEVELS.index(level)] += weight * run.marginal[:, j]
    best = max(range(len(runs)), key=lambda i: orders[i][0] + runs[i].best_score)
    segments = []
    for j, first, stop in runs[best].best_path:
        middle = marginal[(first + stop - 1) // 2 : (first + stop) // 2 + 1].mean(0)
        posterior = {level: float(p) for level, p in zip(NAMED_LEVELS, middle, strict=True) if p > 1e-6}
        segments.append(Segment(orders[best][1][j], first, stop, posterior))
    return segments


def _heat_scores(heat: NDArray[np.float64], spacing: float, sd_mm: float, longest: int) -> NDArray[np.float64]:
    """Return the heat score (n + 1, longest + 1) of the segment that ends before slice b and has d slices."""
    n = len(heat)
    h = np.clip(heat, 0.03, 0.97)
    hot, cold = np.log(h), np.log1p(-h)
    scores = np.zeros((n + 1, longest + 1))
    for d in range(1, longest + 1):
        z = (np.arange(d) - 0.5 * (d - 1)) * spacing
        peak = np.exp(-0.5 * (z / sd_mm) ** 2)
        windows = n - d + 1
        if windows < 1:
            break
        index = np.arange(windows)[:, None] + np.arange(d)
        scores[d:, d] = (peak * hot[index] + (1 - peak) * cold[index]).sum(1)
    return 0.5 * scores


@dataclass(frozen=True)
class _Run:
    total: float
    marginal: NDArray[np.float64]
    best_score: float
    best_path: list[tuple[int, int, int]]


class _Model:
    """Semi-Markov model of one column; ``run`` weights one order of levels."""

    def __init__(
        self,
        evidence: NDArray[np.float64],
        heat: NDArray[np.float64],
        spacing: float,
        open_below: bool,
        open_above: bool,
    ) -> None:
        self.n, self.longest, self.spacing = len(evidence), heat.shape[1] - 1, spacing
        self.evidence = np.concatenate([np.zeros((1, evidence.shape[1])), np.cumsum(evidence, 0)])
        self.heat, self.open_below, self.open_above = heat, open_below, open_above

    def _segments(self, states: Sequence[VertebraLevel]) -> NDArray[np.float64]:
        """Return the score (n + 1, longest + 1, states) of a segment by end, length and level; -inf if impossible."""
        n, length = self.n, np.arange(self.longest + 1) * self.spacing
        columns = [NAMED_LEVELS.index(level) for level in states]
        scores = np.full((n + 1, self.longest + 1, len(states)), -np.inf)
        pitch = np.array([PITCH_MM[level] for level in states])
        usual = -0.5 * ((length[:, None] - pitch) / _PITCH_SD_MM) ** 2
        usual[(length < _SHORTEST_MM) | (length > _LONGEST_MM)] = -np.inf
        # a body that the scan cuts may be of any length up to the usual one
        cut = np.where(length[:, None] < pitch, -0.7, usual)
        cut[0] = -np.inf
        for d in range(1, self.longest + 1):
            ends = np.arange(d, n + 1)
            if len(ends) == 0:
                break
            emitted = self.evidence[ends][:, columns] - self.evidence[ends - d][:, columns]
            value = emitted + self.heat[ends, d][:, None] + usual[d]
            if self.open_below:
                value[0] = emitted[0] + cut[d] + self.heat[d, d]
            if self.open_above:
                value[-1] = emitted[-1] + self.heat[n, d] + cut[d]
            scores[ends, d] = value
        return scores

    def run(self, states: Sequence[VertebraLevel], start: NDArray[np.float64]) -> _Run:
        """Weight all segmentations whose levels follow ``states`` upwards; the last state may repeat."""
        scores, n, m = self._segments(states), self.n, len(states)
        forward, entering = np.full((n + 1, m), -np.inf), np.full((n + 1, m), -np.inf)
        viterbi, chosen = np.full((n + 1, m), -np.inf), np.zeros((n + 1, m), int)
        viterbi_in, repeats = np.full((n + 1, m), -np.inf), np.zeros(n + 1, bool)
        entering[0], viterbi_in[0] = start, start
        for b in range(1, n + 1):
            d = np.arange(1, min(b, self.longest) + 1)
            forward[b] = logsumexp(scores[b, d] + entering[b - d], axis=0)
            options = scores[b, d] + viterbi_in[b - d]
            chosen[b] = options.argmax(0)
            viterbi[b] = options.max(0)
            chosen[b] += 1
            entering[b] = self._next(forward[b], np.logaddexp)
            viterbi_in[b] = self._next(viterbi[b], np.maximum)
            repeats[b] = viterbi[b, m - 1] >= viterbi[b, m - 2]
        total = float(logsumexp(forward[n]))
        j = int(viterbi[n].argmax())
        best = float(viterbi[n, j])
        path: list[tuple[int, int, int]] = []
        stop = n
        while stop > 0 and np.isfinite(best):
            first = stop - int(chosen[stop, j])
            path.append((j, first, stop))
            if first > 0 and not (j == m - 1 and repeats[first]):
                j -= 1
            stop = first
        marginal = np.zeros((n, m))
        if np.isfinite(total):
            marginal = self._marginal(scores, entering, total)
        return _Run(total, marginal, best, path[::-1])

    @staticmethod
    def _next(finished: NDArray[np.float64], add: np.ufunc) -> NDArray[np.float64]:
        """Return the weight of entering each state after a finished segment: the next level up, or the last again."""
        entering = np.full_like(finished, -np.inf)
        entering[1:] = finished[:-1]
        entering[-1] = add(entering[-1], finished[-1])
        return entering

    def _marginal(
        self, scores: NDArray[np.float64], entering: NDArray[np.float64], total: float
    ) -> NDArray[np.float64]:
        """Return the probability (n, states) of each level at each slice."""
        n, m = self.n, scores.shape[2]
        backward = np.full((n + 1, m), -np.inf)  # weight of all slices after a segment in a state
        backward[n] = 0.0
        change = np.zeros((n + 1, m))
        for a in range(n - 1, -1, -1):
            ends = np.arange(a + 1, min(n, a + self.longest) + 1)
            ahead = scores[ends, ends - a] + backward[ends]
            weight = np.exp(np.minimum(entering[a] + ahead - total, 0.0))
            change[a] += weight.sum(0)
            np.subtract.at(change, ends, weight)
            onward = logsumexp(ahead, axis=0)
            backward[a, :-1] = onward[1:]
            backward[a, -1] = onward[-1]
        return np.clip(np.cumsum(change, 0)[:n], 0.0, 1.0)
