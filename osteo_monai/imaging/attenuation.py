"""X-ray attenuation at a tube voltage: HU of a tissue, a mineral or iodine in a CT.

The model is one spectrum per tube voltage (tungsten anode at 8 degrees, 2.5 mm Al and 0.2 mm Cu, hardened by 20 cm
of water) and an energy-integrating detector. The attenuation of a material is the mean of mu(E) weighted by E times the
fluence, and its HU is 1000 (mu / mu_water - 1). ``attenuation_table.json`` beside this file holds the results for every
5 kVp; ``tools/make_attenuation_table.py`` writes it from spekpy and xraydb.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import MineralStandard

K2HPO4_DISPLACEMENT_CM3_PER_G = 0.2174
"""Water displaced by one gram of dissolved K2HPO4: the constant of the Mindways calibration (sigma_ct = sigma_ref -
0.2174 in its published phantom equations)."""
HYDROXYAPATITE_DENSITY = 3.16
"""g/cm3 of solid hydroxyapatite, whose volume displaces water or marrow."""
IODINE_DISPLACEMENT_CM3_PER_G = 1.0 / 4.93
"""Volume of iodine as the element (4.93 g/cm3). Under 1 % of the result, so the carrier molecule is left out."""

TABULATED_KVP: tuple[int, ...] = tuple(range(70, 151, 5))
_TABLE_NAME = "attenuation_table.json"


@dataclass(frozen=True)
class Material:
    """A material as mass fractions of the elements and a density in g/cm3."""

    fractions: Mapping[str, float]
    density: float
    source: str
    synonyms: tuple[str, ...] = field(default=())


_ICRU44 = "ICRU Report 44 (1989), as tabulated by NIST (Hubbell and Seltzer, table 2)"
_ICRU46 = "ICRU Report 46 (1992), adult"

MATERIALS: Mapping[str, Material] = {
    "water": Material({"H": 0.111898, "O": 0.888102}, 1.0, "H2O"),
    "air": Material({"C": 0.000124, "N": 0.755268, "O": 0.231781, "Ar": 0.012827}, 0.001205, "NIST, dry, sea level"),
    "adipose": Material(
        {"H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001},
        0.95,
        _ICRU44,
        ("fat",),
    ),
    "muscle": Material(
        {
            "H": 0.102,
            "C": 0.143,
            "N": 0.034,
            "O": 0.710,
            "Na": 0.001,
            "P": 0.002,
            "S": 0.003,
            "Cl": 0.001,
            "K": 0.004,
        },
        1.05,
        _ICRU44,
    ),
    "soft_tissue": Material(
        {
            "H": 0.102,
            "C": 0.143,
            "N": 0.034,
            "O": 0.708,
            "Na": 0.002,
            "P": 0.003,
            "S": 0.003,
            "Cl": 0.002,
            "K": 0.003,
        },
        1.06,
        _ICRU44,
    ),
    "blood": Material(
        {
            "H": 0.102,
            "C": 0.110,
            "N": 0.033,
            "O": 0.745,
            "Na": 0.001,
            "P": 0.001,
            "S": 0.002,
            "Cl": 0.003,
            "K": 0.002,
            "Fe": 0.001,
        },
        1.06,
        _ICRU44,
    ),
    "brain": Material(
        {
            "H": 0.107,
            "C": 0.145,
            "N": 0.022,
            "O": 0.712,
            "Na": 0.002,
            "P": 0.004,
            "S": 0.002,
            "Cl": 0.003,
            "K": 0.003,
        },
        1.04,
        _ICRU44,
    ),
    "lung": Material(
        {
            "H": 0.103,
            "C": 0.105,
            "N": 0.031,
            "O": 0.749,
            "Na": 0.002,
            "P": 0.002,
            "S": 0.003,
            "Cl": 0.003,
            "K": 0.002,
        },
        0.26,
        _ICRU44 + "; density of inflated lung, ICRU Report 46",
    ),
    "cortical_bone": Material(
        {
            "H": 0.034,
            "C": 0.155,
            "N": 0.042,
            "O": 0.435,
            "Na": 0.001,
            "Mg": 0.002,
            "P": 0.103,
            "S": 0.003,
            "Ca": 0.225,
        },
        1.92,
        _ICRU44,
    ),
    "red_marrow": Material(
        {
            "H": 0.105,
            "C": 0.414,
            "N": 0.034,
            "O": 0.439,
            "P": 0.001,
            "S": 0.002,
            "Cl": 0.002,
            "K": 0.002,
            "Fe": 0.001,
        },
        1.03,
        _ICRU46,
    ),
    "yellow_marrow": Material(
        {"H": 0.115, "C": 0.644, "N": 0.007, "O": 0.231, "Na": 0.001, "S": 0.001, "Cl": 0.001}, 0.98, _ICRU46
    ),
    "liver": Material(
        {
            "H": 0.102,
            "C": 0.139,
            "N": 0.030,
            "O": 0.716,
            "Na": 0.002,
            "P": 0.003,
            "S": 0.003,
            "Cl": 0.002,
            "K": 0.003,
        },
        1.06,
        _ICRU46,
    ),
    "kidney": Material(
        {
            "H": 0.103,
            "C": 0.132,
            "N": 0.030,
            "O": 0.724,
            "Na": 0.002,
            "P": 0.002,
            "S": 0.002,
            "Cl": 0.002,
            "K": 0.002,
            "Ca": 0.001,
        },
        1.05,
        _ICRU46,
    ),
    "spleen": Material(
        {
            "H": 0.103,
            "C": 0.113,
            "N": 0.032,
            "O": 0.741,
            "Na": 0.001,
            "P": 0.003,
            "S": 0.002,
            "Cl": 0.002,
            "K": 0.003,
        },
        1.06,
        _ICRU46,
    ),
    "bowel": Material(
        {
            "H": 0.106,
            "C": 0.115,
            "N": 0.022,
            "O": 0.751,
            "Na": 0.001,
            "P": 0.001,
            "S": 0.001,
            "Cl": 0.002,
            "K": 0.001,
        },
        1.03,
        _ICRU46 + ", gastro-intestinal tract",
        ("intestine", "stomach"),
    ),
    "skin": Material(
        {
            "H": 0.100,
            "C": 0.204,
            "N": 0.042,
            "O": 0.645,
            "Na": 0.002,
            "P": 0.001,
            "S": 0.002,
            "Cl": 0.003,
            "K": 0.001,
        },
        1.09,
        _ICRU46,
    ),
    "cartilage": Material(
        {"H": 0.096, "C": 0.099, "N": 0.022, "O": 0.744, "Na": 0.005, "P": 0.022, "S": 0.009, "Cl": 0.003},
        1.10,
        _ICRU46,
    ),
    # ICRU has no intervertebral disc: half cartilage, half water by volume (fractions by mass 1.10 : 1.00).
    "disc": Material(
        {
            "H": (1.10 * 0.096 + 0.111898) / 2.10,
            "C": 1.10 * 0.099 / 2.10,
            "N": 1.10 * 0.022 / 2.10,
            "O": (1.10 * 0.744 + 0.888102) / 2.10,
            "Na": 1.10 * 0.005 / 2.10,
            "P": 1.10 * 0.022 / 2.10,
            "S": 1.10 * 0.009 / 2.10,
            "Cl": 1.10 * 0.003 / 2.10,
        },
        1.05,
        "assumption: equal volumes of ICRU-46 cartilage and water",
    ),
    "pmma": Material({"H": 0.080538, "C": 0.599848, "O": 0.319614}, 1.19, "NIST, polymethyl methacrylate"),
    "titanium": Material({"Ti": 1.0}, 4.54, "NIST, element"),
}
"""Elemental compositions by mass and densities; keys are the names of :func:`tissue_hu` (with their synonyms)."""

_NAMES: Mapping[str, str] = {word: name for name, material in MATERIALS.items() for word in (name, *material.synonyms)}


def mass_attenuation(material: str, kev: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the total mass attenuation coefficient in cm2/g of a material of :data:`MATERIALS` at energies in keV.

    Raises ``ValueError`` for an unknown name.
    """
    import xraydb

    energies = 1e3 * np.asarray(kev, dtype=np.float64)  # unit of xraydb
    total = np.zeros_like(energies)
    for element, fraction in MATERIALS[_canonical(material)].fractions.items():
        total = total + fraction * xraydb.mu_elam(element, energies)
    return total


def hu_per_mg_cm3(standard: MineralStandard, kvp: float) -> float:
    """Return the HU that one mg/cm3 of mineral adds to water at ``kvp`` (70 to 150); ``ValueError`` outside."""
    wanted = MineralStandard(standard).value
    return _interpolated(("hu_per_mg_cm3", wanted), float(kvp))


def hu_per_mg_iodine(kvp: float) -> float:
    """Return the HU that one mg of iodine per ml adds at ``kvp`` (70 to 150); ``ValueError`` outside."""
    return _interpolated(("hu_per_mg_iodine",), float(kvp))


def tissue_hu(name: str, kvp: float) -> float:
    """Return the HU of a material of :data:`MATERIALS` at ``kvp`` (70 to 150); ``ValueError`` outside or if unknown."""
    return _interpolated(("tissue_hu", _canonical(name)), float(kvp))


def water_attenuation(kvp: float) -> float:
    """Return the effective linear attenuation of water in 1/cm at ``kvp`` (70 to 150); ``ValueError`` outside."""
    return _interpolated(("water_per_cm",), float(kvp))


def _canonical(name: str) -> str:
    if name not in _NAMES:
        raise ValueError(f"name must be one of {', '.join(sorted(_NAMES))}, got {name!r}")
    return _NAMES[name]


def _check_kvp(kvp: float) -> None:
    low, high = TABULATED_KVP[0], TABULATED_KVP[-1]
    if not low <= kvp <= high:  # also catches NaN
        raise ValueError(f"kvp must be between {low} and {high}, got {kvp}")


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    text = files("osteo_monai.imaging").joinpath(_TABLE_NAME).read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


@lru_cache(maxsize=1024)
def _interpolated(keys: tuple[str, ...], kvp: float) -> float:
    """Interpolate linearly between tabulated voltages (error at most 0.3 %, half-way)."""
    _check_kvp(kvp)
    values = []
    for voltage in TABULATED_KVP:
        node: Any = _table()[str(voltage)]
        for key in keys:
            node = node[key]
        values.append(float(node))
    return float(np.interp(kvp, TABULATED_KVP, values))
