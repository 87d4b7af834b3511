"""Bones of a chest: ribs, sternum, shoulders and the lower cervical spine."""

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, VertebraLevel
from osteo_monai.virtual.anatomy.chest_soft import SoftChestBuilder
from osteo_monai.virtual.anatomy.shapes import Palette, Positions, Shape, Vec, spline
from osteo_monai.virtual.canvas import capsule, ellipsoid, smooth_max, smooth_min

_RIBS: dict[int, tuple[float, float]] = {
    # number: where it ends, degrees from the back; how far it drops up to 180 degrees, mm
    1: (138, 48), 2: (148, 70), 3: (150, 92), 4: (150, 106), 5: (150, 118), 6: (148, 126),
    7: (145, 130), 8: (138, 130), 9: (130, 128), 10: (118, 150), 11: (80, 190), 12: (50, 230),
}  # fmt: skip
"""Read from drawings of the ribcage; the project's choice."""


class ChestBoneBuilder(SoftChestBuilder):
    """Build the bones of the chest."""

    _manubrium: Vec

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
        v = self.anatomy.vertebra(VertebraLevel.T1)
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
