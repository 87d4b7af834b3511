"""Radiographs: a validating reader for DICOM, PNG and JPEG that returns them upright with bone bright."""

from osteo_monai.domain import View
from osteo_monai.imaging.radiograph.image import (
    VIRTUAL_MANUFACTURER,
    VIRTUAL_SOURCE,
    Layout,
    Radiograph,
    RadiographFacts,
    StoredRadiograph,
)
from osteo_monai.imaging.radiograph.pictures import is_picture, read_mask
from osteo_monai.imaging.radiograph.reading import check_radiograph, find_radiographs, read_radiograph

__all__ = [
    "VIRTUAL_MANUFACTURER",
    "VIRTUAL_SOURCE",
    "Layout",
    "Radiograph",
    "RadiographFacts",
    "StoredRadiograph",
    "View",
    "check_radiograph",
    "find_radiographs",
    "is_picture",
    "read_mask",
    "read_radiograph",
]
