"""The table of HU at single energies."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from osteo_monai.domain import MineralStandard
from osteo_monai.imaging import attenuation
from osteo_monai.imaging import effective_energy as energy


def test_the_tool_computes_the_shipped_table() -> None:
    path = Path(__file__).parents[2] / "tools" / "make_energy_table.py"
    spec = importlib.util.spec_from_file_location("make_energy_table", path)
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    computed = maker.derive()
    assert set(attenuation.MATERIALS) < set(computed)
    for name in attenuation.MATERIALS:
        np.testing.assert_allclose(energy.tissue_hu_by_energy(name), computed[name], rtol=1e-8, atol=1e-5)
    for standard in MineralStandard:
        np.testing.assert_allclose(energy.hu_per_mg_by_energy(standard), computed[f"mineral {standard}"], rtol=1e-8)
    np.testing.assert_allclose(energy.hu_per_mg_iodine_by_energy(), computed["iodine"], rtol=1e-8)


def test_tables_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        energy.tissue_hu_by_energy("muscle")[0] = 0.0


def test_the_library_of_coefficients_is_not_loaded() -> None:
    """It took 0.4 s of the first check of values in a process."""
    code = (
        "import sys; from osteo_monai.measurement.calibration import TissueSample, fit_scale; "
        "s = {n: TissueSample(h, 1.0, 1.0) for n, h in (('air', -1000.0), ('adipose', -100.0), ('muscle', 50.0))}; "
        "assert fit_scale(s, 120.0) is not None; print('xraydb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
