"""Ribs and pelvis."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, VertebraLevel
from osteo_monai.virtual.anatomy.column import Vertebra
from osteo_monai.virtual.anatomy.shapes import Positions, Value, Vec, fixed
from osteo_monai.virtual.anatomy.trunk import TrunkBuilder
from osteo_monai.virtual.canvas import ellipsoid, smooth_max, smooth_min
from osteo_monai.virtual.person import Variant

L = VertebraLevel


class BoneBuilder(TrunkBuilder):
    """Builds the bones around the column."""

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
            fixed("adipose"),
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
