"""The trunk: skin, fat, muscles, lungs, organs, bowel and large vessels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.virtual.anatomy.column import ColumnBuilder
from osteo_monai.virtual.anatomy.shapes import Palette, Positions, Texture, Vec, fixed, spline
from osteo_monai.virtual.canvas import ellipsoid, shared, smooth_max

L = VertebraLevel


@dataclass(frozen=True)
class _Cavity:
    """Inner surface of the trunk's wall and the diaphragm; lengths in mm.

    Attributes:
        inside: distance to the wall, negative inside.
        x, y: middle of the trunk at L1.
        dome: height of the dome of the diaphragm on the left (-1) and on the right (1).
        drop, recess: fall of the diaphragm towards its border, and behind.
    """

    inside: Callable[[Positions], Tensor]
    half_width: float
    half_depth: float
    x: float
    y: float
    dome: Mapping[float, float]
    drop: float
    recess: float

    def above_dome(self, p: Positions, side: float) -> Tensor:
        """Return the height above the diaphragm."""
        dx = (p[0] - self.x - side * 0.45 * self.half_width) / (0.65 * self.half_width)
        dy = (p[1] - self.y - 8) / self.half_depth
        surface = self.dome[side] - self.drop * (dx * dx + dy * dy) - self.recess * (-dy).clamp(min=0) ** 2
        return p[2] - surface


class TrunkBuilder(ColumnBuilder):
    """Build the soft tissues around a column."""

    half_width: float
    half_depth: float
    _middle: Vec
    _fat: float
    _arms: slice
    _lungs: list[int]
    _loop_radii: tuple[float, float, float]
    """Radii in mm of the last bowel loop. Heart and stomach have them too, within the boxes of their own radii: a
    defect of the first release that is kept, because every published virtual scan depends on it."""
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

        def section(p: Positions) -> Tensor:
            """Return what all insets have in common: powers of the relative x and y, and the radius."""
            x, y, z = p[0] - float(self._middle[0]), p[1] - float(self._middle[1]), p[2]
            y = y - self._forward(z)
            scale = 1.0 - taper * torch.exp(-(((z - waist_z) / 70) ** 2))
            shoulder = ((z - (top - 110)) / 110).clamp(0.0, 1.3)
            scale = scale * (1.0 - 0.35 * shoulder * shoulder)
            width, depth = self.half_width * scale, self.half_depth * scale
            powers = (x.abs() / width) ** power, (y.abs() / depth) ** power
            return torch.stack(torch.broadcast_tensors(*powers, (x * x + y * y).sqrt()))

        def trunk(inset: float) -> Callable[[Positions], Tensor]:
            a, b = ((half / (half - inset)) ** power for half in (self.half_width, self.half_depth))

            def surface(p: Positions) -> Tensor:
                x, y, radius = shared(p, section)
                reach = (a * x).add_(b * y).clamp_(min=1e-6)
                share: Tensor = reach.pow_(-1 / power).neg_().add_(1.0)
                return share.mul_(radius)

            return lambda p: shared(p, surface)

        self._trunk = trunk
        box = [
            self._middle + [-self.half_width, -self.half_depth, self._bottom],
            self._middle + [self.half_width, self.half_depth, top + 60],
        ]
        self._box = box
        self._add(box, 2, trunk(0), fixed("skin"))
        flesh, cavity = trunk(fat), trunk(fat + wall)
        self._add(box, 0, trunk(self._uniform(1.2, 2.2)), self._textured("adipose", 6, 9), hidden=flesh)
        self._add(box, 0, flesh, self._textured("muscle", 10, 6), hidden=cavity)
        self._add(box, 0, cavity, self._textured("visceral_fat", 14, 7))
        arms_from = len(self.shapes)
        if rng.random() < 0.30:
            self._build_arms()
        if rng.random() < 0.35:
            self._build_wires()
        self._arms = slice(arms_from, len(self.shapes))

    def _build_arms(self) -> None:
        """Add arms at the sides."""
        for side in (-1.0, 1.0):
            x = self._middle[0] + side * (self.half_width + self._uniform(35, 60))
            y = self._middle[1] + self._uniform(-50, 30)
            a, b = (x, y, self._bottom), (x + side * 10, y, self._top)
            self._rod(a, b, self._uniform(34, 48), fixed("adipose"))
            self._rod(a, b, self._uniform(26, 32), self._textured("muscle", 8, 7))
            self._rod(a, b, self._uniform(9, 12), lambda palette, p, d: palette.bone(900.0))
            self._rod(a, b, self._uniform(4, 6), fixed("yellow_marrow"))

    def _build_wires(self) -> None:
        """Add leads and lines on the skin in front and at the sides."""
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
        """Fit the course of the column from back to front; return the y in mm of its hindmost part."""
        z = np.array([v.centre[2] for v in self.vertebrae])
        y = np.array([v.centre[1] for v in self.vertebrae])
        self._sway = [float(c) for c in np.polyfit(z / 100.0, y, 4)]
        self._sway_z = (float(z[0]), float(z[-1]))
        self._hindmost = float(np.polyval(self._sway, z / 100.0).min())
        return self._hindmost

    def _forward(self, z: Tensor) -> Tensor:
        """Return how far in mm the section of the trunk at height ``z`` is before the hindmost one: it follows the
        column.
        """
        at = z.clamp(*self._sway_z) / 100.0
        y = torch.full_like(at, self._sway[0])
        for c in self._sway[1:]:
            y = y * at + c
        return 0.75 * (y - self._hindmost).clamp(min=0)

    def _build_organs(self) -> None:
        cavity = self._draw_cavity()
        organs = (
            self._add_mediastinum,
            self._add_lungs,  # on both sides of the mediastinum
            self._add_heart,
            self._add_liver,
            self._add_spleen,
            self._add_stomach,
            self._add_kidneys,
            self._add_pancreas,
            self._add_bowel,
        )
        for add_organ in organs:
            add_organ(cavity)

    def _height(self, level: VertebraLevel) -> float:
        """Return the z in mm of the centre of a body."""
        return float(self.vertebra(level).centre[2])

    def _draw_cavity(self) -> _Cavity:
        inset = self._fat + self._uniform(10, 16)
        middle_y = float(self._middle[1] + self._forward(torch.tensor(self._height(L.L1))))
        t10 = self._height(L.T10)
        return _Cavity(
            inside=self._trunk(inset),
            half_width=self.half_width - inset,
            half_depth=self.half_depth - inset,
            x=float(self._middle[0]),
            y=middle_y,
            dome={s: t10 + self._uniform(-22, 28) + (8 if s > 0 else 0) for s in (-1.0, 1.0)},
            drop=self._uniform(45, 95),
            recess=self._uniform(20, 80),
        )

    def _chest_box(self, c: _Cavity) -> list[Vec]:
        low = self._middle + [-c.half_width, -c.half_depth, self._height(L.T12) - 90]
        return [low, self._middle + [c.half_width, c.half_depth, self._top]]

    def _add_mediastinum(self, c: _Cavity) -> None:
        self._add(
            self._chest_box(c),
            0,
            lambda p: smooth_max(c.inside(p), 0.7 * (c.dome[1.0] - 15 - p[2]), 4),
            self._textured("mediastinum", 12, 8),
        )

    def _add_lungs(self, c: _Cavity) -> None:
        self._lungs = []
        for side in (-1.0, 1.0):
            self._lungs.append(len(self.shapes))
            self._add_lung(c, side)

    def _add_lung(self, c: _Cavity, side: float) -> None:
        inner, gutter = self._uniform(14, 30), self._uniform(0, 14)
        shift = self._uniform(0, 40)
        column_y = float(self._at(self._height(L.T10))[1])

        def lung(p: Positions) -> Tensor:
            x = side * (p[0] - c.x)
            # the medial border: at the column behind, at the heart in front
            medial = inner + gutter + 14 * torch.sigmoid((p[1] - column_y - 25) / 10)
            d = smooth_max(c.inside(p), 0.72 * (4.0 - c.above_dome(p, side)), 5)
            return smooth_max(d, medial - x, 5)

        def air(palette: Palette, p: Positions, d: Tensor) -> Tensor:
            grain = self._noise(p, 3.5, shift)
            return palette.tissue("lung") + 40 * grain + 650 * (grain > 2.3)

        self._add(self._chest_box(c), 0, lung, Texture(air))

    def _add_heart(self, c: _Cavity) -> None:
        """Add the heart, which may touch the column, but for the oesophagus and the aorta between them."""
        radii = (self._uniform(48, 62), self._uniform(38, 48), self._uniform(44, 56))
        front = float(self._at(self._height(L.T8))[1]) + self.vertebra(L.T8).front
        x, y = c.x - self._uniform(12, 32), front + self._uniform(1, 26) + radii[1]
        heart = [x, y, self._height(L.T9) + self._uniform(5, 35)]
        self._add(
            [heart],
            max(radii),
            lambda p: smooth_max(ellipsoid(p, heart, self._loop_radii), c.inside(p) + 4, 5),
            fixed("heart"),
        )

    def _add_liver(self, c: _Cavity) -> None:
        a, b, top = c.half_width, c.half_depth, c.dome[1.0]
        end = self._uniform(0.35, 0.75)
        tip = self._height(L.L2) + self._uniform(-40, 30)
        centre = (c.x + end * a, c.y + 0.05 * b, 0.5 * (tip + top))
        radii = (0.95 * a, 1.15 * b, 0.62 * (top - tip) + 25)

        def liver(p: Positions) -> Tensor:
            below = smooth_max(c.inside(p) + 3, 0.75 * c.above_dome(p, 1.0), 6)
            return smooth_max(below, ellipsoid(p, centre, radii), 8)

        box = [[c.x - 60, c.y - b, tip - 30], [c.x + a, c.y + b, top + 10]]
        self._add(box, 0, liver, self._textured("liver", 6, 5))

    def _add_spleen(self, c: _Cavity) -> None:
        y = c.y - 0.42 * c.half_depth + self._rng.normal(0, 5)
        spleen = [c.x - 0.72 * c.half_width, y, self._height(L.T12) + self._uniform(-15, 25)]

        def distance(p: Positions) -> Tensor:
            below = smooth_max(c.inside(p) + 4, 0.75 * c.above_dome(p, -1.0), 4)
            return smooth_max(below, ellipsoid(p, spleen, (30, 44, 52)), 4)

        self._add([spleen], 75, distance, self._textured("spleen", 5, 5))

    def _add_stomach(self, c: _Cavity) -> None:
        z = self._height(L.T12) + self._uniform(-25, 15)
        stomach = [c.x - 0.38 * c.half_width, c.y + 0.25 * c.half_depth, z]
        fill, level_y = self._uniform(0, 1), stomach[1] + self._uniform(-10, 30)

        def content(palette: Palette, p: Positions, d: Tensor) -> Tensor:
            fluid = palette.tissue("oral_contrast") if fill < 0.25 else palette.tissue("bowel_fluid")
            gas = torch.tensor(palette.tissue("air"))
            inside = torch.where(p[1] > level_y, gas, torch.tensor(fluid))
            return torch.where(d > -3.0, torch.tensor(palette.tissue("muscle")), inside)

        radii = (self._uniform(30, 50), self._uniform(28, 45), self._uniform(35, 60))
        self._add(
            [stomach],
            max(radii),
            lambda p: smooth_max(ellipsoid(p, stomach, self._loop_radii), 0.75 * c.above_dome(p, -1.0), 4),
            content,
        )

    def _add_kidneys(self, c: _Cavity) -> None:
        l1 = self._height(L.L1)
        for side in (-1.0, 1.0):
            at = self._at(l1 if side < 0 else l1 - 10)
            offset = (self._uniform(52, 66) + 0.12 * (c.half_width - 120)) * self._scale
            y = at[1] - self._uniform(-4, 16)
            centre = [at[0] + side * offset, y, l1 - self._uniform(-12, 34) - (8 if side > 0 else 0)]
            self._blob(centre, (36, 38, 66), self._textured("visceral_fat", 12, 6))
            size = (self._uniform(23, 29), self._uniform(26, 33), self._uniform(46, 58))
            self._blob(centre, size, self._textured("kidney", 8, 7))
            hilum = [centre[0] - side * 14, centre[1] + 5, centre[2]]
            self._blob(hilum, (11, 9, 20), fixed("visceral_fat"))

    def _add_pancreas(self, c: _Cavity) -> None:
        offset = [self._uniform(-20, 10), self._uniform(45, 70), self._uniform(-10, 15)]
        self._blob(self._at(self._height(L.L1)) + offset, (55, 13, 14), self._textured("pancreas", 14, 5))

    def _add_bowel(self, c: _Cavity) -> None:
        for _ in range(int(self._rng.integers(16, 34))):
            self._add_bowel_loop(c)

    def _add_bowel_loop(self, c: _Cavity) -> None:
        """Add one loop with fluid, gas, stool or contrast agent."""
        z = self._uniform(-90, self._height(L.T12))
        low_y = float(self._at(np.clip(z, 0, None))[1]) + 38
        x = c.x + self._uniform(-0.8, 0.8) * c.half_width
        centre = [x, self._uniform(low_y, max(low_y + 5, c.y + 0.8 * c.half_depth)), z]
        if abs(centre[0] - c.x) > 0.55 * c.half_width:
            centre[1] = self._uniform(c.y - 0.35 * c.half_depth, c.y + 0.6 * c.half_depth)
        r = self._uniform(10, 27)
        kind, cut = self._uniform(0, 1), centre[1] + self._uniform(-0.6, 0.9) * r
        wall, shift = self._uniform(1.5, 3.5), self._uniform(0, 40)

        def content(palette: Palette, p: Positions, d: Tensor) -> Tensor:
            fluid = torch.tensor(palette.tissue("oral_contrast" if kind < 0.15 else "bowel_fluid"))
            if kind < 0.55:
                inside = torch.where(p[1] > cut, torch.tensor(palette.tissue("air")), fluid)
            elif kind < 0.75:
                inside = fluid - 250.0 * (self._noise(p, 5.0, shift) > 0.6)
            else:
                inside = fluid
            if getattr(palette, "smooth", False):  # a coarse grid needs a gradual inner edge
                return inside + (palette.tissue("muscle") - inside) * (0.5 + (d + wall) / 6.0).clamp(0, 1)
            return torch.where(d > -wall, torch.tensor(palette.tissue("muscle")), inside)

        radii = (r, r * self._uniform(0.8, 1.2), r * self._uniform(0.9, 2.2))
        self._loop_radii = radii
        self._add([centre], max(radii), lambda p: smooth_max(ellipsoid(p, centre, radii), c.inside(p) + 2, 3), content)

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
