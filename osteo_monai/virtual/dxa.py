"""Areal density of the lumbar spine of a virtual person, as by antero-posterior DXA."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import OSTEOPOROSIS_T_SCORE, MineralStandard, Sex, VertebraLevel
from osteo_monai.virtual.anatomy import Anatomy
from osteo_monai.virtual.anatomy.shapes import paint_shapes
from osteo_monai.virtual.anatomy.vertebra import Vertebra
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.person import Person

DXA_LEVELS = tuple(VertebraLevel(f"L{n}") for n in (1, 2, 3, 4))
YOUNG_ADULT: dict[Sex, tuple[float, float]] = {Sex.FEMALE: (1.064, 0.106), Sex.MALE: (1.057, 0.110)}
"""Mean and SD of the spine's areal density in g/cm2 at 21-30 years (PMC12995607, Table 3)."""
YOUNG_PROJECTED: dict[Sex, float] = {Sex.FEMALE: 1.119, Sex.MALE: 1.160}
"""Mean of the projected mineral (g/cm2) of virtual people of 21 to 30 years, measured on 80 of each sex."""
PROJECTED_SHARE = 0.6
"""Share of a difference in projected mineral in DXA; chosen so that the proportion of virtual people of 40 years and
more with T-scores of -2.5 and below is near that of the national survey of China in 2018 (women 20.9 %, men 4.4 %,
spine or hip): 19 and 10 %. Two effects reduce it below 1: in the old, marrow fat lowers the single-energy QCT values
that these bodies are generated from, but not DXA; and facet joints and end plates become sclerotic with age. Facet
joints and end plates are simulated, but their sclerosis depends on density and on the variant of osteophytes and not on
age only; the effect of marrow fat on DXA is not simulated."""
READING_SD = 0.05
"""SD in g/cm2 of the other effects on a DXA of the spine (fat of uneven thickness, sclerosis, calcification,
positioning), about 5 % of a young adult's; the project's choice."""
_PIXEL_MM = 2.0


class _MineralPalette:
    """Mineral only, mg/cm3; soft tissue and metal are subtracted by the two energies of DXA."""

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
    """Result of DXA: g/cm2 of the region, and standard deviations from the young adult mean of the same sex."""

    g_cm2: float
    t_score: float
    levels: tuple[VertebraLevel, ...]

    @property
    def osteoporosis(self) -> bool:
        """Whether the T-score, rounded to two decimals as reported, is -2.5 or below."""
        return round(self.t_score, 2) <= OSTEOPOROSIS_T_SCORE


def reading_error(person: Person) -> float:
    """Return the error in g/cm2 of the DXA of this person, the same at each call."""
    return float(np.random.default_rng([person.seed, 23]).normal(0.0, READING_SD))


def projected_density(anatomy: Anatomy) -> float:
    """Return mineral over area in g/cm2 of the existing levels of L1-L4, projected from front to back.

    All mineral along the rays counts, posterior elements and aortic calcification included, as in DXA. The
    region is the outline of the bodies.
    """
    bodies = _bodies(anatomy)
    centres = np.array([v.centre for v in bodies])
    low = centres.min(0) - [45.0, 95.0, 25.0]
    high = centres.max(0) + [45.0, 70.0, 25.0]
    shape = np.ceil((high - low) / _PIXEL_MM).astype(int)
    canvas = Canvas(low, [_PIXEL_MM] * 3, shape.tolist(), background=0.0)
    calcium = [shape for shape in anatomy.soft_shapes if shape.mineral]
    paint_shapes(canvas, _MineralPalette(), [*calcium, *anatomy.vertebra_shapes, *anatomy.hardware_shapes])
    labels = torch.tensor([v.level.label for v in bodies], dtype=torch.uint8)
    outline = torch.isin(canvas.label, labels).any(1)
    # mg/cm3 summed over a path in mm: mg/cm3 * mm = 0.1 mg/cm2
    areal = canvas.value.sum(1) * _PIXEL_MM * 1e-4
    return float(areal[outline].mean())


def areal_density(anatomy: Anatomy) -> ArealDensity:
    """Return the DXA of the existing levels of L1-L4.

    The projected mineral is converted to the scale of a population: young adults have the mean of ``YOUNG_ADULT``,
    differences are ``PROJECTED_SHARE`` of those of the mineral, and each person has a reading error.
    """
    person = anatomy.person
    mean, sd = YOUNG_ADULT[person.sex]
    difference = projected_density(anatomy) - YOUNG_PROJECTED[person.sex]
    value = max(mean + PROJECTED_SHARE * difference + reading_error(person), 0.0)
    return ArealDensity(value, (value - mean) / sd, tuple(v.level for v in _bodies(anatomy)))


def t_score_slope(person: Person, areal: ArealDensity) -> float:
    """Return the rise of the T-score of ``areal`` if all mineral is doubled, so that a factor of 1.1 adds a tenth."""
    mean, sd = YOUNG_ADULT[person.sex]
    # the areal density has the projected mineral; projecting again would take 0.2 s
    projected = YOUNG_PROJECTED[person.sex] + (areal.g_cm2 - mean - reading_error(person)) / PROJECTED_SHARE
    return PROJECTED_SHARE * projected / sd


def _bodies(anatomy: Anatomy) -> list[Vertebra]:
    return [v for v in anatomy.vertebrae if v.level in DXA_LEVELS]
