"""Digital model of the European Spine Phantom: three vertebrae of known hydroxyapatite in a water-like trunk.

It verifies the virtual CT: the measured density of each insert must be that of the phantom at every tube voltage.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import MineralStandard, VertebraLevel
from osteo_monai.virtual.anatomy import Palette, Positions, Shape, Value, paint_shapes
from osteo_monai.virtual.canvas import Canvas, smooth_max

INSERTS: dict[VertebraLevel, tuple[float, float]] = {
    VertebraLevel.L3: (50.0, 0.5),
    VertebraLevel.L2: (100.0, 1.0),
    VertebraLevel.L1: (200.0, 1.5),
}
"""Trabecular density in mg/cm3 hydroxyapatite and cortical thickness in mm of the three vertebrae, from the feet up."""
STANDARD = MineralStandard.HYDROXYAPATITE
RADIUS_MM, HEIGHT_MM, STEP_MM = 17.5, 23.5, 30.0
"""Radius 17.2-17.7 and height 23-24 mm (arXiv 1812.00693); distance from centre to centre."""
END_PLATE_MM, CORTEX_MG_CM3 = 1.5, 800.0


@dataclass
class SpinePhantom:
    """The phantom as an object for the virtual CT; z = 0 is the centre of the middle vertebra.

    Attributes:
        shapes: in painting order; the vertebrae carry the labels of L3, L2 and L1.
    """

    half_width: float = 140.0
    half_depth: float = 90.0
    shapes: list[Shape] = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        a, b = self.half_width, self.half_depth

        def trunk(p: Positions) -> Tensor:
            x, y, z = p
            reach = ((x / a) ** 2 + (y / b) ** 2).sqrt().clamp(min=1e-6)
            side = (x * x + y * y).sqrt() * (1 - 1 / reach)
            return smooth_max(side, z.abs() - 75.0, 0.5)

        water: Value = lambda palette, p, d: palette.mineral(0.0, STANDARD)  # noqa: E731
        self.shapes.append(Shape((-a, -b, -76.0), (a, b, 76.0), trunk, water))
        for i, (level, (density, cortex)) in enumerate(INSERTS.items()):
            self._add_vertebra(level, density, cortex, STEP_MM * (i - 1))

    def _add_vertebra(self, level: VertebraLevel, density: float, cortex: float, z0: float) -> None:
        def body(inset: float, plate: float) -> "Shape":
            def distance(p: Positions) -> Tensor:
                x, y, z = p
                side = (x * x + (y + 25.0) ** 2).sqrt() - (RADIUS_MM - inset)
                return smooth_max(side + 0 * z, (z - z0).abs() - (HEIGHT_MM / 2 - plate), 0.5)

            r = RADIUS_MM + 1
            mineral = density if inset else CORTEX_MG_CM3
            label = None if inset else level.label
            value: Value = lambda palette, p, d: palette.mineral(mineral, STANDARD)  # noqa: E731
            low, high = (-r, -25 - r, z0 - HEIGHT_MM / 2 - 1), (r, r - 25, z0 + HEIGHT_MM / 2 + 1)
            return Shape(low, high, distance, value, label)

        self.shapes += [body(0.0, 0.0), body(cortex, END_PLATE_MM)]

    @property
    def trunk_centre(self) -> NDArray[np.float64]:
        """Middle of the phantom, mm."""
        return np.zeros(3)

    def paint_soft(self, canvas: Canvas, palette: Palette) -> None:
        """Paint the trunk."""
        paint_shapes(canvas, palette, self.shapes[:1])

    def paint_hard(self, canvas: Canvas, palette: Palette) -> None:
        """Paint the vertebrae."""
        paint_shapes(canvas, palette, self.shapes[1:])
