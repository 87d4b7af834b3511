"""X-ray beam of a radiograph: its attenuation by paths of water and of bone mineral.

Two materials, water and dissolved K2HPO4, describe everything in the body but metal; the coefficient of the mineral is
less that of the displaced water, so that a path of mineral is added to a path of water. ``beam_table.json`` beside this
file holds spectra and coefficients; ``tools/make_beam_table.py`` writes it from spekpy and xraydb.
"""

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KVP_STEP, LEAST_KVP, MOST_KVP = 5, 55, 150
FILTRATIONS: dict[str, dict[str, float]] = {"light": {"Al": 3.0}, "copper": {"Al": 3.0, "Cu": 0.1}}
"""Filters in mm: the inherent one, and the same with 0.1 mm of copper, as is common for chests above 110 kVp."""
_TABLE = "beam_table.json"
_WATER_CM = 60.0
_MINERAL_G_CM2 = 12.0


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        files("osteo_monai.virtual.radiograph").joinpath(_TABLE).read_text(encoding="utf-8")
    )
    return table


def spectrum(kvp: float, filtration: str = "light") -> NDArray[np.float64]:
    """Return the share of the detector's signal (energies,) of an open beam, linear between tabulated voltages.

    Raises:
        ValueError: the voltage is not between 55 and 150 kVp, or the filtration is unknown.
    """
    if not LEAST_KVP <= kvp <= MOST_KVP:
        raise ValueError(f"kvp must be between {LEAST_KVP} and {MOST_KVP}, got {kvp}")
    if filtration not in FILTRATIONS:
        raise ValueError(f"filtration must be one of {', '.join(FILTRATIONS)}, got {filtration!r}")
    tables = _table()["spectra"][filtration]
    below = min(int(kvp // KVP_STEP) * KVP_STEP, MOST_KVP - KVP_STEP)
    share = (kvp - below) / KVP_STEP
    low, high = (np.array(tables[str(k)]) for k in (below, below + KVP_STEP))
    mixed: NDArray[np.float64] = (1 - share) * low + share * high
    return mixed


@lru_cache(maxsize=64)
def _absorbance(kvp: float, filtration: str) -> Tensor:
    """Return minus the logarithm of the transmission on a grid (mineral, water) with quadratic steps."""
    weights = spectrum(kvp, filtration)
    table = _table()
    mu_water, mu_mineral = (np.array(table[name]) for name in ("water_cm2_g", "mineral_cm2_g"))
    water = _WATER_CM * np.linspace(0, 1, 128) ** 2
    mineral = _MINERAL_G_CM2 * np.linspace(0, 1, 64) ** 2
    exponent = mineral[:, None, None] * mu_mineral + water[None, :, None] * mu_water
    least = exponent.min(-1, keepdims=True)
    total = least[..., 0] - np.log((np.exp(least - exponent) * weights).sum(-1))
    return torch.as_tensor(total, dtype=torch.float32)[None, None]


def absorbance(water_cm: Tensor, mineral_g_cm2: Tensor, kvp: float, filtration: str = "light") -> Tensor:
    """Return minus the natural logarithm of the transmitted signal behind paths of water and of mineral.

    Args:
        water_cm: water-equivalent path in cm (g/cm2), any shape.
        mineral_g_cm2: mineral path in g/cm2 K2HPO4 of the same shape.

    Polychromatic: the sum of the Beer-Lambert law over the spectrum, from a table, correct to 0.002.
    """
    grid = _absorbance(float(kvp), filtration).to(water_cm.device)
    x = (water_cm.clamp(0.0, _WATER_CM) / _WATER_CM).sqrt()
    y = (mineral_g_cm2.clamp(0.0, _MINERAL_G_CM2) / _MINERAL_G_CM2).sqrt()
    where = torch.stack([2 * x - 1, 2 * y - 1], -1).reshape(1, 1, -1, 2)
    return torch.nn.functional.grid_sample(grid, where, align_corners=True).reshape(water_cm.shape)


@lru_cache(maxsize=64)
def titanium_as_mineral(kvp: float, filtration: str = "light") -> float:
    """Return the mass of mineral in g that attenuates as one g of titanium does, behind 20 cm of water."""
    table = _table()
    weights = spectrum(kvp, filtration) * np.exp(-20.0 * np.array(table["water_cm2_g"]))
    return float(
        (weights * np.array(table["titanium_cm2_g"])).sum() / (weights * np.array(table["mineral_cm2_g"])).sum()
    )
