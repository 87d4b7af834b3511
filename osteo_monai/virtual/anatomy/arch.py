"""The posterior arch of a vertebra: pedicles, laminae, facets, spinous and transverse processes, as one shape.

All lengths are in mm, in the frame of the body (u right, v anterior, w up); its size follows the body's. Proportions
were set by eye against sagittal, coronal and maximum-intensity views of real CT (project custom).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, radians, sin, sqrt

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import VertebraLevel
from osteo_monai.virtual.anatomy.shapes import Positions
from osteo_monai.virtual.canvas import capsule, smooth_max

L = VertebraLevel

BODY_HALF_WIDTH_MM = 21.5
"""Half-width of L1 of a man, the reference of the lengths below."""
_LUMBAR_REACH: dict[VertebraLevel, tuple[float, float]] = {
    L.L1: (35, 43), L.L2: (38, 46), L.L3: (42, 52), L.L4: (40, 47), L.L5: (40, 50), L.L6: (38, 48),
}  # fmt: skip
"""Distance of the tip of a transverse process from the axis for a man of average size; read on 16 real scans as
36-45, 39-48, 36-51 and 42-46 mm from L1 to L4, both sexes."""
_SPINE_ANGLE: dict[VertebraLevel, float] = {
    L.T1: 25, L.T2: 35, L.T3: 42, L.T4: 50, L.T5: 56, L.T6: 60, L.T7: 60, L.T8: 56, L.T9: 48, L.T10: 38,
    L.T11: 32, L.T12: 28, L.T13: 26, L.L1: 26, L.L2: 24, L.L3: 21, L.L4: 20, L.L5: 24, L.L6: 24,
}  # fmt: skip
"""Descent of a spinous process, degrees below the plane of the body."""


@dataclass(frozen=True)
class TransverseProcess:
    """One process: its end (reach from the axis, depth, height), and its radius at root and tip."""

    reach: float
    depth: float
    rise: float
    root: float
    tip: float
    stretch: float


@dataclass(frozen=True)
class ArchForm:
    """Random dimensions of one arch; mm, degrees.

    Attributes:
        size: of the body relative to L1 of a man.
        back, height, disc: of the body; ``disc`` is the one above.
        canal: depth of the lamina's inner face behind the body's centre, at the midline.
        transverse: of the left (u < 0) and of the right.
    """

    size: float
    half_width: float
    back: float
    height: float
    disc: float
    canal: float
    pedicle: float
    pedicle_x: float
    lamina_top: float
    lamina_bottom: float
    lamina_thickness: float
    lamina_slope: float
    facet: float
    spine_angle: float
    spine_length: float
    spine_height: tuple[float, float]
    spine_thickness: float
    spine_lean: float
    lumbar: bool
    transverse: tuple[TransverseProcess, TransverseProcess]

    @property
    def corners(self) -> list[tuple[float, float, float]]:
        """Corners (u, v, w) of a box around the arch."""
        reach = max(t.reach + t.tip * t.stretch for t in self.transverse) + 2
        reach = max(reach, 24 * self.size)
        far = -self.canal - self.spine_length * cos(radians(self.spine_angle)) - 4
        drop = -self.height - self.spine_length * sin(radians(self.spine_angle)) - 0.5 * self.spine_height[1]
        low = min(drop, -0.62 * self.height - self.disc - 6 * self.size)
        high = 0.62 * self.height + self.disc + 6 * self.size
        return [(u, v, w) for u in (-reach, reach) for v in (far, -0.6 * self.back) for w in (low, high)]


def lumbar_like(level: VertebraLevel) -> bool:
    """Whether the spinous process of ``level`` is a broad plate, as from T11 down."""
    return level.startswith("L") or level in (L.T11, L.T12, L.T13)


def transverse_process(
    level: VertebraLevel, has_rib: bool, half_width: float, back: float, rng: np.random.Generator
) -> TransverseProcess:
    """Draw one transverse process.

    Args:
        has_rib: whether there is a rib at this side; a T12 without one has a lumbar process.
    """
    s = half_width / BODY_HALF_WIDTH_MM
    uniform = rng.uniform
    if level in _LUMBAR_REACH or (level in (L.T12, L.T13) and not has_rib):
        low, high = _LUMBAR_REACH.get(level, (32.0, 40.0))
        # bodies widen by 10 % from L1 to L4, which the reaches above include
        wide = half_width / (BODY_HALF_WIDTH_MM * {L.L2: 1.03, L.L3: 1.08, L.L4: 1.13}.get(level, 1.0))
        rise = {L.L4: uniform(5, 12), L.L5: uniform(3, 10), L.L6: uniform(3, 10)}.get(level, uniform(-3, 5))
        thin = {L.L1: 0.85, L.L5: 1.6, L.L6: 1.6}.get(level, 1.0)
        depth = back + uniform(9, 17) * s - (4 * s if level in (L.L5, L.L6) else 0.0)
        return TransverseProcess(
            uniform(low, high) * wide, -depth, 3 + rise, 3.4 * s * thin, uniform(2.0, 3.0) * s * thin, 1.5
        )
    if level in (L.T12, L.T13):  # mamillary, accessory and lateral tubercles: a knob
        return TransverseProcess(
            uniform(17, 22) * s, -back - uniform(11, 16) * s, 3 + uniform(-2, 4), 4.2 * s, 3.4 * s, 1.3
        )
    short = uniform(0.5, 0.8) if level is L.T11 else uniform(0.9, 1.1)
    return TransverseProcess(
        (17 + 15 * short) * s, -back - (11 + 13 * short) * s, 5 + uniform(-2, 3), 4.3 * s, 4.4 * s, 1.3
    )


def draw_arch(
    level: VertebraLevel,
    half_width: float,
    back: float,
    height: float,
    disc_above: float,
    has_ribs: tuple[bool, bool],
    rng: np.random.Generator,
) -> ArchForm:
    """Draw the form of an arch for a body of these sizes (mm); ``has_ribs`` on the left and right."""
    s = half_width / BODY_HALF_WIDTH_MM
    uniform = rng.uniform
    lumbar = level.startswith("L")
    plate = lumbar_like(level)
    left, right = (transverse_process(level, rib, half_width, back, rng) for rib in has_ribs)
    wide = 1.5 if level in (L.L5, L.L6) else 1.0
    size = s * uniform(0.92, 1.08)
    if plate:
        small = 0.75 if level in (L.L5, L.L6, L.T11) else 1.0
        length, rise = uniform(25, 33) * size * small, (uniform(6, 8) * size * small, uniform(8, 11.5) * size * small)
    else:
        length, rise = uniform(34, 44) * size, (uniform(5.5, 7) * size, uniform(3.5, 5) * size)
    return ArchForm(
        size=s,
        half_width=half_width,
        back=back,
        height=height,
        disc=disc_above,
        canal=back + uniform(15.5, 18.5) * s,
        pedicle=(3.6 if lumbar else 2.9) * s * uniform(0.85, 1.2) * wide,
        pedicle_x=(0.60 if lumbar else 0.52) * half_width,
        lamina_top=uniform(0.05, 0.20) * height,
        lamina_bottom=-(uniform(0.58, 0.72) if plate else uniform(0.66, 0.85)) * height,
        lamina_thickness=uniform(2.4, 3.4) * s,
        lamina_slope=uniform(0.22, 0.42),
        facet=uniform(4.2, 5.6) * s,
        spine_angle=_SPINE_ANGLE[level] + float(rng.normal(0, 5)),
        spine_length=length,
        spine_height=rise,
        spine_thickness=uniform(2.2, 3.2) * s,
        spine_lean=float(rng.normal(0, 0.05)),
        lumbar=lumbar,
        transverse=(left, right),
    )


def arch_distance(form: ArchForm) -> Callable[[Positions], Tensor]:
    """Return the distance (mm, negative inside) to the arch as a function of positions in the frame of the body."""

    def distance(q: Positions) -> Tensor:
        u, v, w = q
        a = u.abs()
        both = torch.minimum(_pedicle(form, (a, v, w)), _lamina(form, (a, v, w)))
        both = torch.minimum(both, _facets(form, (a, v, w)))
        both = torch.minimum(both, _spinous(form, (u, v, w)))
        for side, process in zip((-1.0, 1.0), form.transverse, strict=True):
            both = torch.minimum(both, _transverse(form, process, (side * u, v, w)))
        return both

    return distance


def compactness(form: ArchForm) -> Callable[[Positions], Tensor]:
    """Return the share of full density that the arch's compact bone has: 1, but 0.45 at the tips of processes."""

    def share(q: Positions) -> Tensor:
        u, v, w = q
        behind = ((-v - form.canal - 8 * form.size) / (14 * form.size)).clamp(0.0, 1.0)
        aside = ((u.abs() - 20 * form.size) / (12 * form.size)).clamp(0.0, 1.0)
        return 1.0 - 0.55 * torch.maximum(behind, aside) + 0 * w

    return share


def _pedicle(f: ArchForm, q: Positions) -> Tensor:
    start = (f.pedicle_x, -0.72 * f.back, 0.20 * f.height)
    end = (f.pedicle_x + 1.5, -f.back - 11 * f.size, 0.17 * f.height)
    return capsule(q, start, end, f.pedicle, None, (1, 1, 1.7))


def _lamina(f: ArchForm, q: Positions) -> Tensor:
    """Two plates that meet at the midline and slope backwards as they go down, so that levels overlap like tiles."""
    a, v, w = q
    s = f.size
    middle = 0.5 * (f.lamina_top + f.lamina_bottom)
    flare = (f.canal - f.back - 11 * s) / (13 * s)
    norm = sqrt(1 + flare**2 + f.lamina_slope**2)
    off = (v + f.canal + f.lamina_thickness - flare * a - f.lamina_slope * (w - middle)) / norm
    # the upper edge is notched at the midline, where the ligament shows the canal
    top = f.lamina_top + (0.25 * a).clamp(max=3.0) - 2.0
    rim = smooth_max(torch.maximum(w - top, f.lamina_bottom - w), a - 16.5 * s, 4.0)
    return smooth_max(off.abs() - f.lamina_thickness, rim, 2.0)


def _facets(f: ArchForm, q: Positions) -> Tensor:
    s, r = f.size, f.facet
    top = 0.5 * f.height + 0.6 * f.disc + 1.0
    bottom = -0.5 * f.height - f.disc - 1.5
    if f.lumbar:  # the joint lies in a sagittal plane: the lower vertebra's process is outside
        upper = capsule(q, (15.5 * s, -f.back - 11 * s, 0.2 * f.height), (17.5 * s, -f.back - 12.5 * s, top), r)
        lower = capsule(q, (11 * s, -f.canal, -0.3 * f.height), (12 * s, -f.back - 19.5 * s, bottom), r)
    else:  # in a coronal plane: the lower vertebra's process is in front
        upper = capsule(q, (13 * s, -f.back - 10 * s, 0.2 * f.height), (13 * s, -f.back - 12 * s, top), 0.8 * r)
        lower = capsule(q, (12 * s, -f.canal + s, -0.3 * f.height), (12.5 * s, -f.back - 20 * s, bottom), 0.8 * r)
    return torch.minimum(upper, lower)


def _spinous(f: ArchForm, q: Positions) -> Tensor:
    """A plate in the midline that descends, and widens (hatchet) or tapers (thorax) towards its tip."""
    u, v, w = q
    c, s = cos(radians(f.spine_angle)), sin(radians(f.spine_angle))
    back, up = v + f.canal + 1.0, w - (f.lamina_bottom + 0.75 * f.spine_height[0])
    along, across = -c * back - s * up, s * back - c * up
    share = (along / f.spine_length).clamp(0.0, 1.1)
    high = f.spine_height[0] + (f.spine_height[1] - f.spine_height[0]) * share
    outline = smooth_max(across.abs() - high, (along - 0.5 * f.spine_length).abs() - 0.5 * f.spine_length, 5.0)
    # thickest at the lower edge of the tip
    thick = f.spine_thickness * (0.85 + 0.35 * share)
    return smooth_max((u - f.spine_lean * along).abs() - thick, outline, 2.0)


def _transverse(f: ArchForm, t: TransverseProcess, q: Positions) -> Tensor:
    start = (0.62 * f.half_width, -f.back - 10 * f.size, 3.0)
    return capsule(q, start, (t.reach - t.tip, t.depth, t.rise), t.root, t.tip, (1, 1, t.stretch))
