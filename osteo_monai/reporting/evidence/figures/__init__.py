"""Figures of a meta-analysis of diagnostic accuracy; each function returns a matplotlib figure."""

from osteo_monai.reporting.evidence.figures.forest import forest_figure
from osteo_monai.reporting.evidence.figures.quality import prisma_figure, quadas_figure
from osteo_monai.reporting.evidence.figures.ratios import fagan_figure, likelihood_figure
from osteo_monai.reporting.evidence.figures.sensitivity import deeks_figure, leave_one_out_figure
from osteo_monai.reporting.evidence.figures.shared import OwnPoint
from osteo_monai.reporting.evidence.figures.sroc import sroc_figure

__all__ = [
    "OwnPoint",
    "deeks_figure",
    "fagan_figure",
    "forest_figure",
    "leave_one_out_figure",
    "likelihood_figure",
    "prisma_figure",
    "quadas_figure",
    "sroc_figure",
]
