"""The trunk: skin, fat, muscles, lungs, organs, bowel and large vessels."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.virtual.anatomy.column import ColumnBuilder
from osteo_monai.virtual.anatomy.shapes import Palette, Positions, Vec, fixed, spline
from osteo_monai.virtual.canvas import ellipsoid, smooth_max

L = VertebraLevel


class TrunkBuilder(ColumnBuilder):
    """Builds the soft tissues around a column."""

    half_width: float
    half_depth: float
    _middle: Vec
    _fat: float
    _arms: slice
    _lungs: list[int]
    _sway: list[float]
    _sway_z: tuple[float, float]
    _hindmost: float
    _rib_inset: float

    def _build_trunk(self) -> None:
        rng, person = self._rng, self.person
        bmi = person.weight_kg / (person.height_cm / 100) ** 2
        stature = person.height_cm / 168
        fat = float(np.clip(6 + (bmi - 19) * 1.7 + (4 if person.sex is Sex.FEMALE else 0) + rng.normal(0, 3), 4, 55))
        wall = self._uniform(9, 17)
        self.half_width = float(np.clip((148 + (bmi - 22) * 5.0 + rng.normal(0, 7)) * stature, 115, 240))
        self.half_depth = float(np.clip((98 + (bmi - 22) * 4.6 + rng.normal(0, 7)) * stature, 80, 190))
        back = self._uniform(70, 88) * self._scale + 0.55 * fat
        spine_y = self._fit_sway()
        self._middle = np.array([rng.normal(0, 3), spine_y - back + self.half_depth, 0.0])
        power = self._uniform(2.15, 2.9)
        self._fat = fat
        self._rib_inset = self._uniform(7, 11)
        taper, waist_z = self._uniform(0.0, 0.10), self.vertebrae[2].centre[2]
        top = self.vertebrae[-1].centre[2] + 20
        self._top, self._bottom = top, -220.0

        def trunk(inset: float) -> Callable[[Positions], Tensor]:
            a, b = self.half_width - inset, self.half_depth - inset

            def distance(p: Positions) -> Tensor:
                x, y, z = p[0] - float(self._middle[0]), p[1] - float(self._middle[1]), p[2]
                y = y - self._forward(z)
                scale = 1.0 - taper * torch.exp(-(((z - waist_z) / 70) ** 2))
                shoulder = ((z - (top - 110)) / 110).clamp(0.0, 1.3)
                scale = scale * (1.0 - 0.35 * shoulder * shoulder)
                reach = ((x.abs() / (a * scale)) ** power + (y.abs() / (b * scale)) ** power).clamp(min=1e-6)
                return (x * x + y * y).sqrt() * (1.0 - reach ** (-1 / power))

            return distance

        self._trunk = trunk
        box = [
            self._middle + [-self.half_width, -self.half_depth, self._bottom],
            self._middle + [self.half_width, self.half_depth, top + 60],
        ]
        self._box = box
        self._add(box, 2, trunk(0), fixed("skin"))
        self._add(box, 0, trunk(self._uniform(1.2, 2.2)), self._textured("adipose", 6, 9))
        self._add(box, 0, trunk(fat), self._textured("muscle", 10, 6))
        self._add(box, 0, trunk(fat + wall), self._textured("visceral_fat", 14, 7))
        arms_from = len(self.shapes)
        if rng.random() < 0.30:
            self._build_arms()
        if rng.random() < 0.35:
            self._build_wires()
        self._arms = slice(arms_from, len(self.shapes))

    def _build_arms(self) -> None:
        """Arms at the sides."""
        for side in (-1.0, 1.0):
            x = self._middle[0] + side * (self.half_width + self._uniform(35, 60))
            y = self._middle[1] + self._uniform(-50, 30)
            a, b = (x, y, self._bottom), (x + side * 10, y, self._top)
            self._rod(a, b, self._uniform(34, 48), fixed("adipose"))
            self._rod(a, b, self._uniform(26, 32), self._textured("muscle", 8, 7))
            self._rod(a, b, self._uniform(9, 12), lambda palette, p, d: palette.bone(900.0))
            self._rod(a, b, self._uniform(4, 6), fixed("yellow_marrow"))

    def _build_wires(self) -> None:
        """Leads and lines on the skin in front and at the sides."""
        for _ in range(int(self._rng.integers(1, 4))):
            angle, drift = self._uniform(0.25 * np.pi, 1.75 * np.pi), self._uniform(-0.5, 0.5)
            low, high = sorted(self._uniform(self._bottom, self._top) for _ in range(2))
            points = []
            for share in (0.0, 0.5, 1.0):
                turn = angle + drift * share
                x = self._middle[0] + (self.half_width + 3) * np.sin(turn)
                y = self._middle[1] - (self.half_depth + 3) * np.cos(turn)
                points.append(np.array([x, y, low + share * (high - low)]))
            curve = spline(points, 4)
            radius = np.full(len(curve), self._uniform(0.6, 1.4))
            self._pipe(curve, radius, lambda palette, p, d: palette.solid("titanium"))

    def _fit_sway(self) -> float:
        """Fit the column's course from back to front; return the y in mm of its hindmost part."""
        z = np.array([v.centre[2] for v in self.vertebrae])
        y = np.array([v.centre[1] for v in self.vertebrae])
        self._sway = [float(c) for c in np.polyfit(z / 100.0, y, 4)]
        self._sway_z = (float(z[0]), float(z[-1]))
        self._hindmost = float(np.polyval(self._sway, z / 100.0).min())
        return self._hindmost

    def _forward(self, z: Tensor) -> Tensor:
        """How far the trunk's section at height ``z`` lies before the hindmost one, mm: it follows the column."""
        at = z.clamp(*self._sway_z) / 100.0
        y = torch.full_like(at, self._sway[0])
        for c in self._sway[1:]:
            y = y * at + c
        return 0.75 * (y - self._hindmost).clamp(min=0)

    def _build_organs(self) -> None:
        rng = self._rng
        z = {v.level: float(v.centre[2]) for v in self.vertebrae}
        t12, l1, l2 = (z[level] for level in (L.T12, L.L1, L.L2))
        t10 = z[L.T10]
        inset = self._fat + self._uniform(10, 16)
        cavity = self._trunk(inset)
        a, b = self.half_width - inset, self.half_depth - inset
        mx, my = float(self._middle[0]), float(self._middle[1] + self._forward(torch.tensor(l1)))
        dome_z = {s: t10 + self._uniform(-22, 28) + (8 if s > 0 else 0) for s in (-1.0, 1.0)}
        drop = self._uniform(45, 95)
        recess = self._uniform(20, 80)

        def dome(side: float) -> Callable[[Positions], Tensor]:
            """Height above the diaphragm, mm."""

            def above(p: Positions) -> Tensor:
                dx, dy = (p[0] - mx - side * 0.45 * a) / (0.65 * a), (p[1] - my - 8) / b
                surface = dome_z[side] - drop * (dx * dx + dy * dy) - recess * (-dy).clamp(min=0) ** 2
                return p[2] - surface

            return above

        # mediastinum first, then lungs on both sides of it
        chest = [self._middle + [-a, -b, t12 - 90], self._middle + [a, b, self._top]]
        self._add(
            chest,
            0,
            lambda p: smooth_max(cavity(p), 0.7 * (dome_z[1.0] - 15 - p[2]), 4),
            self._textured("mediastinum", 12, 8),
        )
        centre_y = self._at(t10)[1]
        self._lungs = []
        for side in (-1.0, 1.0):
            above = dome(side)
            inner, gutter = self._uniform(14, 30), self._uniform(0, 14)
            vessel_shift = self._uniform(0, 40)

            def lung(
                p: Positions,
                side: float = side,
                above: Callable[[Positions], Tensor] = above,
                inner: float = inner,
                gutter: float = gutter,
            ) -> Tensor:
                x = side * (p[0] - mx)
                # the medial border: at the column behind, at the heart in front
                medial = inner + gutter + 14 * torch.sigmoid((p[1] - float(centre_y) - 25) / 10)
                d = smooth_max(cavity(p), 0.72 * (4.0 - above(p)), 5)
                return smooth_max(d, medial - x, 5)

            def air(palette: Palette, p: Positions, d: Tensor, shift: float = vessel_shift) -> Tensor:
                grain = self._noise(p, 3.5, shift)
                return palette.tissue("lung") + 40 * grain + 650 * (grain > 2.3)

            self._lungs.append(len(self.shapes))
            self._add(chest, 0, lung, air)
        # the heart may touch the column, but for the gullet and the aorta between them
        radii = (self._uniform(48, 62), self._uniform(38, 48), self._uniform(44, 56))
        front = float(self._at(z[L.T8])[1]) + self.vertebra(L.T8).front
        heart = [mx - self._uniform(12, 32), front + self._uniform(1, 26) + radii[1], z[L.T9] + self._uniform(5, 35)]
        self._add(
            [heart], max(radii), lambda p: smooth_max(ellipsoid(p, heart, radii), cavity(p) + 4, 5), fixed("heart")
        )
        # the liver hangs under the right dome, the spleen and stomach under the left one
        right, left = dome(1.0), dome(-1.0)
        liver_end = self._uniform(0.35, 0.75)
        tip = l2 + self._uniform(-40, 30)
        self._add(
            [[mx - 60, my - b, tip - 30], [mx + a, my + b, dome_z[1.0] + 10]],
            0,
            lambda p: smooth_max(
                smooth_max(cavity(p) + 3, 0.75 * right(p), 6),
                ellipsoid(
                    p,
                    (mx + liver_end * a, my + 0.05 * b, 0.5 * (tip + dome_z[1.0])),
                    (0.95 * a, 1.15 * b, 0.62 * (dome_z[1.0] - tip) + 25),
                ),
                8,
            ),
            self._textured("liver", 6, 5),
        )
        spleen = [mx - 0.72 * a, my - 0.42 * b + rng.normal(0, 5), t12 + self._uniform(-15, 25)]
        self._add(
            [spleen],
            75,
            lambda p: smooth_max(smooth_max(cavity(p) + 4, 0.75 * left(p), 4), ellipsoid(p, spleen, (30, 44, 52)), 4),
            self._textured("spleen", 5, 5),
        )
        stomach = [mx - 0.38 * a, my + 0.25 * b, t12 + self._uniform(-25, 15)]
        fill, level_y = self._uniform(0, 1), stomach[1] + self._uniform(-10, 30)

        def gastric(palette: Palette, p: Positions, d: Tensor) -> Tensor:
            content = palette.tissue("oral_contrast") if fill < 0.25 else palette.tissue("bowel_fluid")
            gas = torch.tensor(palette.tissue("air"))
            inside = torch.where(p[1] > level_y, gas, torch.tensor(content))
            return torch.where(d > -3.0, torch.tensor(palette.tissue("muscle")), inside)

        radii = (self._uniform(30, 50), self._uniform(28, 45), self._uniform(35, 60))
        self._add([stomach], max(radii), lambda p: smooth_max(ellipsoid(p, stomach, radii), 0.75 * left(p), 4), gastric)
        for side in (-1.0, 1.0):
            at = self._at(l1 if side < 0 else l1 - 10)
            offset = (self._uniform(52, 66) + 0.12 * (a - 120)) * self._scale
            centre = [
                at[0] + side * offset,
                at[1] - self._uniform(-4, 16),
                l1 - self._uniform(-12, 34) - (8 if side > 0 else 0),
            ]
            self._blob(centre, (36, 38, 66), self._textured("visceral_fat", 12, 6))
            size = (self._uniform(23, 29), self._uniform(26, 33), self._uniform(46, 58))
            self._blob(centre, size, self._textured("kidney", 8, 7))
            hilum = [centre[0] - side * 14, centre[1] + 5, centre[2]]
            self._blob(hilum, (11, 9, 20), fixed("visceral_fat"))
        pancreas = self._at(l1) + [self._uniform(-20, 10), self._uniform(45, 70), self._uniform(-10, 15)]
        self._blob(pancreas, (55, 13, 14), self._textured("pancreas", 14, 5))
        # bowel: loops with fluid, gas, stool or contrast
        for _ in range(int(rng.integers(16, 34))):
            zc = self._uniform(-90, t12)
            low_y = float(self._at(np.clip(zc, 0, None))[1]) + 38
            centre = [mx + self._uniform(-0.8, 0.8) * a, self._uniform(low_y, max(low_y + 5, my + 0.8 * b)), zc]
            if abs(centre[0] - mx) > 0.55 * a:
                centre[1] = self._uniform(my - 0.35 * b, my + 0.6 * b)
            r = self._uniform(10, 27)
            kind, cut = self._uniform(0, 1), centre[1] + self._uniform(-0.6, 0.9) * r
            wall, shift = self._uniform(1.5, 3.5), self._uniform(0, 40)

            def content(
                palette: Palette,
                p: Positions,
                d: Tensor,
                kind: float = kind,
                cut: float = cut,
                wall: float = wall,
                shift: float = shift,
            ) -> Tensor:
                fluid = torch.tensor(palette.tissue("oral_contrast" if kind < 0.15 else "bowel_fluid"))
                air = torch.tensor(palette.tissue("air"))
                if kind < 0.55:
                    inside = torch.where(p[1] > cut, air, fluid)
                elif kind < 0.75:
                    inside = fluid - 250.0 * (self._noise(p, 5.0, shift) > 0.6)
                else:
                    inside = fluid
                if getattr(palette, "smooth", False):  # a coarse grid needs a gradual inner edge
                    return inside + (palette.tissue("muscle") - inside) * (0.5 + (d + wall) / 6.0).clamp(0, 1)
                return torch.where(d > -wall, torch.tensor(palette.tissue("muscle")), inside)

            radii = (r, r * self._uniform(0.8, 1.2), r * self._uniform(0.9, 2.2))

            def loop(p: Positions, c: Sequence[float] = centre, q: tuple[float, float, float] = radii) -> Tensor:
                return smooth_max(ellipsoid(p, c, q), cavity(p) + 2, 3)

            self._add([centre], max(radii), loop, content)

    def _build_muscles(self) -> None:
        bulk = self._uniform(0.75, 1.2) * (0.9 if self.person.sex is Sex.FEMALE else 1.0)
        infiltration = float(np.clip((self.person.age_years - 30) / 60, 0, 1)) * self._uniform(0, 60)
        flesh = self._textured("muscle", 8 + infiltration, 5)
        column = list(self.vertebrae)
        for side in (-1.0, 1.0):
            gap, thick = self._uniform(2.5, 5.0), self._uniform(19, 26) * bulk
            back = [v.world(side * (gap + thick), -v.back - 27 * self._scale - 0.25 * thick, 0) for v in column]
            low = [self.sacrum_frame @ np.array([side * 26.0, -42.0, -60.0])]
            points = low + back
            self._tube(
                points,
                [14.0] + [thick * (1.0 - 0.035 * abs(i - 3)) for i in range(len(back))],
                flesh,
                stretch=(1.25, 0.95, 1),
            )
            lateral = [p + np.array([side * 26.0, 8.0, 0]) for p in points]
            self._tube(lateral, [11.0] + [0.68 * thick] * len(back), flesh, stretch=(1.2, 0.9, 1))
            lumbar = [v for v in column if v.level.startswith("L") or v.level is L.T12][::-1]
            size = np.linspace(5.0, self._uniform(17, 25) * bulk, len(lumbar))
            psoas = [
                v.world(side * (v.half_width + 0.55 * r), -0.10 * v.back - 0.12 * r, 0)
                for v, r in zip(lumbar, size, strict=True)
            ]
            end = psoas[-1] + np.array([side * 32.0, 25.0, -85.0])
            self._tube([*psoas, end], [*size, size[-1]], flesh)
            if len(lumbar) > 2:
                quad = [v.world(side * (v.half_width + 26 + 6 * i), -v.back - 14, 0) for i, v in enumerate(lumbar[1:])]
                self._tube(quad, [7.0 + i * bulk for i in range(len(quad))], flesh, stretch=(1.5, 1, 1))
            crus = [v for v in column if v.level in (L.T11, L.T12, L.L1, L.L2)][::-1]
            thick = self._uniform(3.0, 7.0)
            path = [v.world(side * (15 - 2.5 * i) + 3, v.front + 1.5 + 0.5 * thick, 0) for i, v in enumerate(crus)]
            self._tube(path, [thick] * len(path), flesh, stretch=(1.2, 1, 1))

    def _build_vessels(self) -> None:
        rng = self._rng
        age = self.person.age_years
        radius = self._uniform(8, 11.5) + 0.04 * (age - 50)
        left = self._uniform(4, 16)
        column = [v for v in self.vertebrae if v.level not in (L.L5, L.L6)][::-1]
        fat = self._uniform(14, 36)
        front = [v.world(self._uniform(-6, 6), v.front + 0.7 * fat, 0) for v in column if v.level.startswith("L")]
        self._tube(front, [fat] * len(front), self._textured("visceral_fat", 14, 6), stretch=(1.3, 1, 1))
        path = []
        for v in column:
            thoracic = float(np.clip((v.centre[2] - self.vertebra(L.T12).centre[2]) / 60, 0, 1))
            path.append(
                v.world(
                    -left - 14 * thoracic + rng.normal(0, 1.5),
                    v.front * (1 - 0.35 * thoracic) + radius + self._uniform(0.5, 5),
                    0,
                )
            )
        self._tube(path, [radius + 1.0] * len(path), fixed("muscle"))
        self._tube(path, [radius] * len(path), fixed("aorta"))
        plaques = int(rng.poisson(max(age - 45, 0) * 0.3))
        for _ in range(plaques):
            i = int(rng.integers(0, len(path) - 1))
            t, angle = self._uniform(0, 1), self._uniform(0, 2 * np.pi)
            at = path[i] * (1 - t) + path[i + 1] * t + radius * np.array([np.cos(angle), np.sin(angle), 0])
            size, mineral = self._uniform(0.7, 2.8), self._uniform(250, 800)

            def plaque(palette: Palette, p: Positions, d: Tensor, m: float = mineral) -> float | Tensor:
                return palette.bone(m)

            self._rod(at, at + [0, 0, self._uniform(0, 6)], size, plaque, mineral=True)
        fork = path[-1]
        for side in (-1.0, 1.0):
            self._rod(fork, fork + [side * 42, -5, -75], 6.0, fixed("aorta"))
        bore = self._uniform(7.5, 12.5)
        flat = self._uniform(0.6, 1.0)
        cava = [
            v.world(self._uniform(15, 22) * self._scale, v.front + bore * flat * self._uniform(0.5, 0.9) + 1.5, 0)
            for v in column
            if v.level.startswith("L") or v.level in (L.T12, L.T11, L.T10)
        ]
        self._tube(cava, [bore] * len(cava), fixed("cava"), stretch=(1, flat, 1))
        self._rod(cava[-1], cava[-1] + [35, -8, -80], 7.0, fixed("cava"))
        self._rod(cava[-1], cava[-1] + [-50, -8, -85], 7.0, fixed("cava"))
        middle = self._at(self.vertebra(L.L1).centre[2])
        for side in (-1.0, 1.0):  # renal veins
            self._rod(
                middle + [side * 8, 26, -8], middle + [side * 50, 4, -14 + self._uniform(-6, 6)], 4.5, fixed("cava")
            )
        gullet = [
            v.world(self._uniform(-6, 4), v.front + self._uniform(14, 20), 0) for v in column if v.level.startswith("T")
        ]
        self._tube(gullet, [6.0] * len(gullet), fixed("muscle"))
