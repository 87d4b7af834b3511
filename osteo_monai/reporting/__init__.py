"""Reports written from results: screening, evaluation, evidence and cohorts."""

from osteo_monai.reporting.figures import write_heat_map
from osteo_monai.reporting.report import write_report

__all__ = ["write_heat_map", "write_report"]
