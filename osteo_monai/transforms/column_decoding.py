"""Bodies and discs in mm from the output of the column network."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, log_softmax

CENTRE, DISC, BODY, ROLE, OFFSET = 0, 1, 2, slice(3, 7), slice(7, 9)
CHANNELS = 9
PEAK_MINIMUM = 0.25
"""Least probability at the centre of a body. Project choice."""
CLOSEST_MM = 14.0
"""Least distance of two centres: the smallest upper thoracic bodies have 18 mm, collapsed ones less."""
DISC_PLACE_SD = 0.12
"""SD of the position of a disc about the middle of two centres, as a share of their distance. Project choice: bodies
whose heights differ by a third move the disc by 0.07."""
CUT_BODY_MM = 5.0
"""Least height of a cut body at the end of the scan. Project choice."""
DISC_MINIMUM = 0.15
"""Least probability in the middle of a visible disc. Project choice."""


@dataclass(frozen=True)
class FoundBody:
    """A located vertebral body without a name. Positions are RAS+ mm on the axis of the column.

    Attributes:
        probability: probability of the centre, 0 to 1.
        superior_mm, inferior_mm: middle of the disc above and below, or the end of the scan if it is nearer.
        superior_seen, inferior_seen: probability of that disc; 0 if its position is inferred.
        role: log-probabilities of ribbed, last ribbed, lumbar and last lumbar.
        complete: whether the end of the scan does not cut the body.
    """

    probability: float
    centre_mm: tuple[float, float, float]
    superior_mm: tuple[float, float, float]
    inferior_mm: tuple[float, float, float]
    superior_seen: float
    inferior_seen: float
    role: tuple[float, float, float, float]
    complete: bool


class DecodeColumnd(MapTransform):
    """Convert the output of the column network to ``data["bodies"]``, a list of ``FoundBody``, lowest first.

    ``data[key]`` (9, Z) logits, channels as in ``networks.COLUMN_CHANNELS``; ``data["axis_mm"]`` (Z, 3) from
    ``StraightenColumnd``. ``data[key]`` becomes the probabilities (3, Z) of centre, disc and body.
    """

    def __init__(self, keys: Hashable = "pred", axis_key: str = "axis_mm", bodies_key: str = "bodies") -> None:
        super().__init__(keys)
        self.axis_key, self.bodies_key = axis_key, bodies_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            logits = np.asarray(result[key], dtype=np.float64)
            result[self.bodies_key] = decode_column(logits, np.asarray(result[self.axis_key]))
            result[key] = expit(logits[:3]).astype(np.float32)
        return result


def decode_column(logits: NDArray[np.float64], axis_mm: NDArray[np.float64]) -> list[FoundBody]:
    """Return the bodies of a column, lowest first.

    Args:
        logits: (9, Z), channels as in ``networks.COLUMN_CHANNELS``.
        axis_mm: (Z, 3) RAS+ mm of the window's centre in each slice, z ascending.

    Raises:
        ValueError: when the shapes do not match.
    """
    if logits.shape != (CHANNELS, len(axis_mm)):
        raise ValueError(f"logits must be ({CHANNELS}, {len(axis_mm)}), got {logits.shape}")
    column = _Column(logits, axis_mm)
    centres = column.centres()
    bodies = [column.found(i, centres) for i in range(len(centres))]
    if not bodies:
        return []
    below, above = column.cut_body(bodies[0], centres[0], -1), column.cut_body(bodies[-1], centres[-1], +1)
    return [*([below] if below else []), *bodies, *([above] if above else [])]


class _Column:
    """Probabilities along the column, and positions of its slices."""

    def __init__(self, logits: NDArray[np.float64], axis_mm: NDArray[np.float64]) -> None:
        self.centre, self.disc, self.body = expit(logits[:3])
        self.role = log_softmax(logits[ROLE], axis=0)
        self.step = float(axis_mm[1, 2] - axis_mm[0, 2]) if len(axis_mm) > 1 else 2.5
        offset = ndimage.gaussian_filter1d(logits[OFFSET], 2.0, axis=1, mode="nearest").T * 10.0
        self.axis = np.column_stack([axis_mm[:, :2] + offset, axis_mm[:, 2]])
        self.last = len(axis_mm) - 1

    def centres(self) -> list[float]:
        """Return the slices of the centres, with fractions, ascending."""
        from scipy.signal import find_peaks  # late: it imports scipy.stats, which radiographs do not need

        padded = np.concatenate([[0.0], self.centre, [0.0]])  # a maximum in the outermost slice counts
        peaks, _ = find_peaks(padded, height=PEAK_MINIMUM, distance=max(1, round(CLOSEST_MM / self.step)))
        return [self._refined(self.centre, int(p) - 1) for p in peaks]

    def found(self, i: int, centres: Sequence[float]) -> FoundBody:
        """Return the ``i``-th body."""
        at = centres[i]
        pitch = self._pitch(i, centres)
        low, low_seen = self._disc(at, centres[i - 1] if i else None, -1, pitch)
        high, high_seen = self._disc(at, centres[i + 1] if i + 1 < len(centres) else None, +1, pitch)
        inner = slice(max(0, round(at - 2)), round(at + 2) + 1)
        role = self.role[:, inner].mean(1)
        complete = not (self._cut(at, low, low_seen, -1) or self._cut(at, high, high_seen, +1))
        return FoundBody(
            float(self.centre[round(at)]),
            self.point(at),
            self.point(high),
            self.point(low),
            high_seen,
            low_seen,
            (float(role[0]), float(role[1]), float(role[2]), float(role[3])),
            complete,
        )

    def cut_body(self, last: FoundBody, centre: float, side: int) -> FoundBody | None:
        """Return the body beyond the outermost complete one if the scan shows a part of it, or ``None``.

        Its centre is at the expected position, or at the end of the scan if that is nearer.
        """
        disc_mm = last.inferior_mm if side < 0 else last.superior_mm
        if not last.complete or (last.inferior_seen if side < 0 else last.superior_seen) == 0.0:
            return None
        disc = float(np.interp(disc_mm[2], self.axis[:, 2], np.arange(len(self.axis))))
        part = self.body[: int(disc) + 1] if side < 0 else self.body[int(np.ceil(disc)) :]
        edge = 0 if side < 0 else self.last
        if (part >= 0.5).sum() * self.step < CUT_BODY_MM or self.body[edge] < 0.5:
            return None
        at = float(np.clip(disc + side * abs(disc - centre), 0, self.last))
        role = self.role[:, edge]
        end, probability = self.point(edge + 0.5 * side), float(part[part >= 0.5].mean())
        roles = (float(role[0]), float(role[1]), float(role[2]), float(role[3]))
        if side < 0:
            return FoundBody(probability, self.point(at), disc_mm, end, last.inferior_seen, 0.0, roles, False)
        return FoundBody(probability, self.point(at), end, disc_mm, 0.0, last.superior_seen, roles, False)

    def point(self, at: float) -> tuple[float, float, float]:
        """Return the axis in RAS+ mm at a slice; ``at`` may have a fraction."""
        slices = np.arange(len(self.axis))
        x, y, z = (float(np.interp(at, slices, self.axis[:, a])) for a in range(3))
        return x, y, z

    def _refined(self, values: NDArray[np.float64], peak: int) -> float:
        """Return the weighted mean of five slices about a peak."""
        window = slice(max(0, peak - 2), peak + 3)
        weight = values[window]
        return float((np.arange(len(values))[window] * weight).sum() / max(float(weight.sum()), 1e-9))

    def _pitch(self, i: int, centres: Sequence[float]) -> float:
        """Return the distance to the nearer neighbour in slices, or a usual one."""
        gaps = [abs(centres[j + 1] - centres[j]) for j in (i - 1, i) if 0 <= j < len(centres) - 1]
        return min(gaps) if gaps else 30.0 / self.step

    def _disc(self, at: float, neighbour: float | None, side: int, pitch: float) -> tuple[float, float]:
        """Return the slice of the disc on one side, and its probability (0 if inferred)."""
        reach = at + side * 0.85 * pitch if neighbour is None else neighbour
        between = [at + 0.25 * (reach - at), at + (0.75 if neighbour is not None else 1.0) * (reach - at)]
        first, last = int(np.ceil(min(between))), int(np.floor(max(between)))
        first, last = max(first, 0), min(last, self.last)
        middle = at + side * 0.5 * pitch if neighbour is None else 0.5 * (at + neighbour)
        if first <= last:
            offset = (np.arange(first, last + 1) - middle) / max(1e-6, 2 * abs(middle - at))
            likely = self.disc[first : last + 1] * np.exp(-0.5 * (offset / DISC_PLACE_SD) ** 2)
            peak = first + int(likely.argmax())
            if self.disc[peak] >= DISC_MINIMUM:
                return self._refined(self.disc, peak), float(self.disc[peak])
        return float(np.clip(middle, -0.5, self.last + 0.5)), 0.0

    def _cut(self, at: float, disc: float, seen: float, side: int) -> bool:
        """Return whether the scan ends before the body does."""
        edge = 0 if side < 0 else self.last
        if seen > 0 and abs(disc - edge) > 0.5:
            return False
        run = self.body[: round(at) + 1] if side < 0 else self.body[round(at) :]
        return bool(run.min() > 0.5)
