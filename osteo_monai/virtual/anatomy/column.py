"""The column: where the vertebrae are, how each is formed, and what lies between and in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.virtual.anatomy.shapes import Builder, Palette, Positions, Value, Vec, fixed
from osteo_monai.virtual.canvas import Box, Canvas, capsule, smooth_max
from osteo_monai.virtual.person import Person, Variant

L = VertebraLevel

BODY_SIZE_MM: dict[VertebraLevel, tuple[float, float, float, float]] = {
    # level: width, depth, height of the body, height of the disc below it; men
    L.T1: (29, 17, 16.0, 4.0),
    L.T2: (28, 18, 17.0, 4.0),
    L.T3: (27, 20, 17.5, 3.5),
    L.T4: (27, 22, 18.0, 3.5),
    L.T5: (28, 24, 18.5, 3.5),
    L.T6: (29, 26, 19.0, 4.0),
    L.T7: (30, 28, 19.5, 4.5),
    L.T8: (31, 29, 20.0, 4.8),
    L.T9: (33, 30, 20.5, 5.0),
    L.T10: (35, 31, 21.5, 5.2),
    L.T11: (38, 32, 22.5, 5.8),
    L.T12: (41, 32, 24.0, 6.5),
    L.T13: (42, 32.5, 25.0, 7.0),
    L.L1: (43, 33, 26.0, 7.8),
    L.L2: (44.5, 34, 26.8, 9.0),
    L.L3: (46.5, 35, 27.2, 10.2),
    L.L4: (48.5, 35.5, 27.2, 11.0),
    L.L5: (51, 35.5, 26.5, 10.5),
    L.L6: (51, 34.5, 25.0, 9.0),
}
"""Ranges in the literature: lumbar height 20-30, depth 30-35, width 40-50 mm; volumes rise from L1 to L4."""

_TILT_DEGREES: dict[VertebraLevel, float] = dict(
    zip(
        BODY_SIZE_MM,
        (24, 20, 16, 12, 8, 4, 0, -4, -8, -11, -13, -14, -14, -13, -9, -2, 8, 20, 28),
        strict=True,
    )
)
"""How far the long axis of each body leans forward, for an average lordosis and kyphosis."""

FEMALE_SCALE = 0.90
"""Linear size of women's vertebrae against men's (10-15 % larger in men; commonly quoted)."""


@dataclass(frozen=True)
class Vertebra:
    """A vertebral body: where it is, how it is turned, how large it is, how dense."""

    level: VertebraLevel
    centre: Vec
    frame: NDArray[np.float64]
    """(3, 3); columns are u, v and w in RAS+."""
    half_width: float
    front: float
    """From the centre of the frame to the anterior wall."""
    back: float
    height: float
    disc_below: float
    density: float
    fracture: float
    """Fraction of the anterior height that is lost; 0 for an intact body."""

    @property
    def trabecular_density(self) -> float:
        """What the trabecular bone has in mg/cm3 K2HPO4: a collapsed body's is compacted."""
        return self.density * (1.0 + 0.5 * self.fracture)

    @property
    def reach_z(self) -> float:
        """How far the body reaches above and below its centre along z, in mm; a little generous."""
        return float(0.5 * self.height + abs(self.frame[2, 1]) * self.front + abs(self.frame[2, 0]) * self.half_width)

    def world(self, u: float, v: float, w: float) -> Vec:
        """Position in RAS+ mm of a point of the body's frame."""
        position: Vec = self.centre + self.frame @ np.array([u, v, w])
        return position

    def local(self, p: Positions) -> Positions:
        """Coordinates u, v, w of RAS+ positions."""
        d = [x - float(c) for x, c in zip(p, self.centre, strict=True)]
        u, v, w = (d[0] * float(f[0]) + d[1] * float(f[1]) + d[2] * float(f[2]) for f in self.frame.T)
        return u, v, w


def _rotation(pitch: float, roll: float, yaw: float) -> NDArray[np.float64]:
    """Frame whose up axis leans forward by ``pitch``, to the right by ``roll``, turned by ``yaw`` (degrees)."""
    a, b, c = np.deg2rad([pitch, roll, yaw])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = about_y @ about_x @ about_z
    return rotation


def sequence(variants: frozenset[Variant]) -> list[VertebraLevel]:
    """The presacral levels of a spine with ``variants``, from the lowest up."""
    levels: list[VertebraLevel] = [level for level in BODY_SIZE_MM if level not in (L.T13, L.L6)]
    if Variant.LUMBARISED in variants:
        levels.append(L.L6)
    if Variant.SACRALISED in variants:
        levels.remove(L.L5)
    if Variant.THIRTEEN_RIBS in variants:
        levels.insert(levels.index(L.L1), L.T13)
    return levels[::-1]


class ColumnBuilder(Builder):
    """Builds vertebrae, discs, canal and hardware."""

    person: Person
    vertebrae: list[Vertebra]
    sacrum_frame: NDArray[np.float64]
    _scale: float

    def vertebra(self, level: VertebraLevel) -> Vertebra:
        """Return the body of ``level``; KeyError if this spine has none."""
        for vertebra in self.vertebrae:
            if vertebra.level == level:
                return vertebra
        raise KeyError(f"this spine has no {level}")

    def _at(self, z: float) -> Vec:
        """Centre of the column at height ``z``, by linear interpolation between the bodies."""
        zs = [v.centre[2] for v in self.vertebrae]
        return np.array([np.interp(z, zs, [v.centre[i] for v in self.vertebrae]) for i in range(3)])

    def _build_column(self) -> None:
        rng, variants = self._rng, self.person.variants
        curve = self._uniform(0.55, 1.35)
        pitch0 = rng.normal(0, 4.0)
        scoliosis = self._uniform(7, 16) if Variant.SCOLIOSIS in variants else abs(rng.normal(0, 2.0))
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
            tilt = pitch0 + curve * (_TILT_DEGREES[level] + rng.normal(0, 1.5))
            roll = scoliosis * np.sin(phase + 2 * np.pi * index / period) + rng.normal(0, 0.7)
            yaw = 0.35 * scoliosis * np.cos(phase + 2 * np.pi * index / period) + rng.normal(0, 1.0)
            frame = _rotation(tilt, roll, yaw)
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
        self.sacrum_frame = _rotation(pitch0 + curve * 38 + rng.normal(0, 4), rng.normal(0, 2), 0)
        self._body_distance: dict[VertebraLevel, Callable[[Positions], Tensor]] = {}
        self._cortex: dict[VertebraLevel, float] = {}
        self._osteophytes = Variant.OSTEOPHYTES in variants

    def _make_body_distance(self, v: Vertebra) -> Callable[[Positions], Tensor]:
        """Body with concave waist and posterior wall, dished end plates, rounded rims and a little irregularity."""
        rng = self._rng
        waist = self._uniform(0.05, 0.13)
        dish = self._uniform(0.04, 0.10) * v.height
        front_power, back_power = self._uniform(2.1, 2.6), self._uniform(2.8, 4.5)
        hollow, hollow_radius = self._uniform(0.0, 3.0), self._uniform(13, 20)
        lumbar = v.level.startswith("L")
        rim = self._uniform(0.03, 0.16) if self._osteophytes else self._uniform(0.0, 0.035)
        lean = self._uniform(-0.04, 0.05) - (0.07 if lumbar and v.level in (L.L4, L.L5) else 0.0)
        harmonics = [(k, rng.normal(0, 0.013), self._uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4, 5)]
        lip = [(k, rng.normal(0, 1.0), self._uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4)]
        half = v.height / 2

        def distance(q: Positions) -> Tensor:
            u, y, w = q
            level = (w / half).abs().clamp(max=1.2)
            angle = torch.atan2(y, u)
            wobble = 1.0 + sum(a * torch.cos(k * angle + f) for k, a, f in harmonics)
            lipping = 1.0 + 0.5 * sum(a * torch.cos(k * angle + f) for k, a, f in lip).clamp(min=-1.0)  # type: ignore[union-attr]
            scale = wobble * (1.0 - waist * (1.0 - level * level).clamp(min=0))
            scale = scale + rim * lipping.clamp(min=0) * torch.exp(-(((level - 0.98) * half / 2.6) ** 2))
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
            if v.fracture:
                loss = v.fracture * v.height * ((y + v.back) / (v.front + v.back)).clamp(0.0, 1.15)
                plate = torch.maximum(w - (top - 0.85 * loss), -w - (top - 0.15 * loss))
            else:
                plate = w.abs() - top
            return smooth_max(side, plate, 2.5)

        return distance

    def _build_vertebra(self, index: int, v: Vertebra) -> None:
        lumbar = v.level.startswith("L")
        body = self._make_body_distance(v)
        self._body_distance[v.level] = body
        s = v.half_width / 21.5
        strength = float(np.clip(0.55 + 0.45 * v.density / 140.0, 0.55, 1.3))
        thickness = self._uniform(0.6, 1.2) * (0.75 + 0.25 * strength)
        self._cortex[v.level] = thickness
        cortex = self._uniform(420, 820) * strength
        posterior = self._uniform(420, 850) * strength
        inner = v.density * self._uniform(1.1, 1.8) + 30

        def cortical(palette: Palette, p: Positions, d: Tensor) -> float | Tensor:
            return palette.bone(cortex)

        dense: Value = lambda palette, p, d: palette.bone(posterior)  # noqa: E731
        spongy: Value = lambda palette, p, d: palette.bone(inner)  # noqa: E731
        # posterior elements, from the pedicles back
        ped_w = (3.6 if lumbar else 2.9) * s * self._uniform(0.85, 1.2)
        if v.level in (L.L5, L.L6):
            ped_w *= 1.5
        canal = v.back + self._uniform(15.5, 18.5) * s
        rod = self._local_rod
        shell = (self._uniform(1.2, 2.2), dense)
        for side in (-1.0, 1.0):
            ped_x = 0.60 * v.half_width if lumbar else 0.52 * v.half_width
            rod(
                v,
                (side * ped_x, -0.75 * v.back, 4.5),
                (side * (ped_x + 1.0), -v.back - 8 * s, 4.0),
                ped_w,
                spongy,
                stretch=(1, 1, 1.7),
                shell=shell,
            )
            joint_x = (13.5 + 1.2 * max(index < 4, 0)) * s
            rod(
                v,
                (side * joint_x, -v.back - 9 * s, 0.62 * v.height),
                (side * 12 * s, -canal, -2.0),
                4.6 * s,
                spongy,
                stretch=(1.0, 1.0, 1.2),
                shell=shell,
            )
            rod(
                v,
                (side * 12 * s, -canal, -2.0),
                (side * 12.5 * s, -canal - 3.5 * s, -0.72 * v.height),
                4.8 * s,
                spongy,
                shell=shell,
            )
            rod(v, (side * 12 * s, -canal, 1.0), (0.0, -canal - 7.5 * s, -4.0), 2.9 * s, dense, stretch=(1, 1, 2.3))
            if lumbar:
                out = self._uniform(16, 26) * s * (1.2 if v.level is L.L3 else 1.0)
                rod(
                    v,
                    (side * 14 * s, -v.back - 9 * s, 3.0),
                    (side * (v.half_width + out), -v.back - self._uniform(8, 14) * s, 3.0 + self._uniform(-3, 6)),
                    3.4 * s,
                    spongy,
                    stretch=(1, 1, 1.5),
                    shell=(1.3, dense),
                )
            else:
                short = 0.55 if v.level in (L.T12, L.T13) else (0.75 if v.level is L.T11 else 1.0)
                rod(
                    v,
                    (side * 13 * s, -v.back - 9 * s, 4.0),
                    (side * (15 + 18 * short) * s, -v.back - (12 + 12 * short) * s, 5.0),
                    4.6 * s,
                    spongy,
                    stretch=(1, 1, 1.3),
                    shell=(1.3, dense),
                )
        long = self._uniform(26, 34) * s
        drop = -9.0 if lumbar or v.level in (L.T11, L.T12, L.T13) else -26.0 * s
        rod(
            v,
            (0, -canal - 6 * s, -5),
            (0, -canal - long, drop),
            2.5 * s,
            spongy,
            stretch=(1, 1, 3.3 if lumbar else 2.0),
            shell=(1.1, dense),
        )

        # the body last, so that its label is its own
        texture = self._uniform(0.08, 0.22) + 0.14 * float(np.clip((120 - v.density) / 120, 0, 1))
        coarse, fine = self._uniform(3.5, 7.0), self._uniform(1.4, 2.4)
        rise, shift, tint = self._uniform(0.05, 0.45), self._uniform(0, 40), self._uniform(-0.12, 0.12)
        density = v.trabecular_density
        half = v.height / 2
        central = self._central_points(v)

        def pattern(q: Positions) -> Tensor:
            level2 = ((q[2] / half) ** 2).clamp(max=1.0)
            grain = 0.75 * self._noise(q, (coarse, coarse, 1.6 * coarse), shift) + 0.55 * self._noise(
                q, (fine, fine, 2.2 * fine), shift
            )
            return (1.0 + rise * level2 + tint * (q[1] / v.front) + texture * grain).clamp(min=0.05)

        def trabecular(palette: Palette, p: Positions, d: Tensor) -> float | Tensor:
            # the pattern is scaled to a mean of one over the central region: there the density is exact
            return palette.bone(density * pattern(v.local(p)) / pattern(central).mean())

        reach = float(np.linalg.norm([v.half_width, v.front, half])) + 6
        self._add([v.centre], reach, lambda p: body(v.local(p)), trabecular, v.level.label, (thickness, cortical))
        vein = v.density * self._uniform(0.0, 0.35)
        tip = self._uniform(-0.35, 0.1) * v.front
        for side in (-1.0, 1.0):
            rod(
                v,
                (side * 1.5, -v.back + 1.0, 0),
                (side * self._uniform(1, 7), tip, 0),
                1.5 * s * self._uniform(0.6, 1.4),
                lambda palette, p, d: palette.bone(vein),
                stretch=(1.2, 1, 1.0),
                label=None,
            )
        if self._rng.random() < 0.06:
            island, size = self._uniform(300, 700), self._uniform(1.5, 4)
            rod(
                v,
                (self._uniform(-10, 10) * s, self._uniform(-6, 10) * s, self._uniform(-6, 6)),
                None,
                size,
                lambda palette, p, d: palette.bone(island),
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
        """A rod given, and stretched, in the frame of a vertebra; by default it is no part of the body."""
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
        """Points of the central half of the height and 0.7 of the width and depth, in the frame of the body."""
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
        gas = self._rng.random() < 0.05 and self.person.age_years > 50
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

    def _build_canal(self, v: Vertebra) -> None:
        s = v.half_width / 21.5
        low, high = v.world(0, -v.back - 8 * s, -0.75 * v.height), v.world(0, -v.back - 8 * s, 0.75 * v.height)
        self._rod(low, high, 9.5 * s, fixed("adipose"), stretch=(1.15, 1, 1))
        self._rod(low, high, 7.6 * s, fixed("csf"), stretch=(1.15, 1, 1))
        if v.level.startswith("T") or v.level is L.L1:
            self._rod(low, high, 4.4 * s, fixed("cord"))

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


def reached(canvas: Canvas, vertebra: Vertebra, margin: float = 6.0) -> Box | None:
    """Return the voxels of ``canvas`` that may belong to the body of ``vertebra``."""
    reach = float(np.linalg.norm([vertebra.half_width, vertebra.front, vertebra.height / 2])) + margin
    return canvas.box(vertebra.centre - reach, vertebra.centre + reach)
