"""From the localiser's output to named vertebrae: bodies are found first, then named jointly along the column.

The network gives, a voxel, how near it is to the centre of some body, and which level's body it would be. A body is a
peak of the first; its evidence is the mean log-probability of each name over its surroundings. Names are then chosen
for all bodies at once: consecutive bodies carry consecutive levels, in one of the few orders that spines have (twelve
or thirteen ribbed, four, five or six lumbar bodies), and a sacrum seen right below the last body speaks for the
lowest lumbar name. How sure a name is, is the posterior probability of that name over all readings of the column.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from osteo_monai.domain import VertebraLevel

L = VertebraLevel
NAMED_LEVELS: tuple[VertebraLevel, ...] = (
    L.T8, L.T9, L.T10, L.T11, L.T12, L.T13, L.L1, L.L2, L.L3, L.L4, L.L5, L.L6,
)  # fmt: skip
"""Order of the name channels; the first stands for T8 and everything above it."""
HEAT_CHANNEL, BODY_CHANNEL, SACRUM_CHANNEL, RIB_CHANNEL, FIRST_NAME_CHANNEL = 0, 1, 2, 3, 4

SPINES: Mapping[str, tuple[float, tuple[VertebraLevel, ...]]] = {
    "normal": (0.86, (L.T9, L.T10, L.T11, L.T12, L.L1, L.L2, L.L3, L.L4, L.L5)),
    "six lumbar": (0.05, (L.T9, L.T10, L.T11, L.T12, L.L1, L.L2, L.L3, L.L4, L.L5, L.L6)),
    "four lumbar": (0.05, (L.T9, L.T10, L.T11, L.T12, L.L1, L.L2, L.L3, L.L4)),
    "thirteen ribbed": (0.04, (L.T9, L.T10, L.T11, L.T12, L.T13, L.L1, L.L2, L.L3, L.L4, L.L5)),
}
"""Orders of levels and how often each is expected; transitional anatomy is found in several percent of people."""


@dataclass(frozen=True)
class LocatedVertebra:
    """A vertebral body that was found and named. Positions are RAS+ mm.

    Attributes:
        certainty: posterior probability of ``level``; ``runner_up`` is the next best name.
        superior_mm, inferior_mm: points half-way to the neighbouring bodies, in the discs; where a neighbour is
            missing, as far off as the other one, or where it would be expected.
        complete: the body is not cut by the field of view.
    """

    level: VertebraLevel
    certainty: float
    runner_up: VertebraLevel | None
    centre_mm: tuple[float, float, float]
    superior_mm: tuple[float, float, float]
    inferior_mm: tuple[float, float, float]
    complete: bool


def _point(p: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(p[0]), float(p[1]), float(p[2])


def find_bodies(heat: NDArray[np.floating], spacing: float, threshold: float, apart_mm: float) -> NDArray[np.float64]:
    """Return the centres (n, 3), in voxels, of the peaks of ``heat``, from the lowest to the highest.

    A centre is the heat-weighted mean about its peak. Peaks nearer than ``apart_mm`` to a stronger one are dropped.
    """
    smooth = ndimage.gaussian_filter(heat, 0.5)
    window = 2 * round(0.5 * apart_mm / spacing) + 1
    peaks = np.argwhere((smooth == ndimage.maximum_filter(smooth, window)) & (smooth >= threshold))
    if len(peaks) == 0:
        return np.zeros((0, 3))
    strength = smooth[tuple(peaks.T)]
    kept: list[NDArray[np.float64]] = []
    reach = max(1, round(8.0 / spacing))
    # a spine has 24 bodies; a network that sees peaks everywhere must not cost minutes
    for index in np.argsort(-strength)[:100]:
        low = np.maximum(peaks[index] - reach, 0)
        block = heat[tuple(slice(a, b + 1) for a, b in zip(low, peaks[index] + reach, strict=True))].astype(float)
        block = np.where(block > 0.3 * block.max(), block, 0.0)
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in block.shape), indexing="ij"))
        centre = (grid * block).reshape(3, -1).sum(1) / block.sum() + low
        if all(np.linalg.norm((centre - other) * spacing) > apart_mm for other in kept):
            kept.append(centre)
    return np.array(sorted(kept, key=lambda c: c[2]))


def longest_column(centres: NDArray[np.float64], spacing: float, weight: NDArray[np.float64]) -> list[int]:
    """Return the indices of the chain of centres, lowest first, that is most likely one spine.

    Neighbours are 11 to 52 mm apart and steeply above one another; of all such chains the one of greatest weight. Up
    to 80 mm, where one body was not found, cost as much as a whole body weighs: worth it for two bodies beyond.
    """
    n = len(centres)
    best, before = weight.copy(), [-1] * n
    for i in range(n):
        for j in range(i):
            step = (centres[i] - centres[j]) * spacing
            length = float(np.linalg.norm(step))
            if 11 <= length <= 80 and step[2] > 0.55 * length:
                jump = 0.0 if length <= 42 else 0.5 if length <= 52 else 1.0
                if best[j] + weight[i] - jump > best[i]:
                    best[i], before[i] = best[j] + weight[i] - jump, j
    if n == 0:
        return []
    chain, i = [], int(np.argmax(best))
    while i >= 0:
        chain.append(i)
        i = before[i]
    return chain[::-1]


def _missed(ratio: float) -> NDArray[np.float64]:
    """Probabilities that 0, 1 or 2 bodies were missed in a gap ``ratio`` times as wide as those next to it.

    Positions err by 3 mm, so ratios by 0.2; one body in twenty is missed.
    """
    count = np.arange(3)
    weight = np.exp(-0.5 * ((ratio - 1 - count) / 0.2) ** 2 + count * np.log(0.05))
    # beyond every hypothesis all weights are zero: the widest one is meant
    return weight / weight.sum() if weight.sum() > 0 else (count == (2 if ratio > 2 else 0)).astype(float)


def _hidden_bodies(gaps_mm: Sequence[float]) -> list[tuple[float, tuple[int, ...]]]:
    """Ways of how many bodies were missed in each gap, with their log-probabilities.

    Clear gaps are settled here, doubtful ones (the six most doubtful) are left to the names.
    """
    chances = [_missed(gap / _usual_gap(gaps_mm, i)) for i, gap in enumerate(gaps_mm)]
    doubtful = sorted(range(len(chances)), key=lambda i: chances[i].max())[:6]
    options = [
        [k for k in range(3) if p[k] > (0.01 if i in doubtful else 0.99 * p.max())] for i, p in enumerate(chances)
    ]
    return [
        (float(sum(np.log(p[k]) for p, k in zip(chances, hidden, strict=True))), hidden) for hidden in product(*options)
    ]


def _usual_gap(gaps_mm: Sequence[float], index: int) -> float:
    """Median of the four gaps nearest to one, in mm: gaps grow by half from T9 to L5, so far ones say little."""
    near = sorted((abs(i - index), gap) for i, gap in enumerate(gaps_mm) if i != index)[:4]
    others = [gap for _, gap in near]
    # T12 to L5 are 30 to 38 mm apart: what to expect where there is little to go by
    return float(np.median(others if len(others) > 2 else [*others, 34.0]))


def name_column(
    evidence: NDArray[np.float64], gaps_mm: Sequence[float], sacrum_below: float, temperature: float = 1.0
) -> tuple[list[VertebraLevel], list[dict[VertebraLevel, float]]]:
    """Name the bodies of a column jointly.

    Args:
        evidence: (n, 12) log-probability of each of ``NAMED_LEVELS`` for each body, lowest body first.
        gaps_mm: (n - 1) distances between neighbours; one much wider than those next to it hides a body.
        sacrum_below: probability that the sacrum lies right below the lowest body.
        temperature: divides the evidence; above 1 for a network that is too sure of itself.

    Returns:
        the best name and the posterior probabilities of the names, for each body.
    """
    n = len(evidence)
    channel = {level: i for i, level in enumerate(NAMED_LEVELS)}
    readings: list[tuple[float, tuple[VertebraLevel, ...]]] = []
    for (seen, hidden), (prior, order) in product(_hidden_bodies(gaps_mm), SPINES.values()):
        position = np.concatenate([[0], np.cumsum([1 + h for h in hidden])]).astype(int)
        upwards = (*order[::-1], *(L.T8 for _ in range(position[-1] + 1)))
        for start in range(len(order) + 1):
            names = tuple(upwards[min(start + p, len(upwards) - 1)] for p in position)
            score = seen + np.log(prior) + sum(evidence[i, channel[name]] for i, name in enumerate(names)) / temperature
            lowest = start == 0
            p = min(max(sacrum_below, 0.02), 0.98)
            score += np.log(p if lowest else 1.0 - p)
            readings.append((float(score), names))
    scores = np.array([score for score, _ in readings])
    weight = np.exp(scores - scores.max())
    weight /= weight.sum()
    posterior: list[dict[VertebraLevel, float]] = [{} for _ in range(n)]
    for w, (_, names) in zip(weight, readings, strict=True):
        for i, name in enumerate(names):
            posterior[i][name] = posterior[i].get(name, 0.0) + float(w)
    total: dict[tuple[VertebraLevel, ...], float] = {}
    for w, (_, names) in zip(weight, readings, strict=True):
        total[names] = total.get(names, 0.0) + float(w)
    best, _ = max(total.items(), key=lambda entry: entry[1])
    return list(best), posterior


class DecodeVertebraed(MapTransform):
    """Turn the localiser's output into ``data["vertebrae"]``, a list of ``LocatedVertebra`` from the lowest up.

    ``data[key]`` (16, X, Y, Z), a MetaTensor of logits in RAS+ with isotropic voxels, becomes a label map (1, X, Y, Z)
    of the bodies by ``VertebraLevel.label``, sacrum included.

    Args:
        threshold: least centre heat of a body.
        apart_mm: least distance of two bodies.
        temperature: see ``name_column``.
        vertebrae_key: where the list goes.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable] = "pred",
        threshold: float = 0.25,
        apart_mm: float = 12.0,
        temperature: float = 1.0,
        vertebrae_key: str = "vertebrae",
    ) -> None:
        super().__init__(keys)
        self.threshold, self.apart_mm, self.temperature = threshold, apart_mm, temperature
        self.vertebrae_key = vertebrae_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            vertebrae, labels = self.decode(result[key])
            result[self.vertebrae_key] = vertebrae
            result[key] = labels
        return result

    def decode(self, prediction: MetaTensor) -> tuple[list[LocatedVertebra], MetaTensor]:
        """Return the vertebrae and the label map of logits (16, X, Y, Z)."""
        if prediction.ndim != 4 or prediction.shape[0] != FIRST_NAME_CHANNEL + len(NAMED_LEVELS):
            channels = FIRST_NAME_CHANNEL + len(NAMED_LEVELS)
            raise ValueError(f"expected logits of shape ({channels}, X, Y, Z), got {tuple(prediction.shape)}")
        logits = prediction.detach().cpu().float().numpy()
        affine = np.asarray(prediction.affine, float)
        spacing = float(np.linalg.norm(affine[:3, 0]))
        marks = 1.0 / (1.0 + np.exp(-logits[:FIRST_NAME_CHANNEL]))
        names = logits[FIRST_NAME_CHANNEL:]
        names = names - names.max(0)
        names = names - np.log(np.exp(names).sum(0))
        heat, body, sacrum = marks[HEAT_CHANNEL], marks[BODY_CHANNEL], marks[SACRUM_CHANNEL]

        centres = find_bodies(heat, spacing, self.threshold, self.apart_mm)
        index = np.rint(centres).astype(int)
        strength = heat[tuple(np.clip(index, 0, np.array(heat.shape) - 1).T)] if len(centres) else np.zeros(0)
        centres = centres[longest_column(centres, spacing, strength)]
        labels = np.zeros(heat.shape, np.uint8)
        labels[sacrum > 0.5] = L.SACRUM.label
        vertebrae: list[LocatedVertebra] = []
        if len(centres):
            evidence = np.stack([self._evidence(c, names, body, spacing) for c in centres])
            steps = np.linalg.norm(np.diff(centres, axis=0), axis=1) * spacing
            level, posterior = name_column(
                evidence, steps.tolist(), self._sacrum_below(centres, sacrum, spacing), self.temperature
            )
            vertebrae = self._assemble(centres, level, posterior, affine, spacing, heat.shape)
            self._label(labels, body > 0.5, centres, level)
        output = MetaTensor(labels[None], meta=prediction.meta)
        output.applied_operations = prediction.applied_operations
        return vertebrae, output

    @staticmethod
    def _evidence(
        centre: NDArray[np.float64], names: NDArray[np.floating], body: NDArray[np.floating], spacing: float
    ) -> NDArray[np.float64]:
        """Mean log-probability of each name near a centre, weighted by how much each voxel is of a body."""
        reach = max(1, round(8.0 / spacing))
        middle = np.rint(centre).astype(int)
        part = tuple(slice(max(0, m - reach), m + reach + 1) for m in middle)
        weight = body[part] + 1e-3
        mean: NDArray[np.float64] = (names[(slice(None), *part)] * weight).reshape(len(names), -1).sum(1) / weight.sum()
        return np.maximum(mean, -8.0)

    @staticmethod
    def _sacrum_below(centres: NDArray[np.float64], sacrum: NDArray[np.floating], spacing: float) -> float:
        """How likely the sacrum comes next below the lowest body; 0.2 where the scan ends before one could tell."""
        lowest = centres[0]
        step = float(np.median(np.linalg.norm(np.diff(centres, axis=0), axis=1))) if len(centres) > 1 else 32 / spacing
        bottom = lowest[2] - 1.25 * step
        if bottom < 0 and sacrum.max() < 0.5:
            return 0.2
        x, y = int(lowest[0]), int(lowest[1])
        wide, low = round(28 / spacing), max(0, int(bottom))
        block = sacrum[max(0, x - wide) : x + wide + 1, max(0, y - 2 * wide) : y + wide + 1, low : int(lowest[2]) + 1]
        volume = float((block > 0.5).sum()) * (spacing / 10) ** 3
        return float(np.clip(volume / 6.0, 0.02, 0.98))

    @staticmethod
    def _assemble(
        centres: NDArray[np.float64],
        levels: Sequence[VertebraLevel],
        posterior: Sequence[Mapping[VertebraLevel, float]],
        affine: NDArray[np.float64],
        spacing: float,
        shape: Sequence[int],
    ) -> list[LocatedVertebra]:
        world = centres @ affine[:3, :3].T + affine[:3, 3]
        n = len(world)
        bottom, top = affine[2, 3], affine[2, 3] + spacing * (shape[2] - 1)
        gaps = np.linalg.norm(np.diff(world, axis=0), axis=1).tolist()
        # half of a gap that hides a body would reach the middle of that body
        ratio = [gap / _usual_gap(gaps, i) for i, gap in enumerate(gaps)]
        part = [0.5 / (1 + hidden) if (hidden := int(_missed(r).argmax())) else min(0.5, 0.6 / r) for r in ratio]
        found = []
        for i in range(n):
            above = part[i] * (world[i + 1] - world[i]) if i + 1 < n else None
            below = part[i - 1] * (world[i - 1] - world[i]) if i > 0 else None
            if above is None:
                above = -below if below is not None else np.array([0.0, 0.0, 16.0])
            if below is None:
                below = -above
            names = sorted(posterior[i].items(), key=lambda item: -item[1])
            others = [name for name, p in names if name is not levels[i] and p > 1e-4]
            # the body proper reaches about 0.8 of the way into the half gap, the rest is disc
            ends = (
                world[i][2] + 0.85 * above[2] <= top + 0.5 * spacing
                and world[i][2] + 0.85 * below[2] >= bottom - 0.5 * spacing
            )
            found.append(
                LocatedVertebra(
                    levels[i],
                    float(posterior[i].get(levels[i], 0.0)),
                    others[0] if others else None,
                    _point(world[i]),
                    _point(world[i] + above),
                    _point(world[i] + below),
                    bool(ends),
                )
            )
        return found

    @staticmethod
    def _label(
        labels: NDArray[np.uint8],
        body: NDArray[np.bool_],
        centres: NDArray[np.float64],
        levels: Sequence[VertebraLevel],
    ) -> None:
        """Give each body voxel the level of the nearest centre, as long as that is within 15 voxels."""
        voxels = np.argwhere(body)
        if len(voxels) == 0:
            return
        distance = ((voxels[:, None, :] - centres[None]) ** 2).sum(-1)
        nearest = distance.argmin(1)
        values = np.array([level.label for level in levels], np.uint8)[nearest]
        near = distance.min(1) < 15.0**2
        labels[tuple(voxels[near].T)] = values[near]
