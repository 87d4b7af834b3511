"""Write ``osteo_monai/imaging/attenuation_table.json`` from tube spectra (spekpy) and coefficients (xraydb).

    python tools/make_attenuation_table.py

Needs spekpy, which is a development dependency: the package itself reads the table only. Takes about 20 s.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import spekpy
import xraydb
from numpy.typing import NDArray

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging.attenuation import (
    HYDROXYAPATITE_DENSITY,
    IODINE_DISPLACEMENT_CM3_PER_G,
    K2HPO4_DISPLACEMENT_CM3_PER_G,
    MATERIALS,
    TABULATED_KVP,
    mass_attenuation,
)
from osteo_monai.utils.files import write_json

ANODE_ANGLE_DEGREES = 8.0
"""Anode angle of the modelled tube; 12 degrees would raise HU per mg/cm3 at 120 kVp by 0.010."""
FILTRATION_MM: Mapping[str, float] = {"Al": 2.5, "Cu": 0.2}
"""Inherent and added filtration. The largest uncertainty of the model: 5 Al + 0.5 Cu gives -0.116, no Cu +0.107."""
WATER_PATH_MM = 200.0
"""Water before the detector, in place of the body around the spine (10 cm: +0.14, 30 cm: -0.10 HU per mg/cm3)."""
SPECTRUM_STEP_KEV = 0.5


def detected_spectrum(kvp: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return energies in keV and normalised weights of the detected spectrum (energy times fluence)."""
    beam = spekpy.Spek(kvp=float(kvp), th=ANODE_ANGLE_DEGREES, dk=SPECTRUM_STEP_KEV)
    for element, thickness in FILTRATION_MM.items():
        beam.filter(element, thickness)
    kev, fluence = beam.filter("Water, Liquid", WATER_PATH_MM).get_spectrum()
    weights = np.asarray(kev, dtype=np.float64) * np.asarray(fluence, dtype=np.float64)
    return np.asarray(kev, dtype=np.float64), weights / weights.sum()


def derive(kvp: float) -> dict[str, Any]:
    """Return the entries of the table for one tube voltage.

    Returns:
        ``water_per_cm``: attenuation of water, 1/cm. ``hu_per_mg_cm3``: HU per mg/cm3 of each mineral standard.
        ``hu_per_mg_iodine``: HU per mg of iodine per ml. ``tissue_hu``: HU of each material.
    """
    kev, weights = detected_spectrum(kvp)

    def effective(coefficient: NDArray[np.float64]) -> float:
        return float(np.sum(weights * coefficient))

    def compound(formula: str) -> float:  # density 1: the linear is the mass coefficient
        return effective(xraydb.material_mu(formula, 1e3 * kev, density=1.0))

    water = effective(mass_attenuation("water", kev))
    # one mg/cm3 adds mu/rho of the mineral and removes the displaced water; HU are thousandths of water
    return {
        "water_per_cm": water,
        "hu_per_mg_cm3": {
            MineralStandard.K2HPO4.value: compound("K2HPO4") / water - K2HPO4_DISPLACEMENT_CM3_PER_G,
            MineralStandard.HYDROXYAPATITE.value: compound("Ca10P6O26H2") / water - 1.0 / HYDROXYAPATITE_DENSITY,
        },
        "hu_per_mg_iodine": compound("I") / water - IODINE_DISPLACEMENT_CM3_PER_G,
        "tissue_hu": {
            name: 1000.0 * (material.density * effective(mass_attenuation(name, kev)) / water - 1.0)
            for name, material in MATERIALS.items()
        },
    }


def write_table(path: Path) -> None:
    """Write the table of all tube voltages as JSON."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(inner) for key, inner in value.items()}
        return float(f"{value:.7g}")

    table = {str(kvp): rounded(derive(kvp)) for kvp in TABULATED_KVP}
    write_json(path, table, indent=1)


if __name__ == "__main__":
    write_table(Path(__file__).parents[1] / "osteo_monai" / "imaging" / "attenuation_table.json")
