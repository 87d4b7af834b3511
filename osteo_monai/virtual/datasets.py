"""Unlimited training data: every item is a new virtual person in a new scan, or a new scan of a painted person.

Items depend on ``(seed, index)`` only, so that a run can be repeated; a training set of a million items has a million
people. Domain randomisation beyond the range of scanners and people makes networks trained here generalise to real
scans.
"""

import gc
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data.utils import worker_init_fn
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from osteo_monai.domain import Boundary, ContrastPhase, VertebraLevel
from osteo_monai.errors import ConfigError
from osteo_monai.virtual.anatomy import Anatomy, reached
from osteo_monai.virtual.canvas import Canvas
from osteo_monai.virtual.ct import CTPalette, add_noise, gaussian_blur, paint_table
from osteo_monai.virtual.loops import paint_loops
from osteo_monai.virtual.painted_files import PaintedFiles
from osteo_monai.virtual.person import Variant, draw_person

TRAINING_VARIANTS: Mapping[Variant, float] = {
    Variant.LUMBARISED: 0.07,
    Variant.SACRALISED: 0.07,
    Variant.ELEVEN_RIBS: 0.05,
    Variant.THIRTEEN_RIBS: 0.05,
    Variant.OSTEOPHYTES: 0.35,
    Variant.WEDGE_FRACTURE: 0.12,
    Variant.CEMENT: 0.04,
    Variant.SCREWS: 0.05,
    Variant.SCOLIOSIS: 0.15,
}
"""Frequencies for training: rare variants are more frequent than in people."""

_L = VertebraLevel
UPPER_LABEL = _L.T8.label
"""Bodies from T1 to T8 share this label in targets of the localisation: 'T8 or above'."""


def start_worker(worker_id: int) -> None:
    """Start a process of a data loader, with the seeds of MONAI; a ``worker_init_fn``.

    A virtual person is tens of thousands of small objects, which start the garbage collection often. It then skips the
    objects that exist now, most of them of imported modules.
    """
    gc.freeze()
    worker_init_fn(worker_id)


def _random_person(rng: np.random.Generator) -> Anatomy:
    density = float(rng.uniform(20, 260)) if rng.random() < 0.8 else None
    person = draw_person(
        int(rng.integers(2**31)),
        age_years=float(rng.uniform(20, 89)),
        mean_density=density,
        variants=TRAINING_VARIANTS,
    )
    return Anatomy(person)


def _random_palette(rng: np.random.Generator) -> CTPalette:
    kvp = float(rng.choice([80, 100, 110, 120, 120, 120, 130, 140]))
    phase = rng.choice([ContrastPhase.NATIVE, ContrastPhase.ARTERIAL, ContrastPhase.PORTAL_VENOUS], p=[0.55, 0.2, 0.25])
    seed, spread = int(rng.integers(2**31)), float(rng.uniform(4, 14))
    # domain randomisation: HU drawn for each tissue (Billot et al. 2023, SynthSeg)
    randomise = float(rng.uniform(0.2, 1.0)) if rng.random() < 0.3 else 0.0
    return CTPalette(kvp, ContrastPhase(phase), seed=seed, spread=spread, randomise=randomise)


class SmoothWarp:
    """A smooth random displacement: a few sine waves, at most ``amplitude`` mm in all along each axis."""

    def __init__(self, rng: np.random.Generator, amplitude: float, waves: int = 4) -> None:
        self.reach = amplitude
        length = rng.uniform(45, 160, (3, waves))
        direction = rng.normal(size=(3, waves, 3))
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        self._k = torch.as_tensor(2 * np.pi * direction / length[..., None], dtype=torch.float32)
        self._phase = torch.as_tensor(rng.uniform(0, 2 * np.pi, (3, waves)), dtype=torch.float32)
        self._amplitude = amplitude / waves

    def __call__(self, p: Tensor) -> Tensor:
        """Displace positions (3, ...) in mm."""
        shift = torch.zeros_like(p)
        for axis in range(3):
            for k, phase in zip(self._k[axis], self._phase[axis], strict=True):
                shift[axis] += torch.sin(k[0] * p[0] + k[1] * p[1] + k[2] * p[2] + phase)
        return p + self._amplitude * shift


def _random_pose(
    rng: np.random.Generator,
    pivot: NDArray[np.float64],
    degrees: tuple[float, float, float],
    scale: float,
    stretch: float = 0.0,
) -> NDArray[np.float64]:
    """Return a random (4, 4) map from scanner to person: rotation, scale and stretch along z about ``pivot``."""
    a, b, c = np.deg2rad(rng.normal(0, degrees))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_x @ about_y @ about_z * float(np.exp(rng.normal(0, scale)))
    if stretch:
        matrix[:3, 2] *= float(np.exp(rng.normal(0, stretch)))
    matrix[:3, 3] = pivot - matrix[:3, :3] @ pivot
    return matrix


def _degrade(hu: Tensor, rng: np.random.Generator, spacing: float, generator: torch.Generator) -> Tensor:
    """Blur ``hu`` (X, Y, Z), add noise of random strength and grain, and change gain and offset slightly."""
    in_plane = (1, 1, 0) if hu.shape[2] == 1 else (1, 1, 1)
    if rng.random() < 0.3 and hu.shape[2] == 1:  # a coarser matrix, resampled
        factor = float(rng.uniform(0.45, 1.0))
        plane = hu.permute(2, 0, 1)[None]
        coarse = torch.nn.functional.interpolate(plane, scale_factor=factor, mode="bilinear", antialias=True)
        sd = float(np.exp(rng.uniform(np.log(2), np.log(30))))
        coarse = coarse + sd * torch.randn(coarse.shape, generator=generator)
        plane = torch.nn.functional.interpolate(coarse, size=plane.shape[2:], mode="bilinear")
        hu = plane[0].permute(1, 2, 0)
    sigma = float(rng.uniform(0.3, 1.6)) / spacing
    hu = gaussian_blur(hu, [sigma * f for f in in_plane])
    if rng.random() < 0.2:  # edge-enhancing kernel
        hu = hu + float(rng.uniform(0.2, 1.0)) * (hu - gaussian_blur(hu, [1.5 / spacing * f for f in in_plane]))
    highest = 80.0 if hu.shape[2] == 1 else 45.0
    grain = float(rng.uniform(0.0, 2.2)) / spacing
    hu = add_noise(
        hu, float(np.exp(rng.uniform(np.log(3.0), np.log(highest)))), [grain * f for f in in_plane], generator
    )
    return hu * float(rng.normal(1, 0.03)) + float(rng.normal(0, 8))


def body_mask(anatomy: Anatomy, canvas: Canvas, boundary: Boundary) -> Tensor:
    """Return a mask (X, Y), float32: 1 where a body covers at least half of the depth (Z) of ``canvas``."""
    inside = torch.zeros(canvas.shape)
    for v in anatomy.vertebrae:
        box = reached(canvas, v)
        if box is None:
            continue
        inset = anatomy.cortex_thickness(v.level) if boundary is Boundary.ENDOSTEAL else 0.0
        covered = (anatomy.body_distance(v, canvas.positions(box)) < -inset).float()
        inside[box] = torch.maximum(inside[box], covered)
    return (inside.mean(-1) >= 0.5).float()


class VirtualSliceDataset(Dataset[Any]):
    """Axial slices with the vertebral bodies in them.

    Args:
        length: number of items.
        seed: of all random draws; sets with different seeds have different people.
        size: pixels along both sides; the window contains the spine at a random place.
        spacing_mm: pixel size.
        boundary: ``periosteal`` labels the whole body, ``endosteal`` the part inside the cortex, as in Pan 2024.
        views: scans of the same painted slice, which differ in matrix, blur, noise, gain and padding; they cost little
            beside the painting, and a batch has fewer people. The first is that of ``views=1``. With more than one, an
            item is a list, which the loader of MONAI flattens.
        loops: share of subjects with loops of bowel with contrast agent beside the column; see ``paint_loops``.

    Items:
        ``image`` float32 (1, size, size) in HU; ``label`` float32 (1, size, size), 1 in the body.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        size: int = 256,
        spacing_mm: float = 1.5,
        boundary: Boundary | str = Boundary.PERIOSTEAL,
        views: int = 1,
        loops: float = 0.0,
    ) -> None:
        if boundary not in tuple(Boundary):
            raise ConfigError(f"boundary must be 'periosteal' or 'endosteal', got {boundary!r}")
        if length < 1 or size < 8 or spacing_mm <= 0 or views < 1:
            raise ConfigError(
                f"length, size, spacing_mm and views must be positive, got {length}, {size}, {spacing_mm}, {views}"
            )
        if not isinstance(loops, int | float) or not 0 <= loops <= 1:
            raise ConfigError(f"loops must be from 0 to 1, got {loops!r}")
        self.length, self.seed, self.size, self.spacing_mm = length, seed, size, spacing_mm
        self.boundary = Boundary(boundary)
        self.views, self.loops = views, loops

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:  # a dict, or a list of ``views`` dicts
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index, 11])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        anatomy, palette = _random_person(rng), _random_palette(rng)
        column = anatomy.vertebrae
        # mostly through L1 and L2 and their end plates, sometimes anywhere between T9 and the sacrum
        if rng.random() < 0.75:
            top, bottom = anatomy.vertebra(_L.L1), anatomy.vertebra(_L.L2)
            z = rng.uniform(bottom.centre[2] - 0.62 * bottom.height, top.centre[2] + 0.62 * top.height)
        else:
            z = rng.uniform(-15, column[8].centre[2])
        at = np.array([np.interp(z, [v.centre[2] for v in column], [v.centre[i] for v in column]) for i in range(3)])
        thickness = float(np.exp(rng.uniform(np.log(0.7), np.log(5.0))))
        layers = 1 + int(thickness > 1.5) + int(thickness > 3.2)
        size, step = self.size, self.spacing_mm
        span = 0.5 * (size - 1) * step
        # the column is in the window, and the window mostly over the trunk
        offset = rng.uniform(-0.62, 0.62, 2) * span
        middle = anatomy.trunk_centre[:2]
        offset += np.clip(0.35 * (middle - at[:2]), -0.3 * span, 0.3 * span)
        origin = [at[0] + offset[0] - span, at[1] + offset[1] - span, z - 0.5 * thickness * (1 - 1 / layers)]
        warp = SmoothWarp(rng, float(rng.uniform(0, 4.5)))
        canvas = Canvas(
            origin,
            [step, step, thickness / layers],
            (size, size, layers),
            pose=_random_pose(rng, at, (6, 4, 7), 0.06),
            warp=warp,
            reach=warp.reach,
            softness=float(rng.uniform(0.5, 1.0)) * step,
        )
        if rng.random() < 0.6:
            paint_table(canvas, float(middle[1] - anatomy.half_depth))
        anatomy.paint_soft(canvas, palette)
        if self.loops and np.random.default_rng([self.seed, index, 13]).random() < self.loops:
            paint_loops(canvas, at, int(anatomy.seed))
        anatomy.paint_hard(canvas, palette)
        hu = canvas.value.clamp(max=4500).mean(-1, keepdim=True)
        label = body_mask(anatomy, canvas, self.boundary)[None]
        views = [{"image": self._scan(hu, rng, generator), "label": label.clone()} for _ in range(self.views)]
        return views[0] if self.views == 1 else views

    def _scan(self, hu: Tensor, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        """Return one degraded scan (1, size, size) of a painted slice."""
        hu = _degrade(hu, rng, self.spacing_mm, generator)
        if rng.random() < 0.15:  # padding outside the reconstructed circle
            axis = torch.arange(self.size) - self.size / 2
            far = axis[:, None] ** 2 + axis[None] ** 2 > (float(rng.uniform(0.5, 0.75)) * self.size) ** 2
            hu[far] = -1024.0
        return hu[..., 0].clamp(-1024, 3071)[None].contiguous()


class _Painted(NamedTuple):
    """A painted volume, its truth and the range of its views."""

    hu: Tensor
    """(X, Y, Z), before noise."""
    label: Tensor
    """(2, X, Y, Z), as in items of ``VirtualVolumeDataset``."""
    chest: bool
    """Whether its views end above the levels of interest."""


class VirtualVolumeDataset(Dataset[Any]):
    """Coarse volumes of any coverage for localisation and naming of vertebrae.

    Args:
        length, seed: as in ``VirtualSliceDataset``.
        size: voxels along x, y, z.
        spacing_mm: isotropic voxel size.
        views: scans of the same person with different coverage and noise, which are faster than different people; with
            more than one, an item is a list, which the loader of MONAI flattens.
        people: number of people, who are painted once and kept as files; item i is another scan of person i modulo
            ``people``. 0: every item has its own person, and no files are written.
        folder: where painted people are kept, 2 MB each at the default size; see ``PaintedFiles``.

    Items:
        ``image`` float32 (1, X, Y, Z) in HU; air outside the scanned range.
        ``label`` float32 (2, X, Y, Z): channel 0 the classes (0; body by ``VertebraLevel.label``, T1 to T8 all
        as T8; 26 sacrum; 50 ribs), channel 1 a Gaussian of SD 6 mm about each body's centre, 0 to 1 (in steps of 1/255
        if people are kept).
    """

    HEAT_SD_MM = 6.0

    def __init__(
        self,
        length: int,
        seed: int,
        size: tuple[int, int, int] = (80, 64, 96),
        spacing_mm: float = 4.0,
        views: int = 1,
        people: int = 0,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        if length < 1 or min(size) < 8 or spacing_mm <= 0 or views < 1:
            raise ConfigError(
                "length, size, spacing_mm and views must be positive, "
                f"got {length}, {tuple(size)}, {spacing_mm}, {views}"
            )
        if people < 0 or (people > 0) != (folder is not None):
            raise ConfigError(f"people must be positive with a folder and 0 without, got {people} and {folder}")
        self.length, self.seed, self.spacing_mm, self.views = length, seed, spacing_mm, views
        self.size = (int(size[0]), int(size[1]), int(size[2]))
        self.people = people
        self._files: PaintedFiles | None = None
        if folder is not None:
            settings = {"seed": seed, "size": self.size, "spacing_mm": spacing_mm}
            self._files = PaintedFiles(folder, "volumes", settings)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:  # a dict, or a list of ``views`` dicts
        if not 0 <= index < self.length:
            raise IndexError(index)
        if self._files is None:
            rng = np.random.default_rng([self.seed, index, 12])
            painted = self._paint(rng)
        else:
            painted = self._kept(self._files, index % self.people)
            rng = np.random.default_rng([self.seed, index, 15])
        views = [self._view(painted, rng) for _ in range(self.views)]
        return views[0] if self.views == 1 else views

    def _kept(self, files: PaintedFiles, person: int) -> _Painted:
        """Return the painted volume of a person of the files, in whole HU."""

        def paint() -> dict[str, NDArray[Any]]:
            made = self._paint(np.random.default_rng([self.seed, person, 12]))
            classes, heat = made.label
            values = {"hu": made.hu.round().short(), "classes": classes.byte(), "heat": (255 * heat).round().byte()}
            return {name: value.numpy() for name, value in values.items()} | {"chest": np.array(made.chest)}

        arrays = files.get(person, paint)
        label = torch.empty((2, *self.size))
        label[0], label[1] = torch.from_numpy(arrays["classes"]), torch.from_numpy(arrays["heat"]) / 255
        return _Painted(torch.from_numpy(arrays["hu"]).float(), label, bool(arrays["chest"]))

    def _paint(self, rng: np.random.Generator) -> _Painted:
        """Paint a random person in the whole window."""
        anatomy, palette = _random_person(rng), _random_palette(rng)
        zs = {v.level: float(v.centre[2]) for v in anatomy.vertebrae}
        chest = rng.random() < 0.12  # chests that end above the levels of interest
        middle_z = zs[_L.T6] if chest else rng.uniform(zs[_L.L4], zs[_L.T10])
        canvas = self._canvas(anatomy, float(middle_z), rng)
        if rng.random() < 0.6:
            paint_table(canvas, float(anatomy.trunk_centre[1] - anatomy.half_depth))
        anatomy.paint(canvas, palette)
        classes = canvas.label.float()
        for level in list(_L)[: list(_L).index(_L.T8)]:
            classes[canvas.label == level.label] = UPPER_LABEL
        label = torch.stack([classes, self._heat(anatomy, canvas)])
        return _Painted(canvas.value.clamp_(max=4500), label, chest)

    def _canvas(self, anatomy: Anatomy, middle_z: float, rng: np.random.Generator) -> Canvas:
        """Return an empty canvas about height ``middle_z`` in a random pose."""
        step = self.spacing_mm
        span = 0.5 * step * (np.array(self.size) - 1)
        middle = np.array([*anatomy.trunk_centre[:2], middle_z])
        column = anatomy.vertebrae
        spine_y = float(np.interp(middle_z, [v.centre[2] for v in column], [v.centre[1] for v in column]))
        # the window is shallower than a large trunk: keep the spine, cut in front
        y = float(np.clip(middle[1] + rng.normal(0, 18), None, spine_y + span[1] - 48))
        centre = np.array([middle[0] + rng.normal(0, 18), y, middle_z])
        warp = SmoothWarp(rng, float(rng.uniform(0, 8)))
        # trunks differ in proportions: names must not follow from distances only
        pose = _random_pose(rng, middle, (7, 5, 6), 0.07, stretch=0.09)
        return Canvas(centre - span, [step] * 3, self.size, pose=pose, warp=warp, reach=warp.reach, softness=step * 0.9)

    def _view(self, painted: _Painted, rng: np.random.Generator) -> dict[str, Any]:
        """Return one degraded scan of random coverage, with air outside."""
        half = 0.5 * self.spacing_mm * self.size[2]
        length = float(rng.uniform(90, 1.94 * half))
        centre = float(rng.uniform(-1, 1)) * max(0.97 * half - 0.5 * length, 0.0) * (1 if painted.chest else 0.6)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        hu = _degrade(painted.hu, rng, self.spacing_mm, generator)
        along = self.spacing_mm * (torch.arange(self.size[2]) - 0.5 * (self.size[2] - 1))
        outside = (along - centre).abs() > 0.5 * length
        label = painted.label.clone()
        hu[:, :, outside], label[..., outside] = -1000.0, 0.0
        return {"image": hu.clamp(-1024, 3071)[None].contiguous(), "label": label}

    def _heat(self, anatomy: Anatomy, canvas: Canvas) -> Tensor:
        """Return a Gaussian about the centre of each body."""
        heat = torch.zeros(canvas.shape)
        for v in anatomy.vertebrae:
            reach = 4 * self.HEAT_SD_MM
            box = canvas.box(v.centre - reach, v.centre + reach)
            if box is None:
                continue
            x, y, z = (c - float(m) for c, m in zip(canvas.positions(box), v.centre, strict=True))
            gauss = torch.exp(-(x * x + y * y + z * z) / (2 * self.HEAT_SD_MM**2))
            heat[box] = torch.maximum(heat[box], gauss)
        return heat


__all__ = [
    "TRAINING_VARIANTS",
    "SmoothWarp",
    "VirtualSliceDataset",
    "VirtualVolumeDataset",
    "body_mask",
    "start_worker",
]
