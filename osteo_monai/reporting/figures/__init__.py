"""Figures of the screening reports as SVG: grey-scale planes as embedded PNG, everything else as vectors."""

from osteo_monai.reporting.figures.activation import activation_picture
from osteo_monai.reporting.figures.axial import axial_picture, axial_slice
from osteo_monai.reporting.figures.column import column_picture
from osteo_monai.reporting.figures.density import DensityPoint, densities_picture, density_picture
from osteo_monai.reporting.figures.radiograph import heat_map, radiograph_picture, write_heat_map
from osteo_monai.reporting.figures.risk import risk_picture

__all__ = [
    "DensityPoint",
    "activation_picture",
    "axial_picture",
    "axial_slice",
    "column_picture",
    "densities_picture",
    "density_picture",
    "heat_map",
    "radiograph_picture",
    "risk_picture",
    "write_heat_map",
]
