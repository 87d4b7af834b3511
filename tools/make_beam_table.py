"""Write ``osteo_monai/virtual/radiograph/beam_table.json`` from tube spectra (spekpy) and coefficients (xraydb).

    python tools/make_beam_table.py

Needs spekpy, which is a development dependency: the package itself reads the table only. Takes about a minute.
"""

from pathlib import Path

import numpy as np
import spekpy
import xraydb
from numpy.typing import NDArray

from osteo_monai.imaging.attenuation import K2HPO4_DISPLACEMENT_CM3_PER_G, mass_attenuation
from osteo_monai.utils.files import write_json
from osteo_monai.virtual.radiograph.beam import FILTRATIONS, KVP_STEP, LEAST_KVP, MOST_KVP

ANODE_ANGLE_DEGREES = 12.0
"""Usual in radiography."""
SCINTILLATOR_G_CM2 = 0.17
"""Caesium iodide of a flat panel: about 0.5 mm at three quarters of its density."""
BIN_KEV = 3.0


def write_table(path: Path) -> None:
    """Write spectra and coefficients as JSON."""
    edges = np.arange(15.0, MOST_KVP + BIN_KEV, BIN_KEV)
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
    write_json(path, table, indent=1)


if __name__ == "__main__":
    write_table(Path(__file__).parents[1] / "osteo_monai" / "virtual" / "radiograph" / "beam_table.json")
