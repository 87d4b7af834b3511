"""Ribs and pelvis."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import RIB_LABEL, VertebraLevel
from osteo_monai.virtual.anatomy.shapes import Palette, Positions, Value, Vec, fixed, spline
from osteo_monai.virtual.anatomy.trunk import TrunkBuilder
from osteo_monai.virtual.anatomy.vertebra import Vertebra
from osteo_monai.virtual.canvas import capsule, ellipsoid, smooth_max, smooth_min
from osteo_monai.virtual.person import Variant

L = VertebraLevel


class BoneBuilder(TrunkBuilder):
    """Build the bones around the column."""

    def _bone_pair(self) -> tuple[Value, Value]:
        """Return the values of cortical and of cancellous bone outside the bodies."""
        mean = self.person.mean_density
        cortex = self._uniform(500, 950) * float(np.clip(0.6 + mean / 300, 0.6, 1.1))
        marrow = 0.7 * mean + self._uniform(-20, 60)
        return (lambda palette, p, d: palette.bone(cortex)), (lambda palette, p, d: palette.bone(marrow))

    def _draw_rib_reach(self) -> dict[VertebraLevel, tuple[float, float]]:
        """Draw the lateral reach of each rib, left and right, in mm.

        The last rib as on sixteen real scans: 78-108 mm, or 48-66 mm in one of five people; stubs in 3 % (project
        custom), in which the sides differ.
        """
        reaches: dict[VertebraLevel, tuple[float, float]] = {}
        kind = self._rng.random()
        for v in self.vertebrae:
            if not v.level.startswith("T") or (v.level is L.T12 and Variant.ELEVEN_RIBS in self.person.variants):
                continue
            if v.level is L.T13:
                low, high, differ = 37.0, 72.0, 0.15
            elif v.level is L.T12 and kind < 0.03:
                low, high, differ = 26.0, 38.0, 0.15
            elif v.level is L.T12 and kind < 0.23:
                low, high, differ = 44.0, 66.0, 0.15
            elif v.level is L.T12:
                low, high, differ = 76.0, 116.0, 0.08
            elif v.level is L.T11:
                low, high, differ = 108.0, 140.0, 0.05
            else:
                low, high, differ = 150.0, 170.0, 0.03
            reach = self._uniform(low, high) * self._scale
            left, right = (reach * (1 + float(np.clip(self._rng.normal(0, differ), -0.4, 0.4))) for _ in range(2))
            reaches[v.level] = (left, right)
        return reaches

    def _build_ribs(self) -> None:
        cortex, marrow = self._bone_pair()
        steep = self._uniform(0.65, 1.25)
        girth = self._uniform(0.88, 1.12)
        top = self.vertebrae[-1].centre[2]
        for v in self.vertebrae:
            reach = self._rib_reach.get(v.level)
            if reach is None:
                continue
            # the lower, the steeper; the last two bend down most
            slope = {L.T13: 0.9, L.T12: 0.95, L.T11: 0.75, L.T10: 0.60}.get(v.level, 0.52)
            slope = steep * slope * self._uniform(0.85, 1.15)
            thick = self._uniform(3.7, 4.5) * self._scale * girth
            thick *= {L.T13: 0.72, L.T12: self._uniform(0.6, 0.88), L.T11: 0.93}.get(v.level, 1.0)
            narrow = 1.0 - 0.45 * float(np.clip((v.centre[2] - top + 130) / 130, 0, 1)) ** 2
            for side, length in zip((-1.0, 1.0), reach, strict=True):
                path = self._rib_path(v, side, length, slope * self._uniform(0.93, 1.07), narrow)
                radius = thick * np.interp(
                    np.linspace(0, 1, len(path)), [0, 0.12, 0.25, 0.85, 1], [0.95, 0.7, 1, 1, 0.6]
                )
                self._pipe(
                    path,
                    radius,
                    marrow,
                    stretch=(1, 1, 1.35),
                    label=RIB_LABEL,
                    shell=(self._uniform(0.9, 1.5), cortex),
                )

    def _rib_path(self, v: Vertebra, side: float, reach: float, slope: float, narrow: float) -> NDArray[np.float64]:
        """Return the axis (n, 3) of a rib from its head to its end, mm.

        Heads of the last two ribs lie on the upper half of their body, those above beside the disc above. The shaft
        follows the trunk and descends by ``slope`` mm per mm of its course, increasingly.
        """
        floating = v.level in (L.T11, L.T12, L.T13)
        head_w = self._uniform(0.12, 0.28) * v.height if floating else 0.5 * v.height + 1.5
        head = v.world(side * 0.84 * v.half_width, -0.72 * v.back, head_w)
        tubercle = v.world(side * (v.half_width + 11), -v.back - (15 if floating else 19), 2.0)
        inset = self._fat + self._rib_inset
        a, b = (self.half_width - inset) * narrow, (self.half_depth - inset) * narrow
        axis = float(v.centre[0])
        middle_y = self._middle[1] + float(self._forward(torch.tensor(float(v.centre[2]) - 25.0)))
        points = [head, 0.5 * (head + tubercle), tubercle]
        if reach < v.half_width + 20:  # a stub
            points[-1] = head + (tubercle - head) * max(reach - v.half_width, 4.0) / 11.0
            return spline(points, 2)
        out = side * (tubercle[0] - self._middle[0]) + 12
        begin = float(np.arcsin(np.clip(out / a, 0.1, 0.9)))
        edge = side * (axis - self._middle[0]) + reach
        finish = float(np.arcsin(min(edge / a, 0.999))) if edge < a else np.pi / 2 + min((edge / a - 1.0) * 3.5, 0.9)
        way = 0.0
        last = tubercle
        for angle in np.linspace(begin, max(finish, begin + 0.08), max(3, int(7 * (finish - begin)))):
            x = self._middle[0] + side * a * np.sin(angle)
            y = middle_y - b * np.cos(angle)
            # from the tubercle the shaft first goes straight
            share = min(1.0, (abs(x - tubercle[0]) / 45.0)) ** 0.7
            y = share * y + (1 - share) * (tubercle[1] - 0.35 * abs(x - tubercle[0]))
            way += float(np.hypot(x - last[0], y - last[1]))
            last = np.array([x, y, tubercle[2] - slope * way * (0.75 + 0.5 * min(way / 120.0, 1.0))])
            points.append(last)
        return spline(points, 2)

    def _build_pelvis(self) -> None:
        cortex, marrow = self._bone_pair()
        marrow_mg = 0.7 * self.person.mean_density + self._uniform(-10, 50)
        f, s = self.sacrum_frame, self._scale
        frame = Vertebra(L.SACRUM, np.zeros(3), f, 26 * s, 18 * s, 15 * s, 28 * s, 0, 0, 0)
        alar, flat, taper = self._uniform(0.9, 1.1), self._uniform(0.0032, 0.0052), self._uniform(0.16, 0.24)
        remnant, first = self._uniform(0.0, 0.6), -self._uniform(25, 30) * s

        def sacrum(p: Positions) -> Tensor:
            u, v, w = frame.local(p)
            bend = flat * w * w  # the sacrum curves backwards, then forwards again
            bodies = smooth_max(
                (v - 1.5 * s + 0.10 * w + bend).abs() - (16.5 * s + taper * w).clamp(min=4),
                u.abs() - (25 * s + 0.20 * w).clamp(min=8),
                6,
            )
            wings = smooth_max(
                (v + 10 + bend).abs() - (15 * s + 0.06 * w).clamp(min=5),
                u.abs() - (53 * s + 0.42 * w).clamp(min=9) * alar,
                8,
            )
            wings = smooth_max(wings, w + 5 - 0.12 * (u.abs() - 26 * s).clamp(min=0), 6)
            arch = capsule((u, v + bend, w), (0.0, -31 * s, -12), (0.0, -30 * s, -85), 4.5 * s, None, (2.2, 1, 1))
            whole = smooth_min(smooth_min(smooth_max(bodies, w, 2.5), wings, 4), arch, 4)
            return smooth_max(whole, -w - 105 * s, 6)

        def spongy(palette: Palette, p: Positions, d: Tensor) -> float | Tensor:
            _, _, w = frame.local(p)
            line = torch.exp(-(((w - first) / 3.0) ** 2))  # remnant of the disc between S1 and S2
            return palette.bone(marrow_mg * (1.0 + remnant * line))

        self._add([np.zeros(3)], 135, sacrum, spongy, L.SACRUM.label, (self._uniform(1.0, 1.8), cortex))
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
