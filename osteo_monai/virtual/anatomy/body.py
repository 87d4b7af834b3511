"""The body of a virtual person: a list of shapes, painted in order, with exact labels.

Everything is in RAS+ mm; the origin is the centre of the sacral end plate. Each vertebra has a frame:
u to the right, v anterior, w up. Random dimensions are drawn once, when the body is built, so that the same person can
be painted on any grid and for any acquisition.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.virtual.anatomy.bones import BoneBuilder
from osteo_monai.virtual.anatomy.shapes import Noise, Palette, Positions, Shape, Vec, paint_shapes
from osteo_monai.virtual.anatomy.vertebra import FEMALE_SCALE, Vertebra
from osteo_monai.virtual.canvas import Canvas, smooth_max
from osteo_monai.virtual.person import Person


@dataclass
class Anatomy(BoneBuilder):
    """The shapes of one person.

    Attributes:
        vertebrae: from the lowest presacral body up.
        shapes: in painting order.
        half_width, half_depth: of the trunk, mm; noise and beam hardening depend on them.
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
        self._rib_reach = self._draw_rib_reach()
        self._build_trunk()
        self._build_organs()
        self._build_muscles()
        self._build_vessels()
        self._soft_shapes = len(self.shapes)
        self._build_ribs()
        self._build_pelvis()
        self._discs_from = len(self.shapes)
        for vertebra in self.vertebrae:  # discs reach into the dished end plates, so they come before the bodies
            self._build_disc(vertebra)
        self._build_canal()
        self._bodies_from = len(self.shapes)
        for index, vertebra in enumerate(self.vertebrae):
            self._build_vertebra(index, vertebra)
        self._hardware_from = len(self.shapes)
        self._build_hardware()

    # ------------------------------------------------------------------ painting

    def paint(self, canvas: Canvas, palette: Palette) -> None:
        """Paint every shape that reaches ``canvas``, in order."""
        paint_shapes(canvas, palette, self.shapes)

    def paint_soft(self, canvas: Canvas, palette: Palette) -> None:
        """Paint trunk, organs, muscles and vessels only, for which a coarser grid is sufficient."""
        paint_shapes(canvas, palette, self.shapes[: self._soft_shapes])

    def paint_hard(self, canvas: Canvas, palette: Palette) -> None:
        """Paint bones, discs, canal and hardware over the result of ``paint_soft``."""
        paint_shapes(canvas, palette, self.shapes[self._soft_shapes :])

    @property
    def soft_shapes(self) -> list[Shape]:
        """Shapes of ``paint_soft`` for radiographs: without arms, and with lungs that end in a curve, not a box."""
        end = float(self.vertebra(VertebraLevel.T12).centre[2]) - 70.0
        shapes = list(self.shapes[: self._soft_shapes])
        for index in self._lungs:
            shapes[index] = replace(shapes[index], distance=_ending(shapes[index].distance, end))
        del shapes[self._arms]
        return shapes

    @property
    def bone_shapes(self) -> list[Shape]:
        """Bones of ``paint_hard``, without hardware, discs and canal."""
        return [
            *self.shapes[self._soft_shapes : self._discs_from],
            *self.shapes[self._bodies_from : self._hardware_from],
        ]

    @property
    def vertebra_shapes(self) -> list[Shape]:
        """Vertebrae only."""
        return self.shapes[self._bodies_from : self._hardware_from]

    @property
    def hardware_shapes(self) -> list[Shape]:
        """Cement and screws."""
        return self.shapes[self._hardware_from :]

    def body_distance(self, vertebra: Vertebra, p: Positions) -> Tensor:
        """Return the distance in mm to the periosteal surface of a vertebral body; the cortex is inside."""
        return self._body_distance[vertebra.level](vertebra.local(p))

    def cortex_thickness(self, level: VertebraLevel) -> float:
        """Return the thickness of the cortical shell in mm."""
        return self._cortex[level]

    def rib_reach(self, level: VertebraLevel) -> tuple[float, float]:
        """Return the lateral reach in mm of the left and the right rib of ``level``; 0 without a rib.

        A transverse process reaches 36 to 52 mm, a usual twelfth rib 78 to 108 mm, a stub no farther than a process.
        """
        return self._rib_reach.get(level, (0.0, 0.0))

    @property
    def seed(self) -> int:
        """The person's seed."""
        return self.person.seed

    @property
    def trunk_centre(self) -> Vec:
        """Middle of the trunk in RAS+ mm (x and y count)."""
        return self._middle

    @property
    def fat(self) -> float:
        """Thickness of the subcutaneous fat, mm."""
        return self._fat

    @property
    def scale(self) -> float:
        """Linear size of the bones relative to an average man."""
        return self._scale

    @property
    def noise(self) -> Noise:
        """The person's own random field."""
        return self._noise


def _ending(distance: Callable[[Positions], Tensor], z: float) -> Callable[[Positions], Tensor]:
    """Return the distance of a shape rounded off below the height ``z``."""
    return lambda p: smooth_max(distance(p), z - p[2], 30.0)
