"""Vertebral bodies: sizes by level, and the place, frame and density of one body."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import VertebraLevel
from osteo_monai.virtual.anatomy.shapes import Positions, Vec
from osteo_monai.virtual.canvas import Box, Canvas
from osteo_monai.virtual.person import Variant

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

TILT_DEGREES: dict[VertebraLevel, float] = dict(
    zip(
        BODY_SIZE_MM,
        (24, 20, 16, 12, 8, 4, 0, -4, -8, -11, -13, -14, -14, -13, -9, -2, 8, 20, 28),
        strict=True,
    )
)
"""Forward tilt of the long axis of each body, for an average lordosis and kyphosis."""

FEMALE_SCALE = 0.90
"""Linear size of vertebrae of women relative to men (10-15 % larger in men; commonly quoted)."""


@dataclass(frozen=True)
class Vertebra:
    """A vertebral body: place, rotation, size and density."""

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
    """Loss of anterior height as a fraction; 0 for an intact body."""

    @property
    def trabecular_density(self) -> float:
        """Density of the trabecular bone in mg/cm3 K2HPO4, which is compacted in a collapsed body."""
        return self.density * (1.0 + 0.5 * self.fracture)

    @property
    def reach_z(self) -> float:
        """Extent of the body above and below its centre along z, in mm, slightly overestimated."""
        return float(0.5 * self.height + abs(self.frame[2, 1]) * self.front + abs(self.frame[2, 0]) * self.half_width)

    def world(self, u: float, v: float, w: float) -> Vec:
        """Return the position in RAS+ mm of a point in the frame of the body."""
        position: Vec = self.centre + self.frame @ np.array([u, v, w])
        return position

    def local(self, p: Positions) -> Positions:
        """Return the coordinates u, v, w of RAS+ positions."""
        d = [x - float(c) for x, c in zip(p, self.centre, strict=True)]
        u, v, w = (d[0] * float(f[0]) + d[1] * float(f[1]) + d[2] * float(f[2]) for f in self.frame.T)
        return u, v, w


def rotation(pitch: float, roll: float, yaw: float) -> NDArray[np.float64]:
    """Return a frame whose up axis leans forward by ``pitch``, to the right by ``roll``, turned by ``yaw``
    (degrees).
    """
    a, b, c = np.deg2rad([pitch, roll, yaw])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = about_y @ about_x @ about_z
    return rotation


def sequence(variants: frozenset[Variant]) -> list[VertebraLevel]:
    """Return the presacral levels of a spine with ``variants``, from the lowest up."""
    levels: list[VertebraLevel] = [level for level in BODY_SIZE_MM if level not in (L.T13, L.L6)]
    if Variant.LUMBARISED in variants:
        levels.append(L.L6)
    if Variant.SACRALISED in variants:
        levels.remove(L.L5)
    if Variant.THIRTEEN_RIBS in variants:
        levels.insert(levels.index(L.L1), L.T13)
    return levels[::-1]


def reached(canvas: Canvas, vertebra: Vertebra, margin: float = 6.0) -> Box | None:
    """Return the voxels of ``canvas`` that may belong to the body of ``vertebra``."""
    reach = float(np.linalg.norm([vertebra.half_width, vertebra.front, vertebra.height / 2])) + margin
    return canvas.box(vertebra.centre - reach, vertebra.centre + reach)
