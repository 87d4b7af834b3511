"""The European Spine Phantom's twin: what is put in comes out again, at every tube voltage and through any kernel."""

from typing import Literal

import pytest

from osteo_monai.domain import MineralStandard
from osteo_monai.measurement import hu_statistics, trabecular_region
from osteo_monai.measurement.calibration import calibrate, density
from osteo_monai.virtual.ct import CTPalette, CTProtocol, simulate
from osteo_monai.virtual.phantom import INSERTS, SpinePhantom


@pytest.mark.parametrize(
    ("kvp", "kernel", "noise", "pixel"),
    [(120.0, "soft", 10.0, 0.8), (80.0, "soft", 25.0, 0.9), (140.0, "sharp", 40.0, 0.6)],
)
def test_densities_within_three_percent(
    kvp: float, kernel: Literal["soft", "sharp"], noise: float, pixel: float
) -> None:
    phantom = SpinePhantom()
    protocol = CTProtocol(kvp=kvp, kernel=kernel, noise_hu=noise, pixel=pixel, matrix=(128, 128), table=False)
    hu, labels, affine = simulate(phantom, CTPalette(kvp), protocol, z_range=(-48, 48), centre_xy=(0, -25))
    line = calibrate("physics", kvp=kvp, standard=MineralStandard.HYDROXYAPATITE)
    for level, (true, _) in INSERTS.items():
        region = trabecular_region(labels == level.label, hu, affine)
        measured = density(hu_statistics(hu, region.mask).median, line)
        assert measured.standard is MineralStandard.HYDROXYAPATITE
        assert measured.mg_cm3 == pytest.approx(true, rel=0.03), f"{level} at {kvp} kVp"
