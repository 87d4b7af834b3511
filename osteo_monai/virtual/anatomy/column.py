"""The vertebral column: places and forms of the vertebrae, discs, canal and hardware."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.virtual.anatomy.arch import arch_distance, compactness, draw_arch
from osteo_monai.virtual.anatomy.shapes import Builder, Palette, Positions, Texture, Value, Vec, fixed, spline
from osteo_monai.virtual.anatomy.vertebra import BODY_SIZE_MM, TILT_DEGREES, Vertebra, rotation, sequence
from osteo_monai.virtual.canvas import capsule, smooth_max
from osteo_monai.virtual.person import Person, Variant

L = VertebraLevel

Beaks = tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]
"""Osteophytes of the lower and upper rim: size (share of the half-width), direction (radians from the right,
forward)."""


def _spikes(angle: Tensor, rim: Sequence[tuple[float, float]]) -> Tensor:
    """Return the extent of the osteophytes of a rim at each ``angle``, as a share of the half-width of the body."""
    out = torch.zeros_like(angle)
    for size, at in rim:
        out += size * torch.exp(6.0 * (torch.cos(angle - at) - 1.0))  # half the extent at 28 degrees
    return out


class ColumnBuilder(Builder):
    """Build vertebrae, discs, canal and hardware."""

    person: Person
    vertebrae: list[Vertebra]
    sacrum_frame: NDArray[np.float64]
    _scale: float
    _rib_reach: dict[VertebraLevel, tuple[float, float]]

    def vertebra(self, level: VertebraLevel) -> Vertebra:
        """Return the body of ``level``; raise ``KeyError`` if this spine has none."""
        for vertebra in self.vertebrae:
            if vertebra.level == level:
                return vertebra
        raise KeyError(f"this spine has no {level}")

    def _at(self, z: float) -> Vec:
        """Return the centre of the column at height ``z``, by linear interpolation between the bodies."""
        zs = [v.centre[2] for v in self.vertebrae]
        return np.array([np.interp(z, zs, [v.centre[i] for v in self.vertebrae]) for i in range(3)])

    def _build_column(self) -> None:
        rng, variants = self._rng, self.person.variants
        curve = self._uniform(0.55, 1.35)
        aged = float(np.clip((self.person.age_years - 35) / 50, 0, 1))
        kyphosis = self._uniform(0.7, 1.3) + 0.5 * aged * self._uniform(0, 1)
        pitch0 = rng.normal(0, 4.0)
        # half of the Cobb angle in degrees
        scoliosis = self._uniform(7, 16) if Variant.SCOLIOSIS in variants else min(abs(rng.normal(0, 2.6)), 5.5)
        phase, period = self._uniform(0, 2 * np.pi), self._uniform(7, 12)
        fractured: dict[VertebraLevel, float] = {}
        if Variant.WEDGE_FRACTURE in variants:
            level = (L.T11, L.T12, L.L1, L.L1, L.L2, L.L3)[int(rng.integers(6))]
            fractured[level] = self._uniform(0.25, 0.45)
        degenerate = float(np.clip((self.person.age_years - 35) / 60, 0, 0.6)) * self._uniform(0, 1)
        foot = np.zeros(3)
        for index, level in enumerate(sequence(variants)):
            width, depth, height, disc = (self._scale * s * (1 + rng.normal(0, 0.025)) for s in BODY_SIZE_MM[level])
            disc *= 1 - degenerate * self._uniform(0, 1)
            if rng.random() < 0.12 * aged:  # one that has lost most of its height
                disc = max(0.55 * disc, 2.0)
            bent = TILT_DEGREES[level]
            if level.startswith("T"):
                bent = TILT_DEGREES[L.T12] + kyphosis * (bent - TILT_DEGREES[L.T12])
            tilt = pitch0 + curve * (bent + rng.normal(0, 1.5))
            roll = scoliosis * np.sin(phase + 2 * np.pi * index / period) + rng.normal(0, 0.7)
            yaw = 0.5 * scoliosis * np.cos(phase + 2 * np.pi * index / period) + rng.normal(0, 1.0)
            frame = rotation(tilt, roll, yaw)
            up = frame[:, 2]
            centre = foot + up * (disc + height / 2)
            self.vertebrae.append(
                Vertebra(
                    level,
                    centre,
                    frame,
                    width / 2,
                    0.56 * depth,
                    0.44 * depth,
                    height,
                    disc,
                    self.person.density[level],
                    fractured.get(level, 0.0),
                )
            )
            foot = centre + up * height / 2
        self.sacrum_frame = rotation(pitch0 + curve * 38 + rng.normal(0, 4), rng.normal(0, 2), 0)
        self._body_distance: dict[VertebraLevel, Callable[[Positions], Tensor]] = {}
        self._cortex: dict[VertebraLevel, float] = {}
        self._beak: dict[VertebraLevel, Beaks] = {}
        self._build_person_bone(aged)

    def _build_person_bone(self, aged: float) -> None:
        """Draw the common properties of all bodies of a person; ``aged`` is 0 at 35 years and 1 at 85."""
        self._osteophytes = Variant.OSTEOPHYTES in self.person.variants
        self._beaks = self._uniform(0.4, 1.0) if self._osteophytes else 0.6 * aged * self._uniform(0, 1)
        """Extent of osteophytes of this person: 1 for up to a third of the half-width of the body."""
        self._beak_side = self._uniform(0, np.pi)
        self._sclerosis = self._uniform(0.2, 1.2) if self._osteophytes else 0.8 * aged * self._uniform(0, 1)
        self._cortex_mm, self._cortex_mg = self._uniform(0.70, 1.05), self._uniform(540, 740)
        self._arch_mm, self._arch_mg, self._arch_spongy = (
            self._uniform(1.2, 1.9),
            self._uniform(720, 930),
            self._uniform(1.2, 1.9),
        )
        self._plate_share = self._uniform(0.54, 0.84)
        """Density of end plates relative to that of the side walls."""
        self._plate_rise = self._uniform(0.45, 1.10)
        """Relative increase of trabecular density below an end plate, for a density of 150 mg/cm3."""

    def _make_body_distance(self, v: Vertebra) -> Callable[[Positions], Tensor]:
        """Return the distance to a body with concave waist, posterior wall and end plates, osteophytes and
        irregularity.
        """
        rng = self._rng
        waist = self._uniform(0.05, 0.13)
        dish = self._uniform(0.04, 0.11) * v.height
        front_power, back_power = self._uniform(2.1, 2.6), self._uniform(2.8, 4.5)
        hollow, hollow_radius = self._uniform(0.0, 3.0), self._uniform(13, 20)
        lumbar = v.level.startswith("L")
        rim = self._uniform(0.01, 0.07) if self._osteophytes else self._uniform(0.0, 0.035)
        lean = self._uniform(-0.04, 0.05) - (0.07 if lumbar and v.level in (L.L4, L.L5) else 0.0)
        harmonics = [(k, rng.normal(0, 0.013), self._uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4, 5)]
        beaks = self._draw_beaks()
        self._beak[v.level] = beaks
        half = v.height / 2
        node = self._draw_node(v)

        def distance(q: Positions) -> Tensor:
            u, y, w = q
            level = (w / half).abs().clamp(max=1.2)
            angle = torch.atan2(y, u)
            wobble = 1.0 + sum(a * torch.cos(k * angle + f) for k, a, f in harmonics)
            scale = wobble * (1.0 - waist * (1.0 - level * level).clamp(min=0))
            below, above = (_spikes(angle, rim) for rim in beaks)
            beak = torch.where(w < 0, below, above)
            scale = scale + (rim + beak) * torch.exp(-(((level - 0.98) * half / 2.6) ** 2))
            forward = y > 0
            depth = torch.where(forward, v.front, v.back) * scale
            power = torch.where(forward, front_power, back_power)
            reach = ((u.abs() / (v.half_width * scale)) ** power + (y.abs() / depth) ** power).clamp(min=1e-6)
            radius = (u * u + y * y).sqrt()
            side = radius * (1.0 - reach ** (-1.0 / power))
            if hollow > 0:
                cy = -v.back - hollow_radius + hollow
                side = smooth_max(side, hollow_radius - (u * u + (y - cy) ** 2).sqrt(), 2.0)
            rim_distance = (u / v.half_width) ** 2 + (y / v.front) ** 2
            top = half * (1.0 + lean * (y / v.front)) - dish * (1.0 - rim_distance).clamp(min=0)
            if node is not None:
                at, size, depth_mm, end = node
                hole = torch.exp(-((u - at[0]) ** 2 + (y - at[1]) ** 2) / size**2)
                top = top - depth_mm * hole * (end * w > 0)
            if v.fracture:
                loss = v.fracture * v.height * ((y + v.back) / (v.front + v.back)).clamp(0.0, 1.15)
                plate = torch.maximum(w - (top - 0.85 * loss), -w - (top - 0.15 * loss))
            else:
                plate = w.abs() - top
            return smooth_max(side, plate, 2.5)

        return distance

    def _draw_beaks(self) -> Beaks:
        """Draw the osteophytes of a body: on each rim one that is large or missing, and a smaller one.

        They point forward or to a side, not into the canal; mostly to the preferred side of the person.
        """
        rims = []
        for _ in range(2):
            present = self._rng.random() < 0.8
            large = self._beaks * self._uniform(0.06, 0.34) * present
            toward = float(np.clip(self._beak_side + self._rng.normal(0, 0.9), -0.4, np.pi + 0.4))
            small = self._beaks * self._uniform(0.0, 0.15)
            rims.append(((large, toward), (small, self._uniform(-0.35, np.pi + 0.35))))
        return rims[0], rims[1]

    def _draw_node(self, v: Vertebra) -> tuple[tuple[float, float], float, float, float] | None:
        """Draw a Schmorl node, one body in twelve: place, radius, depth (mm) and end (-1 the lower plate)."""
        if self._rng.random() > 1 / 12 or v.fracture:
            return None
        at = (self._uniform(-0.5, 0.5) * v.half_width, self._uniform(-0.6, 0.4) * v.back)
        return at, self._uniform(3, 6), self._uniform(2, 5), float(self._rng.choice([-1.0, 1.0]))

    def _build_vertebra(self, index: int, v: Vertebra) -> None:
        body = self._make_body_distance(v)
        self._body_distance[v.level] = body
        strength = float(np.clip(0.55 + 0.45 * v.density / 140.0, 0.55, 1.3))
        thickness = self._cortex_mm * (0.75 + 0.25 * strength) * self._uniform(0.92, 1.08)
        self._cortex[v.level] = thickness
        self._build_arch(index, v, strength)
        if index and self._beaks > 0.3 and self._rng.random() < 0.15:
            self._build_bridge(v, self.vertebrae[index - 1], strength)

        # the body last, so that it keeps its label
        half = v.height / 2
        wall = self._cortex_mg * strength * self._uniform(0.93, 1.07)
        plate = self._plate_share * self._cortex_mg * (0.4 + 0.6 * strength) * self._uniform(0.93, 1.07)

        def cortical(palette: Palette, p: Positions, d: Tensor) -> float | Tensor:
            u, y, w = v.local(p)
            inward = 1.0 - (u / v.half_width) ** 2 - (y / v.front) ** 2
            end = (5.0 * inward).clamp(0.0, 1.0) * (w.abs() > 0.45 * half)
            return palette.bone(wall + (plate - wall) * end)

        pattern, density = self._make_pattern(v), v.trabecular_density

        def trabecular(palette: Palette, p: Positions, d: Tensor) -> float | Tensor:
            # the pattern is scaled to a mean of one over the central region: there the density is exact
            return palette.bone(density * pattern(v.local(p)) / pattern(self._central_points(v)).mean())

        reach = float(np.linalg.norm([v.half_width, v.front, half])) + 6
        self._add(
            [v.centre], reach, lambda p: body(v.local(p)), Texture(trabecular), v.level.label, (thickness, cortical)
        )
        self._build_vein(v, 0.5 * wall)
        s = v.half_width / 21.5
        if self._rng.random() < 0.06:
            island, size = self._uniform(300, 700), self._uniform(1.5, 4)
            self._local_rod(
                v,
                (self._uniform(-10, 10) * s, self._uniform(-6, 10) * s, self._uniform(-6, 6)),
                None,
                size,
                lambda palette, p, d: palette.bone(island),
                label=None,
            )

    def _build_arch(self, index: int, v: Vertebra, strength: float) -> None:
        disc_above = self.vertebrae[index + 1].disc_below if index + 1 < len(self.vertebrae) else v.disc_below
        ribs = self._rib_reach.get(v.level, (0.0, 0.0))
        form = draw_arch(v.level, v.half_width, v.back, v.height, disc_above, (ribs[0] > 0, ribs[1] > 0), self._rng)
        distance = arch_distance(form)
        compact, share = self._arch_mg * strength * self._uniform(0.93, 1.07), compactness(form)
        inner = v.density * self._arch_spongy + 30
        shell = self._arch_mm * (0.6 + 0.4 * form.size) * self._uniform(0.9, 1.1)
        dense: Value = lambda palette, p, d: palette.bone(compact * share(v.local(p)))  # noqa: E731
        self._add(
            [v.world(*corner) for corner in form.corners],
            0.0,
            lambda p: distance(v.local(p)),
            lambda palette, p, d: palette.bone(inner),
            0,
            (shell, dense),
        )

    def _build_bridge(self, v: Vertebra, below: Vertebra, strength: float) -> None:
        """Add a bony bridge before the disc below, from rim to rim, in the direction of the osteophyte of the lower
        rim.
        """
        ((_, angle), _), _ = self._beak[v.level]
        mineral = 450 * strength
        points = []
        for body, w in (
            (v, -0.40 * v.height),
            (v, -0.5 * v.height),
            (below, 0.5 * below.height),
            (below, 0.40 * below.height),
        ):
            out = 1.0 if abs(w) < 0.45 * body.height else 1.14
            points.append(body.world(out * body.half_width * np.cos(angle), out * body.front * np.sin(angle), w))
        curve = spline(points, 3)
        radius = np.full(len(curve), self._uniform(2.0, 3.5))
        self._pipe(curve, radius, lambda palette, p, d: palette.bone(mineral))

    def _make_pattern(self, v: Vertebra) -> Callable[[Positions], Tensor]:
        """Return the relative trabecular density in the frame of the body: higher below plates and in corners, with
        grain.
        """
        texture = self._uniform(0.08, 0.22) + 0.14 * float(np.clip((120 - v.density) / 120, 0, 1))
        coarse, fine = self._uniform(3.5, 7.0), self._uniform(1.4, 2.4)
        rise, shift, tint = self._uniform(0.0, 0.15), self._uniform(0, 40), self._uniform(-0.12, 0.12)
        near = self._plate_rise * float(np.clip(v.density / 150, 0.35, 1.2)) * self._uniform(0.85, 1.15)
        depth = self._uniform(2.4, 3.8)
        corner = self._sclerosis * self._uniform(0, 1.5)
        _, ((_, toward), _) = self._beak[v.level]
        cos, sin = float(np.cos(toward)), float(np.sin(toward))
        half = v.height / 2

        def pattern(q: Positions) -> Tensor:
            u, y, w = q
            level = (w / half).abs().clamp(max=1.0)
            below_plate = torch.exp((level - 1.0) * (half / depth))
            value = 1.0 + rise * level * level + tint * (y / v.front) + near * below_plate
            if corner > 0.1:
                out = (cos * u / v.half_width + sin * y / v.front).clamp(0.0, 1.0)
                value = value + corner * out**4 * torch.exp((level - 1.0) * (half / 5.0)) * (w > 0)
            grain = 0.75 * self._noise(q, (coarse, coarse, 1.6 * coarse), shift) + 0.55 * self._noise(
                q, (fine, fine, 2.2 * fine), shift
            )
            return (value + texture * grain).clamp(min=0.05)

        return pattern

    def _build_vein(self, v: Vertebra, rim: float) -> None:
        """Add the basivertebral vein: a flat dark cleft from the back wall to a third of the depth, with a dense
        rim.
        """
        s = v.half_width / 21.5
        dark = v.density * self._uniform(0.0, 0.45)
        tip = -v.back + self._uniform(0.25, 0.45) * (v.front + v.back)
        wide = self._uniform(1.3, 2.6)
        self._local_rod(
            v,
            (self._uniform(-1, 1), -v.back + 0.5, 0),
            (self._uniform(-2, 2), tip, self._uniform(-0.5, 1.0)),
            self._uniform(1.3, 2.2) * s,
            lambda palette, p, d: palette.bone(dark),
            stretch=(wide, 1, 1),
            label=None,
            shell=(self._uniform(0.4, 0.8), lambda palette, p, d: palette.bone(rim)),
        )
        if self._rng.random() < 0.5:  # its two branches
            for side in (-1.0, 1.0):
                self._local_rod(
                    v,
                    (0, tip, 0),
                    (side * self._uniform(3, 8) * s, tip + self._uniform(0, 7) * s, self._uniform(-1, 1)),
                    0.9 * s,
                    lambda palette, p, d: palette.bone(dark),
                    label=None,
                )

    def _local_rod(
        self,
        v: Vertebra,
        start: Sequence[float],
        end: Sequence[float] | None,
        radius: float,
        value: Value,
        *,
        stretch: Sequence[float] = (1.0, 1.0, 1.0),
        shell: tuple[float, Value] | None = None,
        label: int | None = 0,
    ) -> None:
        """Add a rod in the frame of a vertebra; by default it is not part of the body."""
        end = start if end is None else end
        self._add(
            [v.world(*start), v.world(*end)],
            radius * max(stretch),
            lambda p: capsule(v.local(p), start, end, radius, None, stretch),
            value,
            label,
            shell,
        )

    @staticmethod
    def _central_points(v: Vertebra) -> Positions:
        """Return points of the central half of the height and 0.7 of the width and depth, in the frame of the body."""
        grid = torch.linspace(-1, 1, 15)
        u, y, w = torch.meshgrid(grid, grid, grid, indexing="ij")
        inside = u * u + y * y < 1
        depth = 0.5 * (v.front + v.back)
        return (
            0.7 * v.half_width * u[inside],
            0.7 * depth * y[inside] + 0.5 * (v.front - v.back),
            0.25 * v.height * w[inside],
        )

    def _build_disc(self, v: Vertebra) -> None:
        below = v.world(0, 0, -v.height / 2 - v.disc_below / 2)
        gas = (
            self._rng.random() < (0.25 if v.disc_below < 0.6 * self._scale * BODY_SIZE_MM[v.level][3] else 0.05)
            and self.person.age_years > 50
        )
        core = self._uniform(-0.2, 0.2)
        bulge = self._uniform(0.97, 1.08)

        def distance(p: Positions) -> Tensor:
            u, y, w = v.local(p)
            w = w + v.height / 2 + v.disc_below / 2
            depth = torch.where(y > 0, v.front, v.back) * bulge
            reach = ((u.abs() / (v.half_width * bulge)) ** 2.4 + (y.abs() / depth) ** 2.4).clamp(min=1e-6)
            side = (u * u + y * y).sqrt() * (1.0 - reach ** (-1 / 2.4))
            return smooth_max(side, w.abs() - (v.disc_below / 2 + 2.5), 1.5)

        self._add([below], 1.25 * v.half_width + 4, distance, self._textured("cartilage", 8, 4), 0)
        if gas:
            self._rod(below - v.frame[:, 0] * 8, below + v.frame[:, 0] * 8 * (1 + core), 1.4, fixed("air"))

    def _build_canal(self) -> None:
        """Add fat, mostly behind, the thecal sac behind the bodies, and the cord down to L1, along all levels."""

        def line(behind: float, levels: Sequence[Vertebra]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            ends = [
                v.world(0, -v.back - behind * v.half_width / 21.5, w * v.height) for v in levels for w in (-0.4, 0.4)
            ]
            return np.array(ends), np.repeat([v.half_width / 21.5 for v in levels], 2)

        column = self.vertebrae
        sacral = self.sacrum_frame @ np.array([0.0, -0.44 * 35 - 9, -30.0])
        for behind, radius, stretch, name in ((8.5, 8.8, 1.25, "adipose"), (6.6, 7.0, 1.25, "csf")):
            points, size = line(behind, column)
            points, size = np.vstack([sacral, points]), np.insert(size, 0, 1.0)
            self._pipe(points, radius * size, fixed(name), stretch=(stretch, 1, 1))
        points, size = line(6.6, [v for v in column if v.level.startswith("T") or v.level is L.L1])
        self._pipe(points, 4.4 * size, fixed("cord"), stretch=(1.15, 1, 1))

    def _build_hardware(self) -> None:
        variants = self.person.variants
        if Variant.CEMENT in variants:
            v = self.vertebra((L.T12, L.L1, L.L2, L.L3)[int(self._rng.integers(4))])
            for _ in range(int(self._rng.integers(2, 5))):
                at = v.world(self._uniform(-11, 11), self._uniform(-6, 10), self._uniform(-5, 5))
                radii = [self._uniform(4, 9) for _ in range(3)]
                self._blob(at, radii, lambda palette, p, d: palette.solid("cement") + 200 * self._noise(p, 2.5))
        if Variant.SCREWS in variants:
            first = int(self._rng.integers(1, 5))
            for v in self.vertebrae[first : first + int(self._rng.integers(2, 4))]:
                for side in (-1.0, 1.0):
                    x = side * 0.6 * v.half_width
                    self._local_rod(
                        v,
                        (x * 1.15, -v.back - 30, 4.0),
                        (x * 0.55, 0.45 * v.front, 1.0),
                        3.0,
                        lambda palette, p, d: palette.solid("titanium"),
                        label=None,
                    )
                    self._local_rod(
                        v,
                        (x * 1.25, -v.back - 38, 4.0),
                        (x * 1.15, -v.back - 28, 4.0),
                        6.0,
                        lambda palette, p, d: palette.solid("titanium"),
                    )
