"""Reports written from a result: the HTML picture report."""

from osteo_monai.reporting.html import write_report
from osteo_monai.reporting.images import ReportImages

__all__ = ["ReportImages", "write_report"]
