"""Summary page and table of a folder of many screened studies."""

from osteo_monai.reporting.batch.page import write_batch_page

__all__ = ["write_batch_page"]
