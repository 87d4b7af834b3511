"""Soft tissues of a chest: ribcage surface, trunk, lungs, mediastinum and pulmonary vessels."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.virtual.anatomy.chest_parts import ChestBuilder, Vessel, constant
from osteo_monai.virtual.anatomy.shapes import Palette, Positions, Shape, Vec, spline
from osteo_monai.virtual.canvas import capsule, ellipsoid, smooth_max, smooth_min

Branch = tuple[Vec, Vec, float]
"""Tip of a vessel (RAS+ mm), direction and radius in mm of the next piece."""


class SoftChestBuilder(ChestBuilder):
    """Build the cage and the soft tissues."""

    lung_hu: float
    skin_fat: float
    _width: float
    _depth: float
    _gutter: float
    _flat: float
    _drop: float
    _dome: dict[float, float]
    _arms: list[tuple[float, Vec, Vec]]
    _lungs: dict[float, Callable[[Positions], Tensor]]
    _carina: float
    _hilum: dict[float, Vec]
    _heart_distance: Callable[[Positions], Tensor]

    def _build_cage(self) -> None:
        a, s = self.anatomy, self._size
        most = a.half_width - a.fat - 7
        self._width = float(np.clip(130 * s * self._rng.normal(1, 0.035), 0.85 * most, most))
        self._depth = float(np.clip(88 * s * self._rng.normal(1, 0.06), 0.6 * self._width, 0.8 * self._width))
        self._gutter = 42.0 * s
        self._flat = self._uniform(0.25, 0.45)
        inspiration = self._uniform(-0.07, 0.05)
        dome = self.bottom + self._length * (0.20 - inspiration)
        self._dome = {1.0: dome + self._uniform(4, 16), -1.0: dome - self._uniform(0, 10)}
        self._drop = self._uniform(48, 68) * s
        self.lung_hu = self._uniform(-860, -780)

    def _section(self, z: Tensor | float) -> "tuple[Tensor, ...]":
        """Return half-width, half-depth, centre x and centre y of the section of the ribcage at height ``z``, in mm."""
        z = z if isinstance(z, Tensor) else torch.tensor(float(z))
        t = ((self.top - z) / self._length).clamp(-0.115, 1.3)
        half_width = self._width * (1 - torch.exp(-(t + 0.12) / 0.175)) * (1 - 0.05 * (t - 0.75).clamp(min=0) ** 2)
        half_depth = self._depth * (1 - torch.exp(-(t + 0.15) / 0.33))
        x, y = self._spine_tensor(z)
        return half_width, half_depth, x, y - self._gutter * (0.5 + 0.5 * (t / 0.25).clamp(0, 1)) + half_depth

    def _cage_distance(self, p: Positions) -> Tensor:
        """Return about the distance in mm to the inner surface of the ribs, negative inside."""
        a, b, cx, cy = self._section(p[2])
        qx, qy = ((p[0] - cx) / a) ** 2, ((p[1] - cy) / b) ** 2
        k = (qx + qy - self._flat * qx.clamp(max=1.2) * qy.clamp(max=1.2)).clamp(min=1e-6).sqrt()
        slope = (qx / (a * a) + qy / (b * b)).sqrt() / k
        return (k - 1.0) / slope.clamp(min=1e-3)

    def _on_cage(self, angle: float, z: float, out: float) -> Vec:
        """Return half-width, half-depth and centre (x, y) of the section of the ribcage at height ``z``, in mm."""
        a, b, cx, cy = (float(k) for k in self._section(z))
        c, s = -np.cos(angle), np.sin(angle)
        f = self._flat
        # k = 1 on the surface: u - f u^2 s^2 c^2 = 1 for u the squared radius in units of the half-axes
        g = f * s * s * c * c
        u = (1 - np.sqrt(max(1 - 4 * g, 0))) / (2 * g) if g > 1e-9 else 1.0
        r = np.sqrt(u)
        return np.array([cx + (a * r + out) * s, cy + (b * r + out) * c, z])

    def _above_dome(self, p: Positions, side: float) -> Tensor:
        """Return the height in mm above a dome of the diaphragm, lower at the sides and behind, in the recesses."""
        half_width, half_depth, cx, cy = self._section(self._dome[side])
        dx = side * (p[0] - float(cx)) / float(half_width) - 0.42
        dy = (p[1] - float(cy)) / float(half_depth) - 0.1
        out = torch.where(dx > 0, 2.3 * dx * dx + 1.2 * dx.clamp(min=0) ** 4 * 4, 1.0 * dx * dx)
        behind = torch.where(dy < 0, 1.25 * dy * dy, 0.5 * dy * dy)
        return p[2] - (self._dome[side] - self._drop * (out + behind))

    def _build_trunk(self) -> None:
        fat, wall = self.anatomy.fat * self._uniform(0.55, 0.85), self._uniform(15, 20)
        self.skin_fat = fat
        self._add_flesh(fat, wall)
        _, depth, _, middle_y = (float(k) for k in self._section(self.top - 0.45 * self._length))
        if self._female:
            self._add_breasts(fat, middle_y + depth + (wall + fat))
        self._lungs = {}
        for side in (-1.0, 1.0):
            self._add_lung(side)
        self._add_gas(middle_y)

    def _add_flesh(self, fat: float, wall: float) -> None:
        """Add skin fat and muscle of trunk, neck, shoulders and arms as one shape; ``fat`` and ``wall`` in mm."""
        s = self._size
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

    def _add_breasts(self, fat: float, front: float) -> None:
        """Add both breasts on the chest wall at y = ``front``."""
        for side in (-1.0, 1.0):
            size = self._uniform(0.75, 1.25) * (0.75 + 0.02 * fat)
            at = [side * 0.52 * self._width, front - 14, self.top - self._length * self._uniform(0.62, 0.80)]
            self._blob(at, (62 * size, 44 * size, 66 * size), self._uniform(-60, -5), side * 12)

    def _add_lung(self, side: float) -> None:
        inner = self._uniform(6, 11) * self._size

        def lung(p: Positions) -> Tensor:
            x, y = self._spine_tensor(p[2])
            medial = inner + 14.0 * torch.sigmoid((y + 8.0 - p[1]) / 6.0)
            d = smooth_max(self._cage_distance(p) + 4.0, medial - side * (p[0] - x), 6)
            return smooth_max(d, -0.72 * self._above_dome(p, side), 5)

        low = [min(0.0, side * 1.12 * self._width), -200.0, self._dome[side] - 1.9 * self._drop]
        high = [max(0.0, side * 1.12 * self._width), 260.0, self.top + 0.13 * self._length]
        gradient = self._uniform(0, 60)

        def air(palette: Palette, p: Positions, d: Tensor) -> Tensor:
            return self.lung_hu - gradient * ((p[2] - self.bottom) / self._length - 0.3)

        if side > 0:
            low[0] -= 25
        else:
            high[0] += 25
        self.soft.append(Shape(tuple(low), tuple(high), lung, air))
        self._lungs[side] = lung

    def _add_gas(self, middle_y: float) -> None:
        """Add gas in the stomach under the left dome, and sometimes in the colon."""
        if self._rng.random() < 0.85:
            r = self._uniform(22, 44)
            at = [-0.42 * self._width, middle_y + self._uniform(-15, 25), self._dome[-1.0] - 7 - 0.62 * r]
            level = at[2] - self._uniform(0.0, 0.5) * r

            def bubble(p: Positions) -> Tensor:
                d = ellipsoid(p, at, (1.25 * r, r, 0.95 * r))
                d = smooth_max(d, 0.8 * (self._above_dome(p, -1.0) + 7.0), 4)
                return torch.maximum(d, level - p[2])

            low, high = tuple(c - 1.3 * r for c in at), tuple(c + 1.3 * r for c in at)
            self.soft.append(Shape(low, high, bubble, constant(-1000.0)))
        for _ in range(int(self._rng.integers(0, 4))):
            r = self._uniform(9, 20)
            at = [-self._uniform(0.25, 0.8) * self._width, middle_y + 30, self._dome[-1.0] - self._uniform(50, 95)]
            self._blob(at, (self._uniform(1, 2) * r, r, r), -990.0, self._uniform(-40, 40))

    def _build_mediastinum(self) -> None:
        y0 = float(self.spine(self._height(7))[1])
        self._add_heart(y0)
        self._add_aorta(y0)
        self._add_great_veins(y0)
        self._add_pulmonary_arteries(y0)
        self._add_airways(y0)

    def _height(self, number: float) -> float:
        """Return the z in mm of a thoracic vertebra; fractions lie between two."""
        return float(np.interp(number, np.arange(1, 13), self._z))

    def _add_heart(self, y0: float) -> None:
        """Add the right atrium, the body of the heart, the left ventricle (apex down and left), and a fat pad."""
        s, age = self._size, self.anatomy.person.age_years
        heart = self._uniform(0.86, 1.12) * s * (1 + 0.0015 * (age - 55))
        base = min(self._dome.values())
        cy = y0 + 62 * s
        cz = base + 36 * heart
        value = constant(50)
        parts = [
            self._ellipsoid((11 * heart, cy - 6, cz + 6), (30 * heart, 38 * heart, 44 * heart), value, 0),
            self._ellipsoid((-24 * heart, cy + 4, cz - 4), (56 * heart, 52 * heart, 42 * heart), value, 32),
            self._ellipsoid((-20 * heart, cy, cz + 30), (32 * heart, 42 * heart, 46 * heart), value, 8),
        ]

        def whole(p: Positions) -> Tensor:
            d = smooth_min(parts[0].distance(p), parts[1].distance(p), 18)
            return smooth_min(d, parts[2].distance(p), 22)

        low = np.min([q.low for q in parts], axis=0) - 6
        high = np.max([q.high for q in parts], axis=0) + 6
        self.soft.append(Shape(tuple(low.tolist()), tuple(high.tolist()), whole, constant(48.0)))
        self._heart_distance = whole
        self._blob((-52 * heart, cy + 22, base - 4), (30, 24, 18), -70.0, 25)

    def _add_aorta(self, y0: float) -> None:
        """Add the thoracic aorta, unfolded in the old, and sometimes calcium in its knob."""
        s, age, t = self._size, self.anatomy.person.age_years, self._height
        unfold = float(np.clip((age - 50) / 40, 0, 1)) * self._uniform(0.3, 1.0)
        knob, radius = t(4.6), self._uniform(12.5, 16) * s + 3 * unfold
        ascending = 20 * s + 10 * unfold
        arch = spline(
            [
                (4 * s, y0 + 58 * s, t(7)),
                (ascending - 4, y0 + 56 * s, t(5.6)),
                (8, y0 + 46 * s, knob + 10),
                (-18 - 6 * unfold, y0 + 24 * s, knob + 6),
                (-26 * s - 9 * unfold, y0 + 4, knob - 8),
                (-27 * s - 5 * unfold, y0 - 4, t(6.5)),
                (-23 * s - 8 * unfold, y0 + 2, t(9)),
                (-13 * s, y0 + 12, t(11.5)),
            ],
            3,
        )
        radii = [radius + change for change in (2, 2, 0, 0, -1, -2, -2.5, -3)]
        self._tube(arch, radii, constant(45), soft=True)
        if age > 55 and self._rng.random() < 0.5:
            self._calcify(arch[9:13], radius)

    def _add_great_veins(self, y0: float) -> None:
        """Add the superior vena cava and the brachiocephalic vessels."""
        t = self._height
        right = 21 * self._size + self._uniform(0, 6)
        cava = [
            (right, y0 + 44, t(7.5)),
            (right, y0 + 44, t(4.5)),
            (right - 1, y0 + 38, t(2.8)),
            (30, y0 + 30, t(0.5)),
        ]
        self._tube(spline(cava, 3), [13, 12, 11, 9], constant(45), soft=True)
        left = [(-13, y0 + 34, t(4)), (-20, y0 + 28, t(2.5)), (-30, y0 + 26, t(0))]
        self._tube(left, [9, 8, 7], constant(45), soft=True)

    def _add_pulmonary_arteries(self, y0: float) -> None:
        """Add the pulmonary trunk and arteries; set carina and hila."""
        s, t = self._size, self._height
        carina = t(5.2) + self._uniform(-6, 6)
        self._carina = carina
        hilum = {1.0: np.array([38 * s, y0 + 24, carina - 26]), -1.0: np.array([-40 * s, y0 + 22, carina - 14])}
        self._hilum = hilum
        wide = self._uniform(0.85, 1.1)
        trunk = spline([(-14, y0 + 66, t(7)), (-26 * s, y0 + 54, carina - 12), hilum[-1.0]], 3)
        self._tube(trunk, [15 * wide, 14 * wide, 11 * wide], constant(45), soft=True)
        right = np.array([(-18, y0 + 50, carina - 18), (12, y0 + 44, carina - 26), hilum[1.0]])
        self._tube(right, 10.5 * wide, constant(45), soft=True)
        for side in (-1.0, 1.0):
            h = hilum[side]
            self._tube([h, h + [side * 12, 8, 22]], [7 * wide, 3], constant(-150), soft=True)

    def _add_airways(self, y0: float) -> None:
        """Add trachea and main bronchi last, since their gas replaces everything else."""
        carina, hilum = self._carina, self._hilum
        shift = self._uniform(0, 7)
        r = self._uniform(7.0, 9.5) * (0.88 if self._female else 1.0)
        neck = self.spine(self.top + 60)
        course = [
            (neck[0], neck[1] + 34, self.top + 120),
            (neck[0], neck[1] + 30, self.top + 40),
            (shift * 0.6, y0 + 30, self._height(3)),
            (shift, y0 + 26, carina + 6),
        ]
        self._tube(spline(course, 3), r, constant(-1000), soft=True)
        fork = np.array([shift, y0 + 25, carina + 7])
        right = [fork, hilum[1.0] + [-14, -2, 12], hilum[1.0] + [2, -6, -8]]
        self._tube(right, [r * 0.82, r * 0.72, r * 0.5], constant(-1000), soft=True)
        left = [fork, hilum[-1.0] + [14, -4, -6], hilum[-1.0] + [-2, -8, -20]]
        self._tube(left, [r * 0.78, r * 0.66, r * 0.45], constant(-1000), soft=True)

    def _calcify(self, along: NDArray[np.float64], radius: float) -> None:
        for _ in range(int(self._rng.integers(2, 7))):
            i = int(self._rng.integers(0, len(along) - 1))
            angle = self._uniform(0, 2 * np.pi)
            at = along[i] + radius * np.array([np.cos(angle), 0.3, np.sin(angle)])
            density, size = self._uniform(300, 800), self._uniform(0.8, 2.0)
            self._tube([at, at + [self._uniform(-4, 4), self._uniform(-4, 4), self._uniform(-6, 6)]], size,
                       lambda palette, p, d, v=density: v)  # fmt: skip

    def _build_vessels(self) -> None:
        """Grow branching trees from the hila to the pleura; radii follow Murray's law."""
        for side in (-1.0, 1.0):
            h = self._hilum[side]
            lower = spline([h, h + [side * 8, -2, -22], h + [side * 17, -8, -46], h + [side * 20, -14, -72]], 3)
            for a, b, r in zip(lower[:-1], lower[1:], np.linspace(4.4, 2.0, len(lower) - 1), strict=True):
                if float(self._vessel_depth(side, (0.5 * (a + b))[None])[0]) < 2:
                    self.vessels.append(Vessel(a, b, float(r)))
            branches = self._draw_branches(side, lower)
            while branches:
                branches = self._grow(side, branches)

    def _vessel_depth(self, side: float, points: NDArray[np.float64]) -> Tensor:
        """Return how far points (n, 3) lie outside the lung, or inside the heart, in mm; negative within the lung."""
        x, y, z = (torch.as_tensor(c, dtype=torch.float32)[:, None, None] for c in points.T)
        return torch.maximum(self._lungs[side]((x, y, z)), -self._heart_distance((x, y, z))).flatten()

    def _draw_branches(self, side: float, lower: NDArray[np.float64]) -> list[Branch]:
        """Draw the first branches at a hilum: arteries, then veins, which run flatter and lower."""
        branches: list[Branch] = []
        for vein in (0, 1):
            for _ in range(13):
                up = self._uniform(-0.9, 0.8) if vein else self._uniform(-1.25, 1.0)
                way = np.array([side * self._uniform(0.25, 1.0), self._uniform(-0.8, 0.7), up])
                way /= np.linalg.norm(way)
                at = self._hilum[side] + [0, 8 * vein, -12 * vein] + 4 * way
                if up < -0.3:
                    at = lower[int(self._rng.integers(2, len(lower)))] + 2 * way
                branches.append((at, way, self._uniform(1.5, 2.9) * (1.1 if up < 0 else 0.85)))
        return branches

    def _grow(self, side: float, branches: list[Branch]) -> list[Branch]:
        """Add the vessels of one generation and return the branches of the next."""
        rng, count = self._rng, len(branches)
        ways = np.array([way for _, way, _ in branches]) + rng.normal(0, 0.17, (count, 3))
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        radii = np.array([radius for *_, radius in branches])
        starts = np.array([at for at, *_ in branches])
        tips = starts + (rng.uniform(7, 13, count) * (0.6 + 0.25 * radii))[:, None] * ways
        depths = self._vessel_depth(side, tips).tolist()
        following: list[Branch] = []
        for at, tip, way, radius, depth in zip(starts, tips, ways, radii.tolist(), depths, strict=True):
            if depth > (-3 if radius < 1.5 else 1):
                continue
            self.vessels.append(Vessel(at, tip, radius))
            following += self._divide(tip, way, radius)
        return following

    def _divide(self, tip: Vec, way: Vec, radius: float) -> list[Branch]:
        """Draw whether a vessel divides at its tip; branches thinner than 0.45 mm end."""
        if self._rng.random() < 0.5:
            share = self._uniform(0.3, 0.5)
            axis = np.cross(way, self._rng.normal(0, 1, 3))
            axis /= np.linalg.norm(axis)
            turns = ((share, self._uniform(0.5, 1.0)), (1 - share, -self._uniform(0.1, 0.35)))
            parts = [(tip, way + turn * axis, radius * part ** (1 / 2.7)) for part, turn in turns]
        else:
            parts = [(tip, way, radius * 0.96)]
        return [part for part in parts if part[2] > 0.45]
