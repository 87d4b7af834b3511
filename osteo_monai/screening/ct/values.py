"""The facts of a scan that its values are checked by."""

import numpy as np
from numpy.typing import NDArray

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import effective_energy as energy
from osteo_monai.measurement.calibration import fit_scale
from osteo_monai.measurement.calibration.accuracy import REFERENCE_KVP
from osteo_monai.measurement.scan_tissues import scan_tissues
from osteo_monai.measurement.value_pattern import value_pattern
from osteo_monai.screening.gates.values import ValueFacts


def value_facts(
    hu: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    valid: NDArray[np.bool_] | None = None,
    kvp: float | None = None,
) -> ValueFacts:
    """Measure the values of a scan (X, Y, Z) in HU, without any network.

    Args:
        hu: in RAS+.
        spacing_mm: of the voxels.
        valid: False where padded.
        kvp: tube voltage; 120 kVp if ``None``.
    """
    tissues = scan_tissues(hu, spacing_mm, valid)
    at = kvp if kvp is not None and 70.0 <= kvp <= 150.0 else REFERENCE_KVP
    per_mg = np.interp(
        energy.effective_energy(at), energy.ENERGIES_KEV, energy.hu_per_mg_by_energy(MineralStandard.K2HPO4)
    )
    try:
        pattern = value_pattern(hu, valid)
    except ValueError:  # too few voxels, which other gates refuse
        pattern = None
    return ValueFacts(pattern, tissues, fit_scale(tissues.samples(), at), float(per_mg))
