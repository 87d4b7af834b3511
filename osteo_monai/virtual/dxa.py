"""Areal density of a virtual person's lumbar spine, as an antero-posterior DXA would see it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import OSTEOPOROSIS_T_SCORE, MineralStandard, Sex, VertebraLevel
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.canvas import Canvas

DXA_LEVELS = tuple(VertebraLevel(f"L{n}") for n in (1, 2, 3, 4))
YOUNG_ADULT: dict[Sex, tuple[float, float]] = {Sex.FEMALE: (1.064, 0.106), Sex.MALE: (1.057, 0.110)}
"""Mean and SD of the spine's areal density in g/cm2 at 21-30 years (PMC12995607, Table 3)."""
_PIXEL_MM = 2.0


class _MineralPalette:
    """Paints mineral alone, mg/cm3; soft tissue and metal are subtracted by the two energies of DXA."""

    def tissue(self, name: str) -> float:
        return 0.0

    def bone(self, density: float | Tensor) -> float | Tensor:
        return density.clamp(min=0.0) if isinstance(density, Tensor) else max(density, 0.0)

    def mineral(self, density: float, standard: MineralStandard) -> float:
        return density

    def solid(self, name: str) -> float:
        return 0.0


@dataclass(frozen=True)
class ArealDensity:
    """What DXA reports: g/cm2 of the region, and standard deviations from the young adult mean of the same sex."""

    g_cm2: float
    t_score: float
    levels: tuple[VertebraLevel, ...]

    @property
    def osteoporosis(self) -> bool:
        """Whether the T-score, to the two decimals that are reported, is -2.5 or below."""
        return round(self.t_score, 2) <= OSTEOPOROSIS_T_SCORE


def areal_density(anatomy: Anatomy) -> ArealDensity:
    """Return mineral over area of L1-L4 (those that this spine has), projected from front to back.

    All mineral in the line of sight counts, posterior elements and aortic calcification included, as in DXA. The
    region is the outline of the bodies.
    """
    bodies = [v for v in anatomy.vertebrae if v.level in DXA_LEVELS]
    centres = np.array([v.centre for v in bodies])
    low = centres.min(0) - [45.0, 95.0, 25.0]
    high = centres.max(0) + [45.0, 70.0, 25.0]
    shape = np.ceil((high - low) / _PIXEL_MM).astype(int)
    canvas = Canvas(low, [_PIXEL_MM] * 3, shape.tolist(), background=0.0)
    anatomy.paint(canvas, _MineralPalette())
    labels = torch.tensor([v.level.label for v in bodies], dtype=torch.uint8)
    outline = torch.isin(canvas.label, labels).any(1)
    # mg/cm3 summed over a path in mm: mg/cm3 * mm = 0.1 mg/cm2
    areal = canvas.value.sum(1) * _PIXEL_MM * 1e-4
    mean, sd = YOUNG_ADULT[anatomy.person.sex]
    value = float(areal[outline].mean())
    return ArealDensity(value, (value - mean) / sd, tuple(v.level for v in bodies))
