"""Reports written from results: screening, evaluation, evidence and cohorts."""

from osteo_monai.reporting.html import write_report
from osteo_monai.reporting.radiograph import write_heat_map

__all__ = ["write_heat_map", "write_report"]
