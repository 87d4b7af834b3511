"""Attenuation at one effective energy: what a CT spectrum does to HU, in a single number.

The HU of tissues at a tube voltage equal those at one photon energy. For 23 spectra of 80 to 140 kVp (0 to 0.6 mm Cu,
0 to 40 cm of water) the energy that has the same HU per mg/cm3 of K2HPO4 gives the HU of fat, muscle, blood and marrow
within 0.3 HU and of cortical bone within 1.2 HU (docs/calibration.md). Scanners of one tube voltage differ in
filtration and detector, which is a difference of effective energy. ``tools/make_energy_table.py`` writes the tables
from xraydb, which takes 0.4 s to load.
"""

import json
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import attenuation

ENERGIES_KEV: NDArray[np.float64] = np.arange(36.0, 140.25, 0.5)
"""Energies of all tables here; the effective energies of CT are 50 to 85 keV."""
_TABLE_NAME = "energy_table.json"


def tissue_hu_by_energy(name: str) -> NDArray[np.float64]:
    """Return the HU of a material of ``attenuation.MATERIALS`` at :data:`ENERGIES_KEV`."""
    return _tables()[name]


def hu_per_mg_by_energy(standard: MineralStandard) -> NDArray[np.float64]:
    """Return the HU that one mg/cm3 of mineral adds to water at :data:`ENERGIES_KEV`."""
    return _tables()[f"mineral {MineralStandard(standard).value}"]


def hu_per_mg_iodine_by_energy() -> NDArray[np.float64]:
    """Return the HU that one mg of iodine per ml adds at :data:`ENERGIES_KEV`."""
    return _tables()["iodine"]


def effective_energy(kvp: float, contrast: float = 1.0) -> float:
    """Return the energy in keV with the HU per mg/cm3 of K2HPO4 of ``kvp`` (70 to 150), times ``contrast``.

    Args:
        contrast: HU per mg/cm3 of a scanner relative to the model of :mod:`osteo_monai.imaging.attenuation`.

    Raises:
        ValueError: ``kvp`` is out of range, or no energy of :data:`ENERGIES_KEV` has this contrast.
    """
    per_mg = hu_per_mg_by_energy(MineralStandard.K2HPO4)  # falls with energy
    wanted = contrast * attenuation.hu_per_mg_cm3(MineralStandard.K2HPO4, kvp)
    if not per_mg[-1] <= wanted <= per_mg[0]:
        raise ValueError(f"contrast must be that of an energy from 36 to 140 keV, got {contrast:g} at {kvp:g} kVp")
    return float(np.interp(-wanted, -per_mg, ENERGIES_KEV))


@lru_cache(maxsize=1)
def _tables() -> dict[str, NDArray[np.float64]]:
    text = files("osteo_monai.imaging").joinpath(_TABLE_NAME).read_text(encoding="utf-8")
    tables = {name: np.array(values) for name, values in json.loads(text).items()}
    for table in tables.values():
        table.flags.writeable = False  # shared by all callers
    return tables
