"""Chest radiographs with the look of clinical ones: framing, disease, devices, scatter and processing at random.

A projection of a virtual person is drawn as varied as radiographs of many hospitals are. The ranges were set by eye
against 51 real frontal radiographs of 30 people (project custom; docs/virtual_li2026.md lists the differences).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from osteo_monai.virtual.anatomy.body import Anatomy
from osteo_monai.virtual.anatomy.thorax import Thorax
from osteo_monai.virtual.ct import gaussian_blur
from osteo_monai.virtual.radiograph.detector import Paths, expose, smooth
from osteo_monai.virtual.radiograph.project import project_paths
from osteo_monai.virtual.radiograph.protocol import RadiographProtocol
from osteo_monai.virtual.radiograph.rays import ray_geometry
from osteo_monai.virtual.threads import reserve_threads


@dataclass(frozen=True)
class Projection:
    """Paths of the rays through a person, before anything that differs between exposures.

    Attributes:
        water: (rows, columns), water-equivalent path without the mineral, cm.
        mineral: (rows, columns), bone mineral, g/cm2 K2HPO4.
        pixel: mm at the detector.
        source_distance: from the source to the detector, mm.
        lungs: first and last column, first and last row of a box about both lungs.
        t_score: of the person by DXA; NaN if unknown.
        slope: rise of the T-score if the mineral is doubled.
    """

    water: Tensor
    mineral: Tensor
    pixel: float
    source_distance: float
    lungs: tuple[float, float, float, float]
    t_score: float = math.nan
    slope: float = math.nan

    def with_t_score(self, t_score: float) -> "Projection":
        """Return the same anatomy with as much mineral as ``t_score`` needs, 0.35 to 2.5 times its own."""
        factor = min(max(1.0 + (t_score - self.t_score) / self.slope, 0.35), 2.5)
        reached = self.t_score + (factor - 1.0) * self.slope
        return replace(self, mineral=self.mineral * factor, t_score=reached, slope=self.slope * factor)


def project_chest(anatomy: Anatomy, thorax: Thorax, rng: np.random.Generator, rows: int = 288) -> Projection:
    """Project the chest of a person with a random pose and distance, as upright and bedside radiographs vary.

    Args:
        rows: rows and columns of the projection of 430 x 430 mm.
    """
    protocol = RadiographProtocol(
        size=(rows, rows),
        source_distance=float(rng.uniform(1150, 1900)),
        turn=float(rng.normal(0, 4.0)),
        tilt=float(rng.normal(0, 5.0)),
        shift=(float(rng.normal(0, 6)), float(rng.normal(0, 8))),
    )
    with reserve_threads():
        rays = ray_geometry(anatomy, thorax, protocol)
        paths = project_paths(anatomy, thorax, rays, protocol)
    corners = np.array([rays.project(p) for p in thorax.lung_box]) / protocol.pixel[0] + 0.5 * rows - 0.5
    low, high = corners.min(0), corners.max(0)
    box = tuple(round(float(k), 1) for k in (low[0], high[0], low[1], high[1]))
    return Projection(paths.water, paths.mineral, protocol.pixel[0], protocol.source_distance, box)  # type: ignore[arg-type]


def clinical_look(projection: Projection, rng: np.random.Generator) -> Tensor:
    """Draw one radiograph of a projection: (rows, columns), 0 to 1, bone bright.

    In order: frame and smooth deformation, disease and gas, tubes and wires, exposure with scatter, processing,
    letters.
    Nothing depends on the person's density but the mineral itself.
    """
    seed = int(rng.integers(2**31))
    generator = torch.Generator().manual_seed(seed)
    frame = _draw_frame(projection, rng)
    water, mineral = _resample(projection, frame, rng)
    px = frame.pixel
    scene = _Scene(frame, generator, rng)
    water = scene.add_disease(water)
    metal = scene.draw_devices()
    protocol = _draw_exposure(projection, tuple(water.shape), px, rng)
    signal = expose(Paths(water, mineral, metal), protocol, seed)
    return _write_letters(scene.show(-torch.log(signal)), rng)


@dataclass(frozen=True)
class _Frame:
    """Part of a projection that a radiograph shows: first column and row and size, all in pixels, mm of a pixel.

    ``lungs`` is the box about the lungs in shares of the frame: left, right, top, bottom.
    """

    left: float
    top: float
    columns: int
    rows: int
    pixel: float
    lungs: tuple[float, float, float, float]


def _draw_frame(projection: Projection, rng: np.random.Generator) -> _Frame:
    left, right, top, bottom = projection.lungs
    width, height = right - left, bottom - top
    tight = rng.random() < 0.7
    beside = rng.uniform(-0.03, 0.14 if tight else 0.35, 2) * width
    above, below = rng.uniform(-0.02, 0.22) * height, rng.uniform(-0.12, 0.2 if tight else 0.4) * height
    ny, nx = projection.water.shape
    x0, x1 = max(left - beside[0], 0.0), min(right + beside[1], nx - 1.0)
    y0, y1 = max(top - above, 0.0), min(bottom + below, ny - 1.0)
    columns, rows = round(x1 - x0), round(y1 - y0)
    place = ((left - x0) / columns, (right - x0) / columns, (top - y0) / rows, (bottom - y0) / rows)
    return _Frame(x0, y0, columns, rows, projection.pixel, place)


def _resample(projection: Projection, frame: _Frame, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut the frame out of the projection, with a smooth deformation of at most about 10 mm."""
    ny, nx = projection.water.shape
    x = torch.linspace(frame.left, frame.left + frame.columns - 1, frame.columns)
    y = torch.linspace(frame.top, frame.top + frame.rows - 1, frame.rows)
    shifts = []
    for _ in range(2):
        shift = torch.zeros(frame.rows, frame.columns)
        for _ in range(3):
            kx, ky = rng.normal(0, 2 * np.pi / 160.0, 2) * frame.pixel
            size, phase = rng.uniform(0, 3.5) / frame.pixel, rng.uniform(0, 2 * np.pi)
            shift += float(size) * torch.sin(float(kx) * x[None] + float(ky) * y[:, None] + float(phase))
        shifts.append(shift)
    at = torch.stack([(x[None] + shifts[0]) / (nx - 1) * 2 - 1, (y[:, None] + shifts[1]) / (ny - 1) * 2 - 1], -1)
    both = torch.stack([projection.water, projection.mineral])[None]
    cut = torch.nn.functional.grid_sample(both, at[None], padding_mode="border", align_corners=True)[0]
    return cut[0].clamp(min=0.0), cut[1].clamp(min=0.0)


class _Scene:
    """What a clinical radiograph shows beside the person of the projection; positions in shares of the lungs' box."""

    def __init__(self, frame: _Frame, generator: torch.Generator, rng: np.random.Generator) -> None:
        left, right, top, bottom = frame.lungs
        self._u = ((torch.arange(frame.columns) + 0.5) / frame.columns - left) / (right - left)
        self._v = ((torch.arange(frame.rows) + 0.5) / frame.rows - top) / (bottom - top)
        self._frame, self._generator, self._rng = frame, generator, rng
        self._aspect = (right - left) * frame.columns / ((bottom - top) * frame.rows)

    def _noise(self, mm: float) -> Tensor:
        """Return smooth noise of SD 1 whose correlation reaches ``mm``."""
        step = max(1.0, 0.5 * mm / self._frame.pixel)
        size = [max(4, round(n / step)) for n in (self._frame.rows, self._frame.columns)]
        small = torch.randn(1, 1, *size, generator=self._generator)
        whole = (self._frame.rows, self._frame.columns)
        noise = torch.nn.functional.interpolate(small, whole, mode="bicubic")[0, 0]
        return noise / noise.std().clamp(min=1e-6)

    def _blob(self, u: float, v: float, width: float, height: float) -> Tensor:
        """Return a Gaussian about (``u``, ``v``) in the box of the lungs; its SDs are shares of the box's width."""
        across = ((self._u - u) / width) ** 2
        down = ((self._v - v) / (height * self._aspect)) ** 2
        return torch.exp(-0.5 * (across[None] + down[:, None]))

    def add_disease(self, water: Tensor) -> Tensor:
        """Add consolidation, interstitial marking, a wide mediastinum, fluid, uneven soft tissue and bowel gas."""
        rng = self._rng
        body = (water / 4.0).clamp(0, 1)
        lung = torch.sigmoid((float(torch.quantile(water, 0.5)) - water) / 1.5) * body * (self._v[:, None] < 1.0)
        added = torch.zeros_like(water)
        if rng.random() < 0.65:
            for _ in range(int(rng.integers(1, 6))):
                size = rng.uniform(0.05, 0.2, 2)
                blob = self._blob(*rng.uniform((0.02, 0.15), (0.98, 1.0)), *size)
                added += (
                    float(rng.exponential(1.5)) * blob * (1 + 0.35 * self._noise(float(rng.uniform(8, 30)))).clamp(0)
                )
        if rng.random() < 0.7:
            grain = self._noise(float(rng.uniform(2.5, 10)))
            added += float(rng.exponential(0.18)) * grain * lung
        if rng.random() < 0.8:  # heart and great vessels, wider and without sharp edges in bedside radiographs
            added += float(rng.exponential(2.5)) * self._blob(
                0.5 + rng.normal(0.03, 0.04), rng.uniform(0.35, 0.85), rng.uniform(0.08, 0.2), rng.uniform(0.12, 0.4)
            )
        if rng.random() < 0.25:  # fluid or a high diaphragm
            side = 0.22 if rng.random() < 0.5 else 0.78
            added += float(rng.uniform(1, 8)) * self._blob(side, rng.uniform(0.9, 1.1), 0.2, rng.uniform(0.06, 0.25))
        for _ in range(int(rng.integers(0, 6))):  # gas of stomach and bowel
            size = rng.uniform(0.02, 0.07, 2)
            added -= float(rng.uniform(1, 5)) * self._blob(*rng.uniform((0.1, 1.02), (0.95, 1.3)), *size)
        added += float(rng.uniform(0, 0.2)) * self._noise(float(rng.uniform(6, 25)))
        added += float(rng.uniform(0, 1.0)) * self._noise(float(rng.uniform(50, 150)))
        return water * float(rng.uniform(0.85, 1.2)) + (added * body).clamp(min=-0.8 * water)

    def draw_devices(self) -> Tensor | None:
        """Return the path in g/cm2 titanium through tubes, wires, clips and electrodes; none in half of the cases."""
        rng = self._rng
        if rng.random() < 0.5:
            return None
        rows, columns = self._frame.rows, self._frame.columns
        metal = np.zeros((rows, columns), np.float32)
        for _ in range(int(rng.integers(1, 5))):
            points = rng.uniform((-0.1, -0.1), (1.1, 1.1), (4, 2)) * (columns, rows)
            if rng.random() < 0.4:  # a tube in the midline
                points = np.array([[0.5, -0.05], [0.5, 0.2], [0.5, 0.4], [0.5, rng.uniform(0.4, 1.1)]])
                points = (points + rng.normal(0, 0.02, (4, 2))) * (columns, rows)
            t = np.linspace(0, 1, 1500)[:, None]
            curve = (
                (1 - t) ** 3 * points[0]
                + 3 * t * (1 - t) ** 2 * points[1]
                + 3 * t * t * (1 - t) * points[2]
                + t**3 * points[3]
            )
            at = np.rint(curve).astype(int)
            inside = (at >= 0).all(1) & (at[:, 0] < columns) & (at[:, 1] < rows)
            metal[at[inside, 1], at[inside, 0]] = rng.uniform(0.05, 0.5)
            if rng.random() < 0.6:  # its electrode or clip
                x, y = (int(k) for k in rng.uniform((0, 0), (columns, rows)))
                half = int(np.ceil(rng.uniform(2, 5) / self._frame.pixel))
                metal[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = rng.uniform(0.2, 0.8)
        sigma = float(rng.uniform(0.5, 1.0))
        return gaussian_blur(torch.from_numpy(metal)[..., None], [sigma, sigma, 0])[..., 0]

    def show(self, dense: Tensor) -> Tensor:
        """Return the processed image, 0 to 1, of the logarithm of the signal.

        Lungs and mediastinum get a drawn grey level each, in every frame: the range of all pixels would
        depend on how much air and abdomen are in the field.
        """
        rng, pixel = self._rng, self._frame.pixel
        large = smooth(dense, float(rng.uniform(10, 30)), pixel, pixel)
        fine = smooth(dense, float(rng.uniform(1.0, 2.5)), pixel, pixel)
        kept, detail, edges = rng.uniform(0.25, 0.95), rng.uniform(1.0, 2.6), np.exp(rng.uniform(0, np.log(7)))
        picture = large * float(kept) + float(detail) * (fine - large) + float(edges) * (dense - fine)
        chest = picture[(self._v > 0.1) & (self._v < 0.9)][:, (self._u > 0.02) & (self._u < 0.98)]
        lung, middle = torch.quantile(chest, torch.tensor([0.15, 0.92])).tolist()
        dark, light = rng.uniform(0.08, 0.42), rng.uniform(0.62, 1.02)
        scaled = float(dark) + float(light - dark) * (picture - lung) / max(middle - lung, 1e-3)
        # shoulder and toe of the display: values beyond the range approach it
        soft = float(rng.uniform(0.02, 0.2))
        scaled = soft * (
            torch.nn.functional.softplus(scaled / soft) - torch.nn.functional.softplus((scaled - 1) / soft)
        )
        scaled = scaled.clamp(0.0, 1.0) ** float(np.exp(rng.normal(0, 0.2)))
        return (scaled + float(rng.uniform(0, 0.03)) * self._noise(float(rng.uniform(60, 200)))).clamp(0.0, 1.0)


def _draw_exposure(
    projection: Projection, shape: tuple[int, ...], pixel: float, rng: np.random.Generator
) -> RadiographProtocol:
    """Draw beam and scatter; scattered over primary radiation is 0.3 with a grid to 2 without."""
    return RadiographProtocol(
        kvp=float(rng.uniform(70, 140)),
        filtration="copper" if rng.random() < 0.5 else "light",
        source_distance=projection.source_distance,
        field_size=(shape[1] * pixel, shape[0] * pixel),
        size=(shape[1], shape[0]),
        blur=float(np.exp(rng.uniform(np.log(0.2), np.log(0.8)))),
        photons=float(np.exp(rng.uniform(np.log(40), np.log(400)))),
        scatter=float(np.exp(rng.uniform(np.log(0.3), np.log(2.0)))),
        heel=float(rng.uniform(0, 0.2)),
    )


_WORDS = ("R", "L", "D", "A", "B", "AP", "PA", "DX", "AP MOBILE", "SUPINE", "SITTING", "ERECT", "a", "b")


def _write_letters(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Write up to three markers at random places near an edge, some on a plate."""
    count = int(rng.integers(0, 4))
    if not count:
        return picture
    image = Image.fromarray(picture.numpy(), mode="F")
    draw = ImageDraw.Draw(image)
    ny, nx = picture.shape
    for _ in range(count):
        word = _WORDS[int(rng.integers(len(_WORDS)))]
        font = ImageFont.load_default(float(rng.uniform(0.025, 0.07 if len(word) < 3 else 0.04) * ny))
        along, near = rng.uniform(0.02, 0.9), rng.uniform(0.01, 0.1)
        x, y = ((along, near), (near, along), (0.9 - near, along))[int(rng.integers(3))]
        at = (float(x * nx), float(y * ny))
        ink = float(rng.choice([1.0, 1.0, 0.9, 0.0]))
        if rng.random() < 0.3:
            left, top, right, bottom = draw.textbbox(at, word, font=font)
            draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=0.0 if ink > 0.5 else 1.0)
        draw.text(at, word, fill=ink, font=font)
    return torch.from_numpy(np.array(image, np.float32))
