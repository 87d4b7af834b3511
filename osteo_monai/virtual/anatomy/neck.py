"""A body whose chest is continued by neck and shoulders, for scans that show the first rib.

``Anatomy`` ends at T1: its lungs are cut off flat above it and nothing is above. Here three cervical vertebrae, the
apexes of the lungs, the trachea, collar bones and shoulder blades are added. They have their own random numbers, so
that everything else is that of the ``Anatomy`` of the same person.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.virtual.anatomy.arch import TransverseProcess, arch_distance, compactness, draw_arch
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.shapes import Builder, Palette, Positions, Shape, Value, fixed, paint_shapes, spline
from osteo_monai.virtual.anatomy.vertebra import Vertebra, rotation
from osteo_monai.virtual.canvas import Canvas, smooth_max

L = VertebraLevel

_CERVICAL_MM: tuple[tuple[float, float, float, float, float, float, float], ...] = (
    # width, depth, height, disc below, forward tilt in degrees, reach of the transverse processes (least, most)
    (27.5, 16.5, 14.5, 4.9, 20.0, 32.0, 39.0),
    (25.5, 16.0, 13.0, 4.2, 13.0, 26.0, 32.0),
    (23.5, 16.0, 12.8, 4.0, 6.0, 24.0, 30.0),
)
"""C7, C6, C5 of men. Distances follow ``screening.ct.spines.PITCH_MM``; the process of C7 is nearly as long as that of
T1, both end 32 to 39 mm beside the axis (project custom)."""
_UPPER_REACH: dict[VertebraLevel, tuple[float, float]] = {L.T1: (32, 39), L.T2: (29, 35)}
"""Reach of the transverse processes of T1 and T2, which ``draw_arch`` scales with the small body."""
CERVICAL_RIB = 0.007
"""Share of people with ribs at C7, mostly at both sides: 0.5 to 1 % (commonly quoted)."""


class _Shapes(Builder):
    """Shapes of the neck, built like those of ``Anatomy``."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.shapes: list[Shape] = []
        self._rng = rng


@dataclass
class AnatomyWithNeck(Anatomy):
    """The body of ``Anatomy`` with lower neck and shoulders.

    Attributes:
        cervical: C7, C6 and C5; their ``level`` has no meaning, and they have no label.
        cervical_ribs: reach of the ribs of C7 on the left and right in mm; 0 without one.
    """

    cervical: tuple[Vertebra, ...] = ()
    cervical_ribs: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        rng = np.random.default_rng([self.person.seed, 15])
        self._neck_rng = rng
        self.cervical = self._place_cervical()
        if rng.random() < CERVICAL_RIB:
            left, right = rng.uniform(38.0, 62.0, 2)
            self.cervical_ribs = (float(left), float(right) if rng.random() < 0.7 else 0.0)
        self._shoulder_soft, self._neck_soft, self._neck_hard = _Shapes(rng), _Shapes(rng), _Shapes(rng)
        self._build_airway()
        self._build_shoulders()
        self._build_cervical()
        self._build_upper_processes()
        self._build_cervical_ribs()
        self._apexes = self._ending_lungs()

    def paint_soft(self, canvas: Canvas, palette: Palette) -> None:
        """Paint shoulders, then trunk, organs, muscles and vessels over them, and the neck."""
        shapes = list(self.shapes[: self._soft_shapes])
        for index, lung in zip(self._lungs, self._apexes, strict=True):
            shapes[index] = lung
        paint_shapes(canvas, palette, [*self._shoulder_soft.shapes, *shapes, *self._neck_soft.shapes])

    def paint_hard(self, canvas: Canvas, palette: Palette) -> None:
        """Paint the bones of neck and shoulders, then all others over them."""
        paint_shapes(canvas, palette, self._neck_hard.shapes)
        super().paint_hard(canvas, palette)

    # ------------------------------------------------------------------ parts

    def _place_cervical(self) -> tuple[Vertebra, ...]:
        rng, top = self._neck_rng, self.vertebra(L.T1)
        lean = float(rng.uniform(-8, 10))
        foot, placed = top.centre + 0.5 * top.height * top.frame[:, 2], []
        for width, depth, height, disc, tilt, *_ in _CERVICAL_MM:
            w, d, h, gap = (self.scale * s * (1 + rng.normal(0, 0.03)) for s in (width, depth, height, disc))
            frame = rotation(tilt + lean + rng.normal(0, 2), rng.normal(0, 1.5), rng.normal(0, 2))
            centre = foot + (gap + 0.5 * h) * frame[:, 2]
            density = top.density * float(rng.uniform(1.1, 1.5))
            placed.append(Vertebra(L.T1, centre, frame, 0.5 * w, 0.56 * d, 0.44 * d, h, gap, density, 0.0))
            foot = centre + 0.5 * h * frame[:, 2]
        return tuple(placed)

    def _bone(self, density: float) -> Value:
        return lambda palette, p, d: palette.bone(density)

    def _ending_lungs(self) -> list[Shape]:
        """Return the lungs with apexes that end about level with the neck of the first rib."""
        rng, t1 = self._neck_rng, self.vertebra(L.T1)
        middle_y = float(t1.centre[1]) + float(rng.uniform(0, 14))
        shapes = []
        for side, index in zip((-1.0, 1.0), self._lungs, strict=True):
            top = float(t1.centre[2]) + float(rng.uniform(-12, 8))
            x = float(t1.centre[0]) + side * float(rng.uniform(34, 42)) * self.scale
            flat = float(rng.uniform(0.014, 0.022))
            lung = self.shapes[index].distance

            def apex(
                p: Positions,
                lung: Callable[[Positions], Tensor] = lung,
                top: float = top,
                x: float = x,
                flat: float = flat,
            ) -> Tensor:
                dome = top - flat * ((p[0] - x) ** 2 + 0.7 * (p[1] - middle_y) ** 2).clamp(max=9000.0)
                return smooth_max(lung(p), 0.6 * (p[2] - dome), 5.0)

            shapes.append(replace(self.shapes[index], distance=apex))
        return shapes

    def _build_airway(self) -> None:
        """Add the trachea from T4 upwards and the muscles of the nape."""
        rng, soft = self._neck_rng, self._neck_soft
        at = [self.vertebra(L.T4), self.vertebra(L.T1), *self.cervical]
        radius = float(rng.uniform(7.5, 10.0)) * self.scale
        curve = spline([v.world(0, v.front + 12 + radius, 0) for v in at], 3)
        for size, name in ((radius + 2.0, "muscle"), (radius, "air")):
            soft._pipe(curve, np.full(len(curve), size), fixed(name))
        nape = [self.vertebra(L.T2), self.vertebra(L.T1), *self.cervical]
        for side in (-1.0, 1.0):
            points = [v.world(side * 20 * self.scale, -v.back - 30 * self.scale, 0) for v in nape]
            soft._tube(points, [17.0 * self.scale] * len(points), fixed("muscle"))
            scalene = [v.world(side * (v.half_width + 10), 2.0, 0) for v in self.cervical]
            soft._tube([*scalene], [9.0 * self.scale] * len(scalene), fixed("muscle"))

    def _build_shoulders(self) -> None:
        """Add shoulders with collar bones, heads of the humeri and shoulder blades."""
        rng, s = self._neck_rng, self.scale
        soft, hard = self._shoulder_soft, self._neck_hard
        t1, t3, t7 = (self.vertebra(level) for level in (L.T1, L.T3, L.T7))
        raised = rng.random() < 0.8  # arms above the head, as in most chest CT
        marrow, cortex = self._bone(float(rng.uniform(150, 260))), self._bone(float(rng.uniform(650, 950)))
        front = float(t3.centre[1]) + t3.front + float(rng.uniform(55, 75)) * s
        for side in (-1.0, 1.0):
            reach, lift = float(rng.uniform(140, 165)) * s, float(rng.uniform(-12, 28)) + (12 if raised else 0)
            joint = t1.centre + np.array([side * reach, rng.uniform(-5, 25), lift - 18])
            end = joint + (np.array([side * 55, 0, 160.0]) if raised else np.array([side * 25, -10, -190.0]))
            for size, name in ((56.0, "adipose"), (47.0, "muscle")):
                bridge = [t1.centre + [side * 30, -10, -6], 0.5 * (t1.centre + joint) + [0, -8, 4], joint]
                soft._tube(bridge, [0.8 * size * s, 0.85 * size * s, size * s], fixed(name), stretch=(1, 1, 0.8))
                soft._rod(joint, end, size * s, fixed(name), end_radius=0.75 * size * s)
            inner = np.array([t1.centre[0] + side * 22 * s, front, t3.centre[2] + 4])
            acromion = joint + np.array([-side * 4, 0, 20 * s])
            span = acromion - inner
            collar = [inner, inner + 0.3 * span + [0, 10 * s, 4], inner + 0.7 * span + [0, -8 * s, 2], acromion]
            curve = spline(collar, 4)
            hard._pipe(curve, np.full(len(curve), 6.2 * s), marrow, shell=(1.8, cortex))
            hard._rod(joint, joint + 0.2 * (end - joint), 22 * s, marrow, end_radius=12 * s, shell=(1.5, cortex))
            blade = np.array([side * reach * 0.72, t7.centre[1] - 0.75 * t7.back - 58 * s, t7.centre[2]])
            spine = np.array([side * reach * 0.58, t3.centre[1] - t3.back - 52 * s, t3.centre[2] + 4])
            hard._tube([spine, acromion - [0, 12, 4]], [4.0 * s, 6.0 * s], marrow, shell=(1.4, cortex))
            hard._tube([spine, blade], [3.2 * s, 3.2 * s], marrow, shell=(1.2, cortex))
            hard._tube([blade, joint - [side * 26 * s, 8, 4]], [3.6 * s, 6.0 * s], marrow, shell=(1.4, cortex))

    def _build_cervical(self) -> None:
        rng, hard = self._neck_rng, self._neck_hard
        cortex = float(rng.uniform(560, 760))
        canal = np.array([v.world(0, -v.back - 8.0, w * v.height) for v in self.cervical for w in (-0.6, 0.4)])
        start = self.vertebra(L.T1)
        canal = np.vstack([start.world(0, -start.back - 8.0, 0), canal])
        for radius, name in ((9.0, "csf"), (5.0, "cord")):
            hard._pipe(canal, np.full(len(canal), radius * self.scale), fixed(name), stretch=(1.2, 1, 1))
        for v, (*_, low, high) in zip(self.cervical, _CERVICAL_MM, strict=True):
            self._build_disc_below(v)
            density = v.density
            hard._add(
                [v.centre],
                v.half_width + v.height,
                _body(v),
                self._bone(density),
                0,
                (float(rng.uniform(0.8, 1.1)), self._bone(cortex)),
            )
            self._build_cervical_arch(v, float(rng.uniform(low, high)) * self.scale)

    def _build_disc_below(self, v: Vertebra) -> None:
        below = v.world(0, 0, -0.5 * v.height - 0.5 * v.disc_below)
        disc = replace(v, centre=below, height=v.disc_below + 3.0)
        self._neck_hard._add([below], v.half_width + 6, _body(disc), fixed("cartilage"), 0)

    def _build_cervical_arch(self, v: Vertebra, reach: float) -> None:
        rng, s = self._neck_rng, self.scale
        form = draw_arch(L.T1, v.half_width, v.back, v.height, v.disc_below, (False, False), rng)
        long = TransverseProcess(reach, -v.back - float(rng.uniform(8, 15)) * s, 2.0, 4.0 * s, 3.0 * s, 1.3)
        form = replace(form, transverse=(long, replace(long, reach=reach * float(rng.uniform(0.93, 1.07)))))
        self._neck_arch(v, [v.world(*corner) for corner in form.corners], arch_distance(form), compactness(form))

    def _neck_arch(
        self,
        v: Vertebra,
        corners: list[np.ndarray],
        distance: Callable[[Positions], Tensor],
        share: Callable[[Positions], Tensor],
    ) -> None:
        compact, inner = float(self._neck_rng.uniform(700, 900)), v.density * 1.4 + 30

        def dense(palette: Palette, p: Positions, d: Tensor) -> "float | Tensor":
            return palette.bone(compact * share(v.local(p)))

        self._neck_hard._add(corners, 2.0, lambda p: distance(v.local(p)), self._bone(inner), 0, (1.3, dense))

    def _build_upper_processes(self) -> None:
        """Add the outer parts of the transverse processes of T1 and T2, which carry the tubercles of their ribs."""
        rng, s = self._neck_rng, self.scale
        marrow, cortex = self._bone(220.0), self._bone(700.0)
        for level, (low, high) in _UPPER_REACH.items():
            v = self.vertebra(level)
            for side in (-1.0, 1.0):
                reach = float(rng.uniform(low, high)) * s
                root, tip = v.world(side * 15 * s, -v.back - 11 * s, 3), v.world(side * reach, -v.back - 17 * s, 6)
                self._neck_hard._rod(root, tip, 4.6 * s, marrow, end_radius=4.2 * s, shell=(1.2, cortex))

    def _build_cervical_ribs(self) -> None:
        v, s = self.cervical[0], self.scale
        marrow, cortex = self._bone(180.0), self._bone(700.0)
        for side, reach in zip((-1.0, 1.0), self.cervical_ribs, strict=True):
            if reach:
                points = [
                    v.world(side * 0.9 * v.half_width, -0.7 * v.back, 0.2 * v.height),
                    v.world(side * 30 * s, -v.back - 14 * s, 0),
                    v.world(side * 0.7 * (reach + 20), -v.back - 8 * s, -5),
                    v.world(side * reach, 2 * s, -16),
                ]
                curve = spline(points, 3)
                self._neck_hard._pipe(curve, np.full(len(curve), 3.2 * s), marrow, label=None, shell=(1.0, cortex))


def _body(v: Vertebra) -> Callable[[Positions], Tensor]:
    """Return the distance to a body without details, in mm."""

    def distance(p: Positions) -> Tensor:
        u, y, w = v.local(p)
        depth = torch.where(y > 0, v.front, v.back)
        reach = ((u.abs() / v.half_width) ** 2.6 + (y.abs() / depth) ** 2.6).clamp(min=1e-6)
        side = (u * u + y * y).sqrt() * (1.0 - reach ** (-1 / 2.6))
        return smooth_max(side, w.abs() - 0.5 * v.height, 2.0)

    return distance
