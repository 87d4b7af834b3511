"""CT of a virtual person: HU from attenuation at the tube voltage, then blur, noise and errors of the scanner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.domain import ContrastPhase, MineralStandard, VertebraLevel
from osteo_monai.imaging import effective_energy as energy
from osteo_monai.imaging.attenuation import hu_per_mg_cm3, hu_per_mg_iodine, tissue_hu
from osteo_monai.imaging.radiograph import VIRTUAL_MANUFACTURER
from osteo_monai.imaging.volume import Acquisition, CTVolume
from osteo_monai.virtual.anatomy import Anatomy, Palette
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.spread import TissueSpread

REFERENCE_KVP = 120.0
"""Tube voltage at which the densities of a person equal those of single-energy QCT."""
LARGEST_HU, SMALLEST_HU = 3071.0, -1024.0
MODEL = "Virtual CT 128"


_IODINE_MG_ML: dict[ContrastPhase, dict[str, float]] = {
    ContrastPhase.NATIVE: {},
    ContrastPhase.ARTERIAL: {"aorta": 11.0, "cava": 2.0, "heart": 9.0, "kidney": 4.5, "spleen": 3.0, "liver": 0.7,
                             "muscle": 0.3, "bone": 0.35, "pancreas": 2.5},
    ContrastPhase.PORTAL_VENOUS: {"aorta": 4.6, "cava": 4.3, "heart": 4.5, "kidney": 6.0, "spleen": 2.7, "liver": 2.2,
                                  "muscle": 0.6, "bone": 0.45, "pancreas": 2.0},
}  # fmt: skip
"""Iodine in mg/ml by organ, chosen to give the usual enhancement at 120 kVp (26 HU per mg/ml): aorta about 330 HU
arterial and 165 HU portal-venous; bone +9 to +12 HU."""

_TISSUE: dict[str, tuple[str, float]] = {
    "adipose": ("adipose", -22.0),
    "visceral_fat": ("adipose", -18.0),
    "mediastinum": ("adipose", 30.0),
    "muscle": ("muscle", 8.0),
    "skin": ("muscle", -10.0),
    "cartilage": ("muscle", 30.0),
    "csf": ("water", 12.0),
    "cord": ("muscle", -8.0),
    "aorta": ("blood", -14.0),
    "cava": ("blood", -14.0),
    "heart": ("blood", -14.0),
    "liver": ("liver", 0.0),
    "spleen": ("spleen", -6.0),
    "kidney": ("kidney", -12.0),
    "pancreas": ("muscle", -12.0),
    "bowel_fluid": ("water", 15.0),
    "yellow_marrow": ("yellow_marrow", 0.0),
    "air": ("air", 0.0),
}
"""ICRU material of each tissue, and the HU of living tissue above (or below) it at 120 kVp."""


_ANY_SOFT_HU = (-40.0, 130.0)
_RANDOM_HU: dict[str, tuple[float, float]] = {
    "adipose": (-200.0, 0.0),
    "visceral_fat": (-200.0, 20.0),
    "mediastinum": (-150.0, 100.0),
    "yellow_marrow": (-150.0, 50.0),
    "cartilage": (0.0, 160.0),
    "aorta": (0.0, 500.0),
    "cava": (0.0, 350.0),
    "heart": (0.0, 450.0),
    "kidney": (0.0, 300.0),
    "liver": (-40.0, 220.0),
    "spleen": (0.0, 220.0),
    "bowel_fluid": (-60.0, 300.0),
    "oral_contrast": (0.0, 900.0),
    "lung": (-960.0, -450.0),
}
"""Ranges of HU for domain randomisation, slightly wider than disease and contrast phases cause (project custom)."""


@dataclass(frozen=True)
class CTProtocol:
    """Acquisition of a CT; lengths in mm.

    Attributes:
        kernel: ``soft`` or ``sharp``; sets the blur and the noise spectrum.
        noise_hu: standard deviation in water at the centre of an average trunk, at the slice thickness used.
        slice_thickness: full width of the slice profile.
        slice_step: distance between slices.
        pixel: in-plane pixel size; matrix: pixels along x and y.
        gain, offset_hu: error of the scanner: h HU are written as ``gain * (h + 1000) - 1000 + offset_hu``.
        beam: HU per mg/cm3 of the scanner relative to the model of this tube voltage (its effective energy).
        hardening: HU of bone at the spine relative to those of this energy (beam hardening, scatter).
    """

    kvp: float = REFERENCE_KVP
    kernel: Literal["soft", "sharp"] = "soft"
    noise_hu: float = 12.0
    slice_thickness: float = 2.0
    slice_step: float = 2.0
    pixel: float = 0.75
    matrix: tuple[int, int] = (512, 512)
    phase: ContrastPhase = ContrastPhase.NATIVE
    table: bool = True
    gain: float = field(default=1.0, repr=False)
    offset_hu: float = field(default=0.0, repr=False)
    beam: float = field(default=1.0, repr=False)
    hardening: float = field(default=1.0, repr=False)


KERNEL_NAMES = {"soft": "B", "sharp": "YC"}
"""ConvolutionKernel as of the scanner of Pan 2024."""
_BLUR_MM = {"soft": 0.55, "sharp": 0.28}
"""Gaussian sigma of the in-plane point spread; soft body kernels resolve about 7 line pairs per cm, sharp ones 12."""
_SLICES_AT_ONCE = 16
_GRAIN_MM = {"soft": 0.75, "sharp": 0.30}
"""Correlation length of the noise."""


@dataclass
class CTPalette:
    """HU of every material at one tube voltage, with small differences between people.

    Args:
        spread: SD in HU of a person's soft tissues about the textbook value.
        tissues: differences between people of fat, muscle and blood, in place of ``spread``.
        beam, hardening: see :class:`CTProtocol`.
        randomise: 0 for realistic HU, 1 for any HU: every tissue is drawn between its own value and one from its range
            in ``_RANDOM_HU``, and the contrast of bone by up to the factor 1.6. Networks trained on a wider range than
            reality do not depend on absolute HU (SynthSeg, Billot 2023). There is no truth in HU then.
    """

    kvp: float
    phase: ContrastPhase = ContrastPhase.NATIVE
    seed: int = 0
    spread: float = 6.0
    randomise: float = 0.0
    tissues: TissueSpread | None = None
    beam: float = 1.0
    hardening: float = 1.0
    _cache: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 3])
        self._shift = {name: float(rng.normal(0, self.spread)) for name in sorted([*_TISSUE, "lung", "oral_contrast"])}
        # fatty livers
        if rng.random() < 0.2:
            self._shift["liver"] -= float(rng.uniform(10, 50))
        if self.tissues is not None:
            self._shift |= self.tissues.shifts(self.seed)
        self._kev = None
        if self.beam != 1.0:
            self._kev = energy.effective_energy(self.kvp), energy.effective_energy(self.kvp, self.beam)
        self._lung = float(rng.uniform(-900, -780))
        self._oral = float(rng.uniform(100, 420))
        self._dose = float(rng.uniform(0.75, 1.3))
        standard = MineralStandard.K2HPO4
        fat = float(rng.uniform(0.35, 0.65))
        marrow, at_reference = (fat * hu("yellow_marrow") + (1 - fat) * hu("red_marrow")
                                for hu in (self._hu, lambda name: tissue_hu(name, REFERENCE_KVP)))  # fmt: skip
        self._slope = self.hardening * self._mineral(standard)
        # in single-energy QCT marrow fat counts as missing mineral: add it, then image at this voltage
        reference = hu_per_mg_cm3(standard, REFERENCE_KVP)
        self._offset = self.hardening * marrow - at_reference / reference * self._slope
        self._offset += self._iodine("bone")
        if not 0.0 <= self.randomise <= 1.0:
            raise ValueError(f"randomise must be from 0 to 1, got {self.randomise}")
        if self.randomise:
            self._draw_any(np.random.default_rng([self.seed, 4]))

    def _draw_any(self, rng: np.random.Generator) -> None:
        """Replace the HU of tissues and bone by values from a wider range than that of people."""
        for name in sorted([*_TISSUE, "lung", "oral_contrast"]):
            drawn = float(rng.uniform(*_RANDOM_HU.get(name, _ANY_SOFT_HU)))
            if name != "air":
                self._cache[name] = self.tissue(name) + self.randomise * (drawn - self.tissue(name))
        self._slope *= float(1.6 ** (self.randomise * rng.uniform(-1, 1)))
        self._offset += self.randomise * float(rng.uniform(-30, 60))

    def _iodine(self, name: str) -> float:
        amount = _IODINE_MG_ML[self.phase].get(name, 0.0)
        if not amount:
            return 0.0
        per_mg = hu_per_mg_iodine(self.kvp) + self._by_beam(energy.hu_per_mg_iodine_by_energy)
        return self._dose * amount * per_mg

    def _by_beam(self, by_energy: Callable[[], NDArray[np.float64]]) -> float:
        """Return the difference of a table by energy between this scanner and the model."""
        if self._kev is None:
            return 0.0
        model, own = np.interp(self._kev, energy.ENERGIES_KEV, by_energy()).tolist()
        return float(own - model)

    def _hu(self, material: str) -> float:
        return tissue_hu(material, self.kvp) + self._by_beam(lambda: energy.tissue_hu_by_energy(material))

    def _mineral(self, standard: MineralStandard) -> float:
        return hu_per_mg_cm3(standard, self.kvp) + self._by_beam(lambda: energy.hu_per_mg_by_energy(standard))

    def tissue(self, name: str) -> float:
        """Return the HU of a soft tissue, fluid or gas."""
        if name not in self._cache:
            if name == "lung":
                value = self._lung
            elif name == "oral_contrast":
                value = self._oral
            else:
                material, above = _TISSUE[name]
                shift = 0.0 if name == "air" else self._shift[name]
                value = self._hu(material) + above + shift + self._iodine(name)
            self._cache[name] = value
        return self._cache[name]

    def bone(self, density: float | Tensor) -> float | Tensor:
        """Return the HU of bone of ``density`` mg/cm3 K2HPO4 (as by QCT at 120 kVp)."""
        return density * self._slope + self._offset

    def mineral(self, density: float, standard: MineralStandard) -> float:
        """Return the HU of ``density`` mg/cm3 of a reference mineral in water, as in calibration phantoms."""
        return density * self._mineral(standard)

    def solid(self, name: str) -> float:
        """Return the HU of an implant material, before the scanner clips it."""
        return {"titanium": min(tissue_hu("titanium", self.kvp), 8000.0), "cement": 1300.0}[name]


def gaussian_blur(volume: Tensor, sigma: Sequence[float]) -> Tensor:
    """Blur (X, Y, Z) by a separable Gaussian, sigma in voxels for each axis; edges are repeated.

    It uses shifted additions, which on a CPU are several times as fast as a convolution with such a small kernel.
    """
    for axis, s in enumerate(sigma):
        n = volume.shape[axis]
        if s < 0.15 or n < 2:
            continue
        radius = min(max(1, round(3 * s)), n - 1)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / s) ** 2)
        weights /= weights.sum()
        edges = [volume.narrow(axis, i, 1).expand(*(radius if a == axis else m for a, m in enumerate(volume.shape)))
                 for i in (0, n - 1)]  # fmt: skip
        padded = torch.cat([edges[0], volume, edges[1]], axis)
        blurred = padded.narrow(axis, radius, n) * float(weights[radius])
        for shift in range(1, radius + 1):
            w = float(weights[radius + shift])
            blurred.add_(padded.narrow(axis, radius - shift, n), alpha=w)
            blurred.add_(padded.narrow(axis, radius + shift, n), alpha=w)
        volume = blurred
    return volume


def add_noise(hu: Tensor, sd: float, grain: Sequence[float], generator: torch.Generator) -> Tensor:
    """Add noise of standard deviation ``sd`` HU whose correlation length is ``grain`` voxels along each axis."""
    if sd <= 0:
        return hu
    noise = gaussian_blur(torch.randn(hu.shape, generator=generator), grain)
    return noise.mul_(sd / noise.std().clamp(min=1e-6)).add_(hu)


@dataclass(frozen=True)
class VirtualCT:
    """A simulated scan and its exact truth, on one grid.

    Attributes:
        hu: float32 (X, Y, Z), RAS+.
        labels: uint8; bodies and sacrum by ``VertebraLevel.label``, ribs 50.
        affine: (4, 4) voxel to RAS+ mm.
    """

    hu: NDArray[np.float32]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    anatomy: Anatomy
    protocol: CTProtocol
    palette: CTPalette
    seed: int = 0
    """Seed of the noise."""

    def true_hu(self, level: VertebraLevel) -> float:
        """Return the HU of the trabecular bone of ``level`` at this tube voltage and phase, without noise or scanner
        error.
        """
        return float(self.palette.bone(self.anatomy.vertebra(level).trabecular_density))

    @property
    def complete_levels(self) -> tuple[VertebraLevel, ...]:
        """Levels whose body is completely inside the scan along z."""
        low = self.affine[2, 3]
        high = low + self.affine[2, 2] * (self.hu.shape[2] - 1)
        levels = []
        for v in self.anatomy.vertebrae:
            if low <= v.centre[2] - v.reach_z and v.centre[2] + v.reach_z <= high:
                levels.append(v.level)
        return tuple(levels)

    def volume(self) -> CTVolume:
        """Return the scan as a reader returns it."""
        p = self.protocol
        acquisition = Acquisition(
            kvp=p.kvp,
            kernel=KERNEL_NAMES[p.kernel],
            slice_thickness_mm=p.slice_thickness,
            manufacturer=VIRTUAL_MANUFACTURER,
            contrast=None if p.phase is ContrastPhase.NATIVE else f"IV {p.phase}",
            age_years=self.anatomy.person.age_years,
            sex=self.anatomy.person.sex,
        )
        shape = (self.hu.shape[0], self.hu.shape[1], self.hu.shape[2])
        return CTVolume(self.hu, self.affine, self.affine, shape, acquisition=acquisition, source="virtual CT")


def paint_table(canvas: Canvas, y_back: float) -> None:
    """Paint a curved carbon-fibre table top under the back."""
    low, high = [-320.0, y_back - 60, -1e4], [320.0, y_back + 30, 1e4]
    box = canvas.box(low, high)
    if box is None:
        return
    x, y, _ = p = canvas.positions(box)
    surface = y_back - 6 + 0.00045 * x * x
    depth = (surface - y + 0 * p[2]) * 1.0
    inside = torch.maximum(-depth, depth - 22).maximum(x.abs() - 235 + 0 * p[1] + 0 * p[2])
    canvas.paint(box, inside, -930.0)
    canvas.paint(box, torch.maximum(inside, (depth - 1.2)), -250.0)
    canvas.paint(box, torch.maximum(inside, (20.8 - depth)), -350.0)


class Scannable(Protocol):
    """Object of a virtual CT."""

    half_width: float
    half_depth: float

    @property
    def seed(self) -> int: ...

    @property
    def trunk_centre(self) -> NDArray[np.float64]: ...

    def paint_soft(self, canvas: Canvas, palette: Palette) -> None: ...

    def paint_hard(self, canvas: Canvas, palette: Palette) -> None: ...


def acquire(
    anatomy: Anatomy,
    protocol: CTProtocol,
    *,
    z_range: tuple[float, float],
    centre_xy: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    device: torch.device | str = "cpu",
    tissues: TissueSpread | None = None,
) -> VirtualCT:
    """Scan a person between two heights (mm, in the frame of the anatomy).

    Args:
        centre_xy: offset of the field of view from the middle of the trunk, mm.
        seed: of the noise.
        tissues: differences of this person's tissues, drawn from the seed of the anatomy.
    """
    palette = CTPalette(
        protocol.kvp,
        protocol.phase,
        seed=anatomy.seed,
        tissues=tissues,
        beam=protocol.beam,
        hardening=protocol.hardening,
    )
    hu, labels, affine = simulate(
        anatomy, palette, protocol, z_range=z_range, centre_xy=centre_xy, seed=seed, device=device
    )
    return VirtualCT(hu, labels, affine, anatomy, protocol, palette, seed)


def simulate(
    subject: Scannable,
    palette: CTPalette,
    protocol: CTProtocol,
    *,
    z_range: tuple[float, float],
    centre_xy: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    """Return HU, labels and affine of a scan of any object; see ``acquire``."""
    if not z_range[0] < z_range[1]:
        raise ValueError(f"z_range must be ascending, got {z_range}")
    nx, ny = protocol.matrix
    steps = max(1, round((z_range[1] - z_range[0]) / protocol.slice_step) + 1)
    middle = subject.trunk_centre
    origin = [middle[0] + centre_xy[0] - 0.5 * (nx - 1) * protocol.pixel,
              middle[1] + centre_xy[1] - 0.5 * (ny - 1) * protocol.pixel, z_range[0]]  # fmt: skip
    painted = torch.empty((nx, ny, steps))
    labels = np.empty((nx, ny, steps), np.uint8)
    for first in range(0, steps, _SLICES_AT_ONCE):
        part = slice(first, min(first + _SLICES_AT_ONCE, steps))
        value, label = _paint_slices(subject, palette, protocol, origin, part, device)
        painted[:, :, part], labels[:, :, part] = value.cpu(), label.cpu().numpy()

    blur = _BLUR_MM[protocol.kernel] / protocol.pixel
    # painting averages over the step between slices if it is longer than a pixel (see Canvas); the rest of the slice
    # profile is a blur along z
    profile = protocol.slice_thickness / 2.355 / protocol.slice_step
    painted = gaussian_blur(painted, [blur, blur, profile if profile > 0.3 else 0.0])
    # noise grows with the thickness of the patient: about e-fold in 26 cm of width and depth together
    size = float(np.exp((subject.half_depth + subject.half_width - 260) / 260))
    grain = _GRAIN_MM[protocol.kernel] / protocol.pixel
    generator = torch.Generator().manual_seed(seed * 7919 + 5)
    along_z = 0.3 * protocol.slice_thickness / protocol.slice_step
    painted = add_noise(painted, protocol.noise_hu * size, [grain, grain, along_z], generator)
    if (protocol.gain, protocol.offset_hu) != (1.0, 0.0):
        painted.add_(1000.0).mul_(protocol.gain).add_(protocol.offset_hu - 1000.0)
    hu = painted.round_().clamp_(SMALLEST_HU, LARGEST_HU).numpy()
    affine = np.diag([protocol.pixel, protocol.pixel, protocol.slice_step, 1.0])
    affine[:3, 3] = origin
    return hu, labels, affine


def _paint_slices(
    subject: Scannable,
    palette: CTPalette,
    protocol: CTProtocol,
    origin: Sequence[float],
    part: slice,
    device: torch.device | str,
) -> tuple[Tensor, Tensor]:
    """Paint slices: soft tissue, whose edges are smooth, on every second pixel, bone on all of them."""
    nx, ny = protocol.matrix
    px, dz, count = protocol.pixel, protocol.slice_step, part.stop - part.start
    start = [origin[0], origin[1], origin[2] + dz * part.start]
    half = ((nx + 1) // 2, (ny + 1) // 2, count)
    soft = Canvas([start[0] + px / 2, start[1] + px / 2, start[2]], [2 * px, 2 * px, dz], half, device=device)
    if protocol.table:
        paint_table(soft, float(subject.trunk_centre[1] - subject.half_depth))
    subject.paint_soft(soft, palette)
    canvas = Canvas(start, [px, px, dz], (nx, ny, count), device=device)
    slices = soft.value.permute(2, 0, 1)[:, None]
    fine = torch.nn.functional.interpolate(slices, scale_factor=2, mode="bilinear")[:, 0, :nx, :ny]
    canvas.value = fine.permute(1, 2, 0).contiguous()
    subject.paint_hard(canvas, palette)
    return canvas.value.clamp_(max=1.6 * LARGEST_HU), canvas.label
