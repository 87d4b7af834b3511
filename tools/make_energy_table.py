"""Write ``osteo_monai/imaging/energy_table.json``: HU at single photon energies, from coefficients of xraydb.

python tools/make_energy_table.py
"""

from pathlib import Path

import numpy as np
import xraydb
from numpy.typing import NDArray

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging.attenuation import (
    HYDROXYAPATITE_DENSITY,
    IODINE_DISPLACEMENT_CM3_PER_G,
    K2HPO4_DISPLACEMENT_CM3_PER_G,
    MATERIALS,
    mass_attenuation,
)
from osteo_monai.imaging.effective_energy import ENERGIES_KEV
from osteo_monai.utils.files import write_text

DIGITS = 10
"""Significant digits: the fits that read the table are the same as with unrounded values."""


def derive() -> dict[str, NDArray[np.float64]]:
    """Return the HU of each material, and the HU per mg/cm3 of each mineral and of iodine, at ``ENERGIES_KEV``."""
    water = mass_attenuation("water", ENERGIES_KEV)

    def over_water(formula: str) -> NDArray[np.float64]:
        return np.asarray(xraydb.material_mu(formula, 1e3 * ENERGIES_KEV, density=1.0)) / water

    tables = {
        name: 1000.0 * (material.density * mass_attenuation(name, ENERGIES_KEV) / water - 1.0)
        for name, material in MATERIALS.items()
    }
    potassium, apatite = (f"mineral {s.value}" for s in (MineralStandard.K2HPO4, MineralStandard.HYDROXYAPATITE))
    tables[potassium] = over_water("K2HPO4") - K2HPO4_DISPLACEMENT_CM3_PER_G
    tables[apatite] = over_water("Ca10P6O26H2") - 1.0 / HYDROXYAPATITE_DENSITY
    tables["iodine"] = over_water("I") - IODINE_DISPLACEMENT_CM3_PER_G
    return tables


def write_table(path: Path) -> None:
    """Write the tables as JSON, one line each."""
    lines = [f'"{n}": [{", ".join(f"{v:.{DIGITS}g}" for v in values)}]' for n, values in derive().items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write_table(Path(__file__).parents[1] / "osteo_monai" / "imaging" / "energy_table.json")
