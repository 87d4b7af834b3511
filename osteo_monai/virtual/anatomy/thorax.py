"""The chest of a virtual person as in a radiograph: upright, in inspiration, with shoulders and neck.

A CT of the lower spine needs none of this, and nothing here changes it. Frame, units and the column are those of
:mod:`osteo_monai.virtual.anatomy`; everything else is drawn from a separate stream.
"""

from dataclasses import dataclass, field

import numpy as np

from osteo_monai.domain import Sex, VertebraLevel
from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.chest_bones import ChestBoneBuilder
from osteo_monai.virtual.anatomy.chest_parts import Part, Vessel
from osteo_monai.virtual.anatomy.shapes import Shape, Vec

__all__ = ["Part", "Thorax", "Vessel"]


@dataclass
class Thorax(ChestBoneBuilder):
    """Shapes of the chest of ``anatomy``.

    Attributes:
        soft: soft tissues and gas, values in HU (1000 HU above air are one part of water), in painting order.
        hard: bones, values in mg/cm3 of mineral.
        vessels: of the lungs, thinner than a soft tissue's grid.
        lung_hu: HU of the lungs between the vessels.
    """

    anatomy: Anatomy
    soft: list[Shape] = field(default_factory=list)
    hard: list[Shape] = field(default_factory=list)
    vessels: list[Vessel] = field(default_factory=list)
    lung_hu: float = -830.0

    def __post_init__(self) -> None:
        a = self.anatomy
        person = a.person
        self._rng = np.random.default_rng([person.seed, 6])
        self._female = person.sex is Sex.FEMALE
        self._size = (0.92 if self._female else 1.0) * (
            1 + 0.8 * (person.height_cm / (159 if self._female else 171) - 1)
        )
        thoracic = [v for v in a.vertebrae if v.level.startswith("T") and v.level is not VertebraLevel.T13]
        self._z = np.array([v.centre[2] for v in thoracic[::-1]])  # T1 first
        self.top, self.bottom = float(self._z[0]), float(self._z[-1])
        self._length = self.top - self.bottom
        zs = np.array([v.centre[2] for v in a.vertebrae])
        u = (self.top - zs) / self._length
        # the column's course as cubics in the height, smooth and cheap to evaluate anywhere
        self._course = [np.polyfit(u, [v.centre[i] for v in a.vertebrae], 3) for i in (0, 1)]
        quality = float(np.clip(person.mean_density / 135.0, 0.25, 1.5))
        self._strength = 0.42 + 0.58 * quality
        """Of cortices everywhere: thin and porous where the spine has little mineral."""
        self._build_cage()
        self.chest_centre_y = float(self._section(self.top - 0.5 * self._length)[3])
        self._build_trunk()
        self._build_mediastinum()
        self._build_vessels()
        self._build_ribs()
        self._build_sternum()
        self._build_shoulders()
        self._build_neck()

    @property
    def lung_box(self) -> tuple[Vec, Vec]:
        """Corners (low, high) in RAS+ mm of a plane box about both lungs as a frontal radiograph shows them."""
        half_width, _, x, y = (float(k) for k in self._section(self.top - 0.75 * self._length))
        bottom = min(self._dome.values()) - 1.5 * self._drop
        return np.array([x - half_width, y, bottom]), np.array([x + half_width, y, self.top + 0.04 * self._length])
