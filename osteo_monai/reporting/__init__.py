"""Reports written from a result: the HTML picture report, and the heat map of a radiograph."""

from osteo_monai.reporting.html import write_report
from osteo_monai.reporting.images import RadiographImage, RadiographImages, ReportImages
from osteo_monai.reporting.radiograph import write_heat_map

__all__ = ["RadiographImage", "RadiographImages", "ReportImages", "write_heat_map", "write_report"]
