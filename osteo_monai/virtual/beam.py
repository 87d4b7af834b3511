"""The X-ray beam of a radiograph: what is left of it behind so much water and so much bone mineral.

Attenuation by two materials, water and dissolved K2HPO4, describes everything in the body but metal; the mineral's
coefficient is less the water that it displaces, so that a path of mineral is simply added to a path of water.
Spectra come from spekpy and coefficients from xraydb; ``beam_table.json`` beside this file holds both, and
``python -m osteo_monai.virtual.beam`` makes it again.
"""

import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osteo_monai.imaging.attenuation import K2HPO4_DISPLACEMENT_CM3_PER_G, mass_attenuation

KVP_STEP, LEAST_KVP, MOST_KVP = 5, 55, 150
ANODE_ANGLE_DEGREES = 12.0
"""Usual in radiography."""
FILTRATIONS: dict[str, dict[str, float]] = {"light": {"Al": 3.0}, "copper": {"Al": 3.0, "Cu": 0.1}}
"""Filters in mm: inherent alone, and with the 0.1 mm of copper that is common for chests above 110 kVp."""
SCINTILLATOR_G_CM2 = 0.17
"""Caesium iodide of a flat panel: about 0.5 mm at three quarters of its density."""
_BIN_KEV = 3.0
_TABLE = "beam_table.json"
_WATER_CM = 60.0
_MINERAL_G_CM2 = 12.0


def write_table(path: Path) -> None:
    """Derive spectra and coefficients (spekpy, xraydb; about a minute) and write them as JSON."""
    import spekpy
    import xraydb

    edges = np.arange(15.0, MOST_KVP + _BIN_KEV, _BIN_KEV)
    middle = 0.5 * (edges[1:] + edges[:-1])
    ev = 1e3 * middle
    water = mass_attenuation("water", middle)
    mineral = xraydb.material_mu("K2HPO4", ev, density=1.0) - K2HPO4_DISPLACEMENT_CM3_PER_G * water
    titanium = xraydb.material_mu("Ti", ev, density=1.0) - water / 4.54
    absorbed = middle * (1.0 - np.exp(-SCINTILLATOR_G_CM2 * xraydb.material_mu("CsI", ev, density=1.0)))

    def rounded(values: NDArray[np.float64]) -> list[float]:
        return [float(f"{v:.6g}") for v in values]

    spectra: dict[str, dict[str, list[float]]] = {}
    for name, filters in FILTRATIONS.items():
        for kvp in range(LEAST_KVP, MOST_KVP + 1, KVP_STEP):
            beam = spekpy.Spek(kvp=float(kvp), th=ANODE_ANGLE_DEGREES, dk=0.5)
            for element, thickness in filters.items():
                beam.filter(element, thickness)
            kev, fluence = beam.get_spectrum()
            binned, _ = np.histogram(kev, edges, weights=fluence)
            weights = binned * absorbed
            spectra.setdefault(name, {})[str(kvp)] = rounded(weights / weights.sum())
    table = {
        "kev": rounded(middle),
        "water_cm2_g": rounded(water),
        "mineral_cm2_g": rounded(mineral),
        "titanium_cm2_g": rounded(titanium),
        "spectra": spectra,
    }
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files("osteo_monai.virtual").joinpath(_TABLE).read_text(encoding="utf-8"))
    return table


def spectrum(kvp: float, filtration: str = "light") -> NDArray[np.float64]:
    """Share of the detector's signal from each energy of the table, nothing in the beam; between tabulated voltages
    linear.

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
    """Minus the logarithm of the transmission on a grid of water (columns) and mineral (rows), both squared."""
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
    """Minus the natural logarithm of the transmitted signal behind paths of water and of mineral.

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
    """Grams of mineral that attenuate as one gram of titanium does, behind 20 cm of water."""
    table = _table()
    weights = spectrum(kvp, filtration) * np.exp(-20.0 * np.array(table["water_cm2_g"]))
    return float(
        (weights * np.array(table["titanium_cm2_g"])).sum() / (weights * np.array(table["mineral_cm2_g"])).sum()
    )


if __name__ == "__main__":
    write_table(Path(__file__).with_name(_TABLE))
