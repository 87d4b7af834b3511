"""Pieces of a chest: parts of bent tubes, vessels, and the builder that the regions of the chest share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.shapes import Positions, Shape, Value, Vec
from osteo_monai.virtual.canvas import ellipsoid

Keep = Callable[[Positions], Tensor]


@dataclass(frozen=True)
class Part(Shape):
    """A shape of which only a part is painted, so that the pieces of a bent tube meet without a seam."""

    keep: Keep | None = None
    """Whether a position belongs to this piece."""


@dataclass(frozen=True)
class Vessel:
    """A straight piece of a blood vessel in the lung; ends in RAS+ mm, radius in mm."""

    start: Vec
    end: Vec
    radius: float


def constant(value: float) -> Value:
    """Return a material of one value: HU in soft tissue, mg/cm3 in bone."""
    return lambda palette, p, d: value


def _cone(
    p: Positions,
    start: Vec,
    end: Vec,
    radius: float,
    end_radius: float,
    stretch: Sequence[float],
    open_ends: tuple[bool, bool],
) -> Tensor:
    """Return the distance as ``capsule``, but without rounding at an ``open_ends`` end, where another piece
    continues.
    """
    f = [1.0 / float(k) for k in stretch]
    a = [float(k) for k in start]
    d = [(float(e) - k) * w for e, k, w in zip(end, a, f, strict=True)]
    q = [(x - k) * w for x, k, w in zip(p, a, f, strict=True)]
    t = (q[0] * d[0] + q[1] * d[1] + q[2] * d[2]) / sum(k * k for k in d)
    t = t.clamp_(-2.0 if open_ends[0] else 0.0, 3.0 if open_ends[1] else 1.0)
    x, y, z = (k - e * t for k, e in zip(q, d, strict=True))
    return (x * x + y * y + z * z).sqrt() - (radius + (end_radius - radius) * t.clamp(-0.3, 1.3))


class ChestBuilder:
    """Add shapes of a chest to lists, at random but repeatably."""

    anatomy: Anatomy
    soft: list[Shape]
    hard: list[Shape]
    vessels: list[Vessel]
    top: float
    bottom: float
    _rng: np.random.Generator
    _female: bool
    _size: float
    _strength: float
    _z: NDArray[np.float64]
    _length: float
    _course: list[NDArray[np.float64]]

    def _uniform(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))

    def _cortex(self, thickness: float, density: float = 950.0) -> tuple[float, Callable[..., float]]:
        """Return a shell of compact bone: thickness in mm of a strong young adult; thinner and more porous at low
        density.
        """
        s = self._strength * self._uniform(0.92, 1.08)
        value = density * (0.55 + 0.45 * min(s, 1.15))
        return max(thickness * s, 0.25), lambda palette, p, d: value

    def _spongy(self, share: float = 0.8) -> Callable[..., float]:
        value = share * self.anatomy.person.mean_density * self._uniform(0.9, 1.15) + 15.0
        return lambda palette, p, d: value

    def spine(self, z: float) -> Vec:
        """Return the centre of the column at height ``z``."""
        t = (self.top - z) / self._length
        return np.array([np.polyval(c, t) for c in self._course] + [z])

    def _spine_tensor(self, z: Tensor) -> tuple[Tensor, Tensor]:
        t = (self.top - z) / self._length
        x, y = (((c[0] * t + c[1]) * t + c[2]) * t + c[3] for c in ([float(k) for k in c] for c in self._course))
        return x, y

    def _blob(self, centre: Sequence[float] | Vec, radii: Sequence[float], hu: float, roll: float = 0.0) -> None:
        self.soft.append(self._ellipsoid(centre, radii, constant(hu), roll))

    def _ellipsoid(self, centre: Sequence[float] | Vec, radii: Sequence[float], value: object, roll: float) -> Shape:
        """Return an ellipsoid whose upper end leans to the right by ``roll`` degrees."""
        c, r = [float(k) for k in centre], [float(k) for k in radii]
        cos, sin = float(np.cos(np.deg2rad(roll))), float(np.sin(np.deg2rad(roll)))

        def distance(p: Positions) -> Tensor:
            x, z = p[0] - c[0], p[2] - c[2]
            return ellipsoid((cos * x - sin * z, p[1] - c[1], sin * x + cos * z), (0.0, 0.0, 0.0), r)

        reach = max(r) if roll else 0.0
        low = tuple(k - max(reach, q) for k, q in zip(c, r, strict=True))
        high = tuple(k + max(reach, q) for k, q in zip(c, r, strict=True))
        return Shape(low, high, distance, value)  # type: ignore[arg-type]

    def _tube(
        self,
        points: Sequence[Sequence[float] | Vec] | NDArray[np.float64],
        radius: Sequence[float] | float,
        value: Callable[..., float | Tensor],
        *,
        stretch: Sequence[float] = (1.0, 1.0, 1.0),
        shell: tuple[float, Callable[..., float]] | None = None,
        label: int | None = None,
        soft: bool = False,
        flat: bool = False,
    ) -> None:
        """Add a bent tube, cut at its joints half-way between the directions of its pieces, ends rounded or
        ``flat``.
        """
        p = np.asarray(points, float)
        r = np.full(len(p), radius) if isinstance(radius, int | float) else np.interp(
            np.linspace(0, 1, len(p)), np.linspace(0, 1, len(radius)), radius
        )  # fmt: skip
        way = np.diff(p, axis=0)
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        joint = [way[0], *(a + b for a, b in pairwise(way)), way[-1]]
        cuts = [(n, float(n @ q)) for n, q in zip(joint, p, strict=True)]
        last = len(p) - 2
        for i in range(last + 1):
            a, b, ra, rb = p[i], p[i + 1], float(r[i]), float(r[i + 1])
            reach = max(ra, rb) * max(stretch)
            low, high = np.minimum(a, b) - reach, np.maximum(a, b) + reach

            open_ends = (i > 0 or flat, i < last or flat)

            def distance(
                p: Positions,
                a: Vec = a,
                b: Vec = b,
                ra: float = ra,
                rb: float = rb,
                ends: tuple[bool, bool] = open_ends,
            ) -> Tensor:
                return _cone(p, a, b, ra, rb, stretch, ends)

            def keep(
                p: Positions,
                first: tuple[Vec, float] | None = cuts[i] if i or flat else None,
                second: tuple[Vec, float] | None = cuts[i + 1] if i < last or flat else None,
            ) -> Tensor:
                inside = torch.ones((), dtype=torch.bool)
                if first is not None:
                    n = [float(k) for k in first[0]]
                    inside = inside & (p[0] * n[0] + p[1] * n[1] + p[2] * n[2] >= first[1])
                if second is not None:
                    n = [float(k) for k in second[0]]
                    inside = inside & (p[0] * n[0] + p[1] * n[1] + p[2] * n[2] < second[1])
                return inside

            (self.soft if soft else self.hard).append(
                Part(tuple(low.tolist()), tuple(high.tolist()), distance, value, label, shell, keep=keep)
            )
