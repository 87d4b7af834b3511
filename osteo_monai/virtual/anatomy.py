"""The body of a virtual person: a list of shapes, painted in order, with exact labels.

Everything is in RAS+ mm; the origin is the centre of the sacral end plate. Vertebrae have frames of their own:
u to the right, v anterior, w up. What can vary between people is drawn once, when the body is built, so that the
same person can be painted on any grid and for any acquisition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, MineralStandard, Sex, VertebraLevel
from osteo_monai.virtual.canvas import Box, Canvas, capsule, ellipsoid, smooth_max, smooth_min
from osteo_monai.virtual.person import Person, Variant

L = VertebraLevel
Positions = tuple[Tensor, Tensor, Tensor]
Vec = NDArray[np.float64]

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


class Palette(Protocol):
    """What a shape is painted with: HU for CT, attenuation or mineral for other acquisitions."""

    def tissue(self, name: str) -> float:
        """Value of a soft tissue, fluid or gas."""

    def bone(self, density: float | Tensor) -> float | Tensor:
        """Value of bone whose density is in mg/cm3 K2HPO4 as single-energy QCT at 120 kVp reads it."""

    def mineral(self, density: float, standard: MineralStandard) -> float:
        """Value of a reference mineral in water, mg/cm3."""

    def solid(self, name: str) -> float:
        """Value of a foreign material."""


Value = Callable[[Palette, Positions, Tensor], "float | Tensor"]


@dataclass(frozen=True)
class Shape:
    """One thing in the body: the box it lies in, its distance function, what it is made of and its label."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    distance: Callable[[Positions], Tensor]
    value: Value
    label: int | None = None
    shell: tuple[float, Value] | None = None
    """Thickness in mm and value of a shell on the inside of the surface (cortex)."""


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


class Noise:
    """Smooth random fields as functions of position: one periodic cube, sampled at any scale."""

    def __init__(self, seed: int, size: int = 48) -> None:
        generator = torch.Generator().manual_seed(seed)
        cube = torch.randn((size,) * 3, generator=generator)
        for axis in range(3):  # no seam from one period to the next
            cube.select(axis, -1).copy_(cube.select(axis, 0))
        self._size = size
        self._cube = cube[None, None]

    def __call__(self, p: Positions, scale: float | Sequence[float], shift: float = 0.0) -> Tensor:
        """Sample the field, of unit variance at its nodes, which lie ``scale`` mm apart, at positions ``p``."""
        scales = (scale,) * 3 if isinstance(scale, int | float) else scale
        q = torch.broadcast_tensors(*(x / s + shift for x, s in zip(p, scales, strict=True)))
        n = self._size
        cells = torch.stack([c.remainder(n - 1) for c in q], -1) * (2.0 / (n - 1)) - 1.0
        cube = self._cube.to(cells.device)
        flat = cells.reshape(1, 1, 1, -1, 3)
        return torch.nn.functional.grid_sample(cube, flat, align_corners=True).reshape(q[0].shape)


def _fixed(name: str) -> Value:
    return lambda palette, p, d: palette.tissue(name)


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


@dataclass
class Anatomy:
    """The shapes of one person.

    Attributes:
        vertebrae: from the lowest presacral body up.
        shapes: in painting order.
        half_width, half_depth: of the trunk, mm; what noise and beam hardening grow with.
    """

    person: Person
    vertebrae: list[Vertebra] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    half_width: float = 0.0
    half_depth: float = 0.0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.person.seed, 2])
        self._noise = Noise(self.person.seed)
        self._scale = (FEMALE_SCALE if self.person.sex is Sex.FEMALE else 1.0) * (
            1 + 0.6 * (self.person.height_cm / (171.0 if self.person.sex is Sex.MALE else 159.0) - 1)
        )
        self._build_column()
        self._build_trunk()
        self._build_organs()
        self._build_muscles()
        self._build_vessels()
        self._soft_shapes = len(self.shapes)
        self._build_ribs()
        self._build_pelvis()
        for vertebra in self.vertebrae:  # discs reach into the dished end plates, so they come before the bodies
            self._build_disc(vertebra)
            self._build_canal(vertebra)
        for index, vertebra in enumerate(self.vertebrae):
            self._build_vertebra(index, vertebra)
        self._build_hardware()

    # ------------------------------------------------------------------ painting

    def paint(self, canvas: Canvas, palette: Palette) -> None:
        """Paint every shape that reaches ``canvas``, in order."""
        paint_shapes(canvas, palette, self.shapes)

    def paint_soft(self, canvas: Canvas, palette: Palette) -> None:
        """Paint the trunk, organs, muscles and vessels alone: what a coarser grid is good enough for."""
        paint_shapes(canvas, palette, self.shapes[: self._soft_shapes])

    def paint_hard(self, canvas: Canvas, palette: Palette) -> None:
        """Paint bones, discs, canal and hardware over what ``paint_soft`` has painted."""
        paint_shapes(canvas, palette, self.shapes[self._soft_shapes :])

    def vertebra(self, level: VertebraLevel) -> Vertebra:
        """Return the body of ``level``; KeyError if this spine has none."""
        for vertebra in self.vertebrae:
            if vertebra.level == level:
                return vertebra
        raise KeyError(f"this spine has no {level}")

    def body_distance(self, vertebra: Vertebra, p: Positions) -> Tensor:
        """Distance to the periosteal surface of a vertebral body, in mm; the cortex lies inside it."""
        return self._body_distance[vertebra.level](vertebra.local(p))

    def cortex_thickness(self, level: VertebraLevel) -> float:
        """Thickness of the cortical shell in mm."""
        return self._cortex[level]

    @property
    def seed(self) -> int:
        """The person's seed."""
        return self.person.seed

    @property
    def trunk_centre(self) -> Vec:
        """Middle of the trunk in RAS+ mm (x and y count)."""
        return self._middle

    # ------------------------------------------------------------------ helpers

    def _uniform(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))

    def _add(
        self,
        points: Sequence[Sequence[float] | Vec],
        reach: float,
        distance: Callable[[Positions], Tensor],
        value: Value,
        label: int | None = None,
        shell: tuple[float, Value] | None = None,
    ) -> None:
        low = tuple(float(min(axis)) - reach for axis in zip(*points, strict=True))
        high = tuple(float(max(axis)) + reach for axis in zip(*points, strict=True))
        self.shapes.append(Shape(low, high, distance, value, label, shell))

    def _rod(
        self,
        start: Sequence[float] | Vec,
        end: Sequence[float] | Vec,
        radius: float,
        value: Value,
        *,
        end_radius: float | None = None,
        stretch: Sequence[float] = (1.0, 1.0, 1.0),
        label: int | None = None,
        shell: tuple[float, Value] | None = None,
    ) -> None:
        reach = max(radius, end_radius or 0.0) * max(stretch)
        a, b = [float(x) for x in start], [float(x) for x in end]
        self._add([a, b], reach, lambda p: capsule(p, a, b, radius, end_radius, stretch), value, label, shell)

    def _blob(self, centre: Sequence[float] | Vec, radii: Sequence[float], value: Value) -> None:
        c, r = [float(x) for x in centre], [float(x) for x in radii]
        self._add([c], max(r), lambda p: ellipsoid(p, c, r), value)

    def _tube(self, points: Sequence[Vec], radius: Sequence[float], value: Value, **keywords: object) -> None:
        for a, b, ra, rb in zip(points[:-1], points[1:], radius[:-1], radius[1:], strict=True):
            self._rod(a, b, ra, value, end_radius=rb, **keywords)  # type: ignore[arg-type]

    def _textured(self, name: str, contrast: float, scale: float) -> Value:
        shift = self._uniform(0, 40)

        def value(palette: Palette, p: Positions, d: Tensor) -> Tensor:
            return palette.tissue(name) + contrast * self._noise(p, scale, shift)

        return value

    def _at(self, z: float) -> Vec:
        """Centre of the column at height ``z``, by linear interpolation between the bodies."""
        zs = [v.centre[2] for v in self.vertebrae]
        return np.array([np.interp(z, zs, [v.centre[i] for v in self.vertebrae]) for i in range(3)])

    # ------------------------------------------------------------------ column

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
            self._rod(below - v.frame[:, 0] * 8, below + v.frame[:, 0] * 8 * (1 + core), 1.4, _fixed("air"))

    def _build_canal(self, v: Vertebra) -> None:
        s = v.half_width / 21.5
        low, high = v.world(0, -v.back - 8 * s, -0.75 * v.height), v.world(0, -v.back - 8 * s, 0.75 * v.height)
        self._rod(low, high, 9.5 * s, _fixed("adipose"), stretch=(1.15, 1, 1))
        self._rod(low, high, 7.6 * s, _fixed("csf"), stretch=(1.15, 1, 1))
        if v.level.startswith("T") or v.level is L.L1:
            self._rod(low, high, 4.4 * s, _fixed("cord"))

    # ------------------------------------------------------------------ trunk and organs

    def _build_trunk(self) -> None:
        rng, person = self._rng, self.person
        bmi = person.weight_kg / (person.height_cm / 100) ** 2
        stature = person.height_cm / 168
        fat = float(np.clip(6 + (bmi - 19) * 1.7 + (4 if person.sex is Sex.FEMALE else 0) + rng.normal(0, 3), 4, 55))
        wall = self._uniform(9, 17)
        self.half_width = float(np.clip((148 + (bmi - 22) * 5.0 + rng.normal(0, 7)) * stature, 115, 240))
        self.half_depth = float(np.clip((98 + (bmi - 22) * 4.6 + rng.normal(0, 7)) * stature, 80, 190))
        back = self._uniform(70, 88) * self._scale + 0.55 * fat
        spine_y = float(np.mean([v.centre[1] for v in self.vertebrae]))
        self._middle = np.array([rng.normal(0, 3), spine_y - back + self.half_depth, 0.0])
        power = self._uniform(2.15, 2.9)
        self._fat = fat
        taper, waist_z = self._uniform(0.0, 0.10), self.vertebrae[2].centre[2]
        top = self.vertebrae[-1].centre[2] + 20
        self._top, self._bottom = top, -220.0

        def trunk(inset: float) -> Callable[[Positions], Tensor]:
            a, b = self.half_width - inset, self.half_depth - inset

            def distance(p: Positions) -> Tensor:
                x, y, z = p[0] - float(self._middle[0]), p[1] - float(self._middle[1]), p[2]
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
        self._add(box, 2, trunk(0), _fixed("skin"))
        self._add(box, 0, trunk(self._uniform(1.2, 2.2)), self._textured("adipose", 6, 9))
        self._add(box, 0, trunk(fat), self._textured("muscle", 10, 6))
        self._add(box, 0, trunk(fat + wall), self._textured("visceral_fat", 14, 7))
        if rng.random() < 0.25:  # arms at the sides
            for side in (-1.0, 1.0):
                x = self._middle[0] + side * (self.half_width + self._uniform(35, 60))
                y = self._middle[1] + self._uniform(-50, 30)
                a, b = (x, y, self._bottom), (x + side * 10, y, top)
                self._rod(a, b, self._uniform(34, 48), _fixed("adipose"))
                self._rod(a, b, self._uniform(26, 32), self._textured("muscle", 8, 7))
                self._rod(a, b, self._uniform(9, 12), lambda palette, p, d: palette.bone(900.0))
                self._rod(a, b, self._uniform(4, 6), _fixed("yellow_marrow"))

    def _build_organs(self) -> None:
        rng = self._rng
        z = {v.level: float(v.centre[2]) for v in self.vertebrae}
        t12, l1, l2 = (z[level] for level in (L.T12, L.L1, L.L2))
        t10 = z[L.T10]
        inset = self._fat + self._uniform(10, 16)
        cavity = self._trunk(inset)
        a, b = self.half_width - inset, self.half_depth - inset
        mx, my = float(self._middle[0]), float(self._middle[1])
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
        heart = [mx - 25 + rng.normal(0, 6), my + 0.25 * b, z[L.T9] + self._uniform(5, 30)]
        self._blob(heart, (58, 45, 52), _fixed("heart"))
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

            self._add(chest, 0, lung, air)
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
            self._blob(hilum, (11, 9, 20), _fixed("visceral_fat"))
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
        self._tube(path, [radius + 1.0] * len(path), _fixed("muscle"))
        self._tube(path, [radius] * len(path), _fixed("aorta"))
        plaques = int(rng.poisson(max(age - 45, 0) * 0.3))
        for _ in range(plaques):
            i = int(rng.integers(0, len(path) - 1))
            t, angle = self._uniform(0, 1), self._uniform(0, 2 * np.pi)
            at = path[i] * (1 - t) + path[i + 1] * t + radius * np.array([np.cos(angle), np.sin(angle), 0])
            size, mineral = self._uniform(0.7, 2.8), self._uniform(250, 800)

            def plaque(palette: Palette, p: Positions, d: Tensor, m: float = mineral) -> float | Tensor:
                return palette.bone(m)

            self._rod(at, at + [0, 0, self._uniform(0, 6)], size, plaque)
        fork = path[-1]
        for side in (-1.0, 1.0):
            self._rod(fork, fork + [side * 42, -5, -75], 6.0, _fixed("aorta"))
        bore = self._uniform(7.5, 12.5)
        flat = self._uniform(0.6, 1.0)
        cava = [
            v.world(self._uniform(15, 22) * self._scale, v.front + bore * flat * self._uniform(0.5, 0.9) + 1.5, 0)
            for v in column
            if v.level.startswith("L") or v.level in (L.T12, L.T11, L.T10)
        ]
        self._tube(cava, [bore] * len(cava), _fixed("cava"), stretch=(1, flat, 1))
        self._rod(cava[-1], cava[-1] + [35, -8, -80], 7.0, _fixed("cava"))
        self._rod(cava[-1], cava[-1] + [-50, -8, -85], 7.0, _fixed("cava"))
        middle = self._at(self.vertebra(L.L1).centre[2])
        for side in (-1.0, 1.0):  # renal veins
            self._rod(
                middle + [side * 8, 26, -8], middle + [side * 50, 4, -14 + self._uniform(-6, 6)], 4.5, _fixed("cava")
            )
        gullet = [
            v.world(self._uniform(-6, 4), v.front + self._uniform(14, 20), 0) for v in column if v.level.startswith("T")
        ]
        self._tube(gullet, [6.0] * len(gullet), _fixed("muscle"))

    # ------------------------------------------------------------------ other bones

    def _bone_pair(self) -> tuple[Value, Value]:
        """Values of cortical and of cancellous bone outside the bodies."""
        mean = self.person.mean_density
        cortex = self._uniform(500, 950) * float(np.clip(0.6 + mean / 300, 0.6, 1.1))
        marrow = 0.7 * mean + self._uniform(-20, 60)
        return (lambda palette, p, d: palette.bone(cortex)), (lambda palette, p, d: palette.bone(marrow))

    def _build_ribs(self) -> None:
        cortex, marrow = self._bone_pair()
        variants = self.person.variants
        ends = {L.T13: (30, 60), L.T12: (34, 78), L.T11: (78, 112), L.T10: (118, 140)}
        slope = self._uniform(38, 62)
        inset = self._fat + self._uniform(7, 11)
        a, b = self.half_width - inset, self.half_depth - inset
        top = self.vertebrae[-1].centre[2]
        for v in self.vertebrae:
            if not v.level.startswith("T") or (v.level is L.T12 and Variant.ELEVEN_RIBS in variants):
                continue
            low, high = ends.get(v.level, (135, 152))
            stop = np.deg2rad(self._uniform(low, high))
            thick = self._uniform(4.0, 5.4) * self._scale * (0.85 if v.level in (L.T12, L.T13) else 1.0)
            narrow = 1.0 - 0.45 * float(np.clip((v.centre[2] - top + 130) / 130, 0, 1)) ** 2
            for side in (-1.0, 1.0):
                neck = v.world(side * 0.80 * v.half_width, -0.85 * v.back, 0.30 * v.height)
                knuckle = v.world(side * (v.half_width + 14), -v.back - 22, 2.0)
                begin = np.arcsin(np.clip((abs(knuckle[0] - self._middle[0]) + 10) / (a * narrow), 0.1, 0.9))
                steep = slope * (1.25 if v.level in (L.T12, L.T13, L.T11) else 1.0) * self._uniform(0.9, 1.1)
                finish = max(stop * self._uniform(0.92, 1.05), begin + 0.12)
                arc = np.linspace(begin, finish, max(4, int(12 * (finish - begin))))
                points = [neck, knuckle]
                for angle in arc:
                    x = self._middle[0] + side * a * narrow * np.sin(angle)
                    y = self._middle[1] - b * narrow * np.cos(angle)
                    points.append(np.array([x, y, knuckle[2] - steep * (angle - begin) - 6]))
                self._tube(
                    points,
                    [thick] * len(points),
                    marrow,
                    stretch=(1, 1, 1.35),
                    label=RIB_LABEL,
                    shell=(self._uniform(0.9, 1.5), cortex),
                )

    def _build_pelvis(self) -> None:
        cortex, marrow = self._bone_pair()
        f, s = self.sacrum_frame, self._scale
        frame = Vertebra(L.SACRUM, np.zeros(3), f, 26 * s, 18 * s, 15 * s, 28 * s, 0, 0, 0)
        alar = self._uniform(0.9, 1.1)

        def sacrum(p: Positions) -> Tensor:
            u, v, w = frame.local(p)
            bend = 0.0042 * w * w
            back = v + 14 - bend  # the sacrum curves backwards, then forwards again
            width = (52 * s + 0.42 * w).clamp(min=9) * alar
            slab = smooth_max(u.abs() - width, back.abs() - (15 * s + 0.06 * w).clamp(min=5), 8)
            promontory = ellipsoid((u, v, w), (0.0, 0.0, -14.0), (26 * s, 17 * s, 15.0))
            whole = smooth_min(smooth_max(slab, w + 6, 5), promontory, 5)
            return smooth_max(whole, -w - 105 * s, 6)

        self._add([np.zeros(3)], 135, sacrum, marrow, L.SACRUM.label, (self._uniform(1.0, 1.8), cortex))
        self._rod(
            frame.world(0, -20 * s, 0),
            frame.world(0, -26 * s, -60),
            7 * s,
            _fixed("adipose"),
            label=0,
            stretch=(1.3, 0.8, 1),
        )
        crest = self._uniform(26, 60)
        for side in (-1.0, 1.0):
            turn = np.deg2rad(self._uniform(28, 48))
            out = np.deg2rad(self._uniform(12, 28))
            centre = np.array([side * 82 * s, -6.0, crest - 62])
            yaw = np.array([[np.cos(turn), side * np.sin(turn), 0], [-side * np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
            tip = np.array([[np.cos(out), 0, side * np.sin(out)], [0, 1, 0], [-side * np.sin(out), 0, np.cos(out)]])
            axes = (yaw @ tip).T
            radii = (self._uniform(9, 12), 66 * s, 68 * s)

            def wing(
                p: Positions,
                c: Vec = centre,
                m: NDArray[np.float64] = axes,
                r: Sequence[float] = radii,
                side: float = side,
            ) -> Tensor:
                d = [x - float(k) for x, k in zip(p, c, strict=True)]
                q = [d[0] * float(row[0]) + d[1] * float(row[1]) + d[2] * float(row[2]) for row in m]
                hollow = side * q[0] - 0.0022 * (q[1] ** 2 + q[2] ** 2) + 4
                return ellipsoid((side * hollow, q[1], q[2]), (0, 0, 0), r)

            self._add([centre], 82, wing, marrow, None, (self._uniform(1.3, 2.4), cortex))
            flank = centre + [side * 14, -28, -8]
            self._blob(flank, (16, 44, 62), self._textured("muscle", 10, 6))
            self._add([centre], 82, wing, marrow, None, (self._uniform(1.3, 2.4), cortex))
            head = np.array([side * 92 * s, 20.0, -128.0])
            self._rod(head, head + [side * 45, -8, -40], 23 * s, marrow, end_radius=14, shell=(2.0, cortex))

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


def paint_shapes(canvas: Canvas, palette: Palette, shapes: Sequence[Shape]) -> None:
    """Paint shapes in order, each in its own box."""
    boxes = canvas.boxes(np.array([s.low for s in shapes]), np.array([s.high for s in shapes]))
    for shape, box in zip(shapes, boxes, strict=True):
        if box is None:
            continue
        box, p, distance = _painted(canvas, box, shape.distance(canvas.positions(box)))
        if box is None:
            continue
        if shape.shell is None:
            canvas.paint(box, distance, shape.value(palette, p, distance), shape.label)
            continue
        thickness, cortex = shape.shell
        canvas.paint(box, distance, cortex(palette, p, distance), shape.label)
        canvas.paint(box, distance + thickness, shape.value(palette, p, distance))


def _painted(canvas: Canvas, box: Box, distance: Tensor) -> tuple[Box | None, Positions, Tensor]:
    """Shrink ``box`` to what a shape colours: values, with their textures, cost more than distances.

    Nothing outside is coloured, so that the painting stays the same. On a graphics processor looking costs more than
    it saves.
    """
    size = tuple(part.stop - part.start for part in box)
    if distance.device.type != "cpu" or distance.shape != size:
        return box, canvas.positions(box), distance
    some = np.logical_or.reduce
    near = distance.numpy() < 0.5 * canvas.softness
    front = some(near, axis=0)
    inner = []
    for hit in (some(near.reshape(size[0], -1), axis=1), some(front, axis=1), some(front, axis=0)):
        found = np.flatnonzero(hit)
        if not len(found):
            return None, canvas.positions(box), distance
        inner.append(slice(int(found[0]), int(found[-1]) + 1))
    x, y, z = (slice(part.start + found.start, part.start + found.stop) for part, found in zip(box, inner, strict=True))
    return (x, y, z), canvas.positions((x, y, z)), distance[inner[0], inner[1], inner[2]]


def reached(canvas: Canvas, vertebra: Vertebra, margin: float = 6.0) -> Box | None:
    """Return the voxels of ``canvas`` that may belong to the body of ``vertebra``."""
    reach = float(np.linalg.norm([vertebra.half_width, vertebra.front, vertebra.height / 2])) + margin
    return canvas.box(vertebra.centre - reach, vertebra.centre + reach)
