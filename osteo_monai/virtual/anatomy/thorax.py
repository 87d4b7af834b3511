"""The chest of a virtual person as a radiograph shows it: standing, breathed in, with shoulders and neck.

A CT of the lower spine needs none of this, and nothing here changes it. Frame, units and the column are those of
:mod:`osteo_monai.virtual.anatomy`; the rest is drawn from a stream of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, Sex, VertebraLevel
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.shapes import Palette, Positions, Shape, Vec, spline
from osteo_monai.virtual.canvas import capsule, ellipsoid, smooth_max, smooth_min

L = VertebraLevel
Keep = Callable[[Positions], Tensor]

_RIBS: dict[int, tuple[float, float]] = {
    # number: where it ends, degrees from the back; how far it drops up to 180 degrees, mm
    1: (138, 48), 2: (148, 70), 3: (150, 92), 4: (150, 106), 5: (150, 118), 6: (148, 126),
    7: (145, 130), 8: (138, 130), 9: (130, 128), 10: (118, 150), 11: (80, 190), 12: (50, 230),
}  # fmt: skip
"""Read from drawings of the ribcage; the project's choice."""


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


def _hu(value: float) -> "Callable[[Palette, Positions, Tensor], float | Tensor]":
    return lambda palette, p, d: value


def _cone(
    p: Positions,
    start: Vec,
    end: Vec,
    radius: float,
    end_radius: float,
    stretch: Sequence[float],
    goes_on: tuple[bool, bool],
) -> Tensor:
    """As ``capsule``, but an end that ``goes_on`` is not rounded: what lies beyond it is another piece's."""
    f = [1.0 / float(k) for k in stretch]
    a = [float(k) for k in start]
    d = [(float(e) - k) * w for e, k, w in zip(end, a, f, strict=True)]
    q = [(x - k) * w for x, k, w in zip(p, a, f, strict=True)]
    t = (q[0] * d[0] + q[1] * d[1] + q[2] * d[2]) / sum(k * k for k in d)
    t = t.clamp_(-2.0 if goes_on[0] else 0.0, 3.0 if goes_on[1] else 1.0)
    x, y, z = (k - e * t for k, e in zip(q, d, strict=True))
    return (x * x + y * y + z * z).sqrt() - (radius + (end_radius - radius) * t.clamp(-0.3, 1.3))


@dataclass
class Thorax:
    """Shapes of the chest of ``anatomy``.

    Attributes:
        soft: soft tissues and gas, values in HU (1000 HU above air are one part of water), in painting order.
        hard: bones, values in mg/cm3 of mineral.
        vessels: of the lungs, thinner than a soft tissue's grid.
        lung_hu: HU of the lungs between the vessels.
    """

    anatomy: Anatomy
    soft: list[Shape] = field(default_factory=list)
    hard: list[Shape] = field(default_factory=list)
    vessels: list[Vessel] = field(default_factory=list)
    lung_hu: float = -830.0

    def __post_init__(self) -> None:
        a = self.anatomy
        person = a.person
        self._rng = np.random.default_rng([person.seed, 6])
        self._female = person.sex is Sex.FEMALE
        self._size = (0.92 if self._female else 1.0) * (
            1 + 0.8 * (person.height_cm / (159 if self._female else 171) - 1)
        )
        thoracic = [v for v in a.vertebrae if v.level.startswith("T") and v.level is not L.T13]
        self._z = np.array([v.centre[2] for v in thoracic[::-1]])  # T1 first
        self.top, self.bottom = float(self._z[0]), float(self._z[-1])
        self._length = self.top - self.bottom
        zs = np.array([v.centre[2] for v in a.vertebrae])
        u = (self.top - zs) / self._length
        # the column's course as cubics in the height, smooth and cheap to evaluate anywhere
        self._course = [np.polyfit(u, [v.centre[i] for v in a.vertebrae], 3) for i in (0, 1)]
        quality = float(np.clip(person.mean_density / 135.0, 0.25, 1.5))
        self._strength = 0.42 + 0.58 * quality
        """Of cortices everywhere: thin and porous where the spine has little mineral."""
        self._build_cage()
        self.chest_centre_y = float(self._section(self.top - 0.5 * self._length)[3])
        self._build_trunk()
        self._build_mediastinum()
        self._build_vessels()
        self._build_ribs()
        self._build_sternum()
        self._build_shoulders()
        self._build_neck()

    # ------------------------------------------------------------------ helpers

    def _uniform(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))

    def _cortex(self, thickness: float, density: float = 950.0) -> tuple[float, Callable[..., float]]:
        """Shell of compact bone: thickness in mm of a strong young adult; less and more porous with little density."""
        s = self._strength * self._uniform(0.92, 1.08)
        value = density * (0.55 + 0.45 * min(s, 1.15))
        return max(thickness * s, 0.25), lambda palette, p, d: value

    def _spongy(self, share: float = 0.8) -> Callable[..., float]:
        value = share * self.anatomy.person.mean_density * self._uniform(0.9, 1.15) + 15.0
        return lambda palette, p, d: value

    def spine(self, z: float) -> Vec:
        """Centre of the column at height ``z``."""
        t = (self.top - z) / self._length
        return np.array([np.polyval(c, t) for c in self._course] + [z])

    def _spine_tensor(self, z: Tensor) -> tuple[Tensor, Tensor]:
        t = (self.top - z) / self._length
        x, y = (((c[0] * t + c[1]) * t + c[2]) * t + c[3] for c in ([float(k) for k in c] for c in self._course))
        return x, y

    def _blob(self, centre: Sequence[float] | Vec, radii: Sequence[float], hu: float, roll: float = 0.0) -> None:
        self.soft.append(self._ellipsoid(centre, radii, _hu(hu), roll))

    def _ellipsoid(self, centre: Sequence[float] | Vec, radii: Sequence[float], value: object, roll: float) -> Shape:
        """An ellipsoid whose upper end leans to the right by ``roll`` degrees."""
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
        """A bent tube, cut at its joints half-way between the directions of its pieces, ends rounded or ``flat``."""
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

    # ------------------------------------------------------------------ cage, lungs, trunk

    def _build_cage(self) -> None:
        a, s = self.anatomy, self._size
        room = a.half_width - a.fat - 7
        self._width = float(np.clip(130 * s * self._rng.normal(1, 0.035), 0.85 * room, room))
        self._depth = float(np.clip(88 * s * self._rng.normal(1, 0.06), 0.6 * self._width, 0.8 * self._width))
        self._gutter = 42.0 * s
        self._flat = self._uniform(0.25, 0.45)
        inspiration = self._uniform(-0.07, 0.05)
        dome = self.bottom + self._length * (0.20 - inspiration)
        self._dome = {1.0: dome + self._uniform(4, 16), -1.0: dome - self._uniform(0, 10)}
        self._drop = self._uniform(48, 68) * s
        self.lung_hu = self._uniform(-860, -780)

    def _section(self, z: Tensor | float) -> "tuple[Tensor, ...]":
        """Half-width, half-depth and centre of the ribcage's section at height ``z``."""
        z = z if isinstance(z, Tensor) else torch.tensor(float(z))
        t = ((self.top - z) / self._length).clamp(-0.115, 1.3)
        half_width = self._width * (1 - torch.exp(-(t + 0.12) / 0.175)) * (1 - 0.05 * (t - 0.75).clamp(min=0) ** 2)
        half_depth = self._depth * (1 - torch.exp(-(t + 0.15) / 0.33))
        x, y = self._spine_tensor(z)
        return half_width, half_depth, x, y - self._gutter * (0.5 + 0.5 * (t / 0.25).clamp(0, 1)) + half_depth

    def _cage_distance(self, p: Positions) -> Tensor:
        """About the distance in mm to the inner surface of the ribs, negative inside."""
        a, b, cx, cy = self._section(p[2])
        qx, qy = ((p[0] - cx) / a) ** 2, ((p[1] - cy) / b) ** 2
        k = (qx + qy - self._flat * qx.clamp(max=1.2) * qy.clamp(max=1.2)).clamp(min=1e-6).sqrt()
        slope = (qx / (a * a) + qy / (b * b)).sqrt() / k
        return (k - 1.0) / slope.clamp(min=1e-3)

    def _on_cage(self, angle: float, z: float, out: float) -> Vec:
        """Point ``out`` mm outside the cage at height ``z``, ``angle`` radians from the back to the right."""
        a, b, cx, cy = (float(k) for k in self._section(z))
        c, s = -np.cos(angle), np.sin(angle)
        f = self._flat
        # k = 1 on the surface: u - f u^2 s^2 c^2 = 1 for u the squared radius in units of the half-axes
        g = f * s * s * c * c
        u = (1 - np.sqrt(max(1 - 4 * g, 0))) / (2 * g) if g > 1e-9 else 1.0
        r = np.sqrt(u)
        return np.array([cx + (a * r + out) * s, cy + (b * r + out) * c, z])

    def _above_dome(self, p: Positions, side: float) -> Tensor:
        """Height above a dome of the diaphragm, mm; lower at the sides and behind, in the recesses."""
        half_width, half_depth, cx, cy = self._section(self._dome[side])
        dx = side * (p[0] - float(cx)) / float(half_width) - 0.42
        dy = (p[1] - float(cy)) / float(half_depth) - 0.1
        out = torch.where(dx > 0, 2.3 * dx * dx + 1.2 * dx.clamp(min=0) ** 4 * 4, 1.0 * dx * dx)
        behind = torch.where(dy < 0, 1.25 * dy * dy, 0.5 * dy * dy)
        return p[2] - (self._dome[side] - self._drop * (out + behind))

    def _build_trunk(self) -> None:
        a, s = self.anatomy, self._size
        fat, wall = a.fat * self._uniform(0.55, 0.85), self._uniform(15, 20)
        self.skin_fat = fat
        outer = wall + fat
        shoulder_z = self.top - self._uniform(26, 52) * s
        reach_x = (178 if not self._female else 172) * s * self._uniform(0.97, 1.03)
        neck_y = float(self.spine(self.top + 60)[1]) + 12
        base = float(self.spine(self.top - 30)[1])
        r_neck = (54 if not self._female else 47) * s + 0.25 * fat
        drift = self._uniform(-4, 18)
        abduct, forward = np.deg2rad(self._uniform(22, 48)), self._uniform(0.0, 0.45)
        self._arms = []
        for side in (-1.0, 1.0):
            joint = np.array([side * reach_x, base + drift, shoulder_z])
            elbow = joint + 300 * np.array([side * np.sin(abduct), forward, -np.cos(abduct)])
            self._arms.append((side, joint, elbow))
        _, joint, elbow = self._arms[1]
        soft = 0.3 * fat

        def body(p: Positions) -> Tensor:
            whole = self._cage_distance(p) - outer
            q = (p[0].abs(), p[1], p[2])  # both sides at once
            neck = capsule(q, (0.0, neck_y, self.top - 40), (0.0, neck_y, self.top + 400), r_neck)
            whole = smooth_min(whole, neck, 60)
            slope = capsule(
                q, (14, base, self.top + 34), (joint[0], joint[1], joint[2] - 8), 44 * s + soft, 43 * s + soft
            )
            whole = smooth_min(whole, slope, 25)
            fold = capsule(
                q,
                (joint[0] - 16, joint[1] - 10, joint[2] - 20),
                (0.96 * self._width, base - 5, self.top - 0.52 * self._length),
                34 * s + soft,
                12 + 0.5 * fat,
            )
            whole = smooth_min(whole, fold, 25)
            arm = capsule(q, joint, elbow, 43 * s + 0.4 * fat, 37 * s + 0.4 * fat)
            return smooth_min(whole, arm, 20)

        def flesh(palette: Palette, p: Positions, d: Tensor) -> Tensor:
            return -95.0 + 140.0 * (0.5 - (d + fat) / 4.0).clamp(0, 1)

        wide = reach_x + 260
        low, high = (-wide, -220.0, self.bottom - 260), (wide, 320.0, self.top + 300)
        self.soft.append(Shape(low, high, body, flesh))
        middle = [float(k) for k in self._section(self.top - 0.45 * self._length)]
        front = middle[3] + middle[1] + outer
        for side in (-1.0, 1.0):
            if self._female:
                size = self._uniform(0.75, 1.25) * (0.75 + 0.02 * fat)
                at = [side * 0.52 * self._width, front - 14, self.top - self._length * self._uniform(0.62, 0.80)]
                self._blob(at, (62 * size, 44 * size, 66 * size), self._uniform(-60, -5), side * 12)
        for side in (-1.0, 1.0):
            inner = self._uniform(6, 11) * s

            def lung(p: Positions, side: float = side, inner: float = inner) -> Tensor:
                x, y = self._spine_tensor(p[2])
                medial = inner + 14.0 * torch.sigmoid((y + 8.0 - p[1]) / 6.0)
                d = smooth_max(self._cage_distance(p) + 4.0, medial - side * (p[0] - x), 6)
                return smooth_max(d, -0.72 * self._above_dome(p, side), 5)

            box_low = [min(0.0, side * 1.12 * self._width), -200.0, self._dome[side] - 1.9 * self._drop]
            box_high = [max(0.0, side * 1.12 * self._width), 260.0, self.top + 0.13 * self._length]
            gradient = self._uniform(0, 60)

            def air(palette: Palette, p: Positions, d: Tensor, gradient: float = gradient) -> Tensor:
                return self.lung_hu - gradient * ((p[2] - self.bottom) / self._length - 0.3)

            if side > 0:
                box_low[0] -= 25
            else:
                box_high[0] += 25
            self.soft.append(Shape(tuple(box_low), tuple(box_high), lung, air))
            setattr(self, "_lung_right" if side > 0 else "_lung_left", lung)
        # gas in the stomach under the left dome, and sometimes in the colon
        if self._rng.random() < 0.85:
            r = self._uniform(22, 44)
            at = [-0.42 * self._width, middle[3] + self._uniform(-15, 25), self._dome[-1.0] - 7 - 0.62 * r]
            level = at[2] - self._uniform(0.0, 0.5) * r

            def bubble(p: Positions) -> Tensor:
                d = ellipsoid(p, at, (1.25 * r, r, 0.95 * r))
                d = smooth_max(d, 0.8 * (self._above_dome(p, -1.0) + 7.0), 4)
                return torch.maximum(d, level - p[2])

            gas = tuple(c - 1.3 * r for c in at), tuple(c + 1.3 * r for c in at)
            self.soft.append(Shape(*gas, bubble, _hu(-1000.0)))
        for _ in range(int(self._rng.integers(0, 4))):
            r = self._uniform(9, 20)
            at = [-self._uniform(0.25, 0.8) * self._width, middle[3] + 30, self._dome[-1.0] - self._uniform(50, 95)]
            self._blob(at, (self._uniform(1, 2) * r, r, r), -990.0, self._uniform(-40, 40))

    def _build_mediastinum(self) -> None:
        s, rng = self._size, self._rng
        age = self.anatomy.person.age_years
        t = lambda n: float(np.interp(n, np.arange(1, 13), self._z))  # noqa: E731
        y0 = float(self.spine(t(7))[1])
        heart = self._uniform(0.86, 1.12) * s * (1 + 0.0015 * (age - 55))
        base = min(self._dome.values())
        # heart: right atrium, the body, the left ventricle whose apex lies down and to the left
        cy = y0 + 62 * s
        cz = base + 36 * heart
        self._heart = np.array([-18 * heart, cy, cz])
        parts = [
            self._ellipsoid((11 * heart, cy - 6, cz + 6), (30 * heart, 38 * heart, 44 * heart), _hu(50), 0),
            self._ellipsoid((-24 * heart, cy + 4, cz - 4), (56 * heart, 52 * heart, 42 * heart), _hu(50), 32),
            self._ellipsoid((-20 * heart, cy, cz + 30), (32 * heart, 42 * heart, 46 * heart), _hu(50), 8),
        ]

        def whole(p: Positions) -> Tensor:
            d = smooth_min(parts[0].distance(p), parts[1].distance(p), 18)
            return smooth_min(d, parts[2].distance(p), 22)

        low = np.min([q.low for q in parts], axis=0) - 6
        high = np.max([q.high for q in parts], axis=0) + 6
        self.soft.append(Shape(tuple(low.tolist()), tuple(high.tolist()), whole, _hu(48.0)))
        self._heart_distance = whole
        # fat pads in the angles between heart and diaphragm
        self._blob((-52 * heart, cy + 22, base - 4), (30, 24, 18), -70.0, 25)
        unfold = float(np.clip((age - 50) / 40, 0, 1)) * self._uniform(0.3, 1.0)
        knob, r_a = t(4.6), self._uniform(12.5, 16) * s + 3 * unfold
        asc = 20 * s + 10 * unfold
        arch = spline(
            [
                (4 * s, y0 + 58 * s, t(7)),
                (asc - 4, y0 + 56 * s, t(5.6)),
                (8, y0 + 46 * s, knob + 10),
                (-18 - 6 * unfold, y0 + 24 * s, knob + 6),
                (-26 * s - 9 * unfold, y0 + 4, knob - 8),
                (-27 * s - 5 * unfold, y0 - 4, t(6.5)),
                (-23 * s - 8 * unfold, y0 + 2, t(9)),
                (-13 * s, y0 + 12, t(11.5)),
            ],
            3,
        )
        self._tube(arch, [r_a + 2, r_a + 2, r_a, r_a, r_a - 1, r_a - 2, r_a - 2.5, r_a - 3], _hu(45), soft=True)
        if age > 55 and rng.random() < 0.5:  # calcified knob
            self._calcify(arch[9:13], r_a)
        # superior vena cava and right brachiocephalic vessels
        right = 21 * s + self._uniform(0, 6)
        self._tube(
            spline(
                [
                    (right, y0 + 44, t(7.5)),
                    (right, y0 + 44, t(4.5)),
                    (right - 1, y0 + 38, t(2.8)),
                    (30, y0 + 30, t(0.5)),
                ],
                3,
            ),
            [13, 12, 11, 9], _hu(45), soft=True,
        )  # fmt: skip
        self._tube([(-13, y0 + 34, t(4)), (-20, y0 + 28, t(2.5)), (-30, y0 + 26, t(0))], [9, 8, 7], _hu(45), soft=True)
        # pulmonary trunk and arteries
        carina = t(5.2) + self._uniform(-6, 6)
        self._carina = carina
        hilum = {1.0: np.array([38 * s, y0 + 24, carina - 26]), -1.0: np.array([-40 * s, y0 + 22, carina - 14])}
        self._hilum = hilum
        wide = self._uniform(0.85, 1.1)
        self._tube(
            spline([(-14, y0 + 66, t(7)), (-26 * s, y0 + 54, carina - 12), hilum[-1.0]], 3),
            [15 * wide, 14 * wide, 11 * wide], _hu(45), soft=True,
        )  # fmt: skip
        self._tube(
            [(-18, y0 + 50, carina - 18), (12, y0 + 44, carina - 26), hilum[1.0]], 10.5 * wide, _hu(45), soft=True
        )
        for side in (-1.0, 1.0):
            h = hilum[side]
            self._tube([h, h + [side * 12, 8, 22]], [7 * wide, 3], _hu(-150), soft=True)
        # airways last: gas in everything else
        shift = self._uniform(0, 7)
        r = self._uniform(7.0, 9.5) * (0.88 if self._female else 1.0)
        neck = self.spine(self.top + 60)
        course = spline(
            [(neck[0], neck[1] + 34, self.top + 120), (neck[0], neck[1] + 30, self.top + 40),
             (shift * 0.6, y0 + 30, t(3)), (shift, y0 + 26, carina + 6)], 3)  # fmt: skip
        self._tube(course, r, _hu(-1000), soft=True)
        c = np.array([shift, y0 + 25, carina + 7])
        self._tube(
            [c, hilum[1.0] + [-14, -2, 12], hilum[1.0] + [2, -6, -8]],
            [r * 0.82, r * 0.72, r * 0.5],
            _hu(-1000),
            soft=True,
        )
        self._tube(
            [c, hilum[-1.0] + [14, -4, -6], hilum[-1.0] + [-2, -8, -20]],
            [r * 0.78, r * 0.66, r * 0.45],
            _hu(-1000),
            soft=True,
        )

    def _calcify(self, along: NDArray[np.float64], radius: float) -> None:
        for _ in range(int(self._rng.integers(2, 7))):
            i = int(self._rng.integers(0, len(along) - 1))
            angle = self._uniform(0, 2 * np.pi)
            at = along[i] + radius * np.array([np.cos(angle), 0.3, np.sin(angle)])
            density, size = self._uniform(300, 800), self._uniform(0.8, 2.0)
            self._tube([at, at + [self._uniform(-4, 4), self._uniform(-4, 4), self._uniform(-6, 6)]], size,
                       lambda palette, p, d, v=density: v)  # fmt: skip

    def _build_vessels(self) -> None:
        """Branching trees from the hila to the pleura; radii follow Murray's law."""
        rng = self._rng
        for side in (-1.0, 1.0):
            lung = self._lung_right if side > 0 else self._lung_left  # type: ignore[attr-defined]
            h = self._hilum[side]
            ends = []
            lower = spline([h, h + [side * 8, -2, -22], h + [side * 17, -8, -46], h + [side * 20, -14, -72]], 3)
            for a, b, r in zip(lower[:-1], lower[1:], np.linspace(4.4, 2.0, len(lower) - 1), strict=True):
                x, y, z = (torch.tensor([[[float(k)]]]) for k in 0.5 * (a + b))
                if max(float(lung((x, y, z))), -float(self._heart_distance((x, y, z)))) < 2:
                    self.vessels.append(Vessel(a, b, float(r)))
            for kind in (0, 1):  # arteries, then veins, which run flatter and lower
                for _ in range(13):
                    up = self._uniform(-1.25, 1.0) if kind == 0 else self._uniform(-0.9, 0.8)
                    way = np.array([side * self._uniform(0.25, 1.0), self._uniform(-0.8, 0.7), up])
                    way /= np.linalg.norm(way)
                    at = h + [0, 8 * kind, -12 * kind] + 4 * way
                    if up < -0.3:
                        at = lower[int(rng.integers(2, len(lower)))] + 2 * way
                    ends.append((at, way, self._uniform(1.5, 2.9) * (1.1 if up < 0 else 0.85)))
            while ends:  # one generation at a time
                ways = np.array([way for _, way, _ in ends]) + rng.normal(0, 0.17, (len(ends), 3))
                ways /= np.linalg.norm(ways, axis=1, keepdims=True)
                radii = np.array([radius for *_, radius in ends])
                starts = np.array([at for at, *_ in ends])
                tips = starts + (rng.uniform(7, 13, len(ends)) * (0.6 + 0.25 * radii))[:, None] * ways
                x, y, z = (torch.as_tensor(c, dtype=torch.float32)[:, None, None] for c in tips.T)
                # what lies in the heart or beyond the lung is none of the lung's vessels
                depths = torch.maximum(lung((x, y, z)), -self._heart_distance((x, y, z))).flatten().tolist()
                grown, ends = zip(starts, tips, ways, radii.tolist(), depths, strict=True), []
                for at, tip, way, radius, depth in grown:
                    if depth > (-3 if radius < 1.5 else 1):
                        continue
                    self.vessels.append(Vessel(at, tip, radius))
                    if rng.random() < 0.5:
                        share = self._uniform(0.3, 0.5)
                        axis = np.cross(way, rng.normal(0, 1, 3))
                        axis /= np.linalg.norm(axis)
                        for part, turn in ((share, self._uniform(0.5, 1.0)), (1 - share, -self._uniform(0.1, 0.35))):
                            r = radius * part ** (1 / 2.7)
                            if r > 0.45:
                                ends.append((tip, way + turn * axis, r))
                    elif radius * 0.96 > 0.45:
                        ends.append((tip, way, radius * 0.96))

    # ------------------------------------------------------------------ bones

    def _build_ribs(self) -> None:
        s = self._size
        tilt = self._uniform(0.85, 1.2)
        for number, (end, drop) in _RIBS.items():
            level = VertebraLevel(f"T{number}")
            try:
                v = self.anatomy.vertebra(level)
            except KeyError:
                continue
            if number == 12 and "eleven_ribs" in self.anatomy.person.variants:
                continue
            half = (2.9 if number not in (11, 12) else 2.4) * s
            high = 1.9 if 1 < number < 11 else 1.6
            for side in (-1.0, 1.0):
                head = v.world(side * 0.95 * v.half_width, -0.75 * v.back, 0.42 * v.height)
                neck = v.world(side * (v.half_width + 13 * s), -v.back - 16 * s, 0.35 * v.height + 2)
                begin = np.deg2rad(30 if number > 2 else 42)
                arc = np.linspace(begin, np.deg2rad(end * self._uniform(0.97, 1.03)), 4 if number in (1, 12) else 6)
                points = [head, neck]
                for angle in arc:
                    turn = angle / np.pi
                    z = neck[2] - tilt * drop * s * (0.25 * turn + 0.75 * turn**1.25) + 2
                    points.append(self._on_cage(side * angle, z, half + 0.5))
                curve = spline(points, 2)
                shell = self._cortex(0.95 * self._uniform(0.85, 1.15), 900)
                self._tube(
                    curve, [half * 1.1, half * 0.95, half * 1.1, half * 1.05], self._spongy(0.7),
                    stretch=(1, 1, high), shell=shell, label=RIB_LABEL,
                )  # fmt: skip

    def _build_sternum(self) -> None:
        s = self._size
        z3 = float(np.interp(3, np.arange(1, 13), self._z))

        def front(z: float) -> Vec:
            _, b, cx, cy = (float(k) for k in self._section(z))
            return np.array([0.6 * cx, cy + b - 1, z])

        top = z3 - 8 * s
        self._manubrium = front(top)
        shell, marrow = self._cortex(1.0), self._spongy(0.7)
        self._tube([front(top - 4), front(top - 45 * s)], [10 * s, 8 * s], marrow, stretch=(2.3, 0.62, 1), shell=shell)
        self._tube(
            [front(top - 50 * s), front(top - 145 * s)], [7 * s, 9 * s], marrow, stretch=(1.9, 0.7, 1), shell=shell
        )

    def _build_shoulders(self) -> None:
        s = self._size
        lift = self._uniform(14, 34) * s
        for side, joint, elbow in self._arms:
            inner = self._manubrium + np.array([side * 20 * s, 2, 3])
            acromion = joint + np.array([-side * 6, -8, lift * 0.3 + 16 * s])
            span = acromion - inner
            course = [
                inner,
                inner + 0.25 * span + [0, 12 * s, 5],
                inner + 0.55 * span + [0, 6 * s, 1],
                inner + 0.8 * span + [0, -6 * s, -2],
                acromion - [side * 6, 0, 0],
            ]
            self._tube(
                spline(course, 4), [9.5 * s, 6.6 * s, 5.6 * s, 6 * s, 6.6 * s], self._spongy(0.75),
                stretch=(1, 1, 1), shell=self._cortex(2.1, 1050),
            )  # fmt: skip
            # humerus: head, surgical neck, shaft
            way = (elbow - joint) / np.linalg.norm(elbow - joint)
            neck = joint + np.array([side * 12 * s, 4, -22 * s])
            self._upper_humerus(joint, neck, way)
            shaft = [neck + 12 * way, neck + 40 * way, neck + 90 * way, neck + 280 * way]
            marrow, (thick, compact) = self._spongy(0.2), self._cortex(4.2, 1100)
            self._tube(shaft[:2], [14 * s, 12 * s], marrow, shell=(0.6 * thick, compact), flat=True)
            self._tube(shaft[1:], [12 * s, 11 * s, 11 * s], marrow, shell=(thick, compact), flat=True)
            self._scapula(side, joint, acromion)

    def _upper_humerus(self, head: Vec, neck: Vec, way: Vec) -> None:
        """Head, tubercles and surgical neck in one piece; spongy bone thins out towards the shaft."""
        s = self._size
        c, tip = [float(k) for k in head], neck + 14 * way
        side = float(np.sign(head[0]))
        knob = head + np.array([side * 17 * s, 4, -6 * s])
        texture, shift = self._uniform(0.1, 0.25), self._uniform(0, 40)
        dense = float(self._spongy(1.0)(None, None, None))
        noise = self.anatomy.noise

        def distance(p: Positions) -> Tensor:
            ball = ellipsoid(p, c, [23.0 * s] * 3)
            d = smooth_min(ball, capsule(p, head, tip, 16.0 * s, 13.5 * s), 8)
            return smooth_min(d, ellipsoid(p, knob, (9 * s, 10 * s, 15 * s)), 8)

        def marrow(palette: Palette, p: Positions, d: Tensor) -> Tensor:
            fall = ((p[2] - float(neck[2])) / 24.0).clamp(-0.75, 0.35)
            return dense * (1.0 + fall) * (1.0 + texture * noise(p, 4.0, shift)).clamp(min=0.1)

        points = np.array([head, neck, tip])
        low, high = points.min(0) - 30 * s, points.max(0) + 30 * s
        self.hard.append(
            Shape(tuple(low.tolist()), tuple(high.tolist()), distance, marrow, None, self._cortex(1.2, 900))
        )

    def _scapula(self, side: float, joint: Vec, acromion: Vec) -> None:
        s = self._size
        glenoid = joint + np.array([-side * 27 * s, -6, -2])
        z7 = float(np.interp(7.0, np.arange(1, 13), self._z)) + self._uniform(-8, 8)
        z2 = float(np.interp(2.4, np.arange(1, 13), self._z))
        swing = self._uniform(-8, 22)
        lower = np.array([side * (108 * s + swing), 0.0, z7])
        upper = np.array([side * (84 * s + 0.5 * swing), 0.0, z2])
        for corner in (lower, upper):  # the plate lies on the back of the cage
            a, b, cx, cy = (float(k) for k in self._section(float(corner[2])))
            across = float(np.clip(abs(corner[0] - cx) / (a + 12), 0, 0.93))
            corner[1] = cy - (b + 18) * np.sqrt(1 - across**2) - 4
        n = np.cross(lower - upper, glenoid - upper)
        n /= np.linalg.norm(n)
        corners = [upper, lower, glenoid]
        edges = []
        for i in range(3):
            a, b, c = corners[i], corners[(i + 1) % 3], corners[(i + 2) % 3]
            m = np.cross(b - a, n)
            m /= np.linalg.norm(m)
            m = -m if m @ (c - a) > 0 else m
            edges.append((m, float(m @ a)))
        n0 = float(n @ upper)

        def plate(p: Positions) -> Tensor:
            def along(m: Vec) -> Tensor:
                return p[0] * float(m[0]) + p[1] * float(m[1]) + p[2] * float(m[2])

            d = [along(m) - c for m, c in edges]
            rim = smooth_max(smooth_max(d[0], d[1], 14), d[2], 10)
            return torch.maximum(rim, (along(n) - n0).abs() - (1.7 + 1.2 * (rim + 16).clamp(min=0) / 16))

        low, high = np.min(corners, axis=0) - 6, np.max(corners, axis=0) + 6
        shell = self._cortex(1.1, 900)
        marrow = self._spongy(0.6)
        self.hard.append(Shape(tuple(low.tolist()), tuple(high.tolist()), plate, marrow, None, shell))
        rim = self._cortex(1.5, 950)
        self._tube(
            spline([glenoid, 0.5 * (glenoid + lower) + [side * -3, 0, 0], lower], 3),
            [5.5 * s, 4.5 * s, 3.5 * s],
            marrow,
            shell=rim,
        )
        self._tube([upper, 0.5 * (upper + lower), lower], 2.3 * s, marrow, shell=shell)
        root = 0.62 * upper + 0.38 * lower
        spine = [
            root + [0, -2, 6],
            0.5 * (root + acromion) + [0, -12, 4],
            acromion + [side * 2, -8, 0],
            acromion + [side * 8, 6, -3],
        ]
        self._tube(spline(spine, 3), [2.6 * s, 4.5 * s, 6 * s, 6.5 * s], marrow, stretch=(1, 1, 1.1), shell=rim)
        self._tube(
            spline([glenoid + [-side * 6, 6, 8], glenoid + [-side * 6, 22, 20], glenoid + [side * 6, 34, 16]], 3),
            [6 * s, 5 * s, 4 * s],
            marrow,
            shell=rim,
        )
        self._tube(
            [glenoid + [side * 2, 0, 14 * s], glenoid + [side * 3, 0, -16 * s]],
            8.0 * s,
            marrow,
            stretch=(0.7, 1, 1),
            shell=self._cortex(1.6, 950),
        )

    def _build_neck(self) -> None:
        """Lower cervical vertebrae, coarse: bodies, lateral masses, spinous processes."""
        s = self._size
        v = self.anatomy.vertebra(L.T1)
        pitch = v.height + 5 * s
        axis = v.frame[:, 2]
        at = v.centre
        for i in range(5):
            lean = axis + np.array([0, -0.16 * i, 0])
            lean /= np.linalg.norm(lean)
            at = at + lean * (pitch if i == 0 else 17.5 * s)
            shell, marrow = self._cortex(1.1, 900), self._spongy(1.0)
            half = 4.6 * s
            self._tube([at - half * lean, at + half * lean], 9.0 * s, marrow, stretch=(1.45, 1, 0.6), shell=shell)
            for side in (-1.0, 1.0):
                mass = at + np.array([side * 19 * s, -15 * s, 0])
                self._tube([mass + [0, 0, 5 * s], mass - [0, 0, 5 * s]], 6.0 * s, marrow, shell=shell)
                if i == 0:  # the long transverse process of C7
                    self._tube([mass, mass + [side * 15 * s, 0, 0]], 4.0 * s, marrow, shell=shell)
            self._tube(
                [at - [0, 20 * s, 0], at - [0, (46 - 4 * i) * s, 8]], 3.4 * s, marrow, stretch=(1, 1, 1.6), shell=shell
            )
