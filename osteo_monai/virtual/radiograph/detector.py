"""Detector signal and processed image of the paths that the rays take through water, mineral and metal."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from osteo_monai.domain import View
from osteo_monai.virtual.ct import gaussian_blur
from osteo_monai.virtual.radiograph.beam import absorbance, titanium_as_mineral
from osteo_monai.virtual.radiograph.protocol import RadiographProtocol


@dataclass(frozen=True)
class Paths:
    """Paths along the ray of each pixel: (rows, columns) maps in display orientation.

    Attributes:
        water: water-equivalent path without the mineral, cm.
        mineral: bone mineral, g/cm2 K2HPO4.
        metal: titanium and cement, g/cm2 as titanium.
    """

    water: Tensor
    mineral: Tensor
    metal: Tensor | None = None


def expose(paths: Paths, protocol: RadiographProtocol, seed: int = 0) -> Tensor:
    """Return the signal of the detector (rows, columns), 1 behind the measuring field.

    Primary and scattered radiation with blur and noise; ``seed`` is that of the noise.
    """
    generator = torch.Generator().manual_seed(seed * 7919 + 11)
    mineral = paths.mineral
    if paths.metal is not None:
        mineral = mineral + paths.metal * titanium_as_mineral(protocol.kvp, protocol.filtration)
    attenuated = absorbance(paths.water, mineral, protocol.kvp, protocol.filtration)
    ny, nx = attenuated.shape
    px, py = protocol.pixel
    x = (torch.arange(nx) + 0.5) * px - 0.5 * nx * px
    y = (torch.arange(ny) + 0.5) * py - 0.5 * ny * py
    reach = 1 + (x[None] ** 2 + y[:, None] ** 2) / protocol.source_distance**2
    fall = reach**-1.5 * (1 - protocol.heel * (y[:, None] / (ny * py)))
    open_field = _collimated(protocol, (ny, nx))
    primary = torch.exp(-attenuated) * fall * open_field
    # scattered radiation: more behind more water, spread over centimetres
    source = primary * (protocol.scatter * paths.water / 20.0)
    coarse = max(1, round(6.0 / px))
    small = torch.nn.functional.avg_pool2d(source[None, None], coarse, ceil_mode=True)
    spread = gaussian_blur(small[0, 0][..., None], [28.0 / (coarse * py), 28.0 / (coarse * px), 0])[..., 0]
    scattered = torch.nn.functional.interpolate(spread[None, None], (ny, nx), mode="bilinear")[0, 0]
    signal = primary + scattered * (0.15 + 0.85 * open_field)
    signal = gaussian_blur(signal[..., None], [protocol.blur / py, protocol.blur / px, 0])[..., 0]
    chosen = signal[_measuring_fields(protocol, (ny, nx))]
    signal = signal / chosen.mean().clamp(min=1e-9)
    quanta = 1e3 * protocol.photons * protocol.exposure * px * py
    noise = torch.randn(signal.shape, generator=generator)
    signal = signal + noise * (signal.clamp(min=0) / quanta).sqrt()
    return signal.clamp(min=1.0 / 4096, max=protocol.dynamic_range / protocol.exposure)


def _measuring_fields(protocol: RadiographProtocol, shape: tuple[int, int]) -> Tensor:
    """Return the measuring fields of the automatic exposure: both lungs, or the spine."""
    ny, nx = shape
    chosen = torch.zeros(shape, dtype=torch.bool)
    places = ((0.32, 0.42), (0.68, 0.42)) if protocol.view is View.CHEST_FRONTAL else ((0.5, 0.5),)
    for x, y in places:
        chosen[int((y - 0.07) * ny) : int((y + 0.07) * ny), int((x - 0.06) * nx) : int((x + 0.06) * nx)] = True
    return chosen


def _collimated(protocol: RadiographProtocol, shape: tuple[int, int]) -> Tensor:
    """Return 1 in the open field and 0 in the shadow of the collimator, with a penumbra."""
    ny, nx = shape
    left, right, top, bottom = protocol.borders
    px, py = protocol.pixel
    x, y = torch.arange(nx) + 0.5, torch.arange(ny) + 0.5
    across = torch.minimum((x - left * nx) * px, ((1 - right) * nx - x) * px)
    down = torch.minimum((y - top * ny) * py, ((1 - bottom) * ny - y) * py)
    open_x = (0.5 + across / 1.5).clamp(0, 1) if left or right else torch.ones(nx)
    open_y = (0.5 + down / 1.5).clamp(0, 1) if top or bottom else torch.ones(ny)
    return open_y[:, None] * open_x[None] * 0.9985 + 0.0015


def develop(signal: Tensor, protocol: RadiographProtocol) -> Tensor:
    """Return the image for display, 0 to 1 with bone bright, from the signal of the detector."""
    how = protocol.processing
    dense = -torch.log(signal)
    ny, nx = dense.shape
    px, py = protocol.pixel
    left, right, top, bottom = protocol.borders
    inside = dense[int(np.ceil(top * ny)) : int((1 - bottom) * ny), int(np.ceil(left * nx)) : int((1 - right) * nx)]
    least, most = _quantiles(inside, (0.002, 0.998))
    air = least + 0.22 * (most - least)  # directly exposed areas do not count for the range of the image
    body = inside > air
    low, high = _quantiles(inside[body], how.window)
    centred = dense.clamp(low - 1.5, high + 1.5)
    picture = dense
    if how.compression or how.detail or how.edges:
        large = smooth(centred, 15.0, px, py)
        middle = smooth(centred, 2.5, px, py)
        fine = smooth(centred, 0.6, px, py)
        picture = (
            large * (1 - how.compression)
            + how.compression * 0.5 * (low + high)
            + (middle - large)
            + (1 + how.detail) * (fine - middle)
            + (1 + how.detail + how.edges) * (centred - fine)
        )
        held = picture[int(np.ceil(top * ny)) : int((1 - bottom) * ny), int(np.ceil(left * nx)) : int((1 - right) * nx)]
        low, high = _quantiles(held[body], how.window)
    scaled = (picture - low) / max(high - low, 1e-3)
    if how.contrast > 0:
        edge = float(np.tanh(0.5 * how.contrast))
        scaled = 0.5 + 0.5 * torch.tanh(how.contrast * (scaled - 0.5)) / edge
    scaled = scaled.clamp(0.0, 1.0)
    return _burn_marker(scaled, protocol)


def _quantiles(values: Tensor, shares: tuple[float, float]) -> tuple[float, float]:
    some = values.reshape(-1)[:: max(1, values.numel() // 40000)]
    low, high = torch.quantile(some, torch.tensor(shares)).tolist()
    return low, high


def smooth(image: Tensor, sigma: float, px: float, py: float) -> Tensor:
    """Blur by a Gaussian of ``sigma`` mm; wide ones on a smaller image."""
    step = max(1, int(0.4 * sigma / max(px, py)))
    if step == 1:
        return gaussian_blur(image[..., None], [sigma / py, sigma / px, 0])[..., 0]
    small = torch.nn.functional.interpolate(
        image[None, None], scale_factor=1 / step, mode="area", recompute_scale_factor=True
    )
    blurred = gaussian_blur(small[0, 0][..., None], [sigma / (step * py), sigma / (step * px), 0])[..., 0]
    return torch.nn.functional.interpolate(blurred[None, None], image.shape, mode="bilinear")[0, 0]


_LETTERS = {
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
}


def _burn_marker(picture: Tensor, protocol: RadiographProtocol) -> Tensor:
    if not protocol.marker:
        return picture
    letter = np.array([[int(c) for c in line] for line in _LETTERS[protocol.marker]], np.float32)
    ny, nx = picture.shape
    times = max(1, round(ny / 200))
    letter = np.kron(letter, np.ones((times, times), np.float32))
    top = int((protocol.borders[2] + 0.03) * ny)
    at_left = protocol.marker == "R"
    left = (
        int((protocol.borders[0] + 0.03) * nx) if at_left else int((0.97 - protocol.borders[1]) * nx) - letter.shape[1]
    )
    part = picture[top : top + letter.shape[0], left : left + letter.shape[1]]
    part.copy_(torch.maximum(part, torch.from_numpy(letter[: part.shape[0], : part.shape[1]])))
    return picture
